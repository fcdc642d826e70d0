"""Tensors from data, and of given contents."""

from __future__ import annotations

from typing import Any

import numpy as np

from scalargrad import dtypes
from scalargrad.kernels import memory
from scalargrad.ops.shape import as_shape
from scalargrad.ops.subscript import number_as
from scalargrad.tensor import Tensor, wrap


def tensor(data: Any, *, dtype: Any = None, requires_grad: bool = False) -> Tensor:
    """A leaf of its own memory: a copy of numbers, nested lists of them, an array or a tensor.

    Without `dtype`, Python's floats become float32, its ints int64; arrays and tensors keep theirs.
    Raises ValueError for ragged lists, TypeError for anything but numbers, and RuntimeError for Python numbers that an
    integer dtype cannot hold.
    """
    array = _array(data, "tensor")
    made = wrap(memory.copied(array, _checked(data, array, dtype, "tensor")))
    made.requires_grad = requires_grad
    return made


def as_tensor(data: Any, *, dtype: Any = None) -> Tensor:
    """`data` as a tensor, sharing memory with an array or tensor of the right dtype."""
    if isinstance(data, Tensor):
        return data if dtype is None else data.to(dtype)
    array = _array(data, "as_tensor")
    return wrap(np.asarray(array, _checked(data, array, dtype, "as_tensor")))


def is_tensor(obj: Any) -> bool:
    """True for a Tensor."""
    return isinstance(obj, Tensor)


def from_numpy(ndarray: np.ndarray[Any, Any]) -> Tensor:
    """A tensor of the array's own memory.

    Raises TypeError for anything but an array of one of the dtypes, ValueError if its bytes are in another order.
    """
    if not isinstance(ndarray, np.ndarray):
        raise TypeError(f"from_numpy(): expected np.ndarray (got {type(ndarray).__name__})")
    if not ndarray.dtype.isnative:
        raise ValueError(f"from_numpy(): expected bytes in this machine's order, got an array of {ndarray.dtype}")
    if ndarray.dtype not in dtypes.DTYPES:
        raise TypeError(
            f"from_numpy(): can't convert np.ndarray of type {ndarray.dtype}. The supported types are: "
            f"{', '.join(map(str, dtypes.DTYPES))}."
        )
    return wrap(ndarray)


def _array(data: Any, operation: str) -> np.ndarray[Any, Any]:
    if isinstance(data, Tensor):
        return data.array
    if isinstance(data, (list, tuple)):
        data = _plain(data)
    try:
        array = np.asarray(data)
    except ValueError as error:
        raise ValueError(f"{operation}(): expected sequences of one length at each depth ({error})") from None
    if array.dtype.kind not in "biuf":
        raise TypeError(f"{operation}(): expected numbers, got {type(data).__name__} of {array.dtype}")
    return array


def _plain(data: Any) -> Any:
    """Nested lists with arrays in place of tensors."""
    if isinstance(data, Tensor):
        return data.detach().array
    return [_plain(x) for x in data] if isinstance(data, (list, tuple)) else data


def _dtype(data: Any, array: np.ndarray[Any, Any], dtype: Any, operation: str) -> np.dtype[Any]:
    if dtype is not None:
        return dtypes.as_dtype(dtype, operation)
    while isinstance(data, (list, tuple)) and data:
        data = data[0]
    if isinstance(data, (Tensor, np.ndarray, np.generic)):
        return dtypes.as_dtype(array.dtype, operation)
    return (
        {"f": dtypes.default_float, "b": dtypes.bool}.get(array.dtype.kind, dtypes.int64)
        if array.size or array.dtype.kind != "f"
        else dtypes.default_float
    )


def _checked(data: Any, array: np.ndarray[Any, Any], dtype: Any, operation: str) -> np.dtype[Any]:
    """The dtype for `data`, which Python's numbers must fit into; those of an array are cast as NumPy casts them."""
    kind = _dtype(data, array, dtype, operation)
    if kind.kind in "iu" and array.dtype != kind and array.size and not isinstance(data, (Tensor, np.ndarray)):
        for extreme in (array.min(), array.max()):  # NaN is both if it is anywhere
            number_as(extreme.item(), kind)
    return kind


def _shaped(operation: str, size: Any) -> tuple[int, ...]:
    shape = as_shape(size)
    if any(n < 0 for n in shape):
        raise RuntimeError(
            f"{operation}(): Trying to create tensor with negative dimension {min(shape)}: {list(shape)}"
        )
    return shape


def _made(array: Any, requires_grad: bool) -> Tensor:
    made = wrap(array)
    if requires_grad:
        made.requires_grad = True
    return made


def _filled(shape: tuple[int, ...], value: Any, dtype: np.dtype[Any]) -> np.ndarray[Any, Any]:
    array = memory.empty(shape, dtype)
    array[...] = value
    return array


def _or_default(dtype: Any, operation: str) -> np.dtype[Any]:
    return dtypes.default_float if dtype is None else dtypes.as_dtype(dtype, operation)


