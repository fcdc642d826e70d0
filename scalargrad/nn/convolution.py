"""Convolution layers."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from scalargrad.creation import empty
from scalargrad.nn import functional as F
from scalargrad.nn import init
from scalargrad.nn.module import Module
from scalargrad.nn.parameter import Parameter
from scalargrad.ops.arguments import pair, single
from scalargrad.tensor import Tensor

Shape = tuple[int, ...]


class Convolution(Module):
    """What the layers have in common: channels in `groups`, sizes, weight and bias uniform in ±1 / √fan_in."""

    weight: Parameter
    bias: Parameter | None
    transposed = False

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        kernel_size: Shape,
        stride: Shape,
        padding: str | Shape,
        dilation: Shape,
        output_padding: Shape,
        groups: int,
        bias: bool,
        padding_mode: str,
        dtype: Any,
    ) -> None:
        super().__init__()
        if groups <= 0:
            raise ValueError("groups must be a positive integer")
        if in_channels % groups != 0:
            raise ValueError("in_channels must be divisible by groups")
        if out_channels % groups != 0:
            raise ValueError("out_channels must be divisible by groups")
        if padding_mode != "zeros":
            raise ValueError(
                f"padding_mode must be 'zeros', the only one there is, but got padding_mode={padding_mode!r}"
            )
        if isinstance(padding, str):
            if padding not in ("same", "valid"):
                raise ValueError(f"Invalid padding string {padding!r}, should be one of 'same', 'valid'")
            if padding == "same" and any(s != 1 for s in stride):
                raise ValueError("padding='same' is not supported for strided convolutions")
        self.in_channels, self.out_channels, self.groups = in_channels, out_channels, groups
        self.kernel_size, self.stride, self.padding, self.dilation = kernel_size, stride, padding, dilation
        self.output_padding, self.padding_mode = output_padding, padding_mode
        first, second = (in_channels, out_channels) if self.transposed else (out_channels, in_channels)
        self.weight = Parameter(empty(first, second // groups, *kernel_size, dtype=dtype))
        self.register_parameter("bias", Parameter(empty(out_channels, dtype=dtype)) if bias else None)
        self.reset_parameters()

    def reset_parameters(self) -> None:
        """Draw weight and bias anew."""
        init.reset_linear(self.weight, self.bias)

    def extra_repr(self) -> str:
        parts = [f"{self.in_channels}, {self.out_channels}, kernel_size={self.kernel_size}, stride={self.stride}"]
        if isinstance(self.padding, str) or any(self.padding):
            parts.append(f"padding={self.padding}")
        if any(d != 1 for d in self.dilation):
            parts.append(f"dilation={self.dilation}")
        if any(self.output_padding):
            parts.append(f"output_padding={self.output_padding}")
        if self.groups != 1:
            parts.append(f"groups={self.groups}")
        if self.bias is None:
            parts.append("bias=False")
        return ", ".join(parts)


class Conv1d(Convolution):
    """Cross-correlates signals with `out_channels` learned kernels. Weight and bias start uniform in ±1 / √fan_in.

    `padding` is a size, "valid" (none) or "same" (as much as keeps the size). With `groups`, the channels are split
    into as many parts that do not see each other.
    Shapes: input (N, C, L) or (C, L) → (…, O, Q), weight (O, C / groups, S), bias (O),
    Q = (L + 2·padding − dilation·(S − 1) − 1) // stride + 1.
    Raises ValueError for channels that `groups` does not divide, and for a padding or padding_mode that is none.
    """

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        kernel_size: int | Sequence[int],
        stride: int | Sequence[int] = 1,
        padding: str | int | Sequence[int] = 0,
        dilation: int | Sequence[int] = 1,
        groups: int = 1,
        bias: bool = True,
        padding_mode: str = "zeros",
        *,
        dtype: Any = None,
    ) -> None:
        super().__init__(
            in_channels,
            out_channels,
            single(kernel_size, "Conv1d", "kernel_size"),
            single(stride, "Conv1d", "stride"),
            padding if isinstance(padding, str) else single(padding, "Conv1d", "padding"),
            single(dilation, "Conv1d", "dilation"),
            (0,),
            groups,
            bias,
            padding_mode,
            dtype,
        )

    def forward(self, input: Tensor) -> Any:
        return F.conv1d(input, self.weight, self.bias, self.stride, self.padding, self.dilation, self.groups)


class Conv2d(Convolution):
    """Cross-correlates images with `out_channels` learned kernels. Weight and bias start uniform in ±1 / √fan_in.

    `padding` is a size or a pair, "valid" (none) or "same" (as much as keeps the size). With `groups`, the channels are
    split into as many parts that do not see each other.
    Shapes: input (N, C, H, W) or (C, H, W) → (…, O, P, Q), weight (O, C / groups, R, S), bias (O),
    P = (H + 2·padding − dilation·(R − 1) − 1) // stride + 1.
    Raises ValueError for channels that `groups` does not divide, and for a padding or padding_mode that is none.
    """

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        kernel_size: int | Sequence[int],
        stride: int | Sequence[int] = 1,
        padding: str | int | Sequence[int] = 0,
        dilation: int | Sequence[int] = 1,
        groups: int = 1,
        bias: bool = True,
        padding_mode: str = "zeros",
        *,
        dtype: Any = None,
    ) -> None:
        super().__init__(
            in_channels,
            out_channels,
            pair(kernel_size, "Conv2d", "kernel_size"),
            pair(stride, "Conv2d", "stride"),
            padding if isinstance(padding, str) else pair(padding, "Conv2d", "padding"),
            pair(dilation, "Conv2d", "dilation"),
            (0, 0),
            groups,
            bias,
            padding_mode,
            dtype,
        )

    def forward(self, input: Tensor) -> Any:
        return F.conv2d(input, self.weight, self.bias, self.stride, self.padding, self.dilation, self.groups)


class TransposedConvolution(Convolution):
    """What the transposed layers have in common: the output's size can be asked for in the call."""

    padding: Shape
    transposed = True

    def output_padding_for(self, input: Tensor, output_size: Sequence[int] | None) -> Shape:
        """The output padding that gives the output `output_size`, with the leading dimensions or without.

        Raises ValueError for a size that no output padding gives.
        """
        if output_size is None:
            return self.output_padding
        axes = len(self.stride)
        leading = input.ndim - axes
        if len(output_size) not in (axes, input.ndim):
            raise ValueError(
                f"{type(self).__name__}: for {input.ndim}D input, output_size must have {axes} or {input.ndim} "
                f"elements (got {len(output_size)})"
            )
        asked = tuple(output_size)[-axes:]
        least = [
            (input.shape[leading + i] - 1) * self.stride[i]
            - 2 * self.padding[i]
            + self.dilation[i] * (self.kernel_size[i] - 1)
            + 1
            for i in range(axes)
        ]
        for i in range(axes):
            if not least[i] <= asked[i] <= least[i] + self.stride[i] - 1:
                most = [n + s - 1 for n, s in zip(least, self.stride, strict=True)]
                raise ValueError(
                    f"requested an output size of {asked}, but valid sizes range from {least} to {most} "
                    f"(for an input of {tuple(input.shape[leading:])})"
                )
        return tuple(a - n for a, n in zip(asked, least, strict=True))


