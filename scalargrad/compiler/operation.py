"""A compiled function as an operation on Tensors: a row like those of the table, its derivatives compiled in turn.

The gradient of Σ g · f for one argument is one program. Its own derivative, met by a cotangent c, is that of the number
Σ c · ∂(Σ g · f), which is a function of Values again: so derivatives of every order are compiled.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Any

import numpy as np

from scalargrad.graph import sweep
from scalargrad.operation import Op
from scalargrad.value import Value

if TYPE_CHECKING:
    from scalargrad.compiler.compiled import Compiled

_PLAIN = inspect.Parameter.POSITIONAL_OR_KEYWORD


def operation(compiled: Compiled) -> Op:
    """The Op that computes `compiled` on arrays."""
    weighted = _weighted(compiled)

    def derivative(i: int) -> Callable[..., Any]:
        return lambda g, *inputs: _gradient(weighted, i + 1)(g, *inputs)

    return _op(compiled, lambda *arrays: np.asarray(compiled(*arrays)), derivative)


def _gradient(compiled: Compiled, i: int) -> Op:
    """The Op that computes the gradient of `compiled`, which gives one number, for its i-th argument."""
    if i not in compiled.gradients:
        name = compiled.parameters[i]

        def derivative(j: int) -> Callable[..., Any]:
            return lambda c, *inputs: _gradient(_met(compiled, i), j + 1)(c, *inputs)

        compiled.gradients[i] = _op(compiled, lambda *arrays: compiled.grad(*arrays, wrt=name), derivative)
    return compiled.gradients[i]


def _op(compiled: Compiled, array: Callable[..., Any], derivative: Callable[[int], Callable[..., Any]]) -> Op:
    names = [f"p{i}" for i in range(len(compiled.parameters))]
    derivatives = [_with_parameters(derivative(i), ["g", *names]) for i in range(len(names))]
    op = Op(None, array, " ".join(names), *derivatives, name=compiled.name, fits=True)
    op.key = compiled.name
    return op


def _weighted(compiled: Compiled) -> Compiled:
    """Σ g · f, a number for each sample."""

    def weighted(g: Any, *args: Any) -> Any:
        return _dot(g, compiled.fn(*args))

    return _with_one_more(compiled, weighted, bool(compiled.batched))


def _met(compiled: Compiled, i: int) -> Compiled:
    """Σ c · ∂f/∂(argument i), a number for each sample."""

    def met(c: Any, *args: Any) -> Any:
        y = compiled.fn(*args)
        leaves = list(_flat(args[i]))
        grads = sweep(y, Value(1.0), targets=set(leaves)) if isinstance(y, Value) else {}
        return _dot(c, [grads.get(x, 0.0) for x in leaves])

    return _with_one_more(compiled, met, compiled.parameters[i] in compiled.batched)


def _with_one_more(compiled: Compiled, fn: Callable[..., Any], batched: bool) -> Compiled:
    name = "g"
    while name in compiled.parameters:
        name += "_"
    fn.__name__ = compiled.name
    return compiled.derived(
        _with_parameters(fn, [name, *compiled.parameters]), (*compiled.batched, name) if batched else compiled.batched
    )


def _with_parameters(fn: Callable[..., Any], names: list[str]) -> Callable[..., Any]:
    fn.__signature__ = inspect.Signature([inspect.Parameter(name, _PLAIN) for name in names])  # type: ignore[attr-defined]
    return fn


def _flat(x: Any) -> Iterator[Any]:
    if isinstance(x, (list, tuple)):
        for part in x:
            yield from _flat(part)
    else:
        yield x


def _dot(a: Any, b: Any) -> Any:
    total: Any = 0.0
    for x, y in zip(_flat(a), _flat(b), strict=True):
        total = total + x * y
    return total
