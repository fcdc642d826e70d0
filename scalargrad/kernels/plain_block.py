"""Convolution, relu and max pooling in one call. Plain NumPy fuses nothing: it runs the three one by one."""

from __future__ import annotations

from typing import Any

import numpy as np

from .geometry import Array, Pair, Shape, check_conv2d, check_pool2d, check_shape, refuse_gradient
from .plain_conv import conv2d, conv2d_input_grad, conv2d_weight_grad
from .plain_pool import max_pool2d_input_grad, relu_max_pool2d
from .plain_windows import floats


def _sizes(
    op: str,
    x_shape: Shape,
    w_shape: Shape,
    bias_shape: Shape | None,
    stride: Pair,
    padding: Pair,
    dilation: Pair,
    groups: int,
    pooling: tuple[Any, ...],
) -> tuple[Shape, Shape]:
    """The shapes of the convolution and of the result, after refusing what does not fit together."""
    before = (
        *x_shape[:1],
        *w_shape[:1],
        *check_conv2d(op, x_shape, w_shape, stride, padding, dilation, groups, bias_shape),
    )
    return before, (*before[:2], *check_pool2d(op, before, *pooling))


def block_is_fused(
    input_shape: Shape,
    weight_shape: Shape,
    stride: Pair,
    padding: Pair,
    dilation: Pair,
    groups: int,
    kernel_size: Pair,
    pool_stride: Pair,
    pool_padding: Pair,
    pool_dilation: Pair,
    ceil_mode: bool,
) -> bool:
    """Whether `conv2d_relu_max_pool2d` computes these sizes without the convolution's output ever being in memory."""
    op = "block_is_fused"
    x_shape = check_shape(op, "input_shape", input_shape)
    w_shape = check_shape(op, "weight_shape", weight_shape)
    pooling = (kernel_size, pool_stride, pool_padding, pool_dilation, ceil_mode)
    _sizes(op, x_shape, w_shape, None, stride, padding, dilation, groups, pooling)
    return False


def conv2d_relu_max_pool2d(
    x: Array,
    w: Array,
    bias: Array | None,
    stride: Pair,
    padding: Pair,
    dilation: Pair,
    groups: int,
    kernel_size: Pair,
    pool_stride: Pair,
    pool_padding: Pair,
    pool_dilation: Pair,
    ceil_mode: bool,
) -> tuple[Array, Array]:
    """`relu_max_pool2d` of `conv2d`, to the same bits, and its offsets.

    Shapes: x (N, C, H, W), w (O, C/groups, R, S), bias (O,) → both (N, O, P, Q).
    """
    op = "conv2d_relu_max_pool2d"
    x, w, *biases = floats(op, input=x, weight=w, bias=bias)
    pooling = (kernel_size, pool_stride, pool_padding, pool_dilation, ceil_mode)
    bias_shape = biases[0].shape if biases else None
    _sizes(op, x.shape, w.shape, bias_shape, stride, padding, dilation, groups, pooling)
    return relu_max_pool2d(conv2d(x, w, bias, stride, padding, dilation, groups), *pooling)


def conv2d_relu_max_pool2d_grads(
    g: Array,
    offsets: Array,
    x: Array,
    w: Array,
    stride: Pair,
    padding: Pair,
    dilation: Pair,
    groups: int,
    kernel_size: Pair,
    pool_stride: Pair,
    pool_padding: Pair,
    pool_dilation: Pair,
    ceil_mode: bool,
    wants_input: bool,
    wants_weight: bool,
    wants_bias: bool,
) -> tuple[Array | None, Array | None, Array | None]:
    """What `conv2d_relu_max_pool2d` sends back to its input, its weights and its bias; None for what is not wanted.

    Of `x` only the shape counts unless the weights' gradient is wanted, of `w` unless the input's is.
    """
    op = "conv2d_relu_max_pool2d_grads"
    g, x, w = floats(op, grad=g, input=x, weight=w)
    pooling = (kernel_size, pool_stride, pool_padding, pool_dilation, ceil_mode)
    before, after = _sizes(op, x.shape, w.shape, None, stride, padding, dilation, groups, pooling)
    if g.shape != after:
        refuse_gradient(op, after, x.shape, g.shape)
    d = max_pool2d_input_grad(g, offsets, before, *pooling[:4])
    return (
        conv2d_input_grad(d, w, x.shape, stride, padding, dilation, groups) if wants_input else None,
        conv2d_weight_grad(d, x, w.shape, stride, padding, dilation, groups) if wants_weight else None,
        np.asarray(d.sum((0, 2, 3))) if wants_bias else None,
    )
