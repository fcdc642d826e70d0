"""What is recorded: requires_grad, detach, and the modes, as context managers, decorators and per thread."""

import threading

import numpy as np
import pytest

import scalargrad as sg


def leaf(*data, dtype=sg.float64):
    return sg.tensor(data[0] if len(data) == 1 else list(data), dtype=dtype, requires_grad=True)


def same(t, expected):
    np.testing.assert_allclose(t.detach().numpy(), expected, rtol=1e-12, atol=0)


def share_memory(a, b):
    return np.shares_memory(a.detach().numpy(), b.detach().numpy())


# requires_grad


def test_requires_grad_spreads_through_operations():
    x, c = leaf(1.0), sg.ones(1, dtype=sg.float64)
    assert (x * c).requires_grad
    assert not (c * c).requires_grad
    assert not (x > 0).requires_grad
    assert not x.long().requires_grad
    assert not x.argmax().requires_grad


def test_requires_grad_may_be_switched_on_leaves_only():
    x = sg.ones(2)
    assert x.requires_grad_() is x
    assert x.requires_grad
    y = x * 2
    y.requires_grad = True  # which it is
    with pytest.raises(RuntimeError, match="you can only change requires_grad flags of leaf variables"):
        y.requires_grad = False
    x.requires_grad_(False)
    assert not (x * 2).requires_grad


@pytest.mark.parametrize("dtype", [sg.int64, sg.bool, sg.uint8])
def test_only_floats_can_require_grad(dtype):
    with pytest.raises(RuntimeError, match=r"(?i)only Tensors of floating point dtype can require gradients"):
        sg.zeros(2, dtype=dtype).requires_grad_()


def test_detach_cuts():
    x = leaf(1.0, 2.0)
    d = (x * 2).detach()
    assert d.is_leaf
    assert not d.requires_grad
    (d * x).sum().backward()
    same(x.grad, [2.0, 4.0])


def test_detach_in_place():
    x = leaf(1.0, 2.0)
    y = x * 2
    assert y.detach_() is y
    assert y.is_leaf
    with pytest.raises(RuntimeError, match="Can't detach views in-place"):
        (x * 2)[0:1].detach_()


def recorded():
    return (leaf(1.0) * 2).requires_grad


@pytest.mark.parametrize(
    "scope",
    [
        lambda: sg.no_grad(),
        lambda: sg.inference_mode(),
        lambda: sg.set_grad_enabled(False),
        lambda: sg.inference_mode(True),
    ],
)
def test_scopes_that_switch_recording_off(scope):
    with scope():
        assert not recorded()
        with sg.enable_grad():
            assert recorded()
        assert not recorded()
    assert recorded()


@pytest.mark.parametrize("scope", [lambda: sg.enable_grad(), lambda: sg.set_grad_enabled(True)])
def test_scopes_that_switch_recording_on(scope):
    with sg.no_grad():
        with scope():
            assert recorded()
        assert not recorded()


def test_modes_are_restored_after_an_exception():
    for scope in sg.no_grad, sg.inference_mode, lambda: sg.set_grad_enabled(False):
        with pytest.raises(ZeroDivisionError), scope():
            1 / 0  # noqa: B018
        assert sg.is_grad_enabled()
        assert not sg.is_inference_mode_enabled()


def test_modes_decorate_functions_with_and_without_parentheses():
    assert sg.no_grad(recorded)() is False
    assert sg.no_grad()(recorded)() is False
    assert sg.inference_mode()(recorded)() is False
    with sg.no_grad():
        assert sg.enable_grad()(recorded)() is True
        assert sg.enable_grad(recorded)() is True
    assert sg.set_grad_enabled(False)(recorded)() is False
    assert sg.is_grad_enabled()


def test_a_decorated_function_keeps_its_name_arguments_and_result():
    @sg.no_grad()
    def double(x, *, plus=0):
        """Twice."""
        return x * 2 + plus

    assert (double.__name__, double.__doc__) == ("double", "Twice.")
    y = double(leaf(2.0), plus=1)
    assert (y.item(), y.requires_grad) == (5.0, False)


def test_decorated_functions_nest_recurse_and_raise():
    @sg.no_grad()
    def down(n):
        assert not sg.is_grad_enabled()
        if n == 0:
            raise KeyError
        with sg.enable_grad():
            down(n - 1)

    with pytest.raises(KeyError):
        down(3)
    assert sg.is_grad_enabled()


def test_one_scope_object_may_be_entered_again_and_nested():
    scope = sg.no_grad()
    with scope:
        with scope:
            assert not sg.is_grad_enabled()
        assert not sg.is_grad_enabled()
    assert sg.is_grad_enabled()
    with scope:
        assert not sg.is_grad_enabled()
    assert sg.is_grad_enabled()


def test_set_grad_enabled_acts_at_once_as_a_function():
    sg.set_grad_enabled(False)
    assert not sg.is_grad_enabled()
    sg.set_grad_enabled(True)
    assert sg.is_grad_enabled()
    with pytest.raises(TypeError, match="bool"):
        sg.set_grad_enabled("no")


def test_inference_mode_is_known_as_such():
    with sg.inference_mode():
        assert sg.is_inference_mode_enabled()
        with sg.inference_mode(False):
            assert sg.is_grad_enabled()
            assert not sg.is_inference_mode_enabled()
    assert not sg.is_inference_mode_enabled()


def test_each_thread_has_its_own_mode():
    seen = {}
    inside, done = threading.Event(), threading.Event()

    def off():
        with sg.no_grad():
            inside.set()
            done.wait(10)
            seen["off"] = recorded()

    def on():
        inside.wait(10)
        seen["on"] = recorded()
        done.set()

    with sg.no_grad():
        threads = [threading.Thread(target=f) for f in (off, on)]
        for t in threads:
            t.start()
        for t in threads:
            t.join()
    assert seen == {"off": False, "on": True}


def test_threads_may_differentiate_at_once():
    results = []

    def work(k):
        x = leaf(float(k), 2.0)
        for _ in range(20):
            (x * x).sum().backward()
        results.append((k, x.grad.tolist()))

    threads = [threading.Thread(target=work, args=(k,)) for k in range(4)]
    for t in threads:
        t.start()
    for t in threads:
        t.join()
    assert sorted(results) == [(k, [40.0 * k, 80.0]) for k in range(4)]
