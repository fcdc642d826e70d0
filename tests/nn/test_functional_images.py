"""Convolution and pooling by torch.nn.functional's names: ties, NaN, padding, and no batch."""

import math

import numpy as np
import pytest

import scalargrad
from scalargrad import autograd
from scalargrad.nn import functional as F

nan = math.nan


def tensor(data, requires_grad=False):
    return scalargrad.tensor(data, requires_grad=requires_grad)


def ones(*shape, requires_grad=False):
    return scalargrad.ones(*shape, requires_grad=requires_grad)


def gradient(y, x):
    (g,) = autograd.grad(y.sum(), x)
    return g.tolist()


def test_max_pool2d_gives_ties_to_the_first_window_entry():
    x = tensor([[[[1.0, 3.0], [3.0, 3.0]]]], requires_grad=True)
    assert gradient(F.max_pool2d(x, 2), x) == [[[[0, 1], [0, 0]]]]
    assert gradient(F.adaptive_max_pool2d(x, 1), x) == [[[[0, 1], [0, 0]]]]


def test_max_pool2d_lets_nan_win_and_padding_never():
    x = tensor([[[[1.0, nan], [3.0, -5.0]]]], requires_grad=True)
    y = F.max_pool2d(x, 2)
    assert math.isnan(y.item())
    assert gradient(y, x) == [[[[0, 1], [0, 0]]]]
    assert math.isnan(F.adaptive_max_pool2d(x, 1).item())
    low = tensor([[[[-5.0, -6.0], [-7.0, -8.0]]]])
    assert F.max_pool2d(low, 2, 2, 1).tolist() == [[[[-5, -6], [-7, -8]]]]


def test_max_pool2d_indices_count_positions_in_the_image():
    x = tensor(np.random.default_rng(0).standard_normal((2, 3, 7, 8)))
    for options in ({}, {"padding": 1}, {"stride": 1, "dilation": 2}, {"ceil_mode": True, "stride": (3, 2)}):
        y, indices = F.max_pool2d(x, (3, 2), return_indices=True, **options)
        assert indices.dtype == scalargrad.int64
        picked = np.take_along_axis(x.array.reshape(2, 3, -1), indices.array.reshape(2, 3, -1), 2)
        assert (picked.reshape(y.shape) == y.array).all()
    y, indices = F.adaptive_max_pool2d(x[0], (3, None), return_indices=True)
    assert y.shape == indices.shape == (3, 3, 8)
    assert (
        np.take_along_axis(x.array[0].reshape(3, -1), indices.array.reshape(3, -1), 1) == y.array.reshape(3, -1)
    ).all()


def test_images_may_come_without_a_batch():
    x, w = ones(2, 6, 6, requires_grad=True), ones(3, 2, 3, 3)
    assert F.conv2d(x, w).shape == (3, 4, 4)
    assert F.max_pool2d(x, 2).shape == F.avg_pool2d(x, 2).shape == F.adaptive_avg_pool2d(x, 3).shape == (2, 3, 3)
    y, indices = F.max_pool2d(x, 2, return_indices=True)
    assert y.shape == indices.shape == (2, 3, 3)
    assert np.shape(gradient(F.conv2d(x, w), x)) == (2, 6, 6)


@pytest.mark.parametrize("kernel", [(1, 1), (2, 3), (4, 5), (4, 4)])
@pytest.mark.parametrize("dilation", [1, (2, 3)])
def test_same_padding_keeps_the_size_and_puts_the_odd_row_at_the_end(kernel, dilation):
    x, w = scalargrad.randn(1, 1, 9, 8), ones(1, 1, *kernel)
    y = F.conv2d(x, w, padding="same", dilation=dilation)
    assert y.shape == x.shape
    down, across = (
        d * (k - 1) for d, k in zip((dilation, dilation) if dilation == 1 else dilation, kernel, strict=True)
    )
    frame = (across // 2, across - across // 2, down // 2, down - down // 2)
    assert np.allclose(y.array, F.conv2d(F.pad(x, frame), w, dilation=dilation).array, atol=1e-5)
    assert F.conv2d(x, w, padding="valid").shape == F.conv2d(x, w).shape


def test_sizes_may_be_ints_lists_or_tuples_of_one():
    x, w = scalargrad.randn(1, 1, 6, 6), scalargrad.randn(1, 1, 3, 3)
    expected = F.conv2d(x, w, stride=2, padding=1)
    for two, one in (((2, 2), (1, 1)), ([2, 2], [1]), ((2,), np.int64(1)), (np.int64(2), scalargrad.Size((1, 1)))):
        assert F.conv2d(x, w, stride=two, padding=one).tolist() == expected.tolist()


def test_a_batch_of_none_goes_through():
    x, w = ones(0, 1, 6, 6, requires_grad=True), ones(2, 1, 3, 3, requires_grad=True)
    y = F.conv2d(x, w, ones(2))
    assert y.shape == (0, 2, 4, 4)
    y.sum().backward()
    assert x.grad.shape == (0, 1, 6, 6)
    assert w.grad.tolist() == np.zeros((2, 1, 3, 3)).tolist()
    assert F.max_pool2d(x, 2).shape == (0, 1, 3, 3)
    assert F.adaptive_avg_pool2d(x, (4, 5)).shape == (0, 1, 4, 5)
    assert F.batch_norm(x, None, None, training=True).shape == x.shape
