"""backward and grad: accumulation, release, seeds, higher derivatives. PyTorch's semantics, claim by claim."""

import numpy as np
import pytest

import scalargrad as sg
from scalargrad import autograd
from scalargrad.autograd import Function


def leaf(*data, dtype=sg.float64):
    return sg.tensor(data[0] if len(data) == 1 else list(data), dtype=dtype, requires_grad=True)


def same(t, expected):
    np.testing.assert_allclose(t.detach().numpy(), expected, rtol=1e-12, atol=0)


def share_memory(a, b):
    return np.shares_memory(a.detach().numpy(), b.detach().numpy())


def test_gradients_add_up_over_calls_into_the_same_tensor():
    x = leaf(1.0, 2.0)
    (x * x).sum().backward()
    grad = x.grad
    (3 * x).sum().backward()
    assert x.grad is grad
    same(grad, [5.0, 7.0])


def test_gradients_of_several_uses_add_up():
    x = leaf(1.0, 2.0)
    y = x * 2
    (y * y + y + x + 1).sum().backward()
    same(x.grad, [2 * 2 * 2 + 2 + 1, 2 * 4 * 2 + 2 + 1])


def test_the_gradient_has_shape_and_dtype_of_its_tensor():
    w = sg.ones(3, requires_grad=True)
    x = sg.ones(2, 3, dtype=sg.float64, requires_grad=True)
    (w * x).sum().backward()
    assert (w.grad.shape, w.grad.dtype) == ((3,), sg.float32)
    assert (x.grad.shape, x.grad.dtype) == ((2, 3), sg.float64)


def test_none_grad_stays_none_where_nothing_arrives():
    x, y = leaf(1.0), leaf(2.0)
    (x * 2).sum().backward()
    assert y.grad is None


def test_gradients_never_share_memory():
    a, b, c = leaf(1.0, 2.0), leaf(3.0, 4.0), leaf(5.0, 6.0)
    seed = sg.ones(2, dtype=sg.float64)
    (a + b + c.view(2)).backward(seed)  # add's gradients are its own
    grads = [a.grad, b.grad, c.grad, seed]
    for i, g in enumerate(grads):
        assert all(not share_memory(g, h) for h in grads[:i])
    a.grad.mul_(100)
    same(b.grad, [1.0, 1.0])
    same(seed, [1.0, 1.0])


def test_gradients_do_not_share_memory_with_data_or_constants():
    x, c = leaf(1.0, 2.0), sg.tensor([3.0, 4.0], dtype=sg.float64)
    (x * c).sum().backward()
    (x * x.detach()).sum()
    assert not share_memory(x.grad, c)
    y = leaf(1.0, 2.0)
    y.backward(c)  # the root is a leaf: the seed itself arrives
    assert not share_memory(y.grad, c)
    y.grad.zero_()
    same(c, [3.0, 4.0])


def test_gradients_through_views_are_contiguous_and_their_own():
    x = leaf([[1.0, 2.0, 3.0], [4.0, 5.0, 6.0]])
    seed = sg.arange(6.0, dtype=sg.float64).view(3, 2)
    x.t().backward(seed)
    same(x.grad, seed.numpy().T)
    assert x.grad.is_contiguous()
    assert not share_memory(x.grad, seed)
    y = leaf(1.0, 2.0)
    y.expand(3, 2).sum().backward()
    same(y.grad, [3.0, 3.0])
    y.grad.add_(1)  # no read-only broadcast view


def test_an_accumulated_gradient_may_be_a_tensor_of_the_users():
    x = leaf(1.0, 2.0)
    x.grad = mine = sg.ones(2, dtype=sg.float64)
    (x * 3).sum().backward()
    assert x.grad is mine
    same(mine, [4.0, 4.0])


def test_a_leaf_that_is_gone_gets_nothing_and_does_no_harm():
    y = leaf(1.0) * leaf(2.0)
    y.sum().backward()


def test_grad_may_be_assigned_and_deleted():
    x = leaf(1.0, 2.0)
    x.grad = sg.zeros(2, dtype=sg.float64)
    del x.grad
    assert x.grad is None
    x.grad = None


@pytest.mark.parametrize(
    ("value", "error", "words"),
    [
        (1.0, TypeError, "expected to be a Tensor or None but got.*float"),
        (np.ones(2), TypeError, "expected to be a Tensor or None but got.*ndarray"),
        (sg.ones(3, dtype=sg.float64), RuntimeError, "size"),
        (sg.ones(2, 1, dtype=sg.float64), RuntimeError, "size"),
        (sg.ones(2), RuntimeError, "type"),
    ],
)
def test_grad_refuses_what_is_no_gradient_of_this_tensor(value, error, words):
    x = leaf(1.0, 2.0)
    with pytest.raises(error, match=f"assigned grad.*{words}"):
        x.grad = value
    assert x.grad is None


