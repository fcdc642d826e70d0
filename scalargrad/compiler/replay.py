"""Replay: programs made of expressions, and run on arrays."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, TypeAlias

import numpy as np

from scalargrad import kernels
from scalargrad.compiler.assembly import Assembler, live
from scalargrad.compiler.expressions import SHARED, Expressions
from scalargrad.compiler.listing import Names, listing
from scalargrad.xp import quiet

Array: TypeAlias = np.ndarray[Any, Any]
Output: TypeAlias = tuple[int, int, int]
"""An array, a column of it, and the expression to be written there."""


class Replay:
    """Expressions as two programs: one for what is the same for all samples, run once a call, and one for the samples.

    `widths` are the numbers of columns of the input arrays, `output_widths` those of the output arrays; there are
    `n_shared` shared numbers. `sums` names the expressions to be added up over the samples.
    """

    @quiet  # a constant beyond float32 is inf there
    def __init__(
        self,
        e: Expressions,
        outputs: Sequence[Output],
        sums: Sequence[int],
        widths: Sequence[int],
        n_shared: int,
        output_widths: Sequence[int],
        dtype: np.dtype[Any],
    ) -> None:
        roots = [place for *_, place in outputs] + list(sums)
        operations = live(e, roots)
        body = [place for place in operations if e.rows[place]]
        once = [place for place in operations if not e.rows[place]]
        used = {x for place in body for x in (e.a[place], e.b[place])}.union(roots)
        exported = [place for place in once if place in used]
        scalars = {place: e.a[place] for place in range(len(e.ops)) if e.ops[place] == SHARED}
        scalars.update({place: n_shared + k for k, place in enumerate(exported)})

        def column(place: int) -> tuple[int, int]:
            return e.a[place], e.b[place]

        self.parts = Assembler(e, body, e.rows, scalars, column).assemble(outputs, list(enumerate(sums)))
        self.program = kernels.program(
            dtype, *self.parts[:3], widths, (n_shared, len(exported)), output_widths, self.parts.n_rows, len(sums)
        )
        self.once, self.once_parts, self.n_exported = None, None, len(exported)
        self._nothing = np.zeros(0, dtype)
        if exported:
            is_row = [value is None for value in e.values]
            before = Assembler(e, once, is_row, {}, lambda place: (0, e.a[place]))
            self.once_parts = before.assemble([(0, k, place) for k, place in enumerate(exported)], [])
            self.once = kernels.program(
                dtype, *self.once_parts[:3], (n_shared,), (), (len(exported),), self.once_parts.n_rows, 0
            )

    def run(
        self, n: int, inputs: Sequence[Array], shared: Array, outputs: Sequence[Array], samples: Array | None = None
    ) -> Array:
        """Fill `outputs`; the sums are returned."""
        scalars = self._nothing
        if self.once is not None:
            scalars = np.empty(self.n_exported, shared.dtype)
            self.once.run(1, (shared,), (), (scalars,))
        sums: Array = self.program.run(n, inputs, (shared, scalars), outputs, samples)
        return sums

    def listing(self, names: Names) -> str:
        """The two programs in words."""
        text = ""
        n_shared = len(names.shared)
        exported = [f"once[{k}]" for k in range(self.n_exported)]
        if self.once_parts is not None:
            inside = Names([names.shared], [], [exported], [])
            text = listing(self.once_parts, inside, "once a call")
        inside = Names(names.inputs, [*names.shared[:n_shared], *exported], names.outputs, names.sums)
        return text + listing(self.parts, inside, "for every sample")
