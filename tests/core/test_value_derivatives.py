"""Gradients of Values: backward, autograd.grad, second and third derivatives, Ops called on Values."""

import math

import numpy as np
import pytest

from scalargrad import Value, autograd
from scalargrad.operation import TABLE
from scalargrad.rules import ops


def gradients(y, *xs):
    for x in xs:
        x.grad = 0.0
    y.backward()
    return tuple(x.grad for x in xs)


# backward


def test_gradients_of_both_paths_add_up():
    a = Value(3.0)
    (a * a + 2 * a + a / 3).backward()
    assert a.grad == pytest.approx(2 * 3 + 2 + 1 / 3)


def test_the_operands_of_one_operation_may_be_the_same_value():
    a = Value(3.0)
    for y, expected in (
        (a + a, 2.0),
        (a * a, 6.0),
        (a / a, 0.0),
        (a - a, 0.0),
        (a**a, 27 * (math.log(3) + 1)),
        (a.max(a), 1.0),
    ):
        assert gradients(y, a)[0] == pytest.approx(expected)


def test_leaves_accumulate_over_calls_and_interior_values_show_the_last_one():
    a, b = Value(2.0), Value(3.0)
    y = a * b
    z = y + a
    z.backward()
    z.backward()
    assert (a.grad, b.grad) == (8.0, 4.0)
    assert (y.grad, z.grad) == (1.0, 1.0)
    a.grad = 0.0
    z.backward(10.0)
    assert (a.grad, b.grad, y.grad, z.grad) == (40.0, 24.0, 10.0, 10.0)


def test_a_leaf_may_be_swept_itself():
    a = Value(2.0)
    a.backward()
    a.backward()
    assert a.grad == 2.0


def test_the_gradient_of_an_interior_value_is_the_sum_over_its_uses():
    x = Value(0.5)
    y = x.tanh()
    a, b = y * 3, y.exp()
    (a * b).backward()
    assert y.grad == pytest.approx(a.grad * 3 + b.grad * b.data)


def test_data_may_be_changed_in_leaves_between_passes():
    a = Value(2.0)
    for _ in range(3):
        loss = (a - 5) ** 2
        a.grad = 0.0
        loss.backward()
        a.data -= 0.25 * a.grad
    assert a.data == pytest.approx(5 - 3 * 0.5**3)


def test_the_seed_must_be_a_number():
    with pytest.raises((TypeError, ValueError)):
        Value(1.0).backward("x")
    with pytest.raises(TypeError):
        Value(1.0).backward(None)


def test_second_and_third_derivatives():
    x = Value(0.7)
    y = x**3 * x.sin()
    (d1,) = autograd.grad(y, x, create_graph=True)
    (d2,) = autograd.grad(d1, x, create_graph=True)
    (d3,) = autograd.grad(d2, x)
    s, c = math.sin(0.7), math.cos(0.7)
    assert d1.data == pytest.approx(3 * 0.49 * s + 0.343 * c)
    assert d2.data == pytest.approx(6 * 0.7 * s + 6 * 0.49 * c - 0.343 * s)
    assert d3 == pytest.approx(6 * s + 18 * 0.7 * c - 9 * 0.49 * s - 0.343 * c)
    assert type(d3) is float
    assert x.grad == 0.0


CURVES = {
    "exp": lambda x: [math.exp(x)] * 3,
    "log": lambda x: [1 / x, -1 / x**2, 2 / x**3],
    "sqrt": lambda x: [0.5 * x**-0.5, -0.25 * x**-1.5, 0.375 * x**-2.5],
    "sin": lambda x: [math.cos(x), -math.sin(x), -math.cos(x)],
    "cos": lambda x: [-math.sin(x), -math.cos(x), math.sin(x)],
    "tan": lambda x: (lambda t: [1 + t * t, 2 * t * (1 + t * t), (2 + 6 * t * t) * (1 + t * t)])(math.tan(x)),
    "tanh": lambda x: (lambda t: [1 - t * t, -2 * t * (1 - t * t), (6 * t * t - 2) * (1 - t * t)])(math.tanh(x)),
    "sigmoid": lambda x: (lambda s: [s * (1 - s), s * (1 - s) * (1 - 2 * s), s * (1 - s) * (1 - 6 * s + 6 * s * s)])(
        1 / (1 + math.exp(-x))
    ),
    "relu": lambda x: [1.0, 0.0, 0.0],
    "abs": lambda x: [1.0, 0.0, 0.0],
}


