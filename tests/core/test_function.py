"""autograd.Function: operations with a derivative of the user's own."""

import gc
import weakref

import numpy as np
import pytest

import scalargrad as sg
from scalargrad import autograd
from scalargrad.autograd import Function


def leaf(*data):
    return sg.tensor(data[0] if len(data) == 1 else list(data), dtype=sg.float64, requires_grad=True)


def same(t, expected):
    np.testing.assert_allclose(t.detach().numpy(), expected, rtol=1e-12, atol=0)


class Cube(Function):
    """x³, whose derivative is itself recordable."""

    @staticmethod
    def forward(ctx, x):
        ctx.save_for_backward(x)
        return x * x * x

    @staticmethod
    def backward(ctx, g):
        (x,) = ctx.saved_tensors
        return g * 3 * x * x


class Exp(Function):
    """exp, which saves its result."""

    @staticmethod
    def forward(ctx, x):
        y = x.exp()
        ctx.save_for_backward(y)
        return y

    @staticmethod
    def backward(ctx, g):
        (y,) = ctx.saved_tensors
        return g * y


class Scale(Function):
    """x · k, with the number kept on ctx by setup_context."""

    @staticmethod
    def forward(x, k):
        return x * k

    @staticmethod
    def setup_context(ctx, inputs, output):
        _, ctx.k = inputs
        ctx.shape = output.shape

    @staticmethod
    def backward(ctx, g):
        assert g.shape == ctx.shape
        return g * ctx.k, None


class SumAndProduct(Function):
    """Two results."""

    @staticmethod
    def forward(ctx, a, b):
        ctx.save_for_backward(a, b)
        return a + b, a * b

    @staticmethod
    def backward(ctx, g, h):
        a, b = ctx.saved_tensors
        return g + h * b, g + h * a


def test_the_users_derivative_is_used():
    x = leaf(2.0, -1.0)
    y = Cube.apply(x)
    same(y, [8.0, -1.0])
    assert y.grad_fn.name() == "CubeBackward"
    y.sum().backward()
    same(x.grad, [12.0, 3.0])


def test_second_and_third_derivatives_go_through_the_users():
    x = leaf(2.0)
    (d1,) = autograd.grad(Cube.apply(x), x, create_graph=True)
    (d2,) = autograd.grad(d1, x, create_graph=True)
    (d3,) = autograd.grad(d2, x)
    same(d1, 12.0)
    same(d2, 12.0)
    same(d3, 6.0)


def test_a_saved_result_leads_back_to_its_own_node():
    x = leaf(0.5)
    d = Exp.apply(x)
    for _ in range(3):
        (d,) = autograd.grad(d, x, create_graph=True)
    same(d, np.exp(0.5))


def test_setup_context_takes_over_the_saving():
    x = leaf(2.0, 3.0)
    Scale.apply(x, 5.0).sum().backward()
    same(x.grad, [5.0, 5.0])


def test_attributes_on_ctx_are_seen_on_grad_fn():
    y = Scale.apply(leaf(1.0), 7.0)
    assert y.grad_fn.k == 7.0


def test_several_results_are_pulled_together():
    a, b = leaf(2.0), leaf(5.0)
    s, p = SumAndProduct.apply(a, b)
    (s * p).backward()
    same(a.grad, 10 + 7 * 5)
    same(b.grad, 10 + 7 * 2)
    assert s.grad_fn is p.grad_fn
    assert (s.output_nr, p.output_nr) == (0, 1)


def test_results_that_were_not_used_give_zeros_of_their_shape():
    a, b = leaf(2.0, 3.0), leaf(5.0, 6.0)
    s, _p = SumAndProduct.apply(a, b)
    s.sum().backward()
    same(a.grad, [1.0, 1.0])


def test_set_materialize_grads_off_gives_none():
    seen = []

    class Two(Function):
        @staticmethod
        def forward(ctx, x):
            ctx.set_materialize_grads(False)
            return x * 1, x * 2

        @staticmethod
        def backward(ctx, g, h):
            seen.append((g, h))
            return h * 2

    x = leaf(3.0)
    Two.apply(x)[1].backward()
    assert seen[0][0] is None
    same(x.grad, 2.0)


def test_results_used_several_times_add_up():
    a, b = leaf(2.0), leaf(5.0)
    s, p = SumAndProduct.apply(a, b)
    (s + s + p * 3 + p).backward()
    same(a.grad, 2 + 4 * 5)


