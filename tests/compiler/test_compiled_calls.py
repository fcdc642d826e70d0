"""How compiled functions are called, what they refuse, and what they survive."""

import math
import pickle
import re

import numpy as np
import pytest

import scalargrad
from scalargrad import Tensor, Value, autograd
from scalargrad.compiler import TracingError
from scalargrad.operation import Op
from scalargrad.rules import ops


@scalargrad.compile(batched=("x",))
def line(w, b, x):
    """w · x + b."""
    return w[0] * x[0] + w[1] * x[1] + b


W, B = np.array([2.0, -1.0]), 0.5
X = np.array([[1.0, 2.0], [3.0, 4.0], [0.0, -1.0]])


def test_arrays_lists_and_keywords_give_one_number_for_each_sample():
    expected = [0.5, 2.5, 1.5]
    assert line(W, B, X).tolist() == expected
    assert line(x=X.tolist(), w=[2, -1], b=np.float32(0.5)).tolist() == expected
    assert line(W, B, X[::-1][::-1].astype(">f4")).tolist() == expected
    assert line.__name__ == "line"
    assert line.__doc__ == "w · x + b."


def test_gradients_are_summed_for_what_is_shared_and_separate_for_what_is_batched():
    y, (of_w, of_b, of_x) = line.value_and_grad(W, B, X)
    assert y.tolist() == [0.5, 2.5, 1.5]
    assert of_w.tolist() == [4.0, 5.0]
    assert of_b.tolist() == 3.0
    assert of_x.tolist() == [[2.0, -1.0]] * 3
    assert line.grad(W, B, X, wrt="w").tolist() == [4.0, 5.0]
    assert [g.tolist() for g in line.grad(W, B, X, wrt=("x", "b"))] == [[[2.0, -1.0]] * 3, 3.0]


def test_without_batched_arguments_a_function_gives_one_number():
    f = scalargrad.compile(lambda x: x[0] * x[0] + x[1].sin())
    y, (g,) = f.value_and_grad([3.0, 0.0])
    assert (float(y), g.tolist()) == (9.0, [6.0, 1.0])
    assert np.shape(f([3.0, 0.0])) == ()
    assert float(scalargrad.compile(lambda x: x.exp())(0.0)) == 1.0


def test_samples_and_results_may_have_several_dimensions():
    def product(a, b):
        return [[sum(p * q for p, q in zip(row, column, strict=True)) for column in zip(*b, strict=True)] for row in a]

    rng = np.random.default_rng(0)
    a, b = rng.normal(size=(5, 2, 3)), rng.normal(size=(3, 4))
    np.testing.assert_allclose(scalargrad.compile(product, batched=("a",))(a, b), a @ b, rtol=1e-13)


def test_defaults_are_arguments_like_others():
    f = scalargrad.compile(lambda x, scale=3.0: x * scale, batched=("x",))
    assert f([1.0, 2.0]).tolist() == [3.0, 6.0]
    assert f([1.0, 2.0], scale=1.0).tolist() == [1.0, 2.0]


def test_values_in_means_that_the_function_runs():
    w = [Value(2.0), Value(-1.0)]
    y = line(w, 0.5, [1.0, 2.0])
    assert type(y) is Value
    y.backward()
    assert [v.grad for v in w] == [1.0, 2.0]


def test_a_compiled_function_may_call_another():
    outer = scalargrad.compile(lambda w, x: line(w, 1.0, x).tanh() ** 2, batched=("x",))
    expected = [(2 * a - b + 1) for a, b in X]
    np.testing.assert_allclose(outer(W, X), np.tanh(expected) ** 2, rtol=1e-15)


@pytest.mark.parametrize("n", [0, 1, 1_000_000])
def test_batches_of_any_size(n):
    x = np.arange(2.0 * n).reshape(n, 2)
    y, (of_w, of_x) = line.value_and_grad(W, B, x, wrt=("w", "x"))
    assert y.shape == (n,)
    assert of_x.shape == (n, 2)
    np.testing.assert_allclose(y, x @ W + B)
    np.testing.assert_allclose(of_w, x.sum(0), rtol=1e-12)


