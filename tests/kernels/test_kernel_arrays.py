"""Any array NumPy can make comes out right: its layout, its size, its byte order, and NaN and infinity in it."""

from collections.abc import Callable

import numpy as np
import pytest

G = ((1, 1), (1, 1), (1, 1), 1)
POOL = ((3, 3), (2, 2), (1, 1), (1, 1))
HALVES = ((2, 2), (2, 2), (0, 0), (1, 1))


def misaligned(x: np.ndarray) -> np.ndarray:
    raw = np.zeros(x.nbytes + 1, np.uint8)
    y = raw[1:].view(x.dtype).reshape(x.shape)
    y[...] = x
    return y


def field_of_records(x: np.ndarray) -> np.ndarray:
    """Numbers seven or eleven bytes apart."""
    records = np.zeros(x.shape, np.dtype([("x", x.dtype), ("tag", "S3")]))
    records["x"] = x
    return records["x"]


def every_other(x: np.ndarray) -> np.ndarray:
    return np.repeat(x, 2, axis=-1)[..., ::2]


LAYOUTS: dict[str, Callable[[np.ndarray], np.ndarray]] = {
    "Fortran order": np.asfortranarray,
    "negative strides": lambda x: np.ascontiguousarray(x[..., ::-1])[..., ::-1],
    "all strides negative": lambda x: np.flip(np.ascontiguousarray(np.flip(x))),
    "every other number": every_other,
    "transposed": lambda x: np.ascontiguousarray(x.swapaxes(0, -1)).swapaxes(0, -1),
    "misaligned": misaligned,
    "field of records": field_of_records,
    "byte-swapped": lambda x: x.astype(x.dtype.newbyteorder("S")),
    "byte-swapped and reversed": lambda x: x[..., ::-1].astype(x.dtype.newbyteorder("S"))[..., ::-1],
}


def read_only(x: np.ndarray) -> np.ndarray:
    x = x.copy()
    x.flags.writeable = False
    return x


LAYOUTS["read-only"] = read_only


def calls(k, draw) -> list[tuple[Callable[..., object], list[np.ndarray]]]:
    """Each kernel, with arrays for it; what is left of its arguments is bound."""
    x, w, bias = draw(2, 3, 7, 9), draw(4, 3, 3, 3), draw(4)
    g = draw(2, 4, 7, 9)
    _, offsets = k.max_pool2d(x, *POOL, False)
    _, half_offsets = k.max_pool2d(x, *HALVES, False)
    return [
        (k.matmul, [draw(5, 7), draw(7, 6)]),
        (k.matmul, [draw(2, 5, 7), draw(7, 6)]),
        (k.matmul, [draw(7), draw(7, 6)]),
        (k.matmul, [draw(5, 7), draw(7)]),
        (k.matmul, [draw(7), draw(7)]),
        (k.matmul, [draw(40, 70), draw(70, 50)]),
        (k.linear, [draw(2, 5, 7), draw(6, 7), draw(6)]),
        (k.linear, [draw(33, 70), draw(50, 70), draw(50)]),
        (k.linear_input_grad, [draw(2, 5, 6), draw(6, 7)]),
        (k.linear_weight_grad, [draw(2, 5, 6), draw(2, 5, 7)]),
        (k.linear_weight_grad, [draw(9, 50), draw(9, 70)]),
        (lambda x, w, b: k.conv2d(x, w, b, *G), [x, w, bias]),
        (lambda g, w: k.conv2d_input_grad(g, w, x.shape, *G), [g, w]),
        (lambda g, x: k.conv2d_weight_grad(g, x, w.shape, *G), [g, x]),
        (lambda x: k.max_pool2d(x, *POOL, False), [x]),
        (lambda g, o: k.max_pool2d_input_grad(g, o, x.shape, *POOL), [draw(2, 3, 4, 5), offsets]),
        (lambda x, o: k.max_pool2d_take(x, o, *POOL), [x, offsets]),
        (lambda x: k.max_pool2d(x, *HALVES, False), [x]),
        (lambda g, o: k.max_pool2d_input_grad(g, o, x.shape, *HALVES), [draw(2, 3, 3, 4), half_offsets]),
        (lambda x: k.avg_pool2d(x, *POOL[:3], False, True, None), [x]),
        (lambda g: k.avg_pool2d_input_grad(g, x.shape, *POOL[:3], False, True, None), [draw(2, 3, 4, 5)]),
        (k.relu, [x]),
        (k.relu_grad, [g, draw(2, 4, 7, 9)]),
        (lambda x: k.softmax(x, -1), [x]),
        (lambda x: k.log_softmax(x, 1), [x]),
        (lambda g, y: k.softmax_grad(g, y, 1), [g, draw(2, 4, 7, 9)]),
        (lambda g, y: k.log_softmax_grad(g, y, -1), [g, draw(2, 4, 7, 9)]),
    ]


