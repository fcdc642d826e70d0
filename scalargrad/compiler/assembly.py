"""From expressions to a program: dead code out, sums of products in, a few rows used again and again."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import numpy as np

from scalargrad.compiler.expressions import ADD, CONSTANT, MUL, Expressions
from scalargrad.kernels.opcodes import INIT_ROW, INIT_SCALAR, NO_INIT, ROW_SCALAR, ROWS, SCALAR_ROW, opcode

BATCH_OF_SUMS = 64
"""So many sums are taken together: enough to fill the vectors, and few enough that their rows are soon free again."""

_INPUT, _OUTPUT, _BROADCAST, _DOT, _SUMS = (opcode(name) for name in ("input", "output", "broadcast", "dot", "sums"))


class Parts(NamedTuple):
    """What a kernel's Program is made of, but for the sizes of the arrays that it is called with."""

    code: np.ndarray[Any, Any]
    terms: np.ndarray[Any, Any]
    constants: list[float]
    n_rows: int


class Item(NamedTuple):
    """An instruction whose operands are still expressions. `terms` are those of a dot or of sums."""

    op: int  # with its mode
    d: int
    a: int
    b: int
    rows: Sequence[int]  # the operands that are rows
    terms: Sequence[tuple[int, int, int]] = ()


def live(e: Expressions, roots: Sequence[int]) -> list[int]:
    """The operations that `roots` depend on, operands first."""
    needed = bytearray(len(e.ops))
    for place in roots:
        needed[place] = 1
    ops, left, right = e.ops, e.a, e.b
    found = []
    for place in range(len(ops) - 1, -1, -1):
        if needed[place] and ops[place] >= 0:
            found.append(place)
            needed[left[place]] = 1
            if right[place] >= 0:
                needed[right[place]] = 1
    found.reverse()
    return found


