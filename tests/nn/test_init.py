"""nn.init, and the distributions that layers start from: bounds, moments, and the whole distribution function."""

import math
import re

import numpy as np
import pytest

import scalargrad
from scalargrad import nn
from scalargrad.nn import init


def normal_cdf(x):
    return 0.5 * (1 + np.vectorize(math.erf)(x / math.sqrt(2)))


def kolmogorov_smirnov(values, cdf):
    """√n times the largest distance between the empirical distribution function and `cdf`.

    For values that do follow it this is above 1.95 once in a thousand times, for any distribution.
    """
    x = np.sort(np.asarray(values, np.float64).ravel())
    f, n = cdf(x), x.size
    return math.sqrt(n) * max((np.arange(1, n + 1) / n - f).max(), (f - np.arange(n) / n).max())


def uniform_cdf(low, high):
    return lambda x: np.clip((x - low) / (high - low), 0, 1)


def numbers(t):
    return t.detach().numpy()


def test_the_distribution_test_sees_a_distribution_that_is_slightly_off():
    x = np.random.default_rng(0).uniform(-1, 1, 20_000)
    assert kolmogorov_smirnov(x, uniform_cdf(-1, 1)) < 1.95
    assert kolmogorov_smirnov(x * 0.95, uniform_cdf(-1, 1)) > 1.95
    assert kolmogorov_smirnov(x, normal_cdf) > 1.95


@pytest.mark.parametrize(
    ("layer", "fan_in"),
    [
        (lambda: nn.Linear(400, 120), 400),
        (lambda: nn.Conv2d(32, 64, 3), 32 * 9),
        (lambda: nn.Conv2d(32, 64, (3, 2), groups=4), 8 * 6),
    ],
)
def test_a_fresh_layer_is_uniform_between_plus_and_minus_one_over_the_root_of_fan_in(layer, fan_in):
    layer, bound = layer(), 1 / math.sqrt(fan_in)
    for values in (numbers(layer.weight), numbers(layer.bias)):
        assert np.abs(values).max() <= bound * (1 + 1e-6)
        assert kolmogorov_smirnov(values, uniform_cdf(-bound, bound)) < 1.95
    assert np.abs(numbers(layer.weight)).max() > bound * 0.999
    before = numbers(layer.weight).copy()
    layer.reset_parameters()
    assert (numbers(layer.weight) != before).mean() > 0.99


def test_the_same_seed_gives_the_same_layer():
    scalargrad.manual_seed(7)
    first = numbers(nn.Linear(5, 5).weight)
    scalargrad.manual_seed(7)
    np.testing.assert_array_equal(first, numbers(nn.Linear(5, 5).weight))


W = (150, 20, 3, 2)  # fan_in 120, fan_out 900


@pytest.mark.parametrize(
    ("fill", "cdf"),
    [
        (lambda t: init.uniform_(t), uniform_cdf(0, 1)),
        (lambda t: init.uniform_(t, -2, 3), uniform_cdf(-2, 3)),
        (lambda t: init.normal_(t), normal_cdf),
        (lambda t: init.normal_(t, 3, 0.5), lambda x: normal_cdf((x - 3) / 0.5)),
        (lambda t: init.xavier_uniform_(t), uniform_cdf(-math.sqrt(6 / 1020), math.sqrt(6 / 1020))),
        (lambda t: init.xavier_uniform_(t, gain=2), uniform_cdf(-2 * math.sqrt(6 / 1020), 2 * math.sqrt(6 / 1020))),
        (lambda t: init.xavier_normal_(t, gain=2), lambda x: normal_cdf(x / 2 / math.sqrt(2 / 1020))),
        (lambda t: init.kaiming_uniform_(t), uniform_cdf(-math.sqrt(6 / 120), math.sqrt(6 / 120))),
        (lambda t: init.kaiming_uniform_(t, 2.0, "fan_out"), uniform_cdf(-math.sqrt(1.2 / 900), math.sqrt(1.2 / 900))),
        (lambda t: init.kaiming_normal_(t, nonlinearity="relu"), lambda x: normal_cdf(x / math.sqrt(2 / 120))),
        (lambda t: init.kaiming_normal_(t, nonlinearity="tanh"), lambda x: normal_cdf(x / (5 / 3) * math.sqrt(120))),
    ],
)
def test_a_filled_tensor_has_the_distribution(fill, cdf):
    t = nn.Parameter(scalargrad.zeros(W))
    assert fill(t) is t
    assert kolmogorov_smirnov(numbers(t), cdf) < 1.95
    assert t.is_leaf
    assert t.grad_fn is None


@pytest.mark.parametrize(
    ("mean", "std", "a", "b"),
    [
        (0.0, 1.0, -2.0, 2.0),  # most draws fall inside
        (1.0, 0.5, 1.5, 1.75),  # few do
        (0.0, 1.0, 3.0, math.inf),  # hardly any does
        (0.0, 2.0, -math.inf, 0.5),
    ],
)
def test_the_truncated_normal_distribution_has_its_distribution_and_bounds(mean, std, a, b):
    t = init.trunc_normal_(scalargrad.empty(120, 100), mean, std, a, b)
    low, high = (normal_cdf(np.array((bound - mean) / std)) for bound in (a, b))
    assert kolmogorov_smirnov(numbers(t), lambda x: (normal_cdf((x - mean) / std) - low) / (high - low)) < 1.95
    assert a <= numbers(t).min()
    assert numbers(t).max() <= b


