"""torch.nn.functional's names: edges, and the graph that is left behind.

That forward and gradient are those of the specification is in test_reference_vs_tensor; agreement with PyTorch, where
it is installed, in test_functional_vs_torch; what is refused, in test_functional_errors.
"""

import math

import numpy as np
import pytest

import scalargrad
from scalargrad import autograd
from scalargrad.nn import functional as F

nan, inf = math.nan, math.inf


def tensor(*data, requires_grad=False, dtype=None):
    return scalargrad.tensor(*data, dtype=dtype, requires_grad=requires_grad)


def ones(*shape, requires_grad=False):
    return scalargrad.ones(*shape, requires_grad=requires_grad)


def gradient(y, x):
    (g,) = autograd.grad(y.sum(), x)
    return g.tolist()


def graph(y):
    """The names of the nodes from y back along first inputs."""
    names, node = [], y.grad_fn
    while node is not None:
        names.append(node.name())
        node = node.next_functions[0][0] if node.next_functions else None
    return names


def test_softmax_of_large_infinite_and_nan_numbers():
    assert F.softmax(tensor([1000.0, 1000.0]), 0).tolist() == [0.5, 0.5]
    assert F.softmax(tensor([-inf, 0.0]), 0).tolist() == [0, 1]
    assert F.log_softmax(tensor([-inf, 0.0]), 0).tolist() == [-inf, 0]
    for line in ([-inf, -inf], [0.0, nan], [0.0, inf]):
        assert any(map(math.isnan, F.softmax(tensor(line), 0).tolist()))


def test_softmax_chooses_a_dimension_only_with_a_warning():
    for ndim, dim in ((0, 0), (1, 0), (2, 1), (3, 0), (4, 1)):
        x = scalargrad.randn([2] * ndim)
        with pytest.warns(UserWarning, match=f"softmax..: no dim was given, so dimension {dim} of {ndim} was chosen"):
            y = F.softmax(x)
        assert y.tolist() == F.softmax(x, dim).tolist()


def test_softmax_casts_first_to_the_dtype_it_is_given():
    y = F.softmax(tensor([1, 2]), 0, dtype=scalargrad.float64)
    assert y.dtype == scalargrad.float64
    assert F.log_softmax(tensor([1, 2]), 0, dtype=scalargrad.float32).dtype == scalargrad.float32


@pytest.mark.parametrize(
    ("function", "formula"),
    [
        (F.relu, lambda a: max(a, 0)),
        (F.relu6, lambda a: min(max(a, 0), 6)),
        (F.leaky_relu, lambda a: a if a > 0 else 0.01 * a),
        (lambda x: F.elu(x, 1.5), lambda a: a if a > 0 else 1.5 * (math.exp(a) - 1)),
        (lambda x: F.softplus(x, 2.0), lambda a: math.log(1 + math.exp(2 * a)) / 2),
        (F.logsigmoid, lambda a: -math.log(1 + math.exp(-a))),
        (F.silu, lambda a: a / (1 + math.exp(-a))),
        (F.gelu, lambda a: a * (1 + math.erf(a / math.sqrt(2))) / 2),
        (
            lambda x: F.gelu(x, approximate="tanh"),
            lambda a: a * (1 + math.tanh(math.sqrt(2 / math.pi) * (a + 0.044715 * a**3))) / 2,
        ),
        (F.hardtanh, lambda a: min(max(a, -1), 1)),
        (lambda x: F.hardtanh(x, -0.5, 2.5), lambda a: min(max(a, -0.5), 2.5)),
        (lambda x: F.threshold(x, 0.6, 9), lambda a: a if a > 0.6 else 9),
        (F.softsign, lambda a: a / (1 + abs(a))),
        (F.tanh, math.tanh),
        (F.sigmoid, lambda a: 1 / (1 + math.exp(-a))),
    ],
)
def test_activations_are_their_formulas(function, formula):
    numbers = [-9.0, -2.5, -0.6, -1e-4, 0.0, 1e-4, 0.6, 2.5, 9.0]
    y = function(tensor(numbers, dtype=scalargrad.float64))
    assert y.tolist() == pytest.approx([formula(a) for a in numbers], rel=1e-9, abs=1e-12)


