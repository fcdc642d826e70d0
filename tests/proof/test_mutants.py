"""No mutant of the table survives the suite: benchmarks/mutants.py, run whole. And what it says of itself is true."""

import importlib.util
from collections import Counter
from pathlib import Path

import pytest

from scalargrad import core, kernels
from scalargrad.operation import TABLE

pytestmark = pytest.mark.skipif(
    core.is_compiled(), reason="parts of a compiled core cannot be replaced; test_core_forms.py runs this on the source"
)

SCRIPT = Path(__file__).parent.parent.parent / "benchmarks" / "mutants.py"


@pytest.fixture(scope="module")
def mutants():
    spec = importlib.util.spec_from_file_location("mutants", SCRIPT)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture(scope="module")
def found(mutants):
    return mutants.hunt()


def test_no_mutant_survives_and_nothing_right_is_caught(found):
    assert [f"{mutant.op}: {mutant.what}" for mutant in found.survivors] == []
    assert found.false_alarms == []


def test_every_derivative_has_its_mutants(found):
    of_each = Counter(mutant.op for mutant, _ in found.tried)
    differentiable = {key for key, op in TABLE.items() if op.differentiable}
    zero = {"floor", "ceil", "trunc", "round", "sign"}  # whose derivative is 0: a multiple of it is no mistake
    assert differentiable - zero <= of_each.keys()
    assert all(of_each[key] >= 3 for key in differentiable - zero)


def test_every_gradient_kernel_has_its_mutants_in_every_implementation(found, mutants):
    for isa in kernels.available():
        assert {mutant.op for mutant, _ in found.tried if mutant.isa == isa} == set(mutants.OF_KERNELS)
        for name in mutants.OF_KERNELS.values():  # and what is right passes
            mutants.kernel_test(name, isa)


def test_every_exception_is_a_mutant(mutants):
    assert set(mutants.EQUIVALENT) <= {(mutant.op, mutant.what) for mutant in mutants.mutants()}


def test_a_mutant_leaves_the_table_as_it_was(mutants):
    before = {key: (op.derivatives, op.array) for key, op in TABLE.items()}
    mutant = next(mutants.mutants())
    with mutant.switch():
        assert TABLE[mutant.op].derivatives != before[mutant.op][0]
    assert {key: (op.derivatives, op.array) for key, op in TABLE.items()} == before
