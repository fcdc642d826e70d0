"""The ways through a function: one trace for each sequence of outcomes of its comparisons, made when a sample needs it.

The first trace is tried for all samples. One that would have gone another way at comparison j belongs to what the trace
keeps under j: another trace, with the same comparisons before j, which is tried in turn. So a sample passes through as
many traces as it takes turns, however many traces there are.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterable, Sequence
from functools import cached_property
from itertools import chain
from typing import Any, NamedTuple, TypeAlias

import numpy as np

from scalargrad.compiler.expressions import Expressions
from scalargrad.compiler.listing import Names
from scalargrad.compiler.replay import Replay
from scalargrad.compiler.trace import Guard, Trace, Traced
from scalargrad.kernels.opcodes import RUN, run_length
from scalargrad.value import Value
from scalargrad.xp import quiet

Array: TypeAlias = np.ndarray[Any, Any]

MOST_CONDITIONS = 1 << 22
"""Outcomes of comparisons that are looked at together: bounds the memory that finding the paths takes."""


class Argument(NamedTuple):
    """An argument: its name, whether it has a number for each sample, and the shape of one sample's."""

    name: str
    batched: bool
    shape: tuple[int, ...]

    def size(self) -> int:
        """Numbers of one sample."""
        return int(np.prod(self.shape))

    def names(self) -> list[str]:
        """What the numbers are called in a listing."""
        if not self.shape:
            return [self.name]
        return [self.name + "".join(f"[{i}]" for i in at) for at in np.ndindex(self.shape)]


class Path:
    """One way through the function: the program for it, and the comparisons that decide whether a sample takes it."""

    def __init__(self, replay: Replay, shape: tuple[int, ...], conditions: Replay | None) -> None:
        self.replay, self.shape, self.conditions = replay, shape, conditions
        self.outcomes = np.zeros(0, bool)
        self.guards: list[int] = []  # of `outcomes`, the number of each comparison among all that were made
        self.forced: list[bool] = []  # the outcomes of all of them
        self.where: list[str] = []
        self.others: dict[int, Path] = {}
        self.n_captured = self.n_sums = self.n_traced = 0
        self.make_unsummed: Callable[[], Replay] = lambda: replay

    @cached_property
    def unsummed(self) -> Replay:
        """The program with what it adds up as one more output instead, for samples that do not all take this path."""
        return self.make_unsummed()

    def listing(self, title: str, names: Names) -> str:
        """The program, under a line for each comparison that decides on it."""
        decisions = [f"    {where} is {bool(o)}" for where, o in zip(self.where, self.outcomes, strict=True)]
        return "\n".join([title, *decisions, self.replay.listing(names)])


class Call(NamedTuple):
    """The numbers of one call: of `n` samples in `inputs`, an array (n, k) for each argument, and the shared ones."""

    paths: Paths
    n: int
    inputs: list[Array]
    shared: list[Array]

    def sample(self, i: int) -> list[list[float]]:
        """The numbers of one sample, argument by argument. Where there is no sample, it is made of zeros."""
        rows = iter([x[i] if self.n else np.zeros(x.shape[1]) for x in self.inputs])
        vectors = iter(self.shared)
        batched = [a.batched or not self.paths.has_batch for a in self.paths.arguments]
        return [(next(rows) if own else next(vectors)).tolist() for own in batched]

    def for_path(self, path: Path) -> tuple[list[Array], Array]:
        """The arrays that a path's programs read, and the vector of what is the same for all samples."""
        dtype = self.paths.dtype
        captured = _NOTHING[dtype]
        if path.n_captured:
            with np.errstate(over="ignore"):  # a number beyond float32 is inf there
                captured = np.array([v.data for v in self.paths.captured[: path.n_captured]], dtype)
        if not self.paths.has_batch:
            return [*self.inputs, captured[None]], _NOTHING[dtype]
        if path.n_captured or len(self.shared) > 1:
            return self.inputs, np.concatenate([*self.shared, captured])
        return self.inputs, self.shared[0] if self.shared else _NOTHING[dtype]


_NOTHING = {dtype: np.zeros(0, dtype) for dtype in (np.dtype(np.float32), np.dtype(np.float64))}


