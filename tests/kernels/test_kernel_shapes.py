"""The compiled kernels against the plain ones. Hypothesis draws the sizes of outputs; the inputs' follow from them."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from scalargrad import kernels

PLAIN = kernels.load("numpy")
COMPILED = [isa for isa in kernels.available() if isa != "numpy"]
pytestmark = pytest.mark.skipif(not COMPILED, reason="nothing is compiled here")

small = st.integers(1, 3)
# Sizes on both sides of every tile: 4 and 8 rows, 1 to 3 vectors of 2 to 16 numbers.
sizes = st.one_of(st.integers(1, 9), st.sampled_from([12, 13, 16, 17, 24, 25, 31, 32, 33, 47, 48, 49]))


def random(*shape: int) -> np.ndarray:
    """The same numbers for the same shape, small integers: sums of them are exact in either type."""
    return np.random.default_rng(shape).integers(-4, 5, shape).astype(np.float64)


def agree(name: str, *arguments: object) -> None:
    """The plain kernel in float64 and every compiled one in both types give the same integers."""
    expected = getattr(PLAIN, name)(*arguments)
    for isa in COMPILED:
        for dtype in (np.float32, np.float64):
            here = [a.astype(dtype) if isinstance(a, np.ndarray) and a.dtype.kind == "f" else a for a in arguments]
            got = getattr(kernels.load(isa), name)(*here)
            pairs = zip(expected, got, strict=True) if isinstance(expected, tuple) else [(expected, got)]
            for one, other in pairs:
                np.testing.assert_array_equal(other, one, err_msg=f"{name} of {isa}, {np.dtype(dtype)}")


@given(sizes, sizes, st.integers(0, 60), st.booleans(), st.booleans(), st.lists(small, max_size=2))
def test_matmul(M, N, K, a_is_transposed, b_is_transposed, batch):
    a = random(*batch, K, M).swapaxes(-1, -2) if a_is_transposed else random(*batch, M, K)
    b = random(N, K).T if b_is_transposed else random(K, N)
    agree("matmul", a, b)


@given(sizes, sizes, st.integers(0, 130), st.booleans(), st.booleans(), st.lists(small, max_size=2))
def test_linear_and_its_gradients(M, K, N, has_bias, relu, batch):
    x, w, g = random(*batch, N, K), random(M, K), random(*batch, N, M)
    agree("linear", x, w, random(M) if has_bias else None, relu)
    agree("linear_input_grad", g, w)
    agree("linear_weight_grad", g, x)


@given(st.integers(1, 40), st.integers(1, 40), st.integers(1, 20), st.integers(0, 60), st.integers(0, 3), st.booleans())
def test_matmul_of_parts_of_larger_matrices(M, N, K, beyond, before, backwards):
    """Rows that end where others begin, or go backwards: nothing of what lies beside them comes in."""
    a, b = (np.full((rows, before + columns + beyond), np.nan) for rows, columns in ((M, K), (K, N)))
    a, b = a[:, before : before + K], b[:, before : before + N]
    a[...], b[...] = random(M, K), random(K, N)
    if backwards:
        a, b = a[::-1, ::-1], b[::-1]
    agree("matmul", a, b)
    agree("linear", a, b.T, None, False)


@given(
    N=st.integers(0, 2),
    C=st.integers(1, 4),
    O=sizes,
    P=st.integers(1, 4),
    Q=sizes,
    kernel=st.tuples(small, small),
    stride=st.tuples(small, small),
    padding=st.tuples(st.integers(0, 4), st.integers(0, 4)),
    dilation=st.tuples(small, small),
    groups=st.integers(1, 2),
    rest=st.tuples(st.integers(0, 2), st.integers(0, 2)),
)
def test_conv2d_and_its_gradients(N, C, O, P, Q, kernel, stride, padding, dilation, groups, rest):
    """The rest, below the stride, is what the last window leaves over. Padding is cut to leave an image."""
    H, W = (
        (count - 1) * stride[i] + dilation[i] * (kernel[i] - 1) + 1 + min(rest[i], stride[i] - 1)
        for i, count in ((0, P), (1, Q))
    )
    padding = (min(padding[0], (H - 1) // 2), min(padding[1], (W - 1) // 2))
    H, W = H - 2 * padding[0], W - 2 * padding[1]
    x, w, g = random(N, C * groups, H, W), random(O * groups, C, *kernel), random(N, O * groups, P, Q)
    geometry = (stride, padding, dilation, groups)
    agree("conv2d", x, w, random(O * groups), *geometry)
    agree("conv2d_input_grad", g, w, x.shape, *geometry)
    agree("conv2d_weight_grad", g, x, w.shape, *geometry)


@given(
    N=st.integers(0, 3),
    channels=st.integers(2, 18),
    P=st.integers(1, 9),
    Q=sizes,
    kernel=st.one_of(st.just((3, 3)), st.tuples(small, st.integers(1, 5))),
    stride=st.one_of(st.sampled_from([(1, 1), (2, 2)]), st.tuples(small, small)),
    padding=st.tuples(st.integers(0, 4), st.integers(0, 4)),
    dilation=st.one_of(st.just((1, 1)), st.tuples(small, small)),
    rest=st.tuples(st.integers(0, 2), st.integers(0, 2)),
)
def test_depthwise_conv2d_and_its_gradients(N, channels, P, Q, kernel, stride, padding, dilation, rest):
    H, W = (
        (count - 1) * stride[i] + dilation[i] * (kernel[i] - 1) + 1 + min(rest[i], stride[i] - 1)
        for i, count in ((0, P), (1, Q))
    )
    padding = (min(padding[0], (H - 1) // 2), min(padding[1], (W - 1) // 2))
    x, w = random(N, channels, H - 2 * padding[0], W - 2 * padding[1]), random(channels, 1, *kernel)
    g = random(N, channels, P, Q)
    geometry = (stride, padding, dilation, channels)
    agree("conv2d", x, w, random(channels), *geometry, True)
    agree("conv2d_input_grad", g, w, x.shape, *geometry)
    agree("conv2d_weight_grad", g, x, w.shape, *geometry)
    agree("sum_by_channel", g)


@pytest.mark.parametrize(("stride", "padding", "groups"), [(1, 1, 1), (2, 1, 1), (1, 0, 2)])
def test_conv2d_whose_weights_are_larger_than_its_images(stride, padding, groups):
    """A megabyte of weights for each group, in either direction and type."""
    x, w = random(2, 200 * groups, 5, 6), random(150 * groups, 200, 3, 3)
    geometry = ((stride, stride), (padding, padding), (1, 1), groups)
    y = PLAIN.conv2d(x, w, None, *geometry)
    agree("conv2d", x, w, random(150 * groups), *geometry, True)
    agree("conv2d_input_grad", random(*y.shape), w, x.shape, *geometry)


@pytest.mark.parametrize("channels", [16, 17, 35])
@pytest.mark.parametrize(
    ("size", "stride", "padding"),
    [
        ((7, 7), 1, (1, 1)),
        ((14, 14), 2, (1, 1)),
        ((13, 6), 2, (0, 1)),
        ((5, 8), 1, (2, 0)),
        ((3, 3), 1, (0, 0)),
        ((1, 2), 1, (3, 1)),
        ((15, 4), 2, (0, 0)),
    ],
)
def test_depthwise_conv2d_of_small_images_with_channels_in_the_lanes(channels, size, stride, padding):
    x, w = random(3, channels, *size), random(channels, 1, 3, 3)
    geometry = ((stride, stride), padding, (1, 1), channels)
    P, Q = ((n + 2 * pad - 3) // stride + 1 for n, pad in zip(size, padding, strict=True))
    g = random(3, channels, P, Q)
    for relu in (False, True):
        agree("conv2d", x, w, random(channels), *geometry, relu)
    agree("conv2d", x, w, None, *geometry)
    agree("conv2d_input_grad", g, w, x.shape, *geometry)
    agree("conv2d_weight_grad", g, x, w.shape, *geometry)


@given(
    N=st.integers(0, 2),
    P=st.integers(1, 4),
    Q=sizes,
    kernel=st.tuples(st.integers(1, 4), st.integers(1, 4)),
    stride=st.tuples(small, small),
    dilation=st.tuples(small, small),
    rest=st.tuples(st.integers(0, 2), st.integers(0, 2)),
    ceil_mode=st.booleans(),
    pads=st.booleans(),
    count_include_pad=st.booleans(),
)
def test_pooling_and_its_gradients(
    N, P, Q, kernel, stride, dilation, rest, ceil_mode, pads, count_include_pad
):  # fmt: skip
    padding = tuple((dilation[i] * (kernel[i] - 1) + 1) // 2 if pads else 0 for i in (0, 1))
    H, W = (
        max(
            (count - 1) * stride[i] + dilation[i] * (kernel[i] - 1) + 1 + min(rest[i], stride[i] - 1) - 2 * padding[i],
            1,
        )
        for i, count in ((0, P), (1, Q))
    )
    x = random(N, 2, H, W)
    agree("max_pool2d", x, kernel, stride, padding, dilation, ceil_mode)
    y, offsets = PLAIN.max_pool2d(x, kernel, stride, padding, dilation, ceil_mode)
    agree("max_pool2d_input_grad", random(*y.shape), offsets, x.shape, kernel, stride, padding, dilation)
    agree("max_pool2d_take", random(*x.shape), offsets, kernel, stride, padding, dilation)
    padding = tuple(min(padding[i], kernel[i] // 2) for i in (0, 1))
    if kernels.pool_output_size(H, kernel[0], stride[0], padding[0], 1, ceil_mode) < 1:
        padding = tuple(size // 2 for size in kernel)
    # Divided by 1 the sums stay integers; the other divisors are compared with the reference.
    agree("avg_pool2d", x, kernel, stride, padding, ceil_mode, count_include_pad, 1)
    y = PLAIN.avg_pool2d(x, kernel, stride, padding, ceil_mode, count_include_pad, 1)
    agree("avg_pool2d_input_grad", random(*y.shape), x.shape, kernel, stride, padding, ceil_mode, count_include_pad, 1)
