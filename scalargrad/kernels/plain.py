"""Every kernel in plain NumPy: what serves where nothing could be compiled, and a second opinion for the tests.

Same names, arguments, results and refusals as the compiled kernels. Loops run over the taps of a window or over blocks
of images, never over pixels.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from numpy.lib.stride_tricks import sliding_window_view

from .geometry import (
    Array,
    Pair,
    Shape,
    as_array,
    check_axis,
    check_conv2d,
    check_dtypes,
    check_linear,
    check_matmul,
    check_offsets,
    check_pool2d,
    check_pool2d_gradient,
    check_same_shape,
    check_shape,
    offsets_dtype,
    pool_divisors,
    refuse_gradient,
)

# The unfolded images of one matrix product: more of them at once would gain nothing and cost memory.
COLUMNS_PER_BLOCK = 1 << 22

# Infinities and NaN are results here, as in PyTorch, not mistakes to warn of.
IEEE = np.errstate(all="ignore")


def _floats(op: str, **arrays: Any) -> list[Array]:
    """The arrays in native byte order, after refusing other dtypes than float32 and float64. A bias may be None."""
    present = {name: value for name, value in arrays.items() if value is not None or name != "bias"}
    check_dtypes(op, **present)
    found = [as_array(op, name, value) for name, value in present.items()]
    return [array.astype(array.dtype.newbyteorder("="), copy=False) for array in found]


@IEEE
def matmul(a: Array, b: Array) -> Array:
    """Matrix product over the last two axes; the axes before them broadcast.

    A 1-D argument is a row on the left and a column on the right, and its axis is not in the result.
    """
    a, b = _floats("matmul", a=a, b=b)
    check_matmul("matmul", a.shape, b.shape)
    return np.asarray(np.matmul(a, b), order="C")


@IEEE
def linear(x: Array, w: Array, bias: Array | None) -> Array:
    """x @ w.T + bias.

    Shapes: x (…, K), w (M, K), bias (M,) → (…, M).
    """
    x, w, *biases = _floats("linear", input=x, weight=w, bias=bias)
    check_linear("linear", x.shape, w.shape, biases[0].shape if biases else None)
    y = np.empty((*x.shape[:-1], w.shape[0]), x.dtype)
    rows = math.prod(x.shape[:-1])
    np.matmul(x.reshape(rows, w.shape[1]), w.T, out=y.reshape(rows, w.shape[0]))
    if biases:
        y += biases[0]
    return y


def _padded(x: Array, size: Pair, padding: Pair, fill: float) -> Array:
    """Images inside a frame of `fill`, `size` rows and columns in all; what hangs over the frame is cut."""
    frame = (max(size[0], x.shape[2] + padding[0]), max(size[1], x.shape[3] + padding[1]))
    if math.prod((*x.shape[:2], *frame)) > 1e15:
        raise MemoryError(f"no machine has room for padded images of shape {(*x.shape[:2], *frame)}")
    framed = np.full((*x.shape[:2], *frame), fill, x.dtype)
    framed[:, :, padding[0] : padding[0] + x.shape[2], padding[1] : padding[1] + x.shape[3]] = x
    return framed[:, :, : size[0], : size[1]]


def _reach(count: Pair, kernel_size: Pair, stride: Pair, dilation: Pair) -> Pair:
    """Rows and columns that the windows touch."""
    rows, columns = ((count[i] - 1) * stride[i] + dilation[i] * (kernel_size[i] - 1) + 1 for i in (0, 1))
    return rows, columns


def _tap(image: Array, r: int, s: int, count: Pair, stride: Pair, dilation: Pair) -> Array:
    """The view of a framed image that tap (r, s) of every window sees."""
    top, left = r * dilation[0], s * dilation[1]
    return image[:, :, top : top + (count[0] - 1) * stride[0] + 1 : stride[0],
                 left : left + (count[1] - 1) * stride[1] + 1 : stride[1]]  # fmt: skip


def _taps(kernel_size: Pair) -> list[tuple[int, int, int]]:
    return [(r * kernel_size[1] + s, r, s) for r in range(kernel_size[0]) for s in range(kernel_size[1])]


def _columns(
    x: Array, kernel_size: Pair, count: Pair, stride: Pair, padding: Pair, dilation: Pair, groups: int
) -> Array:
    """Images unfolded to (groups, N·P·Q, C/groups·R·S)."""
    N, C = x.shape[:2]
    framed = _padded(x, _reach(count, kernel_size, stride, dilation), padding, 0.0)
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
def conv2d(x: Array, w: Array, bias: Array | None, stride: Pair, padding: Pair, dilation: Pair, groups: int) -> Array:
    """Cross-correlation of images with a bank of kernels.

    Shapes: x (N, C, H, W), w (O, C/groups, R, S), bias (O,) → (N, O, P, Q).
    """
    x, w, *biases = _floats("conv2d", input=x, weight=w, bias=bias)
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
    return y


@IEEE
def conv2d_input_grad(
    g: Array, w: Array, input_shape: Shape, stride: Pair, padding: Pair, dilation: Pair, groups: int
) -> Array:
    """What `conv2d` sends back to its input: each output's gradient, spread over its window by the weights."""
    g, w = _floats("conv2d_input_grad", grad=g, weight=w)
    shape = check_shape("conv2d_input_grad", "input_shape", input_shape)
    count = check_conv2d("conv2d_input_grad", shape, w.shape, stride, padding, dilation, groups, g_shape=g.shape)
    N, O = g.shape[:2]
    kernel_size = w.shape[2:]
    reach = _reach(count, kernel_size, stride, dilation)
    size = (max(reach[0], shape[2] + padding[0]), max(reach[1], shape[3] + padding[1]))
    x_grad = np.empty(shape, g.dtype)
    w_gok = w.reshape(groups, O // groups, -1) if w.size else np.zeros((groups, O // groups, 0), w.dtype)
    for block in _blocks(N, count[0] * count[1] * w_gok.shape[2] * groups):
        g_block = g[block]
        g_gno = g_block.reshape(-1, groups, O // groups, count[0] * count[1]).transpose(1, 0, 3, 2)
        columns = np.matmul(g_gno.reshape(groups, -1, O // groups), w_gok)
        columns = columns.reshape(groups, len(g_block), *count, w.shape[1], *kernel_size)
        framed = np.zeros((len(g_block), shape[1], *size), g.dtype)
        for _, r, s in _taps(kernel_size):
            tap = columns[..., r, s].transpose(1, 0, 4, 2, 3).reshape(len(g_block), shape[1], *count)
            view = _tap(framed, r, s, count, stride, dilation)
            view += tap
        x_grad[block] = framed[:, :, padding[0] : padding[0] + shape[2], padding[1] : padding[1] + shape[3]]
    return x_grad


@IEEE
def conv2d_weight_grad(
    g: Array, x: Array, weight_shape: Shape, stride: Pair, padding: Pair, dilation: Pair, groups: int
) -> Array:
    """What `conv2d` sends back to its weights: the images' windows, summed with the outputs' gradients as factors."""
    g, x = _floats("conv2d_weight_grad", grad=g, input=x)
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


def max_pool2d(
    x: Array, kernel_size: Pair, stride: Pair, padding: Pair, dilation: Pair, ceil_mode: bool
) -> tuple[Array, Array]:
    """Largest entry of each window, and the number of the tap that holds it, counted in row order.

    The first of equals wins, NaN wins over numbers, padding counts as −inf.
    """
    (x,) = _floats("max_pool2d", input=x)
    count = check_pool2d("max_pool2d", x.shape, kernel_size, stride, padding, dilation, ceil_mode)
    framed = _padded(x, _reach(count, kernel_size, stride, dilation), padding, -np.inf)
    # A window of −inf has its first tap inside the image as winner, so that a gradient never falls on the padding.
    first = [np.maximum(-((np.arange(count[i]) * stride[i] - padding[i]) // dilation[i]), 0) for i in (0, 1)]
    first = [np.where(first[i] < kernel_size[i], first[i], 0) for i in (0, 1)]
    start = first[0][:, None] * kernel_size[1] + first[1]
    offsets = np.broadcast_to(start, (*x.shape[:2], *count)).astype(offsets_dtype(kernel_size), order="C")
    y = np.full((*x.shape[:2], *count), -np.inf, x.dtype)
    for number, r, s in _taps(kernel_size):
        tap = _tap(framed, r, s, count, stride, dilation)
        wins = (tap > y) | np.isnan(tap)
        np.copyto(y, tap, where=wins)
        np.copyto(offsets, offsets.dtype.type(number), where=wins)
    return y, offsets


@IEEE
def max_pool2d_input_grad(
    g: Array, offsets: Array, input_shape: Shape, kernel_size: Pair, stride: Pair, padding: Pair, dilation: Pair
) -> Array:
    """Each window's gradient, added to the entry that won it."""
    op = "max_pool2d_input_grad"
    (g,) = _floats(op, grad=g)
    shape = check_shape(op, "input_shape", input_shape)
    check_pool2d_gradient(op, g.shape, shape, kernel_size, stride, padding, dilation)
    offsets = check_offsets(op, offsets, g.shape, kernel_size)
    count = (g.shape[2], g.shape[3])
    reach = _reach(count, kernel_size, stride, dilation)
    size = (max(reach[0], shape[2] + padding[0]), max(reach[1], shape[3] + padding[1]))
    framed = np.zeros((*shape[:2], *size), g.dtype)
    for number, r, s in _taps(kernel_size):
        view = _tap(framed, r, s, count, stride, dilation)
        np.add(view, g, out=view, where=offsets == number)
    return framed[:, :, padding[0] : padding[0] + shape[2], padding[1] : padding[1] + shape[3]].copy()


def max_pool2d_take(x: Array, offsets: Array, kernel_size: Pair, stride: Pair, padding: Pair, dilation: Pair) -> Array:
    """The entry of `x` that each window's offset names, and 0 where it names padding.

    This is the adjoint of `max_pool2d_input_grad`.
    """
    op = "max_pool2d_take"
    (x,) = _floats(op, input=x)
    offsets = as_array(op, "offsets", offsets)
    check_pool2d_gradient(op, offsets.shape, x.shape, kernel_size, stride, padding, dilation)
    offsets = check_offsets(op, offsets, offsets.shape, kernel_size)
    count = (offsets.shape[2], offsets.shape[3])
    framed = _padded(x, _reach(count, kernel_size, stride, dilation), padding, 0.0)
    y = np.zeros(offsets.shape, x.dtype)
    for number, r, s in _taps(kernel_size):
        np.copyto(y, _tap(framed, r, s, count, stride, dilation), where=offsets == number)
    return y


def _divisors(
    op: str,
    shape: Shape,
    kernel_size: Pair,
    stride: Pair,
    padding: Pair,
    ceil_mode: bool,
    count_include_pad: bool,
    divisor_override: int | None,
) -> tuple[Pair, Array]:
    """Output size of an average pooling, and what divides the sum of each window (P, Q)."""
    count = check_pool2d(op, shape, kernel_size, stride, padding, (1, 1), ceil_mode)
    if divisor_override is not None:
        if divisor_override == 0:
            raise RuntimeError(f"{op}(): expected divisor_override to be nonzero, got 0")
        return count, np.full(count, divisor_override)
    rows, columns = (
        [
            length
            for _, _, length in pool_divisors(
                shape[2 + i], kernel_size[i], stride[i], padding[i], count[i], count_include_pad
            )
        ]
        for i in (0, 1)
    )
    return count, np.outer(rows, columns)


@IEEE
def avg_pool2d(
    x: Array,
    kernel_size: Pair,
    stride: Pair,
    padding: Pair,
    ceil_mode: bool,
    count_include_pad: bool,
    divisor_override: int | None,
) -> Array:
    """Mean of each window. Padding counts as zeros, or not at all without `count_include_pad`."""
    (x,) = _floats("avg_pool2d", input=x)
    count, divisors = _divisors(
        "avg_pool2d", x.shape, kernel_size, stride, padding, ceil_mode, count_include_pad, divisor_override
    )
    framed = _padded(x, _reach(count, kernel_size, stride, (1, 1)), padding, 0.0)
    y = np.zeros((*x.shape[:2], *count), x.dtype)
    for _, r, s in _taps(kernel_size):
        y += _tap(framed, r, s, count, stride, (1, 1))
    y /= divisors.astype(x.dtype)
    return y


@IEEE
def avg_pool2d_input_grad(
    g: Array,
    input_shape: Shape,
    kernel_size: Pair,
    stride: Pair,
    padding: Pair,
    ceil_mode: bool,
    count_include_pad: bool,
    divisor_override: int | None,
) -> Array:
    """Each window's gradient, shared equally by its entries."""
    op = "avg_pool2d_input_grad"
    (g,) = _floats(op, grad=g)
    shape = check_shape(op, "input_shape", input_shape)
    count, divisors = _divisors(op, shape, kernel_size, stride, padding, ceil_mode, count_include_pad, divisor_override)
    if g.shape != (*shape[:2], *count):
        refuse_gradient(op, (*shape[:2], *count), shape, g.shape)
    share = g / divisors.astype(g.dtype)
    reach = _reach(count, kernel_size, stride, (1, 1))
    size = (max(reach[0], shape[2] + padding[0]), max(reach[1], shape[3] + padding[1]))
    framed = np.zeros((*shape[:2], *size), g.dtype)
    for _, r, s in _taps(kernel_size):
        view = _tap(framed, r, s, count, stride, (1, 1))
        view += share
    return framed[:, :, padding[0] : padding[0] + shape[2], padding[1] : padding[1] + shape[3]].copy()


def relu(x: Array) -> Array:
    """The larger of x and 0. NaN stays NaN."""
    (x,) = _floats("relu", input=x)
    return np.asarray(np.where(x < 0, x.dtype.type(0), x), order="C")


def relu_grad(g: Array, y: Array) -> Array:
    """g where y > 0 or y is NaN, else 0."""
    g, y = _floats("relu_grad", grad=g, result=y)
    check_same_shape("relu_grad", grad=g, result=y)
    return np.asarray(np.where(y <= 0, g.dtype.type(0), g), order="C")


@IEEE
def softmax(x: Array, axis: int) -> Array:
    """exp(x − max) / Σ exp(x − max) along `axis`."""
    (x,) = _floats("softmax", input=x)
    at = check_axis("softmax", axis, x.ndim) if x.ndim else None
    if x.size == 0:
        return np.empty(x.shape, x.dtype)
    y = np.exp(x - np.max(x, axis=at, keepdims=True))
    y /= np.sum(y, axis=at, keepdims=True)
    return np.asarray(y, order="C")


@IEEE
def log_softmax(x: Array, axis: int) -> Array:
    """x − max − log Σ exp(x − max) along `axis`."""
    (x,) = _floats("log_softmax", input=x)
    at = check_axis("log_softmax", axis, x.ndim) if x.ndim else None
    if x.size == 0:
        return np.empty(x.shape, x.dtype)
    shifted = np.asarray(x - np.max(x, axis=at, keepdims=True))
    shifted -= np.log(np.sum(np.exp(shifted), axis=at, keepdims=True))
    return np.asarray(shifted, order="C")


@IEEE
def softmax_grad(g: Array, y: Array, axis: int) -> Array:
    """(g − Σ g·y)·y along `axis`."""
    g, y = _floats("softmax_grad", grad=g, result=y)
    check_same_shape("softmax_grad", grad=g, result=y)
    at = check_axis("softmax_grad", axis, y.ndim) if y.ndim else None
    return np.asarray((g - np.sum(g * y, axis=at, keepdims=True)) * y, order="C")


@IEEE
def log_softmax_grad(g: Array, y: Array, axis: int) -> Array:
    """g − exp(y)·Σ g along `axis`."""
    g, y = _floats("log_softmax_grad", grad=g, result=y)
    check_same_shape("log_softmax_grad", grad=g, result=y)
    at = check_axis("log_softmax_grad", axis, y.ndim) if y.ndim else None
    return np.asarray(g - np.exp(y) * np.sum(g, axis=at, keepdims=True), order="C")
