"""Pooling in plain NumPy: `max_pool2d` with and without relu, `avg_pool2d`, the adaptive ones, and their gradients."""

from __future__ import annotations

import numpy as np

from .geometry import (
    Array,
    Pair,
    Shape,
    adaptive_windows,
    as_array,
    check_adaptive_pool2d,
    check_adaptive_pool2d_gradient,
    check_offsets,
    check_pool2d,
    check_pool2d_gradient,
    check_positions,
    check_shape,
    offsets_dtype,
    pool_divisors,
    refuse_gradient,
)
from .plain_windows import IEEE, floats, padded, reach_of, tap_of, taps_of


def max_pool2d(
    x: Array, kernel_size: Pair, stride: Pair, padding: Pair, dilation: Pair, ceil_mode: bool
) -> tuple[Array, Array]:
    """Largest entry of each window, and the number of the tap that holds it, counted in row order.

    The first of equals wins, NaN wins over numbers, padding counts as −inf.
    """
    return _max_pool2d("max_pool2d", x, kernel_size, stride, padding, dilation, ceil_mode)


def _max_pool2d(
    op: str, x: Array, kernel_size: Pair, stride: Pair, padding: Pair, dilation: Pair, ceil_mode: bool
) -> tuple[Array, Array]:
    (x,) = floats(op, input=x)
    count = check_pool2d(op, x.shape, kernel_size, stride, padding, dilation, ceil_mode)
    framed = padded(x, reach_of(count, kernel_size, stride, dilation), padding, -np.inf)
    # A window of −inf has its first tap inside the image as winner, so that a gradient never falls on the padding.
    first = [np.maximum(-((np.arange(count[i]) * stride[i] - padding[i]) // dilation[i]), 0) for i in (0, 1)]
    first = [np.where(first[i] < kernel_size[i], first[i], 0) for i in (0, 1)]
    start = first[0][:, None] * kernel_size[1] + first[1]
    offsets = np.broadcast_to(start, (*x.shape[:2], *count)).astype(offsets_dtype(kernel_size), order="C")
    y = np.full((*x.shape[:2], *count), -np.inf, x.dtype)
    for number, r, s in taps_of(kernel_size):
        tap = tap_of(framed, r, s, count, stride, dilation)
        wins = (tap > y) | np.isnan(tap)
        np.copyto(y, tap, where=wins)
        np.copyto(offsets, offsets.dtype.type(number), where=wins)
    return y, offsets


def relu_max_pool2d(
    x: Array, kernel_size: Pair, stride: Pair, padding: Pair, dilation: Pair, ceil_mode: bool
) -> tuple[Array, Array]:
    """`max_pool2d` of relu(x). Where the result is not positive, the offset is kernel_size[0] · kernel_size[1].

    No tap has that number, so `max_pool2d_input_grad` sends no gradient there, and what it sends is x's: relu'(0) = 0.
    Such a result is +0, and −inf only where a window is all padding.
    """
    op = "relu_max_pool2d"
    (x,) = floats(op, input=x)
    # Added to 0, −0 is 0.
    y, offsets = _max_pool2d(op, np.where(x < 0, 0, x) + 0, kernel_size, stride, padding, dilation, ceil_mode)
    offsets[y <= 0] = kernel_size[0] * kernel_size[1]
    return y, offsets


@IEEE
def max_pool2d_input_grad(
    g: Array, offsets: Array, input_shape: Shape, kernel_size: Pair, stride: Pair, padding: Pair, dilation: Pair
) -> Array:
    """Each window's gradient, added to the entry that won it; none where the offset is no tap's number."""
    op = "max_pool2d_input_grad"
    (g,) = floats(op, grad=g)
    shape = check_shape(op, "input_shape", input_shape)
    check_pool2d_gradient(op, g.shape, shape, kernel_size, stride, padding, dilation)
    offsets = check_offsets(op, offsets, g.shape, kernel_size)
    count = (g.shape[2], g.shape[3])
    reach = reach_of(count, kernel_size, stride, dilation)
    size = (max(reach[0], shape[2] + padding[0]), max(reach[1], shape[3] + padding[1]))
    framed = np.zeros((*shape[:2], *size), g.dtype)
    for number, r, s in taps_of(kernel_size):
        view = tap_of(framed, r, s, count, stride, dilation)
        np.add(view, g, out=view, where=offsets == number)
    return framed[:, :, padding[0] : padding[0] + shape[2], padding[1] : padding[1] + shape[3]].copy()


def max_pool2d_take(x: Array, offsets: Array, kernel_size: Pair, stride: Pair, padding: Pair, dilation: Pair) -> Array:
    """The entry of `x` that each window's offset names, and 0 where it names padding or no tap.

    This is the adjoint of `max_pool2d_input_grad`.
    """
    op = "max_pool2d_take"
    (x,) = floats(op, input=x)
    offsets = as_array(op, "offsets", offsets)
    check_pool2d_gradient(op, offsets.shape, x.shape, kernel_size, stride, padding, dilation)
    offsets = check_offsets(op, offsets, offsets.shape, kernel_size)
    count = (offsets.shape[2], offsets.shape[3])
    framed = padded(x, reach_of(count, kernel_size, stride, dilation), padding, 0.0)
    y = np.zeros(offsets.shape, x.dtype)
    for number, r, s in taps_of(kernel_size):
        np.copyto(y, tap_of(framed, r, s, count, stride, dilation), where=offsets == number)
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
    (x,) = floats("avg_pool2d", input=x)
    count, divisors = _divisors(
        "avg_pool2d", x.shape, kernel_size, stride, padding, ceil_mode, count_include_pad, divisor_override
    )
    framed = padded(x, reach_of(count, kernel_size, stride, (1, 1)), padding, 0.0)
    y = np.zeros((*x.shape[:2], *count), x.dtype)
    for r in range(kernel_size[0]):
        # A sum of the rows' sums keeps large windows accurate.
        row = np.zeros_like(y)
        for s in range(kernel_size[1]):
            row += tap_of(framed, r, s, count, stride, (1, 1))
        y += row
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
    (g,) = floats(op, grad=g)
    shape = check_shape(op, "input_shape", input_shape)
    count, divisors = _divisors(op, shape, kernel_size, stride, padding, ceil_mode, count_include_pad, divisor_override)
    if g.shape != (*shape[:2], *count):
        refuse_gradient(op, (*shape[:2], *count), shape, g.shape)
    share = g / divisors.astype(g.dtype)
    reach = reach_of(count, kernel_size, stride, (1, 1))
    size = (max(reach[0], shape[2] + padding[0]), max(reach[1], shape[3] + padding[1]))
    framed = np.zeros((*shape[:2], *size), g.dtype)
    for _, r, s in taps_of(kernel_size):
        view = tap_of(framed, r, s, count, stride, (1, 1))
        view += share
    return framed[:, :, padding[0] : padding[0] + shape[2], padding[1] : padding[1] + shape[3]].copy()


@IEEE
def adaptive_avg_pool2d(x: Array, output_size: Pair) -> Array:
    """Mean of each of P · Q windows: window p of P over H rows goes from ⌊p·H / P⌋ up to ⌈(p + 1)·H / P⌉.

    Shapes: x (N, C, H, W), none of C, H, W zero, output_size (P, Q) → (N, C, P, Q).
    """
    op = "adaptive_avg_pool2d"
    (x,) = floats(op, input=x)
    P, Q = check_adaptive_pool2d(op, x.shape, output_size)
    rows = np.empty((*x.shape[:2], P, x.shape[3]), x.dtype)
    y = np.empty((*x.shape[:2], P, Q), x.dtype)
    heights = np.empty(P, x.dtype)
    for p, (start, stop) in enumerate(adaptive_windows(x.shape[2], P)):
        rows[:, :, p] = x[:, :, start:stop].sum(2)
        heights[p] = stop - start
    for q, (start, stop) in enumerate(adaptive_windows(x.shape[3], Q)):
        y[..., q] = rows[..., start:stop].sum(3) / (heights * (stop - start))
    return y


@IEEE
def adaptive_avg_pool2d_input_grad(g: Array, input_shape: Shape) -> Array:
    """Each window's gradient, shared equally by its entries."""
    op = "adaptive_avg_pool2d_input_grad"
    (g,) = floats(op, grad=g)
    shape = check_shape(op, "input_shape", input_shape)
    check_adaptive_pool2d_gradient(op, g.shape, shape)
    rows = np.zeros((*shape[:2], g.shape[2], shape[3]), g.dtype)
    x_grad = np.zeros(shape, g.dtype)
    for q, (start, stop) in enumerate(adaptive_windows(shape[3], g.shape[3])):
        rows[..., start:stop] += (g[..., q] / (stop - start))[..., None]
    for p, (start, stop) in enumerate(adaptive_windows(shape[2], g.shape[2])):
        x_grad[:, :, start:stop] += (rows[:, :, p] / (stop - start))[:, :, None]
    return x_grad


def adaptive_max_pool2d(x: Array, output_size: Pair) -> tuple[Array, Array]:
    """Largest entry of each window of `adaptive_avg_pool2d`, and its position in the image, counted in row order.

    The first of equals wins, NaN wins over numbers, the last NaN over others.
    """
    op = "adaptive_max_pool2d"
    (x,) = floats(op, input=x)
    P, Q = check_adaptive_pool2d(op, x.shape, output_size)
    y, positions = np.empty((*x.shape[:2], P, Q), x.dtype), np.empty((*x.shape[:2], P, Q), np.int64)
    for p, (top, bottom) in enumerate(adaptive_windows(x.shape[2], P)):
        for q, (left, right) in enumerate(adaptive_windows(x.shape[3], Q)):
            window = x[:, :, top:bottom, left:right].reshape(*x.shape[:2], (bottom - top) * (right - left))
            winner = window.argmax(2) if window.size else np.zeros(x.shape[:2], np.int64)
            nan = np.isnan(window)
            if nan.any():
                winner = np.where(nan.any(2), window.shape[2] - 1 - nan[..., ::-1].argmax(2), winner)
            r, s = np.divmod(winner, right - left)
            y[:, :, p, q] = np.take_along_axis(window, winner[..., None], 2)[..., 0]
            positions[:, :, p, q] = (top + r) * x.shape[3] + left + s
    return y, positions


@IEEE
def adaptive_max_pool2d_input_grad(g: Array, positions: Array, input_shape: Shape) -> Array:
    """Each window's gradient, added to the entry at its position; none where that lies outside the window."""
    op = "adaptive_max_pool2d_input_grad"
    (g,) = floats(op, grad=g)
    shape = check_shape(op, "input_shape", input_shape)
    check_adaptive_pool2d_gradient(op, g.shape, shape)
    positions = check_positions(op, positions, g.shape)
    x_grad = np.zeros(shape, g.dtype)
    rows, columns = np.divmod(positions, shape[3])
    n, c = np.ogrid[: shape[0], : shape[1]]
    for p, (top, bottom) in enumerate(adaptive_windows(shape[2], g.shape[2])):
        for q, (left, right) in enumerate(adaptive_windows(shape[3], g.shape[3])):
            h, w = rows[:, :, p, q], columns[:, :, p, q]
            inside = (top <= h) & (h < bottom) & (left <= w) & (w < right)
            x_grad[n, c, np.where(inside, h, top), np.where(inside, w, left)] += np.where(inside, g[:, :, p, q], 0)
    return x_grad
