"""Reductions over all elements or along dimensions: sums, extremes, products, variances, norms, truths."""

from __future__ import annotations

import builtins
import warnings
from collections.abc import Callable
from math import inf
from typing import Any

import numpy as np

from scalargrad import kernels, xp
from scalargrad.dtypes import default_float
from scalargrad.kernels.memory import empty
from scalargrad.operation import Op, in_numpy
from scalargrad.ops.dimensions import Dims, as_dims, named_dims
from scalargrad.ops.extremes import amax as amax
from scalargrad.ops.extremes import amin as amin
from scalargrad.ops.extremes import argmax as argmax
from scalargrad.ops.extremes import argmin as argmin
from scalargrad.ops.extremes import max as max
from scalargrad.ops.extremes import median as median
from scalargrad.ops.extremes import min as min
from scalargrad.ops.extremes import shares
from scalargrad.ops.scanning import cumprod as cumprod
from scalargrad.ops.scanning import cumsum as cumsum
from scalargrad.ops.scanning import product_of_others
from scalargrad.ops.shape import along, shaping
from scalargrad.ops.summation import cast, n_reduced, summing
from scalargrad.ops.summation import mean as mean
from scalargrad.ops.summation import sum as sum
from scalargrad.rules import ops

_multiply_up: Callable[..., Any] = np.multiply.reduce


def _prod(x: Any, dim: Dims, keepdim: bool) -> Any:
    return _multiply_up(x, dim, None if x.dtype.kind == "f" else np.int64, None, keepdim)


def _prod_grad(g: Any, x: Any, dim: Dims, keepdim: bool) -> Any:
    others = product_of_others(shaping.view(x, (-1,)), 0) if dim is None else product_of_others(x, dim[0])
    return summing.spread(g, x.shape, dim, keepdim) * shaping.view(others, x.shape)


def _prod_gradients(g: Any, x: Any, dim: Dims, keepdim: bool, wanted: int) -> list[Any]:
    """`_prod_grad` of arrays, in a third of the time for a few numbers."""
    lines, d = (x.reshape(-1), 0) if dim is None else (x, dim[0])
    before, after = empty(lines.shape, x.dtype), empty(lines.shape, x.dtype)
    early, late, reverse = along(d, slice(-1)), along(d, slice(1, None)), along(d, slice(None, None, -1))
    before[along(d, slice(1))] = after[along(d, slice(-1, None))] = 1
    before[late] = np.multiply.accumulate(lines[early], d, np.float64)
    after[early] = np.multiply.accumulate(lines[late][reverse], d, np.float64)[reverse]
    others = kernels.mul(before, after).reshape(x.shape)
    return [kernels.mul(kernels.spread_over(g, x.shape, dim, keepdim), others)]


def _var(x: Any, dim: Dims, correction: float, keepdim: bool) -> Any:
    deviation = kernels.sub(x, kernels.mean_over(x, dim, True))
    squares = kernels.mul(deviation, deviation)
    return kernels.div(kernels.sum_over(squares, dim, keepdim), _degrees(x.shape, dim, correction))


def _degrees(shape: tuple[int, ...], dim: Dims, correction: float) -> float:
    """What the squared deviations are divided by: never negative, so that too few give nan or inf."""
    return builtins.max(n_reduced(shape, dim) - correction, 0.0)


def _var_grad(g: Any, x: Any, dim: Dims, correction: float, keepdim: bool) -> Any:
    scale = ops.mul(g, xp.div(2.0, _degrees(x.shape, dim, correction)))
    return summing.spread(scale, x.shape, dim, keepdim) * (x - summing.mean(x, dim, True))


def _divisor(y: Any) -> Any:
    """y, but 1 where it is 0."""
    return ops.add(y, shaping.cast(ops.eq(y, 0), y.dtype))


def _logsumexp(x: Any, dim: Dims, keepdim: bool) -> Any:
    largest = np.maximum.reduce(x, dim, keepdims=True, initial=-inf)
    largest = np.where(np.isfinite(largest), largest, np.zeros_like(largest))
    y = np.log(kernels.sum_over(np.exp(x - largest), dim, True)) + largest
    return y if keepdim else y.reshape([] if dim is None else [n for i, n in enumerate(x.shape) if i not in dim])


def _norm(x: Any, p: float, dim: Dims, keepdim: bool) -> Any:
    if p == 2:
        return kernels.sqrt(kernels.sum_over(kernels.mul(x, x), dim, keepdim))
    if p == 0:
        return kernels.sum_over(kernels.ne(x, 0).astype(x.dtype), dim, keepdim)
    size = kernels.absolute(x)
    if p == 1:
        return kernels.sum_over(size, dim, keepdim)
    if p in (inf, -inf):
        return (kernels.max_over if p > 0 else kernels.min_over)(size, dim, keepdim)
    return kernels.power(kernels.sum_over(kernels.power(size, p), dim, keepdim), 1 / p)


