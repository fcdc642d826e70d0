"""In-place methods: each overwrites the tensor with what the operation of that name would give, and returns it."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from scalargrad.generator import Generator, numbers_of
from scalargrad.grad_mode import mode
from scalargrad.methods.shapes import Shapes
from scalargrad.nodes import AccumulateGrad
from scalargrad.operation import Recordable
from scalargrad.ops import elementwise, indexing, subscript
from scalargrad.ops.shape import shaping
from scalargrad.rules import ops

_LEAF = "a leaf Variable that requires grad is being used in an in-place operation."


class InPlace(Shapes):
    """What writes to the tensor's memory. Raises RuntimeError for a leaf that requires grad, outside of `no_grad`."""

    __slots__ = ()

    def overwrite(self, operation: Callable[..., Any], *inputs: Any) -> Any:
        """This tensor, its elements replaced by `operation(self, *inputs)`.

        What was computed is recorded as it would be out of place, on a copy of the old elements. If this is a view, the
        base and all other views follow in the graph.
        Raises RuntimeError for a leaf that requires grad, for memory that cannot be written to, and if the result's
        shape or dtype does not fit.
        """
        recording = self._check_writable(*inputs)
        old = self.alias(self.edge, copy=True) if recording else self.alias()
        result = operation(old, *[old if x is self else x for x in inputs])
        mine, its = self.array, result.array
        if its.shape != mine.shape:
            raise RuntimeError(
                f"output with shape {list(mine.shape)} doesn't match the broadcast shape {list(its.shape)}"
            )
        if not np.can_cast(its.dtype, mine.dtype, "same_kind"):
            raise RuntimeError(f"result type {its.dtype} can't be cast to the desired output type {mine.dtype}")
        if recording:
            self._follow(result)
        else:
            np.copyto(mine, its, casting="same_kind")
            self.stamp()
        return self

    def _check_writable(self, *inputs: Any) -> bool:
        """Refuse what must not be written to; and tell whether the write is to be recorded."""
        if not self.array.flags.writeable:
            raise RuntimeError(
                "unsupported operation: the memory written to is read-only, or several elements share one place in it "
                "(an expanded tensor); clone() the tensor first"
            )
        wanted = self.edge is not None or any(isinstance(x, Recordable) and x.edge is not None for x in inputs)
        if not (mode.enabled and wanted):
            return False
        if isinstance(self.edge, AccumulateGrad):
            raise RuntimeError(_LEAF)
        if self.base is not None and isinstance(self.base.edge, AccumulateGrad):
            raise RuntimeError(f"a view of {_LEAF}")
        return True

    def _follow(self, result: Any) -> None:
        """Write `result`, and let this tensor, its base and the base's views be what it makes of them in the graph."""
        base: Any = self if self.base is None else self.base
        if base is not self:
            result = shaping.as_strided_scatter(base.alias(base.edge), result, *_region(self, base))
        np.copyto(base.array, result.array, casting="same_kind")
        base.lead_to(result.edge if result.dtype == base.dtype else shaping.cast(result, base.dtype).edge)
        base.stamp()
        views = base.own_storage().views_of(base)
        for view in views if base is self or any(view is self for view in views) else [*views, self]:
            view.lead_to(shaping.as_strided(base.alias(base.edge), *_region(view, base)).edge)

    def add_(self, other: Any, *, alpha: float = 1) -> Any:
        return self.overwrite(elementwise.add, other if alpha == 1 else ops.mul(other, alpha))

    def sub_(self, other: Any, *, alpha: float = 1) -> Any:
        return self.overwrite(elementwise.sub, other if alpha == 1 else ops.mul(other, alpha))

    def mul_(self, other: Any) -> Any:
        return self.overwrite(elementwise.mul, other)

    def div_(self, other: Any) -> Any:
        return self.overwrite(elementwise.div, other)

    def pow_(self, exponent: Any) -> Any:
        return self.overwrite(elementwise.pow, exponent)

    def floor_divide_(self, other: Any) -> Any:
        return self.overwrite(elementwise.floor_divide, other)

    def remainder_(self, other: Any) -> Any:
        return self.overwrite(elementwise.remainder, other)

    def __iadd__(self, other: Any) -> Any:
        return self.add_(other)

    def __isub__(self, other: Any) -> Any:
        return self.sub_(other)

    def __imul__(self, other: Any) -> Any:
        return self.mul_(other)

    def __itruediv__(self, other: Any) -> Any:
        return self.div_(other)

    def __ipow__(self, other: Any) -> Any:
        return self.pow_(other)

    def __ifloordiv__(self, other: Any) -> Any:
        return self.floor_divide_(other)

    def __imod__(self, other: Any) -> Any:
        return self.remainder_(other)

    def neg_(self) -> Any:
        return self.overwrite(elementwise.neg)

    def abs_(self) -> Any:
        return self.overwrite(elementwise.abs)

    def exp_(self) -> Any:
        return self.overwrite(elementwise.exp)

    def log_(self) -> Any:
        return self.overwrite(elementwise.log)

    def sqrt_(self) -> Any:
        return self.overwrite(elementwise.sqrt)

    def rsqrt_(self) -> Any:
        return self.overwrite(elementwise.rsqrt)

    def reciprocal_(self) -> Any:
        return self.overwrite(elementwise.reciprocal)

    def sin_(self) -> Any:
        return self.overwrite(elementwise.sin)

    def cos_(self) -> Any:
        return self.overwrite(elementwise.cos)

    def tanh_(self) -> Any:
        return self.overwrite(elementwise.tanh)

    def sigmoid_(self) -> Any:
        return self.overwrite(elementwise.sigmoid)

    def relu_(self) -> Any:
        return self.overwrite(elementwise.relu)

    def floor_(self) -> Any:
        return self.overwrite(elementwise.floor)

    def ceil_(self) -> Any:
        return self.overwrite(elementwise.ceil)

    def round_(self) -> Any:
        return self.overwrite(elementwise.round)

    def trunc_(self) -> Any:
        return self.overwrite(elementwise.trunc)

    def square_(self) -> Any:
        return self.overwrite(elementwise.square)

    def clamp_(self, min: Any = None, max: Any = None) -> Any:
        return self.overwrite(elementwise.clamp, min, max)

    def lerp_(self, end: Any, weight: Any) -> Any:
        return self.overwrite(elementwise.lerp, end, weight)

    def addcmul_(self, tensor1: Any, tensor2: Any, *, value: float = 1) -> Any:
        return self.overwrite(elementwise.add, elementwise.mul(elementwise.mul(tensor1, tensor2), value))

    def addcdiv_(self, tensor1: Any, tensor2: Any, *, value: float = 1) -> Any:
        return self.overwrite(elementwise.add, elementwise.mul(elementwise.div(tensor1, tensor2), value))

    def zero_(self) -> Any:
        return self.fill_(0)

    def fill_(self, value: Any) -> Any:
        if isinstance(value, Recordable) and value.ndim:
            n = value.ndim
            raise RuntimeError(f"fill_ only supports 0-dimension value tensor but got tensor with {n} dimensions.")
        if isinstance(value, (bool, int, float)):
            value = subscript.number_as(value, self.array.dtype).item()
        return self.overwrite(shaping.fill, value)

    def copy_(self, src: Any, non_blocking: bool = False) -> Any:
        """The elements of `src`, broadcast and cast. Raises RuntimeError if its shape does not broadcast to this."""
        theirs, mine = np.shape(src), self.array.shape
        if len(theirs) > len(mine) or any(n not in (1, m) for n, m in zip(theirs[::-1], mine[::-1], strict=False)):
            raise RuntimeError(f"copy_(): expected src to broadcast to shape {list(mine)}, got {list(theirs)}")
        return self.overwrite(shaping.copy, src)

    def uniform_(self, low: float = 0.0, high: float = 1.0, *, generator: Generator | None = None) -> Any:
        """Numbers uniform in [low, high). Raises RuntimeError if `low` is above `high`."""
        if low > high:
            raise RuntimeError(f"uniform_ expects to return a [from, to) range, but found from={low} > to={high}")
        return self._fill_with(numbers_of(generator).uniform(low, high, self.array.shape))

    def normal_(self, mean: float = 0.0, std: float = 1.0, *, generator: Generator | None = None) -> Any:
        """Numbers of a normal distribution. Raises RuntimeError for a negative standard deviation."""
        if std < 0:
            raise RuntimeError(f"normal_ expects std >= 0.0, but found std {std}")
        return self._fill_with(numbers_of(generator).normal(mean, std, self.array.shape))

    def bernoulli_(self, p: float = 0.5, *, generator: Generator | None = None) -> Any:
        """1 with probability p, else 0. Raises RuntimeError unless p is a probability."""
        if not 0 <= p <= 1:
            raise RuntimeError(f"bernoulli_ expects p to be in [0, 1], but got p={p}")
        return self._fill_with(numbers_of(generator).random(self.array.shape) < p)

    def _fill_with(self, numbers: Any) -> Any:
        return self.overwrite(shaping.copy, numbers)

    def masked_fill_(self, mask: Any, value: Any) -> Any:
        return self.overwrite(indexing.masked_fill, mask, value)

    def scatter_(self, dim: int, index: Any, src: Any) -> Any:
        return self.overwrite(indexing.scatter, dim, index, src)

    def scatter_add_(self, dim: int, index: Any, src: Any) -> Any:
        return self.overwrite(indexing.scatter_add, dim, index, src)

    def index_add_(self, dim: int, index: Any, source: Any) -> Any:
        return self.overwrite(indexing.index_add, dim, index, source)

    def __setitem__(self, index: Any, value: Any) -> None:
        if self._check_writable(value):
            self.overwrite(indexing.index_put, index, value)
        else:
            subscript.write(self.array, index, value)
            self.stamp()


def _region(view: Any, base: Any) -> tuple[tuple[int, ...], tuple[int, ...], int]:
    """Where a view lies in its base: size, strides and offset, in elements."""
    if not base.is_contiguous():
        raise RuntimeError(
            "in-place operation on a view of a tensor that is not contiguous; write to the tensor itself"
        )
    return view.array.shape, view.stride(), (view.data_ptr() - base.data_ptr()) // base.element_size()
