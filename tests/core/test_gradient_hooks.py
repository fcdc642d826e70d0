"""Hooks on tensors, and retain_grad: what sees a gradient on its way, and what may change it."""

import numpy as np
import pytest

import scalargrad as sg
from scalargrad import autograd


def leaf(*data, dtype=sg.float64):
    return sg.tensor(data[0] if len(data) == 1 else list(data), dtype=dtype, requires_grad=True)


def same(t, expected):
    np.testing.assert_allclose(t.detach().numpy(), expected, rtol=1e-12, atol=0)


def share_memory(a, b):
    return np.shares_memory(a.detach().numpy(), b.detach().numpy())


def test_a_hook_sees_the_whole_gradient_of_an_interior_tensor_once():
    x = leaf(1.0, 2.0)
    y = x * 2
    seen = []
    y.register_hook(lambda g: seen.append(g.tolist()))
    (y * 3 + y).sum().backward()
    assert seen == [[4.0, 4.0]]
    same(x.grad, [8.0, 8.0])


def test_what_a_hook_returns_replaces_the_gradient_in_the_order_of_registration():
    x = leaf(1.0, 2.0)
    y = x * 2
    y.register_hook(lambda g: g * 10)
    y.register_hook(lambda g: g + 1)
    y.sum().backward()
    same(x.grad, [22.0, 22.0])


def test_a_leafs_hook_runs_on_each_backward_before_accumulation():
    x = leaf(1.0, 2.0)
    x.register_hook(lambda g: -g)
    (x * 2).sum().backward()
    (x * 3).sum().backward()
    same(x.grad, [-5.0, -5.0])
    same(autograd.grad((x * 2).sum(), x)[0], [-2.0, -2.0])


def test_a_removed_hook_is_silent():
    x = leaf(1.0)
    handle = x.register_hook(lambda g: g * 100)
    handle.remove()
    handle.remove()
    with x.register_hook(lambda g: g * 10):
        (x * 1).backward(retain_graph=True)
    (x * 1).backward()
    same(x.grad, 11.0)


def test_a_hook_may_remove_itself():
    x = leaf(1.0)
    handle = x.register_hook(lambda g: handle.remove())
    (x * 1).backward()
    (x * 1).backward()
    same(x.grad, 2.0)


def test_a_hook_cannot_alias_what_others_get():
    x, z = leaf(1.0, 2.0), leaf(1.0, 2.0)
    kept = []
    x.register_hook(lambda g: kept.append(g))
    z.register_hook(lambda g: kept[0] if kept else None)
    seed = sg.ones(2, dtype=sg.float64)
    (x + z).backward(seed)
    assert not share_memory(x.grad, z.grad)
    x.grad.mul_(5)
    same(z.grad, [1.0, 1.0])


def test_what_a_hook_saw_or_returned_is_not_written_to_later():
    x = leaf(1.0, 2.0)
    kept, returned = [], []

    def tenfold(g):
        returned.append(g * 10)
        return returned[-1]

    for _ in range(2):
        y = x + 0
        y.register_hook(kept.append)
        y.register_hook(tenfold)
        (y * 2).backward(sg.ones(2, dtype=sg.float64))
        x.grad.add_(100)
    for g in kept:
        same(g, [2.0, 2.0])
    for g in returned:
        same(g, [20.0, 20.0])


def test_a_hook_may_write_to_what_it_is_given_without_effect_elsewhere():
    x, z = leaf(1.0, 2.0), leaf(3.0, 4.0)
    x.register_hook(lambda g: g.mul_(10))
    (x + z).sum().backward()
    same(x.grad, [10.0, 10.0])
    same(z.grad, [1.0, 1.0])


def test_hooks_are_recorded_under_create_graph():
    x = leaf(2.0)
    x.register_hook(lambda g: g * x)
    (g,) = autograd.grad(x * x, x, create_graph=True)  # 2x · x
    same(autograd.grad(g, x)[0], 4 * 2.0 * 2.0)  # the hook acts again: 4x · x


