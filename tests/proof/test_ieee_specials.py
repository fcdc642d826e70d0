"""NaN, infinities, -0.0, denormals and huge numbers, forward and backward, come out as PyTorch's: see ieee_cases.py.

Where they do not, it is said here and why; an exception that is no longer needed fails.
"""

import importlib
import itertools
import json

import ieee_cases
import numpy as np
import pytest

import scalargrad
from scalargrad.operation import TABLE, Op

RECORDED = json.loads(ieee_cases.RECORD.read_text(encoding="utf-8"))
DIGITS = {"float64": 1e-12, "float32": 2e-6}


def extreme(at, dtype):
    """Some number is denormal, or its square overflows: in-between results depend on the order of operations."""
    information = np.finfo(dtype)
    sizes = np.abs([x for x in at if np.isfinite(x) and x != 0])
    return bool(np.any((sizes < information.smallest_normal) | (sizes > float(information.max) ** 0.5)))


def has_nan(at, dtype):
    return bool(np.isnan(at).any())


def no_numbers(at, dtype):
    return not np.isfinite(at).all()


def far(at, dtype):
    """exp is denormal in float32 there: PyTorch computes in another precision, or keeps what NumPy's exp flushes."""
    return extreme(at, dtype) or bool(np.any(np.abs(at) >= 80)) or no_numbers(at, dtype)


def saturated(at, dtype):
    """What is left of 1 after sigmoid is taken away has few digits, and the last place of sigmoid decides on them."""
    return far(at, dtype) or bool(np.any(np.array(at) >= 30))


def tail(at, dtype):
    """There the normal distribution is less than its rounding error beside 1, from which PyTorch takes it."""
    return far(at, dtype) or bool(np.any(np.array(at) <= -8))


ORDER = (extreme, "another order of operations, so that what lies between overflows or underflows elsewhere")
EXCEPT = {
    "pow 0.5": (lambda at, dtype: at[0] in (0, -np.inf), "PyTorch takes the root, where IEEE's pow differs"),
    "rsqrt": ORDER, "reciprocal": ORDER, "divided by": ORDER, "div": ORDER, "mse_loss": ORDER,
    "var": ORDER, "std": ORDER, "layer_norm": ORDER, "batch_norm": ORDER, "group_norm": ORDER,
    "log1p": (extreme, "PyTorch's log1p of the smallest denormal number is 0"),
    "fmod": (extreme, "PyTorch's fmod by a denormal number is nan"),
    "remainder": (extreme, "PyTorch's remainder by a denormal number is nan"),
    "hardtanh": (has_nan, "PyTorch's vector code gives 0, its scalar code the gradient"),
    "elu": (has_nan, "PyTorch's float32 code gives the gradient, its float64 code nan"),
    "gelu": (tail, "PyTorch's float32 code gives nan for inf, and loses in the tail what this library keeps"),
    "sigmoid": (saturated, "PyTorch's is 0 where the result is denormal, and differs in the last place near 1"),
    "silu": (far, "PyTorch's sigmoid is 0 where the result is denormal"),
    "amax": (has_nan, "PyTorch gives nan to all entries, this library the gradient to those that are nan"),
    "amin": (has_nan, "PyTorch gives nan to all entries, this library the gradient to those that are nan"),
    "cumprod": (
        lambda at, dtype: no_numbers(at, dtype) or extreme(at, dtype),
        "PyTorch divides by the entries, which gives nan where the product has a derivative",
    ),
}  # fmt: skip
"""For which operands a case may differ, and why."""

