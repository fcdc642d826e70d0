"""Normalisation is that of wider numbers, whatever has a mean of its own; and far from 0, beside NaN and of nothing."""

import itertools

import numpy as np
import pytest

# The shape, the axes of the channels, and the groups. Rows and columns that end within a vector, groups of one number,
# more rows than a part has, planes that are several to a piece and pieces that are several to a plane.
CASES = [
    ((2, 8), (1, 2), 1), ((1, 1), (1, 2), 1), ((7, 1), (1, 2), 1), ((5, 17), (1, 2), 1), ((69, 33), (1, 2), 1),
    ((3, 5000), (1, 2), 1), ((2, 3, 4, 5), (2, 4), 1), ((7,), (0, 1), 1), ((37, 6), (1, 2), 3), ((4, 12), (1, 2), 12),
    ((2, 6, 5), (1, 2), 2), ((3, 4, 4, 4), (1, 2), 4), ((2, 4, 7, 9), (1, 2), 1), ((1, 2, 70, 71), (1, 2), 1),
    ((2, 6, 1, 1), (1, 2), 3), ((3, 4), (2, 2), 1), ((2, 3, 4), (0, 2), 2),
    ((2, 3), (1, 2), 0), ((1, 5), (1, 2), 0), ((69, 37), (1, 2), 0), ((33, 1), (1, 2), 0), ((36, 1030), (1, 2), 0),
    ((2500, 3), (1, 2), 0), ((5, 4, 3), (1, 2), 0), ((70, 2, 2), (1, 2), 0), ((4, 3, 16), (1, 2), 0),
    ((37, 3, 5, 7), (1, 2), 0), ((3, 2, 66, 67), (1, 2), 0), ((2, 1, 40), (1, 2), 0), ((2, 3, 4), (0, 2), 0),
    ((9, 2, 3), (1, 3), 0), ((6, 50), (0, 1), 0), ((6,), (0, 1), 0), ((5, 3), (0, 0), 0),
]  # fmt: skip
EPS = 0.01


def as_rows(x, channels, groups):
    """x in float64 with a row of entries for each mean, and the way back."""
    x = np.asarray(x, np.float64)
    first, last = channels
    n, c, s = (int(np.prod(part)) for part in (x.shape[:first], x.shape[first:last], x.shape[last:]))
    if groups:
        return x.reshape(n * groups, -1), lambda rows: rows.reshape(x.shape)
    rows = x.reshape(n, c, s).transpose(1, 0, 2)
    return rows.reshape(c, -1), lambda rows: rows.reshape(c, n, s).transpose(1, 0, 2).reshape(x.shape)


def along(values, x, channels):
    """What there is one of for each channel, to broadcast with x."""
    return np.asarray(values, np.float64).reshape((*values.shape, *(1,) * (x.ndim - channels[1])))


def defined(x, w, b, channels, groups):
    rows, back = as_rows(x, channels, groups)
    mean, variance = rows.mean(1, keepdims=True), rows.var(1, keepdims=True)
    h = back((rows - mean) / np.sqrt(variance + EPS))
    y = h * (1 if w is None else along(w, x, channels)) + (0 if b is None else along(b, x, channels))
    return y, mean.ravel(), variance.ravel(), 1 / np.sqrt(variance + EPS).ravel(), h


def defined_grads(g, x, w, channels, groups):
    *_, rate, h = defined(x, w, None, channels, groups)
    d, back = as_rows(g if w is None else g * along(w, x, channels), channels, groups)
    h_rows, _ = as_rows(h, channels, groups)
    slopes = d - d.mean(1, keepdims=True) - h_rows * (d * h_rows).mean(1, keepdims=True)
    others = (*range(channels[0]), *range(channels[1], x.ndim))
    return back(slopes * rate[:, None]), (g * h).sum(others), g.astype(np.float64).sum(others)


def drawn(draw, shape, channels):
    of_each = shape[slice(*channels)]
    return draw(*shape), draw(*of_each), draw(*of_each)


