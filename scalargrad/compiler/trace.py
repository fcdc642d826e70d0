"""Tracing: a function of Values runs once on Values that write down what is done with them.

What is traced is a Value in every respect but these: its number cannot be read, since it would be the number of this
one sample; a comparison answers for this sample, and is noted as a guard, because others may take the other way.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Sequence
from types import FrameType
from typing import Any, NamedTuple, NoReturn

from scalargrad.graph import sweep, tick
from scalargrad.operation import Op
from scalargrad.rules import ops
from scalargrad.value import Value, _number, watch


class TracingError(TypeError):
    """A function did something with a Value that a compiled program cannot repeat."""


class Guard(NamedTuple):
    """A comparison made while tracing, and how it came out."""

    condition: Traced
    outcome: bool
    where: str


class Traced(Value):
    """A Value of a trace. `known` is its number for the sample that is being traced."""

    __slots__ = ("known", "leads", "place", "trace")

    known: float
    leads: bool  # to an input whose gradient is wanted
    place: int  # in the program that the trace becomes
    trace: Trace

    @property
    def data(self) -> float:
        raise _baked_in("its .data was read")

    @data.setter
    def data(self, value: Any) -> NoReturn:
        raise TracingError(f"{_inside()}(): the .data of an argument or of a result cannot be set")

    @property
    def parents(self) -> tuple[Value, ...]:  # type: ignore[override]
        a, b = self.a, self.b
        if type(b) is Traced:
            return (a, b) if type(a) is Traced else (b,)
        return (a,) if type(a) is Traced else ()

    def pull(self, grad: Any, retain: bool) -> tuple[Any, ...]:
        a, b = self.a, self.b
        of_a, of_b = type(a) is Traced, type(b) is Traced
        if not self.trace.pruned:
            derivatives = self.op.of_numbers[of_a | of_b << 1]  # type: ignore[union-attr]
            return derivatives(grad, a, self) if b is None else derivatives(grad, a, b, self)
        mask = (of_a and a.leads) | (of_b and b.leads) << 1  # type: ignore[union-attr]
        derivatives = self.op.of_numbers[mask]  # type: ignore[union-attr]
        found = derivatives(grad, a, self) if b is None else derivatives(grad, a, b, self)
        if of_a and of_b and mask != 3:
            return (*found, None) if mask == 1 else (None, *found)
        return found

    def backward(self, gradient: float = 1.0) -> NoReturn:
        raise TracingError(
            f"{_inside()}(): backward() would write into .grad once, at tracing; use "
            "autograd.grad(y, inputs, create_graph=True), whose result is part of the program"
        )

    def record(self, op: Op, inputs: tuple[Any, ...]) -> Value:
        if op.number is None:
            raise TypeError(f"{op.key}(): defined for arrays only; use a Tensor")
        return self.trace.node(op, *map(self.trace.operand, inputs))

    def __add__(self, other: Any) -> Value:
        return self._with(ops.add, other)

    def __mul__(self, other: Any) -> Value:
        return self._with(ops.mul, other)

    # Python prefers a subclass's reflected method only where the subclass has one of its own.
    def __radd__(self, other: Any) -> Value:
        return self._after(ops.add, other)

    def __rmul__(self, other: Any) -> Value:
        return self._after(ops.mul, other)

    def __rsub__(self, other: Any) -> Value:
        return self._after(ops.sub, other)

    def __rtruediv__(self, other: Any) -> Value:
        return self._after(ops.div, other)

    def __rpow__(self, other: Any) -> Value:
        return self._after(ops.pow, other)

    def __neg__(self) -> Value:
        return self.trace.node(ops.neg, self)

    def __lt__(self, other: Any) -> bool:
        return self.trace.compare(ops.lt, self, other)

    def __le__(self, other: Any) -> bool:
        return self.trace.compare(ops.le, self, other)

    def __gt__(self, other: Any) -> bool:
        return self.trace.compare(ops.gt, self, other)

    def __ge__(self, other: Any) -> bool:
        return self.trace.compare(ops.ge, self, other)

    def __float__(self) -> NoReturn:
        raise _baked_in("float() was asked of it, as math.exp() and its kin do")

    def __int__(self) -> NoReturn:
        raise _baked_in("int() was asked of it")

    def __repr__(self) -> str:
        return f"Value(traced, {self.op.key if self.op else 'input'})"

    def __deepcopy__(self, memo: dict[int, Any]) -> Traced:
        return self

    def __reduce__(self) -> NoReturn:
        raise TracingError(f"{_inside()}(): a Value cannot be pickled while it is traced")

    def _of(self, op: Op) -> Value:
        return self.trace.node(op, self)

    def _with(self, op: Op, other: Any) -> Value:
        if type(other) is not float and (type(other) is not Traced or other.trace is not self.trace):
            other = self.trace.operand(other, None)
            if other is None:
                return NotImplemented  # type: ignore[no-any-return]
        return self.trace.node(op, self, other)

    def _after(self, op: Op, other: Any) -> Value:
        if type(other) is not float:
            other = self.trace.operand(other, None)
            if other is None:
                return NotImplemented  # type: ignore[no-any-return]
        return self.trace.node(op, other, self)


class Trace:
    """What was done with Values, in order. `with trace:` has comparisons on this thread noted.

    The first comparisons come out as `forced` says: so do they for the sample in the arithmetic of its program, which
    may be that of float32.
    """

    def __init__(self, name: str, forced: Sequence[bool] = ()) -> None:
        self.name, self.forced = name, forced
        self.tape: list[Traced] = []
        self.constants: list[Traced] = []
        self.guards: list[Guard] = []
        self.captured: dict[Value, Traced] = {}
        self.pruned = False
        self.started = tick()
        self._young: dict[Value, Traced] = {}
        self._outer: Trace | None = None

    def __enter__(self) -> Trace:
        self._outer, watch.trace = watch.trace, self
        return self

    def __exit__(self, *error: object) -> None:
        watch.trace = self._outer

    def forget(self) -> None:
        """Let go of everything that was recorded: it refers back to the trace."""
        for kept in (self.tape, self.constants, self.guards, self.captured, self._young):
            kept.clear()

    def leaf(self, known: float) -> Traced:
        """An input of the program."""
        v = _new(Traced)
        v.op = v.a = v.b = None
        v.known, v.trace, v.grad, v.leads, v.seq = known, self, 0.0, False, tick()
        return v

    def constant(self, x: float) -> Traced:
        """x as a Traced: a derivative that meets it is recorded, and not computed with floats."""
        v = self.leaf(x)
        self.constants.append(v)
        return v

    def node(self, op: Op, a: Any, b: Any = None, age: int | None = None) -> Traced:
        """The result of an operation on Traced Values and floats. What involves no Traced is computed at once."""
        x = a.known if type(a) is Traced else a
        if b is None:
            known = op.number(x)  # type: ignore[misc]
        else:
            known = op.number(x, b.known if type(b) is Traced else b)  # type: ignore[misc]
        v = _new(Traced)
        v.op, v.a, v.b, v.known, v.trace, v.grad, v.leads = op, a, b, known, self, 0.0, False
        v.seq = tick() if age is None else age
        self.tape.append(v)
        return v

    def operand(self, x: Any, *otherwise: Any) -> Any:
        """What an operation may work on: a Traced of this trace or a float. Otherwise `otherwise`, or TypeError."""
        if type(x) is Traced:
            if x.trace is not self:
                raise TracingError(f"{self.name}(): a Value of another trace came in; it was kept from an earlier call")
            return x
        if isinstance(x, Value):
            return self._adopt(x)
        try:
            return _number(x)
        except TypeError:
            if otherwise:
                return otherwise[0]
            raise

    def compare(self, op: Op, a: Any, b: Any) -> bool:
        """Whether a comparison holds for the sample that is traced."""
        a, b = self.operand(a), self.operand(b)
        if type(a) is float and type(b) is float:
            return bool(op.number(a, b))  # type: ignore[misc]
        condition = self.node(op, a, b)
        n = len(self.guards)
        outcome = self.forced[n] if n < len(self.forced) else condition.known != 0
        self.guards.append(Guard(condition, outcome, _line_of_user()))
        return outcome

    def read(self, v: Value, what: str) -> None:
        """Refuse float(v) and int(v), unless v is a constant that the function made itself."""
        if v.op is None and v.seq >= self.started:
            return
        raise _baked_in(f"{what}() was asked of it")

    def stand_ins(self, values: Sequence[Value]) -> list[Value]:
        """The Traced that take the place of Values in this trace: what a gradient is asked for."""
        return [self.operand(v) for v in values]

    def _adopt(self, v: Value) -> Traced:
        """A Value from elsewhere. One older than the trace is an input; one made inside is constant, or is recorded."""
        todo = [v]
        while todo:
            w = todo[-1]
            if w.seq < self.started:
                if w not in self.captured:
                    self.captured[w] = self.leaf(w.data)
            elif w.op is None:
                if w not in self._young or self._young[w].known != w.data:
                    self._young[w] = self.constant(w.data)
            elif w not in self._young:
                before = [x for x in (w.a, w.b) if type(x) is Value and self._known(x) is None]
                if before:
                    todo += before
                    continue
                a, b = (self._known(x) if isinstance(x, Value) else x for x in (w.a, w.b))
                self._young[w] = self.node(w.op, a, b, age=w.seq)
            todo.pop()
        return self._known(v)  # type: ignore[no-any-return]

    def _known(self, v: Value) -> Any:
        """The stand-in of a Value, or None if it has none yet."""
        if type(v) is Traced:
            return v
        if v.seq < self.started:
            return self.captured.get(v)
        return self._young.get(v)

    def gradients(self, y: Any, wanted: Sequence[Traced]) -> list[Any]:
        """The derivative of y for each of `wanted`, recorded like everything else: Traced Values and floats."""
        if type(y) is not Traced or not wanted:
            return [0.0] * len(wanted)
        for v in wanted:
            v.leads = True
        for v in self.tape:
            a, b = v.a, v.b
            v.leads = (type(a) is Traced and a.leads) or (type(b) is Traced and b.leads)
        self.pruned = True
        try:
            grads = sweep(y, self.constant(1.0), targets=set(wanted))
        finally:
            self.pruned = False
        return [self.operand(grads.get(v, 0.0)) for v in wanted]


_new: Callable[[type[Traced]], Traced] = Value.__new__
_HERE = os.path.dirname(os.path.dirname(__file__)) + os.sep


def _line_of_user() -> str:
    """Where the line stands, outside of this library, that led here."""
    frame: FrameType | None = sys._getframe(1)
    while frame is not None and frame.f_code.co_filename.startswith(_HERE):
        frame = frame.f_back
    return "" if frame is None else f"{frame.f_code.co_filename}:{frame.f_lineno}"


def _inside() -> str:
    return watch.trace.name if watch.trace is not None else "compile"


def _baked_in(what: str) -> TracingError:
    return TracingError(
        f"{_inside()}(): the number of a Value is not known while the function is traced, but {what} "
        f"({_line_of_user()}): the number of one sample would be baked into the program for all others. Compute with "
        "Values (v.exp() rather than math.exp(v)), and compare them with < and >"
    )