@pytest.mark.parametrize("name", CURVES)
def test_three_derivatives_of_each_function(name):
    x = Value(0.6)
    d = getattr(x, name)()
    for expected in CURVES[name](0.6):
        # Beyond relu's and abs' slope nothing depends on x any more.
        found = autograd.grad(d, x, create_graph=True, materialize_grads=True)
        (d,) = found
        assert d.data == pytest.approx(expected, rel=1e-12), name


@pytest.mark.parametrize(
    "function",
    [
        lambda a, b: a * b * b,
        lambda a, b: a / b,
        lambda a, b: a**b,
        lambda a, b: (a - b) ** 3,
        lambda a, b: a.max(b) ** 2 * b,
        lambda a, b: 2.5**a / b,
        lambda a, b: (1 / a).tanh() * b,
    ],
)
def test_mixed_second_derivatives_agree_with_differences_and_are_symmetric(function):
    def slope(p, q, k):
        a, b = Value(p), Value(q)
        return autograd.grad(function(a, b), [a, b])[k]

    p, q, h = 1.3, 0.8, 1e-5
    a, b = Value(p), Value(q)
    da, db = autograd.grad(function(a, b), [a, b], create_graph=True)
    hessian = [autograd.grad(d, [a, b], allow_unused=True, materialize_grads=True) for d in (da, db)]
    differences = [
        [(slope(p + h, q, k) - slope(p - h, q, k)) / (2 * h), (slope(p, q + h, k) - slope(p, q - h, k)) / (2 * h)]
        for k in (0, 1)
    ]
    np.testing.assert_allclose(hessian, differences, rtol=1e-7, atol=1e-7)
    np.testing.assert_allclose(hessian[0][1], hessian[1][0], rtol=1e-12, atol=1e-12)


def test_grad_leaves_grad_alone_and_takes_several_outputs_with_weights():
    a, b = Value(2.0), Value(5.0)
    y, z = a * b, a + b
    assert autograd.grad([y, z], [a, b], grad_outputs=[3.0, 0.5]) == (15.5, 6.5)
    assert (a.grad, b.grad, y.grad) == (0.0, 0.0, 0.0)


def test_grad_with_respect_to_an_interior_value():
    a = Value(2.0)
    y = a * 3
    assert autograd.grad(y * y, [y, a]) == (12.0, 36.0)


def test_grad_of_the_same_output_twice_counts_twice():
    a = Value(2.0)
    y = a * 3
    assert autograd.grad([y, y], a) == (6.0,)


def test_grad_refuses_unused_inputs_unless_told():
    a, b = Value(2.0), Value(5.0)
    with pytest.raises(RuntimeError, match=r"input 1.*not have been used"):
        autograd.grad(a * 2, [a, b])
    assert autograd.grad(a * 2, [a, b], allow_unused=True) == (2.0, None)
    assert autograd.grad(a * 2, [a, b], materialize_grads=True) == (2.0, 0.0)


def test_grad_refuses_a_mixture_of_values_and_other_things():
    with pytest.raises(TypeError, match="all to be Values"):
        autograd.grad(Value(1.0) * 2, [1.0])
    with pytest.raises(ValueError, match="non-empty"):
        autograd.grad(Value(1.0), [])
    with pytest.raises(RuntimeError, match="1 tensors and 2 gradients"):
        autograd.grad(Value(1.0), [Value(1.0)], [1.0, 2.0])


def test_ieee_holds_for_recorded_derivatives_too():
    a = Value(0.0)
    (d,) = autograd.grad(1 / a, a, create_graph=True)
    assert d.data == -math.inf
    (e,) = autograd.grad(a.log(), a, create_graph=True)
    assert e.data == math.inf


def test_an_op_called_on_a_value_records_and_on_numbers_computes():
    y = ops.mul(Value(2.0), 3)
    assert (type(y), y.data) == (Value, 6.0)
    assert ops.mul(2.0, 3.0) == 6.0
    assert ops.lt(Value(1.0), 2).data == 1.0


def test_an_op_for_arrays_only_says_so():
    op = next(op for op in TABLE.values() if op.number is None)
    with pytest.raises(TypeError, match=rf"{op.key}\(\): defined for arrays only"):
        op(Value(1.0), *[1.0] * (len(op.inputs) - 1))


def test_a_comparison_carries_no_gradient():
    a = Value(1.0)
    y = ops.lt(a, 2.0) * a
    y.backward()
    assert a.grad == 1.0
