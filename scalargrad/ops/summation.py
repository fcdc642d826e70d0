"""Sums and means, and what undoes them: spreading a result over the dimensions that were reduced."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np

from scalargrad import xp
from scalargrad.dtypes import as_dtype
from scalargrad.ops.dimensions import Dims, named_dims
from scalargrad.ops.shape import shaping
from scalargrad.rules import Op

_reduce: Callable[..., Any] = np.add.reduce

LONG = 1024
"""Of more float32 than this, NumPy's sum in their order would lose digits: 1e-3 of the mean of MNIST's 60,000 rows."""


def n_reduced(shape: tuple[int, ...], dim: Dims) -> int:
    """How many entries go into one result."""
    return math.prod(shape) if dim is None else math.prod([shape[d] for d in dim])


def add_up(x: Any, dim: Dims, keepdim: bool) -> Any:
    """Σ x: of integers in int64, of floats in their own dtype, with its full precision."""
    if x.dtype.kind != "f":
        return _reduce(x, dim, np.int64, None, keepdim)
    if dim is not None and x.itemsize == 4 and n_reduced(x.shape, dim) > LONG and _innermost(x) not in dim:
        return np.asarray(_reduce(x, dim, np.float64, None, keepdim)).astype(x.dtype)
    return _reduce(x, dim, None, None, keepdim)


def _innermost(x: Any) -> int:
    """The dimension whose neighbours lie next to each other: over that one, NumPy sums in pairs."""
    strides = [abs(s) if n > 1 else math.inf for s, n in zip(x.strides, x.shape, strict=True)]
    return strides.index(min(strides))


def _mean(x: Any, dim: Dims, keepdim: bool) -> Any:
    return add_up(x, dim, keepdim) / n_reduced(x.shape, dim)


def _spread(y: Any, shape: tuple[int, ...], dim: Dims, keepdim: bool) -> Any:
    whole = np.empty(shape, y.dtype)
    if dim is not None and not keepdim:
        y = y.reshape([1 if i in dim else n for i, n in enumerate(shape)])
    whole[...] = y
    return whole


class summing:
    """The rows."""

    sum = Op(
        None,
        xp.quiet(add_up),
        "x dim keepdim",
        lambda g, x_shape, dim, keepdim: summing.spread(g, x_shape, dim, keepdim),
    )
    mean = Op(
        None,
        xp.quiet(_mean),
        "x dim keepdim",
        lambda g, x_shape, dim, keepdim: summing.spread(g / n_reduced(x_shape, dim), x_shape, dim, keepdim),
    )
    spread = Op(
        None, _spread, "y shape dim keepdim", lambda g, dim, keepdim: summing.sum(g, dim, keepdim), name="expand"
    )


def cast(input: Any, dtype: Any, operation: str) -> Any:
    """`input` as `dtype`, unless that is None. Raises RuntimeError where a gradient would get lost."""
    if dtype is None:
        return input
    dtype = as_dtype(dtype, operation)
    if dtype.kind != "f" and getattr(input, "requires_grad", False):
        raise RuntimeError(f"{operation}(): Autograd not support dtype: {dtype}")
    return shaping.cast(input, dtype)


def sum(
    input: Any, dim: Any = None, keepdim: bool = False, *, dtype: Any = None, axis: Any = None, keepdims: Any = None
) -> Any:
    """Sum over `dim`: an int, several of them, or None for all. Integers and booleans are counted in int64.

    `dtype` is cast to before summing. NumPy's names `axis` and `keepdims` are understood, here and below.
    """
    dim, keepdim = named_dims(dim, keepdim, axis, keepdims, input, "sum")
    return summing.sum(cast(input, dtype, "sum"), dim, keepdim)


def mean(
    input: Any, dim: Any = None, keepdim: bool = False, *, dtype: Any = None, axis: Any = None, keepdims: Any = None
) -> Any:
    """Mean over `dim`; nan where there is nothing. Raises RuntimeError for integers, unless `dtype` is a float."""
    dim, keepdim = named_dims(dim, keepdim, axis, keepdims, input, "mean")
    input = cast(input, dtype, "mean")
    if input.dtype.kind != "f":
        raise RuntimeError(
            "mean(): could not infer output dtype. Input dtype must be either a floating point or complex dtype. "
            f"Got: {input.dtype}"
        )
    return summing.mean(input, dim, keepdim)
