"""What test_table.py calls every row of the table with: operands drawn for it, or what its line in CASES says."""

import math
import zlib

import numpy as np
import pytest

from scalargrad.operation import TABLE
from scalargrad.ops.normalization import statistics
from scalargrad.ops.subscript import Region


class Draw:
    """Random operands, the same for the same name."""

    def __init__(self, name):
        self.rng = np.random.default_rng(zlib.crc32(name.encode()))

    def real(self, *shape):
        return np.asarray(self.rng.uniform(-2, 2, shape))

    def between(self, low, high, *shape):
        return np.asarray(self.rng.uniform(low, high, shape))

    def apart(self, *shape):
        """Numbers that differ by 0.1 at least and are not near 0: a step crosses no kink and turns no order around."""
        n = math.prod(shape)
        return self.rng.permutation((np.arange(n) - n // 2 + 0.5) * 0.1).reshape(shape)

    def index(self, high, *shape):
        return self.rng.integers(0, high, shape)

    def mask(self, *shape):
        return self.rng.random(shape) < 0.5


def winners(name, x, *geometry):
    """The integers that a pooling gives beside its result."""
    return TABLE[name].array(x, *geometry)[1]


def with_statistics(d, *before):
    x = d.real(3, 4, 2)
    mean, _, rate = statistics(x, (0, 2), 0.01)
    return [*(part(d) for part in before), x, mean, rate, (0, 2)]


POOL = ((2, 3), (2, 1), (1, 1), (1, 1))
MEANS = ((2, 3), (2, 1), (1, 1), True, False, None)
CONV = ((2, 1), (1, 2), (1, 2), 2)
IMAGES = (2, 2, 5, 6)
LABELS = np.array([[1, 0, 2], [-100, 2, 2]])
INDICES = np.array([[0, 3, 1], [3, 3, 0]])


def labels_of(d):
    return TABLE["nll_loss"].array(d.real(2, 3, 3), LABELS, None, -100, "mean", 0.0)[1]


def with_log_p(d, reduction, shape):
    x, weight = d.real(4, 3), d.between(0.5, 2, 3)
    labelling = weight, -100, reduction, 0.3
    _, log_p, classes, _, total = TABLE["cross_entropy"].array(x, np.array([1, 0, -100, 2]), *labelling)
    return [d.real(*shape), x, log_p, classes, *labelling, total]


# What a row is called with, in cases. Float arrays at inputs that have a derivative are differentiated; all else is
# passed as it is. A case is drawn from the shape of the answer, so none needs to be thrown away.
CASES = {
    "cast": lambda d: [[d.real(2, 3), np.dtype(np.float64)]],
    "clone": lambda d: [[d.real(2, 3)], [d.real()]],
    "contiguous": lambda d: [[d.real(2, 3)]],
    "fill": lambda d: [[d.real(2, 3), d.real()]],
    "copy": lambda d: [[d.real(2, 3), d.real(3)], [d.real(2, 3), d.real(2, 1)]],
    "view": lambda d: [[d.real(2, 6), (3, 4)], [d.real(4), (2, 1, 2)], [d.real(1), ()]],
    "squeeze": lambda d: [[d.real(1, 3, 1), (0,)], [d.real(1, 3, 1), (0, 2)]],
    "unsqueeze": lambda d: [[d.real(2, 3), 1]],
    "permute": lambda d: [[d.real(2, 3, 4), (2, 0, 1)]],
    "transpose": lambda d: [[d.real(2, 3, 4), 0, 2]],
    "t": lambda d: [[d.real(2, 3)]],
    "expand": lambda d: [[d.real(3, 1), (2, 3, 4)], [d.real(), (2,)], [d.real(2, 3), (2, 3)]],
    "sum_to_size": lambda d: [[d.real(2, 3, 4), (3, 1)], [d.real(2, 3), ()]],
    "crop": lambda d: [[d.real(4, 5), (1, 0), (1, 2)]],
    "pad": lambda d: [[d.real(2, 3), (1, 0), (0, 2), 5.0]],
    "cat": lambda d: [[1, d.real(2, 3), d.real(2, 1), d.real(2, 2)], [0, d.real(2)]],
    "stack": lambda d: [[1, d.real(2, 3), d.real(2, 3)], [0, d.real(), d.real(), d.real()]],
    "as_strided": lambda d: [
        [d.real(3, 4), (2, 3), (4, 1), 1],
        [d.real(5), (3, 3), (1, 1), 0],
        [d.real(4), (2, 2), (0, 1), 1],
    ],
    "strided_sum": lambda d: [[d.real(2, 3), (3, 4), (2, 3), (4, 1), 1], [d.real(2, 2), (4,), (2, 2), (0, 1), 1]],
    "as_strided_scatter": lambda d: [[d.real(3, 4), d.real(2, 3), (2, 3), (4, 1), 1]],
    "isnan": lambda d: [[d.real(3)]],
    "isinf": lambda d: [[d.real(3)]],
    "isfinite": lambda d: [[d.real(3)]],
    "isclose": lambda d: [[d.real(3), d.real(3), 1e-5, 1e-8, False]],
    "logical_and": lambda d: [[d.mask(4), d.mask(4)]],
    "logical_or": lambda d: [[d.mask(4), d.mask(4)]],
    "logical_xor": lambda d: [[d.mask(4), d.mask(4)]],
    "bitwise_and": lambda d: [[d.index(9, 4), d.index(9, 4)]],
    "bitwise_or": lambda d: [[d.index(9, 4), d.index(9, 4)]],
    "bitwise_xor": lambda d: [[d.index(9, 4), d.index(9, 4)]],
    "bitwise_not": lambda d: [[d.index(9, 4)]],
    "clamp": lambda d: [[d.apart(3, 4), -0.3, 0.3], [d.apart(3), None, 0.0], [d.apart(3), 0.0, None]],
    "between": lambda d: [[d.apart(3, 4), -0.3, 0.3]],
    "slice": lambda d: [[d.real(4, 5), (slice(1, 4, 2), None, 2)]],
    "pick": lambda d: [[d.real(4, 5), (1,)]],
    "unslice": lambda d: [[d.real(2, 3), (4, 3), (slice(1, 3),)]],
    "index": lambda d: [[d.real(4, 3), (np.array([1, 3, 1]),)]],
    "unpick": lambda d: [[d.real(3, 3), (4, 3), (np.array([1, 3, 1]),)]],
    "put": lambda d: [
        [d.real(4, 3), d.real(2, 3), Region((slice(1, 3),), None), False],
        [d.real(4, 3), d.real(3), Region(None, (np.array([0, 2]),)), False],
        [d.real(4, 3), d.real(2, 3), Region(None, (np.array([1, 1]),)), True],
    ],
    "where": lambda d: [[d.mask(2, 3), d.real(2, 3), d.real(3)], [d.mask(2, 3), d.real(), d.real(2, 1)]],
    "masked_fill": lambda d: [[d.real(2, 3), d.mask(2, 3), d.real()]],
    "gather": lambda d: [[d.real(4, 3), 0, d.index(4, 2, 3)]],
    "scatter": lambda d: [[d.real(4, 3), 0, np.array([[0, 1, 2], [3, 2, 0]]), d.real(2, 3)]],
    "scatter_add": lambda d: [
        [d.real(4, 3), 0, d.index(4, 2, 3), d.real(2, 3)],
        [d.real(4, 3), 1, d.index(3, 4, 2), d.real(4, 3)],
    ],
    "index_select": lambda d: [[d.real(4, 3), 0, np.array([2, 0, 2])]],
    "index_add": lambda d: [[d.real(4, 3), 0, np.array([2, 0, 2]), d.real(3, 3), 1.5]],
    "nonzero": lambda d: [[d.mask(3, 4)]],
    "tril": lambda d: [[d.real(3, 4), 1], [d.real(2, 3, 3), -1]],
    "triu": lambda d: [[d.real(3, 4), 1], [d.real(2, 3, 3), -1]],
    "diagonal": lambda d: [[d.real(3, 4, 2), 1, 0, 1]],
    "undiagonal": lambda d: [[d.real(2, 3), (3, 4, 2), 1, 0, 1]],
    "flip": lambda d: [[d.real(2, 3), (1,)], [d.real(2, 3), (0, 1)]],
    "roll": lambda d: [[d.real(3, 4), (2,), (1,)], [d.real(3, 4), (1, -1), (0, 1)]],
    "softmax": lambda d: [[d.real(2, 3, 4), 1]],
    "softmax_grad": lambda d: [[d.real(2, 3), d.real(2, 3), 1]],
    "log_softmax": lambda d: [[d.real(2, 3, 4), 1]],
    "log_softmax_grad": lambda d: [[d.real(2, 3), d.real(2, 3), 1]],
    "leaky_relu": lambda d: [[d.apart(3, 4), 0.1]],
    "elu": lambda d: [[d.apart(3, 4), 1.3]],
    "softplus": lambda d: [[d.apart(3, 4), 2.0, 1.0]],
    "log_sigmoid": lambda d: [[d.real(3, 4)]],
    "silu": lambda d: [[d.real(3, 4)]],
    "hardtanh": lambda d: [[d.apart(3, 4), -0.3, 0.4]],
    "threshold": lambda d: [[d.apart(3, 4), 0.2, -4.0]],
    "dropout": lambda d: [[d.real(3, 4), d.mask(3, 4), 1.5]],
    "gelu": lambda d: [[d.real(3, 4)]],
    "gelu_tanh": lambda d: [[d.real(3, 4)]],
    "sum": lambda d: [[d.real(2, 3, 4), (0, 2), False], [d.real(2, 3), None, False], [d.real(2, 3), (1,), True]],
    "mean": lambda d: [[d.real(2, 3, 4), (0, 2), False], [d.real(2, 3), None, False], [d.real(2, 3), (1,), True]],
    "spread": lambda d: [
        [d.real(3), (2, 3, 4), (0, 2), False],
        [d.real(2, 1), (2, 3), (1,), True],
        [d.real(), (2, 3), None, False],
    ],
    "mm": lambda d: [[d.real(2, 3), d.real(3, 4)]],
    "bmm": lambda d: [[d.real(2, 3, 4), d.real(2, 4, 2)], [d.real(5, 1, 2, 3), d.real(2, 3, 2)]],
    "mv": lambda d: [[d.real(2, 3), d.real(3)]],
    "vm": lambda d: [[d.real(2), d.real(2, 3)]],
    "dot": lambda d: [[d.real(3), d.real(3)]],
    "addmm": lambda d: [
        [d.real(4), d.real(2, 3), d.real(3, 4), 0.5, 2.0],
        [d.real(2, 1), d.real(2, 3), d.real(3, 4), 1, 1],
    ],
    "linear": lambda d: [[d.real(4), d.real(2, 3), d.real(4, 3)]],
    "linear_without_bias": lambda d: [[d.real(2, 3), d.real(4, 3)]],
    "linear_input_grad": lambda d: [[d.real(2, 4), d.real(4, 3)]],
    "linear_weight_grad": lambda d: [[d.real(2, 4), d.real(2, 3)]],
    "amax": lambda d: [[d.apart(3, 4), (1,), False], [d.apart(3, 4), None, True]],
    "amin": lambda d: [[d.apart(3, 4), (1,), False], [d.apart(3, 4), None, True]],
    "max": lambda d: [[d.apart(3, 4), None, False]],
    "min": lambda d: [[d.apart(3, 4), None, False]],
    "median": lambda d: [[d.apart(3, 4)]],
    "attains": lambda d: [[d.real(2, 3), d.real(2), (1,), False]],
    "argmax": lambda d: [[d.apart(3, 4), 1, False], [d.apart(3, 4), None, False]],
    "argmin": lambda d: [[d.apart(3, 4), 1, True]],
    "argmedian": lambda d: [[d.apart(3, 5), 1, False]],
    "max_dim": lambda d: [[d.apart(3, 4), d.index(4, 3), 1, False]],
    "min_dim": lambda d: [[d.apart(3, 4), d.index(4, 3, 1), 1, True]],
    "median_dim": lambda d: [[d.apart(3, 4), d.index(3, 4), 0, False]],
    "entries": lambda d: [[d.apart(3, 4), d.index(4, 3), 1, False]],
    "place": lambda d: [[d.real(3), d.index(4, 3), (3, 4), 1, False]],
    "sort": lambda d: [[d.real(2, 3), np.array([[2, 0, 1], [1, 0, 2]]), 1, True]],
    "topk": lambda d: [[d.real(2, 3), np.array([[2, 0], [1, 0]]), 1, True]],
    "argsort": lambda d: [[d.apart(3, 4), 1, True]],
    "argtopk": lambda d: [[d.apart(3, 4), 2, 1, True]],
    "alongside": lambda d: [[d.real(3), d.index(4, 2)]],
    "cumsum": lambda d: [[d.real(3, 4), 1, False], [d.real(3, 4), 0, True]],
    "cumprod": lambda d: [[d.real(3, 4), 1, False], [d.real(3, 4), 0, True]],
    "shifted": lambda d: [[d.real(3, 4), 1, False, 1.0], [d.real(3, 4), 0, True, 0.0], [d.real(1), 0, False, 2.0]],
    "recur": lambda d: [[d.real(3, 4), d.real(3, 4), 1, False], [d.real(3, 4), d.real(3, 4), 0, True]],
    "prod": lambda d: [
        [d.real(2, 3), (1,), False],
        [d.real(2, 3), None, False],
        [np.array([[0.0, 2.0, 3.0], [0.0, 0.0, 1.0]]), (1,), True],
    ],
    "var": lambda d: [[d.real(2, 3, 4), (0, 2), 1, False], [d.real(3), None, 0, True]],
    "std": lambda d: [[d.real(2, 3, 4), (0, 2), 1, False], [d.real(3), None, 0, True]],
    "norm": lambda d: [[d.apart(2, 3) * 5 + 0.13, p, (1,), False] for p in (1.0, 2.0, 3.0, -1.0, math.inf, -math.inf)],
    "logsumexp": lambda d: [[d.real(2, 3), (1,), False], [d.real(2, 3), None, True]],
    "all": lambda d: [[d.mask(2, 3), (1,), False]],
    "any": lambda d: [[d.mask(2, 3), (1,), True]],
    "count_nonzero": lambda d: [[d.mask(2, 3), (1,)]],
    "cross_entropy": lambda d: [
        [d.real(4, 3), np.array([1, 0, -100, 2]), weight, -100, how, smoothing]
        for how, weight, smoothing in (("mean", d.between(0.5, 2, 3), 0.3), ("sum", None, 0.0), ("none", None, 0.2))
    ],
    "cross_entropy_grad": lambda d: [with_log_p(d, "mean", ()), with_log_p(d, "none", (4,))],
    "nll_loss": lambda d: [
        [d.real(2, 3, 3), LABELS, d.between(0.5, 2, 3), -100, how, 0.3] for how in ("mean", "sum", "none")
    ],
    "nll_loss_grad": lambda d: [[d.real(2, 3), labels_of(d), d.between(0.5, 2, 3), "none", 0.3, (2, 3, 3)]],
    "nll_loss_of_labels": lambda d: [[d.real(2, 3, 3), labels_of(d), d.between(0.5, 2, 3), "mean", 0.3]],
    "conv2d": lambda d: [[d.real(2, 4, 5, 6), d.real(6, 2, 3, 2), d.real(6), *CONV]],
    "sum_by_channel": lambda d: [[d.real(2, 3, 2, 4)]],
    "conv2d_input_grad": lambda d: [[d.real(2, 6, 3, 8), d.real(6, 2, 3, 2), (2, 4, 5, 6), *CONV]],
    "conv2d_weight_grad": lambda d: [[d.real(2, 6, 3, 8), d.real(2, 4, 5, 6), (6, 2, 3, 2), *CONV]],
    "conv_transpose2d": lambda d: [[d.real(2, 6, 3, 8), d.real(6, 2, 3, 2), d.real(4), (2, 4, 5, 6), *CONV]],
    "embedding": lambda d: [[d.real(4, 3), INDICES, None]],
    "embedding_grad": lambda d: [[d.real(2, 3, 3), INDICES, 3, (4, 3)]],
    "embedding_without_padding": lambda d: [[d.real(4, 3), INDICES, 3]],
    "one_hot": lambda d: [[d.index(4, 3), 5]],
    "mse_loss": lambda d: [[d.real(2, 3), d.real(2, 3), how] for how in ("mean", "sum", "none")],
    "l1_loss": lambda d: [[d.apart(2, 3), d.apart(2, 3) + 0.05, "mean"]],
    "huber_loss": lambda d: [[d.apart(4, 5), np.zeros((4, 5)), 0.3, "mean"]],
    "smooth_l1_loss": lambda d: [[d.apart(4, 5), np.zeros((4, 5)), 0.3, "sum"]],
    "binary_cross_entropy": lambda d: [
        [d.between(0.2, 0.8, 2, 3), d.between(0.1, 0.9, 2, 3), d.between(0.5, 2, 2, 3), "mean"]
    ],
    "binary_cross_entropy_with_logits": lambda d: [
        [d.real(2, 3), d.between(0.1, 0.9, 2, 3), d.between(0.5, 2, 2, 3), d.between(0.5, 2, 3), "mean"]
    ],
    "kl_div": lambda d: [
        [d.real(2, 3), d.between(0.1, 0.9, 2, 3), False, "mean"],
        [d.real(2, 3), d.real(2, 3), True, "none"],
    ],
    "standardize": lambda d: [with_statistics(d)],
    "standardize_grad": lambda d: [with_statistics(d, lambda d: d.real(3, 4, 2))],
    "deviation_reciprocal": lambda d: [with_statistics(d)],
    "batch_norm": lambda d: [[d.real(3, 4, 2), d.real(4), d.real(4), (1, 2), 0, 0.01]],
    "layer_norm": lambda d: [[d.real(3, 4, 2), d.real(4, 2), d.real(4, 2), (1, 3), 1, 0.01]],
    "group_norm": lambda d: [[d.real(3, 4, 4), d.real(4), d.real(4), (1, 2), 2, 0.01]],
    "batch_norm_by_constants": lambda d: [
        [d.real(3, 4, 2), d.real(4), d.real(4), d.real(4), d.between(0.5, 2, 4), (1, 2), 0.01]
    ],
    "max_pool2d": lambda d: [[d.apart(*IMAGES), *POOL, False], [d.apart(*IMAGES), *POOL, True]],
    "max_pool2d_input_grad": lambda d: [
        [d.real(2, 2, 3, 6), winners("max_pool2d", d.real(*IMAGES), *POOL, False), IMAGES, *POOL]
    ],
    "max_pool2d_take": lambda d: [[d.real(*IMAGES), winners("max_pool2d", d.real(*IMAGES), *POOL, False), *POOL]],
    "max_pool2d_positions": lambda d: [[d.real(*IMAGES), winners("max_pool2d", d.real(*IMAGES), *POOL, False), *POOL]],
    "avg_pool2d": lambda d: [[d.real(*IMAGES), *MEANS]],
    "avg_pool2d_input_grad": lambda d: [[d.real(2, 2, 3, 6), IMAGES, *MEANS]],
    "adaptive_avg_pool2d": lambda d: [[d.real(*IMAGES), (3, 4)], [d.real(*IMAGES), (1, 3)]],
    "adaptive_avg_pool2d_input_grad": lambda d: [[d.real(2, 2, 3, 4), IMAGES]],
    "adaptive_max_pool2d": lambda d: [[d.apart(*IMAGES), (3, 4)]],
    "adaptive_max_pool2d_input_grad": lambda d: [
        [d.real(2, 2, 3, 4), winners("adaptive_max_pool2d", d.real(*IMAGES), (3, 4)), IMAGES]
    ],
    "adaptive_max_pool2d_take": lambda d: [[d.real(*IMAGES), winners("adaptive_max_pool2d", d.real(*IMAGES), (3, 4))]],
    "adaptive_max_pool2d_positions": lambda d: [
        [d.real(*IMAGES), winners("adaptive_max_pool2d", d.real(*IMAGES), (3, 4))]
    ],
}


def from_the_statistics(op, inputs):
    """The rows that are told x's mean and rate, or log_softmax, take these to be functions of x: x brings its own."""
    if {"x", "log_p"} <= set(op.inputs):
        named = dict(zip(op.inputs, inputs, strict=True))
        named["log_p"] = TABLE["log_softmax"].array(named["x"], 1)
        return list(named.values())
    if not {"x", "mean", "rate", "dims"} <= set(op.inputs):
        return inputs
    named = dict(zip(op.inputs, inputs, strict=True))
    named["mean"], _, named["rate"] = statistics(named["x"], named["dims"], 0.01)
    return list(named.values())


NUMBERS = sorted(name for name, op in TABLE.items() if op.number is not None)
UNIFORM = sorted(
    name for name, op in TABLE.items() if name in NUMBERS or (name not in CASES and set(op.inputs) <= {"a", "b", "x"})
)
"""The rows whose inputs are all numbers, or all arrays that broadcast."""
DIFFERENTIABLE = sorted(name for name, op in TABLE.items() if op.differentiable)


def interval(op, name):
    """Where to draw an input: inside its domain, by as much as differences reach and second derivatives stay tame."""
    low, high = op.domain.get(name, (-2.0, 2.0))
    return max(low, -2.0) + (0.3 if low > -2.0 else 0.0), min(high, 3.0) - (0.15 if high < 2.0 else 0.0)


def operands(op, d, *shapes):
    """Operands of a uniform row, one for each shape, away from its kinks."""
    xs = [np.asarray(d.between(*interval(op, name), *shape)) for name, shape in zip(op.inputs, shapes, strict=True)]
    for _ in range(100):
        if op.kinks is None:
            break
        near = np.abs(op.kinks(*xs)) < 0.02
        if not near.any():
            break
        xs[0] = np.where(
            np.any(near, axis=tuple(range(near.ndim - xs[0].ndim))) if near.ndim > xs[0].ndim else near,
            d.between(*interval(op, op.inputs[0]), *xs[0].shape),
            xs[0],
        )
    return xs


def cases(name):
    """The inputs that a row is tested with."""
    op, d = TABLE[name], Draw(name)
    if name in UNIFORM:
        return [operands(op, d, *[(2, 3)] * len(op.inputs)), operands(op, d, *[()] * len(op.inputs))]
    if name not in CASES:
        pytest.fail(f"add a case: {op!r} has no number function and no line in CASES that says what to call it with")
    return CASES[name](d)


def differentiated(op, inputs):
    """The places of the inputs that get a gradient."""
    return [
        i
        for i, x in enumerate(inputs)
        if isinstance(x, np.ndarray) and x.dtype.kind == "f" and op.derivative(i) is not None
    ]
