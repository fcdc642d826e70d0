"""Comparisons, tests and logic, element by element: results are booleans, and carry no gradient."""

from __future__ import annotations

from typing import Any

import numpy as np

from scalargrad.operation import Op, check_broadcast, in_numpy
from scalargrad.rules import ops


def _integers(function: Any) -> Any:
    """`function`, for bitwise use: refuses floats as PyTorch does."""

    def bitwise(*xs: Any) -> Any:
        if any(isinstance(x, float) or (isinstance(x, np.ndarray) and x.dtype.kind == "f") for x in xs):
            raise NotImplementedError(
                f"{function.__name__}(): expected integers or booleans, got a floating point tensor"
            )
        return function(*xs)

    return bitwise


class comparing:
    """The rows that only arrays have."""

    isnan = Op(None, np.isnan, "a")
    isinf = Op(None, np.isinf, "a")
    isfinite = Op(None, np.isfinite, "a")
    isclose = Op(None, in_numpy(np.isclose), "a b rtol atol equal_nan")
    logical_and = Op(None, np.logical_and, "a b")
    logical_or = Op(None, np.logical_or, "a b")
    logical_xor = Op(None, np.logical_xor, "a b")
    bitwise_and = Op(None, _integers(np.bitwise_and), "a b", promote="common")
    bitwise_or = Op(None, _integers(np.bitwise_or), "a b", promote="common")
    bitwise_xor = Op(None, _integers(np.bitwise_xor), "a b", promote="common")
    bitwise_not = Op(None, _integers(np.bitwise_not), "a")


def eq(input: Any, other: Any) -> Any:
    """True where equal."""
    return ops.eq(input, other)


def ne(input: Any, other: Any) -> Any:
    """True where not equal."""
    return ops.ne(input, other)


def lt(input: Any, other: Any) -> Any:
    """True where input < other."""
    return ops.lt(input, other)


def le(input: Any, other: Any) -> Any:
    """True where input <= other."""
    return ops.le(input, other)


def gt(input: Any, other: Any) -> Any:
    """True where input > other."""
    return ops.gt(input, other)


def ge(input: Any, other: Any) -> Any:
    """True where input >= other."""
    return ops.ge(input, other)


def isnan(input: Any) -> Any:
    """True where nan."""
    return comparing.isnan(input)


def isinf(input: Any) -> Any:
    """True where inf or -inf."""
    return comparing.isinf(input)


def isfinite(input: Any) -> Any:
    """True where neither nan nor infinite."""
    return comparing.isfinite(input)


def isclose(input: Any, other: Any, rtol: float = 1e-5, atol: float = 1e-8, equal_nan: bool = False) -> Any:
    """True where |input - other| <= atol + rtol · |other|. Raises RuntimeError if the shapes do not broadcast."""
    check_broadcast(comparing.isclose, (input, other))
    return comparing.isclose(input, other, rtol, atol, equal_nan)


def allclose(input: Any, other: Any, rtol: float = 1e-5, atol: float = 1e-8, equal_nan: bool = False) -> bool:
    """True if `isclose` holds everywhere."""
    return bool(isclose(input, other, rtol, atol, equal_nan).array.all())


def equal(input: Any, other: Any) -> bool:
    """True if two tensors have the same shape and the same elements."""
    return input.shape == other.shape and bool((input.array == other.array).all())


def logical_and(input: Any, other: Any) -> Any:
    """True where both are not 0."""
    return comparing.logical_and(input, other)


def logical_or(input: Any, other: Any) -> Any:
    """True where either is not 0."""
    return comparing.logical_or(input, other)


def logical_xor(input: Any, other: Any) -> Any:
    """True where just one is not 0."""
    return comparing.logical_xor(input, other)


def logical_not(input: Any) -> Any:
    """True where 0."""
    return ops.logical_not(input)


def bitwise_and(input: Any, other: Any) -> Any:
    """Bits that both have; `and` for booleans. Raises RuntimeError for floats."""
    return comparing.bitwise_and(input, other)


def bitwise_or(input: Any, other: Any) -> Any:
    """Bits that either has; `or` for booleans. Raises RuntimeError for floats."""
    return comparing.bitwise_or(input, other)


def bitwise_xor(input: Any, other: Any) -> Any:
    """Bits that just one has. Raises RuntimeError for floats."""
    return comparing.bitwise_xor(input, other)


def bitwise_not(input: Any) -> Any:
    """Bits inverted; `not` for booleans. Raises RuntimeError for floats."""
    return comparing.bitwise_not(input)
