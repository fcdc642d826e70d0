"""Triangles and diagonals, and entries in another order."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from scalargrad import kernels
from scalargrad.kernels.memory import empty, zeros
from scalargrad.operation import Op
from scalargrad.ops.dimensions import check_tensor
from scalargrad.ops.shape import along, as_shape, normalize_dim, shaping


def _diagonal(x: Any, offset: int, dim1: int, dim2: int) -> Any:
    y = np.diagonal(x, offset, dim1, dim2)
    y.flags.writeable = x.flags.writeable
    return y


def _undiagonal(y: Any, shape: tuple[int, ...], offset: int, dim1: int, dim2: int) -> Any:
    x = zeros(shape, y.dtype)
    _diagonal(x, offset, dim1, dim2)[...] = y
    return x


def _is_below(x: Any, k: int) -> Any:
    """For each place of the last two dimensions, whether it is on the k-th diagonal or below."""
    n, m = x.shape[-2:]
    return np.arange(k, n + k)[:, None] >= np.arange(m)


def _tril(x: Any, k: int) -> Any:
    return kernels.select(_is_below(x, k), x)


def _triu(x: Any, k: int) -> Any:
    return kernels.select(~_is_below(x, k - 1), x)


def _flip(x: Any, dims: tuple[int, ...]) -> Any:
    return x[tuple([_BACKWARDS if d in dims else _FULL for d in range(x.ndim)])].copy()


_FULL, _BACKWARDS = slice(None), slice(None, None, -1)


def _roll(x: Any, shifts: tuple[int, ...], dims: tuple[int, ...]) -> Any:
    """Without dims, in row order."""
    if not dims:
        return _roll(x.reshape(-1), shifts, (0,) * len(shifts)).reshape(x.shape)
    for shift, dim in zip(shifts, dims, strict=True):
        n = x.shape[dim]
        shift = shift % n if n else 0
        y = empty(x.shape, x.dtype)
        y[along(dim, slice(shift, None))] = x[along(dim, slice(n - shift))]
        y[along(dim, slice(shift))] = x[along(dim, slice(n - shift, None))]
        x = y
    return x


class arranging:
    """The rows."""

    tril = Op(None, _tril, "x k", lambda g, k: arranging.tril(g, k))
    triu = Op(None, _triu, "x k", lambda g, k: arranging.triu(g, k))
    diagonal = Op(
        None,
        _diagonal,
        "x offset dim1 dim2",
        lambda g, x_shape, offset, dim1, dim2: arranging.undiagonal(g, x_shape, offset, dim1, dim2),
        view=True,
    )
    undiagonal = Op(
        None,
        _undiagonal,
        "y shape offset dim1 dim2",
        lambda g, offset, dim1, dim2: arranging.diagonal(g, offset, dim1, dim2),
        name="diag_embed",
    )
    flip = Op(None, _flip, "x dims", lambda g, dims: arranging.flip(g, dims))
    roll = Op(
        None, _roll, "x shifts dims", lambda g, shifts, dims: arranging.roll(g, tuple([-n for n in shifts]), dims)
    )


def tril(input: Any, diagonal: int = 0) -> Any:
    """The lower triangles of the last two dimensions, 0 above `diagonal`."""
    return _triangle(arranging.tril, input, diagonal)


def triu(input: Any, diagonal: int = 0) -> Any:
    """The upper triangles of the last two dimensions, 0 below `diagonal`."""
    return _triangle(arranging.triu, input, diagonal)


def _triangle(op: Op, input: Any, k: int) -> Any:
    check_tensor(input, op.key)
    if input.ndim < 2:
        raise RuntimeError(f"{op.key}: input tensor must have at least 2 dimensions, got {input.ndim}")
    return op(input, k)


def diagonal(input: Any, offset: int = 0, dim1: int = 0, dim2: int = 1) -> Any:
    """The entries whose index in `dim2` is that in `dim1` plus `offset`: a view, with this dimension last."""
    check_tensor(input, "diagonal")
    first, second = normalize_dim(dim1, input.ndim, "diagonal"), normalize_dim(dim2, input.ndim, "diagonal")
    if first == second:
        raise RuntimeError(f"diagonal dimensions cannot be identical {dim1}, {dim2}")
    return arranging.diagonal(input, offset, first, second)


def diag(input: Any, diagonal: int = 0) -> Any:
    """A copy of a matrix's diagonal, or the matrix that has a vector for its diagonal and is 0 elsewhere."""
    check_tensor(input, "diag")
    if input.ndim == 2:
        return shaping.clone(arranging.diagonal(input, diagonal, 0, 1))
    if input.ndim != 1:
        raise RuntimeError(f"diag(): Supports 1D or 2D tensors. Got {input.ndim}D")
    n = input.shape[0] + abs(diagonal)
    return arranging.undiagonal(input, (n, n), diagonal, 0, 1)


def _distinct(operation: str, dims: Sequence[int], ndim: int) -> tuple[int, ...]:
    found = tuple([normalize_dim(d, ndim, operation) for d in dims])
    for d in found:
        if found.count(d) > 1:
            raise RuntimeError(f"{operation}(): dim {d} appears multiple times in the list of dims")
    return found


def flip(input: Any, *dims: Any) -> Any:
    """A copy with the order of the entries reversed along `dims`."""
    if not dims:
        raise TypeError("flip() missing 1 required positional arguments: 'dims'")
    check_tensor(input, "flip")
    return arranging.flip(input, _distinct("flip", as_shape(dims), input.ndim) if input.ndim else ())


def roll(input: Any, shifts: int | Sequence[int], dims: int | Sequence[int] | None = None) -> Any:
    """The entries moved by `shifts` along `dims`, what leaves at the end coming in at the start.

    Without `dims`, in row order. Raises RuntimeError unless there is one shift for each dimension.
    """
    check_tensor(input, "roll")
    by = (shifts,) if isinstance(shifts, int) else tuple(shifts)
    wanted = () if dims is None else (dims,) if isinstance(dims, int) else tuple(dims)
    if len(by) != len(wanted) and (wanted or len(by) != 1):
        raise RuntimeError(f"shifts and dimensions must align. shifts: {len(by)}, dims:{len(wanted)}")
    ndim = input.ndim
    return arranging.roll(input, by, tuple([normalize_dim(d, ndim, "roll") for d in wanted]) if ndim else ())
