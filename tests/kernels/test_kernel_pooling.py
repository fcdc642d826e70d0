"""relu folded into max_pool2d, the adaptive poolings, and what all poolings owe to planes that share a vector."""

import re

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from scalargrad import kernels

PLAIN = kernels.load("numpy")
COMPILED = [isa for isa in kernels.available() if isa != "numpy"]

HALVES = ((2, 2), (2, 2), (0, 0), (1, 1), False)
THIRDS = ((3, 3), (2, 2), (1, 1), (1, 1), False)
POOLS = {
    "two by two": ((2, 7, 9, 11), HALVES),
    "two by two, wide": ((1, 3, 4, 75), HALVES),
    "overlapping": ((2, 9, 9, 13), THIRDS),
    "dilated past the edges": ((1, 5, 5, 12), ((2, 2), (1, 3), (2, 1), (4, 3), True)),
    "more than 255 taps": ((1, 2, 18, 20), ((16, 17), (1, 1), (0, 0), (1, 1), False)),
    "255 taps": ((1, 2, 18, 20), ((15, 17), (1, 1), (0, 0), (1, 1), False)),
}

# Planes on both sides of a vector of 2 to 16 of them.
planes = st.sampled_from([1, 2, 3, 7, 8, 9, 16, 17, 33])
small = st.integers(1, 3)
sizes = st.one_of(st.integers(1, 9), st.sampled_from([15, 16, 17, 31, 33, 40]))


def random(*shape: int, scale: float = 4) -> np.ndarray:
    """The same numbers for the same shape, small integers: there are ties, and sums are exact in either type."""
    return np.round(np.random.default_rng(shape).standard_normal(shape) * scale)


def agree(name: str, *arguments: object, tolerance: float = 0) -> None:
    """The plain kernel in float64 and every compiled one in both types give the same."""
    expected = getattr(PLAIN, name)(*arguments)
    for isa in COMPILED:
        for dtype in (np.float32, np.float64):
            here = [a.astype(dtype) if isinstance(a, np.ndarray) and a.dtype.kind == "f" else a for a in arguments]
            got = getattr(kernels.load(isa), name)(*here)
            pairs = zip(expected, got, strict=True) if isinstance(expected, tuple) else [(expected, got)]
            for one, other in pairs:
                np.testing.assert_allclose(other, one, rtol=0, atol=tolerance, err_msg=f"{name} of {isa}, {dtype}")
                assert other.shape == one.shape
                assert other.dtype == (dtype if one.dtype.kind == "f" else one.dtype)


