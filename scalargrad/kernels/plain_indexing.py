"""Choosing entries by number along an axis, and adding to them, in plain NumPy.

An index is of integers, each a place along `dim` counted from the front. What `gather` and `scatter_add` take has the
index's number of axes; along axes other than `dim` the index may stop early.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from .geometry import Array, index_grid


def gather(x: Array, dim: int, index: Array) -> Array:
    """y[…, i, …] = x[…, index[…, i, …], …], of the index's shape."""
    return np.asarray(x[index_grid(index, dim)], order="C")


def scatter_add(y: Array, dim: int, index: Array, src: Array) -> Array:
    """y, with src[…, i, …] added to y[…, index[…, i, …], …] in place, one after the other; src may be larger."""
    np.add.at(y, index_grid(index, dim), src[tuple([slice(n) for n in index.shape])])
    return y


def index_add(y: Array, dim: int, index: Array, src: Array) -> Array:
    """y, with src[…, i, …] added to y[…, index[i], …] in place, one after the other; the index is a vector."""
    places: Any = (slice(None),) * dim + (index,)
    np.add.at(y, places, src)
    return y
