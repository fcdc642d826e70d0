"""Sums, means and extremes are NumPy's of wider numbers, over any axes; and the way back is their adjoint."""

import itertools

import numpy as np
import pytest

OVER = {"sum_over": np.sum, "mean_over": np.mean, "max_over": np.max, "min_over": np.min}
CASES = [
    ((), None), ((1,), (0,)), ((10,), None), ((3, 4, 5), ()), ((1, 5, 1), (1,)), ((37, 3), (0,)), ((3, 37), (1,)),
    ((4_097,), None), ((6_144,), None), ((14_337,), None), ((65_536,), None), ((200_003,), None), ((2, 70_001), (1,)),
    ((300, 7), (0,)), ((4_200, 19), (0,)), ((2, 70, 3, 33), (0, 2)), ((8, 6, 5, 7), (0, 2, 3)),
    ((2, 3, 4, 5, 6), (0, 2, 4)), ((2, 3, 4, 5, 6, 2), (0, 2, 4)), ((2, 130, 4), (1,)),
]  # fmt: skip


@pytest.mark.parametrize("name", OVER)
@pytest.mark.parametrize("keepdim", [False, True])
def test_a_reduction_is_that_of_wider_numbers(k, dtype, draw, name, keepdim):
    for shape, dims in CASES:
        x = draw(*shape)
        y = getattr(k, name)(x, dims, keepdim)
        expected = OVER[name](x.astype(np.longdouble), axis=dims, keepdims=keepdim)
        assert (type(y), y.dtype, y.shape) == (np.ndarray, dtype, np.shape(expected))
        assert y.flags.c_contiguous
        assert not np.shares_memory(x, y)
        scale = 0
        if name in ("sum_over", "mean_over"):  # a sum in pairs errs by the logarithm of its length
            scale = OVER[name](np.abs(x).astype(np.longdouble), axis=dims, keepdims=keepdim) * 12 * np.finfo(dtype).eps
        assert (np.abs(y - expected) <= scale).all(), (shape, dims)


@pytest.mark.parametrize(("shape", "dims"), [((1_000_003,), (0,)), ((60_000, 3), (0,)), ((2, 60_000, 2), (1,))])
def test_a_long_sum_of_float32_keeps_its_digits(k, shape, dims):
    x = np.full(shape, 0.1, np.float32)
    n = max(shape)
    np.testing.assert_allclose(k.sum_over(x, dims, False), n * float(np.float32(0.1)), rtol=1e-6)


@pytest.mark.parametrize("name", ["max_over", "min_over"])
@pytest.mark.parametrize("n", [1, 7, 16, 33, 70, 300])
def test_nan_is_the_extreme_wherever_it_stands(k, dtype, name, n):
    function = getattr(k, name)
    for place in {0, n // 2, n - 1}:
        x = np.arange(n, dtype=dtype)
        x[place] = np.nan
        assert np.isnan(function(x, None, False))
        assert np.isnan(function(np.stack([x, x], 1), (0,), False)).all()
        rows = np.zeros((3, n), dtype)
        rows[1] = x
        np.testing.assert_array_equal(np.isnan(function(rows, (1,), False)), [False, True, False])
        np.testing.assert_array_equal(np.isnan(function(rows, (0,), False)), np.isnan(x))


@pytest.mark.parametrize("n", [1, 2, 5, 16, 17, 64, 100])
def test_infinities_are_no_nan_and_lanes_beyond_the_end_count_for_nothing(k, dtype, n):
    x = np.full(n, -np.inf, dtype)
    assert k.max_over(x, None, False) == -np.inf
    assert k.min_over(-x, None, False) == np.inf
    x[n // 2] = np.inf
    assert k.max_over(x, None, False) == np.inf
    assert k.min_over(-x, None, False) == -np.inf
    assert k.max_over(np.full((n, 3), -2, dtype), (0,), False).tolist() == [-2, -2, -2]
    assert k.min_over(np.full((3, n), 2, dtype), (1,), False).tolist() == [2, 2, 2]


@pytest.mark.filterwarnings("error")
def test_nothing_sums_to_zero_and_has_no_mean_and_no_extreme(k, dtype):
    for shape, dims in (((0,), None), ((0, 3), (0,)), ((3, 0), (1,))):
        x = np.zeros(shape, dtype)
        assert not k.sum_over(x, dims, False).any()
        assert np.isnan(k.mean_over(x, dims, False)).all()
        with pytest.raises(ValueError, match="no identity"):
            k.max_over(x, dims, False)
    assert k.sum_over(np.zeros((0, 3), dtype), (1,), False).shape == (0,)


def test_integers_are_summed_in_int64_and_other_layouts_by_numpy(k, draw):
    counts = np.full((3, 4), 200, np.uint8)
    assert k.sum_over(counts, None, False).dtype == np.int64
    assert k.sum_over(counts, (0,), False).tolist() == [600] * 4
    assert k.sum_over(counts > 0, None, False) == 12
    assert k.max_over(counts, (1,), True).dtype == np.uint8
    x = draw(6, 7)
    for view in (x.T, x[::-1], x[:, ::2], np.broadcast_to(x[:1], (9, 7))):
        np.testing.assert_allclose(k.sum_over(view, (0,), False), view.copy().sum(0), rtol=1e-5, atol=1e-5)
        np.testing.assert_array_equal(k.max_over(view, (1,), False), view.copy().max(1))


def test_spread_repeats_what_a_reduction_folded(k, draw):
    for shape, dims in CASES:
        for keepdim in (False, True):
            y = k.sum_over(draw(*shape), dims, keepdim)
            whole = k.spread_over(y, shape, dims, keepdim)
            expected = np.broadcast_to(y if keepdim or dims is None else np.expand_dims(y, dims), shape)
            np.testing.assert_array_equal(whole, expected)
            assert whole.shape == shape
            assert whole.flags.writeable
            assert not np.shares_memory(whole, y)
    assert k.spread_over(np.arange(3), (2, 3), (0,), False).tolist() == [[0, 1, 2]] * 2
    with pytest.raises(ValueError, match=r"broadcast|reshape"):
        k.spread_over(draw(4), (2, 3), (0,), False)


def test_sum_to_size_undoes_broadcasting(k, draw):
    for sizes in itertools.product((1, 3), (1, 4), (1, 2)):
        for drop in range(4):
            x, shape = draw(3, 4, 2), sizes[drop:]
            extra = tuple(range(drop))
            ones = tuple(i for i in range(drop, 3) if sizes[i] == 1)
            expected = x.sum(extra + ones, keepdims=True).reshape(shape)
            np.testing.assert_allclose(k.sum_to_size(x, shape), expected, rtol=1e-5, atol=1e-5)
    x = draw(3, 4)
    assert k.sum_to_size(x, (3, 4)) is x
    assert k.sum_to_size(np.ones((0, 3), x.dtype), (1, 3)).tolist() == [[0, 0, 0]]


@pytest.mark.parametrize("dims", [(2,), (-3,), (0, 0)])
def test_an_axis_that_is_not_there_is_refused(k, draw, dims):
    with pytest.raises((IndexError, ValueError), match=r"out of (bounds|range)|duplicate"):
        k.sum_over(draw(3, 4), dims, False)