class Paths:
    """The paths for arguments of given shapes.

    `wanted` names the arguments whose gradients are computed; it is None for those of the Values that the function
    closes over.
    """

    def __init__(
        self,
        fn: Callable[..., Any],
        name: str,
        arguments: Sequence[Argument],
        wanted: tuple[str, ...] | None,
        dtype: np.dtype[Any],
        max_traces: int,
    ) -> None:
        self.fn, self.name, self.arguments, self.wanted, self.dtype = fn, name, arguments, wanted, dtype
        self.max_traces = max_traces
        self.paths: list[Path] = []
        self.captured: list[Value] = []
        self.has_batch = any(argument.batched for argument in arguments)
        self.chosen = [argument for argument in arguments if wanted and argument.name in wanted]
        self.with_rows = [a for a in self.chosen if a.batched or not self.has_batch]
        self.summed = [(a, a.size()) for a in self.chosen if self.has_batch and not a.batched]
        self._lock = threading.RLock()
        self._place_of: dict[Value, int] = {}
        self._n_shared = sum(a.size() for a in arguments if not a.batched)

    def first(self, call: Call) -> Path:
        """The path that is tried first; it is traced if there is none yet."""
        if not self.paths:
            with self._lock:
                if not self.paths:
                    self.paths.append(self._trace(call.sample(0), []))
        return self.paths[0]

    def taken(self, call: Call) -> list[tuple[Path, Array | None]]:
        """The paths that samples take, in the order of their first samples, with the samples; None is all of them."""
        path = self.first(call)
        if path.conditions is None or call.n == 0:
            return [(path, None)]
        if call.n == 1:
            return [(self._of_one(path, call), None)]
        found: dict[Path, list[Array]] = {}
        step = max(1, MOST_CONDITIONS // len(path.outcomes))
        todo = [(path, np.arange(first, min(first + step, call.n))) for first in range(0, call.n, step)]
        while todo:
            path, who = todo.pop()
            if path.conditions is None:
                found.setdefault(path, []).append(who)
                continue
            inputs, shared = call.for_path(path)
            holds = np.empty((len(who), len(path.outcomes)), self.dtype)
            path.conditions.run(len(who), [np.ascontiguousarray(x[who]) for x in inputs], shared, (holds,))
            other = (holds != 0) != path.outcomes
            turn = np.where(other.any(1), other.argmax(1), -1)
            for j in np.unique(turn).tolist():
                those = who[turn == j]
                if j < 0:
                    found.setdefault(path, []).append(those)
                else:
                    todo.append((self._other(path, j, call, int(those[0])), those))
        merged = [(path, np.sort(np.concatenate(parts))) for path, parts in found.items()]
        merged.sort(key=lambda pair: pair[1][0])
        return [(merged[0][0], None)] if len(merged) == 1 else list(merged)

    def _of_one(self, path: Path, call: Call) -> Path:
        """The path that the only sample takes."""
        while path.conditions is not None:
            inputs, shared = call.for_path(path)
            holds = np.empty((1, len(path.outcomes)), self.dtype)
            path.conditions.run(1, inputs, shared, (holds,))
            other = ((holds[0] != 0) != path.outcomes).nonzero()[0]
            if not other.size:
                break
            path = self._other(path, int(other[0]), call, 0)
        return path

    def _other(self, path: Path, j: int, call: Call, sample: int) -> Path:
        """Where a sample goes that leaves `path` at comparison j."""
        with self._lock:
            if j not in path.others:
                if len(self.paths) >= self.max_traces:
                    raise RuntimeError(
                        f"{self.name}(): the samples take more than {self.max_traces} ways through the function; the "
                        f"limit was met at the comparison in {path.where[j]}. Replace the branch by relu(), max() or "
                        "min(), which need none, or raise max_traces"
                    )
                k = path.guards[j]
                new = self._trace(call.sample(sample), [*path.forced[:k], not path.forced[k]])
                if new.guards[: j + 1] != path.guards[: j + 1] or new.where[: j + 1] != path.where[: j + 1]:
                    raise RuntimeError(
                        f"{self.name}(): made other comparisons for the same outcomes when traced again "
                        f"({path.where[j]}); a compiled function may depend on nothing but its arguments"
                    )
                self.paths.append(new)
                path.others[j] = new
            return path.others[j]

    def _trace(self, numbers: list[Any], forced: list[bool]) -> Path:
        """Trace the function for one sample, given as flat lists of numbers."""
        while True:
            try:
                return self._traced(numbers, forced)
            except _Contradiction as error:
                forced = error.outcomes

    def _traced(self, numbers: list[Any], forced: list[bool]) -> Path:
        with Trace(self.name, forced) as trace:
            leaves = [[trace.leaf(x) for x in flat] for flat in numbers]
            try:
                result = self.fn(*(nested(flat, a.shape) for flat, a in zip(leaves, self.arguments, strict=True)))
            except Exception as error:
                shapes = ", ".join(f"{a.name!r} of shape {a.shape}" for a in self.arguments)
                error.add_note(f"while {self.name}() was traced for one sample: {shapes}")
                raise
            values, shape = self._flat_result(trace, result)
            for v in trace.captured:
                if v not in self._place_of:
                    self._place_of[v] = len(self.captured)
                    self.captured.append(v)
            wanted = self._wanted_leaves(trace, leaves)
            if self.wanted != () and shape != ():
                raise RuntimeError(
                    f"{self.name}(): gradients are those of one number, but the function gives {shape} of them"
                )
            gradients = trace.gradients(values[0] if values else 0.0, list(chain(*wanted)))
            path = self._path(trace, leaves, values, shape, wanted, gradients)
            trace.forget()
        return path

    def _wanted_leaves(self, trace: Trace, leaves: list[list[Traced]]) -> list[list[Traced]]:
        if self.wanted is None:  # one that this path does not use has the gradient 0
            return [[trace.captured[v] if v in trace.captured else trace.leaf(v.data) for v in self.captured]]
        return [flat for flat, argument in zip(leaves, self.arguments, strict=True) if argument in self.chosen]

    def _flat_result(self, trace: Trace, result: Any) -> tuple[list[Any], tuple[int, ...]]:
        shape: list[int] = []
        values = [result]
        while isinstance(values[0], (list, tuple)):
            shape.append(len(values[0]))
            if any(not isinstance(v, (list, tuple)) or len(v) != shape[-1] for v in values):
                raise TypeError(f"{self.name}(): gave nested lists of different lengths")
            values = list(chain(*values))
            if not values:
                break
        if any(isinstance(v, (list, tuple)) for v in values):
            raise TypeError(f"{self.name}(): gave nested lists of different lengths")
        try:
            return [trace.operand(v) for v in values], tuple(shape)
        except TypeError as error:
            if type(error) is not TypeError:
                raise
            wrong = next(v for v in values if not isinstance(v, (Value, float, int)))
            raise TypeError(
                f"{self.name}(): expected a Value, a number or lists of them as the result, got {type(wrong).__name__}"
            ) from None

    def _path(
        self,
        trace: Trace,
        leaves: list[list[Traced]],
        values: list[Any],
        shape: tuple[int, ...],
        wanted: list[list[Traced]],
        gradients: list[Any],
    ) -> Path:
        e = Expressions()
        widths = self._enter_inputs(e, trace, leaves)
        e.take(trace.tape)

        def place(v: Any) -> int:
            return v.place if type(v) is Traced else e.constant(v)

        outputs, output_widths, sums = [(0, k, place(v)) for k, v in enumerate(values)], [len(values)], []
        places = map(place, gradients)
        for flat, argument in zip(wanted, self.chosen if self.wanted is not None else [None], strict=True):
            own = [next(places) for _ in flat]
            if self.has_batch and not (argument is not None and argument.batched):
                sums += own
            else:
                outputs += [(len(output_widths), k, p) for k, p in enumerate(own)]
                output_widths.append(len(own))
        n_shared = self._n_shared + len(self.captured) if self.has_batch else 0
        guards = _deciding(e, trace)
        conditions = None
        if guards:
            tests = [(0, k, g.condition.place) for k, (_, g) in enumerate(guards)]
            conditions = Replay(e, tests, (), widths, n_shared, [len(tests)], self.dtype)
        path = Path(Replay(e, outputs, sums, widths, n_shared, output_widths, self.dtype), shape, conditions)
        if guards:
            rows = [*outputs, *((len(output_widths), k, p) for k, p in enumerate(sums))]
            path.make_unsummed = lambda: Replay(e, rows, (), widths, n_shared, [*output_widths, len(sums)], self.dtype)
        path.outcomes = np.array([g.outcome for _, g in guards], bool)
        path.guards = [k for k, _ in guards]
        path.forced = [g.outcome for g in trace.guards]
        path.where = [g.where for _, g in guards]
        path.n_captured, path.n_sums = len(self.captured), len(sums)
        path.n_traced = len(trace.tape)
        return path

    def _enter_inputs(self, e: Expressions, trace: Trace, leaves: list[list[Traced]]) -> list[int]:
        """Give the leaves of a trace their places; the widths of the input arrays are returned."""
        widths: list[int] = []
        n_shared = 0
        for flat, argument in zip(leaves, self.arguments, strict=True):
            if argument.batched or not self.has_batch:
                for k, v in enumerate(flat):
                    v.place = e.input(len(widths), k)
                widths.append(len(flat))
            else:
                for k, v in enumerate(flat):
                    v.place = e.shared(n_shared + k)
                n_shared += len(flat)
        for owner, leaf in trace.captured.items():
            k = self._place_of[owner]
            leaf.place = e.shared(n_shared + k) if self.has_batch else e.input(len(widths), k)
        if not self.has_batch:
            widths.append(len(self.captured))
        for leaf in trace.constants:
            leaf.place = e.constant(leaf.known)
        return widths

    def listing(self, path: Path, title: str) -> str:
        """A path's program in words."""
        own = [a.names() for a in self.arguments if a.batched or not self.has_batch]
        shared = [x for a in self.arguments if not a.batched and self.has_batch for x in a.names()]
        captured = [f"captured[{k}]" for k in range(path.n_captured)]
        rows = [Argument("result", False, path.shape).names(), *(_gradients(a.names()) for a in self.with_rows)]
        sums = _gradients(x for a, _ in self.summed for x in a.names())
        if self.wanted is None:
            rows, sums = (rows, _gradients(captured)) if self.has_batch else ([*rows, _gradients(captured)], [])
        names = Names(own, shared + captured, rows, sums) if self.has_batch else Names([*own, captured], [], rows, sums)
        return path.listing(title, names)


def _gradients(names: Iterable[str]) -> list[str]:
    return [f"grad {name}" for name in names]


@quiet
def summed_in_order(call: Call, taken: list[tuple[Path, Array]], outputs: list[Array]) -> Array:
    """Fill `outputs`, and give the sums over samples that take several paths.

    They are added up in the samples' order, and in the same runs, as if all samples took one path.
    """
    dtype, n = call.paths.dtype, call.n
    total = np.zeros(max(path.n_sums for path, _ in taken), dtype)
    length = run_length(n)
    of_run = np.zeros_like(total)
    for first in range(0, n, RUN):
        last = min(first + RUN, n, first - first % length + length)
        rows = np.zeros((last - first, len(total)), dtype)
        for path, who in taken:
            part = who[np.searchsorted(who, first) : np.searchsorted(who, last)] - first
            inputs, shared = call.for_path(path)
            own = np.zeros((last - first, path.n_sums), dtype)
            path.unsummed.run(
                last - first, [x[first:last] for x in inputs], shared, [*(y[first:last] for y in outputs), own], part
            )
            rows[part, : path.n_sums] = own[part]
        of_run = np.add.accumulate(np.concatenate([of_run[None], rows]))[-1]
        if last % length == 0 or last == n:
            total, of_run = total + of_run, np.zeros_like(total)
    return total


class _Contradiction(Exception):
    """A comparison came out in two ways in one trace: once forced by float32, once as float64 has it."""

    def __init__(self, outcomes: list[bool]) -> None:
        super().__init__(outcomes)
        self.outcomes = outcomes  # of the comparisons up to the second time, which is as the first


def _deciding(e: Expressions, trace: Trace) -> list[tuple[int, Guard]]:
    """The comparisons that may come out either way, each once, with their numbers among all that were made."""
    found: dict[int, tuple[int, Guard]] = {}
    for k, guard in enumerate(trace.guards):
        place = guard.condition.place
        if e.values[place] is not None:
            continue
        first = found.setdefault(place, (k, guard))[1]
        if guard.outcome != first.outcome:
            raise _Contradiction([*(g.outcome for g in trace.guards[:k]), first.outcome])
    return list(found.values())


def nested(flat: list[Any], shape: tuple[int, ...]) -> Any:
    """The entries of `flat` as lists in lists; the one entry itself if there are no dimensions."""
    box = np.empty(len(flat), object)
    box[:] = flat
    return box.reshape(shape).tolist()
