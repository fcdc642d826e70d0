"""Convolution, relu and max pooling in one call are what they are one by one."""

import re

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from scalargrad import kernels

ISAS = [isa for isa in kernels.available() if isa != "numpy"]

ONES, ZEROS = (1, 1), (0, 0)
HALVES = ((2, 2), (2, 2), ZEROS, ONES, False)
SAME = (ONES, ONES, ONES, 1)
VALID = (ONES, ZEROS, ONES, 1)

sizes = st.one_of(st.integers(2, 9), st.sampled_from([15, 16, 17, 31, 33, 36]))
padding = st.integers(0, 3)


def random(*shape: int) -> np.ndarray:
    return np.random.default_rng(shape).standard_normal(shape)


def one_by_one(k, x, w, bias, conv, pool):
    y = k.conv2d(x, w, bias, *conv)
    return y, *k.relu_max_pool2d(y, *pool)


def grads_one_by_one(k, g, offsets, x, w, y, conv, pool):
    d = k.max_pool2d_input_grad(g, offsets, y.shape, *pool[:4])
    return k.conv2d_input_grad(d, w, x.shape, *conv), k.conv2d_weight_grad(d, x, w.shape, *conv), d.sum((0, 2, 3))


def check(k, dtype, x, w, bias, conv, pool):
    """The result has the bits of the three, the gradients their values."""
    x, w = x.astype(dtype), w.astype(dtype)
    bias = None if bias is None else bias.astype(dtype)
    unpooled, *expected = one_by_one(k, x, w, bias, conv, pool)
    y, offsets = k.conv2d_relu_max_pool2d(x, w, bias, *conv, *pool)
    assert y.tobytes() == expected[0].tobytes()
    np.testing.assert_array_equal(offsets, expected[1])
    g = random(*y.shape).astype(dtype)
    grads = k.conv2d_relu_max_pool2d_grads(g, offsets, x, w, *conv, *pool, True, True, True)
    tolerance = 3e-5 if dtype == np.float32 else 1e-13
    for got, one in zip(grads, grads_one_by_one(k, g, offsets, x, w, unpooled, conv, pool), strict=True):
        assert got.dtype == dtype
        assert got.flags.c_contiguous
        np.testing.assert_allclose(got, one, rtol=0, atol=tolerance * max(np.abs(one).max(initial=0), 1))
    return grads


