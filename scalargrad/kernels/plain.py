"""Every kernel in plain NumPy: what serves where nothing could be compiled, and a second opinion for the tests.

Same names, arguments, results and refusals as the compiled kernels. Loops run over the taps of a window or over blocks
of images, never over pixels.
"""

from __future__ import annotations

import math

import numpy as np

from .geometry import (
    Array,
    check_axis,
    check_linear,
    check_linear_input_grad,
    check_linear_weight_grad,
    check_matmul,
    check_same_shape,
)
from .plain_windows import IEEE, floats


@IEEE
def matmul(a: Array, b: Array) -> Array:
    """Matrix product over the last two axes; the axes before them broadcast.

    A 1-D argument is a row on the left and a column on the right, and its axis is not in the result.
    """
    a, b = floats("matmul", a=a, b=b)
    check_matmul("matmul", a.shape, b.shape)
    return np.asarray(np.matmul(a, b), order="C")


@IEEE
def linear(x: Array, w: Array, bias: Array | None, relu: bool = False) -> Array:
    """x @ w.T + bias; with `relu`, its positive part, where NaN stays NaN.

    Shapes: x (…, K), w (M, K), bias (M,) → (…, M).
    """
    x, w, *biases = floats("linear", input=x, weight=w, bias=bias)
    check_linear("linear", x.shape, w.shape, biases[0].shape if biases else None)
    y = np.empty((*x.shape[:-1], w.shape[0]), x.dtype)
    rows = math.prod(x.shape[:-1])
    np.matmul(x.reshape(rows, w.shape[1]), w.T, out=y.reshape(rows, w.shape[0]))
    if biases:
        y += biases[0]
    return np.maximum(y, 0, out=y) if relu else y


@IEEE
def linear_input_grad(g: Array, w: Array) -> Array:
    """What `linear` sends back to its input: g @ w.

    Shapes: g (…, M), w (M, K) → (…, K).
    """
    g, w = floats("linear_input_grad", grad=g, weight=w)
    check_linear_input_grad("linear_input_grad", g.shape, w.shape)
    return np.asarray(np.matmul(g, w), order="C")


@IEEE
def linear_weight_grad(g: Array, x: Array) -> Array:
    """What `linear` sends back to its weights: the samples, summed with the outputs' gradients as factors.

    Shapes: g (…, M), x (…, K) → (M, K).
    """
    g, x = floats("linear_weight_grad", grad=g, input=x)
    check_linear_weight_grad("linear_weight_grad", g.shape, x.shape)
    samples = math.prod(g.shape[:-1])
    return np.asarray(np.matmul(g.reshape(samples, g.shape[-1]).T, x.reshape(samples, x.shape[-1])), order="C")


def relu(x: Array) -> Array:
    """The larger of x and 0. NaN stays NaN."""
    (x,) = floats("relu", input=x)
    return np.asarray(np.where(x < 0, x.dtype.type(0), x), order="C")


def relu_grad(g: Array, y: Array) -> Array:
    """g where y > 0 or y is NaN, else 0."""
    g, y = floats("relu_grad", grad=g, result=y)
    check_same_shape("relu_grad", grad=g, result=y)
    return np.asarray(np.where(y <= 0, g.dtype.type(0), g), order="C")


@IEEE
def softmax(x: Array, axis: int) -> Array:
    """exp(x − max) / Σ exp(x − max) along `axis`."""
    (x,) = floats("softmax", input=x)
    at = check_axis("softmax", axis, x.ndim) if x.ndim else None
    if x.size == 0:
        return np.empty(x.shape, x.dtype)
    y = np.exp(x - np.max(x, axis=at, keepdims=True))
    y /= np.sum(y, axis=at, keepdims=True)
    return np.asarray(y, order="C")


@IEEE
def log_softmax(x: Array, axis: int) -> Array:
    """x − max − log Σ exp(x − max) along `axis`."""
    (x,) = floats("log_softmax", input=x)
    at = check_axis("log_softmax", axis, x.ndim) if x.ndim else None
    if x.size == 0:
        return np.empty(x.shape, x.dtype)
    shifted = np.asarray(x - np.max(x, axis=at, keepdims=True))
    shifted -= np.log(np.sum(np.exp(shifted), axis=at, keepdims=True))
    return np.asarray(shifted, order="C")


@IEEE
def softmax_grad(g: Array, y: Array, axis: int) -> Array:
    """(g − Σ g·y)·y along `axis`."""
    g, y = floats("softmax_grad", grad=g, result=y)
    check_same_shape("softmax_grad", grad=g, result=y)
    at = check_axis("softmax_grad", axis, y.ndim) if y.ndim else None
    return np.asarray((g - np.sum(g * y, axis=at, keepdims=True)) * y, order="C")


@IEEE
def log_softmax_grad(g: Array, y: Array, axis: int) -> Array:
    """g − exp(y)·Σ g along `axis`."""
    g, y = floats("log_softmax_grad", grad=g, result=y)
    check_same_shape("log_softmax_grad", grad=g, result=y)
    at = check_axis("log_softmax_grad", axis, y.ndim) if y.ndim else None
    return np.asarray(g - np.exp(y) * np.sum(g, axis=at, keepdims=True), order="C")