@pytest.mark.parametrize("result", [3, "no", sg.ones(3), np.ones(2)])
def test_what_a_hook_must_not_return(result):
    x = leaf(1.0, 2.0)
    y = x * 2
    y.register_hook(lambda g: result)
    with pytest.raises((RuntimeError, TypeError), match="hook"):
        y.sum().backward()


def test_a_hook_on_what_gets_no_gradient_is_refused():
    with pytest.raises(RuntimeError, match="cannot register a hook on a tensor that doesn't require gradient"):
        sg.ones(1).register_hook(print)


def test_hooks_run_without_recording():
    x = leaf(1.0)
    modes = []
    x.register_hook(lambda g: modes.append(sg.is_grad_enabled()))
    (x * 1).backward()
    assert modes == [False]


def test_an_exception_in_a_hook_comes_through_and_leaves_the_mode_as_it_was():
    x = leaf(1.0)
    x.register_hook(lambda g: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        (x * 1).backward()
    assert sg.is_grad_enabled()


# retain_grad


def test_interior_gradients_are_kept_only_when_asked_for():
    x = leaf(1.0, 2.0)
    y = x * 2
    z = y * y
    z.retain_grad()
    assert z.retains_grad
    assert not y.retains_grad
    z.sum().backward()
    same(z.grad, [1.0, 1.0])
    assert y.grad is None


def test_retain_grad_on_a_leaf_changes_nothing_and_without_grad_is_refused():
    x = leaf(1.0)
    x.retain_grad()
    assert not x.retains_grad
    with pytest.raises(RuntimeError, match="can't retain_grad on Tensor that has requires_grad=False"):
        sg.ones(1).retain_grad()


@pytest.mark.parametrize("order", ["hook first", "retain_grad first"])
def test_a_retained_gradient_is_what_the_hooks_leave(order):
    x = leaf(1.0)
    y = x * 2
    if order == "retain_grad first":
        y.retain_grad()
    y.register_hook(lambda g: g * 10)
    y.retain_grad()
    y.backward()
    same(y.grad, 10.0)
    same(x.grad, 20.0)


def test_the_gradient_that_backward_starts_from_is_neither_kept_nor_written_to():
    class Doubling(sg.autograd.Function):
        @staticmethod
        def forward(ctx, x):
            return x * 2

        @staticmethod
        def backward(ctx, g):
            g.mul_(2)
            return g

    x, z = leaf(1.0, 2.0), leaf(1.0, 2.0)
    for of_both in (x + z, x.clone(), Doubling.apply(x) * 1, Doubling.apply(x), x.view(2, 1).view(2), x + z + x):
        seed = sg.ones(2, dtype=sg.float64)
        of_both.register_hook(lambda g: g.add_(0))
        of_both.retain_grad()
        of_both.backward(seed)
        for kept in (x.grad, z.grad, of_both.grad):
            if kept is not None:
                assert not share_memory(kept, seed)
        same(seed, [1.0, 1.0])
        x.grad = z.grad = None


def test_a_retained_gradient_is_its_own_memory():
    x = leaf(1.0, 2.0)
    y = x + 0
    y.retain_grad()
    seed = sg.ones(2, dtype=sg.float64)
    y.backward(seed)
    assert not share_memory(y.grad, seed)
    assert not share_memory(y.grad, x.grad)


def test_gradients_with_a_graph_share_no_memory_with_each_other_or_with_what_they_started_from():
    x, z = (sg.ones(3, requires_grad=True) for _ in range(2))
    seed = sg.ones(3)
    (x + z).backward(seed, create_graph=True)
    seed.mul_(7)
    with sg.no_grad():
        x.grad.mul_(2)
    assert (x.grad.tolist(), z.grad.tolist()) == ([2.0, 2.0, 2.0], [1.0, 1.0, 1.0])


def test_no_outputs_send_nothing_back():
    x = sg.ones(3, requires_grad=True)
    assert sg.autograd.backward([]) is None
    with pytest.raises(RuntimeError, match="appears to not have been used"):
        sg.autograd.grad([], [x])
