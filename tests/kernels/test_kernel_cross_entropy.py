"""The fused cross entropy is the loss of log_softmax, and its gradient the slope of that; labels are checked."""

import itertools
import re

import numpy as np
import pytest

OPTIONS = list(itertools.product(["mean", "sum", "none"], [0.0, 0.3], [False, True], [-100, 3]))


def defined(x, target, weight, ignore_index, reduction, smoothing):
    """The definition, one sample at a time."""
    weight = np.ones(x.shape[1]) if weight is None else weight
    losses, divisor = [], 0.0
    for scores, t in zip(x, target, strict=True):
        log_p = scores - scores.max() - np.log(np.exp(scores - scores.max()).sum())
        share = np.full(len(scores), smoothing / len(scores)) + (1 - smoothing) * (np.arange(len(scores)) == t)
        losses.append(0.0 if t == ignore_index else -(share * weight * log_p).sum())
        divisor += 0.0 if t == ignore_index else weight[t]
    return np.array(losses) if reduction == "none" else np.sum(losses) / (divisor if reduction == "mean" else 1)


def drawn(draw, n, c, dtype, weighted):
    x, target = 3 * draw(n, c), np.random.default_rng(n).integers(0, c, n)
    target[n // 2] = min(3, c - 1)
    return x, target, np.linspace(0.5, 2, c).astype(dtype) if weighted else None


@pytest.mark.parametrize(("reduction", "smoothing", "weighted", "ignore_index"), OPTIONS)
@pytest.mark.parametrize(("n", "c"), [(20, 13), (3, 70), (1, 1), (7, 4)])
def test_the_loss_and_its_gradient(k, dtype, draw, close, n, c, reduction, smoothing, weighted, ignore_index):
    x, target, weight = drawn(draw, n, c, dtype, weighted)
    if n == 1:
        ignore_index = -100
    options = ignore_index, reduction, smoothing
    loss, log_p, total = k.cross_entropy(x, target, weight, *options)
    exact = x.astype(np.float64)
    close(loss, defined(exact, target, weight, *options))
    close(log_p, k.log_softmax(x, 1))
    counted = target[target != ignore_index]
    assert total == pytest.approx(len(counted) if weight is None else weight[counted].sum())
    g = draw(*loss.shape)
    x_grad = k.cross_entropy_grad(g, log_p, target, weight, *options, total)
    along, step = np.random.default_rng(1).standard_normal(x.shape), 1e-5
    after, before = (defined(exact + s * along, target, weight, *options) for s in (step, -step))
    slope = (g * (after - before)).sum() / (2 * step)
    np.testing.assert_allclose((x_grad * along).sum(), slope, rtol=1e-4, atol=1e-4)
    if ignore_index == 3:
        assert not x_grad[target == 3].any()


def test_labels_may_be_of_any_integer_type_and_scores_in_any_layout(k, draw):
    x, target = draw(6, 8)[:, ::2], np.array([0, 3, 1, 2, 2, 0])
    expected = k.cross_entropy(x.copy(), target, None, -100, "mean", 0.0)[0]
    for dtype in (np.int32, np.uint8, ">i8"):
        assert k.cross_entropy(x, target.astype(dtype), None, -100, "mean", 0.0)[0] == expected
    assert k.cross_entropy(x, np.repeat(target, 2)[::2], None, -100, "mean", 0.0)[0] == expected


def test_scores_that_overflow_and_nan_stay_in_their_rows(k, dtype):
    x = np.array([[1e30, 0, -1e30], [np.nan, 0, 1], [0, 0, 0]], dtype)
    loss, log_p, total = k.cross_entropy(x, np.array([0, 1, 2]), None, -100, "none", 0.0)
    np.testing.assert_allclose(loss, [0, np.nan, np.log(3)], rtol=1e-6)
    x_grad = k.cross_entropy_grad(np.ones(3, dtype), log_p, np.array([0, 1, 2]), None, -100, "none", 0.0, total)
    np.testing.assert_allclose(x_grad[[0, 2]], [[0, 0, 0], [1 / 3, 1 / 3, -2 / 3]], rtol=1e-6, atol=1e-7)
    assert np.isnan(x_grad[1]).all()


def test_a_mean_of_no_samples_is_nan_and_their_sum_is_zero(k, dtype):
    for x, target in ((np.zeros((0, 3), dtype), np.zeros(0, int)), (np.zeros((2, 3), dtype), np.array([-100, -100]))):
        assert np.isnan(k.cross_entropy(x, target, None, -100, "mean", 0.0)[0])
        assert k.cross_entropy(x, target, None, -100, "sum", 0.0)[0] == 0
        loss, log_p, total = k.cross_entropy(x, target, None, -100, "mean", 0.1)
        assert not k.cross_entropy_grad(np.ones_like(loss), log_p, target, None, -100, "mean", 0.1, total).any()


@pytest.mark.parametrize("wrong", [-1, 3, 2**40, -(2**40)])
def test_a_label_that_is_no_class_is_an_index_error(k, dtype, wrong):
    x, target = np.zeros((4, 3), dtype), np.array([0, 2, wrong, 1])
    with pytest.raises(IndexError, match=re.escape(f"Target {wrong} is out of bounds.")):
        k.cross_entropy(x, target, None, -100, "mean", 0.0)
    assert k.cross_entropy(x, target, None, wrong, "sum", 0.0)[0] == pytest.approx(3 * np.log(3))


def test_what_does_not_fit_is_refused(k, dtype):
    x, target = np.zeros((4, 3), dtype), np.zeros(4, int)
    ones = np.ones(3, dtype)
    for arguments, error, words in (
        ((x[0], target, None, -100, "mean", 0.0), RuntimeError, "input of shape (N, C)"),
        ((x, target[:3], None, -100, "mean", 0.0), RuntimeError, "got (4, 3), (3,) and None"),
        ((x, target, ones[:2], -100, "mean", 0.0), RuntimeError, "got (4, 3), (4,) and (2,)"),
        ((x, target * 1.0, None, -100, "mean", 0.0), RuntimeError, "a target of integers, got float64"),
        ((x, target, None, -100, "median", 0.0), ValueError, "got 'median'"),
        ((np.zeros((4, 3), int), target, None, -100, "mean", 0.0), RuntimeError, "float32 or float64, got int64"),
    ):
        with pytest.raises(error, match=re.escape(words)):
            k.cross_entropy(*arguments)
    with pytest.raises(RuntimeError, match=re.escape("expected a gradient of shape (4,), got ()")):
        k.cross_entropy_grad(np.ones((), dtype), x, target, None, -100, "none", 0.0, 4.0)


@pytest.mark.parametrize("name", ["softmax", "log_softmax"])
@pytest.mark.parametrize("shape", [(5,), (3, 7, 5), (2, 70, 33), (2, 130, 3), (1, 70_000), (4, 1)])
def test_softmax_along_any_axis_and_back(k, dtype, draw, name, shape):
    x, g = 3 * draw(*shape), draw(*shape)
    for axis in range(-len(shape), len(shape)):
        wide = x.astype(np.float64)
        log_p = wide - wide.max(axis, keepdims=True)
        log_p -= np.log(np.exp(log_p).sum(axis, keepdims=True))
        p = np.exp(log_p)
        expected = p if name == "softmax" else log_p
        back = (g - (g * p).sum(axis, keepdims=True)) * p if name == "softmax" else g - p * g.sum(axis, keepdims=True)
        tolerance = {"rtol": 0, "atol": 40 * np.finfo(dtype).eps}
        y = getattr(k, name)(x, axis)
        np.testing.assert_allclose(y, expected, **tolerance)
        scale = max(1.0, np.abs(back).max())
        np.testing.assert_allclose(getattr(k, f"{name}_grad")(g, y, axis) / scale, back / scale, **tolerance)
