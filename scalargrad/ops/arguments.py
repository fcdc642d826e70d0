"""What functions refuse before they work: arguments that are no tensors, no sizes, no reductions."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from scalargrad.operation import Recordable


def no_tensor(operation: str, input: Any, argument: str = "input") -> TypeError:
    """The error, in PyTorch's words, for an argument that should be a Tensor."""
    return TypeError(f"{operation}(): argument '{argument}' must be Tensor, not {type(input).__name__}")


def array(operation: str, input: Any, argument: str = "input") -> np.ndarray[Any, Any]:
    """The array of a Tensor. Raises TypeError if the argument is none."""
    try:
        return input.array  # type: ignore[no-any-return]
    except AttributeError:
        raise no_tensor(operation, input, argument) from None


def rank(operation: str, input: Any, argument: str = "input") -> int:
    """The number of a Tensor's dimensions, without a look at its elements. Raises TypeError if the argument is none."""
    if not isinstance(input, Recordable):
        raise no_tensor(operation, input, argument)
    return input.ndim  # type: ignore[attr-defined, no-any-return]


def floating(operation: str, input: Any) -> np.ndarray[Any, Any]:
    """The array of a Tensor of floats. Raises RuntimeError for a Tensor of anything else."""
    x = array(operation, input)
    if x.dtype.kind != "f":
        raise RuntimeError(f"{operation}(): expected a floating point tensor, got {x.dtype}")
    return x


def extent(numbers: np.ndarray[Any, Any]) -> tuple[int, int]:
    """The smallest and the largest of some integers. (Of a few, NumPy's `min` and `max` take five times as long.)"""
    return numbers.item(numbers.argmin()), numbers.item(numbers.argmax())


def pair(size: int | Sequence[int], operation: str, argument: str) -> tuple[int, int]:
    """One size for both directions, or (vertical, horizontal), as the latter. A sequence of one counts as one.

    Raises RuntimeError for a sequence of another length, TypeError for what is not made of integers.
    """
    if type(size) is int:
        return size, size
    if type(size) is tuple and len(size) == 2 and type(size[0]) is int and type(size[1]) is int:
        return size
    try:
        sizes = [n.__index__() for n in (size if isinstance(size, Sequence) else [size])]
    except AttributeError:
        raise TypeError(f"{operation}(): argument '{argument}' must be an int or two ints, got {size!r}") from None
    if len(sizes) not in (1, 2):
        raise RuntimeError(f"{operation}(): expected {argument} to be one integer or two, got {list(sizes)}")
    return sizes[0], sizes[-1]


def single(size: int | Sequence[int], operation: str, argument: str) -> tuple[int]:
    """One size, as a number or as a sequence of one, as the latter.

    Raises RuntimeError for a sequence of another length, TypeError for what is not made of integers.
    """
    try:
        sizes = [n.__index__() for n in (size if isinstance(size, Sequence) else [size])]
    except AttributeError:
        raise TypeError(f"{operation}(): argument '{argument}' must be an int or one int, got {size!r}") from None
    if len(sizes) != 1:
        raise RuntimeError(f"{operation}(): expected {argument} to be one integer, got {sizes}")
    return (sizes[0],)


def check_reduction(reduction: str) -> None:
    """Raises ValueError for what is not a reduction."""
    if reduction not in ("mean", "sum", "none"):
        raise ValueError(f"{reduction} is not a valid value for reduction: expected 'none', 'mean' or 'sum'")
