"""The graph as a reader walks it, how deep it may be, and what it keeps alive."""

import copy
import gc
import weakref

import numpy as np
import pytest

import scalargrad as sg
from scalargrad.autograd import Function


def leaf(*data, dtype=sg.float64):
    return sg.tensor(data[0] if len(data) == 1 else list(data), dtype=dtype, requires_grad=True)


def same(t, expected):
    np.testing.assert_allclose(t.detach().numpy(), expected, rtol=1e-12, atol=0)


def share_memory(a, b):
    return np.shares_memory(a.detach().numpy(), b.detach().numpy())


def test_the_graph_walk_ends_in_accumulate_grad():
    x, w = leaf(1.0, 2.0), leaf(3.0, 4.0)
    loss = (x * w + 1).sum()
    assert loss.grad_fn.name() == "SumBackward"
    (add, number), *rest = loss.grad_fn.next_functions
    assert (add.name(), number, rest) == ("AddBackward", 0, [])
    assert add.next_functions[1] == (None, 0)  # the number 1
    mul = add.next_functions[0][0]
    (a, _), (b, _) = mul.next_functions
    assert (a.name(), a.variable, a.next_functions) == ("AccumulateGrad", x, ())
    assert b.variable is w
    assert repr(mul).startswith("<MulBackward object at 0x")
    assert x.grad_fn is None


def test_an_input_without_gradient_is_none_in_the_walk():
    x, c = leaf(1.0), sg.ones(1, dtype=sg.float64)
    assert (c * x).grad_fn.next_functions[0] == (None, 0)
    assert (x * c).grad_fn.next_functions[1] == (None, 0)


def test_the_accumulate_node_of_a_dead_leaf_has_no_variable():
    y = leaf(1.0) * 2
    assert y.grad_fn.next_functions[0][0].variable is None


@pytest.fixture
def no_collector():
    gc.collect()
    gc.disable()
    yield
    gc.enable()


def test_dropping_the_loss_frees_the_graph_without_the_cyclic_collector(no_collector):
    x = leaf(np.ones(10))
    y = x.exp()
    z = (y * y).tanh()
    loss = z.sum()
    nodes = [weakref.ref(t) for t in (y, z, loss, y.grad_fn, z.grad_fn, loss.grad_fn)]
    arrays = [weakref.ref(t.array) for t in (y, z)]
    del y, z, loss
    assert [r() for r in (*nodes, *arrays)] == [None] * 8


def test_backward_frees_what_was_saved_while_the_loss_lives(no_collector):
    x = leaf(np.ones(10))
    y = x.exp()
    z = y * y
    loss = z.sum()
    kept = weakref.ref(y.array)
    del y, z
    assert kept() is not None
    loss.backward()
    assert kept() is None


def test_activations_that_no_derivative_names_are_freed_at_once(no_collector):
    x = leaf(np.ones(10))
    y = x * 2  # mul by a number names no array, add names nothing
    gone = weakref.ref(y.array)
    z = y + 1
    del y
    assert gone() is None
    z.sum().backward()


def test_a_whole_training_step_leaves_no_cycles(no_collector):
    x = leaf(np.ones((3, 2)))
    w = leaf(np.ones((4, 2)))
    for create_graph in (False, True):
        y = x @ w.t()
        if (
            not create_graph
        ):  # a tensor whose gradient has a graph is behind that graph: this is a cycle in PyTorch, too
            y.retain_grad()
        y.register_hook(lambda g: g * 2)
        v = y[1:]
        y.mul_(2)
        loss = (v.relu() ** 2).mean() + y.log().sum()
        loss.backward(create_graph=create_graph)
        x.grad = w.grad = None
        del y, v, loss
    assert gc.collect() == 0


def test_an_error_in_backward_leaves_the_mode_as_it_was():
    x = leaf(1.0)
    y = x * x
    y.sum().backward()
    with pytest.raises(RuntimeError, match="second time"):
        y.sum().backward(create_graph=True)
    assert sg.is_grad_enabled()


def test_a_chain_of_a_hundred_thousand_operations():
    x = leaf(1.0)
    y = x
    for _ in range(50_000):
        y = y * 1.0000001 + 0.0
    y.backward()
    same(x.grad, y.item())
    del y


def test_a_wide_graph_of_many_paths_is_swept_once():
    x = leaf(1.0)
    y = x
    for _ in range(100):
        y = y + y
    y.backward()
    same(x.grad, 2.0**100)


def test_results_of_one_operation_share_a_node_and_know_their_number():
    class TwoWays(Function):
        @staticmethod
        def forward(ctx, x):
            return x * 2, x * 3

        @staticmethod
        def backward(ctx, g, h):
            return 2 * g + 3 * h

    x = leaf(1.0)
    a, b = TwoWays.apply(x)
    assert a.grad_fn is b.grad_fn
    assert (a.output_nr, b.output_nr) == (0, 1)
    assert (a * b).grad_fn.next_functions == ((a.grad_fn, 0), (a.grad_fn, 1))
    (a * b).backward()
    same(x.grad, 12.0)


def test_a_copied_leaf_is_another_leaf_with_its_gradient():
    x = leaf(1.0, 2.0)
    (x * x).sum().backward()
    y = copy.deepcopy(x)
    assert y.requires_grad
    assert y.is_leaf
    same(y.grad, [2.0, 4.0])
    assert not share_memory(x, y)
    assert not share_memory(x.grad, y.grad)
    (y * 3).sum().backward()
    same(x.grad, [2.0, 4.0])


def test_a_computed_tensor_is_not_deepcopied():
    with pytest.raises(RuntimeError, match="Only Tensors created explicitly by the user"):
        copy.deepcopy(leaf(1.0) * 2)


def test_tied_leaves_stay_tied_in_a_deepcopy():
    x = leaf(1.0)
    a, b = copy.deepcopy([x, x])
    assert a is b


def test_a_long_lived_base_forgets_its_short_lived_views():
    base = leaf(1.0, 2.0, 3.0) * 1
    kept = [base[1:] for _ in range(3)]
    for _ in range(1000):
        base[:1]
    assert len(base.own_storage()._views) < 20
    base.mul_(2)
    assert all(v.tolist() == [4.0, 6.0] for v in kept)
    assert {v.grad_fn.name() for v in kept} == {"AsStridedBackward"}
