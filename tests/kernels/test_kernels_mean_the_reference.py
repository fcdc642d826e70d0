"""Every kernel against `reference.py`: loops over numbers, and the gradient of the scalar graph that they build."""

import math
from functools import cache

import numpy as np
import pytest

from scalargrad import Value, reference
from scalargrad.ops.elementwise import elementwise

ONES, ZEROS = (1, 1), (0, 0)
# N, C, H, W; O, R, S; stride, padding, dilation, groups
CONVS = {
    "plain": ((2, 1, 8, 9), (3, 3, 3), ONES, ZEROS, ONES, 1),
    "two groups, everything uneven": ((1, 4, 5, 6), (6, 3, 2), (2, 1), (3, 2), (1, 2), 2),
    "padding larger than the image": ((1, 1, 2, 3), (2, 3, 3), ONES, (4, 5), ONES, 1),
    "images one wide": ((2, 3, 7, 1), (2, 3, 1), ONES, (1, 0), ONES, 1),
    "images smaller than a vector": ((3, 1, 1, 1), (2, 1, 1), ONES, ZEROS, ONES, 1),
    "pointwise": ((2, 5, 4, 5), (3, 1, 1), ONES, ZEROS, ONES, 1),
    "pointwise with stride": ((2, 2, 5, 6), (3, 1, 1), (2, 3), ZEROS, ONES, 1),
    "depthwise": ((1, 6, 5, 5), (6, 3, 3), ONES, ONES, ONES, 6),
    "depthwise with stride": ((2, 3, 9, 36), (3, 3, 3), (2, 2), ONES, ONES, 3),
    "depthwise with stride, to less than a vector": ((1, 2, 8, 7), (2, 3, 3), (2, 2), (1, 0), ONES, 2),
    "depthwise, any kernel": ((2, 3, 6, 20), (3, 2, 5), ONES, (3, 2), (2, 1), 3),
    "depthwise, any kernel with stride": ((1, 2, 7, 20), (2, 4, 3), (3, 2), (2, 1), (2, 3), 2),
    "depthwise, padding past the kernel": ((1, 2, 3, 4), (2, 3, 3), ONES, (4, 5), ONES, 2),
    "channels in the lanes, with borders": ((2, 12, 5, 6), (34, 3, 3), ONES, ONES, ONES, 1),
    "channels in the lanes, stride and dilation": ((1, 12, 9, 8), (34, 3, 2), (3, 2), (2, 1), (2, 3), 1),
    "channels in the lanes, two groups": ((1, 24, 4, 5), (68, 2, 3), (1, 2), (0, 1), ONES, 2),
    "rows of more than three vectors": ((1, 1, 3, 67), (2, 2, 3), ONES, ZEROS, ONES, 1),
    "channels past three vectors": ((1, 15, 5, 5), (50, 3, 3), ONES, ZEROS, ONES, 1),
    "channels past three vectors, stride": ((1, 15, 6, 7), (50, 3, 3), (2, 2), ONES, ONES, 1),
    "stride past the kernel": ((1, 2, 7, 9), (3, 2, 2), (3, 4), ZEROS, ONES, 1),
    "stride and dilation": ((1, 1, 9, 9), (2, 3, 2), (2, 3), (2, 1), (2, 3), 1),
    "stride past the image": ((1, 1, 3, 3), (1, 2, 2), (9, 9), ONES, ONES, 1),
    "nine rows of channels": ((1, 1, 4, 20), (9, 2, 2), ONES, ZEROS, ONES, 1),
}


@cache
def numbers(*sizes: int, seed: int = 0) -> np.ndarray:
    """Numbers that float32 holds exactly, so that the reference sees what either type sees."""
    x = np.random.default_rng([seed, *sizes]).standard_normal(sizes).astype(np.float32).astype(np.float64)
    x.flags.writeable = False
    return x


