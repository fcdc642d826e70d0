"""Elementary functions to the last place: over every exponent, at the special numbers, and where methods change."""

import numpy as np
import pytest

from scalargrad import kernels

FUNCTIONS = {
    "exp": np.exp,
    "expm1": np.expm1,
    "log": np.log,
    "log1p": np.log1p,
    "tanh": np.tanh,
    "sigmoid": lambda x: np.where(x < 0, np.exp(-abs(x)), 1) / (1 + np.exp(-abs(x))),
    "sqrt": np.sqrt,
}
WIDER = {"f": np.float64, "d": np.longdouble}
SPECIAL = [0.0, -0.0, np.inf, -np.inf, np.nan, 1.0, -1.0]


def numbers(dtype: np.dtype) -> np.ndarray:
    """Every kind of number: random bits, what functions are mostly given, edges of ranges."""
    random = np.random.default_rng(0)
    limits = np.finfo(dtype)
    bits = np.dtype(f"u{dtype.itemsize}")
    reach = float(np.log(limits.max)) * 1.2
    edges = [limits.max, limits.tiny, limits.smallest_subnormal, 2 * limits.tiny, limits.eps]
    edges += [0.55, np.log(limits.max), np.log(limits.smallest_subnormal), np.sqrt(0.5), np.sqrt(2), 20, 40, 50]
    edges = np.array(edges, dtype)
    near_edges = np.concatenate([np.nextafter(edges, dtype.type(0)), edges, np.nextafter(edges, dtype.type(np.inf))])
    return np.concatenate(
        [
            random.integers(0, np.iinfo(bits).max, 60_001, dtype=bits, endpoint=True).view(dtype),
            random.uniform(-3, 3, 40_000).astype(dtype),
            random.uniform(-reach, reach, 20_000).astype(dtype),
            1 + random.uniform(-0.1, 0.1, 10_000).astype(dtype),
            near_edges,
            -near_edges,
            np.array(SPECIAL, dtype),
        ]
    )


@pytest.mark.parametrize("name", FUNCTIONS)
@pytest.mark.filterwarnings("ignore::RuntimeWarning")
def test_a_function_is_exact_to_two_units_in_the_last_place(k, dtype, name):
    wide = WIDER[dtype.char]
    if np.finfo(wide).eps >= np.finfo(dtype).eps:
        pytest.skip("nothing wider to compare with")
    x = numbers(dtype)
    y = getattr(k, name)(x)
    expected = FUNCTIONS[name](x.astype(wide))
    nearest = expected.astype(dtype)
    regular = np.isfinite(nearest)
    np.testing.assert_array_equal(y[~regular], nearest[~regular])
    error = np.abs(y[regular].astype(wide) - expected[regular]) / np.abs(np.spacing(nearest[regular])).astype(wide)
    # NumPy's own float32 functions, which the plain kernels are, promise 4.
    assert error.max() < (4 if k is kernels.load("numpy") else 2)
    signed = ~np.isnan(nearest)
    np.testing.assert_array_equal(np.signbit(y[signed]), np.signbit(expected[signed]))


@pytest.mark.parametrize("name", FUNCTIONS)
@pytest.mark.filterwarnings("error")
def test_a_function_warns_of_nothing_and_does_not_see_the_other_lanes(k, dtype, name):
    function = getattr(k, name)
    alone = [function(np.array([x], dtype))[0] for x in (0.7, -0.3, *SPECIAL)]
    for n in range(1, 40):
        x = np.resize(np.array([0.7, -0.3, *SPECIAL], dtype), n)
        np.testing.assert_array_equal(function(x), np.resize(alone, n))
    x = np.full(37, -np.inf, dtype)
    x[17] = 0.7
    assert function(x)[17] == alone[0]
