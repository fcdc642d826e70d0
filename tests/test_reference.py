"""The specification against arithmetic done by hand and, where torch is installed, against PyTorch."""

import math
import random

import pytest

from scalargrad import reference
from scalargrad.reference import each, flat, from_last, grid, shape, to_last, windows
from scalargrad.value import Value

nan, inf = math.nan, math.inf


def leaves(x):
    """x with a Value for every number."""
    return each(Value, x)


def gradient(x):
    return each(lambda v: v.grad, x)


def uniform(*sizes, low=-2.0, high=2.0):
    """Random numbers, from the generator that every test seeds anew."""
    return grid(lambda *_: DRAW.uniform(low, high), *sizes)


@pytest.fixture(autouse=True)
def _seeded():
    DRAW.seed(0)


DRAW = random.Random()


def equal(x, y):
    """The same form and the same numbers up to rounding; nan is nan."""
    return shape(x) == shape(y) and flat(x) == pytest.approx(flat(y), rel=1e-12, abs=1e-12, nan_ok=True)


def test_a_tensor_is_built_moved_and_flattened_in_row_order():
    x = grid(lambda i, j, k: 100 * i + 10 * j + k, 2, 3, 4)
    assert shape(x) == (2, 3, 4)
    assert flat(x)[:5] == [0, 1, 2, 3, 10]
    for dim in range(3):
        moved = to_last(x, dim)
        assert from_last(moved, dim) == x
    assert shape(to_last(x, 1)) == (2, 4, 3)
    assert to_last(x, 1)[1][3][2] == x[1][2][3]


@pytest.mark.parametrize(
    ("sizes", "expected"),
    [
        ((5, 3, 1, 0), [[0, 1, 2], [1, 2, 3], [2, 3, 4]]),
        ((5, 3, 2, 1), [[-1, 0, 1], [1, 2, 3], [3, 4, 5]]),
        ((5, 2, 2, 0, 3), [[0, 3]]),
        ((5, 2, 2, 0, 1, True), [[0, 1], [2, 3], [4, 5]]),
        ((4, 2, 3, 1, 1, True), [[-1, 0], [2, 3]]),  # a third window would start at 5, beyond the numbers
        ((2, 3, 1, 0), []),
    ],
)
def test_windows_slide_by_the_stride_and_stay_within_the_padding(sizes, expected):
    assert [list(window) for window in windows(*sizes)] == expected


def test_matmul_of_matrices_is_rows_times_columns():
    assert reference.matmul([[1, 2], [3, 4]], [[5, 6, 7], [8, 9, 10]]) == [[21, 24, 27], [47, 54, 61]]
    assert reference.matmul([1, 2], [3, 4]) == 11
    assert reference.matmul([1, 2], [[1, 0, 1], [0, 1, 1]]) == [1, 2, 3]
    assert reference.matmul([[1, 2], [3, 4]], [1, 1]) == [3, 7]
    with pytest.raises(ValueError):
        reference.matmul([[1, 2]], [[1, 2]])


def test_linear_takes_weight_rows_and_adds_the_bias():
    assert reference.linear([[1, 2]], [[3, 4], [5, 6], [7, 8]], [100, 200, 300]) == [[111, 217, 323]]


def test_conv2d_correlates_without_flipping_the_kernel():
    image = [[[[1, 2, 3], [4, 5, 6], [7, 8, 9]]]]
    kernel = [[[[1, 10], [100, 1000]]]]
    assert reference.conv2d(image, kernel, [0.5]) == [[[[5421.5, 6532.5], [8754.5, 9865.5]]]]
    assert reference.conv2d(image, kernel, stride=3, padding=1) == [[[[1000, 300], [70, 9]]]]
    assert reference.conv2d(image, kernel, dilation=2) == [[[[1 + 30 + 700 + 9000]]]]


def test_conv2d_gives_each_group_of_outputs_its_own_channels():
    image = [[[[1]], [[2]], [[3]], [[4]]]]
    weight = [[[[1]], [[10]]], [[[100]], [[1000]]]]
    assert reference.conv2d(image, weight, groups=2) == [[[[21]], [[4300]]]]
    with pytest.raises(ValueError, match="groups"):
        reference.conv2d(image, weight)


