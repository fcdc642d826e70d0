"""Pooling: the largest entry or the mean of each window of an image."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from scalargrad import fusion, kernels
from scalargrad.operation import Op
from scalargrad.ops.arguments import pair, rank
from scalargrad.ops.shape import shaping

Pair = tuple[int, int]


def _positions(
    x: Any, offsets: Any, kernel_size: Pair, stride: Pair, padding: Pair, dilation: Pair
) -> np.ndarray[Any, np.dtype[np.int64]]:
    """Where in its image the winner of each window stands, counted in row order, from its number in the window."""
    offsets = fusion.offsets_of(offsets)
    r, s = np.divmod(offsets.astype(np.int64), kernel_size[1])
    P, Q = offsets.shape[2:]
    rows = (np.arange(P) * stride[0] - padding[0])[:, None] + r * dilation[0]
    columns = np.arange(Q) * stride[1] - padding[1] + s * dilation[1]
    return np.asarray(rows * x.shape[3] + columns)


def _take(x: Any, positions: Any) -> Any:
    flat = x.reshape(*x.shape[:2], x.shape[2] * x.shape[3])
    n_windows = positions.shape[2] * positions.shape[3]
    return np.take_along_axis(flat, positions.reshape(*x.shape[:2], n_windows), 2).reshape(positions.shape)


class pooling:
    """The rows. Each is linear, or picks; the adjoint of a sum over windows spreads, that of a pick puts back."""

    max_pool2d = Op(
        None,
        fusion.max_pool2d,
        "x kernel_size stride padding dilation ceil_mode",
        lambda g, offsets, x_shape, kernel_size, stride, padding, dilation: pooling.max_pool2d_input_grad(
            g, offsets, x_shape, kernel_size, stride, padding, dilation
        ),
        gradients=fusion.max_pool2d_gradients,
        results="y offsets",
        name="max_pool2d_with_indices",
        takes_pending=True,
    )
    max_pool2d_input_grad: Op = Op(
        None,
        fusion.max_pool2d_input_grad,
        "d offsets shape kernel_size stride padding dilation",
        lambda g, offsets, kernel_size, stride, padding, dilation: pooling.max_pool2d_take(
            g, offsets, kernel_size, stride, padding, dilation
        ),
        name="max_pool2d_with_indices_backward",
    )
    max_pool2d_take: Op = Op(
        None,
        fusion.max_pool2d_take,
        "x offsets kernel_size stride padding dilation",
        lambda g, offsets, x_shape, kernel_size, stride, padding, dilation: pooling.max_pool2d_input_grad(
            g, offsets, x_shape, kernel_size, stride, padding, dilation
        ),
    )
    max_pool2d_positions = Op(None, _positions, "x offsets kernel_size stride padding dilation")
    avg_pool2d = Op(
        None,
        kernels.avg_pool2d,
        "x kernel_size stride padding ceil_mode count_include_pad divisor_override",
        lambda g, x_shape, kernel_size, stride, padding, ceil_mode, count_include_pad, divisor_override: (
            pooling.avg_pool2d_input_grad(
                g, x_shape, kernel_size, stride, padding, ceil_mode, count_include_pad, divisor_override
            )
        ),
    )
    avg_pool2d_input_grad: Op = Op(
        None,
        kernels.avg_pool2d_input_grad,
        "d shape kernel_size stride padding ceil_mode count_include_pad divisor_override",
        lambda g, kernel_size, stride, padding, ceil_mode, count_include_pad, divisor_override: pooling.avg_pool2d(
            g, kernel_size, stride, padding, ceil_mode, count_include_pad, divisor_override
        ),
        name="avg_pool2d_backward",
    )
    adaptive_avg_pool2d = Op(
        None,
        kernels.adaptive_avg_pool2d,
        "x output_size",
        lambda g, x_shape: pooling.adaptive_avg_pool2d_input_grad(g, x_shape),
    )
    adaptive_avg_pool2d_input_grad: Op = Op(
        None,
        kernels.adaptive_avg_pool2d_input_grad,
        "d shape",
        lambda g, d_shape: pooling.adaptive_avg_pool2d(g, d_shape[2:]),
        name="adaptive_avg_pool2d_backward",
    )
    adaptive_max_pool2d = Op(
        None,
        kernels.adaptive_max_pool2d,
        "x output_size",
        lambda g, positions, x_shape: pooling.adaptive_max_pool2d_input_grad(g, positions, x_shape),
        results="y positions",
    )
    adaptive_max_pool2d_input_grad: Op = Op(
        None,
        kernels.adaptive_max_pool2d_input_grad,
        "d positions shape",
        lambda g, positions: pooling.adaptive_max_pool2d_take(g, positions),
        name="adaptive_max_pool2d_backward",
    )
    adaptive_max_pool2d_take: Op = Op(
        None,
        _take,
        "x positions",
        lambda g, positions, x_shape: pooling.adaptive_max_pool2d_input_grad(g, positions, x_shape),
    )
    adaptive_max_pool2d_positions = Op(None, lambda x, positions: positions.copy(), "x positions")


def _images(operation: str, input: Any) -> Any:
    """The input as a batch of images, none of them empty: a single one counts as a batch of one."""
    ndim, shape = rank(operation, input), input.shape
    if ndim not in (3, 4) or (0 in shape and 0 in shape[-3:]):
        raise RuntimeError(
            f"{operation}(): Expected 3D or 4D (batch mode) tensor with optional 0 dim batch size for input, but got "
            f"shape {tuple(shape)}"
        )
    return input if ndim == 4 else shaping.unsqueeze(input, 0)


def max_pool2d(
    input: Any,
    kernel_size: int | Sequence[int],
    stride: int | Sequence[int] | None = None,
    padding: int | Sequence[int] = 0,
    dilation: int | Sequence[int] = 1,
    ceil_mode: bool = False,
    return_indices: bool = False,
) -> Any:
    """Largest entry of each window; with `return_indices` also where in its image it stands, counted in row order.

    Shapes: input (N, C, H, W) or (C, H, W) → (…, P, Q), P = (H + 2·padding − dilation·(kernel − 1) − 1) // stride + 1;
    with `ceil_mode` a last window may hang over the end. `stride` is the kernel's size unless given.
    Ties: the gradient goes to the first entry in row order. NaN wins over numbers. Padding counts as −inf.
    Raises RuntimeError if padding exceeds half the kernel, or an image or the output would be empty.
    """
    images = _images("max_pool2d", input)
    size = pair(kernel_size, "max_pool2d", "kernel_size")
    step = size if stride is None or stride == [] else pair(stride, "max_pool2d", "stride")
    frame, spread = pair(padding, "max_pool2d", "padding"), pair(dilation, "max_pool2d", "dilation")
    y, offsets = pooling.max_pool2d(images, size, step, frame, spread, ceil_mode)
    if not return_indices:
        return y if images is input else shaping.squeeze(y, (0,))
    indices = pooling.max_pool2d_positions(images, offsets, size, step, frame, spread)
    return (y, indices) if images is input else (shaping.squeeze(y, (0,)), shaping.squeeze(indices, (0,)))


def avg_pool2d(
    input: Any,
    kernel_size: int | Sequence[int],
    stride: int | Sequence[int] | None = None,
    padding: int | Sequence[int] = 0,
    ceil_mode: bool = False,
    count_include_pad: bool = True,
    divisor_override: int | None = None,
) -> Any:
    """Mean of each window: its sum over `divisor_override`, or else over the number of positions that it covers.

    Padding is zeros, and counts as positions unless `count_include_pad` is False; what `ceil_mode` adds never counts.
    Shapes: as `max_pool2d`.
    Raises RuntimeError if padding exceeds half the kernel, an image or the output would be empty, or the divisor is 0.
    """
    images = _images("avg_pool2d", input)
    size = pair(kernel_size, "avg_pool2d", "kernel_size")
    step = size if stride is None or stride == [] else pair(stride, "avg_pool2d", "stride")
    frame = pair(padding, "avg_pool2d", "padding")
    y = pooling.avg_pool2d(images, size, step, frame, ceil_mode, count_include_pad, divisor_override)
    return y if images is input else shaping.squeeze(y, (0,))


def _adaptive_size(operation: str, images: Any, output_size: int | Sequence[int | None] | None) -> Pair:
    """(P, Q), where None keeps the input's size."""
    shape = images.shape
    wanted = list(output_size) if isinstance(output_size, Sequence) else [output_size] * 2
    if len(wanted) != 2:
        raise RuntimeError(f"{operation}(): output_size must be one integer or two, got {output_size}")
    P, Q = pair([n if w is None else w for w, n in zip(wanted, shape[2:], strict=True)], operation, "output_size")
    if P < 0 or Q < 0:
        raise RuntimeError(f"{operation}(): elements of output_size must be greater than or equal to 0, got {(P, Q)}")
    return P, Q


