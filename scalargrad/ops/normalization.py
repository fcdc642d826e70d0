"""Normalisation: entries less their mean, over their deviation, scaled and shifted.

Mean and deviation are computed once, with the result, and handed from row to row as plain arrays. The derivatives for x
count in that they depend on x, so that they hold at every order; with h = (x − mean) / √(variance + eps):

    d for h is G(d) = (d − mean(d) − h · mean(d · h)) / √(variance + eps) for x     (Ioffe and Szegedy, 2015)
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from scalargrad import kernels
from scalargrad.kernels import add, mul, normalize_by_grads, normalize_grads
from scalargrad.kernels.moments import n_entries, over, spread_shape, viewed_shape
from scalargrad.kernels.moments import statistics as statistics
from scalargrad.kernels.plain_norm import B
from scalargrad.operation import Op, in_numpy
from scalargrad.ops.arguments import array, floating
from scalargrad.ops.shape import shaping

Dims = tuple[int, ...]
Pair = tuple[int, int]
SECOND = (1, 2)  # the axis of the channels in images and features


def averaged(x: Any, dims: Dims) -> Any:
    """The mean over `dims`, which stay; of an array or a Tensor."""
    shape = tuple(1 if d in dims else n for d, n in enumerate(x.shape))
    return shaping.sum_to_size(x, shape) * (1 / n_entries(x.shape, dims))


@in_numpy
def _standardize_grad(d: Any, x: Any, mean: Any, rate: Any, dims: Dims) -> Any:
    h = x - mean
    h *= rate
    d_mean, dh_mean = averaged(d, dims), averaged(d * h, dims)
    h *= -dh_mean
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


def _viewed(x: Any, channels: Pair, groups: int) -> Any:
    return shaping.view(x, viewed_shape(x.shape, channels, groups)) if groups else x


def _x_grad(g: Any, x: Any, w: Any, mean: Any, rate: Any, channels: Pair, groups: int) -> Any:
    d = _viewed(g, channels, groups)
    if w is not None:
        d = d * w.reshape(spread_shape(x.shape, channels, groups))
    dims = over(len(x.shape), channels, groups)
    x_grad = normalizing.standardize_grad(d, _viewed(x, channels, groups), mean, rate, dims)
    return shaping.view(x_grad, tuple(x.shape)) if groups else x_grad


def _w_grad(g: Any, x: Any, mean: Any, rate: Any, channels: Pair, groups: int) -> Any:
    h = normalizing.standardize(_viewed(x, channels, groups), mean, rate, over(len(x.shape), channels, groups))
    return _by_channel(g * (shaping.view(h, tuple(x.shape)) if groups else h), channels)


def _x_grad_by(g: Any, w: Any, rate: Any, channels: Pair) -> Any:
    return g * (rate if w is None else w.reshape(spread_shape(g.shape, channels, 0)) * rate)


def _by_channel(g: Any, channels: Pair) -> Any:
    """The sum over all axes but the channels."""
    first, last = channels
    shape = tuple(g.shape[first:last])
    return shaping.view(shaping.sum_to_size(g, (*(1,) * first, *shape, *(1,) * (len(g.shape) - last))), shape)


def _gradients(g: Any, x: Any, w: Any, mean: Any, rate: Any, channels: Pair, groups: int, wanted: int) -> Sequence[Any]:
    if wanted == B:
        return [_by_channel(g, channels)]
    return normalize_grads(g, x, w, mean, rate, channels, groups, wanted)


def _gradients_by(g: Any, x: Any, w: Any, mean: Any, rate: Any, channels: Pair, wanted: int) -> Sequence[Any]:
    if wanted == B:
        return [_by_channel(g, channels)]
    return normalize_by_grads(g, x, w, mean, rate, channels, wanted)


def _normalization(name: str) -> Op:
    """A row: x normalised, times w, plus b. What `channels` and `groups` say stands in kernels/moments.py."""
    return Op(
        None,
        kernels.normalize,
        "x w b channels groups eps",
        _x_grad,
        _w_grad,
        _by_channel,
        gradients=_gradients,
        results="y mean variance rate",
        name=name,
    )


class normalizing:
    """The rows. `mean` and `rate`, where they are inputs, are what `statistics` found for x: caches, not operands."""

    standardize = Op(
        None,
        in_numpy(lambda x, mean, rate, dims: (x - mean) * rate),
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
        kernels.normalize_by,
        "x w b running_mean running_var channels eps",
        _x_grad_by,
        lambda g, x, mean, rate, channels: _by_channel(g * ((x - mean) * rate), channels),
        _by_channel,
        gradients=_gradients_by,
        results="y mean rate",
        name="native_batch_norm",
    )


def _reciprocal_grad(g: Any, x: Any, mean: Any, rate: Any, dims: Dims) -> Any:
    h = normalizing.standardize(x, mean, rate, dims)
    r = normalizing.deviation_reciprocal(x, mean, rate, dims)
    return -(g * (r * r) * h) * (1 / n_entries(x.shape, dims))


def _channels(operation: str, x: np.ndarray[Any, Any]) -> tuple[int]:
    """The shape (C) of what there is one of for each channel."""
    if x.ndim < 2:
        raise RuntimeError(f"{operation}(): expected an input of at least 2 dimensions, got shape {x.shape}")
    return (x.shape[1],)


def _check(operation: str, x: np.ndarray[Any, Any], shape: tuple[int, ...], **others: Any) -> None:
    """Refuses others that differ from `shape` or from the dtype of x."""
    for name, other in others.items():
        if other is None:
            continue
        a = array(operation, other, name)
        if a.shape != shape:
            raise RuntimeError(f"{operation}(): expected {name} of shape {shape}, got {a.shape} (input {x.shape})")
        if a.dtype is not x.dtype and a.dtype != x.dtype:
            raise RuntimeError(f"{operation}(): expected {name} to have the input's dtype {x.dtype}, got {a.dtype}")


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
    x = floating("batch_norm", input)
    shape = _channels("batch_norm", x)
    _check("batch_norm", x, shape, running_mean=running_mean, running_var=running_var, weight=weight, bias=bias)
    if not training:
        if running_mean is None or running_var is None:
            raise RuntimeError("batch_norm(): Expected running_mean and running_var to be defined in evaluation mode")
        # The node keeps copies: the running mean may move before the backward pass.
        constants = running_mean.array, running_var.array
        return normalizing.batch_norm_by_constants.of((input, weight, bias, *constants, SECOND, eps))[0]
    n = x.size // max(shape[0], 1)
    if n == 1:
        raise ValueError(f"Expected more than 1 value per channel when training, got input size {input.shape}")
    y, mean, variance, _ = normalizing.batch_norm.of((input, weight, bias, SECOND, 0, eps))
    if n and running_mean is not None:
        _move(running_mean, mean, momentum)
    if n and running_var is not None:
        _move(running_var, mul(variance, n / (n - 1)), momentum)
    return y


def _move(running: Any, batch: Any, momentum: float) -> None:
    """Moves a running statistic towards this batch's, in place."""
    values = running.array
    values[...] = add(mul(values, 1 - momentum), mul(batch.reshape(values.shape), momentum))
    running.stamp()


