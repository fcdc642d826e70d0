"""Normalisation: entries less their mean, over their deviation, scaled and shifted.

Mean and deviation are computed once, by `statistics`, and handed from row to row as plain arrays. The derivatives for x
count in that they depend on x, so that they hold at every order; with h = (x − mean) / √(variance + eps):

    d for h is G(d) = (d − mean(d) − h · mean(d · h)) / √(variance + eps) for x     (Ioffe and Szegedy, 2015)
"""

from __future__ import annotations

from collections.abc import Sequence
from math import prod
from typing import Any

import numpy as np

from scalargrad import xp
from scalargrad.operation import Op
from scalargrad.ops.arguments import array, floating
from scalargrad.ops.shape import shaping

Dims = tuple[int, ...]


def _sum(dims: Dims, *factors: Any) -> Any:
    """The sum over `dims`, which stay, of the product of arrays of one shape.

    For (64, 6, 28, 28) in 14 µs, where `sum` takes 43 and needs the product as an array.
    """
    axes = list(range(factors[0].ndim))
    operands = [operand for x in factors for operand in (x, axes)]
    sums = np.einsum(*operands, [a for a in axes if a not in dims])
    return sums.reshape([1 if a in dims else n for a, n in enumerate(factors[0].shape)])


def _count(x: Any, dims: Dims) -> int:
    """How many entries make one mean; 1 where there are none, so that the sums stay 0."""
    return prod(x.shape[d] for d in dims) or 1


@xp.quiet
def statistics(x: Any, dims: Dims, eps: float) -> tuple[Any, Any, Any]:
    """Mean, biased variance and 1 / √(variance + eps) of an array over `dims`, which stay as dimensions of size 1.

    By the corrected two-pass algorithm (Chan, Golub and LeVeque, 1983): what rounding left over of the first mean is
    taken out of both, so that the variance of numbers far from 0 is right.
    """
    n = _count(x, dims)
    mean = _sum(dims, x) / n
    centred = x - mean
    slip = _sum(dims, centred) / n
    variance = _sum(dims, centred, centred) / n - slip * slip
    return mean + slip, variance, 1 / np.sqrt(variance + eps)


def averaged(x: Any, dims: Dims) -> Any:
    """The mean over `dims`, which stay; of an array or a Tensor."""
    shape = tuple(1 if d in dims else n for d, n in enumerate(x.shape))
    return shaping.sum_to_size(x, shape) * (1 / _count(x, dims))


@xp.quiet
def _standardize_grad(d: Any, x: Any, mean: Any, rate: Any, dims: Dims) -> Any:
    h = x - mean
    h *= rate
    n = _count(x, dims)
    d_mean = _sum(dims, d) / n
    h *= _sum(dims, d, h) / -n
    h += d
    h -= d_mean
    h *= rate
    return h


def _standardize_grad_x(g: Any, d: Any, x: Any, mean: Any, rate: Any, dims: Dims) -> Any:
    """The derivative for x of ⟨g, G(d)⟩ = n · r · (mean(g·d) − mean(g)·mean(d) − mean(g·h)·mean(d·h)), r the rate."""
    h = normalizing.standardize(x, mean, rate, dims)
    r = normalizing.deviation_reciprocal(x, mean, rate, dims)
    gh, dh = averaged(g * h, dims), averaged(d * h, dims)
    spread = averaged(g * d, dims) - averaged(g, dims) * averaged(d, dims) - gh * dh
    from_g = normalizing.standardize_grad(g, x, mean, rate, dims)
    from_d = normalizing.standardize_grad(d, x, mean, rate, dims)
    return -(r * r * h * spread) - r * (dh * from_g + gh * from_d)


def _affine(h: Any, w: Any, b: Any, spread: tuple[int, ...]) -> Any:
    """h · w + b, written to h: weight and bias have the shape `spread` to broadcast."""
    if w is not None:
        h *= w.reshape(spread)
    if b is not None:
        h += b.reshape(spread)
    return h


def _normalized(x: Any, w: Any, b: Any, dims: Dims, spread: tuple[int, ...], eps: float) -> tuple[Any, ...]:
    mean, variance, rate = statistics(x, dims, eps)
    h = x - mean
    h *= rate
    return _affine(h, w, b, spread), mean, variance, rate


