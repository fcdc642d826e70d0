"""Entries by their index along one dimension: taken from an array, put into it, added up in it.

Index and entries have the array's number of dimensions, and at most its sizes in the others. Where these are the same
and the array is contiguous, an entry's position in row order is worked out, and NumPy goes by that: it takes a million
from (1000, 1000) in 0.7 ms, where an index for each dimension takes 2.7, and adds them up in 1.0 where that takes 7.
"""

from __future__ import annotations

from math import prod
from typing import Any

import numpy as np


def taken(x: Any, index: Any, dim: int) -> Any:
    """y[i, j, …] = x[…, index[i, j, …], …], with the index at `dim`."""
    if not _is_in_rows(x, index, dim):
        return x[_grid(index, dim)]
    return x.take(_in_rows(index, x.shape, dim)).reshape(index.shape)


def put(x: Any, index: Any, dim: int, src: Any) -> None:
    """Write entries, or a number, where `taken` would read. Which of several that go to one place is left is open."""
    if not _is_in_rows(x, index, dim):
        x[_grid(index, dim)] = src
    else:
        x.reshape(-1)[_in_rows(index, x.shape, dim)] = _flat(src)


def added(x: Any, index: Any, dim: int, src: Any) -> None:
    """Add entries, or a number, where `taken` would read. What goes to one place adds up."""
    if not _is_in_rows(x, index, dim):
        np.add.at(x, _grid(index, dim), src)
    else:
        np.add.at(x.reshape(-1), _in_rows(index, x.shape, dim), _flat(src))


def extent(numbers: Any) -> tuple[int, int]:
    """The smallest and the largest of some integers. (Of a few, NumPy's `min` and `max` take five times as long.)"""
    return numbers.item(numbers.argmin()), numbers.item(numbers.argmax())


def _is_in_rows(x: Any, index: Any, dim: int) -> bool:
    """Whether positions in row order name the entries: x lies so, and the index runs over all of its other sizes.

    Of a vector, the index itself is the position.
    """
    mine, its = x.shape, index.shape
    if len(mine) == 1 or not x.flags.c_contiguous:
        return False
    return mine[:dim] == its[:dim] and mine[dim + 1 :] == its[dim + 1 :]  # type: ignore[no-any-return]


def _in_rows(index: Any, shape: tuple[int, ...], dim: int) -> Any:
    """Where an index points in an array of this shape, in row order: a vector."""
    positions = index.reshape(-1)
    if not index.size:
        return positions
    n_before, n_after = prod(shape[:dim]), prod(shape[dim + 1 :])
    if n_after > 1:
        positions = (positions.reshape(-1, n_after) * n_after + np.arange(n_after)).reshape(-1)
    if n_before > 1:
        n = shape[dim] * n_after
        starts = np.arange(0, n_before * n, n)
        if len(starts) == len(positions):  # one entry each: broadcasting takes three times as long to begin
            positions = positions + starts
        else:
            positions = (positions.reshape(n_before, -1) + starts[:, None]).reshape(-1)
    return positions


def _flat(src: Any) -> Any:
    return src.reshape(-1) if isinstance(src, np.ndarray) and src.ndim else src


def _grid(index: Any, dim: int) -> tuple[Any, ...]:
    """An index for `x[...]` that runs over `index` along `dim` and counts along the others."""
    n = index.ndim
    if n == 1:
        return (index,)
    return tuple(
        [
            index if d == dim else np.arange(size).reshape([-1 if i == d else 1 for i in range(n)])
            for d, size in enumerate(index.shape)
        ]
    )
