"""Value: one number that remembers. What it takes, what it refuses, and its IEEE 754 results."""

import math
from decimal import Decimal
from fractions import Fraction

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from scalargrad import Value
from scalargrad.operation import TABLE

NUMBERS = st.floats(allow_nan=True, allow_infinity=True)
EDGES = [0.0, -0.0, 1.0, -1.0, 2.0, -2.0, 0.5, 1e-308, 1e308, -1e308, 800.0, -800.0, math.inf, -math.inf, math.nan]


def gradients(y, *xs):
    for x in xs:
        x.grad = 0.0
    y.backward()
    return tuple(x.grad for x in xs)


def test_a_value_is_its_number_and_a_gradient_of_zero():
    v = Value(3)
    assert (v.data, v.grad, v.op, v.parents) == (3.0, 0.0, None, ())
    assert type(v.data) is float


def test_repr_shows_number_and_gradient():
    a = Value(2.0)
    assert repr(a) == "Value(data=2.0, grad=0.0)"
    (a * 3).backward()
    assert repr(a) == "Value(data=2.0, grad=3.0)"
    assert repr(a * 3) == "Value(data=6.0, grad=0.0)"


@pytest.mark.parametrize("number", [1, True, 2.5, np.float32(0.5), np.float64(0.5), np.int64(3), Fraction(1, 4)])
def test_any_real_number_makes_a_value(number):
    v = Value(number)
    assert type(v.data) is float
    assert v.data == float(number)


def test_an_integer_beyond_the_floats_is_infinite():
    assert Value(10**400).data == math.inf
    assert Value(-(10**400)).data == -math.inf


@pytest.mark.parametrize("junk", ["1", None, [1.0], 1j, b"1", Decimal(1), np.ones(1), np.ones(()), object(), float])
def test_what_is_no_real_number_is_refused_by_name(junk):
    with pytest.raises(TypeError, match=f"expected a real number, got {type(junk).__name__}"):
        Value(junk)


def test_a_value_of_a_value_is_refused():
    with pytest.raises(TypeError, match="got Value"):
        Value(Value(1.0))


@pytest.mark.parametrize("other", ["1", None, [1.0], 1j])
@pytest.mark.parametrize(
    "operate",
    [
        lambda a, b: a + b,
        lambda a, b: a - b,
        lambda a, b: a * b,
        lambda a, b: a / b,
        lambda a, b: a**b,
        lambda a, b: a < b,
        lambda a, b: a >= b,
    ],
)
def test_arithmetic_with_what_is_no_real_number_is_a_type_error(operate, other):
    with pytest.raises(TypeError):
        operate(Value(1.0), other)
    with pytest.raises(TypeError):
        operate(other, Value(1.0))


@pytest.mark.parametrize("method", ["max", "min"])
def test_methods_with_what_is_no_real_number_are_type_errors(method):
    with pytest.raises(TypeError, match="real number"):
        getattr(Value(1.0), method)("1")


@pytest.mark.parametrize("number", [2, True, 0.25, np.float64(0.5), np.float32(0.5), np.int64(3), Fraction(1, 4)])
@pytest.mark.parametrize(
    "operate",
    [
        lambda a, b: a + b,
        lambda a, b: a - b,
        lambda a, b: a * b,
        lambda a, b: a / b,
        lambda a, b: a**b,
    ],
)
def test_numbers_stand_on_either_side(operate, number):
    for y in operate(Value(3.0), number), operate(number, Value(3.0)):
        assert type(y) is Value
        assert type(y.data) is float
    assert operate(Value(3.0), number).data == operate(3.0, float(number))
    assert operate(number, Value(3.0)).data == operate(float(number), 3.0)


def test_huge_integers_are_infinite_operands_not_errors():
    assert (Value(1.0) + 10**400).data == math.inf
    assert (10**400 * Value(-1.0)).data == -math.inf
    assert Value(1.0) < 10**400


