"""Layers that bring their input to mean 0 and variance 1, and then scale and shift it as learned."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from scalargrad import dtypes
from scalargrad.creation import ones, tensor, zeros
from scalargrad.nn import functional as F
from scalargrad.nn import init
from scalargrad.nn.module import Module
from scalargrad.nn.parameter import Parameter
from scalargrad.tensor import Tensor


class _Affine(Module):
    """A normalisation that may scale by a learned weight, which starts at 1, and shift by a learned bias, from 0."""

    weight: Parameter | None
    bias: Parameter | None

    def __init__(self, shape: tuple[int, ...], weight: bool, bias: bool, dtype: Any) -> None:
        super().__init__()
        self.register_parameter("weight", Parameter(ones(shape, dtype=dtype)) if weight else None)
        self.register_parameter("bias", Parameter(zeros(shape, dtype=dtype)) if weight and bias else None)

    def reset_parameters(self) -> None:
        """Scale by 1 and shift by 0 again."""
        if self.weight is not None:
            init.ones_(self.weight)
        if self.bias is not None:
            init.zeros_(self.bias)


class _BatchNorm(_Affine):
    """Normalises each channel over the batch and all positions."""

    running_mean: Tensor | None
    running_var: Tensor | None
    num_batches_tracked: Tensor | None

    def __init__(
        self,
        num_features: int,
        eps: float = 1e-5,
        momentum: float | None = 0.1,
        affine: bool = True,
        track_running_stats: bool = True,
        *,
        bias: bool = True,
        dtype: Any = None,
    ) -> None:
        super().__init__((num_features,), affine, bias, dtype)
        self.num_features, self.eps, self.momentum = num_features, eps, momentum
        self.affine, self.track_running_stats = affine, track_running_stats
        self.register_buffer("running_mean", zeros(num_features, dtype=dtype) if track_running_stats else None)
        self.register_buffer("running_var", ones(num_features, dtype=dtype) if track_running_stats else None)
        self.register_buffer("num_batches_tracked", tensor(0, dtype=dtypes.int64) if track_running_stats else None)

    def reset_running_stats(self) -> None:
        """Forget all batches: running mean 0, running variance 1."""
        if self.running_mean is not None and self.running_var is not None and self.num_batches_tracked is not None:
            init.zeros_(self.running_mean)
            init.ones_(self.running_var)
            self.num_batches_tracked.zero_()

    def reset_parameters(self) -> None:
        """Forget all batches, and scale by 1 and shift by 0 again."""
        self.reset_running_stats()
        super().reset_parameters()

    def check_input(self, input: Tensor) -> None:
        """Raise ValueError if `input` has a number of dimensions that this layer does not take."""
        raise NotImplementedError

    def forward(self, input: Tensor) -> Any:
        self.check_input(input)
        momentum = self.momentum
        if self.training and self.num_batches_tracked is not None:
            self.num_batches_tracked.add_(1)
            if momentum is None:  # the running statistics are the mean over all batches so far
                momentum = 1 / self.num_batches_tracked.item()
        return F.batch_norm(
            input,
            self.running_mean,
            self.running_var,
            self.weight,
            self.bias,
            self.training or self.running_mean is None,
            0.0 if momentum is None else momentum,
            self.eps,
        )

    def extra_repr(self) -> str:
        return (
            f"{self.num_features}, eps={self.eps}, momentum={self.momentum}, affine={self.affine}, "
            f"bias={self.bias is not None}, track_running_stats={self.track_running_stats}"
        )


class BatchNorm1d(_BatchNorm):
    """Normalises each channel over the batch and all positions (Ioffe & Szegedy 2015).

    In training by the batch's own mean and biased variance, which move the running ones by `momentum` (None: to the
    mean over all batches); in evaluation by the running ones.
    Shapes: input (N, C) or (N, C, L) → the same.
    Raises ValueError for another number of dimensions, or for a batch of one value a channel in training.
    """

    def check_input(self, input: Tensor) -> None:
        if input.ndim not in (2, 3):
            raise ValueError(f"expected 2D or 3D input (got {input.ndim}D input)")


class BatchNorm2d(_BatchNorm):
    """Normalises each channel over the batch and all positions (Ioffe & Szegedy 2015).

    In training by the batch's own mean and biased variance, which move the running ones by `momentum` (None: to the
    mean over all batches); in evaluation by the running ones.
    Shapes: input (N, C, H, W) → the same.
    Raises ValueError for another number of dimensions, or for a batch of one value a channel in training.
    """

    def check_input(self, input: Tensor) -> None:
        if input.ndim != 4:
            raise ValueError(f"expected 4D input (got {input.ndim}D input)")


class LayerNorm(_Affine):
    """Normalises over the last dimensions, those of `normalized_shape` (Ba, Kiros & Hinton 2016).

    Shapes: input (…, *normalized_shape) → the same.
    """

    def __init__(
        self,
        normalized_shape: int | Sequence[int],
        eps: float = 1e-5,
        elementwise_affine: bool = True,
        bias: bool = True,
        *,
        dtype: Any = None,
    ) -> None:
        shape = (normalized_shape,) if isinstance(normalized_shape, int) else tuple(normalized_shape)
        super().__init__(shape, elementwise_affine, bias, dtype)
        self.normalized_shape, self.eps, self.elementwise_affine = shape, eps, elementwise_affine

    def forward(self, input: Tensor) -> Any:
        return F.layer_norm(input, self.normalized_shape, self.weight, self.bias, self.eps)

    def extra_repr(self) -> str:
        return (
            f"{self.normalized_shape}, eps={self.eps}, elementwise_affine={self.elementwise_affine}, "
            f"bias={self.bias is not None}"
        )


class GroupNorm(_Affine):
    """Normalises over the positions and channels of each of `num_groups` groups of channels (Wu & He 2018).

    Shapes: input (N, C, …) → the same. Raises ValueError for channels that `num_groups` does not divide.
    """

    def __init__(
        self,
        num_groups: int,
        num_channels: int,
        eps: float = 1e-5,
        affine: bool = True,
        *,
        bias: bool = True,
        dtype: Any = None,
    ) -> None:
        if num_channels % num_groups != 0:
            raise ValueError("num_channels must be divisible by num_groups")
        super().__init__((num_channels,), affine, bias, dtype)
        self.num_groups, self.num_channels, self.eps, self.affine = num_groups, num_channels, eps, affine

    def forward(self, input: Tensor) -> Any:
        return F.group_norm(input, self.num_groups, self.weight, self.bias, self.eps)

    def extra_repr(self) -> str:
        return (
            f"{self.num_groups}, {self.num_channels}, eps={self.eps}, affine={self.affine}, "
            f"bias={self.bias is not None}"
        )
