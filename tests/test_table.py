"""Every row of the table, and no row without a test: a new Op is tested by being there.

Rows of numbers, and rows whose inputs are all of one kind, need nothing more: `domain` and `kinks` say where to draw.
A structured row (dimensions, shapes, indices) needs a line in CASES, and is failed by name until it has one.

For each row: numbers and arrays agree; the derivative is what finite differences say, and so is the derivative of the
derivative; the gradient of a Tensor is that of a graph of Values; memory layout changes nothing; no input is written
to, no result shares memory unless the row is a view, no gradient shares memory with what was saved. And the check is
checked: a derivative that is off by a thousandth fails it.
"""

import copy
import math
import pickle

import numpy as np
import pytest
from table_cases import (
    CASES,
    DIFFERENTIABLE,
    NUMBERS,
    UNIFORM,
    Draw,
    cases,
    differentiated,
    from_the_statistics,
    operands,
)

from scalargrad import Value, autograd
from scalargrad.operation import TABLE, Op, Plans
from scalargrad.tensor import wrap

STEP = 1e-3
FIVE_POINTS = ((-2, 1 / 12), (-1, -2 / 3), (1, 2 / 3), (2, -1 / 12))


def first(result):
    return result[0] if isinstance(result, tuple) else result


def as_leaves(op, inputs):
    """The inputs, those that get a gradient as leaves; and these."""
    inputs = list(inputs)
    leaves = []
    for i in differentiated(op, inputs):
        inputs[i] = wrap(inputs[i])
        inputs[i].requires_grad = True
        leaves.append(inputs[i])
    return inputs, leaves


def compute(op, inputs):
    return np.asarray(first(op.array(*from_the_statistics(op, inputs))))


def pull(op, inputs, seed):
    """The gradients of Σ seed · op(inputs)."""
    tensors, leaves = as_leaves(op, from_the_statistics(op, inputs))
    y = first(op(*tensors))
    return [g.numpy() for g in autograd.grad(y, leaves, wrap(seed))]


def moved(inputs, places, directions, t):
    inputs = list(inputs)
    for i, v in zip(places, directions, strict=True):
        inputs[i] = np.asarray(inputs[i] + t * v)
    return inputs


def slope(function):
    """The derivative at 0 of a function of a number, by five points."""
    return sum(weight * function(k * STEP) for k, weight in FIVE_POINTS) / STEP


def inner(xs, ys):
    return sum(float(np.sum(x * y)) for x, y in zip(xs, ys, strict=True))


def assert_derivative(op, inputs, d):
    """⟨Jᵀg, v⟩ is what a little way along v changes ⟨g, op⟩ by, for random g and v."""
    places = differentiated(op, inputs)
    seed = d.real(*compute(op, inputs).shape)
    along = [d.real(*inputs[i].shape) for i in places]
    grads = pull(op, inputs, seed)
    assert [(g.shape, g.dtype) for g in grads] == [(inputs[i].shape, inputs[i].dtype) for i in places]
    expected = slope(lambda t: inner([compute(op, moved(inputs, places, along, t))], [seed]))
    assert inner(grads, along) == pytest.approx(expected, rel=1e-7, abs=1e-8), op.key
    return grads


def assert_second_derivative(op, inputs, d):
    """The gradient of ⟨op's gradient, w⟩, recorded, is what differences of op's gradient say, in inputs and in g."""
    places = differentiated(op, inputs)
    seed = d.real(*compute(op, inputs).shape)
    along, weights = ([d.real(*inputs[i].shape) for i in places] for _ in range(2))
    seed_along = d.real(*seed.shape)
    tensors, leaves = as_leaves(op, from_the_statistics(op, inputs))
    g = wrap(seed.copy())
    g.requires_grad = True
    y = first(op(*tensors))
    grads = autograd.grad(y, leaves, g, create_graph=True)
    total = sum((grad * wrap(w)).sum() for grad, w in zip(grads, weights, strict=True))
    found = 0.0
    if total.requires_grad:
        second = autograd.grad(total, [*leaves, g], materialize_grads=True)
        found = inner([s.numpy() for s in second], [*along, seed_along])
    expected = slope(
        lambda t: inner(pull(op, moved(inputs, places, along, t), np.asarray(seed + t * seed_along)), weights)
    )
    assert found == pytest.approx(expected, rel=1e-6, abs=1e-7), op.key


