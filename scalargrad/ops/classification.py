"""Losses against class labels: `nll_loss` of log-probabilities, and `cross_entropy` of scores.

For given labels each loss is linear in the log-probabilities, −Σ k·log_p. The row's derivative spreads the k, and that
one's derivative is the loss again.
"""

from __future__ import annotations

from math import nan, prod
from typing import Any, NamedTuple

import numpy as np

from scalargrad import kernels
from scalargrad.kernels.memory import zeros
from scalargrad.operation import Op
from scalargrad.ops.activation import activating
from scalargrad.ops.activation import total as total_along
from scalargrad.ops.arguments import array, check_reduction, floating
from scalargrad.ops.shape import shaping
from scalargrad.rules import ops


class Labels(NamedTuple):
    """Labels worked out against log-probabilities (N, C, D), D being all dimensions after the classes."""

    shape: tuple[int, ...]  # the labels', which the losses get
    flat: Any  # (N, D): where the target's entry stands in the log-probabilities, flattened; a 0 where ignored
    valid: Any  # (N, D): False where ignored; None if nothing is
    weight: Any  # (N, D): weight of the target's class, 0 where ignored; None if all are 1
    total: Any  # what a mean divides by


def _sizes(shape: tuple[int, ...]) -> tuple[int, int, int]:
    """(N, C, D) of a shape (C), (N, C) or (N, C, …)."""
    n = len(shape)
    return (1, shape[0], 1) if n == 1 else (shape[0], shape[1], 1 if n == 2 else prod(shape[2:]))


def _labels(shape: tuple[int, ...], target: Any, weight: Any, ignore_index: int) -> Labels:
    """The labels `target` against log-probabilities of this shape. Raises IndexError for one that is no class."""
    N, C, D = _sizes(shape)
    classes = target.reshape(N, D).astype(np.int64, copy=False)
    # Seen as unsigned, a negative label is a huge one: one comparison finds both kinds of wrong ones.
    seen = classes.view(np.uint64)
    clean = not classes.size or (seen.item(seen.argmax()) < C and not 0 <= ignore_index < C)
    valid: Any = None
    if not clean:
        valid = classes != ignore_index
        wrong = valid & ((classes < 0) | (classes >= C))
        if wrong.any():
            raise IndexError(f"Target {classes[wrong][0]} is out of bounds.")
        classes = np.where(valid, classes, 0)
    by_class: Any = None
    if weight is None:
        total = classes.size if clean else int(np.count_nonzero(valid))  # a NumPy integer would widen float32
    else:
        by_class = weight[classes] if clean else np.where(valid, weight[classes], weight.dtype.type(0))
        total = kernels.sum_over(by_class, None, False)
    flat = classes + np.arange(0, N * C, C)[:, None] if N > 1 else classes
    if D != 1:
        flat = flat * D + np.arange(D)
    return Labels(target.shape, flat, valid, by_class, total)


def _loss(x: Any, labels: Labels, weight: Any, reduction: str, smoothing: float) -> Any:
    losses = x.reshape(-1)[labels.flat] if x.size else np.zeros(labels.flat.shape, x.dtype)
    if labels.weight is not None:
        losses = kernels.mul(labels.weight, losses)
    if smoothing:
        N, C, D = _sizes(x.shape)
        lines = x.reshape(N, C, D)
        even = kernels.sum_over(lines if weight is None else kernels.mul(lines, weight[:, None]), (1,), False)
        losses = kernels.add(kernels.mul(1 - smoothing, losses), kernels.mul(smoothing / C, even))
    if labels.valid is not None:
        losses = np.where(labels.valid, losses, x.dtype.type(0))
    if reduction == "none":
        return -losses.reshape(labels.shape)
    total = kernels.neg(kernels.sum_over(losses, None, False))
    if reduction == "sum":
        return total
    return kernels.div(total, labels.total) if labels.total else x.dtype.type(nan)


def _loss_grad(d: Any, labels: Labels, weight: Any, reduction: str, smoothing: float, shape: tuple[int, ...]) -> Any:
    """The gradient for the log-probabilities from that of the loss: −d·k, where k are the loss's factors."""
    factors = kernels.neg(d.reshape(labels.flat.shape) if reduction == "none" else d)
    if reduction == "mean":
        factors = kernels.div(factors, labels.total)
    x_grad = zeros(shape, d.dtype)
    if smoothing:
        N, C, D = _sizes(shape)
        even = np.broadcast_to(kernels.mul(factors, smoothing / C), (N, D))[:, None]
        x_grad.reshape(N, C, D)[...] = even if weight is None else kernels.mul(even, weight[:, None])
        factors = kernels.mul(factors, 1 - smoothing)
    if labels.weight is not None:
        factors = kernels.mul(factors, labels.weight)
    if x_grad.size:
        if smoothing:
            x_grad.reshape(-1)[labels.flat] = kernels.add(x_grad.reshape(-1)[labels.flat], factors)  # none twice
        else:
            x_grad.reshape(-1)[labels.flat] = factors
    if labels.valid is not None:
        N, C, D = _sizes(shape)
        np.copyto(x_grad.reshape(N, C, D), 0, where=~labels.valid[:, None])
    return x_grad