def _weighted(g: Any, w: Any, spread: tuple[int, ...]) -> Any:
    return g if w is None else g * w.reshape(spread)


def _gathered(g: Any, spread: tuple[int, ...], shape: tuple[int, ...]) -> Any:
    """The gradient of something of the shape `spread` that was broadcast, in its own shape."""
    padded = (1,) * (len(g.shape) - len(spread)) + spread
    return shaping.view(shaping.sum_to_size(g, padded), shape)


def _normalization(name: str) -> Op:
    """A row: x normalised over `dims`, times w, plus b. Weight and bias have the shape `spread` to broadcast."""
    return Op(
        None,
        xp.quiet(_normalized),
        "x w b dims spread eps",
        lambda g, x, w, mean, rate, dims, spread: normalizing.standardize_grad(
            _weighted(g, w, spread), x, mean, rate, dims
        ),
        lambda g, x, w_shape, mean, rate, dims, spread: _gathered(
            g * normalizing.standardize(x, mean, rate, dims), spread, w_shape
        ),
        lambda g, b_shape, spread: _gathered(g, spread, b_shape),
        results="y mean variance rate",
        name=name,
    )


class normalizing:
    """The rows. `mean` and `rate`, where they are inputs, are what `statistics` found for x: caches, not operands."""

    standardize = Op(
        None,
        xp.quiet(lambda x, mean, rate, dims: (x - mean) * rate),
        "x mean rate dims",
        lambda g, x, mean, rate, dims: normalizing.standardize_grad(g, x, mean, rate, dims),
    )
    standardize_grad: Op = Op(
        None,
        _standardize_grad,
        "d x mean rate dims",
        lambda g, x, mean, rate, dims: normalizing.standardize_grad(g, x, mean, rate, dims),
        lambda g, d, x, mean, rate, dims: _standardize_grad_x(g, d, x, mean, rate, dims),
    )
    deviation_reciprocal = Op(
        None,
        lambda x, mean, rate, dims: rate.copy(),
        "x mean rate dims",
        lambda g, x, mean, rate, dims: _reciprocal_grad(g, x, mean, rate, dims),
    )
    batch_norm = _normalization("native_batch_norm")
    layer_norm = _normalization("native_layer_norm")
    group_norm = _normalization("native_group_norm")
    batch_norm_by_constants = Op(
        None,
        xp.quiet(lambda x, w, b, mean, rate, spread: _affine((x - mean) * rate, w, b, spread)),
        "x w b mean rate spread",
        lambda g, w, rate, spread: _weighted(g, w, spread) * rate,
        lambda g, x, w_shape, mean, rate, spread: _gathered(g * ((x - mean) * rate), spread, w_shape),
        lambda g, b_shape, spread: _gathered(g, spread, b_shape),
        name="native_batch_norm",
    )


def _reciprocal_grad(g: Any, x: Any, mean: Any, rate: Any, dims: Dims) -> Any:
    h = normalizing.standardize(x, mean, rate, dims)
    r = normalizing.deviation_reciprocal(x, mean, rate, dims)
    return -(g * (r * r) * h) * (1 / _count(x, dims))


def _channels(operation: str, input: Any) -> tuple[int]:
    """The shape (C) of what there is one of for each channel."""
    if floating(operation, input).ndim < 2:
        raise RuntimeError(f"{operation}(): expected an input of at least 2 dimensions, got shape {tuple(input.shape)}")
    return (input.shape[1],)


def _check(operation: str, input: Any, shape: tuple[int, ...], **others: Any) -> None:
    """Refuses others that differ from `shape` or from the input's dtype."""
    dtype = input.dtype
    for name, x in others.items():
        if x is None:
            continue
        array(operation, x, name)
        if tuple(x.shape) != shape:
            raise RuntimeError(
                f"{operation}(): expected {name} of shape {shape}, got {tuple(x.shape)} (input {tuple(input.shape)})"
            )
        if x.dtype != dtype:
            raise RuntimeError(f"{operation}(): expected {name} to have the input's dtype {dtype}, got {x.dtype}")