@given(
    C=planes,
    P=st.integers(1, 4),
    Q=sizes,
    kernel=st.tuples(small, small),
    stride=st.tuples(small, small),
    dilation=st.tuples(small, small),
    ceil_mode=st.booleans(),
    pads=st.booleans(),
)
def test_compiled_pooling_of_any_windows_is_the_plain_one(C, P, Q, kernel, stride, dilation, ceil_mode, pads):
    padding = tuple((dilation[i] * (kernel[i] - 1) + 1) // 2 if pads else 0 for i in (0, 1))
    H, W = (
        max((n - 1) * stride[i] + dilation[i] * (kernel[i] - 1) + 1 - 2 * padding[i], 1) for i, n in ((0, P), (1, Q))
    )
    x, windows = random(1, C, H, W), (kernel, stride, padding, dilation)
    agree("relu_max_pool2d", x, *windows, ceil_mode)
    agree("max_pool2d", x, *windows, ceil_mode)
    y, offsets = PLAIN.relu_max_pool2d(x, *windows, ceil_mode)
    agree("max_pool2d_input_grad", random(*y.shape), offsets, x.shape, *windows)
    agree("max_pool2d_take", x, offsets, *windows)
    mean = (kernel, stride, tuple(min(padding[i], kernel[i] // 2) for i in (0, 1)), ceil_mode, False, 2)
    if min(kernels.pool_output_size(n, kernel[i], stride[i], mean[2][i], 1, ceil_mode) for i, n in ((0, H), (1, W))):
        agree("avg_pool2d", x, *mean)
        agree("avg_pool2d_input_grad", random(*PLAIN.avg_pool2d(x, *mean).shape), x.shape, *mean)


@given(C=planes, H=sizes, W=sizes, P=st.integers(1, 7), Q=st.integers(1, 9))
def test_compiled_adaptive_pooling_is_the_plain_one(C, H, W, P, Q):
    x, g = random(2, C, H, W), random(2, C, P, Q)
    agree("adaptive_max_pool2d", x, (P, Q))
    agree("adaptive_max_pool2d_input_grad", g, PLAIN.adaptive_max_pool2d(x, (P, Q))[1], x.shape)
    agree("adaptive_avg_pool2d", x, (P, Q), tolerance=2e-5)
    agree("adaptive_avg_pool2d_input_grad", g, x.shape, tolerance=2e-4)


@pytest.mark.parametrize("case", POOLS)
def test_relu_max_pool2d_is_max_pool2d_of_relu(k, dtype, case):
    shape, (*windows, ceil_mode) = POOLS[case]
    x = random(*shape, scale=1).astype(dtype) - 1
    x[x > 2] = np.inf
    x[0, 0, 1, 2] = np.nan
    x[..., ::4, ::3] *= -0.0
    x[:, -1] = -np.abs(x[:, -1])
    y, offsets = k.relu_max_pool2d(x, *windows, ceil_mode)
    expected, winners = k.max_pool2d(k.relu(x), *windows, ceil_mode)
    np.testing.assert_array_equal(y, expected)
    assert not np.signbit(y[y == 0]).any()
    taps = windows[0][0] * windows[0][1]
    assert offsets.dtype == winners.dtype == (np.uint8 if taps <= 255 else np.int32)
    np.testing.assert_array_equal(offsets, np.where(y <= 0, taps, winners))
    assert (y <= 0).any()
    assert (y > 0).any()


@pytest.mark.parametrize("case", POOLS)
def test_the_gradient_of_relu_max_pool2d_is_that_of_its_parts(k, dtype, case):
    shape, (*windows, ceil_mode) = POOLS[case]
    x = random(*shape, scale=1).astype(dtype) - 1
    y, offsets = k.relu_max_pool2d(x, *windows, ceil_mode)
    positive = k.relu(x)
    g = random(*y.shape).astype(dtype)
    winners = k.max_pool2d(positive, *windows, ceil_mode)[1]
    expected = k.relu_grad(k.max_pool2d_input_grad(g, winners, x.shape, *windows), positive)
    np.testing.assert_array_equal(k.max_pool2d_input_grad(g, offsets, x.shape, *windows), expected)
    taken = k.max_pool2d_take(x, offsets, *windows)
    np.testing.assert_array_equal(taken, np.where(y > 0, y, 0))


def test_adaptive_max_pool2d_is_the_maximum_of_each_part_and_where_it_stands_first(k, dtype):
    x = random(2, 17, 7, 10, scale=1).astype(dtype)
    y, positions = k.adaptive_max_pool2d(x, (3, 4))
    for p, (top, bottom) in enumerate([(0, 3), (2, 5), (4, 7)]):
        for q, (left, right) in enumerate([(0, 3), (2, 5), (5, 8), (7, 10)]):
            part = x[:, :, top:bottom, left:right]
            np.testing.assert_array_equal(y[:, :, p, q], part.max((2, 3)))
            winner = part.reshape(2, 17, -1).argmax(2)
            expected = (top + winner // (right - left)) * 10 + left + winner % (right - left)
            np.testing.assert_array_equal(positions[:, :, p, q], expected)


def test_an_adaptive_pooling_to_nothing_is_empty_and_sends_back_zeros(k, draw):
    x = draw(2, 3, 4, 5)
    assert k.adaptive_avg_pool2d(x, (0, 3)).shape == (2, 3, 0, 3)
    y, positions = k.adaptive_max_pool2d(x, (2, 0))
    assert y.shape == positions.shape == (2, 3, 2, 0)
    assert not k.adaptive_max_pool2d_input_grad(y, positions, x.shape).any()
    assert not k.adaptive_avg_pool2d_input_grad(draw(2, 3, 0, 3), x.shape).any()
    assert k.adaptive_avg_pool2d(x[:0], (2, 2)).shape == (0, 3, 2, 2)


def test_a_position_outside_its_window_gets_nothing(k, draw):
    x = draw(1, 2, 6, 6)
    y, positions = k.adaptive_max_pool2d(x, (2, 2))
    for wrong in (positions + 36, positions - 36, np.full_like(positions, 2**40)):
        assert not k.adaptive_max_pool2d_input_grad(y, wrong, x.shape).any()


@pytest.mark.parametrize("bad", [np.nan, np.inf])
def test_planes_that_share_a_vector_do_not_see_each_other(k, dtype, draw, bad):
    """Nor does the last plane see those that are not there."""
    n = 19
    clean = draw(1, n, 9, 9)
    for plane in (0, 7, n - 1):
        x = clean.copy()
        x[0, plane] = bad
        others = np.arange(n) != plane
        calls = (
            lambda x: k.max_pool2d(x, *THIRDS)[0],
            lambda x: k.relu_max_pool2d(x, *THIRDS)[0],
            lambda x: k.relu_max_pool2d(x, *HALVES)[0],
            lambda x: k.avg_pool2d(x, *THIRDS[:3], False, True, None),
            lambda x: k.avg_pool2d(x, *HALVES[:3], False, True, None),
            lambda x: k.avg_pool2d(x, (9, 9), (1, 1), (0, 0), False, True, None),
            lambda x: k.adaptive_avg_pool2d(x, (4, 2)),
            lambda x: k.adaptive_max_pool2d(x, (4, 2))[0],
            lambda g: k.adaptive_avg_pool2d_input_grad(g, (1, n, 20, 21)),
            lambda g: k.avg_pool2d_input_grad(g, (1, n, 18, 18), *HALVES[:3], False, True, None),
            lambda g: k.avg_pool2d_input_grad(g, (1, n, 17, 17), *THIRDS[:3], False, True, None),
            lambda g: k.max_pool2d_input_grad(g, np.full(g.shape, 4, np.uint8), (1, n, 17, 17), *THIRDS[:4]),
        )
        for call in calls:
            expected, got = call(clean), call(x)
            np.testing.assert_array_equal(got[0, others], expected[0, others])
            assert not np.isfinite(got[0, plane]).all()


def test_the_mean_of_a_large_window_is_accurate_in_float32(k):
    x = np.full((1, 2, 400, 300), 0.1, np.float32)
    for windows in ((400, 300), (399, 299)):
        y = k.avg_pool2d(x, windows, (1, 1), (0, 0), False, True, None)
        np.testing.assert_allclose(y, np.float32(0.1), rtol=2e-5)


@pytest.mark.skipif(not COMPILED, reason="only compiled kernels have threads")
@pytest.mark.parametrize("isa", COMPILED)
def test_pooling_gives_the_same_bits_for_any_number_of_threads(isa, draw, threads):
    k = kernels.load(isa)
    x = draw(3, 35, 90, 70)
    g = draw(3, 35, 45, 35)
    offsets = k.relu_max_pool2d(x, *THIRDS)[1]
    positions = k.adaptive_max_pool2d(x, (45, 35))[1]
    calls = (
        lambda: k.relu_max_pool2d(x, *HALVES)[1],
        lambda: k.relu_max_pool2d(x, *THIRDS)[0],
        lambda: k.max_pool2d_input_grad(g, offsets, x.shape, *THIRDS[:4]),
        lambda: k.avg_pool2d(x, *THIRDS[:3], False, False, None),
        lambda: k.avg_pool2d_input_grad(g, x.shape, *THIRDS[:3], False, False, None),
        lambda: k.avg_pool2d(x, (90, 70), (1, 1), (0, 0), False, False, None),
        lambda: k.avg_pool2d_input_grad(g, x.shape, *HALVES[:3], False, False, None),
        lambda: k.adaptive_avg_pool2d(x, (31, 32)),
        lambda: k.adaptive_max_pool2d(x, (31, 32))[1],
        lambda: k.adaptive_max_pool2d_input_grad(g, positions, x.shape),
    )
    for i, call in enumerate(calls):
        with threads(1):
            expected = call().tobytes()
        for n in (2, 3):
            with threads(n):
                assert call().tobytes() == expected, f"call {i} with {n} threads"


def test_adaptive_pooling_reads_any_layout(k, draw):
    x = draw(2, 17, 6, 7)
    y, positions = k.adaptive_max_pool2d(x, (3, 2))
    back = k.adaptive_max_pool2d_input_grad(y, positions, x.shape)
    for other in (np.asfortranarray(x), x[::-1, ..., ::-1].copy()[::-1, ..., ::-1], x.astype(x.dtype.newbyteorder())):
        np.testing.assert_array_equal(k.adaptive_max_pool2d(other, (3, 2))[0], y)
        np.testing.assert_array_equal(k.adaptive_avg_pool2d(other, (3, 2)), k.adaptive_avg_pool2d(x, (3, 2)))
    for same in (np.asfortranarray(positions), positions.astype(">i8"), positions[::-1].copy()[::-1]):
        np.testing.assert_array_equal(k.adaptive_max_pool2d_input_grad(y, same, x.shape), back)


ONE = np.ones((1, 2, 4, 4), np.float32)


@pytest.mark.parametrize(
    ("call", "sentence"),
    [
        (lambda k: k.relu_max_pool2d(ONE[0], *HALVES), "relu_max_pool2d(): expected a 4D input, got shape (2, 4, 4)"),
        (lambda k: k.adaptive_avg_pool2d(ONE[:, :0], (1, 1)), "expected a 4D input of images that are not empty"),
        (lambda k: k.adaptive_max_pool2d(ONE, (1, -1)), "expected output_size to be at least 0, got (1, -1)"),
        (lambda k: k.adaptive_avg_pool2d_input_grad(ONE, (2, 2, 5, 5)), "expected a gradient of shape (2, 2, P, Q)"),
        (
            lambda k: k.adaptive_max_pool2d_input_grad(ONE, ONE.astype(np.int32), (1, 2, 5, 5)),
            "expected positions of dtype int64, got int32",
        ),
        (
            lambda k: k.adaptive_max_pool2d_input_grad(ONE, ONE[0].astype(np.int64), (1, 2, 5, 5)),
            "expected positions of shape (1, 2, 4, 4), got (2, 4, 4)",
        ),
    ],
)
def test_a_pooling_that_is_refused_says_what_was_expected(k, call, sentence):
    with pytest.raises(RuntimeError, match=re.escape(sentence)):
        call(k)