def test_a_second_pass_raises_unless_the_graph_was_retained():
    x = leaf(1.0, 2.0)
    y = (x * x).sum()
    y.backward(retain_graph=True)
    y.backward()
    same(x.grad, [4.0, 8.0])
    with pytest.raises(RuntimeError, match="Trying to backward through the graph a second time"):
        y.backward()
    same(x.grad, [4.0, 8.0])


def test_a_second_pass_through_a_shared_part_raises():
    x = leaf(1.0, 2.0)
    y = x.exp()
    (y * 2).sum().backward()
    with pytest.raises(RuntimeError, match="second time"):
        (y * 3).sum().backward()


def test_what_saved_nothing_may_be_passed_twice():
    x, z = leaf(1.0, 2.0), leaf(1.0, 2.0)
    y = x + z - 1
    for _ in range(2):
        y.backward(sg.ones(2, dtype=sg.float64))
    same(x.grad, [2.0, 2.0])


def test_autograd_grad_releases_the_graph_too():
    x = leaf(1.0, 2.0)
    y = (x * x).sum()
    autograd.grad(y, x, retain_graph=True)
    autograd.grad(y, x)
    with pytest.raises(RuntimeError, match="second time"):
        autograd.grad(y, x)


def test_create_graph_retains_the_graph():
    x = leaf(2.0)
    y = x**3
    for _ in range(2):
        autograd.grad(y, x, create_graph=True)


def test_a_seed_may_be_left_out_for_one_element_of_any_shape():
    for shape in (), (1,), (1, 1):
        x = sg.full(shape, 3.0, requires_grad=True)
        (x * x).backward()
        assert x.grad.item() == 6.0
        assert x.grad.shape == shape


@pytest.mark.parametrize("shape", [(2,), (0,), (2, 1)])
def test_a_seed_must_be_given_for_more_or_fewer(shape):
    x = sg.ones(*shape, requires_grad=True)
    with pytest.raises(RuntimeError, match="grad can be implicitly created only for scalar outputs"):
        (x * 2).backward()


def test_a_seed_of_another_shape_or_type_is_refused():
    x = leaf(1.0, 2.0)
    with pytest.raises(
        RuntimeError,
        match=r"Mismatch in shape: grad_output\[0\] has a shape of .*\[3\].* and output\[0\] has a shape of .*\[2\]",
    ):
        (x * 2).backward(sg.ones(3))
    with pytest.raises(TypeError, match="either Tensors or None, but got ndarray"):
        (x * 2).backward(np.ones(2))
    with pytest.raises(TypeError, match="either Tensors or None, but got float"):
        (x * 2).sum().backward(2.0)


def test_a_seed_is_used_as_weights_and_cast():
    x = leaf(1.0, 2.0)
    (x * x).backward(sg.tensor([10.0, 0.5]))
    same(x.grad, [20.0, 2.0])
    assert x.grad.dtype == sg.float64


def test_backward_without_a_graph_is_refused():
    for t in sg.ones(1), leaf(1.0).detach() * 2, sg.tensor([1]):
        with pytest.raises(RuntimeError, match="does not require grad and does not have a grad_fn"):
            t.backward()


def test_backward_of_a_leaf_gives_it_the_seed():
    x = leaf(2.0)
    x.backward()
    x.backward(sg.tensor(3.0))
    assert x.grad.item() == 4.0


def test_backward_of_several_tensors_in_one_sweep():
    x = leaf(1.0, 2.0)
    y = x * x  # shared: a second sweep would find it released
    autograd.backward([y.sum(), (y * 3)], [None, sg.tensor([1.0, 0.0])])
    same(x.grad, [2.0 + 6.0, 4.0])
    with pytest.raises(RuntimeError, match="2 tensors and 1 gradients"):
        autograd.backward([y, y], [None])


def test_backward_into_chosen_inputs_only():
    x, z = leaf(1.0, 2.0), leaf(3.0, 4.0)
    y = x * 2
    (y * z).sum().backward(inputs=[y, x])
    assert z.grad is None
    same(x.grad, [6.0, 8.0])
    same(y.grad, [3.0, 4.0])
    with pytest.raises(RuntimeError, match=r"inputs.*empty"):
        (x * 2).sum().backward(inputs=[])


# grad


def test_grad_returns_gradients_and_leaves_grad_alone():
    x, z = leaf(1.0, 2.0), leaf(3.0, 4.0)
    y = x * 2
    gx, gy = autograd.grad((y * z).sum(), (x, y))
    same(gx, [6.0, 8.0])
    same(gy, [3.0, 4.0])
    assert x.grad is z.grad is y.grad is None
    assert not gx.requires_grad