def test_a_program_may_have_hundreds_of_thousands_of_operations():
    def walk(x):
        for _ in range(100_000):
            x = x + x * 1e-6
        return x

    y, g = scalargrad.compile(walk, batched=("x",)).value_and_grad([1.0, 2.0], wrt="x")
    np.testing.assert_allclose(y, np.array([1.0, 2.0]) * (1 + 1e-6) ** 100_000, rtol=1e-9)
    np.testing.assert_allclose(g, (1 + 1e-6) ** 100_000, rtol=1e-9)


@pytest.mark.parametrize(
    ("fn", "expected", "gradient"),
    [
        (lambda x, w: 3, 3.0, 0.0),
        (lambda x, w: Value(2.5) * 2, 5.0, 0.0),
        (lambda x, w: w, 7.0, 1.0),
        (lambda x, w: w * w, 49.0, 14.0),
        (lambda x, w: Value(1.0) if x > 0 else w, None, None),
    ],
)
def test_a_function_may_be_constant_or_ignore_an_argument(fn, expected, gradient):
    f = scalargrad.compile(fn, batched=("x",))
    y, (of_x, of_w) = f.value_and_grad([1.0, -2.0, 3.0], 7.0)
    if expected is None:
        expected, gradient = [1.0, 7.0, 1.0], 1 / 3
    np.testing.assert_array_equal(y, np.broadcast_to(expected, 3))
    assert of_x.tolist() == [0.0, 0.0, 0.0]
    assert of_w == pytest.approx(3 * gradient)


def test_no_numbers_at_all_may_be_given():
    assert scalargrad.compile(lambda x: [], batched=("x",))([1.0, 2.0]).shape == (2, 0)


def test_arrays_of_any_layout_alignment_and_byte_order_may_be_given():
    x = np.arange(6.0).reshape(3, 2)
    raw = np.zeros(x.nbytes + 1, np.uint8)[1:]
    unaligned = raw.view(np.float64).reshape(3, 2)
    unaligned[:] = x
    f = scalargrad.compile(lambda x: x[0] * 2 + x[1], batched=("x",))
    for same in (unaligned, np.asfortranarray(x), x.astype(x.dtype.newbyteorder()), x[::-1].copy()[::-1]):
        assert f(same).tolist() == f(x).tolist()


def test_several_numbers_may_be_given_but_not_differentiated():
    f = scalargrad.compile(lambda x: [x, [x * x][0], 1.0], batched=("x",))
    assert f([2.0, 3.0]).tolist() == [[2.0, 4.0, 1.0], [3.0, 9.0, 1.0]]
    with pytest.raises(RuntimeError, match=r"gradients are those of one number, but the function gives \(3,\) of them"):
        f.grad([2.0])


@pytest.mark.parametrize(
    ("arguments", "error", "words"),
    [
        ((W, B, X.astype(complex)), TypeError, "expected real numbers as 'x', got an array of complex128"),
        ((W, "b", X), TypeError, "expected real numbers as 'b', got an array of <U1"),
        ((None, B, X), TypeError, "expected real numbers as 'w', got NoneType"),
        ((W, B, 1.0), TypeError, "expected a number for each sample as 'x', got a single number"),
        ((W, B, [[1.0, 2.0], [3.0]]), ValueError, "argument 'x'"),
        ((W, B), TypeError, "missing a required argument: 'x'"),
        ((W[:1], B, X), IndexError, "'w' of shape (1,)"),
    ],
)
def test_arguments_that_do_not_fit_are_named(arguments, error, words):
    with pytest.raises(error, match=re.escape(words)):
        line(*arguments)


def test_batches_of_different_lengths_are_refused():
    f = scalargrad.compile(lambda x, y: x * y, batched=("x", "y"))
    with pytest.raises(ValueError, match="expected as many samples in 'y' as in 'x', 3; got 2"):
        f([1.0, 2.0, 3.0], [1.0, 2.0])