def test_conv_transpose2d_spreads_the_kernel_from_every_entry():
    kernel = [[[[1, 10], [100, 1000]]]]
    assert reference.conv_transpose2d([[[[1, 2]]]], kernel, [0.5]) == [[[[1.5, 12.5, 20.5], [100.5, 1200.5, 2000.5]]]]
    assert reference.conv_transpose2d([[[[1, 2]]]], kernel, stride=2) == [[[[1, 10, 2, 20], [100, 1000, 200, 2000]]]]
    assert reference.conv_transpose2d([[[[1, 2]]]], kernel, dilation=(1, 2), padding=(0, 1)) == [
        [[[2, 10], [200, 1000]]]
    ]
    assert reference.conv_transpose2d([[[[1]]]], kernel, stride=2, output_padding=(0, 1)) == [
        [[[1, 10, 0], [100, 1000, 0]]]
    ]


def test_conv_transpose2d_gives_each_group_of_channels_its_own_outputs():
    weight = [[[[1]], [[10]]], [[[100]], [[1000]]]]
    assert reference.conv_transpose2d([[[[1]], [[2]]]], weight, groups=2) == [[[[1]], [[10]], [[200]], [[2000]]]]


def test_the_gradient_of_a_convolution_is_what_its_graph_of_numbers_says():
    image, kernel = leaves([[[[1, 2, 3]]]]), leaves([[[[10, 20]]]])
    (left, right) = reference.conv2d(image, kernel)[0][0][0]
    (left + 100 * right).backward()
    assert gradient(image) == [[[[10, 1020, 2000]]]]
    assert gradient(kernel) == [[[[201, 302]]]]


def test_max_pool2d_sends_a_tie_to_the_first_of_the_window():
    image = leaves([[[[7, 7], [7, 7]]]])
    reference.max_pool2d(image, 2)[0][0][0][0].backward()
    assert gradient(image) == [[[[1, 0], [0, 0]]]]


def test_max_pool2d_lets_nan_win_and_never_chooses_padding():
    assert equal(reference.max_pool2d([[[[1, nan], [inf, 4]]]], 2), [[[[nan]]]])
    assert reference.max_pool2d([[[[-3, -2]]]], (1, 2), stride=2, padding=(0, 1)) == [[[[-3, -2]]]]


def test_avg_pool2d_divides_by_what_the_window_covers():
    image = [[[[4, 8], [12, 16]]]]
    assert reference.avg_pool2d(image, 2) == [[[[10]]]]
    assert reference.avg_pool2d(image, 2, padding=1) == [[[[1, 2], [3, 4]]]]
    assert reference.avg_pool2d(image, 2, padding=1, count_include_pad=False) == image
    assert reference.avg_pool2d(image, 2, divisor_override=1) == [[[[40]]]]
    row = [[[[1, 2, 3]]]]
    assert reference.avg_pool2d(row, (1, 2), ceil_mode=True) == [[[[1.5, 3]]]]  # what sticks out does not count


def test_adaptive_avg_pool2d_windows_overlap_where_sizes_do_not_divide():
    assert reference.adaptive_avg_pool2d([[[[1, 2, 3, 4, 5]]]], (1, 3)) == [[[[1.5, 3, 4.5]]]]
    assert reference.adaptive_avg_pool2d([[[[1, 3]]]], (1, 4)) == [[[[1, 1, 3, 3]]]]


def test_softmax_of_large_numbers_does_not_overflow():
    assert equal(reference.softmax([1000.0, 1000.0 + math.log(3)], 0), [0.25, 0.75])
    assert equal(reference.log_softmax([1000.0, 0.0], 0), [0.0, -1000.0])
    assert equal(reference.softmax([[0.0, 0.0], [math.log(3), 0.0]], 0), [[0.25, 0.5], [0.75, 0.5]])
    assert reference.softmax([-inf, 1.0], -1) == [0.0, 1.0]


def test_cross_entropy_of_even_scores_is_the_logarithm_of_their_number():
    assert reference.cross_entropy([[3.0] * 10], [4]) == pytest.approx(math.log(10))
    scores = leaves([[0.0] * 4])
    reference.cross_entropy(scores, [1]).backward()
    assert equal(gradient(scores), [[0.25, -0.75, 0.25, 0.25]])


