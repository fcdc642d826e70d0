"""What a Module has registered: which of its attributes are parameters, buffers and submodules."""

from __future__ import annotations

from collections.abc import Iterator, MutableMapping
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from scalargrad.nn.module import Module

PARAMETER, BUFFER, MODULE = "parameter", "buffer", "module"

REFUSED = {
    PARAMETER: "cannot assign '{}' as parameter '{}' (torch.nn.Parameter or None expected)",
    BUFFER: "cannot assign '{}' as buffer '{}' (torch.Tensor or None expected)",
    MODULE: "cannot assign '{}' as child module '{}' (torch.nn.Module or None expected)",
}
"""What is said when something of another type is assigned to a registered name."""


class Registered(MutableMapping[str, Any]):
    """The attributes of a Module that are of one kind, by name: what `_parameters`, `_buffers` and `_modules` give."""

    def __init__(self, module: Module, kind: str) -> None:
        self._module, self._kind, self._names = module, kind, module._registered[kind]

    def __getitem__(self, name: str) -> Any:
        if name not in self._names:
            raise KeyError(name)
        return self._module.__dict__[name]

    def __setitem__(self, name: str, value: Any) -> None:
        self._module._register(name, self._kind, value)

    def __delitem__(self, name: str) -> None:
        if name not in self:
            raise KeyError(name)
        delattr(self._module, name)

    def __iter__(self) -> Iterator[str]:
        return iter(self._names)

    def __len__(self) -> int:
        return len(self._names)

    def __repr__(self) -> str:
        return repr(dict(self))
