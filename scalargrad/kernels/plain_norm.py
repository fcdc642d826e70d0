"""Normalisation in plain NumPy: entries less their mean, over their deviation, scaled and shifted.

What `channels` and `groups` say stands in moments.py. Weight w and bias b have the channels' shape,
x.shape[slice(*channels)], and either may be None. What there is one of for each mean has the shape that broadcasts with
x as `viewed_shape` has it. The compiled kernels take float32 and float64 in any layout, and hand everything else on to
these functions.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from .geometry import Array, Pair
from .moments import (
    check_gradient,
    check_normalize,
    n_entries,
    over,
    spread_shape,
    statistics,
    sum_of_products,
    viewed_shape,
)

IEEE = np.errstate(all="ignore")

X, W, B = 1, 2, 4
"""The bits of `wanted`."""


def _affine(x: Array, w: Any, b: Any, mean: Array, rate: Array, channels: Pair, groups: int) -> Array:
    """(x − mean) · rate · w + b."""
    spread = spread_shape(x.shape, channels, groups)
    h: Array = x.reshape(viewed_shape(x.shape, channels, groups)) - mean
    h *= rate
    if w is not None:
        h *= w.reshape(spread)
    if b is not None:
        h += b.reshape(spread)
    return np.asarray(h.reshape(x.shape), order="C")


@IEEE
def normalize(
    x: Array, w: Array | None, b: Array | None, channels: Pair, groups: int, eps: float
) -> tuple[Array, Array, Array, Array]:
    """(x − mean) / √(variance + eps) · w + b, the mean, the biased variance, and 1 / √(variance + eps).

    Ioffe and Szegedy (2015), Ba, Kiros and Hinton (2016), Wu and He (2018). Of no entries, mean and variance are 0.
    Raises RuntimeError if axes, groups or parameters do not fit.
    """
    check_normalize("normalize", x, channels, groups, weight=w, bias=b)
    view = x.reshape(viewed_shape(x.shape, channels, groups))
    mean, variance, rate = statistics(view, over(x.ndim, channels, groups), eps)
    return _affine(x, w, b, mean, rate, channels, groups), mean, variance, rate


@IEEE
def normalize_grads(
    g: Array, x: Array, w: Array | None, mean: Array, rate: Array, channels: Pair, groups: int, wanted: int
) -> tuple[Array, ...]:
    """Of x, w and b, in this order, those gradients whose bits X, W and B are set in `wanted`.

    With h = (x − mean) · rate and d = g · w, that of x is (d − mean(d) − h · mean(d · h)) · rate (Ioffe and Szegedy,
    2015); of w, the sums by channel of g · h; of b, those of g.
    """
    check_normalize("normalize_grads", x, channels, groups, weight=w)
    shape, dims = viewed_shape(x.shape, channels, groups), over(x.ndim, channels, groups)
    n_means = math.prod(n for d, n in enumerate(shape) if d not in dims)
    check_gradient("normalize_grads", g, x.shape, n_means, mean, rate)
    kept = [1 if d in dims else n for d, n in enumerate(shape)]
    mean, rate = mean.reshape(kept), rate.reshape(kept)
    h = x.reshape(shape) - mean
    h *= rate
    found = _sums_by_channel(g, h, channels, wanted)
    if wanted & X:
        d = g.reshape(shape)
        if w is not None:
            d = d * w.reshape(spread_shape(x.shape, channels, groups))
        n = n_entries(shape, dims)
        d_mean = sum_of_products(dims, d) / n
        h *= sum_of_products(dims, d, h) / -n
        h += d
        h -= d_mean
        h *= rate
        found = (np.asarray(h.reshape(x.shape), order="C"), *found)
    return found


def _sums_by_channel(g: Array, h: Any, channels: Pair, wanted: int) -> tuple[Array, ...]:
    """The sums of g · h and of g over all but the channels, if they are wanted."""
    axes = (*range(channels[0]), *range(channels[1], g.ndim))
    shape = g.shape[channels[0] : channels[1]]
    found = []
    if wanted & W:
        found.append(sum_of_products(axes, g, h.reshape(g.shape)).reshape(shape))
    if wanted & B:
        found.append(sum_of_products(axes, g).reshape(shape))
    return tuple(found)


@IEEE
def normalize_by(
    x: Array, w: Array | None, b: Array | None, mean: Array, variance: Array, channels: Pair, eps: float
) -> tuple[Array, Array, Array]:
    """(x − mean) / √(variance + eps) · w + b of constants by channel; and copies of mean and 1 / √(variance + eps).

    Both copies have the shape that broadcasts with x. Raises RuntimeError if axes or parameters do not fit.
    """
    check_normalize("normalize_by", x, channels, 0, weight=w, bias=b, mean=mean, variance=variance)
    shape = (*(1,) * channels[0], *spread_shape(x.shape, channels, 0))
    mean, rate = mean.reshape(shape).copy(), 1 / np.sqrt(variance.reshape(shape) + eps)
    return _affine(x, w, b, mean, rate, channels, 0), mean, rate


@IEEE
def normalize_by_grads(
    g: Array, x: Array | None, w: Array | None, mean: Array | None, rate: Array, channels: Pair, wanted: int
) -> tuple[Array, ...]:
    """The gradients of `normalize_by` as `normalize_grads` gives them: that of x is g · w · rate.

    x and mean may be None if that of w is not wanted.
    """
    check_normalize("normalize_by_grads", g, channels, 0, weight=w)
    shape = (*(1,) * channels[0], *spread_shape(g.shape, channels, 0))
    check_gradient("normalize_by_grads", g, g.shape if x is None else x.shape, math.prod(shape), mean, rate)
    rate = rate.reshape(shape)
    h = None if x is None or mean is None else (x - mean.reshape(shape)) * rate
    if wanted & W and h is None:
        raise RuntimeError("normalize_by_grads(): expected input and mean for the gradient of weight, got None")
    found = _sums_by_channel(g, h, channels, wanted)
    if wanted & X:
        found = (np.asarray(g * (rate if w is None else rate * w.reshape(shape)), order="C"), *found)
    return found
