"""`Op.gradients`, where a row has it, gives on arrays what its derivatives define, for each choice of inputs."""

from itertools import product

import numpy as np
import pytest

from scalargrad import autograd
from scalargrad.operation import TABLE
from scalargrad.ops.activation import activating
from scalargrad.ops.convolution import convolving
from scalargrad.ops.normalization import normalizing
from scalargrad.ops.pooling import pooling
from scalargrad.ops.products import multiplying
from scalargrad.ops.reduction import reducing
from scalargrad.rules import ops
from scalargrad.tensor import wrap

CASES = {
    "relu": (ops.relu, [(3, 4)], ()),
    "sigmoid": (ops.sigmoid, [(3, 4)], ()),
    "prod": (reducing.prod, [(3, 4)], ((1,), True)),
    "maximum": (ops.maximum, [(3, 4), (3, 4)], ()),
    "minimum": (ops.minimum, [(3, 4), (3, 4)], ()),
    "conv2d": (convolving.conv2d, [(2, 4, 5, 6), (6, 2, 3, 2), (6,)], ((2, 1), (1, 2), (1, 2), 2)),
    "max_pool2d": (pooling.max_pool2d, [(2, 3, 6, 7)], ((2, 3), (2, 1), (1, 1), (1, 1), False)),
    "linear": (multiplying.linear, [(5,), (3, 4), (5, 4)], ()),
    "linear_without_bias": (multiplying.linear_without_bias, [(3, 4), (5, 4)], ()),
    "leaky_relu": (activating.leaky_relu, [(3, 7)], (0.3,)),
    "elu": (activating.elu, [(3, 7)], (1.3,)),
    "softplus": (activating.softplus, [(3, 7)], (2.0, 1.7)),
    "log_sigmoid": (activating.log_sigmoid, [(3, 7)], ()),
    "silu": (activating.silu, [(3, 7)], ()),
    "gelu": (activating.gelu, [(3, 7)], ()),
    "gelu_tanh": (activating.gelu_tanh, [(3, 7)], ()),
    "hardtanh": (activating.hardtanh, [(3, 7)], (-0.5, 0.7)),
    "batch_norm": (normalizing.batch_norm, [(3, 4, 5), (4,), (4,)], ((1, 2), 0, 0.01)),
    "layer_norm": (normalizing.layer_norm, [(3, 4, 5), (4, 5), (4, 5)], ((1, 3), 1, 0.01)),
    "group_norm": (normalizing.group_norm, [(3, 4, 5), (4,), (4,)], ((1, 2), 2, 0.01)),
    "batch_norm_by_constants": (
        normalizing.batch_norm_by_constants,
        [(3, 4, 5), (4,), (4,)],
        (np.full(4, 0.5, np.float32), np.full(4, 2, np.float32), (1, 2), 0.01),
    ),
}
ROUNDED = set(
    "elu softplus log_sigmoid silu gelu gelu_tanh batch_norm layer_norm group_norm batch_norm_by_constants".split()
)
"""Rows whose gradients at once round in other places, or take other sums, than the derivatives do."""


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


@pytest.mark.parametrize("key", ["maximum", "minimum"])
def test_extremes_at_once_are_the_derivatives_at_ties_and_nan(key):
    a = wrap(np.array([1.0, 2.0, np.nan, np.nan, 3.0, np.inf])).requires_grad_()
    b = wrap(np.array([1.0, 3.0, np.nan, 2.0, np.nan, np.inf])).requires_grad_()
    g = wrap(np.arange(1.0, 7.0))
    y = TABLE[key](a, b)
    at_once = autograd.grad(y, [a, b], g, retain_graph=True)
    one_by_one = autograd.grad(y, [a, b], g, create_graph=True)
    for mine, right in zip(at_once, one_by_one, strict=True):
        np.testing.assert_array_equal(mine.array, right.array, strict=True)
    assert at_once[0].array[0] == at_once[1].array[0] == 0.5


@pytest.mark.parametrize("numbers", [[2.0, 3.0, 5.0], [2.0, 0.0, 5.0], [0.0, 3.0, 0.0], [np.nan, 0.0], [4.0], []])
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_a_product_at_once_is_the_derivative_at_zeros_and_nan(numbers, dtype):
    x = wrap(np.array(numbers, dtype)).requires_grad_()
    (at_once,) = autograd.grad(x.prod(), [x], retain_graph=True)
    (one_by_one,) = autograd.grad(x.prod(), [x], create_graph=True)
    np.testing.assert_array_equal(at_once.array, one_by_one.array, strict=True)
