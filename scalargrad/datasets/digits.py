"""Digits: real handwritten digits that come with the package."""

from collections.abc import Callable
from importlib.resources import files
from typing import Any

import numpy as np

from scalargrad.datasets.images import ImageDataset
from scalargrad.tensor import Tensor


def held_out(targets: np.ndarray[Any, Any]) -> np.ndarray[Any, Any]:
    """Which samples are for testing: the fifth, the tenth, … of each class, in the order of the file."""
    mask = np.zeros(len(targets), np.bool_)
    for label in np.unique(targets):
        mask[np.flatnonzero(targets == label)[4::5]] = True
    return mask


class Digits(ImageDataset):
    """The 1,797 handwritten digits of 8×8 pixels, 0 (paper) to 16 (ink), that scikit-learn also ships.

    `train=True` gives 1,442 of them, `train=False` the other 355, which are every fifth scan of each digit, so that
    both parts hold all digits alike; `train=None` gives all. Every writer is in both parts: what is learned is tested
    on new scans, not on new hands, which is harder. Items, `size` and the transforms are as in `ImageDataset`:
    `Digits(size=32)` is what LeNet wants.

    Source: Alpaydin, E. and Kaynak, C. (1998), Optical Recognition of Handwritten Digits, UCI Machine Learning
    Repository, https://doi.org/10.24432/C50P49, test part, values unchanged. Licence of the data: CC BY 4.0,
    https://creativecommons.org/licenses/by/4.0/ (see DIGITS_ATTRIBUTION.txt beside this file).
    """

    def __init__(
        self,
        train: bool | None = True,
        *,
        size: int | None = None,
        transform: Callable[[Tensor], Any] | None = None,
        target_transform: Callable[[int], Any] | None = None,
    ) -> None:
        with (files(__package__) / "digits.npz").open("rb") as file, np.load(file) as arrays:
            data, targets = arrays["data"], arrays["targets"]
        if train is not None:
            chosen = held_out(targets) != bool(train)
            data, targets = data[chosen], targets[chosen]
        super().__init__(data, targets, white=16, size=size, transform=transform, target_transform=target_transform)
        self.train = train
