"""What a compiled function gives has the bits that the function gives on Values, whatever the function."""

import math

import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

import scalargrad
from scalargrad import Value, autograd, kernels
from scalargrad.nn.scalar import MLP
from scalargrad.operation import TABLE
from scalargrad.rules import ops

EDGES = [0.0, -0.0, 1.0, -1.0, 2.0, 0.5, math.inf, -math.inf, math.nan, 5e-324, 1e308, -1e-300, 3.0, 710.0]
numbers = st.one_of(st.sampled_from(EDGES), st.floats(-3, 3))
NUMBER_OPS = {key: op for key, op in TABLE.items() if op.number is not None}


def same_bits(a, b):
    """Equal to the last bit, where every nan is as good as another."""
    a, b = np.asarray(a, float), np.asarray(b, float)
    return a.shape == b.shape and bool(np.all((a.view(np.int64) == b.view(np.int64)) | (np.isnan(a) & np.isnan(b))))


def values(array):
    """The numbers of an array as Values, in lists."""
    return Value(float(array)) if np.ndim(array) == 0 else [values(x) for x in array]


def leaves(x):
    return [x] if isinstance(x, Value) else [leaf for part in x for leaf in leaves(part)]


def eagerly(fn, shared, batch):
    """What `fn` gives on Values, sample by sample; its gradients for the samples, and their sum for `shared`."""
    results, own, total = [], [], [0.0] * len(leaves(values(shared)))
    for row in batch:
        s, x = values(shared), values(row)
        y = fn(s, x)
        if isinstance(y, Value):
            y.backward()
        results.append(y.data if isinstance(y, Value) else y)
        own.append([v.grad for v in leaves(x)])
        total = [t + v.grad for t, v in zip(total, leaves(s), strict=True)]
    return results, own, total


def check(fn, shared, batch, **options):
    """Compiled and eager agree to the bit: values, gradients of each sample, and sums of gradients."""
    shared, batch = np.asarray(shared, float), np.asarray(batch, float)
    compiled = scalargrad.compile(fn, batched=[list(compiled_parameters(fn))[1]], **options)
    results, own, total = eagerly(fn, shared, batch)
    y, (of_shared, of_batch) = compiled.value_and_grad(shared, batch)
    assert same_bits(compiled(shared, batch), results)
    assert same_bits(y, results)
    # `.grad` begins at 0 and adds, which makes 0 of -0.
    assert same_bits(0.0 + of_batch.reshape(len(batch), -1), np.reshape(own, (len(batch), -1)))
    assert same_bits(of_shared.reshape(-1), total)
    return compiled


def compiled_parameters(fn):
    return fn.__code__.co_varnames[: fn.__code__.co_argcount]


@pytest.mark.parametrize("key", NUMBER_OPS)
def test_every_operation_on_numbers_has_an_instruction_with_its_bits(key):
    op = NUMBER_OPS[key]
    n = len(op.inputs)
    grid = np.array(np.meshgrid(*[EDGES] * n)).reshape(n, -1).T

    check(lambda s, x: op(*x), [0.0], grid)
    for edge in EDGES if n == 2 else ():  # one operand the same for all samples, and one constant

        def with_constant(s, x):
            return op(edge, x[0]) + op(x[0], edge)  # noqa: B023

        check(lambda s, x: op(s[0], x[0]) + op(x[0], s[0]), [edge], grid[:, :1])
        check(with_constant, [0.0], grid[:, :1])


RANDOM_STEPS = [key for key in NUMBER_OPS if key not in ("relu_grad", "select", "logical_not")]


@st.composite
def functions(draw):
    """A function of a list of shared Values and a list of one sample's, with a loop and branches in it."""
    steps = draw(
        st.lists(
            st.tuples(st.sampled_from(RANDOM_STEPS), st.integers(0, 99), st.integers(0, 99), st.sampled_from("nnnbc")),
            min_size=1,
            max_size=12,
        )
    )
    constant = draw(numbers)
    n_rounds = draw(st.integers(1, 3))

    def fn(s, x):
        known = [*s, *x]
        for _ in range(n_rounds):
            for key, i, j, kind in steps:
                op, a, b = NUMBER_OPS[key], known[i % len(known)], known[-1 - j % len(known)]
                if kind == "b":  # a branch, taken as the numbers say
                    a = a * 2 if a < b else a + b
                elif kind == "c":
                    b = constant
                known.append(op(a, b) if len(op.inputs) == 2 else op(a))
            known.append(sum((p * q for p, q in zip(s, known[-3:], strict=False)), known[-1]))
        return known[-1] if known[-2] > known[-1] or known[-1] <= 1.5 else known[-1] * known[-2]

    return fn


