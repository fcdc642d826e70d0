"""Arithmetic and comparisons are NumPy's, to the last bit, for all shapes that broadcast and whatever the operands."""

import operator

import numpy as np
import pytest

BINARY = {
    "add": np.add,
    "sub": np.subtract,
    "mul": np.multiply,
    "div": np.divide,
    "maximum": np.maximum,
    "minimum": np.minimum,
    "eq": np.equal,
    "ne": np.not_equal,
    "lt": np.less,
    "le": np.less_equal,
    "gt": np.greater,
    "ge": np.greater_equal,
}
UNARY = {
    "neg": np.negative,
    "absolute": np.absolute,
    "sign": lambda x: np.nan_to_num(np.sign(x)),
    "sqrt": np.sqrt,
}
SHAPES = [
    ((5,), (5,)), ((37,), ()), ((), (37,)), ((), ()), ((1,), (1, 1)), ((4, 19), (19,)), ((19,), (4, 19)),
    ((4, 19), (4, 1)), ((3, 5, 4, 9), (5, 1, 1)), ((3, 5, 4, 9), (1, 5, 1, 1)), ((6, 1), (1, 7)), ((2, 3, 4), (3, 1)),
    ((2, 1, 4, 1), (1, 3, 1, 5)), ((2, 3, 1, 5), (2, 1, 4, 1)), ((0, 3), (3,)), ((3, 0), (3, 1)), ((0,), ()),
    ((300, 70), (300, 70)), ((1, 1), (40,)), ((7, 1, 3), (7, 1, 3)), ((33, 1), (33, 1)),
]  # fmt: skip


def special(shape: tuple[int, ...], dtype: np.dtype, seed: int) -> np.ndarray:
    """Numbers of which some are equal, zero, infinite or NaN."""
    random = np.random.default_rng([seed, *shape])
    x = random.integers(-3, 4, shape).astype(dtype) / 2
    return np.where(random.random(shape) < 0.2, random.choice([np.nan, np.inf, -np.inf, -0.0], shape), x).astype(dtype)


@pytest.mark.parametrize("name", BINARY)
@pytest.mark.filterwarnings("error")
def test_two_operands_broadcast_as_in_numpy(k, dtype, name):
    for i, (a_shape, b_shape) in enumerate(SHAPES):
        a, b = special(a_shape, dtype, i), special(b_shape, dtype, i + 100)
        with np.errstate(all="ignore"):
            expected = np.asarray(BINARY[name](a, b))
        y = getattr(k, name)(a, b)
        assert (type(y), y.dtype, y.shape) == (np.ndarray, expected.dtype, expected.shape)
        assert y.flags.c_contiguous
        np.testing.assert_array_equal(y, expected, err_msg=f"{a_shape} {b_shape}")
        assert not np.shares_memory(y, a)
        assert not np.shares_memory(y, b)


@pytest.mark.parametrize("name", BINARY)
@pytest.mark.filterwarnings("error")
def test_numbers_take_the_arrays_type(k, dtype, name):
    function = getattr(k, name)
    a = special((3, 19), dtype, 0)
    for number in (
        2,
        -1.5,
        0.0,
        0.1,
        1e300,
        np.nan,
        True,
        2**60 + 1,
        dtype.type(0.1),
        np.float64(0.1),
        np.float32(0.1),
    ):
        for x, y in ((a, number), (number, a)):
            with np.errstate(all="ignore"):
                expected = BINARY[name](x, y)
            got = function(x, y)
            assert got.dtype == expected.dtype
            np.testing.assert_array_equal(got, expected)
    with pytest.raises(OverflowError):
        function(a, 10**400)


@pytest.mark.parametrize("name", BINARY)
def test_other_types_are_numpys_own(k, dtype, name):
    function, ufunc = getattr(k, name), BINARY[name]
    a = special((4, 5), dtype, 0)
    other = np.float64 if dtype == np.float32 else np.float32
    operands = [np.arange(5), np.arange(5) > 2, np.arange(5, dtype=np.uint8), np.arange(5, dtype=other)]
    with np.errstate(all="ignore"):
        for b in operands:
            if name == "sub" and b.dtype == bool:
                continue
            for x, y in ((a, b), (b, a), (operands[0], b)):
                expected = ufunc(x, y)
                got = function(x, y)
                assert got.dtype == expected.dtype
                np.testing.assert_array_equal(got, expected)


@pytest.mark.parametrize("name", BINARY)
def test_shapes_that_do_not_broadcast_are_numpys_value_error(k, draw, name):
    with pytest.raises(ValueError, match="broadcast"):
        getattr(k, name)(draw(3, 4), draw(5))


@pytest.mark.parametrize("name", UNARY)
@pytest.mark.filterwarnings("error")
def test_one_operand_is_numpys(k, dtype, name):
    for shape in ((), (1,), (0, 3), (3, 41), (130, 70)):
        x = special(shape, dtype, 3)
        with np.errstate(all="ignore"):
            expected = np.asarray(UNARY[name](x))
        got = getattr(k, name)(x)
        assert got.shape == shape
        np.testing.assert_array_equal(got, expected)
        signed = ~np.isnan(expected)
        np.testing.assert_array_equal(np.signbit(got[signed]), np.signbit(expected[signed]))