def test_equality_and_hash_are_identity_and_order_is_of_numbers():
    a, b = Value(1.0), Value(1.0)
    assert a != b
    assert a == a
    assert a != 1.0
    assert len({a, b}) == 2
    assert {a: "first", b: "second"}[a] == "first"
    assert a <= b
    assert a >= b
    assert not a < b
    assert Value(1.0) < 2
    assert 2 > Value(1.0)  # noqa: SIM300
    assert max(Value(1.0), Value(2.0)).data == 2.0
    assert sorted([Value(2.0), Value(1.0)])[0].data == 1.0
    assert not Value(math.nan) < 1
    assert not Value(math.nan) >= 1
    assert type(a < b) is bool


def test_a_value_has_no_truth():
    with pytest.raises(TypeError, match="no truth"):
        bool(Value(1.0))
    with pytest.raises(TypeError, match="no truth"):
        not Value(0.0)
    with pytest.raises(TypeError, match="no truth"):
        Value(1.0) and Value(2.0)


def test_conversion_to_numbers():
    assert float(Value(2.5)) == 2.5
    assert int(Value(2.5)) == 2
    assert +Value(2.5) is not None
    assert math.sqrt(Value(4.0)) == 2.0


def test_no_operation_changes_its_operands():
    a, b = Value(2.0), Value(3.0)
    a0 = a
    a += b
    assert (a0.data, a.data, b.data) == (2.0, 5.0, 3.0)


UNARY = ["exp", "log", "sqrt", "sin", "cos", "tan", "tanh", "sigmoid", "relu", "abs"]
DERIVATIVES = {
    "exp": np.exp,
    "log": lambda a: 1 / a,
    "sqrt": lambda a: 1 / (2 * np.sqrt(a)),
    "sin": np.cos,
    "cos": lambda a: -np.sin(a),
    "tan": lambda a: 1 + np.tan(a) ** 2,
    "tanh": lambda a: 1 - np.tanh(a) ** 2,
    "sigmoid": lambda a: (lambda s: s * (1 - s))(1 / (1 + np.exp(-a))),
    "relu": lambda a: np.where(a <= 0, 0.0, 1.0),
    "abs": lambda a: np.nan_to_num(np.sign(a)),
}


@pytest.mark.parametrize("name", UNARY)
def test_unary_methods_and_their_derivatives_are_ieee_at_the_edges(name):
    for number in [x for x in EDGES if abs(x) < 1e300 or not math.isfinite(x) or name not in ("sin", "cos", "tan")]:
        a = Value(number)
        y = getattr(a, name)()
        y.backward()
        with np.errstate(all="ignore"):
            x = np.float64(number)
            np.testing.assert_allclose(
                y.data, TABLE[name].array(x), rtol=1e-13, atol=1e-300, err_msg=f"{name}({number})"
            )
            np.testing.assert_allclose(
                a.grad, DERIVATIVES[name](x), rtol=1e-12, atol=1e-300, err_msg=f"{name}'({number})"
            )


BINARY = {
    "add": (lambda a, b: a + b, lambda a, b: (1.0, 1.0)),
    "sub": (lambda a, b: a - b, lambda a, b: (1.0, -1.0)),
    "mul": (lambda a, b: a * b, lambda a, b: (b, a)),
    "div": (lambda a, b: a / b, lambda a, b: (1 / b, -(a / b) / b)),
}


@pytest.mark.parametrize("name", BINARY)
@pytest.mark.parametrize("seed", [1.0, -2.5, 0.0])
def test_arithmetic_and_its_derivatives_are_ieee_at_the_edges(name, seed):
    function, derivatives = BINARY[name]
    for p in EDGES:
        for q in EDGES:
            a, b = Value(p), Value(q)
            y = function(a, b)
            y.backward(seed)
            with np.errstate(all="ignore"):
                x, z = np.float64(p), np.float64(q)
                np.testing.assert_equal(y.data, float(function(x, z)))
                # One formula may be grouped in two ways where it overflows in between: only div's second.
                da, db = (np.float64(seed) * d for d in derivatives(x, z))
                np.testing.assert_allclose(a.grad, da, rtol=1e-15, err_msg=f"{p} {name} {q}")
                if name != "div" or (abs(q) > 1e-300 and seed):
                    np.testing.assert_allclose(b.grad, db, rtol=1e-14, atol=1e-320, err_msg=f"{p} {name} {q}")