@pytest.mark.parametrize(
    ("make", "error", "words"),
    [
        (lambda: scalargrad.compile(3), TypeError, "expected a function, got int"),
        (lambda: scalargrad.compile(line), TypeError, "compiled already"),
        (
            lambda: scalargrad.compile(lambda x: x, batched=("y",)),
            ValueError,
            "batched names 'y'; the parameters are x",
        ),
        (lambda: scalargrad.compile(lambda x: x, batched="x"), TypeError, "expected a sequence of names as batched"),
        (lambda: scalargrad.compile(lambda *x: x), TypeError, r"has the parameter \*x"),
        (lambda: scalargrad.compile(lambda wrt: wrt), TypeError, "has a parameter wrt"),
        (lambda: scalargrad.compile(lambda x: x, dtype="float16"), TypeError, "expected float32 or float64 as dtype"),
        (
            lambda: scalargrad.compile(lambda x: x, max_traces=0),
            ValueError,
            "expected a positive integer as max_traces",
        ),
        (lambda: line.grad(W, B, X, wrt="z"), ValueError, "wrt names 'z'; the parameters are w, b, x"),
        (lambda: line.grad([Value(1.0)], B, X), TypeError, "expected arrays"),
    ],
)
def test_options_that_do_not_fit_are_refused(make, error, words):
    with pytest.raises(error, match=words):
        make()


@pytest.mark.parametrize(
    ("read", "what"),
    [
        (lambda x: x * x.data, r"its \.data was read"),
        (lambda x: x * math.exp(x), r"float\(\) was asked of it"),
        (lambda x: x * float(x), r"float\(\) was asked of it"),
        (lambda x: [x, x][int(x)], r"int\(\) was asked of it"),
        (lambda x: x * round(float(x * 2)), r"float\(\) was asked of it"),
    ],
)
def test_reading_the_number_of_a_value_is_refused_with_the_reason_and_the_line(read, what):
    with pytest.raises(
        TracingError, match=what + r".* \(.*test_compiled_calls\.py:\d+\): the number of one sample would be"
    ):
        scalargrad.compile(read, batched=("x",))([1.0])
    with pytest.raises(TracingError, match=r"use autograd\.grad"):
        scalargrad.compile(lambda x: (x * x).backward(), batched=("x",))([1.0])


def test_the_number_of_a_captured_value_may_not_be_read_with_float_either():
    w = Value(2.0)
    with pytest.raises(TracingError, match="baked into the program"):
        scalargrad.compile(lambda x: x * float(w), batched=("x",))([1.0])
    assert float(w) == 2.0  # and outside it may
    assert scalargrad.compile(lambda x: x * int(Value(3.0)), batched=("x",))([2.0]).tolist() == [6.0]


def test_setting_data_is_refused():
    def fn(x):
        x.data = 3.0
        return x

    with pytest.raises(TracingError, match=r"cannot be set"):
        scalargrad.compile(fn, batched=("x",))([1.0])


@pytest.mark.parametrize(
    ("fn", "words"),
    [
        (lambda x: "no", "expected a Value, a number or lists of them as the result, got str"),
        (lambda x: None, "got NoneType"),
        (lambda x: [x, [x]], "nested lists of different lengths"),
    ],
)
def test_results_that_are_no_numbers_are_refused(fn, words):
    with pytest.raises(TypeError, match=words):
        scalargrad.compile(fn, batched=("x",))([1.0])


def test_an_operation_without_an_instruction_is_named():
    cube = Op(lambda a: a**3, lambda a: a**3, "a", lambda g, a: g * 3 * a * a)
    cube.key = "cube"
    with pytest.raises(NotImplementedError, match="the operation 'cube' has no instruction"):
        scalargrad.compile(lambda x: cube(x), batched=("x",))([1.0])


def test_a_value_kept_from_an_earlier_trace_is_refused():
    kept = []

    def fn(x):
        kept.append(x)
        return x + kept[0]

    f = scalargrad.compile(fn, batched=("x",))
    f([1.0])
    with pytest.raises(TracingError, match="kept from an earlier call"):
        f.grad([1.0])


def test_captured_values_are_read_at_every_call_and_get_gradients():
    a, b = Value(2.0), Value(3.0)
    c = a * b  # computed outside: an input, whose gradient goes on to a and b
    f = scalargrad.compile(lambda x: x * c + a * a, batched=("x",))
    assert f.backward([1.0, 2.0]).tolist() == [10.0, 16.0]
    assert (a.grad, b.grad) == (3 * 3.0 + 2 * 4.0, 3 * 2.0)
    a.data = 10.0
    assert f([0.0]).tolist() == [100.0]


