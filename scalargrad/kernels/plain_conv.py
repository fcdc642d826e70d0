"""Convolution and its gradients in plain NumPy: windows unfolded into rows, and products of matrices."""

from __future__ import annotations

import numpy as np
from numpy.lib.stride_tricks import sliding_window_view

from .geometry import Array, Pair, Shape, check_conv2d, check_images, check_shape
from .plain_windows import IEEE, floats, padded, reach_of, tap_of, taps_of

# The unfolded images of one matrix product: more of them at once would gain nothing and cost memory.
COLUMNS_PER_BLOCK = 1 << 22


def _columns(
    x: Array, kernel_size: Pair, count: Pair, stride: Pair, padding: Pair, dilation: Pair, groups: int
) -> Array:
    """Images unfolded to (groups, N·P·Q, C/groups·R·S)."""
    N, C = x.shape[:2]
    framed = padded(x, reach_of(count, kernel_size, stride, dilation), padding, 0.0)
    span = (dilation[0] * (kernel_size[0] - 1) + 1, dilation[1] * (kernel_size[1] - 1) + 1)
    windows = sliding_window_view(framed, span, axis=(2, 3))
    windows = windows[:, :, :: stride[0], :: stride[1], :: dilation[0], :: dilation[1]]
    grouped = windows.reshape(N, groups, C // groups, *count, *kernel_size)
    taps = C // groups * kernel_size[0] * kernel_size[1]
    return grouped.transpose(1, 0, 3, 4, 2, 5, 6).reshape(groups, N * count[0] * count[1], taps)


def _blocks(images: int, size_per_image: int) -> list[slice]:
    step = max(1, COLUMNS_PER_BLOCK // max(1, size_per_image))
    return [slice(i, min(i + step, images)) for i in range(0, images, step)]


@IEEE
def conv2d(
    x: Array,
    w: Array,
    bias: Array | None,
    stride: Pair,
    padding: Pair,
    dilation: Pair,
    groups: int,
    relu: bool = False,
) -> Array:
    """Cross-correlation of images with a bank of kernels. With `relu` its negative entries become 0; NaN stays.

    Shapes: x (N, C, H, W), w (O, C/groups, R, S), bias (O,) → (N, O, P, Q).
    """
    x, w, *biases = floats("conv2d", input=x, weight=w, bias=bias)
    bias_shape = biases[0].shape if biases else None
    P, Q = check_conv2d("conv2d", x.shape, w.shape, stride, padding, dilation, groups, bias_shape)
    O, taps = w.shape[0], w.shape[1] * w.shape[2] * w.shape[3]
    y = np.empty((x.shape[0], O, P, Q), x.dtype)
    w_gko = w.reshape(groups, O // groups, taps).transpose(0, 2, 1)
    for block in _blocks(x.shape[0], P * Q * taps * groups):
        columns = _columns(x[block], w.shape[2:], (P, Q), stride, padding, dilation, groups)
        product = np.matmul(columns, w_gko).reshape(groups, -1, P, Q, O // groups)
        y[block] = product.transpose(1, 0, 4, 2, 3).reshape(-1, O, P, Q)
    if biases:
        y += biases[0][:, None, None]
    if relu:
        y[y < 0] = 0
    return y


@IEEE
def conv2d_input_grad(
    g: Array, w: Array, input_shape: Shape, stride: Pair, padding: Pair, dilation: Pair, groups: int
) -> Array:
    """What `conv2d` sends back to its input: each output's gradient, spread over its window by the weights."""
    g, w = floats("conv2d_input_grad", grad=g, weight=w)
    shape = check_shape("conv2d_input_grad", "input_shape", input_shape)
    count = check_conv2d("conv2d_input_grad", shape, w.shape, stride, padding, dilation, groups, g_shape=g.shape)
    N, O = g.shape[:2]
    kernel_size = w.shape[2:]
    reach = reach_of(count, kernel_size, stride, dilation)
    size = (max(reach[0], shape[2] + padding[0]), max(reach[1], shape[3] + padding[1]))
    x_grad = np.empty(shape, g.dtype)
    w_gok = w.reshape(groups, O // groups, -1) if w.size else np.zeros((groups, O // groups, 0), w.dtype)
    for block in _blocks(N, count[0] * count[1] * w_gok.shape[2] * groups):
        g_block = g[block]
        g_gno = g_block.reshape(-1, groups, O // groups, count[0] * count[1]).transpose(1, 0, 3, 2)
        columns = np.matmul(g_gno.reshape(groups, -1, O // groups), w_gok)
        columns = columns.reshape(groups, len(g_block), *count, w.shape[1], *kernel_size)
        framed = np.zeros((len(g_block), shape[1], *size), g.dtype)
        for _, r, s in taps_of(kernel_size):
            tap = columns[..., r, s].transpose(1, 0, 4, 2, 3).reshape(len(g_block), shape[1], *count)
            view = tap_of(framed, r, s, count, stride, dilation)
            view += tap
        x_grad[block] = framed[:, :, padding[0] : padding[0] + shape[2], padding[1] : padding[1] + shape[3]]
    return x_grad


@IEEE
def conv2d_weight_grad(
    g: Array, x: Array, weight_shape: Shape, stride: Pair, padding: Pair, dilation: Pair, groups: int
) -> Array:
    """What `conv2d` sends back to its weights: the images' windows, summed with the outputs' gradients as factors."""
    g, x = floats("conv2d_weight_grad", grad=g, input=x)
    shape = check_shape("conv2d_weight_grad", "weight_shape", weight_shape)
    count = check_conv2d("conv2d_weight_grad", x.shape, shape, stride, padding, dilation, groups, g_shape=g.shape)
    O, taps = shape[0], shape[1] * shape[2] * shape[3]
    w_grad = np.zeros(shape, g.dtype)
    w_grad_gok = w_grad.reshape(groups, O // groups, taps)
    for block in _blocks(x.shape[0], count[0] * count[1] * taps * groups):
        kernel_size = (shape[2], shape[3])
        columns = _columns(x[block], kernel_size, count, stride, padding, dilation, groups)
        g_gon = g[block].reshape(-1, groups, O // groups, count[0] * count[1]).transpose(1, 2, 0, 3)
        w_grad_gok += np.matmul(g_gon.reshape(groups, O // groups, -1), columns)
    return w_grad


@IEEE
def sum_by_channel(x: Array) -> Array:
    """The sum of each channel over all images and pixels: what `conv2d` sends back to its bias.

    Shapes: x (N, C, H, W) → (C,).
    """
    (x,) = floats("sum_by_channel", input=x)
    check_images("sum_by_channel", x.shape)
    return np.asarray(x.sum((2, 3)).sum(0, dtype=np.float64), x.dtype)