@pytest.mark.parametrize(
    ("function", "x", "slopes"),
    [
        (F.relu, [-1, 0, 2, nan], [0, 0, 1, 1]),
        (F.relu6, [-1, 0, 2, 6, 7], [0, 0, 1, 0, 0]),
        (F.hardtanh, [-2, -1, 0, 1, 2, nan], [0, 0, 1, 0, 0, 1]),
        (F.leaky_relu, [-1, 0, 2], [0.01, 0.01, 1]),
        (F.elu, [0, 3, -1000, 1000], [1, 1, 0, 1]),
        (lambda x: F.threshold(x, 1, 20), [0, 1, 2, nan], [0, 0, 1, 1]),
        (F.softplus, [-1000, 0, 1000], [0, 0.5, 1]),
        (F.logsigmoid, [-1000, 0, 1000], [1, 0.5, 0]),
        (F.silu, [-1000, 0, 1000], [0, 0.5, 1]),
        (F.gelu, [-1000, 0, 1000], [0, 0.5, 1]),
        (lambda x: F.gelu(x, approximate="tanh"), [-1000, 0, 1000], [0, 0.5, 1]),
    ],
)
def test_slopes_at_bends_far_out_and_at_nan(function, x, slopes):
    leaf = tensor([float(a) for a in x], requires_grad=True)
    assert gradient(function(leaf), leaf) == pytest.approx(slopes, abs=1e-6)


def test_elu_has_no_nan_in_its_second_derivative():
    x = tensor([-1.0, 1000.0], requires_grad=True)
    (g,) = autograd.grad(F.elu(x).sum(), x, create_graph=True)
    assert gradient(g, x) == pytest.approx([math.exp(-1), 0])


@pytest.mark.parametrize(
    "function",
    [F.relu, F.leaky_relu, F.elu, F.silu, F.hardtanh, F.relu6, lambda x, **o: F.threshold(x, 0.5, 2.0, **o)],
)
def test_in_place_gives_the_same_in_the_same_memory(function):
    x = scalargrad.randn(5, requires_grad=True)
    (expected,) = autograd.grad(function(x).sum(), x)
    y = x * 1
    memory = y.array
    z = function(y, inplace=True)
    assert z is y
    assert z.array is memory
    assert z.tolist() == function(x).tolist()
    assert autograd.grad(z.sum(), x)[0].tolist() == expected.tolist()


def test_relu_underscore_works_in_place_but_not_on_a_leaf():
    x = tensor([-1.0, 2.0])
    assert F.relu_(x) is x
    assert x.tolist() == [0, 2]
    with pytest.raises(RuntimeError, match="a leaf Variable that requires grad is being used in an in-place operation"):
        F.relu_(tensor([1.0], requires_grad=True))


def test_dropout_keeps_the_mean_and_lets_the_gradient_through_where_it_kept():
    x = ones(100, 100, requires_grad=True)
    y = F.dropout(x, 0.25)
    values, counts = np.unique(y.array, return_counts=True)
    assert values.tolist() == [0, np.float32(4 / 3)]
    assert counts[0] == pytest.approx(2500, abs=200)
    assert gradient(y, x) == y.tolist()
    assert F.dropout(x, 0.25, training=False) is x
    assert F.dropout(x, 0.0) is x
    assert F.dropout(tensor([inf, nan]), 1.0).tolist() == [0, 0]
    channels = F.dropout2d(ones(4, 50, 2, 2)).array.reshape(200, 4)
    assert {tuple(c) for c in channels.tolist()} == {(0,) * 4, (2,) * 4}


def test_dropout_is_decided_by_the_seed():
    x = ones(50)
    masks = [(scalargrad.manual_seed(seed), F.dropout(x).tolist())[1] for seed in (1, 1, 2)]
    assert masks[0] == masks[1] != masks[2]


def test_dropout_keeps_nothing_but_the_mask():
    (mask, scale) = F.dropout(ones(3, requires_grad=True)).grad_fn.saved
    assert mask.dtype == bool
    assert scale == 2.0


def test_batch_norm_moves_the_running_statistics_with_the_unbiased_variance():
    x = scalargrad.randn(4, 3, 5)
    mean, var = scalargrad.zeros(3), ones(3)
    y = F.batch_norm(x, mean, var, training=True, momentum=0.3)
    columns = x.array.transpose(1, 0, 2).reshape(3, -1).astype(float)
    assert np.allclose(mean.array, 0.3 * columns.mean(1), atol=1e-6)
    assert np.allclose(var.array, 0.7 + 0.3 * columns.var(1, ddof=1), atol=1e-6)
    normal = y.array.transpose(1, 0, 2).reshape(3, -1)
    assert np.allclose(normal.mean(1), 0, atol=1e-6)
    assert np.allclose(normal.var(1), 1, atol=1e-4)