def _norm_grad(g: Any, x: Any, y: Any, p: float, dim: Dims, keepdim: bool) -> Any:
    """sign(x) · |x|^(p-1) · g / y^(p-1), and 0 where y is 0 (PyTorch's norm_backward).

    The powers of 0 are taken of 1 instead, so that no 0 · inf arises when this is differentiated again.
    """
    if p == 0:
        return None
    if p in (inf, -inf):
        return shares(g, ops.abs(x), y, dim, keepdim) * ops.sign(x)
    if p == 1:
        return ops.sign(x) * summing.spread(g, x.shape, dim, keepdim)
    length = _divisor(y)
    if p == 2:
        return x * summing.spread(ops.select(ops.ne(y, 0), ops.div(g, length)), x.shape, dim, keepdim)
    scale = ops.select(ops.ne(y, 0), ops.mul(g, ops.pow(length, 1 - p)))
    return ops.sign(x) * ops.pow(_divisor(ops.abs(x)), p - 1) * summing.spread(scale, x.shape, dim, keepdim)


def _truth_row(reduce: Callable[..., Any]) -> Op:
    """A row for a truth value, which PyTorch gives as a byte for bytes."""
    return Op(
        None,
        lambda x, dim, keepdim: reduce(x, dim, keepdims=keepdim).astype(np.uint8 if x.dtype == np.uint8 else np.bool_),
        "x dim keepdim",
    )


class reducing:
    """The rows. `dim` is a tuple, or None for all dimensions."""

    prod = Op(
        None,
        in_numpy(_prod),
        "x dim keepdim",
        lambda g, x, dim, keepdim: _prod_grad(g, x, dim, keepdim),
        gradients=_prod_gradients,
    )
    var = Op(
        None,
        _var,
        "x dim correction keepdim",
        lambda g, x, dim, correction, keepdim: _var_grad(g, x, dim, correction, keepdim),
    )
    std = Op(
        None,
        lambda x, dim, correction, keepdim: kernels.sqrt(_var(x, dim, correction, keepdim)),
        "x dim correction keepdim",
        lambda g, x, y, dim, correction, keepdim: _var_grad(
            ops.select(ops.ne(y, 0), ops.div(g, ops.mul(_divisor(y), 2))), x, dim, correction, keepdim
        ),
    )
    norm = Op(
        None,
        _norm,
        "x p dim keepdim",
        lambda g, x, y, p, dim, keepdim: _norm_grad(g, x, y, p, dim, keepdim),
        name="linalg_vector_norm",
    )
    logsumexp = Op(
        None,
        in_numpy(_logsumexp),
        "x dim keepdim",
        lambda g, x, y, dim, keepdim: (
            summing.spread(g, x.shape, dim, keepdim) * ops.exp(x - summing.spread(y, x.shape, dim, keepdim))
        ),
    )
    all = _truth_row(np.logical_and.reduce)
    any = _truth_row(np.logical_or.reduce)
    count_nonzero = Op(None, lambda x, dim: kernels.sum_over(x != 0, dim, False), "x dim")


def prod(
    input: Any,
    dim: Any = None,
    keepdim: bool = False,
    *,
    dtype: Any = None,
    axis: Any = None,
    keepdims: Any = None,
) -> Any:
    """Product over `dim`, or of all; integers and booleans give int64. The gradient is right at zeros too."""
    if isinstance(dim, tuple | list) or isinstance(axis, tuple | list):
        raise TypeError(f"prod(): argument 'dim' must be int, not {dim if axis is None else axis!r}")
    dims, keepdim = named_dims(dim, keepdim, axis, keepdims, input, "prod")
    return reducing.prod(cast(input, dtype, "prod"), dims, keepdim)


def _spread_arguments(
    input: Any, dim: Any, unbiased: bool, keepdim: Any, correction: float | None, axis: Any, keepdims: Any, name: str
) -> tuple[Any, Dims, float, bool]:
    """The arguments of `var` and `std` as their rows take them. PyTorch warns where there are too few entries."""
    if dim is True or dim is False:  # var(input, unbiased)
        dim, unbiased = None, dim
    dims, keepdim = named_dims(dim, keepdim, axis, keepdims, input, name)
    if input.dtype.kind != "f":
        raise RuntimeError(f"{name}(): std and var only support floating point and complex dtypes, got {input.dtype}")
    if correction is None:
        correction = 1 if unbiased else 0
    if correction and n_reduced(input.shape, dims) <= correction:
        warnings.warn(
            f"{name}(): degrees of freedom is <= 0. Correction should be strictly less than the reduction factor "
            "(input numel divided by output numel).",
            UserWarning,
            stacklevel=3,
        )
    return input, dims, correction, keepdim


