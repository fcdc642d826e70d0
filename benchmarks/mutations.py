"""Wrong libraries: what benchmarks/mutants.py tries the suite on. Each is one change to one derivative or function."""

from __future__ import annotations

import ast
import contextlib
import copy
import functools
import importlib
import inspect
import itertools
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from scalargrad import graph, kernels, nodes
from scalargrad.operation import TABLE, OfNumbers, Op, Plans
from scalargrad.ops.shape import shaping
from scalargrad.pending import elements

tensor = importlib.import_module("scalargrad.tensor")  # the module: scalargrad.tensor is the function


class Mutant(NamedTuple):
    """A wrong library: `switch` makes it wrong while it is entered."""

    op: str
    what: str
    switch: Callable[[], Any]
    isa: str = ""  # the implementation of a kernel, where one that need not be in use is wrong


def derivatives_replaced(op: Op, derivatives: tuple[Any, ...]) -> Callable[[], Any]:
    """A context in which `op` has other derivatives."""

    @contextlib.contextmanager
    def switch() -> Iterator[None]:
        before = op.derivatives, op.gradients, op.plans, op.of_numbers
        op.derivatives, op.gradients, op.plans, op.of_numbers = derivatives, None, Plans(op), OfNumbers(op)
        try:
            yield
        finally:
            op.derivatives, op.gradients, op.plans, op.of_numbers = before

    return switch


@functools.cache
def lambdas(file: str) -> list[ast.Lambda]:
    """All lambdas in a source file."""
    return [n for n in ast.walk(ast.parse(Path(file).read_text(encoding="utf-8"))) if isinstance(n, ast.Lambda)]


def evaluated(node: ast.Lambda, like: Any) -> Any:
    """A lambda, with the names that `like` sees."""
    names = dict(like.__globals__)
    names.update(zip(like.__code__.co_freevars, (c.cell_contents for c in like.__closure__ or ()), strict=True))
    fresh = ast.fix_missing_locations(ast.Expression(copy.deepcopy(node)))
    return eval(compile(fresh, like.__code__.co_filename, "eval"), names)


def source(derivative: Any) -> ast.Lambda | None:
    """The lambda that a derivative was written as; None if it was not written as one."""
    code = derivative.__code__
    spans = set(code.co_positions())
    for node in lambdas(code.co_filename):
        body = node.body
        # What a lambda returns spans its body: no other lambda has an instruction of just this place.
        if (body.lineno, body.end_lineno, body.col_offset, body.end_col_offset) in spans:
            return node
    return None


def rewritten(node: ast.Lambda, tensors: set[str]) -> Iterator[tuple[str, ast.Lambda]]:
    """The lambdas that one change makes of this one."""

    def at(place: ast.AST, new: ast.AST) -> ast.Lambda:
        class Exchange(ast.NodeTransformer):
            def visit(self, other: ast.AST) -> Any:
                return new if other is place else self.generic_visit(other)

        # The tree is walked, not copied, to know the place again: so it is mended by rebuilding what was changed.
        return Exchange().visit(_shallow(node, place))

    for place in list(ast.walk(node.body)):
        here = ast.unparse(place) if isinstance(place, ast.expr) else ""
        if isinstance(place, ast.BinOp):
            left, right, op = place.left, place.right, place.op
            if isinstance(op, ast.Add | ast.Sub):
                other = ast.Sub() if isinstance(op, ast.Add) else ast.Add()
                yield f"drop {ast.unparse(right)} from {here}", at(place, left)
                yield f"drop {ast.unparse(left)} from {here}", at(place, right)
                yield f"turn the sign in {here}", at(place, ast.BinOp(left, other, right))
            elif isinstance(op, ast.Mult | ast.Div):
                yield f"drop {ast.unparse(right)} from {here}", at(place, left)
                if isinstance(op, ast.Mult):
                    yield f"drop {ast.unparse(left)} from {here}", at(place, right)
        elif isinstance(place, ast.UnaryOp) and isinstance(place.op, ast.USub):
            yield f"drop the sign of {here}", at(place, place.operand)
        elif isinstance(place, ast.Constant) and type(place.value) in (int, float) and place.value:
            yield f"double {here}", at(place, ast.Constant(2 * place.value))
        elif isinstance(place, ast.Call) and not place.keywords:
            called = ast.unparse(place.func)
            if called == "where" and len(place.args) == 3:
                condition, a, b = place.args
                yield f"turn round {here}", at(place, ast.Call(place.func, [condition, b, a], []))
            elif called == "ops.select":
                yield f"do not choose in {here}", at(place, place.args[1])
    used = sorted({n.id for n in ast.walk(node.body) if isinstance(n, ast.Name)} & tensors)
    for i, a in enumerate(used):
        for b in used[i + 1 :]:
            yield f"{a} for {b} and back", _renamed(node, {a: b, b: a})


