"""Random programs of views and in-place writes, against shared memory of Values and against PyTorch."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import scalargrad as sg
from scalargrad import Value

# A random program of views and writes, against the same program on arrays of Values: NumPy's views of an object array
# share memory, so what a write to a view means there needs no rule at all.

VIEWS = {
    "t": (lambda t: t.t(), lambda a: a.T),
    "flat": (lambda t: t.view(-1), None),
    "rows": (lambda t: t.view(2, -1), None),
    "first": (lambda t: t[0], lambda a: a[0]),
    "last": (lambda t: t.select(0, -1), lambda a: a[-1]),
    "tail": (lambda t: t[1:], lambda a: a[1:]),
    "even": (lambda t: t[::2], lambda a: a[::2]),
    "narrow": (lambda t: t.narrow(0, 0, 2), lambda a: a[:2]),
    "unsqueeze": (lambda t: t.unsqueeze(0), lambda a: a[None]),
    "squeeze": (lambda t: t.squeeze(), np.squeeze),
    "permute": (lambda t: t.permute(*range(t.dim())[::-1]), lambda a: a.transpose()),
    "expand": (lambda t: t.expand(2, *t.shape), lambda a: np.broadcast_to(a, (2, *a.shape))),
    "base": (lambda t: t, lambda a: a),
}


def overwrite(a, function):
    """function of each element, written back through whatever view `a` is."""
    a[...] = np.frompyfunc(function, 1, 1)(a)


WRITES = {
    "mul_": (lambda t, z: t.mul_(1.5), lambda a, w: overwrite(a, lambda v: v * 1.5)),
    "add_z": (lambda t, z: t.add_(z), lambda a, w: overwrite(a, lambda v: v + w)),
    "mul_z": (lambda t, z: t.mul_(z), lambda a, w: overwrite(a, lambda v: v * w)),
    "square": (lambda t, z: t.mul_(t), lambda a, w: overwrite(a, lambda v: v * v * 1.0)),
    "tanh_": (lambda t, z: t.tanh_(), lambda a, w: overwrite(a, Value.tanh)),
    "relu_": (lambda t, z: t.relu_(), lambda a, w: overwrite(a, Value.relu)),
    "zero_": (lambda t, z: t.zero_(), lambda a, w: overwrite(a, lambda v: Value(0.0))),
    "fill_z": (lambda t, z: t.fill_(z), lambda a, w: overwrite(a, lambda v: w * 1.0)),
    "copy_z": (lambda t, z: t.copy_(z), lambda a, w: overwrite(a, lambda v: w * 1.0)),
    "sub_exp": (lambda t, z: t.sub_((t * 0.1).exp()), lambda a, w: overwrite(a, lambda v: v - (v * 0.1).exp())),
    "setitem": (
        lambda t, z: t.__setitem__((..., slice(0, 1)) if t.dim() else (), z * 2),
        lambda a, w: overwrite(a[..., 0:1] if a.ndim else a, lambda v: w * 2),
    ),
}

STEPS = st.lists(
    st.tuples(st.sampled_from(sorted(VIEWS)), st.integers(0, 5), st.sampled_from(["read", *sorted(WRITES)])), max_size=7
)


def view_of_values(name, a):
    """The same view of an array of Values, or None where NumPy would have to copy."""
    if name in ("flat", "rows"):
        if not a.flags.c_contiguous or (name == "rows" and a.size % 2):
            return None
        return a.reshape(-1) if name == "flat" else a.reshape(2, -1)
    function = VIEWS[name][1]
    if name in ("first", "last", "tail", "even", "narrow") and (not a.ndim or len(a) < 2):
        return None
    if (name == "t" and a.ndim > 2) or (name == "expand" and a.ndim > 2):
        return None
    view = function(a)
    return view if isinstance(view, np.ndarray) else None


def program(torch, start, steps, z):
    """The weighted sum of all that was read, by a library's tensors; `steps` are those of `program_of_values`."""
    tensors, total = [start], 0.0
    for name, k, what in steps:
        t = VIEWS[name][0](tensors[k % len(tensors)])
        tensors.append(t)
        if what == "read":
            total = total + (t * 2).sum()
        else:
            WRITES[what][0](t, z)
    for i, t in enumerate(tensors):
        total = total + (t * (i + 1.0)).sum()
    return total, tensors


