"""Writing in place: what it does to memory and to the graph, and what it refuses."""

import numpy as np
import pytest

import scalargrad as sg

LEAF = "a leaf Variable that requires grad is being used in an in-place operation"
STALE = "modified by an inplace operation"


def leaf(*data):
    return sg.tensor(list(data), dtype=sg.float64, requires_grad=True)


def same(t, expected):
    np.testing.assert_array_equal(t.detach().numpy() if isinstance(t, sg.Tensor) else t, expected)


@pytest.mark.parametrize(
    ("name", "arguments", "expected"),
    [
        ("add_", (1.0,), lambda a: a + 1),
        ("sub_", (1.0,), lambda a: a - 1),
        ("mul_", (2.0,), lambda a: a * 2),
        ("div_", (2.0,), lambda a: a / 2),
        ("pow_", (2,), lambda a: a**2),
        ("neg_", (), np.negative),
        ("abs_", (), np.abs),
        ("exp_", (), np.exp),
        ("sin_", (), np.sin),
        ("cos_", (), np.cos),
        ("tanh_", (), np.tanh),
        ("floor_", (), np.floor),
        ("ceil_", (), np.ceil),
        ("round_", (), np.rint),
        ("trunc_", (), np.trunc),
        ("square_", (), np.square),
        ("clamp_", (-0.5, 0.5), lambda a: np.clip(a, -0.5, 0.5)),
        ("relu_", (), lambda a: np.maximum(a, 0)),
        ("zero_", (), np.zeros_like),
        ("fill_", (7.0,), lambda a: np.full_like(a, 7)),
        ("sigmoid_", (), lambda a: 1 / (1 + np.exp(-a))),
        ("reciprocal_", (), np.reciprocal),
        ("floor_divide_", (0.7,), lambda a: a // 0.7),
        ("remainder_", (0.7,), lambda a: a % 0.7),
        ("copy_", (sg.tensor([1.0, 2.0, 3.0]),), lambda a: np.array([1.0, 2.0, 3.0])),
    ],
)
def test_in_place_methods_write_into_the_same_memory_and_return_the_tensor(name, arguments, expected):
    array = np.array([-1.3, 0.4, 2.6])
    before = array.copy()
    t = sg.from_numpy(array)
    assert getattr(t, name)(*arguments) is t
    assert t.numpy() is array
    np.testing.assert_allclose(array, expected(before), rtol=1e-14)
    # The same, recorded: the gradient is that of the form that is not in place.
    x = sg.tensor(before, requires_grad=True)
    y = x * 1
    getattr(y, name)(*arguments)
    np.testing.assert_allclose(y.detach().numpy(), expected(before), rtol=1e-14)
    if name != "floor_divide_":  # which carries no gradient
        y.sum().backward()
    if hasattr(sg.Tensor, name[:-1]) and name != "floor_divide_":
        other = sg.tensor(before, requires_grad=True)
        getattr(other, name[:-1])(*arguments).sum().backward()
        np.testing.assert_array_equal(x.grad.numpy(), other.grad.numpy())


@pytest.mark.parametrize("operate", ["+=", "-=", "*=", "/=", "**=", "//=", "%="])
def test_augmented_assignment_is_in_place(operate):
    a = sg.tensor([5.0, 7.0])
    scope = {"a": a}
    exec(f"a {operate} 2", scope)
    assert scope["a"] is a
    expected = {
        "+=": [7, 9],
        "-=": [3, 5],
        "*=": [10, 14],
        "/=": [2.5, 3.5],
        "**=": [25, 49],
        "//=": [2, 3],
        "%=": [1, 1],
    }
    assert a.tolist() == expected[operate]


def test_alpha_and_value_scale_what_is_added():
    a = sg.tensor([1.0, 2.0])
    assert a.add_(sg.tensor([1.0, 1.0]), alpha=3).tolist() == [4.0, 5.0]
    assert a.sub_(sg.tensor([1.0, 1.0]), alpha=2).tolist() == [2.0, 3.0]
    assert a.addcmul_(sg.tensor([1.0, 2.0]), sg.tensor([3.0, 4.0]), value=0.5).tolist() == [3.5, 7.0]
    assert a.addcdiv_(sg.tensor([1.0, 2.0]), sg.tensor([2.0, 4.0]), value=2).tolist() == [4.5, 8.0]
    assert a.lerp_(sg.tensor([0.5, 0.0]), 0.5).tolist() == [2.5, 4.0]


@pytest.mark.parametrize(
    "write",
    [
        lambda x: x.add_(1),
        lambda x: x.zero_(),
        lambda x: x.fill_(1.0),
        lambda x: x.copy_(sg.ones(3)),
        lambda x: x.__setitem__(0, 1.0),
        lambda x: x.view(3, 1).mul_(2),
        lambda x: x[1:].zero_(),
        lambda x: x.squeeze().add_(1),
        lambda x: x.expand(3).add_(1),
    ],
)
def test_writing_to_a_leaf_that_requires_grad_or_a_view_of_one_is_refused(write):
    x = leaf(1.0, 2.0, 3.0)
    with pytest.raises(RuntimeError, match=LEAF):
        write(x)


def test_a_refused_write_changes_nothing():
    x = leaf(1.0, 2.0)
    with pytest.raises(RuntimeError):
        x.add_(1)
    y = x * 1
    with pytest.raises(RuntimeError):
        y.add_(sg.ones(3, 2))
    same(x, [1.0, 2.0])
    same(y, [1.0, 2.0])
    (y * y).sum().backward()
    same(x.grad, [2.0, 4.0])


def test_leaves_may_be_written_to_without_recording():
    x = leaf(1.0, 2.0)
    with sg.no_grad():
        x.mul_(3)
        x[0] = 5.0
        x -= 1
    same(x, [4.0, 5.0])
    assert x.is_leaf
    assert x.requires_grad
    x.data.add_(1)
    x.detach().add_(1)
    same(x, [6.0, 7.0])


def test_a_constant_may_take_in_what_requires_grad_and_then_does():
    x = leaf(2.0, 3.0)
    y = sg.zeros(2, dtype=sg.float64)
    y.add_(x * x)
    assert y.requires_grad
    assert not y.is_leaf
    y.sum().backward()
    same(x.grad, [4.0, 6.0])


def test_views_of_a_constant_made_before_it_takes_in_a_gradient_follow():
    x = leaf(2.0, 3.0)
    base = sg.zeros(4, dtype=sg.float64)
    early, written = base[1:], base[:2]
    written.add_(x)
    assert early.requires_grad
    (early * sg.tensor([10.0, 1.0, 1.0])).sum().backward()
    same(x.grad, [0.0, 10.0])


def test_what_broadcasts_to_another_shape_is_refused():
    with pytest.raises(RuntimeError, match=r"output with shape \[2\] doesn't match the broadcast shape \[3, 2\]"):
        sg.ones(2).add_(sg.ones(3, 2))


@pytest.mark.parametrize("write", [lambda t: t.add_(1.5), lambda t: t.div_(2), lambda t: t.mul_(sg.ones(2))])
def test_a_float_does_not_go_into_integers(write):
    with pytest.raises(RuntimeError, match="can't be cast to the desired output type int64"):
        write(sg.tensor([1, 2]))


def test_integers_and_the_other_float_go_into_a_float():
    a = sg.ones(2)
    a += sg.tensor([1, 2])
    a *= sg.tensor([0.5, 0.5], dtype=sg.float64)
    assert a.dtype == sg.float32
    assert a.tolist() == [1.0, 1.5]


@pytest.mark.parametrize("shape", [(3,), (2, 2)])
def test_copy_refuses_a_source_that_does_not_broadcast(shape):
    with pytest.raises(RuntimeError, match=r"copy_\(\): expected src to broadcast to shape \[2\], got"):
        sg.ones(2).copy_(sg.ones(shape))


def test_copy_casts_and_broadcasts():
    a = sg.zeros(2, 3, dtype=sg.int64)
    a.copy_(sg.tensor([1.9, -1.9, 3.0]))
    assert a.tolist() == [[1, -1, 3], [1, -1, 3]]
    x = leaf(1.0, 2.0)
    y = sg.zeros(3, 2)  # float32 from float64, with a gradient
    y.copy_(x)
    y.sum().backward()
    same(x.grad, [3.0, 3.0])
    assert x.grad.dtype == sg.float64


def test_fill_takes_one_number():
    with pytest.raises(
        RuntimeError, match="fill_ only supports 0-dimension value tensor but got tensor with 1 dimensions"
    ):
        sg.ones(2).fill_(sg.ones(2))


@pytest.mark.parametrize("size", [2, 17, 150])
@pytest.mark.parametrize("recorded", [False, True])
def test_a_write_from_the_memory_that_is_written_to_reads_what_was_there_before(size, recorded):
    """Where PyTorch refuses, or reads what it has just written."""
    views = {
        "transposed": (lambda x: x, lambda x: x.T),
        "from the row above": (lambda x: x[1:], lambda x: x[:-1]),
        "from the row below": (lambda x: x[:-1], lambda x: x[1:]),
        "from the left": (lambda x: x[:, 1:], lambda x: x[:, :-1]),
        "its own first row": (lambda x: x, lambda x: x[0]),
        "its own first column": (lambda x: x, lambda x: x[:, :1]),
        "one of its numbers": (lambda x: x, lambda x: x[1, 1]),
        "a column from a row": (lambda x: x[:, 1], lambda x: x[0]),
    }
    numbers = np.random.default_rng(size).standard_normal((size, size))
    seed = sg.from_numpy(np.random.default_rng(1).standard_normal((size, size)))
    for name, (written, read) in views.items():
        expected = []
        for source in (lambda x, read=read: read(x), lambda x, read=read: read(x).clone()):
            leaf = sg.tensor(numbers, requires_grad=recorded)
            x = leaf * 1
            written(x).add_(source(x), alpha=2)
            if recorded:
                x.backward(seed)
            expected.append([x.tolist(), leaf.grad.tolist() if recorded else None])
        assert expected[0] == expected[1], name
        before = numbers.copy()
        written(before)[...] += 2 * read(numbers)
        assert expected[0][0] == before.tolist(), name


def test_memory_that_several_elements_share_is_not_written_to():
    with pytest.raises(RuntimeError, match=r"more than one element|several elements share"):
        sg.ones(1).expand(3).add_(1)


def test_read_only_memory_is_not_written_to():
    array = np.ones(2)
    array.flags.writeable = False
    with pytest.raises(RuntimeError, match="read-only"):
        sg.from_numpy(array).add_(1)


SAVING = {
    "mul": lambda y: y * y,
    "div": lambda y: 1 / y,
    "pow": lambda y: y**3,
    "log": lambda y: y.log(),
    "matmul": lambda y: y @ y,
    "maximum": lambda y: sg.maximum(y, 2 * y.detach()),
}


@pytest.mark.parametrize("name", SAVING)
@pytest.mark.parametrize("write", ["self", "view", "detached", "base"])
def test_writing_to_a_saved_input_is_noticed_in_backward(name, write):
    x = leaf(1.0, 2.0)
    base = x * 1
    y = base.view(2)
    z = SAVING[name](y)
    {"self": y, "view": y[:1], "detached": y.detach(), "base": base}[write].add_(1)
    with pytest.raises(RuntimeError, match=STALE):
        z.sum().backward()
    assert x.grad is None


@pytest.mark.parametrize("name", ["exp", "tanh", "sigmoid", "relu", "sqrt"])
def test_writing_to_a_saved_result_is_noticed_in_backward(name):
    x = leaf(1.0, 2.0)
    y = getattr(x, name)()
    y.add_(1)
    with pytest.raises(RuntimeError, match=f"{STALE}.*{name.title()}Backward"):
        y.sum().backward()


@pytest.mark.parametrize("name", ["exp", "tanh", "relu", "mul"])
def test_writing_to_what_is_not_saved_is_free(name):
    x = leaf(1.0, 2.0)
    y = x * 2
    z = getattr(y, name)(*([3.0] if name == "mul" else []))
    y.add_(1)
    z.sum().backward()
    assert x.grad is not None


def test_data_writes_are_not_noticed_and_detached_ones_are():
    x = leaf(1.0, 2.0)
    y = (x * x).sum()
    x.data[0] = 10.0
    y.backward()
    same(x.grad, [20.0, 4.0])
    y = (x * x).sum()
    x.detach()[0] = 3.0
    with pytest.raises(RuntimeError, match=STALE):
        y.backward()


def test_detached_shares_memory_in_both_directions():
    x = leaf(1.0, 2.0)
    d = x.detach()
    d[0] = 9.0
    same(x, [9.0, 2.0])
    with sg.no_grad():
        x[1] = 8.0
    same(d, [9.0, 8.0])
    assert not d.requires_grad
    assert d.is_leaf


def test_an_update_without_recording_between_forward_and_backward_is_noticed():
    w = leaf(1.0, 2.0)
    loss = (w * w).sum()
    with sg.no_grad():
        w -= 0.1
    with pytest.raises(RuntimeError, match=STALE):
        loss.backward()


def test_accumulating_into_grad_is_noticed_by_what_saved_it():
    x = leaf(1.0, 2.0)
    (x * 2).sum().backward()
    z = leaf(3.0, 4.0)
    y = (z * x.grad).sum()
    (x * 2).sum().backward()  # adds to x.grad in place
    with pytest.raises(RuntimeError, match=STALE):
        y.backward()


def test_the_version_counts_writes():
    a = sg.zeros(2)
    first = a._version
    a.add_(1)
    second = a._version
    a.view(1, 2).add_(1)
    assert first < second < a._version


def test_a_written_tensor_has_the_writes_operation_as_grad_fn():
    x = leaf(1.0, 2.0)
    y = x * 2
    y.add_(1)
    assert y.grad_fn.name() == "AddBackward"
    assert y.grad_fn.next_functions[0][0].name() == "MulBackward"


def test_hooks_and_results_taken_before_a_write_belong_to_the_old_tensor():
    x = leaf(1.0, 2.0)
    y = x * 2
    z = y + 0  # of the old elements
    y.mul_(10)
    (z + y).sum().backward()
    same(x.grad, [22.0, 22.0])


def test_setitem_takes_the_gradient_from_what_it_overwrites():
    x, v = leaf(1.0, 2.0, 3.0), leaf(5.0)
    y = x * 2
    y[1] = v[0] * 3
    y[2:] = 0
    same(y, [2.0, 15.0, 0.0])
    y.sum().backward()
    same(x.grad, [2.0, 0.0, 0.0])
    same(v.grad, [3.0])


def test_setitem_by_mask_and_by_indices():
    x = leaf(1.0, -2.0, 3.0)
    y = x * 1
    y[y < 0] = 0.0
    y[sg.tensor([0, 2])] *= 10
    same(y, [10.0, 0.0, 30.0])
    y.sum().backward()
    same(x.grad, [10.0, 0.0, 10.0])


def test_a_write_without_recording_leaves_the_graph_as_it_was():
    x = leaf(1.0, 2.0)
    y = x * 2
    node = y.grad_fn
    with sg.no_grad():
        y.add_(1)
    assert y.grad_fn is node
    same(y, [3.0, 5.0])


def test_views_made_under_no_grad_carry_no_gradient():
    x = leaf(1.0, 2.0)
    with sg.no_grad():
        v = (x * 2)[0:1]
    assert not v.requires_grad
    v.add_(1)
    same(v, [3.0])


def test_writes_of_zero_elements_and_of_no_dimensions():
    a = sg.zeros(0, 3)
    a.add_(1)
    assert a.shape == (0, 3)
    s = sg.tensor(2.0, requires_grad=True)
    t = s * 1
    t.mul_(3)
    t[()] = t + t
    t.backward()
    assert s.grad.item() == 6.0


def test_requires_grad_of_a_view_of_a_leaf_made_before_the_leaf_required_it():
    x = sg.ones(3)
    v = x[:2]
    x.requires_grad_()
    assert not v.requires_grad
