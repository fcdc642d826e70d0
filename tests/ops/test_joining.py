"""Joining and taking apart, and what picks along a dimension, for memory of any layout and for nothing at all."""

import numpy as np
import pytest

import scalargrad as sg
import scalargrad.nn.functional as F
from scalargrad.tensor import wrap

LAYOUTS = {
    "rows": lambda x: x,
    "columns": lambda x: np.asfortranarray(x),
    "every other": lambda x: np.repeat(x, 2, -1)[..., ::2],
    "backwards": lambda x: x[::-1].copy()[::-1],
}


def numbers(*shape, dtype=np.float64):
    return (np.random.default_rng(len(shape)).integers(-50, 50, shape) / 8).astype(dtype)


@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("dim", [0, 1, 2, -1])
@pytest.mark.parametrize("shape", [(2, 3), (2, 0), (0, 3)])
def test_stack_is_numpys_in_any_layout_and_sends_each_its_part(layout, dim, shape):
    arrays = [LAYOUTS[layout](numbers(*shape) + i) for i in range(3)]
    tensors = [wrap(x).requires_grad_() for x in arrays]
    y = sg.stack(tensors, dim)
    np.testing.assert_array_equal(y.detach().numpy(), np.stack(arrays, dim), strict=True)
    g = numbers(*y.shape)
    y.backward(sg.tensor(g))
    for i, x in enumerate(tensors):
        np.testing.assert_array_equal(x.grad.numpy(), np.take(g, i, dim), strict=True)


@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("dim", [0, 1])
def test_cat_is_numpys_in_any_layout_and_sends_each_its_part(layout, dim):
    arrays = [LAYOUTS[layout](numbers(2 + i * (dim == 0), 3 + i * (dim == 1))) for i in range(3)]
    tensors = [wrap(x).requires_grad_() for x in arrays]
    y = sg.cat(tensors, dim)
    np.testing.assert_array_equal(y.detach().numpy(), np.concatenate(arrays, dim), strict=True)
    g = numbers(*y.shape)
    y.backward(sg.tensor(g))
    parts = np.split(g, np.cumsum([x.shape[dim] for x in arrays])[:-1], dim)
    for x, part in zip(tensors, parts, strict=True):
        np.testing.assert_array_equal(x.grad.numpy(), part, strict=True)


@pytest.mark.parametrize("join", [sg.cat, sg.stack])
def test_joining_promotes_and_gives_each_a_gradient_of_its_own_dtype(join):
    x, y = sg.ones(2, requires_grad=True), sg.ones(2, dtype=sg.float64, requires_grad=True)
    joined = join([x, sg.tensor([1, 2]), y])
    assert joined.dtype == sg.float64
    joined.sum().backward()
    assert (x.grad.dtype, y.grad.dtype) == (sg.float32, sg.float64)
    assert join([sg.tensor([1, 2], dtype=sg.uint8), sg.tensor([1, 2], dtype=sg.int8)]).dtype == sg.int16
    assert join([sg.tensor([True, False]), sg.tensor([1, 2])]).dtype == sg.int64


def test_stack_is_one_operation_and_can_be_differentiated_twice():
    x = sg.tensor([1.0, 2.0], requires_grad=True)
    y = sg.stack([x, x * x])
    assert y.grad_fn.name() == "StackBackward"
    (first,) = sg.autograd.grad((y * y).sum(), [x], create_graph=True)
    (second,) = sg.autograd.grad(first.sum(), [x])
    np.testing.assert_allclose(second.numpy(), [14.0, 50.0])  # of x² + x⁴: 2 + 12 x²


@pytest.mark.parametrize("tensors", [[np.ones(2)], sg.ones(2, 2), [sg.ones(2), 1.0]])
def test_stack_takes_lists_of_tensors_and_nothing_else(tensors):
    with pytest.raises(TypeError, match=r"stack.*list or tuple"):
        sg.stack(tensors)


def test_a_vector_of_nothing_is_passed_over():
    x = sg.ones(2, 3)
    assert sg.cat([sg.ones(0), x, sg.ones(0)]).shape == (2, 3)
    assert sg.cat([sg.ones(0), sg.ones(0)]).shape == (0,)


