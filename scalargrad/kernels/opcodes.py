"""The instructions of a program, by name: what `program.pxi` and `plain_program` both carry out.

An instruction is four integers: opcode, destination and two operands. The opcode is 4 times a place in NAMES plus a
mode, which says of each operand whether it is a row (a number for each sample) or a scalar (one number for all).

    unary operations     rows[d] = op(rows[a])                                    mode ROWS
    binary operations    rows[d] = op(a, b)                                       ROWS, ROW_SCALAR, SCALAR_ROW
    input                rows[d] = column b of input array a                      ROWS
    output               column d of output array b = a                           ROWS; SCALAR_ROW where a is a scalar
    broadcast            rows[d] = scalar a                                       ROWS
    dot                  rows[d] = init + x1 * y1 + ..., left to right            ROWS; SCALAR_ROW where x is a scalar
    sums                 sums[s] += rows[x] * rows[y], for several triples        ROWS

`dot` and `sums` find their operands in the table of terms, three integers each: b of them from place a on. The first
term of a dot is (kind, place, 0), the kind of init: NO_INIT, INIT_ROW or INIT_SCALAR; then (x, y, 0). A term of sums
is (s, x, y); y = -1 leaves out the factor. Nothing is fused and nothing reordered: a product is rounded before it is
added, and a sum runs over the samples in their order.
"""

from collections.abc import Sequence
from typing import Any

import numpy as np

ROWS, ROW_SCALAR, SCALAR_ROW = 0, 1, 2
NO_INIT, INIT_ROW, INIT_SCALAR = 0, 1, 2

UNARY = tuple("neg exp expm1 log log1p sqrt sin cos tan tanh erf sigmoid relu abs sign logical_not".split())
BINARY = tuple("add sub mul div pow relu_grad maximum minimum select eq ne lt le gt ge".split())
NAMES = (*UNARY, *BINARY, "input", "output", "broadcast", "dot", "sums")
"""Every instruction, in the order of the opcodes."""

LANES = 64
"""Samples that go through a program together."""

RUN, MOST_RUNS = 256, 32
"""Sums are taken over runs of this many samples, and longer ones where there would be more than MOST_RUNS. That depends
on the number of samples alone, so that the bits do not depend on the number of threads."""


def opcode(name: str, mode: int = ROWS) -> int:
    """The number that stands for an operation in a mode."""
    return 4 * NAMES.index(name) + mode


def run_length(n_samples: int) -> int:
    """Samples of a run: RUN or a multiple of it."""
    return max(1, -(-n_samples // (MOST_RUNS * RUN))) * RUN


def check(
    code: Any,
    terms: Any,
    n_constants: int,
    inputs: Sequence[int],
    scalars: Sequence[int],
    outputs: Sequence[int],
    n_rows: int,
    n_sums: int,
) -> None:
    """Raise ValueError unless every number in a program stays within its table."""
    code, terms = np.asarray(code), np.asarray(terms)
    for table, columns in ((code, 4), (terms, 3)):
        if table.ndim != 2 or table.shape[1] != columns or table.dtype != np.int32:
            raise ValueError(f"program: expected an (n, {columns}) table of int32, got {table.dtype} {table.shape}")
    if n_rows < 0 or n_sums < 0 or min((*inputs, *scalars, *outputs), default=0) < 0:
        raise ValueError("program: a size is negative")
    n_scalars = n_constants + sum(scalars)
    op, mode = code[:, 0] // 4, code[:, 0] % 4
    d, a, b = code[:, 1], code[:, 2], code[:, 3]

    def within(numbers: Any, size: Any, what: str) -> None:
        if np.any((numbers < 0) | (numbers >= size)):
            raise ValueError(f"program: {what} out of range")

    within(op, len(NAMES), "opcode")
    places = {name: number for number, name in enumerate(NAMES)}
    unary, binary = op < len(UNARY), (op >= len(UNARY)) & (op < len(UNARY) + len(BINARY))
    is_input, is_output, is_broadcast, is_dot, is_sums = (op == places[name] for name in NAMES[-5:])
    within(mode[binary], 3, "mode")
    within(mode[unary | is_input | is_broadcast | is_sums], 1, "mode")
    within(mode[is_output | is_dot] % 2, 1, "mode")
    within(d[unary | binary | is_input | is_broadcast | is_dot], n_rows, "destination")
    within(a[unary | (is_output & (mode == ROWS)) | (binary & (mode != SCALAR_ROW))], n_rows, "row")
    within(b[binary & (mode != ROW_SCALAR)], n_rows, "row")
    within(a[is_broadcast | ((binary | is_output) & (mode == SCALAR_ROW))], n_scalars, "scalar")
    within(b[binary & (mode == ROW_SCALAR)], n_scalars, "scalar")
    for chosen, array, column, widths in ((is_input, a, b, inputs), (is_output, b, d, outputs)):
        within(array[chosen], len(widths), "array")
        if chosen.any():
            within(column[chosen], np.asarray(widths)[array[chosen]], "column")
    chains = np.flatnonzero(is_dot | is_sums)
    first, count = a[chains].astype(np.int64), b[chains].astype(np.int64)
    within(count - 1, len(terms), "number of terms")
    within(first, len(terms), "term")
    within(first + count - 1, len(terms), "term")
    owner, start = np.repeat(chains, count), np.repeat(np.cumsum(count) - count, count)
    number = np.arange(len(owner)) - start  # of a term, in its dot or sums
    t = terms[np.repeat(first, count) + number]
    of_sums, of_scalars = is_sums[owner], mode[owner] == SCALAR_ROW
    is_init = ~of_sums & (number == 0)
    t_sums, t_inits = t[of_sums], t[is_init]
    within(t_sums[:, 0], n_sums, "sum")
    within(t_sums[:, 1], n_rows, "row")
    within(t_sums[:, 2] + 1, n_rows + 1, "row")
    within(t_inits[:, 0], 3, "kind of init")
    within(t_inits[:, 1], np.array([1, n_rows, n_scalars])[t_inits[:, 0]], "init")
    within(count[is_dot[chains]][t_inits[:, 0] == NO_INIT] - 2, len(terms), "number of terms")
    factors = ~of_sums & ~is_init
    within(t[factors & of_scalars][:, 0], n_scalars, "factor")
    within(t[factors & ~of_scalars][:, 0], n_rows, "factor")
    within(t[factors][:, 1], n_rows, "row")
