"""Value: one number that remembers how it was computed. Its graph defines what a gradient is.

    a, b = Value(2.0), Value(-3.0)
    y = (a * b + 1).tanh()
    y.backward()
    a.grad, b.grad                      # dy/da, dy/db

A Value holds the operation that made it and the two operands, nothing else: no closures, no cycles, and nothing
recursive, so a chain of a million operations is like any other. A number among the operands stays a number.

Two Values are equal if they are the same node, so they can be keys; `<` and its kin compare numbers. A Value has no
truth of its own: write the comparison that is meant.
"""

from __future__ import annotations

import threading
from numbers import Real
from typing import Any, NoReturn

from scalargrad import xp
from scalargrad.graph import Node, operations, sweep, tick
from scalargrad.operation import Op, Recordable
from scalargrad.rules import ops


class Watch(threading.local):
    """Who is told of comparisons on this thread: a Trace, while a function is compiled. They decide how it branches."""

    trace: Any = None


watch = Watch()


class Value(Node, Recordable):
    """A number in a graph. `data` is the number, `grad` its gradient after `backward()`, 0.0 at first.

    Arithmetic follows IEEE 754: 1 / Value(0.0) is inf, and nothing raises for the size of a number.
    Raises TypeError for anything but a real number.
    """

    __slots__ = ("a", "b", "data", "grad", "op")

    a: Value | float | None
    b: Value | float | None

    def __init__(self, data: Any) -> None:
        self.data: float = data if type(data) is float else _number(data)
        self.grad: Any = 0.0
        self.op: Op | None = None
        self.a = self.b = None
        self.seq = tick()

    @property
    def parents(self) -> tuple[Value, ...]:  # type: ignore[override]
        a, b = self.a, self.b
        if type(b) is Value:
            return (a, b) if type(a) is Value else (b,)
        return (a,) if type(a) is Value else ()

    def pull(self, grad: Any, retain: bool) -> tuple[Any, ...]:
        a, b, y = self.a, self.b, self
        if type(grad) is float and type(b) is Value and type(a) is Value:  # by far the most common
            try:
                return self.op.of_numbers[3](grad, a.data, b.data, y.data)  # type: ignore[union-attr]
            except ZeroDivisionError:
                pass
        mask = (type(a) is Value) | (type(b) is Value) << 1
        if type(grad) is not Value:  # plain numbers; otherwise the derivative is recorded, and runs on Values
            y = self.data  # type: ignore[assignment]
            if mask & 1:
                a = a.data  # type: ignore[union-attr]
            if mask & 2:
                b = b.data  # type: ignore[union-attr]
        derivatives = self.op.of_numbers[mask]  # type: ignore[union-attr]
        try:
            return derivatives(grad, a, y) if b is None else derivatives(grad, a, b, y)
        except ZeroDivisionError:
            inputs = [xp.Ieee(x) for x in (a, b, y) if x is not None]
            return tuple([None if g is None else float(g) for g in derivatives(xp.Ieee(grad), *inputs)])

    def backward(self, gradient: float = 1.0) -> None:
        """Add gradient · d self / d v to `v.grad` of every leaf v that self was computed from.

        The nodes between show their gradient too, that of this call alone, so that calling again is right.
        """
        for v, g in sweep(self, float(gradient), keep=True).items():
            if v.op is None:  # type: ignore[attr-defined]
                v.grad += g  # type: ignore[attr-defined]
            else:
                v.grad = g  # type: ignore[attr-defined]

    def record(self, op: Op, inputs: tuple[Any, ...]) -> Value:
        if op.number is None:
            raise TypeError(f"{op.key}(): defined for arrays only; use a Tensor")
        for x in inputs:
            if type(x) is not Value and isinstance(x, Value):  # it is being traced
                return x.record(op, inputs)
        numbers = [x.data if type(x) is Value else _number(x) for x in inputs]
        return _node(
            op.number(*numbers), op, *(x if type(x) is Value else n for x, n in zip(inputs, numbers, strict=True))
        )

    def __add__(self, other: Any) -> Value:
        if type(other) is Value:
            return _node(self.data + other.data, ops.add, self, other)
        return self._with(ops.add, other)

    def __mul__(self, other: Any) -> Value:
        if type(other) is Value:
            return _node(self.data * other.data, ops.mul, self, other)
        return self._with(ops.mul, other)

    def __sub__(self, other: Any) -> Value:
        return self._with(ops.sub, other)

    def __truediv__(self, other: Any) -> Value:
        return self._with(ops.div, other)

    def __pow__(self, other: Any) -> Value:
        return self._with(ops.pow, other)

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
        return _node(-self.data, ops.neg, self)

    def __pos__(self) -> Value:
        return self

    def __abs__(self) -> Value:
        return self._of(ops.abs)

    def exp(self) -> Value:
        return self._of(ops.exp)

    def log(self) -> Value:
        return self._of(ops.log)

    def sqrt(self) -> Value:
        return self._of(ops.sqrt)

    def sin(self) -> Value:
        return self._of(ops.sin)

    def cos(self) -> Value:
        return self._of(ops.cos)

    def tan(self) -> Value:
        return self._of(ops.tan)

    def tanh(self) -> Value:
        return self._of(ops.tanh)

    def sigmoid(self) -> Value:
        return self._of(ops.sigmoid)

    def relu(self) -> Value:
        return self._of(ops.relu)

    abs = __abs__

    def max(self, other: Any) -> Value:
        """The larger of two; a tie halves the gradient. (Python's `max(a, b)` gives all of it to the first.)"""
        return self.record(ops.maximum, (self, other))

    def min(self, other: Any) -> Value:
        """The smaller of two; a tie halves the gradient."""
        return self.record(ops.minimum, (self, other))

    def __lt__(self, other: Any) -> bool:
        return _holds(ops.lt, self, other)

    def __le__(self, other: Any) -> bool:
        return _holds(ops.le, self, other)

    def __gt__(self, other: Any) -> bool:
        return _holds(ops.gt, self, other)

    def __ge__(self, other: Any) -> bool:
        return _holds(ops.ge, self, other)

    def __float__(self) -> float:
        if watch.trace is not None:
            watch.trace.read(self, "float")
        return self.data

    def __int__(self) -> int:
        return int(float(self))

    def __bool__(self) -> NoReturn:
        raise TypeError("bool(Value): a Value has no truth of its own; compare its number, as in `value > 0`")

    def __repr__(self) -> str:
        return f"Value(data={self.data}, grad={self.grad})"

    def __deepcopy__(self, memo: dict[int, Any]) -> Value:
        """The graph again, oldest node first, so that no depth recurses."""
        for node in _oldest_first(self):
            if id(node) not in memo:
                a, b = (memo[id(x)] if type(x) is Value else x for x in (node.a, node.b))
                copy = _node(node.data, node.op, a, b)
                copy.grad = memo.get(id(node.grad), node.grad)
                memo[id(node)] = copy
        return memo[id(self)]  # type: ignore[no-any-return]

    def __reduce__(self) -> Any:
        """Leaves go by themselves, so that pickles share them; what was computed goes as one flat list."""
        if self.op is None:
            return _leaf, (self.data, self.grad)
        order = _oldest_first(self)
        place = {node: i for i, node in enumerate(order)}
        rows = [
            node if node.op is None else (node.data, node.grad, node.op, *(_packed(x, place) for x in (node.a, node.b)))
            for node in order
        ]
        return _rebuild, (rows,)

    def _of(self, op: Op) -> Value:
        return _node(op.number(self.data), op, self)  # type: ignore[misc]

    def _with(self, op: Op, other: Any) -> Value:
        if type(other) is Value:
            return _node(op.number(self.data, other.data), op, self, other)  # type: ignore[misc]
        if type(other) is not float:
            if not isinstance(other, Real):
                return NotImplemented  # type: ignore[no-any-return]
            other = _number(other)
        return _node(op.number(self.data, other), op, self, other)  # type: ignore[misc]

    def _after(self, op: Op, other: Any) -> Value:
        if type(other) is not float:
            if not isinstance(other, Real):
                return NotImplemented  # type: ignore[no-any-return]
            other = _number(other)
        return _node(op.number(other, self.data), op, other, self)  # type: ignore[misc]


