"""`x[index]` and `x[index] = value`.

An index is taken apart as PyTorch does it. First its integers, slices and None give a view. Then its tensors, lists and
masks pick from the view's dimensions, broadcast together: in place if they stand side by side, in front if not.
"""

from __future__ import annotations

import math
import operator
import warnings
from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np

from scalargrad import kernels
from scalargrad.kernels.memory import zeros
from scalargrad.operation import Op, Recordable, in_numpy
from scalargrad.ops.shape import shaping

FULL = slice(None)


class Region(NamedTuple):
    """Where an index points: `basic` gives a view, then `picks` takes entries from it. Either may be None."""

    basic: tuple[Any, ...] | None
    picks: tuple[Any, ...] | None


def _unpick(y: Any, shape: tuple[int, ...], index: Any) -> Any:
    x = zeros(shape, y.dtype)
    if len(index) == 1 and getattr(index[0], "dtype", x.dtype).kind == "i":  # rows, which may be numbered from the end
        rows = index[0].reshape(-1).astype(np.int64)
        rows[rows < 0] += shape[0]
        return kernels.index_add(x, 0, rows, y.reshape(len(rows), *shape[1:]))
    np.add.at(x, index, y)
    return x


def _put(x: Any, value: Any, region: Region, accumulate: bool) -> Any:
    y = np.array(x, order="C")
    assign(y, value, region, accumulate)
    return y


@in_numpy
def assign(x: Any, value: Any, region: Region, accumulate: bool = False) -> None:
    """Write `value` into the region of the array x, or add it there; what is picked twice gets both."""
    basic, picks = region
    if picks is None:
        if accumulate:
            x[basic] += value
        else:
            x[basic] = value
        return
    part = x if basic is None else x[basic]
    if accumulate:
        np.add.at(part, picks, value)
    else:
        part[picks] = value


def read(x: Any, region: Region) -> Any:
    """What stands in a region."""
    basic, picks = region
    if basic is not None:
        x = _view(x, basic)
    return x if picks is None else subscripting.index(x, picks)


def _view(x: Any, basic: tuple[Any, ...]) -> Any:
    last = basic[-1] if basic[-1] is not Ellipsis else basic[-2] if len(basic) > 1 else None
    return (shaping.pick if type(last) is int else shaping.slice)(x, basic)


class subscripting:
    """The rows that copy; those that give a view are in `shaping`."""

    index = Op(None, operator.getitem, "x index", lambda g, x_shape, index: subscripting.unpick(g, x_shape, index))
    unpick = Op(None, _unpick, "y shape index", lambda g, index: subscripting.index(g, index), name="index_backward")
    put = Op(
        None,
        _put,
        "x value region accumulate",
        lambda g, region, accumulate: g if accumulate else subscripting.put(g, np.zeros((), g.dtype), region, False),
        lambda g, region: read(g, region),
        name="index_put",
        fits=True,
    )


def getitem(input: Any, index: Any) -> Any:
    """`input[index]`. Integers, slices, Ellipsis and None give a view; tensors, lists and masks copy.

    A gradient comes back to the places that were read, once for each reading. A step must be positive.
    Raises IndexError out of range or for too many indices, ValueError for a negative step.
    """
    items = _items(index, input)
    try:
        if _is_plain(items):  # the common case, and quick
            return _view(input, items if Ellipsis in items else (*items, ...))
        return read(input, _region(items, input.shape))
    except IndexError as error:
        raise _explained(items, input.shape, error) from None


def index_put(input: Any, indices: Any, values: Any, accumulate: bool = False) -> Any:
    """A copy of `input` with `values` at `input[indices]`: a number, or a tensor that broadcasts to it.

    With `accumulate` they are added, and a place that is named twice gets both; otherwise which one is left is not
    defined. Raises IndexError as `getitem` does, RuntimeError for values that do not fit.
    """
    return _put_by(subscripting.put, input, indices, values, accumulate)


