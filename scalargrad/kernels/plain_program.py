"""Straight-line programs in plain NumPy, with the bits of the compiled ones in float64.

NumPy's own exp and its kin are not those of the C library, so the elementary functions go through Python's, number by
number.
"""

from __future__ import annotations

import math
import operator
from collections.abc import Callable, Sequence
from typing import Any, TypeAlias

import numpy as np

from scalargrad import xp

from . import opcodes
from .opcodes import INIT_ROW, NO_INIT, ROW_SCALAR, SCALAR_ROW

Array: TypeAlias = np.ndarray[Any, Any]


def _each(function: Callable[[float], float]) -> Callable[[Array], Array]:
    return lambda a: np.array([function(x) for x in a.tolist()], a.dtype)


def _truth(compare: Callable[[Any, Any], Any]) -> Callable[[Any, Any], Array]:
    return lambda a, b: compare(a, b).astype(np.result_type(a))


def _pow(a: Any, n: Any) -> Array:
    a, n = np.broadcast_arrays(a, n)
    return np.array(list(map(xp.pow, a.tolist(), n.tolist())), a.dtype)


UNARY: dict[str, Callable[[Any], Any]] = {
    "neg": operator.neg,
    "exp": _each(xp.exp),
    "expm1": _each(xp.expm1),
    "log": _each(xp.log),
    "log1p": _each(xp.log1p),
    "sqrt": np.sqrt,
    "sin": _each(xp.sin),
    "cos": _each(xp.cos),
    "tan": _each(xp.tan),
    "tanh": _each(math.tanh),
    "erf": _each(math.erf),
    "sigmoid": _each(xp.sigmoid),
    "relu": lambda a: np.where(a < 0, a.dtype.type(0), a),
    "abs": np.abs,
    "sign": lambda a: np.subtract(a > 0, a < 0, dtype=a.dtype),
    "logical_not": lambda a: (a == 0).astype(a.dtype),
}
BINARY: dict[str, Callable[[Any, Any], Any]] = {
    "add": operator.add,
    "sub": operator.sub,
    "mul": operator.mul,
    "div": operator.truediv,
    "pow": _pow,
    "relu_grad": lambda g, y: np.where(y <= 0, g.dtype.type(0), g),
    "maximum": lambda a, b: np.where((a > b) | (a != a), a, b),
    "minimum": lambda a, b: np.where((a < b) | (a != a), a, b),
    "select": lambda c, a: np.where(c != 0, a, a.dtype.type(0)),
    "eq": _truth(operator.eq),
    "ne": _truth(operator.ne),
    "lt": _truth(operator.lt),
    "le": _truth(operator.le),
    "gt": _truth(operator.gt),
    "ge": _truth(operator.ge),
}
FUNCTIONS: list[Any] = [UNARY.get(name) or BINARY.get(name) for name in opcodes.NAMES]


