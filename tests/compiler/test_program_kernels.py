"""The interpreter refuses a program that leads out of its tables, and arrays that do not fit it."""

import numpy as np
import pytest

from scalargrad import kernels
from scalargrad.kernels import opcodes
from scalargrad.kernels.opcodes import INIT_ROW, INIT_SCALAR, NO_INIT, ROW_SCALAR, SCALAR_ROW, opcode

DTYPES = [np.dtype(np.float32), np.dtype(np.float64)]


@pytest.fixture(params=kernels.available())
def program(request):
    return kernels.load(request.param).program


def made(program, code, terms=(), constants=(), widths=((2,), (1,), (1,)), n_rows=4, n_sums=2, dtype=DTYPES[1]):
    tables = (np.array(t, np.int32).reshape(-1, width) for t, width in ((code, 4), (terms, 3)))
    return program(dtype, *tables, list(constants), *widths, n_rows, n_sums)


GOOD = [
    (opcode("input"), 0, 0, 0),
    (opcode("input"), 1, 0, 1),
    (opcode("add"), 2, 0, 1),
    (opcode("dot"), 3, 0, 2),
    (opcode("output"), 0, 3, 0),
    (opcode("sums"), 0, 2, 2),
]
TERMS = [(INIT_ROW, 2, 0), (0, 1, 0), (0, 0, 1), (1, 2, -1)]


@pytest.mark.parametrize("dtype", DTYPES)
def test_a_program_computes_rows_outputs_and_sums(program, dtype):
    p = made(program, GOOD, TERMS, dtype=dtype)
    x = np.array([[1, 2], [3, 4], [-1, 5]], dtype)
    y = np.zeros(3, dtype)
    sums = p.run(3, [x], [np.zeros(1, dtype)], [y])
    assert p.dtype == dtype
    assert y.tolist() == [5, 19, -1]
    assert sums.tolist() == [2 + 12 - 5, 3 + 7 + 4]
    sums = p.run(3, [x], [np.zeros(1, dtype)], [y], np.array([2, 0]))
    assert sums.tolist() == [2 - 5, 3 + 4]


ADD, DOT, SUMS = opcode("add"), opcode("dot"), opcode("sums")


@pytest.mark.parametrize(
    ("code", "terms"),
    [
        ([(4 * len(opcodes.NAMES), 0, 0, 0)], []),
        ([(-1, 0, 0, 0)], []),
        ([(ADD + 3, 0, 0, 0)], []),
        ([(opcode("exp") + 1, 0, 0, 0)], []),
        ([(ADD, 4, 0, 0)], []),
        ([(ADD, -1, 0, 0)], []),
        ([(ADD, 0, 4, 0)], []),
        ([(ADD, 0, 0, -1)], []),
        ([(ADD + ROW_SCALAR, 0, 0, 2)], []),
        ([(ADD + SCALAR_ROW, 0, -1, 0)], []),
        ([(opcode("broadcast"), 0, 2, 0)], []),
        ([(opcode("input"), 0, 1, 0)], []),
        ([(opcode("input"), 0, 0, 2)], []),
        ([(opcode("output"), 1, 0, 0)], []),
        ([(opcode("output"), 0, 0, 1)], []),
        ([(opcode("output") + SCALAR_ROW, 0, 2, 0)], []),
        ([(DOT, 0, 0, 1)], []),
        ([(DOT, 0, 0, 0)], [(INIT_ROW, 0, 0)]),
        ([(DOT, 0, 0, 1)], [(NO_INIT, 0, 0)]),
        ([(DOT, 0, 0, 3)], [(INIT_ROW, 0, 0), (0, 0, 0)]),
        ([(DOT, 0, -1, 2)], [(INIT_ROW, 0, 0), (0, 0, 0)]),
        ([(DOT, 0, 0, 2)], [(3, 0, 0), (0, 0, 0)]),
        ([(DOT, 0, 0, 2)], [(INIT_ROW, 4, 0), (0, 0, 0)]),
        ([(DOT, 0, 0, 2)], [(INIT_SCALAR, 2, 0), (0, 0, 0)]),
        ([(DOT, 0, 0, 2)], [(INIT_ROW, 0, 0), (4, 0, 0)]),
        ([(DOT + SCALAR_ROW, 0, 0, 2)], [(INIT_ROW, 0, 0), (2, 0, 0)]),
        ([(DOT, 0, 0, 2)], [(INIT_ROW, 0, 0), (0, -1, 0)]),
        ([(SUMS, 0, 0, 1)], [(2, 0, 0)]),
        ([(SUMS, 0, 0, 1)], [(0, 4, 0)]),
        ([(SUMS, 0, 0, 1)], [(0, 0, 4)]),
        ([(SUMS, 0, 0, 1)], [(0, 0, -2)]),
        ([(SUMS, 0, 0, 2)], [(0, 0, 0)]),
    ],
)
def test_a_number_that_leads_out_of_its_table_is_refused(program, code, terms):
    with pytest.raises(ValueError, match="out of range"):
        made(program, code, terms, constants=[1.0])


def test_tables_of_another_shape_or_type_are_refused(program):
    for code in (np.zeros((1, 3), np.int32), np.zeros((1, 4), np.int64), np.zeros(4, np.int32)):
        with pytest.raises(ValueError, match="table of int32"):
            program(DTYPES[1], code, np.zeros((0, 3), np.int32), [], (), (), (), 4, 0)
    with pytest.raises(ValueError, match="a size is negative"):
        made(program, [], n_rows=-1)
    with pytest.raises(TypeError, match="expected float32 or float64"):
        made(program, GOOD, TERMS, dtype=np.dtype(np.int64))


X, S, Y = np.zeros((3, 2)), np.zeros(1), np.zeros(3)


@pytest.mark.parametrize(
    ("arguments", "error", "words"),
    [
        ((3, [X, X], [S], [Y]), ValueError, "expected 1 inputs, got 2"),
        ((3, [X], [], [Y]), ValueError, "expected 1 scalars, got 0"),
        ((3, [X[:2]], [S], [Y]), ValueError, "expected 6 numbers in inputs"),
        ((3, [X], [S], [Y[:2]]), ValueError, "expected 3 numbers in outputs"),
        ((3, [X.astype(np.float32)], [S], [Y]), TypeError, "is not a C-contiguous array of float64"),
        ((3, [np.zeros((2, 3)).T], [S], [Y]), TypeError, "is not a C-contiguous array of float64"),
        ((3, [X], [S], [Y], np.array([3])), IndexError, "samples reach beyond the 3"),
        ((3, [X], [S], [Y], np.array([-1])), IndexError, "samples reach beyond the 3"),
    ],
)
def test_arrays_that_do_not_fit_are_refused(program, arguments, error, words):
    with pytest.raises(error, match=words):
        made(program, GOOD, TERMS).run(*arguments)


def test_results_are_not_written_to_a_read_only_array(program):
    y = np.zeros(3)
    y.flags.writeable = False
    with pytest.raises(ValueError, match="read-only"):
        made(program, GOOD, TERMS).run(3, [X], [S], [y])


def test_runs_of_samples_depend_on_their_number_alone():
    assert [opcodes.run_length(n) for n in (0, 1, 256, 8192, 8193, 10**6)] == [256, 256, 256, 256, 512, 31488]