def write(array: np.ndarray[Any, Any], indices: Any, values: Any) -> None:
    """`array[indices] = values`, by the rules of `index_put` and in place: for tensors that nothing is recorded of."""
    _put_by(assign, array, indices, getattr(values, "array", values), False)


def _put_by(put: Callable[..., Any], input: Any, indices: Any, values: Any, accumulate: bool) -> Any:
    """put(input, values, region, accumulate), the index and the values made fit for it."""
    items = _items(indices, input, values)
    shape = tuple(input.shape)
    if not isinstance(values, Recordable | np.ndarray | np.generic):
        values = number_as(values, input.dtype)
    try:
        region = _region(items, shape)
        if values.ndim:
            extra = values.ndim - read(_placeholder(shape), region).ndim
            if extra > 0 and set(values.shape[:extra]) == {1}:
                values = shaping.view(values, tuple(values.shape[extra:]))
        return put(input, values, region, accumulate)
    except IndexError as error:
        raise _explained(items, shape, error) from None
    except ValueError:
        target = list(read(_placeholder(shape), region).shape)
        raise RuntimeError(
            f"shape mismatch: value tensor of shape {list(values.shape)} cannot be broadcast to indexing result of "
            f"shape {target}"
        ) from None


def _placeholder(shape: tuple[int, ...]) -> Any:
    """An array of a shape that takes no memory."""
    return np.broadcast_to(np.zeros((), np.bool_), shape)


def number_as(value: Any, dtype: np.dtype[Any]) -> Any:
    """A Python number as an array of a tensor's dtype. Raises RuntimeError where that cannot hold it."""
    if not isinstance(value, bool | int | float):
        raise TypeError(f"can't assign a {type(value).__name__} to a tensor of {dtype}")
    most = np.iinfo(dtype).max if dtype.kind in "iu" else float(np.finfo(dtype).max) if dtype.kind == "f" else math.inf
    if not -most - 1 <= value <= most and (dtype.kind in "iu" or math.isfinite(value)):
        raise RuntimeError(f"value cannot be converted to type {dtype} without overflow: {value}")
    return np.asarray(value).astype(dtype)


def _items(index: Any, *operands: Any) -> tuple[Any, ...]:
    """The parts of an index: ints, slices, None, Ellipsis, and arrays.

    Arrays are copied if a gradient will want them, so that it does not matter who writes to them until then.
    """
    items = index if type(index) is tuple else (index,)
    if _is_plain(items):
        return items
    own = any(getattr(x, "requires_grad", False) for x in operands)
    return tuple([_item(item, own) for item in items])


def _is_plain(items: tuple[Any, ...]) -> bool:
    """True if there is nothing to convert: only Python's integers, slices of them, None and Ellipsis."""
    for item in items:
        if type(item) is int or item is None or item is Ellipsis:
            continue
        if type(item) is slice and item.step is None and type(item.start) in _BOUND and type(item.stop) in _BOUND:
            continue
        return False
    return True


_BOUND = int, type(None)


def _item(item: Any, own: bool) -> Any:
    if item is None or item is Ellipsis or type(item) is int:
        return item
    if isinstance(item, slice):
        start, stop, step = (None if v is None else operator.index(v) for v in (item.start, item.stop, item.step))
        if step is not None and step < 0:
            raise ValueError(f"step must be greater than zero, got {step}")
        return slice(start, stop, step)
    array = _index_array(item)
    if array.dtype.kind == "b" or array.ndim:
        return array.copy() if own else array
    return int(array)