def uses_what_is_shared_later(s, x):
    return x[0] if x[0] < 0 else x[0] * s[0]


@given(
    functions(),
    st.lists(numbers, min_size=1, max_size=3),
    st.lists(st.tuples(numbers, numbers), min_size=1, max_size=9),
)
@example(uses_what_is_shared_later, [2.0], [(-1.0, 0.0), (3.0, 0.0)])
@settings(max_examples=25)
def test_random_programs_with_loops_and_branches_have_the_bits_of_values(fn, shared, batch):
    check(fn, shared, batch)
    captured = values(shared)
    results, _, total = eagerly(fn, shared, batch)
    assert same_bits(scalargrad.compile(lambda x: fn(captured, x), batched=["x"]).backward(batch), results)
    assert same_bits([v.grad for v in captured], total)


def polynomial(s, x):
    total = 0
    for k in range(4):
        total = total + s[k] * x[0] ** k if x[0] > s[k] else total * x[1]
    return (total + x[1]).tanh() / s[0]


@pytest.mark.parametrize("n", [1, 2, 63, 64, 65, 100, 130, 256])
def test_sums_over_a_batch_are_those_of_a_loop_over_its_samples(n):
    rng = np.random.default_rng(n)
    check(polynomial, rng.normal(size=4), rng.normal(size=(n, 2)))


def test_sums_over_more_samples_are_sums_of_runs_of_256():
    rng = np.random.default_rng(0)
    s, x = rng.normal(size=4), rng.normal(size=(700, 2))
    compiled = scalargrad.compile(polynomial, batched=["x"])
    parts = [compiled.grad(s, x[i : i + 256], wrt="s") for i in range(0, 700, 256)]
    free = scalargrad.compile(lambda s, x: (s[0] * x[0]).tanh() * s[1] + s[2] / s[3], batched=["x"])
    parts = [free.grad(s, x[i : i + 256], wrt="s") for i in range(0, 700, 256)]
    assert same_bits(free.grad(s, x, wrt="s"), parts[0] + parts[1] + parts[2])


@pytest.mark.parametrize("isa", kernels.available())
def test_every_build_gives_the_bits_of_values(isa, monkeypatch):
    """A product that the compiler fused with a sum would show here."""
    monkeypatch.setattr(kernels, "program", kernels.load(isa).program)
    rng = np.random.default_rng(3)

    def net(s, x):
        hidden = [
            (sum((w * v for w, v in zip(s[k : k + 9], x, strict=True)), s[k + 9])).tanh() for k in range(0, 40, 10)
        ]
        return sum(p * q for p, q in zip(hidden, s[40:], strict=True)) + x[0] * x[1] + x[2] * x[3] * s[0]

    for n in (1, 7, 70):
        check(net, rng.normal(size=44), rng.normal(size=(n, 9)))


def test_the_number_of_threads_changes_no_bit():
    rng = np.random.default_rng(1)
    s, x = rng.normal(size=8), rng.normal(size=(9000, 8))

    def deep(s, x):
        for _ in range(40):
            x = [(sum(w * v for w, v in zip(s, x, strict=True)) + x[k]).tanh() for k in range(8)]
        return sum(x)

    compiled = scalargrad.compile(deep, batched=["x"])
    before = scalargrad.get_num_threads()
    found = []
    try:
        for n in (1, 2, 3):
            scalargrad.set_num_threads(n)
            found.append(compiled.value_and_grad(s, x))
    finally:
        scalargrad.set_num_threads(before)
    for y, (of_s, of_x) in found[1:]:
        assert same_bits(y, found[0][0])
        assert same_bits(of_s, found[0][1][0])
        assert same_bits(of_x, found[0][1][1])


