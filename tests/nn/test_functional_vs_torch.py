"""torch.nn.functional against PyTorch itself, where it is installed: results, gradients and their gradients."""

import itertools

import numpy as np
import pytest

import scalargrad

torch = pytest.importorskip("torch")
LIBRARIES = (scalargrad, torch)

# PyTorch warns of its own plans: about even kernels under padding="same", and about kl_div's "mean".
pytestmark = [
    pytest.mark.filterwarnings("ignore:Using padding='same'"),
    pytest.mark.filterwarnings("ignore:reduction. 'mean' divides"),
]


@pytest.fixture(scope="module", autouse=True)
def _pytorch_finds_its_environment_set(tmp_path_factory):
    """PyTorch writes this variable when it first needs it, which would look like a leak of the test at hand."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("TORCHINDUCTOR_CACHE_DIR", str(tmp_path_factory.mktemp("torch")))
        yield


def products(**options):
    """Every combination of the options, as a list of dicts."""
    return [dict(zip(options, values, strict=True)) for values in itertools.product(*options.values())]


def numbers(*shape, low=-2.0, high=2.0, seed=0):
    return np.random.default_rng([seed, *shape]).uniform(low, high, shape)


def tied(*shape, seed=0):
    """Few numbers, so that ties are many."""
    return np.random.default_rng([seed, *shape]).integers(-2, 3, shape).astype(float)


def fixed(library, shape, seed):
    return library.tensor(numbers(*shape, seed=seed).tolist(), dtype=library.float64).reshape(shape)


def results(library, function, arrays, twice):
    """The value of `function(F, *leaves)`, its gradients along a fixed direction, and the gradients of these."""
    leaves = [library.tensor(x.tolist(), dtype=library.float64).reshape(x.shape) for x in arrays]
    for leaf in leaves:
        leaf.requires_grad = True
    y = function(library.nn.functional, *leaves)
    y, *others = y if isinstance(y, tuple) else (y,)
    grads = library.autograd.grad(y, leaves, fixed(library, y.shape, 1), create_graph=twice)
    found = [y, *others, *grads]
    if twice:
        total = sum((g * fixed(library, g.shape, 2)).sum() for g in grads)
        if total.requires_grad:
            found += library.autograd.grad(total, leaves, materialize_grads=True)
        else:
            found += [library.zeros(x.shape) for x in arrays]
    # Added to zeros, because PyTorch has gradients without memory.
    return [np.array((library.zeros(x.shape) + x.detach()).tolist()).reshape(tuple(x.shape)) for x in found]


def assert_agrees(function, *arrays, twice=True, rtol=1e-9):
    ours, theirs = (results(library, function, arrays, twice) for library in LIBRARIES)
    for a, b in zip(ours, theirs, strict=True):
        np.testing.assert_allclose(a, b, rtol=rtol, atol=1e-10)


def ints(F, array):
    """An integer tensor of the library that F belongs to."""
    return (scalargrad if F is scalargrad.nn.functional else torch).tensor(np.asarray(array).tolist())


def floats(F, array):
    library = scalargrad if F is scalargrad.nn.functional else torch
    return library.tensor(np.asarray(array).tolist(), dtype=library.float64)


@pytest.mark.parametrize("groups", [1, 2])
@pytest.mark.parametrize(
    "options",
    [
        {},
        *products(stride=[1, (2, 3)], padding=[0, (2, 1)], dilation=[1, (1, 2)]),
        {"padding": "same"},
        {"padding": "same", "dilation": (1, 2)},
        {"padding": "valid", "stride": 2},
    ],
)
def test_conv2d(options, groups):
    arrays = numbers(2, 4, 7, 8), numbers(6, 4 // groups, 3, 2), numbers(6)
    assert_agrees(lambda F, x, w, b: F.conv2d(x, w, b, groups=groups, **options), *arrays)
    assert_agrees(lambda F, x, w: F.conv2d(x[0], w, groups=groups, **options), *arrays[:2])


@pytest.mark.parametrize("groups", [1, 2])
@pytest.mark.parametrize(
    "options",
    [
        *products(stride=[1, 2, (3,)], padding=[0, (2,)], dilation=[1, 2]),
        {"padding": "same", "dilation": 3},
        {"padding": "valid", "stride": 2},
    ],
)
def test_conv1d(options, groups):
    arrays = numbers(2, 4, 9), numbers(6, 4 // groups, 2), numbers(6)
    assert_agrees(lambda F, x, w, b: F.conv1d(x, w, b, groups=groups, **options), *arrays)
    assert_agrees(lambda F, x, w: F.conv1d(x[0], w, groups=groups, **options), *arrays[:2])


@pytest.mark.parametrize("groups", [1, 2])
@pytest.mark.parametrize(
    "options",
    [
        *products(stride=[1, (2, 3)], padding=[0, (2, 1)], dilation=[1, (1, 2)]),
        {"stride": (2, 3), "output_padding": (1, 2)},
        {"stride": (3, 1), "dilation": (1, 4), "output_padding": (2, 3), "padding": (1, 3)},
    ],
)
def test_conv_transpose2d(options, groups):
    arrays = numbers(2, 4, 5, 4), numbers(4, 6 // groups, 3, 2), numbers(6)
    assert_agrees(lambda F, x, w, b: F.conv_transpose2d(x, w, b, groups=groups, **options), *arrays)
    assert_agrees(lambda F, x, w: F.conv_transpose2d(x[0], w, groups=groups, **options), *arrays[:2])


@pytest.mark.parametrize("groups", [1, 3])
@pytest.mark.parametrize(
    "options",
    [
        *products(stride=[1, (2,)], padding=[0, 2], dilation=[1, (3,)]),
        {"stride": 2, "dilation": 3, "output_padding": 2},
        {"stride": 3, "output_padding": (2,), "padding": 1},
    ],
)
def test_conv_transpose1d(options, groups):
    arrays = numbers(2, 3, 6), numbers(3, 6 // groups, 4), numbers(6)
    assert_agrees(lambda F, x, w, b: F.conv_transpose1d(x, w, b, groups=groups, **options), *arrays)
    assert_agrees(lambda F, x, w: F.conv_transpose1d(x[0], w, groups=groups, **options), *arrays[:2])


@pytest.mark.parametrize("make", [numbers, tied])
@pytest.mark.parametrize(
    ("kernel_size", "options"),
    [
        *itertools.product(
            [2, (3, 2)], products(stride=[None, (2, 1)], padding=[0, 1], dilation=[1, (2, 1)], ceil_mode=[False, True])
        ),
        (3, {"stride": 3, "ceil_mode": True}),
    ],
)
def test_max_pool2d(kernel_size, options, make):
    x = make(2, 2, 7, 6)
    assert_agrees(lambda F, x: F.max_pool2d(x, kernel_size, return_indices=True, **options), x)
    assert_agrees(lambda F, x: F.max_pool2d(x[1], kernel_size, **options), x)


@pytest.mark.parametrize(
    ("kernel_size", "options"),
    [
        *itertools.product(
            [2, (3, 4)],
            products(
                stride=[None, (2, 1)],
                padding=[0, 1],
                ceil_mode=[False, True],
                count_include_pad=[False, True],
                divisor_override=[None, 5],
            ),
        )
    ],
)
def test_avg_pool2d(kernel_size, options):
    assert_agrees(lambda F, x: F.avg_pool2d(x, kernel_size, **options), numbers(2, 2, 7, 6))


@pytest.mark.parametrize("output_size", [1, 3, (7, 6), (None, 4), (5, None), (9, 2), (2, 13)])
def test_adaptive_pooling(output_size):
    assert_agrees(lambda F, x: F.adaptive_avg_pool2d(x, output_size), numbers(2, 2, 7, 6))
    assert_agrees(lambda F, x: F.adaptive_avg_pool2d(x[0], output_size), numbers(2, 2, 7, 6))
    assert_agrees(lambda F, x: F.adaptive_max_pool2d(x, output_size, return_indices=True), tied(2, 2, 7, 6))


@pytest.mark.parametrize(
    "function",
    [
        lambda F, x: F.relu(x),
        lambda F, x: F.relu6(3 * x),
        lambda F, x: F.leaky_relu(x, 0.2),
        lambda F, x: F.elu(x, 1.5),
        lambda F, x: F.silu(x),
        lambda F, x: F.gelu(x),
        lambda F, x: F.gelu(x, approximate="tanh"),
        lambda F, x: F.softplus(x),
        lambda F, x: F.softplus(x, 3.0, 2.0),
        lambda F, x: F.logsigmoid(x),
        lambda F, x: F.softsign(x),
        lambda F, x: F.hardtanh(x, -0.5, 1.5),
        lambda F, x: F.threshold(x, 0.5, -3.0),
        lambda F, x: F.glu(x, 1),
        lambda F, x: F.softmax(x, 0),
        lambda F, x: F.softmax(x, -1),
        lambda F, x: F.log_softmax(x, 1),
        lambda F, x: F.softmin(x, 1),
        lambda F, x: F.normalize(x),
        lambda F, x: F.normalize(x, p=3.0, dim=0),
        lambda F, x: F.cosine_similarity(x, x.flip(1)),
    ],
)
def test_activations(function):
    assert_agrees(function, numbers(3, 4, 2))


@pytest.mark.parametrize("x", [[0.0], [-1.0, 1.0, 0.5, 6.0], [20.0, -20.0, 50.0, -800.0, 800.0]])
@pytest.mark.parametrize(
    "name", ["relu", "relu6", "leaky_relu", "elu", "silu", "gelu", "softplus", "logsigmoid", "hardtanh", "softsign"]
)
def test_activations_at_bends_and_far_out(name, x):
    assert_agrees(lambda F, x: getattr(F, name)(x), np.array(x), twice=False)


@pytest.mark.parametrize("training", [True, False])
@pytest.mark.parametrize("shape", [(4, 3), (4, 3, 5), (2, 3, 4, 2)])
@pytest.mark.parametrize("affine", [True, False])
def test_batch_norm(shape, training, affine):
    def function(F, x, *affine):
        mean, var = floats(F, [0.1, 0.2, 0.3]), floats(F, [1.1, 1.2, 1.3])
        y = F.batch_norm(x, mean, var, *affine, training=training, momentum=0.3, eps=1e-3)
        return y, mean, var

    arrays = (numbers(*shape), numbers(3), numbers(3, seed=1)) if affine else (numbers(*shape),)
    assert_agrees(function, *arrays)


def test_layer_norm_and_group_norm():
    x = numbers(2, 6, 3, 4)
    for shape in ((4,), (3, 4), (6, 3, 4)):
        assert_agrees(lambda F, x, w, b, s=shape: F.layer_norm(x, s, w, b), x, numbers(*shape), numbers(*shape, seed=1))
        assert_agrees(lambda F, x, s=shape: F.layer_norm(x, s, eps=0.1), x)
    for groups in (1, 3, 6):
        assert_agrees(lambda F, x, w, b, n=groups: F.group_norm(x, n, w, b), x, numbers(6), numbers(6, seed=1))


REDUCTIONS = ["none", "mean", "sum"]


@pytest.mark.parametrize("reduction", REDUCTIONS)
@pytest.mark.parametrize(
    ("name", "options"),
    [
        ("mse_loss", {}),
        ("l1_loss", {}),
        ("smooth_l1_loss", {}),
        ("smooth_l1_loss", {"beta": 0.3}),
        ("smooth_l1_loss", {"beta": 0}),
        ("huber_loss", {"delta": 0.7}),
        ("kl_div", {"log_target": True}),
    ],
)
def test_distances(name, options, reduction):
    for make in (numbers, tied):
        x, t = make(3, 4), make(3, 4, seed=1)
        smooth = make is numbers and not (name == "smooth_l1_loss" and options.get("beta") == 0)
        assert_agrees(lambda F, x, t: getattr(F, name)(x, t, reduction=reduction, **options), x, t, twice=smooth)


@pytest.mark.parametrize("reduction", REDUCTIONS)
@pytest.mark.parametrize("weighted", [False, True])
def test_binary_cross_entropies(reduction, weighted):
    x, logits, t = (
        numbers(3, 4, low=0.05, high=0.95),
        numbers(3, 4, low=-30, high=30),
        numbers(3, 4, low=0.05, high=0.95),
    )
    weight, pos_weight = (numbers(3, 4, low=0.1, seed=3), numbers(4, low=0.1)) if weighted else (None, None)

    def given(F, x):
        return None if x is None else floats(F, x)

    assert_agrees(
        lambda F, x, t: F.binary_cross_entropy(x, t, given(F, weight), reduction=reduction), x, t, twice=False
    )
    assert_agrees(lambda F, x: F.binary_cross_entropy(x, floats(F, t), given(F, weight), reduction=reduction), x)
    for z in (logits, numbers(3, 4)):
        assert_agrees(
            lambda F, x, t: F.binary_cross_entropy_with_logits(
                x, t, given(F, weight), reduction=reduction, pos_weight=given(F, pos_weight)
            ),
            z,
            t,
        )
    edges = np.array([0.0, 1.0, 0.0, 1.0, 1e-30])
    assert_agrees(  # the least divisor of the gradient is 1e-12 in single precision there
        lambda F, x: F.binary_cross_entropy(x, floats(F, [0, 1, 1, 0, 0.5]), reduction=reduction),
        edges,
        twice=False,
        rtol=1e-7,
    )
    assert_agrees(lambda F, x: F.kl_div(x, floats(F, t), reduction=reduction), logits, twice=False)


@pytest.mark.parametrize("reduction", REDUCTIONS)
@pytest.mark.parametrize("weighted", [False, True])
@pytest.mark.parametrize("label_smoothing", [0.0, 0.2])
@pytest.mark.parametrize("shape", [(5,), (4, 5), (3, 5, 2), (2, 5, 3, 2)])
def test_cross_entropy(shape, label_smoothing, weighted, reduction):
    x = numbers(*shape)
    C = 5
    weight = numbers(C, low=0.1, high=2) if weighted else None
    sizes = shape[:1] + shape[2:] if len(shape) > 1 else ()
    labels = np.random.default_rng(0).integers(0, C, sizes)
    options = {"reduction": reduction, "label_smoothing": label_smoothing}

    def loss(F, x, target, **more):
        return F.cross_entropy(x, target, None if weight is None else floats(F, weight), **options, **more)

    assert_agrees(lambda F, x: loss(F, x, ints(F, labels)), x)
    if len(shape) > 1:
        some_ignored = np.where(np.arange(labels.size).reshape(sizes) % 3 == 1, -100, labels)
        assert_agrees(lambda F, x: loss(F, x, ints(F, some_ignored)), x)
        assert_agrees(lambda F, x: loss(F, x, ints(F, labels), ignore_index=int(labels.flat[0])), x)
    p = numbers(*shape, low=0, high=1, seed=1)
    assert_agrees(lambda F, x, p: loss(F, x, p), x, p)


@pytest.mark.parametrize("reduction", REDUCTIONS)
@pytest.mark.parametrize("shape", [(5,), (4, 5), (3, 5, 2), (2, 5, 3, 2)])
def test_nll_loss(shape, reduction):
    labels = np.random.default_rng(0).integers(0, 5, shape[:1] + shape[2:] if len(shape) > 1 else ())
    weight = numbers(5, low=0.1, high=2)
    assert_agrees(lambda F, x: F.nll_loss(x, ints(F, labels), floats(F, weight), reduction=reduction), numbers(*shape))
    assert_agrees(lambda F, x: F.nll_loss(x, ints(F, labels), ignore_index=2, reduction=reduction), numbers(*shape))


@pytest.mark.parametrize("padding_idx", [None, 2, -1])
def test_embedding(padding_idx):
    indices = [[0, 2, 2], [3, 0, 2]]
    assert_agrees(lambda F, w: F.embedding(ints(F, indices), w, padding_idx), numbers(4, 3))
    assert_agrees(lambda F, w: F.embedding(ints(F, indices), w * w, padding_idx), numbers(4, 3))


@pytest.mark.parametrize(
    ("pad", "mode"),
    [
        ((1, 2), "constant"), ((-1, 2, 3, -2), "constant"), ((1, 2, 0, 0, 1, 0), "constant"),
        ((2, 1, 1, 2), "reflect"), ((2, 1, 5, 2), "replicate"), ((2, 1, 1, 2), "circular"),
        ((-1, 2, 1, -1), "reflect"), ((-1, 2, 1, -1), "replicate"),
    ],
)  # fmt: skip
def test_pad(pad, mode):
    assert_agrees(lambda F, x: F.pad(x, pad, mode), numbers(2, 2, 4, 5))


@pytest.mark.parametrize("mode", ["nearest", "nearest-exact"])
@pytest.mark.parametrize("options", [{"size": 3}, {"size": (7, 11)}, {"scale_factor": 2}, {"scale_factor": (1.5, 0.7)}])
def test_interpolate(options, mode):
    assert_agrees(lambda F, x: F.interpolate(x, mode=mode, **options), numbers(2, 2, 4, 5))


@pytest.mark.parametrize(
    "loss",
    [
        lambda F, x, labels: F.cross_entropy(x, labels),
        lambda F, x, labels: F.nll_loss(F.log_softmax(x, 1), labels),
        lambda F, x, labels: F.mse_loss(F.relu(F.max_pool2d(x[:, None, None, :], (1, 2))), 0 * x[:, None, None, ::2]),
    ],
)
def test_gradients_agree_in_float32(loss):
    grads = []
    for library in LIBRARIES:
        x = library.tensor(numbers(8, 10).tolist(), requires_grad=True)
        loss(library.nn.functional, x, library.tensor(list(range(8)))).backward()
        assert x.grad.dtype == library.float32
        grads.append(np.array(x.grad.tolist()))
    np.testing.assert_allclose(*grads, rtol=1e-5, atol=1e-7)