class ConvTranspose1d(TransposedConvolution):
    """The adjoint of Conv1d: every entry of the input spreads a learned kernel over the output.

    Weight and bias start uniform in ±1 / √fan_in, as PyTorch counts it: (O / groups)·S.
    Shapes: input (N, C, L) or (C, L) → (…, O, Q), weight (C, O / groups, S), bias (O),
    Q = (L − 1)·stride − 2·padding + dilation·(S − 1) + output_padding + 1.
    Raises ValueError for channels that `groups` does not divide, for a padding_mode that is none, and in a call for an
    `output_size` that cannot be.
    """

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        kernel_size: int | Sequence[int],
        stride: int | Sequence[int] = 1,
        padding: int | Sequence[int] = 0,
        output_padding: int | Sequence[int] = 0,
        groups: int = 1,
        bias: bool = True,
        dilation: int | Sequence[int] = 1,
        padding_mode: str = "zeros",
        *,
        dtype: Any = None,
    ) -> None:
        super().__init__(
            in_channels,
            out_channels,
            single(kernel_size, "ConvTranspose1d", "kernel_size"),
            single(stride, "ConvTranspose1d", "stride"),
            single(padding, "ConvTranspose1d", "padding"),
            single(dilation, "ConvTranspose1d", "dilation"),
            single(output_padding, "ConvTranspose1d", "output_padding"),
            groups,
            bias,
            padding_mode,
            dtype,
        )

    def forward(self, input: Tensor, output_size: Sequence[int] | None = None) -> Any:
        output_padding = self.output_padding_for(input, output_size)
        sizes = (self.stride, self.padding, output_padding, self.groups, self.dilation)
        return F.conv_transpose1d(input, self.weight, self.bias, *sizes)


class ConvTranspose2d(TransposedConvolution):
    """The adjoint of Conv2d: every entry of the input spreads a learned kernel over the output.

    Weight and bias start uniform in ±1 / √fan_in, as PyTorch counts it: (O / groups)·R·S.
    Shapes: input (N, C, H, W) or (C, H, W) → (…, O, P, Q), weight (C, O / groups, R, S), bias (O),
    P = (H − 1)·stride − 2·padding + dilation·(R − 1) + output_padding + 1.
    Raises ValueError for channels that `groups` does not divide, for a padding_mode that is none, and in a call for an
    `output_size` that cannot be.
    """

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        kernel_size: int | Sequence[int],
        stride: int | Sequence[int] = 1,
        padding: int | Sequence[int] = 0,
        output_padding: int | Sequence[int] = 0,
        groups: int = 1,
        bias: bool = True,
        dilation: int | Sequence[int] = 1,
        padding_mode: str = "zeros",
        *,
        dtype: Any = None,
    ) -> None:
        super().__init__(
            in_channels,
            out_channels,
            pair(kernel_size, "ConvTranspose2d", "kernel_size"),
            pair(stride, "ConvTranspose2d", "stride"),
            pair(padding, "ConvTranspose2d", "padding"),
            pair(dilation, "ConvTranspose2d", "dilation"),
            pair(output_padding, "ConvTranspose2d", "output_padding"),
            groups,
            bias,
            padding_mode,
            dtype,
        )

    def forward(self, input: Tensor, output_size: Sequence[int] | None = None) -> Any:
        output_padding = self.output_padding_for(input, output_size)
        sizes = (self.stride, self.padding, output_padding, self.groups, self.dilation)
        return F.conv_transpose2d(input, self.weight, self.bias, *sizes)