def weight_sizes(case: str) -> tuple[int, ...]:
    x_sizes, (O, R, S), *_, groups = CONVS[case]
    return (O, x_sizes[1] // groups, R, S)


@cache
def reference_conv2d(case: str) -> np.ndarray:
    x_sizes, (O, *_), *geometry = CONVS[case]
    x, w, bias = numbers(*x_sizes), numbers(*weight_sizes(case)), numbers(O)
    return np.array(reference.conv2d(x.tolist(), w.tolist(), bias.tolist(), *geometry))


@pytest.mark.parametrize("case", CONVS)
def test_conv2d_is_the_reference(k, dtype, close, case):
    x_sizes, (O, *_), *geometry = CONVS[case]
    x, w, bias = (numbers(*s).astype(dtype) for s in (x_sizes, weight_sizes(case), (O,)))
    expected = reference_conv2d(case)
    close(k.conv2d(x, w, bias, *geometry), expected)
    close(k.conv2d(x, w, None, *geometry), expected - numbers(O)[:, None, None])


@pytest.mark.parametrize("case", CONVS)
def test_conv2d_with_relu_is_conv2d_and_then_relu(k, dtype, case):
    x_sizes, (O, *_), *geometry = CONVS[case]
    x, w, bias = (numbers(*s).astype(dtype) for s in (x_sizes, weight_sizes(case), (O,)))
    for b in (bias, None):
        y = k.conv2d(x, w, b, *geometry)
        np.testing.assert_array_equal(k.conv2d(x, w, b, *geometry, True), k.relu(y))
        assert (y < 0).any()


@pytest.mark.parametrize("shape", [(2, 3, 4, 5), (1, 1, 1, 1), (20, 2, 9, 30), (3, 17, 1, 1), (0, 3, 2, 2)])
def test_sum_by_channel_sums_over_images_and_pixels(k, dtype, close, shape):
    x = numbers(*shape).astype(dtype)
    close(k.sum_by_channel(x), x.astype(np.float64).sum((0, 2, 3)))
    close(k.sum_by_channel(x[::-1].transpose(0, 1, 3, 2)), x.astype(np.float64).sum((0, 2, 3)))


@pytest.mark.parametrize("case", CONVS)
def test_conv2d_gradients_are_the_adjoints_of_conv2d(k, dtype, case):
    """conv2d is linear in image and weights: ⟨g, conv2d(x, w)⟩ = ⟨input_grad(g, w), x⟩ = ⟨weight_grad(g, x), w⟩.

    The images and weights on the other side are fresh, so that the equality can hold for the right gradient only.
    """
    x_sizes, _, *geometry = CONVS[case]
    x, w = numbers(*x_sizes).astype(dtype), numbers(*weight_sizes(case)).astype(dtype)
    g = numbers(*reference_conv2d(case).shape, seed=2).astype(dtype)
    tolerance = 1e-4 if dtype == np.float32 else 1e-12

    def inner(a: np.ndarray, b: np.ndarray) -> float:
        assert a.shape == b.shape
        return float(np.sum(a.astype(np.float64) * b))

    other_x, other_w = numbers(*x.shape, seed=3).astype(dtype), numbers(*w.shape, seed=3).astype(dtype)
    x_grad = k.conv2d_input_grad(g, w, x.shape, *geometry)
    w_grad = k.conv2d_weight_grad(g, x, w.shape, *geometry)
    assert x_grad.dtype == w_grad.dtype == dtype
    scale = np.linalg.norm(x_grad.astype(float)) * np.linalg.norm(other_x) + 1
    assert abs(inner(x_grad, other_x) - inner(g, k.conv2d(other_x, w, None, *geometry))) <= tolerance * scale
    scale = np.linalg.norm(w_grad.astype(float)) * np.linalg.norm(other_w) + 1
    assert abs(inner(w_grad, other_w) - inner(g, k.conv2d(x, other_w, None, *geometry))) <= tolerance * scale


def values(x: np.ndarray) -> list:
    return reference.each(Value, x.tolist())


def gradient(x: list) -> list:
    return reference.each(lambda v: v.grad, x)


@cache
def scalar_graph_gradients(case: str) -> tuple[np.ndarray, np.ndarray]:
    """Of Σ g·conv2d(x, w), from the graph of Values that the reference builds."""
    x_sizes, _, *geometry = CONVS[case]
    x, w = values(numbers(*x_sizes)), values(numbers(*weight_sizes(case)))
    y = reference.conv2d(x, w, None, *geometry)
    g = numbers(*reference.shape(y), seed=2)
    sum(g_i * y_i for g_i, y_i in zip(g.ravel().tolist(), reference.flat(y), strict=True)).backward()
    return np.array(gradient(x)), np.array(gradient(w))


@pytest.mark.parametrize(
    "case", ["two groups, everything uneven", "stride and dilation", "padding larger than the image"]
)
def test_conv2d_gradients_are_those_of_the_scalar_graph(k, dtype, close, case):
    _, _, *geometry = CONVS[case]
    x_grad, w_grad = scalar_graph_gradients(case)
    x, w = numbers(*x_grad.shape).astype(dtype), numbers(*w_grad.shape).astype(dtype)
    g = numbers(*k.conv2d(x, w, None, *geometry).shape, seed=2).astype(dtype)
    close(k.conv2d_input_grad(g, w, x.shape, *geometry), x_grad)
    close(k.conv2d_weight_grad(g, x, w.shape, *geometry), w_grad)


MATMULS = [
    ((3,), (3,)),
    ((3,), (3, 2)),
    ((2, 3), (3,)),
    ((1, 1), (1, 1)),
    ((5, 7), (7, 17)),
    ((9, 4), (4, 49)),
    ((17, 33), (33, 95)),
    ((2, 3, 4), (4, 5)),
    ((3, 4), (2, 4, 5)),
    ((2, 1, 3, 4), (5, 4, 2)),
]


@cache
def reference_matmul(a_sizes: tuple, b_sizes: tuple) -> np.ndarray:
    return np.array(reference.matmul(numbers(*a_sizes).tolist(), numbers(*b_sizes, seed=1).tolist()))


@pytest.mark.parametrize(("a_sizes", "b_sizes"), MATMULS)
def test_matmul_is_the_reference(k, dtype, close, a_sizes, b_sizes):
    a, b = numbers(*a_sizes).astype(dtype), numbers(*b_sizes, seed=1).astype(dtype)
    close(k.matmul(a, b), reference_matmul(a_sizes, b_sizes))


@cache
def integers(*sizes: int) -> np.ndarray:
    return np.random.default_rng(sizes).integers(-4, 5, sizes)


@cache
def integer_product(M: int, K: int, N: int) -> np.ndarray:
    """Exact, in float32 too: no sum of these comes near what it holds exactly."""
    return integers(M, K).astype(float) @ integers(K, N).astype(float)


# M, K, N past the blocks of the large products: 256, 512, 1024 and 2048 for K, 96 and 128 for M, 1008 and 2048 for N,
# 131072 for K·N, rows of a page and more, and sums of up to eight products where the result is large.
@pytest.mark.parametrize(
    ("M", "K", "N"),
    [
        (5, 3500, 50),
        (3, 3500, 50),
        (99, 3100, 7),
        (6, 3100, 1011),
        (1030, 520, 200),
        (140, 1100, 130),
        (20, 600, 1030),
        (2, 30, 2100),
        *((520, K, 521) for K in (1, 2, 3, 4, 7, 8)),
    ],
)
def test_large_matmuls_of_integers_are_exact(k, dtype, M, K, N):
    a, b, expected = integers(M, K).astype(dtype), integers(K, N).astype(dtype), integer_product(M, K, N)
    np.testing.assert_array_equal(k.matmul(a, b), expected)
    np.testing.assert_array_equal(k.matmul(np.asfortranarray(a), b), expected)
    np.testing.assert_array_equal(k.matmul(a, np.asfortranarray(b)), expected)
    np.testing.assert_array_equal(k.linear(a, b.T, np.arange(N, dtype=dtype)), expected + np.arange(N))
    np.testing.assert_array_equal(k.matmul(a, b[:, 0]), expected[:, 0])
    np.testing.assert_array_equal(k.matmul(a[0], b), expected[0])


def test_linear_is_the_reference(k, dtype, close):
    x, w, bias = numbers(2, 3, 5), numbers(4, 5), numbers(4)
    expected = reference.linear(x.tolist(), w.tolist(), bias.tolist())
    close(k.linear(x.astype(dtype), w.astype(dtype), bias.astype(dtype)), expected)
    close(k.linear(x.astype(dtype), w.astype(dtype), None), np.array(expected) - bias)
    close(k.linear(x.astype(dtype), w.astype(dtype), bias.astype(dtype), True), np.maximum(expected, 0))


def test_linear_gradients_are_those_of_the_scalar_graph(k, dtype, close):
    x, w, g = values(numbers(2, 5, 3)), values(numbers(4, 3)), numbers(2, 5, 4)
    y = reference.linear(x, w)
    sum(g_i * y_i for g_i, y_i in zip(g.ravel().tolist(), reference.flat(y), strict=True)).backward()
    close(k.linear_input_grad(g.astype(dtype), numbers(4, 3).astype(dtype)), gradient(x))
    close(k.linear_weight_grad(g.astype(dtype), numbers(2, 5, 3).astype(dtype)), gradient(w))


# N, C, H, W; kernel_size, stride, padding, dilation, ceil_mode
POOLS = {
    "two by two": ((2, 2, 6, 8), (2, 2), (2, 2), ZEROS, ONES, False),
    "two by two, odd sizes": ((1, 2, 7, 9), (2, 2), (2, 2), ZEROS, ONES, False),
    "two by two, more than a vector": ((1, 1, 4, 75), (2, 2), (2, 2), ZEROS, ONES, False),
    "two by two, ceil": ((1, 1, 5, 7), (2, 2), (2, 2), ZEROS, ONES, True),
    "overlapping": ((1, 2, 7, 9), (3, 3), (2, 2), ONES, ONES, False),
    "stride one": ((1, 1, 5, 40), (2, 3), ONES, (1, 1), ONES, False),
    "dilated": ((1, 1, 9, 8), (2, 3), (1, 3), (1, 1), (3, 2), True),
    "stride past the window": ((1, 1, 9, 9), (1, 2), (4, 3), ZEROS, ONES, True),
    "more than 255 taps": ((1, 1, 18, 20), (16, 17), ONES, ZEROS, ONES, False),
}


@cache
def reference_max_pool2d(case: str) -> tuple[np.ndarray, np.ndarray]:
    """The result, and the gradient of Σ g·y by the scalar graph."""
    sizes, *geometry = POOLS[case]
    # Few different numbers, so that there are ties.
    x = values(np.round(numbers(*sizes)))
    y = reference.max_pool2d(x, *geometry)
    g = numbers(*reference.shape(y), seed=2)
    sum(g_i * y_i for g_i, y_i in zip(g.ravel().tolist(), reference.flat(y), strict=True)).backward()
    return np.array(reference.each(float, y)), np.array(gradient(x))


@pytest.mark.parametrize("case", POOLS)
def test_max_pool2d_is_the_reference_and_gives_ties_to_the_first(k, dtype, close, case):
    sizes, *geometry = POOLS[case]
    kernel_size, stride, padding, dilation, _ = geometry
    expected, expected_grad = reference_max_pool2d(case)
    x = np.round(numbers(*sizes)).astype(dtype)
    y, offsets = k.max_pool2d(x, *geometry)
    close(y, expected)
    assert offsets.dtype == (np.uint8 if kernel_size[0] * kernel_size[1] <= 255 else np.int32)
    g = numbers(*y.shape, seed=2).astype(dtype)
    close(k.max_pool2d_input_grad(g, offsets, x.shape, kernel_size, stride, padding, dilation), expected_grad)


@pytest.mark.parametrize("case", POOLS)
def test_max_pool2d_take_is_the_adjoint_of_the_gradient(k, dtype, case):
    sizes, *geometry = POOLS[case]
    kernel_size, stride, padding, dilation, _ = geometry
    x = np.round(numbers(*sizes)).astype(dtype)
    y, offsets = k.max_pool2d(x, *geometry)
    assert (k.max_pool2d_take(x, offsets, kernel_size, stride, padding, dilation) == y).all()
    g, v = numbers(*y.shape, seed=2).astype(dtype), numbers(*x.shape, seed=3).astype(dtype)
    taken = k.max_pool2d_take(v, offsets, kernel_size, stride, padding, dilation)
    spread = k.max_pool2d_input_grad(g, offsets, x.shape, kernel_size, stride, padding, dilation)
    assert np.isclose(np.sum(taken * g), np.sum(spread * v), rtol=1e-4)


AVERAGES = [(True, None), (False, None), (True, 3), (False, -2)]


@cache
def reference_avg_pool2d(case: str, count_include_pad: bool, divisor: int | None) -> tuple[np.ndarray, np.ndarray]:
    sizes, kernel_size, stride, padding, _, ceil_mode = POOLS[case]
    padding = tuple(min(p, size // 2) for p, size in zip(padding, kernel_size, strict=True))
    x = values(numbers(*sizes))
    y = reference.avg_pool2d(x, kernel_size, stride, padding, ceil_mode, count_include_pad, divisor)
    g = numbers(*reference.shape(y), seed=2)
    sum(g_i * y_i for g_i, y_i in zip(g.ravel().tolist(), reference.flat(y), strict=True)).backward()
    return np.array(reference.each(float, y)), np.array(gradient(x))


@pytest.mark.parametrize(("count_include_pad", "divisor"), AVERAGES)
@pytest.mark.parametrize("case", [case for case in POOLS if case != "more than 255 taps"])
def test_avg_pool2d_is_the_reference(k, dtype, close, case, count_include_pad, divisor):
    sizes, kernel_size, stride, padding, _, ceil_mode = POOLS[case]
    padding = tuple(min(p, size // 2) for p, size in zip(padding, kernel_size, strict=True))
    expected, expected_grad = reference_avg_pool2d(case, count_include_pad, divisor)
    x = numbers(*sizes).astype(dtype)
    geometry = (kernel_size, stride, padding, ceil_mode, count_include_pad, divisor)
    close(k.avg_pool2d(x, *geometry), expected)
    g = numbers(*expected.shape, seed=2).astype(dtype)
    close(k.avg_pool2d_input_grad(g, x.shape, *geometry), expected_grad)


# Sizes, and the output's: that divide, that do not, larger than the image, and the whole.
ADAPTIVES = [((1, 3, 6, 8), (3, 4)), ((2, 9, 7, 6), (3, 4)), ((1, 2, 3, 4), (5, 7)), ((3, 3, 5, 7), (1, 1))]


def upstream(y: list) -> np.ndarray:
    """A gradient for y, and the Values behind y have theirs."""
    g = numbers(*reference.shape(y), seed=2)
    sum(g_i * y_i for g_i, y_i in zip(g.ravel().tolist(), reference.flat(y), strict=True)).backward()
    return g


@pytest.mark.parametrize(("sizes", "output_size"), ADAPTIVES)
def test_adaptive_avg_pool2d_is_the_reference(k, dtype, close, sizes, output_size):
    x = values(numbers(*sizes))
    y = reference.adaptive_avg_pool2d(x, output_size)
    g = upstream(y).astype(dtype)
    close(k.adaptive_avg_pool2d(numbers(*sizes).astype(dtype), output_size), reference.each(float, y))
    close(k.adaptive_avg_pool2d_input_grad(g, sizes), gradient(x))


def largest_of_parts(x: list, P: int, Q: int) -> list:
    """Each part of each image, pooled to its maximum."""
    H, W = reference.shape(x)[2:]

    def largest(image: list, top: int, bottom: int, left: int, right: int) -> Value:
        part = [row[left:right] for row in image[top:bottom]]
        return reference.max_pool2d([[part]], (bottom - top, right - left), ONES, ZEROS, ONES, False)[0][0][0][0]

    return [
        [
            [
                [largest(image, p * H // P, -(-(p + 1) * H // P), q * W // Q, -(-(q + 1) * W // Q)) for q in range(Q)]
                for p in range(P)
            ]
            for image in images
        ]
        for images in x
    ]


@pytest.mark.parametrize(("sizes", "output_size"), ADAPTIVES)
def test_adaptive_max_pool2d_is_the_largest_of_each_part(k, dtype, close, sizes, output_size):
    x = values(np.round(numbers(*sizes)))
    largest = largest_of_parts(x, *output_size)
    g = upstream(largest).astype(dtype)
    y, positions = k.adaptive_max_pool2d(np.round(numbers(*sizes)).astype(dtype), output_size)
    close(y, reference.each(float, largest))
    close(k.adaptive_max_pool2d_input_grad(g, positions, sizes), gradient(x))


@cache
def reference_softmax(name: str, sizes: tuple[int, ...], axis: int) -> tuple[np.ndarray, np.ndarray]:
    x = values(5 * numbers(*sizes))
    y = getattr(reference, name)(x, axis)
    g = numbers(*sizes, seed=2)
    sum(g_i * y_i for g_i, y_i in zip(g.ravel().tolist(), reference.flat(y), strict=True)).backward()
    return np.array(reference.each(float, y)), np.array(gradient(x))


@pytest.mark.parametrize("name", ["softmax", "log_softmax"])
@pytest.mark.parametrize(("sizes", "axis"), [((7,), 0), ((3, 10), 1), ((3, 10), 0), ((2, 3, 5), -2), ((2, 1), 1)])
def test_softmax_and_its_gradient_are_those_of_the_scalar_graph(k, dtype, close, name, sizes, axis):
    expected, expected_grad = reference_softmax(name, sizes, axis)
    x, g = 5 * numbers(*sizes).astype(dtype), numbers(*sizes, seed=2).astype(dtype)
    y = getattr(k, name)(x, axis)
    close(y, expected)
    close(getattr(k, name + "_grad")(g, y, axis), expected_grad)


@pytest.mark.parametrize("size", [0, 1, 3, 16, 37])
def test_relu_keeps_what_is_positive_and_its_gradient_follows(k, dtype, close, size):
    x, g = numbers(size).astype(dtype), numbers(size, seed=2).astype(dtype)
    y = k.relu(x)
    close(y, [v if v > 0 else 0 for v in x.tolist()])
    close(k.relu_grad(g, y), [b if a > 0 else 0 for a, b in zip(x.tolist(), g.tolist(), strict=True)])


@pytest.mark.parametrize("size", [1, 3, 16, 37])
def test_sigmoid_and_its_gradient_are_those_of_the_scalar_graph(k, dtype, close, size):
    x, g = values(3 * numbers(size)), numbers(size, seed=2)
    expected = [v.sigmoid() for v in x]
    sum(a * float(b) for a, b in zip(expected, g, strict=True)).backward()
    y = k.sigmoid((3 * numbers(size)).astype(dtype))
    close(y, [float(v) for v in expected])
    close(k.sigmoid_grad(g.astype(dtype), y), gradient(x))


ACTIVATIONS = {
    "leaky_relu": ((0.3,), lambda v: v.relu() - 0.3 * (-v).relu()),
    "elu": ((1.3,), lambda v: v.relu() + 1.3 * ((-((-v).relu())).exp() - 1)),
    "softplus": ((2.0, 20.0), lambda v: ((2 * v).exp() + 1).log() / 2),
    "log_sigmoid": ((), lambda v: v.sigmoid().log()),
    "silu": ((), lambda v: v * v.sigmoid()),
    "gelu": ((), lambda v: v * 0.5 * (1 + elementwise.erf(v * math.sqrt(0.5)))),
    "gelu_tanh": ((), lambda v: v * 0.5 * (1 + ((v + 0.044715 * v**3) * math.sqrt(2 / math.pi)).tanh())),
    "hardtanh": ((-0.7, 0.4), lambda v: (v + 0.7).relu() - (v - 0.4).relu() - 0.7),
}


@pytest.mark.parametrize("name", ACTIVATIONS)
def test_activations_and_their_gradients_are_those_of_the_scalar_graph(k, dtype, close, name):
    parameters, formula = ACTIVATIONS[name]
    x, g = values(3 * numbers(37)), numbers(37, seed=2)
    expected = [formula(v) for v in x]
    sum(a * float(b) for a, b in zip(expected, g, strict=True)).backward()
    given = (3 * numbers(37)).astype(dtype)
    close(getattr(k, name)(given, *parameters), [float(v) for v in expected])
    close(getattr(k, f"{name}_grad")(g.astype(dtype), given, *parameters), gradient(x))


@pytest.mark.parametrize("reduction", ["mean", "sum"])
def test_cross_entropy_and_its_gradient_are_those_of_the_scalar_graph(k, dtype, close, reduction):
    sizes, target = (4, 5), [1, 0, 4, 1]
    x = values(3 * numbers(*sizes))
    expected = reference.cross_entropy(x, target, reduction=reduction)
    (expected * 0.5).backward()
    scores, labels = (3 * numbers(*sizes)).astype(dtype), np.array(target)
    loss, log_p, total = k.cross_entropy(scores, labels, None, -100, reduction, 0.0)
    close(loss, float(expected))
    g = np.asarray(0.5, dtype)
    close(k.cross_entropy_grad(g, log_p, labels, None, -100, reduction, 0.0, total), gradient(x))
