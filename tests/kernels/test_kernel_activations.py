"""Activations and what they send back: their formulas, number by number, and the numbers at which formulas break."""

import math
from statistics import NormalDist

import numpy as np
import pytest
from thread_cases import ACTIVATIONS

from scalargrad import kernels

INF, NAN = math.inf, math.nan


def sigmoid(a: float) -> float:
    return 1 / (1 + math.exp(-a)) if a > 0 else math.exp(a) / (1 + math.exp(a))


def tanh_form(a: float) -> float:
    return math.tanh(math.sqrt(2 / math.pi) * (a + 0.044715 * a**3))


def gelu_tanh_slope(a: float) -> float:
    t = tanh_form(a)
    return (1 + t) / 2 + a / 2 * (1 - t * t) * math.sqrt(2 / math.pi) * (1 + 3 * 0.044715 * a * a)


normal = NormalDist()
FORMULAS = {
    "leaky_relu": (lambda a: a if a > 0 else 0.3 * a, lambda a: 1 if a > 0 else 0.3),
    "elu": (lambda a: a if a > 0 else 1.3 * math.expm1(a), lambda a: 1 if a > 0 else 1.3 * math.exp(a)),
    "softplus": (
        lambda a: a if 2 * a > 1.5 else math.log1p(math.exp(2 * a)) / 2,
        lambda a: 1 if 2 * a > 1.5 else sigmoid(2 * a),
    ),
    "log_sigmoid": (lambda a: min(a, 0) - math.log1p(math.exp(-abs(a))), lambda a: sigmoid(-a)),
    "silu": (lambda a: a * sigmoid(a), lambda a: sigmoid(a) * (1 + a * (1 - sigmoid(a)))),
    "gelu": (lambda a: a * normal.cdf(a), lambda a: normal.cdf(a) + a * normal.pdf(a)),
    "gelu_tanh": (lambda a: a * (1 + tanh_form(a)) / 2, gelu_tanh_slope),
    "hardtanh": (lambda a: min(max(a, -0.7), 0.4), lambda a: 1 if -0.7 < a < 0.4 else 0),
}


@pytest.mark.parametrize("name", FORMULAS)
@pytest.mark.filterwarnings("error")
def test_an_activation_and_what_it_sends_back_are_their_formulas(k, dtype, name):
    x = np.concatenate([np.linspace(-40, 40, 3001), np.linspace(-6, 6, 2003), [0.0, 1e-30, -1e-30]]).astype(dtype)
    g = np.linspace(-2, 3, len(x)).astype(dtype)
    value, slope = FORMULAS[name]
    y, back = getattr(k, name)(x, *ACTIVATIONS[name]), getattr(k, f"{name}_grad")(g, x, *ACTIVATIONS[name])
    assert (y.dtype, back.dtype) == (dtype, dtype)
    # Where the formula takes from 1 what is nearly 1, its own rounding shows: that is the scale.
    tolerance = 4e-7 if dtype == np.float32 else 1e-15
    expected = np.array([value(a) for a in x.tolist()])
    np.testing.assert_allclose(y, expected, rtol=tolerance, atol=4 * tolerance)
    expected = np.array([b * slope(a) for a, b in zip(x.tolist(), g.tolist(), strict=True)])
    np.testing.assert_allclose(back, expected, rtol=2 * tolerance, atol=8 * tolerance)


# At inf, -inf and nan: the value, and what comes back of 2.
SPECIAL = {
    "leaky_relu": ([INF, -INF, NAN], [2, 0.6, 0.6]),
    "elu": ([INF, -1.3, NAN], [2, 0, NAN]),
    "softplus": ([INF, 0, NAN], [2, 0, NAN]),
    "log_sigmoid": ([0, -INF, NAN], [0, 2, NAN]),
    "silu": ([INF, NAN, NAN], [NAN, NAN, NAN]),
    "gelu": ([INF, NAN, NAN], [NAN, NAN, NAN]),
    "gelu_tanh": ([INF, NAN, NAN], [NAN, NAN, NAN]),
    "hardtanh": ([0.4, -0.7, NAN], [0, 0, 2]),
}


@pytest.mark.parametrize("name", SPECIAL)
@pytest.mark.filterwarnings("error")
def test_infinity_and_nan_are_answered_and_stay_in_their_lanes(k, dtype, name):
    values, grads = SPECIAL[name]
    parameters = ACTIVATIONS[name]
    for n in (3, 19, 40):
        x = np.full(n, 0.25, dtype)
        x[-3:] = INF, -INF, NAN
        y = getattr(k, name)(x, *parameters)
        np.testing.assert_allclose(y[-3:], values, rtol=1e-6)
        assert np.isfinite(y[:-3]).all()
        back = getattr(k, f"{name}_grad")(np.full(n, 2, dtype), x, *parameters)
        np.testing.assert_allclose(back[-3:], grads, rtol=1e-6)
        assert np.isfinite(back[:-3]).all()


def test_what_does_not_let_through_stops_infinity_too(k, dtype):
    g = np.array([INF, NAN, INF], dtype)
    assert k.hardtanh_grad(g, np.array([-2, 2, 0.1], dtype), -1.0, 1.0).tolist() == [0, 0, INF]


@pytest.mark.parametrize("name", ACTIVATIONS)
def test_any_layout_and_any_kind_of_number_as_parameter(k, dtype, draw, name):
    x, g = draw(7, 22)[:, ::2], draw(11, 7).T
    function, grad = getattr(k, name), getattr(k, f"{name}_grad")
    for parameters in (ACTIVATIONS[name], tuple(map(np.float64, ACTIVATIONS[name])), (1, 2)[: len(ACTIVATIONS[name])]):
        y, back = function(x, *parameters), grad(g, x, *parameters)
        expected = function(x.copy(), *map(float, parameters)), grad(g.copy(), x.copy(), *map(float, parameters))
        for one, other in zip((y, back), expected, strict=True):
            np.testing.assert_allclose(one, other, rtol=1e-6, atol=1e-7)
            assert one.dtype == dtype


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("isa", kernels.available())
def test_erf_to_two_units_in_the_last_place(isa, dtype):
    x = np.concatenate([np.linspace(-7, 7, 20_011), 10.0 ** np.linspace(-40, 1, 999), [0.0, -0.0]]).astype(dtype)
    y, expected = kernels.load(isa).erf(x), np.array([math.erf(a) for a in x.tolist()])
    nearest = np.abs(expected).astype(dtype)
    error = np.abs(y - expected) / np.spacing(np.maximum(nearest, np.finfo(dtype).tiny))
    assert error.max() < (4 if isa == "numpy" else 2)
    np.testing.assert_array_equal(np.signbit(y), np.signbit(x))
    np.testing.assert_array_equal(kernels.load(isa).erf(np.array([INF, -INF, NAN], dtype)), [1, -1, NAN])
