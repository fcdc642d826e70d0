"""Activations: softmax and its logarithm, and functions of one element with a bend in them."""

from __future__ import annotations

import math
import warnings
from typing import Any

import numpy as np

from scalargrad import kernels
from scalargrad.dtypes import as_dtype
from scalargrad.operation import Op, in_numpy
from scalargrad.ops.arguments import array, floating
from scalargrad.ops.elementwise import elementwise
from scalargrad.ops.joining import chunk
from scalargrad.ops.shape import normalize_dim, shaping
from scalargrad.rules import ops, where


def total(x: Any, dim: int) -> Any:
    """The sum along `dim`, which stays as a dimension of size 1. An array's or a Tensor's; 0-d has one dim to name."""
    shape = list(x.shape)
    if shape:
        shape[dim] = 1
    return shaping.sum_to_size(x, tuple(shape))


class activating:
    """The rows. A bend selects rather than multiplies by a mask: 0 times inf would be nan."""

    softmax = Op(None, kernels.softmax, "x dim", lambda g, y, dim: activating.softmax_grad(g, y, dim))
    softmax_grad: Op = Op(
        None,
        kernels.softmax_grad,  # (d − Σ d·p)·p
        "d p dim",
        lambda g, p, dim: activating.softmax_grad(g, p, dim),
        lambda g, d, p, dim: g * (d - total(d * p, dim)) - d * total(g * p, dim),
        name="softmax_backward_data",
    )
    log_softmax = Op(None, kernels.log_softmax, "x dim", lambda g, y, dim: activating.log_softmax_grad(g, y, dim))
    log_softmax_grad: Op = Op(
        None,
        kernels.log_softmax_grad,  # d − exp(z)·Σ d
        "d z dim",
        lambda g, z, dim: g - total(g * ops.exp(z), dim),
        lambda g, d, z, dim: -g * ops.exp(z) * total(d, dim),
        name="log_softmax_backward_data",
    )
    leaky_relu = Op(
        None,
        kernels.leaky_relu,
        "x slope",
        lambda g, x, slope: where(ops.gt(x, 0), g, g * slope),
        gradients=lambda g, x, slope, wanted: [kernels.leaky_relu_grad(g, x, slope)],
        kinks=lambda x, slope: x,
    )
    elu = Op(
        None,
        kernels.elu,
        "x alpha",
        # exp only of what is not above 0: beyond, it would overflow and make the second derivative 0 · inf.
        lambda g, x, alpha: where(ops.gt(x, 0), g, g * (alpha * ops.exp(ops.minimum(x, 0)))),
        gradients=lambda g, x, alpha, wanted: [kernels.elu_grad(g, x, alpha)],
        kinks=lambda x, alpha: x,
    )
    softplus = Op(
        None,
        kernels.softplus,
        "x beta threshold",
        lambda g, x, beta, threshold: where(ops.gt(x * beta, threshold), g, g * ops.sigmoid(x * beta)),
        gradients=lambda g, x, beta, threshold, wanted: [kernels.softplus_grad(g, x, beta, threshold)],
        kinks=lambda x, beta, threshold: x * beta - threshold,
    )
    log_sigmoid = Op(
        None,
        kernels.log_sigmoid,
        "x",
        lambda g, x: g * ops.sigmoid(-x),
        gradients=lambda g, x, wanted: [kernels.log_sigmoid_grad(g, x)],
    )
    silu = Op(
        None,
        kernels.silu,
        "x",
        lambda g, x: g * _silu_slope(x, ops.sigmoid(x)),
        gradients=lambda g, x, wanted: [kernels.silu_grad(g, x)],
    )
    hardtanh = Op(
        None,
        kernels.hardtanh,
        "x low high",
        lambda g, x, low, high: ops.select(
            ops.logical_not(ops.le(x, low)), ops.select(ops.logical_not(ops.ge(x, high)), g)
        ),
        gradients=lambda g, x, low, high, wanted: [kernels.hardtanh_grad(g, x, low, high)],
        kinks=lambda x, low, high: (x - low) * (x - high),
    )
    threshold = Op(
        None,
        in_numpy(lambda x, threshold, value: np.where(x <= threshold, x.dtype.type(value), x)),
        "x threshold value",
        lambda g, x, threshold: ops.select(ops.logical_not(ops.le(x, threshold)), g),
        kinks=lambda x, threshold, value: x - threshold,
    )
    dropout: Op = Op(
        None,
        lambda x, kept, scale: kernels.mul(kernels.select(kept, x), scale),
        "x kept scale",
        lambda g, kept, scale: activating.dropout(g, kept, scale),
        name="native_dropout",
    )
    gelu = Op(
        None,
        kernels.gelu,
        "x",
        lambda g, x: g * (
            0.5 * (elementwise.erf(x * math.sqrt(0.5)) + 1) + x * ops.exp(-0.5 * (x * x)) * (1 / math.sqrt(2 * math.pi))
        ),
        gradients=lambda g, x, wanted: [kernels.gelu_grad(g, x)],
    )  # fmt: skip
    gelu_tanh = Op(
        None,
        kernels.gelu_tanh,
        "x",
        lambda g, x: g * _gelu_tanh_slope(x, ops.tanh(_gelu_angle(x))),
        gradients=lambda g, x, wanted: [kernels.gelu_tanh_grad(g, x)],
        name="gelu",
    )


def _silu_slope(x: Any, s: Any) -> Any:
    return s * (x * (1 - s) + 1)


def _gelu_angle(x: Any) -> Any:
    """What `gelu`'s tanh form takes the tanh of (Hendrycks and Gimpel, 2016)."""
    return (x + x * x * x * 0.044715) * math.sqrt(2 / math.pi)


