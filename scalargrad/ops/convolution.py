"""Convolution of images, its two gradients, and transposed convolution: rows that are one another's derivatives.

Signals are images of height 1: `conv1d` and `conv_transpose1d` are the same rows under a view.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from scalargrad import fusion, kernels
from scalargrad.kernels.geometry import check_conv, check_conv_transpose
from scalargrad.operation import Op
from scalargrad.ops.arguments import pair, rank, single
from scalargrad.ops.shape import shaping

Array = np.ndarray[Any, np.dtype[Any]]
Shape = tuple[int, ...]


def _conv_transpose2d(
    x: Array, w: Array, b: Array | None, shape: Shape, stride: Shape, padding: Shape, dilation: Shape, groups: int
) -> Array:
    """What a convolution of images of `shape` would send back to them, x being the gradient; plus a bias."""
    y = kernels.conv2d_input_grad(x, w, shape, stride, padding, dilation, groups)  # type: ignore[arg-type]
    if b is not None:
        y += b[:, None, None]
    return y


class convolving:
    """The rows. y = conv2d(x, w) is linear in x and in w, so that each gradient is again a row of this class.

    With d the gradient of y: ⟨d, conv2d(x, w)⟩ = ⟨x, conv2d_input_grad(d, w)⟩ = ⟨w, conv2d_weight_grad(d, x)⟩.
    """

    conv2d = Op(
        None,
        fusion.conv2d,
        "x w b stride padding dilation groups",
        lambda g, w, x_shape, stride, padding, dilation, groups: convolving.conv2d_input_grad(
            g, w, x_shape, stride, padding, dilation, groups
        ),
        lambda g, x, w_shape, stride, padding, dilation, groups: convolving.conv2d_weight_grad(
            g, x, w_shape, stride, padding, dilation, groups
        ),
        lambda g: convolving.sum_by_channel(g),
        gradients=fusion.conv2d_gradients,
        name="convolution",
        takes_pending=True,
    )
    sum_by_channel: Op = Op(
        None,
        kernels.sum_by_channel,
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
    conv_transpose2d: Op = Op(
        None,
        _conv_transpose2d,
        "x w b shape stride padding dilation groups",
        lambda g, w, stride, padding, dilation, groups: convolving.conv2d(
            g, w, None, stride, padding, dilation, groups
        ),
        lambda g, x, w_shape, stride, padding, dilation, groups: convolving.conv2d_weight_grad(
            x, g, w_shape, stride, padding, dilation, groups
        ),
        lambda g: convolving.sum_by_channel(g),
        name="convolution",
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
    ndim = rank("conv2d", input)
    rank("conv2d", weight, "weight")
    if bias is not None:
        rank("conv2d", bias, "bias")
    stride, dilation = pair(stride, "conv2d", "stride"), pair(dilation, "conv2d", "dilation")
    if isinstance(padding, str):
        input, padding = _padded("conv2d", input, weight, stride, padding, dilation)
    else:
        padding = pair(padding, "conv2d", "padding")
    if ndim != 3:
        return convolving.conv2d(input, weight, bias, stride, padding, dilation, groups)
    image = shaping.unsqueeze(input, 0)
    return shaping.squeeze(convolving.conv2d(image, weight, bias, stride, padding, dilation, groups), (0,))


def conv1d(
    input: Any,
    weight: Any,
    bias: Any = None,
    stride: int | Sequence[int] = 1,
    padding: str | int | Sequence[int] = 0,
    dilation: int | Sequence[int] = 1,
    groups: int = 1,
) -> Any:
    """Cross-correlation of signals with a bank of kernels.

    `padding` is a size, "valid" (none), or "same": as much as keeps the size, the odd number at the end.
    Shapes: input (N, C, L) or (C, L), weight (O, C / groups, S), bias (O) → (…, O, Q),
    Q = (L + 2·padding − dilation·(S − 1) − 1) // stride + 1.
    Raises RuntimeError if sizes, channels or dtypes do not fit, or if the kernel is larger than the padded input.
    """
    ndim = rank("conv1d", input)
    rank("conv1d", weight, "weight")
    stride, dilation = single(stride, "conv1d", "stride"), single(dilation, "conv1d", "dilation")
    if isinstance(padding, str):
        input, padding = _padded("conv1d", input, weight, stride, padding, dilation)
    else:
        padding = single(padding, "conv1d", "padding")
    if ndim == 2:
        input = shaping.unsqueeze(input, 0)
    shapes = (tuple(input.shape), tuple(weight.shape))
    check_conv("conv1d", *shapes, stride, padding, dilation, groups, _bias_shape("conv1d", bias))
    images, kernel = shaping.unsqueeze(input, 2), shaping.unsqueeze(weight, 2)
    y = convolving.conv2d(images, kernel, bias, (1, *stride), (0, *padding), (1, *dilation), groups)
    return shaping.squeeze(y, tuple([0, 2] if ndim == 2 else [2]))


def conv_transpose2d(
    input: Any,
    weight: Any,
    bias: Any = None,
    stride: int | Sequence[int] = 1,
    padding: int | Sequence[int] = 0,
    output_padding: int | Sequence[int] = 0,
    groups: int = 1,
    dilation: int | Sequence[int] = 1,
) -> Any:
    """The adjoint of `conv2d`: every entry of the input spreads the kernel over the output.

    `output_padding` adds rows and columns at the end, to choose among the sizes that `conv2d` takes to the input's.
    Shapes: input (N, C, H, W) or (C, H, W), weight (C, O / groups, R, S), bias (O) → (…, O, P, Q),
    P = (H − 1)·stride − 2·padding + dilation·(R − 1) + output_padding + 1.
    Raises RuntimeError if sizes, channels or dtypes do not fit.
    """
    op = "conv_transpose2d"
    ndim = rank(op, input)
    rank(op, weight, "weight")
    if ndim == 3:
        input = shaping.unsqueeze(input, 0)
    sizes = (pair(stride, op, "stride"), pair(padding, op, "padding"), pair(output_padding, op, "output_padding"))
    y = _transposed(op, input, weight, bias, *sizes, pair(dilation, op, "dilation"), groups)
    return shaping.squeeze(y, (0,)) if ndim == 3 else y


def conv_transpose1d(
    input: Any,
    weight: Any,
    bias: Any = None,
    stride: int | Sequence[int] = 1,
    padding: int | Sequence[int] = 0,
    output_padding: int | Sequence[int] = 0,
    groups: int = 1,
    dilation: int | Sequence[int] = 1,
) -> Any:
    """The adjoint of `conv1d`: every entry of the input spreads the kernel over the output.

    Shapes: input (N, C, L) or (C, L), weight (C, O / groups, S), bias (O) → (…, O, Q),
    Q = (L − 1)·stride − 2·padding + dilation·(S − 1) + output_padding + 1.
    Raises RuntimeError if sizes, channels or dtypes do not fit.
    """
    op = "conv_transpose1d"
    ndim = rank(op, input)
    rank(op, weight, "weight")
    if ndim == 2:
        input = shaping.unsqueeze(input, 0)
    sizes = (single(stride, op, "stride"), single(padding, op, "padding"), single(output_padding, op, "output_padding"))
    y = _transposed(op, input, weight, bias, *sizes, single(dilation, op, "dilation"), groups)
    return shaping.squeeze(y, (0,)) if ndim == 2 else y


def _transposed(
    op: str,
    input: Any,
    weight: Any,
    bias: Any,
    stride: Shape,
    padding: Shape,
    output_padding: Shape,
    dilation: Shape,
    groups: int,
) -> Any:
    """Transposed convolution of images or, with sizes of one number, of signals."""
    sizes = (stride, padding, output_padding, dilation)
    shape = check_conv_transpose(op, tuple(input.shape), tuple(weight.shape), _bias_shape(op, bias), *sizes, groups)
    # An output padding that the stride does not hold, which a dilation allows, is room for windows: they see zeros.
    beyond = [0, 0, *(o // s for o, s in zip(output_padding, stride, strict=True))]
    if any(beyond):
        input = shaping.pad(input, [0] * input.ndim, beyond, 0.0)
    if len(stride) == 2:
        return convolving.conv_transpose2d(input, weight, bias, shape, stride, padding, dilation, groups)
    images, kernel = shaping.unsqueeze(input, 2), shaping.unsqueeze(weight, 2)
    shape = (*shape[:2], 1, *shape[2:])
    y = convolving.conv_transpose2d(images, kernel, bias, shape, (1, *stride), (0, *padding), (1, *dilation), groups)
    return shaping.squeeze(y, (2,))


def _bias_shape(op: str, bias: Any) -> Shape | None:
    if bias is None:
        return None
    rank(op, bias, "bias")
    return tuple(bias.shape)


def _padded(op: str, input: Any, weight: Any, stride: Shape, padding: str, dilation: Shape) -> tuple[Any, Shape]:
    """The input and the size that a padding given by name amounts to."""
    axes = len(stride)
    if padding == "valid":
        return input, (0,) * axes
    if padding != "same":
        raise RuntimeError(f"{op}(): Invalid padding string: {padding!r}, expected 'valid' or 'same'")
    if any(s != 1 for s in stride):
        raise RuntimeError(f"{op}(): padding='same' is not supported for strided convolutions, got stride={stride}")
    if weight.ndim != axes + 2 or input.ndim not in (axes + 1, axes + 2):
        return input, (0,) * axes  # the kernel says what is wrong with the shapes
    total = [d * (k - 1) for d, k in zip(dilation, weight.shape[2:], strict=True)]
    if any(t % 2 for t in total):
        before, after = [0] * input.ndim, [0] * input.ndim
        after[-axes:] = [t % 2 for t in total]
        input = shaping.pad(input, before, after, 0.0)
    return input, tuple(t // 2 for t in total)
