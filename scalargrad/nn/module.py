"""Module: a function with parameters, made of other Modules.

Parameters, buffers and submodules are attributes like any others, kept in the instance's `__dict__`; `_registered`
holds the names of each kind. (A `__getattr__` that looks them up elsewhere costs 350 ns each time, an attribute 20 ns.
One that is never reached still costs 80: with it in the class, the interpreter has no short way to any attribute.)
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Iterator, Mapping
from typing import Any, Self

from scalargrad import dtypes
from scalargrad.nn import hooks, state
from scalargrad.nn.location import locate
from scalargrad.nn.parameter import Parameter, zero_gradients
from scalargrad.nn.registered import BUFFER, MODULE, PARAMETER, REFUSED, Registered
from scalargrad.nodes import RemovableHandle
from scalargrad.tensor import Tensor


class _SetByInit:
    """An attribute that `Module.__init__` sets: who reads it before that learns what was forgotten."""

    def __get__(self, module: Any, owner: type) -> Any:
        if module is None:
            return self
        raise AttributeError(f"{owner.__name__}.__init__() must call super().__init__() first")


class Module:
    """The base of all layers and networks. A subclass calls `super().__init__()`, assigns its parts, defines `forward`.

    What is assigned is registered by its type: a Parameter as a parameter, a Module as a submodule. Calling the module
    runs `forward` and the hooks. An error that `forward` raises gets a note that names the layer it arose in.
    Raises AttributeError where something is assigned or called before `super().__init__()`.
    """

    training: bool
    _registered: Any = _SetByInit()  # the names of each kind: dict[str, dict[str, None]]
    _hooks: Any = _SetByInit()  # the four dicts of hooks below, to be asked at one go
    _non_persistent_buffers_set: set[str]
    _forward_pre_hooks: dict[int, hooks.Hook]
    _forward_hooks: dict[int, hooks.Hook]
    _backward_pre_hooks: dict[int, hooks.Hook]
    _backward_hooks: dict[int, hooks.Hook]

    def __init__(self) -> None:
        forward_pre, forward, backward_pre, backward = {}, {}, {}, {}  # type: ignore[var-annotated]
        self.__dict__.update(
            training=True,
            _registered={PARAMETER: {}, BUFFER: {}, MODULE: {}},
            _non_persistent_buffers_set=set(),
            _hooks=(forward_pre, forward, backward_pre, backward),
            _forward_pre_hooks=forward_pre,
            _forward_hooks=forward,
            _backward_pre_hooks=backward_pre,
            _backward_hooks=backward,
        )

    def forward(self, *input: Any, **kwargs: Any) -> Any:
        """What the module computes."""
        raise NotImplementedError(f'Module [{type(self).__name__}] is missing the required "forward" function')

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        try:
            forward_pre, forward, backward_pre, backward = self._hooks
            if forward_pre or forward or backward_pre or backward:
                return hooks.call(self, args, kwargs)
            return self.forward(*args, **kwargs)
        except Exception as error:
            locate(error, self)
            raise

    def __setattr__(self, name: str, value: Any) -> None:
        initialised = "_registered" in self.__dict__
        kind = self._kind(name) if initialised else None
        if isinstance(value, Parameter):
            if not initialised:
                raise AttributeError("cannot assign parameters before Module.__init__() call")
            if kind != PARAMETER:
                self._forget(name)
            self.register_parameter(name, value)
        elif isinstance(value, Module):
            if not initialised:
                raise AttributeError("cannot assign module before Module.__init__() call")
            self._register(name, MODULE, value)
        elif kind is None:
            object.__setattr__(self, name, value)
        elif value is None or (kind == BUFFER and isinstance(value, Tensor)):
            self.__dict__[name] = value
        else:
            raise TypeError(REFUSED[kind].format(type(value).__name__, name))

    def __delattr__(self, name: str) -> None:
        object.__delattr__(self, name)
        if "_registered" in self.__dict__:
            self._forget(name)

    def __dir__(self) -> list[str]:
        names = super().__dir__()
        return [name for name in names if not name[0].isdigit()]

    def _register(self, name: str, kind: str, value: Any) -> None:
        """Make `value` the attribute `name`, of this kind; what had the name before gives way."""
        if name not in self._registered[kind]:
            self._forget(name)
            self._registered[kind][name] = None
        self.__dict__[name] = value

    def _forget(self, name: str) -> None:
        self.__dict__.pop(name, None)
        for names in self._registered.values():
            names.pop(name, None)
        self._non_persistent_buffers_set.discard(name)

    def _kind(self, name: str) -> str | None:
        """The kind under which a name is registered."""
        return next((kind for kind, names in self._registered.items() if name in names), None)

    def _check_name(self, name: str, kind: str) -> None:
        if "_registered" not in self.__dict__:
            raise AttributeError(f"cannot assign {kind} before Module.__init__() call")
        if not isinstance(name, str):
            raise TypeError(f"{kind} name should be a string. Got {type(name).__name__}")
        if "." in name:
            raise KeyError(f'{kind} name can\'t contain ".", got: {name}')
        if name == "":
            raise KeyError(f'{kind} name can\'t be empty string ""')
        if name not in self._registered[kind] and hasattr(self, name):
            raise KeyError(f"attribute '{name}' already exists")

    @property
    def _parameters(self) -> Registered:
        return Registered(self, PARAMETER)

    @property
    def _buffers(self) -> Registered:
        return Registered(self, BUFFER)

    @property
    def _modules(self) -> Registered:
        return Registered(self, MODULE)

    def register_parameter(self, name: str, param: Parameter | None) -> None:
        """Add a parameter; None keeps the name for one, as `bias=False` does.

        Raises KeyError for a name that is taken or has a dot, TypeError for what is no Parameter.
        """
        self._check_name(name, PARAMETER)
        if param is not None and not isinstance(param, Parameter):
            raise TypeError(
                f"cannot assign '{type(param).__name__}' object to parameter '{name}' "
                "(torch.nn.Parameter or None required)"
            )
        if param is not None and not param.is_leaf:
            raise ValueError(
                f"Cannot assign non-leaf Tensor to parameter '{name}'. Model parameters must be created explicitly. To "
                f"express '{name}' as a function of another Tensor, compute the value in the forward() method."
            )
        self._register(name, PARAMETER, param)

    def register_buffer(self, name: str, tensor: Tensor | None, persistent: bool = True) -> None:
        """Add a tensor that is state but not learned; one that is not `persistent` stays out of `state_dict`."""
        self._check_name(name, BUFFER)
        if tensor is not None and not isinstance(tensor, Tensor):
            raise TypeError(
                f"cannot assign '{type(tensor).__name__}' object to buffer '{name}' (torch Tensor or None required)"
            )
        self._register(name, BUFFER, tensor)
        if persistent:
            self._non_persistent_buffers_set.discard(name)
        else:
            self._non_persistent_buffers_set.add(name)

    def add_module(self, name: str, module: Module | None) -> None:
        """Add a submodule; None keeps the name for one."""
        if module is not None and not isinstance(module, Module):
            raise TypeError(f"{type(module).__name__} is not a Module subclass")
        self._check_name(name, MODULE)
        self._register(name, MODULE, module)

    register_module = add_module

    def parameters(self, recurse: bool = True) -> Iterator[Parameter]:
        """The parameters, each once; those of submodules too if `recurse`."""
        for _, p in self.named_parameters(recurse=recurse):
            yield p

    def named_parameters(
        self, prefix: str = "", recurse: bool = True, remove_duplicate: bool = True
    ) -> Iterator[tuple[str, Parameter]]:
        """The parameters with their paths, such as `fc1.weight`."""
        return self._named_members(PARAMETER, prefix, recurse, remove_duplicate)

    def buffers(self, recurse: bool = True) -> Iterator[Tensor]:
        """The buffers, each once; those of submodules too if `recurse`."""
        for _, b in self.named_buffers(recurse=recurse):
            yield b

    def named_buffers(
        self, prefix: str = "", recurse: bool = True, remove_duplicate: bool = True
    ) -> Iterator[tuple[str, Tensor]]:
        """The buffers with their paths."""
        return self._named_members(BUFFER, prefix, recurse, remove_duplicate)

    def _named_members(
        self, kind: str, prefix: str, recurse: bool, remove_duplicate: bool
    ) -> Iterator[tuple[str, Any]]:
        seen: set[int] = set()
        modules = self.named_modules(None, prefix, remove_duplicate) if recurse else [(prefix, self)]
        for path, module in modules:
            for name, value in module._members(kind):
                if value is None or id(value) in seen:
                    continue
                if remove_duplicate:
                    seen.add(id(value))
                yield (f"{path}.{name}" if path else name), value

    def _members(self, kind: str) -> list[tuple[str, Any]]:
        """This module's own attributes of a kind, None among them."""
        attributes = self.__dict__
        return [(name, attributes[name]) for name in self._registered[kind]]

    def children(self) -> Iterator[Module]:
        """The submodules one level down, each once."""
        for _, module in self.named_children():
            yield module

    def named_children(self) -> Iterator[tuple[str, Module]]:
        """The submodules one level down with their names, each once."""
        seen: set[Module] = set()
        for name, module in self._members(MODULE):
            if module is not None and module not in seen:
                seen.add(module)
                yield name, module

    def modules(self, remove_duplicate: bool = True) -> Iterator[Module]:
        """This module and all modules below, each once, parents before children."""
        for _, module in self.named_modules(remove_duplicate=remove_duplicate):
            yield module

    def named_modules(
        self, memo: set[Module] | None = None, prefix: str = "", remove_duplicate: bool = True
    ) -> Iterator[tuple[str, Module]]:
        """This module and all modules below with their paths; those in `memo` are left out."""
        memo = set() if memo is None else memo
        todo: list[tuple[str, Module]] = [(prefix, self)]
        while todo:
            path, module = todo.pop()
            if module in memo:
                continue
            if remove_duplicate:
                memo.add(module)
            yield path, module
            if module._registered[MODULE]:
                for name, child in reversed(module._members(MODULE)):
                    if child is not None:
                        todo.append((f"{path}.{name}" if path else name, child))

    def get_submodule(self, target: str) -> Module:
        """The submodule at a path such as `features.0`; this one for "".

        Raises AttributeError for a path that leads nowhere, or to what is no Module.
        """
        module = self
        for name in target.split(".") if target else ():
            if not hasattr(module, name):
                raise AttributeError(f"{module._get_name()} has no attribute `{name}`")
            module = getattr(module, name)
            if not isinstance(module, Module):
                raise AttributeError(f"`{name}` is not an nn.Module")
        return module

    def get_parameter(self, target: str) -> Parameter:
        """The parameter at a path such as `fc1.weight`. Raises AttributeError if there is none."""
        found: Parameter = self._get_member(target, PARAMETER, "an nn.Parameter")
        return found

    def get_buffer(self, target: str) -> Tensor:
        """The buffer at a path such as `bn1.running_mean`. Raises AttributeError if there is none."""
        found: Tensor = self._get_member(target, BUFFER, "a buffer")
        return found

    def _get_member(self, target: str, kind: str, words: str) -> Any:
        path, _, name = target.rpartition(".")
        module = self.get_submodule(path)
        if not hasattr(module, name):
            raise AttributeError(f"{module._get_name()} has no attribute `{name}`")
        if module._kind(name) != kind or getattr(module, name) is None:
            raise AttributeError(f"`{name}` is not {words}")
        return getattr(module, name)

    def apply(self, fn: Callable[[Module], Any]) -> Self:
        """Call `fn` with every module below and then with this one: `net.apply(init_weights)`."""
        for module in self.children():
            module.apply(fn)
        fn(self)
        return self

    def train(self, mode: bool = True) -> Self:
        """Set training mode for this module and all below: Dropout and BatchNorm behave differently in it."""
        if not isinstance(mode, bool):
            raise ValueError("training mode is expected to be boolean")
        self.training = mode
        for module in self.children():
            module.train(mode)
        return self

    def eval(self) -> Self:
        """Set evaluation mode: `train(False)`."""
        return self.train(False)

    def requires_grad_(self, requires_grad: bool = True) -> Self:
        """Let all parameters want a gradient, or none of them (to freeze a part of a network)."""
        for p in self.parameters():
            p.requires_grad = requires_grad
        return self

    def zero_grad(self, set_to_none: bool = False) -> None:
        """Fill the gradients of all parameters with zeros, or drop them with `set_to_none`."""
        zero_gradients(self.parameters(), set_to_none)

    def to(self, *args: Any, **kwargs: Any) -> Self:
        """Convert all floating point parameters, gradients and buffers to a dtype, in place: `to(dtype)`, `to(tensor)`.

        A device may be named too, as in PyTorch; the only one is "cpu".
        Raises TypeError for a dtype that is not floating point.
        """
        dtype = state.wanted_dtype(args, kwargs)
        if dtype is not None:
            for module in self.modules():
                state.convert(module, dtype)
        return self

    def float(self) -> Self:
        """Convert floating point parameters and buffers to float32."""
        return self.to(dtypes.float32)

    def double(self) -> Self:
        """Convert floating point parameters and buffers to float64."""
        return self.to(dtypes.float64)

    def cpu(self) -> Self:
        """This module: everything is on the CPU."""
        return self

    def state_dict(
        self, *, destination: Any = None, prefix: str = "", keep_vars: bool = False
    ) -> OrderedDict[str, Tensor]:
        """All parameters and persistent buffers by path: tensors of the same memory, outside of the graph.

        With `keep_vars` they are the parameters themselves. `destination` is a dict to add to.
        """
        destination = OrderedDict() if destination is None else destination
        for name, tensor in state.own(self):
            destination[prefix + name] = tensor if keep_vars else tensor.detach()
        for name, module in self._members(MODULE):
            if module is not None:
                module.state_dict(destination=destination, prefix=f"{prefix}{name}.", keep_vars=keep_vars)
        return destination  # type: ignore[no-any-return]

    def load_state_dict(
        self, state_dict: Mapping[str, Any], strict: bool = True, assign: bool = False
    ) -> state.IncompatibleKeys:
        """Copy what `state_dict` gave into the parameters and buffers, or put its tensors in their place with `assign`.

        Everything is checked before anything is copied. Returns the missing and the unexpected keys.
        Raises RuntimeError that names every entry of another shape and, if `strict`, every missing or unexpected key.
        """
        return state.load(self, state_dict, strict, assign)

    def register_forward_pre_hook(
        self, hook: Callable[..., Any], *, prepend: bool = False, with_kwargs: bool = False
    ) -> RemovableHandle:
        """Call `hook(module, args)` before each `forward`; what it returns, unless None, replaces the arguments.

        `with_kwargs`: it is `hook(module, args, kwargs)` and returns a pair. `prepend`: before the hooks already there.
        """
        return self._hook(self._forward_pre_hooks, hooks.Hook(hook, with_kwargs), prepend)

    def register_forward_hook(
        self, hook: Callable[..., Any], *, prepend: bool = False, with_kwargs: bool = False, always_call: bool = False
    ) -> RemovableHandle:
        """Call `hook(module, args, output)` after each `forward`; what it returns, unless None, replaces the output.

        `with_kwargs`: it is `hook(module, args, kwargs, output)`. `always_call`: even if `forward` raises, with None.
        """
        return self._hook(self._forward_hooks, hooks.Hook(hook, with_kwargs, always_call), prepend)

    def register_full_backward_pre_hook(self, hook: Callable[..., Any], prepend: bool = False) -> RemovableHandle:
        """Call `hook(module, grad_output)` when the gradients of the outputs are known; it may return others."""
        return self._hook(self._backward_pre_hooks, hooks.Hook(hook), prepend)

    def register_full_backward_hook(self, hook: Callable[..., Any], prepend: bool = False) -> RemovableHandle:
        """Call `hook(module, grad_input, grad_output)` when the gradients of the inputs are known.

        Both are tuples, with None for what has no gradient. What the hook returns, unless None, replaces grad_input.
        """
        return self._hook(self._backward_hooks, hooks.Hook(hook), prepend)

    def _hook(self, registered: dict[int, hooks.Hook], hook: hooks.Hook, prepend: bool) -> RemovableHandle:
        # Anew, for somebody may have put another dict in the place of one.
        self.__dict__["_hooks"] = (
            self._forward_pre_hooks,
            self._forward_hooks,
            self._backward_pre_hooks,
            self._backward_hooks,
        )
        return hooks.register(registered, hook, prepend)

    def _get_name(self) -> str:
        return type(self).__name__

    def extra_repr(self) -> str:
        """What stands between the parentheses of this module's own line when it is printed."""
        return ""

    def __repr__(self) -> str:
        own = self.extra_repr().splitlines()
        children = [f"({name}): {indented(repr(module))}" for name, module in self._members(MODULE)]
        if len(own) <= 1 and not children:
            return f"{self._get_name()}({''.join(own)})"
        return f"{self._get_name()}(\n  " + "\n  ".join([*own, *children]) + "\n)"


def indented(text: str) -> str:
    """`text` with all lines but the first moved in by two spaces."""
    return text.replace("\n", "\n  ")