def test_nll_loss_divides_by_the_weights_of_the_targets_that_count():
    log_p = [[-1.0, -2.0], [-3.0, -5.0], [-7.0, -11.0]]
    assert reference.nll_loss(log_p, [0, 1, 0], weight=[1.0, 4.0], reduction="none") == [1, 20, 7]
    assert reference.nll_loss(log_p, [0, 1, 0], weight=[1.0, 4.0]) == 28 / 6
    assert reference.nll_loss(log_p, [0, 1, -100]) == 3
    assert reference.nll_loss(log_p, [0, 1, 1], ignore_index=1) == 1
    assert math.isnan(reference.nll_loss(log_p, [-100] * 3))
    assert reference.nll_loss(log_p[0], 1) == 2
    for label in (2, -1):
        with pytest.raises(IndexError, match="out of bounds"):
            reference.nll_loss(log_p, [0, 0, label])


def test_label_smoothing_spreads_a_share_over_all_classes():
    scores = [[0.3, -1.2, 0.7]]
    smoothed = [[0.1, 0.1, 0.8]]
    assert equal(reference.cross_entropy(scores, [2], label_smoothing=0.3), reference.cross_entropy(scores, smoothed))


def test_distances_are_summed_averaged_or_left_alone():
    x, target = [[1.0, 2.0], [3.0, 4.0]], [[1.5, 2.0], [0.0, 4.0]]
    assert reference.mse_loss(x, target, reduction="none") == [[0.25, 0], [9, 0]]
    assert reference.mse_loss(x, target) == 9.25 / 4
    assert reference.l1_loss(x, target, reduction="sum") == 3.5
    assert reference.smooth_l1_loss(x, target, reduction="none") == [[0.125, 0], [2.5, 0]]
    assert reference.smooth_l1_loss(x, target, reduction="none", beta=0.0) == [[0.5, 0], [3, 0]]
    assert math.isnan(reference.mse_loss([], []))
    with pytest.raises(ValueError, match="average"):
        reference.mse_loss(x, target, reduction="average")
    with pytest.raises(ValueError):
        reference.mse_loss(x, [[1.0, 2.0]])


def test_l1_loss_has_no_gradient_where_it_is_met():
    x = leaves([1.0, 2.0, 3.0])
    reference.l1_loss(x, [2.0, 2.0, 2.0], reduction="sum").backward()
    assert gradient(x) == [-1, 0, 1]


def test_binary_cross_entropy_bounds_the_logarithm_at_minus_100():
    assert reference.binary_cross_entropy([0.0, 1.0, 0.5], [1.0, 1.0, 0.0], reduction="none") == [100, 0, math.log(2)]
    assert reference.binary_cross_entropy([1e-44, 1e-43], [1.0, 1.0], reduction="none") == [100, -math.log(1e-43)]
    for outside in (-0.1, 1.1, nan):
        with pytest.raises(RuntimeError, match="between 0 and 1"):
            reference.binary_cross_entropy([outside], [1.0])


def test_binary_cross_entropy_with_logits_does_not_overflow():
    loss = reference.binary_cross_entropy_with_logits([1000.0, -1000.0], [0.0, 1.0], reduction="none")
    assert loss == [1000, 1000]
    logits = leaves([0.0, -1000.0])
    reference.binary_cross_entropy_with_logits(logits, [1.0, 1.0], reduction="sum").backward()
    assert gradient(logits) == [-0.5, -1]


def test_batch_norm_moves_the_running_statistics_only_in_training():
    x, running_mean, running_var = [[1.0], [3.0]], [10.0], [20.0]
    y = reference.batch_norm(x, running_mean, running_var, training=True, momentum=0.5, eps=0.0)
    assert (y, running_mean, running_var) == ([[-1], [1]], [6], [11])  # mean 2; unbiased variance 2
    y = reference.batch_norm(x, [1.0], [4.0], weight=[3.0], bias=[5.0], eps=0.0)
    assert y == [[5], [8]]
    with pytest.raises(ValueError, match="more than 1 number"):
        reference.batch_norm([[1.0]], None, None, training=True)


