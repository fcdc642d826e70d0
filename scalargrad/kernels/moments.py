"""What has a mean of its own in an array that is normalised; means and variances.

x is seen as (N, C, S): the axes from `channels[0]` to before `channels[1]` are its channels, the axes before them its
samples, those after them its positions. `groups` says what has a mean of its own:

    0            each channel, over all samples and positions                            batch_norm
    1, 2, …      each sample, or each of so many groups of its channels            layer_norm, group_norm
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from .geometry import KERNEL_DTYPES, Array, Pair, Shape, check_dtype


def viewed_shape(shape: Shape, channels: Pair, groups: int) -> Shape:
    """The shape in which `over` are axes: that of x, or (samples…, groups, channels a group, positions…)."""
    first, last = channels
    if not groups:
        return tuple(shape)
    return (*shape[:first], groups, math.prod(shape[first:last]) // groups, *shape[last:])


def over(ndim: int, channels: Pair, groups: int) -> tuple[int, ...]:
    """The axes of a mean, where x has `ndim` and is seen in its `viewed_shape`."""
    first, last = channels
    if not groups:
        return (*range(first), *range(last, ndim))
    return tuple(range(first + 1, first + 2 + ndim - last))


def spread_shape(shape: Shape, channels: Pair, groups: int) -> Shape:
    """The shape in which weight and bias broadcast with x as it is viewed."""
    first, last = channels
    if not groups:
        return (*shape[first:last], *(1,) * (len(shape) - last))
    return (groups, math.prod(shape[first:last]) // groups, *(1,) * (len(shape) - last))


def check_normalize(op: str, x: Array, channels: Pair, groups: int, **others: Any) -> None:
    """Refuses axes, groups, and parameters by channel that do not fit x."""
    first, last = channels
    if not 0 <= first <= last <= x.ndim:
        raise RuntimeError(f"{op}(): expected channels to be axes of an input of shape {x.shape}, got {channels}")
    expected = x.shape[first:last]
    if groups < 0 or (groups and math.prod(expected) % groups):
        raise RuntimeError(f"{op}(): expected groups to divide the channels {expected}, got {groups}")
    for name, value in others.items():
        if value is None:
            continue
        if x.dtype in KERNEL_DTYPES:
            check_dtype(op, name, value, x.dtype.newbyteorder("="))
        if value.shape != expected:
            raise RuntimeError(f"{op}(): expected {name} of shape {expected}, got {value.shape} (input {x.shape})")


def check_gradient(op: str, g: Array, shape: Shape, n_means: int, mean: Any, rate: Any) -> None:
    """Refuses a gradient of another shape than x, and other than `n_means` means and rates."""
    if g.shape != shape:
        raise RuntimeError(f"{op}(): expected a gradient of shape {shape}, got {g.shape}")
    for name, value in (("mean", mean), ("rate", rate)):
        if value is not None and value.size != n_means:
            raise RuntimeError(f"{op}(): expected {name} to have {n_means} entries, got shape {value.shape}")


def sum_of_products(dims: tuple[int, ...], *factors: Array) -> Array:
    """The sum over `dims`, which stay, of the product of arrays of one shape.

    For (64, 6, 28, 28) in 14 µs, where `sum` takes 43 and needs the product as an array.
    """
    axes = list(range(factors[0].ndim))
    operands = [operand for x in factors for operand in (x, axes)]
    sums: Array = np.einsum(*operands, [a for a in axes if a not in dims], order="C")
    return sums.reshape([1 if a in dims else n for a, n in enumerate(factors[0].shape)])


def n_entries(shape: Shape, dims: tuple[int, ...]) -> int:
    """How many entries make one mean; 1 where there are none, so that the sums stay 0."""
    return math.prod(shape[d] for d in dims) or 1


@np.errstate(all="ignore")
def statistics(x: Array, dims: tuple[int, ...], eps: float) -> tuple[Array, Array, Array]:
    """Mean, biased variance and 1 / √(variance + eps) of an array over `dims`, which stay as dimensions of size 1.

    By the corrected two-pass algorithm (Chan, Golub and LeVeque, 1983): what rounding left over of the first mean is
    taken out of both, so that the variance of numbers far from 0 is right.
    """
    n = n_entries(x.shape, dims)
    mean = sum_of_products(dims, x) / n
    centred = x - mean
    slip = sum_of_products(dims, centred) / n
    variance = sum_of_products(dims, centred, centred) / n - slip * slip
    return mean + slip, variance, 1 / np.sqrt(variance + eps)
