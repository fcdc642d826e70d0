"""Tables looked up by number: `embedding`, whose gradient accumulates over the uses of a row, and `one_hot`."""

from __future__ import annotations

from typing import Any

import numpy as np

from scalargrad import kernels
from scalargrad.kernels.memory import zeros
from scalargrad.operation import Op
from scalargrad.ops.arguments import array, extent


def _looked_up(w: Any, indices: Any, padding_idx: int | None) -> Any:
    # Of rows that lie one after the other, `take` copies whole ones; others it would first bring into that order, all.
    return w.take(indices, 0) if w.flags.c_contiguous else w[indices]


def _accumulated(d: Any, indices: Any, padding_idx: int | None, shape: tuple[int, ...]) -> Any:
    """Each row's gradients, added up."""
    rows = indices.reshape(-1).astype(np.int64, copy=False)
    w_grad = kernels.index_add(zeros(shape, d.dtype), 0, rows, d.reshape(len(rows), shape[1]))
    if padding_idx is not None:
        w_grad[padding_idx] = 0
    return w_grad


def _without_padding(w: Any, indices: Any, padding_idx: int | None) -> Any:
    """The rows looked up, where the row `padding_idx` counts as zeros."""
    y = _looked_up(w, indices, padding_idx)
    if padding_idx is not None:
        y[indices == padding_idx] = 0
    return y


def _one_hot(classes: Any, num_classes: int) -> Any:
    return np.asarray(classes[..., None] == np.arange(num_classes), np.int64)


class looking_up:
    """The rows. Looking up passes no gradient to the row `padding_idx`, and so the gradient's gradient skips it."""

    embedding = Op(
        None,
        _looked_up,
        "w indices padding_idx",
        lambda g, w_shape, indices, padding_idx: looking_up.embedding_grad(g, indices, padding_idx, w_shape),
    )
    embedding_grad: Op = Op(
        None,
        _accumulated,
        "d indices padding_idx shape",
        lambda g, indices, padding_idx: looking_up.embedding_without_padding(g, indices, padding_idx),
        name="embedding_dense_backward",
    )
    embedding_without_padding: Op = Op(
        None,
        _without_padding,
        "w indices padding_idx",
        lambda g, w_shape, indices, padding_idx: looking_up.embedding_grad(g, indices, padding_idx, w_shape),
        name="embedding",
    )
    one_hot = Op(None, _one_hot, "classes num_classes")


def _numbers(operation: str, input: Any) -> Any:
    """The array of a Tensor of integers."""
    numbers = array(operation, input)
    if numbers.dtype.kind not in "iu":
        raise RuntimeError(f"{operation}(): expected a tensor of integers, got {numbers.dtype}")
    return numbers


def embedding(input: Any, weight: Any, padding_idx: int | None = None) -> Any:
    """The rows of `weight` that `input` numbers. The row `padding_idx` gets no gradient.

    Shapes: input (…) of integers, weight (V, D) → (…, D).
    Raises IndexError for a number outside 0 … V − 1, RuntimeError unless `input` is of integers and `weight` 2D,
    ValueError for a `padding_idx` that is no row.
    """
    numbers = _numbers("embedding", input)
    shape = tuple(weight.shape)
    if len(shape) != 2:
        raise RuntimeError(f"embedding(): 'weight' must be 2-D, got shape {shape}")
    n_rows = shape[0]
    if padding_idx is not None:
        if not -n_rows <= padding_idx < n_rows:
            raise ValueError(f"embedding(): padding_idx must be within the {n_rows} rows, got {padding_idx}")
        padding_idx %= n_rows
    least, most = extent(numbers) if numbers.size else (0, -1)
    if least < 0 or most >= n_rows:
        wrong = numbers[(numbers < 0) | (numbers >= n_rows)]
        raise IndexError(f"embedding(): index out of range in self: {wrong[0]} for a table of {n_rows} rows")
    return looking_up.embedding(weight, input, padding_idx)


def one_hot(tensor: Any, num_classes: int = -1) -> Any:
    """A 1 at the place of each number and 0 elsewhere, as int64; −1 classes are as many as the largest number needs.

    Shapes: (…) of integers → (…, num_classes).
    Raises RuntimeError for a negative number, one that is no class, or no classes.
    """
    numbers = _numbers("one_hot", tensor)
    least, most = extent(numbers) if numbers.size else (0, -1)
    if least < 0:
        raise RuntimeError(f"one_hot(): Class values must be non-negative, got {least}")
    if num_classes == -1:
        if not numbers.size:
            raise RuntimeError("one_hot(): Can not infer total number of classes from empty tensor.")
        num_classes = most + 1
    if num_classes < 1:
        raise RuntimeError(f"one_hot(): num_classes should be positive, got {num_classes}")
    if most >= num_classes:
        raise RuntimeError(
            f"one_hot(): Class values must be smaller than num_classes, got {most} for {num_classes} classes"
        )
    return looking_up.one_hot(tensor, num_classes)
