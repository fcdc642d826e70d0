"""`Op.gradients`, where a row has it, gives on arrays what its derivatives define, for each choice of inputs."""

from itertools import product

import numpy as np
import pytest

from scalargrad import autograd
from scalargrad.operation import TABLE
from scalargrad.ops.convolution import convolving
from scalargrad.ops.normalization import normalizing
from scalargrad.ops.pooling import pooling
from scalargrad.ops.products import multiplying
from scalargrad.rules import ops
from scalargrad.tensor import wrap

CASES = {
    "relu": (ops.relu, [(3, 4)], ()),
    "sigmoid": (ops.sigmoid, [(3, 4)], ()),
    "conv2d": (convolving.conv2d, [(2, 4, 5, 6), (6, 2, 3, 2), (6,)], ((2, 1), (1, 2), (1, 2), 2)),
    "max_pool2d": (pooling.max_pool2d, [(2, 3, 6, 7)], ((2, 3), (2, 1), (1, 1), (1, 1), False)),
    "linear": (multiplying.linear, [(5,), (3, 4), (5, 4)], ()),
    "linear_without_bias": (multiplying.linear_without_bias, [(3, 4), (5, 4)], ()),
    "batch_norm": (normalizing.batch_norm, [(3, 4, 5), (4,), (4,)], ((1, 2), 0, 0.01)),
    "layer_norm": (normalizing.layer_norm, [(3, 4, 5), (4, 5), (4, 5)], ((1, 3), 1, 0.01)),
    "group_norm": (normalizing.group_norm, [(3, 4, 5), (4,), (4,)], ((1, 2), 2, 0.01)),
    "batch_norm_by_constants": (
        normalizing.batch_norm_by_constants,
        [(3, 4, 5), (4,), (4,)],
        (np.full(4, 0.5, np.float32), np.full(4, 2, np.float32), (1, 2), 0.01),
    ),
}
ROUNDED = {"batch_norm", "layer_norm", "group_norm", "batch_norm_by_constants"}
"""Rows whose gradients at once take other sums than the derivatives do: they agree but for rounding."""


def test_every_row_that_has_them_is_here():
    assert {key for key, op in TABLE.items() if op.gradients is not None} == set(CASES)


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("key", CASES)
def test_gradients_at_once_are_the_derivatives(key, dtype):
    op, shapes, options = CASES[key]
    rng = np.random.default_rng(0)
    for wanted in product([False, True], repeat=len(shapes)):
        if not any(wanted):
            continue
        inputs = [wrap(rng.standard_normal(shape).astype(dtype)) for shape in shapes]
        leaves = [x.requires_grad_() for x, is_wanted in zip(inputs, wanted, strict=True) if is_wanted]
        arrays = [x.astype(dtype) if isinstance(x, np.ndarray) else x for x in options]
        result = op(*inputs, *arrays)
        y = result[0] if isinstance(result, tuple) else result
        g = wrap(rng.standard_normal(y.shape).astype(dtype))
        at_once = autograd.grad(y, leaves, g, retain_graph=True)
        one_by_one = autograd.grad(y, leaves, g, create_graph=True)
        for mine, right in zip(at_once, one_by_one, strict=True):
            assert mine.grad_fn is None
            tolerance = (1e-5 if dtype == np.float32 else 1e-13) if key in ROUNDED else 0
            np.testing.assert_allclose(mine.array, right.array, rtol=0, atol=tolerance, strict=True)
            assert np.abs(right.array).max() > 0
