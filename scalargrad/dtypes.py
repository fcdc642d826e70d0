"""dtypes, which are NumPy's, and PyTorch's rules for what arithmetic between them gives."""

from collections.abc import Sequence
from contextlib import suppress
from typing import Any

import numpy as np

float64 = double = np.dtype(np.float64)
float32 = np.dtype(np.float32)
int64 = long = np.dtype(np.int64)
int32 = np.dtype(np.int32)
int16 = np.dtype(np.int16)
int8 = np.dtype(np.int8)
uint8 = np.dtype(np.uint8)
_PYTHON: dict[Any, np.dtype[Any]] = {float: float64, int: int64, bool: np.dtype(np.bool_)}
bool = np.dtype(np.bool_)

default_float = float32
"""What Python's floats become, and what integers become in a division."""

DTYPES = (float32, float64, int64, int32, int16, int8, uint8, bool)
_NAMES: dict[Any, np.dtype[Any]] = {"float": float32, "double": float64, "int": int32, "long": int64, "bool": bool}
_CATEGORY = {"b": 0, "i": 1, "u": 1, "f": 2}


def as_dtype(dtype: Any, operation: str = "dtype") -> np.dtype[Any]:
    """`dtype` as one that a Tensor can have: a NumPy dtype or its name, or Python's float, int and bool.

    Raises TypeError for any other, float16 and complex included.
    """
    found: Any = None
    if isinstance(dtype, (type, str)):
        found = _PYTHON.get(dtype) or _NAMES.get(dtype)
    if found is None and dtype is not None:
        with suppress(TypeError):
            found = np.dtype(dtype).newbyteorder("=")
    if found is None or found not in DTYPES:  # None == np.dtype("float64"), says NumPy
        raise TypeError(f"{operation}(): expected one of {', '.join(map(str, DTYPES))}, got {dtype!r}")
    return DTYPES[DTYPES.index(found)]  # that very object: `promoted` compares by `is`


def _category(x: Any) -> int:
    """0 for booleans, 1 for integers, 2 for floats. Raises TypeError for what is no number."""
    if isinstance(x, np.ndarray):
        return _CATEGORY[x.dtype.kind]
    if not isinstance(x, (int, float)):
        raise TypeError(f"expected a Tensor or a real number, got {type(x).__name__}")
    return 0 if x is True or x is False else 1 if isinstance(x, int) else 2


def result_type(inputs: Sequence[Any], floating: Any = False) -> np.dtype[Any]:
    """The dtype in which an operation on arrays and Python numbers is carried out.

    PyTorch's rule: arrays with dimensions decide; arrays without dimensions, and after them Python's numbers, count
    only where they are of a higher category (bool < integer < float). Float and integer give the float's dtype; with
    `floating`, a result that would not be a float is the default float.
    """
    highest = -1
    chosen: np.dtype[Any] = bool
    groups: list[list[Any]] = [[], [], []]
    for x in inputs:
        groups[2 if not isinstance(x, np.ndarray) else 1 if x.ndim == 0 else 0].append(x)
    for group in groups:
        category = max(map(_category, group), default=-1)
        if category <= highest:
            continue
        members = [x.dtype for x in group if isinstance(x, np.ndarray) and _category(x) == category]
        highest = category
        chosen = np.result_type(*members) if members else (bool, int64, default_float)[category]
    return default_float if floating and chosen.kind != "f" else chosen


def promoted(inputs: list[Any], floating: Any = False) -> list[Any]:
    """The inputs cast to their common dtype. Floats of one dtype, perhaps with Python's numbers, are left alone."""
    if _is_uniform(inputs):
        return inputs
    numbers = [x.item() if isinstance(x, np.generic) else x for x in inputs]
    dtype = result_type(numbers, floating)
    return [x.astype(dtype, copy=False) if isinstance(x, np.ndarray) else dtype.type(x) for x in numbers]


def _is_uniform(inputs: list[Any]) -> Any:
    dtype = None
    for x in inputs:
        kind = type(x)
        if kind is np.ndarray:
            if dtype is None:
                dtype = x.dtype
            elif x.dtype is not dtype:
                return False
        elif kind is not float and kind is not int:
            return False
    return dtype is float32 or dtype is float64
