"""What gradcheck checks: a function at a point, with its entries numbered through, and how to speak of them."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from math import prod
from typing import Any, NamedTuple

import numpy as np

from scalargrad.autograd.gradients import grad
from scalargrad.tensor import Tensor, wrap
from scalargrad.value import Value

SHOWN = 24
"""Inputs of up to so many entries are printed in full."""


class GradcheckError(RuntimeError):
    """A gradient is wrong: `input` and `entry` say where, `output` and `output_entry` of what.

    `analytic` is what backward() gave there, `numeric` what differences say. All are None if the trouble is not with
    one entry.
    """

    input: int | None = None
    entry: tuple[int, ...] | None = None
    output: int | None = None
    output_entry: tuple[int, ...] | None = None
    analytic: float | None = None
    numeric: float | None = None


class KinkWarning(UserWarning):
    """The point has a kink: the slopes to its two sides differ, and differences can confirm neither."""


class Place(NamedTuple):
    """An entry of one of several arrays."""

    number: int
    entry: tuple[int, ...]

    def __str__(self) -> str:
        return f"{self.number}" + (f" at {list(self.entry)}" if self.entry else "")


class Problem:
    """A function at a point: its outputs as one vector, and what backward() pulls back from a vector of weights."""

    def __init__(self, func: Callable[..., Any], inputs: Any, name: str, n_weights: int = 0) -> None:
        self.func, self.name, self.n_weights = func, name, n_weights
        self.inputs = tuple(inputs) if isinstance(inputs, (tuple, list)) else (inputs,)
        self.numbers = [
            i for i, x in enumerate(self.inputs) if isinstance(x, Value) or getattr(x, "requires_grad", False)
        ]
        self.wanted = [self.inputs[i] for i in self.numbers]
        if not self.wanted:
            raise ValueError(f"{name} expects at least one input tensor to require gradient, but none of them do.")
        for i, x in zip(self.numbers, self.wanted, strict=True):
            if isinstance(x, Tensor):
                self._check_input(i, x)
        self.centre = [np.array(array(x)) for x in self.wanted]
        outputs = self.outputs()
        self.output_shapes = [array(y).shape for y in outputs]
        self.input_shapes = [x.shape for x in self.centre]

    def _check_input(self, i: int, x: Tensor) -> None:
        if x.dtype != np.float64:
            raise ValueError(
                f"{self.name}: input {i} has dtype {x.dtype}, and differences of that precision prove nothing: "
                "expected float64; pass input.double().detach().requires_grad_()"
            )
        if x.array.size and any(n > 1 and stride == 0 for n, stride in zip(x.shape, x.array.strides, strict=True)):
            raise RuntimeError(
                f"{self.name}: input {i} has a dimension with stride 0, whose entries share one place in memory "
                "and cannot be moved one at a time: pass input.contiguous()"
            )
        if not x.array.flags.writeable:
            raise RuntimeError(f"{self.name}: input {i} is read-only memory, but has to be moved: pass input.clone()")

    def outputs(self) -> list[Any]:
        """The differentiable outputs at the inputs as they are; all of float dtype if none is differentiable."""
        before = [np.array(array(x)) for x in self.wanted]
        found = self.func(*self.inputs)
        several = list(found) if isinstance(found, (tuple, list)) else [found]
        for k, y in enumerate(several):
            if not isinstance(y, (Tensor, Value)):
                raise ValueError(
                    f"{self.name}: expected func to return Tensors or Values; output {k} is a {type(y).__name__}"
                )
        for i, (x, b) in enumerate(zip(self.wanted, before, strict=True)):
            if not np.array_equal(array(x), b, equal_nan=True):
                raise GradcheckError(f"{self.name}: func writes to its differentiable input {i}; pass it a clone()")
        floating = [y for y in several if array(y).dtype.kind == "f"]
        chosen = [y for y in floating if isinstance(y, Value) or y.requires_grad] or floating
        for k, y in enumerate(chosen):
            if array(y).dtype != np.float64:
                raise ValueError(f"{self.name}: output {k} has dtype {y.dtype}; expected float64, as the inputs are")
        if not chosen:
            raise ValueError(f"{self.name}: expected at least one output of a floating point dtype")
        return chosen

    def at(self, directions: Sequence[Any], t: float) -> Any:
        """The outputs, in one vector, at the point moved by t in `directions`, one for each wanted input."""
        try:
            for x, centre, v in zip(self.wanted, self.centre, directions, strict=True):
                _write(x, centre + t * v)
            with np.errstate(all="ignore"):
                return vector([array(y) for y in self.outputs()])
        finally:
            for x, centre in zip(self.wanted, self.centre, strict=True):
                _write(x, centre)

    def pull(self, weights: Any) -> list[Any]:
        """The gradients of ⟨weights, outputs⟩, as backward() has them."""
        outputs = self.outputs()
        pulling = [y for y in outputs if isinstance(y, Value) or y.requires_grad]
        if not pulling:
            return [np.zeros(shape) for shape in self.input_shapes]
        seeds = [like(y, g) for y, g in zip(outputs, parts(weights, self.output_shapes), strict=True)]
        found = grad(pulling, self.wanted, seeds, allow_unused=True)
        return [np.zeros(s) if g is None else np.array(array(g)) for g, s in zip(found, self.input_shapes, strict=True)]

    def place(self, k: int, shapes: Sequence[tuple[int, ...]]) -> Place:
        """The k-th of all entries of arrays of `shapes`."""
        for number, shape in enumerate(shapes):
            size = prod(shape)
            if k < size:
                return Place(number, tuple(int(i) for i in np.unravel_index(k, shape)) if shape else ())
            k -= size
        raise IndexError(k)

    def call(self, names: Sequence[str]) -> str:
        """The arguments of the call that checks this again; the last ones may be the weights of a second derivative."""
        n = len(names) - self.n_weights
        inputs = f"({', '.join(names[:n])},)"
        return f"{inputs}, ({', '.join(names[n:])},)" if self.n_weights else inputs


def vector(arrays: Iterable[Any]) -> Any:
    """The entries of all arrays, one after the other."""
    return np.concatenate([np.zeros(0), *(np.ravel(np.asarray(x)) for x in arrays)])


def parts(entries: Any, shapes: Sequence[tuple[int, ...]]) -> list[Any]:
    """Arrays of these shapes from the entries of all of them: undoes `vector`."""
    ends = np.cumsum([prod(shape) for shape in shapes])[:-1]
    return [part.reshape(shape) for part, shape in zip(np.split(entries, ends), shapes, strict=True)]


def array(x: Any) -> Any:
    """The numbers of a Tensor, of a Value, or of a plain number."""
    return x.array if isinstance(x, Tensor) else np.asarray(x.data if isinstance(x, Value) else x, np.float64)


def like(y: Any, numbers: Any) -> Any:
    """Numbers as a gradient for y, a Tensor or a Value."""
    return float(numbers) if isinstance(y, Value) else wrap(np.array(numbers))


def source(x: Any) -> str:
    """Python that makes this input again, where it is small enough to print."""
    if isinstance(x, Value):
        return f"Value({x.data!r})"
    if not isinstance(x, Tensor):
        return repr(x)
    if x.array.size > SHOWN:
        return f"...  # as passed: {x.dtype} of shape {tuple(x.shape)}"
    tail = ", requires_grad=True" if x.requires_grad else ""
    return f"scalargrad.tensor({x.array.tolist()!r}, dtype=scalargrad.{x.dtype}{tail})"


def _write(x: Any, numbers: Any) -> None:
    """Move an input, unseen by the graph."""
    if isinstance(x, Value):
        x.data = float(numbers)
    else:
        x.array[...] = numbers