def zeros(*size: Any, dtype: Any = None, requires_grad: bool = False) -> Tensor:
    """All 0."""
    return _made(np.zeros(_shaped("zeros", size), _or_default(dtype, "zeros")), requires_grad)


def ones(*size: Any, dtype: Any = None, requires_grad: bool = False) -> Tensor:
    """All 1."""
    return _made(_filled(_shaped("ones", size), 1, _or_default(dtype, "ones")), requires_grad)


def empty(*size: Any, dtype: Any = None, requires_grad: bool = False) -> Tensor:
    """Whatever was in the memory."""
    return _made(memory.empty(_shaped("empty", size), _or_default(dtype, "empty")), requires_grad)


def full(size: Any, fill_value: Any, *, dtype: Any = None, requires_grad: bool = False) -> Tensor:
    """All `fill_value`, one number, whose kind decides the dtype if none is given. Raises TypeError for several."""
    value = _array(fill_value, "full")
    if value.ndim:
        raise TypeError(f"full(): argument 'fill_value' must be one number, got shape {list(value.shape)}")
    return _made(_filled(_shaped("full", (size,)), value, _checked(fill_value, value, dtype, "full")), requires_grad)


def zeros_like(input: Tensor, *, dtype: Any = None, requires_grad: bool = False) -> Tensor:
    """All 0, of the shape and dtype of `input`."""
    return zeros(input.shape, dtype=input.dtype if dtype is None else dtype, requires_grad=requires_grad)


def ones_like(input: Tensor, *, dtype: Any = None, requires_grad: bool = False) -> Tensor:
    """All 1, of the shape and dtype of `input`."""
    return ones(input.shape, dtype=input.dtype if dtype is None else dtype, requires_grad=requires_grad)


def empty_like(input: Tensor, *, dtype: Any = None, requires_grad: bool = False) -> Tensor:
    """Whatever was in the memory, of the shape and dtype of `input`."""
    return empty(input.shape, dtype=input.dtype if dtype is None else dtype, requires_grad=requires_grad)


def full_like(input: Tensor, fill_value: Any, *, dtype: Any = None, requires_grad: bool = False) -> Tensor:
    """All `fill_value`, of the shape and dtype of `input`."""
    return full(input.shape, fill_value, dtype=input.dtype if dtype is None else dtype, requires_grad=requires_grad)


def arange(*bounds: Any, dtype: Any = None, requires_grad: bool = False) -> Tensor:
    """`arange(start=0, end, step=1)`: from `start` by `step`, `end` not included; integers if all three are.

    Raises RuntimeError if `step` is 0 or leads away from `end`.
    """
    if not 1 <= len(bounds) <= 3:
        raise TypeError(f"arange(): expected 1 to 3 bounds, got {len(bounds)}")
    values = [b.item() if isinstance(b, Tensor) else b for b in bounds]
    start, end, step = (0, values[0], 1) if len(values) == 1 else (*values, 1)[:3]
    if step == 0:
        raise RuntimeError("arange(): step must be nonzero")
    if (end - start) * step < 0:
        raise RuntimeError(
            f"arange(): upper bound and lower bound inconsistent with step sign ({start}, {end}, {step})"
        )
    integers = all(isinstance(v, (int, np.integer)) for v in (start, end, step))
    kind = dtypes.as_dtype(dtype or (dtypes.int64 if integers else dtypes.default_float), "arange")
    return _made(np.arange(start, end, step).astype(kind, copy=False), requires_grad)


def linspace(start: float, end: float, steps: int, *, dtype: Any = None, requires_grad: bool = False) -> Tensor:
    """`steps` numbers at equal distances, both ends included. Raises RuntimeError for a negative number of them."""
    if steps < 0:
        raise RuntimeError(f"linspace(): number of steps must be non-negative, got {steps}")
    return _made(np.linspace(start, end, steps).astype(_or_default(dtype, "linspace")), requires_grad)


def logspace(
    start: float, end: float, steps: int, base: float = 10.0, *, dtype: Any = None, requires_grad: bool = False
) -> Tensor:
    """`base` to the powers `linspace(start, end, steps)`."""
    return _made(np.logspace(start, end, steps, base=base).astype(_or_default(dtype, "logspace")), requires_grad)


def eye(n: int, m: int | None = None, *, dtype: Any = None, requires_grad: bool = False) -> Tensor:
    """n rows and m columns, 1 on the diagonal and 0 off it."""
    return _made(np.eye(*_shaped("eye", (n, n if m is None else m)), dtype=_or_default(dtype, "eye")), requires_grad)


def meshgrid(*tensors: Any, indexing: str = "ij") -> tuple[Tensor, ...]:
    """The coordinates of a grid over these axes, one tensor for each."""
    axes = tensors[0] if len(tensors) == 1 and isinstance(tensors[0], (list, tuple)) else tensors
    if indexing not in ("ij", "xy"):
        raise RuntimeError(f'meshgrid(): indexing must be one of "xy" or "ij", but received: {indexing}')
    return tuple(wrap(g) for g in np.meshgrid(*(t.detach().array for t in axes), indexing=indexing))  # type: ignore[call-overload]
