"""ImageDataset: what Digits and MNIST have in common."""

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from scalargrad.creation import from_numpy
from scalargrad.datasets.resize import resize
from scalargrad.tensor import Tensor
from scalargrad.utils.data import Dataset, default_collate


class ImageDataset(Dataset[tuple[Any, Any]]):
    """Grey images, each with the number of its class.

    `data` is a uint8 Tensor (N, H, W) of what was scanned and `targets` an int64 Tensor (N,), as in torchvision.
    An item is the pair (image, target): a float32 Tensor (1, H, W) with `white` scaled to 1, and an int. With `size`,
    images come out (1, size, size), by `resize`. `transform` and `target_transform` are then applied to the two.
    A DataLoader takes a whole batch at once unless there is a transform to be applied to each item.
    """

    classes = tuple("0123456789")

    def __init__(
        self,
        data: np.ndarray[Any, Any],
        targets: np.ndarray[Any, Any],
        *,
        white: int,
        size: int | None = None,
        transform: Callable[[Tensor], Any] | None = None,
        target_transform: Callable[[int], Any] | None = None,
    ) -> None:
        if size is not None and (type(size) is not int or size < 1):
            raise ValueError(f"{type(self).__name__}(): size must be a positive integer or None, got {size!r}")
        self.data = from_numpy(data)
        self.targets = from_numpy(targets.astype(np.int64))
        self.white = white
        self.size = size
        self.transform = transform
        self.target_transform = target_transform

    def __len__(self) -> int:
        return len(self.data)

    def _images(self, indices: Any) -> Tensor:
        """The images at `indices` (B,), ready for a network: (B, 1, H, W)."""
        x = self.data.array[indices].astype(np.float32) / np.float32(self.white)
        if self.size is not None:
            x = resize(x, self.size)
        return from_numpy(x[:, None])

    def __getitem__(self, index: int) -> tuple[Any, Any]:
        image: Any = self._images([index])[0]
        target: Any = int(self.targets.array[index])
        if self.transform is not None:
            image = self.transform(image)
        if self.target_transform is not None:
            target = self.target_transform(target)
        return image, target

    def take(self, indices: Sequence[int]) -> Any:
        """The batch of the items at `indices`: [images (B, 1, H, W), targets (B,)]."""
        if self.transform is not None or self.target_transform is not None:
            return default_collate([self[i] for i in indices])
        at = np.asarray(indices, np.int64)
        return [self._images(at), from_numpy(self.targets.array[at])]

    def __repr__(self) -> str:
        height, width = self.data.shape[1:] if self.size is None else (self.size, self.size)
        return f"{type(self).__name__}({len(self)} images of {height}×{width}, {len(self.classes)} classes)"
