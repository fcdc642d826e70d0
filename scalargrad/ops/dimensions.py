"""What functions over dimensions make of `dim` and `keepdim`, and what they refuse."""

from __future__ import annotations

import operator
from typing import Any

import numpy as np

from scalargrad.operation import Recordable
from scalargrad.ops.arguments import no_tensor
from scalargrad.ops.shape import normalize_dim

Dims = tuple[int, ...] | None
"""The dimensions that a row reduces, counted from the front; None for all."""

_TENSORS = Recordable, np.ndarray, np.generic


def is_tensor(x: Any) -> bool:
    """True for a Tensor, and for an array, which functions take as well."""
    return isinstance(x, _TENSORS)


def check_tensor(x: Any, operation: str, name: str = "input") -> None:
    """Raises TypeError for what is no tensor."""
    if not isinstance(x, _TENSORS):
        raise no_tensor(operation, x, name)


def n_dims(input: Any, operation: str) -> int:
    """How many dimensions a tensor has. Raises TypeError for what is no tensor."""
    try:
        return input.ndim  # type: ignore[no-any-return]
    except AttributeError:
        raise no_tensor(operation, input) from None


def as_dim(dim: int, input: Any, operation: str) -> int:
    """One dimension of `input`, counted from the front. Raises IndexError out of range."""
    return normalize_dim(dim, n_dims(input, operation), operation)


def as_dims(dim: Any, input: Any, operation: str) -> Dims:
    """A function's `dim` as its row takes it: None or nothing stands for all dimensions.

    Raises IndexError out of range, RuntimeError for a dimension named twice, TypeError for anything but integers, and
    for an `input` that is no tensor.
    """
    ndim = n_dims(input, operation)
    if dim is None:
        return None
    if type(dim) is int:
        dims: Dims = (normalize_dim(dim, ndim, operation),)
    else:
        try:
            if dim is True or dim is False:
                raise TypeError
            given = [operator.index(d) for d in dim] if isinstance(dim, tuple | list) else [operator.index(dim)]
        except TypeError:
            raise TypeError(f"{operation}(): argument 'dim' must be int or tuple of ints, not {dim!r}") from None
        dims = tuple([normalize_dim(d, ndim, operation) for d in given])
        if len(set(dims)) < len(dims):
            twice = next(d for d in dims if dims.count(d) > 1)
            raise RuntimeError(f"{operation}(): dim {twice} appears multiple times in the list of dims")
    return dims if ndim and dims else None


def named_dims(dim: Any, keepdim: Any, axis: Any, keepdims: Any, input: Any, operation: str) -> tuple[Dims, bool]:
    """`dim` and `keepdim`, which NumPy calls `axis` and `keepdims`, as a row takes them."""
    if axis is not None:
        dim = axis
    if keepdims is not None:
        keepdim = keepdims
    if keepdim is not False and keepdim is not True:
        raise TypeError(f"{operation}(): argument 'keepdim' must be bool, not {type(keepdim).__name__}")
    return as_dims(dim, input, operation), keepdim
