"""Arithmetic, comparisons and elementary functions, element by element, in plain NumPy.

Operands are arrays of any dtype and Python's numbers; they broadcast, and dtypes are NumPy's. The compiled kernels take
float32 and float64 whose broadcasting comes down to three nested loops, and hand everything else on to these functions.
"""

from __future__ import annotations

import operator
from typing import Any

import numpy as np

from .geometry import Array

IEEE = np.errstate(all="ignore")


def contiguous(x: Array) -> Array:
    """A copy of x, C-contiguous, in memory of its own."""
    return np.array(x, order="C")


@IEEE
def add(a: Any, b: Any) -> Array:
    """a + b."""
    return np.asarray(np.add(a, b, order="C"))


@IEEE
def sub(a: Any, b: Any) -> Array:
    """a - b."""
    return np.asarray(np.subtract(a, b, order="C"))


@IEEE
def mul(a: Any, b: Any) -> Array:
    """a · b."""
    return np.asarray(np.multiply(a, b, order="C"))


@IEEE
def div(a: Any, b: Any) -> Array:
    """a / b."""
    return np.asarray(np.divide(a, b, order="C"))


@IEEE
def maximum(a: Any, b: Any) -> Array:
    """The larger; NaN if either is."""
    return np.asarray(np.maximum(a, b, order="C"))


@IEEE
def minimum(a: Any, b: Any) -> Array:
    """The smaller; NaN if either is."""
    return np.asarray(np.minimum(a, b, order="C"))


@IEEE
def power(a: Any, n: Any) -> Array:
    """a to the power n."""
    return np.asarray(operator.pow(a, n), order="C")  # squares, where np.power would call pow


def select(condition: Any, a: Any) -> Array:
    """a where the condition holds, else 0."""
    a = np.asarray(a)
    chosen = np.zeros(np.broadcast_shapes(np.shape(condition), a.shape), a.dtype)
    np.copyto(chosen, a, where=np.asarray(condition, np.bool_))  # in a quarter of np.where's time
    return chosen


@IEEE
def accumulate(a: Array, b: Any) -> Array:
    """a, with b added to it in place: b broadcasts to a's shape and is cast to its dtype."""
    np.add(a, b, out=a, casting="same_kind")
    return a


@IEEE
def eq(a: Any, b: Any) -> Array:
    """Whether a = b."""
    return np.asarray(np.equal(a, b, order="C"))


@IEEE
def ne(a: Any, b: Any) -> Array:
    """Whether a ≠ b."""
    return np.asarray(np.not_equal(a, b, order="C"))


@IEEE
def lt(a: Any, b: Any) -> Array:
    """Whether a < b."""
    return np.asarray(np.less(a, b, order="C"))


@IEEE
def le(a: Any, b: Any) -> Array:
    """Whether a ≤ b."""
    return np.asarray(np.less_equal(a, b, order="C"))


@IEEE
def gt(a: Any, b: Any) -> Array:
    """Whether a > b."""
    return np.asarray(np.greater(a, b, order="C"))


@IEEE
def ge(a: Any, b: Any) -> Array:
    """Whether a ≥ b."""
    return np.asarray(np.greater_equal(a, b, order="C"))


@IEEE
def neg(x: Any) -> Array:
    """-x."""
    return np.asarray(np.negative(x, order="C"))


@IEEE
def absolute(x: Any) -> Array:
    """|x|."""
    return np.asarray(np.absolute(x, order="C"))


def sign(x: Array) -> Array:
    """-1, 0 or 1; 0 for NaN, as in PyTorch; booleans as they are."""
    return np.array(x) if x.dtype.kind == "b" else np.asarray(np.subtract(x > 0, x < 0, dtype=x.dtype), order="C")


@IEEE
def sqrt(x: Any) -> Array:
    """The square root; NaN below 0."""
    return np.asarray(np.sqrt(x, order="C"))


@IEEE
def exp(x: Any) -> Array:
    """e to the power x."""
    return np.asarray(np.exp(x, order="C"))


@IEEE
def expm1(x: Any) -> Array:
    """exp(x) - 1, exact near 0."""
    return np.asarray(np.expm1(x, order="C"))


@IEEE
def log(x: Any) -> Array:
    """The natural logarithm: -inf at 0, NaN below."""
    return np.asarray(np.log(x, order="C"))


@IEEE
def log1p(x: Any) -> Array:
    """log(1 + x), exact near 0."""
    return np.asarray(np.log1p(x, order="C"))


@IEEE
def tanh(x: Any) -> Array:
    """The hyperbolic tangent."""
    return np.asarray(np.tanh(x, order="C"))


@IEEE
def sigmoid(x: Any) -> Array:
    """1 / (1 + exp(-x)), without overflow on either side."""
    x = np.asarray(x)
    e = np.exp(-np.abs(x))
    return np.asarray(np.where(x < 0, e, e.dtype.type(1)) / (1 + e), order="C")


@IEEE
def sigmoid_grad(g: Any, y: Any) -> Array:
    """g · y · (1 − y): what a sigmoid with the result y sends back."""
    return np.asarray(g * (y * (1 - y)), order="C")


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


@IEEE
def erf(x: Any) -> Array:
    """The error function, to 5e-16."""
    x = np.asarray(x)
    size = np.abs(x)
    near = x * _quotient(_NEAR, np.minimum(x * x, 0.25))
    far = np.clip(size, 0.46875, 6.5)  # from 6 on, erf is 1
    far = np.copysign(1 - np.exp(-far * far) * _quotient(_FAR, far), x)
    return np.asarray(np.where(size <= 0.46875, near, far))
