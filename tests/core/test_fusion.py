"""Convolution, relu and max-pooling run as one where nobody looks; and nobody can tell, whatever is done in between."""

import gc
import threading
import weakref

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import scalargrad as sg
import scalargrad.nn.functional as F
from scalargrad import fusion, pending
from scalargrad.pending import Pending

NEVER = 1 << 62


@pytest.fixture(autouse=True)
def everything_waits(monkeypatch):
    """Images here are small: let them wait all the same."""
    waits_from(0, monkeypatch.setattr)


def waits_from(size, setattr=setattr):
    setattr(fusion, "CONV_WAITS", size)
    setattr(fusion, "RELU_WAITS", size)


def images(seed, *shape, dtype=np.float32):
    return np.random.default_rng(seed).standard_normal(shape).astype(dtype)


def leaf(array):
    return sg.tensor(array, requires_grad=True)


def is_waiting(t):
    return type(t._array) is Pending and t._array.is_waiting


def operands(seed=0, dtype=np.float32):
    return (
        leaf(images(seed, 3, 2, 9, 8, dtype=dtype)),
        leaf(images(seed + 1, 4, 2, 3, 3, dtype=dtype)),
        leaf(images(seed + 2, 4, dtype=dtype)),
    )


@st.composite
def blocks(draw):
    """Arrays and arguments for a convolution and a pooling, drawn from the pooled size backwards."""
    pooled = draw(st.tuples(st.integers(1, 3), st.integers(1, 3)))
    size, step = draw(st.integers(1, 3)), draw(st.integers(1, 3))
    kernel, stride, padding = draw(st.integers(1, 3)), draw(st.integers(1, 2)), draw(st.integers(0, 1))
    convolved = [(n - 1) * step + size + draw(st.integers(0, step - 1)) for n in pooled]
    entries = [max(1, (n - 1) * stride + kernel - 2 * padding) for n in convolved]
    groups = draw(st.integers(1, 2))
    n, c, o = draw(st.integers(1, 3)), draw(st.integers(1, 2)) * groups, draw(st.integers(1, 3)) * groups
    dtype = draw(st.sampled_from([np.float32, np.float64]))
    seed = draw(st.integers(0, 999))
    x, w = images(seed, n, c, *entries, dtype=dtype), images(seed + 1, o, c // groups, kernel, kernel, dtype=dtype)
    if draw(st.booleans()):
        x, w = np.round(x), np.round(w)  # ties, and zeros for relu
    if draw(st.booleans()):
        x.flat[draw(st.integers(0, x.size - 1))] = np.nan
    b = images(seed + 2, o, dtype=dtype) if draw(st.booleans()) else None
    return (x, w, b), {"stride": stride, "padding": padding, "groups": groups}, (size, step)


def run(arrays, options, window):
    """The block, and the gradients that it sends back."""
    x, w, b = (None if a is None else leaf(a) for a in arrays)
    y = F.max_pool2d(F.relu(F.conv2d(x, w, b, **options)), *window)
    y.backward(sg.tensor(images(7, *y.shape, dtype=x.dtype)))
    return [y.detach().array] + [t.grad.array for t in (x, w, b) if t is not None]


@given(blocks())
def test_the_block_is_the_three_operations(block):
    together = run(*block)
    waits_from(NEVER)
    try:
        apart = run(*block)
    finally:
        waits_from(0)
    np.testing.assert_array_equal(together[0], apart[0])
    for ours, theirs in zip(together[1:], apart[1:], strict=True):
        tolerance = 1e-4 if ours.dtype == np.float32 else 1e-12
        np.testing.assert_allclose(ours, theirs, rtol=tolerance, atol=tolerance)


def test_nothing_between_is_computed_unless_it_is_asked_for():
    x, w, b = operands()
    c = F.conv2d(x, w, b)
    r = F.relu(c)
    y = F.max_pool2d(r, 2)
    assert is_waiting(c)
    assert is_waiting(r)
    assert not is_waiting(y)
    assert c.shape == (3, 4, 7, 6)
    assert (c.dtype, r.ndim, is_waiting(c)) == (sg.float32, 4, True)
    y.sum().backward()
    assert is_waiting(c)
    assert np.array_equal(r.detach().numpy(), np.maximum(c.detach().numpy(), 0))
    assert not is_waiting(c)
    assert not is_waiting(r)


def test_the_graph_shows_three_operations():
    x, w, b = operands()
    y = F.max_pool2d(F.relu(F.conv2d(x, w, b)), 2)
    names, node = [], y.grad_fn
    while node is not None:
        names.append(node.name())
        node = node.next_functions[0][0] if node.next_functions else None
    assert names == ["MaxPool2DWithIndicesBackward", "ReluBackward", "ConvolutionBackward", "AccumulateGrad"]


@pytest.mark.parametrize("threshold", [0, NEVER])
def test_gradients_between_are_those_of_the_separate_operations(threshold, monkeypatch):
    waits_from(threshold, monkeypatch.setattr)
    x, w, b = (leaf(np.round(t.detach().array)) for t in operands())
    c = F.conv2d(x, w, b)
    c.retain_grad()
    r = F.relu(c)
    seen = []
    r.register_hook(lambda g: seen.append(g.numpy().copy()))
    y, indices = F.max_pool2d(r, 2, return_indices=True)
    g = images(5, *y.shape)
    y.backward(sg.tensor(g))
    expected = np.zeros((3, 4, 42), np.float32)  # windows do not overlap
    np.put_along_axis(expected, indices.array.reshape(3, 4, -1), g.reshape(3, 4, -1), 2)
    expected = expected.reshape(3, 4, 7, 6)
    assert np.array_equal(seen[0], expected)  # relu's result gets a gradient also where it is 0
    assert np.array_equal(c.grad.array, np.where(c.detach().array > 0, expected, 0))
    assert (y == 0).any()
    assert (indices.array[(y == 0).numpy()] >= 0).all()


def test_a_result_that_is_used_twice_gets_both_gradients():
    x, w, b = operands()
    r = F.relu(F.conv2d(x, w, b))
    (F.max_pool2d(r, 2).sum() + (r * r).sum()).backward()
    ours = [t.grad.array for t in (x, w, b)]
    x, w, b = operands()
    waits_from(NEVER)
    r = F.relu(F.conv2d(x, w, b))
    (F.max_pool2d(r, 2).sum() + (r * r).sum()).backward()
    for a, t in zip(ours, (x, w, b), strict=True):
        np.testing.assert_allclose(a, t.grad.array, rtol=1e-4, atol=1e-4)


def test_the_block_can_be_differentiated_twice():
    x, w, b = operands(dtype=np.float64)

    def block(x, w, b):
        return F.max_pool2d(F.relu(F.conv2d(x, w, b, padding=1)), 2)

    assert sg.autograd.gradcheck(block, (x, w, b))
    assert sg.autograd.gradgradcheck(block, (x, w, b))


WRITES = {
    "in place": lambda t: t.mul_(0),
    "through its array": lambda t: np.copyto(t.array, 0),
    "through NumPy's view": lambda t: np.copyto(t.numpy()[:1], 5),
    "through .data": lambda t: t.data.fill_(3),
    "through detach()": lambda t: t.detach().add_(1),
    "through a view": lambda t: t.view(-1)[2:5].fill_(9),
    "by an index": lambda t: t.__setitem__(0, 4.0),
    "by an assignment to .data": lambda t: setattr(t, "data", sg.zeros_like(t)),
    "by out of a function of NumPy": lambda t: np.negative(np.asarray(t), out=np.asarray(t)),
}


@pytest.mark.parametrize("which", range(3))
@pytest.mark.parametrize("write", WRITES.values(), ids=WRITES)
def test_a_write_to_an_input_comes_too_late(write, which):
    with sg.no_grad():
        tensors = [t.detach().clone() for t in operands()]
        waits_from(NEVER)
        before = F.conv2d(*tensors).numpy()
        waits_from(0)
        c = F.conv2d(*tensors)
        r = F.relu(c)
        assert is_waiting(c)
        write(tensors[which])
        assert np.array_equal(c.numpy(), before)
        assert np.array_equal(r.numpy(), np.maximum(before, 0))


ALIASES = {
    "an array": lambda t: t.array,
    "a part of an array": lambda t: t.array[:1],
    "a view of it": lambda t: t.view(-1),
    "a detached tensor": lambda t: t.detach(),
    ".data": lambda t: t.data,
    "a memoryview": lambda t: memoryview(t.array),
}


@pytest.mark.parametrize("which", range(3))
@pytest.mark.parametrize("alias", ALIASES.values(), ids=ALIASES)
def test_a_write_through_what_was_taken_before_comes_too_late(alias, which):
    with sg.no_grad():
        tensors = [t.detach().clone() for t in operands()]
        taken = alias(tensors[which])
        waits_from(NEVER)
        before = F.conv2d(*tensors).numpy()
        waits_from(0)
        c = F.conv2d(*tensors)
        np.copyto(np.asarray(taken), 7)
        assert np.array_equal(c.numpy(), before)


def test_images_from_numpy_are_copied_rather_than_waited_on():
    x = images(0, 3, 1, 9, 8)
    w = sg.tensor(images(1, 16, 1, 3, 3))
    c = F.conv2d(sg.from_numpy(x), w)
    assert is_waiting(c)
    expected = F.conv2d(sg.tensor(x), w).numpy()
    x[:] = 0
    assert np.array_equal(c.numpy(), expected)


def test_relu_of_what_others_hold_does_not_wait():
    x = images(0, 3, 4, 9, 8)
    r = F.relu(sg.from_numpy(x))
    assert not is_waiting(r)
    assert is_waiting(F.relu(sg.tensor(x)))


def test_relu_waits_for_a_tensor_that_nobody_holds_and_a_write_comes_too_late():
    t = sg.tensor(images(0, 3, 4, 9, 8))
    expected = np.maximum(t.array.copy(), 0)
    r = F.relu(t)
    assert is_waiting(r)
    t.fill_(1)
    assert np.array_equal(r.numpy(), expected)


def test_what_is_forgotten_is_never_computed_and_leaves_no_trace(monkeypatch):
    x, w, b = operands()
    monkeypatch.setattr(fusion, "conv2d_now", None)  # calling it would fail
    r = F.relu(F.conv2d(x, w, b))
    assert pending.waiting
    del r
    gc.collect()
    assert not pending.waiting


def test_errors_come_where_the_convolution_stands():
    x, w, _ = operands()
    with pytest.raises(RuntimeError, match="input has 2 channels but weight expects 3"):
        F.conv2d(x, sg.zeros(4, 3, 3, 3))
    with pytest.raises(RuntimeError, match="expected weight to be float32"):
        F.conv2d(x, w.detach().double())
    with pytest.raises(RuntimeError, match="output size is too small"):
        F.max_pool2d(F.relu(F.conv2d(x, w)), 20)


def test_a_saved_result_that_was_written_to_is_still_refused():
    x, w, b = operands()
    r = F.relu(F.conv2d(x, w, b))
    y = F.max_pool2d(r, 2).sum()
    with sg.no_grad():
        r.add_(1)
    with pytest.raises(RuntimeError, match="modified by an inplace operation"):
        y.backward()


def test_several_threads_get_the_same_array():
    x, w, b = operands()
    with sg.no_grad():
        c = F.conv2d(x, w, b)
    found, start = [], threading.Barrier(4)

    def look():
        start.wait()
        found.append(c.array)

    threads = [threading.Thread(target=look) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert all(array is found[0] for array in found)


def test_copies_pickles_and_prints_are_of_the_elements():
    x, w, b = operands()
    with sg.no_grad():
        expected = F.conv2d(x, w, b).numpy().copy()
        assert np.array_equal(F.conv2d(x, w, b).clone().numpy(), expected)
        assert repr(F.conv2d(x, w, b)) == repr(sg.tensor(expected))
        assert np.array_equal(F.conv2d(x, w, b).__reduce__()[1][1], expected)
        assert np.array_equal(np.asarray(F.conv2d(x, w, b)), expected)


STEPS = ("relu", "pool", "double", "write x", "write w", "numpy x", "look c", "look r", "keep", "view")


@given(st.lists(st.sampled_from(STEPS), min_size=1, max_size=8), st.integers(0, 99))
def test_a_program_sees_the_same_whether_or_not_things_wait(steps, seed):
    """Convolution first, then whatever comes; all values that the program has seen at its end are the same bits."""

    def program():
        rng = np.random.default_rng(seed)
        x, w, b = (t.detach().clone() for t in operands(seed))
        held = x.array if seed % 3 == 0 else None
        seen = []
        with sg.no_grad():
            c = t = F.conv2d(x, w, b)
            r = None
            for step in steps:
                if step == "relu":
                    t = r = F.relu(t)
                elif step == "pool" and min(t.shape[2:]) >= 2:
                    t = F.max_pool2d(t, 2)
                elif step == "double":
                    t = t + t
                elif step == "write x":
                    x.mul_(float(rng.integers(2, 5)))
                elif step == "write w":
                    w.view(-1)[:3] = 0.5
                elif step == "numpy x" and held is not None:
                    held[0] = 1
                elif step == "look c":
                    seen.append(c.array.copy())
                elif step == "look r" and r is not None:
                    seen.append(r.array.copy())
                elif step == "keep":
                    seen.append(t.array)
                elif step == "view":
                    t.view(-1)[:2].fill_(0)
        return [*seen, c.array, t.array, x.array, w.array] + ([] if r is None else [r.array])

    waiting = program()
    waits_from(NEVER)
    try:
        eager = program()
    finally:
        waits_from(0)
    assert len(waiting) == len(eager)
    for ours, theirs in zip(waiting, eager, strict=True):
        np.testing.assert_array_equal(ours, theirs)


def test_a_gradient_that_is_a_waiting_convolution_goes_through_a_pooling():
    x, w, _ = operands()
    y = F.max_pool2d(F.conv2d(x, w), 2)
    (g,) = sg.autograd.grad((y * y).sum(), x, create_graph=True)
    (g * g).sum().backward()
    assert np.isfinite(x.grad.array).all()
    assert x.grad.array.any()


@pytest.mark.parametrize("write", [lambda r: r.data.zero_(), lambda r: np.copyto(r.detach().numpy(), 0)])
def test_a_write_that_the_graph_does_not_notice_counts_as_it_does_without_waiting(write):
    x, w, b = operands()
    r = F.relu(F.conv2d(x, w, b))
    y = F.max_pool2d(r, 2)
    write(r)
    y.sum().backward()
    assert not b.grad.array.any()  # relu's derivative looks at what is there now


def test_a_backward_of_the_users_may_write_to_what_it_is_given():
    class Zeroed(sg.autograd.Function):
        @staticmethod
        def forward(ctx, x):
            return x * 1

        @staticmethod
        def backward(ctx, g):
            return g.mul_(0)

    x, w, b = operands()
    y = F.max_pool2d(F.relu(F.conv2d(x, w, b)), 2)
    v = leaf(np.ones(y.shape, np.float32))
    seed = sg.ones(*y.shape)
    (y + Zeroed.apply(v)).backward(seed)
    assert b.grad.array.any()
    assert seed.array.all()


def test_a_weak_reference_to_an_inputs_array_is_noticed():
    x, w, b = (t.detach().clone() for t in operands())
    alias = weakref.ref(x.array)
    expected = F.conv2d(x.clone(), w, b).numpy().copy()
    c = F.conv2d(x, w, b)
    alias()[:] = 0
    assert np.array_equal(c.numpy(), expected)


def test_a_long_chain_of_relus_is_no_recursion():
    r = sg.tensor(images(0, 1, 1, 2, 2))
    for _ in range(5000):
        r = F.relu(r)
    assert r.numpy().min() >= 0


def test_the_next_gradient_takes_the_place_of_zeros_only_if_it_fits():
    p = leaf(np.ones((2, 3), np.float32))
    (p * 2).sum().backward()
    p.grad = sg.tensor(np.asfortranarray(p.grad.array))
    sg.nn.parameter.zero_gradients([p], set_to_none=False)
    assert p.grad.tolist() == [[0.0] * 3] * 2
    (p * 3).sum().backward()
    assert p.grad.tolist() == [[3.0] * 3] * 2
