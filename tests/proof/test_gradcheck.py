"""gradcheck accepts what is right, and catches what is wrong, wherever it is, and says where. Tests of the tester."""

import warnings

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import scalargrad as sg
from scalargrad import Value
from scalargrad.autograd import Function, GradcheckError, KinkWarning, gradcheck, gradgradcheck
from scalargrad.testing import tensors


def leaf(*shape, low=0.5, high=2.0):
    numbers = np.random.default_rng(sum(shape)).uniform(low, high, shape)
    return sg.tensor(numbers, requires_grad=True)


def custom(forward, *derivatives):
    """A Function of two factors, with the derivatives to be tested: each of (g, a, b)."""

    class Made(Function):
        @staticmethod
        def forward(ctx, a, b):
            ctx.save_for_backward(a, b)
            return forward(a, b)

        @staticmethod
        def backward(ctx, g):
            a, b = ctx.saved_tensors
            return tuple(d(g, a, b) for d in derivatives)

    return Made.apply


def cubic(a, b):
    return a * a * b + b


RIGHT = (lambda g, a, b: g * 2 * a * b, lambda g, a, b: g * (a * a + 1))
WRONG = {
    "a thousandth too much": (lambda g, a, b: g * 2 * a * b * 1.001, RIGHT[1]),
    "a millionth too much, ten times the tolerance": (RIGHT[0], lambda g, a, b: g * (a * a + 1) * (1 + 1e-5)),
    "sign": (lambda g, a, b: -g * 2 * a * b, RIGHT[1]),
    "swapped": (RIGHT[1], RIGHT[0]),
    "a term dropped": (RIGHT[0], lambda g, a, b: g * a * a),
    "an operand for another": (lambda g, a, b: g * 2 * b * b, RIGHT[1]),
    "without g": (lambda g, a, b: 2 * a * b, RIGHT[1]),
    "none": (RIGHT[0], lambda g, a, b: None),
}


@pytest.mark.parametrize("fast_mode", [False, True])
def test_right_derivatives_pass(fast_mode):
    assert gradcheck(custom(cubic, *RIGHT), (leaf(2, 3), leaf(2, 3)), fast_mode=fast_mode)
    assert gradgradcheck(custom(cubic, *RIGHT), (leaf(2, 3), leaf(2, 3)), fast_mode=fast_mode)


@pytest.mark.parametrize("fast_mode", [False, True])
@pytest.mark.parametrize("mutant", WRONG)
def test_wrong_derivatives_are_caught(mutant, fast_mode):
    inputs = leaf(2, 3), leaf(2, 3, low=1.0)
    with pytest.raises(GradcheckError, match="Jacobian mismatch for output 0 with respect to input"):
        gradcheck(custom(cubic, *WRONG[mutant]), inputs, fast_mode=fast_mode)
    assert gradcheck(custom(cubic, *WRONG[mutant]), inputs, fast_mode=fast_mode, raise_exception=False) is False


