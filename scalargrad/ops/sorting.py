"""Sorting: stable, nan after every number, and the gradient goes back to where each entry came from."""

from __future__ import annotations

from typing import Any

import numpy as np

from scalargrad.operation import Op, Recordable
from scalargrad.ops import return_types
from scalargrad.ops.dimensions import as_dim, check_tensor
from scalargrad.ops.extremes import entries_row
from scalargrad.ops.shape import along, shaping


def _argsort(x: Any, dim: int, descending: bool) -> Any:
    if not descending:
        return x.argsort(dim, kind="stable")
    # Sorting the reverse and reversing keeps the order of what ties, and puts nan first.
    reverse = along(dim, slice(None, None, -1))
    return x.shape[dim] - 1 - x[reverse].argsort(dim, kind="stable")[reverse]


def _first(x: Any, k: int, dim: int, descending: bool) -> Any:
    return np.ascontiguousarray(_argsort(x, dim, descending)[along(dim, slice(k))])


class sorting:
    """The rows."""

    argsort = Op(None, _argsort, "x dim descending")
    argtopk = Op(None, _first, "x k dim descending")
    sort, topk = entries_row("sort"), entries_row("topk")
    alongside = Op(None, lambda x, array: array, "x array", doc="An array that was made from x, as a Tensor if x is.")


def sort(input: Any, dim: int = -1, descending: bool = False, stable: bool = False) -> Any:
    """The entries along `dim` in order, and their indices: a pair (values, indices). Always stable. nan is largest."""
    indices = argsort(input, dim, descending)
    if input.ndim == 0:
        return return_types.sort(shaping.view(input, ()), indices)
    return return_types.sort(sorting.sort(input, indices, as_dim(dim, input, "sort"), True), indices)


def argsort(input: Any, dim: int = -1, descending: bool = False, stable: bool = False) -> Any:
    """The indices that sort the entries along `dim`, equal ones in their order."""
    dim = as_dim(dim, input, "sort")
    if input.ndim == 0:
        return shaping.view(sorting.argsort(shaping.view(input, (1,)), 0, descending), ())
    return sorting.argsort(input, dim, descending)


def topk(input: Any, k: int, dim: int = -1, largest: bool = True, sorted: bool = True) -> Any:
    """The `k` largest entries along `dim` (or smallest), and their indices, in order. nan is largest.

    Raises RuntimeError unless 0 <= k <= the dimension's size.
    """
    dim = as_dim(dim, input, "topk")
    size = input.shape[dim] if input.ndim else 1
    if not 0 <= k <= size:
        raise RuntimeError(f"topk(): selected index k out of range: k is {k}, and dimension {dim} has size {size}")
    if input.ndim == 0:
        flat = topk(shaping.view(input, (1,)), k, 0, largest)
        return return_types.topk(*flat) if k == 0 else return_types.topk(*[shaping.view(x, ()) for x in flat])
    indices = sorting.argtopk(input, k, dim, largest)
    return return_types.topk(sorting.topk(input, indices, dim, True), indices)


def unique(
    input: Any, sorted: bool = True, return_inverse: bool = False, return_counts: bool = False, dim: int | None = None
) -> Any:
    """The different entries in order, or with `dim` the different slices along it; each nan is one of its own.

    `return_inverse` adds, for each entry, which of them it is; `return_counts`, how often each occurs. No gradient.
    """
    check_tensor(input, "unique")
    array = input.array if isinstance(input, Recordable) else input  # type: ignore[attr-defined]
    axis = None if dim is None else as_dim(dim, array, "unique")
    values, inverse, counts = np.unique(array, return_inverse=True, return_counts=True, axis=axis, equal_nan=False)
    inverse = inverse.reshape(array.shape if dim is None else -1)
    chosen = [values, *([inverse] if return_inverse else []), *([counts] if return_counts else [])]
    tensors = tuple([sorting.alongside(input, x) for x in chosen])
    return tensors if len(tensors) > 1 else tensors[0]
