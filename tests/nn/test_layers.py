"""Layers: each hands all of its options on, prints as in PyTorch, and refuses what makes no sense."""

import re
from collections import OrderedDict

import numpy as np
import pytest

import scalargrad
from scalargrad import nn
from scalargrad.nn import functional as F

IMAGES = (2, 4, 7, 6)
VECTORS = (3, 4)


def inputs(shape, seed=1):
    return scalargrad.from_numpy(np.random.default_rng(seed).normal(size=shape))


# The layer, the shape of its input, and the function that it stands for: with options that all make a difference.
STANDS_FOR = [
    (lambda: nn.Identity(1, two=2), VECTORS, lambda m, x: x),
    (lambda: nn.Linear(4, 5), VECTORS, lambda m, x: F.linear(x, m.weight, m.bias)),
    (lambda: nn.Linear(4, 5, bias=False), VECTORS, lambda m, x: F.linear(x, m.weight)),
    (
        lambda: nn.Conv2d(4, 6, (3, 2), (2, 1), (1, 2), (1, 2), 2),
        IMAGES,
        lambda m, x: F.conv2d(x, m.weight, m.bias, (2, 1), (1, 2), (1, 2), 2),
    ),
    (lambda: nn.Conv2d(4, 2, 3, 2, bias=False), IMAGES, lambda m, x: F.conv2d(x, m.weight, None, 2)),
    (lambda: nn.Conv2d(4, 2, 3, padding="same"), IMAGES, lambda m, x: F.conv2d(x, m.weight, m.bias, padding=1)),
    (lambda: nn.Conv2d(4, 2, 3, padding="valid"), IMAGES, lambda m, x: F.conv2d(x, m.weight, m.bias)),
    (
        lambda: nn.Conv1d(4, 6, 3, 2, 1, 2, 2),
        (3, 4, 9),
        lambda m, x: F.conv1d(x, m.weight, m.bias, 2, 1, 2, 2),
    ),
    (lambda: nn.Conv1d(4, 2, 3, padding="same", bias=False), (4, 9), lambda m, x: F.conv1d(x, m.weight, padding=1)),
    (
        lambda: nn.ConvTranspose1d(4, 6, 3, 2, 1, 1, 2, True, 3),
        (3, 4, 9),
        lambda m, x: F.conv_transpose1d(x, m.weight, m.bias, 2, 1, 1, 2, 3),
    ),
    (
        lambda: nn.ConvTranspose2d(4, 6, (3, 2), (2, 3), (1, 2), (1, 2), 2, False, (3, 1)),
        IMAGES,
        lambda m, x: F.conv_transpose2d(x, m.weight, None, (2, 3), (1, 2), (1, 2), 2, (3, 1)),
    ),
    (lambda: nn.MaxPool2d(2), IMAGES, lambda m, x: F.max_pool2d(x, 2, 2)),
    (
        lambda: nn.MaxPool2d((3, 2), 2, 1, 2, ceil_mode=True),
        IMAGES,
        lambda m, x: F.max_pool2d(x, (3, 2), 2, 1, 2, ceil_mode=True),
    ),
    (lambda: nn.AvgPool2d(2), IMAGES, lambda m, x: F.avg_pool2d(x, 2, 2)),
    (
        lambda: nn.AvgPool2d(3, 2, 1, True, False),
        IMAGES,
        lambda m, x: F.avg_pool2d(x, 3, 2, 1, ceil_mode=True, count_include_pad=False),
    ),
    (lambda: nn.AvgPool2d(3, divisor_override=5), IMAGES, lambda m, x: F.avg_pool2d(x, 3, divisor_override=5)),
    (lambda: nn.AdaptiveAvgPool2d((2, None)), IMAGES, lambda m, x: F.adaptive_avg_pool2d(x, (2, None))),
    (lambda: nn.AdaptiveMaxPool2d(3), IMAGES, lambda m, x: F.adaptive_max_pool2d(x, 3)),
    (nn.Tanh, VECTORS, lambda m, x: F.tanh(x)),
    (nn.Sigmoid, VECTORS, lambda m, x: F.sigmoid(x)),
    (nn.LogSigmoid, VECTORS, lambda m, x: F.logsigmoid(x)),
    (nn.Softsign, VECTORS, lambda m, x: F.softsign(x)),
    (nn.ReLU, VECTORS, lambda m, x: F.relu(x)),
    (nn.ReLU6, VECTORS, lambda m, x: F.relu6(x)),
    (nn.SiLU, VECTORS, lambda m, x: F.silu(x)),
    (lambda: nn.LeakyReLU(0.3), VECTORS, lambda m, x: F.leaky_relu(x, 0.3)),
    (lambda: nn.ELU(2.0), VECTORS, lambda m, x: F.elu(x, 2.0)),
    (lambda: nn.GELU("tanh"), VECTORS, lambda m, x: F.gelu(x, approximate="tanh")),
    (lambda: nn.Softplus(2.0, 0.5), VECTORS, lambda m, x: F.softplus(x, 2.0, 0.5)),
    (lambda: nn.Hardtanh(-0.5, 0.25), VECTORS, lambda m, x: F.hardtanh(x, -0.5, 0.25)),
    (lambda: nn.Softmax(0), VECTORS, lambda m, x: F.softmax(x, 0)),
    (lambda: nn.LogSoftmax(0), VECTORS, lambda m, x: F.log_softmax(x, 0)),
    (lambda: nn.Softmin(0), VECTORS, lambda m, x: F.softmin(x, 0)),
    (nn.Flatten, IMAGES, lambda m, x: x.reshape(2, 168)),
    (lambda: nn.Flatten(0, 1), IMAGES, lambda m, x: x.reshape(8, 7, 6)),
    (lambda: nn.Unflatten(1, (2, -1)), IMAGES, lambda m, x: x.reshape(2, 2, 2, 7, 6)),
    (lambda: nn.LayerNorm((7, 6), eps=0.1), IMAGES, lambda m, x: F.layer_norm(x, (7, 6), m.weight, m.bias, 0.1)),
    (lambda: nn.LayerNorm(6, elementwise_affine=False), IMAGES, lambda m, x: F.layer_norm(x, (6,))),
    (lambda: nn.LayerNorm(6, bias=False), IMAGES, lambda m, x: F.layer_norm(x, (6,), m.weight)),
    (lambda: nn.GroupNorm(2, 4, eps=0.1), IMAGES, lambda m, x: F.group_norm(x, 2, m.weight, m.bias, 0.1)),
    (lambda: nn.GroupNorm(2, 4, affine=False), IMAGES, lambda m, x: F.group_norm(x, 2)),
    (
        lambda: nn.BatchNorm2d(4, eps=0.1),
        IMAGES,
        lambda m, x: F.batch_norm(x, None, None, m.weight, m.bias, True, 0.1, 0.1),
    ),
    (lambda: nn.Dropout(0.0), VECTORS, lambda m, x: x),
    (lambda: nn.Dropout(0.7).eval(), VECTORS, lambda m, x: x),
    (lambda: nn.Dropout2d(0.7).eval(), IMAGES, lambda m, x: x),
]


