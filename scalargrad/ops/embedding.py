"""Tables looked up by number: `embedding`, whose gradient accumulates over the uses of a row, and `one_hot`."""

from __future__ import annotations

from typing import Any

import numpy as np

from scalargrad import xp
from scalargrad.operation import Op
from scalargrad.ops.arguments import array


def _looked_up(w: Any, indices: Any, padding_idx: int | None) -> Any:
    return w[indices]


@xp.quiet
def _accumulated(d: Any, indices: Any, padding_idx: int | None, shape: tuple[int, ...]) -> Any:
    """Each row's gradients, added up: brought side by side by sorting, which is faster than adding one by one."""
    w_grad = np.zeros(shape, d.dtype)
    rows = indices.reshape(-1)
    if rows.size:
        order = np.argsort(rows, kind="stable")
        ordered = rows[order]
        starts = np.flatnonzero(np.r_[True, ordered[1:] != ordered[:-1]])
        w_grad[ordered[starts]] = np.add.reduceat(d.reshape(len(rows), -1)[order], starts, 0)
    if padding_idx is not None:
        w_grad[padding_idx] = 0
    return w_grad


def _without_padding(w: Any, indices: Any, padding_idx: int | None) -> Any:
    """The rows looked up, where the row `padding_idx` counts as zeros."""
    y = w[indices]
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
    if weight.ndim != 2:
        raise RuntimeError(f"embedding(): 'weight' must be 2-D, got shape {tuple(weight.shape)}")
    n_rows = weight.shape[0]
    if padding_idx is not None:
        if not -n_rows <= padding_idx < n_rows:
            raise ValueError(f"embedding(): padding_idx must be within the {n_rows} rows, got {padding_idx}")
        padding_idx %= n_rows
    if numbers.size and not (numbers.min() >= 0 and numbers.max() < n_rows):
        wrong = numbers[(numbers < 0) | (numbers >= n_rows)]
        raise IndexError(f"embedding(): index out of range in self: {wrong[0]} for a table of {n_rows} rows")
    return looking_up.embedding(weight, input, padding_idx)


def one_hot(tensor: Any, num_classes: int = -1) -> Any:
    """A 1 at the place of each number and 0 elsewhere, as int64; −1 classes are as many as the largest number needs.

    Shapes: (…) of integers → (…, num_classes).
    Raises RuntimeError for a negative number, one that is no class, or no classes.
    """
    numbers = _numbers("one_hot", tensor)
    if numbers.size and numbers.min() < 0:
        raise RuntimeError(f"one_hot(): Class values must be non-negative, got {numbers.min()}")
    if num_classes == -1:
        if not numbers.size:
            raise RuntimeError("one_hot(): Can not infer total number of classes from empty tensor.")
        num_classes = int(numbers.max()) + 1
    if num_classes < 1:
        raise RuntimeError(f"one_hot(): num_classes should be positive, got {num_classes}")
    if numbers.size and numbers.max() >= num_classes:
        raise RuntimeError(
            f"one_hot(): Class values must be smaller than num_classes, got {numbers.max()} for {num_classes} classes"
        )
    return looking_up.one_hot(tensor, num_classes)
