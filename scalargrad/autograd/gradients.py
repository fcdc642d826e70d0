"""`backward` and `grad`, for Tensors and for Values."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from scalargrad import tensor as _tensor
from scalargrad.graph import Outputs, sweep
from scalargrad.tensor import Tensor, gradients, wrap
from scalargrad.value import Value, watch


def _several(x: Any) -> list[Any]:
    return list(x) if isinstance(x, (list, tuple)) else [x]


def _seeds(given: Any, outputs: list[Any]) -> list[Any]:
    seeds = [None] * len(outputs) if given is None else _several(given)
    if len(seeds) != len(outputs):
        raise RuntimeError(f"got {len(outputs)} tensors and {len(seeds)} gradients")
    return seeds


def backward(
    tensors: Tensor | Sequence[Tensor],
    grad_tensors: Any = None,
    retain_graph: bool | None = None,
    create_graph: bool = False,
    inputs: Any = None,
) -> None:
    """`Tensor.backward` for several tensors in one sweep."""
    outputs = _several(tensors)
    _tensor.backpropagate(outputs, _seeds(grad_tensors, outputs), retain_graph, create_graph, inputs)


def grad(
    outputs: Any,
    inputs: Any,
    grad_outputs: Any = None,
    retain_graph: bool | None = None,
    create_graph: bool = False,
    allow_unused: bool | None = None,
    materialize_grads: bool = False,
) -> tuple[Any, ...]:
    """The gradients of `outputs` (their sum, weighted by `grad_outputs`) for each of `inputs`; no `.grad` changes.

    Works on Tensors and on Values alike. With `create_graph` the gradients can be differentiated again. An input that
    the outputs do not depend on is an error (RuntimeError), unless `allow_unused` (None for it) or `materialize_grads`
    (zeros for it).
    """
    outputs, inputs = _several(outputs), _several(inputs)
    if not inputs:
        raise ValueError("grad requires non-empty inputs.")
    seeds = _seeds(grad_outputs, outputs)
    of_values = all(isinstance(x, Value) for x in [*outputs, *inputs])
    if not of_values and not all(isinstance(x, Tensor) for x in [*outputs, *inputs]):
        raise TypeError("grad(): expected all outputs and inputs to be Tensors, or all to be Values")
    if of_values:
        found = _grad_of_values(outputs, inputs, seeds, create_graph)
    else:
        found = _grad_of_tensors(outputs, inputs, seeds, retain_graph, create_graph)
    if materialize_grads:
        return tuple(_zero(x, create_graph) if g is None else g for x, g in zip(inputs, found, strict=True))
    if not allow_unused and any(g is None for g in found):
        raise RuntimeError(
            f"input {[g is None for g in found].index(True)}: One of the differentiated Tensors appears to not have "
            "been used in the graph. Set allow_unused=True if this is the desired behavior."
        )
    return tuple(found)


def _zero(x: Any, create_graph: bool) -> Any:
    if isinstance(x, Value):
        return Value(0.0) if create_graph else 0.0
    return wrap(np.zeros_like(x.array))


def _grad_of_values(outputs: list[Value], inputs: list[Value], seeds: list[Any], create_graph: bool) -> list[Any]:
    numbers = [1.0 if s is None else s for s in seeds]
    starts = [s if isinstance(s, Value) else Value(s) for s in numbers] if create_graph else list(map(float, numbers))
    if watch.trace is not None:  # a function is being compiled: what its graph holds in the place of these
        outputs, inputs = watch.trace.stand_ins(outputs), watch.trace.stand_ins(inputs)
    root = outputs[0] if len(outputs) == 1 else Outputs(outputs, starts)
    grads = sweep(root, starts[0], targets=set(inputs))
    return [grads.get(x) for x in inputs]


def _grad_of_tensors(
    outputs: list[Tensor], inputs: list[Tensor], seeds: list[Any], retain_graph: bool | None, create_graph: bool
) -> list[Any]:
    for i, x in enumerate(inputs):
        if x.edge is None:
            raise RuntimeError(f"input {i}: One of the differentiated Tensors does not require grad")
    grads, _ = gradients(outputs, seeds, retain_graph, create_graph, {x.edge for x in inputs})
    found: list[Any] = []
    for x in inputs:
        g = grads.get(x.edge)
        if g is not None and x.is_leaf and x.edge.hooks is not None:  # type: ignore[union-attr]
            g = x.edge.receive(g)  # type: ignore[union-attr]
        found.append(g if g is None or isinstance(g, Tensor) else wrap(g.copy()))
    return found