@pytest.mark.parametrize(("make", "shape", "function"), STANDS_FOR)
def test_a_layer_is_its_function_with_its_options(make, shape, function):
    layer, x = make().double(), inputs(shape)
    with scalargrad.no_grad():
        for p in layer.parameters():  # no parameter at a start that hides it
            p.copy_(inputs(p.shape, seed=2))
    y, expected = layer(x), function(layer, x)
    assert y.shape == expected.shape
    np.testing.assert_array_equal(y.detach().numpy(), expected.detach().numpy())


@pytest.mark.parametrize(
    "make",
    [
        lambda inplace: nn.ReLU(inplace),
        lambda inplace: nn.ReLU6(inplace),
        lambda inplace: nn.SiLU(inplace),
        lambda inplace: nn.LeakyReLU(0.2, inplace),
        lambda inplace: nn.ELU(1.0, inplace),
        lambda inplace: nn.Hardtanh(inplace=inplace),
    ],
)
def test_an_inplace_nonlinearity_overwrites_its_input_and_has_the_same_gradient(make):
    x = inputs(VECTORS).requires_grad_()
    h = x * 3
    y = make(True)(h)
    assert y is h
    expected = make(False)(x * 3)
    np.testing.assert_array_equal(h.detach().numpy(), expected.detach().numpy())
    y.sum().backward()
    gradient = x.grad.numpy().copy()
    x.grad = None
    expected.sum().backward()
    np.testing.assert_array_equal(gradient, x.grad.numpy())


