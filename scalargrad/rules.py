"""The table of derivatives that numbers and arrays share: one row an operation (operation.py says how a row is read).

Kinks are PyTorch's: relu'(0) = abs'(0) = 0, maximum and minimum split a tie, and where a derivative chooses, it
selects rather than multiplying by a mask, because 0 times inf is nan.
"""

import operator
from collections.abc import Callable
from math import inf, tanh
from typing import Any

import numpy as np

from scalargrad import fusion, kernels, xp
from scalargrad.operation import NUMBERS, Op

POSITIVE, NONZERO = (0.0, inf), (0.5, inf)


def where(condition: Any, a: Any, b: Any) -> Any:
    """a where `condition` holds, else b, of two selections."""
    return ops.select(condition, a) + ops.select(ops.logical_not(condition), b)


def unless_zero(n: Any, a: Any) -> Any:
    """a, but 0 where n is 0. A plain number is asked once, and leaves no trace in a graph."""
    return a if type(n) in NUMBERS and n != 0 else ops.select(ops.ne(n, 0), a)


def _shares_of_extreme(g: Any, a: Any, b: Any, beats: Any, wanted: int) -> list[Any]:
    """What two operands get of the gradient of the one that `beats` the other: half each where they tie."""
    ties = kernels.eq(a, b)
    if np.count_nonzero(ties):
        g = kernels.select(ties, kernels.div(g, 2)) + kernels.select(~ties, g)
    found = []
    if wanted & 1:
        found.append(kernels.select(~beats(b, a), g))
    if wanted & 2:
        found.append(kernels.select(~beats(a, b), g))
    return found


def _condition(compare: Callable[[Any, Any], Any], array: Callable[..., Any]) -> Op:
    """A comparison: no derivative. On numbers it is 1.0 or 0.0, so that a Value can hold it."""
    return Op(lambda a, b: float(compare(a, b)), array, "a b", promote="common")


class ops:
    """The rows that numbers and arrays share."""

    add = Op(operator.add, kernels.add, "a b", lambda g: g, lambda g: g, promote="common")
    sub = Op(operator.sub, kernels.sub, "a b", lambda g: g, lambda g: -g, promote="common")
    mul = Op(operator.mul, kernels.mul, "a b", lambda g, b: g * b, lambda g, a: g * a, promote="common")
    div = Op(
        xp.div,
        kernels.div,
        "a b",
        lambda g, b: g / b,
        lambda g, b, y: -g * y / b,
        promote="float",
        domain={"b": NONZERO},
    )
    pow = Op(
        xp.pow,
        kernels.power,
        "a n",
        lambda g, a, n: unless_zero(n, g * (n * ops.pow(a, n - 1))),
        lambda g, a, n, y: g * (y * where(ops.lt(n, 0), ops.log(a), ops.select(ops.ne(a, 0), ops.log(a)))),
        promote="common",
        domain={"a": POSITIVE},
    )
    neg = Op(operator.neg, kernels.neg, "a", lambda g: -g)
    exp = Op(xp.exp, kernels.exp, "a", lambda g, y: g * y, promote="float")
    expm1 = Op(xp.expm1, kernels.expm1, "a", lambda g, y: g * (y + 1), promote="float")
    log = Op(xp.log, kernels.log, "a", lambda g, a: g / a, promote="float", domain={"a": POSITIVE})
    log1p = Op(xp.log1p, kernels.log1p, "a", lambda g, a: g / (a + 1), promote="float", domain={"a": (-1.0, inf)})
    sqrt = Op(xp.sqrt, kernels.sqrt, "a", lambda g, y: g / (2 * y), promote="float", domain={"a": POSITIVE})
    sin = Op(xp.sin, np.sin, "a", lambda g, a: g * ops.cos(a), promote="float")
    cos = Op(xp.cos, np.cos, "a", lambda g, a: -g * ops.sin(a), promote="float")
    tan = Op(xp.tan, np.tan, "a", lambda g, y: g * (1 + y * y), promote="float", domain={"a": (-1.5, 1.5)})
    tanh = Op(tanh, kernels.tanh, "a", lambda g, y: g * (1 - y * y), promote="float")
    sigmoid = Op(
        xp.sigmoid,
        kernels.sigmoid,
        "a",
        lambda g, y: g * (y * (1 - y)),
        gradients=lambda g, y, wanted: [kernels.sigmoid_grad(g, y)],
        promote="float",
    )
    relu = Op(
        xp.relu,
        fusion.relu,
        "a",
        lambda g, y: ops.relu_grad(g, y),
        gradients=fusion.relu_gradients,
        kinks=lambda a: a,
        takes_pending=True,
    )
    relu_grad = Op(
        xp.relu_grad, kernels.relu_grad, "g_y y", lambda g, y: ops.relu_grad(g, y), name="threshold_backward"
    )
    abs = Op(abs, kernels.absolute, "a", lambda g, a: g * ops.sign(a), kinks=lambda a: a)
    sign = Op(xp.sign, kernels.sign, "a", lambda g: ops.select(False, g), kinks=lambda a: a)
    maximum = Op(
        xp.maximum,
        kernels.maximum,
        "a b",
        lambda g, a, b: where(ops.lt(a, b), 0.0, where(ops.eq(a, b), g / 2, g)),
        lambda g, a, b: where(ops.lt(b, a), 0.0, where(ops.eq(a, b), g / 2, g)),
        gradients=lambda g, a, b, wanted: _shares_of_extreme(g, a, b, kernels.gt, wanted),
        promote="common",
        kinks=lambda a, b: a - b,
    )
    minimum = Op(
        xp.minimum,
        kernels.minimum,
        "a b",
        lambda g, a, b: where(ops.gt(a, b), 0.0, where(ops.eq(a, b), g / 2, g)),
        lambda g, a, b: where(ops.gt(b, a), 0.0, where(ops.eq(a, b), g / 2, g)),
        gradients=lambda g, a, b, wanted: _shares_of_extreme(g, a, b, kernels.lt, wanted),
        promote="common",
        kinks=lambda a, b: a - b,
    )
    select = Op(
        xp.select,
        kernels.select,
        "condition a",
        None,
        lambda g, condition: ops.select(condition, g),
        fits=True,
    )

    eq = _condition(operator.eq, kernels.eq)
    ne = _condition(operator.ne, kernels.ne)
    lt = _condition(operator.lt, kernels.lt)
    le = _condition(operator.le, kernels.le)
    gt = _condition(operator.gt, kernels.gt)
    ge = _condition(operator.ge, kernels.ge)
    logical_not = Op(lambda a: float(not a), np.logical_not, "a")
