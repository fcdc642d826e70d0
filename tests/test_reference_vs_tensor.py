"""Structured operations on Tensors against the specification on Values: the same numbers, and the same gradients.

Problems are drawn from the answer backwards: first how many windows there are, then an input that has as many.
"""

import random

import pytest
from hypothesis import given
from hypothesis import strategies as st

import scalargrad
from scalargrad import Value, reference
from scalargrad.reference import each, flat, grid, shape

F = scalargrad.nn.functional
SMALL = st.integers(1, 3)
REDUCTIONS = st.sampled_from(["none", "mean", "sum"])
SEEDS = st.integers(0, 2**32 - 1)


def tensor(x, **options):
    return scalargrad.tensor(x, dtype=scalargrad.float64, **options)


def numbers(seed, *sizes, low=-2.0, high=2.0):
    source = random.Random(seed)
    return grid(lambda *_: source.uniform(low, high), *sizes)


def few_numbers(seed, *sizes):
    """Whole numbers from so few that ties are common."""
    source = random.Random(seed)
    return grid(lambda *_: float(source.randrange(4)), *sizes)


def assert_close(x, y):
    assert shape(x) == shape(y)
    assert flat(x) == pytest.approx(flat(y), rel=1e-10, abs=1e-10)


def assert_means_the_same(ours, specified, *inputs):
    """`ours` of Tensors gives the numbers of `specified` of Values, and pulls a random gradient back to the same."""
    values, tensors = [each(Value, x) for x in inputs], [tensor(x, requires_grad=True) for x in inputs]
    y, z = specified(*values), ours(*tensors)
    assert_close(z.tolist(), each(float, y))
    assert z.dtype == scalargrad.float64
    direction = numbers(1, *shape(y))
    sum(flat(each(lambda number, d: number * d, y, direction)), start=Value(0.0)).backward()
    z.backward(tensor(direction))
    for x, t in zip(values, tensors, strict=True):
        assert_close(t.grad.tolist(), each(lambda value: value.grad, x))


@st.composite
def sliding(draw, dilations=(1, 2), padded_by=lambda kernel: kernel + 1):
    """One direction of a sliding window: (size, kernel, stride, padding, dilation)."""
    kernel, stride, dilation = draw(SMALL), draw(SMALL), draw(st.sampled_from(dilations))
    padding = draw(st.integers(0, padded_by(kernel)))
    n_windows, left_over = draw(SMALL), draw(st.integers(0, stride - 1))
    size = (n_windows - 1) * stride + dilation * (kernel - 1) + 1 - 2 * padding + left_over
    return max(dilation, size), kernel, stride, padding, dilation  # so no window falls between all the numbers


@given(
    vertical=sliding(),
    horizontal=sliding(),
    sizes=st.tuples(*[st.integers(1, 2)] * 4),
    has_bias=st.booleans(),
    seed=SEEDS,
)
def test_conv2d_means_the_same_on_tensors_and_values(vertical, horizontal, sizes, has_bias, seed):
    (H, R, *_), (W, S, *_) = vertical, horizontal
    N, groups, inputs, outputs = sizes
    geometry = (*zip(vertical[2:], horizontal[2:], strict=True), groups)
    operands = [numbers(seed, N, groups * inputs, H, W), numbers(seed + 1, groups * outputs, inputs, R, S)]
    operands += [numbers(seed + 2, groups * outputs)] * has_bias
    assert_means_the_same(
        lambda x, w, bias=None: F.conv2d(x, w, bias, *geometry),
        lambda x, w, bias=None: reference.conv2d(x, w, bias, *geometry),
        *operands,
    )


@given(horizontal=sliding(), sizes=st.tuples(*[st.integers(1, 2)] * 4), has_bias=st.booleans(), seed=SEEDS)
def test_conv1d_means_conv2d_of_images_of_height_1(horizontal, sizes, has_bias, seed):
    (L, S, stride, padding, dilation), (N, groups, inputs, outputs) = horizontal, sizes
    x = numbers(seed, N, groups * inputs, 1, L)
    operands = [numbers(seed + 1, groups * outputs, inputs, 1, S), *[numbers(seed + 2, groups * outputs)] * has_bias]
    assert_means_the_same(
        lambda x, w, bias=None: F.conv1d(x[:, :, 0], w[:, :, 0], bias, stride, padding, dilation, groups).unsqueeze(2),
        lambda x, w, bias=None: reference.conv2d(x, w, bias, (1, stride), (0, padding), (1, dilation), groups),
        x,
        *operands,
    )


