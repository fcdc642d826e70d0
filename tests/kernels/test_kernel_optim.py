"""The optimisers' steps against their formulas, one number at a time in Python's floats."""

import math
from itertools import product

import numpy as np
import pytest

SIZES = [(), (1,), (5, 7), (0,), (33,)]


def arrays(draw, positive: bool = False) -> list[np.ndarray]:
    return [np.asarray(np.abs(draw(*s)) + 3 if positive else draw(*s)).reshape(s) for s in SIZES]


def each_number(step, *lists: list[np.ndarray]) -> list[list[np.ndarray]]:
    """What `step` makes of the numbers at each place of the lists' arrays."""
    results = [[array.astype(float) for array in arrays] for arrays in lists]
    for places in zip(*results, strict=True):
        for index in np.ndindex(places[0].shape):
            for array, number in zip(places, step(*[float(array[index]) for array in places]), strict=True):
                array[index] = number
    return results


def agree(got: list[list[np.ndarray]], expected: list[list[np.ndarray]], dtype: np.dtype) -> None:
    tolerance = 1e-5 if dtype == np.float32 else 1e-12
    for one, other in zip(got, expected, strict=True):
        for a, b in zip(one, other, strict=True):
            assert a.dtype == dtype
            np.testing.assert_allclose(a, b, rtol=tolerance, atol=tolerance)


@pytest.mark.parametrize(("momentum", "dampening", "nesterov"), [(0, 0, False), (0.9, 0.3, False), (0.9, 0, True)])
@pytest.mark.parametrize(("weight_decay", "maximize", "first"), [(0, False, True), (0.1, True, False)])
def test_sgd_step(k, dtype, draw, momentum, dampening, nesterov, weight_decay, maximize, first):
    params, grads, buffers = (arrays(draw) for _ in range(3))

    def step(p: float, g: float, buffer: float) -> tuple[float, ...]:
        d = (-g if maximize else g) + weight_decay * p
        if momentum:
            buffer = d if first else momentum * buffer + (1 - dampening) * d
            d = d + momentum * buffer if nesterov else buffer
        return p - 0.1 * d, g, buffer

    expected = each_number(step, params, grads, buffers)
    options = {"momentum": momentum, "dampening": dampening, "nesterov": nesterov, "maximize": maximize}
    k.sgd_step(params, grads, buffers, lr=0.1, weight_decay=weight_decay, first=first, **options)
    agree([params, grads, buffers], expected, dtype)


@pytest.mark.parametrize(("amsgrad", "decoupled", "maximize"), list(product([False, True], repeat=3)))
@pytest.mark.parametrize("weight_decay", [0, 0.1])
def test_adam_step(k, dtype, draw, amsgrad, decoupled, maximize, weight_decay):
    params, grads, m_s = (arrays(draw) for _ in range(3))
    v_s, largest_s = (arrays(draw, positive=True) for _ in range(2))

    def step(p: float, g: float, m: float, v: float, largest: float) -> tuple[float, ...]:
        d = -g if maximize else g
        if decoupled:
            p -= 0.1 * weight_decay * p
        else:
            d += weight_decay * p
        m = 0.9 * m + 0.1 * d
        v = 0.99 * v + 0.01 * d * d
        if amsgrad:
            largest = max(largest, v)
        m_hat, v_hat = m / (1 - 0.9**3), (largest if amsgrad else v) / (1 - 0.99**3)
        return p - 0.1 * m_hat / (math.sqrt(v_hat) + 1e-3), g, m, v, largest

    expected = each_number(step, params, grads, m_s, v_s, largest_s)
    options = {"amsgrad": amsgrad, "decoupled": decoupled, "maximize": maximize, "weight_decay": weight_decay}
    k.adam_step(params, grads, m_s, v_s, largest_s, step=3, lr=0.1, beta1=0.9, beta2=0.99, eps=1e-3, **options)
    agree([params, grads, m_s, v_s, largest_s], expected, dtype)