def test_max_pooling_returns_indices_when_asked():
    x = scalargrad.tensor([[[[1.0, 5.0], [2.0, 3.0]]]])
    for layer in (nn.MaxPool2d(2, return_indices=True), nn.AdaptiveMaxPool2d(1, return_indices=True)):
        y, where = layer(x)
        assert (y.item(), where.item()) == (5.0, 1)


LOSSES = [
    (nn.MSELoss, {}, F.mse_loss, "same"),
    (nn.L1Loss, {}, F.l1_loss, "same"),
    (nn.SmoothL1Loss, {"beta": 0.3}, F.smooth_l1_loss, "same"),
    (nn.HuberLoss, {"delta": 0.3}, F.huber_loss, "same"),
    (nn.BCELoss, {"weight": [0.5, 1.0, 2.0, 3.0]}, F.binary_cross_entropy, "probabilities"),
    (
        nn.BCEWithLogitsLoss,
        {"weight": [0.5, 1.0, 2.0, 3.0], "pos_weight": [2.0, 3.0, 4.0, 5.0]},
        F.binary_cross_entropy_with_logits,
        "probabilities",
    ),
    (nn.NLLLoss, {"weight": [0.5, 1.0, 2.0, 3.0], "ignore_index": 2}, F.nll_loss, "classes"),
    (
        nn.CrossEntropyLoss,
        {"weight": [0.5, 1.0, 2.0, 3.0], "ignore_index": 2, "label_smoothing": 0.1},
        F.cross_entropy,
        "classes",
    ),
]


@pytest.mark.parametrize("reduction", ["mean", "sum", "none"])
@pytest.mark.parametrize(("kind", "options", "function", "target"), LOSSES)
def test_a_loss_is_its_function_with_its_options(kind, options, function, target, reduction):
    options = {k: scalargrad.tensor(v).double() if isinstance(v, list) else v for k, v in options.items()}
    x = F.sigmoid(inputs(VECTORS)) if target == "probabilities" else inputs(VECTORS)
    t = {
        "same": inputs(VECTORS, seed=3),
        "probabilities": F.sigmoid(inputs(VECTORS, seed=3)),
        "classes": scalargrad.tensor([3, 2, 1]),
    }[target]
    loss = kind(reduction=reduction, **options)(x, t)
    np.testing.assert_array_equal(loss.numpy(), function(x, t, reduction=reduction, **options).numpy())
    for name in options:
        others = {k: v for k, v in options.items() if k != name}
        without = function(x, t, reduction=reduction, **others)
        assert not np.array_equal(loss.numpy(), without.numpy()), f"{name} makes no difference here"


def test_the_weight_of_a_loss_is_a_buffer():
    loss = nn.CrossEntropyLoss(scalargrad.ones(3))
    assert list(loss.state_dict()) == ["weight"]
    assert loss.double().weight.dtype == scalargrad.float64
    assert list(nn.CrossEntropyLoss().state_dict()) == []
    assert list(nn.BCEWithLogitsLoss(pos_weight=scalargrad.ones(3)).state_dict()) == ["pos_weight"]