def program_of_values(start, steps, w):
    """As `program`, with the steps that were possible."""
    arrays, total, taken = [start], Value(0.0), []
    for name, k, what in steps:
        view = view_of_values(name, arrays[k % len(arrays)])
        if view is None:
            continue
        if not view.flags.writeable:  # several elements of it share memory
            what = "read"
        taken.append((name, k, what))
        arrays.append(view)
        if what == "read":
            total = total + sum((v * 2 for v in view.flat), Value(0.0))
        else:
            WRITES[what][1](view, w)
    for i, view in enumerate(arrays):
        total = total + sum((v * (i + 1.0) for v in view.flat), Value(0.0))
    return total, arrays, taken


def values(numbers):
    array = np.empty(numbers.shape, object)
    array.flat = [Value(x) for x in numbers.flat]
    return array


@given(steps=STEPS, of_leaf=st.booleans())
def test_writes_through_views_mean_what_they_mean_on_shared_memory(steps, of_leaf):
    numbers = np.linspace(-1, 1, 12).reshape(3, 4)
    leaves, w = values(numbers), Value(0.7)
    start = np.empty((3, 4), object)
    start.flat = [v * 3.0 if of_leaf else Value(v.data * 3.0) for v in leaves.flat]
    loss, arrays, steps = program_of_values(start, steps, w)
    loss.backward()

    x = sg.tensor(numbers, requires_grad=True)
    z = sg.tensor(0.7, dtype=sg.float64, requires_grad=True)
    y = x * 3.0 if of_leaf else x.detach() * 3.0
    total, tensors = program(sg, y, steps, z)
    for t, a in zip(tensors, arrays, strict=True):
        np.testing.assert_allclose(
            t.detach().numpy(), [] if not a.size else np.vectorize(float, otypes=[float])(a), rtol=1e-12
        )
    assert total.item() == pytest.approx(loss.data, rel=1e-12, abs=1e-12)
    if total.requires_grad:
        total.backward()
    expected = np.vectorize(lambda v: v.grad, otypes=[float])(leaves)
    np.testing.assert_allclose(np.zeros((3, 4)) if x.grad is None else x.grad.numpy(), expected, rtol=1e-10, atol=1e-12)
    assert (0.0 if z.grad is None else z.grad.item()) == pytest.approx(w.grad, rel=1e-10, abs=1e-12)


@given(steps=STEPS)
def test_writes_through_views_agree_with_torch(steps):
    torch = pytest.importorskip("torch")
    numbers = np.linspace(-1, 1, 12).reshape(3, 4)
    start = np.empty((3, 4), object)
    start.flat = [Value(v) for v in numbers.flat]
    *_, steps = program_of_values(start, steps, Value(0.7))
    # What saves the elements that it overwrites, or its result, torch refuses in backward; here it has kept them.
    saving = {"square", "tanh_", "relu_", "mul_z"}
    steps = [(name, k, "mul_" if what in saving else what) for name, k, what in steps]
    grads = []
    for library in (sg, torch):
        x = library.tensor(numbers, requires_grad=True)
        z = library.tensor(0.7, dtype=library.float64, requires_grad=True)
        total, tensors = program(library, x * 3.0, steps, z)
        total.backward()
        grads.append((x.grad, z.grad, *tensors, [t.requires_grad for t in tensors]))
    for ours, theirs in zip(*grads, strict=True):
        if isinstance(ours, list) or ours is None:
            assert ours == theirs
        else:
            np.testing.assert_allclose(ours.detach().numpy(), theirs.detach().numpy(), rtol=1e-10, atol=1e-12)
