"""The strategies of scalargrad.testing draw what they promise, and every draw is a problem that has an answer."""

import importlib
import sys

import numpy as np
import pytest
from hypothesis import Phase, find, given, settings
from hypothesis import strategies as st

import scalargrad as sg
from scalargrad import Value, reference
from scalargrad import testing as draws
from scalargrad.autograd import gradcheck

F = sg.nn.functional
SEARCH = settings(max_examples=2000, phases=[Phase.generate], derandomize=True, database=None, deadline=None)


@given(x=draws.arrays())
def test_arrays_are_numbers_between_the_bounds(x):
    assert x.dtype == np.float64
    assert ((x >= -2) & (x <= 2)).all()


@pytest.mark.parametrize(
    "is_wanted",
    [
        lambda x: x.size == 0 and x.ndim > 1,
        lambda x: x.ndim == 0,
        lambda x: x.flags.f_contiguous and not x.flags.c_contiguous and x.size > 1,
        lambda x: any(n > 1 and s < 0 for n, s in zip(x.shape, x.strides, strict=True)),
        lambda x: x.size > 1 and not x.flags.forc,
        lambda x: x.ndim == 3 and x.flags.c_contiguous and x.size > 1,
    ],
    ids=["empty", "no dimensions", "Fortran", "negative strides", "gaps", "C"],
)
def test_arrays_come_in_every_layout(is_wanted):
    assert is_wanted(find(draws.arrays(), is_wanted, settings=SEARCH))


@given(
    shape=draws.shapes(),
    dtype=st.sampled_from([np.float32, np.float64, np.int64, np.int8, np.bool_]),
    data=st.data(),
)
def test_a_layout_changes_memory_and_not_numbers(shape, dtype, data):
    x = data.draw(draws.arrays(shape, dtype=dtype, any_layout=False))
    assert (x.shape, x.dtype) == (shape, dtype)
    steps = [data.draw(st.sampled_from([1, -1, 2, -3])) for _ in shape]
    y = draws.laid_out(x, steps, data.draw(st.permutations(range(len(shape)))))
    np.testing.assert_array_equal(x, y)
    assert y.dtype == x.dtype
    assert all(s != 0 for n, s in zip(y.shape, y.strides, strict=True) if y.size > 1 and n > 1)


@given(shapes=st.integers(1, 4).flatmap(lambda n: draws.broadcastable_shapes(n)))
def test_broadcastable_shapes_broadcast(shapes):
    assert all(isinstance(shape, tuple) for shape in shapes)
    np.broadcast_shapes(*shapes)


def test_broadcastable_shapes_differ_in_length_and_have_ones_against_more():
    find(
        draws.broadcastable_shapes(),
        lambda s: len(s[0]) > len(s[1]) > 0 and 1 in s[0] and s[0][-1] != s[1][-1],
        settings=SEARCH,
    )


@given(t=draws.tensors(draws.shapes(max_dims=2)), u=draws.tensors((2,), requires_grad=False, dtype=np.float32))
def test_tensors_are_leaves(t, u):
    assert t.is_leaf
    assert t.requires_grad
    assert (u.requires_grad, u.dtype, u.shape) == (False, sg.float32, (2,))


@given(window=st.booleans().flatmap(lambda ceil: draws.windows(half_padding=True, ceil_mode=ceil)))
def test_windows_stop_as_often_as_they_say(window):
    size, kernel, stride, padding, dilation, ceil_mode, n_windows = window
    assert size >= 1
    assert 2 * padding <= kernel
    assert len(reference.windows(size, kernel, stride, padding, dilation, ceil_mode)) == n_windows


@given(problem=draws.conv2d_problems())
def test_conv2d_problems_have_the_output_that_was_drawn(problem):
    x, w = sg.zeros(*problem.input_shape), sg.zeros(*problem.weight_shape)
    bias = None if problem.bias_shape is None else sg.zeros(*problem.bias_shape)
    assert F.conv2d(x, w, bias, *problem.geometry).shape == problem.output_shape


@given(problem=draws.pool2d_problems())
def test_pool2d_problems_have_the_output_that_was_drawn(problem):
    y = F.max_pool2d(sg.zeros(*problem.input_shape), *problem[1:6])
    assert y.shape == problem.output_shape


@given(problem=draws.pool2d_problems(max_dilation=1))
def test_pool2d_problems_serve_averages_too(problem):
    y = F.avg_pool2d(sg.zeros(*problem.input_shape), *problem[1:4], problem.ceil_mode)
    assert y.shape == problem.output_shape


@pytest.mark.parametrize(
    ("strategy", "is_wanted"),
    [
        (draws.conv2d_problems(), lambda p: p.padding[0] >= p.weight_shape[2] and p.groups == 2),
        (draws.conv2d_problems(), lambda p: p.stride[0] > p.weight_shape[2] and p.dilation[1] == 2),
        (draws.pool2d_problems(), lambda p: p.ceil_mode and p.stride[0] > 1 and p.output_shape[2] > 1),
    ],
)
def test_problems_reach_their_corners(strategy, is_wanted):
    assert is_wanted(find(strategy, is_wanted, settings=SEARCH))


@given(expression=draws.expressions(2), x=st.floats(-2, 2), y=st.floats(-2, 2))
def test_expressions_are_the_same_on_values_and_tensors(expression, x, y):
    values, leaves = [Value(x), Value(y)], [sg.tensor(v, dtype=sg.float64, requires_grad=True) for v in (x, y)]
    a, b = expression(*values), expression(*leaves)
    assert b.item() == pytest.approx(a.data, rel=1e-12, abs=1e-12)
    if b.requires_grad:
        a.backward()
        b.backward()
        for v, t in zip(values, leaves, strict=True):
            assert (0.0 if t.grad is None else t.grad.item()) == pytest.approx(v.grad, rel=1e-9, abs=1e-9)


@given(expression=draws.expressions(2, smooth=True, max_size=4), x=draws.tensors((2,)), y=draws.tensors((2,)))
def test_smooth_expressions_pass_gradcheck(expression, x, y):
    assert gradcheck(expression, (x, y))


def test_an_expression_wants_its_operands():
    expression = draws.Expression("x0 * x1", 2)
    assert expression(3, 4) == 12
    with pytest.raises(TypeError, match="expected 2 operands, got 1"):
        expression(3)


def test_without_hypothesis_the_import_says_what_to_install(monkeypatch):
    monkeypatch.setitem(sys.modules, "hypothesis", None)
    monkeypatch.delitem(sys.modules, "scalargrad.testing")
    with pytest.raises(ImportError, match=r"pip install scalargrad\[testing\]"):
        importlib.import_module("scalargrad.testing")
