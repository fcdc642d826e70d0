"""Shapes: operations that rearrange elements, repeat them or cast them, and compute nothing else."""

from __future__ import annotations

from collections.abc import Sequence
from math import prod
from operator import getitem, index
from typing import Any, SupportsIndex, overload

import numpy as np
from numpy.lib.stride_tricks import as_strided

from scalargrad import kernels
from scalargrad.dtypes import result_type
from scalargrad.kernels.memory import pooled, zeros
from scalargrad.operation import Op, Recordable
from scalargrad.rules import ops


class Size(tuple[int, ...]):
    """A shape: a tuple of ints that prints as PyTorch's."""

    def numel(self) -> int:
        """The number of elements."""
        return prod(self)

    @overload
    def __getitem__(self, index: SupportsIndex) -> int: ...
    @overload
    def __getitem__(self, index: slice) -> Size: ...
    def __getitem__(self, index: Any) -> Any:
        part = super().__getitem__(index)
        return Size(part) if isinstance(index, slice) else part

    def __add__(self, other: Any) -> Size:
        return Size(super().__add__(other))

    def __mul__(self, times: SupportsIndex) -> Size:
        return Size(super().__mul__(times))

    __rmul__ = __mul__

    def __repr__(self) -> str:
        return f"torch.Size({list(self)})"


def _scatter(x: Any, src: Any, size: Any, strides: Any, offset: int) -> Any:
    y = np.array(x, order="C")
    _strided(y, size, strides, offset)[...] = src
    return y


def _strided(x: Any, size: Any, strides: Any, offset: int) -> Any:
    flat = np.ascontiguousarray(x).reshape(-1)[offset:]
    return as_strided(flat, size, [s * x.itemsize for s in strides])


def _strided_sum(y: Any, shape: tuple[int, ...], size: Any, strides: Any, offset: int) -> Any:
    """An array of `shape` with y added to what `as_strided` would take; a place that it takes twice gets both."""
    x = np.zeros(shape, y.dtype)
    reach = 0
    for stride, n in sorted(zip(strides, size, strict=True)):
        if n > 1:
            if stride <= reach:
                places = sum(np.ix_(*[np.arange(n) * s for n, s in zip(size, strides, strict=True)]), np.array(offset))
                np.add.at(x.reshape(-1), places, y)
                return x
            reach += stride * (n - 1)
    _strided(x, size, strides, offset)[...] = y
    return x


def _expand(x: Any, shape: tuple[int, ...]) -> Any:
    if x.shape == shape:
        return x
    if not x.flags.c_contiguous:
        return np.broadcast_to(x, shape)
    missing = (1,) * (len(shape) - x.ndim)
    strides = [0 if m == 1 else s for m, s in zip(missing + x.shape, missing + x.strides, strict=True)]
    y: Any = np.ndarray(shape, x.dtype, x, 0, strides)  # in a third of broadcast_to's time
    y.flags.writeable = False  # a write would reach many entries
    return y


def _inverse(dims: Sequence[int]) -> tuple[int, ...]:
    """The order that undoes the order `dims`."""
    inverse = [0] * len(dims)
    for i, d in enumerate(dims):
        inverse[d] = i
    return tuple(inverse)


def _unslice(y: Any, shape: tuple[int, ...], index: Any) -> Any:
    x = zeros(shape, y.dtype)
    x[index] = y
    return x


def _inner(before: Sequence[int], after: Sequence[int], shape: Sequence[int]) -> tuple[slice, ...]:
    """What a frame around an array leaves of it, as an index; `shape` is that of the whole."""
    return tuple([slice(b, n - a) for b, a, n in zip(before, after, shape, strict=True)])


@pooled
def _pad(x: Any, before: Sequence[int], after: Sequence[int], value: float) -> Any:
    shape = [b + n + a for b, n, a in zip(before, x.shape, after, strict=True)]
    y = np.empty(shape, x.dtype, "F" if x.flags.fnc else "C")
    y.fill(value)
    y[_inner(before, after, shape)] = x
    return y


@pooled
def _concatenate(dim: int, *xs: Any) -> Any:
    return np.concatenate(xs, dim, dtype=_common_dtype(xs))


def _stack(dim: int, *xs: Any) -> Any:
    return _concatenate(dim, *[x[along(dim, None)] for x in xs])


def _common_dtype(xs: Sequence[Any]) -> np.dtype[Any]:
    dtype: np.dtype[Any] = xs[0].dtype
    for x in xs:
        if x.dtype is not dtype:
            return result_type(xs)
    return dtype