def _of_scores(
    d: Any,
    x: Any,
    log_p: Any,
    target: Any,
    weight: Any,
    ignore_index: int,
    reduction: str,
    smoothing: float,
    total: Any,
) -> Any:
    """The gradient for scores x, of which `log_p` is the log_softmax."""
    return kernels.cross_entropy_grad(d, log_p, target, weight, ignore_index, reduction, smoothing, total)


def _cross_entropy(x: Any, target: Any, weight: Any, ignore_index: int, reduction: str, smoothing: float) -> Any:
    y, log_p, total = kernels.cross_entropy(x, target, weight, ignore_index, reduction, smoothing)
    return y, log_p, target, weight, total  # as arrays, also where a derivative is recorded


def _from_loss(d: Any, x: Any, target: Any, weight: Any, ignore_index: int, reduction: str, smoothing: float) -> Any:
    """What the scores' log_softmax gets of the gradient of the loss, and their softmax."""
    labels = _labels(x.shape, target, weight, ignore_index)
    return classifying.nll_loss_grad(d, labels, weight, reduction, smoothing, x.shape), activating.softmax(x, 1)


def _of_scores_back(
    g: Any, x: Any, target: Any, weight: Any, ignore_index: int, reduction: str, smoothing: float
) -> Any:
    """The derivative of `_of_scores` for d: it is linear in d, and this is the loss of what log_softmax makes of g."""
    labels = _labels(x.shape, target, weight, ignore_index)
    tangent = g - total_along(g * activating.softmax(x, 1), 1)
    return classifying.nll_loss_of_labels(tangent, labels, weight, reduction, smoothing)


def _of_scores_slope(g: Any, d: Any, x: Any, *labelling: Any) -> Any:
    """The derivative of ⟨g, v − p·Σ v⟩ for x, where p is softmax(x), and v is what log_p gets of d, whatever x is."""
    v, p = _from_loss(d, x, *labelling)
    return -(total_along(v, 1) * activating.softmax_grad(g, p, 1))


def _nll_loss(x: Any, target: Any, weight: Any, ignore_index: int, reduction: str, smoothing: float) -> Any:
    labels = _labels(x.shape, target, weight, ignore_index)
    return _loss(x, labels, weight, reduction, smoothing), labels


class classifying:
    """The rows. Those below the first have the labels worked out already.

    `cross_entropy` is `nll_loss` after log_softmax, at once. `log_p`, `classes`, `weights` and `total`, where they are
    inputs, are its other results: caches, not operands.
    """

    cross_entropy = Op(
        None,
        _cross_entropy,
        "x target weight ignore_index reduction smoothing",
        lambda g, x, log_p, classes, weights, ignore_index, reduction, smoothing, total: classifying.cross_entropy_grad(
            g, x, log_p, classes, weights, ignore_index, reduction, smoothing, total
        ),
        results="y log_p classes weights total",
        name="nll_loss",
    )
    cross_entropy_grad: Op = Op(
        None,
        _of_scores,
        "d x log_p classes weights ignore_index reduction smoothing total",
        lambda g, x, classes, weights, ignore_index, reduction, smoothing: _of_scores_back(
            g, x, classes, weights, ignore_index, reduction, smoothing
        ),
        lambda g, d, x, classes, weights, ignore_index, reduction, smoothing: _of_scores_slope(
            g, d, x, classes, weights, ignore_index, reduction, smoothing
        ),
        name="nll_loss_backward",
    )

    nll_loss = Op(
        None,
        _nll_loss,
        "x target weight ignore_index reduction smoothing",
        lambda g, labels, weight, reduction, smoothing, x_shape: classifying.nll_loss_grad(
            g, labels, weight, reduction, smoothing, x_shape
        ),
        results="y labels",
    )
    nll_loss_grad: Op = Op(
        None,
        _loss_grad,
        "d labels weight reduction smoothing shape",
        lambda g, labels, weight, reduction, smoothing: classifying.nll_loss_of_labels(
            g, labels, weight, reduction, smoothing
        ),
        name="nll_loss_backward",
    )
    nll_loss_of_labels: Op = Op(
        None,
        _loss,
        "x labels weight reduction smoothing",
        lambda g, labels, weight, reduction, smoothing, x_shape: classifying.nll_loss_grad(
            g, labels, weight, reduction, smoothing, x_shape
        ),
        name="nll_loss",
    )


