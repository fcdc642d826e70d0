"""Shapes and indexing."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from scalargrad.methods.reductions import Reductions
from scalargrad.ops import indexing, joining, shape


class Shapes(Reductions):
    """Elements rearranged, picked out and put together."""

    __slots__ = ()

    def reshape(self, *shape_: Any) -> Any:
        return shape.reshape(self, *shape_)

    def view(self, *shape_: Any) -> Any:
        return shape.view(self, *shape_)

    def view_as(self, other: Any) -> Any:
        return shape.view(self, other.shape)

    def reshape_as(self, other: Any) -> Any:
        return shape.reshape(self, other.shape)

    def expand_as(self, other: Any) -> Any:
        return shape.expand(self, other.shape)

    def flatten(self, start_dim: int = 0, end_dim: int = -1) -> Any:
        return shape.flatten(self, start_dim, end_dim)

    def unflatten(self, dim: int, sizes: Any) -> Any:
        return shape.unflatten(self, dim, sizes)

    def squeeze(self, dim: Any = None) -> Any:
        return shape.squeeze(self, dim)

    def unsqueeze(self, dim: int) -> Any:
        return shape.unsqueeze(self, dim)

    def permute(self, *dims: Any) -> Any:
        return shape.permute(self, *dims)

    def transpose(self, dim0: int, dim1: int) -> Any:
        return shape.transpose(self, dim0, dim1)

    def t(self) -> Any:
        return shape.t(self)

    def movedim(self, source: Any, destination: Any) -> Any:
        return shape.movedim(self, source, destination)

    def expand(self, *sizes: Any) -> Any:
        return shape.expand(self, *sizes)

    def broadcast_to(self, size: Any) -> Any:
        return shape.broadcast_to(self, size)

    def sum_to_size(self, *size: Any) -> Any:
        return shape.sum_to_size(self, *size)

    def repeat(self, *sizes: Any) -> Any:
        return shape.repeat(self, *sizes)

    def narrow(self, dim: int, start: int, length: int) -> Any:
        return joining.narrow(self, dim, start, length)

    def split(self, split_size: Any, dim: int = 0) -> Any:
        return joining.split(self, split_size, dim)

    def chunk(self, chunks: int, dim: int = 0) -> Any:
        return joining.chunk(self, chunks, dim)

    def unbind(self, dim: int = 0) -> Any:
        return joining.unbind(self, dim)

    swapaxes = swapdims = transpose

    @property
    def T(self) -> Any:
        """The dimensions in reverse."""
        return shape.reverse_dims(self)

    @property
    def mT(self) -> Any:
        """The last two dimensions swapped."""
        return shape.transpose(self, -2, -1)

    def __iter__(self) -> Iterator[Any]:
        if self.array.ndim == 0:
            raise TypeError("iteration over a 0-d tensor")
        return iter(joining.unbind(self))

    def __getitem__(self, index: Any) -> Any:
        return indexing.getitem(self, index)

    def masked_fill(self, mask: Any, value: Any) -> Any:
        return indexing.masked_fill(self, mask, value)

    def masked_select(self, mask: Any) -> Any:
        return indexing.masked_select(self, mask)

    def gather(self, dim: int, index: Any) -> Any:
        return indexing.gather(self, dim, index)

    def scatter(self, dim: int, index: Any, src: Any) -> Any:
        return indexing.scatter(self, dim, index, src)

    def scatter_add(self, dim: int, index: Any, src: Any) -> Any:
        return indexing.scatter_add(self, dim, index, src)

    def index_select(self, dim: int, index: Any) -> Any:
        return indexing.index_select(self, dim, index)

    def index_add(self, dim: int, index: Any, source: Any) -> Any:
        return indexing.index_add(self, dim, index, source)

    def take(self, index: Any) -> Any:
        return indexing.take(self, index)

    def take_along_dim(self, indices: Any, dim: int | None = None) -> Any:
        return indexing.take_along_dim(self, indices, dim)

    def nonzero(self, *, as_tuple: bool = False) -> Any:
        return indexing.nonzero(self, as_tuple=as_tuple)

    def select(self, dim: int, index: int) -> Any:
        return indexing.select(self, dim, index)

    def tril(self, diagonal: int = 0) -> Any:
        return indexing.tril(self, diagonal)

    def triu(self, diagonal: int = 0) -> Any:
        return indexing.triu(self, diagonal)

    def diagonal(self, offset: int = 0, dim1: int = 0, dim2: int = 1) -> Any:
        return indexing.diagonal(self, offset, dim1, dim2)

    def diag(self, diagonal: int = 0) -> Any:
        return indexing.diag(self, diagonal)

    def flip(self, *dims: Any) -> Any:
        return indexing.flip(self, *dims)

    def roll(self, shifts: Any, dims: Any = None) -> Any:
        return indexing.roll(self, shifts, dims)

    def where(self, condition: Any, other: Any) -> Any:
        return indexing.where(condition, self, other)