SIGNED_ZERO = {
    "remainder": "PyTorch's has the sign of C's fmod, which is the dividend's",
    "binary_cross_entropy": "another order of signs and sums",
    "pow": "PyTorch chooses 0 for the exponent's gradient where the base is 0, whatever its sign",
    "atan2": "where the squares are 0, PyTorch multiplies by 0, and the operand's sign shows",
    "l1_loss": "PyTorch gives the second operand -0.0 where the difference is 0 or nan",
    "amax": "0.0 and -0.0 are equal, and either is the largest",
    "amin": "0.0 and -0.0 are equal, and either is the smallest",
    "norm": "PyTorch chooses 0 for the gradient where the norm is 0",
    "cross_entropy": "a gradient of 0 makes 0 less 0 here, and minus 0 in PyTorch's two steps",
    "softmax": "0 times the rounding error of 1 - 1, which has either sign",
    "cumsum": "PyTorch begins to add at 0.0, and 0.0 + -0.0 is 0.0",
    "cumprod": "another order of products",
    "matmul": "sums of products begin at 0.0 here, and 0.0 + -0.0 is 0.0",
    "layer_norm": "PyTorch computes x * scale + shift, and not (x - mean) * scale",
    "batch_norm": "PyTorch computes x * scale + shift, and not (x - mean) * scale",
}
"""Cases whose zeros may have another sign than PyTorch's, and why."""

DIVIDED_BY = {"sum": 1, "mean": 4, "avg_pool2d": 4, "adaptive_avg_pool2d": 4}
"""Sums of four numbers, whose order is the instruction set's: of huge ones it decides what overflows or is lost."""


def sums_in_any_order(numbers):
    """What every order of adding these up comes to, in their own type."""
    if len(numbers) == 1:
        return set(numbers)
    first, *others = range(len(numbers))
    return {
        a + b
        for n in range(len(others))
        for left in itertools.combinations(others, n)
        for a in sums_in_any_order([numbers[i] for i in (first, *left)])
        for b in sums_in_any_order([numbers[i] for i in others if i not in left])
    }


def kinds(x, zeros):
    """nan, infinity, number or zero, with its sign: what no tolerance is to blur. Signs of zeros only if asked for."""
    signs = np.where(np.signbit(x), "-", "+")
    named = np.char.add(signs, np.where(np.isinf(x), "inf", np.where(x == 0, "0", "number")))
    return np.where(np.isnan(x), "nan", named if zeros else np.where(x == 0, "0", named))


def differing(ours, torchs, dtype, signs, size, near=False):
    """Where they are not the same kind of number, or not close; zeros by their `signs`, too.

    Within `size` · rounding of zero, numbers are close, and if `near`, of the same kind: but for two zeros.
    """
    slack = DIGITS[dtype] * size + 1e-6 * float(np.finfo(dtype).smallest_normal)
    with np.errstate(all="ignore"):
        close = np.abs(ours - torchs) <= DIGITS[dtype] * np.abs(torchs) + slack
    alike = kinds(ours, signs) == kinds(torchs, signs)
    if near:
        alike |= (np.abs(ours) <= slack) & (np.abs(torchs) <= slack) & ((ours != 0) | (torchs != 0))
    return ~(alike & (close | ~np.isfinite(torchs)))


def is_in_some_order(ours, at, dtype, divisor):
    """Whether `ours` is the sum of numbers that lie too far apart for any order to do, divided by `divisor`."""
    if not extreme(at, dtype):
        return False
    kind = np.dtype(dtype).type
    with np.errstate(all="ignore"):
        possible = np.array([total / kind(divisor) for total in sums_in_any_order([kind(x) for x in at])])
    return bool(np.isin(kind(ours), possible) or (np.isnan(ours) and np.isnan(possible).any()))