def test_grads_results_are_their_own_memory():
    x, z = leaf(1.0, 2.0), leaf(3.0, 4.0)
    seed = sg.ones(2, dtype=sg.float64)
    gx, gz, gx2 = autograd.grad(x + z, (x, z, x), seed)
    assert not share_memory(gx, gz)
    assert not share_memory(gx, seed)
    assert not share_memory(gx, gx2)


def test_grad_weights_several_outputs():
    x = leaf(1.0, 2.0)
    (g,) = autograd.grad([x * 2, (x * x).sum()], x, [sg.tensor([1.0, 10.0]), None])
    same(g, [2 + 2, 20 + 4])


def test_grad_refuses_inputs_that_are_not_in_the_graph():
    x, z = leaf(1.0), leaf(2.0)
    with pytest.raises(RuntimeError, match=r"appears to not have been used in the graph. Set allow_unused=True"):
        autograd.grad((x * 2).sum(), [x, z])
    _, gz = autograd.grad((x * 2).sum(), [x, z], allow_unused=True)
    assert gz is None
    _gx, gz = autograd.grad((x * 2).sum(), [x, z], materialize_grads=True)
    same(gz, 0.0)
    with pytest.raises(RuntimeError, match="does not require grad"):
        autograd.grad((x * 2).sum(), [sg.ones(1)])
    with pytest.raises(ValueError, match="non-empty"):
        autograd.grad((x * 2).sum(), [])
    with pytest.raises(TypeError, match="all outputs and inputs to be Tensors"):
        autograd.grad((x * 2).sum(), [1.0])


def test_materialized_gradients_are_zero_even_for_infinite_inputs():
    z = leaf(np.inf, np.nan)
    x = leaf(1.0)
    (g,) = autograd.grad(x * 2, z, materialize_grads=True)
    same(g, [0.0, 0.0])


def test_only_the_way_to_the_inputs_is_computed():
    calls = []

    class Watched(Function):
        @staticmethod
        def forward(ctx, x):
            return x.clone()

        @staticmethod
        def backward(ctx, g):
            calls.append(1)
            return g

    x, z = leaf(1.0), leaf(2.0)
    y = x * 2 + Watched.apply(z)
    autograd.grad(y, x)
    assert calls == []


def test_first_to_third_derivative():
    x = leaf(0.5, 2.0)
    (d1,) = autograd.grad((x**4).sum(), x, create_graph=True)
    (d2,) = autograd.grad(d1.sum(), x, create_graph=True)
    (d3,) = autograd.grad(d2.sum(), x)
    same(d1, 4 * np.array([0.5, 2.0]) ** 3)
    same(d2, 12 * np.array([0.5, 2.0]) ** 2)
    same(d3, 24 * np.array([0.5, 2.0]))
    assert d1.requires_grad
    assert not d3.requires_grad


def test_backward_with_create_graph_leaves_a_gradient_with_a_graph():
    x = leaf(1.0, 2.0)
    (x**3).sum().backward(create_graph=True)
    assert x.grad.requires_grad
    g = x.grad
    x.grad = None
    (g * g).sum().backward()
    same(x.grad, 2 * 3 * np.array([1.0, 4.0]) * 6 * np.array([1.0, 2.0]))


def test_recorded_gradients_accumulate_without_writing_to_the_first():
    x = leaf(1.0, 2.0)
    (x**2).sum().backward(create_graph=True)
    first = x.grad
    (x**3).sum().backward(create_graph=True)
    same(first, [2.0, 4.0])
    same(x.grad, [5.0, 16.0])
    (d,) = autograd.grad(x.grad.sum(), x)
    same(d, [2 + 6, 2 + 12])


def test_plain_backward_after_create_graph_adds_to_the_recorded_gradient():
    x = leaf(1.0, 2.0)
    (x**2).sum().backward(create_graph=True)
    (x * 10).sum().backward()
    same(x.grad, [12.0, 14.0])


def test_a_gradient_penalty_trains_through_the_gradient():
    w, x = leaf(2.0), leaf(3.0)
    (g,) = autograd.grad(w * w * x, x, create_graph=True)  # w²
    ((g - 1) ** 2).backward()
    same(w.grad, 2 * (4 - 1) * 2 * 2)


def test_a_hessian_vector_product_agrees_with_differences():
    def gradient(a):
        x = sg.tensor(a, requires_grad=True)
        return autograd.grad((x.tanh() * x.exp()).sum() * (x * x).sum(), x)[0].numpy()

    rng = np.random.default_rng(0)
    a, v = rng.normal(size=4), rng.normal(size=4)
    x = sg.tensor(a, requires_grad=True)
    (g,) = autograd.grad((x.tanh() * x.exp()).sum() * (x * x).sum(), x, create_graph=True)
    (hv,) = autograd.grad(g, x, sg.tensor(v))
    h = 1e-5
    np.testing.assert_allclose(hv.numpy(), (gradient(a + h * v) - gradient(a - h * v)) / (2 * h), rtol=1e-7)
