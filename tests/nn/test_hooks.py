"""Hooks on modules: before and after forward, and on the gradients."""

import copy
from typing import NamedTuple

import numpy as np
import pytest

import scalargrad
from scalargrad import nn


def test_forward_hooks_see_and_replace_inputs_and_outputs():
    net, calls = nn.Identity(), []

    def before(module, args):
        calls.append(("before", module, args))
        return args[0] + 1

    def after(module, args, output):
        calls.append(("after", module, args))
        return output * 10

    first, second = net.register_forward_pre_hook(before), net.register_forward_hook(after)
    assert net(1) == 20
    assert calls == [("before", net, (1,)), ("after", net, (2,))]
    first.remove()
    first.remove()
    assert net(1) == 10
    with second:
        assert net(1) == 10
    assert net(1) == 1


def test_hooks_run_in_order_and_prepend_puts_one_first():
    net, order = nn.Identity(), []
    for name, prepend in (("a", False), ("b", False), ("c", True)):
        net.register_forward_hook(lambda *_, name=name: order.append(f"after {name}"), prepend=prepend)
        net.register_forward_pre_hook(lambda *_, name=name: order.append(f"before {name}"), prepend=prepend)
    net(0)
    assert order == [f"{when} {name}" for when in ("before", "after") for name in "cab"]


def test_hooks_with_kwargs_get_and_replace_them():
    class Power(nn.Module):
        def forward(self, x, *, n):
            return x**n

    net, seen = Power(), []
    net.register_forward_pre_hook(lambda m, args, kwargs: (args, {"n": kwargs["n"] + 1}), with_kwargs=True)
    net.register_forward_hook(lambda m, args, kwargs, out: seen.append((args, kwargs, out)), with_kwargs=True)
    assert net(2, n=2) == 8
    assert seen == [((2,), {"n": 3}, 8)]
    net.register_forward_pre_hook(lambda m, args, kwargs: 5, with_kwargs=True)
    with pytest.raises(RuntimeError, match="forward pre-hook must return None or a tuple of"):
        net(2, n=2)


def test_a_hook_that_is_always_called_is_called_after_an_error():
    class Broken(nn.Module):
        def forward(self):
            raise KeyError("broken")

    net, outputs = Broken(), []
    net.register_forward_hook(lambda m, args, out: outputs.append("never"))
    net.register_forward_hook(lambda m, args, out: outputs.append(out), always_call=True)
    with pytest.raises(KeyError, match="broken"):
        net()
    assert outputs == [None]
    net.register_forward_hook(lambda m, args, out: 1 / 0, always_call=True)
    with pytest.warns(UserWarning, match="silenced as another error"), pytest.raises(KeyError, match="broken"):
        net()


def test_an_error_in_a_hook_names_the_layer():
    net = nn.Sequential(nn.Tanh())
    net[0].register_forward_hook(lambda m, args, out: 1 / 0)
    with pytest.raises(ZeroDivisionError) as caught:
        net(scalargrad.zeros(1))
    assert caught.value.__notes__ == ["in Sequential.0: Tanh()"]


class Product(nn.Module):
    def forward(self, a, b, factor=1):
        return a * b * factor


def test_a_full_backward_hook_sees_the_gradients_of_inputs_and_outputs():
    net, seen = Product(), []
    net.register_full_backward_hook(lambda module, gi, go: seen.append((module, gi, go)))
    a, b = scalargrad.tensor([2.0], requires_grad=True), scalargrad.tensor([5.0])
    net(a, b, 3).backward(scalargrad.tensor([10.0]))
    ((module, (grad_a, *others), (grad_out,)),) = seen
    assert module is net
    assert (grad_a.item(), others, grad_out.item()) == (150.0, [None, None], 10.0)
    assert a.grad.item() == 150.0


def test_backward_hooks_replace_gradients():
    net = Product()
    net.register_full_backward_pre_hook(lambda module, go: (go[0] * 2,))
    handle = net.register_full_backward_hook(lambda module, gi, go: (gi[0] + 1, gi[1]))
    a, b = (scalargrad.tensor([x], requires_grad=True) for x in (2.0, 5.0))
    net(a, b).backward()
    assert (a.grad.item(), b.grad.item()) == (11.0, 4.0)
    handle.remove()
    a.grad = None
    net(a, b).backward()
    assert a.grad.item() == 10.0


def test_a_backward_hook_sees_parameters_gradients_computed_after_it():
    """The hooks only watch: the parameters' gradients are those without hooks."""
    layer, x = nn.Linear(3, 2), scalargrad.randn(4, 3, requires_grad=True)
    layer(x).sum().backward()
    plain = [layer.weight.grad.numpy().copy(), x.grad.numpy().copy()]
    layer.zero_grad()
    x.grad.zero_()
    layer.register_full_backward_hook(lambda module, gi, go: None)
    layer(x).sum().backward()
    np.testing.assert_array_equal(layer.weight.grad.numpy(), plain[0])
    np.testing.assert_array_equal(x.grad.numpy(), plain[1])


