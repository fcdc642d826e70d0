"""A whole net, number by number: LeNet as a graph of Values through the specification, against the net of Tensors.

Two channels instead of six, images of 8 × 8: some ten thousand Values a step. Loss and all gradients agree at every
step of training, to the last digits of float64.
"""

import functools

import numpy as np
import pytest

import scalargrad as sg
from scalargrad import Value, nn, reference
from scalargrad.operation import TABLE, Plans
from scalargrad.reference import each, flat

N_STEPS, RATE = 5, 0.5


class SmallLeNet(nn.Module):
    """conv, relu, pool, conv, relu, pool, linear, relu, linear, as LeNet-5 but small."""

    def __init__(self):
        super().__init__()
        self.conv1 = nn.Conv2d(1, 2, 3, padding=1)
        self.conv2 = nn.Conv2d(2, 2, 3)
        self.fc1 = nn.Linear(2, 5)
        self.fc2 = nn.Linear(5, 3)

    def forward(self, x):
        x = nn.functional.max_pool2d(nn.functional.relu(self.conv1(x)), 2)
        x = nn.functional.max_pool2d(nn.functional.relu(self.conv2(x)), 2)
        return self.fc2(nn.functional.relu(self.fc1(x.flatten(1))))


def specified(parameters, images):
    """The same net in the words of the specification: `parameters` by name, nested lists of numbers."""
    p = parameters

    def relu(x):
        return each(lambda number: number.relu(), x)

    x = reference.max_pool2d(relu(reference.conv2d(images, p["conv1.weight"], p["conv1.bias"], padding=1)), 2)
    x = reference.max_pool2d(relu(reference.conv2d(x, p["conv2.weight"], p["conv2.bias"])), 2)
    x = [flat(sample) for sample in x]
    return reference.linear(relu(reference.linear(x, p["fc1.weight"], p["fc1.bias"])), p["fc2.weight"], p["fc2.bias"])


def problem():
    sg.manual_seed(7)
    images = sg.rand(2, 1, 8, 8, dtype=sg.float64)
    return SmallLeNet().double(), images, sg.tensor([2, 0])


def numbers(x):
    return np.array(each(float, x), np.float64)


def train_both(net, images, labels, n_steps):
    """Both nets step by step: (loss and gradients of Tensors, the same of Values)."""
    optimizer = sg.optim.SGD(net.parameters(), lr=RATE)
    parameters = {name: each(Value, p.tolist()) for name, p in net.named_parameters()}
    for _ in range(n_steps):
        optimizer.zero_grad()
        loss = nn.functional.cross_entropy(net(images), labels)
        loss.backward()
        values_loss = reference.cross_entropy(specified(parameters, images.tolist()), labels.tolist())
        values_loss.backward()
        grads = {name: each(lambda v: v.grad, p) for name, p in parameters.items()}
        yield (
            (loss.item(), {name: p.grad.numpy().copy() for name, p in net.named_parameters()}),
            (values_loss.data, {name: numbers(g) for name, g in grads.items()}),
        )
        optimizer.step()
        parameters = {name: each(lambda v: Value(v.data - RATE * v.grad), p) for name, p in parameters.items()}


def test_lenet_of_values_is_lenet_of_tensors_for_five_steps():
    losses = []
    for (loss, grads), (values_loss, values_grads) in train_both(*problem(), N_STEPS):
        assert loss == pytest.approx(values_loss, rel=1e-12, abs=1e-12)
        assert grads.keys() == values_grads.keys()
        for name, g in grads.items():
            np.testing.assert_allclose(g, values_grads[name], rtol=1e-12, atol=1e-12, err_msg=name)
            assert g.any(), f"{name} gets no gradient: the test would show nothing"
        losses.append(loss)
    assert losses[-1] < losses[0]


def test_a_thousandth_in_one_derivative_shows_in_the_whole_net(monkeypatch):
    """The comparison is not blind: with conv2d's weight gradient off by a thousandth it fails at the first step."""
    op = TABLE["conv2d"]
    right = op.gradients

    @functools.wraps(right)
    def wrong(*inputs):
        *others, of_w, of_b = right(*inputs)
        return [*others, of_w * 1.001, of_b]

    monkeypatch.setattr(op, "gradients", wrong)
    monkeypatch.setattr(op, "plans", Plans(op))
    ((_, grads), (_, values_grads)) = next(train_both(*problem(), 1))
    assert not np.allclose(grads["conv1.weight"], values_grads["conv1.weight"], rtol=1e-6, atol=1e-9)
    np.testing.assert_allclose(grads["fc1.weight"], values_grads["fc1.weight"], rtol=1e-12, atol=1e-12)
