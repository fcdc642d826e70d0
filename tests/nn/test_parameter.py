"""Parameter: a tensor that wants a gradient."""

import copy

import numpy as np
import pytest

import scalargrad
from scalargrad import nn


def test_a_parameter_shares_memory_and_wants_a_gradient():
    t = scalargrad.zeros(2)
    p = nn.Parameter(t)
    t.fill_(3)
    np.testing.assert_array_equal(p.detach().numpy(), [3, 3])
    assert p.requires_grad
    assert p.is_leaf
    assert isinstance(p, scalargrad.Tensor)
    assert not t.requires_grad
    assert type(p * 1) is scalargrad.Tensor
    assert type(p.detach()) is scalargrad.Tensor
    assert repr(p) == "Parameter containing:\ntensor([3., 3.], requires_grad=True)"
    assert repr(nn.Parameter(scalargrad.ones(1), requires_grad=False)) == "Parameter containing:\ntensor([1.])"
    assert nn.Parameter().shape == (0,)


def test_a_write_to_the_tensor_behind_a_parameter_is_noticed_by_the_graph():
    t = scalargrad.ones(2)
    p = nn.Parameter(t)
    y = (p * p).sum()
    t.fill_(5)
    with pytest.raises(RuntimeError, match="modified by an inplace operation"):
        y.backward()


def test_a_copied_parameter_has_its_attributes_and_no_gradient():
    p = nn.Parameter(scalargrad.ones(2))
    p.grad = scalargrad.ones(2)
    p.decays = False
    q = copy.deepcopy(p)
    assert type(q) is nn.Parameter
    assert q.requires_grad
    assert q.grad is None
    assert q.decays is False
    assert p.grad is not None


def test_a_parameter_refuses_integers_and_what_is_no_tensor():
    with pytest.raises(RuntimeError, match=r"(?i)only tensors of floating point"):
        nn.Parameter(scalargrad.tensor([1, 2]))
    assert nn.Parameter(scalargrad.tensor([1, 2]), requires_grad=False).dtype == scalargrad.int64
    with pytest.raises(TypeError, match="expected a Tensor, got list"):
        nn.Parameter([1.0])