def _node(data: float, op: Op | None, a: Value | float | None = None, b: Value | float | None = None) -> Value:
    v = _new(Value)
    v.data, v.grad, v.op, v.a, v.b, v.seq = data, 0.0, op, a, b, tick()
    return v


_new = Value.__new__


def _number(x: Any) -> float:
    if isinstance(x, Real):
        try:
            return float(x)
        except OverflowError:  # an int beyond the floats
            return xp.sign(x) * float("inf")  # type: ignore[arg-type]
    raise TypeError(f"Value: expected a real number, got {type(x).__name__}")


def _holds(op: Op, a: Value, b: Any) -> bool:
    if watch.trace is not None:
        return watch.trace.compare(op, a, b)  # type: ignore[no-any-return]
    return bool(op.number(a.data, b.data if type(b) is Value else b))  # type: ignore[misc]


def _leaf(data: float, grad: Any) -> Value:
    v = Value(data)
    v.grad = grad
    return v


def _oldest_first(root: Value) -> list[Value]:
    """Everything `root` was computed from, parents before children, leaves included, and root."""
    computed: list[Value] = operations(root)[::-1]  # type: ignore[assignment]
    return [*dict.fromkeys(p for v in computed for p in v.parents if p.op is None), *computed] or [root]


def _packed(x: Any, place: dict[Value, int]) -> Any:
    """An operand as pickled: a Value by its place, a number as it is."""
    return (place[x],) if type(x) is Value else x


def _rebuild(rows: list[Any]) -> Value:
    nodes: list[Value] = []
    for row in rows:
        if type(row) is Value:
            nodes.append(row)
            continue
        data, grad, op, a, b = row
        node = _node(data, op, *(nodes[x[0]] if type(x) is tuple else x for x in (a, b)))
        node.grad = grad
        nodes.append(node)
    return nodes[-1]
