"""Calling a Module that has hooks."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

from scalargrad.autograd.function import Function
from scalargrad.grad_mode import is_grad_enabled
from scalargrad.nodes import RemovableHandle
from scalargrad.tensor import Tensor

if TYPE_CHECKING:
    from scalargrad.nn.module import Module


class Hook(NamedTuple):
    """A user's function, whether it wants the keyword arguments, and whether it is called after an error too."""

    function: Callable[..., Any]
    with_kwargs: bool = False
    always_call: bool = False


def register(registered: dict[int, Hook], hook: Hook, prepend: bool) -> RemovableHandle:
    """Add a hook, as the last or, with `prepend`, as the first."""
    others = dict(registered)
    if prepend:
        registered.clear()
    handle = RemovableHandle(registered, hook)
    registered.update(others)
    return handle


def call(module: Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
    """`module.forward(*args, **kwargs)` between the module's hooks."""
    output, due = None, list(module._forward_hooks.values())
    try:
        for hook in list(module._forward_pre_hooks.values()):
            args, kwargs = _replaced(hook, module, args, kwargs)
        watch = None
        if module._backward_hooks or module._backward_pre_hooks:
            watch = BackwardWatch(module)
            args = watch.inputs(args)
        output = module.forward(*args, **kwargs)
        while due:
            output = _after(due.pop(0), module, args, kwargs, output)
        return output if watch is None else watch.outputs(output)
    except Exception:
        for hook in due:
            if hook.always_call:
                try:
                    output = _after(hook, module, args, kwargs, output)
                except Exception as error:  # noqa: BLE001 — the first error is the one to be raised
                    warnings.warn(
                        "module forward hook with ``always_call=True`` raised an exception that was silenced as "
                        f"another error was raised in forward: {error}",
                        stacklevel=3,
                    )
        raise


def _replaced(hook: Hook, module: Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> tuple[Any, Any]:
    """The arguments as a pre-hook leaves them."""
    if not hook.with_kwargs:
        result = hook.function(module, args)
        return (args if result is None else result if isinstance(result, tuple) else (result,)), kwargs
    result = hook.function(module, args, kwargs)
    if result is None:
        return args, kwargs
    if not isinstance(result, tuple) or len(result) != 2:
        raise RuntimeError(f"forward pre-hook must return None or a tuple of (new_args, new_kwargs), but got {result}.")
    return result


def _after(hook: Hook, module: Module, args: tuple[Any, ...], kwargs: dict[str, Any], output: Any) -> Any:
    """The output as a forward hook leaves it."""
    result = hook.function(module, args, *([kwargs] if hook.with_kwargs else []), output)
    return output if result is None else result


class BackwardWatch:
    """One call of a module with backward hooks: sees the gradients of its outputs, then those of its inputs.

    Both sides of the module are led through an identity whose derivative calls the hooks.
    """

    def __init__(self, module: Module) -> None:
        self.module = module
        self.grad_output: tuple[Tensor | None, ...] | None = None
        self.inputs_want_gradients = False

    def inputs(self, args: tuple[Any, ...]) -> tuple[Any, ...]:
        """The arguments, tensors among them watched."""
        watched = _watched(args, self.receive_input_gradients)
        self.inputs_want_gradients = watched is not args
        return watched

    def outputs(self, output: Any) -> Any:
        """The output, watched if it is a tensor or a tuple."""
        if isinstance(output, Tensor):
            return _watched((output,), self.receive_output_gradients)[0]
        if isinstance(output, tuple):
            results = _watched(output, self.receive_output_gradients)
            return type(output)(*results) if hasattr(output, "_fields") else results  # a named tuple stays one
        warnings.warn(
            "For backward hooks to be called, module output should be a Tensor or a tuple of Tensors but received "
            f"{type(output)}",
            stacklevel=4,
        )
        return output

    def receive_output_gradients(self, grads: tuple[Tensor | None, ...]) -> Sequence[Tensor | None]:
        for hook in list(self.module._backward_pre_hooks.values()):
            result = hook.function(self.module, grads)
            if result is not None:
                grads = _same_number("Backward pre hook", "grad_output", result, grads)
        if self.inputs_want_gradients:
            self.grad_output = grads
        else:  # nothing will arrive there, so this is the time
            for hook in list(self.module._backward_hooks.values()):
                if hook.function(self.module, (None,), grads) is not None:
                    raise RuntimeError(
                        "Backward hook for Modules where no input requires gradient should always return None or None "
                        "for all gradients."
                    )
        return grads

    def receive_input_gradients(self, grads: tuple[Tensor | None, ...]) -> Sequence[Tensor | None]:
        if self.grad_output is None:  # they came by another way than through the output
            return grads
        for hook in list(self.module._backward_hooks.values()):
            result = hook.function(self.module, grads, self.grad_output)
            if result is not None:
                grads = _same_number("Backward hook", "grad_input", result, grads)
        self.grad_output = None
        return grads


def _same_number(hook: str, what: str, result: Any, grads: tuple[Any, ...]) -> tuple[Any, ...]:
    among = result if isinstance(result, tuple) else (result,)
    if len(among) != len(grads):
        raise RuntimeError(f"{hook} returned an invalid number of {what}, got {len(among)}, but expected {len(grads)}")
    return among


def _watched(values: tuple[Any, ...], receive: Callable[..., Sequence[Tensor | None]]) -> tuple[Any, ...]:
    """`values`, the tensors among them through an identity whose derivative calls `receive`.

    `receive` gets one gradient for each value, None for what has none. If nothing wants a gradient, `values` itself.
    """
    places = [i for i, x in enumerate(values) if isinstance(x, Tensor) and x.requires_grad]
    if not places or not is_grad_enabled():
        return values

    def spread(grads: tuple[Tensor | None, ...]) -> list[Tensor | None]:
        among: list[Tensor | None] = [None] * len(values)
        for i, g in zip(places, grads, strict=True):
            among[i] = g
        received = receive(tuple(among))
        return [received[i] for i in places]

    results = Watched.apply(spread, *[values[i] for i in places])
    among = list(values)
    for i, y in zip(places, results if isinstance(results, tuple) else (results,), strict=True):
        among[i] = y
    return tuple(among)


class Watched(Function):
    """The identity on tensors, whose derivative is what `receive` makes of the gradients."""

    @staticmethod
    def forward(ctx: Any, receive: Callable[..., Any], *xs: Tensor) -> Any:
        ctx.on_gradients = receive
        ctx.set_materialize_grads(False)
        return tuple(x.view_as(x) for x in xs)

    @staticmethod
    def backward(ctx: Any, *grads: Tensor | None) -> Any:
        return None, *ctx.on_gradients(grads)
