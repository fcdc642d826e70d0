"""A Module's state: saving it, loading it whole or not at all, and converting it to another dtype."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from scalargrad import dtypes
from scalargrad.nn.parameter import Parameter
from scalargrad.nn.registered import BUFFER, PARAMETER
from scalargrad.tensor import Tensor

if TYPE_CHECKING:
    from scalargrad.nn.module import Module


class IncompatibleKeys(NamedTuple):
    """What `load_state_dict` returns."""

    missing_keys: list[str]
    unexpected_keys: list[str]

    def __repr__(self) -> str:
        if not self.missing_keys and not self.unexpected_keys:
            return "<All keys matched successfully>"
        return f"_IncompatibleKeys(missing_keys={self.missing_keys}, unexpected_keys={self.unexpected_keys})"


def own(module: Module) -> Iterator[tuple[str, Tensor]]:
    """The parameters and persistent buffers of this module alone, by name."""
    for name, tensor in (*module._members(PARAMETER), *module._members(BUFFER)):
        if tensor is not None and name not in module._non_persistent_buffers_set:
            yield name, tensor


def load(module: Module, state_dict: Mapping[str, Any], strict: bool, assign: bool) -> IncompatibleKeys:
    """See `Module.load_state_dict`."""
    if not isinstance(state_dict, Mapping):
        raise TypeError(f"Expected state_dict to be dict-like, got {type(state_dict)}.")
    places = {
        f"{path}.{name}" if path else name: (part, name, tensor)
        for path, part in module.named_modules(remove_duplicate=False)
        for name, tensor in own(part)
    }
    missing = [key for key in places if key not in state_dict]
    unexpected = [key for key in state_dict if key not in places]
    errors = []
    if strict:
        for title, keys in (("Missing", missing), ("Unexpected", unexpected)):
            if keys:
                errors.append(
                    f"{title} key(s) in state_dict: {', '.join(f'{chr(34)}{key}{chr(34)}' for key in keys)}. "
                )
    found = [(place, key, state_dict[key]) for key, place in places.items() if key in state_dict]
    for (_, _, tensor), key, value in found:
        if not isinstance(value, Tensor):
            errors.append(
                f'While copying the parameter named "{key}", expected torch.Tensor or Tensor-like object from '
                f"checkpoint but received {type(value)}"
            )
        elif value.shape != tensor.shape:
            errors.append(
                f"size mismatch for {key}: copying a param with shape {value.shape} from checkpoint, the shape in "
                f"current model is {tensor.shape}."
            )
    if errors:
        raise RuntimeError(
            "Error(s) in loading state_dict for {}:\n\t{}".format(type(module).__name__, "\n\t".join(errors))
        )
    for (part, name, tensor), _, value in found:
        if assign:
            setattr(part, name, _like(tensor, value))
        else:
            np.copyto(tensor.array, value.array, casting="unsafe")
            tensor.stamp()
    return IncompatibleKeys(missing, unexpected)


def _like(old: Tensor, new: Tensor) -> Tensor:
    """`new` as what `old` is: a Parameter that wants a gradient if `old` does, or a plain tensor."""
    return Parameter(new, old.requires_grad) if isinstance(old, Parameter) else new


def wanted_dtype(args: tuple[Any, ...], kwargs: dict[str, Any]) -> np.dtype[Any] | None:
    """The dtype that the arguments of `Module.to` ask for; None if only a device.

    Raises TypeError for a dtype that is not floating point, RuntimeError for a device other than the CPU.
    """
    dtype = None
    unknown = sorted(kwargs.keys() - {"device", "dtype", "non_blocking"})
    if unknown:
        raise TypeError(f"Module.to(): got an unexpected keyword argument {unknown[0]!r}")
    device = kwargs.get("device")
    asked = [*args, kwargs.get("dtype")]
    for x in asked:
        try:
            dtype = x.dtype if isinstance(x, Tensor) else dtype if x is None else dtypes.as_dtype(x, "Module.to")
        except TypeError:
            if not isinstance(x, str):
                raise
            device = x
    if device is not None and str(device) != "cpu":
        raise RuntimeError(f"Module.to(): expected the device cpu, the only one there is, got {device}")
    if dtype is not None and dtype.kind != "f":
        raise TypeError(f"nn.Module.to only accepts floating point dtypes, but got desired dtype={dtype}")
    return dtype


def convert(module: Module, dtype: np.dtype[Any]) -> None:
    """Bring this module's own floating point parameters, their gradients and buffers to `dtype`."""
    for _, p in module._members(PARAMETER):
        if p is not None and p.dtype.kind == "f" and p.dtype != dtype:
            grad, p.grad = p.grad, None
            p.data = p.data.to(dtype)
            p.grad = None if grad is None else grad.to(dtype)
    for name, b in module._members(BUFFER):
        if b is not None and b.dtype.kind == "f":
            setattr(module, name, b.to(dtype))