@pytest.mark.parametrize(("shape", "channels", "groups"), CASES)
def test_the_result_and_its_statistics(k, draw, close, shape, channels, groups):
    x, weight, bias = drawn(draw, shape, channels)
    for w, b in itertools.product((None, weight), (None, bias)):
        y, *statistics = k.normalize(x, w, b, channels, groups, EPS)
        expected_y, *expected, _ = defined(x, w, b, channels, groups)
        close(y, expected_y)
        for got, right in zip(statistics, expected, strict=True):
            close(got.ravel(), right)
        assert not np.shares_memory(y, x)


@pytest.mark.parametrize(("shape", "channels", "groups"), CASES)
def test_gradients_come_in_order_and_only_if_they_are_wanted(k, draw, close, shape, channels, groups):
    x, weight, _ = drawn(draw, shape, channels)
    g = draw(*shape)
    for w in (None, weight):
        _, mean, _, rate = k.normalize(x, w, None, channels, groups, EPS)
        right = defined_grads(g, x, w, channels, groups)
        for wanted in range(1, 8):
            found = k.normalize_grads(g, x, w, mean, rate, channels, groups, wanted)
            expected = [one for i, one in enumerate(right) if wanted >> i & 1]
            for got, one in zip(found, expected, strict=True):
                close(got, one)


@pytest.mark.parametrize(("shape", "channels"), [(shape, channels) for shape, channels, groups in CASES if not groups])
def test_by_constants(k, draw, close, shape, channels):
    x, weight, bias = drawn(draw, shape, channels)
    g, mean, variance = draw(*shape), draw(*weight.shape), np.abs(draw(*weight.shape))
    rate = 1 / np.sqrt(along(variance, x, channels) + EPS)
    h = (x - along(mean, x, channels)) * rate
    others = (*range(channels[0]), *range(channels[1], x.ndim))
    for w, b in itertools.product((None, weight), (None, bias)):
        scale = 1 if w is None else along(w, x, channels)
        y, own_mean, own_rate = k.normalize_by(x, w, b, mean, variance, channels, EPS)
        close(y, h * scale + (0 if b is None else along(b, x, channels)))
        close(own_mean.ravel(), mean.ravel())
        close(own_rate.ravel(), rate.ravel())
        assert not np.shares_memory(own_mean, mean)
        right = g * scale * rate, (g * h).sum(others), g.astype(np.float64).sum(others)
        for wanted in range(1, 8):
            given = (x, own_mean) if wanted & 2 else (None, None)
            found = k.normalize_by_grads(g, given[0], w, given[1], own_rate, channels, wanted)
            expected = [one for i, one in enumerate(right) if wanted >> i & 1]
            for got, one in zip(found, expected, strict=True):
                close(got, one)


@pytest.mark.parametrize(
    ("shape", "groups"),
    [((3, 700), 1), ((40, 6, 50), 2), ((300, 9), 0), ((90, 5, 3), 0), ((90, 3, 49), 0), ((3, 2, 5000), 0)],
)
def test_statistics_far_from_zero_keep_their_digits(k, dtype, draw, shape, groups):
    """Also if the first numbers, to which the others are taken relative, are far from the rest."""
    x = (draw(*shape) + 10_000).astype(dtype)
    outlying = x.copy()
    outlying[0] += 5_000
    for numbers in (x, outlying):
        _, mean, variance, _ = k.normalize(numbers, None, None, (1, 2), groups, EPS)
        _, right_mean, right_variance, *_ = defined(numbers, None, None, (1, 2), groups)
        np.testing.assert_allclose(mean.ravel(), right_mean, rtol=4 * np.finfo(dtype).eps)
        np.testing.assert_allclose(variance.ravel(), right_variance, rtol=3e-5 if dtype == np.float32 else 1e-11)


@pytest.mark.parametrize("number", [0.1, 1e6, -3.3])
def test_equal_numbers_vary_by_nothing(k, dtype, number):
    for shape, channels, groups in CASES:
        x = np.full(shape, number, dtype)
        _, mean, variance, rate = k.normalize(x, None, None, channels, groups, EPS)
        np.testing.assert_allclose(mean, x.flat[0], rtol=4 * np.finfo(dtype).eps)
        assert (variance >= 0).all()
        assert (variance <= (8 * np.finfo(dtype).eps * number) ** 2).all()
        np.testing.assert_allclose(rate, 1 / np.sqrt(variance + EPS), rtol=1e-6)