def _shallow(node: ast.AST, place: ast.AST) -> Any:
    """A copy of a tree in which `place` is the very same node."""
    return copy.deepcopy(node, {id(place): place})


def _renamed(node: ast.Lambda, names: dict[str, str]) -> ast.Lambda:
    """The lambda with other names in its body."""
    fresh = copy.deepcopy(node)
    for part in ast.walk(fresh.body):
        if isinstance(part, ast.Name):
            part.id = names.get(part.id, part.id)
    return fresh


def is_zero(derivative: Any) -> bool:
    """Whether a derivative is 0 whatever comes: a thousandth more of it, or its opposite, is the same."""
    node = source(derivative)
    return node is not None and ast.unparse(node.body).startswith("ops.select(False,")


def scaled(derivative: Any, factor: float) -> Any:
    """A derivative times a number; its names stay, which say what is saved."""

    @functools.wraps(derivative)
    def wrong(*arguments: Any) -> Any:
        return derivative(*arguments) * factor

    return wrong


def of_derivatives() -> Iterator[Mutant]:
    """The mutants of the table."""
    for _, op in sorted(TABLE.items()):
        for i, derivative in enumerate(op.derivatives):
            if derivative is None:
                continue
            name = op.inputs[i]

            def mutant(what: str, wrong: Any, op: Op = op, i: int = i) -> Mutant:
                changed = (*op.derivatives[:i], wrong, *op.derivatives[i + 1 :])
                return Mutant(op.key, what, derivatives_replaced(op, changed))

            if not is_zero(derivative):
                yield mutant(f"∂{name} × 1.001", scaled(derivative, 1.001))
                yield mutant(f"∂{name} × −1", scaled(derivative, -1.0))
                yield mutant(f"∂{name}: g unused, ones in its place", _without_g(derivative))
            node = source(derivative)
            if node is not None:
                for what, wrong in rewritten(node, {*op.inputs, *op.results}):
                    yield mutant(f"∂{name}: {what}", evaluated(wrong, derivative))
        yield from _swapped(op)


def _without_g(derivative: Any) -> Any:
    @functools.wraps(derivative)
    def wrong(g: Any, *arguments: Any) -> Any:
        return derivative(g * 0 + 1, *arguments)

    return wrong


def _swapped(op: Op) -> Iterator[Mutant]:
    """Two inputs' derivatives exchanged, where they are not the same."""
    places = [i for i, d in enumerate(op.derivatives) if d is not None]
    for i in places:
        for k in places[places.index(i) + 1 :]:
            a, b = (source(op.derivatives[p]) for p in (i, k))
            if a is None or b is None or ast.dump(a) != ast.dump(b):
                changed = list(op.derivatives)
                changed[i], changed[k] = changed[k], changed[i]
                what = f"∂{op.inputs[i]} and ∂{op.inputs[k]} swapped"
                yield Mutant(op.key, what, derivatives_replaced(op, tuple(changed)))


GRADIENT_KERNELS = [name for name in kernels.__all__ if name.endswith(("_grad", "_take"))]
BORDERS = {"first": 0, "second": 1, "last": -1, "last but one": -2}


def of_kernels() -> Iterator[Mutant]:
    """Each gradient kernel with one wrong entry, at either end of the memory or of the first row: the one that a
    row uses, and that of every implementation that runs here, for either type of number."""
    for key in GRADIENT_KERNELS:
        for where, place in {**BORDERS, "end of the first line": None}.items():
            what = f"{where} entry off by a thousandth"
            if key in TABLE:  # the others compute what a row's derivative says, and are compared with that bit by bit
                op = TABLE[key]
                yield Mutant(key, f"kernel: {what}", attribute_replaced(op, "array", off(op.array, place)))
            for isa, dtype in itertools.product(kernels.available(), ("float32", "float64")):
                k = kernels.load(isa)
                switch = attribute_replaced(k, key, off(getattr(k, key), place, dtype))
                yield Mutant(key, f"kernel of {isa} in {dtype}: {what}", switch, isa)


def off(kernel: Any, place: int | None, dtype: str = "") -> Any:
    """A kernel with one wrong entry, in memory or at the end of the first line (None); only in `dtype`, if given."""

    @functools.wraps(kernel)
    def wrong(*inputs: Any) -> Any:
        y = np.array(kernel(*inputs))
        k = y.shape[-1] - 1 if place is None and y.ndim else place or 0
        if -y.size <= k < y.size and dtype in ("", y.dtype):
            y.reshape(-1)[k] += 1e-3 * (1 + abs(y.reshape(-1)[k]))
        return y

    return wrong