def _index_array(item: Any) -> Any:
    """Indices or a mask as an array of integers or booleans."""
    if isinstance(item, Recordable):
        array = item.array  # type: ignore[attr-defined]
    elif isinstance(item, np.ndarray | np.generic | bool | int):
        array = np.asarray(item)
    elif isinstance(item, list | tuple | range):
        parts = [getattr(part, "array", part) for part in item]
        array = np.asarray(parts) if parts else np.empty(0, np.int64)
    else:
        raise IndexError(
            "only integers, slices (`:`), ellipsis (`...`), None and long or byte Variables are valid indices (got "
            f"{type(item).__name__})"
        )
    if array.dtype == np.uint8:
        warnings.warn(
            "indexing with dtype uint8 is now deprecated, please use a dtype bool instead.", UserWarning, stacklevel=2
        )
        array = array != 0
    if array.dtype.kind not in "iub":
        raise IndexError(f"tensors used as indices must be long, int, byte or bool tensors, got {array.dtype}")
    return array


def _n_taken(item: Any) -> int:
    """How many dimensions of a tensor one part of an index takes up."""
    if item is None or item is Ellipsis:
        return 0
    return item.ndim if isinstance(item, np.ndarray) and item.dtype.kind == "b" else 1


def _region(items: tuple[Any, ...], shape: tuple[int, ...]) -> Region:
    """Where an index points in a tensor of this shape. Raises IndexError where that shows already."""
    n_taken, has_arrays, has_ellipsis = 0, False, False
    for item in items:
        n_taken += _n_taken(item)
        has_arrays |= isinstance(item, np.ndarray)
        has_ellipsis |= item is Ellipsis
    rest = len(shape) - n_taken
    if rest < 0:
        raise IndexError
    if not has_arrays:
        return Region(items if has_ellipsis else (*items, ...), None)
    basic: list[Any] = []
    picks: list[Any] = []
    dim = 0
    for item in items:
        if isinstance(item, np.ndarray):
            if item.dtype.kind == "b":
                if item.ndim == 0:
                    basic.append(None)
                    picks.append(np.zeros(int(item), np.int64))
                    continue
                _check_mask(item, shape, dim)
                picks.extend(item.nonzero())
            else:
                picks.append(item)
            n = _n_taken(item)
            basic.extend([FULL] * n)
            dim += n
        elif item is Ellipsis:
            basic.extend([FULL] * rest)
            picks.extend([FULL] * rest)
            dim, rest = dim + rest, 0
        else:
            basic.append(item)
            if item is None or isinstance(item, slice):
                picks.append(FULL)
            dim += item is not None
    unchanged = all(isinstance(item, slice) and item == FULL for item in basic)
    return Region(None if unchanged else (*basic, ...), tuple(picks))


def _check_mask(mask: Any, shape: tuple[int, ...], dim: int) -> None:
    for i, n in enumerate(mask.shape):
        if n != shape[dim + i]:
            raise IndexError(
                f"The shape of the mask {list(mask.shape)} at index {i} does not match the shape of the indexed tensor "
                f"{list(shape)} at index {dim + i}"
            )


def _explained(items: tuple[Any, ...], shape: tuple[int, ...], error: IndexError) -> IndexError:
    """What is wrong with an index that failed, in PyTorch's words."""
    if not shape and any(type(item) is int for item in items):
        return IndexError(
            "invalid index of a 0-dim tensor. Use `tensor.item()` in Python or `tensor.item<T>()` in C++ to convert a "
            "0-dim tensor to a number"
        )
    rest = len(shape) - sum(map(_n_taken, items))
    if rest < 0:
        return IndexError(f"too many indices for tensor of dimension {len(shape)}")
    dim = 0
    for item in items:
        if type(item) is int or (isinstance(item, np.ndarray) and item.dtype.kind != "b"):
            entries = np.asarray(item)
            wrong = entries[(entries < -shape[dim]) | (entries >= shape[dim])]
            if wrong.size:
                return IndexError(f"index {wrong[0]} is out of bounds for dimension {dim} with size {shape[dim]}")
        dim += rest if item is Ellipsis else _n_taken(item)
    shapes = [list(item.shape) for item in items if isinstance(item, np.ndarray) and item.dtype.kind != "b"]
    if "broadcast" in str(error):
        return IndexError(
            "shape mismatch: indexing tensors could not be broadcast together with shapes "
            + ", ".join(map(str, shapes))
        )
    return error