def test_double_backward_through_several_results():
    a, b = leaf(2.0), leaf(5.0)
    s, p = SumAndProduct.apply(a, b)
    ga, _gb = autograd.grad(s * p, [a, b], create_graph=True)  # (a+b)·ab
    haa, hab = autograd.grad(ga, [a, b])
    same(ga, 2 * 2 * 5 + 25)
    same(haa, 2 * 5.0)
    same(hab, 2 * 2 + 2 * 5.0)


def test_mark_non_differentiable():
    class Sort(Function):
        @staticmethod
        def forward(ctx, x):
            order = x.argsort()
            y, other = x[order], x * 0
            ctx.mark_non_differentiable(order, other)
            ctx.order = order
            return y, order, other

        @staticmethod
        def backward(ctx, g, g_order, g_other):
            assert g_other.shape == g.shape
            return sg.zeros_like(g).index_add(0, ctx.order, g)

    x = leaf(3.0, 1.0, 2.0)
    y, order, other = Sort.apply(x)
    assert y.requires_grad
    assert not order.requires_grad
    assert not other.requires_grad
    (y * sg.tensor([1.0, 10.0, 100.0])).sum().backward()
    same(x.grad, [100.0, 1.0, 10.0])


def test_needs_input_grad_tells_which_gradients_are_wanted():
    class Mul(Function):
        @staticmethod
        def forward(ctx, a, b, k):
            ctx.save_for_backward(a, b)
            return a * b

        @staticmethod
        def backward(ctx, g):
            _a, b = ctx.saved_tensors
            assert ctx.needs_input_grad == (True, False, False)
            return g * b, None, None

    x = leaf(2.0)
    Mul.apply(x, sg.tensor(3.0), "k").backward()
    same(x.grad, 3.0)


def test_needs_input_grad_is_set_in_forward():
    class Watch(Function):
        @staticmethod
        def forward(ctx, x, y):
            Watch.seen = ctx.needs_input_grad
            return x + y

        @staticmethod
        def backward(ctx, g):
            return g, g

    Watch.apply(sg.ones(1), leaf(1.0))
    assert Watch.seen == (False, True)


def test_inputs_written_to_in_place_are_marked_dirty():
    class Double(Function):
        @staticmethod
        def forward(ctx, x):
            with sg.no_grad():
                x.mul_(2)
            ctx.mark_dirty(x)
            return x

        @staticmethod
        def backward(ctx, g):
            return g * 2

    x = leaf(1.0, 2.0)
    y = x * 1
    z = Double.apply(y)
    assert z is y
    same(y, [2.0, 4.0])
    z.sum().backward()
    same(x.grad, [2.0, 2.0])


def test_an_input_returned_as_it_is_becomes_a_tensor_of_its_own():
    class Identity(Function):
        @staticmethod
        def forward(ctx, x):
            return x

        @staticmethod
        def backward(ctx, g):
            return g * 10

    x = leaf(1.0)
    y = Identity.apply(x)
    assert y is not x
    assert x.is_leaf
    y.backward()
    same(x.grad, 10.0)


def test_nothing_is_recorded_inside_forward_nor_without_need():
    class Probe(Function):
        @staticmethod
        def forward(ctx, x):
            Probe.recording = sg.is_grad_enabled()
            return x * 2

        @staticmethod
        def backward(ctx, g):
            return g

    assert Probe.apply(leaf(1.0)).requires_grad
    assert Probe.recording is False
    assert not Probe.apply(sg.ones(1)).requires_grad
    with sg.no_grad():
        assert not Probe.apply(leaf(1.0)).requires_grad


def test_gradients_that_the_user_goes_on_using_are_copied():
    class Keep(Function):
        @staticmethod
        def forward(ctx, a, b):
            return a + b

        @staticmethod
        def backward(ctx, g):
            Keep.grad = g * 1
            return Keep.grad, Keep.grad

    a, b = leaf(1.0, 2.0), leaf(3.0, 4.0)
    Keep.apply(a, b).sum().backward()
    assert not np.shares_memory(a.grad.numpy(), b.grad.numpy())
    assert not np.shares_memory(a.grad.numpy(), Keep.grad.numpy())


def test_a_second_pass_raises_unless_retained():
    x = leaf(2.0)
    y = Cube.apply(x)
    y.backward(retain_graph=True)
    y.backward()
    same(x.grad, 24.0)
    with pytest.raises(RuntimeError, match="second time"):
        y.backward()


