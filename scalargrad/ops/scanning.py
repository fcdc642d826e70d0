"""Running sums and products along a dimension."""

from __future__ import annotations

from typing import Any

import numpy as np

from scalargrad.dtypes import float64, int64
from scalargrad.kernels.memory import copied, empty
from scalargrad.operation import Op, in_numpy
from scalargrad.ops.dimensions import as_dim
from scalargrad.ops.shape import along, shaping
from scalargrad.ops.summation import cast


def _running(accumulate: Any) -> Any:
    """`accumulate` along a dimension, from its end if `reverse`; in float64 or int64, as PyTorch does."""

    def run(x: Any, dim: int, reverse: bool) -> Any:
        is_float = x.dtype.kind == "f"
        y = copied(x, float64 if is_float else int64)
        line = y[_backwards(dim)] if reverse else y
        accumulate(line, dim, None, line)
        return copied(y, x.dtype) if is_float and x.dtype != float64 else y

    return in_numpy(run)


def _backwards(dim: int) -> tuple[Any, ...]:
    """The index that turns a dimension around."""
    return along(dim, slice(None, None, -1))


def _recur(b: Any, a: Any, dim: int, reverse: bool) -> Any:
    y = np.empty(b.shape, b.dtype)
    ys, bs, factors = (np.moveaxis(z, dim, 0) for z in (y, b, a))
    last: Any = np.zeros((), b.dtype)
    steps = range(len(ys))
    for i in reversed(steps) if reverse else steps:
        last = ys[i] = bs[i] + factors[i] * last
    return y


def _shifted(x: Any, dim: int, reverse: bool, first: float) -> Any:
    y = empty(x.shape, x.dtype)
    early, late = along(dim, slice(-1)), along(dim, slice(1, None))
    if reverse:
        early, late = late, early
    y[late] = x[early]
    y[along(dim, slice(-1, None) if reverse else slice(1))] = first
    return y


def product_of_others(x: Any, dim: int) -> Any:
    """For each entry the product of all others along `dim`, without a division: there may be zeros."""
    before = scanning.shifted(scanning.cumprod(x, dim, False), dim, False, 1.0)
    return before * scanning.shifted(scanning.cumprod(x, dim, True), dim, True, 1.0)


def _recur_grad(g: Any, a: Any, dim: int, reverse: bool) -> Any:
    """What a recurrence does to its `b`: the recurrence backwards."""
    return scanning.recur(g, scanning.shifted(a, dim, not reverse, 0.0), dim, not reverse)


class scanning:
    """The rows. `dim` counts from the front, and `reverse` starts from its end.

    A product's gradient has no division in it, so that zeros are nothing special. With y_i = b_i + a_i · y_(i-1), a
    running product is the case b = 0, and `recur` is closed under differentiation.
    """

    cumsum = Op(
        None, _running(np.add.accumulate), "x dim reverse", lambda g, dim, reverse: scanning.cumsum(g, dim, not reverse)
    )
    cumprod = Op(
        None,
        _running(np.multiply.accumulate),
        "x dim reverse",
        lambda g, x, y, dim, reverse: _recur_grad(g, x, dim, reverse) * scanning.shifted(y, dim, reverse, 1.0),
    )
    recur = Op(
        None,
        in_numpy(_recur),
        "b a dim reverse",
        lambda g, a, dim, reverse: _recur_grad(g, a, dim, reverse),
        lambda g, a, y, dim, reverse: _recur_grad(g, a, dim, reverse) * scanning.shifted(y, dim, reverse, 0.0),
        doc="y_i = b_i + a_i · y_(i-1)",
    )
    shifted = Op(
        None,
        _shifted,
        "x dim reverse first",
        lambda g, dim, reverse: scanning.shifted(g, dim, not reverse, 0.0),
        doc="Each entry's predecessor along `dim` (its successor if `reverse`); what has none gets `first`.",
    )


def _scan(op: Op, input: Any, dim: int, dtype: Any) -> Any:
    input = cast(input, dtype, op.key)
    dim = as_dim(dim, input, op.key)
    if input.ndim == 0:
        return shaping.view(op(shaping.view(input, (1,)), 0, False), ())
    return op(input, dim, False)


def cumsum(input: Any, dim: int, *, dtype: Any = None) -> Any:
    """The sums of the entries along `dim` up to each of them; integers and booleans are counted in int64."""
    return _scan(scanning.cumsum, input, dim, dtype)


def cumprod(input: Any, dim: int, *, dtype: Any = None) -> Any:
    """The products of the entries along `dim` up to each of them; integers and booleans give int64.

    The gradient is right at zeros too.
    """
    return _scan(scanning.cumprod, input, dim, dtype)