def test_batch_norm_learns_the_running_statistics_and_uses_them_in_evaluation():
    layer = nn.BatchNorm1d(2, eps=0.0, momentum=0.5)
    batch = scalargrad.tensor([[1.0, 10.0], [3.0, 30.0]])
    y = layer(batch)
    np.testing.assert_allclose(y.detach().numpy(), [[-1, -1], [1, 1]], rtol=1e-6)
    np.testing.assert_allclose(layer.running_mean.numpy(), [1.0, 10.0])  # half way from 0 to (2, 20)
    np.testing.assert_allclose(layer.running_var.numpy(), [1.5, 100.5])  # half way from 1 to the unbiased (2, 200)
    assert layer.num_batches_tracked.item() == 1
    layer.eval()
    out = layer(scalargrad.tensor([[1.0, 10.0]]))
    np.testing.assert_array_equal(out.detach().numpy(), [[0, 0]])
    assert layer.num_batches_tracked.item() == 1
    layer.reset_running_stats()
    np.testing.assert_array_equal(layer.running_var.numpy(), [1, 1])
    assert layer.num_batches_tracked.item() == 0


def test_batch_norm_without_momentum_averages_over_all_batches():
    layer = nn.BatchNorm1d(1, momentum=None, affine=False)
    for value in (1.0, 2.0, 6.0):
        layer(scalargrad.tensor([[value], [value]]))
    assert layer.running_mean.item() == pytest.approx(3.0)
    assert list(layer.parameters()) == []


def test_batch_norm_that_tracks_nothing_always_uses_the_batch():
    layer = nn.BatchNorm2d(2, track_running_stats=False).eval()
    x = scalargrad.randn(3, 2, 4, 4) * 5 + 7
    y = layer(x).detach().numpy()
    np.testing.assert_allclose(y.mean((0, 2, 3)), [0, 0], atol=1e-5)
    assert list(layer.buffers()) == []


def test_dropout_zeroes_about_a_share_and_scales_the_rest():
    y = nn.Dropout(0.25)(scalargrad.ones(200, 200)).numpy()
    assert set(np.unique(y)) == {np.float32(0), np.float32(1 / 0.75)}
    assert (y == 0).mean() == pytest.approx(0.25, abs=0.01)
    channels = nn.Dropout2d(0.5)(scalargrad.ones(50, 40, 2, 3)).numpy().reshape(2000, 6)
    assert all(len(set(c)) == 1 for c in channels)
    assert (channels == 0).mean() == pytest.approx(0.5, abs=0.05)


def test_embedding_looks_up_rows_and_keeps_the_padding_at_zero():
    layer = nn.Embedding(5, 3, padding_idx=-1)
    numbers = scalargrad.tensor([[0, 4], [1, 0]])
    y = layer(numbers)
    np.testing.assert_array_equal(y.detach().numpy(), layer.weight.detach().numpy()[numbers.numpy()])
    np.testing.assert_array_equal(y.detach().numpy()[0, 1], np.zeros(3))
    y.sum().backward()
    np.testing.assert_array_equal(layer.weight.grad.numpy()[:, 0], [2, 1, 0, 0, 0])
    table = scalargrad.randn(4, 2)
    frozen = nn.Embedding.from_pretrained(table)
    assert not frozen.weight.requires_grad
    assert frozen(scalargrad.tensor([2])).tolist() == [table[2].tolist()]
    assert nn.Embedding.from_pretrained(table, freeze=False).weight.requires_grad


