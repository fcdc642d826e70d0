"""Entries chosen by number and added to: what plain NumPy gives, and nothing outside of the arrays."""

import numpy as np
import pytest

from scalargrad import kernels

PLAIN = kernels.load("numpy")


def places(shape: tuple[int, ...], n: int, dtype: type = np.int64) -> np.ndarray:
    return np.random.default_rng(3).integers(0, max(n, 1), shape).astype(dtype)


@pytest.mark.parametrize("n_index", [0, 1, 2, 7, 40])
@pytest.mark.parametrize("shape", [(5,), (1,), (4, 3), (3, 1), (2, 5, 17), (2, 3, 4, 33)])
def test_along_every_axis_as_in_numpy(k, dtype, draw, shape, n_index):
    for dim in range(len(shape)):
        chosen = tuple(n_index if i == dim else n for i, n in enumerate(shape))
        x, src, index, one = draw(*shape), draw(*chosen), places(chosen, shape[dim]), places((n_index,), shape[dim])
        np.testing.assert_array_equal(k.gather(x, dim, index), PLAIN.gather(x, dim, index), strict=True)
        for name, by in (("scatter_add", index), ("index_add", one)):
            y, expected = x.copy(), x.copy()
            assert getattr(k, name)(y, dim, by, src) is y
            np.testing.assert_array_equal(y, getattr(PLAIN, name)(expected, dim, by, src), strict=True)


def test_a_place_that_is_named_twice_gets_both(k, dtype):
    y = np.zeros(3, dtype)
    assert k.scatter_add(y, 0, np.array([2, 0, 2]), np.array([1, 2, 4], dtype)).tolist() == [2, 0, 5]
    assert k.index_add(y, 0, np.array([1, 1, 0]), np.array([1, 2, 4], dtype)).tolist() == [6, 3, 5]


def test_an_index_that_stops_early_and_a_source_that_is_larger(k, dtype, draw):
    x, src, index = draw(4, 6), draw(5, 7), places((3, 2), 4)
    np.testing.assert_array_equal(k.gather(x, 0, index), PLAIN.gather(x, 0, index))
    expected = PLAIN.scatter_add(x.copy(), 0, index, src)
    np.testing.assert_array_equal(k.scatter_add(x.copy(), 0, index, src), expected)


def test_any_layout_of_operands_and_any_kind_of_integer(k, dtype, draw):
    x, src = draw(8, 9)[::2, ::3], draw(4, 3).T.copy().T
    for kind in (np.int64, np.int32, np.uint8):
        index = places((4, 3), 4, kind)
        np.testing.assert_array_equal(k.gather(x, 0, index), PLAIN.gather(x, 0, index))
        np.testing.assert_array_equal(k.gather(x, 0, index.T.copy().T), PLAIN.gather(x, 0, index))
        for name, by in (("scatter_add", index), ("index_add", index[:, 0])):
            y, expected = draw(8, 9)[::2, ::3], x.copy()
            y[...] = x
            getattr(k, name)(y, 0, by, src)
            np.testing.assert_array_equal(y, getattr(PLAIN, name)(expected, 0, by, src))
    read_only = x.copy()
    read_only.flags.writeable = False
    with pytest.raises(ValueError, match="read-only"):
        k.index_add(read_only, 0, np.array([0]), src[:1])


@pytest.mark.parametrize("wrong", [4, -5, 2**62])
def test_a_place_that_is_not_there_is_refused_and_nothing_written(k, dtype, draw, wrong):
    x, src = draw(4, 3), draw(2, 3)
    index, kept = np.array([[0, 1, 2], [3, wrong, 0]]), x.copy()
    for call in (
        lambda: k.gather(x, 0, index),
        lambda: k.scatter_add(x, 0, index, src),
        lambda: k.index_add(x, 0, index[1, :2], src),
    ):
        with pytest.raises(IndexError):
            call()
    if k is not PLAIN:
        np.testing.assert_array_equal(x, kept)


def test_what_is_added_may_be_what_is_added_to(k, dtype, draw):
    x, index = draw(5, 4), np.array([1, 1, 0, 3, 3])
    expected = PLAIN.index_add(x.copy(), 0, index, x.copy())
    np.testing.assert_array_equal(k.index_add(x, 0, index, x), expected)
