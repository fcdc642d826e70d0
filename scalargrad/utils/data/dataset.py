"""Datasets: samples that can be had by their number."""

import bisect
import itertools
import math
import warnings
from collections.abc import Iterable, Sequence
from typing import Any, Generic, TypeVar

import numpy as np

from scalargrad.creation import from_numpy
from scalargrad.generator import Generator
from scalargrad.random import randperm
from scalargrad.tensor import Tensor
from scalargrad.utils.data.collate import default_collate

T = TypeVar("T", covariant=True)


def _offers(dataset: Any, method: str) -> bool:
    """Whether `dataset` has `method`, and a class that overrides `__getitem__` did not leave it behind.

    A subclass that changes what a sample is must not have its `__getitem__` passed over for an inherited short cut.
    """
    for cls in type(dataset).__mro__:
        if method in vars(cls):
            return True
        if "__getitem__" in vars(cls):
            return False
    return False


def samples(dataset: Any, indices: Sequence[Any]) -> Any:
    """The samples of `dataset` at `indices`, in one call of its `__getitems__` if it has that."""
    if _offers(dataset, "__getitems__"):
        return dataset.__getitems__(indices)
    return [dataset[i] for i in indices]


def batch(dataset: Any, indices: Sequence[Any]) -> Any:
    """The samples of `dataset` at `indices`, collated: in one call of its `take` if it has that."""
    if _offers(dataset, "take"):
        return dataset.take(indices)
    return default_collate(samples(dataset, indices))


class Dataset(Generic[T]):
    """Samples that can be had by their number. A subclass defines `__getitem__(index)`, and `__len__` to be shuffled.

    It may also define `__getitems__(indices)`, which returns a list of samples in one go (PyTorch's protocol), or
    `take(indices)`, which returns the batch that `default_collate` would make of them: for data in memory, one fancy
    index. A DataLoader then uses that.
    """

    def __getitem__(self, index: Any) -> T:
        raise NotImplementedError(f"{type(self).__name__} must define __getitem__")

    def __add__(self, other: "Dataset[Any]") -> "ConcatDataset[Any]":
        return ConcatDataset([self, other])


class TensorDataset(Dataset[tuple[Tensor, ...]]):
    """Tensors of the same first size: sample i is `(tensors[0][i], tensors[1][i], …)`.

    Raises AssertionError if the first sizes differ (PyTorch's exception).
    """

    def __init__(self, *tensors: Tensor) -> None:
        if not tensors:
            raise ValueError("TensorDataset(): expected at least one tensor")
        sizes = [t.size(0) for t in tensors]
        if len(set(sizes)) > 1:
            raise AssertionError(f"TensorDataset(): the tensors' first sizes must be the same, got {sizes}")
        self.tensors = tensors

    def __getitem__(self, index: Any) -> tuple[Tensor, ...]:
        return tuple(t[index] for t in self.tensors)

    def take(self, indices: Sequence[int]) -> list[Tensor]:
        """The batch of the samples at `indices`: one fancy index for each tensor."""
        at = from_numpy(np.asarray(indices, np.int64))
        return [t[at] for t in self.tensors]

    def __len__(self) -> int:
        return len(self.tensors[0])


class Subset(Dataset[T]):
    """The samples of `dataset` at `indices`, in that order. Batches are had as `dataset` gives them."""

    def __init__(self, dataset: Any, indices: Sequence[Any]) -> None:
        self.dataset = dataset
        # An array or a tensor would hand out its elements as arrays and tensors, slowly.
        self.indices: Sequence[Any] = indices.tolist() if isinstance(indices, np.ndarray | Tensor) else indices

    def __getitem__(self, index: Any) -> T:
        if isinstance(index, list):
            return self.dataset[[self.indices[i] for i in index]]  # type: ignore[no-any-return]
        return self.dataset[self.indices[index]]  # type: ignore[no-any-return]

    def __getitems__(self, indices: Sequence[int]) -> Any:
        return samples(self.dataset, [self.indices[i] for i in indices])

    def take(self, indices: Sequence[int]) -> Any:
        """The batch of the samples at `indices` of this subset."""
        return batch(self.dataset, [self.indices[i] for i in indices])

    def __len__(self) -> int:
        return len(self.indices)


class ConcatDataset(Dataset[T]):
    """Datasets one after the other. Raises AssertionError if there is none (PyTorch's exception)."""

    def __init__(self, datasets: Iterable[Any]) -> None:
        self.datasets = list(datasets)
        if not self.datasets:
            raise AssertionError("ConcatDataset(): expected at least one dataset")
        self.cumulative_sizes = list(itertools.accumulate(len(d) for d in self.datasets))

    def __getitem__(self, index: int) -> T:
        n = len(self)
        if index < -n:
            raise ValueError(f"ConcatDataset: index {index} is out of range for {n} samples")
        if index >= n:
            raise IndexError(f"ConcatDataset: index {index} is out of range for {n} samples")
        index %= n
        which = bisect.bisect_right(self.cumulative_sizes, index)
        start = self.cumulative_sizes[which - 1] if which else 0
        return self.datasets[which][index - start]  # type: ignore[no-any-return]

    def __len__(self) -> int:
        return self.cumulative_sizes[-1]


def random_split(dataset: Any, lengths: Sequence[int | float], generator: Generator | None = None) -> list[Subset[Any]]:
    """`dataset` at random in parts that share no sample, of the given `lengths`.

    Fractions that add up to 1 are rounded down, and what is left over is dealt out one by one from the first part.
    Raises ValueError if a length is negative, or if lengths do not add up to the size of `dataset`.
    """
    n = len(dataset)
    counts: list[Any] = list(lengths)
    if any(length < 0 for length in counts):
        raise ValueError(f"random_split(): lengths must not be negative, got {counts}")
    if math.isclose(sum(counts), 1) and sum(counts) <= 1:
        counts = [math.floor(n * share) for share in counts]
        for i in range(n - sum(counts)):
            counts[i % len(counts)] += 1
        for i, count in enumerate(counts):
            if count == 0:
                warnings.warn(f"random_split(): part {i} is empty", stacklevel=2)
    if sum(counts) != n:
        raise ValueError(f"random_split(): lengths {counts} add up to {sum(counts)}, the dataset has {n} samples")
    order = randperm(n, generator=generator).tolist()
    return [
        Subset(dataset, order[end - count : end])
        for count, end in zip(counts, itertools.accumulate(counts), strict=True)
    ]
