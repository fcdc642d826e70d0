"""Arithmetic element by element: rows that only arrays have, and PyTorch's functions over these and the shared ones."""

from __future__ import annotations

import math
from math import inf
from typing import Any

import numpy as np

from scalargrad import kernels
from scalargrad.operation import Op, Recordable, in_numpy
from scalargrad.rules import ops


def _clamp(x: Any, low: float | None, high: float | None) -> Any:
    if x.dtype.kind != "f":
        return np.clip(x, low, high)
    if low is None:
        return kernels.minimum(x, high)
    return kernels.maximum(x, low) if high is None else kernels.hardtanh(x, low, high)


def _between(x: Any, low: float | None, high: float | None) -> Any:
    if low is None:
        return kernels.le(x, high)
    return kernels.ge(x, low) if high is None else kernels.ge(x, low) & kernels.le(x, high)


def _divides(function: Any) -> Any:
    """`function`, a division: refuses an integer divided by 0 as PyTorch does, which has no number for it."""

    def divide(a: Any, b: Any) -> Any:
        kind = np.asarray(a).dtype.kind
        if kind == "b":
            raise NotImplementedError(f"{function.__name__}(): not implemented for booleans")
        if kind != "f" and np.any(np.asarray(b) == 0):
            raise RuntimeError("ZeroDivisionError")
        return function(a, b)

    return in_numpy(divide)


def _rounds(function: Any) -> Any:
    """`function`, a rounding: integers stay as they are, booleans are refused."""

    def rounded(x: Any) -> Any:
        if x.dtype.kind == "b":
            raise NotImplementedError(f"{function.__name__}(): not implemented for booleans")
        return function(x) if x.dtype.kind == "f" else np.array(x)

    return rounded


def _is_boolean(x: Any) -> Any:
    return x is True or x is False or getattr(x, "dtype", None) == np.bool_


def _refuse_booleans(operation: str, input: Any) -> None:
    if input.dtype == np.bool_:
        raise RuntimeError(f"{operation}(): Boolean inputs not supported")


def _over_square(c: Any, a: Any, b: Any) -> Any:
    """c / (a² + b²); 0 at the origin, which has no angle to differentiate."""
    square = a * a + b * b
    return ops.select(ops.ne(square, 0), c) / (square + ops.eq(square, 0))


class elementwise:
    """The rows."""

    asin = Op(None, np.arcsin, "a", lambda g, a: g / ops.sqrt(1 - a * a), promote="float", domain={"a": (-1.0, 1.0)})
    acos = Op(None, np.arccos, "a", lambda g, a: -g / ops.sqrt(1 - a * a), promote="float", domain={"a": (-1.0, 1.0)})
    atan = Op(None, np.arctan, "a", lambda g, a: g / (a * a + 1), promote="float")
    atan2 = Op(
        None,
        np.arctan2,
        "a b",
        lambda g, a, b: g * _over_square(b, a, b),
        lambda g, a, b: -g * _over_square(a, a, b),
        promote="float",
        domain={"b": (0.5, inf)},
    )
    erf = Op(math.erf, kernels.erf, "a", lambda g, a: g * (ops.exp(-a * a) * (2 / math.sqrt(math.pi))), promote="float")
    sinh = Op(None, np.sinh, "a", lambda g, a: g * elementwise.cosh(a), promote="float")
    cosh = Op(None, np.cosh, "a", lambda g, a: g * elementwise.sinh(a), promote="float")
    exp2 = Op(None, np.exp2, "a", lambda g, y: g * y * math.log(2), promote="float")
    log2 = Op(None, np.log2, "a", lambda g, a: g / (a * math.log(2)), promote="float", domain={"a": (0.0, inf)})
    log10 = Op(None, np.log10, "a", lambda g, a: g / (a * math.log(10)), promote="float", domain={"a": (0.0, inf)})
    floor = Op(None, _rounds(np.floor), "a", lambda g: ops.select(False, g), kinks=lambda a: np.sin(np.pi * a))
    ceil = Op(None, _rounds(np.ceil), "a", lambda g: ops.select(False, g), kinks=lambda a: np.sin(np.pi * a))
    trunc = Op(None, _rounds(np.trunc), "a", lambda g: ops.select(False, g), kinks=lambda a: np.sin(np.pi * a))
    round = Op(None, _rounds(np.rint), "a", lambda g: ops.select(False, g), kinks=lambda a: np.cos(np.pi * a))
    clamp = Op(
        None,
        _clamp,
        "a low high",
        lambda g, a, low, high: ops.select(elementwise.between(a, low, high), g),
        kinks=lambda a, low, high: (1 if low is None else a - low) * (1 if high is None else a - high),
    )
    between = Op(None, _between, "a low high")
    remainder = Op(
        None,
        _divides(np.remainder),
        "a b",
        lambda g: g,
        lambda g, a, b: -g * elementwise.floor_divide(a, b),
        promote="common",
        domain={"b": (0.5, inf)},
        kinks=lambda a, b: np.sin(np.pi * a / b),
    )
    fmod = Op(
        None,
        _divides(np.fmod),
        "a b",
        lambda g: g,
        lambda g, a, b: -g * elementwise.trunc(a / b),
        promote="common",
        domain={"b": (0.5, inf)},
        kinks=lambda a, b: np.sin(np.pi * a / b),
    )
    floor_divide = Op(None, _divides(np.floor_divide), "a b", promote="common")