@given(
    N=st.integers(1, 3),
    C=st.integers(1, 4),
    O=st.sampled_from([1, 2, 5, 6, 8, 9, 15, 16, 17, 33, 48, 50]),
    P=sizes,
    Q=sizes,
    kernel=st.tuples(st.integers(1, 5), st.integers(1, 5)),
    pads=st.tuples(padding, padding),
    with_bias=st.booleans(),
)
def test_a_fused_block_is_its_three_operations(N, C, O, P, Q, kernel, pads, with_bias):
    """P and Q are the sizes of the convolution's output, odd ones with a row and a column that no window holds."""
    pads = (min(pads[0], (P + kernel[0] - 2) // 2), min(pads[1], (Q + kernel[1] - 2) // 2))
    H, W = P + kernel[0] - 1 - 2 * pads[0], Q + kernel[1] - 1 - 2 * pads[1]
    x, w, bias = random(N, C, H, W), random(O, C, *kernel), random(O)
    conv = (ONES, pads, ONES, 1)
    for isa in ISAS:
        k = kernels.load(isa)
        assert k.block_is_fused(x.shape, w.shape, *conv, *HALVES)
        for dtype in (np.float32, np.float64):
            check(k, dtype, x, w, bias if with_bias else None, conv, HALVES)


@pytest.mark.parametrize(
    ("x_shape", "w_shape", "conv"),
    [
        ((3, 1, 32, 32), (6, 1, 3, 3), VALID),
        ((3, 6, 15, 15), (16, 6, 3, 3), VALID),
        ((2, 16, 12, 12), (56, 16, 3, 3), SAME),
        ((1, 2, 40, 130), (64, 2, 3, 3), SAME),  # several bands of rows
        ((1, 1, 300, 300), (20, 1, 2, 2), VALID),  # more than one strip of windows
        ((1, 48, 8, 8), (3, 48, 3, 3), SAME),
    ],
)
def test_blocks_of_networks_are_their_three_operations(k, dtype, x_shape, w_shape, conv):
    check(k, dtype, random(*x_shape), random(*w_shape) / 8, random(w_shape[0]), conv, HALVES)


@pytest.mark.parametrize(
    ("conv", "pool"),
    [
        (((2, 1), ONES, ONES, 1), HALVES),
        ((ONES, ONES, (1, 2), 1), HALVES),
        ((ONES, ONES, ONES, 2), HALVES),
        (VALID, ((3, 3), (2, 2), ONES, ONES, False)),
        (VALID, ((2, 2), (1, 2), ZEROS, ONES, False)),
        (VALID, ((2, 2), (2, 2), ZEROS, ONES, True)),
        (VALID, ((2, 2), (2, 2), ONES, ONES, False)),
        (VALID, ((2, 2), (2, 2), ZEROS, (2, 2), False)),
    ],
)
def test_what_is_not_fused_is_the_three_operations_all_the_same(k, dtype, conv, pool):
    x, w = random(2, 4, 9, 11), random(6, 4 // conv[3], 3, 3)
    assert not k.block_is_fused(x.shape, w.shape, *conv, *pool)
    check(k, dtype, x, w, random(6), conv, pool)


def test_windows_that_hang_over_the_edge_are_fused_only_where_there_are_none(k):
    assert k.block_is_fused((1, 1, 6, 6), (1, 1, 3, 3), *VALID, *HALVES[:4], True) == (k is not kernels.load("numpy"))
    assert not k.block_is_fused((1, 1, 7, 6), (1, 1, 3, 3), *VALID, *HALVES[:4], True)


def test_a_block_of_no_images_or_channels_is_empty_or_its_bias(k, draw):
    for n, c in ((0, 2), (2, 0)):
        x, w, bias = draw(n, c, 6, 6), draw(3, c, 3, 3), np.abs(draw(3))
        y, offsets = k.conv2d_relu_max_pool2d(x, w, bias, *SAME, *HALVES)
        assert y.shape == offsets.shape == (n, 3, 3, 3)
        assert (y == bias[:, None, None]).all()
        grads = k.conv2d_relu_max_pool2d_grads(y, offsets, x, w, *SAME, *HALVES, True, True, True)
        np.testing.assert_array_equal(grads[0], np.zeros(x.shape))
        np.testing.assert_array_equal(grads[1], np.zeros(w.shape))
        np.testing.assert_allclose(grads[2], y.sum((0, 2, 3)), rtol=1e-5)


def test_a_gradient_does_not_depend_on_which_others_are_wanted(k, draw):
    for O, W in ((6, 32), (16, 15)):
        x, w = draw(5, 3, 17, W), draw(O, 3, 3, 3)
        y, offsets = k.conv2d_relu_max_pool2d(x, w, None, *SAME, *HALVES)
        every = k.conv2d_relu_max_pool2d_grads(y, offsets, x, w, *SAME, *HALVES, True, True, True)
        for wanted in np.ndindex(2, 2, 2):
            some = k.conv2d_relu_max_pool2d_grads(y, offsets, x, w, *SAME, *HALVES, *map(bool, wanted))
            for want, one, other in zip(wanted, some, every, strict=True):
                assert one.tobytes() == other.tobytes() if want else one is None


def test_a_nan_in_one_image_stays_in_its_results(k, draw):
    for O, width in ((3, 11), (20, 35)):
        x, w = draw(3, 2, 9, width), np.abs(draw(O, 2, 3, 3)) + 1
        x[1, 0, 4, width - 1] = np.nan
        y, offsets = k.conv2d_relu_max_pool2d(x, w, None, *SAME, *HALVES)
        assert np.isfinite(y[[0, 2]]).all()
        touched = np.zeros((O, 4, width // 2), bool)
        # Rows 3 to 5 of the convolution and its last two columns; an odd last column is in no window.
        touched[:, 1:3, (width - 2) // 2 :] = True
        np.testing.assert_array_equal(np.isnan(y[1]), touched)
        g = draw(*y.shape)
        g[1, 0, 0, 0] = np.inf
        x_grad, _, _ = k.conv2d_relu_max_pool2d_grads(g, offsets * 0, x, w, *SAME, *HALVES, True, False, False)
        assert np.isfinite(x_grad[[0, 2]]).all()
        np.testing.assert_array_equal(np.argwhere(np.isinf(x_grad[1, 0])), [[0, 0], [0, 1], [1, 0], [1, 1]])


def test_an_infinity_at_the_end_of_a_row_reaches_only_its_own_taps(k, draw):
    """A vector reads past its row; what it reads there must not come back, not even times 0."""
    for O in (3, 20):
        x, w = draw(1, 1, 9, 20), draw(O, 1, 3, 3)
        x[0, 0, 4, 19] = np.inf
        g = np.ones((1, O, 3, 9), x.dtype)
        offsets = np.zeros(g.shape, np.uint8)
        _, w_grad, _ = k.conv2d_relu_max_pool2d_grads(g, offsets, x, w, *VALID, *HALVES, False, True, True)
        assert np.isfinite(w_grad[..., :2]).all()


@pytest.mark.parametrize(
    ("x_shape", "w_shape", "conv"),
    [
        ((3, 1, 32, 32), (6, 1, 3, 3), VALID),
        ((3, 6, 15, 15), (16, 6, 3, 3), VALID),
        ((3, 4, 10, 9), (19, 4, 3, 3), SAME),
        ((3, 2, 9, 20), (3, 2, 5, 4), SAME),
    ],
)
@pytest.mark.parametrize("where", ["input", "weight", "gradient"])
@pytest.mark.parametrize("value", [np.inf, np.nan])
def test_what_is_not_finite_is_multiplied_with_the_zeros_of_entries_that_did_not_win(
    k, draw, x_shape, w_shape, conv, where, value
):
    """In every gradient the same entries are NaN, or infinite, as after the three operations one by one."""
    x, w = draw(*x_shape), draw(*w_shape)
    y = k.conv2d(x, w, None, *conv)
    pooled, offsets = k.relu_max_pool2d(y, *HALVES)
    g = draw(*pooled.shape)
    place = {"input": x[1, :1, 4, 5:6], "weight": w[1, :1, 1, 1:2], "gradient": g[1, 2:3, 1, 2:3]}[where]
    place[...] = value
    with np.errstate(invalid="ignore"):
        expected = grads_one_by_one(k, g, offsets, x, w, y, conv, HALVES)
        got = k.conv2d_relu_max_pool2d_grads(g, offsets, x, w, *conv, *HALVES, True, True, True)
    for a, b in zip(got, expected, strict=True):
        inside = np.s_[:, :, 2:-2, 2:-2] if a is got[0] and where == "weight" else ...
        np.testing.assert_array_equal(np.isnan(a[inside]), np.isnan(b[inside]))
        np.testing.assert_allclose(a[inside], b[inside], rtol=2e-3, atol=2e-4)


@pytest.mark.skipif(not ISAS, reason="only compiled kernels have threads")
@pytest.mark.parametrize("isa", ISAS)
def test_a_block_gives_the_same_bits_for_any_number_of_threads(isa, draw, threads):
    k = kernels.load(isa)
    for x, w in ((draw(37, 3, 34, 33), draw(6, 3, 5, 5)), (draw(19, 16, 16, 15), draw(32, 16, 3, 3))):
        results = []
        for n in (1, 2, 3, 4):
            with threads(n):
                y, offsets = k.conv2d_relu_max_pool2d(x, w, draw(w.shape[0]) * 0, *SAME, *HALVES)
                grads = k.conv2d_relu_max_pool2d_grads(y, offsets, x, w, *SAME, *HALVES, True, True, True)
            results.append([a.tobytes() for a in (y, offsets, *grads)])
        assert all(other == results[0] for other in results)


def test_a_block_reads_any_layout_and_leaves_its_arguments_alone(k, draw):
    x, w, bias = draw(2, 3, 9, 18), draw(7, 3, 3, 3), draw(7)
    y, offsets = k.conv2d_relu_max_pool2d(x, w, bias, *SAME, *HALVES)
    grads = k.conv2d_relu_max_pool2d_grads(y, offsets, x, w, *SAME, *HALVES, True, True, True)

    def strange(a: np.ndarray) -> np.ndarray:
        a = np.asfortranarray(a[..., ::-1])[..., ::-1].astype(a.dtype.newbyteorder("S"))
        a.flags.writeable = False
        return a

    got, other_offsets = k.conv2d_relu_max_pool2d(strange(x), strange(w), strange(bias), *SAME, *HALVES)
    np.testing.assert_array_equal(got, y)
    np.testing.assert_array_equal(other_offsets, offsets)
    others = k.conv2d_relu_max_pool2d_grads(*map(strange, (y, offsets, x, w)), *SAME, *HALVES, True, True, True)
    for one, other in zip(grads, others, strict=True):
        np.testing.assert_array_equal(other, one)


def test_a_block_whose_frame_no_machine_has_room_for_is_a_memory_error(k):
    # The output is small, but the padded image would have 10¹⁸ entries.
    x, w = np.ones((1, 1, 3, 3), np.float32), np.ones((1, 1, 1, 1), np.float32)
    with pytest.raises(MemoryError):
        k.conv2d_relu_max_pool2d(x, w, None, (2**29, 2**29), (2**30, 2**30), ONES, 1, *HALVES)


def test_of_what_no_wanted_gradient_reads_only_the_shape_counts(k, dtype, draw):
    x, w = draw(2, 3, 9, 9), draw(4, 3, 3, 3)
    for pool in (HALVES, ((3, 3), (2, 2), ONES, ONES, False)):
        y, offsets = k.conv2d_relu_max_pool2d(x, w, None, *SAME, *pool)
        no_x, no_w = (np.broadcast_to(dtype.type(np.nan), a.shape) for a in (x, w))
        every = k.conv2d_relu_max_pool2d_grads(y, offsets, x, w, *SAME, *pool, True, True, True)
        x_grad, _, _ = k.conv2d_relu_max_pool2d_grads(y, offsets, no_x, w, *SAME, *pool, True, False, False)
        _, w_grad, _ = k.conv2d_relu_max_pool2d_grads(y, offsets, x, no_w, *SAME, *pool, False, True, False)
        _, _, bias_grad = k.conv2d_relu_max_pool2d_grads(y, offsets, no_x, no_w, *SAME, *pool, False, False, True)
        for got, expected in zip((x_grad, w_grad, bias_grad), every, strict=True):
            np.testing.assert_array_equal(got, expected)


X, W = np.ones((2, 3, 8, 8), np.float32), np.ones((4, 3, 3, 3), np.float32)
G, OFFSETS = np.ones((2, 4, 4, 4), np.float32), np.zeros((2, 4, 4, 4), np.uint8)
ALL = (True, True, True)


@pytest.mark.parametrize(
    ("call", "sentence"),
    [
        (lambda k: k.conv2d_relu_max_pool2d(X, W[:, :2], None, *SAME, *HALVES), "input has 3 channels but weight"),
        (
            lambda k: k.conv2d_relu_max_pool2d(X, W, X[0, 0, 0], *SAME, *HALVES),
            "expected a bias of shape (4,), got (8,)",
        ),
        (lambda k: k.conv2d_relu_max_pool2d(X[:, :, :3, :3], W, None, *VALID, *HALVES), "output size is too small"),
        (
            lambda k: k.conv2d_relu_max_pool2d(X, W, None, *SAME, (2, 2), (2, 2), (2, 2), ONES, False),
            "pad should be at most half of effective kernel size",
        ),
        (
            lambda k: k.conv2d_relu_max_pool2d_grads(G[:1], OFFSETS, X, W, *SAME, *HALVES, *ALL),
            "expected a gradient of shape (2, 4, 4, 4) for an input of (2, 3, 8, 8), got (1, 4, 4, 4)",
        ),
        (
            lambda k: k.conv2d_relu_max_pool2d_grads(G, OFFSETS[:1], X, W, *SAME, *HALVES, *ALL),
            "expected offsets of shape (2, 4, 4, 4), got (1, 4, 4, 4)",
        ),
        (lambda k: k.block_is_fused((1, 2, 3), (1, 2, 3, 3), *SAME, *HALVES), "expected input_shape"),
    ],
)
def test_a_block_that_is_refused_says_what_was_expected(k, call, sentence):
    with pytest.raises((RuntimeError, TypeError), match=re.escape(sentence)):
        call(k)
