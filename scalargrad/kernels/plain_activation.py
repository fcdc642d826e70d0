"""Activations and what they send back, element by element, in plain NumPy.

Arrays are of floats and of any layout, g of x's shape; parameters are numbers of any type, which says nothing about the
result's. Where a derivative chooses, it selects, as in the table of derivatives: 0 times infinity would be NaN.
"""

from __future__ import annotations

import math

import numpy as np

from .geometry import Array
from .plain_elementwise import erf, log1p, sigmoid

IEEE = np.errstate(all="ignore")


@IEEE
def leaky_relu(x: Array, slope: float) -> Array:
    """x above 0, slope · x elsewhere."""
    return np.where(x > 0, x, x * float(slope))


@IEEE
def leaky_relu_grad(g: Array, x: Array, slope: float) -> Array:
    """g above 0, slope · g elsewhere."""
    return np.where(x > 0, g, g * float(slope))


@IEEE
def elu(x: Array, alpha: float) -> Array:
    """x above 0, alpha · (exp(x) − 1) elsewhere."""
    return np.where(x > 0, x, float(alpha) * np.expm1(x))


@IEEE
def elu_grad(g: Array, x: Array, alpha: float) -> Array:
    """g above 0, g · alpha · exp(x) elsewhere."""
    return np.where(x > 0, g, g * (float(alpha) * np.exp(x)))


@IEEE
def softplus(x: Array, beta: float, threshold: float) -> Array:
    """log(1 + exp(beta · x)) / beta, and x itself where beta · x is above the threshold."""
    z = x * float(beta)
    return np.where(z > float(threshold), x, (np.maximum(z, 0) + log1p(np.exp(-np.abs(z)))) / float(beta))


@IEEE
def softplus_grad(g: Array, x: Array, beta: float, threshold: float) -> Array:
    """g · sigmoid(beta · x), and g itself where beta · x is above the threshold."""
    z = x * float(beta)
    return np.where(z > float(threshold), g, g * sigmoid(z))


@IEEE
def log_sigmoid(x: Array) -> Array:
    """log(1 / (1 + exp(−x)))."""
    return np.asarray(np.minimum(x, 0) - log1p(np.exp(-np.abs(x))), order="C")


@IEEE
def log_sigmoid_grad(g: Array, x: Array) -> Array:
    """g · sigmoid(−x)."""
    return np.asarray(g * sigmoid(-x), order="C")


@IEEE
def silu(x: Array) -> Array:
    """x · sigmoid(x)."""
    return np.asarray(x * sigmoid(x), order="C")


@IEEE
def silu_grad(g: Array, x: Array) -> Array:
    """g · s · (1 + x · (1 − s)), where s is sigmoid(x)."""
    s = sigmoid(x)
    return np.asarray(g * (s * (x * (1 - s) + 1)), order="C")


@IEEE
def gelu(x: Array) -> Array:
    """x · Φ(x), Φ being the normal distribution's: x · (1 + erf(x / √2)) / 2."""
    return np.asarray(x * 0.5 * (1 + erf(x * math.sqrt(0.5))), order="C")


@IEEE
def gelu_grad(g: Array, x: Array) -> Array:
    """g · (Φ(x) + x · exp(−x² / 2) / √(2π))."""
    density = np.exp(-0.5 * (x * x)) * (1 / math.sqrt(2 * math.pi))
    return np.asarray(g * (0.5 * (1 + erf(x * math.sqrt(0.5))) + x * density), order="C")


@IEEE
def gelu_tanh(x: Array) -> Array:
    """x · (1 + t) / 2 with t = tanh(√(2/π) · (x + 0.044715 · x³)) (Hendrycks and Gimpel, 2016)."""
    return np.asarray(x * 0.5 * (1 + _tanh(x)), order="C")


@IEEE
def gelu_tanh_grad(g: Array, x: Array) -> Array:
    """g · ((1 + t) / 2 + x · (1 − t²) · √(2/π) · (1 + 3 · 0.044715 · x²) / 2)."""
    t = _tanh(x)
    angle_grad = math.sqrt(2 / math.pi) * (x * x * (3 * 0.044715) + 1)
    return np.asarray(g * (0.5 * (t + 1) + 0.5 * x * (1 - t * t) * angle_grad), order="C")


def _tanh(x: Array) -> Array:
    return np.asarray(np.tanh((x + x * x * x * 0.044715) * math.sqrt(2 / math.pi)))


@IEEE
def hardtanh(x: Array, low: float, high: float) -> Array:
    """x, but no less than low and no more than high; NaN stays."""
    return np.asarray(np.clip(x, float(low), float(high)), order="C")


@IEEE
def hardtanh_grad(g: Array, x: Array, low: float, high: float) -> Array:
    """g strictly between low and high, and where x is NaN; elsewhere 0."""
    return np.where((x <= float(low)) | (x >= float(high)), g.dtype.type(0), g)