@pytest.mark.parametrize("name", sorted(TABLE))
def test_every_row_has_a_case(name):
    assert cases(name)
    assert TABLE[name].key == name


def test_every_case_has_a_row():
    assert sorted(set(CASES) - set(TABLE)) == []


@pytest.mark.parametrize("name", NUMBERS)
def test_numbers_and_arrays_give_the_same(name):
    op, d = TABLE[name], Draw(name)
    edges = [0.0, -0.0, 1.0, -1.0, 0.5, -2.0, 3.0, 800.0, -800.0, math.inf, -math.inf, math.nan]
    if name in ("sin", "cos", "tan"):
        edges = [x for x in edges if abs(x) < 10 or math.isnan(x)]
    xs = np.concatenate([edges, *operands(op, d, *[(5,)] * len(op.inputs))])
    grids = [g.reshape(-1) for g in np.meshgrid(*[xs] * len(op.inputs))]
    if name == "select":
        grids[0] = grids[0] > 0
    if name == "pow":  # IEEE's pow(-inf, 0.5) is inf; NumPy takes the square root there
        keep = ~((grids[0] == -math.inf) & (grids[1] == 0.5))
        grids = [g[keep] for g in grids]
    arrays = np.asarray(op.array(*grids), np.float64)
    numbers = np.array([op.number(*map(float, at)) for at in zip(*grids, strict=True)])
    np.testing.assert_allclose(numbers, arrays, rtol=1e-13, atol=1e-300)


@pytest.mark.parametrize("name", DIFFERENTIABLE)
def test_derivatives_are_what_differences_say(name):
    for inputs in cases(name):
        assert_derivative(TABLE[name], inputs, Draw(name))


@pytest.mark.parametrize("name", DIFFERENTIABLE)
def test_derivatives_of_derivatives_are_what_differences_say(name):
    for inputs in cases(name):
        assert_second_derivative(TABLE[name], inputs, Draw(name))


class OffByAThousandth(Plans):
    """An Op's plans, with one derivative that is a thousandth too large."""

    def __init__(self, op, position):
        super().__init__(op)
        self.position, self.last = position, len(op.derivatives) - 1

    def make(self, mask):
        plan = super().make(mask)
        wrong = [min(i, self.last) == self.position for i in plan.which]
        right = plan.pull_arrays
        plan.pull_arrays = lambda *saved: tuple(
            g * 1.001 if is_wrong else g for is_wrong, g in zip(wrong, right(*saved), strict=True)
        )
        return plan


@pytest.mark.parametrize("name", DIFFERENTIABLE)
def test_a_derivative_off_by_a_thousandth_is_noticed(name, monkeypatch):
    op = TABLE[name]
    for position in range(len(op.derivatives)):
        right = op.derivatives[position]
        if right is None:
            continue
        tried = noticed = 0
        for inputs in cases(name):
            grads = zip(differentiated(op, inputs), assert_derivative(op, inputs, Draw(name)), strict=True)
            if not any(g.any() for i, g in grads if min(i, len(op.derivatives) - 1) == position):
                continue  # no gradient, or one of zeros, as of floor: a thousandth of it is nothing
            tried += 1
            plans = OffByAThousandth(op, position)
            with monkeypatch.context() as patch:
                patch.setattr(op, "plans", plans)
                try:
                    assert_derivative(op, inputs, Draw(name))
                except AssertionError:
                    noticed += 1
        assert noticed == tried, (
            f"{name}: nothing noticed that the derivative for {op.inputs[position]} was off by a thousandth"
        )


MUTANTS = {
    "a swapped sign": (lambda g, b: g * b - g, lambda g, a: g * a),
    "a dropped term": (lambda g, b: g * b, lambda g, a: g * a),
    "a swapped operand": (lambda g, a: g * a + g, lambda g, a: g * a),
    "a swapped operand in the other": (lambda g, b: g * b + g, lambda g, b: g * b),
}


@pytest.mark.parametrize("mutant", [None, *MUTANTS])
def test_wrong_formulas_are_noticed(mutant):
    """In rows made for this test, a·b + a, which are not in the table."""
    derivatives = MUTANTS.get(mutant, (lambda g, b: g * b + g, lambda g, a: g * a))
    op = Op(None, lambda a, b: a * b + a, "a b", *derivatives, promote="common")
    d = Draw("mutants")
    inputs = [d.real(2, 3), d.real(2, 3)]
    if mutant is None:
        assert_derivative(op, inputs, d)
    else:
        with pytest.raises(AssertionError):
            assert_derivative(op, inputs, d)


