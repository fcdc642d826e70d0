"""Keeping gradients small."""

from __future__ import annotations

import math
from collections.abc import Iterable

import numpy as np

from scalargrad.tensor import Tensor, wrap


def _gradients(parameters: Tensor | Iterable[Tensor]) -> list[Tensor]:
    parameters = [parameters] if isinstance(parameters, Tensor) else parameters
    return [p.grad for p in parameters if p.grad is not None]


def clip_grad_norm_(
    parameters: Tensor | Iterable[Tensor], max_norm: float, norm_type: float = 2.0, error_if_nonfinite: bool = False
) -> Tensor:
    """Scale the gradients, in place, so that their norm as one vector is at most `max_norm`; the norm before that.

    The factor is max_norm / (norm + 1e-6), at most 1; the `norm_type` inf stands for the largest entry.
    Raises RuntimeError for a norm that is not finite, with `error_if_nonfinite`.
    """
    grads = _gradients(parameters)
    order = float(norm_type)
    with np.errstate(all="ignore"):
        norms = [np.linalg.norm(g.array.ravel(), order) for g in grads]
        norm = np.linalg.norm(np.array(norms), order) if norms else np.float32(0)
        if error_if_nonfinite and not math.isfinite(norm):
            raise RuntimeError(
                f"The total norm of order {order} for gradients from `parameters` is non-finite, so it cannot be "
                "clipped. To disable this error and scale the gradients by the non-finite norm anyway, set "
                "`error_if_nonfinite=False`"
            )
        factor = max_norm / (norm + 1e-6)
        for g in grads:
            if not factor >= 1:  # nan scales too, and shows
                g.array *= g.dtype.type(factor)
                g.stamp()
    return wrap(np.asarray(norm, grads[0].dtype if grads else np.float32))


def clip_grad_value_(parameters: Tensor | Iterable[Tensor], clip_value: float) -> None:
    """Clip each entry of the gradients to ±clip_value, in place."""
    bound = float(clip_value)
    for g in _gradients(parameters):
        np.clip(g.array, -bound, bound, out=g.array)
        g.stamp()
