"""What micrograd promises, with only the import changed: its README, its tests, its networks.

The tests of micrograd compare with PyTorch while they run; here its numbers (float64, version 2.13) are written down.
"""

import random

import pytest

from scalargrad import Value
from scalargrad.nn.scalar import MLP, Layer, Module, Neuron


def test_the_readme_example_gives_the_readmes_numbers():
    a = Value(-4.0)
    b = Value(2.0)
    c = a + b
    d = a * b + b**3
    c += c + 1
    c += 1 + c + (-a)
    d += d * 2 + (b + a).relu()
    d += 3 * d + (b - a).relu()
    e = c - d
    f = e**2
    g = f / 2.0
    g += 10.0 / f
    assert f"{g.data:.4f}" == "24.7041"
    g.backward()
    assert f"{a.grad:.4f}" == "138.8338"
    assert f"{b.grad:.4f}" == "645.5773"


def test_sanity_check():
    x = Value(-4.0)
    z = 2 * x + 2 + x
    q = z.relu() + z * x
    h = (z * z).relu()
    y = h + q + q * x
    y.backward()
    assert y.data == -20.0
    assert x.grad == 46.0


def test_more_ops():
    a = Value(-4.0)
    b = Value(2.0)
    c = a + b
    d = a * b + b**3
    c += c + 1
    c += 1 + c + (-a)
    d += d * 2 + (b + a).relu()
    d += 3 * d + (b - a).relu()
    e = c - d
    f = e**2
    g = f / 2.0
    g += 10.0 / f
    g.backward()
    assert g.data == pytest.approx(24.70408163265306, abs=1e-6)
    assert a.grad == pytest.approx(138.83381924198252, abs=1e-6)
    assert b.grad == pytest.approx(645.5772594752186, abs=1e-6)


def test_networks_print_as_micrograds():
    assert repr(Neuron(3)) == "ReLUNeuron(3)"
    assert repr(Neuron(2, nonlin=False)) == "LinearNeuron(2)"
    assert repr(Layer(2, 2)) == "Layer of [ReLUNeuron(2), ReLUNeuron(2)]"
    assert repr(MLP(2, [2, 1])) == "MLP of [Layer of [ReLUNeuron(2), ReLUNeuron(2)], Layer of [LinearNeuron(2)]]"


def test_a_network_has_weights_and_biases_as_parameters():
    net = MLP(3, [4, 4, 1])
    assert len(net.parameters()) == 41
    assert all(type(p) is Value for p in net.parameters())
    assert all(-1 <= w.data <= 1 for layer in net.layers for n in layer.neurons for w in n.w)
    assert all(n.b.data == 0.0 for layer in net.layers for n in layer.neurons)
    assert Module().parameters() == []


def test_the_weights_are_drawn_as_micrograds_from_the_same_seed():
    random.seed(1337)
    drawn = [random.uniform(-1, 1) for _ in range(6)]
    random.seed(1337)
    assert [w.data for neuron in Layer(3, 2).neurons for w in neuron.w] == drawn


def test_one_output_is_a_value_and_several_are_a_list():
    assert type(MLP(2, [3, 1])([1.0, -1.0])) is Value
    assert len(MLP(2, [3, 2])([1.0, -1.0])) == 2
    assert type(MLP(2, [3, 1, 1])([1.0, -1.0])) is Value


def test_too_few_inputs_are_an_error():
    with pytest.raises(ValueError, match="shorter"):
        Neuron(3)([1.0, 2.0])


def test_a_neuron_computes_relu_of_the_weighted_sum():
    n = Neuron(2)
    n.w[0].data, n.w[1].data, n.b.data = 2.0, -3.0, 0.5
    y = n([1.0, Value(0.5)])
    assert y.data == 1.0
    y.backward()
    assert (n.w[0].grad, n.w[1].grad, n.b.grad) == (1.0, 0.5, 1.0)
    assert n([-1.0, 1.0]).data == 0.0


def test_a_network_learns_xor_by_micrograds_loop():
    random.seed(7)
    net = MLP(2, [8, 1])
    points = [((-1.0, -1.0), -1.0), ((-1.0, 1.0), 1.0), ((1.0, -1.0), 1.0), ((1.0, 1.0), -1.0)]
    for _ in range(60):
        losses = [(1 + -y * net(x)).relu() for x, y in points]
        loss = sum(losses) * (1.0 / len(losses))
        net.zero_grad()
        assert all(p.grad == 0.0 for p in net.parameters())
        loss.backward()
        for p in net.parameters():
            p.data -= 0.2 * p.grad
    assert loss.data < 0.05
    assert all((net(x).data > 0) == (y > 0) for x, y in points)


def test_networks_agree_with_micrograds_own():
    nn = pytest.importorskip("micrograd.nn")
    random.seed(3)
    ours = MLP(3, [5, 4, 1])
    random.seed(3)
    theirs = nn.MLP(3, [5, 4, 1])
    assert [p.data for p in ours.parameters()] == [p.data for p in theirs.parameters()]
    y, z = ours([0.3, -1.2, 2.0]), theirs([0.3, -1.2, 2.0])
    (y * y).backward()
    (z * z).backward()
    assert y.data == pytest.approx(z.data, rel=1e-12)
    assert [p.grad for p in ours.parameters()] == pytest.approx([p.grad for p in theirs.parameters()], rel=1e-12)
    assert repr(ours) == repr(theirs)
