"""Whether operations are recorded: one flag for each thread, and the ways to set it."""

import threading
from collections.abc import Callable
from contextlib import ContextDecorator
from typing import Any


class _Mode(threading.local):
    enabled = True
    inference = False


mode = _Mode()
"""This thread's flags: `enabled` for recording, and whether that is by `inference_mode`."""


def is_grad_enabled() -> bool:
    """True if operations are being recorded in this thread."""
    return mode.enabled


def is_inference_mode_enabled() -> bool:
    """True inside `inference_mode`."""
    return mode.inference


class _Scope(ContextDecorator):
    """Sets the flags for a `with` block, or for each call of a function that it decorates."""

    def __init__(self, enabled: bool, inference: bool | None = None) -> None:
        self._flags = enabled, inference
        self._before: list[tuple[bool, bool]] = []

    def _recreate_cm(self) -> "_Scope":
        return _Scope(*self._flags)  # one for each call: calls nest, and come from several threads

    def __enter__(self) -> None:
        self._before.append((mode.enabled, mode.inference))
        enabled, inference = self._flags
        mode.enabled = enabled
        if inference is not None:
            mode.inference = inference

    def __exit__(self, *error: object) -> None:
        mode.enabled, mode.inference = self._before.pop()


class no_grad(_Scope):
    """Record nothing. A context manager and a decorator."""

    def __new__(cls, function: Callable[..., Any] | None = None) -> Any:
        """`@no_grad` without parentheses decorates at once."""
        return super().__new__(cls) if function is None else cls()(function)

    def __init__(self) -> None:
        super().__init__(False)


class enable_grad(no_grad):
    """Record again inside `no_grad`. A context manager and a decorator."""

    def __init__(self) -> None:
        _Scope.__init__(self, True)


class inference_mode(_Scope):
    """`no_grad` by PyTorch's other name; `inference_mode(False)` records."""

    def __init__(self, mode: bool = True) -> None:
        super().__init__(not mode, mode)


class set_grad_enabled(_Scope):
    """Switch recording on or off: from here on, or for a `with` block or the calls of a decorated function."""

    def __init__(self, mode_: bool) -> None:
        if not isinstance(mode_, bool):
            raise TypeError(f"set_grad_enabled(): expected a bool, got {type(mode_).__name__}")
        super().__init__(mode_)
        self.__enter__()  # from here on; a `with` enters once more, so leaving it restores twice

    def __enter__(self) -> None:
        if len(self._before) < 2:
            super().__enter__()

    def __exit__(self, *error: object) -> None:
        while self._before:
            super().__exit__(*error)

    def __call__(self, function: Callable[..., Any]) -> Any:
        self.__exit__()  # a decorator switches nothing where it stands
        return super().__call__(function)
