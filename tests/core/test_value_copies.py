"""Values in depth and in copies: no recursion, no cycles, and sharing kept by deepcopy and pickle."""

import copy
import gc
import math
import pickle
import warnings
import weakref

import numpy as np
import pytest

from scalargrad import Value, autograd


def chain(n):
    a = Value(1.0)
    y = a
    for _ in range(n):
        y = y * 1.0000001 + 0.0
    return a, y


def test_a_chain_of_a_million_nodes_needs_no_recursion():
    a, y = chain(500_000)  # two nodes a step
    y.backward()
    assert a.grad == pytest.approx(1.0000001**500_000)
    assert repr(y).startswith("Value(data=1.05")
    dropped = weakref.ref(a) if hasattr(a, "__weakref__") else None
    del a, y
    assert dropped is None or dropped() is None


def test_a_deep_chain_is_copied_and_pickled_without_recursion():
    a, y = chain(20_000)
    y.backward()
    for clone in copy.deepcopy(y), pickle.loads(pickle.dumps(y)):
        assert (clone.data, clone.grad) == (y.data, y.grad)
        clone.backward()
        node = clone
        while node.parents:
            node = node.parents[0]
        assert node is not a
        assert node.grad == pytest.approx(2 * a.grad)
    second = autograd.grad(autograd.grad(y * y, a, create_graph=True)[0], a)[0]
    assert second == pytest.approx(2 * a.grad**2, rel=1e-9)


def test_a_wide_graph_is_swept_in_linear_time():
    a = Value(1.0)
    y = a
    for _ in range(200):  # 2**200 paths
        y = y + y
    y.backward()
    assert a.grad == 2.0**200


def shared_graph():
    a, b = Value(2.0), Value(3.0)
    y = a * b
    z = y + a
    z.backward()
    return a, b, y, z


@pytest.mark.parametrize("clone", [copy.deepcopy, lambda x: pickle.loads(pickle.dumps(x))], ids=["deepcopy", "pickle"])
def test_copies_keep_sharing_and_gradients(clone):
    a, b, y, z = clone(shared_graph())
    assert [v.data for v in (a, b, y, z)] == [2.0, 3.0, 6.0, 8.0]
    assert [v.grad for v in (a, b, y, z)] == [4.0, 2.0, 1.0, 1.0]
    a.grad = b.grad = 0.0
    z.backward()
    assert (a.grad, b.grad) == (4.0, 2.0)


@pytest.mark.parametrize("clone", [copy.deepcopy, lambda x: pickle.loads(pickle.dumps(x))], ids=["deepcopy", "pickle"])
def test_a_copy_is_independent(clone):
    a = Value(2.0)
    y = a * 3
    z = clone(y)
    z.backward()
    assert a.grad == 0.0
    assert z is not y


@pytest.mark.parametrize("clone", [copy.deepcopy, lambda x: pickle.loads(pickle.dumps(x))], ids=["deepcopy", "pickle"])
def test_a_copied_leaf_is_shared_by_what_is_copied_with_it(clone):
    a = Value(2.0)
    leaf, y = clone([a, a * 3])
    y.backward()
    assert leaf.grad == 3.0


def test_interior_values_copied_with_their_results_stay_shared():
    a = Value(2.0)
    y = a * 3
    z = y * y
    y2, z2 = copy.deepcopy([y, z])
    assert z2.parents[0] is y2
    z2.backward()
    assert y2.grad == 12.0


def test_a_shallow_copy_of_a_leaf_is_another_leaf():
    a = Value(2.0)
    b = copy.copy(a)
    assert b is not a
    assert b.data == 2.0


@pytest.mark.parametrize("clone", [copy.deepcopy, lambda x: pickle.loads(pickle.dumps(x))], ids=["deepcopy", "pickle"])
def test_copies_keep_numbers_and_operations_of_every_kind(clone):
    a = Value(0.4)
    y = 2 ** (a.sin().max(0.1) / 3 - 1).tanh().exp()
    z = clone(y)
    assert z.data == y.data
    w = z
    while w.parents:
        w = w.parents[-1]
    z.backward()
    y.backward()
    assert w.grad == a.grad != 0.0


def test_no_reference_cycles_and_dropping_the_result_frees_the_graph():
    gc.collect()
    gc.disable()
    try:
        a = Value(1.0)
        y = (a * 2).tanh() + a
        y.backward()
        copy.deepcopy(y)
        del y
        assert gc.collect() == 0
    finally:
        gc.enable()


def test_values_have_no_instance_dictionary():
    with pytest.raises(AttributeError):
        Value(1.0).label = "x"


def test_no_warning_escapes():
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        a = Value(np.float64(0.0))
        (np.float64(1.0) / a).backward()
    assert a.grad == -math.inf


def test_numpy_scalars_on_the_left_leave_the_operation_to_value():
    for y in (
        np.float64(2.0) * Value(3.0),
        np.float32(2.0) + Value(4.0),
        np.int64(12) / Value(2.0),
        np.float64(8) - Value(2.0),
    ):
        assert type(y) is Value
        assert y.data == 6.0