REPRS = {
    "Conv2d(3, 6, kernel_size=(3, 3), stride=(1, 1), padding=same, dilation=(2, 2), groups=3, bias=False)": (
        lambda nn: nn.Conv2d(3, 6, 3, padding="same", dilation=2, groups=3, bias=False)
    ),
    "Conv2d(1, 2, kernel_size=(3, 5), stride=(2, 2), padding=(1, 1))": lambda nn: nn.Conv2d(1, 2, (3, 5), 2, 1),
    "Conv1d(1, 2, kernel_size=(3,), stride=(2,), padding=(1,))": lambda nn: nn.Conv1d(1, 2, 3, 2, (1,)),
    "Conv1d(4, 2, kernel_size=(3,), stride=(1,), padding=valid, dilation=(2,), groups=2, bias=False)": (
        lambda nn: nn.Conv1d(4, 2, 3, padding="valid", dilation=2, groups=2, bias=False)
    ),
    "ConvTranspose1d(1, 2, kernel_size=(3,), stride=(1,))": lambda nn: nn.ConvTranspose1d(1, 2, 3),
    "ConvTranspose2d(2, 4, kernel_size=(3, 2), stride=(2, 2), padding=(1, 0), dilation=(1, 2), "
    "output_padding=(1, 1), groups=2, bias=False)": (
        lambda nn: nn.ConvTranspose2d(2, 4, (3, 2), 2, (1, 0), 1, 2, False, (1, 2))
    ),
    "Linear(in_features=2, out_features=3, bias=False)": lambda nn: nn.Linear(2, 3, bias=False),
    "MaxPool2d(kernel_size=2, stride=2, padding=0, dilation=1, ceil_mode=False)": lambda nn: nn.MaxPool2d(2),
    "MaxPool2d(kernel_size=(2, 3), stride=1, padding=1, dilation=1, ceil_mode=True)": (
        lambda nn: nn.MaxPool2d((2, 3), 1, 1, ceil_mode=True)
    ),
    "AvgPool2d(kernel_size=(2, 2), stride=1, padding=1)": lambda nn: nn.AvgPool2d((2, 2), 1, 1),
    "AdaptiveAvgPool2d(output_size=(1, None))": lambda nn: nn.AdaptiveAvgPool2d((1, None)),
    "AdaptiveMaxPool2d(output_size=2)": lambda nn: nn.AdaptiveMaxPool2d(2),
    "ReLU()": lambda nn: nn.ReLU(),
    "ReLU(inplace=True)": lambda nn: nn.ReLU(inplace=True),
    "ReLU6()": lambda nn: nn.ReLU6(),
    "SiLU(inplace=True)": lambda nn: nn.SiLU(True),
    "Tanh()": lambda nn: nn.Tanh(),
    "Sigmoid()": lambda nn: nn.Sigmoid(),
    "LogSigmoid()": lambda nn: nn.LogSigmoid(),
    "Softsign()": lambda nn: nn.Softsign(),
    "Softmax(dim=None)": lambda nn: nn.Softmax(),
    "LogSoftmax(dim=1)": lambda nn: nn.LogSoftmax(1),
    "Softmin(dim=-1)": lambda nn: nn.Softmin(-1),
    "LeakyReLU(negative_slope=0.01)": lambda nn: nn.LeakyReLU(),
    "LeakyReLU(negative_slope=0.2, inplace=True)": lambda nn: nn.LeakyReLU(0.2, True),
    "ELU(alpha=1.0)": lambda nn: nn.ELU(),
    "GELU(approximate='none')": lambda nn: nn.GELU(),
    "Softplus(beta=1.0, threshold=20.0)": lambda nn: nn.Softplus(),
    "Hardtanh(min_val=-1.0, max_val=1.0)": lambda nn: nn.Hardtanh(),
    "Flatten(start_dim=1, end_dim=-1)": lambda nn: nn.Flatten(),
    "Unflatten(dim=1, unflattened_size=(2, 3))": lambda nn: nn.Unflatten(1, (2, 3)),
    "Dropout(p=0.3, inplace=True)": lambda nn: nn.Dropout(0.3, True),
    "Dropout2d(p=0.5, inplace=False)": lambda nn: nn.Dropout2d(),
    "Identity()": lambda nn: nn.Identity(5),
    "BatchNorm2d(3, eps=1e-05, momentum=0.1, affine=True, bias=True, track_running_stats=True)": (
        lambda nn: nn.BatchNorm2d(3)
    ),
    "BatchNorm1d(3, eps=1e-05, momentum=None, affine=False, bias=False, track_running_stats=True)": (
        lambda nn: nn.BatchNorm1d(3, momentum=None, affine=False)
    ),
    "LayerNorm((3,), eps=1e-05, elementwise_affine=True, bias=True)": lambda nn: nn.LayerNorm(3),
    "LayerNorm((3, 4), eps=1e-05, elementwise_affine=False, bias=False)": (
        lambda nn: nn.LayerNorm([3, 4], elementwise_affine=False)
    ),
    "GroupNorm(2, 4, eps=1e-05, affine=True, bias=True)": lambda nn: nn.GroupNorm(2, 4),
    "Embedding(3, 4)": lambda nn: nn.Embedding(3, 4),
    "Embedding(3, 4, padding_idx=2)": lambda nn: nn.Embedding(3, 4, padding_idx=-1),
    "CrossEntropyLoss()": lambda nn: nn.CrossEntropyLoss(ignore_index=3),
    "MSELoss()": lambda nn: nn.MSELoss(),
}