def test_a_backward_hook_on_a_layer_that_works_in_place():
    x = scalargrad.randn(4, 3, requires_grad=True)
    net, seen = nn.Sequential(nn.Linear(3, 3), nn.ReLU(inplace=True)), []
    net(x).sum().backward()
    expected = x.grad.numpy().copy()
    net[1].register_full_backward_hook(lambda module, gi, go: seen.append((gi[0], go[0])))
    x.grad = None
    net(x).sum().backward()
    np.testing.assert_array_equal(x.grad.numpy(), expected)
    ((grad_input, grad_output),) = seen
    np.testing.assert_array_equal(grad_output.numpy(), np.ones((4, 3)))
    np.testing.assert_array_equal(grad_input.numpy(), net[0](x).detach().numpy() > 0)


def test_a_backward_hook_is_called_where_no_input_wants_a_gradient():
    layer, seen = nn.Linear(3, 2), []
    layer.register_full_backward_hook(lambda module, gi, go: seen.append((gi, go[0].shape)))
    layer(scalargrad.ones(4, 3)).sum().backward()
    assert seen == [((None,), (4, 2))]
    layer.register_full_backward_hook(lambda module, gi, go: gi)
    with pytest.raises(RuntimeError, match="should always return None"):
        layer(scalargrad.ones(4, 3)).sum().backward()


class Pair(NamedTuple):
    left: object
    right: object


class Split(nn.Module):
    def forward(self, x):
        return Pair(x * 2, x * 3)


def test_a_backward_hook_sees_several_outputs_and_none_for_an_unused_one():
    net, seen = Split(), []
    net.register_full_backward_hook(
        lambda module, gi, go: seen.append([g if g is None else g.item() for g in (*gi, *go)])
    )
    x = scalargrad.tensor([1.0], requires_grad=True)
    y = net(x)
    assert type(y) is Pair
    (y.left + y.right * 10).backward()
    net(x).right.backward()
    assert seen == [[32.0, 1.0, 10.0], [3.0, None, 1.0]]


def test_backward_hooks_check_what_hooks_return():
    net = Product()
    net.register_full_backward_hook(lambda module, gi, go: (gi[0],))
    a, b = (scalargrad.ones(1, requires_grad=True) for _ in "ab")
    with pytest.raises(
        RuntimeError, match="Backward hook returned an invalid number of grad_input, got 1, but expected 2"
    ):
        net(a, b).backward()
    net = Product()
    net.register_full_backward_pre_hook(lambda module, go: (go[0], go[0]))
    with pytest.raises(RuntimeError, match="Backward pre hook returned an invalid number of grad_output, got 2"):
        net(a, b).backward()


def test_a_backward_hook_warns_about_an_output_it_cannot_watch():
    class Listed(nn.Module):
        def forward(self, x):
            return [x]

    net = Listed()
    net.register_full_backward_hook(lambda module, gi, go: None)
    with pytest.warns(UserWarning, match="module output should be a Tensor or a tuple of Tensors"):
        net(scalargrad.ones(1, requires_grad=True))


def test_backward_hooks_do_nothing_without_recording():
    net = Product()
    net.register_full_backward_hook(lambda module, gi, go: 1 / 0)
    a = scalargrad.ones(1, requires_grad=True)
    with scalargrad.no_grad():
        assert not net(a, a).requires_grad


def test_second_derivatives_go_through_watched_modules():
    net, seen = Product(), []
    net.register_full_backward_hook(lambda module, gi, go: seen.append(gi[0].item()))
    x = scalargrad.tensor([3.0], requires_grad=True)
    (g,) = scalargrad.autograd.grad(net(x * x, x), x, create_graph=True)  # x³
    assert g.item() == pytest.approx(27.0)
    (h,) = scalargrad.autograd.grad(g, x)
    assert h.item() == pytest.approx(18.0)
    assert seen == pytest.approx([3.0]), "the second pass reaches the inputs, but not by way of the output"


def test_a_copys_hooks_are_those_of_the_module_and_a_replaced_dict_counts():
    layer = nn.Linear(2, 2)
    x, calls = scalargrad.ones(1, 2), []
    shallow = copy.copy(layer)
    layer.register_forward_hook(lambda module, args, output: calls.append("registered"))
    shallow(x)
    layer._forward_hooks = {}
    layer(x)
    assert calls == ["registered"]
    layer.register_forward_hook(lambda module, args, output: calls.append("again"))
    layer(x)
    assert calls == ["registered", "again"]
    deep = copy.deepcopy(layer)
    deep(x)
    assert calls == ["registered", "again", "again"]