@pytest.mark.parametrize("bad", [np.nan, np.inf])
@pytest.mark.parametrize(("shape", "channels", "groups"), CASES)
def test_what_is_no_number_stays_with_its_mean(k, draw, shape, channels, groups, bad):
    x, w, b = drawn(draw, shape, channels)
    g, place = draw(*shape), x.size // 2
    before = k.normalize(x, w, b, channels, groups, EPS)
    grads_before = k.normalize_grads(g, x, w, before[1], before[3], channels, groups, 1)
    x.flat[place] = bad
    after = k.normalize(x, w, b, channels, groups, EPS)
    grads = k.normalize_grads(g, x, w, after[1], after[3], channels, groups, 1)
    is_bad = np.zeros(shape, bool)
    is_bad.flat[place] = True
    rows, back = as_rows(is_bad, channels, groups)
    is_bad = rows.any(1)
    touched = back(np.broadcast_to(is_bad[:, None], rows.shape)).astype(bool)
    for got, right in ((after[0], before[0]), (grads[0], grads_before[0])):
        np.testing.assert_array_equal(got[~touched], right[~touched])
        assert np.isnan(got[touched]).all()
    for got, right in zip(after[2:], before[2:], strict=True):
        np.testing.assert_array_equal(got.ravel()[~is_bad], right.ravel()[~is_bad])
        assert np.isnan(got.ravel()[is_bad]).all()


@pytest.mark.parametrize(("shape", "channels", "groups"), [((6, 8, 5), (1, 2), 2), ((6, 8, 5), (1, 2), 0)])
def test_arrays_may_lie_in_any_layout(k, draw, shape, channels, groups):
    x, w, b = drawn(draw, shape, channels)
    g = draw(*shape)
    _, mean, _, rate = right = k.normalize(x, w, b, channels, groups, EPS)
    right_grads = k.normalize_grads(g, x, w, mean, rate, channels, groups, 7)
    swapped = x.dtype.newbyteorder()
    for lay in (np.asfortranarray, lambda a: np.repeat(a, 2, 0)[::2], lambda a: a[::-1].copy()[::-1]):
        for got, one in zip(k.normalize(lay(x), lay(w), lay(b), channels, groups, EPS), right, strict=True):
            np.testing.assert_allclose(got, one, rtol=1e-5, atol=1e-5)
            assert got.flags.c_contiguous
        found = k.normalize_grads(lay(g), lay(x), lay(w), lay(mean), lay(rate), channels, groups, 7)
        for got, one in zip(found, right_grads, strict=True):
            np.testing.assert_allclose(got, one, rtol=1e-5, atol=1e-5)
            assert got.flags.c_contiguous
    y = k.normalize(x.astype(swapped), w, b, channels, groups, EPS)[0]
    np.testing.assert_allclose(y, right[0], rtol=1e-5, atol=1e-5)


@pytest.mark.filterwarnings("error")
@pytest.mark.parametrize(
    ("shape", "groups"), [((0, 3), 1), ((3, 0), 1), ((0, 3), 0), ((0, 4, 5), 2), ((2, 4, 0), 0), ((2, 0, 5), 0)]
)
def test_of_nothing_the_mean_is_zero_and_gradients_are_sums_of_nothing(k, dtype, shape, groups):
    x, each = np.zeros(shape, dtype), np.ones(shape[1], dtype)
    y, mean, variance, rate = k.normalize(x, each, each, (1, 2), groups, EPS)
    assert y.shape == shape
    assert not mean.any()
    assert not variance.any()
    np.testing.assert_allclose(rate, 10, rtol=1e-6)
    x_grad, w_grad, b_grad = k.normalize_grads(x, x, each, mean, rate, (1, 2), groups, 7)
    assert (x_grad.shape, w_grad.shape, b_grad.shape) == (shape, each.shape, each.shape)
    assert not w_grad.any()
    assert not b_grad.any()
    y, mean, rate = k.normalize_by(x, each, each, each, each, (1, 2), EPS)
    assert y.shape == shape
    assert k.normalize_by_grads(x, x, each, mean, rate, (1, 2), 1)[0].shape == shape
