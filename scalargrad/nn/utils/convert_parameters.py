"""All parameters as one vector, and back."""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np

from scalargrad.ops.joining import cat
from scalargrad.ops.shape import reshape
from scalargrad.tensor import Tensor


def parameters_to_vector(parameters: Iterable[Tensor]) -> Tensor:
    """The entries of all parameters in one vector, through which gradients flow."""
    vector: Tensor = cat([reshape(p, -1) for p in parameters])
    return vector


def vector_to_parameters(vec: Tensor, parameters: Iterable[Tensor]) -> None:
    """Copy the entries of a vector into the parameters, in order.

    Raises RuntimeError unless there are exactly as many.
    """
    if not isinstance(vec, Tensor):
        raise TypeError(f"expected torch.Tensor, but got: {type(vec).__name__}")
    parameters = list(parameters)
    n = sum(p.numel() for p in parameters)
    if vec.shape != (n,):
        raise RuntimeError(f"vector_to_parameters(): expected a vector of shape [{n}], got {list(vec.shape)}")
    start = 0
    for p in parameters:
        end = start + p.numel()
        np.copyto(p.array, vec.array[start:end].reshape(p.shape), casting="same_kind")
        p.stamp()
        start = end
