"""Losses of numbers against numbers: squares, absolute values, and cross entropies of probabilities.

Those against class labels are in `classification`. Input and target must have one shape: what would broadcast is a
mistake far more often than a wish, and is refused where PyTorch may only warn.
"""

from __future__ import annotations

from collections.abc import Callable
from math import prod
from typing import Any

import numpy as np

from scalargrad import dtypes, kernels
from scalargrad.operation import Op
from scalargrad.ops.activation import activating
from scalargrad.ops.arguments import array, check_reduction
from scalargrad.ops.elementwise import elementwise
from scalargrad.ops.shape import shaping
from scalargrad.rules import ops


def reduced(losses: Any, reduction: str) -> Any:
    """An array of losses as it is ("none"), its "sum", or its "mean", which is nan if there are none."""
    if reduction == "none":
        return losses
    return (kernels.sum_over if reduction == "sum" else kernels.mean_over)(losses, None, False)


def shared(g: Any, reduction: str, shape: tuple[int, ...], weight: Any = None) -> Any:
    """What each loss gets of the gradient of the `reduced` losses, times the loss's weight if it has one."""
    share = ops.div(g, prod(shape)) if reduction == "mean" else g
    return share if weight is None else ops.mul(share, weight)


def weighted(losses: Any, weight: Any) -> Any:
    """losses · weight, if there is one."""
    return losses if weight is None else ops.mul(losses, weight)


def _square(d: Any) -> Any:
    return kernels.mul(d, d)


def _huber(d: Any, delta: float) -> Any:
    """d² / 2 up to |d| = delta, and from there on a straight line."""
    a = kernels.absolute(d)
    near = kernels.minimum(a, delta)
    return kernels.mul(near, kernels.sub(a, kernels.mul(near, 0.5)))


def _log(p: Any) -> Any:
    """log p, but never below −100, as PyTorch has it in `binary_cross_entropy`. Its derivatives are not this one's."""
    return elementwise.clamp(ops.log(p), -100.0, None)


def _cross_entropies(x: Any, t: Any, weight: Any, reduction: str) -> Any:
    if x.size and not (_item(kernels.min_over, x) >= 0 and _item(kernels.max_over, x) <= 1):
        raise RuntimeError("binary_cross_entropy(): all elements of input should be between 0 and 1")
    of_others = kernels.mul(kernels.sub(t, 1), _log(kernels.sub(1, x)))
    return reduced(weighted(kernels.sub(of_others, kernels.mul(t, _log(x))), weight), reduction)


def _item(reduce: Callable[..., Any], x: Any) -> Any:
    """What all entries reduce to, as a number."""
    return reduce(x, None, False).item()


def _logit_cross_entropies(x: Any, t: Any, weight: Any, pos_weight: Any, reduction: str) -> Any:
    softplus = kernels.neg(kernels.log_sigmoid(x))  # log(1 + exp(−x))
    if pos_weight is not None:
        softplus = kernels.mul(softplus, kernels.add(kernels.mul(kernels.sub(pos_weight, 1), t), 1))
    return reduced(weighted(kernels.add(kernels.mul(kernels.sub(1, t), x), softplus), weight), reduction)


def _logit_slope(x: Any, t: Any, pos_weight: Any) -> Any:
    """(1 − t)·σ(x) − pos_weight·t·σ(−x): neither term cancels where the sigmoid saturates."""
    return (1 - t) * ops.sigmoid(x) - weighted(t * ops.sigmoid(-x), pos_weight)


def _logit_target_slope(x: Any, pos_weight: Any) -> Any:
    return -x if pos_weight is None else -x - (pos_weight - 1) * activating.log_sigmoid(x)


def _divergences(x: Any, t: Any, log_target: bool, reduction: str) -> Any:
    if log_target:
        return reduced(kernels.mul(kernels.exp(t), kernels.sub(t, x)), reduction)
    own = kernels.select(kernels.ne(t, 0), kernels.mul(t, kernels.log(t)))
    return reduced(kernels.sub(own, kernels.mul(t, x)), reduction)