@pytest.mark.parametrize("name", [name for name in UNIFORM if TABLE[name].differentiable])
def test_a_row_of_numbers_has_a_derivative_for_each(name):
    op = TABLE[name]
    without = {x for i, x in enumerate(op.inputs) if op.derivative(i) is None}
    assert without <= {"condition", "y"}  # what is only asked whether it is true, or above 0


SHAPES = [
    ((2, 3), (2, 3)),
    ((2, 3), (3,)),
    ((2, 1), (3,)),
    ((), (2, 3)),
    ((1, 3), (2, 1)),
    ((), ()),
    ((0, 3), (1, 3)),
    ((2, 0), ()),
]


def value_gradients(op, arrays, seed):
    """The result and the gradients of a row by a graph of Values, one to an element, broadcast by NumPy."""
    graphs = [np.array([Value(x) for x in a.flat], object).reshape(a.shape) for a in arrays]
    spread = np.broadcast_arrays(*graphs)
    shape = spread[0].shape
    results = [op(*at) for at in zip(*(s.flat for s in spread), strict=True)]
    total = sum((y * float(g) for y, g in zip(results, seed.flat, strict=True)), Value(0.0))
    total.backward()
    grads = [np.array([v.grad for v in g.flat], np.float64).reshape(g.shape) for g in graphs]
    return np.array([y.data for y in results], np.float64).reshape(shape), grads


@pytest.mark.parametrize("name", sorted(set(NUMBERS) & set(DIFFERENTIABLE)))
def test_gradients_of_tensors_are_those_of_values(name):
    op, d = TABLE[name], Draw(name)
    for shapes in SHAPES if len(op.inputs) == 2 else [(s,) for s in [(2, 3), (), (0, 3), (1,)]]:
        if op.promote is None and len(set(shapes)) > 1:  # a row that does not broadcast
            continue
        arrays = operands(op, d, *shapes)
        if name == "select":
            arrays[0] = (arrays[0] > 0).astype(np.float64)
        seed = d.real(*np.broadcast_shapes(*shapes))
        expected, gradients = value_gradients(op, arrays, seed)
        tensors, leaves = as_leaves(op, [a > 0 if name == "select" and i == 0 else a for i, a in enumerate(arrays)])
        y = op(*tensors)
        y.backward(wrap(seed))
        np.testing.assert_allclose(y.detach().numpy(), expected, rtol=1e-12)
        for leaf, i in zip(leaves, differentiated(op, arrays), strict=True):
            np.testing.assert_allclose(leaf.grad.numpy(), gradients[i], rtol=1e-12, atol=1e-14)
            assert leaf.grad.shape == arrays[i].shape


@pytest.mark.parametrize("name", [name for name in UNIFORM if len(TABLE[name].inputs) == 2 and TABLE[name].promote])
def test_rows_that_promote_broadcast_and_sum_gradients_back(name):
    op, d = TABLE[name], Draw(name)
    for shapes in SHAPES:
        inputs = operands(op, d, *shapes)
        shape = np.broadcast_shapes(*shapes)
        assert first(op(*[wrap(x) for x in inputs])).shape == shape
        if op.differentiable:
            wide = pull(op, [np.array(np.broadcast_to(x, shape)) for x in inputs], seed := d.real(*shape))
            for g, w, i in zip(pull(op, inputs, seed), wide, differentiated(op, inputs), strict=True):
                assert g.shape == inputs[i].shape
                extra = tuple(range(w.ndim - g.ndim))
                ones = tuple(k + len(extra) for k, n in enumerate(g.shape) if n == 1)
                np.testing.assert_allclose(g, w.sum(extra + ones).reshape(g.shape), rtol=1e-12, atol=1e-14)


def fortran(x):
    return np.array(x, order="F")


def every_other(x):
    if not x.ndim:
        return x
    wide = (
        np.full([2 * n for n in x.shape], np.nan)
        if x.dtype.kind == "f"
        else np.zeros([2 * n for n in x.shape], x.dtype)
    )
    view = wide[tuple([slice(None, None, 2)] * x.ndim)]
    view[...] = x
    return view


def backwards(x):
    turned = tuple([slice(None, None, -1)] * x.ndim)
    return np.ascontiguousarray(x[turned])[turned] if x.ndim else x


