"""Sums and means, and what undoes them: spreading a result over the dimensions that were reduced."""

from __future__ import annotations

import math
from typing import Any

from scalargrad import kernels
from scalargrad.dtypes import as_dtype
from scalargrad.operation import Op
from scalargrad.ops.dimensions import Dims, named_dims
from scalargrad.ops.shape import shaping
from scalargrad.rules import ops


def n_reduced(shape: tuple[int, ...], dim: Dims) -> int:
    """How many entries go into one result."""
    return math.prod(shape) if dim is None else math.prod([shape[d] for d in dim])


class summing:
    """The rows."""

    sum = Op(
        None,
        kernels.sum_over,
        "x dim keepdim",
        lambda g, x_shape, dim, keepdim: summing.spread(g, x_shape, dim, keepdim),
    )
    mean = Op(
        None,
        kernels.mean_over,
        "x dim keepdim",
        lambda g, x_shape, dim, keepdim: summing.spread(ops.div(g, n_reduced(x_shape, dim)), x_shape, dim, keepdim),
    )
    spread = Op(
        None,
        kernels.spread_over,
        "y shape dim keepdim",
        lambda g, dim, keepdim: summing.sum(g, dim, keepdim),
        name="expand",
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
