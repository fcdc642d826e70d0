"""DataLoader: a dataset in batches."""

from collections.abc import Callable, Iterable, Iterator
from typing import Any

from scalargrad.generator import Generator
from scalargrad.utils.data.collate import default_collate, default_convert
from scalargrad.utils.data.dataset import batch, samples
from scalargrad.utils.data.sampler import BatchSampler, RandomSampler, SequentialSampler

FIXED = ("batch_size", "batch_sampler", "sampler", "drop_last", "dataset")


class DataLoader:
    """A dataset in batches: one pass over it is one `for`.

    Batches of `batch_size` (the last may be shorter, unless `drop_last`) in order, at random with `shuffle`, or as
    `sampler` or `batch_sampler` say; `collate_fn` makes a batch of a list of samples. `batch_size=None` gives samples
    one by one. Without `collate_fn`, data in memory (TensorDataset, Digits, MNIST, a Subset of these, any dataset with
    `take`) is fetched by one fancy index a batch. All happens in this process and thread, so `num_workers` must be 0;
    `pin_memory` is accepted, and there is nothing to pin.
    Raises ValueError if arguments exclude each other.
    """

    _ready = False

    def __init__(
        self,
        dataset: Any,
        batch_size: int | None = 1,
        shuffle: bool | None = None,
        sampler: Iterable[Any] | None = None,
        batch_sampler: Iterable[Any] | None = None,
        num_workers: int = 0,
        collate_fn: Callable[[Any], Any] | None = None,
        pin_memory: bool = False,
        drop_last: bool = False,
        *,
        generator: Generator | None = None,
    ) -> None:
        if num_workers != 0:
            raise ValueError(f"DataLoader(): loading is in-process only, num_workers must be 0, got {num_workers!r}")
        if sampler is not None and shuffle:
            raise ValueError("DataLoader(): sampler and shuffle=True exclude each other")
        if batch_sampler is not None:
            if batch_size != 1 or shuffle or sampler is not None or drop_last:
                raise ValueError(
                    "DataLoader(): batch_sampler excludes batch_size, shuffle, sampler and drop_last; "
                    f"got batch_size={batch_size}, shuffle={shuffle}, sampler={sampler}, drop_last={drop_last}"
                )
            batch_size = None
        elif batch_size is None and drop_last:
            raise ValueError("DataLoader(): batch_size=None gives samples one by one, which excludes drop_last")
        if sampler is None:
            sampler = RandomSampler(dataset, generator=generator) if shuffle else SequentialSampler(dataset)
        if batch_size is not None:
            batch_sampler = BatchSampler(sampler, batch_size, drop_last)
        if collate_fn is None:
            collate_fn = default_convert if batch_sampler is None else default_collate
        self.dataset = dataset
        self.batch_size = batch_size
        self.drop_last = drop_last
        self.sampler = sampler
        self.batch_sampler = batch_sampler
        self.num_workers = num_workers
        self.collate_fn = collate_fn
        self.pin_memory = pin_memory
        self.generator = generator
        self._ready = True

    def __setattr__(self, name: str, value: Any) -> None:
        # The sampler was made from these: a change would be taken and have no effect.
        if self._ready and name in FIXED:
            raise ValueError(f"DataLoader: {name} cannot be changed once the loader is made")
        super().__setattr__(name, value)

    def __iter__(self) -> Iterator[Any]:
        if self.batch_sampler is None:
            for index in self.sampler:
                yield self.collate_fn(self.dataset[index])
        elif self.collate_fn is default_collate:
            for indices in self.batch_sampler:
                yield batch(self.dataset, indices)
        else:
            for indices in self.batch_sampler:
                yield self.collate_fn(samples(self.dataset, indices))

    def __len__(self) -> int:
        order: Any = self.sampler if self.batch_sampler is None else self.batch_sampler
        return len(order)
