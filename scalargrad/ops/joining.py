"""Tensors joined along a dimension, and taken apart along one."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import accumulate
from typing import Any

from scalargrad.operation import Recordable
from scalargrad.ops.shape import along, normalize_dim, shaping


def cat(tensors: Sequence[Any], dim: int = 0) -> Any:
    """The tensors joined along `dim`. Raises RuntimeError if other sizes differ, ValueError without tensors.

    A vector of no elements is passed over, as in PyTorch.
    """
    shapes = _shapes_of(tensors, "cat")
    if not shapes:
        raise ValueError("cat(): expected a non-empty list of Tensors")
    if (0,) in shapes:
        tensors = [x for x, shape in zip(tensors, shapes, strict=True) if shape != (0,)] or tensors
        shapes = [shape for shape in shapes if shape != (0,)] or shapes
    first = shapes[0]
    dim = normalize_dim(dim, len(first), "cat")
    for i, shape in enumerate(shapes):
        if not shape:
            raise RuntimeError(f"cat(): zero-dimensional tensor (at position {i}) cannot be concatenated")
        if shape != first and (len(shape) != len(first) or _others(shape, dim) != _others(first, dim)):
            raise RuntimeError(
                f"cat(): Sizes of tensors must match except in dimension {dim}. Expected {list(first)} but got "
                f"{list(shape)} for tensor number {i} in the list."
            )
    return shaping.cat(dim, *tensors)


def _shapes_of(tensors: Sequence[Any], operation: str) -> list[tuple[int, ...]]:
    """The tensors' shapes. Raises TypeError for anything but a list or tuple of tensors."""
    are_tensors = [isinstance(x, Recordable) for x in tensors]
    if isinstance(tensors, Recordable) or False in are_tensors:
        raise TypeError(f"{operation}(): argument 'tensors' must be a list or tuple of Tensors")
    return [tuple(x.shape) for x in tensors]


def _others(shape: tuple[int, ...], dim: int) -> tuple[int, ...]:
    return shape[:dim] + shape[dim + 1 :]


def stack(tensors: Sequence[Any], dim: int = 0) -> Any:
    """The tensors, all of one shape, along a new dimension `dim`. Raises RuntimeError if shapes differ."""
    shapes = _shapes_of(tensors, "stack")
    if not shapes:
        raise RuntimeError("stack expects a non-empty TensorList")
    first = shapes[0]
    for i, shape in enumerate(shapes):
        if shape != first:
            raise RuntimeError(
                f"stack expects each tensor to be equal size, but got {list(first)} at entry 0 and {list(shape)} at "
                f"entry {i}"
            )
    return shaping.stack(normalize_dim(dim, len(first) + 1, "stack"), *tensors)


def narrow(input: Any, dim: int, start: int, length: int) -> Any:
    """`length` entries along `dim`, from `start` on. Raises RuntimeError if they are not all there."""
    dim = normalize_dim(dim, input.ndim, "narrow")
    size = input.shape[dim]
    start = start + size if start < 0 else start
    if length < 0 or start < 0 or start + length > size:
        raise RuntimeError(f"narrow(): start ({start}) + length ({length}) exceeds dimension size ({size}).")
    return shaping.slice(input, along(dim, slice(start, start + length)))


def split(input: Any, split_size_or_sections: int | Sequence[int], dim: int = 0) -> tuple[Any, ...]:
    """Views along `dim`, of one size (the last may be smaller) or of the sizes listed.

    Raises RuntimeError if the sizes listed do not add up.
    """
    dim = normalize_dim(dim, input.ndim, "split")
    size = tuple(input.shape)[dim]
    if isinstance(split_size_or_sections, int):
        step = split_size_or_sections
        if step < 0 or (step == 0 and size):
            raise RuntimeError(f"split expects split_size be positive, but got split_size={step}")
        sections = [min(step, size - i) for i in range(0, size, step)] if size else [0]
    else:
        sections = list(split_size_or_sections)
        if sum(sections) != size:
            raise RuntimeError(
                f"split_with_sizes expects split_sizes to sum exactly to {size} (input tensor's size at dimension "
                f"{dim}), but got split_sizes={sections}"
            )
    ends = list(accumulate(sections))
    parts = [slice(end - n, end) for n, end in zip(sections, ends, strict=True)]
    return tuple([shaping.slice(input, along(dim, part)) for part in parts])


def chunk(input: Any, chunks: int, dim: int = 0) -> tuple[Any, ...]:
    """At most `chunks` views along `dim`, all of one size but the last. Raises RuntimeError for no chunks."""
    if chunks < 1:
        raise RuntimeError(f"chunk expects `chunks` to be greater than 0, got: {chunks}")
    size = input.shape[normalize_dim(dim, input.ndim, "chunk")]
    return split(input, max(1, -(-size // chunks)), dim)


def unbind(input: Any, dim: int = 0) -> tuple[Any, ...]:
    """The slices along `dim`, without that dimension."""
    dim = normalize_dim(dim, input.ndim, "unbind")
    return tuple([shaping.pick(input, along(dim, i)) for i in range(input.shape[dim])])
