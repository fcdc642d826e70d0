"""The largest, the smallest and the middle: their values, and where they are.

Where several entries tie, those functions that return no index divide the gradient evenly among them, and those that
return one send it there. nan is larger than any number and smaller than any number.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from scalargrad import kernels
from scalargrad.kernels.memory import zeros
from scalargrad.operation import Op, Recordable
from scalargrad.ops import elementwise, return_types
from scalargrad.ops.dimensions import Dims, as_dim, check_tensor, named_dims
from scalargrad.ops.shape import along, shaping
from scalargrad.ops.summation import summing
from scalargrad.rules import ops


def _attains(x: Any, y: Any, dim: Dims, keepdim: bool) -> Any:
    y = np.asarray(y)
    if dim is not None and not keepdim:
        y = y.reshape([1 if i in dim else n for i, n in enumerate(x.shape)])
    ties = kernels.eq(x, y)
    is_nan = kernels.ne(y, y)
    if np.count_nonzero(is_nan):
        ties |= (x != x) & is_nan
    return ties


def shares(g: Any, x: Any, y: Any, dim: Dims = None, keepdim: bool = False) -> Any:
    """g divided evenly among the entries of x that attain y, or that are nan if y is."""
    ties = finding.attains(x, y, dim, keepdim)
    n_ties = shaping.cast(summing.sum(ties, dim, keepdim), g.dtype)
    share = ops.div(g, n_ties)  # an array, where `/` makes NumPy's number of arrays without dimensions
    return ops.select(ties, share if dim is None else summing.spread(share, x.shape, dim, keepdim))


def _median(x: Any) -> Any:
    if not x.size:
        return np.array(np.nan, x.dtype)
    flat = x.reshape(-1)
    return flat[_argmedian(flat, 0, False)]


def _argmedian(x: Any, dim: int, keepdim: bool) -> Any:
    order = x.argsort(dim, kind="stable")
    n = x.shape[dim]
    n_nan = kernels.sum_over(x != x, (dim,), True)  # they come last; the first of them is the result
    found = kernels.gather(order, dim, np.where(n_nan > 0, n - n_nan, (n - 1) // 2))
    return found if keepdim else found.squeeze(dim)


def _entries(x: Any, indices: Any, dim: int, keepdim: bool) -> Any:
    return kernels.gather(x, dim, indices if keepdim else indices[along(dim, None)]).reshape(indices.shape)


def _place(y: Any, indices: Any, shape: tuple[int, ...], dim: int, keepdim: bool) -> Any:
    x = zeros(shape, y.dtype)
    if not keepdim:
        y, indices = y[along(dim, None)], indices[along(dim, None)]
    return kernels.scatter_add(x, dim, indices, y)  # where no two go to one place


def entries_row(name: str) -> Op:
    """A row that takes entries along a dimension, none of them twice; the gradient goes to these."""
    return Op(
        None,
        _entries,
        "x indices dim keepdim",
        lambda g, x_shape, indices, dim, keepdim: finding.place(g, indices, x_shape, dim, keepdim),
        name=name,
    )


def _extreme_row(array: Callable[..., Any]) -> Op:
    """A row for the largest or smallest entry: those that tie for it share the gradient."""
    return Op(None, array, "x dim keepdim", lambda g, x, y, dim, keepdim: shares(g, x, y, dim, keepdim))


class finding:
    """The rows. Where the result is an index, or is taken by one, `dim` is an int (or None: among all entries)."""

    amax = _extreme_row(kernels.max_over)
    amin = _extreme_row(kernels.min_over)
    max, min = _extreme_row(kernels.max_over), _extreme_row(kernels.min_over)
    median = Op(None, _median, "x", lambda g, x, y: shares(g, x, y))
    attains = Op(None, _attains, "x y dim keepdim")

    argmax = Op(None, lambda x, dim, keepdim: x.argmax(dim, keepdims=keepdim), "x dim keepdim")
    argmin = Op(None, lambda x, dim, keepdim: x.argmin(dim, keepdims=keepdim), "x dim keepdim")
    argmedian = Op(None, _argmedian, "x dim keepdim")
    max_dim, min_dim, median_dim = entries_row("max"), entries_row("min"), entries_row("median")
    entries = entries_row("gather")
    place = Op(
        None,
        _place,
        "y indices shape dim keepdim",
        lambda g, indices, dim, keepdim: finding.entries(g, indices, dim, keepdim),
        name="value_selecting_reduction",
    )


def _refuse_empty(input: Any, dim: Dims, operation: str, error: type[Exception] = RuntimeError) -> None:
    """Raises if a dimension to be reduced has no entries: they have no extreme."""
    shape = tuple(input.shape)
    if 0 not in shape:
        return
    if dim is None:
        raise error(
            f"{operation}(): Expected reduction dim to be specified for input.numel() == 0. Specify the reduction dim "
            "with the 'dim' argument."
        )
    for d in dim:
        if shape[d] == 0:
            raise IndexError(f"{operation}(): Expected reduction dim {d} to have non-zero size.")


def _at_index(input: Any, dim: Any, keepdim: bool, find: Op, take: Op) -> tuple[Any, Any]:
    """Values and indices of one entry along `dim`."""
    dim = as_dim(dim, input, take.name)
    _refuse_empty(input, (dim,) if input.ndim else (), take.name)
    if input.ndim == 0:
        input, keepdim = shaping.view(input, (1,)), False
    indices = find(input, dim, keepdim)
    return take(input, indices, dim, keepdim), indices


def _of_all(input: Any, row: Op) -> Any:
    """The extreme of all entries."""
    check_tensor(input, row.name)
    try:
        return row(input, None, False)
    except ValueError:
        _refuse_empty(input, None, row.name)
        raise


def _extreme(
    input: Any, dim: Any, keepdim: Any, other: Any, axis: Any, keepdims: Any, rows: tuple[Op, Op, Op], result: Any
) -> Any:
    """What `max` and `min` do with a dimension, or with another tensor."""
    whole, find, take = rows
    check_tensor(input, whole.name)
    if other is not None:
        dim = other
    if isinstance(dim, _TENSORS):
        return (elementwise.maximum if whole is finding.max else elementwise.minimum)(input, dim)
    dims, keepdim = named_dims(dim, keepdim, axis, keepdims, input, whole.name)
    given = dim if axis is None else axis
    if isinstance(given, tuple | list):
        raise TypeError(f"{whole.name}(): argument 'dim' must be int, not {given!r}; a{whole.name}() takes several")
    return result(*_at_index(input, dims[0] if dims else given, keepdim, find, take))


_TENSORS = Recordable, np.ndarray
_MAX = finding.max, finding.argmax, finding.max_dim
_MIN = finding.min, finding.argmin, finding.min_dim


def max(
    input: Any, dim: Any = None, keepdim: bool = False, *, other: Any = None, axis: Any = None, keepdims: Any = None
) -> Any:
    """The largest entry; with `dim` a pair (values, indices) along it; with a tensor for `dim`, the larger of two.

    Ties: the first index, and its entry gets the gradient; without `dim`, all that tie share it. nan wins.
    Raises RuntimeError without entries, IndexError along a dimension of size 0.
    """
    if dim is None and other is None and axis is None:
        return _of_all(input, finding.max)
    return _extreme(input, dim, keepdim, other, axis, keepdims, _MAX, return_types.max)


def min(
    input: Any, dim: Any = None, keepdim: bool = False, *, other: Any = None, axis: Any = None, keepdims: Any = None
) -> Any:
    """The smallest entry; with `dim` a pair (values, indices) along it; with a tensor for `dim`, the smaller of two.

    Ties, nan and errors as for `max`.
    """
    if dim is None and other is None and axis is None:
        return _of_all(input, finding.min)
    return _extreme(input, dim, keepdim, other, axis, keepdims, _MIN, return_types.min)


def amax(input: Any, dim: Any = (), keepdim: bool = False, *, axis: Any = None, keepdims: Any = None) -> Any:
    """The largest entry over `dim`, which may be several dimensions or none for all. Ties share the gradient."""
    dims, keepdim = named_dims(dim, keepdim, axis, keepdims, input, "amax")
    _refuse_empty(input, dims, "amax")
    return finding.amax(input, dims, keepdim)


def amin(input: Any, dim: Any = (), keepdim: bool = False, *, axis: Any = None, keepdims: Any = None) -> Any:
    """The smallest entry over `dim`, which may be several dimensions or none for all. Ties share the gradient."""
    dims, keepdim = named_dims(dim, keepdim, axis, keepdims, input, "amin")
    _refuse_empty(input, dims, "amin")
    return finding.amin(input, dims, keepdim)


def _index_of(find: Op, input: Any, dim: Any, keepdim: Any, axis: Any, keepdims: Any) -> Any:
    check_tensor(input, find.key)
    if input.dtype == np.bool_:
        raise RuntimeError(f"{find.key}(): does not support bool input")
    given = dim if axis is None else axis
    if isinstance(given, tuple | list):
        raise TypeError(f"{find.key}(): argument 'dim' must be int, not {given!r}")
    dims, keepdim = named_dims(dim, keepdim, axis, keepdims, input, find.key)
    _refuse_empty(input, dims, find.key, IndexError)
    return find(input, dims if dims is None else dims[0], keepdim)


def argmax(input: Any, dim: int | None = None, keepdim: bool = False, *, axis: Any = None, keepdims: Any = None) -> Any:
    """The index of the largest entry along `dim`, or among all in row order; the first of several, or of nans.

    Raises IndexError where there is no entry.
    """
    return _index_of(finding.argmax, input, dim, keepdim, axis, keepdims)


def argmin(input: Any, dim: int | None = None, keepdim: bool = False, *, axis: Any = None, keepdims: Any = None) -> Any:
    """The index of the smallest entry along `dim`, or among all in row order; the first of several, or of nans.

    Raises IndexError where there is no entry.
    """
    return _index_of(finding.argmin, input, dim, keepdim, axis, keepdims)


def median(input: Any, dim: int | None = None, keepdim: bool = False) -> Any:
    """The middle entry, the lower of two; with `dim` a pair (values, indices) along it. nan if there is one.

    Raises IndexError along a dimension of size 0; without `dim`, the median of nothing is nan.
    """
    check_tensor(input, "median")
    if dim is None:
        return finding.median(input)
    return return_types.median(*_at_index(input, dim, keepdim, finding.argmedian, finding.median_dim))
