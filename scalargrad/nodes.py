"""The graph behind Tensors, as PyTorch shows it: what `grad_fn` and `next_functions` give.

A gradient on its way is an array, or a Tensor while the derivatives are themselves recorded. A node holds what its
derivatives named and not its result, and a leaf's node holds its leaf weakly, so that no cycles arise.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any
from weakref import ref

import numpy as np

from scalargrad.graph import Node, tick
from scalargrad.operation import OfArrays, Op, Plan, Recordable
from scalargrad.ops.shape import shaping
from scalargrad.pending import elements

SECOND_PASS = (
    "Trying to backward through the graph a second time (or directly access saved tensors after they have already been "
    "freed). Saved intermediate values of the graph are freed when you call .backward() or autograd.grad(). Specify "
    "retain_graph=True if you need to backward through the graph a second time or if you need to access saved tensors "
    "after calling backward."
)
STALE = (
    "one of the variables needed for gradient computation has been modified by an inplace operation: {} saved a tensor "
    "of shape {} that was written to afterwards"
)


class Saved(OfArrays):
    """What a node saved and asks back for: a tensor, or a result by its array."""

    __slots__ = ()

    def saved_by(self, node: TensorNode, recording: bool) -> Any:
        """An array, or a Tensor while a derivative is recorded. Raises RuntimeError if it was written to since."""
        raise NotImplementedError


class RemovableHandle:
    """What `register_hook` returns: `remove()` takes the hook away."""

    def __init__(self, hooks: dict[int, Any], hook: Any) -> None:
        self._hooks, self._number = hooks, tick()
        hooks[self._number] = hook

    def remove(self) -> None:
        """Take the hook away; doing it twice is harmless."""
        self._hooks.pop(self._number, None)

    def __enter__(self) -> RemovableHandle:
        return self

    def __exit__(self, *error: object) -> None:
        self.remove()


class TensorNode(Node):
    """A node of the graph behind Tensors. `hooks` are called with each gradient that arrives, and may replace it."""

    __slots__ = ("__weakref__", "dtype", "hooks", "shape")

    shape: tuple[int, ...]
    dtype: np.dtype[Any]
    hooks: dict[int, Callable[[Any], Any]] | None

    @property
    def next_functions(self) -> tuple[tuple[Node | None, int], ...]:
        """The nodes that gradients go on to from here, and which result of each it is: none from a leaf."""
        return ()

    def receive(self, grad: Any) -> Any:
        if self.hooks:
            grad = elements(grad)
            for hook in list(self.hooks.values()):
                grad = hook(grad)
        return grad

    def add_hook(self, hook: Callable[[Any], Any]) -> RemovableHandle:
        """Pass each gradient that arrives here through `hook`."""
        if self.hooks is None:
            self.hooks = {}
        return RemovableHandle(self.hooks, hook)

    def name(self) -> str:
        """The name that PyTorch gives such a node."""
        raise NotImplementedError

    def __repr__(self) -> str:
        return f"<{self.name()} object at {id(self):#x}>"


class Backward(TensorNode):
    """One recorded operation: where the gradients of its inputs go, and what its derivatives named."""

    __slots__ = ("op", "parents", "plan", "saved")

    parents: list[TensorNode]
    saved: list[Any] | None

    op: Op
    plan: Plan

    def pull(self, grad: Any, retain: bool) -> Sequence[Any]:
        if self.saved is None:
            raise RuntimeError(SECOND_PASS)
        recording = isinstance(grad, Recordable)
        # Only `gradients` knows what to do with what is pending, and it is not for what records.
        takes_pending = self.op.takes_pending and not recording
        arguments = [grad, *self.saved]
        for i in range(1, len(arguments)):
            x = arguments[i]
            if isinstance(x, Saved):
                held = x
                arguments[i] = held.saved_by(self, recording)
        if not takes_pending:
            arguments = [elements(x) for x in arguments]
        if self.plan.holds_tensors and not retain:
            self.saved = None
        grads = (self.plan.pull if recording else self.plan.pull_arrays)(*arguments)
        if not self.op.fits:
            return grads
        return [fit(g, parent.shape, parent.dtype) for g, parent in zip(grads, self.parents, strict=True)]

    @property
    def next_functions(self) -> tuple[tuple[Node | None, int], ...]:
        """For each differentiable input the node that its gradient goes to, and which result of that node it is."""
        edges = dict(zip(self.plan.which, self.parents, strict=True))
        n = max(len(self.op.derivatives), self.plan.which[-1] + 1)
        return tuple(source(edges.get(i)) for i in range(n) if self.op.differentiable >> i & 1)

    def name(self) -> str:
        return f"{self.op.name.title().replace('_', '')}Backward"


def recorded(
    op: Op, plan: Plan, parents: list[TensorNode], saved: list[Any], shape: tuple[int, ...], dtype: np.dtype[Any]
) -> Backward:
    """The node of an operation whose result is of this shape and dtype."""
    node = Backward.__new__(Backward)
    node.op, node.plan, node.parents, node.saved = op, plan, parents, saved
    node.shape, node.dtype, node.hooks, node.seq = shape, dtype, None, tick()
    return node


class AccumulateGrad(TensorNode):
    """Where gradients end: they are added to `variable.grad`."""

    __slots__ = ("_leaf",)

    def __init__(self, leaf: Any) -> None:
        self._leaf = ref(leaf)
        self.shape, self.dtype, self.hooks, self.seq = leaf.array.shape, leaf.array.dtype, None, 0

    @property
    def variable(self) -> Any:
        """The leaf, or None if it no longer exists."""
        return self._leaf()

    def name(self) -> str:
        return "AccumulateGrad"


class Output(TensorNode):
    """One of several results of a node: its gradient waits there with those of the others."""

    __slots__ = ("node", "number", "parents")

    def __init__(self, node: TensorNode, number: int, y: np.ndarray[Any, Any]) -> None:
        self.node, self.number, self.parents = node, number, (node,)
        self.shape, self.dtype, self.hooks, self.seq = y.shape, y.dtype, None, tick()

    def pull(self, grad: Any, retain: bool) -> list[Any]:
        return [Cotangents({self.number: elements(grad)})]

    def name(self) -> str:
        return self.node.name()


class Cotangents(dict[int, Any]):
    """Gradients of several results of one node, by the number of the result."""

    def __add__(self, other: Cotangents) -> Cotangents:
        total = Cotangents(self)
        for k, g in other.items():
            total[k] = total[k] + g if k in total else g
        return total

    __iadd__ = __add__


def source(edge: Any) -> tuple[Node | None, int]:
    """The node behind an edge, and the number of the result there."""
    return (edge.node, edge.number) if isinstance(edge, Output) else (edge, 0)


def fit(g: Any, shape: tuple[int, ...], dtype: np.dtype[Any]) -> Any:
    """Undo broadcasting and promotion: a gradient as its input was. None stays None."""
    if g is None:
        return None
    if g.shape != shape:
        g = shaping.sum_to_size(g, shape)
    return g if g.dtype == dtype else shaping.cast(g, dtype)