def layer_norm(
    input: Any, normalized_shape: Sequence[int], weight: Any = None, bias: Any = None, eps: float = 1e-5
) -> Any:
    """(x − mean) / √(variance + eps) · weight + bias over the last dimensions (Ba, Kiros and Hinton, 2016).

    Shapes: input (…, *normalized_shape) → the same; weight and bias normalized_shape. The variance is the biased one.
    Raises RuntimeError if sizes or dtypes do not fit.
    """
    if type(normalized_shape) is not tuple and not isinstance(normalized_shape, Sequence):
        raise TypeError(
            f"layer_norm(): argument 'normalized_shape' must be tuple of ints, not {type(normalized_shape).__name__}"
        )
    shape = tuple(normalized_shape)
    x = floating("layer_norm", input)
    _check("layer_norm", x, shape, weight=weight, bias=bias)
    first = x.ndim - len(shape)
    if not shape or first < 0 or x.shape[first:] != shape:
        raise RuntimeError(
            f"layer_norm(): Given normalized_shape={list(shape)}, expected input with shape "
            f"{['*', *shape]}, but got input of size {list(input.shape)}"
        )
    return normalizing.layer_norm.of((input, weight, bias, (first, x.ndim), 1, eps))[0]


def group_norm(input: Any, num_groups: int, weight: Any = None, bias: Any = None, eps: float = 1e-5) -> Any:
    """(x − mean) / √(variance + eps) · weight + bias, where each sample's channels are normalised in groups.

    Shapes: input (N, C, …) → the same; weight and bias (C). The variance is the biased one (Wu and He, 2018).
    Raises RuntimeError if the groups do not divide the channels, or sizes or dtypes do not fit, and ValueError if there
    is one number in a group, of all samples together.
    """
    x = floating("group_norm", input)
    shape = _channels("group_norm", x)
    _check("group_norm", x, shape, weight=weight, bias=bias)
    if num_groups < 1 or shape[0] % num_groups:
        raise RuntimeError(
            f"group_norm(): Expected number of channels in input to be divisible by num_groups, but got input of shape "
            f"{x.shape} and num_groups={num_groups}"
        )
    if x.size == num_groups:
        raise ValueError(f"Expected more than 1 value per channel when training, got input size {input.shape}")
    return normalizing.group_norm.of((input, weight, bias, SECOND, num_groups, eps))[0]