@pytest.mark.parametrize("text", REPRS)
def test_a_layer_prints_its_options(text):
    assert repr(REPRS[text](nn)) == text


@pytest.mark.parametrize(
    ("make", "error", "words"),
    [
        (lambda: nn.Conv2d(3, 4, 3, groups=0), ValueError, "groups must be a positive integer"),
        (lambda: nn.Conv2d(3, 4, 3, groups=2), ValueError, "in_channels must be divisible by groups"),
        (lambda: nn.Conv2d(4, 3, 3, groups=2), ValueError, "out_channels must be divisible by groups"),
        (lambda: nn.Conv2d(1, 1, 3, padding="full"), ValueError, "Invalid padding string 'full'"),
        (lambda: nn.Conv2d(1, 1, 3, 2, "same"), ValueError, "padding='same' is not supported for strided convolutions"),
        (lambda: nn.Conv2d(1, 1, 3, padding_mode="circular"), ValueError, "got padding_mode='circular'"),
        (lambda: nn.Conv2d(1, 1, (3, 3, 3)), RuntimeError, "kernel_size"),
        (lambda: nn.Conv2d(1, 1, 2.5), TypeError, "kernel_size"),
        (lambda: nn.Conv1d(1, 1, (3, 3)), RuntimeError, "Conv1d(): expected kernel_size to be one integer, got [3, 3]"),
        (lambda: nn.Conv1d(1, 1, 3, 2, "same"), ValueError, "padding='same' is not supported for strided convolutions"),
        (lambda: nn.ConvTranspose1d(1, 1, 1.5), TypeError, "ConvTranspose1d(): argument 'kernel_size' must be an int"),
        (lambda: nn.ConvTranspose2d(3, 4, 3, groups=2), ValueError, "in_channels must be divisible by groups"),
        (lambda: nn.ConvTranspose2d(1, 1, 3, padding_mode="reflect"), ValueError, "got padding_mode='reflect'"),
        (
            lambda: nn.ConvTranspose2d(1, 1, 3, 2)(scalargrad.ones(1, 4, 4), output_size=(9, 11)),
            ValueError,
            "requested an output size of (9, 11), but valid sizes range from [9, 9] to [10, 10]",
        ),
        (
            lambda: nn.ConvTranspose1d(1, 1, 3)(scalargrad.ones(1, 4), output_size=(1, 2, 3)),
            ValueError,
            "for 2D input, output_size must have 1 or 2 elements (got 3)",
        ),
        (lambda: nn.Linear(-1, 2), RuntimeError, "negative dimension"),
        (lambda: nn.Linear(2, 2, dtype=np.int64), RuntimeError, "floating point"),
        (lambda: nn.Dropout(1.5), ValueError, "dropout probability has to be between 0 and 1, but got 1.5"),
        (lambda: nn.Hardtanh(1.0, 1.0), ValueError, "expected max_val > min_val"),
        (lambda: nn.GroupNorm(2, 3), ValueError, "num_channels must be divisible by num_groups"),
        (lambda: nn.Embedding(3, 2, padding_idx=3), ValueError, "padding_idx must be within num_embeddings=3, got 3"),
        (lambda: nn.Embedding.from_pretrained(scalargrad.ones(3)), ValueError, "2-dimensional, got 1"),
        (lambda: nn.BatchNorm2d(2)(scalargrad.ones(3, 2)), ValueError, "expected 4D input (got 2D input)"),
        (lambda: nn.BatchNorm1d(2)(scalargrad.ones(3)), ValueError, "expected 2D or 3D input (got 1D input)"),
        (lambda: nn.MSELoss(reduction="max")(scalargrad.ones(1), scalargrad.ones(1)), ValueError, "max"),
        (lambda: nn.Sequential(nn.Tanh(), 3), TypeError, "int is not a Module subclass"),
        (lambda: nn.Sequential(nn.Tanh())[1], IndexError, "index 1 is out of range"),
        (lambda: nn.ModuleList([nn.Tanh()])[-2], IndexError, "index -2 is out of range"),
        (lambda: nn.ModuleList([nn.Tanh()]).insert(5, nn.Tanh()), IndexError, "Index out of range: 5"),
        (lambda: nn.ModuleList([nn.Tanh()]).insert(0, 5), TypeError, "int is not a Module subclass"),
        (lambda: nn.ModuleList(3), TypeError, "ModuleList.extend should be called with an iterable, but got int"),
        (lambda: nn.Sequential() + nn.Tanh(), ValueError, "add operator supports only objects of Sequential class"),
        (lambda: nn.ModuleDict(3), TypeError, "iterable of key/value pairs, but got int"),
        (lambda: nn.ModuleDict({"items": nn.Tanh()}), KeyError, "attribute 'items' already exists"),
        (lambda: nn.ModuleDict()["a"], KeyError, "a"),
    ],
)
def test_a_layer_refuses_what_makes_no_sense(make, error, words):
    with pytest.raises(error, match=re.escape(words)):
        make()