def attribute_replaced(owner: Any, name: str, wrong: Any) -> Callable[[], Any]:
    """A context in which an attribute is another."""

    @contextlib.contextmanager
    def switch() -> Iterator[None]:
        right = getattr(owner, name)
        setattr(owner, name, wrong)
        try:
            yield
        finally:
            setattr(owner, name, right)

    return switch


def of_gradients() -> Iterator[Mutant]:
    """Each Op that pulls its gradients at once on arrays, with one of them wrong in one entry."""
    for op in TABLE.values():
        if op.gradients is None:
            continue
        for which in (0, -1):
            for where, place in BORDERS.items():
                what = f"gradients: {('first', 'last')[which]}: {where} entry off by a thousandth"
                yield Mutant(op.key, what, gradients_replaced(op, one_off(op.gradients, which, place)))


def one_off(gradients: Any, which: int, place: int) -> Any:
    """The gradients, computed, with one wrong entry in one of them."""

    @functools.wraps(gradients)
    def wrong(*inputs: Any) -> list[Any]:
        found = [elements(g) for g in gradients(*inputs)]
        found[which] = off(lambda: found[which], place)()
        return found

    return wrong


def gradients_replaced(op: Op, wrong: Any) -> Callable[[], Any]:
    """A context in which `op` has other gradients on arrays."""

    @contextlib.contextmanager
    def switch() -> Iterator[None]:
        before = op.gradients, op.plans
        op.gradients, op.plans = wrong, Plans(op)
        try:
            yield
        finally:
            op.gradients, op.plans = before

    return switch


SHARED = "all"


def of_shared_code() -> Iterator[Mutant]:
    """What serves all Ops, done wrong: undoing broadcasting, adding up, writing in place."""
    right = shaping.sum_to_size.array

    def wrong_axis(x: Any, shape: tuple[int, ...]) -> Any:
        n = len(shape)
        if x.ndim > n and n and x.shape[:n] == tuple(shape):
            return x.sum(tuple(range(n, x.ndim)))
        return right(x, shape)

    def first_only(x: Any, shape: tuple[int, ...]) -> Any:
        axes = [i for i in range(1, len(shape) + 1) if shape[-i] == 1 and x.shape[-i] != 1]
        return right(np.take(x, [0], -axes[0]) if axes else x, shape)

    def mean(x: Any, shape: tuple[int, ...]) -> Any:
        y = right(x, shape)
        return y * (y.size / x.size) if x.size else y

    for what, wrong in (("over the wrong axis", wrong_axis), ("the first only", first_only), ("a mean", mean)):
        switch = attribute_replaced(shaping.sum_to_size, "array", wrong)
        yield Mutant(SHARED, f"broadcasting undone by a sum: {what}", switch)
    yield Mutant(SHARED, "broadcasting not undone", attribute_replaced(nodes, "fit", lambda g, shape, dtype: g))

    text = inspect.getsource(graph.sweep)
    for what, old, new in (
        ("the second contribution replaces the first", "grads[parent] = total + g", "grads[parent] = g"),
        ("the third contribution is lost", "grads[parent] = plus(total, g)", "pass"),
        ("sums in place from the first on", "grads[parent] = g\n", "grads[parent] = g; sums.add(parent)\n"),
        ("old nodes before young ones", "for node in order:", "for node in order[::-1]:"),
    ):
        if text.count(old) != 1:
            raise LookupError(f"graph.sweep no longer has {old!r} once: bring this mutant up to date")
        names = dict(vars(graph))
        exec(text.replace(old, new), names)
        yield Mutant(SHARED, f"sweep: {what}", attribute_replaced(tensor, "sweep", names["sweep"]))

    def replaced(self: Any, grad: Any, ours: bool) -> None:
        self._grad = tensor.wrap(np.array(grad))

    def no_views(self: Any, base: Any) -> list[Any]:
        return []

    yield Mutant(SHARED, "a leaf's gradient is replaced", attribute_replaced(tensor.Tensor, "accumulate", replaced))
    yield Mutant(SHARED, "views do not follow writes", attribute_replaced(tensor.Storage, "views_of", no_views))
    yield Mutant(SHARED, "writes are not noticed", attribute_replaced(tensor.Tensor, "stamp", lambda self: None))


def unchanged() -> Iterator[Mutant]:
    """No mutants: derivatives taken apart and put together again. If a test fails for these, it fails for anything."""
    for key, op in sorted(TABLE.items()):
        again = [d and (scaled(d, 1.0) if (node := source(d)) is None else evaluated(node, d)) for d in op.derivatives]
        if any(again):
            yield Mutant(key, "unchanged", derivatives_replaced(op, tuple(again)))


def mutants() -> Iterator[Mutant]:
    """All of them."""
    yield from of_derivatives()
    yield from of_kernels()
    yield from of_gradients()
    yield from of_shared_code()
