"""The distinct expressions of a trace: what is computed twice is kept once, what is constant is computed now.

Nothing here changes a bit of a result: x · 1 is x, and x + 0 stays, because -0 + 0 is 0.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable
from typing import Any

from scalargrad.compiler.trace import Traced
from scalargrad.kernels import opcodes
from scalargrad.operation import TABLE, Op

INPUT, SHARED, CONSTANT = -1, -2, -3
"""What an expression without operands is: a column of an input array, a number for all samples, or a constant."""

CODES = {name: code for code, name in enumerate(opcodes.NAMES)}
ADD, MUL, DIV, NEG = (CODES[name] for name in ("add", "mul", "div", "neg"))
COMMUTATIVE = frozenset(CODES[name] for name in ("add", "mul", "eq", "ne"))


class Expressions:
    """A list of expressions, operands before what is computed from them.

    An expression is its place in the list. `ops` holds what it does, an opcode or one of the three kinds above; `a` and
    `b` its operands (b is -1 for a unary operation), the array and column of an input, or the place of a shared number.
    `rows` says whether it differs from sample to sample, `values` holds the constants' numbers and None for all others.
    """

    def __init__(self) -> None:
        self.ops: list[int] = []
        self.a: list[int] = []
        self.b: list[int] = []
        self.rows: list[bool] = []
        self.values: list[float | None] = []
        self._known: dict[tuple[int, int, int], int] = {}
        self._constants: dict[float | str, int] = {}

    def input(self, array: int, column: int) -> int:
        """A column of an array that has a row for each sample."""
        return self._append(INPUT, array, column, True)

    def shared(self, place: int) -> int:
        """A number that is the same for all samples of a call."""
        return self._append(SHARED, place, -1, False)

    def constant(self, x: float) -> int:
        """A number that never changes."""
        key = x if x and x == x else repr(x)
        if key not in self._constants:
            self._constants[key] = self._append(CONSTANT, -1, -1, False, x)
        return self._constants[key]

    def take(self, tape: Iterable[Traced]) -> None:
        """Enter what was traced; afterwards the `place` of each Traced is that of its expression."""
        known, values = self._known, self.values
        codes: dict[Op, int] = {}
        for v in tape:
            op: Any = v.op
            a = v.a.place if type(v.a) is Traced else self.constant(v.a)  # type: ignore[arg-type]
            b = -1 if v.b is None else v.b.place if type(v.b) is Traced else self.constant(v.b)  # type: ignore[arg-type]
            if op not in codes:
                codes[op] = _code(op)
            code = codes[op]
            if code == NEG or values[a] is not None or (b >= 0 and values[b] is not None):
                v.place = self._simplified(op, code, a, b)
                continue
            key = (code, b, a) if b < a and code in COMMUTATIVE and b >= 0 else (code, a, b)
            place = known.get(key)
            v.place = self._enter(key) if place is None else place

    def _simplified(self, op: Op, code: int, a: int, b: int) -> int:
        x, y = self.values[a], self.values[b] if b >= 0 else None
        if x is not None and (b < 0 or y is not None):
            return self.constant(op.number(x) if b < 0 else op.number(x, y))  # type: ignore[misc]
        if code == NEG and self.ops[a] == NEG:
            return self.a[a]
        if op.key in SIMPLER:
            found = SIMPLER[op.key](self, a, b, x, y)
            if found is not None:
                return found
        key = (code, b, a) if b < a and code in COMMUTATIVE and b >= 0 else (code, a, b)
        return self._known[key] if key in self._known else self._enter(key)

    def expression(self, code: int, a: int, b: int = -1) -> int:
        """The place of an operation on two expressions."""
        key = (code, b, a) if b < a and code in COMMUTATIVE and b >= 0 else (code, a, b)
        return self._known[key] if key in self._known else self._enter(key)

    def _enter(self, key: tuple[int, int, int]) -> int:
        code, a, b = key
        place = self._known[key] = self._append(code, a, b, self.rows[a] or (b >= 0 and self.rows[b]))
        return place

    def _append(self, op: int, a: int, b: int, row: bool, value: float | None = None) -> int:
        self.ops.append(op)
        self.a.append(a)
        self.b.append(b)
        self.rows.append(row)
        self.values.append(value)
        return len(self.ops) - 1


def _code(op: Op) -> int:
    # An Op of the table has its key; a row added there needs an instruction here before it can be compiled.
    if op.key not in CODES or TABLE.get(op.key) is not op:
        raise NotImplementedError(f"compile(): the operation {op.key!r} has no instruction in compiled programs")
    return CODES[op.key]


Rule = Callable[[Expressions, int, int, Any, Any], int | None]
"""(expressions, operands, their numbers or None) -> the place of something simpler with the same bits, or None."""


def _times(e: Expressions, a: int, b: int, x: Any, y: Any) -> int | None:
    if x == 1 or y == 1:
        return b if x == 1 else a
    return e.expression(NEG, b if x == -1 else a) if x == -1 or y == -1 else None


def _plus(e: Expressions, a: int, b: int, x: Any, y: Any) -> int | None:
    if _is_minus_zero(x):
        return b
    return a if _is_minus_zero(y) else None


def _over(e: Expressions, a: int, b: int, x: Any, y: Any) -> int | None:
    """Division by a power of two is multiplication by its reciprocal, to the bit, where that is no denormal number."""
    if y is None or y == 0 or not math.isfinite(y):
        return None
    mantissa, exponent = math.frexp(y)
    if abs(mantissa) != 0.5 or abs(exponent) > 100:
        return None
    return a if y == 1 else e.expression(MUL, a, e.constant(1 / y))


def _to_the(e: Expressions, a: int, b: int, x: Any, y: Any) -> int | None:
    return a if y == 1 else e.constant(1.0) if y == 0 else None


def _minus(e: Expressions, a: int, b: int, x: Any, y: Any) -> int | None:
    return a if y == 0 and not _is_minus_zero(y) else None


def _chosen(e: Expressions, a: int, b: int, x: Any, y: Any) -> int | None:
    return None if x is None else b if x else e.constant(0.0)


def _is_minus_zero(x: float | None) -> bool:
    return x == 0 and math.copysign(1.0, x) < 0


SIMPLER: dict[str, Rule] = {
    "mul": _times,
    "add": _plus,
    "sub": _minus,
    "div": _over,
    "pow": _to_the,
    "select": _chosen,
}