def test_batch_norm_is_right_far_from_zero():
    x = scalargrad.randn(64, 2, 20, 20)
    far = x + 4096.0  # which float32 resolves to 0.0005
    mean, var = scalargrad.zeros(2), ones(2)
    F.batch_norm(far, mean, var, training=True, momentum=1.0)
    exact = far.array.astype(float).transpose(1, 0, 2, 3).reshape(2, -1)
    np.testing.assert_allclose(mean.array, exact.mean(1), rtol=1e-7)
    np.testing.assert_allclose(var.array, exact.var(1, ddof=1), rtol=1e-5)


def test_batch_norm_in_evaluation_is_not_changed_by_training_before_its_backward_pass():
    x, w = scalargrad.randn(4, 3), ones(3, requires_grad=True)
    mean, var = scalargrad.zeros(3), ones(3)
    expected = gradient(F.batch_norm(x, mean, var, w), w)
    y = F.batch_norm(x, mean, var, w)
    F.batch_norm(x + 100, mean, var, training=True)
    assert gradient(y, w) == expected


def test_layer_norm_and_group_norm_normalise_what_they_should():
    x = scalargrad.randn(3, 4, 5, 2) * 7 + 3
    for y, axes in ((F.layer_norm(x, (5, 2)), (2, 3)), (F.layer_norm(x, [4, 5, 2]), (1, 2, 3))):
        assert np.allclose(y.array.mean(axes), 0, atol=1e-5)
        assert np.allclose(y.array.var(axes), 1, atol=1e-4)
    groups = F.group_norm(x, 2).array.reshape(3, 2, 20)
    assert np.allclose(groups.mean(2), 0, atol=1e-5)
    assert np.allclose(groups.var(2), 1, atol=1e-4)


def test_ignored_labels_cost_nothing_and_get_no_gradient():
    x = tensor([[1.0, 2.0], [-inf, nan], [3.0, 1.0]], requires_grad=True)
    labels = tensor([0, -100, 1])
    expected = F.cross_entropy(tensor([[1.0, 2.0], [3.0, 1.0]]), tensor([0, 1])).item()
    for options in ({}, {"label_smoothing": 0.0}):
        loss = F.cross_entropy(x, labels, **options)
        assert loss.item() == pytest.approx(expected)
        assert loss.dtype == scalargrad.float32
        assert np.isfinite(gradient(loss, x)[::2]).all()
    log_p = tensor([[-1.0, -2.0], [-inf, nan]], requires_grad=True)
    assert gradient(F.nll_loss(log_p, tensor([1, 7]), ignore_index=7), log_p) == [[0, -1], [0, 0]]
    assert F.nll_loss(log_p, tensor([1, 7]), ignore_index=7, reduction="none").tolist() == [2, 0]
    assert F.nll_loss(log_p, tensor([0, 1]), ignore_index=1).item() == 1
    everything_ignored = F.nll_loss(log_p, tensor([-100, -100]))
    assert math.isnan(everything_ignored.item())
    assert gradient(everything_ignored, log_p) == [[0, 0], [0, 0]]


@pytest.mark.parametrize("dtype", ["int64", "int32", "uint8"])
def test_labels_may_be_of_any_integer_dtype(dtype):
    x = scalargrad.randn(3, 4)
    assert F.cross_entropy(x, tensor([0, 3, 1], dtype=dtype)).item() == F.cross_entropy(x, tensor([0, 3, 1])).item()


def test_cross_entropy_of_certain_probabilities_is_that_of_classes():
    x, labels = scalargrad.randn(5, 3, 2), tensor(np.arange(10).reshape(5, 2) % 3)
    p = F.one_hot(labels, 3).permute(0, 2, 1).float()
    for options in ({}, {"label_smoothing": 0.2}, {"reduction": "sum", "weight": tensor([0.5, 1.0, 2.0])}):
        assert F.cross_entropy(x, p, **options).item() == pytest.approx(F.cross_entropy(x, labels, **options).item())
    p.requires_grad = True
    F.cross_entropy(x, p).backward()
    assert np.allclose(p.grad.array, -F.log_softmax(x, 1).array / 10)


def test_losses_of_no_samples():
    scores, labels = ones(0, 3, requires_grad=True), tensor([], dtype=scalargrad.int64)
    assert math.isnan(F.cross_entropy(scores, labels).item())
    assert F.cross_entropy(scores, labels, reduction="sum").item() == 0
    assert math.isnan(F.mse_loss(ones(0, 3), ones(0, 3)).item())
    F.cross_entropy(scores, labels).backward()
    assert scores.grad.shape == (0, 3)


