"""The optimisers' steps in plain NumPy: lists of arrays, updated in place. Formulas are PyTorch's `torch.optim`."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from itertools import combinations
from typing import Any

import numpy as np

from .geometry import Array, check_dtype, check_dtypes, check_same_shape

IEEE = np.errstate(all="ignore")
GRADS = 1  # their place in a row of a step's arrays


def _entries(op: str, **lists: Sequence[Array | None] | None) -> list[tuple[Any, ...]]:
    """The lists side by side, one tuple a parameter; an absent list is a column of None."""
    length = len(lists["params"] or ())
    columns: list[list[Array | None]] = []
    for name, arrays in lists.items():
        if arrays is None or len(arrays) == 0:
            columns.append([None] * length)
            continue
        if len(arrays) != length:
            raise RuntimeError(f"{op}(): expected {length} arrays in {name}, one a parameter, got {len(arrays)}")
        columns.append(list(arrays))
    rows = list(zip(*columns, strict=True))
    for row in rows:
        named = {name: array for name, array in zip(lists, row, strict=True) if array is not None}
        check_dtypes(op, **named)
        check_same_shape(op, **named)
        for name, array in named.items():
            if name != "grads" and not array.flags.writeable:
                raise RuntimeError(f"{op}(): expected {name} to be writable, got a read-only array")
        for (name, array), (other_name, other) in combinations(named.items(), 2):
            if "grads" not in (name, other_name) and np.may_share_memory(array, other):
                raise RuntimeError(f"{op}(): expected {name} and {other_name} not to share memory")
    return [tuple(_apart(array, row) if i == GRADS else array for i, array in enumerate(row)) for row in rows]


def _apart(grad: Array, row: tuple[Any, ...]) -> Array:
    """A gradient, or a copy of it where it shares memory with what the step writes."""
    written = (array for array in row if array is not None and array is not grad)
    return grad.copy() if any(np.may_share_memory(grad, array) for array in written) else grad


def _each(op: str, name: str, value: Any, length: int) -> list[Any]:
    """One value a parameter: a sequence as it is, anything else for all of them."""
    if not isinstance(value, list | tuple):
        return [value] * length
    if len(value) != length:
        raise RuntimeError(f"{op}(): expected {length} values in {name}, one a parameter, got {len(value)}")
    return list(value)


def _require(op: str, name: str, needed: bool, arrays: Sequence[Any] | None, params: Sequence[Any]) -> None:
    if needed and params and (not arrays or any(a is None for a in arrays)):
        raise RuntimeError(f"{op}(): expected an array in {name} for each parameter, got none")


@IEEE
def sgd_step(
    params: Sequence[Array],
    grads: Sequence[Array],
    momentum_buffers: Sequence[Array | None] | None,
    *,
    lr: float,
    momentum: float,
    dampening: float,
    weight_decay: float,
    nesterov: bool,
    maximize: bool,
    first: bool | Sequence[bool],
) -> None:
    """One step of stochastic gradient descent (PyTorch's SGD).

    d = ±g + weight_decay·p; buffer = d where `first`, else momentum·buffer + (1 − dampening)·d;
    p −= lr·(d + momentum·buffer if nesterov, else buffer). `first` is one flag, or one a parameter.
    """
    op = "sgd_step"
    _require(op, "grads", True, grads, params)
    _require(op, "momentum_buffers", momentum != 0, momentum_buffers, params)
    rows = _entries(op, params=params, grads=grads, momentum_buffers=momentum_buffers if momentum != 0 else None)
    for (p, g, buffer), is_first in zip(rows, _each(op, "first", first, len(params)), strict=True):
        d = -g if maximize else g
        if weight_decay != 0:
            d = d + weight_decay * p
        if momentum != 0:
            if is_first:
                buffer[...] = d
            else:
                buffer *= momentum
                buffer += (1 - dampening) * d
            d = d + momentum * buffer if nesterov else buffer
        p -= lr * d


@IEEE
def adam_step(
    params: Sequence[Array],
    grads: Sequence[Array],
    exp_avgs: Sequence[Array],
    exp_avg_sqs: Sequence[Array],
    max_exp_avg_sqs: Sequence[Array | None] | None,
    *,
    step: int | Sequence[int],
    lr: float,
    beta1: float,
    beta2: float,
    eps: float,
    weight_decay: float,
    amsgrad: bool,
    maximize: bool,
    decoupled: bool,
) -> None:
    """One step of Adam (Kingma & Ba 2015), or of AdamW (Loshchilov & Hutter 2019) with `decoupled` decay.

    m += (1 − β₁)(g − m); v = β₂v + (1 − β₂)g²; p −= lr/(1 − β₁ᵗ) · m / (√v/√(1 − β₂ᵗ) + eps).
    `amsgrad` divides by the largest v so far (Reddi et al. 2018). `step` is t, counted from 1: one number, or one for
    each parameter.
    """
    op = "adam_step"
    for name, arrays in (("grads", grads), ("exp_avgs", exp_avgs), ("exp_avg_sqs", exp_avg_sqs)):
        _require(op, name, True, arrays, params)
    _require(op, "max_exp_avg_sqs", amsgrad, max_exp_avg_sqs, params)
    rows = _entries(
        op,
        params=params,
        grads=grads,
        exp_avgs=exp_avgs,
        exp_avg_sqs=exp_avg_sqs,
        max_exp_avg_sqs=max_exp_avg_sqs if amsgrad else None,
    )
    for (p, g, m, v, v_max), t in zip(rows, _each(op, "step", step, len(params)), strict=True):
        if t < 1:
            raise RuntimeError(f"{op}(): expected step to count from 1, got {t}")
        d = -g if maximize else g
        if weight_decay != 0 and decoupled:
            p *= 1 - lr * weight_decay
        elif weight_decay != 0:
            d = d + weight_decay * p
        m += (1 - beta1) * (d - m)
        v *= beta2
        v += (1 - beta2) * (d * d)
        if amsgrad:
            np.maximum(v_max, v, out=v_max)
        root = np.sqrt(v_max if amsgrad else v)
        p -= lr / (1 - beta1**t) * m / (root / (1 - beta2**t) ** 0.5 + eps)


@IEEE
def rmsprop_step(
    params: Sequence[Array],
    grads: Sequence[Array],
    square_avgs: Sequence[Array],
    grad_avgs: Sequence[Array | None] | None,
    momentum_buffers: Sequence[Array | None] | None,
    *,
    lr: float,
    alpha: float,
    eps: float,
    weight_decay: float,
    momentum: float,
    centered: bool,
    maximize: bool,
) -> None:
    """One step of RMSprop (Hinton's lecture 6e; Graves 2013 where `centered`).

    v = αv + (1 − α)g²; d = g / (√v + eps), or with √(v − ḡ²) where `centered`, ḡ += (1 − α)(g − ḡ);
    p −= lr·d, or with momentum: buffer = momentum·buffer + d, p −= lr·buffer.
    """
    op = "rmsprop_step"
    _require(op, "grads", True, grads, params)
    _require(op, "square_avgs", True, square_avgs, params)
    _require(op, "grad_avgs", centered, grad_avgs, params)
    _require(op, "momentum_buffers", momentum > 0, momentum_buffers, params)
    rows = _entries(
        op,
        params=params,
        grads=grads,
        square_avgs=square_avgs,
        grad_avgs=grad_avgs if centered else None,
        momentum_buffers=momentum_buffers if momentum > 0 else None,
    )
    for p, g, v, mean, buffer in rows:
        d = -g if maximize else g
        if weight_decay != 0:
            d = d + weight_decay * p
        v *= alpha
        v += (1 - alpha) * (d * d)
        if centered:
            mean += (1 - alpha) * (d - mean)
        d = d / (np.sqrt(v - mean * mean if centered else v) + eps)
        if momentum > 0:
            buffer *= momentum
            buffer += d
            d = buffer
        p -= lr * d


def zero_fill(arrays: Iterable[Array]) -> None:
    """Fill each array with zeros."""
    given = list(arrays)
    for array in given:
        check_dtype("zero_fill", "arrays", array, None)
        if not array.flags.writeable:
            raise RuntimeError("zero_fill(): expected arrays to be writable, got a read-only array")
    for array in given:
        array.fill(0)
