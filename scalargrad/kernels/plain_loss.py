"""The cross entropy of scores and class labels, and its gradient, in plain NumPy."""

from __future__ import annotations

import numpy as np

from .geometry import Array, as_array, check_cross_entropy, check_dtypes, check_shape_of_loss
from .plain import log_softmax

IEEE = np.errstate(all="ignore")


def _labels(
    op: str, x: Array, target: Array, weight: Array | None, ignore_index: int, reduction: str
) -> tuple[Array, Array, Array, float]:
    """Targets (N) with a 0 where ignored, whether they count, their weights, and what a mean divides by."""
    check_cross_entropy(op, x, target, weight, reduction)
    target = target.astype(np.int64)
    counts = target != ignore_index
    wrong = counts & ((target < 0) | (target >= x.shape[1]))
    if wrong.any():
        raise IndexError(f"Target {target[wrong][0]} is out of bounds.")
    target = np.where(counts, target, 0)
    ones = np.ones(x.shape[1], x.dtype) if weight is None else weight
    weights = np.where(counts, ones[target], x.dtype.type(0)) if target.size else np.zeros(0, x.dtype)
    return target, counts, weights, float(weights.sum(dtype=np.float64))


@IEEE
def cross_entropy(
    x: Array, target: Array, weight: Array | None, ignore_index: int, reduction: str, smoothing: float
) -> tuple[Array, Array, float]:
    """The loss, log_softmax of the scores, and what a mean divides by: the weights of the targets that count.

    A loss is −(1 − s)·w_t·log p_t − s/C·Σ w_c·log p_c, s being `smoothing`, and 0 where the target t is ignored.
    `reduction` is "none", "sum" or "mean", which is NaN where no target counts.
    Shapes: x (N, C), target (N) of integers, weight (C) → (N) or (), (N, C).
    Raises IndexError for a target that is no class.
    """
    x = as_array("cross_entropy", "input", x)
    target, counts, weights, total = _labels("cross_entropy", x, target, weight, ignore_index, reduction)
    log_p = log_softmax(x, 1)
    losses = -(1 - smoothing) * weights * np.take_along_axis(log_p, target[:, None], 1)[:, 0]
    if smoothing:
        losses -= smoothing / x.shape[1] * (log_p if weight is None else log_p * weight).sum(1) * counts
    losses = np.where(counts, losses, 0).astype(x.dtype)
    if reduction == "none":
        return losses, log_p, total
    summed = losses.sum()
    if reduction == "mean":
        summed = summed / x.dtype.type(total) if total else np.nan
    return np.asarray(summed, x.dtype), log_p, total


@IEEE
def cross_entropy_grad(
    g: Array,
    log_p: Array,
    target: Array,
    weight: Array | None,
    ignore_index: int,
    reduction: str,
    smoothing: float,
    total: float,
) -> Array:
    """What `cross_entropy` sends back to the scores, from the other results that it gave.

    For what a loss gets, k, and S = (1 − s)·w_t + s/C·Σ w: k·(S·p_c − s/C·w_c − (1 − s)·w_t·[c = t]).
    """
    op = "cross_entropy_grad"
    check_dtypes(op, grad=g, log_p=log_p)
    log_p = as_array(op, "log_p", log_p)
    target, counts, weights, _ = _labels(op, log_p, target, weight, ignore_index, reduction)
    N, C = log_p.shape
    check_shape_of_loss(op, g, N if reduction == "none" else None)
    k = np.broadcast_to(g / log_p.dtype.type(total) if reduction == "mean" else g, (N,))
    by_class = np.ones(C, log_p.dtype) if weight is None else weight
    of_target = (1 - smoothing) * weights
    x_grad = (k * (of_target + smoothing / C * by_class.sum()))[:, None] * np.exp(log_p)
    x_grad -= (k * (smoothing / C))[:, None] * by_class
    x_grad[np.arange(N), target] -= k * of_target
    return np.where(counts[:, None], x_grad, 0).astype(log_p.dtype)