class Assembler:
    """Puts the operations `places` together as one program.

    `is_row` says which expressions are rows of this program. The others are scalars: constants, which come first, and
    what is found in `scalars` at the places given there. `input_of` gives the array and column of a row that is no
    operation.
    """

    def __init__(
        self,
        e: Expressions,
        places: Sequence[int],
        is_row: Sequence[bool],
        scalars: dict[int, int],
        input_of: Callable[[int], tuple[int, int]],
    ) -> None:
        self.e, self.places, self.is_row, self.input_of = e, places, is_row, input_of
        self.items: list[Item] = []
        self.constants: list[int] = []
        self._scalars = scalars
        self._constant_places: dict[int, int] = {}
        self._pending: list[tuple[int, int, int]] = []

    def assemble(self, outputs: Sequence[tuple[int, int, int]], sums: Sequence[tuple[int, int]]) -> Parts:
        """The program that writes (array, column, expression) and adds up (sum, expression)."""
        self._count(outputs, sums)
        dots = self._find_dots()
        wanted: dict[int, list[tuple[int, int]]] = {}
        for array, column, place in outputs:
            wanted.setdefault(place, []).append((array, column))
        summed: dict[int, list[int]] = {}
        for number, place in sums:
            summed.setdefault(place, []).append(number)
        done = set()
        for place in self.places:
            if place in self._absorbed:
                continue
            if place in summed and place not in wanted and self._is_plain_product(place):
                self._sum(summed[place][0], self.e.a[place], self.e.b[place])
                done.add(place)
                continue
            self._operation(place, dots)
            for number in summed.get(place, ()):
                self._sum(number, place, -1)
            self._output(place, wanted.get(place, ()))
            done.add(place)
        for place in {**wanted, **summed}.keys() - done:  # inputs, constants and what is the same for all samples
            self._output(place, wanted.get(place, ()))
            for number in summed.get(place, ()):
                self._sum(number, self._as_row(place), -1)
        self._flush()
        return self._allocate()

    def _count(self, outputs: Sequence[tuple[int, int, int]], sums: Sequence[tuple[int, int]]) -> None:
        """How often each expression is used."""
        uses = self.uses = [0] * len(self.e.ops)
        left, right = self.e.a, self.e.b
        for place in self.places:
            uses[left[place]] += 1
            if right[place] >= 0:
                uses[right[place]] += 1
        for *_, place in (*outputs, *sums):
            uses[place] += 1
        self._kept = {place for *_, place in (*outputs, *sums)}

    def _is_plain_product(self, place: int) -> bool:
        e = self.e
        return e.ops[place] == MUL and self.uses[place] == 1 and self.is_row[e.a[place]] and self.is_row[e.b[place]]

    def _find_dots(self) -> dict[int, tuple[int | None, list[int]]]:
        """Sums of products, by the last addition: what they begin with (None: a product), and the products in order."""
        e, uses, is_row, kept = self.e, self.uses, self.is_row, self._kept
        here = set(self.places)
        self._absorbed: set[int] = set()
        found = {}

        def only_here(place: int, op: int) -> bool:
            return e.ops[place] == op and uses[place] == 1 and place in here and place not in kept

        for top in reversed(self.places):
            if e.ops[top] != ADD or top in self._absorbed:
                continue
            products: list[int] = []
            kind: bool | None = None
            at: int | None = top
            while at is not None:
                a, b = e.a[at], e.b[at]
                if not only_here(b, MUL):
                    a, b = b, a
                if not only_here(b, MUL):
                    break
                # Where both are products, the older one comes first.
                if only_here(a, MUL) and a > b:
                    a, b = b, a
                with_scalar = not (is_row[e.a[b]] and is_row[e.b[b]])
                if kind is None:
                    kind = with_scalar
                if with_scalar != kind:
                    break
                products.append(b)
                if at != top:
                    self._absorbed.add(at)
                self._absorbed.add(b)
                start: int | None = a
                if only_here(a, MUL) and (not (is_row[e.a[a]] and is_row[e.b[a]])) == kind:
                    products.append(a)
                    self._absorbed.add(a)
                    start = None
                at = start if start is not None and only_here(start, ADD) else None
            if products:
                products.reverse()
                found[top] = (start if at is None else at, products)
        return found

    def _operation(self, place: int, dots: dict[int, tuple[int | None, list[int]]]) -> None:
        e, is_row = self.e, self.is_row
        if place in dots:
            init, products = dots[place]
            factors = [(e.a[p], e.b[p]) for p in products]
            mode = ROWS
            if not all(is_row[a] and is_row[b] for a, b in factors):
                mode, factors = SCALAR_ROW, [(b, a) if is_row[a] else (a, b) for a, b in factors]
            rows = [x for pair in factors for x in pair if is_row[x]]
            if init is None:
                start = (NO_INIT, 0, 0)
            elif is_row[init]:
                start = (INIT_ROW, init, 0)
                rows.append(init)
            else:
                start = (INIT_SCALAR, init, 0)
            terms = [start, *((a, b, 0) for a, b in factors)]
            self.items.append(Item(_DOT + mode, place, 0, 0, rows, terms))
            return
        a, b = e.a[place], e.b[place]
        if b < 0:
            self.items.append(Item(4 * e.ops[place], place, a, b, (a,)))
        elif is_row[a] and is_row[b]:
            self.items.append(Item(4 * e.ops[place], place, a, b, (a, b)))
        elif is_row[a]:
            self.items.append(Item(4 * e.ops[place] + ROW_SCALAR, place, a, b, (a,)))
        else:
            self.items.append(Item(4 * e.ops[place] + SCALAR_ROW, place, a, b, (b,)))

    def _output(self, place: int, wanted: Sequence[tuple[int, int]]) -> None:
        for array, column in wanted:
            if self.is_row[place]:
                self.items.append(Item(_OUTPUT, column, place, array, (place,)))
            else:
                self.items.append(Item(_OUTPUT + SCALAR_ROW, column, place, array, ()))

    def _as_row(self, place: int) -> int:
        if self.is_row[place]:
            return place
        row = len(self.e.ops) + len(self.items)  # a place of its own
        self.items.append(Item(_BROADCAST, row, place, 0, ()))
        return row

    def _sum(self, number: int, a: int, b: int) -> None:
        self._pending.append((number, a, b))
        if len(self._pending) >= BATCH_OF_SUMS:
            self._flush()

    def _flush(self) -> None:
        if self._pending:
            rows = [x for _, a, b in self._pending for x in (a, b) if x >= 0]
            self.items.append(Item(_SUMS, 0, 0, 0, rows, self._pending))
            self._pending = []

    def _scalar(self, place: int) -> int:
        """Where a scalar is found: negative for what comes after the constants, whose number is not known yet."""
        if self.e.ops[place] != CONSTANT:
            return ~self._scalars[place]
        if place not in self._constant_places:
            self._constant_places[place] = len(self.constants)
            self.constants.append(place)
        return self._constant_places[place]

    def _allocate(self) -> Parts:
        """Give each expression a row from its computation to its last use."""
        last: dict[int, int] = {}
        for number, item in enumerate(self.items):
            for place in item.rows:
                last[place] = number
        code: list[tuple[int, int, int, int]] = []
        terms: list[tuple[int, int, int]] = []
        row_of: dict[int, int] = {}
        free: list[int] = []
        n_rows = 0
        scalar_fields: list[tuple[int, int]] = []  # (instruction, field) of scalars, to be completed
        scalar_terms: list[tuple[int, int]] = []
        scalar = self._scalar

        def new_row() -> int:
            nonlocal n_rows
            if free:
                return free.pop()
            n_rows += 1
            return n_rows - 1

        for number, item in enumerate(self.items):
            for place in item.rows:
                if place not in row_of:
                    row_of[place] = new_row()
                    code.append((_INPUT, row_of[place], *self.input_of(place)))
            op, d, a, b, rows, own_terms = item
            name = op - op % 4
            first = len(terms)
            if name == _SUMS:
                terms += [(s, row_of[x], row_of[y] if y >= 0 else -1) for s, x, y in own_terms]
                a, b = first, len(own_terms)
            elif name == _DOT:
                (kind, init, _), *pairs = own_terms
                if kind == INIT_SCALAR:
                    scalar_terms.append((first, 1))
                terms.append(
                    (kind, row_of[init] if kind == INIT_ROW else scalar(init) if kind == INIT_SCALAR else 0, 0)
                )
                if op % 4 == SCALAR_ROW:
                    scalar_terms += [(first + 1 + k, 0) for k in range(len(pairs))]
                    terms += [(scalar(x), row_of[y], 0) for x, y, _ in pairs]
                else:
                    terms += [(row_of[x], row_of[y], 0) for x, y, _ in pairs]
                a, b = first, len(own_terms)
            elif name in (_OUTPUT, _BROADCAST):
                if name == _OUTPUT and op % 4 == ROWS:
                    a = row_of[a]
                else:
                    scalar_fields.append((len(code), 2))
                    a = scalar(a)
            else:
                mode = op % 4
                if mode == SCALAR_ROW:
                    scalar_fields.append((len(code), 2))
                    a = scalar(a)
                else:
                    a = row_of[a]
                if mode == ROW_SCALAR:
                    scalar_fields.append((len(code), 3))
                    b = scalar(b)
                else:
                    b = row_of[b] if b >= 0 else 0
            free += [row_of[place] for place in set(rows) if last[place] == number]
            if name not in (_SUMS, _OUTPUT):
                row_of[d] = row = new_row()
                if d not in last:
                    free.append(row)
                d = row
            code.append((op, d, a, b))
        return self._finished(code, terms, scalar_fields, scalar_terms, n_rows)

    def _finished(
        self,
        code: list[tuple[int, int, int, int]],
        terms: list[tuple[int, int, int]],
        scalar_fields: list[tuple[int, int]],
        scalar_terms: list[tuple[int, int]],
        n_rows: int,
    ) -> Parts:
        n = len(self.constants)
        tables: list[np.ndarray[Any, Any]] = []
        for table, width, fields in ((code, 4, scalar_fields), (terms, 3, scalar_terms)):
            numbers = np.array(table, np.int32).reshape(-1, width)
            if fields:
                at = tuple(np.array(fields).T)
                numbers[at] = np.where(numbers[at] < 0, n + ~numbers[at], numbers[at])
            tables.append(numbers)
        constants = [x for x in (self.e.values[place] for place in self.constants) if x is not None]
        return Parts(tables[0], tables[1], constants, n_rows)