@pytest.mark.parametrize("name", sorted(TABLE))
def test_memory_layout_changes_nothing(name):
    op, d = TABLE[name], Draw(name)
    for inputs in cases(name):
        inputs = from_the_statistics(op, inputs)
        y = compute(op, inputs)
        seed = d.real(*y.shape)
        grads = pull(op, inputs, seed) if op.differentiable else []
        for layout in fortran, every_other, backwards:
            laid = [layout(x) if isinstance(x, np.ndarray) else x for x in inputs]
            np.testing.assert_allclose(compute(op, laid), y, rtol=1e-12, atol=1e-14)
            if op.differentiable:
                for g, h in zip(pull(op, laid, layout(seed)), grads, strict=True):
                    np.testing.assert_allclose(g, h, rtol=1e-12, atol=1e-14)


@pytest.mark.parametrize("name", sorted(TABLE))
def test_no_input_is_written_to_and_no_memory_shared(name):
    op, d = TABLE[name], Draw(name)
    for inputs in cases(name):
        arrays = [x for x in inputs if isinstance(x, np.ndarray)]
        before = [x.copy() for x in arrays]
        for x in arrays:
            x.flags.writeable = False
        y = compute(op, inputs)
        if not op.view and name != "alongside":  # which hands on an array made for it
            assert not any(np.shares_memory(y, x) for x in arrays), "the result shares memory with an input"
        if op.differentiable:
            seed = d.real(*y.shape)
            tensors, leaves = as_leaves(op, from_the_statistics(op, inputs))
            result = first(op(*tensors))
            for _ in range(2):  # a second pass finds what the first has left
                result.backward(wrap(seed), retain_graph=True)
            for i, leaf in enumerate(leaves):
                grad = leaf.grad.numpy()
                assert not any(np.shares_memory(grad, x) for x in [*arrays, seed, result.detach().numpy()])
                assert not any(np.shares_memory(grad, other.grad.numpy()) for other in leaves[:i])
            once = [g.copy() for g in pull(op, inputs, seed)]
            for leaf, g in zip(leaves, once, strict=True):
                np.testing.assert_allclose(leaf.grad.numpy(), 2 * g, rtol=1e-12, atol=1e-14)
        for x, b in zip(arrays, before, strict=True):
            np.testing.assert_array_equal(x, b)


@pytest.mark.parametrize("name", DIFFERENTIABLE)
def test_float32_stays_float32_there_and_back(name):
    op = TABLE[name]
    if "labels" in op.inputs:
        pytest.skip("its labels come from another row, with weights of that row's dtype")
    inputs = from_the_statistics(op, cases(name)[-1])
    if name == "cast":
        inputs = [inputs[0], np.dtype(np.float32)]
    narrow = [x.astype(np.float32) if isinstance(x, np.ndarray) and x.dtype.kind == "f" else x for x in inputs]
    tensors, leaves = as_leaves(op, narrow)
    y = first(op(*tensors))
    assert y.dtype == np.float32
    y.backward(wrap(np.ones(y.shape, np.float32)))
    wide, wide_leaves = as_leaves(op, inputs)
    z = first(op(*wide))
    z.backward(wrap(np.ones(z.shape, z.dtype)))
    np.testing.assert_allclose(y.detach().numpy(), z.detach().numpy(), rtol=1e-4, atol=1e-4)
    for leaf, other in zip(leaves, wide_leaves, strict=True):
        assert leaf.grad.dtype == np.float32
        np.testing.assert_allclose(leaf.grad.numpy(), other.grad.numpy(), rtol=1e-3, atol=1e-3)


@pytest.mark.parametrize("name", UNIFORM)
def test_rows_of_nothing_give_nothing(name):
    op, d = TABLE[name], Draw(name)
    inputs = operands(op, d, *[(0, 3)] * len(op.inputs))
    assert compute(op, inputs).shape == (0, 3)
    if op.differentiable:
        assert [g.shape for g in pull(op, inputs, np.zeros((0, 3)))] == [(0, 3)] * len(differentiated(op, inputs))


@pytest.mark.parametrize("name", sorted(TABLE))
def test_rows_come_back_from_a_pickle_as_themselves(name):
    assert pickle.loads(pickle.dumps(TABLE[name])) is TABLE[name]
    assert copy.deepcopy(TABLE[name]) is TABLE[name]
