"""Activations: softmax and its logarithm, and functions of one element with a bend in them."""

from __future__ import annotations

import math
import warnings
from typing import Any

import numpy as np

from scalargrad import kernels, xp
from scalargrad.dtypes import as_dtype
from scalargrad.operation import Op
from scalargrad.ops.arguments import array, floating
from scalargrad.ops.joining import chunk
from scalargrad.ops.shape import normalize_dim, shaping
from scalargrad.rules import ops, where


def total(x: Any, dim: int) -> Any:
    """The sum along `dim`, which stays as a dimension of size 1. An array's or a Tensor's; 0-d has one dim to name."""
    shape = list(x.shape)
    if shape:
        shape[dim] = 1
    return shaping.sum_to_size(x, tuple(shape))


# W. J. Cody, "Rational Chebyshev approximations for the error function", 1969: numerators and denominators, from the
# highest power down, of erf(x) / x in x² for small |x|, and of exp(x²)·erfc(x) in |x| beyond.
_NEAR = (
    (0.185777706184603153, 3.16112374387056560, 113.864154151050156, 377.485237685302021, 3209.37758913846947),
    (1.0, 23.6012909523441209, 244.024637934444173, 1282.61652607737228, 2844.23683343917062),
)
_FAR = (
    (2.15311535474403846e-8, 0.564188496988670089, 8.88314979438837594, 66.1191906371416295, 298.635138197400131,
     881.952221241769090, 1712.04761263407058, 2051.07837782607147, 1230.33935479799725),
    (1.0, 15.7449261107098347, 117.693950891312499, 537.181101862009858, 1621.38957456669019, 3290.79923573345963,
     4362.61909014324716, 3439.36767414372164, 1230.33935480374942),
)  # fmt: skip


def _polynomial(coefficients: tuple[float, ...], x: Any) -> Any:
    y = np.full_like(x, coefficients[0])
    for c in coefficients[1:]:
        y *= x
        y += c
    return y


def _quotient(fraction: tuple[tuple[float, ...], ...], x: Any) -> Any:
    return _polynomial(fraction[0], x) / _polynomial(fraction[1], x)


@xp.quiet
def _erf(x: Any) -> Any:
    """The error function, to 5e-16; for (64, 512) in float32 in 0.2 ms, where math.erf on each element takes 1.8."""
    size = np.abs(x)
    near = x * _quotient(_NEAR, np.minimum(x * x, 0.25))
    far = np.clip(size, 0.46875, 6.5)  # from 6 on, erf is 1
    far = np.copysign(1 - np.exp(-far * far) * _quotient(_FAR, far), x)
    return np.where(size <= 0.46875, near, far)


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
        xp.quiet(lambda x, slope: np.where(x > 0, x, x * slope)),
        "x slope",
        lambda g, x, slope: where(ops.gt(x, 0), g, g * slope),
        kinks=lambda x, slope: x,
    )
    elu = Op(
        None,
        xp.quiet(lambda x, alpha: np.where(x > 0, x, alpha * np.expm1(x))),
        "x alpha",
        # exp only of what is not above 0: beyond, it would overflow and make the second derivative 0 · inf.
        lambda g, x, alpha: where(ops.gt(x, 0), g, g * (alpha * ops.exp(ops.minimum(x, 0)))),
        kinks=lambda x, alpha: x,
    )
    softplus = Op(
        None,
        xp.quiet(lambda x, beta, threshold: np.where(x * beta > threshold, x, np.logaddexp(0, x * beta) / beta)),
        "x beta threshold",
        lambda g, x, beta, threshold: where(ops.gt(x * beta, threshold), g, g * ops.sigmoid(x * beta)),
        kinks=lambda x, beta, threshold: x * beta - threshold,
    )
    log_sigmoid = Op(
        None,
        xp.quiet(lambda x: -np.logaddexp(0, -x)),
        "x",
        lambda g, x: g * ops.sigmoid(-x),
    )
    silu = Op(
        None,
        xp.quiet(lambda x: x * xp.sigmoid_array(x)),
        "x",
        lambda g, x: g * _silu_slope(x, ops.sigmoid(x)),
    )
    hardtanh = Op(
        None,
        lambda x, low, high: np.clip(x, low, high),
        "x low high",
        lambda g, x, low, high: ops.select(
            ops.logical_not(ops.le(x, low)), ops.select(ops.logical_not(ops.ge(x, high)), g)
        ),
        kinks=lambda x, low, high: (x - low) * (x - high),
    )
    threshold = Op(
        None,
        lambda x, threshold, value: np.where(x <= threshold, x.dtype.type(value), x),
        "x threshold value",
        lambda g, x, threshold: ops.select(ops.logical_not(ops.le(x, threshold)), g),
        kinks=lambda x, threshold, value: x - threshold,
    )
    erf = Op(None, _erf, "x", lambda g, x: g * (ops.exp(-x * x) * (2 / math.sqrt(math.pi))), promote="float")
    dropout: Op = Op(
        None,
        xp.quiet(lambda x, kept, scale: kernels.select(kept, x) * scale),
        "x kept scale",
        lambda g, kept, scale: activating.dropout(g, kept, scale),
        name="native_dropout",
    )
    gelu = Op(
        None,
        xp.quiet(lambda x: x * 0.5 * (1 + _erf(x * math.sqrt(0.5)))),
        "x",
        lambda g, x: g * (
            0.5 * (activating.erf(x * math.sqrt(0.5)) + 1) + x * ops.exp(-0.5 * (x * x)) * (1 / math.sqrt(2 * math.pi))
        ),
    )  # fmt: skip
    gelu_tanh = Op(
        None,
        xp.quiet(lambda x: x * 0.5 * (1 + np.tanh(_gelu_angle(x)))),
        "x",
        lambda g, x: g * _gelu_tanh_slope(x, ops.tanh(_gelu_angle(x))),
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
