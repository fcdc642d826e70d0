"""In float32 every row is as exact as rounding allows: within 2 ulps for each number that an entry is made of.

An ulp is 2⁻²³ of the largest number on the way: of the result, or of what goes into it, since a sum of large numbers
may be small. How many numbers an entry is made of is taken from the sizes: what goes in over what comes out.
"""

import math

import numpy as np
import pytest
from table_cases import DIFFERENTIABLE, cases, differentiated, from_the_statistics

import scalargrad as sg
from scalargrad import autograd
from scalargrad.operation import TABLE

ULPS, ULP = 2, 2.0**-23


def rounded(x):
    """The same numbers for both precisions: those that float32 has."""
    return x.astype(np.float32).astype(np.float64) if isinstance(x, np.ndarray) and x.dtype.kind == "f" else x


def as_dtype(x, dtype):
    if isinstance(x, np.ndarray) and x.dtype.kind == "f":
        return x.astype(dtype)
    return np.dtype(dtype) if isinstance(x, np.dtype) else x


def run(op, inputs, seed, dtype):
    """The result and the gradients in one precision."""
    xs = [as_dtype(x, dtype) for x in inputs]
    leaves = []
    for i in differentiated(op, xs):
        xs[i] = sg.tensor(xs[i], requires_grad=True)
        leaves.append(xs[i])
    y = op(*xs)
    y = y[0] if isinstance(y, tuple) else y
    grads = autograd.grad(y, leaves, sg.tensor(seed.astype(dtype)))
    return [t.numpy(force=True) for t in (y, *grads)]


@pytest.mark.parametrize("key", DIFFERENTIABLE)
def test_float32_is_within_ulps_of_float64(key):
    op = TABLE[key]
    if "labels" in op.inputs:
        pytest.skip("its labels come from another row, with weights of that row's dtype")
    for drawn in cases(key):
        inputs = [rounded(x) for x in from_the_statistics(op, drawn)]
        y = op.array(*inputs)
        shape = np.shape(y[0] if isinstance(y, tuple) else y)
        seed = rounded(np.asarray(np.random.default_rng(0).uniform(-1, 1, shape)))
        floats = [x for x in inputs if isinstance(x, np.ndarray) and x.dtype.kind == "f"]
        n_in, largest = sum(x.size for x in floats), max([1.0, *(float(np.abs(x).max(initial=0)) for x in floats)])
        for narrow, wide in zip(run(op, inputs, seed, np.float32), run(op, inputs, seed, np.float64), strict=True):
            assert narrow.dtype == np.float32
            n = max(1, math.ceil(max(n_in, seed.size) / max(1, wide.size)))
            size = max(largest, float(np.abs(wide).max(initial=0)))
            np.testing.assert_allclose(narrow, wide, rtol=0, atol=ULPS * ULP * n * size)
