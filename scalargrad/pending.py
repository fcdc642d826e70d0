"""Pending: an array that is not computed before someone needs its elements.

A convolution, its relu and its pooling, computed one after the other, write and read the large arrays between them:
from some hundred images on that is most of the time. Where the three stand next to each other nobody needs those
arrays. So an operation may give a Pending, which knows the shape and what is to be run, and the next operation may take
it and run both as one (fusion.py). Nobody else sees one: `Tensor.array` runs what is pending, and so do `apply` and
`Backward.pull` before any Op that is not made for it.

What is pending must not change meanwhile, so an operation waits only for memory that no one but its tensors holds, and
whoever then asks such a tensor for its array, to write to it or to keep it, first has run what is waiting for it. A
result is never late for its inputs, and that is what makes waiting invisible.
"""

from __future__ import annotations

import sys
import threading
from collections.abc import Callable, Sequence
from math import prod
from typing import Any
from weakref import ref

import numpy as np

from scalargrad.kernels.memory import references

Array = np.ndarray[Any, np.dtype[Any]]

ndarray, _zeros = np.ndarray, np.zeros  # a global of the module is had in a tenth of the time of an attribute


class Pending:
    """What `run(*inputs)` will give. `shape` and `dtype` are known before."""

    __slots__ = ("__weakref__", "_array", "dtype", "inputs", "lock", "run", "shape")

    def __init__(
        self, run: Callable[..., Any], inputs: tuple[Any, ...], shape: tuple[int, ...], dtype: np.dtype[Any]
    ) -> None:
        self.run, self.inputs, self.shape, self.dtype = run, inputs, shape, dtype
        self._array: Array | None = None
        self.lock = threading.RLock()  # held by whoever reads the inputs

    @property
    def is_waiting(self) -> bool:
        """True until it has run."""
        return self._array is None

    @property
    def array(self) -> Array:
        """The elements. They are computed once, and everybody gets the same array."""
        if self._array is None:
            with self.lock:
                if self._array is None:
                    self._array = self.run(*self.inputs)
                    self.inputs = ()
                    waiting.discard(ref(self))
        return self._array

    @property
    def ndim(self) -> int:
        """The number of dimensions."""
        return len(self.shape)

    @property
    def nbytes(self) -> int:
        """Bytes of all elements."""
        return prod(self.shape) * self.dtype.itemsize

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> Array:
        return np.array(self.array, dtype, copy=copy)

    def __add__(self, other: Any) -> Any:
        return self.array + elements(other)  # what comes from two ways is added up


waiting: set[ref[Pending]] = set()
"""Those that read memory of tensors, as long as they wait."""


def elements(x: Any) -> Any:
    """The array of what is pending, and anything else as it is."""
    return x.array if type(x) is Pending else x


def zeros_like(array: Any) -> Pending:
    """Zeros in place of an array, which may never have to be written out."""
    zeros = Pending.__new__(Pending)
    zeros.shape, zeros.dtype, zeros.run, zeros._array = array.shape, array.dtype, _zeros, None
    zeros.inputs, zeros.lock = (zeros.shape, zeros.dtype), _LOCK_OF_ZEROS
    return zeros


_LOCK_OF_ZEROS = threading.RLock()
"""One for all: they read nothing, so whoever writes them out waits for nobody."""


def are_zeros(x: Any) -> bool:
    """True for zeros that nobody has asked for."""
    if type(x) is not Pending:
        return False
    pending = x
    return pending.run is _zeros and pending._array is None


def wait(pending: Pending, holders: Sequence[Any], arrays: list[Any]) -> Any:
    """`pending`, watched; or what it gives, if memory that it reads could change unnoticed.

    `holders` are the operation's inputs, tensors among them, and `arrays` what it was called with. Memory that others
    than the tensors hold is copied where that is cheap beside the result.
    """
    shared = _shared(pending, holders, arrays)
    if shared:
        inputs = list(pending.inputs)
        if sum([inputs[i].nbytes for i in shared]) * 4 > pending.nbytes:
            return pending.array
        for i in shared:
            inputs[i] = inputs[i].copy()
        pending.inputs = tuple(inputs)
    waiting.add(ref(pending, waiting.discard))
    return pending


def _shared(pending: Pending, holders: Sequence[Any], arrays: list[Any]) -> list[int]:
    """Which of the inputs are arrays that somebody has besides the one tensor among `holders`.

    What comes from none of them was read by one that waits itself, and has been looked at then.
    """
    inputs = list(pending.inputs)
    held: list[tuple[int, Any]] = []
    for i in range(len(inputs)):
        x = inputs[i]
        if type(x) is ndarray:
            for k in range(len(arrays)):
                if arrays[k] is x:
                    held.append((i, holders[k]))
                    inputs[i] = None
                    break
    x = None
    pending.inputs = ()
    arrays.clear()  # the references that are left are counted
    shared = []
    for i, holder in held:
        if type(holder) is ndarray:
            shared.append(i)
            inputs[i] = holder
        else:
            if not is_alone(holder):
                shared.append(i)
            inputs[i] = holder._array
    pending.inputs = tuple(inputs)
    arrays.extend([_array_of(holder) for holder in holders])
    return shared


def _array_of(x: Any) -> Any:
    """What an operation is called with where it was given x: a tensor's array, or x itself."""
    return getattr(x, "_array", x)


def settle(array: Any) -> None:
    """Run what waits and reads this array's memory."""
    memory = _owner(array)
    for each in list(waiting):
        pending = each()
        if pending is not None and any(_owner(x) is memory for x in pending.inputs):
            pending.array  # noqa: B018


def _owner(x: Any) -> Any:
    """What an array's memory belongs to: the array itself, or what it is a view of."""
    if type(x) is Pending:
        x = x._array
    while type(x) is np.ndarray and x.base is not None:
        x = x.base
    return x


class _Holder:
    """Something that holds one array, as a tensor does."""

    __slots__ = ("_array",)

    def __init__(self, array: Array) -> None:
        self._array = array


def _references(holder: Any) -> int:
    return references(holder._array)


_ALONE = _references(_Holder(np.empty(1)))

CAN_COUNT = getattr(sys, "_is_gil_enabled", lambda: True)()
"""Whether references can be counted: without the global lock, each thread counts its own."""


def is_alone(holder: Any) -> bool:
    """True if nobody but `holder` has its array, or a view of it, or its memory in any other way."""
    return CAN_COUNT and _references(holder) == _ALONE
