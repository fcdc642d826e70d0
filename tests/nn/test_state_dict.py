"""state_dict and load_state_dict: what is saved, and that loading is all or nothing."""

import re
from collections import OrderedDict

import numpy as np
import pytest

import scalargrad
from scalargrad import nn


class Net(nn.Module):
    def __init__(self):
        super().__init__()
        self.fc1 = nn.Linear(3, 2)
        self.norm = nn.BatchNorm1d(2)
        self.fc2 = nn.Linear(2, 1, bias=False)
        self.register_buffer("scratch", scalargrad.zeros(4), persistent=False)


def values(net):
    return {name: t.detach().numpy().copy() for name, t in [*net.named_parameters(), *net.named_buffers()]}


def test_a_state_dict_holds_detached_tensors_of_the_same_memory_in_order():
    net = Net()
    state = net.state_dict()
    assert type(state) is OrderedDict
    assert list(state) == [
        "fc1.weight",
        "fc1.bias",
        "norm.weight",
        "norm.bias",
        "norm.running_mean",
        "norm.running_var",
        "norm.num_batches_tracked",
        "fc2.weight",
    ]
    assert not any(t.requires_grad for t in state.values())
    assert all(type(t) is scalargrad.Tensor for t in state.values())
    with scalargrad.no_grad():
        net.fc1.bias.fill_(7)
    np.testing.assert_array_equal(state["fc1.bias"].numpy(), [7, 7])
    assert net.state_dict(keep_vars=True)["fc1.bias"] is net.fc1.bias
    assert list(net.fc1.state_dict(prefix="x.")) == ["x.weight", "x.bias"]
    given = {}
    assert net.fc2.state_dict(destination=given) is given


def test_a_state_dict_round_trip_restores_every_value():
    net, other = Net(), Net()
    net.norm(scalargrad.randn(5, 2))
    saved = OrderedDict((k, v.clone()) for k, v in net.state_dict().items())
    result = other.load_state_dict(saved)
    assert repr(result) == "<All keys matched successfully>"
    assert result == ([], [])
    for name, value in values(net).items():
        np.testing.assert_array_equal(values(other)[name], value)
    assert other.fc1.weight is dict(other.named_parameters())["fc1.weight"], "the parameters are kept, not replaced"
    assert other.norm.num_batches_tracked.item() == 1


def test_all_that_is_wrong_is_named_in_one_error_and_nothing_is_loaded():
    net = Net()
    before = values(net)
    state = Net().state_dict()
    del state["fc1.bias"], state["norm.running_mean"]
    state["fc3.weight"] = scalargrad.zeros(1)
    state["fc2.bias"] = scalargrad.zeros(1)
    state["fc1.weight"] = scalargrad.zeros(2, 4)
    state["norm.weight"] = [1.0, 2.0]
    with pytest.raises(RuntimeError) as caught:
        net.load_state_dict(state)
    assert str(caught.value) == (
        "Error(s) in loading state_dict for Net:\n"
        '\tMissing key(s) in state_dict: "fc1.bias", "norm.running_mean". \n'
        '\tUnexpected key(s) in state_dict: "fc3.weight", "fc2.bias". \n'
        "\tsize mismatch for fc1.weight: copying a param with shape torch.Size([2, 4]) from checkpoint, the shape in "
        "current model is torch.Size([2, 3]).\n"
        '\tWhile copying the parameter named "norm.weight", expected torch.Tensor or Tensor-like object from '
        "checkpoint but received <class 'list'>"
    )
    for name, value in values(net).items():
        np.testing.assert_array_equal(value, before[name])


def test_not_strict_loads_what_is_there_and_returns_what_is_not():
    net = Net()
    result = net.load_state_dict({"fc1.bias": scalargrad.ones(2), "x": scalargrad.zeros(1)}, strict=False)
    np.testing.assert_array_equal(net.fc1.bias.detach().numpy(), [1, 1])
    assert result.unexpected_keys == ["x"]
    assert "fc1.weight" in result.missing_keys
    assert repr(result).startswith("_IncompatibleKeys(missing_keys=['fc1.weight'")
    with pytest.raises(RuntimeError, match=r"size mismatch for fc1\.bias"):
        net.load_state_dict({"fc1.bias": scalargrad.ones(3)}, strict=False)


def test_loading_a_parameter_that_is_none_is_unexpected():
    with pytest.raises(RuntimeError, match=re.escape('Unexpected key(s) in state_dict: "bias". ')):
        nn.Linear(2, 1, bias=False).load_state_dict({"weight": scalargrad.zeros(1, 2), "bias": scalargrad.zeros(1)})


def test_loading_refuses_what_is_no_dict():
    with pytest.raises(TypeError, match="Expected state_dict to be dict-like, got <class 'list'>"):
        Net().load_state_dict([])


def test_loading_casts_to_the_dtype_of_the_parameter():
    net = nn.Linear(1, 1).double()
    net.load_state_dict({"weight": scalargrad.tensor([[1.5]]), "bias": scalargrad.tensor([2])})
    assert net.weight.dtype == net.bias.dtype == scalargrad.float64
    assert (net.weight.item(), net.bias.item()) == (1.5, 2.0)


def test_loading_is_a_write_that_the_graph_notices():
    net = nn.Linear(2, 2)
    y = net(scalargrad.ones(1, 2, requires_grad=True)).sum()
    net.load_state_dict(nn.Linear(2, 2).state_dict())
    with pytest.raises(RuntimeError, match="modified by an inplace operation"):
        y.backward()


def test_assign_puts_the_given_tensors_in_place():
    net = Net().requires_grad_(False)
    state = Net().double().state_dict()
    net.load_state_dict(state, assign=True)
    assert net.fc1.weight.dtype == scalargrad.float64
    assert isinstance(net.fc1.weight, nn.Parameter)
    assert not net.fc1.weight.requires_grad
    assert np.shares_memory(net.fc1.weight.numpy(), state["fc1.weight"].numpy())
    assert net.norm.running_mean is state["norm.running_mean"]


def test_a_shared_parameter_is_saved_under_each_name():
    net = nn.Sequential(nn.Linear(2, 2, bias=False), nn.Linear(2, 2, bias=False))
    net[1].weight = net[0].weight
    assert list(net.state_dict()) == ["0.weight", "1.weight"]
    net.load_state_dict(net.state_dict())