def _check(operation: str, input: Any, target: Any, weight: Any, reduction: str) -> Any:
    """The weight in the input's dtype, after refusing shapes and dtypes that do not fit."""
    x, t = floating(operation, input), array(operation, target, "target")
    check_reduction(reduction)
    shape = x.shape
    if not shape:
        raise ValueError(f"{operation}(): expected an input of shape (C), (N, C) or (N, C, …), got ()")
    if t.dtype.kind != "f" and t.shape != shape[:1] + shape[2:] and not (len(shape) == 1 and not t.shape):
        if len(shape) > 1 and t.ndim == len(shape) - 1 and t.shape[:1] != shape[:1]:
            raise ValueError(f"Expected input batch_size ({shape[0]}) to match target batch_size ({t.shape[0]}).")
        raise RuntimeError(
            f"{operation}(): expected a target of shape {shape[:1] + shape[2:] if len(shape) > 1 else ()} for an input "
            f"of shape {shape}, got {t.shape}"
        )
    C = shape[0] if len(shape) == 1 else shape[1]
    if weight is None:
        return None
    if tuple(weight.shape) != (C,):
        raise RuntimeError(
            f"{operation}(): weight tensor should be defined either for all {C} classes or no classes but got weight "
            f"tensor of shape: {list(weight.shape)}"
        )
    return weight if weight.dtype == x.dtype else shaping.cast(weight, x.dtype)


def nll_loss(input: Any, target: Any, weight: Any = None, *, ignore_index: int = -100, reduction: str = "mean") -> Any:
    """−weight_t · input_t for each sample, t its target class; 0 where t is `ignore_index`.

    The mean divides by the weights of the targets that count, so that it is nan if none does.
    Shapes: input (C), (N, C) or (N, C, …), of log-probabilities; target the same without C, of integers; weight (C).
    Raises IndexError for a target outside 0 … C − 1, RuntimeError or ValueError if shapes or dtypes do not fit.
    """
    weight = _check("nll_loss", input, target, weight, reduction)
    if target.dtype.kind not in "iu":
        raise RuntimeError(f"nll_loss(): expected a target of integers, got {target.dtype}")
    return classifying.nll_loss(input, target, weight, ignore_index, reduction, 0.0)[0]


def cross_entropy(
    input: Any,
    target: Any,
    weight: Any = None,
    *,
    ignore_index: int = -100,
    reduction: str = "mean",
    label_smoothing: float = 0.0,
) -> Any:
    """−Σ_c weight_c · p_c · log_softmax(input)_c for each sample, where p is what the target says.

    A target class t says p_t = 1, and `ignore_index` no loss; a target of floats, of the input's shape, holds p itself.
    `label_smoothing` takes that part of p and spreads it evenly. The mean divides by the weights of the target classes,
    or by the number of samples where the target is p.
    Shapes: input (C), (N, C) or (N, C, …), any numbers; target the same without C, or with it; weight (C).
    Raises IndexError for a target outside 0 … C − 1, RuntimeError or ValueError if shapes or dtypes do not fit.
    """
    weight = _check("cross_entropy", input, target, weight, reduction)
    if not 0.0 <= label_smoothing <= 1.0:
        raise RuntimeError(f"label_smoothing must be between 0.0 and 1.0. Got: {label_smoothing}")
    dim = 0 if input.ndim == 1 else 1
    kind = target.dtype.kind
    if kind in "iu":
        if input.ndim == 2:
            return classifying.cross_entropy(input, target, weight, ignore_index, reduction, float(label_smoothing))[0]
        log_p = activating.log_softmax(input, dim)
        return classifying.nll_loss(log_p, target, weight, ignore_index, reduction, label_smoothing)[0]
    if kind != "f" or target.shape != input.shape:
        raise RuntimeError(
            "cross_entropy(): expected a target of integer classes, or of probabilities in the input's shape "
            f"{tuple(input.shape)}, got {target.dtype} of shape {tuple(target.shape)}"
        )
    if ignore_index >= 0:
        raise RuntimeError(f"ignore_index is not supported for floating point target, got {ignore_index}")
    return _of_probabilities(activating.log_softmax(input, dim), target, weight, reduction, label_smoothing, dim)


def _of_probabilities(log_p: Any, p: Any, weight: Any, reduction: str, label_smoothing: float, dim: int) -> Any:
    """The cross entropy of log-probabilities and probabilities, whose gradient both get."""
    N, C, D = _sizes(tuple(log_p.shape))
    if label_smoothing:
        p = ops.add(ops.mul(p, 1 - label_smoothing), label_smoothing / C)
    products = ops.mul(log_p, p)
    if weight is not None:
        products = ops.mul(products, shaping.view(weight, (C, *(1,) * (log_p.ndim - 1 - dim))))
    if reduction == "none":
        return ops.neg(products.sum(dim))
    total = ops.neg(products.sum())
    return ops.div(total, N * D) if reduction == "mean" else total
