"""Storage: what tensors of the same memory share."""

from __future__ import annotations

from typing import Any
from weakref import ref


class Storage:
    """What the tensors that share memory share: when it was last written to, and which of them the graph knows."""

    __slots__ = ("_capacity", "_views", "written")

    written: int
    _views: list[ref[Any]] | None
    _capacity: int

    def add_view(self, view: Any) -> None:
        """Let the graph know that `view` follows in-place writes through others."""
        if self._views is None:
            self._views = []
        if len(self._views) >= self._capacity:  # a long-lived base sees many short-lived views
            self._views = [r for r in self._views if r() is not None]
            self._capacity = max(8, 2 * len(self._views))
        self._views.append(ref(view))

    def views_of(self, base: Any) -> list[Any]:
        """Those of its views that are left."""
        return [view for r in self._views or () if (view := r()) is not None and view.base is base]


def fresh_storage() -> Storage:
    """The storage of memory that was never written to, and of which there is no view."""
    storage = Storage.__new__(Storage)
    storage.written, storage._views, storage._capacity = 0, None, 8
    return storage
