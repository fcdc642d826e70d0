"""Elementary functions on floats: IEEE 754 results, NumPy's in float64, and never an exception."""

import math

import numpy as np
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from scalargrad import xp

FLOATS = st.floats(allow_nan=True, allow_infinity=True, allow_subnormal=True)
EDGES = [
    0.0,
    -0.0,
    1.0,
    -1.0,
    0.5,
    -0.5,
    2.0,
    -2.0,
    3.0,
    -3.0,
    1e-310,
    1e308,
    -1e308,
    710.0,
    -750.0,
    5e-324,
    math.inf,
    -math.inf,
    math.nan,
]

ONE = {
    xp.exp: np.exp,
    xp.expm1: np.expm1,
    xp.log: np.log,
    xp.log1p: np.log1p,
    xp.sqrt: np.sqrt,
    xp.sin: np.sin,
    xp.cos: np.cos,
    xp.tan: np.tan,
    xp.sign: lambda a: np.nan_to_num(np.sign(a)),  # 0 for nan, as in PyTorch
    xp.relu: lambda a: np.maximum(a, 0.0),
}
TWO = {
    xp.div: np.divide,
    # Two exponents, because for one alone NumPy takes square roots where it is 0.5, and loses pow(-inf, 0.5) = inf.
    xp.pow: lambda a, n: np.power(a, np.array([n, 3.0]))[0],
    xp.maximum: np.maximum,
    xp.minimum: np.minimum,
}


def agree(x, y):
    """Equal to a few units in the last place, with inf and nan in the same places. Subnormal results may be flushed."""
    assert isinstance(x, float)
    np.testing.assert_allclose(x, y, rtol=1e-14, atol=1e-320)


@pytest.mark.parametrize("name", [f.__name__ for f in ONE])
@given(a=FLOATS)
def test_a_function_of_one_number_is_numpys(name, a):
    function = getattr(xp, name)
    if name in ("sin", "cos", "tan") and abs(a) > 1e5 and math.isfinite(a):
        a = math.remainder(a, 1e5)  # argument reduction is the C library's affair
    with np.errstate(all="ignore"):
        agree(function(a), float(ONE[function](np.float64(a))))


@pytest.mark.parametrize("name", [f.__name__ for f in ONE])
def test_a_function_of_one_number_is_numpys_at_the_edges(name):
    for a in EDGES:
        if name in ("sin", "cos", "tan") and 1e5 < abs(a) < math.inf:
            continue  # argument reduction is the C library's affair
        with np.errstate(all="ignore"):
            agree(getattr(xp, name)(a), float(ONE[getattr(xp, name)](np.float64(a))))


@pytest.mark.parametrize("name", [f.__name__ for f in TWO])
@pytest.mark.parametrize("a", EDGES)
def test_a_function_of_two_numbers_is_numpys_at_the_edges(name, a):
    function = getattr(xp, name)
    with np.errstate(all="ignore"):
        for b in EDGES:
            expected = float(TWO[function](np.float64(a), np.float64(b)))
            agree(function(a, b), expected)
            if name in ("div", "pow"):
                assert math.isnan(expected) or math.copysign(1, function(a, b)) == math.copysign(1, expected), (a, b)


@pytest.mark.parametrize("name", ["div", "pow"])
@given(a=FLOATS, b=FLOATS)
@example(a=-1e300, b=3.0)
@example(a=-1e300, b=2.0)
@example(a=-0.0, b=-3.0)
@example(a=-0.0, b=-2.0)
def test_a_function_of_two_numbers_is_numpys(name, a, b):
    function = getattr(xp, name)
    with np.errstate(all="ignore"):
        agree(function(a, b), float(TWO[function](np.float64(a), np.float64(b))))


def test_relu_keeps_minus_zero_and_nan():
    assert math.copysign(1, xp.relu(-0.0)) == -1
    assert math.isnan(xp.relu(math.nan))


def test_relu_grad_is_zero_at_the_kink_even_for_infinite_gradients():
    assert xp.relu_grad(math.inf, 0.0) == 0.0
    assert xp.relu_grad(3.0, 1e-300) == 3.0
    assert xp.relu_grad(3.0, math.nan) == 3.0


def test_select_chooses_and_does_not_multiply():
    assert xp.select(0.0, math.inf) == 0.0
    assert xp.select(1.0, math.inf) == math.inf


def test_sigmoid_does_not_overflow_on_either_side():
    assert xp.sigmoid(1000.0) == 1.0
    assert xp.sigmoid(-1000.0) == 0.0
    assert xp.sigmoid(-math.inf) == 0.0
    assert xp.sigmoid(-745.0) > 0.0


def test_quiet_keeps_numpys_warnings_in():
    with np.errstate(all="raise"):
        assert xp.quiet(np.divide)(np.ones(1), np.zeros(1))[0] == np.inf


@pytest.mark.parametrize(
    "expression",
    [
        lambda x: x / 0.0,
        lambda x: 1.0 / (x - x),
        lambda x: (x + 1) * (x / 0) - x,
        lambda x: -(2 * x) / (0 * x),
        lambda x: (3 - x) / 0.0,
        lambda x: -x / 0.0 + 1,
    ],
)
def test_ieee_floats_divide_as_numpys(expression):
    with np.errstate(all="ignore"):
        np.testing.assert_equal(float(expression(xp.Ieee(2.0))), float(expression(np.float64(2.0))))
        np.testing.assert_equal(float(expression(xp.Ieee(-0.0))), float(expression(np.float64(-0.0))))
