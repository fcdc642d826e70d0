"""The functions that layers are made of, by PyTorch's names: `import scalargrad.nn.functional as F`.

Most of them live with their derivatives in `scalargrad.ops`; here they come together, and here are those that are
made of others, or that draw random numbers.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from scalargrad.generator import default_generator
from scalargrad.ops.activation import (
    activating,
    elu,
    gelu,
    glu,
    hardtanh,
    leaky_relu,
    log_softmax,
    logsigmoid,
    relu6,
    silu,
    softmax,
    softmin,
    softplus,
    softsign,
    threshold,
)
from scalargrad.ops.arguments import no_tensor
from scalargrad.ops.classification import cross_entropy, nll_loss
from scalargrad.ops.convolution import conv1d, conv2d, conv_transpose1d, conv_transpose2d
from scalargrad.ops.elementwise import clamp, sigmoid, tanh
from scalargrad.ops.embedding import embedding, one_hot
from scalargrad.ops.linalg import linear
from scalargrad.ops.loss import (
    binary_cross_entropy,
    binary_cross_entropy_with_logits,
    huber_loss,
    kl_div,
    l1_loss,
    mse_loss,
    smooth_l1_loss,
)
from scalargrad.ops.normalization import batch_norm, group_norm, layer_norm
from scalargrad.ops.pooling import adaptive_avg_pool2d, adaptive_max_pool2d, avg_pool2d, max_pool2d
from scalargrad.ops.shape import normalize_dim, shaping
from scalargrad.rules import ops
from scalargrad.tensor import Tensor, wrap

__all__ = [
    "adaptive_avg_pool2d",
    "adaptive_max_pool2d",
    "avg_pool2d",
    "batch_norm",
    "binary_cross_entropy",
    "binary_cross_entropy_with_logits",
    "conv1d",
    "conv2d",
    "conv_transpose1d",
    "conv_transpose2d",
    "cosine_similarity",
    "cross_entropy",
    "dropout",
    "dropout2d",
    "elu",
    "embedding",
    "gelu",
    "glu",
    "group_norm",
    "hardtanh",
    "huber_loss",
    "interpolate",
    "kl_div",
    "l1_loss",
    "layer_norm",
    "leaky_relu",
    "linear",
    "log_softmax",
    "logsigmoid",
    "max_pool2d",
    "mse_loss",
    "nll_loss",
    "normalize",
    "one_hot",
    "pad",
    "relu",
    "relu6",
    "relu_",
    "sigmoid",
    "silu",
    "smooth_l1_loss",
    "softmax",
    "softmin",
    "softplus",
    "softsign",
    "tanh",
    "threshold",
]


def relu(input: Tensor, inplace: bool = False) -> Any:
    """max(input, 0); its derivative at 0 is 0, and NaN stays NaN."""
    if not isinstance(input, Tensor):
        raise no_tensor("relu", input)
    return input.overwrite(ops.relu) if inplace else ops.relu(input)


def relu_(input: Tensor) -> Tensor:
    """`relu` in place. Raises RuntimeError for a leaf that requires grad."""
    return relu(input, inplace=True)  # type: ignore[no-any-return]


def dropout(input: Tensor, p: float = 0.5, training: bool = True, inplace: bool = False) -> Any:
    """In training, zeros with probability `p`, and the rest divided by 1 − p, so that the mean stays; else the input.

    Raises ValueError unless p is in [0, 1], RuntimeError for integers in training.
    """
    return _dropout("dropout", input, p, training, inplace, input.shape)


def dropout2d(input: Tensor, p: float = 0.5, training: bool = True, inplace: bool = False) -> Any:
    """`dropout` of whole channels.

    Shapes: input (N, C, H, W) or (C, H, W) → the same. Raises as `dropout`, and RuntimeError for other dimensions.
    """
    if input.ndim not in (3, 4):
        raise RuntimeError(f"dropout2d(): expected a 3D or 4D input, got shape {tuple(input.shape)}")
    return _dropout("dropout2d", input, p, training, inplace, (*input.shape[:-2], 1, 1))


def _dropout(operation: str, input: Tensor, p: float, training: bool, inplace: bool, shape: Sequence[int]) -> Any:
    if not 0 <= p <= 1:
        raise ValueError(f"dropout probability has to be between 0 and 1, but got {p}")
    if not training or p == 0:
        return input
    if input.dtype.kind != "f":
        raise RuntimeError(f"{operation}(): expected a floating point tensor, got {input.dtype}")
    kept = default_generator.numpy.random(tuple(shape), np.float32) >= p
    scale = 1 / (1 - p) if p < 1 else 0.0
    return input.overwrite(activating.dropout, kept, scale) if inplace else activating.dropout(input, kept, scale)


def pad(input: Tensor, pad: Sequence[int], mode: str = "constant", value: float | None = None) -> Any:
    """The input within a frame: `pad` holds what is put before and after the last dimension, then the one before, ….

    `mode` "constant" fills with `value` (0 unless given), and a negative size crops; "reflect" mirrors without
    repeating the edge, "replicate" repeats it, "circular" goes round.
    Raises RuntimeError for an odd number of sizes or too many, NotImplementedError for another mode.
    """
    if len(pad) % 2:
        raise RuntimeError(f"pad(): Padding length must be divisible by 2, got {list(pad)}")
    if len(pad) > 2 * input.ndim:
        raise RuntimeError(
            "pad(): Padding length should be less than or equal to two times the input dimension but got padding "
            f"length {len(pad)} and input of dimension {input.ndim}"
        )
    rest = [0] * (input.ndim - len(pad) // 2)
    before, after = rest + list(pad[-2::-2]), rest + list(pad[::-2])
    sizes = [b + n + a for b, n, a in zip(before, input.shape, after, strict=True)]
    if min(sizes, default=0) < 0:
        raise RuntimeError(f"pad(): padding {list(pad)} of an input of shape {tuple(input.shape)} gives sizes {sizes}")
    if mode == "constant":
        if min(pad, default=0) < 0:
            input = shaping.crop(input, [max(-b, 0) for b in before], [max(-a, 0) for a in after])
        return shaping.pad(
            input, [max(b, 0) for b in before], [max(a, 0) for a in after], 0.0 if value is None else value
        )
    if mode not in _MIRRORS:
        raise NotImplementedError(f"pad(): Unrecognised padding mode {mode}; expected constant, {', '.join(_MIRRORS)}")
    if value is not None and value != 0:
        raise ValueError(f'pad(): Padding mode "{mode}" doesn\'t take in value argument')
    for dim, (b, n, a) in enumerate(zip(before, input.shape, after, strict=True)):
        if b or a:
            limit = {"reflect": n - 1, "replicate": max(b, a), "circular": n}[mode]
            if max(b, a) > limit or n == 0:
                raise RuntimeError(
                    f"pad(): Padding size should be at most {limit} for mode {mode} in dimension {dim} of size {n}, "
                    f"got {(b, a)}"
                )
            positions = np.pad(np.arange(n), (max(b, 0), max(a, 0)), mode=_MIRRORS[mode])  # type: ignore[call-overload]
            input = _picked(input, dim, positions[max(-b, 0) : len(positions) - max(-a, 0)])
    return input


_MIRRORS = {"reflect": "reflect", "replicate": "edge", "circular": "wrap"}
"""PyTorch's names of padding modes, and NumPy's."""


def _picked(input: Tensor, dim: int, positions: np.ndarray[Any, Any]) -> Any:
    """The entries at these positions along one dimension."""
    return input.index_select(dim, wrap(np.asarray(positions, np.int64)))


def interpolate(
    input: Tensor,
    size: int | Sequence[int] | None = None,
    scale_factor: float | Sequence[float] | None = None,
    mode: str = "nearest",
) -> Any:
    """Images (or lines, or volumes) resized to `size`, or by `scale_factor`, taking the nearest entry.

    "nearest" takes entry ⌊i / scale⌋ for i, "nearest-exact" the one under the centre, ⌊(i + ½) / scale⌋.
    Shapes: input (N, C, …) → the same with … resized. Raises ValueError unless just one of size and factor is given
    and fits the dimensions, NotImplementedError for another mode.
    """
    if mode not in ("nearest", "nearest-exact"):
        raise NotImplementedError(f"interpolate(): expected mode nearest or nearest-exact, got {mode!r}")
    given = size if scale_factor is None else scale_factor
    if (size is None) == (scale_factor is None) or given is None:
        raise ValueError("interpolate(): exactly one of size and scale_factor must be defined")
    old = tuple(input.shape[2:])
    wanted = list(given) if isinstance(given, Sequence) else [given] * len(old)
    if len(wanted) != len(old) or not old:
        raise ValueError(
            f"interpolate(): input of shape {tuple(input.shape)} has {len(old)} dimensions to resize, got {wanted}"
        )
    for i, (n, w) in enumerate(zip(old, wanted, strict=True)):
        m = int(n * w) if size is None else int(w)
        if m < 1 or n < 1:
            raise RuntimeError(f"interpolate(): input and output sizes should be greater than 0, got {n} and {m}")
        step = 1 / w if size is None else n / m
        centre = 0.5 if mode == "nearest-exact" else 0.0
        positions = np.minimum(((np.arange(m) + centre) * step).astype(np.int64), n - 1)
        input = _picked(input, 2 + i, positions)
    return input


def normalize(input: Tensor, p: float = 2.0, dim: int = 1, eps: float = 1e-12) -> Any:
    """The input over its p-norm along `dim`, or over `eps` where that is larger."""
    norms = input.norm(p, normalize_dim(dim, input.ndim, "normalize"), keepdim=True)
    return ops.div(input, clamp(norms, min=eps))


def cosine_similarity(x1: Tensor, x2: Tensor, dim: int = 1, eps: float = 1e-8) -> Any:
    """x1 · x2 / (‖x1‖ ‖x2‖) along `dim`, where neither norm counts for less than `eps`."""
    return ops.mul(normalize(x1, 2.0, dim, eps), normalize(x2, 2.0, dim, eps)).sum(dim)
