"""nn.utils: clipping gradients, and all parameters as one vector."""

import math
import re

import numpy as np
import pytest

import scalargrad
from scalargrad import nn
from scalargrad.nn import utils


def parameters(*gradients):
    made = []
    for g in gradients:
        array = np.array(1.0 if g is None else g, np.float32)
        p = nn.Parameter(scalargrad.from_numpy(np.zeros_like(array)))
        p.grad = None if g is None else scalargrad.from_numpy(array)
        made.append(p)
    return made


@pytest.mark.parametrize(
    ("norm_type", "norm"), [(2, 13.0), (2.0, 13.0), (1, 19.0), (math.inf, 12.0), ("inf", 12.0), (3.0, 1819 ** (1 / 3))]
)
def test_gradients_are_scaled_down_to_the_largest_norm_allowed(norm_type, norm):
    params = parameters([3.0, -4.0], None, [[12.0]])
    total = utils.clip_grad_norm_(iter(params), norm / 2, norm_type)
    assert total.item() == pytest.approx(norm, rel=1e-6)
    assert total.dtype == scalargrad.float32
    np.testing.assert_allclose(params[0].grad.numpy(), [1.5, -2.0], rtol=1e-6)
    np.testing.assert_allclose(params[2].grad.numpy(), [[6.0]], rtol=1e-6)
    assert params[1].grad is None
    again = utils.clip_grad_norm_(params, norm, norm_type)
    assert again.item() == pytest.approx(norm / 2, rel=1e-6)
    np.testing.assert_allclose(params[0].grad.numpy(), [1.5, -2.0], rtol=1e-6)


def test_a_norm_that_is_not_finite_shows_or_raises():
    (p,) = parameters([1.0, math.inf])
    with pytest.raises(
        RuntimeError, match=r"The total norm of order 2\.0 for gradients from `parameters` is non-finite"
    ):
        utils.clip_grad_norm_(p, 1.0, error_if_nonfinite=True)
    assert p.grad.tolist() == [1.0, math.inf]
    assert utils.clip_grad_norm_(p, 1.0).item() == math.inf
    assert p.grad.tolist()[0] == 0.0
    assert math.isnan(p.grad.tolist()[1])
    (q,) = parameters([1.0, math.nan])
    assert math.isnan(utils.clip_grad_norm_([q], 1.0).item())
    assert all(map(math.isnan, q.grad.tolist()))


def test_without_gradients_the_norm_is_zero():
    assert utils.clip_grad_norm_(parameters(None), 1.0).item() == 0.0
    assert utils.clip_grad_norm_([], 1.0, error_if_nonfinite=True).item() == 0.0


def test_gradients_are_clipped_by_value():
    params = parameters([3.0, -4.0, 0.5], None)
    utils.clip_grad_value_(params, 2)
    assert params[0].grad.tolist() == [2.0, -2.0, 0.5]
    utils.clip_grad_value_(params[0], 0.25)
    assert params[0].grad.tolist() == [0.25, -0.25, 0.25]


def test_parameters_go_to_a_vector_and_back():
    net = nn.Sequential(nn.Linear(3, 2), nn.Linear(2, 1))
    vector = utils.parameters_to_vector(net.parameters())
    assert vector.shape == (11,)
    assert vector.requires_grad
    np.testing.assert_array_equal(vector.detach().numpy()[6:8], net[0].bias.detach().numpy())
    (vector * vector).sum().backward()
    np.testing.assert_allclose(net[1].weight.grad.numpy(), 2 * net[1].weight.detach().numpy())
    utils.vector_to_parameters(scalargrad.arange(11.0), net.parameters())
    assert net[0].weight.tolist() == [[0.0, 1.0, 2.0], [3.0, 4.0, 5.0]]
    assert net[1].bias.tolist() == [10.0]


@pytest.mark.parametrize(
    ("vector", "error", "words"),
    [
        ([1.0], TypeError, "expected torch.Tensor, but got: list"),
        (scalargrad.zeros(2), RuntimeError, "expected a vector of shape [3], got [2]"),
        (scalargrad.zeros(4), RuntimeError, "expected a vector of shape [3], got [4]"),
        (scalargrad.zeros(1, 3), RuntimeError, "expected a vector of shape [3], got [1, 3]"),
    ],
)
def test_a_vector_that_does_not_fit_changes_nothing(vector, error, words):
    net = nn.Linear(2, 1)
    before = utils.parameters_to_vector(net.parameters()).tolist()
    with pytest.raises(error, match=re.escape(words)):
        utils.vector_to_parameters(vector, net.parameters())
    assert utils.parameters_to_vector(net.parameters()).tolist() == before


def test_clipping_is_a_write_that_the_graph_notices():
    (p,) = parameters([3.0])
    g = p.grad
    y = (g * nn.Parameter(scalargrad.ones(1))).sum()
    utils.clip_grad_norm_(p, 1.0)
    with pytest.raises(RuntimeError, match="modified by an inplace operation"):
        y.backward()