@pytest.mark.parametrize("momentum", [0, 0.9])
@pytest.mark.parametrize(("centered", "maximize"), list(product([False, True], repeat=2)))
@pytest.mark.parametrize("weight_decay", [0, 0.1])
def test_rmsprop_step(k, dtype, draw, momentum, centered, maximize, weight_decay):
    params, grads, means, buffers = (arrays(draw) for _ in range(4))
    v_s = [array * array + 10 for array in arrays(draw, positive=True)]
    v_s = [np.asarray(array, dtype) for array in v_s]

    def step(p: float, g: float, v: float, mean: float, buffer: float) -> tuple[float, ...]:
        d = (-g if maximize else g) + weight_decay * p
        v = 0.9 * v + 0.1 * d * d
        if centered:
            mean = 0.9 * mean + 0.1 * d
        d /= math.sqrt(v - mean * mean if centered else v) + 1e-3
        if momentum:
            buffer = d = momentum * buffer + d
        return p - 0.1 * d, g, v, mean, buffer

    expected = each_number(step, params, grads, v_s, means, buffers)
    options = {"momentum": momentum, "centered": centered, "maximize": maximize, "weight_decay": weight_decay}
    k.rmsprop_step(params, grads, v_s, means, buffers, lr=0.1, alpha=0.9, eps=1e-3, **options)
    agree([params, grads, v_s, means, buffers], expected, dtype)


SGD = {"lr": 0.5, "dampening": 0, "weight_decay": 0, "nesterov": False, "maximize": False}


def test_a_parameter_in_any_layout_is_updated_where_it_lies(k, dtype, draw):
    whole, g = draw(6, 8), draw(6, 4)
    expected = whole.copy()
    expected[::-1, ::2] -= dtype.type(0.5) * g
    param = whole[::-1, ::2]
    k.sgd_step([param], [g], None, momentum=0, first=True, **SGD)
    np.testing.assert_allclose(whole, expected, rtol=1e-6)
    swapped = draw(5).astype(dtype.newbyteorder("S"))
    expected = swapped.astype(dtype) - dtype.type(0.5)
    k.sgd_step([swapped], [np.ones(5, dtype)], None, momentum=0, first=True, **SGD)
    np.testing.assert_allclose(swapped, expected, rtol=1e-6)


def test_one_step_may_update_both_types_with_a_first_flag_each(k):
    params = [np.ones(3, np.float32), np.ones(3), np.ones(3, np.float32)]
    grads = [np.ones_like(p) for p in params]
    buffers = [np.full_like(p, 10) for p in params]
    k.sgd_step(params, grads, buffers, momentum=0.5, first=[True, True, False], **SGD)
    assert [b[0] for b in buffers] == [1, 1, 6]
    assert [p[0] for p in params] == [0.5, 0.5, -2]
    assert [p.dtype.name for p in params] == ["float32", "float64", "float32"]


def test_no_decay_leaves_an_infinite_parameter_alone(k, dtype):
    p = np.array([np.inf, 1], dtype)
    k.sgd_step([p], [np.ones(2, dtype)], None, momentum=0, first=True, **SGD)
    assert p.tolist() == [np.inf, 0.5]


def test_no_parameters_are_no_work(k):
    k.sgd_step([], [], [], momentum=0.9, first=True, **SGD)


def test_adam_counts_its_steps_from_one(k, draw):
    x = [draw(3) for _ in range(4)]
    options = {"lr": 1, "beta1": 0.9, "beta2": 0.9, "eps": 1, "weight_decay": 0, "maximize": False, "decoupled": False}
    with pytest.raises(RuntimeError, match=r"adam_step\(\): expected step to count from 1, got 0"):
        k.adam_step(x[:1], x[1:2], x[2:3], x[3:], None, step=0, amsgrad=False, **options)


def every_step(k, dtype):
    """One step of each kind on a single parameter, with every option that has arrays of its own."""
    options = {"lr": 0.1, "weight_decay": 0.1, "maximize": False}
    betas = {"step": 2, "beta1": 0.9, "beta2": 0.99, "eps": 1e-3}
    return {
        "sgd": lambda p, g, *_: k.sgd_step(p, g, None, momentum=0, dampening=0, nesterov=False, first=False, **options),
        "momentum": lambda p, g, a, *_: k.sgd_step(
            p, g, a, momentum=0.9, dampening=0, nesterov=True, first=False, **options
        ),
        "adam": lambda p, g, a, b, c: k.adam_step(p, g, a, b, c, amsgrad=True, decoupled=False, **betas, **options),
        "rmsprop": lambda p, g, a, b, c: k.rmsprop_step(
            p, g, b, [x / 9 for x in a], c, alpha=0.9, eps=1e-3, momentum=0.9, centered=True, **options
        ),
    }