def adaptive_avg_pool2d(input: Any, output_size: int | Sequence[int | None] | None) -> Any:
    """Mean of each of P · Q windows: window p of P over H rows goes from ⌊p·H / P⌋ up to ⌈(p + 1)·H / P⌉.

    Shapes: input (N, C, H, W) or (C, H, W) → (…, P, Q) for output_size (P, Q); None keeps the input's size.
    Raises RuntimeError for an image of no entries or channels.
    """
    images = _images("adaptive_avg_pool2d", input)
    y = pooling.adaptive_avg_pool2d(images, _adaptive_size("adaptive_avg_pool2d", images, output_size))
    return y if images is input else shaping.squeeze(y, (0,))


def adaptive_max_pool2d(
    input: Any, output_size: int | Sequence[int | None] | None, return_indices: bool = False
) -> Any:
    """Largest entry of each window of `adaptive_avg_pool2d`; with `return_indices` also where in its image it stands.

    Ties: the gradient goes to the first entry in row order. NaN wins over numbers.
    Raises RuntimeError for an image of no entries or channels.
    """
    images = _images("adaptive_max_pool2d", input)
    y, positions = pooling.adaptive_max_pool2d(images, _adaptive_size("adaptive_max_pool2d", images, output_size))
    y = y if images is input else shaping.squeeze(y, (0,))
    if not return_indices:
        return y
    return y, pooling.adaptive_max_pool2d_positions(images, positions if images is input else positions[0])