def var(
    input: Any,
    dim: Any = None,
    unbiased: bool = True,
    keepdim: bool = False,
    *,
    correction: float | None = None,
    axis: Any = None,
    keepdims: Any = None,
) -> Any:
    """Variance over `dim`: the squared deviations' sum over n - correction; `correction` is 1, 0 if not `unbiased`.

    Warns where nothing is left to divide by, which gives nan or inf. Raises RuntimeError for integers.
    """
    return reducing.var(*_spread_arguments(input, dim, unbiased, keepdim, correction, axis, keepdims, "var"))


def std(
    input: Any,
    dim: Any = None,
    unbiased: bool = True,
    keepdim: bool = False,
    *,
    correction: float | None = None,
    axis: Any = None,
    keepdims: Any = None,
) -> Any:
    """Standard deviation over `dim`: the square root of `var`, with gradient 0 where it is 0."""
    return reducing.std(*_spread_arguments(input, dim, unbiased, keepdim, correction, axis, keepdims, "std"))


def var_mean(
    input: Any, dim: Any = None, unbiased: bool = True, keepdim: bool = False, *, correction: float | None = None
) -> tuple[Any, Any]:
    """The pair of `var` and `mean`."""
    spread = _spread_arguments(input, dim, unbiased, keepdim, correction, None, None, "var_mean")
    return reducing.var(*spread), summing.mean(input, spread[1], keepdim)


def std_mean(
    input: Any, dim: Any = None, unbiased: bool = True, keepdim: bool = False, *, correction: float | None = None
) -> tuple[Any, Any]:
    """The pair of `std` and `mean`."""
    spread = _spread_arguments(input, dim, unbiased, keepdim, correction, None, None, "std_mean")
    return reducing.std(*spread), summing.mean(input, spread[1], keepdim)


def norm(input: Any, p: Any = "fro", dim: Any = None, keepdim: bool = False, dtype: Any = None) -> Any:
    """(Σ |x|^p)^(1/p) over `dim`; the largest |x| for p = inf, the smallest for -inf, how many are not 0 for p = 0.

    "fro" is 2. The gradient where the norm is 0 is 0 (PyTorch's choice); for p = ±inf, ties share it.
    Raises RuntimeError for integers, for any other name of a norm, and for p = ±inf of nothing.
    """
    if p is None or p == "fro":
        p = 2
    if isinstance(p, str):
        raise RuntimeError(f"norm(): expected p to be a number or 'fro', got {p!r}")
    dims = as_dims(dim, input, "norm")
    if input.dtype.kind != "f":
        raise RuntimeError(f"norm(): expected a floating point or complex tensor as input, got {input.dtype}")
    if p in (inf, -inf) and n_reduced(input.shape, dims) == 0:
        raise RuntimeError(f"norm(): the {p} norm of an empty tensor does not exist, got shape {tuple(input.shape)}")
    return reducing.norm(cast(input, dtype, "norm"), float(p), dims, keepdim)


def logsumexp(input: Any, dim: Any, keepdim: bool = False) -> Any:
    """log Σ exp(x) over `dim`, without overflow: the largest x is taken out. -inf where there is nothing."""
    dims = as_dims(dim, input, "logsumexp")
    return reducing.logsumexp(input if input.dtype.kind == "f" else shaping.cast(input, default_float), dims, keepdim)


def all(input: Any, dim: Any = None, keepdim: bool = False, *, axis: Any = None, keepdims: Any = None) -> Any:
    """Whether every entry over `dim` is other than 0: True where there is none, and nan is other than 0."""
    return reducing.all(input, *named_dims(dim, keepdim, axis, keepdims, input, "all"))


def any(input: Any, dim: Any = None, keepdim: bool = False, *, axis: Any = None, keepdims: Any = None) -> Any:
    """Whether some entry over `dim` is other than 0: False where there is none."""
    return reducing.any(input, *named_dims(dim, keepdim, axis, keepdims, input, "any"))


def count_nonzero(input: Any, dim: Any = None) -> Any:
    """How many entries over `dim` are other than 0."""
    return reducing.count_nonzero(input, as_dims(dim, input, "count_nonzero"))
