"""Handwritten digits: one set that comes with the package, one that is read from disk."""

from scalargrad.datasets.digits import Digits
from scalargrad.datasets.idx import read_idx
from scalargrad.datasets.images import ImageDataset
from scalargrad.datasets.mnist import MNIST
from scalargrad.datasets.resize import resize

__all__ = ["MNIST", "Digits", "ImageDataset", "read_idx", "resize"]
