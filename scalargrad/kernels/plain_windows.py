"""What the kernels in plain NumPy share: their arguments as arrays, and the windows of framed images."""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from .geometry import Array, Pair, as_array, check_dtypes

# Infinities and NaN are results here, as in PyTorch, not mistakes to warn of.
IEEE = np.errstate(all="ignore")


def floats(op: str, **arrays: Any) -> list[Array]:
    """The arrays in native byte order, after refusing other dtypes than float32 and float64. A bias may be None."""
    present = {name: value for name, value in arrays.items() if value is not None or name != "bias"}
    check_dtypes(op, **present)
    found = [as_array(op, name, value) for name, value in present.items()]
    return [array.astype(array.dtype.newbyteorder("="), copy=False) for array in found]


def padded(x: Array, size: Pair, padding: Pair, fill: float) -> Array:
    """Images inside a frame of `fill`, `size` rows and columns in all; what hangs over the frame is cut."""
    frame = (max(size[0], x.shape[2] + padding[0]), max(size[1], x.shape[3] + padding[1]))
    if math.prod((*x.shape[:2], *frame)) > 1e15:
        raise MemoryError(f"no machine has room for padded images of shape {(*x.shape[:2], *frame)}")
    framed = np.full((*x.shape[:2], *frame), fill, x.dtype)
    framed[:, :, padding[0] : padding[0] + x.shape[2], padding[1] : padding[1] + x.shape[3]] = x
    return framed[:, :, : size[0], : size[1]]


def reach_of(count: Pair, kernel_size: Pair, stride: Pair, dilation: Pair) -> Pair:
    """Rows and columns that the windows touch."""
    rows, columns = ((count[i] - 1) * stride[i] + dilation[i] * (kernel_size[i] - 1) + 1 for i in (0, 1))
    return rows, columns


def tap_of(image: Array, r: int, s: int, count: Pair, stride: Pair, dilation: Pair) -> Array:
    """The view of a framed image that tap (r, s) of every window sees."""
    top, left = r * dilation[0], s * dilation[1]
    return image[:, :, top : top + (count[0] - 1) * stride[0] + 1 : stride[0],
                 left : left + (count[1] - 1) * stride[1] + 1 : stride[1]]  # fmt: skip


def taps_of(kernel_size: Pair) -> list[tuple[int, int, int]]:
    return [(r * kernel_size[1] + s, r, s) for r in range(kernel_size[0]) for s in range(kernel_size[1])]