def test_a_sequential_is_indexed_sliced_changed_and_joined():
    a, b, c = nn.Tanh(), nn.ReLU(), nn.Sigmoid()
    net = nn.Sequential(a, b)
    assert net.append(c) is net
    assert (net[0], net[-1], len(net), list(net)) == (a, c, 3, [a, b, c])
    assert list(net[1:]) == [b, c]
    assert type(net[1:]) is nn.Sequential
    net[0] = c
    assert list(net) == [c, b, c]
    del net[0]
    assert [name for name, _ in net.named_children()] == ["0", "1"]
    net.insert(1, a).extend([b])
    assert list(net) == [b, a, c, b]
    assert list(net + nn.Sequential(a)) == [b, a, c, b, a]
    del net[::2]
    assert list(net) == [a, b]
    assert net.pop(0) is a
    assert list(net) == [b]
    x = inputs(VECTORS)
    np.testing.assert_array_equal(nn.Sequential(a, b)(x).numpy(), F.relu(F.tanh(x)).numpy())
    named = nn.Sequential(OrderedDict(first=a, second=b))
    assert named.first is named[0] is a
    assert [name for name, _ in named[1:].named_children()] == ["second"]
    assert list(nn.Sequential(a, a).children()) == [a]
    assert len(nn.Sequential(a, a)) == 2


def test_a_module_list_is_a_list_and_prints_repeats_once():
    layers = nn.ModuleList([nn.Linear(1, 1), nn.Linear(1, 1)])
    layers += [nn.Tanh()]
    assert len(layers) == len(list(layers)) == 3
    assert type(layers[:2]) is nn.ModuleList
    assert len(layers + nn.ModuleList([nn.Tanh()])) == 4
    assert repr(layers) == (
        "ModuleList(\n  (0-1): 2 x Linear(in_features=1, out_features=1, bias=True)\n  (2): Tanh()\n)"
    )
    assert repr(nn.ModuleList()) == "ModuleList()"
    assert len(list(layers.parameters())) == 4
    with pytest.raises(NotImplementedError, match=r'Module \[ModuleList\] is missing the required "forward" function'):
        layers(1)


def test_a_module_dict_is_a_dict():
    a, b = nn.Linear(1, 1), nn.Tanh()
    layers = nn.ModuleDict({"a": a})
    layers.update([("b", b)])
    assert list(layers) == list(layers.keys()) == ["a", "b"]
    assert list(layers.values()) == [a, b]
    assert dict(layers.items()) == {"a": a, "b": b}
    assert "a" in layers
    assert layers["b"] is b
    assert [name for name, _ in layers.named_parameters()] == ["a.weight", "a.bias"]
    assert layers.pop("a") is a
    assert len(layers) == 1
    del layers["b"]
    layers.update(nn.ModuleDict({"c": b}))
    layers.clear()
    assert len(layers) == 0
