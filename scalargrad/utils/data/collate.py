"""Samples into a batch."""

import copy
from collections.abc import Callable, Mapping, MutableMapping, Sequence
from typing import Any

import numpy as np

from scalargrad.creation import tensor
from scalargrad.dtypes import float64
from scalargrad.ops.joining import stack
from scalargrad.tensor import Tensor


def _is_numeric(dtype: np.dtype[Any]) -> bool:
    return dtype.kind in "biuf"


def _rebuild(like: Any, values: list[Any]) -> Any:
    """`values` in a sequence of the type of `like`, or in a list where that type cannot be made from one."""
    if hasattr(like, "_fields"):
        return type(like)(*values)
    try:
        return type(like)(values)
    except TypeError:
        return values


def _convert_mapping(like: Mapping[Any, Any], change: Callable[[Any], Any]) -> Any:
    """A mapping of the type of `like`, with `change(key)` at each key."""
    changed = {key: change(key) for key in like}
    try:
        if isinstance(like, MutableMapping):
            # A copy keeps what the type holds besides its entries, such as the factory of a defaultdict.
            clone = copy.copy(like)
            clone.update(changed)
            return clone
        return type(like)(changed)  # type: ignore[call-arg]
    except TypeError:
        return changed


def default_collate(batch: Sequence[Any]) -> Any:
    """The samples in `batch` with a dimension in front.

    Tensors and arrays are stacked; numbers become a tensor (float64 for Python's float, as in PyTorch); strings stay a
    list; mappings, named tuples, lists and tuples are entered, and a tuple comes back as a list, as in PyTorch.
    Raises RuntimeError if samples differ in shape or length, TypeError if there is no rule for them.
    """
    first = batch[0]
    if isinstance(first, Tensor):
        return stack(list(batch))
    if isinstance(first, np.ndarray | np.generic) and _is_numeric(first.dtype):
        return stack([tensor(sample) for sample in batch])
    if isinstance(first, float):
        return tensor(list(batch), dtype=float64)
    if isinstance(first, int):
        return tensor(list(batch))
    if isinstance(first, str | bytes):
        return batch
    if isinstance(first, Mapping):
        return _convert_mapping(first, lambda key: default_collate([sample[key] for sample in batch]))
    if isinstance(first, Sequence):
        lengths = {len(sample) for sample in batch}
        if len(lengths) > 1:
            raise RuntimeError(f"default_collate(): samples must be of one length, got lengths {sorted(lengths)}")
        columns = [default_collate(column) for column in zip(*batch, strict=True)]
        return columns if type(first) is tuple else _rebuild(first, columns)
    raise TypeError(
        f"default_collate(): samples must hold tensors, arrays of numbers, numbers, strings, mappings or sequences; "
        f"found {type(first).__name__}" + (f" of {first.dtype}" if isinstance(first, np.ndarray) else "")
    )


def default_convert(sample: Any) -> Any:
    """`sample` with its arrays made tensors: what a DataLoader without batches does to each."""
    if isinstance(sample, np.ndarray | np.generic) and _is_numeric(sample.dtype):
        return tensor(sample)
    if isinstance(sample, Mapping):
        return _convert_mapping(sample, lambda key: default_convert(sample[key]))
    if isinstance(sample, Sequence) and not isinstance(sample, str | bytes | Tensor):
        values = [default_convert(value) for value in sample]
        return values if type(sample) is tuple else _rebuild(sample, values)
    return sample
