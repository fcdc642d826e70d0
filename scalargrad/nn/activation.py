"""Layers that apply a nonlinearity. What each computes stands in `nn.functional` under the same name."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from scalargrad.nn import functional as F
from scalargrad.nn.module import Module
from scalargrad.tensor import Tensor


class Tanh(Module):
    """The hyperbolic tangent of each entry."""

    def forward(self, input: Tensor) -> Any:
        return F.tanh(input)


class Sigmoid(Module):
    """1 / (1 + e⁻ˣ) of each entry."""

    def forward(self, input: Tensor) -> Any:
        return F.sigmoid(input)


class LogSigmoid(Module):
    """log(1 / (1 + e⁻ˣ)) of each entry."""

    def forward(self, input: Tensor) -> Any:
        return F.logsigmoid(input)


class Softsign(Module):
    """x / (1 + |x|) of each entry."""

    def forward(self, input: Tensor) -> Any:
        return F.softsign(input)


class ReLU(Module):
    """max(x, 0) of each entry."""

    def __init__(self, inplace: bool = False) -> None:
        super().__init__()
        self.inplace = inplace

    def forward(self, input: Tensor) -> Any:
        return F.relu(input, self.inplace)

    def extra_repr(self) -> str:
        return _inplace(self.inplace)


class ReLU6(ReLU):
    """min(max(x, 0), 6) of each entry."""

    def forward(self, input: Tensor) -> Any:
        return _applied(self.inplace, F.relu6, input)


class SiLU(ReLU):
    """x · sigmoid(x) of each entry."""

    def forward(self, input: Tensor) -> Any:
        return _applied(self.inplace, F.silu, input)


class LeakyReLU(Module):
    """x where x ≥ 0, else negative_slope · x."""

    def __init__(self, negative_slope: float = 1e-2, inplace: bool = False) -> None:
        super().__init__()
        self.negative_slope, self.inplace = negative_slope, inplace

    def forward(self, input: Tensor) -> Any:
        return _applied(self.inplace, F.leaky_relu, input, self.negative_slope)

    def extra_repr(self) -> str:
        return _inplace(self.inplace, f"negative_slope={self.negative_slope}")


class ELU(Module):
    """x where x > 0, else alpha · (eˣ − 1)."""

    def __init__(self, alpha: float = 1.0, inplace: bool = False) -> None:
        super().__init__()
        self.alpha, self.inplace = alpha, inplace

    def forward(self, input: Tensor) -> Any:
        return _applied(self.inplace, F.elu, input, self.alpha)

    def extra_repr(self) -> str:
        return _inplace(self.inplace, f"alpha={self.alpha}")


class GELU(Module):
    """x · Φ(x) of each entry, Φ the normal distribution; approximate="tanh" takes the tanh formula for it."""

    def __init__(self, approximate: str = "none") -> None:
        super().__init__()
        self.approximate = approximate

    def forward(self, input: Tensor) -> Any:
        return F.gelu(input, approximate=self.approximate)

    def extra_repr(self) -> str:
        return f"approximate={self.approximate!r}"


class Softplus(Module):
    """log(1 + e^(beta·x)) / beta; x itself where beta·x > threshold."""

    def __init__(self, beta: float = 1.0, threshold: float = 20.0) -> None:
        super().__init__()
        self.beta, self.threshold = beta, threshold

    def forward(self, input: Tensor) -> Any:
        return F.softplus(input, self.beta, self.threshold)

    def extra_repr(self) -> str:
        return f"beta={self.beta}, threshold={self.threshold}"


class Hardtanh(Module):
    """min(max(x, min_val), max_val) of each entry. Raises ValueError unless min_val < max_val."""

    def __init__(self, min_val: float = -1.0, max_val: float = 1.0, inplace: bool = False) -> None:
        super().__init__()
        if not max_val > min_val:
            raise ValueError(f"Hardtanh: expected max_val > min_val, got min_val={min_val} and max_val={max_val}")
        self.min_val, self.max_val, self.inplace = min_val, max_val, inplace

    def forward(self, input: Tensor) -> Any:
        return _applied(self.inplace, F.hardtanh, input, self.min_val, self.max_val)

    def extra_repr(self) -> str:
        return _inplace(self.inplace, f"min_val={self.min_val}", f"max_val={self.max_val}")


class Softmax(Module):
    """eˣ over its sum along `dim`."""

    def __init__(self, dim: int | None = None) -> None:
        super().__init__()
        self.dim = dim

    def forward(self, input: Tensor) -> Any:
        return F.softmax(input, self.dim)

    def extra_repr(self) -> str:
        return f"dim={self.dim}"


class LogSoftmax(Softmax):
    """The logarithm of Softmax, computed as one."""

    def forward(self, input: Tensor) -> Any:
        return F.log_softmax(input, self.dim)


class Softmin(Softmax):
    """Softmax of −x."""

    def forward(self, input: Tensor) -> Any:
        return F.softmin(input, self.dim)


def _applied(inplace: bool, function: Callable[..., Any], input: Tensor, *options: float) -> Any:
    return input.overwrite(function, *options) if inplace else function(input, *options)


def _inplace(inplace: bool, *parts: str) -> str:
    return ", ".join([*parts, "inplace=True"] if inplace else parts)