@pytest.mark.parametrize("layout", LAYOUTS)
def test_a_layout_changes_no_result(k, dtype, draw, layout):
    for kernel, arrays in calls(k, draw):
        expected = kernel(*arrays)
        got = kernel(*[LAYOUTS[layout](array) for array in arrays])
        for one, other in zip(np.atleast_1d(expected), np.atleast_1d(got), strict=True):
            np.testing.assert_allclose(other, one, rtol=1e-4 if dtype == np.float32 else 1e-11, atol=1e-5)


def test_a_result_is_fresh_and_the_arguments_are_left_alone(k, draw):
    for kernel, arrays in calls(k, draw):
        before = [array.copy() for array in arrays]
        results = kernel(*arrays)
        for result in results if isinstance(results, tuple) else (results,):
            assert result.flags.c_contiguous
            assert result.flags.owndata
            assert result.flags.writeable
            assert not any(np.shares_memory(result, array) for array in arrays)
        for array, copy in zip(arrays, before, strict=True):
            assert array.tobytes() == copy.tobytes()


def test_a_broadcast_gradient_is_read_as_what_it_shows(k, dtype, draw):
    one = np.broadcast_to(dtype.type(2), (2, 4, 7, 9))
    w, x = draw(4, 3, 3, 3), draw(2, 3, 7, 9)
    np.testing.assert_array_equal(
        k.conv2d_input_grad(one, w, x.shape, *G), k.conv2d_input_grad(one.copy(), w, x.shape, *G)
    )
    a = np.broadcast_to(draw(1, 7), (5, 7))
    np.testing.assert_allclose(k.matmul(a.T, a), a.T.copy() @ a.copy(), rtol=1e-5)


def test_numpy_scalars_count_as_arrays_without_axes(k, dtype):
    result = k.relu(dtype.type(-3))
    assert result.shape == ()
    assert result.dtype == dtype
    assert k.softmax(dtype.type(5), -1) == 1
    assert k.relu_grad(dtype.type(4), dtype.type(2)) == 4


@pytest.mark.parametrize(("M", "K", "N"), [(0, 3, 4), (3, 0, 4), (3, 4, 0), (0, 0, 0), (1, 0, 1)])
def test_matmul_without_numbers_is_zero_or_empty(k, draw, M, K, N):
    y = k.matmul(draw(M, K), draw(K, N))
    assert y.shape == (M, N)
    assert not y.any()
    assert k.matmul(draw(2, M, K), draw(K, N)).shape == (2, M, N)
    assert k.matmul(draw(0, M, K), draw(K, N)).shape == (0, M, N)
    np.testing.assert_array_equal(k.linear(draw(M, K), draw(N, K), np.arange(N, dtype=y.dtype)), y + np.arange(N))


def test_an_empty_batch_gives_empty_images_and_zero_gradients(k, draw):
    x, w = draw(0, 3, 5, 5), draw(4, 3, 3, 3)
    assert k.conv2d(x, w, draw(4), *G).shape == (0, 4, 5, 5)
    assert k.conv2d_input_grad(draw(0, 4, 5, 5), w, x.shape, *G).shape == x.shape
    np.testing.assert_array_equal(k.conv2d_weight_grad(draw(0, 4, 5, 5), x, w.shape, *G), 0 * w)
    y, offsets = k.max_pool2d(x, *HALVES, False)
    assert y.shape == offsets.shape == (0, 3, 2, 2)
    assert k.max_pool2d_input_grad(y, offsets, x.shape, *HALVES).shape == x.shape
    assert k.avg_pool2d(x, *HALVES[:3], False, True, None).shape == (0, 3, 2, 2)
    assert k.relu(x).shape == k.softmax(x, 1).shape == k.softmax(x, 0).shape == x.shape