def test_losses_promote_to_the_wider_float():
    for loss in (F.mse_loss, F.l1_loss, F.huber_loss):
        x = ones(2, requires_grad=True)
        y = loss(x, tensor([0.0, 1.0], dtype=scalargrad.float64))
        assert y.dtype == scalargrad.float64
        y.backward()
        assert x.grad.dtype == scalargrad.float32
        assert loss(x, tensor([0, 1])).dtype == scalargrad.float32


def test_binary_cross_entropy_at_certainty():
    x = tensor([0.0, 1.0, 0.0, 1.0], requires_grad=True)
    t = tensor([0.0, 1.0, 1.0, 0.0])
    losses = F.binary_cross_entropy(x, t, reduction="none")
    assert losses.tolist() == [0, 0, 100, 100]
    assert gradient(losses, x) == pytest.approx([0, 0, -1e12, 1e12])
    logits = tensor([-1000.0, 1000.0, -1000.0, 1000.0], requires_grad=True)
    losses = F.binary_cross_entropy_with_logits(logits, t, reduction="none")
    assert losses.tolist() == [0, 0, 1000, 1000]
    assert gradient(losses, logits) == [0, 0, -1, 1]


def test_smooth_l1_with_no_beta_is_l1():
    x, t = tensor([1.0, 2.0, 5.0]), tensor([1.0, 0.0, 6.0])
    assert F.smooth_l1_loss(x, t, beta=0).item() == F.l1_loss(x, t).item() == 1
    assert F.huber_loss(x, t, delta=0.5).item() == pytest.approx(0.5 * F.smooth_l1_loss(x, t, beta=0.5).item())


def test_kl_div_of_a_distribution_and_itself_is_zero():
    p = F.softmax(scalargrad.randn(3, 4), 1)
    assert F.kl_div(p.log(), p, reduction="batchmean").item() == pytest.approx(0, abs=1e-6)
    assert F.kl_div(p.log(), p.log(), log_target=True).item() == pytest.approx(0, abs=1e-6)
    certain = tensor([[1.0, 0.0]])
    assert F.kl_div(tensor([[-1.0, -2.0]]), certain, reduction="batchmean").item() == 1


def test_embedding_adds_up_the_gradients_of_a_row_and_skips_padding():
    w = tensor(np.arange(8.0).reshape(4, 2), requires_grad=True)
    indices = tensor([[1, 3], [1, 0]])
    assert F.embedding(indices, w).tolist() == [[[2, 3], [6, 7]], [[2, 3], [0, 1]]]
    assert gradient(F.embedding(indices, w), w) == [[1, 1], [2, 2], [0, 0], [1, 1]]
    assert gradient(F.embedding(indices, w, padding_idx=-1), w) == [[1, 1], [2, 2], [0, 0], [0, 0]]
    assert F.embedding(tensor(np.zeros((0, 2), np.int64)), w).shape == (0, 2, 2)


def test_one_hot_counts_the_classes_if_nobody_says():
    assert F.one_hot(tensor([0, 2])).tolist() == [[1, 0, 0], [0, 0, 1]]
    assert F.one_hot(tensor([[1]]), 4).tolist() == [[[0, 1, 0, 0]]]
    assert F.one_hot(tensor(1)).dtype == scalargrad.int64


def test_pad_frames_crops_mirrors_repeats_and_goes_round():
    x = tensor([[1.0, 2.0, 3.0], [4.0, 5.0, 6.0]], requires_grad=True)
    assert F.pad(x, (1, 2)).tolist() == [[0, 1, 2, 3, 0, 0], [0, 4, 5, 6, 0, 0]]
    assert F.pad(x, (0, -1, 1, 0), value=9).tolist() == [[9, 9], [1, 2], [4, 5]]
    assert F.pad(x, (2, 1), "reflect").tolist() == [[3, 2, 1, 2, 3, 2], [6, 5, 4, 5, 6, 5]]
    assert F.pad(x, (2, 1, 0, 1), "replicate").tolist() == [[1, 1, 1, 2, 3, 3], [4, 4, 4, 5, 6, 6], [4, 4, 4, 5, 6, 6]]
    assert F.pad(x, (1, 0), "circular").tolist() == [[3, 1, 2, 3], [6, 4, 5, 6]]
    assert gradient(F.pad(x, (2, 1), "reflect"), x) == [[1, 3, 2], [1, 3, 2]]
    assert gradient(F.pad(x, (-1, 4)), x) == [[0, 1, 1], [0, 1, 1]]