@pytest.mark.parametrize("take_apart", [lambda x: x.split(2), lambda x: x.chunk(3), lambda x: x.unbind()])
def test_parts_are_views_that_see_writes_and_send_gradients_to_their_places(take_apart):
    x = sg.zeros(5, 2)
    parts = take_apart(x)
    x[4, 1] = 7
    assert parts[-1].flatten()[-1] == 7
    assert all(part._base is x for part in parts)
    leaf = sg.zeros(5, 2, requires_grad=True)
    take_apart(leaf)[1].sum().backward()
    whole = np.zeros((5, 2), np.float32)
    whole[take_apart(sg.arange(5))[1].numpy()] = 1
    np.testing.assert_array_equal(leaf.grad.numpy(), whole)


@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize(
    ("shape", "wide"), [((1, 3), (2, 4, 3)), ((2, 1), (2, 0)), ((0, 1), (3, 0, 2)), ((2, 3), (2, 3))]
)
def test_expand_repeats_without_memory_and_is_not_written_to(layout, shape, wide):
    x = LAYOUTS[layout](numbers(*shape))
    y = wrap(x).expand(wide)
    np.testing.assert_array_equal(y.numpy(), np.broadcast_to(x, wide), strict=True)
    if y.numel() > x.size:
        assert np.shares_memory(y.numpy(), x)
        with pytest.raises((RuntimeError, ValueError)):
            y.add_(1.0)
    assert x.flags.writeable


@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("keepdim", [False, True])
@pytest.mark.parametrize("dim", [0, 1, 2])
def test_an_extreme_along_a_dimension_and_its_gradient_in_any_layout(layout, keepdim, dim):
    x = LAYOUTS[layout](numbers(3, 4, 5))
    x[1, 2, 3] = x[0, 0, 0] = np.nan
    leaf = wrap(x).requires_grad_()
    values, indices = leaf.max(dim, keepdim)
    places = np.argmax(x, dim, keepdims=True)
    np.testing.assert_array_equal(indices.numpy(), np.argmax(x, dim, keepdims=keepdim), strict=True)
    np.testing.assert_array_equal(values.detach().numpy(), np.max(x, dim, keepdims=keepdim), strict=True)
    values.backward(sg.ones_like(values))
    wanted = np.zeros(x.shape)
    np.put_along_axis(wanted, places, 1, dim)
    np.testing.assert_array_equal(leaf.grad.numpy(), wanted)


@pytest.mark.parametrize("shape", [(3, 4), (0, 4), (5,), ()])
@pytest.mark.parametrize("shift", [0, 1, -2, 9])
def test_roll_is_numpys_in_row_order_and_along_dimensions(shape, shift):
    x = numbers(*shape)
    np.testing.assert_array_equal(wrap(x).roll(shift).numpy(), np.roll(x, shift), strict=True)
    if x.ndim == 2:
        np.testing.assert_array_equal(
            wrap(x.T).roll((shift, 1), (1, 0)).numpy(), np.roll(x.T, (shift, 1), (1, 0)), strict=True
        )
    leaf = wrap(x).requires_grad_()
    g = numbers(*shape)
    leaf.roll(shift).backward(sg.tensor(g))
    np.testing.assert_array_equal(leaf.grad.numpy(), np.roll(g, -shift), strict=True)


@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("numbers_of_rows", [[2, 0, 3], [2, 0, 2, 2], []])
def test_a_table_is_looked_up_and_gets_its_gradients_in_any_layout(layout, numbers_of_rows):
    w = LAYOUTS[layout](numbers(4, 3))
    index = np.array(numbers_of_rows, np.int64)
    leaf = wrap(w).requires_grad_()
    y = F.embedding(wrap(index), leaf)
    np.testing.assert_array_equal(y.detach().numpy(), w[index], strict=True)
    g = numbers(len(index), 3)
    y.backward(sg.tensor(g))
    wanted = np.zeros((4, 3))
    np.add.at(wanted, index, g)
    np.testing.assert_array_equal(leaf.grad.numpy(), wanted)


@pytest.mark.parametrize("k", [-5, -1, 0, 2, 9])
@pytest.mark.parametrize("dtype", [np.float32, np.int64, np.bool_])
def test_triangles_are_numpys(k, dtype):
    x = numbers(2, 3, 4, dtype=dtype)
    np.testing.assert_array_equal(wrap(x).tril(k).numpy(), np.tril(x, k), strict=True)
    np.testing.assert_array_equal(wrap(x).triu(k).numpy(), np.triu(x, k), strict=True)