@given(p=NUMBERS, q=NUMBERS)
def test_nothing_raises_for_the_size_of_a_number(p, q):
    a, b = Value(p), Value(q)
    y = (a + b) * (a - b) / b + a**b - (a * b).tanh() + (a / b).exp() - b.log().sigmoid() + a.sqrt() * b.sin() + a.tan()
    y = y + a.relu() + abs(b) + a.max(b) - b.min(a) + 1 / a + 2**b + a**-1 + a**0.5 + 1.5**a
    y.backward()
    assert type(y.data) is float
    assert type(a.grad) is float
    assert type(b.grad) is float


@pytest.mark.parametrize(
    ("base", "power", "y", "d_base", "d_power"),
    [
        (2.0, 3.0, 8.0, 12.0, 8 * math.log(2)),
        (0.0, 2.0, 0.0, 0.0, 0.0),
        (0.0, 0.0, 1.0, 0.0, 0.0),
        (0.0, -1.0, math.inf, -math.inf, -math.inf),
        (0.0, 0.5, 0.0, math.inf, 0.0),
        (0.0, 1.0, 0.0, 1.0, 0.0),
        (-2.0, 2.0, 4.0, -4.0, math.nan),
        (-2.0, 3.0, -8.0, 12.0, math.nan),
        (-2.0, 0.5, math.nan, math.nan, math.nan),
        (-2.0, 0.0, 1.0, 0.0, math.nan),
        (1e200, 2.0, math.inf, 2e200, math.inf),
        (-1e200, 3.0, -math.inf, math.inf, math.nan),
        (math.inf, 0.0, 1.0, 0.0, math.inf),
        (1.0, 1e308, 1.0, 1e308, 0.0),
    ],
)
def test_powers_and_their_derivatives_at_the_edges_are_pytorchs(base, power, y, d_base, d_power):
    a, n = Value(base), Value(power)
    z = a**n
    z.backward()
    np.testing.assert_allclose((z.data, a.grad, n.grad), (y, d_base, d_power), rtol=1e-14)
    # A number in place of either Value changes nothing for the other.
    b, m = Value(base), Value(power)
    (b**power).backward()
    (base**m).backward()
    np.testing.assert_allclose((b.grad, m.grad), (d_base, d_power), rtol=1e-14)


def test_powers_agree_with_torch():
    torch = pytest.importorskip("torch")
    points = [0.0, -0.0, 1.0, -1.0, 2.0, -2.0, 0.5, -0.5, math.inf, -math.inf, math.nan, 1e200]
    for p in points:
        for q in points:
            a, n = Value(p), Value(q)
            z = a**n
            z.backward()
            b, m = (torch.tensor(x, dtype=torch.float64, requires_grad=True) for x in (p, q))
            y = b**m
            y.backward()
            np.testing.assert_allclose(
                (z.data, a.grad, n.grad), (y.item(), b.grad.item(), m.grad.item()), rtol=1e-12, err_msg=f"{p} ** {q}"
            )


@pytest.mark.parametrize(
    ("a", "b", "largest", "smallest"),
    [
        (1.0, 2.0, (0.0, 1.0), (1.0, 0.0)),
        (2.0, 1.0, (1.0, 0.0), (0.0, 1.0)),
        (2.0, 2.0, (0.5, 0.5), (0.5, 0.5)),
    ],
)
def test_max_and_min_split_a_tie(a, b, largest, smallest):
    x, y = Value(a), Value(b)
    assert gradients(x.max(y), x, y) == largest
    assert gradients(x.min(y), x, y) == smallest
    assert x.max(y).data == max(a, b)
    assert x.min(y).data == min(a, b)
    assert gradients(x.max(b), x) == largest[:1]


def test_max_and_min_pass_nan_on():
    for a, b in (math.nan, 1.0), (1.0, math.nan):
        assert math.isnan(Value(a).max(Value(b)).data)
        assert math.isnan(Value(a).min(Value(b)).data)
