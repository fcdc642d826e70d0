"""The rows of networks (activations, convolution, pooling, normalisation, losses) against finite differences.

Every row is differentiated once and twice in float64 along random directions, away from its kinks; rows that are
derivatives of others are checked through these as well as by themselves.
"""

import math

import numpy as np
import pytest

import scalargrad
from scalargrad import autograd
from scalargrad.operation import TABLE, Op, Plans
from scalargrad.ops.activation import activating
from scalargrad.ops.classification import classifying
from scalargrad.ops.convolution import convolving
from scalargrad.ops.elementwise import elementwise
from scalargrad.ops.embedding import looking_up
from scalargrad.ops.loss import losing
from scalargrad.ops.normalization import normalizing, statistics
from scalargrad.ops.pooling import pooling
from scalargrad.tensor import Tensor, wrap

STEP = 1e-3
FIVE_POINTS = ((-2, 1 / 12), (-1, -2 / 3), (1, 2 / 3), (2, -1 / 12))


class Operand(np.ndarray):
    """An array among a row's inputs that is to get a gradient."""


def operand(*shape, low=-2.0, high=2.0, seed=0):
    return np.random.default_rng([seed, *shape]).uniform(low, high, shape).view(Operand)


def apart(*shape, seed=0):
    """Numbers that all differ by 0.02 at least, none within 0.01 of 0: a step crosses no kink of max or relu."""
    n = int(np.prod(shape))
    values = (np.arange(n) - n // 2 + 0.5) * 0.02 * (1 + 100 / n)
    return np.random.default_rng(seed).permutation(values).reshape(shape).view(Operand)


def image_row(op, *operands, stride=(1, 1), padding=(0, 0), dilation=(1, 1), groups=1):
    return op, (*operands, stride, padding, dilation, groups)


def cached(x):
    """What the rows of normalisation take along with x: its mean and the reciprocal of its deviation."""
    mean, _, rate = statistics(x.array, DIMS, 1e-2)
    return mean, rate


def with_statistics(op):
    return lambda x, dims: op(x, *cached(x), dims)


UNEVEN = {"stride": (2, 1), "padding": (1, 2), "dilation": (1, 2), "groups": 2}
POOL = ((2, 3), (2, 1), (1, 1), (1, 1))
MEANS = ((2, 3), (2, 1), (1, 1), True, False, None)
SHAPE = (2, 2, 5, 6)
OFFSETS = TABLE["max_pool2d"].array(np.asarray(apart(*SHAPE)), *POOL, False)[1]
CLASSES = np.array([[1, 0, 2], [-100, 2, 2]])
WEIGHT = np.array([0.5, 1.5, 2.0])
LABELS = classifying.nll_loss.array(np.asarray(operand(2, 3, 3)), CLASSES, WEIGHT, -100, "mean", 0.0)[1]
PROBABILITIES = np.linspace(0.1, 0.9, 6).reshape(2, 3)
X = operand(3, 4, 2)
DIMS = (0, 2)
MEAN, VARIANCE = (found.ravel() for found in statistics(np.asarray(X), DIMS, 1e-5)[:2])
WINNERS = TABLE["adaptive_max_pool2d"].array(np.asarray(apart(*SHAPE)), (3, 4))[1]
KEPT = np.arange(12).reshape(3, 4) % 3 > 0
INDICES = np.array([[0, 3, 1], [3, 3, 0]])

SPARSE = np.array([1, 0, 2, 1])


def of_own_log_p(reduction):
    """The gradient of cross entropy, with what the loss found for its scores."""

    def gradient(d, x):
        found = classifying.cross_entropy.array(x.array, SPARSE, WEIGHT, 1, reduction, 0.3)
        return classifying.cross_entropy_grad(d, x, *found[1:4], 1, reduction, 0.3, found[4])

    return gradient


CASES = {
    "softmax": (activating.softmax, (operand(2, 3, 4), 1)),
    "softmax, of one number": (activating.softmax, (operand(), 0)),
    "softmax_grad": (activating.softmax_grad, (operand(2, 3), operand(2, 3, seed=1), 1)),
    "log_softmax": (activating.log_softmax, (operand(2, 3, 4), 0)),
    "log_softmax, of one number": (activating.log_softmax, (operand(), 0)),
    "log_softmax_grad": (activating.log_softmax_grad, (operand(2, 3), operand(2, 3, seed=1), 1)),
    "leaky_relu": (activating.leaky_relu, (apart(3, 4), 0.1)),
    "leaky_relu, flat": (activating.leaky_relu, (apart(3, 4), 0.0)),
    "leaky_relu, of one number": (activating.leaky_relu, (apart(), 0.1)),
    "elu, of one number": (activating.elu, (apart(), 1.3)),
    "softplus, of one number": (activating.softplus, (operand(), 2.0, 1.7)),
    "silu, of one number": (activating.silu, (operand(),)),
    "gelu, of one number": (activating.gelu, (operand(),)),
    "gelu_tanh, of one number": (activating.gelu_tanh, (operand(),)),
    "log_sigmoid, of one number": (activating.log_sigmoid, (operand(),)),
    "hardtanh, of one number": (activating.hardtanh, (apart(), -0.5, 1.7)),
    "threshold, of one number": (activating.threshold, (apart(), 0.1, -4.0)),
    "dropout, of one number": (activating.dropout, (operand(), np.array(True), 1.5)),
    "huber_loss, of one number": (losing.huber_loss, (apart(), 0 * apart(), 0.7, "mean")),
    "l1_loss, of one number": (losing.l1_loss, (apart(), 0 * apart(), "none")),
    "smooth_l1_loss, of one number": (losing.smooth_l1_loss, (apart(), 0 * apart(), 0.7, "sum")),
    "binary_cross_entropy, of one number": (
        losing.binary_cross_entropy, (operand(low=0.2, high=0.8), operand(low=0.1, high=0.9), None, "mean")
    ),
    "binary_cross_entropy_with_logits, of one number": (
        losing.binary_cross_entropy_with_logits, (operand(), operand(low=0.1, high=0.9), None, np.array(2.0), "none")
    ),
    "kl_div, of one number": (losing.kl_div, (operand(), operand(low=0.1, high=0.9), False, "mean")),
    "elu": (activating.elu, (apart(3, 4), 1.3)),
    "softplus": (activating.softplus, (operand(3, 4), 2.0, 1.7)),
    "log_sigmoid": (activating.log_sigmoid, (operand(3, 4),)),
    "silu": (activating.silu, (operand(3, 4),)),
    "hardtanh": (activating.hardtanh, (apart(3, 5), -0.5, 0.7)),
    "threshold": (activating.threshold, (apart(3, 4), 0.1, -4.0)),
    "dropout": (activating.dropout, (operand(3, 4), KEPT, 1.5)),
    "gelu": (activating.gelu, (operand(3, 4),)),
    "gelu_tanh": (activating.gelu_tanh, (operand(3, 4),)),
    "conv2d": image_row(convolving.conv2d, operand(2, 3, 5, 4), operand(4, 3, 2, 3), operand(4)),
    "conv2d, uneven": image_row(convolving.conv2d, operand(2, 4, 5, 6), operand(6, 2, 3, 2), operand(6), **UNEVEN),
    "sum_by_channel": (convolving.sum_by_channel, (operand(2, 3, 2, 4),)),
    "conv2d_input_grad": image_row(
        convolving.conv2d_input_grad, operand(2, 6, 3, 8), operand(6, 2, 3, 2), (2, 4, 5, 6), **UNEVEN
    ),
    "conv2d_weight_grad": image_row(
        convolving.conv2d_weight_grad, operand(2, 6, 3, 8), operand(2, 4, 5, 6), (6, 2, 3, 2), **UNEVEN
    ),
    "conv_transpose2d": image_row(
        convolving.conv_transpose2d, operand(2, 6, 3, 8), operand(6, 2, 3, 2), operand(4), (2, 4, 5, 6), **UNEVEN
    ),
    "max_pool2d": (pooling.max_pool2d, (apart(*SHAPE), *POOL, False)),
    "max_pool2d, ceil_mode": (pooling.max_pool2d, (apart(*SHAPE), (2, 2), (3, 2), (0, 1), (2, 1), True)),
    "max_pool2d_input_grad": (pooling.max_pool2d_input_grad, (operand(*OFFSETS.shape), OFFSETS, SHAPE, *POOL)),
    "max_pool2d_take": (pooling.max_pool2d_take, (operand(*SHAPE), OFFSETS, *POOL)),
    "avg_pool2d": (pooling.avg_pool2d, (operand(*SHAPE), *MEANS)),
    "avg_pool2d, with padding": (pooling.avg_pool2d, (operand(*SHAPE), *MEANS[:4], True, None)),
    "avg_pool2d, own divisor": (pooling.avg_pool2d, (operand(*SHAPE), *MEANS[:4], True, 7)),
    "avg_pool2d_input_grad": (pooling.avg_pool2d_input_grad, (operand(2, 2, 3, 6), SHAPE, *MEANS)),
    "adaptive_avg_pool2d": (pooling.adaptive_avg_pool2d, (operand(*SHAPE), (3, 4))),
    "adaptive_avg_pool2d, even": (pooling.adaptive_avg_pool2d, (operand(*SHAPE), (1, 3))),
    "adaptive_avg_pool2d, larger": (pooling.adaptive_avg_pool2d, (operand(*SHAPE), (7, 6))),
    "adaptive_avg_pool2d_input_grad": (pooling.adaptive_avg_pool2d_input_grad, (operand(2, 2, 3, 4), SHAPE)),
    "adaptive_max_pool2d": (pooling.adaptive_max_pool2d, (apart(*SHAPE), (3, 4))),
    "adaptive_max_pool2d_input_grad": (
        pooling.adaptive_max_pool2d_input_grad, (operand(*WINNERS.shape), WINNERS, SHAPE)
    ),
    "adaptive_max_pool2d_take": (pooling.adaptive_max_pool2d_take, (operand(*SHAPE), WINNERS)),
    "standardize": (with_statistics(normalizing.standardize), (X, DIMS)),
    "standardize_grad": (
        lambda x, d: normalizing.standardize_grad(d, x, *cached(x), DIMS), (X, operand(3, 4, 2, seed=1))
    ),
    "deviation_reciprocal": (with_statistics(normalizing.deviation_reciprocal), (X, DIMS)),
    "batch_norm": (normalizing.batch_norm, (X, operand(4), operand(4, seed=1), (1, 2), 0, 1e-5)),
    "batch_norm, plain": (normalizing.batch_norm, (X, None, None, (1, 2), 0, 0.1)),
    "layer_norm": (normalizing.layer_norm, (X, operand(4, 2), operand(4, 2, seed=1), (1, 3), 1, 1e-5)),
    "group_norm": (
        normalizing.group_norm, (operand(3, 4, 4), operand(4), operand(4, seed=1), (1, 2), 2, 1e-3)
    ),
    "batch_norm_by_constants": (
        normalizing.batch_norm_by_constants, (X, operand(4), operand(4, seed=1), MEAN, VARIANCE, (1, 2), 1e-5)
    ),
    "mse_loss": (losing.mse_loss, (operand(2, 3), operand(2, 3, seed=1), "mean")),
    "mse_loss, of one number": (losing.mse_loss, (operand(), operand(seed=1), "mean")),
    "mse_loss, none": (losing.mse_loss, (operand(2, 3), operand(2, 3, seed=1), "none")),
    "mse_loss, sum": (losing.mse_loss, (operand(2, 3), operand(2, 3, seed=1), "sum")),
    "l1_loss": (losing.l1_loss, (apart(2, 3), 0 * apart(2, 3), "mean")),
    "huber_loss": (losing.huber_loss, (apart(4, 5), 0 * apart(4, 5), 0.7, "mean")),
    "huber_loss, none": (losing.huber_loss, (apart(4, 5), 0 * apart(4, 5), 0.7, "none")),
    "smooth_l1_loss": (losing.smooth_l1_loss, (apart(4, 5), 0 * apart(4, 5), 0.7, "mean")),
    "binary_cross_entropy": (
        losing.binary_cross_entropy,
        (operand(2, 3, low=0.2, high=0.8), operand(2, 3, low=0.1, high=0.9, seed=1), PROBABILITIES, "mean"),
    ),
    "binary_cross_entropy, sum": (
        losing.binary_cross_entropy, (operand(4, low=0.2, high=0.8), operand(4, low=0.1, high=0.9, seed=1), None, "sum")
    ),
    "binary_cross_entropy_with_logits": (
        losing.binary_cross_entropy_with_logits,
        (operand(2, 3), operand(2, 3, low=0.1, high=0.9, seed=1), PROBABILITIES, WEIGHT, "mean"),
    ),
    "binary_cross_entropy_with_logits, plain": (
        losing.binary_cross_entropy_with_logits, (operand(4), operand(4, low=0.1, high=0.9, seed=1), None, None, "none")
    ),
    "kl_div": (losing.kl_div, (operand(2, 3), operand(2, 3, low=0.1, high=0.9, seed=1), False, "mean")),
    "kl_div, log_target": (losing.kl_div, (operand(2, 3), operand(2, 3, seed=1), True, "none")),
    "cross_entropy": (classifying.cross_entropy, (operand(4, 3), SPARSE, WEIGHT, 0, "mean", 0.3)),
    "cross_entropy, plain": (classifying.cross_entropy, (operand(4, 3), SPARSE, None, -100, "sum", 0.0)),
    "cross_entropy, none": (classifying.cross_entropy, (operand(4, 3), SPARSE, WEIGHT, 1, "none", 0.2)),
    "cross_entropy_grad": (of_own_log_p("mean"), (operand(), operand(4, 3))),
    "cross_entropy_grad, none": (of_own_log_p("none"), (operand(4), operand(4, 3))),
    "nll_loss": (classifying.nll_loss, (operand(2, 3, 3), CLASSES, WEIGHT, -100, "mean", 0.0)),
    "nll_loss, smoothed": (classifying.nll_loss, (operand(2, 3, 3), CLASSES, WEIGHT, -100, "mean", 0.3)),
    "nll_loss, smoothed sum": (classifying.nll_loss, (operand(2, 3, 3), abs(CLASSES) % 3, None, 2, "sum", 0.3)),
    "nll_loss, none": (classifying.nll_loss, (operand(2, 3, 3), CLASSES, None, -100, "none", 0.2)),
    "nll_loss, clean": (classifying.nll_loss, (operand(4, 3), np.array([2, 0, 1, 1]), None, -100, "mean", 0.0)),
    "nll_loss, of one sample": (classifying.nll_loss, (operand(3), np.array(1), WEIGHT, -100, "mean", 0.2)),
    "nll_loss_grad": (classifying.nll_loss_grad, (operand(2, 3), LABELS, WEIGHT, "none", 0.3, (2, 3, 3))),
    "nll_loss_of_labels": (classifying.nll_loss_of_labels, (operand(2, 3, 3), LABELS, WEIGHT, "mean", 0.3)),
    "embedding": (looking_up.embedding, (operand(4, 3), INDICES, None)),
    "embedding_grad": (looking_up.embedding_grad, (operand(2, 3, 3), INDICES, 3, (4, 3))),
    "embedding_without_padding": (looking_up.embedding_without_padding, (operand(4, 3), INDICES, 3)),
}  # fmt: skip


def first(result):
    return result[0] if isinstance(result, tuple) else result


def of_operands(function, inputs):
    """`function` of the operands alone, and the operands' arrays."""
    places = [i for i, x in enumerate(inputs) if isinstance(x, Operand)]

    def reduced(*operands):
        whole = list(inputs)
        for i, x in zip(places, operands, strict=True):
            whole[i] = x
        return first(function(*whole))

    return reduced, [np.array(inputs[i]) for i in places]


def on_leaves(function, arrays):
    leaves = [wrap(np.array(x)) for x in arrays]
    for leaf in leaves:
        leaf.requires_grad = True
    return function(*leaves), leaves


def assert_differentiates(function, arrays, order, rng):
    """⟨d, J v⟩ by five points equals ⟨Jᵀd, v⟩ for random d and v; and so do the derivatives of Jᵀd, up to `order`."""
    y, leaves = on_leaves(function, arrays)
    d = rng.uniform(-1, 1, y.shape)
    along = [rng.uniform(-1, 1, x.shape) for x in arrays]

    def moved(t):
        return float((on_leaves(function, [x + t * v for x, v in zip(arrays, along, strict=True)])[0].array * d).sum())

    expected = sum(weight * moved(k * STEP) for k, weight in FIVE_POINTS) / STEP
    found = 0.0
    if y.requires_grad:
        grads = autograd.grad(y, leaves, wrap(np.array(d)), materialize_grads=True)
        assert [(g.shape, g.dtype) for g in grads] == [(x.shape, x.dtype) for x in leaves]
        found = sum(float((g.array * v).sum()) for g, v in zip(grads, along, strict=True))
    assert found == pytest.approx(expected, rel=1e-6, abs=1e-7)
    if order > 1:
        weights = [rng.uniform(-1, 1, x.shape) for x in arrays]

        def pulled(*operands):
            *xs, seed = operands
            y = function(*xs)
            grads = autograd.grad(y, xs, seed, create_graph=True, materialize_grads=True) if y.requires_grad else xs
            return sum((g * w).sum() for g, w in zip(grads, weights, strict=True))

        assert_differentiates(pulled, [*arrays, d], order - 1, rng)


@pytest.mark.parametrize("name", CASES)
def test_a_row_is_differentiated_right_once_and_twice(name):
    assert_differentiates(*of_operands(*CASES[name]), 2, np.random.default_rng(1))


@pytest.mark.parametrize("name", ["softmax", "log_softmax", "batch_norm", "layer_norm", "gelu_tanh", "conv2d"])
def test_a_row_is_differentiated_right_three_times(name):
    assert_differentiates(*of_operands(*CASES[name]), 3, np.random.default_rng(2))


@pytest.mark.parametrize("value", [np.inf, np.nan, 1e300])
@pytest.mark.parametrize("name", CASES)
def test_infinity_and_nan_are_results_and_not_warnings(name, value):
    """Forward, backward and twice backward; warnings are errors in these tests."""
    function, arrays = of_operands(*CASES[name])
    if name.startswith("binary_cross_entropy") and "logits" not in name:
        arrays = [x.round() for x in arrays]
    else:
        arrays[0].reshape(-1)[:2] = [value, -value][: arrays[0].size]
    y, leaves = on_leaves(function, arrays)
    grads = autograd.grad(y.sum(), leaves, create_graph=True)
    if any(g.requires_grad for g in grads):
        autograd.grad(sum(g.sum() for g in grads), leaves, allow_unused=True)


def test_erf_is_pythons_erf():
    x = np.concatenate([np.linspace(-7, 7, 1001), [1e-300, 1e-9, 0.46875, 26.0, np.inf, np.nan]])
    expected = [math.erf(a) for a in x]
    np.testing.assert_allclose(elementwise.erf(x), expected, rtol=1e-15)
    np.testing.assert_allclose(elementwise.erf(x.astype(np.float32)), expected, rtol=1e-6, atol=1e-45)


def test_every_differentiable_row_of_these_modules_is_checked():
    classes = (activating, classifying, convolving, looking_up, losing, normalizing, pooling)
    rows = {key for c in classes for key, op in vars(c).items() if isinstance(op, Op) and op.differentiable}
    assert rows == {name.split(",")[0] for name in CASES}


CONSTANT = {"softmax, of one number", "log_softmax, of one number"}


class AllOffByAThousandth(Plans):
    """An Op's plans, with derivatives that are a thousandth too large."""

    def make(self, mask):
        plan = super().make(mask)
        right = plan.pull_arrays
        plan.pull_arrays = lambda *saved: tuple([None if x is None else x * 1.001 for x in right(*saved)])
        return plan


@pytest.mark.parametrize(
    "name", [name for name, (op, _) in CASES.items() if isinstance(op, Op) and name not in CONSTANT]
)
def test_the_check_notices_a_derivative_that_is_off_by_a_thousandth(name, monkeypatch):
    op, inputs = CASES[name]
    monkeypatch.setattr(op, "plans", AllOffByAThousandth(op))
    with pytest.raises(AssertionError):
        assert_differentiates(*of_operands(op, inputs), 1, np.random.default_rng(1))


@pytest.mark.parametrize("name", [name for name, (op, _) in CASES.items() if isinstance(op, Op)])
def test_a_row_keeps_float32_and_leaves_its_inputs_alone(name):
    """Forward and backward; on operands that are transposed in memory and cannot be written to."""
    op, inputs = CASES[name]

    def narrow(x):
        if isinstance(x, np.float64):
            return np.float32(x)
        if not isinstance(x, np.ndarray) or x.dtype != np.float64:
            return x
        array = np.array(np.asarray(x), np.float32, order="F")
        array.flags.writeable = False
        return array

    def narrow_within(x):
        return type(x)(*map(narrow, x)) if hasattr(x, "_fields") else narrow(x)

    narrowed = [narrow_within(x) for x in inputs]
    leaves = [wrap(x) if isinstance(y, Operand) else x for x, y in zip(narrowed, inputs, strict=True)]
    for leaf in leaves:
        if isinstance(leaf, Tensor):
            leaf.requires_grad = True
    y = first(op(*leaves))
    assert y.dtype == scalargrad.float32
    for g in autograd.grad(y, [x for x in leaves if isinstance(x, Tensor)], scalargrad.ones_like(y)):
        assert g.dtype == scalargrad.float32