class Program:
    """A straight-line program, as opcodes.py describes it.

    `inputs` and `outputs` are the numbers of columns of the arrays that it reads and writes, a row for each sample;
    `scalars` the lengths of the vectors that, after the constants, are its scalars. Raises ValueError where a number in
    it leads out of its table.
    """

    def __init__(
        self,
        dtype: np.dtype[Any],
        code: Array,
        terms: Array,
        constants: Sequence[float],
        inputs: Sequence[int],
        scalars: Sequence[int],
        outputs: Sequence[int],
        n_rows: int,
        n_sums: int,
    ) -> None:
        opcodes.check(code, terms, len(constants), inputs, scalars, outputs, n_rows, n_sums)
        self.dtype, self.n_rows, self.n_sums = dtype, n_rows, n_sums
        self._code, self._terms = code.tolist(), terms.tolist()
        self._constants = np.array(constants, dtype)
        self._widths = {"inputs": inputs, "scalars": scalars, "outputs": outputs}

    def run(
        self,
        n_samples: int,
        inputs: Sequence[Array],
        scalars: Sequence[Array],
        outputs: Sequence[Array],
        samples: Array | None = None,
    ) -> Array:
        """Carry the program out for each sample, or for those numbered in `samples`; the sums are returned.

        All arrays are C-contiguous and of the program's dtype; those of `outputs` are written to.
        """
        for what, arrays, n in (
            ("inputs", inputs, n_samples),
            ("outputs", outputs, n_samples),
            ("scalars", scalars, 1),
        ):
            self._check(what, arrays, n)
        chosen = np.arange(n_samples) if samples is None else np.asarray(samples)
        if chosen.size and (chosen.min() < 0 or chosen.max() >= n_samples):
            raise IndexError(f"program: samples reach beyond the {n_samples} that there are")
        columns = [x.reshape(n_samples, -1) for x in inputs] if n_samples else []
        results = [y.reshape(n_samples, -1) for y in outputs] if n_samples else []
        numbers = np.concatenate([self._constants, *(x.reshape(-1) for x in scalars)])
        sums = np.zeros(self.n_sums, self.dtype)
        length = opcodes.run_length(len(chosen))
        with np.errstate(all="ignore"):
            for first in range(0, len(chosen), length):
                sums += self._run(chosen[first : first + length], columns, numbers, results)
        return sums

    def _check(self, what: str, arrays: Sequence[Array], n: int) -> None:
        widths = self._widths[what]
        if len(arrays) != len(widths):
            raise ValueError(f"program: expected {len(widths)} {what}, got {len(arrays)}")
        for i, (x, width) in enumerate(zip(arrays, widths, strict=True)):
            if x.dtype != self.dtype or not x.flags.c_contiguous:
                raise TypeError(f"program: {what}[{i}] is not a C-contiguous array of {self.dtype}")
            if x.size != width * n:
                raise ValueError(f"program: expected {width * n} numbers in {what}[{i}], got {x.size}")

    def _run(self, who: Array, inputs: list[Array], scalars: Array, outputs: list[Array]) -> Array:
        n, terms = len(who), self._terms
        rows = np.zeros((self.n_rows, n), self.dtype)
        sums = np.zeros(self.n_sums, self.dtype)
        for op, d, a, b in self._code:
            name, mode = opcodes.NAMES[op // 4], op % 4
            if name in UNARY:
                rows[d] = FUNCTIONS[op // 4](rows[a])
            elif name in BINARY:
                x = scalars[a : a + 1] if mode == SCALAR_ROW else rows[a]
                y = scalars[b : b + 1] if mode == ROW_SCALAR else rows[b]
                rows[d] = FUNCTIONS[op // 4](x, y)
            elif name == "input":
                rows[d] = inputs[a][who, b]
            elif name == "output":
                outputs[b][who, d] = scalars[a] if mode == SCALAR_ROW else rows[a]
            elif name == "broadcast":
                rows[d] = scalars[a]
            elif name == "dot":
                rows[d] = _dot(terms[a : a + b], scalars if mode == SCALAR_ROW else rows, rows, scalars)
            else:
                for s, x, y in terms[a : a + b]:
                    products = rows[x] if y < 0 else rows[x] * rows[y]
                    sums[s] = np.add.accumulate(np.concatenate([sums[s : s + 1], products]))[-1]
        return sums


def _dot(terms: list[list[int]], factors: Array, rows: Array, scalars: Array) -> Any:
    (kind, place, _), *rest = terms
    if kind == NO_INIT:
        (x, y, _), *rest = rest
        total = factors[x] * rows[y]
    else:
        total = rows[place] if kind == INIT_ROW else scalars[place]
    for x, y, _ in rest:
        total = total + factors[x] * rows[y]
    return total


def program(dtype: np.dtype[Any], *parts: Any) -> Program:
    """The Program of these parts, for float32 or float64."""
    if dtype not in (np.dtype(np.float32), np.dtype(np.float64)):
        raise TypeError(f"program(): expected float32 or float64, got {dtype}")
    return Program(dtype, *parts)