@pytest.mark.parametrize("name", ["sgd", "momentum", "adam", "rmsprop"])
def test_what_lies_around_a_parameter_is_neither_read_nor_written(k, dtype, draw, name):
    """Not by the vector that holds its last numbers either: there is NaN all around."""
    step = every_step(k, dtype)[name]
    for n in (1, 3, 17, 40):
        rows = np.abs(draw(5, n)) + 1
        alone = rows.copy()
        around = np.full((5, n + 40), np.nan, dtype)
        around[:, 7 : 7 + n] = rows
        places = [around[i, 7 : 7 + n] for i in range(5)]
        step(*[[array] for array in places])
        step(*[[array] for array in alone])
        np.testing.assert_array_equal(around[:, 7 : 7 + n], alone)
        assert np.isnan(around[:, :7]).all()
        assert np.isnan(around[:, 7 + n :]).all()


@pytest.mark.parametrize("name", ["sgd", "momentum", "adam", "rmsprop"])
def test_a_gradient_that_shares_memory_with_what_is_written_counts_as_a_copy(k, dtype, draw, name):
    step = every_step(k, dtype)[name]
    for overlap in (0, 1, 16):
        memory, *states = np.abs(draw(4, 200)) + 1
        p, g = memory[overlap : 100 + overlap], memory[:100]
        apart = [array.copy() for array in (p, g, *(s[:100] for s in states))]
        step(*[[array] for array in apart])
        step([p], [g], *[[s[:100]] for s in states])
        np.testing.assert_allclose(p, apart[0], rtol=1e-6)
        memory, *states = np.abs(draw(4, 200)) + 1
        if name != "sgd":  # a gradient in the first state
            apart = [memory[:100].copy(), states[0][:100].copy(), *(s[:100].copy() for s in states)]
            step(*[[array] for array in apart])
            step([memory[:100]], [states[0][:100]], *[[s[:100]] for s in states])
            np.testing.assert_allclose(memory[:100], apart[0], rtol=1e-6)


def test_what_a_step_writes_must_not_share_memory(k, draw):
    p, g, m = (draw(30) for _ in range(3))
    options = {"lr": 1, "beta1": 0.9, "beta2": 0.9, "eps": 1, "weight_decay": 0, "maximize": False, "decoupled": False}
    before = p.copy()
    with pytest.raises(RuntimeError, match=r"adam_step\(\): expected params and exp_avg_sqs not to share memory"):
        k.adam_step([p[:20]], [g[:20]], [m[:20]], [p[10:]], None, step=1, amsgrad=False, **options)
    with pytest.raises(RuntimeError, match=r"adam_step\(\): expected exp_avgs and exp_avg_sqs not to share memory"):
        k.adam_step([p], [g], [m], [m], None, step=1, amsgrad=False, **options)
    assert (p == before).all()


def test_zero_fill_fills_arrays_of_any_layout_and_type_and_nothing_around_them(k, draw):
    whole = draw(6, 9)
    kept = whole.copy()
    arrays = [draw(3, 4), np.asfortranarray(draw(3, 4)), draw(0), draw(), whole[1:4, ::2], whole[5, 8:2:-1]]
    arrays += [np.ones(5, np.float32), np.ones(5), np.ones(5, ">f4"), np.full(3, np.nan)]
    k.zero_fill(arrays)
    assert not any(array.any() for array in arrays)
    kept[1:4, ::2] = kept[5, 8:2:-1] = 0
    np.testing.assert_array_equal(whole, kept)
    k.zero_fill(iter([]))


def test_zero_fill_refuses_before_it_fills(k):
    good, frozen = np.ones(3, np.float32), np.ones(3, np.float32)
    frozen.flags.writeable = False
    for bad, error, words in (
        (frozen, RuntimeError, "expected arrays to be writable"),
        (np.ones(3, int), RuntimeError, "expected arrays to be float32 or float64, got int64"),
        ([0.0], TypeError, "expected arrays to be a NumPy array, got list"),
        (np.float32(1), RuntimeError, "expected arrays to be writable"),
    ):
        with pytest.raises(error, match=rf"zero_fill\(\): {words}"):
            k.zero_fill([good, bad])
    assert (good == 1).all()
