"""What the functions with two results return: named pairs that print as PyTorch's."""

from typing import Any, NamedTuple


class ValuesAndIndices(NamedTuple):
    """Entries of a tensor, and where they were found along a dimension."""

    values: Any
    indices: Any

    def __repr__(self) -> str:
        return f"torch.return_types.{type(self).__name__}(\nvalues={self.values!r},\nindices={self.indices!r})"


class max(ValuesAndIndices):
    """What `max(input, dim)` returns."""

    __slots__ = ()


class min(ValuesAndIndices):
    """What `min(input, dim)` returns."""

    __slots__ = ()


class median(ValuesAndIndices):
    """What `median(input, dim)` returns."""

    __slots__ = ()


class sort(ValuesAndIndices):
    """What `sort` returns."""

    __slots__ = ()


class topk(ValuesAndIndices):
    """What `topk` returns."""

    __slots__ = ()
