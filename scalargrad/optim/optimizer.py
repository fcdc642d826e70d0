"""Optimizer: groups of parameters with their options, and what is remembered about each parameter."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping
from copy import deepcopy
from itertools import chain
from typing import Any

from scalargrad.grad_mode import enable_grad
from scalargrad.kernels import memory
from scalargrad.nn.parameter import zero_gradients
from scalargrad.tensor import Tensor, wrap

Params = Iterable[Tensor] | Iterable[dict[str, Any]]
Closure = Callable[[], Any]


class Optimizer:
    """The base of all optimisers: a subclass defines `update(group)`, and `check(options)` if some can be wrong.

    `param_groups` is a list of dicts, each with its "params" and options, which may be changed between steps; `state`
    holds a dict for each parameter. A parameter without gradient is left alone by a step.
    Raises ValueError for no parameters, one that is given twice or was computed, and for options that make no sense;
    TypeError for what is no Tensor.
    """

    def __init__(self, params: Params, defaults: dict[str, Any]) -> None:
        if isinstance(params, Tensor):
            raise TypeError(
                "params argument given to the optimizer should be an iterable of Tensors or dicts, but got "
                f"{type(params).__name__}"
            )
        self.defaults = defaults
        self.state: defaultdict[Tensor, dict[str, Any]] = defaultdict(dict)
        self.param_groups: list[dict[str, Any]] = []
        self.check(defaults)
        groups = list(params)
        if not groups:
            raise ValueError("optimizer got an empty parameter list")
        for group in groups if isinstance(groups[0], dict) else [{"params": groups}]:
            self.add_param_group(group)  # type: ignore[arg-type]

    def check(self, options: Mapping[str, Any]) -> None:
        """Raise ValueError for options that make no sense."""

    def add_param_group(self, param_group: dict[str, Any]) -> None:
        """Add parameters, with options of their own where the dict has them."""
        if not isinstance(param_group, dict):
            raise TypeError(f"param_group must be a dict, but got {type(param_group)}")
        params = param_group["params"]
        if isinstance(params, set):
            raise TypeError(
                "optimizer parameters need to be organized in ordered collections, but the ordering of tensors in sets "
                "will change between runs. Please use a list instead."
            )
        group = {**param_group, "params": [params] if isinstance(params, Tensor) else list(params)}
        seen = {id(p) for g in self.param_groups for p in g["params"]}
        for p in group["params"]:
            if not isinstance(p, Tensor):
                raise TypeError(f"optimizer can only optimize Tensors, but one of the params is {type(p).__name__}")
            if not (p.is_leaf or p.retains_grad):
                raise ValueError("can't optimize a non-leaf Tensor")
            if id(p) in seen:
                raise ValueError(f"some parameters appear twice, or in more than one parameter group: shape {p.shape}")
            seen.add(id(p))
        for name, value in self.defaults.items():
            group.setdefault(name, value)
        self.check(group)
        self.param_groups.append(group)

    def update(self, group: dict[str, Any]) -> None:
        """Move the parameters of one group that have gradients."""
        raise NotImplementedError

    def step(self, closure: Closure | None = None) -> Any:
        """Move all parameters once. A `closure` computes loss and gradients before that; its loss is returned."""
        loss = None
        if closure is not None:
            with enable_grad():
                loss = closure()
        for group in self.param_groups:
            self.update(group)
        return loss

    def zero_grad(self, set_to_none: bool = False) -> None:
        """Fill the gradients of all parameters with zeros, or drop them with `set_to_none`."""
        for group in self.param_groups:
            zero_gradients(group["params"], set_to_none)

    def state_dict(self) -> dict[str, Any]:
        """State and options, with parameters by number in order of the groups; tensors are not copied."""
        numbers = {p: i for i, p in enumerate(self._parameters())}
        return {
            "state": {numbers.get(p, p): s for p, s in self.state.items()},
            "param_groups": [{**group, "params": [numbers[p] for p in group["params"]]} for group in self.param_groups],
        }

    def load_state_dict(self, state_dict: Mapping[str, Any]) -> None:
        """Take over a copy of what `state_dict` gave, options included; floats in the dtype of their parameter.

        Everything is checked before anything is taken over.
        Raises ValueError if the groups differ in number or size, or a tensor is not of its parameter's shape.
        """
        saved_groups = deepcopy(list(state_dict["param_groups"]))
        if len(saved_groups) != len(self.param_groups):
            raise ValueError("loaded state dict has a different number of parameter groups")
        for group, saved in zip(self.param_groups, saved_groups, strict=True):
            if len(group["params"]) != len(saved["params"]):
                raise ValueError(
                    "loaded state dict contains a parameter group that doesn't match the size of optimizer's group"
                )
        numbers = chain.from_iterable(saved["params"] for saved in saved_groups)
        parameters = dict(zip(numbers, self._parameters(), strict=True))
        state: defaultdict[Tensor, dict[str, Any]] = defaultdict(dict)
        for number, entries in state_dict["state"].items():
            if number in parameters:
                p = parameters[number]
                state[p] = {name: _taken_over(number, name, value, p) for name, value in entries.items()}
            elif isinstance(number, int):
                raise ValueError(f"loaded state dict has state for parameter {number}, which no group contains")
            else:  # an optimiser may remember more than it does by parameter
                state[number] = deepcopy(entries)
        for group, saved in zip(self.param_groups, saved_groups, strict=True):
            saved["params"] = group["params"]
            self.check({**group, **saved})
        for group, saved in zip(self.param_groups, saved_groups, strict=True):
            group.update(saved)
        self.state = state

    def _parameters(self) -> Iterable[Tensor]:
        return chain.from_iterable(g["params"] for g in self.param_groups)

    def __repr__(self) -> str:
        lines = [f"{type(self).__name__} ("]
        for i, group in enumerate(self.param_groups):
            lines.append(f"Parameter Group {i}")
            lines += [f"    {name}: {group[name]}" for name in sorted(group) if name != "params"]
        return "\n".join([*lines, ")"])


def zeros_for(p: Tensor) -> Tensor:
    """What is remembered about a parameter, at first: zeros of its shape and dtype."""
    zeros = memory.empty(p.array.shape, p.array.dtype)
    zeros[...] = 0
    return wrap(zeros)


def at_least(options: Mapping[str, Any], name: str, words: str, lowest: float = 0.0) -> None:
    """Raise ValueError if an option is below `lowest`, or is nan."""
    if not options[name] >= lowest:
        raise ValueError(f"Invalid {words}: {options[name]}")


def _taken_over(number: Any, name: str, value: Any, p: Tensor) -> Any:
    if not isinstance(value, Tensor):
        if value is not None and not isinstance(value, (int, float)):
            raise ValueError(f"loaded state dict has a {type(value).__name__} as {name} of parameter {number}")
        return value
    if name == "step":  # PyTorch counts in a tensor
        return value.item()
    if value.shape != p.shape:
        raise ValueError(
            f"loaded state dict has a {name} of shape {value.shape} for parameter {number}, whose shape is {p.shape}"
        )
    return wrap(memory.copied(value.array, p.dtype))
