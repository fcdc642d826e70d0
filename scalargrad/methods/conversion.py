"""To Python, to NumPy, to another dtype; and what a tensor is asked about itself."""

from __future__ import annotations

import copy
from collections.abc import Callable
from typing import Any

import numpy as np

from scalargrad import dtypes
from scalargrad.methods.inplace import InPlace
from scalargrad.ops import shape as shape_
from scalargrad.ops.shape import Size, shaping


class Conversion(InPlace):
    """To other types, and questions."""

    __slots__ = ()

    def item(self) -> Any:
        """The one element as a Python number. Raises RuntimeError if there are more or none."""
        if self.array.size != 1:
            raise RuntimeError(f"a Tensor with {self.array.size} elements cannot be converted to Scalar")
        return self.array.item()

    def tolist(self) -> Any:
        """The elements as nested lists of Python numbers."""
        return self.array.tolist()

    def numpy(self, *, force: bool = False) -> np.ndarray[Any, Any]:
        """The array itself: memory is shared. Raises RuntimeError if gradients flow here, unless `force`."""
        if self.edge is not None and not force:
            raise RuntimeError("Can't call numpy() on Tensor that requires grad. Use tensor.detach().numpy() instead.")
        return self.array

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> np.ndarray[Any, Any]:
        return np.array(self.numpy(), dtype, copy=copy)

    def __dlpack__(self, **options: Any) -> Any:
        return self.numpy().__dlpack__(**options)

    def __dlpack_device__(self) -> Any:
        return self.array.__dlpack_device__()

    def __float__(self) -> float:
        return float(self.item())

    def __int__(self) -> int:
        return int(self.item())

    def __index__(self) -> int:
        if self.array.dtype.kind == "f" or self.array.size != 1:
            raise TypeError("only integer tensors of a single element can be converted to an index")
        return int(self.array.item())

    def __bool__(self) -> bool:
        if self.array.size != 1:
            what = "no values" if self.array.size == 0 else "more than one value"
            raise RuntimeError(f"Boolean value of Tensor with {what} is ambiguous")
        return bool(self.array.item())

    def __len__(self) -> int:
        if self.array.ndim == 0:
            raise TypeError("len() of a 0-d tensor")
        return int(self.array.shape[0])

    def __contains__(self, element: Any) -> bool:
        return bool((self == element).any())

    def __format__(self, spec: str) -> str:
        return format(self.item(), spec) if self.array.ndim == 0 and spec else object.__format__(self, spec)

    def __deepcopy__(self, memo: dict[int, Any]) -> Any:
        """A leaf of its own memory. Raises RuntimeError for a tensor that was computed, as PyTorch does."""
        if not self.is_leaf:
            raise RuntimeError(
                "Only Tensors created explicitly by the user (graph leaves) support the deepcopy protocol at the moment"
            )
        made = _rebuild(type(self), self.array.copy(), self.edge is not None)
        memo[id(self)] = made
        made.grad = copy.deepcopy(self.grad, memo)
        _carry_attributes(self, made, lambda x: copy.deepcopy(x, memo))
        return made

    def __reduce__(self) -> Any:
        """Pickled as a leaf: the array, and whether it requires grad."""
        attributes = getattr(self, "__dict__", None)
        return _rebuild, (type(self), self.array, self.edge is not None), attributes

    def size(self, dim: int | None = None) -> Any:
        """The shape, or the size of one dimension."""
        return Size(self.array.shape) if dim is None else self.array.shape[shape_.normalize_dim(dim, self.array.ndim)]

    def dim(self) -> int:
        """The number of dimensions."""
        return self.array.ndim

    def numel(self) -> int:
        """The number of elements."""
        return self.array.size

    nelement = numel

    def element_size(self) -> int:
        """Bytes an element."""
        return self.array.itemsize

    @property
    def nbytes(self) -> int:
        """Bytes of all elements."""
        return self.array.nbytes

    def stride(self, dim: int | None = None) -> Any:
        """How many elements apart neighbours are in memory, along each dimension or one."""
        strides = tuple([s // self.array.itemsize for s in self.array.strides])
        return strides if dim is None else strides[dim]

    def data_ptr(self) -> int:
        """The address of the first element."""
        return self.array.__array_interface__["data"][0]

    def is_contiguous(self) -> bool:
        """True if the elements lie in memory in row order, without gaps."""
        return bool(self.array.flags.c_contiguous)

    def is_floating_point(self) -> bool:
        """True for float32 and float64."""
        return bool(self.array.dtype.kind == "f")

    def contiguous(self) -> Any:
        """This tensor if it is contiguous, else a contiguous copy."""
        return self if self.is_contiguous() else shaping.contiguous(self)

    def clone(self) -> Any:
        """A copy, through which gradients flow."""
        return shaping.clone(self)

    def to(self, *args: Any, dtype: Any = None, copy: bool = False) -> Any:
        """This tensor in another dtype, a dtype's or a tensor's; itself if nothing changes, unless `copy`.

        Raises RuntimeError for a device other than the CPU.
        """
        for arg in args:
            if isinstance(arg, Conversion):
                dtype = arg.array.dtype
            elif isinstance(arg, str) and arg.split(":")[0] in ("cpu", "cuda", "mps", "meta", "xpu"):
                if arg != "cpu":
                    raise RuntimeError(f"to(): scalargrad runs on the CPU only, got device '{arg}'")
            else:
                dtype = arg
        wanted = self.array.dtype if dtype is None else dtypes.as_dtype(dtype, "to")
        if wanted == self.array.dtype:
            return self.clone() if copy else self
        return shaping.cast(self, wanted)

    def type(self, dtype: Any) -> Any:
        """`to(dtype)`."""
        return self.to(dtype)

    def type_as(self, other: Any) -> Any:
        """In the dtype of `other`."""
        return self.to(other.dtype)

    def cpu(self) -> Any:
        """This tensor: there is no other place."""
        return self


class Casting(Conversion):
    """To a dtype by its name; these names hide Python's types inside a class, so it is one of its own."""

    __slots__ = ()

    def double(self) -> Any:
        """As float64."""
        return self.to(dtypes.float64)

    def long(self) -> Any:
        """As int64."""
        return self.to(dtypes.int64)

    def short(self) -> Any:
        """As int16."""
        return self.to(dtypes.int16)

    def byte(self) -> Any:
        """As uint8."""
        return self.to(dtypes.uint8)

    def int(self) -> Any:
        """As int32."""
        return self.to(dtypes.int32)

    def bool(self) -> Any:
        """As bool: True where not 0."""
        return self.to(dtypes.bool)

    def float(self) -> Any:
        """As float32."""
        return self.to(dtypes.float32)


def _rebuild(cls: type[Any], array: np.ndarray[Any, Any], requires_grad: bool) -> Any:
    """A tensor of class `cls` of this very array."""
    made: Any = cls.__new__(cls)  # type: ignore[call-overload]
    made.array, made.edge, made.storage, made._grad, made.base = array, None, None, None, None
    made.requires_grad = requires_grad
    return made


def _carry_attributes(old: Any, new: Any, copied: Callable[[Any], Any]) -> None:
    """A subclass's own attributes, copied."""
    for name, value in getattr(old, "__dict__", {}).items():
        setattr(new, name, copied(value))
