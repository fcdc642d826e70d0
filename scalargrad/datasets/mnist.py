"""MNIST, read from the four files in which it is distributed."""

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from scalargrad.datasets.idx import read_idx
from scalargrad.datasets.images import ImageDataset
from scalargrad.tensor import Tensor

FOLDERS = (".", "MNIST/raw")
"""Where the files may lie under `root`: there, or where torchvision puts them."""


def find(root: str | os.PathLike[str], stem: str, n_dims: int) -> Path:
    """The IDX file `stem` under `root`. Raises FileNotFoundError, with what was looked for, if there is none."""
    names = [f"{stem}{mark}idx{n_dims}-ubyte{end}" for mark in "-." for end in ("", ".gz")]
    for folder in FOLDERS:
        for name in names:
            path = Path(root, folder, name)
            if path.is_file():
                return path
    if not Path(root).is_dir():
        raise FileNotFoundError(f"MNIST: {os.fspath(root)} is not a directory")
    raise FileNotFoundError(
        f"MNIST: none of {', '.join(names)} is in {os.fspath(root)} or {os.path.join(root, *FOLDERS[1].split('/'))}"
    )


class MNIST(ImageDataset):
    """The MNIST digits (LeCun, Cortes, Burges), or a set in the same format, such as Fashion-MNIST.

    `root` or `root/MNIST/raw` holds train-images-idx3-ubyte and train-labels-idx1-ubyte (`train=True`) or t10k-… (the
    test set), with or without .gz. Nothing is downloaded. Items, `size` and the transforms are as in `ImageDataset`:
    `MNIST(root, size=32)` is what LeNet wants.
    Raises FileNotFoundError, with the names looked for, if a file is missing, and ValueError if one is damaged, if it
    does not hold what its name says, or if images and labels differ in number.
    """

    def __init__(
        self,
        root: str | os.PathLike[str],
        train: bool = True,
        transform: Callable[[Tensor], Any] | None = None,
        target_transform: Callable[[int], Any] | None = None,
        *,
        size: int | None = None,
    ) -> None:
        part = "train" if train else "t10k"
        images_path, labels_path = find(root, f"{part}-images", 3), find(root, f"{part}-labels", 1)
        images, labels = read_idx(images_path), read_idx(labels_path)
        for path, array, what, n_dims in ((images_path, images, "images", 3), (labels_path, labels, "labels", 1)):
            if array.dtype != np.uint8 or array.ndim != n_dims or array.size == 0:
                raise ValueError(
                    f"{path}: {what} are uint8 in {n_dims} dimensions, none empty; "
                    f"the file holds {array.dtype} of shape {array.shape}"
                )
        if len(images) != len(labels):
            raise ValueError(f"MNIST: {len(images)} images in {images_path}, but {len(labels)} labels in {labels_path}")
        if labels.max() >= len(self.classes):
            raise ValueError(f"{labels_path}: labels run from 0 to {len(self.classes) - 1}, got {labels.max()}")
        super().__init__(images, labels, white=255, size=size, transform=transform, target_transform=target_transform)
        self.train = train
