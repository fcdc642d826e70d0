"""Choosing elements and putting them in place: by index, by mask, and along a dimension."""

from __future__ import annotations

from typing import Any

import numpy as np

from scalargrad import kernels
from scalargrad.dtypes import promoted
from scalargrad.kernels.geometry import index_grid
from scalargrad.kernels.memory import zeros
from scalargrad.operation import Op, Recordable, in_numpy
from scalargrad.ops.arguments import extent
from scalargrad.ops.arranging import diag as diag
from scalargrad.ops.arranging import diagonal as diagonal
from scalargrad.ops.arranging import flip as flip
from scalargrad.ops.arranging import roll as roll
from scalargrad.ops.arranging import tril as tril
from scalargrad.ops.arranging import triu as triu
from scalargrad.ops.dimensions import as_dim, check_tensor
from scalargrad.ops.joining import unbind
from scalargrad.ops.shape import along, shaping
from scalargrad.ops.subscript import getitem as getitem
from scalargrad.ops.subscript import index_put as index_put
from scalargrad.ops.subscript import subscripting
from scalargrad.rules import ops


def _where(condition: Any, a: Any, b: Any) -> Any:
    return np.where(condition, *promoted([a, b]))


def _masked_fill(x: Any, mask: Any, value: Any) -> Any:
    return np.where(mask, np.asarray(value).astype(x.dtype), x)


def _part(src: Any, index: Any) -> Any:
    """The part of `src` that an index of this shape uses."""
    if not isinstance(src, np.ndarray) or src.shape == index.shape:
        return src
    return src[tuple([slice(n) for n in index.shape])]


def _scatter(x: Any, dim: int, index: Any, src: Any) -> Any:
    y = np.array(x, order="C")
    y[index_grid(index, dim)] = _part(src, index)
    return y


def _scatter_add(x: Any, dim: int, index: Any, src: Any) -> Any:
    y = kernels.contiguous(x)
    if isinstance(src, np.ndarray):
        return kernels.scatter_add(y, dim, index, src)
    np.add.at(y, index_grid(index, dim), src)
    return y


def _gathered(g: Any, dim: int, index: Any, shape: tuple[int, ...]) -> Any:
    """The gradient of what was scattered: gathered, and 0 for what the index did not use."""
    part = indexing.gather(g, dim, index)
    rest = [n - m for n, m in zip(shape, part.shape, strict=True)]
    return shaping.pad(part, [0] * len(rest), rest, 0.0) if any(rest) else part


def _index_add(x: Any, dim: int, index: Any, src: Any, alpha: float) -> Any:
    return kernels.index_add(kernels.contiguous(x), dim, index, src if alpha == 1 else kernels.mul(src, alpha))


class indexing:
    """The rows. An index stays the tensor that it was given as, so that writing to it later is noticed."""

    where = Op(
        None,
        _where,
        "condition a b",
        None,
        lambda g, condition: ops.select(condition, g),
        lambda g, condition: ops.select(ops.logical_not(condition), g),
        fits=True,
    )
    masked_fill = Op(
        None,
        in_numpy(_masked_fill),
        "x mask value",
        lambda g, mask: ops.select(ops.logical_not(mask), g),
        None,
        lambda g, mask: ops.select(mask, g),
        fits=True,
    )
    gather = Op(
        None,
        kernels.gather,
        "x dim index",
        lambda g, x_shape, dim, index: indexing.scatter_add(zeros(x_shape, g.dtype), dim, index, g),
    )
    scatter = Op(
        None,
        _scatter,
        "x dim index src",
        lambda g, dim, index: indexing.scatter(g, dim, index, 0.0),
        None,
        None,
        lambda g, dim, index, src_shape: _gathered(g, dim, index, src_shape),
    )
    scatter_add = Op(
        None,
        _scatter_add,
        "x dim index src",
        lambda g: g,
        None,
        None,
        lambda g, dim, index, src_shape: _gathered(g, dim, index, src_shape),
    )
    index_select = Op(
        None,
        lambda x, dim, index: x.take(index, dim),
        "x dim index",
        lambda g, x_shape, dim, index: indexing.index_add(zeros(x_shape, g.dtype), dim, index, g, 1),
    )
    index_add = Op(
        None,
        _index_add,
        "x dim index src alpha",
        lambda g: g,
        None,
        None,
        lambda g, dim, index, alpha: indexing.index_select(g, dim, index) * alpha,
    )
    nonzero = Op(None, np.argwhere, "x")


