"""Functions that compare Values: every sample takes its own way, and each way is traced once."""

import math
import threading

import numpy as np
import pytest

import scalargrad
from scalargrad import Value


def branching(x):
    total = Value(0.0)
    for k, v in enumerate(x):
        total = total + (v * (k + 1) if v > 0 else v.exp())
    return total


def test_hundreds_of_paths_are_found_again():
    f = scalargrad.compile(branching, batched=("x",))
    x = np.array(np.meshgrid(*[[-1.0, 1.0]] * 8)).reshape(8, -1).T * np.linspace(0.5, 1, 256)[:, None]
    y = f(x)
    assert f.n_traces == 256
    assert y.tolist() == [branching([Value(v) for v in row]).data for row in x]
    again = np.concatenate([x[::-1], x])
    assert f(again).tolist() == [*y[::-1], *y]
    assert [f(row[None])[0] for row in x] == y.tolist()  # a sample alone
    assert f.n_traces == 256


def test_the_trace_limit_names_the_branch():
    f = scalargrad.compile(branching, batched=("x",), max_traces=3)
    assert f([[1.0, 1.0], [1.0, -1.0], [-1.0, 1.0]]).shape == (3,)
    with pytest.raises(RuntimeError, match=r"more than 3 ways .* comparison in .*test_compiled_branches\.py:\d+"):
        f([[-1.0, -1.0]])
    assert f([[1.0, 1.0]]).tolist() == [3.0]  # what was there still works


def test_nan_compares_as_in_python():
    def fn(x):
        if x < 0:
            return x * 0 - 1
        if x >= 0:
            return x * 0 + 1
        return Value(7.0)

    assert scalargrad.compile(fn, batched=("x",))([math.nan, -1.0, 1.0, math.nan]).tolist() == [7.0, -1.0, 1.0, 7.0]


def test_comparisons_of_captured_and_shared_values_are_guards_too():
    w = Value(1.0)
    f = scalargrad.compile(lambda s, x: x * 2 if w > s else x * 3, batched=("x",))
    assert f(0.0, [1.0]).tolist() == [2.0]
    assert f(5.0, [1.0]).tolist() == [3.0]
    w.data = 9.0
    assert f(5.0, [1.0]).tolist() == [2.0]
    plain = scalargrad.compile(lambda x: x * 2 if w > 3 else x * 3, batched=("x",))
    assert plain([1.0]).tolist() == [2.0]
    w.data = 0.0
    assert plain([1.0]).tolist() == [3.0]


def test_a_random_function_is_found_out():
    turn = iter([True, False])

    def fickle(x):
        if next(turn):
            return x if x > 0 else -x
        return x if x < 5 else -x

    with pytest.raises(RuntimeError, match="other comparisons for the same outcomes when traced again"):
        scalargrad.compile(fickle, batched=("x",))([1.0, -2.0])


def test_backward_over_several_paths_adds_up_in_order_of_the_samples():
    a, b = Value(2.0), Value(3.0)
    f = scalargrad.compile(lambda x: x * a if x > 0 else x.exp() * b, batched=("x",))
    x = [1.0, -1.0, 0.1, -0.3]
    f.backward(x)
    assert (a.grad, b.grad) == (0.0 + 1.0 + 0.1, 0.0 + math.exp(-1.0) + math.exp(-0.3))


def test_backward_over_paths_of_which_the_first_uses_no_captured_value():
    w = Value(2.0)
    f = scalargrad.compile(lambda x: x if x < 0 else x * w, batched=("x",))
    assert f.backward([-1.0, 3.0]).tolist() == [-1.0, 6.0]
    assert w.grad == 3.0
    f.backward([-1.0, -2.0])
    assert w.grad == 3.0
    free = scalargrad.compile(lambda x: x if x < 0 else x * 2, batched=("x",))
    assert free.backward([-1.0, 3.0]).tolist() == [-1.0, 6.0]


def test_branches_go_by_the_arithmetic_of_the_program():
    tiny = 1 + 1e-9  # is 1 in float32
    f = scalargrad.compile(lambda x: x if x > 1 else x - 1, batched=("x",), dtype="float32")
    assert f([tiny, 2.0]).tolist() == [0.0, 2.0]


def test_one_comparison_made_twice_comes_out_once_in_float32_too():
    def fn(x):
        near = x + 1e-9  # is x in float32
        return x * 0 + (10 if near > 1 else 20) + (1 if near > 1 else 2)

    f = scalargrad.compile(fn, batched=("x",), dtype="float32")
    assert f([1.0]).tolist() == [22.0]
    assert f([1.0, 2.0, 0.0]).tolist() == [22.0, 11.0, 22.0]


def test_two_threads_may_call_one_function():
    f = scalargrad.compile(branching, batched=("x",))
    rng = np.random.default_rng(0)
    batches = [rng.normal(size=(200, 5)) for _ in range(6)]
    expected = [[branching([Value(v) for v in row]).data for row in batch] for batch in batches]
    found = [None] * len(batches)

    def work(k):
        for _ in range(20):
            found[k] = f(batches[k]).tolist()

    threads = [threading.Thread(target=work, args=(k,)) for k in range(len(batches))]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert found == expected
    assert f.n_traces <= 32
