"""What a tensor is in the graph: leaf or result, and whether gradients flow through it."""

from __future__ import annotations

from typing import Any

from scalargrad.graph import Node
from scalargrad.methods.conversion import Casting
from scalargrad.nodes import AccumulateGrad, source


class InGraph(Casting):
    """The tensor's place in the graph."""

    __slots__ = ()

    @property
    def grad_fn(self) -> Node | None:
        """The node of the operation that made this tensor; None for a leaf."""
        return None if self.is_leaf else source(self.edge)[0]

    @property
    def output_nr(self) -> int:
        """Which result of `grad_fn` this is."""
        return source(self.edge)[1]

    @property
    def is_leaf(self) -> bool:
        """True unless a recorded operation made it."""
        return self.edge is None or isinstance(self.edge, AccumulateGrad)

    @property
    def requires_grad(self) -> bool:
        """True if gradients flow here."""
        return self.edge is not None

    @requires_grad.setter
    def requires_grad(self, value: bool) -> None:
        tensor: Any = self
        if not self.is_leaf:
            if not value:
                raise RuntimeError(
                    "you can only change requires_grad flags of leaf variables. If you want to use a computed variable "
                    "in a subgraph that doesn't require differentiation use var_no_grad = var.detach()."
                )
        elif not value:
            tensor.edge = None
        elif self.array.dtype.kind != "f":
            raise RuntimeError(f"only Tensors of floating point dtype can require gradients, got {self.array.dtype}")
        elif self.edge is None:
            tensor.edge = AccumulateGrad(self)

    def requires_grad_(self, requires_grad: bool = True) -> Any:
        """This tensor, with `requires_grad` set."""
        self.requires_grad = requires_grad
        return self

    @property
    def _version(self) -> int:
        """The time of the last in-place write to this memory, 0 if there was none."""
        return 0 if self.storage is None else self.storage.written

    @property
    def _base(self) -> Any:
        """The tensor that this one is a view of."""
        return self.base