def where(condition: Any, input: Any = None, other: Any = None) -> Any:
    """`input` where `condition` holds, else `other`, broadcast and promoted. Without them, where it holds: `nonzero`.

    Raises RuntimeError unless the condition is of booleans (or bytes).
    """
    if input is None and other is None:
        return nonzero(condition, as_tuple=True)
    if input is None or other is None:
        raise TypeError("where(): expected either (condition) or (condition, input, other)")
    check_tensor(condition, "where", "condition")
    if condition.dtype != np.bool_ and condition.dtype != np.uint8:
        raise RuntimeError(
            f"where expected condition to be a boolean tensor, but got a tensor with dtype {condition.dtype}"
        )
    try:
        return indexing.where(condition, input, other)
    except ValueError:
        raise _unequal("where", condition, input, other) from None


def _unequal(operation: str, *tensors: Any) -> RuntimeError:
    shapes = ", ".join(str(list(np.shape(getattr(x, "array", x)))) for x in tensors)
    return RuntimeError(f"{operation}(): the sizes of the tensors must match or be 1, got shapes {shapes}")


def masked_fill(input: Any, mask: Any, value: Any) -> Any:
    """`value` where `mask` holds, else `input`; they broadcast. `value` is a number or a tensor of no dimensions."""
    check_tensor(mask, "masked_fill", "mask")
    if mask.dtype != np.bool_:
        raise RuntimeError(f"masked_fill only supports boolean masks, but got mask with dtype {mask.dtype}")
    if np.ndim(getattr(value, "array", value)):
        raise RuntimeError(
            f"masked_fill only supports a 0-dimensional value tensor, but got tensor with {value.ndim} dimension(s)."
        )
    try:
        return indexing.masked_fill(input, mask, value)
    except ValueError:
        raise _unequal("masked_fill", input, mask) from None


def masked_select(input: Any, mask: Any) -> Any:
    """The entries of `input` where `mask` holds, in row order; they broadcast."""
    check_tensor(mask, "masked_select", "mask")
    if mask.dtype != np.bool_:
        raise RuntimeError(f"masked_select: expected BoolTensor for mask, got {mask.dtype}")
    try:
        shape = np.broadcast_shapes(tuple(input.shape), tuple(mask.shape))
    except ValueError:
        raise _unequal("masked_select", input, mask) from None
    return getitem(shaping.expand(input, shape), shaping.expand(mask, shape))


def _checked_index(
    operation: str, input: Any, dim: int, index: Any, error: type[Exception] = RuntimeError, lowest: int = 0
) -> None:
    """Refuse an index that is not of integers, or leaves the dimension."""
    check_tensor(index, operation, "index")
    entries = getattr(index, "array", index)
    if entries.dtype.kind != "i":
        raise RuntimeError(f"{operation}(): Expected dtype int32/int64 for index, got {entries.dtype}")
    shape = tuple(input.shape)
    size = shape[dim] if shape else 1
    if not entries.size:
        return
    least, most = extent(entries)
    if least < lowest or most >= size:
        wrong = entries[(entries < lowest) | (entries >= size)][0]
        raise error(f"{operation}(): index {wrong} is out of bounds for dimension {dim} with size {size}")


def _along(operation: str, input: Any, dim: int, index: Any, src: Any = None) -> int:
    """The checks of gather and scatter, and `dim` counted from the front."""
    dim = as_dim(dim, input, operation)
    _checked_index(operation, input, dim, index)
    shape, wanted = tuple(input.shape), tuple(index.shape)
    if len(wanted) != len(shape):
        raise RuntimeError(
            f"{operation}(): Index tensor must have the same number of dimensions as input tensor, got {len(wanted)} "
            f"and {len(shape)}"
        )
    src_shape = wanted if src is None else tuple(src.shape)
    if len(src_shape) != len(wanted):
        raise RuntimeError(
            f"{operation}(): Index tensor must have the same number of dimensions as src tensor, got {len(wanted)} and "
            f"{len(src_shape)}"
        )
    for d, n in enumerate(wanted):
        if (d != dim and n > shape[d]) or n > src_shape[d]:
            raise RuntimeError(
                f"{operation}(): Expected index {list(wanted)} to be no larger than self {list(shape)} "
                f"apart from dimension {dim}"
                + ("" if src is None else f" and to be no larger size than src {list(src_shape)}")
            )
    return dim


def gather(input: Any, dim: int, index: Any) -> Any:
    """y[i, j, …] = input[…, index[i, j, …], …], with the index at `dim`. What is gathered twice gets both gradients.

    Raises RuntimeError if the index is out of range, or larger than the input in another dimension.
    """
    dim = _along("gather", input, dim, index)
    if input.ndim == 0:
        return shaping.view(input, ())
    return indexing.gather(input, dim, index)


def scatter(input: Any, dim: int, index: Any, src: Any) -> Any:
    """A copy of `input` with `src` (a tensor or a number) written where `gather` would read.

    Which of several that go to one place is left is not defined. Raises RuntimeError as `gather` does.
    """
    return _scattered(indexing.scatter, input, dim, index, src)


def scatter_add(input: Any, dim: int, index: Any, src: Any) -> Any:
    """A copy of `input` with `src` added where `gather` would read; what goes to one place adds up."""
    return _scattered(indexing.scatter_add, input, dim, index, src)