def agrees_with_torch(ours, theirs, *inputs):
    """Whether results, and gradients of the inputs along a random direction, are PyTorch's."""
    torch = pytest.importorskip("torch")
    values = [leaves(x) for x in inputs]
    tensors = [torch.tensor(x, dtype=torch.float64, requires_grad=True) for x in inputs]
    y, z = ours(*values), theirs(torch.nn.functional, *tensors)
    assert equal(each(float, y), z.tolist())
    direction = uniform(*shape(y))
    sum(flat(each(lambda v, d: v * d, y, direction))).backward()
    z.backward(torch.tensor(direction, dtype=torch.float64))
    for value, tensor in zip(values, tensors, strict=True):
        assert equal(gradient(value), tensor.grad.tolist())


@pytest.mark.parametrize(
    ("a", "b"),
    [
        ((3,), (3,)),
        ((2, 3), (3,)),
        ((3,), (3, 4)),
        ((2, 3), (3, 4)),
        ((5, 2, 3), (3,)),
        ((3,), (5, 3, 2)),
        ((5, 2, 3), (3, 4)),
        ((2, 3), (5, 3, 4)),
        ((5, 2, 3), (5, 3, 4)),
        ((2, 1, 2, 3), (5, 3, 4)),
        ((5, 2, 3), (2, 1, 3, 1)),
        ((1, 2, 3), (4, 1, 3, 2)),
    ],
)
def test_matmul_is_torchs(a, b):
    agrees_with_torch(reference.matmul, lambda _, x, y: x @ y, uniform(*a), uniform(*b))


@pytest.mark.parametrize(
    ("x", "w", "options"),
    [
        ((2, 3, 5, 6), (4, 3, 3, 2), {}),
        ((1, 2, 6, 5), (3, 2, 3, 3), {"stride": 2, "padding": 1}),
        ((2, 2, 7, 6), (2, 2, 2, 3), {"stride": (2, 1), "padding": (0, 2), "dilation": (3, 2)}),
        ((1, 4, 4, 4), (6, 2, 3, 3), {"padding": 1, "groups": 2}),
        ((2, 3, 4, 3), (3, 1, 2, 2), {"groups": 3, "stride": 2}),
    ],
)
def test_conv2d_is_torchs(x, w, options):
    agrees_with_torch(
        lambda x, w, b: reference.conv2d(x, w, b, **options),
        lambda F, x, w, b: F.conv2d(x, w, b, **options),
        uniform(*x),
        uniform(*w),
        uniform(w[0]),
    )


@pytest.mark.parametrize("ceil_mode", [False, True])
@pytest.mark.parametrize(
    "options",
    [
        {"kernel_size": 2},
        {"kernel_size": 3, "stride": 2, "padding": 1},
        {"kernel_size": (2, 3), "stride": (3, 2)},
        {"kernel_size": (2, 3), "stride": (3, 1), "padding": (1, 0)},
    ],
)
def test_pooling_is_torchs(options, ceil_mode):
    options = {**options, "ceil_mode": ceil_mode}
    x = uniform(2, 2, 5, 6)
    averages = [{}, {"count_include_pad": False}, {"divisor_override": 5}]
    agrees_with_torch(lambda x: reference.max_pool2d(x, **options), lambda F, x: F.max_pool2d(x, **options), x)
    for more in averages:
        agrees_with_torch(
            lambda x, more=more: reference.avg_pool2d(x, **options, **more),
            lambda F, x, more=more: F.avg_pool2d(x, **options, **more),
            x,
        )


def test_max_pool2d_is_torchs_with_dilation_ties_and_nan():
    options = {"kernel_size": 2, "stride": 1, "padding": 1, "dilation": 2}
    x = grid(lambda *_: float(DRAW.randrange(3)), 1, 2, 5, 5)
    x[0][0][1][2] = x[0][1][0][3] = x[0][1][2][3] = nan
    agrees_with_torch(lambda x: reference.max_pool2d(x, **options), lambda F, x: F.max_pool2d(x, **options), x)


@pytest.mark.parametrize("output_size", [1, 2, (3, 4), (5, 7)])
def test_adaptive_avg_pool2d_is_torchs(output_size):
    agrees_with_torch(
        lambda x: reference.adaptive_avg_pool2d(x, output_size),
        lambda F, x: F.adaptive_avg_pool2d(x, output_size),
        uniform(1, 2, 5, 6),
    )


