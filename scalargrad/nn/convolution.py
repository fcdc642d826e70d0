"""Convolution layers."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from scalargrad.creation import empty
from scalargrad.nn import functional as F
from scalargrad.nn import init
from scalargrad.nn.module import Module
from scalargrad.nn.parameter import Parameter
from scalargrad.ops.arguments import pair
from scalargrad.tensor import Tensor


class Conv2d(Module):
    """Cross-correlates images with `out_channels` learned kernels. Weight and bias start uniform in ±1 / √fan_in.

    `padding` is a size or a pair, "valid" (none) or "same" (as much as keeps the size). With `groups`, the channels are
    split into as many parts that do not see each other.
    Shapes: input (N, C, H, W) or (C, H, W) → (…, O, P, Q), weight (O, C / groups, R, S), bias (O),
    P = (H + 2·padding − dilation·(R − 1) − 1) // stride + 1.
    Raises ValueError for channels that `groups` does not divide, and for a padding or padding_mode that is none.
    """

    weight: Parameter
    bias: Parameter | None

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
        self.in_channels, self.out_channels, self.groups = in_channels, out_channels, groups
        self.kernel_size = pair(kernel_size, "Conv2d", "kernel_size")
        self.stride = pair(stride, "Conv2d", "stride")
        self.dilation = pair(dilation, "Conv2d", "dilation")
        self.padding: str | tuple[int, int]
        if isinstance(padding, str):
            if padding not in ("same", "valid"):
                raise ValueError(f"Invalid padding string {padding!r}, should be one of 'same', 'valid'")
            if padding == "same" and self.stride != (1, 1):
                raise ValueError("padding='same' is not supported for strided convolutions")
            self.padding = padding
        else:
            self.padding = pair(padding, "Conv2d", "padding")
        self.padding_mode = padding_mode
        self.weight = Parameter(empty(out_channels, in_channels // groups, *self.kernel_size, dtype=dtype))
        self.register_parameter("bias", Parameter(empty(out_channels, dtype=dtype)) if bias else None)
        self.reset_parameters()

    def reset_parameters(self) -> None:
        """Draw weight and bias anew."""
        init.reset_linear(self.weight, self.bias)

    def forward(self, input: Tensor) -> Any:
        return F.conv2d(input, self.weight, self.bias, self.stride, self.padding, self.dilation, self.groups)

    def extra_repr(self) -> str:
        parts = [f"{self.in_channels}, {self.out_channels}, kernel_size={self.kernel_size}, stride={self.stride}"]
        if self.padding != (0, 0):
            parts.append(f"padding={self.padding}")
        if self.dilation != (1, 1):
            parts.append(f"dilation={self.dilation}")
        if self.groups != 1:
            parts.append(f"groups={self.groups}")
        if self.bias is None:
            parts.append("bias=False")
        return ", ".join(parts)