def test_float32_computes_in_float32():
    f = scalargrad.compile(lambda w, x: (w * x).exp() + 1, batched=("x",), dtype=scalargrad.float32)
    x = np.linspace(-2, 2, 9)
    y, (of_w, of_x) = f.value_and_grad(0.3, x)
    assert {y.dtype, of_w.dtype, of_x.dtype} == {np.dtype(np.float32)}
    np.testing.assert_allclose(y, np.exp(0.3 * x) + 1, rtol=1e-6)
    np.testing.assert_allclose(of_x, 0.3 * np.exp(0.3 * x), rtol=1e-6)
    huge = Value(1e300)  # inf in float32, without a warning
    f = scalargrad.compile(lambda x: x * huge - 1e200, batched=("x",), dtype="float32")
    assert f([-1.0]).tolist() == [-math.inf]


def plain(x):
    return x * x


named = scalargrad.compile(plain, batched=("x",), dtype="float32")


def test_a_compiled_function_is_pickled_by_name_and_traced_again():
    assert pickle.loads(pickle.dumps(line)) is line
    copy = pickle.loads(pickle.dumps(named))
    assert copy is not named
    assert copy([3.0]).tolist() == [9.0]
    assert copy([3.0]).dtype == np.float32
    with pytest.raises((pickle.PicklingError, AttributeError)):
        pickle.dumps(scalargrad.compile(lambda x: x))


def test_the_listing_shows_the_program():
    f = scalargrad.compile(lambda w, x: ((w[0] * x[0] + w[1] * x[1]) * w[0].exp()).relu(), batched=("x",))
    text = f.listing(W, X, wrt=("w",))
    assert "once a call" in text
    assert re.search(r"once\[0\] = r\d", text)
    assert re.search(r"r\d = w\[0\] \* r\d \+ w\[1\] \* r\d", text)
    assert re.search(r"grad w\[1\] \+= r\d", text)
    assert "relu_grad" in text
    branches = scalargrad.compile(lambda x: x if x > 0 else -x, batched=("x",)).listing([1.0, -1.0])
    assert re.search(r"test_compiled_calls\.py:\d+ is True", branches)
    assert re.search(r"test_compiled_calls\.py:\d+ is False", branches)


def energy(w, x, y):
    return ((w[0] * x[0] + w[1] * x[1]).tanh() - y) ** 2 + ops.maximum(w[0], x[1])


def test_tensors_in_means_one_node_of_their_graph_with_its_gradient():
    f = scalargrad.compile(energy, batched=("x", "y"))
    w = scalargrad.tensor([0.3, -0.2], dtype=scalargrad.float64, requires_grad=True)
    x = scalargrad.tensor([[1.0, 2.0], [0.5, -1.0]], requires_grad=True)
    y = scalargrad.tensor([1.0, -1.0])
    out = f(w, x, y)
    assert isinstance(out, Tensor)
    assert "EnergyBackward" in repr(out.grad_fn)
    weights = np.array([1.0, 3.0])
    (out * scalargrad.tensor(weights)).sum().backward()
    of_w, of_x = np.zeros(2), []
    for row, label, weight in zip(x.array.tolist(), y.array.tolist(), weights.tolist(), strict=True):
        ws, xs = [Value(0.3), Value(-0.2)], [Value(v) for v in row]
        (energy(ws, xs, label) * weight).backward()
        of_w += [v.grad for v in ws]
        of_x.append([v.grad for v in xs])
    np.testing.assert_allclose(w.grad.array, of_w, rtol=1e-13)
    np.testing.assert_allclose(x.grad.array, of_x, rtol=1e-6)
    assert x.grad.dtype == np.float32


def test_second_derivatives_go_through_the_graph_of_tensors():
    f = scalargrad.compile(energy, batched=("x", "y"))
    w = scalargrad.tensor([0.3, -0.2], dtype=scalargrad.float64, requires_grad=True)
    x = scalargrad.tensor([[1.0, 2.0], [0.5, -1.0]], dtype=scalargrad.float64)
    y = scalargrad.tensor([1.0, -1.0], dtype=scalargrad.float64)
    (g,) = autograd.grad(f(w, x, y).sum(), w, create_graph=True)
    hessian = [autograd.grad(g[k], w, retain_graph=True)[0].array for k in range(2)]
    expected = np.zeros((2, 2))
    for row, label in zip(x.array.tolist(), y.array.tolist(), strict=True):
        ws = [Value(0.3), Value(-0.2)]
        first = autograd.grad(energy(ws, row, label), ws, create_graph=True)
        expected += [list(autograd.grad(h, ws)) for h in first]
    np.testing.assert_allclose(hessian, expected, rtol=1e-12)