def _scattered(op: Op, input: Any, dim: int, index: Any, src: Any) -> Any:
    tensor = isinstance(src, Recordable | np.ndarray)
    if tensor and src.dtype != input.dtype:
        raise RuntimeError(
            f"{op.key}(): Expected self.dtype to be equal to src.dtype, got {input.dtype} and {src.dtype}"
        )
    dim = _along(op.key, input, dim, index, src if tensor else None)
    if input.ndim:
        return op(input, dim, index, src)
    one, spot = shaping.view(input, (1,)), shaping.view(index, (1,))
    return shaping.view(op(one, 0, spot, shaping.view(src, (1,)) if tensor else src), ())


def index_select(input: Any, dim: int, index: Any) -> Any:
    """The slices along `dim` that the vector `index` names. Raises IndexError out of range."""
    dim = as_dim(dim, input, "index_select")
    _checked_index("index_select", input, dim, index, IndexError)
    if index.ndim > 1:
        raise IndexError(f"index_select(): Index is supposed to be a vector, got {index.ndim} dimensions")
    if input.ndim == 0:
        return shaping.view(input, ())
    return indexing.index_select(input, dim, shaping.view(index, (1,)) if index.ndim == 0 else index)


def index_add(input: Any, dim: int, index: Any, source: Any, *, alpha: float = 1) -> Any:
    """A copy of `input` with alpha · source[i] added to its slice index[i] along `dim`, for each i.

    Raises RuntimeError if the index is out of range or the source does not fit.
    """
    dim = as_dim(dim, input, "index_add")
    _checked_index("index_add", input, dim, index)
    check_tensor(source, "index_add", "source")
    if input.dtype != source.dtype:
        raise RuntimeError(
            f"index_add(): self ({input.dtype}) and source ({source.dtype}) must have the same scalar type"
        )
    shape, expected = tuple(source.shape), list(input.shape)
    if expected:
        expected[dim] = index.shape[0] if index.ndim else 1
    if index.ndim > 1 or list(shape) != expected:
        raise RuntimeError(
            f"index_add(): Number of indices should be equal to source.size(dim), and other sizes to those of self: "
            f"expected a vector of indices and a source of shape {expected} for dim {dim}, got {list(index.shape)} and "
            f"{list(shape)}"
        )
    if input.ndim == 0:
        return input + source * alpha
    return indexing.index_add(input, dim, shaping.view(index, (-1,)), source, alpha)


def take(input: Any, index: Any) -> Any:
    """The entries at these positions in row order; negative ones count from the end. Raises IndexError out of range."""
    flat = shaping.view(input, (-1,))
    _checked_index("take", flat, 0, index, IndexError, -flat.shape[0])
    return subscripting.index(flat, (np.array(getattr(index, "array", index)),))


def take_along_dim(input: Any, indices: Any, dim: int | None = None) -> Any:
    """`gather` whose other dimensions broadcast; without `dim`, from the entries in row order."""
    if dim is None:
        return gather(shaping.view(input, (-1,)), 0, shaping.view(indices, (-1,)))
    dim = as_dim(dim, input, "take_along_dim")
    shape, wanted = list(input.shape), list(indices.shape)
    if len(shape) != len(wanted):
        raise RuntimeError(
            f"take_along_dim(): input and indices should have the same number of dimensions, but got {len(shape)} "
            f"dimensions for input, and {len(wanted)} dimensions for indices"
        )
    shape[dim] = wanted[dim] = 1
    try:
        common = list(np.broadcast_shapes(shape, wanted))
    except ValueError:
        raise _unequal("take_along_dim", input, indices) from None
    shape[:], wanted[:] = common, common
    shape[dim], wanted[dim] = input.shape[dim], indices.shape[dim]
    return gather(shaping.expand(input, tuple(shape)), dim, shaping.expand(indices, tuple(wanted)))


def nonzero(input: Any, *, as_tuple: bool = False) -> Any:
    """The indices of the entries that are not 0: one row for each, or `as_tuple` one vector for each dimension."""
    check_tensor(input, "nonzero")
    if not as_tuple:
        return indexing.nonzero(input)
    return unbind(indexing.nonzero(input if input.ndim else shaping.view(input, (1,))), 1)


def select(input: Any, dim: int, index: int) -> Any:
    """The slice at `index` along `dim`, a view without that dimension. Raises IndexError out of range."""
    check_tensor(input, "select")
    if input.ndim == 0:
        raise IndexError("select() cannot be applied to a 0-dim tensor.")
    dim = as_dim(dim, input, "select")
    if not -input.shape[dim] <= index < input.shape[dim]:
        raise IndexError(
            f"select(): index {index} out of range for tensor of size {list(input.shape)} at dimension {dim}"
        )
    return shaping.pick(input, along(dim, index))