def batch_norm(
    input: Any,
    running_mean: Any,
    running_var: Any,
    weight: Any = None,
    bias: Any = None,
    training: bool = False,
    momentum: float = 0.1,
    eps: float = 1e-5,
) -> Any:
    """(x − mean) / √(variance + eps) · weight + bias, channel by channel (Ioffe and Szegedy, 2015).

    In training, mean and biased variance are the batch's, and move the running ones (with the unbiased variance), in
    place: running += momentum · (batch − running). Otherwise the running ones are used.
    Shapes: input (N, C) or (N, C, …) → the same; all others (C).
    Raises ValueError in training on one number a channel, RuntimeError if sizes or dtypes do not fit.
    """
    channels = _channels("batch_norm", input)
    ndim = input.ndim
    _check("batch_norm", input, channels, running_mean=running_mean, running_var=running_var, weight=weight, bias=bias)
    spread = (*channels, *(1,) * (ndim - 2))
    if not training:
        if running_mean is None or running_var is None:
            raise RuntimeError("batch_norm(): Expected running_mean and running_var to be defined in evaluation mode")
        mean = running_mean.array.reshape(spread).copy()  # the running mean may move before the backward pass
        rate = 1 / np.sqrt(running_var.array.reshape(spread) + eps)
        return normalizing.batch_norm_by_constants(input, weight, bias, mean, rate, spread)
    n = prod(input.shape) // max(channels[0], 1)
    if n == 1:
        raise ValueError(f"Expected more than 1 value per channel when training, got input size {input.shape}")
    dims = (0, *range(2, ndim))
    y, mean, variance, _ = normalizing.batch_norm(input, weight, bias, dims, spread, eps)
    for running, batch in ((running_mean, mean), (running_var, variance * (n / (n - 1)) if n else variance)):
        if running is not None and n:
            running.array[...] = (1 - momentum) * running.array + momentum * batch.reshape(channels)
            running.stamp()
    return y


def layer_norm(
    input: Any, normalized_shape: Sequence[int], weight: Any = None, bias: Any = None, eps: float = 1e-5
) -> Any:
    """(x − mean) / √(variance + eps) · weight + bias over the last dimensions (Ba, Kiros and Hinton, 2016).

    Shapes: input (…, *normalized_shape) → the same; weight and bias normalized_shape. The variance is the biased one.
    Raises RuntimeError if sizes or dtypes do not fit.
    """
    if not isinstance(normalized_shape, Sequence):
        raise TypeError(
            f"layer_norm(): argument 'normalized_shape' must be tuple of ints, not {type(normalized_shape).__name__}"
        )
    shape = tuple(normalized_shape)
    floating("layer_norm", input)
    _check("layer_norm", input, shape, weight=weight, bias=bias)
    first = input.ndim - len(shape)
    if not shape or first < 0 or tuple(input.shape[first:]) != shape:
        raise RuntimeError(
            f"layer_norm(): Given normalized_shape={list(shape)}, expected input with shape "
            f"{['*', *shape]}, but got input of size {list(input.shape)}"
        )
    return normalizing.layer_norm(input, weight, bias, tuple(range(first, input.ndim)), shape, eps)[0]


def group_norm(input: Any, num_groups: int, weight: Any = None, bias: Any = None, eps: float = 1e-5) -> Any:
    """(x − mean) / √(variance + eps) · weight + bias, where each sample's channels are normalised in groups.

    Shapes: input (N, C, …) → the same; weight and bias (C). The variance is the biased one (Wu and He, 2018).
    Raises RuntimeError if the groups do not divide the channels, or sizes or dtypes do not fit, and ValueError if there
    is one number in a group, of all samples together.
    """
    (C,) = channels = _channels("group_norm", input)
    _check("group_norm", input, channels, weight=weight, bias=bias)
    if num_groups < 1 or C % num_groups:
        raise RuntimeError(
            f"group_norm(): Expected number of channels in input to be divisible by num_groups, but got input of shape "
            f"{tuple(input.shape)} and num_groups={num_groups}"
        )
    shape = tuple(input.shape)
    if prod(shape) == num_groups:
        raise ValueError(f"Expected more than 1 value per channel when training, got input size {input.shape}")
    grouped = shaping.view(input, (shape[0], num_groups, C // num_groups, *shape[2:]))
    spread = (num_groups, C // num_groups, *(1,) * (len(shape) - 2))
    dims = tuple(range(2, grouped.ndim))
    return shaping.view(normalizing.group_norm(grouped, weight, bias, dims, spread, eps)[0], shape)
