"""Where in a network an error arose: a note on the error that names the layer's path."""

from __future__ import annotations

from contextlib import suppress
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from scalargrad.nn.module import Module


class Location(str):
    """The note, as `in Net.fc1: Linear(in_features=576, out_features=120, bias=True)`, and the module it is about."""

    module: Module

    def __reduce__(self) -> Any:
        return str, (str(self),)  # an error that goes to another process leaves the network behind


def locate(error: BaseException, outer: Module) -> None:
    """Note on `error`, which is passing through the call of `outer`, where it arose.

    The innermost module makes the note; each module around it that knows the innermost by a path puts that in.
    """
    notes: list[str] = getattr(error, "__notes__", [])
    for i, note in enumerate(notes):
        if isinstance(note, Location):
            path = next((path for path, module in outer.named_modules() if module is note.module), "")
            if path:
                notes[i] = _location(note.module, f"{type(outer).__name__}.{path}")
            return
    error.add_note(_location(outer, ""))


def _location(module: Module, path: str) -> Location:
    description = type(module).__name__
    if next(module.children(), None) is None:
        with suppress(Exception):  # a layer that cannot be printed must not hide the error
            description = repr(module)
    note = Location(f"in {path}: {description}" if path else f"in {description}")
    note.module = module
    return note
