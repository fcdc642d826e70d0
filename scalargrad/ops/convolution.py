"""Convolution of images, and its two gradients: three rows that are one another's derivatives."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from scalargrad import kernels, xp
from scalargrad.ops.arguments import array, pair
from scalargrad.ops.shape import shaping
from scalargrad.rules import Op


class convolving:
    """The rows. y = conv2d(x, w) is linear in x and in w, so that each gradient is again a row of this class.

    With d the gradient of y: ⟨d, conv2d(x, w)⟩ = ⟨x, conv2d_input_grad(d, w)⟩ = ⟨w, conv2d_weight_grad(d, x)⟩.
    """

    conv2d = Op(
        None,
        kernels.conv2d,
        "x w b stride padding dilation groups",
        lambda g, w, x_shape, stride, padding, dilation, groups: convolving.conv2d_input_grad(
            g, w, x_shape, stride, padding, dilation, groups
        ),
        lambda g, x, w_shape, stride, padding, dilation, groups: convolving.conv2d_weight_grad(
            g, x, w_shape, stride, padding, dilation, groups
        ),
        lambda g: convolving.sum_by_channel(g),
        name="convolution",
    )
    sum_by_channel: Op = Op(
        None,
        # For (64, 6, 28, 28) in 14 µs, where sum((0, 2, 3)) takes 43.
        xp.quiet(lambda x_nchw: np.einsum("nchw->c", x_nchw)),
        "x",
        lambda g, x_shape: shaping.expand(shaping.view(g, (x_shape[1], 1, 1)), x_shape),
        name="sum",
    )
    conv2d_input_grad: Op = Op(
        None,
        kernels.conv2d_input_grad,
        "d w shape stride padding dilation groups",
        lambda g, w, stride, padding, dilation, groups: convolving.conv2d(
            g, w, None, stride, padding, dilation, groups
        ),
        lambda g, d, w_shape, stride, padding, dilation, groups: convolving.conv2d_weight_grad(
            d, g, w_shape, stride, padding, dilation, groups
        ),
        name="convolution_backward",
    )
    conv2d_weight_grad: Op = Op(
        None,
        kernels.conv2d_weight_grad,
        "d x shape stride padding dilation groups",
        lambda g, x, stride, padding, dilation, groups: convolving.conv2d(
            x, g, None, stride, padding, dilation, groups
        ),
        lambda g, d, x_shape, stride, padding, dilation, groups: convolving.conv2d_input_grad(
            d, g, x_shape, stride, padding, dilation, groups
        ),
        name="convolution_backward",
    )


def conv2d(
    input: Any,
    weight: Any,
    bias: Any = None,
    stride: int | Sequence[int] = 1,
    padding: str | int | Sequence[int] = 0,
    dilation: int | Sequence[int] = 1,
    groups: int = 1,
) -> Any:
    """Cross-correlation of images with a bank of kernels.

    `padding` is a size, "valid" (none), or "same": as much as keeps the size, the odd row and column at the end.
    Shapes: input (N, C, H, W) or (C, H, W), weight (O, C / groups, R, S), bias (O) → (…, O, P, Q),
    P = (H + 2·padding − dilation·(R − 1) − 1) // stride + 1.
    Raises RuntimeError if sizes, channels or dtypes do not fit, or if the kernel is larger than the padded input.
    """
    ndim = array("conv2d", input).ndim
    array("conv2d", weight, "weight")
    stride, dilation = pair(stride, "conv2d", "stride"), pair(dilation, "conv2d", "dilation")
    if isinstance(padding, str):
        input, padding = _padded(input, weight, stride, padding, dilation)
    else:
        padding = pair(padding, "conv2d", "padding")
    if ndim != 3:
        return convolving.conv2d(input, weight, bias, stride, padding, dilation, groups)
    image = shaping.unsqueeze(input, 0)
    return shaping.squeeze(convolving.conv2d(image, weight, bias, stride, padding, dilation, groups), (0,))


def _padded(
    input: Any, weight: Any, stride: tuple[int, ...], padding: str, dilation: tuple[int, ...]
) -> tuple[Any, tuple[int, int]]:
    """The input and the size that a padding given by name amounts to."""
    if padding == "valid":
        return input, (0, 0)
    if padding != "same":
        raise RuntimeError(f"conv2d(): Invalid padding string: {padding!r}, expected 'valid' or 'same'")
    if tuple(stride) != (1, 1):
        raise RuntimeError(f"conv2d(): padding='same' is not supported for strided convolutions, got stride={stride}")
    if weight.ndim != 4 or input.ndim not in (3, 4):
        return input, (0, 0)  # the kernel says what is wrong with the shapes
    down, across = (dilation[i] * (weight.shape[2 + i] - 1) for i in (0, 1))
    if down % 2 or across % 2:
        before, after = [0] * input.ndim, [0] * input.ndim
        after[-2:] = [down % 2, across % 2]
        input = shaping.pad(input, before, after, 0.0)
    return input, (down // 2, across // 2)
