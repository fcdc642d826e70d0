"""Tensors filled with random numbers: NumPy's, so that a seed does not give PyTorch's numbers."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from scalargrad import dtypes
from scalargrad.generator import Generator, numbers_of
from scalargrad.kernels import memory
from scalargrad.ops.shape import as_shape
from scalargrad.tensor import Tensor, wrap


def _sizes(operation: str, size: Sequence[Any]) -> tuple[int, ...]:
    shape = as_shape(size)
    if any(n < 0 for n in shape):
        raise RuntimeError(
            f"{operation}(): Trying to create tensor with negative dimension {min(shape)}: {list(shape)}"
        )
    return shape


def _made(array: Any, dtype: Any, requires_grad: bool) -> Tensor:
    t = wrap(np.asarray(array, dtype))
    t.requires_grad = requires_grad
    return t


def _floating(operation: str, dtype: Any) -> np.dtype[Any]:
    found = dtypes.as_dtype(dtypes.default_float if dtype is None else dtype, operation)
    if found.kind != "f":
        raise RuntimeError(f"{operation}(): expected a floating point dtype, got {found}")
    return found


def rand(*size: Any, generator: Generator | None = None, dtype: Any = None, requires_grad: bool = False) -> Tensor:
    """Uniform in [0, 1)."""
    kind = _floating("rand", dtype)
    numbers = memory.empty(_sizes("rand", size), kind)
    return _made(numbers_of(generator).random(None, kind, numbers), kind, requires_grad)


def randn(*size: Any, generator: Generator | None = None, dtype: Any = None, requires_grad: bool = False) -> Tensor:
    """Normal, with mean 0 and variance 1."""
    kind = _floating("randn", dtype)
    numbers = memory.empty(_sizes("randn", size), kind)
    return _made(numbers_of(generator).standard_normal(None, kind, numbers), kind, requires_grad)


def randint(*bounds_and_size: Any, generator: Generator | None = None, dtype: Any = None) -> Tensor:
    """`randint(low=0, high, size)`: integers, `low` included and `high` not. Raises RuntimeError if there are none."""
    *bounds, size = bounds_and_size
    low, high = bounds if len(bounds) == 2 else (0, *bounds)
    if low >= high:
        raise RuntimeError(f"randint(): expects 'low' < 'high', but got low {low} >= high {high}")
    kind = dtypes.as_dtype(dtypes.int64 if dtype is None else dtype, "randint")
    return _made(numbers_of(generator).integers(low, high, _sizes("randint", (size,))), kind, False)


def randperm(n: int, *, generator: Generator | None = None, dtype: Any = None) -> Tensor:
    """The integers below n in random order. Raises RuntimeError for a negative n."""
    if n < 0:
        raise RuntimeError(f"randperm(): n must be non-negative, got {n}")
    kind = dtypes.as_dtype(dtypes.int64 if dtype is None else dtype, "randperm")
    return _made(numbers_of(generator).permutation(n), kind, False)


def rand_like(input: Tensor, *, dtype: Any = None, requires_grad: bool = False) -> Tensor:
    """`rand` of the shape and dtype of `input`."""
    return rand(input.shape, dtype=input.dtype if dtype is None else dtype, requires_grad=requires_grad)


def randn_like(input: Tensor, *, dtype: Any = None, requires_grad: bool = False) -> Tensor:
    """`randn` of the shape and dtype of `input`."""
    return randn(input.shape, dtype=input.dtype if dtype is None else dtype, requires_grad=requires_grad)


def randint_like(input: Tensor, *bounds: int, dtype: Any = None) -> Tensor:
    """`randint` of the shape and dtype of `input`."""
    return randint(*bounds, input.shape, dtype=input.dtype if dtype is None else dtype)


def normal(mean: Any = 0.0, std: Any = 1.0, size: Any = None, *, generator: Generator | None = None) -> Tensor:
    """Normal, with this mean and standard deviation, numbers or tensors. Raises RuntimeError for a negative one."""
    if np.any(np.asarray(std) < 0):
        raise RuntimeError(f"normal expects std >= 0.0, but found std {np.min(np.asarray(std))}")
    shape = np.broadcast_shapes(np.shape(mean), np.shape(std)) if size is None else _sizes("normal", (size,))
    return randn(shape, generator=generator) * std + mean  # type: ignore[no-any-return]


def bernoulli(input: Tensor, *, generator: Generator | None = None) -> Tensor:
    """1 with the probability given at each place, else 0. Raises RuntimeError outside of [0, 1]."""
    p = input.array
    if not ((p >= 0) & (p <= 1)).all():
        raise RuntimeError("bernoulli(): expected all probabilities to be between 0 and 1")
    return _made(numbers_of(generator).random(p.shape) < p, p.dtype, False)


def multinomial(
    input: Tensor, num_samples: int, replacement: bool = False, *, generator: Generator | None = None
) -> Tensor:
    """Indices drawn from each row with probability proportional to its weights.

    Shapes: input (C,) or (N, C) → (num_samples,) or (N, num_samples).
    Raises RuntimeError for weights that are negative, not finite or all 0, and for too many samples.
    """
    weights = np.atleast_2d(input.array.astype(np.float64))
    if not (np.isfinite(weights).all() and (weights >= 0).all()):
        raise RuntimeError("multinomial(): probability tensor contains either `inf`, `nan` or element < 0")
    if (weights.sum(1) <= 0).any():
        raise RuntimeError("multinomial(): invalid multinomial distribution (sum of probabilities <= 0)")
    if not replacement and num_samples > (weights > 0).sum(1).min(initial=weights.shape[1]):
        raise RuntimeError(
            f"multinomial(): cannot draw {num_samples} samples without replacement from so few categories"
        )
    source = numbers_of(generator)
    rows = [source.choice(len(w), num_samples, replacement, w / w.sum()) for w in weights]
    return _made(np.array(rows).reshape(*input.shape[:-1], num_samples), np.int64, False)