def test_an_mlp_compiles_unchanged_and_backward_adds_to_its_weights():
    model, twin = MLP(2, [4, 4, 1]), MLP(2, [4, 4, 1])
    for p, q in zip(model.parameters(), twin.parameters(), strict=True):
        q.data = p.data
    rng = np.random.default_rng(5)
    x, y = rng.normal(size=(30, 2)), rng.choice([-1.0, 1.0], size=30)
    loss = scalargrad.compile(lambda x, y: (1 - y * model(x)).relu(), batched=("x", "y"))
    for _ in range(3):  # the weights are read anew in every call
        losses = loss.backward(x, y)
        expected = []
        for xs, label in zip(x.tolist(), y.tolist(), strict=True):
            e = (1 - label * twin(xs)).relu()
            expected.append(e.data)
            for q in twin.parameters():
                q.data, q.grad = q.data, q.grad
        total = [0.0] * len(twin.parameters())
        for xs, label in zip(x.tolist(), y.tolist(), strict=True):
            fresh = (1 - Value(label) * twin(values(xs))).relu()
            fresh_grads = autograd.grad(fresh, twin.parameters(), allow_unused=True)
            total = [t + (g or 0.0) for t, g in zip(total, fresh_grads, strict=True)]
        assert same_bits(losses, expected)
        for p, q, t in zip(model.parameters(), twin.parameters(), total, strict=True):
            q.grad += t
            assert same_bits(p.grad, q.grad)
            p.data -= 0.01 * p.grad
            q.data -= 0.01 * q.grad
    assert loss.n_traces == 1


def test_simplifications_keep_signed_zeros():
    def fn(s, x):
        return [
            x[0] + 0,
            x[0] * 1,
            x[0] - 0,
            -(0 - x[0]),
            -x[0],
            x[0] / 2,
            x[0] ** 1,
            x[0] + -0.0,
            0 - x[0],
            x[0] * -1,
            x[0] / 3,
        ]

    compiled = scalargrad.compile(fn, batched=["x"])
    for edge in EDGES:
        assert same_bits(compiled([0.0], [[edge]])[0], [v.data for v in fn([Value(0.0)], [Value(edge)])])


def test_second_and_mixed_derivatives_have_the_bits_of_values():
    def energy(s, x):
        return (s[0] * x[0]).sin() * x[1].exp() + s[1] / (1 + x[0] * x[0]) + ops.pow(x[0] * x[0] + 1, s[1])

    def hessian(s, x):
        first = autograd.grad(energy(s, x), x, create_graph=True)
        return [list(autograd.grad(g, x, create_graph=True)) for g in first]

    rng = np.random.default_rng(2)
    s, x = rng.normal(size=2), rng.normal(size=(5, 2))
    compiled = scalargrad.compile(hessian, batched=["x"])
    found = compiled(s, x)
    assert found.shape == (5, 2, 2)
    for row, h in zip(x, found, strict=True):
        expected = [[v.data for v in line] for line in hessian(values(s), values(row))]
        assert same_bits(h, expected)


def test_the_gradient_of_a_gradient_has_the_bits_of_values():
    def slope(s, x):
        (g,) = autograd.grad((s[0] * x[0] * x[0]).tanh(), [x[0]], create_graph=True)
        return g * g + x[1]

    rng = np.random.default_rng(4)
    check(slope, rng.normal(size=1), rng.normal(size=(6, 2)))


def test_a_jacobian_vector_product_compiles():
    def f(x):
        return [x[0] * x[1], x[0].sin() + x[1]]

    def jvp(x, v):
        """The gradient of Σ u · f for u is f; of <that gradient for x, v>, the product with v."""
        u = [Value(0.0), Value(0.0)]
        back = autograd.grad(sum(a * b for a, b in zip(u, f(x), strict=True)), x, create_graph=True)
        return list(autograd.grad(sum(a * b for a, b in zip(back, v, strict=True)), u, create_graph=True))

    compiled = scalargrad.compile(jvp, batched=("x",))
    x, v = np.array([[0.3, 2.0], [1.0, -1.0]]), np.array([0.5, -2.0])
    expected = [[a[1] * v[0] + a[0] * v[1], math.cos(a[0]) * v[0] + v[1]] for a in x]
    np.testing.assert_allclose(compiled(x, v), expected, rtol=1e-14)
