"""What surrounds training, under PyTorch's name for it."""

from scalargrad.utils import data

__all__ = ["data"]
