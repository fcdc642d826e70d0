"""Dropout layers."""

from __future__ import annotations

from typing import Any

from scalargrad.nn import functional as F
from scalargrad.nn.module import Module
from scalargrad.tensor import Tensor


class Dropout(Module):
    """In training, sets each entry to 0 with probability `p` and divides the others by 1 − p; otherwise does nothing.

    Raises ValueError unless p is in [0, 1].
    """

    def __init__(self, p: float = 0.5, inplace: bool = False) -> None:
        super().__init__()
        if not 0 <= p <= 1:
            raise ValueError(f"dropout probability has to be between 0 and 1, but got {p}")
        self.p, self.inplace = p, inplace

    def forward(self, input: Tensor) -> Any:
        return F.dropout(input, self.p, self.training, self.inplace)

    def extra_repr(self) -> str:
        return f"p={self.p}, inplace={self.inplace}"


class Dropout2d(Dropout):
    """Dropout of whole channels: each is 0 everywhere, with probability `p`, or multiplied by 1 / (1 − p).

    Shapes: input (N, C, H, W) or (C, H, W) → the same.
    """

    def forward(self, input: Tensor) -> Any:
        return F.dropout2d(input, self.p, self.training, self.inplace)