def add(input: Any, other: Any, *, alpha: float = 1) -> Any:
    """input + alpha · other."""
    return ops.add(input, other if alpha == 1 else ops.mul(other, alpha))


def sub(input: Any, other: Any, *, alpha: float = 1) -> Any:
    """input - alpha · other. Raises RuntimeError for booleans."""
    if _is_boolean(input) or _is_boolean(other):
        raise RuntimeError(
            "Subtraction, the `-` operator, with a bool tensor is not supported. If you are trying to invert a mask, "
            "use the `~` or `logical_not()` operator instead; of two masks, `^` or `logical_xor()`."
        )
    return ops.sub(input, other if alpha == 1 else ops.mul(other, alpha))


def mul(input: Any, other: Any) -> Any:
    """input · other."""
    return ops.mul(input, other)


def div(input: Any, other: Any, *, rounding_mode: str | None = None) -> Any:
    """input / other; `rounding_mode` "floor" or "trunc" rounds the quotient and keeps integers integers."""
    if rounding_mode is None:
        return ops.div(input, other)
    if rounding_mode == "floor":
        return elementwise.floor_divide(input, other)
    if rounding_mode != "trunc":
        raise RuntimeError(
            f"div expected rounding_mode to be one of None, 'trunc', or 'floor' but found '{rounding_mode}'"
        )
    quotient = elementwise.trunc(ops.div(input, other))
    integers = all(getattr(x, "dtype", np.asarray(x).dtype).kind in "iub" for x in (input, other))
    return quotient.to(elementwise.floor_divide(input, other).dtype) if integers else quotient


def floor_divide(input: Any, other: Any) -> Any:
    """The floor of input / other. Raises RuntimeError for an integer divided by 0."""
    return elementwise.floor_divide(input, other)


def remainder(input: Any, other: Any) -> Any:
    """What is left of the floored division; it has the sign of `other`. Raises RuntimeError for an integer by 0."""
    return elementwise.remainder(input, other)


def fmod(input: Any, other: Any) -> Any:
    """What is left of the truncated division; it has the sign of `input`. Raises RuntimeError for an integer by 0."""
    return elementwise.fmod(input, other)


def pow(input: Any, exponent: Any) -> Any:
    """input to the power `exponent`. Raises RuntimeError for integers to a negative integer power, and two booleans."""
    if _is_boolean(input) and _is_boolean(exponent):
        raise NotImplementedError("pow(): not implemented for booleans")
    if isinstance(exponent, int) and exponent < 0 and getattr(input, "dtype", np.dtype(float)).kind in "iu":
        raise RuntimeError("Integers to negative integer powers are not allowed.")
    return ops.pow(input, exponent)


def square(input: Any) -> Any:
    """input · input."""
    return ops.pow(input, 2)


def neg(input: Any) -> Any:
    """-input. Raises RuntimeError for booleans."""
    if input.dtype == np.bool_:
        raise RuntimeError("Negation, the `-` operator, on a bool tensor is not supported. Use `~` or `logical_not()`.")
    return ops.neg(input)


def abs(input: Any) -> Any:
    """The absolute value; its derivative at 0 is 0. Raises RuntimeError for booleans."""
    _refuse_booleans("abs", input)
    return ops.abs(input)


def sign(input: Any) -> Any:
    """-1, 0 or 1."""
    return ops.sign(input)


def exp(input: Any) -> Any:
    """e to the power of each element."""
    return ops.exp(input)


def exp2(input: Any) -> Any:
    """2 to the power of each element."""
    return elementwise.exp2(input)


def expm1(input: Any) -> Any:
    """exp(input) - 1, exact near 0."""
    return ops.expm1(input)


