"""The note on an error that names the layer it arose in."""

import pickle
import traceback
from collections import OrderedDict

import pytest
from test_module import LeNet

import scalargrad
from scalargrad import nn


def notes(error):
    return getattr(error, "__notes__", [])


def test_an_error_names_the_layer_it_arose_in():
    net = LeNet()
    with pytest.raises(RuntimeError) as caught:
        net(scalargrad.zeros(1, 1, 40, 40))
    assert notes(caught.value) == ["in LeNet.fc1: Linear(in_features=576, out_features=120, bias=True)"]
    outer = nn.Sequential(OrderedDict(body=net))
    with pytest.raises(RuntimeError) as caught:
        outer(scalargrad.zeros(1, 1, 40, 40))
    assert notes(caught.value) == ["in Sequential.body.fc1: Linear(in_features=576, out_features=120, bias=True)"]
    assert "in Sequential.body.fc1" in "".join(traceback.format_exception(caught.value))


def test_an_error_in_a_networks_own_forward_names_the_network():
    with pytest.raises(ZeroDivisionError) as caught:
        Raising(lambda x: 1 / x)(0)
    assert notes(caught.value) == ["in Raising()"]
    net = LeNet()
    net.forward = lambda x: 1 / x
    with pytest.raises(ZeroDivisionError) as caught:
        net(0)
    assert notes(caught.value) == ["in LeNet"]


class Raising(nn.Module):
    def __init__(self, function):
        super().__init__()
        self.forward = function


def test_an_error_note_survives_layers_that_cannot_be_printed_and_networks_that_do_not_know_the_layer():
    class Unprintable(Raising):
        def extra_repr(self):
            raise ValueError("no")

    hidden = [Unprintable(lambda x: x.nothing)]

    class Holder(nn.Module):
        def forward(self, x):
            return hidden[0](x)

    with pytest.raises(AttributeError, match="nothing") as caught:
        Holder()(3)
    assert notes(caught.value) == ["in Unprintable"]


def test_an_error_can_be_pickled_without_the_network():
    net = nn.Sequential(Raising(lambda x: 1 / x))
    with pytest.raises(ZeroDivisionError) as caught:
        net(0)
    again = pickle.loads(pickle.dumps(notes(caught.value)))
    assert again == ["in Sequential.0: Raising()"]
    assert type(again[0]) is str