@pytest.mark.parametrize("dim", [0, 1, 2, -1])
def test_softmax_is_torchs(dim):
    x = uniform(2, 3, 4)
    x[0][1][2] = -inf
    for name in ("softmax", "log_softmax"):
        ours = getattr(reference, name)
        agrees_with_torch(lambda x, f=ours: f(x, dim), lambda F, x, n=name: getattr(F, n)(x, dim), x)


@pytest.mark.parametrize("reduction", ["none", "mean", "sum"])
@pytest.mark.parametrize("label_smoothing", [0.0, 0.3])
@pytest.mark.parametrize("weight", [None, [0.5, 2.0, 1.5]])
def test_cross_entropy_is_torchs(reduction, label_smoothing, weight):
    torch = pytest.importorskip("torch")
    tensor = None if weight is None else torch.tensor(weight, dtype=torch.float64)
    options = {"reduction": reduction, "label_smoothing": label_smoothing}
    samples = [((4, 3), [2, 0, -100, 1]), ((3,), 1), ((2, 3, 2), [[0, 2], [-100, 1]]), ((2, 3), uniform(2, 3, low=0))]
    for sizes, target in samples:
        agrees_with_torch(
            lambda x, t=target: reference.cross_entropy(x, t, weight, **options),
            lambda F, x, t=target: F.cross_entropy(
                x, torch.tensor(t, dtype=None if isinstance(flat(t)[0], int) else torch.float64), tensor, **options
            ),
            uniform(*sizes),
        )


@pytest.mark.parametrize("reduction", ["none", "mean", "sum"])
def test_distances_are_torchs(reduction):
    x, target = uniform(3, 4), uniform(3, 4)
    x[0][0] = target[0][0]
    for name in ("mse_loss", "l1_loss", "smooth_l1_loss"):
        agrees_with_torch(
            lambda x, t, n=name: getattr(reference, n)(x, t, reduction=reduction),
            lambda F, x, t, n=name: getattr(F, n)(x, t, reduction=reduction),
            x,
            target,
        )
    agrees_with_torch(
        lambda x, t: reference.smooth_l1_loss(x, t, reduction, beta=0.5),
        lambda F, x, t: F.smooth_l1_loss(x, t, reduction=reduction, beta=0.5),
        x,
        target,
    )


@pytest.mark.parametrize("reduction", ["none", "mean", "sum"])
def test_binary_cross_entropy_is_torchs(reduction):
    torch = pytest.importorskip("torch")
    target, weight, pos_weight = uniform(3, 4, low=0, high=1), uniform(3, 4, low=0), [0.5, 1.0, 2.0, 3.0]
    t, w, p = (torch.tensor(a, dtype=torch.float64) for a in (target, weight, pos_weight))
    agrees_with_torch(
        lambda x: reference.binary_cross_entropy(x, target, weight, reduction),
        lambda F, x: F.binary_cross_entropy(x, t, w, reduction=reduction),
        uniform(3, 4, low=0.01, high=0.99),
    )
    agrees_with_torch(
        lambda x: reference.binary_cross_entropy_with_logits(x, target, weight, reduction, pos_weight),
        lambda F, x: F.binary_cross_entropy_with_logits(x, t, w, reduction=reduction, pos_weight=p),
        [[0.0, *uniform(3)], *uniform(2, 4, low=-30, high=30)],
    )


@pytest.mark.parametrize("sizes", [(4, 3), (2, 3, 2, 2)])
@pytest.mark.parametrize("training", [False, True])
def test_batch_norm_is_torchs(sizes, training):
    torch = pytest.importorskip("torch")
    running_mean, running_var = uniform(3), uniform(3, low=0.5)
    tensors = [torch.tensor(r, dtype=torch.float64) for r in (running_mean, running_var)]
    agrees_with_torch(
        lambda x, w, b: reference.batch_norm(x, running_mean, running_var, w, b, training),
        lambda F, x, w, b: F.batch_norm(x, *tensors, w, b, training),
        uniform(*sizes),
        uniform(3),
        uniform(3),
    )
    assert equal([running_mean, running_var], [tensor.tolist() for tensor in tensors])