def erf(input: Any) -> Any:
    """The error function, 2/√π times the integral of exp(−t²) from 0 to each element."""
    return elementwise.erf(input)


def log(input: Any) -> Any:
    """The natural logarithm: -inf at 0, nan below."""
    return ops.log(input)


def log1p(input: Any) -> Any:
    """log(1 + input), exact near 0."""
    return ops.log1p(input)


def log2(input: Any) -> Any:
    """The logarithm to the base 2."""
    return elementwise.log2(input)


def log10(input: Any) -> Any:
    """The logarithm to the base 10."""
    return elementwise.log10(input)


def sqrt(input: Any) -> Any:
    """The square root: nan below 0."""
    return ops.sqrt(input)


def rsqrt(input: Any) -> Any:
    """1 / sqrt(input)."""
    return ops.div(1, ops.sqrt(input))


def reciprocal(input: Any) -> Any:
    """1 / input."""
    return ops.div(1, input)


def sin(input: Any) -> Any:
    """The sine, of radians."""
    return ops.sin(input)


def cos(input: Any) -> Any:
    """The cosine, of radians."""
    return ops.cos(input)


def tan(input: Any) -> Any:
    """The tangent, of radians."""
    return ops.tan(input)


def asin(input: Any) -> Any:
    """The arc sine, in radians."""
    return elementwise.asin(input)


def acos(input: Any) -> Any:
    """The arc cosine, in radians."""
    return elementwise.acos(input)


def atan(input: Any) -> Any:
    """The arc tangent, in radians."""
    return elementwise.atan(input)


def atan2(input: Any, other: Any) -> Any:
    """The angle of the point (other, input), in radians."""
    return elementwise.atan2(input, other)


def sinh(input: Any) -> Any:
    """The hyperbolic sine."""
    return elementwise.sinh(input)


def cosh(input: Any) -> Any:
    """The hyperbolic cosine."""
    return elementwise.cosh(input)


def tanh(input: Any) -> Any:
    """The hyperbolic tangent."""
    return ops.tanh(input)


def sigmoid(input: Any) -> Any:
    """1 / (1 + exp(-input))."""
    return ops.sigmoid(input)


def relu(input: Any) -> Any:
    """max(input, 0); its derivative at 0 is 0, and nan stays nan. Raises RuntimeError for booleans."""
    _refuse_booleans("relu", input)
    return ops.relu(input)


def floor(input: Any) -> Any:
    """The largest integer that is not above."""
    return elementwise.floor(input)


def ceil(input: Any) -> Any:
    """The smallest integer that is not below."""
    return elementwise.ceil(input)


def trunc(input: Any) -> Any:
    """The integer part."""
    return elementwise.trunc(input)


def round(input: Any, *, decimals: int = 0) -> Any:
    """The nearest number of `decimals` digits, the even one of two."""
    if decimals == 0:
        return elementwise.round(input)
    return ops.div(elementwise.round(ops.mul(input, 10.0**decimals)), 10.0**decimals)


def clamp(input: Any, min: Any = None, max: Any = None) -> Any:
    """No less than `min` and no more than `max`, numbers or tensors. The gradient passes at the bound.

    Raises RuntimeError without either.
    """
    if min is None and max is None:
        raise RuntimeError("torch.clamp: At least one of 'min' or 'max' must not be None")
    if isinstance(min, Recordable) or isinstance(max, Recordable):
        low = input if min is None else ops.maximum(input, min)
        return low if max is None else ops.minimum(low, max)
    if input.dtype.kind != "f" and (isinstance(min, float) or isinstance(max, float)):
        input = ops.mul(input, 1.0)
    return elementwise.clamp(input, min, max)


def maximum(input: Any, other: Any) -> Any:
    """The larger of two; nan if either is, and a tie splits the gradient."""
    return ops.maximum(input, other)


def minimum(input: Any, other: Any) -> Any:
    """The smaller of two; nan if either is, and a tie splits the gradient."""
    return ops.minimum(input, other)


def lerp(input: Any, end: Any, weight: Any) -> Any:
    """input + weight · (end - input)."""
    return ops.add(input, ops.mul(weight, ops.sub(end, input)))


def addcmul(input: Any, tensor1: Any, tensor2: Any, *, value: float = 1) -> Any:
    """input + value · tensor1 · tensor2."""
    return add(input, ops.mul(tensor1, tensor2), alpha=value)


def addcdiv(input: Any, tensor1: Any, tensor2: Any, *, value: float = 1) -> Any:
    """input + value · tensor1 / tensor2."""
    return add(input, ops.div(tensor1, tensor2), alpha=value)
