"""Sums, means and extremes over axes, and back, in plain NumPy.

`dims` is a tuple of axes counted from the front, or None for all. The compiled kernels take contiguous float32 and
float64 with at most two groups of neighbouring axes to reduce, and hand everything else on to these functions.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from .geometry import Array, Shape

Dims = tuple[int, ...] | None

LONG = 1024
"""Of more float32 than this, NumPy's sum in their order would lose digits: 1e-3 of the mean of MNIST's 60,000 rows."""

IEEE = np.errstate(all="ignore")

_add_up: Any = np.add.reduce  # whose types say that keepdim is known in advance
_largest: Any = np.maximum.reduce
_smallest: Any = np.minimum.reduce


def _n_reduced(shape: Shape, dims: Dims) -> int:
    """How many entries go into one result."""
    return math.prod(shape) if dims is None else math.prod([shape[d] for d in dims])


def _innermost(x: Array) -> int:
    """The axis whose neighbours lie next to each other: over that one, NumPy sums in pairs."""
    strides = [abs(s) if n > 1 else math.inf for s, n in zip(x.strides, x.shape, strict=True)]
    return strides.index(min(strides))


def sum_over(x: Array, dims: Dims, keepdim: bool) -> Array:
    """Σ x: of integers in int64, of floats in their own dtype, with its full precision."""
    if dims is None and x.dtype.kind == "b" and not keepdim:
        return np.asarray(np.count_nonzero(x), np.int64)  # in a tenth of the time
    return _summed(x, dims, keepdim)


@IEEE
def _summed(x: Array, dims: Dims, keepdim: bool) -> Array:
    if x.dtype.kind in "biu":
        total: Any = _add_up(x, dims, np.int64, keepdims=keepdim)
    elif dims is not None and x.itemsize == 4 and _n_reduced(x.shape, dims) > LONG and _innermost(x) not in dims:
        total = np.asarray(_add_up(x, dims, np.float64, keepdims=keepdim)).astype(x.dtype)
    else:
        total = _add_up(x, dims, keepdims=keepdim)
    return np.asarray(total, order="C")


@IEEE
def mean_over(x: Array, dims: Dims, keepdim: bool) -> Array:
    """The mean of floats; NaN where there is nothing."""
    return np.asarray(sum_over(x, dims, keepdim) / _n_reduced(x.shape, dims))


@IEEE
def max_over(x: Array, dims: Dims, keepdim: bool) -> Array:
    """The largest entry; NaN if there is one."""
    return np.asarray(_largest(x, dims, keepdims=keepdim), order="C")


@IEEE
def min_over(x: Array, dims: Dims, keepdim: bool) -> Array:
    """The smallest entry; NaN if there is one."""
    return np.asarray(_smallest(x, dims, keepdims=keepdim), order="C")


def spread_over(y: Array, shape: Shape, dims: Dims, keepdim: bool) -> Array:
    """The array of `shape` that repeats y along `dims`, which y lacks or, with `keepdim`, has with size 1."""
    whole = np.empty(shape, y.dtype)
    if dims is not None and not keepdim:
        y = y.reshape([1 if i in dims else n for i, n in enumerate(shape)])
    whole[...] = y
    return whole


@IEEE
def sum_to_size(x: Array, shape: Shape) -> Array:
    """x summed over the axes that it was broadcast along from `shape`: x itself if there are none."""
    extra = x.ndim - len(shape)
    if extra:
        x = sum_over(x, tuple(range(extra)), False)
    axes = tuple(i for i, n in enumerate(shape) if n == 1 and x.shape[i] != 1)
    return sum_over(x, axes, True) if axes else x