def compared(group, name, dtype, signs):
    """(what, operands, ours, torch's) for every number that differs; zeros of another sign only if `signs`."""
    columns = [np.array(x) for x in ieee_cases.OPERANDS[group](dtype)]
    recorded = RECORDED["/".join((group, name, dtype))]
    for what, found in ieee_cases.results(scalargrad, group, name, dtype).items():
        near = what != "y" or group == "reducing" or name in SIGNED_ZERO
        for ours, torchs in [(found, recorded[what])] if what == "y" else zip(found, recorded[what], strict=True):
            ours, torchs = (np.zeros(1) if x is None else np.array(x) for x in (ours, torchs))
            seed = float(what.rpartition(" ")[2]) if what != "y" else 0.0
            size = seed if group == "reducing" and np.isfinite(seed) else 0.0
            for i in np.flatnonzero(differing(ours, torchs, dtype, signs, size, near)):
                at = columns[0][i * len(columns[0]) // len(ours)] if group == "reducing" else [c[i] for c in columns]
                yield what, np.ravel(at).tolist(), float(ours[i]), float(torchs[i])


@pytest.mark.parametrize(("group", "name", "dtype"), ieee_cases.CASES)
def test_special_numbers_come_out_as_pytorchs(group, name, dtype):
    excused, _ = EXCEPT.get(name, (None, ""))
    wrong = [
        f"{what} at {at}: {ours!r}, but torch {RECORDED['torch']} gives {torchs!r}"
        for what, at, ours, torchs in compared(group, name, dtype, name not in SIGNED_ZERO)
        if not (excused and excused(at, dtype))
        and not (name in DIVIDED_BY and what == "y" and is_in_some_order(ours, at, dtype, DIVIDED_BY[name]))
    ]
    assert not wrong, "\n".join(wrong)


@pytest.mark.parametrize("name", DIVIDED_BY)
@pytest.mark.parametrize("dtype", DIGITS)
def test_a_sum_of_huge_numbers_is_what_some_order_of_adding_them_gives(name, dtype):
    """And of nothing else: the same mean of quarters would not overflow where the sum does."""
    y = ieee_cases.results(scalargrad, "reducing", name, dtype)["y"]
    rows = [row for row in zip(y, ieee_cases.lines(dtype), strict=True) if extreme(row[1], dtype)]
    assert len(rows) == 3
    assert all(is_in_some_order(*row, dtype, DIVIDED_BY[name]) for row in rows), rows


@pytest.mark.parametrize("name", EXCEPT)
def test_no_exception_is_made_without_need(name):
    cases = [case for case in ieee_cases.CASES if case[1] == name]
    assert any(EXCEPT[name][0](at, case[2]) for case in cases for _, at, *_ in compared(*case, False))


@pytest.mark.parametrize("name", SIGNED_ZERO)
def test_no_sign_of_zero_is_excepted_without_need(name):
    cases = [case for case in ieee_cases.CASES if case[1] == name]
    assert any(len([*compared(*case, True)]) > len([*compared(*case, False)]) for case in cases)


HIDDEN = """deviation_reciprocal standardize standardize_grad batch_norm_by_constants dropout entries nll_loss_of_labels
    max_pool2d_input_grad max_pool2d_positions max_pool2d_take adaptive_max_pool2d_positions
    adaptive_max_pool2d_take""".split()
"""Rows that only second derivatives, running statistics or random masks use: PyTorch shows nothing of the kind."""


def test_every_row_that_computes_is_asked_about_special_numbers(monkeypatch):
    """Elementwise functions, reductions, losses, normalisation, pooling: a row that no case reaches fails by name."""
    reached = set()
    for key, op in TABLE.items():
        monkeypatch.setattr(op, "array", lambda *xs, key=key, array=op.array: reached.add(key) or array(*xs))
    for case in ieee_cases.CASES:
        ieee_cases.results(scalargrad, *case)
    computing = set()
    for name in (
        "elementwise activation reduction summation extremes scanning loss classification pooling normalization".split()
    ):
        module = importlib.import_module(f"scalargrad.ops.{name}")
        for rows in (c for c in vars(module).values() if isinstance(c, type) and c.__module__ == module.__name__):
            computing |= {op.key for op in vars(rows).values() if isinstance(op, Op)}
    assert sorted(computing - reached - set(HIDDEN)) == []


def test_the_comparison_tells_kinds_of_numbers_apart():
    special = np.array([np.nan, np.inf, -np.inf, 0.0, -0.0, 1.0, -1.0])
    for i, a in enumerate(special):
        for k, b in enumerate(special):
            assert differing(np.array([a]), np.array([b]), "float64", True, 0.0)[0] == (i != k)
    assert differing(np.array([1 + 1e-9]), np.array([1.0]), "float64", True, 0.0)[0]
