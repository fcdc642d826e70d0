"""Copies and elementwise work on arrays whose axes lie in another order, of every size around a vector's."""

from itertools import permutations

import numpy as np
import pytest


@pytest.mark.parametrize(
    "shape", [(1, 1), (2, 3), (16, 17), (33, 40), (5, 16, 3), (17, 2, 18), (3, 4, 5, 6), (0, 3), (4, 0, 2)]
)
def test_an_array_in_any_order_of_axes_is_copied(k, dtype, draw, shape):
    x = draw(*shape)
    for axes in permutations(range(len(shape))):
        for view in (
            x.transpose(axes),
            x.transpose(axes)[::-1],
            x.transpose(axes)[..., ::2],
            x[..., ::-1].transpose(axes),
        ):
            y = k.contiguous(view)
            assert y.flags.c_contiguous
            assert y.flags.owndata
            np.testing.assert_array_equal(y, view, strict=True)


def test_a_copy_is_one_where_nothing_need_be_turned(k, dtype, draw):
    for x in (draw(4, 5), draw(7), draw(), np.broadcast_to(draw(3), (2, 3)), draw(8, 8)[2:5, 1:4]):
        y = k.contiguous(x)
        assert not np.shares_memory(x, y)
        np.testing.assert_array_equal(y, x, strict=True)
    swapped = draw(3, 4).astype(dtype.newbyteorder()).T
    np.testing.assert_array_equal(k.contiguous(swapped), swapped)
    np.testing.assert_array_equal(k.contiguous(np.arange(6).reshape(2, 3).T), np.arange(6).reshape(2, 3).T, strict=True)


def test_numbers_next_to_the_array_are_neither_read_nor_written(k, dtype, draw):
    for rows, columns in ((3, 5), (16, 16), (19, 33)):
        room = np.full((rows + 2, columns + 2), np.nan, dtype)
        room[1:-1, 1:-1] = draw(rows, columns)
        y = k.contiguous(room[1:-1, 1:-1].T)
        assert np.isfinite(y).all()
        np.testing.assert_array_equal(y, room[1:-1, 1:-1].T)


def test_operands_in_other_orders_give_what_their_copies_give(k, dtype, draw):
    a, b, row = draw(19, 40), draw(40, 19), draw(40, 1)
    np.testing.assert_array_equal(k.mul(a.T, b), k.mul(a.T.copy(), b))
    np.testing.assert_array_equal(k.sub(a.T, row), k.sub(a.T.copy(), row))
    np.testing.assert_array_equal(k.lt(b, a.T), k.lt(b, a.T.copy()))
    np.testing.assert_array_equal(k.exp(draw(6, 7, 8).transpose(2, 0, 1)).shape, (8, 6, 7))
    np.testing.assert_array_equal(k.tanh(a.T), k.tanh(a.T.copy()))
