"""Parameter: a Tensor that a Module learns."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import numpy as np

from scalargrad import kernels
from scalargrad.graph import tick
from scalargrad.pending import are_zeros, is_alone, zeros_like
from scalargrad.tensor import Tensor, wrap


class Parameter(Tensor):
    """A tensor of the same memory as `data` that wants a gradient, and that a Module registers when it is assigned.

    Raises RuntimeError for integers, which have no gradient, unless `requires_grad=False`.
    """

    def __init__(self, data: Tensor | None = None, requires_grad: bool = True) -> None:
        if data is None:
            super().__init__()
        elif not isinstance(data, Tensor):
            raise TypeError(f"Parameter(): expected a Tensor, got {type(data).__name__}")
        else:
            self.array, self.edge, self.storage = data.array, None, data.own_storage()
            self._grad, self.base = None, None
        self.requires_grad = requires_grad

    def __deepcopy__(self, memo: dict[int, Any]) -> Parameter:
        """A parameter of its own memory, without the gradient, as in PyTorch."""
        made: Parameter = super().__deepcopy__(memo)
        made.grad = None
        return made

    def __repr__(self) -> str:
        return f"Parameter containing:\n{super().__repr__()}"


def zero_gradients(parameters: Iterable[Tensor], set_to_none: bool) -> None:
    """Fill the existing gradients with zeros, or drop them with `set_to_none`.

    A gradient with a graph of its own (`create_graph`) is left as it is, for that graph may need it: zeros replace it.
    """
    filled, now = [], tick()
    for p in parameters:
        grad = p._grad
        if grad is None or (are_zeros(grad._array) and not set_to_none):
            continue
        if set_to_none:
            p._grad = None
        elif grad.edge is not None:
            p._grad = wrap(np.zeros_like(grad.array))
        elif is_alone(grad):  # zeros that the next gradient replaces: it saves LeNet 25 µs a step to write none
            grad._array = zeros_like(grad._array)
            grad.stamp(now)
        else:
            filled.append(grad)
    if filled:
        kernels.zero_fill([grad.array for grad in filled])
        stamp(filled)


def with_gradients(parameters: Iterable[Tensor]) -> tuple[list[Tensor], list[Any], list[Any]]:
    """Those of the parameters that have gradients, and the arrays of both."""
    params, arrays, grads = [], [], []
    for p in parameters:
        grad = p._grad
        if grad is not None:
            params.append(p)
            arrays.append(p.elements())
            grads.append(grad.elements())
    return params, arrays, grads


def stamp(tensors: Iterable[Tensor]) -> None:
    """Note that the memory of each has been written to."""
    now = tick()
    for t in tensors:
        t.stamp(now)