@st.composite
def spreading(draw):
    """One direction of a transposed convolution: (size, kernel, stride, padding, output_padding, dilation)."""
    size, kernel, stride, dilation = (draw(SMALL) for _ in range(4))
    output_padding = draw(st.integers(0, max(stride, dilation) - 1))
    framed = (size - 1) * stride + dilation * (kernel - 1) + output_padding + 1
    return size, kernel, stride, draw(st.integers(0, (framed - 1) // 2)), output_padding, dilation


@given(
    vertical=spreading(),
    horizontal=spreading(),
    sizes=st.tuples(*[st.integers(1, 2)] * 4),
    has_bias=st.booleans(),
    seed=SEEDS,
)
def test_conv_transpose2d_means_the_same_on_tensors_and_values(vertical, horizontal, sizes, has_bias, seed):
    (H, R, *_), (W, S, *_) = vertical, horizontal
    N, groups, inputs, outputs = sizes
    stride, padding, output_padding, dilation = zip(vertical[2:], horizontal[2:], strict=True)
    geometry = (stride, padding, output_padding, groups, dilation)
    operands = [numbers(seed, N, groups * inputs, H, W), numbers(seed + 1, groups * inputs, outputs, R, S)]
    operands += [numbers(seed + 2, groups * outputs)] * has_bias
    assert_means_the_same(
        lambda x, w, bias=None: F.conv_transpose2d(x, w, bias, *geometry),
        lambda x, w, bias=None: reference.conv_transpose2d(x, w, bias, *geometry),
        *operands,
    )


def half(kernel):
    """The most padding that a pooling takes."""
    return kernel // 2


@given(
    vertical=sliding(padded_by=half),
    horizontal=sliding(padded_by=half),
    n=SMALL,
    ceil_mode=st.booleans(),
    fill=st.sampled_from([numbers, few_numbers]),
    seed=SEEDS,
)
def test_max_pool2d_means_the_same_on_tensors_and_values(vertical, horizontal, n, ceil_mode, fill, seed):
    _, *geometry = zip(vertical, horizontal, strict=True)
    assert_means_the_same(
        lambda x: F.max_pool2d(x, *geometry, ceil_mode),
        lambda x: reference.max_pool2d(x, *geometry, ceil_mode),
        fill(seed, n, 2, vertical[0], horizontal[0]),
    )


@given(
    vertical=sliding(dilations=(1,), padded_by=half),
    horizontal=sliding(dilations=(1,), padded_by=half),
    n=SMALL,
    ceil_mode=st.booleans(),
    count_include_pad=st.booleans(),
    divisor=st.sampled_from([None, None, 1, 7]),
    seed=SEEDS,
)
def test_avg_pool2d_means_the_same_on_tensors_and_values(
    vertical, horizontal, n, ceil_mode, count_include_pad, divisor, seed
):
    _, *geometry, _ = zip(vertical, horizontal, strict=True)
    assert_means_the_same(
        lambda x: F.avg_pool2d(x, *geometry, ceil_mode, count_include_pad, divisor),
        lambda x: reference.avg_pool2d(x, *geometry, ceil_mode, count_include_pad, divisor),
        numbers(seed, n, 2, vertical[0], horizontal[0]),
    )


@given(sizes=st.tuples(*[st.integers(1, 5)] * 4), n=SMALL, seed=SEEDS)
def test_adaptive_avg_pool2d_means_the_same_on_tensors_and_values(sizes, n, seed):
    H, W, P, Q = sizes
    assert_means_the_same(
        lambda x: F.adaptive_avg_pool2d(x, (P, Q)),
        lambda x: reference.adaptive_avg_pool2d(x, (P, Q)),
        numbers(seed, n, 2, H, W),
    )


@given(
    sizes=st.lists(SMALL, min_size=1, max_size=4),
    place=st.integers(0, 3),
    backwards=st.booleans(),
    name=st.sampled_from(["softmax", "log_softmax"]),
    scale=st.sampled_from([1.0, 300.0]),
    seed=SEEDS,
)
def test_softmax_means_the_same_on_tensors_and_values(sizes, place, backwards, name, scale, seed):
    dim = place % len(sizes) - len(sizes) * backwards
    ours, specified = getattr(F, name), getattr(reference, name)
    x = numbers(seed, *sizes, low=-scale, high=scale)
    assert_means_the_same(lambda x: ours(x, dim), lambda x: specified(x, dim), x)


@st.composite
def batches(draw):
    """Shapes of two stacks of matrices that broadcast."""
    whole = draw(st.lists(SMALL, max_size=2))
    sides = []
    for _ in range(2):
        kept = whole[draw(st.integers(0, len(whole))) :]
        sides.append(tuple(size if draw(st.booleans()) else 1 for size in kept))
    return sides


@given(
    batches=batches(), sizes=st.tuples(SMALL, SMALL, SMALL), vectors=st.sampled_from(["", "a", "b", "ab"]), seed=SEEDS
)
def test_matmul_means_the_same_on_tensors_and_values(batches, sizes, vectors, seed):
    M, K, N = sizes
    a = (K,) if "a" in vectors else (*batches[0], M, K)
    b = (K,) if "b" in vectors else (*batches[1], K, N)
    assert_means_the_same(scalargrad.matmul, reference.matmul, numbers(seed, *a), numbers(seed + 1, *b))


@given(leading=st.lists(SMALL, max_size=3), sizes=st.tuples(SMALL, SMALL), has_bias=st.booleans(), seed=SEEDS)
def test_linear_means_the_same_on_tensors_and_values(leading, sizes, has_bias, seed):
    M, K = sizes
    operands = [numbers(seed, *leading, K), numbers(seed + 1, M, K)] + [numbers(seed + 2, M)] * has_bias
    assert_means_the_same(F.linear, reference.linear, *operands)


@st.composite
def classification(draw):
    """(sizes of the scores, a target that counts at least once), with C = sizes[1], or sizes[0] for one sample."""
    C, sample = draw(SMALL), draw(st.lists(SMALL, max_size=3))
    sizes = (sample[0], C, *sample[1:]) if sample else (C,)
    source = random.Random(draw(SEEDS))
    if draw(st.booleans()):
        return sizes, grid(lambda *_: source.uniform(0, 1), *sizes)
    labels = [*range(C), -100]
    target = grid(lambda *place: source.choice(labels if any(place) else labels[:-1]), *sample)
    return sizes, target


@given(
    problem=classification(),
    is_weighted=st.booleans(),
    reduction=REDUCTIONS,
    label_smoothing=st.sampled_from([0.0, 0.1, 1.0]),
    seed=SEEDS,
)
def test_cross_entropy_means_the_same_on_tensors_and_values(problem, is_weighted, reduction, label_smoothing, seed):
    sizes, target = problem
    C = sizes[min(1, len(sizes) - 1)]
    weight = numbers(seed + 1, C, low=0.1) if is_weighted else None
    w = None if weight is None else tensor(weight)
    options = {"reduction": reduction, "label_smoothing": label_smoothing}
    x = numbers(seed, *sizes)
    if shape(target) == sizes:
        assert_means_the_same(
            lambda x, t: F.cross_entropy(x, t, w, **options),
            lambda x, t: reference.cross_entropy(x, t, weight, **options),
            x,
            target,
        )
        return
    labels = scalargrad.tensor(target)
    assert_means_the_same(
        lambda x: F.cross_entropy(x, labels, w, **options),
        lambda x: reference.cross_entropy(x, target, weight, **options),
        x,
    )
    assert_means_the_same(
        lambda x: F.nll_loss(x, labels, w, reduction=reduction),
        lambda x: reference.nll_loss(x, target, weight, reduction=reduction),
        x,
    )


@given(
    sizes=st.lists(SMALL, min_size=1, max_size=3),
    name=st.sampled_from(["mse_loss", "l1_loss", "smooth_l1_loss"]),
    reduction=REDUCTIONS,
    fill=st.sampled_from([numbers, few_numbers]),
    seed=SEEDS,
)
def test_distances_mean_the_same_on_tensors_and_values(sizes, name, reduction, fill, seed):
    ours, specified = getattr(F, name), getattr(reference, name)
    assert_means_the_same(
        lambda x, target: ours(x, target, reduction=reduction),
        lambda x, target: specified(x, target, reduction=reduction),
        fill(seed, *sizes),
        fill(seed + 1, *sizes),
    )


@given(sizes=st.lists(SMALL, min_size=1, max_size=3), reduction=REDUCTIONS, is_weighted=st.booleans(), seed=SEEDS)
def test_binary_cross_entropy_means_the_same_on_tensors_and_values(sizes, reduction, is_weighted, seed):
    target = numbers(seed + 1, *sizes, low=0, high=1)
    weight = numbers(seed + 2, *sizes, low=0.1) if is_weighted else None
    pos_weight = numbers(seed + 3, sizes[-1], low=0.1) if is_weighted else None
    w, p = (None if x is None else tensor(x) for x in (weight, pos_weight))
    assert_means_the_same(
        lambda x, t: F.binary_cross_entropy(x, t, w, reduction=reduction),
        lambda x, t: reference.binary_cross_entropy(x, t, weight, reduction),
        numbers(seed, *sizes, low=0.01, high=0.99),
        target,
    )
    assert_means_the_same(
        lambda x, t: F.binary_cross_entropy_with_logits(x, t, w, reduction=reduction, pos_weight=p),
        lambda x, t: reference.binary_cross_entropy_with_logits(x, t, weight, reduction, pos_weight),
        numbers(seed, *sizes, low=-40, high=40),
        target,
    )


@given(
    n=st.integers(2, 4),
    channels=SMALL,
    rest=st.sampled_from([(), (1, 1), (2, 3)]),
    training=st.booleans(),
    momentum=st.sampled_from([0.0, 0.1, 1.0]),
    has_affine=st.booleans(),
    seed=SEEDS,
)
def test_batch_norm_means_the_same_on_tensors_and_values(n, channels, rest, training, momentum, has_affine, seed):
    running = [numbers(seed + 1, channels), numbers(seed + 2, channels, low=0.5)]
    buffers = [tensor(x) for x in running]
    affine = [numbers(seed + 3, channels), numbers(seed + 4, channels)] if has_affine else []
    assert_means_the_same(
        lambda x, *affine: F.batch_norm(x, *buffers, *affine, training=training, momentum=momentum),
        lambda x, *affine: reference.batch_norm(x, *running, *affine, training=training, momentum=momentum),
        numbers(seed, n, channels, *rest),
        *affine,
    )
    for buffer, expected in zip(buffers, running, strict=True):
        assert_close(buffer.tolist(), expected)
