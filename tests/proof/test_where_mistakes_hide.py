"""Cases that tell apart what others confuse: every argument different from every other, squares, edges of a bound.

Each was written because a mutant had survived (benchmarks/mutants.py): padding swapped with dilation where both are
(1, 2), or a sum over the wrong axis of a square.
"""

import numpy as np
import pytest

import scalargrad as sg
from scalargrad import Value
from scalargrad.autograd import gradcheck, gradgradcheck
from scalargrad.operation import TABLE

RNG = np.random.default_rng(3)
GEOMETRY = (2, 1), (0, 1), (1, 2)  # stride, padding, dilation
IMAGES, OUTPUTS = (2, 4, 6, 7), (2, 6, 2, 7)
POOLED = (2, 4, 3, 5)


def real(*shape):
    return np.asarray(RNG.uniform(-2, 2, shape))


def apart(*shape):
    """Numbers that no step turns the order of."""
    return RNG.permutation(np.arange(np.prod(shape)) * 0.1).reshape(shape) - 1.0


def offsets():
    return TABLE["max_pool2d"].array(apart(*IMAGES), (2, 3), *GEOMETRY, False)[1]


ROWS = {
    "conv2d": lambda: (real(*IMAGES), real(6, 2, 3, 2), real(6), *GEOMETRY, 2),
    "conv2d_input_grad": lambda: (real(*OUTPUTS), real(6, 2, 3, 2), IMAGES, *GEOMETRY, 2),
    "conv2d_weight_grad": lambda: (real(*OUTPUTS), real(*IMAGES), (6, 2, 3, 2), *GEOMETRY, 2),
    "conv_transpose2d": lambda: (real(*OUTPUTS), real(6, 2, 3, 2), real(4), IMAGES, *GEOMETRY, 2),
    "max_pool2d": lambda: (apart(*IMAGES), (2, 3), *GEOMETRY, False),
    "max_pool2d_input_grad": lambda: (real(*POOLED), offsets(), IMAGES, (2, 3), *GEOMETRY),
    "max_pool2d_take": lambda: (real(*IMAGES), offsets(), (2, 3), *GEOMETRY),
    "diagonal": lambda: (real(3, 4, 5), -1, 0, 2),
    "undiagonal": lambda: (real(4, 2), (3, 4, 5), -1, 0, 2),
    "sort": lambda: (real(3, 2), np.array([[2, 0], [1, 2], [0, 1]]), 0, True),
    "topk": lambda: (real(3, 2), np.array([[2, 0], [1, 2]]), 0, True),
    "select": lambda: (np.array([True, False, True]), real(3)),
}


@pytest.mark.parametrize("key", ROWS)
def test_no_argument_is_taken_for_another(key):
    op, inputs = TABLE[key], list(ROWS[key]())
    for i in op.positions:
        inputs[i] = sg.tensor(inputs[i], requires_grad=True)

    def first(*xs):
        y = op(*xs)
        return y[0] if isinstance(y, tuple) else y

    assert gradcheck(first, inputs)
    assert gradgradcheck(first, inputs)


@pytest.mark.parametrize("shape", [(3,), (3, 1), (1, 3), (1, 1), (), (3, 3), (1, 3, 3)])
def test_broadcasting_of_squares_is_undone_along_its_own_axis(shape):
    """The gradient of what was broadcast, against a graph of Values: a square hides a sum over the wrong axis."""
    a, b, weights = real(3, 3, 3), real(*shape), real(3, 3, 3)
    x, y = sg.tensor(a, requires_grad=True), sg.tensor(b, requires_grad=True)
    (x * y).backward(sg.tensor(weights))
    values = np.array([Value(v) for v in b.flat], object).reshape(shape)
    total = sum(
        (v * (p * w) for v, p, w in zip(np.broadcast_to(values, a.shape).flat, a.flat, weights.flat, strict=True))
    )
    total.backward()
    expected = np.array([v.grad for v in values.flat]).reshape(shape)
    np.testing.assert_allclose(y.grad.numpy(), expected, rtol=1e-12)
    np.testing.assert_allclose(x.grad.numpy(), weights * b, rtol=1e-12)


def test_binary_cross_entropy_at_the_bound_has_pytorchs_gradient():
    """(x − target) / max(x·(1 − x), 10⁻¹²): where x is 0 or 1, that is as far as it goes."""
    x = sg.tensor([0.0, 1.0, 1e-13, 0.0], dtype=sg.float64, requires_grad=True)
    target = sg.tensor([1.0, 0.0, 1.0, 0.0], dtype=sg.float64)
    sg.nn.functional.binary_cross_entropy(x, target, reduction="sum").backward()
    np.testing.assert_allclose(x.grad.numpy(), [-1e12, 1e12, -1e12, 0.0], rtol=1e-9)


def test_retained_gradients_add_up_and_follow_writes():
    """As in PyTorch: over calls they add up, and after a write in place they are those of what was written."""
    x = sg.tensor([2.0, 3.0], requires_grad=True)
    y = x * x
    y.retain_grad()
    for expected in ([1.0, 1.0], [2.0, 2.0]):
        y.sum().backward(retain_graph=True)
        assert y.grad.tolist() == expected
    y = x * 1
    view = y[:1]
    y.retain_grad()
    view.retain_grad()
    view.mul_(3.0)
    (y.sum() * 2 + view.sum()).backward()
    assert (y.retains_grad, y.grad.tolist()) == (True, [3.0, 2.0])
    assert (view.retains_grad, view.grad.tolist()) == (True, [1.0])


def test_views_follow_what_is_written_to_their_base():
    x = sg.tensor([2.0, 5.0, 3.0], requires_grad=True)
    y = x * 1
    first, rest = y[:1], y[1:]
    y.mul_(3.0)
    rest.mul_(y[:2].clone())
    (first.sum() + rest.sum()).backward()  # 3·x₀ + 9·x₀·x₁ + 9·x₁·x₂
    assert x.grad.tolist() == [3 + 9 * 5.0, 9 * 2.0 + 9 * 3.0, 9 * 5.0]


def test_sign_has_a_gradient_of_zero():
    x = sg.tensor([-2.0, 0.0, 3.0], requires_grad=True)
    x.sign().sum().backward()
    assert x.grad.tolist() == [0.0, 0.0, 0.0]


def test_atan2_at_the_origin_has_a_gradient_of_zero():
    y, x = (sg.zeros(1, dtype=sg.float64, requires_grad=True) for _ in range(2))
    sg.atan2(y, x).backward()
    assert (y.grad.item(), x.grad.item()) == (0.0, 0.0)