class losing:
    """The rows: x the input, t the target. Each reduces its losses; `shared` is the gradient's way back."""

    mse_loss = Op(
        None,
        lambda x, t, reduction: reduced(_square(kernels.sub(x, t)), reduction),
        "x t reduction",
        lambda g, x, t, x_shape, reduction: shared(g, reduction, x_shape, 2) * (x - t),
        lambda g, x, t, x_shape, reduction: shared(g, reduction, x_shape, 2) * (t - x),
    )
    l1_loss = Op(
        None,
        lambda x, t, reduction: reduced(kernels.absolute(kernels.sub(x, t)), reduction),
        "x t reduction",
        lambda g, x, t, x_shape, reduction: shared(g, reduction, x_shape) * ops.sign(x - t),
        lambda g, x, t, x_shape, reduction: shared(g, reduction, x_shape) * ops.sign(t - x),
        kinks=lambda x, t, reduction: x - t,
    )
    huber_loss = Op(
        None,
        lambda x, t, delta, reduction: reduced(_huber(kernels.sub(x, t), delta), reduction),
        "x t delta reduction",
        lambda g, x, t, x_shape, delta, reduction: (
            shared(g, reduction, x_shape) * elementwise.clamp(x - t, -delta, delta)
        ),
        lambda g, x, t, x_shape, delta, reduction: (
            shared(g, reduction, x_shape) * elementwise.clamp(t - x, -delta, delta)
        ),
        kinks=lambda x, t, delta, reduction: np.abs(x - t) - delta,
    )
    smooth_l1_loss = Op(
        None,
        lambda x, t, beta, reduction: reduced(kernels.div(_huber(kernels.sub(x, t), beta), beta), reduction),
        "x t beta reduction",
        lambda g, x, t, x_shape, beta, reduction: (
            shared(g, reduction, x_shape) * elementwise.clamp(ops.div(x - t, beta), -1.0, 1.0)
        ),
        lambda g, x, t, x_shape, beta, reduction: (
            shared(g, reduction, x_shape) * elementwise.clamp(ops.div(t - x, beta), -1.0, 1.0)
        ),
        kinks=lambda x, t, beta, reduction: np.abs(x - t) - beta,
    )
    binary_cross_entropy = Op(
        None,
        _cross_entropies,
        "x t weight reduction",
        lambda g, x, t, x_shape, weight, reduction: (
            shared(g, reduction, x_shape, weight) * ((x - t) / elementwise.clamp((1 - x) * x, 1e-12, None))
        ),
        lambda g, x, x_shape, weight, reduction: shared(g, reduction, x_shape, weight) * (_log(1 - x) - _log(x)),
        domain={"x": (0.0, 1.0)},
    )
    binary_cross_entropy_with_logits = Op(
        None,
        _logit_cross_entropies,
        "x t weight pos_weight reduction",
        lambda g, x, t, x_shape, weight, pos_weight, reduction: (
            shared(g, reduction, x_shape, weight) * _logit_slope(x, t, pos_weight)
        ),
        lambda g, x, x_shape, weight, pos_weight, reduction: (
            shared(g, reduction, x_shape, weight) * _logit_target_slope(x, pos_weight)
        ),
    )
    kl_div = Op(
        None,
        _divergences,
        "x t log_target reduction",
        lambda g, t, x_shape, log_target, reduction: shared(g, reduction, x_shape) * -(ops.exp(t) if log_target else t),
        lambda g, x, t, x_shape, log_target, reduction: (
            shared(g, reduction, x_shape) * (ops.exp(t) * (t - x + 1) if log_target else ops.log(t) - x + 1)
        ),
    )


def _alike(operation: str, input: Any, target: Any, reduction: str, error: type[Exception] = RuntimeError) -> Any:
    """Input and target as floats of one dtype, after refusing two shapes, even such as would broadcast."""
    x, t = array(operation, input), array(operation, target, "target")
    if x.shape != t.shape:
        raise error(f"{operation}(): expected input and target of the same shape, got {x.shape} and {t.shape}")
    check_reduction(reduction)
    if x.dtype is not t.dtype or x.dtype.kind != "f":
        dtype = dtypes.result_type([x, t])
        if dtype.kind != "f":
            raise RuntimeError(f"{operation}(): expected floating point tensors, got {x.dtype} and {t.dtype}")
        input, target = (y if y.dtype == dtype else shaping.cast(y, dtype) for y in (input, target))
    return input, target


def _check_weight(operation: str, name: str, weight: Any, input: Any) -> Any:
    """The weight in the input's dtype. Raises RuntimeError if it does not broadcast to the input's shape."""
    if weight is None:
        return None
    try:
        fits = np.broadcast_shapes(tuple(weight.shape), tuple(input.shape)) == tuple(input.shape)
    except ValueError:
        fits = False
    if not fits:
        raise RuntimeError(
            f"{operation}(): expected {name} to broadcast to the input's shape {tuple(input.shape)}, "
            f"got {tuple(weight.shape)}"
        )
    return weight if weight.dtype == input.dtype else shaping.cast(weight, input.dtype)


