"""Scaling images, the one place where this is done."""

from functools import lru_cache
from typing import Any

import numpy as np


@lru_cache(maxsize=16)
def _rows(n_in: int, n_out: int) -> np.ndarray[Any, Any]:
    """The matrix (n_out, n_in) that interpolates along one dimension."""
    # The middle of output pixel i in input pixels, and never before the middle of the first.
    at = np.maximum((np.arange(n_out) + 0.5) * (n_in / n_out) - 0.5, 0)
    before = np.minimum(at.astype(np.int64), n_in - 1)
    after = np.minimum(before + 1, n_in - 1)
    share = at - before
    matrix = np.zeros((n_out, n_in), np.float32)
    np.add.at(matrix, (np.arange(n_out), before), 1 - share)
    np.add.at(matrix, (np.arange(n_out), after), share)
    matrix.flags.writeable = False
    return matrix


def resize(images: np.ndarray[Any, Any], size: int | tuple[int, int]) -> np.ndarray[Any, Any]:
    """`images` scaled to `size` by bilinear interpolation, as float32.

    The formula is that of PyTorch's `interpolate(mode="bilinear", align_corners=False)`: output pixel i has its middle
    at (i + 1/2)·H/P − 1/2 in the input, and mixes the two pixels about it; beyond the middle of the outermost pixel,
    that pixel is repeated.
    Shapes: images (..., H, W), size P or (P, Q) → (..., P, Q).
    Raises ValueError if a side of either is not positive.
    """
    height, width = (size, size) if isinstance(size, int) else size
    if images.ndim < 2 or min(*images.shape[-2:], height, width) < 1:
        raise ValueError(
            f"resize(): expected images (..., H, W) and a size, all sides positive, "
            f"got images {images.shape} and size {(height, width)}"
        )
    x = np.asarray(images, np.float32)
    if x.shape[-2:] == (height, width):
        return x
    y: np.ndarray[Any, Any] = _rows(x.shape[-2], height) @ (x @ _rows(x.shape[-1], width).T)
    return y
