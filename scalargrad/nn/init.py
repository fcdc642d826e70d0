"""Filling tensors with the numbers that training starts from. Each function writes in place and returns its tensor."""

from __future__ import annotations

import math
import warnings
from typing import Any

import numpy as np

from scalargrad.generator import Generator
from scalargrad.random import rand, randn
from scalargrad.tensor import Tensor

LINEAR = (
    "linear",
    "conv1d",
    "conv2d",
    "conv3d",
    "conv_transpose1d",
    "conv_transpose2d",
    "conv_transpose3d",
    "sigmoid",
)


def calculate_gain(nonlinearity: str, param: float | None = None) -> float:
    """The factor on the standard deviation that keeps it through a nonlinearity; `param` is leaky_relu's slope.

    Raises ValueError for a nonlinearity that has no recommended gain.
    """
    if nonlinearity in LINEAR:
        return 1.0
    if nonlinearity == "tanh":
        return 5 / 3
    if nonlinearity == "relu":
        return math.sqrt(2)
    if nonlinearity == "leaky_relu":
        slope = 0.01 if param is None else param
        if isinstance(slope, bool) or not isinstance(slope, int | float):
            raise ValueError(f"negative_slope {param} not a valid number")
        return math.sqrt(2 / (1 + slope**2))
    if nonlinearity == "selu":
        return 3 / 4
    raise ValueError(f"Unsupported nonlinearity {nonlinearity}")


def uniform_(tensor: Tensor, a: float = 0.0, b: float = 1.0, generator: Generator | None = None) -> Tensor:
    """Uniform in [a, b)."""
    return _write(tensor, a + (b - a) * rand(tensor.shape, dtype=tensor.dtype, generator=generator).array)


def normal_(tensor: Tensor, mean: float = 0.0, std: float = 1.0, generator: Generator | None = None) -> Tensor:
    """Normal, with this mean and standard deviation."""
    return _write(tensor, mean + std * randn(tensor.shape, dtype=tensor.dtype, generator=generator).array)


def constant_(tensor: Tensor, val: float) -> Tensor:
    """All `val`."""
    return _write(tensor, val)


def ones_(tensor: Tensor) -> Tensor:
    """All 1."""
    return constant_(tensor, 1.0)


def zeros_(tensor: Tensor) -> Tensor:
    """All 0."""
    return constant_(tensor, 0.0)


def eye_(tensor: Tensor) -> Tensor:
    """1 on the diagonal of a matrix, 0 off it. Raises ValueError unless there are two dimensions."""
    if tensor.ndim != 2:
        raise ValueError("Only tensors with 2 dimensions are supported")
    return _write(tensor, np.eye(*tensor.shape))


def xavier_uniform_(tensor: Tensor, gain: float = 1.0, generator: Generator | None = None) -> Tensor:
    """Uniform in ±gain·√(6 / (fan_in + fan_out)) (Glorot & Bengio 2010)."""
    bound = gain * math.sqrt(6 / sum(_calculate_fan_in_and_fan_out(tensor)))
    return uniform_(tensor, -bound, bound, generator)


def xavier_normal_(tensor: Tensor, gain: float = 1.0, generator: Generator | None = None) -> Tensor:
    """Normal, with standard deviation gain·√(2 / (fan_in + fan_out)) (Glorot & Bengio 2010)."""
    return normal_(tensor, 0.0, gain * math.sqrt(2 / sum(_calculate_fan_in_and_fan_out(tensor))), generator)


def kaiming_uniform_(
    tensor: Tensor,
    a: float = 0,
    mode: str = "fan_in",
    nonlinearity: str = "leaky_relu",
    generator: Generator | None = None,
) -> Tensor:
    """Uniform in ±√3·gain / √fan (He et al. 2015); `a` is the negative slope of leaky_relu.

    Raises ValueError for an unknown mode or nonlinearity, and for fewer than two dimensions.
    """
    if _is_empty(tensor):
        return tensor
    bound = math.sqrt(3) * _kaiming_std(tensor, a, mode, nonlinearity)
    return uniform_(tensor, -bound, bound, generator)


def kaiming_normal_(
    tensor: Tensor,
    a: float = 0,
    mode: str = "fan_in",
    nonlinearity: str = "leaky_relu",
    generator: Generator | None = None,
) -> Tensor:
    """Normal, with standard deviation gain / √fan (He et al. 2015); `a` is the negative slope of leaky_relu.

    Raises ValueError for an unknown mode or nonlinearity, and for fewer than two dimensions.
    """
    if _is_empty(tensor):
        return tensor
    return normal_(tensor, 0.0, _kaiming_std(tensor, a, mode, nonlinearity), generator)