def mse_loss(input: Any, target: Any, *, reduction: str = "mean") -> Any:
    """(input − target)²: each, their sum, or their mean.

    Raises RuntimeError if the shapes differ (PyTorch broadcasts, with a warning), ValueError for another reduction.
    """
    return losing.mse_loss(*_alike("mse_loss", input, target, reduction), reduction)


def l1_loss(input: Any, target: Any, *, reduction: str = "mean") -> Any:
    """|input − target|: each, their sum, or their mean. Where they are equal the derivative is 0.

    Raises RuntimeError if the shapes differ (PyTorch broadcasts, with a warning), ValueError for another reduction.
    """
    return losing.l1_loss(*_alike("l1_loss", input, target, reduction), reduction)


def smooth_l1_loss(input: Any, target: Any, *, reduction: str = "mean", beta: float = 1.0) -> Any:
    """d² / 2·beta where d = |input − target| is below `beta`, d − beta / 2 from there on (Girshick, 2015).

    Raises RuntimeError if the shapes differ (PyTorch broadcasts, with a warning) or for a negative `beta`, ValueError
    for another reduction.
    """
    input, target = _alike("smooth_l1_loss", input, target, reduction)
    if beta < 0:
        raise RuntimeError(f"smooth_l1_loss does not support negative values for beta, got {beta}")
    if beta == 0:
        return losing.l1_loss(input, target, reduction)
    return losing.smooth_l1_loss(input, target, float(beta), reduction)


def huber_loss(input: Any, target: Any, reduction: str = "mean", delta: float = 1.0) -> Any:
    """d² / 2 where d = |input − target| is below `delta`, delta · (d − delta / 2) from there on (Huber, 1964).

    Raises RuntimeError if the shapes differ (PyTorch broadcasts, with a warning) or unless `delta` is positive,
    ValueError for another reduction.
    """
    input, target = _alike("huber_loss", input, target, reduction)
    if delta <= 0:
        raise RuntimeError(f"huber_loss does not support non-positive values for delta, got {delta}")
    return losing.huber_loss(input, target, float(delta), reduction)


def binary_cross_entropy(input: Any, target: Any, weight: Any = None, *, reduction: str = "mean") -> Any:
    """−weight · (target · log(input) + (1 − target) · log(1 − input)): each, their sum, or their mean.

    A logarithm is never below −100, and the derivative's divisor input · (1 − input) never below 10⁻¹², as in PyTorch.
    Raises RuntimeError for an input outside [0, 1], ValueError if the shapes differ or for another reduction.
    """
    input, target = _alike("binary_cross_entropy", input, target, reduction, ValueError)
    weight = _check_weight("binary_cross_entropy", "weight", weight, input)
    return losing.binary_cross_entropy(input, target, weight, reduction)


def binary_cross_entropy_with_logits(
    input: Any, target: Any, weight: Any = None, *, reduction: str = "mean", pos_weight: Any = None
) -> Any:
    """`binary_cross_entropy` of σ(input), for an input of any size; `pos_weight` multiplies target · log σ(input).

    `weight` and `pos_weight` broadcast to the input's shape.
    Raises ValueError if input and target differ in shape or for another reduction, RuntimeError for other weights.
    """
    operation = "binary_cross_entropy_with_logits"
    input, target = _alike(operation, input, target, reduction, ValueError)
    weight = _check_weight(operation, "weight", weight, input)
    pos_weight = _check_weight(operation, "pos_weight", pos_weight, input)
    return losing.binary_cross_entropy_with_logits(input, target, weight, pos_weight, reduction)


def kl_div(input: Any, target: Any, *, reduction: str = "mean", log_target: bool = False) -> Any:
    """target · (log(target) − input), for an input of log-probabilities; with `log_target` the target is such, too.

    "batchmean" is the sum over the number of samples, which is the divergence; "mean" is over all entries.
    Raises RuntimeError if the shapes differ (PyTorch broadcasts), ValueError for another reduction.
    """
    per_sample = reduction == "batchmean"
    input, target = _alike("kl_div", input, target, "sum" if per_sample else reduction)
    y = losing.kl_div(input, target, log_target, "sum" if per_sample else reduction)
    return ops.div(y, input.shape[0]) if per_sample else y