def test_a_saved_tensor_that_was_written_to_is_noticed():
    x = leaf(2.0)
    z = x * 1
    y = Cube.apply(z)
    z.add_(1)
    with pytest.raises(RuntimeError, match=r"modified by an inplace operation.*CubeBackward"):
        y.backward()
    y = Exp.apply(x)
    y.add_(1)
    with pytest.raises(RuntimeError, match=r"modified by an inplace operation.*ExpBackward"):
        y.backward()


def test_the_graph_walk_passes_through():
    a, b = leaf(1.0), sg.tensor(2.0)
    y, _ = SumAndProduct.apply(a, b)
    ((node, number), other) = y.grad_fn.next_functions
    assert (node.variable, number, other) == (a, 0, (None, 0))


def returning(*gradients):
    class Wrong(Function):
        @staticmethod
        def forward(ctx, a, b):
            return a + b

        @staticmethod
        def backward(ctx, g):
            return gradients if len(gradients) != 1 else gradients[0]

    return Wrong


@pytest.mark.parametrize(
    ("gradients", "error", "words"),
    [
        ((sg.ones(2),), RuntimeError, r"returned an incorrect number of gradients \(expected 2, got 1\)"),
        ((sg.ones(2), sg.ones(2), sg.ones(2)), RuntimeError, r"incorrect number of gradients \(expected 2, got 3\)"),
        (
            (sg.ones(3), sg.ones(2)),
            RuntimeError,
            r"invalid gradient at index 0 - got \[3\] but expected shape compatible with \[2\]",
        ),
        ((sg.ones(2), np.ones(2)), (RuntimeError, TypeError), "Tensor"),
        ((sg.ones(2), 1.0), (RuntimeError, TypeError), "Tensor"),
    ],
)
def test_wrong_gradients_are_refused(gradients, error, words):
    a, b = leaf(1.0, 2.0), leaf(3.0, 4.0)
    y = returning(*gradients).apply(a, b)
    with pytest.raises(error, match=words):
        y.sum().backward()
    assert a.grad is None


def test_too_many_gradients_are_allowed_if_none():
    a, b = leaf(1.0, 2.0), leaf(3.0, 4.0)
    returning(sg.ones(2), None, None).apply(a, b).sum().backward()
    same(a.grad, [1.0, 1.0])
    assert b.grad is None


def test_a_gradient_that_would_broadcast_down_is_summed_and_cast():
    a, b = leaf(1.0, 2.0), leaf(3.0, 4.0)
    returning(sg.ones(3, 2), sg.ones(2)).apply(a, b).sum().backward()
    same(a.grad, [3.0, 3.0])
    assert b.grad.dtype == sg.float64


def test_forward_and_backward_must_be_written():
    class Empty(Function):
        pass

    with pytest.raises(NotImplementedError, match="forward"):
        Empty.apply(leaf(1.0))

    class Half(Function):
        @staticmethod
        def forward(ctx, x):
            return x * 1

    with pytest.raises(NotImplementedError, match="backward"):
        Half.apply(leaf(1.0)).backward()


def test_only_tensors_can_be_saved():
    class Saves(Function):
        @staticmethod
        def forward(ctx, x):
            ctx.save_for_backward(x, None, 3.0)
            return x

    with pytest.raises(TypeError, match=r"can only save variables, but argument.* is of type float"):
        Saves.apply(leaf(1.0))


def test_no_cycles_and_saved_results_are_freed():
    gc.collect()
    gc.disable()
    try:
        x = leaf(1.0, 2.0)
        y = Exp.apply(Cube.apply(x))
        array, node = weakref.ref(y.array), weakref.ref(y.grad_fn)
        y.sum().backward()
        del y
        assert array() is None
        assert node() is None
        s, p = SumAndProduct.apply(x, x)
        del s, p
        assert gc.collect() == 0
    finally:
        gc.enable()


def test_hooks_and_retain_grad_on_results():
    x = leaf(2.0)
    s, p = SumAndProduct.apply(x, x)
    p.register_hook(lambda g: g * 10)
    p.retain_grad()
    (s + p).backward()
    same(p.grad, 10.0)
    same(x.grad, 2 + 10 * 4)


def test_an_interior_result_may_be_an_input_of_grad():
    x = leaf(2.0)
    s, p = SumAndProduct.apply(x, x)
    gs, gp = autograd.grad(s * p, [s, p])
    same(gs, 4.0)
    same(gp, 4.0)
