"""Elementary functions with IEEE 754 results, on floats and on arrays alike.

Python raises where IEEE arithmetic has an answer: `exp(1000)` is inf, `1 / 0` is inf, `log(0)` is -inf, `0 / 0` and
`sqrt(-1)` are nan. The functions of numbers are spelled out here; those of arrays are NumPy's where NumPy has them,
made `quiet`, because inf and nan are results and not warnings.
"""

import math
from collections.abc import Callable
from math import copysign, inf, isnan, nan
from typing import Any

import numpy as np


def quiet(function: Callable[..., Any]) -> Callable[..., Any]:
    """`function` without NumPy's warnings about overflow, division by zero and nan."""
    return np.errstate(all="ignore")(function)


def div(a: float, b: float) -> float:
    """a / b."""
    try:
        return a / b
    except ZeroDivisionError:
        return nan if a == 0 or isnan(a) else copysign(inf, a) * copysign(1.0, b)


def pow(a: float, n: float) -> float:
    """a ** n; nan where the result would be complex."""
    try:
        return math.pow(a, n)
    except OverflowError:
        return -inf if a < 0 and n % 2 == 1 else inf
    except ValueError:  # zero to a negative power, or a negative number to a fraction
        if a != 0:
            return nan
        return copysign(inf, a) if n % 2 == 1 else inf


def exp(a: float) -> float:
    """e ** a."""
    try:
        return math.exp(a)
    except OverflowError:
        return inf


def expm1(a: float) -> float:
    """e ** a - 1, exact near 0."""
    try:
        return math.expm1(a)
    except OverflowError:
        return inf


def log(a: float) -> float:
    """The natural logarithm: -inf at 0, nan below."""
    return math.log(a) if a > 0 else -inf if a == 0 else nan


def log1p(a: float) -> float:
    """log(1 + a), exact near 0."""
    return math.log1p(a) if a > -1 else -inf if a == -1 else nan


def sqrt(a: float) -> float:
    """The square root: nan below 0."""
    return math.sqrt(a) if a >= 0 else nan


def sin(a: float) -> float:
    """The sine: nan at infinity."""
    return math.sin(a) if math.isfinite(a) else nan


def cos(a: float) -> float:
    """The cosine: nan at infinity."""
    return math.cos(a) if math.isfinite(a) else nan


def tan(a: float) -> float:
    """The tangent: nan at infinity."""
    return math.tan(a) if math.isfinite(a) else nan


def sigmoid(a: float) -> float:
    """1 / (1 + exp(-a)), without overflow on either side."""
    if a >= 0:
        return 1 / (1 + math.exp(-a))
    e = exp(a)
    return e / (1 + e)


def sign(a: float) -> float:
    """-1, 0 or 1; 0 for nan, as in PyTorch."""
    return 1.0 if a > 0 else -1.0 if a < 0 else 0.0


def maximum(a: float, b: float) -> float:
    """The larger; nan if either is."""
    return a if a > b or isnan(a) else b


def minimum(a: float, b: float) -> float:
    """The smaller; nan if either is."""
    return a if a < b or isnan(a) else b


def relu(a: float) -> float:
    """max(a, 0); nan for nan, and -0 stays, as in PyTorch."""
    return 0.0 if a < 0 else a


def relu_grad(g: float, y: float) -> float:
    """g where relu's result y is above 0 (or nan), else 0: relu'(0) = 0."""
    return 0.0 if y <= 0 else g


def select(where: float, a: float) -> float:
    """a where `where` holds, else 0. A choice, not a product: 0 times inf would be nan."""
    return a if where else 0.0


class Ieee(float):
    """A float whose division never raises, for derivatives that meet a zero (see Value.pull)."""

    __slots__ = ()

    def __truediv__(self, other: float) -> "Ieee":
        return Ieee(div(float(self), float(other)))

    def __rtruediv__(self, other: float) -> "Ieee":
        return Ieee(div(float(other), float(self)))

    def __add__(self, other: float) -> "Ieee":
        return Ieee(float(self) + other)

    def __sub__(self, other: float) -> "Ieee":
        return Ieee(float(self) - other)

    def __rsub__(self, other: float) -> "Ieee":
        return Ieee(other - float(self))

    def __mul__(self, other: float) -> "Ieee":
        return Ieee(float(self) * other)

    def __neg__(self) -> "Ieee":
        return Ieee(-float(self))

    __radd__, __rmul__ = __add__, __mul__