def test_no_input_channels_leave_the_bias(k, draw):
    y = k.conv2d(draw(2, 0, 5, 5), draw(4, 0, 3, 3), np.arange(4, dtype=draw(0).dtype), *G)
    assert (y == np.arange(4)[:, None, None]).all()
    assert k.conv2d_weight_grad(y, draw(2, 0, 5, 5), (4, 0, 3, 3), *G).shape == (4, 0, 3, 3)
    assert k.conv2d_input_grad(y, draw(4, 0, 3, 3), (2, 0, 5, 5), *G).shape == (2, 0, 5, 5)


def test_a_nan_reaches_the_outputs_whose_window_holds_it_and_no_others(k, draw):
    """Also at the edges, where a vector reads past its row: what it reads must not come back, not even times 0."""
    w = draw(20, 2, 3, 3)
    for width in (5, 18, 35):
        for h, column in ((0, 0), (3, width - 1), (6, width // 2)):
            x = draw(3, 2, 7, width)
            x[1, 1, h, column] = np.nan
            touched = np.zeros((7, width), bool)
            touched[max(h - 1, 0) : h + 2, max(column - 1, 0) : column + 2] = True
            np.testing.assert_array_equal(np.isnan(k.conv2d(x, w, None, *G)[1]), np.tile(touched, (20, 1, 1)))
            assert not np.isnan(k.conv2d(x, w, None, *G)[[0, 2]]).any()
            g = draw(3, 2, 7, width)
            g[1, 1, h, column] = np.inf
            back = k.conv2d_input_grad(g, np.abs(draw(2, 3, 3, 3)), (3, 3, 7, width), *G)
            np.testing.assert_array_equal(np.isinf(back[1]), np.tile(touched, (3, 1, 1)))
            assert np.isfinite(back[[0, 2]]).all()


def test_a_nan_goes_through_the_relu_of_conv2d(k, draw):
    """By channels, by pixels, and depthwise."""
    for channels, outputs, groups in ((12, 40, 1), (2, 3, 1), (3, 3, 3)):
        x, w = draw(1, channels, 5, 18), draw(outputs, channels // groups, 3, 3)
        x[0, :, 2, 17] = np.nan
        y, plain = k.conv2d(x, w, None, *G[:3], groups, True), k.conv2d(x, w, None, *G[:3], groups)
        assert np.isnan(y[0, :, 1:4, 16:]).all()
        np.testing.assert_array_equal(y, np.where(plain < 0, 0, plain))


@pytest.mark.parametrize("stride", [1, 2])
@pytest.mark.parametrize("channels", [3, 19])
def test_a_nan_stays_in_its_plane_and_its_window_of_a_depthwise_convolution(k, draw, stride, channels):
    for width in (5, 16, 35):
        x, w = draw(2, channels, 9, width), draw(channels, 1, 3, 3)
        x[1, 1, 4, width - 1] = np.nan
        geometry = ((stride, stride), (1, 1), (1, 1), channels)
        y = k.conv2d(x, w, None, *geometry)
        touched = np.zeros((9, width), bool)
        touched[3:6, width - 2 :] = True
        np.testing.assert_array_equal(np.isnan(y[1, 1]), touched[::stride, ::stride])
        assert np.isnan(y).sum() == touched[::stride, ::stride].sum()
        back = k.conv2d_weight_grad(np.ones_like(y), x, w.shape, *geometry)
        assert np.isnan(back[1]).any()
        assert np.isfinite(np.delete(back, 1, 0)).all()
        g = draw(*y.shape)
        g[1, 2, 0, 0] = np.nan
        back = k.conv2d_input_grad(g, w, x.shape, *geometry)
        assert np.isnan(back[1, 2, :2, :2]).all()
        assert np.isnan(back).sum() == 4


def test_matmul_keeps_infinity_and_nan_in_their_rows_and_columns(k, draw):
    for n in (1, 7, 50):
        a, b = np.abs(draw(9, n)) + 1, np.abs(draw(n, 53)) + 1
        a[4, n - 1] = np.inf
        b[n - 1, 52] = np.nan
        for y in (k.matmul(a, b), k.matmul(np.asfortranarray(a), np.asfortranarray(b))):
            assert np.isinf(y[4, :52]).all()
            assert np.isnan(y[:, 52]).all()
            assert np.isfinite(np.delete(y, 4, 0)[:, :52]).all()


def test_linear_with_relu_passes_nan_on(k, draw):
    for n in (2, 3, 40):
        x, w, bias = draw(n, 70), draw(50, 70), draw(50)
        x[n - 1, 69], w[7, 3] = np.nan, np.nan
        expected = np.zeros((n, 50), bool)
        expected[n - 1], expected[:, 7] = True, True
        y = k.linear(x, w, bias, True)
        np.testing.assert_array_equal(np.isnan(y), expected)
        assert (y[~expected] >= 0).all()


def test_max_pool2d_passes_nan_on_and_prefers_it_to_infinity(k, dtype, draw):
    for geometry in (POOL, HALVES):
        x = draw(1, 1, 8, 40)
        x[0, 0, 2, 5], x[0, 0, 2, 4], x[0, 0, 3, 4] = np.nan, np.inf, np.inf
        y, offsets = k.max_pool2d(x, *geometry, False)
        assert np.isnan(y[0, 0, 1, 2])
        back = k.max_pool2d_input_grad(np.ones_like(y), offsets, x.shape, *geometry)
        assert back[0, 0, 2, 5] >= 1
        assert back[0, 0, 2, 4] <= back[0, 0, 2, 5]


def test_max_pool2d_of_minus_infinity_sends_its_gradient_into_the_image(k, dtype):
    x = np.full((1, 1, 5, 5), -np.inf, dtype)
    y, offsets = k.max_pool2d(x, *POOL, False)
    assert (y == -np.inf).all()
    assert k.max_pool2d_input_grad(np.ones_like(y), offsets, x.shape, *POOL).sum() == y.size


def test_relu_passes_nan_on_and_its_gradient_selects(k, dtype):
    x = np.array([np.nan, -np.inf, np.inf, -1, 1] * 7, dtype)
    y = k.relu(x)
    np.testing.assert_array_equal(y, np.array([np.nan, 0, np.inf, 0, 1] * 7))
    g = np.array([1, np.nan, 2, np.inf, -np.inf] * 7, dtype)
    np.testing.assert_array_equal(k.relu_grad(g, y), np.array([1, 0, 2, 0, -np.inf] * 7))


@pytest.mark.parametrize("name", ["softmax", "log_softmax"])
def test_softmax_of_large_numbers_does_not_overflow(k, dtype, name):
    x = np.array([[1e30, 0, -1e30], [-1e30, -1e30, -1e30]], dtype)
    y = getattr(k, name)(x, 1)
    expected = np.array([[1, 0, 0], [1 / 3] * 3])
    np.testing.assert_allclose(y if name == "softmax" else np.exp(y), expected, rtol=1e-6)


@pytest.mark.parametrize("bad", [np.nan, np.inf])
def test_softmax_of_a_row_with_nan_or_infinity_is_nan(k, dtype, bad):
    x = np.array([[0, bad, 1], [0, 0, 0]], dtype)
    assert np.isnan(k.softmax(x, 1)[0, 1])
    np.testing.assert_allclose(k.softmax(x, 1)[1], 1 / 3, rtol=1e-6)
    assert np.isnan(k.log_softmax(x, 1)[0]).all()


def test_gradients_with_an_offset_that_names_no_tap_go_nowhere(k, draw):
    for geometry in (POOL, HALVES):
        x = draw(1, 1, 8, 9)
        y, offsets = k.max_pool2d(x, *geometry, False)
        outside = np.full_like(offsets, 200)
        assert not k.max_pool2d_input_grad(y, outside, x.shape, *geometry).any()
        assert not k.max_pool2d_take(x, outside, *geometry).any()