def test_a_generator_is_drawn_from_instead_of_the_default_one():
    state = scalargrad.get_rng_state()
    fills = [
        init.uniform_,
        init.normal_,
        init.xavier_normal_,
        init.kaiming_uniform_,
        init.trunc_normal_,
        init.orthogonal_,
    ]
    for fill in fills:
        one, two = (fill(scalargrad.empty(4, 3), generator=scalargrad.Generator().manual_seed(5)) for _ in range(2))
        np.testing.assert_array_equal(numbers(one), numbers(two))
    assert scalargrad.get_rng_state() == state


def test_constants_are_constant():
    t = scalargrad.empty(2, 3)
    assert init.constant_(t, 2.5).tolist() == [[2.5] * 3] * 2
    assert init.ones_(t).tolist() == [[1.0] * 3] * 2
    assert init.zeros_(t).tolist() == [[0.0] * 3] * 2
    assert init.eye_(t).tolist() == [[1.0, 0.0, 0.0], [0.0, 1.0, 0.0]]


@pytest.mark.parametrize("shape", [(3, 5), (5, 3), (4, 4), (4, 2, 3), (6, 1, 2)])
def test_an_orthogonal_matrix_has_orthonormal_rows_or_columns(shape):
    w = numbers(init.orthogonal_(scalargrad.empty(shape, dtype=np.float64), gain=2.0)).reshape(shape[0], -1)
    small = w @ w.T if w.shape[0] <= w.shape[1] else w.T @ w
    np.testing.assert_allclose(small, 4 * np.eye(len(small)), atol=1e-12)


def test_orthogonal_matrices_are_drawn_evenly():
    """Without the sign correction the first entry of a 2 × 2 matrix would never be positive."""
    first = [numbers(init.orthogonal_(scalargrad.empty(2, 2)))[0, 0] for _ in range(200)]
    assert 60 < sum(x > 0 for x in first) < 140


@pytest.mark.parametrize(
    ("nonlinearity", "param", "gain"),
    [
        ("linear", None, 1),
        ("conv2d", None, 1),
        ("sigmoid", None, 1),
        ("tanh", None, 5 / 3),
        ("relu", None, math.sqrt(2)),
        ("leaky_relu", None, math.sqrt(2 / (1 + 0.01**2))),
        ("leaky_relu", 1, 1),
        ("selu", None, 0.75),
    ],
)
def test_gains_are_the_recommended_ones(nonlinearity, param, gain):
    assert init.calculate_gain(nonlinearity, param) == pytest.approx(gain, rel=1e-15)


@pytest.mark.parametrize(
    ("fill", "error", "words"),
    [
        (lambda: init.calculate_gain("swish"), ValueError, "Unsupported nonlinearity swish"),
        (lambda: init.calculate_gain("leaky_relu", True), ValueError, "negative_slope True not a valid number"),
        (lambda: init.calculate_gain("leaky_relu", "x"), ValueError, "negative_slope x not a valid number"),
        (lambda: init.eye_(scalargrad.empty(2)), ValueError, "Only tensors with 2 dimensions are supported"),
        (lambda: init.orthogonal_(scalargrad.empty(2)), ValueError, "Only tensors with 2 or more dimensions"),
        (lambda: init.xavier_normal_(scalargrad.empty(2)), ValueError, "Fan in and fan out can not be computed"),
        (lambda: init.kaiming_normal_(scalargrad.empty(2, 2), mode="fan"), ValueError, "Mode fan not supported"),
        (lambda: init.trunc_normal_(scalargrad.empty(2), a=1, b=1), ValueError, "expected a < b and std > 0"),
        (lambda: init.trunc_normal_(scalargrad.empty(2), std=0), ValueError, "expected a < b and std > 0"),
        (lambda: init.normal_(scalargrad.zeros(2).long()), RuntimeError, "expected a floating point dtype, got int64"),
    ],
)
def test_filling_refuses_what_makes_no_sense(fill, error, words):
    with pytest.raises(error, match=re.escape(words)):
        fill()


def test_filling_nothing_warns_where_there_is_a_fan_in_to_divide_by():
    for fill in (init.kaiming_uniform_, init.kaiming_normal_):
        with pytest.warns(UserWarning, match="Initializing zero-element tensors is a no-op"):
            fill(scalargrad.empty(0, 3))
    assert init.orthogonal_(scalargrad.empty(0, 3)).shape == (0, 3)


def test_filling_is_a_write_that_the_graph_notices():
    w = nn.Parameter(scalargrad.ones(2, 2))
    y = (w * w).sum()
    init.ones_(w)
    with pytest.raises(RuntimeError, match="modified by an inplace operation"):
        y.backward()