def test_every_elementwise_function_leaves_integers_to_numpy(k):
    x = np.arange(1, 5)
    for name, ufunc in {**UNARY, "exp": np.exp, "log": np.log, "tanh": np.tanh, "log1p": np.log1p}.items():
        got = getattr(k, name)(x)
        assert got.dtype == ufunc(x).dtype
        np.testing.assert_array_equal(got, ufunc(x))
    np.testing.assert_array_equal(k.sigmoid(x), 1 / (1 + np.exp(-x)))
    np.testing.assert_array_equal(k.power(x, 2), x * x)


@pytest.mark.parametrize("n", [2, 2.0, 3, 0.5, -1, -2, 1, 0, 4, 1.5, -0.5, True])
def test_power_of_an_array_to_a_number_is_numpys(k, dtype, n):
    x = np.abs(special((5, 9), dtype, 1))
    with np.errstate(all="ignore"):
        expected = operator.pow(x, n)
    y = k.power(x, n)
    assert y.dtype == dtype
    np.testing.assert_allclose(y, expected, rtol=4 * np.finfo(dtype).eps)


def test_power_takes_arrays_on_either_side(k, draw, dtype):
    a, n = np.abs(draw(3, 4)), draw(4)
    np.testing.assert_array_equal(k.power(a, n), np.power(a, n))
    np.testing.assert_array_equal(k.power(2.0, n), np.power(dtype.type(2), n))


@pytest.mark.filterwarnings("error")
def test_select_chooses_and_does_not_multiply(k, dtype, draw):
    for shape in ((), (1,), (5,), (19,), (4, 16), (300, 70), (0,)):
        condition, a = np.asarray(draw(*shape) > 0), np.asarray(special(shape, dtype, 1))
        expected, kept = np.where(condition, a, dtype.type(0)), condition.copy()
        for chosen in (k.select(condition, a), k.select(condition.tolist(), a), k.select(condition[...], a)):
            assert (type(chosen), chosen.dtype) == (np.ndarray, dtype)
            np.testing.assert_array_equal(chosen, expected)
            assert not np.shares_memory(chosen, a)
        one = k.select(condition, np.asarray(dtype.type(np.inf)))
        np.testing.assert_array_equal(one, np.where(kept, dtype.type(np.inf), 0))
        np.testing.assert_array_equal(condition, kept)
    strided = special((9, 8), dtype, 2)
    np.testing.assert_array_equal(k.select((strided > 0).T, strided.T), np.where(strided > 0, strided, 0).T)
    np.testing.assert_array_equal(k.select(strided[:1] > 0, strided), np.where(strided[:1] > 0, strided, 0))
    np.testing.assert_array_equal(k.select(False, strided), np.zeros((9, 8), dtype))
    assert k.select(np.array([True, False]), np.array([7, 8])).tolist() == [7, 0]
    any_byte = np.array([0, 1, 2, 255] * 9, np.uint8).view(np.bool_)  # true is what is not 0
    assert k.select(any_byte, np.ones(36, dtype)).tolist() == [0, 1, 1, 1] * 9


@pytest.mark.filterwarnings("error")
def test_what_sigmoid_sends_back_keeps_infinity_and_nan_and_any_layout(k, dtype):
    y = np.array([0, 1, 0.5, 1, np.nan, 0.5] * 5, dtype)
    g = np.array([2, 2, -4, np.inf, 1, np.inf] * 5, dtype)
    expected = np.array([0, 0, -1, np.nan, np.nan, np.inf] * 5, dtype)
    np.testing.assert_array_equal(k.sigmoid_grad(g, y), expected)
    np.testing.assert_array_equal(k.sigmoid_grad(g[::2], y[::2]), expected[::2])
    assert k.sigmoid_grad(g, y).dtype == dtype


def test_accumulate_adds_in_place(k, dtype, draw):
    for a, b in ((draw(7, 33), draw(7, 33)), (draw(90, 100), draw(90, 100)), (draw(4, 5), draw(5)), (draw(0), draw(0))):
        expected = a + b
        before = b.copy()
        assert k.accumulate(a, b) is a
        np.testing.assert_array_equal(a, expected)
        np.testing.assert_array_equal(b, before)
    strided = draw(4, 6)[:, ::2]
    expected = strided + 1
    assert k.accumulate(strided, np.ones((4, 3), dtype)) is strided
    np.testing.assert_array_equal(strided, expected)
    a = draw(5)
    expected = a + a
    np.testing.assert_array_equal(k.accumulate(a, a), expected)


def test_accumulate_of_memory_that_overlaps_reads_before_it_writes(k, draw):
    for shift in (1, 3, 17):
        memory = draw(100)
        expected = memory[shift:] + memory[:-shift]
        k.accumulate(memory[shift:], memory[:-shift])
        np.testing.assert_array_equal(memory[shift:], expected)


def test_accumulate_refuses_what_may_not_be_written(k, dtype, draw):
    a = draw(5)
    a.flags.writeable = False
    with pytest.raises(ValueError, match="read-only"):
        k.accumulate(a, draw(5))
    with pytest.raises(TypeError, match="same_kind"):
        k.accumulate(np.arange(5), draw(5))


def test_a_view_that_repeats_numbers_is_read_as_what_it_shows(k, dtype, draw):
    row = np.broadcast_to(draw(1, 7), (5, 7))
    a = draw(5, 7)
    np.testing.assert_array_equal(k.add(a, row), a + row)
    np.testing.assert_array_equal(k.exp(row), k.exp(row.copy()))