def _part(g: Any, i: int, dim: int, shapes: Sequence[tuple[int, ...]]) -> Any:
    """The part of a concatenation that its i-th operand gave."""
    start = sum([shape[dim] for shape in shapes[:i]])
    return shaping.slice(g, along(dim, slice(start, start + shapes[i][dim])))


def along(dim: int, item: Any) -> tuple[Any, ...]:
    """An index that has `item` for dimension `dim`. The Ellipsis has one entry be an array, too, and share memory."""
    return (_FULL,) * dim + (item, ...)


_FULL = slice(None)


def _view_row(name: str) -> Op:
    return Op(
        None,
        getitem,
        "x index",
        lambda g, x_shape, index: shaping.unslice(g, x_shape, index),
        name=name,
        view=True,
    )


class shaping:
    """The rows. Each is linear, and its derivative is the row that moves elements back.

    In the index of a view stands an Ellipsis (see `along`).
    """

    slice, pick = _view_row("slice"), _view_row("select")
    unslice = Op(None, _unslice, "y shape index", lambda g, index: shaping.slice(g, index), name="slice_backward")

    cast = Op(None, lambda x, dtype: x.astype(dtype), "x dtype", lambda g: g, name="to_copy", fits=True)
    clone = Op(None, lambda x: np.array(x, order="K"), "x", lambda g: g)
    contiguous = Op(None, kernels.contiguous, "x", lambda g: g, name="clone")
    fill = Op(
        None,
        lambda x, value: np.full_like(x, value),
        "x value",
        lambda g: ops.select(False, g),
        lambda g: shaping.sum_to_size(g, ()),
        fits=True,
    )
    copy = Op(
        None,
        lambda x, src: np.broadcast_to(src, x.shape).astype(x.dtype),
        "x src",
        lambda g: ops.select(False, g),
        lambda g: g,
        fits=True,
    )
    view = Op(
        None, lambda x, shape: x.reshape(shape), "x shape", lambda g, x_shape: shaping.view(g, x_shape), view=True
    )
    # NumPy's methods: its functions of the same names take three to ten times as long.
    squeeze = Op(
        None, lambda x, dims: x.squeeze(dims), "x dims", lambda g, x_shape: shaping.view(g, x_shape), view=True
    )
    unsqueeze = Op(
        None, lambda x, dim: x[along(dim, None)], "x dim", lambda g, x_shape: shaping.view(g, x_shape), view=True
    )
    permute = Op(
        None, lambda x, dims: x.transpose(dims), "x dims", lambda g, dims: shaping.permute(g, _inverse(dims)), view=True
    )
    transpose = Op(
        None,
        lambda x, dim0, dim1: x.swapaxes(dim0, dim1),
        "x dim0 dim1",
        lambda g, dim0, dim1: shaping.transpose(g, dim0, dim1),
        view=True,
    )
    t = Op(None, lambda x: x.transpose(), "x", lambda g: shaping.t(g), view=True)
    expand = Op(None, _expand, "x shape", lambda g, x_shape: shaping.sum_to_size(g, x_shape), view=True)
    sum_to_size = Op(None, kernels.sum_to_size, "x shape", lambda g, x_shape: shaping.expand(g, x_shape))
    crop = Op(
        None,
        lambda x, before, after: x[_inner(before, after, x.shape)],
        "x before after",
        lambda g, before, after: shaping.pad(g, before, after, 0.0),
        name="slice",
        view=True,
    )
    pad = Op(
        None,
        _pad,
        "x before after value",
        lambda g, before, after: shaping.crop(g, before, after),
        name="constant_pad_nd",
    )
    cat = Op(None, _concatenate, "dim *xs", None, lambda g, i, dim, xs_shape: _part(g, i, dim, xs_shape), fits=True)
    stack = Op(None, _stack, "dim *xs", None, lambda g, i, dim: shaping.pick(g, along(dim, i)), fits=True)
    as_strided = Op(
        None,
        _strided,
        "x size strides offset",
        lambda g, x_shape, size, strides, offset: shaping.strided_sum(g, x_shape, size, strides, offset),
        view=True,
    )
    strided_sum = Op(
        None,
        _strided_sum,
        "y shape size strides offset",
        lambda g, size, strides, offset: shaping.as_strided(g, size, strides, offset),
        name="as_strided_backward",
    )
    as_strided_scatter = Op(
        None,
        _scatter,
        "x src size strides offset",
        lambda g, src_shape, size, strides, offset: shaping.as_strided_scatter(
            g, np.zeros(src_shape, g.dtype), size, strides, offset
        ),
        lambda g, size, strides, offset: shaping.as_strided(g, size, strides, offset),
        name="copy_slices",
    )


