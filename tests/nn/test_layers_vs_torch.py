"""Layers, their starts and their states beside PyTorch's."""

from collections import OrderedDict

import numpy as np
import pytest

import scalargrad
from scalargrad import nn
from scalargrad.nn import init

torch = pytest.importorskip("torch")

from test_layers import REPRS  # noqa: E402
from test_state_dict import Net  # noqa: E402


@pytest.fixture(scope="module", autouse=True)
def _pytorch_finds_its_environment_set(tmp_path_factory):
    """PyTorch writes this variable when it first needs it, which would look like a leak of the test at hand."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("TORCHINDUCTOR_CACHE_DIR", str(tmp_path_factory.mktemp("torch")))
        yield


@pytest.mark.parametrize("text", [t for t in REPRS if not t.startswith(("BatchNorm", "LayerNorm", "GroupNorm"))])
def test_pytorchs_layer_prints_the_same(text):
    """But for the normalisations, whose line has changed between versions."""
    assert repr(REPRS[text](torch.nn)) == text


@pytest.mark.parametrize(
    "make",
    [
        lambda nn: nn.Sequential(nn.Conv2d(2, 4, 3, padding=1), nn.BatchNorm2d(4), nn.ReLU(), nn.MaxPool2d(2)),
        lambda nn: nn.Sequential(nn.Conv2d(2, 4, (2, 3), (2, 1), "valid", (1, 2), 2), nn.LeakyReLU(), nn.AvgPool2d(2)),
        lambda nn: nn.Sequential(nn.Conv2d(2, 4, 3, padding="same", bias=False), nn.GroupNorm(2, 4), nn.SiLU()),
        lambda nn: nn.Sequential(nn.ConvTranspose2d(2, 4, (3, 2), 2, 1, 1, 2), nn.Tanh(), nn.ConvTranspose2d(4, 3, 2)),
        lambda nn: nn.Sequential(nn.Flatten(2), nn.Conv1d(2, 4, 5, 2, 1), nn.Tanh(), nn.ConvTranspose1d(4, 2, 3, 2)),
        lambda nn: nn.Sequential(nn.AdaptiveAvgPool2d(2), nn.Flatten(), nn.Linear(8, 5), nn.LayerNorm(5), nn.GELU()),
        lambda nn: nn.Sequential(nn.Flatten(), nn.Linear(128, 6), nn.BatchNorm1d(6), nn.ELU(), nn.LogSoftmax(1)),
    ],
)
def test_layers_give_pytorchs_numbers_and_gradients_from_pytorchs_state(make):
    theirs, ours = make(torch.nn).double(), make(nn).double()
    state = OrderedDict((k, scalargrad.from_numpy(v.numpy().copy())) for k, v in theirs.state_dict().items())
    ours.load_state_dict(state)
    data = np.random.default_rng(0).normal(size=(3, 2, 8, 8))
    x, x_theirs = scalargrad.tensor(data, requires_grad=True), torch.tensor(data, requires_grad=True)
    for _ in range(2):
        y, y_theirs = ours(x), theirs(x_theirs)
        (y * y).sum().backward()
        (y_theirs * y_theirs).sum().backward()
    np.testing.assert_allclose(y.detach().numpy(), y_theirs.detach().numpy(), rtol=1e-9, atol=1e-12)
    np.testing.assert_allclose(x.grad.numpy(), x_theirs.grad.numpy(), rtol=1e-8, atol=1e-9)
    for p, q in zip(ours.parameters(), theirs.parameters(), strict=True):
        np.testing.assert_allclose(p.grad.numpy(), q.grad.numpy(), rtol=1e-8, atol=1e-9)
    for name, value in theirs.state_dict().items():
        np.testing.assert_allclose(ours.state_dict()[name].numpy(), value.numpy(), rtol=1e-9, atol=1e-12)


def test_gains_and_bounds_are_pytorchs():
    for name, param in [("tanh", None), ("relu", None), ("leaky_relu", 0.3), ("selu", None), ("conv1d", None)]:
        assert init.calculate_gain(name, param) == torch.nn.init.calculate_gain(name, param)
    for ours, theirs, shape in [
        (nn.Linear(60, 300), torch.nn.Linear(60, 300), (300, 60)),
        (nn.Conv2d(6, 300, 3), torch.nn.Conv2d(6, 300, 3), (300, 6, 3, 3)),
    ]:
        assert tuple(ours.weight.shape) == tuple(theirs.weight.shape) == shape
        for a, b in ((ours.weight, theirs.weight), (ours.bias, theirs.bias)):
            assert a.detach().numpy().std() == pytest.approx(b.detach().numpy().std(), rel=0.1)


def test_the_words_of_the_error_are_pytorchs():

    class Theirs(torch.nn.Module):
        def __init__(self):
            super().__init__()
            self.fc1 = torch.nn.Linear(3, 2)
            self.norm = torch.nn.BatchNorm1d(2)
            self.fc2 = torch.nn.Linear(2, 1, bias=False)

    Theirs.__name__ = "Net"

    def spoiled(state, zeros):
        del state["fc1.bias"]
        return {**state, "fc3.weight": zeros(1), "fc1.weight": zeros(2, 4), "norm.bias": 5}

    messages = []
    for net, zeros in ((Net(), scalargrad.zeros), (Theirs(), torch.zeros)):
        with pytest.raises(RuntimeError) as caught:
            net.load_state_dict(spoiled(net.state_dict(), zeros))
        messages.append(str(caught.value))
    assert messages[0] == messages[1]