@pytest.mark.parametrize("shape", [(3, 4), (30, 40)])
@given(number=st.integers(0, 11))
def test_one_wrong_entry_is_found_and_named(shape, number):
    """Entry by entry in a small input; by halving a random direction in a large one."""
    entry = tuple(int(i) for i in np.unravel_index(number * (shape[0] * shape[1] // 12), shape))
    off = np.ones(shape)
    off[entry] = 1.001
    once = custom(lambda a, b: a * b, lambda g, a, b: g * b * sg.tensor(off), lambda g, a, b: g * a)
    with pytest.raises(GradcheckError) as caught:
        gradcheck(once, (leaf(*shape), leaf(*shape, low=1.0)))
    error = caught.value
    assert (error.input, error.entry, error.output, error.output_entry) == (0, entry, 0, entry)
    assert error.analytic == pytest.approx(error.numeric * 1.001, rel=1e-6)
    words = str(error)
    for part in (
        str(list(entry)),
        f"{error.analytic!r}",
        f"{error.numeric!r}",
        "relative error: 0.000999",
        "reproduce",
    ):
        assert part in words


def test_the_report_can_be_pasted():
    func = custom(cubic, *WRONG["a term dropped"])
    with pytest.raises(GradcheckError) as caught:
        gradcheck(func, (leaf(2), leaf(2, low=1.0)))
    _, _, lines = str(caught.value).partition("to reproduce:\n")
    names = {"scalargrad": sg, "func": func, "gradcheck": gradcheck}
    with pytest.raises(GradcheckError) as again:
        exec("\n".join(line.strip() for line in lines.splitlines()), names)
    assert str(again.value) == str(caught.value)


def test_the_report_sees_what_all_wrong_entries_have_in_common():
    for mutant, words in (("sign", "-1 times what it should be"), ("none", "the gradient is 0 in all of them")):
        with pytest.raises(GradcheckError, match=words):
            gradcheck(custom(cubic, *WRONG[mutant]), (leaf(2), leaf(2, low=1.0)))


def test_a_wrong_second_derivative_is_caught_by_gradgradcheck_only():
    detached = custom(cubic, lambda g, a, b: g * 2 * a.detach() * b, RIGHT[1])
    inputs = leaf(2), leaf(2, low=1.0)
    assert gradcheck(detached, inputs)
    with pytest.raises(GradcheckError, match="gradgradcheck: Jacobian mismatch"):
        gradgradcheck(detached, inputs)


def test_broadcasting_undone_along_the_wrong_axis_is_caught():
    wrong = custom(lambda a, b: a * b, lambda g, a, b: g * b, lambda g, a, b: (g * a).sum(1))
    with pytest.raises(GradcheckError):
        gradcheck(wrong, (leaf(3, 3), leaf(3)))


def test_a_backward_that_is_not_deterministic_is_caught():
    noise = iter(np.linspace(0.0, 1.0, 1000))
    drifting = custom(cubic, lambda g, a, b: g * 2 * a * b + next(noise) * 1e-6, RIGHT[1])
    with pytest.raises(GradcheckError, match=r"Backward is not reentrant.*nondet_tol is 0"):
        gradcheck(drifting, (leaf(2), leaf(2)))
    assert gradcheck(drifting, (leaf(2), leaf(2)), nondet_tol=1.0, atol=0.1)


def test_a_function_that_is_not_deterministic_is_caught():
    noise = iter(np.linspace(0.0, 1.0, 1000))
    with pytest.raises(GradcheckError, match="not deterministic"):
        gradcheck(lambda a: a + next(noise), leaf(2))


def test_a_function_that_writes_to_its_input_is_caught():
    def write(a):
        a.data.mul_(2.0)
        return a * 1.0

    with pytest.raises(GradcheckError, match="func writes to its differentiable input 0"):
        gradcheck(write, leaf(2))


def test_a_backward_that_takes_zeros_for_granted_is_caught():
    class Halves(Function):
        @staticmethod
        def forward(ctx, x):
            ctx.set_materialize_grads(False)
            return x * 2.0, x * 3.0

        @staticmethod
        def backward(ctx, g, h):
            return sg.full((2,), 5.0, dtype=sg.float64) if h is None else g * 2.0 + h * 3.0

    with pytest.raises(GradcheckError, match="undefined output grads"):
        gradcheck(Halves.apply, leaf(2))


@given(x=tensors(), y=tensors(()))
def test_any_layout_and_any_shape_is_checked_and_left_as_it_was(x, y):
    before = x.numpy(force=True).copy()
    assert gradcheck(lambda x, y: (x * y).tanh(), (x, y))
    np.testing.assert_array_equal(x.numpy(force=True), before)
    assert x.grad is None


def test_functions_of_values_are_checked_too():
    assert gradcheck(lambda a, b: (a * b).tanh() + a / b, (Value(0.3), Value(-1.7)))
    assert gradgradcheck(lambda a, b: (a * b).tanh() + a / b, (Value(0.3), Value(-1.7)))

    def lost(a):
        return a * Value(a.data)

    with pytest.raises(GradcheckError, match="Jacobian mismatch"):
        gradcheck(lost, Value(0.5))


def test_what_depends_on_an_input_but_carries_no_gradient_is_caught():
    for lost in (lambda a: a.detach() * a, lambda a: a.detach() * 3.0):
        with pytest.raises(GradcheckError):
            gradcheck(lost, leaf(2))


def test_several_inputs_and_outputs_and_what_is_neither():
    def two(a, flag, b):
        return (a @ b, sg.arange(3), a.sum()) if flag else a

    assert gradcheck(two, (leaf(2, 3), True, leaf(3, 2)))
    assert gradcheck(lambda a, b: (a * 2.0, b * 3.0), (leaf(2), leaf(3)))
    assert gradcheck(lambda a, b: a * b, (leaf(2), sg.ones(2, dtype=sg.float32).double()))


@pytest.mark.parametrize("fast_mode", [False, True])
def test_a_kink_is_reported_and_no_failure(fast_mode):
    x = sg.tensor([0.7, 0.0, -0.7], dtype=sg.float64, requires_grad=True)
    for kinked in (sg.relu, sg.abs, lambda x: sg.maximum(x, -x), lambda x: x.clamp(min=0.0), lambda x: x.floor()):
        with pytest.warns(KinkWarning, match=r"kink in input 0 at \[1\]"):
            assert gradcheck(kinked, x, fast_mode=fast_mode)


def test_a_kink_nearby_is_no_kink_here():
    x = sg.tensor([1e-5, -1e-4, 3e-4, 2e-3], dtype=sg.float64, requires_grad=True)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert gradcheck(sg.relu, x)


@pytest.mark.parametrize("fast_mode", [False, True])
@pytest.mark.parametrize("slope", [-0.5, 1.5])
def test_a_gradient_that_no_kink_can_explain_is_caught(slope, fast_mode):
    """At a kink the gradient lies between the slopes to the two sides: relu'(0) = 1.5 is wrong."""
    wrong = custom(
        lambda a, b: a.relu(), lambda g, a, b: g * sg.where(a == 0, slope, (a > 0).double()), lambda g, a, b: g * 0.0
    )
    x = sg.tensor([1.0, 0.0, -1.0], dtype=sg.float64, requires_grad=True)
    with pytest.raises(GradcheckError, match="one-sided"):
        gradcheck(wrong, (x, leaf(3)), fast_mode=fast_mode)


def test_a_wrong_entry_beside_a_kink_is_caught():
    wrong = custom(lambda a, b: a.relu() * b, lambda g, a, b: g * (a > 0) * b, lambda g, a, b: g * a.relu() * 1.001)
    x = sg.tensor([1.0, 0.0, -1.0], dtype=sg.float64, requires_grad=True)
    for fast_mode in (False, True):
        with pytest.raises(GradcheckError, match="with respect to input 1"):
            gradcheck(wrong, (x, leaf(3)), fast_mode=fast_mode)


def test_strong_curvature_and_large_numbers_are_no_failure():
    assert gradcheck(lambda a: 1 / a, sg.tensor([0.004, -0.01, 3.0], dtype=sg.float64, requires_grad=True))
    assert gradcheck(sg.log, sg.tensor([1e-3, 5e-4, 1e7], dtype=sg.float64, requires_grad=True))
    assert gradcheck(lambda a: a * a, sg.tensor([1e6, -1e8], dtype=sg.float64, requires_grad=True))
    assert gradcheck(lambda a: a.sum() * 1e6, leaf(3))


def test_the_edge_of_a_domain_is_named():
    with pytest.raises(GradcheckError, match="on the edge of the function's domain"):
        gradcheck(sg.sqrt, sg.zeros(1, dtype=sg.float64).requires_grad_())


@pytest.mark.parametrize(
    ("inputs", "func", "error", "words"),
    [
        (sg.ones(2, requires_grad=True), sg.exp, ValueError, "input 0 has dtype float32.*expected float64"),
        (sg.ones(2, dtype=sg.float64), sg.exp, ValueError, "at least one input tensor to require gradient"),
        (leaf(2), lambda a: a.float(), ValueError, "output 0 has dtype float32; expected float64"),
        (leaf(2), lambda a: a.tolist(), ValueError, "output 0 is a float"),
        (leaf(2), lambda a: a > 0, ValueError, "at least one output of a floating point dtype"),
        (leaf(1).expand(3), sg.exp, RuntimeError, "input 0 has a dimension with stride 0"),
    ],
)
def test_what_cannot_be_checked_is_refused(inputs, func, error, words):
    with pytest.raises(error, match=words):
        gradcheck(func, (inputs,))


def test_what_pytorch_has_and_this_library_has_not_is_refused():
    for name in ("check_forward_ad", "check_batched_grad", "check_batched_forward_grad", "masked"):
        with pytest.raises(NotImplementedError, match=name):
            gradcheck(sg.exp, leaf(2), **{name: True})
    with pytest.raises(NotImplementedError, match="check_fwd_over_rev"):
        gradgradcheck(sg.exp, leaf(2), check_fwd_over_rev=True)


def test_given_weights_and_weights_with_gaps_are_used():
    assert gradgradcheck(lambda a: a.exp(), leaf(2, 2), gen_non_contig_grad_outputs=True)
    assert gradgradcheck(lambda a: a.exp(), leaf(2, 2), leaf(2, 2))


def test_a_network_is_checked_along_directions_in_its_parameters():
    net = sg.nn.Sequential(sg.nn.Conv2d(1, 3, 3), sg.nn.Tanh(), sg.nn.Flatten(), sg.nn.Linear(48, 10)).double()
    x = leaf(2, 1, 6, 6)
    target = sg.tensor([3, 7])
    assert gradcheck(lambda x, *_: sg.nn.functional.cross_entropy(net(x), target), (x, *net.parameters()))