def trunc_normal_(
    tensor: Tensor,
    mean: float = 0.0,
    std: float = 1.0,
    a: float = -2.0,
    b: float = 2.0,
    generator: Generator | None = None,
) -> Tensor:
    """Normal, with what falls outside of [a, b] drawn again.

    Where [a, b] holds little of the normal distribution, the draws are uniform in it, accepted by their density.
    Raises ValueError unless a < b and std > 0.
    """
    if not (a < b and std > 0):
        raise ValueError(f"trunc_normal_(): expected a < b and std > 0, got a={a}, b={b}, std={std}")
    low, high = (a - mean) / std, (b - mean) / std  # in standard deviations
    peak = min(max(low, 0.0), high)
    low, high = max(low, peak - 10), min(high, peak + 10)  # beyond, less than e⁻⁵⁰ of the density at the peak
    values = np.empty(tensor.numel())
    missing = np.arange(values.size)
    while missing.size:
        if math.erf(high / math.sqrt(2)) - math.erf(low / math.sqrt(2)) > 0.6:
            drawn = randn(missing.size, generator=generator, dtype=np.float64).numpy()
            accepted = (low <= drawn) & (drawn <= high)
        else:
            drawn = low + (high - low) * rand(missing.size, generator=generator, dtype=np.float64).numpy()
            chance = rand(missing.size, generator=generator, dtype=np.float64).numpy()
            accepted = chance < np.exp((peak**2 - drawn**2) / 2)
        values[missing[accepted]] = drawn[accepted]
        missing = missing[~accepted]
    return _write(tensor, np.clip(values * std + mean, a, b).reshape(tensor.shape))


def orthogonal_(tensor: Tensor, gain: float = 1, generator: Generator | None = None) -> Tensor:
    """A random matrix with orthonormal rows or columns, whichever are fewer, times `gain` (Saxe et al. 2013).

    Dimensions after the first count as columns. Raises ValueError for fewer than two dimensions.
    """
    if tensor.ndim < 2:
        raise ValueError("Only tensors with 2 or more dimensions are supported")
    if tensor.numel() == 0:
        return tensor
    rows, columns = tensor.shape[0], tensor.numel() // tensor.shape[0]
    drawn = randn(max(rows, columns), min(rows, columns), generator=generator, dtype=np.float64).numpy()
    q, r = np.linalg.qr(drawn)
    q *= np.sign(np.diag(r))  # makes q uniform: Mezzadri 2006, arXiv:math-ph/0609050
    return _write(tensor, (gain * (q if rows >= columns else q.T)).reshape(tensor.shape))


def _write(tensor: Tensor, values: np.ndarray[Any, Any] | float) -> Tensor:
    """The tensor, filled; not recorded, but noticed by graphs that saved it."""
    np.copyto(tensor.array, values, casting="unsafe")
    tensor.stamp()
    return tensor


def _is_empty(tensor: Tensor) -> bool:
    if tensor.numel() == 0:
        warnings.warn("Initializing zero-element tensors is a no-op", stacklevel=3)
    return tensor.numel() == 0


def _kaiming_std(tensor: Tensor, a: float, mode: str, nonlinearity: str) -> float:
    if mode not in ("fan_in", "fan_out"):
        raise ValueError(f"Mode {mode} not supported, please use one of ['fan_in', 'fan_out']")
    fan_in, fan_out = _calculate_fan_in_and_fan_out(tensor)
    return calculate_gain(nonlinearity, a) / math.sqrt(fan_in if mode == "fan_in" else fan_out)


def _calculate_fan_in_and_fan_out(tensor: Tensor) -> tuple[int, int]:
    """How many inputs each output of a layer with this weight depends on, and how many outputs each input reaches."""
    if tensor.ndim < 2:
        raise ValueError("Fan in and fan out can not be computed for tensor with fewer than 2 dimensions")
    outputs, inputs, *window = tensor.shape
    return inputs * math.prod(window), outputs * math.prod(window)


def reset_linear(weight: Tensor, bias: Tensor | None) -> None:
    """PyTorch's start for Linear and Conv2d: weight and bias uniform in ±1 / √fan_in."""
    kaiming_uniform_(weight, a=math.sqrt(5))
    if bias is not None:
        fan_in, _ = _calculate_fan_in_and_fan_out(weight)
        bound = 1 / math.sqrt(fan_in) if fan_in > 0 else 0.0
        uniform_(bias, -bound, bound)