def _gelu_tanh_slope(x: Any, t: Any) -> Any:
    return 0.5 * (t + 1) + 0.5 * x * (1 - t * t) * ((x * x * (3 * 0.044715) + 1) * math.sqrt(2 / math.pi))


def _activated(input: Any, inplace: bool, row: Op, *parameters: Any) -> Any:
    """The row's result, or the input overwritten with it."""
    floating(row.key, input)
    return input.overwrite(row, *parameters) if inplace else row(input, *parameters)


def _along(operation: str, input: Any, dim: int | None, dtype: Any) -> tuple[Any, int]:
    """The input as the dtype asked for, and the dimension counted from the front."""
    ndim = array(operation, input).ndim
    if dim is None:
        dim = 0 if ndim in (0, 1, 3) else 1
        warnings.warn(
            f"{operation}(): no dim was given, so dimension {dim} of {ndim} was chosen, as PyTorch used to; name it",
            stacklevel=3,
        )
    if dtype is not None:
        input = shaping.cast(input, as_dtype(dtype, operation))
    return input, normalize_dim(dim, ndim, operation)


def softmax(input: Any, dim: int | None = None, *, dtype: Any = None) -> Any:
    """exp(x) / Σ exp(x) along `dim`; no x is too large. `dtype` is what the input is cast to first.

    Without `dim`, PyTorch's old rule (dimension 0 of 0, 1 or 3, else 1), with a warning.
    A line of only −inf, or with a NaN or +inf, gives NaN.
    Raises IndexError for a dimension that is not there, RuntimeError for integers.
    """
    return activating.softmax(*_along("softmax", input, dim, dtype))


def log_softmax(input: Any, dim: int | None = None, *, dtype: Any = None) -> Any:
    """x − log Σ exp(x) along `dim`; as `softmax` in all else."""
    return activating.log_softmax(*_along("log_softmax", input, dim, dtype))


def softmin(input: Any, dim: int | None = None, *, dtype: Any = None) -> Any:
    """`softmax` of −input."""
    return softmax(ops.neg(input), dim, dtype=dtype)


def leaky_relu(input: Any, negative_slope: float = 0.01, inplace: bool = False) -> Any:
    """x above 0, negative_slope · x from 0 down, where the derivative is `negative_slope`.

    Raises RuntimeError for integers.
    """
    return _activated(input, inplace, activating.leaky_relu, negative_slope)


def elu(input: Any, alpha: float = 1.0, inplace: bool = False) -> Any:
    """x above 0, alpha · (exp(x) − 1) from 0 down; its derivative at 0 is `alpha`. Raises RuntimeError for integers."""
    return _activated(input, inplace, activating.elu, alpha)


def softplus(input: Any, beta: float = 1.0, threshold: float = 20.0) -> Any:
    """log(1 + exp(beta · x)) / beta; x itself where beta · x is above `threshold`. Raises RuntimeError for integers."""
    floating("softplus", input)
    return activating.softplus(input, beta, threshold)


def logsigmoid(input: Any) -> Any:
    """log(1 / (1 + exp(−x))), for x of any size. Raises RuntimeError for integers."""
    floating("logsigmoid", input)
    return activating.log_sigmoid(input)


def softsign(input: Any) -> Any:
    """x / (1 + |x|)."""
    return ops.div(input, ops.add(ops.abs(input), 1))


def silu(input: Any, inplace: bool = False) -> Any:
    """x · sigmoid(x). Raises RuntimeError for integers."""
    return _activated(input, inplace, activating.silu)


def gelu(input: Any, approximate: str = "none") -> Any:
    """x · Φ(x), Φ being the normal distribution's; "tanh" approximates it, and is faster (Hendrycks and Gimpel, 2016).

    Raises RuntimeError for integers, and for another `approximate`.
    """
    floating("gelu", input)
    if approximate == "none":
        return activating.gelu(input)
    if approximate == "tanh":
        return activating.gelu_tanh(input)
    raise RuntimeError(f"gelu(): approximate argument must be either none or tanh, got {approximate!r}")


def hardtanh(input: Any, min_val: float = -1.0, max_val: float = 1.0, inplace: bool = False) -> Any:
    """x, but no less than `min_val` and no more than `max_val`; at both its derivative is 0.

    Raises RuntimeError for integers, ValueError if `min_val` is above `max_val`.
    """
    if min_val > max_val:
        raise ValueError(f"hardtanh(): min_val cannot be greater than max_val, got {min_val} and {max_val}")
    return _activated(input, inplace, activating.hardtanh, min_val, max_val)


def relu6(input: Any, inplace: bool = False) -> Any:
    """min(max(x, 0), 6); its derivative at 0 and at 6 is 0. Raises RuntimeError for integers."""
    return _activated(input, inplace, activating.hardtanh, 0.0, 6.0)


def threshold(input: Any, threshold: float, value: float, inplace: bool = False) -> Any:
    """x above `threshold`, `value` from there down; NaN stays. Raises RuntimeError for integers."""
    return _activated(input, inplace, activating.threshold, threshold, value)


def glu(input: Any, dim: int = -1) -> Any:
    """a · sigmoid(b), where a and b are the halves of the input along `dim`. Raises RuntimeError for an odd size."""
    dim = normalize_dim(dim, floating("glu", input).ndim, "glu")
    if input.ndim == 0 or input.shape[dim] % 2:
        raise RuntimeError(f"glu(): Halving dimension must be even, but dimension {dim} of {tuple(input.shape)} is not")
    a, b = chunk(input, 2, dim)
    return ops.mul(a, ops.sigmoid(b))