def normalize_dim(dim: int, ndim: int, operation: str = "") -> int:
    """`dim` counted from the front. Raises IndexError out of range; a tensor of no dimensions has one to name."""
    n = max(ndim, 1)
    if not -n <= dim < n:
        where = f"{operation}(): " if operation else ""
        raise IndexError(f"{where}Dimension out of range (expected to be in range of [{-n}, {n - 1}], but got {dim})")
    return dim % n


def as_shape(shape: Sequence[Any]) -> tuple[int, ...]:
    """A shape given as several ints, or as one sequence of them."""
    if len(shape) == 1 and isinstance(shape[0], (tuple, list)):
        shape = shape[0]
    return tuple([n if type(n) is int else index(n) for n in shape])


def _whole(input: Any, shape: tuple[int, ...], operation: str) -> tuple[int, ...]:
    """`shape` with its -1 worked out."""
    size = input.size if isinstance(input, np.ndarray) else input.numel()
    rest, unknown = 1, 0
    for n in shape:
        if n >= 0:
            rest *= n
        elif n == -1:
            unknown += 1
        else:
            raise RuntimeError(f"{operation}(): invalid shape dimension {n} in {list(shape)}")
    if unknown > 1:
        raise RuntimeError(f"{operation}(): only one dimension can be inferred, got shape {list(shape)}")
    if unknown:
        if rest == 0:
            raise RuntimeError(
                f"{operation}(): cannot reshape tensor of {size} elements into shape {list(shape)}, because the "
                "unspecified dimension size -1 can be any value"
            )
        if size % rest == 0:
            return tuple([size // rest if n == -1 else n for n in shape])
    elif rest == size:
        return shape
    raise RuntimeError(f"{operation}(): shape '{list(shape)}' is invalid for input of size {size}")


def reshape(input: Any, *shape: Any) -> Any:
    """The elements in row order in another shape; one size may be -1. Shares memory where it can.

    Raises RuntimeError if the number of elements does not fit.
    """
    return shaping.view(input, _whole(input, as_shape(shape), "reshape"))


def view(input: Any, *shape: Any) -> Any:
    """`reshape` that always shares memory. Raises RuntimeError where that is impossible."""
    y = shaping.view(input, _whole(input, as_shape(shape), "view"))
    if isinstance(y, Recordable) and y.base is None and y.array is not input.array and y.array.size:  # type: ignore[attr-defined]
        raise RuntimeError(
            "view size is not compatible with input tensor's size and stride (at least one dimension spans across two "
            "contiguous subspaces). Use .reshape(...) instead."
        )
    return y


def flatten(input: Any, start_dim: int = 0, end_dim: int = -1) -> Any:
    """Dimensions `start_dim` to `end_dim` made one. Raises RuntimeError if they are the wrong way round."""
    ndim = input.ndim
    start, end = normalize_dim(start_dim, ndim, "flatten"), normalize_dim(end_dim, ndim, "flatten")
    if start > end:
        raise RuntimeError(f"flatten() has invalid args: start_dim {start_dim} cannot come after end_dim {end_dim}")
    shape = tuple(input.shape)
    return shaping.view(input, (*shape[:start], prod(shape[start : end + 1]), *shape[end + 1 :]))


def unflatten(input: Any, dim: int, sizes: Sequence[int]) -> Any:
    """Dimension `dim` split into `sizes`, one of which may be -1. Raises RuntimeError if they do not fit."""
    dim = normalize_dim(dim, input.ndim, "unflatten")
    shape = tuple(input.shape)
    part = _whole(np.empty(shape[dim], "?"), tuple(sizes), "unflatten")
    return shaping.view(input, (*shape[:dim], *part, *shape[dim + 1 :]))


def squeeze(input: Any, dim: int | Sequence[int] | None = None) -> Any:
    """Without the dimensions of size 1: all of them, or those of `dim` that are."""
    shape = tuple(input.shape)
    ndim = len(shape)
    wanted = range(ndim) if dim is None else [dim] if isinstance(dim, int) else dim
    dims = [normalize_dim(d, ndim, "squeeze") for d in wanted]
    return shaping.squeeze(input, tuple([d for d in dims if ndim and shape[d] == 1]))


def unsqueeze(input: Any, dim: int) -> Any:
    """With a dimension of size 1 put in at `dim`."""
    return shaping.unsqueeze(input, normalize_dim(dim, input.ndim + 1, "unsqueeze"))


def permute(input: Any, *dims: Any) -> Any:
    """The dimensions in the order `dims`. Raises RuntimeError if they are not each named once."""
    ndim = input.ndim
    order = tuple([normalize_dim(d, ndim, "permute") for d in as_shape(dims)])
    if len(order) != ndim or len(set(order)) != ndim:
        raise RuntimeError(f"permute(): expected each of {ndim} dimensions once, got {list(as_shape(dims))}")
    return shaping.permute(input, order)


def reverse_dims(input: Any) -> Any:
    """The dimensions from the last to the first."""
    return shaping.permute(input, tuple(range(input.ndim))[::-1])


def transpose(input: Any, dim0: int, dim1: int) -> Any:
    """Two dimensions swapped."""
    dim0, dim1 = normalize_dim(dim0, input.ndim, "transpose"), normalize_dim(dim1, input.ndim, "transpose")
    return shaping.transpose(input, dim0, dim1) if input.ndim else shaping.view(input, ())


def t(input: Any) -> Any:
    """A matrix transposed; a vector as it is. Raises RuntimeError beyond two dimensions."""
    if input.ndim > 2:
        raise RuntimeError(f"t() expects a tensor with <= 2 dimensions, but self is {input.ndim}D")
    return shaping.t(input)


def movedim(input: Any, source: int | Sequence[int], destination: int | Sequence[int]) -> Any:
    """Dimensions `source` moved to the places `destination`, the others in their order.

    Raises RuntimeError if these are not as many, or one is named twice.
    """
    sources = [normalize_dim(d, input.ndim) for d in ([source] if isinstance(source, int) else source)]
    places = [normalize_dim(d, input.ndim) for d in ([destination] if isinstance(destination, int) else destination)]
    if not len(sources) == len(places) == len(set(sources)) == len(set(places)):
        raise RuntimeError(f"movedim(): expected as many distinct dims as places, got {source} and {destination}")
    dims = [d for d in range(input.ndim) if d not in sources]
    for place, d in sorted(zip(places, sources, strict=True)):
        dims.insert(place, d)
    return shaping.permute(input, tuple(dims))


def expand(input: Any, *sizes: Any) -> Any:
    """Dimensions of size 1 repeated, and new ones put in front, without copying; -1 keeps a size.

    Raises RuntimeError if a size other than 1 would change.
    """
    shape, old = as_shape(sizes), tuple(input.shape)
    extra = len(shape) - len(old)
    if extra < 0:
        raise RuntimeError(
            f"expand(): the number of sizes provided ({len(shape)}) must be greater or equal to the number of "
            f"dimensions in the tensor ({len(old)})"
        )
    whole = []
    for i, (n, m) in enumerate(zip(shape, (1,) * extra + old, strict=True)):
        if n == -1 and i < extra:
            raise RuntimeError(f"expand(): -1 is not allowed in a leading, non-existing dimension {i}")
        if n not in (-1, m) and m != 1:
            raise RuntimeError(
                f"expand(): the expanded size of the tensor ({n}) must match the existing size ({m}) at non-singleton "
                f"dimension {i}. Target sizes: {list(shape)}. Tensor sizes: {list(old)}"
            )
        whole.append(m if n == -1 else n)
    return shaping.expand(input, tuple(whole))


def broadcast_to(input: Any, size: Sequence[int]) -> Any:
    """`expand` by its other name."""
    return expand(input, size)


def sum_to_size(input: Any, *size: Any) -> Any:
    """Summed over what broadcasting `size` to this shape repeats. Raises RuntimeError if it would not broadcast."""
    shape = as_shape(size)
    try:
        fits = np.broadcast_shapes(shape, tuple(input.shape)) == tuple(input.shape)
    except ValueError:
        fits = False
    if not fits:
        raise RuntimeError(f"size {list(shape)} is not expandable to size {list(input.shape)}.")
    return input if shape == tuple(input.shape) else shaping.sum_to_size(input, shape)


def repeat(input: Any, *sizes: Any) -> Any:
    """Copies laid side by side, `sizes[d]` of them along dimension d (NumPy's `tile`).

    Raises RuntimeError if there are fewer sizes than dimensions.
    """
    counts = as_shape(sizes)
    extra = len(counts) - input.ndim
    if extra < 0:
        raise RuntimeError(
            "Number of dimensions of repeat dims can not be smaller than number of dimensions of tensor: "
            f"got {len(counts)} for {input.ndim}"
        )
    shape = (1,) * extra + tuple(input.shape)
    wide = shaping.view(input, tuple([n for m in shape for n in (1, m)]))
    wide = shaping.expand(wide, tuple([n for c, m in zip(counts, shape, strict=True) for n in (c, m)]))
    y = shaping.view(wide, tuple([c * m for c, m in zip(counts, shape, strict=True)]))
    return y if y.base is None else shaping.clone(y)  # of one element in a row, NumPy makes no copies by itself