def test_interpolate_takes_the_nearest():
    x = tensor([[[1.0, 2.0, 3.0]]], requires_grad=True)
    assert F.interpolate(x, scale_factor=2).tolist() == [[[1, 1, 2, 2, 3, 3]]]
    assert F.interpolate(x, 2).tolist() == [[[1, 2]]]
    assert F.interpolate(x, 2, mode="nearest-exact").tolist() == [[[1, 3]]]
    assert F.interpolate(x.reshape(1, 1, 1, 3), size=(2, 3)).tolist() == [[[[1, 2, 3], [1, 2, 3]]]]
    assert gradient(F.interpolate(x, 7), x) == [[[3, 2, 2]]]


def test_normalize_has_a_gradient_at_zero():
    x = tensor([[3.0, 4.0], [0.0, 0.0]], requires_grad=True)
    assert np.allclose(F.normalize(x).array, [[0.6, 0.8], [0, 0]])
    assert np.isfinite(gradient(F.normalize(x), x)).all()
    assert F.normalize(x, p=1.0).tolist()[0] == pytest.approx([3 / 7, 4 / 7])
    assert F.cosine_similarity(x, -2 * x).tolist() == pytest.approx([-1, 0])


def test_glu_gates_one_half_by_the_other():
    assert F.glu(tensor([3.0, 0.0])).tolist() == [1.5]
    assert F.softsign(tensor([-3.0, 1.0])).tolist() == [-0.75, 0.5]
    assert F.softmin(tensor([1.0, 2.0]), 0).tolist() == F.softmax(tensor([2.0, 1.0]), 0).tolist()


def test_the_graph_has_pytorchs_names():
    x = scalargrad.randn(2, 3, 6, 6, requires_grad=True)
    labels = tensor([1, 0])
    w = scalargrad.randn(4, 3, 3, 3, requires_grad=True)
    y = F.max_pool2d(F.conv2d(x, w), 2)
    assert graph(y) == ["MaxPool2DWithIndicesBackward", "ConvolutionBackward", "AccumulateGrad"]
    conv = y.grad_fn.next_functions[0][0]
    assert [node and node.name() for node, _ in conv.next_functions] == ["AccumulateGrad", "AccumulateGrad", None]
    scores = F.adaptive_avg_pool2d(x, 1).flatten(1)
    # log_softmax is a part of it
    assert graph(F.cross_entropy(scores, labels))[:2] == ["NllLossBackward", "ViewBackward"]
    assert graph(F.nll_loss(F.log_softmax(scores, 1), labels))[:2] == [
        "NllLossBackward", "LogSoftmaxBackward"
    ]  # fmt: skip
    assert graph(F.mse_loss(x, x.detach())) == ["MseLossBackward", "AccumulateGrad"]
    assert [node and node.name() for node, _ in F.mse_loss(x.detach(), x).grad_fn.next_functions] == [
        None, "AccumulateGrad"
    ]  # fmt: skip
    for y, name in (
        (F.relu(x), "ReluBackward"),
        (F.leaky_relu(x), "LeakyReluBackward"),
        (F.elu(x), "EluBackward"),
        (F.gelu(x), "GeluBackward"),
        (F.silu(x), "SiluBackward"),
        (F.softplus(x), "SoftplusBackward"),
        (F.hardtanh(x), "HardtanhBackward"),
        (F.threshold(x, 0, 0), "ThresholdBackward"),
        (F.softmax(x, 1), "SoftmaxBackward"),
        (F.avg_pool2d(x, 2), "AvgPool2DBackward"),
        (F.adaptive_avg_pool2d(x, 4), "AdaptiveAvgPool2DBackward"),
        (F.adaptive_max_pool2d(x, 4), "AdaptiveMaxPool2DBackward"),
        (F.batch_norm(x, None, None, training=True), "NativeBatchNormBackward"),
        (F.layer_norm(x, (6,)), "NativeLayerNormBackward"),
        (F.smooth_l1_loss(x, x * 2), "SmoothL1LossBackward"),
        (F.huber_loss(x, x * 2), "HuberLossBackward"),
        (F.embedding(labels, w[0, 0]), "EmbeddingBackward"),
    ):
        assert graph(y)[0] == name
    p = F.sigmoid(x)
    assert graph(F.binary_cross_entropy(p, p.detach()))[:2] == ["BinaryCrossEntropyBackward", "SigmoidBackward"]
    assert graph(F.binary_cross_entropy_with_logits(x, p.detach()))[0] == "BinaryCrossEntropyWithLogitsBackward"
