"""Every derivative of the table, and every gradient kernel, replaced by wrong ones: does the suite notice each?

    python benchmarks/mutants.py            the count, and which checks caught how many
    python benchmarks/mutants.py --list     every mutant, with what caught it

Parts of a compiled core cannot be replaced, so this needs SCALARGRAD_CORE=python.

A mutant is one change to one derivative: all of it times 1.001 or −1, a term or a factor dropped, a plus for a minus, a
constant doubled, the operands' names swapped, a choice between two cases turned round or not made, two inputs'
derivatives swapped. A gradient kernel is wrong in one entry at one of its borders, in each implementation that runs
here. The shared code that undoes broadcasting sums over the wrong axis, and so on. The tests that are tried are those
of the default suite, one after the other, until one fails; a mutant that none of them notices has survived.
"""

from __future__ import annotations

import argparse
import contextlib
import functools
import importlib.util
import inspect
import io
import sys
import warnings
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pytest
from hypothesis import Phase, settings
from hypothesis.stateful import run_state_machine_as_test

sys.path.append(str(Path(__file__).parent))
from mutations import SHARED, Mutant, mutants, unchanged

from scalargrad import core, kernels

TESTS = Path(__file__).parent.parent / "tests"

_GUARDED = "where y is 0, so is the x − mean that this is multiplied by: two guards, of which either would do"
_EQUAL = "the entries that equal the extreme are those that it equals"

EQUIVALENT = {
    ("max", "∂x: x for y and back"): _EQUAL,
    ("min", "∂x: x for y and back"): _EQUAL,
    ("median", "∂x: x for y and back"): _EQUAL,
    ("transpose", "∂x: dim0 for dim1 and back"): "exchanging two dimensions is symmetric in them",
    ("softplus", "∂x: beta for x and back"): "the derivative is a function of their product",
    ("std", "∂x: do not choose in ops.select(ops.ne(y, 0), ops.div(g, ops.mul(_divisor(y), 2)))"): _GUARDED,
}
"""Mutants that are no mistake, with the reason: by the Op's name and what the mutant is called."""


@functools.cache
def test_module(file: str) -> Any:
    """A file of tests as a module."""
    path = TESTS / file
    for folder in (str(TESTS), str(path.parent)):
        if folder not in sys.path:
            sys.path.append(folder)
    spec = importlib.util.spec_from_file_location(path.stem, path)
    module = importlib.util.module_from_spec(spec)  # type: ignore[arg-type]
    sys.modules.setdefault(path.stem, module)
    spec.loader.exec_module(module)  # type: ignore[union-attr]
    return module


def claim(file: str, name: str) -> Callable[..., None]:
    """A test by its name."""
    return getattr(test_module(file), name)  # type: ignore[no-any-return]


def row(file: str, name: str) -> Callable[[str], None]:
    """A test of one row of the table, and nothing for a row that it is not about."""
    test = claim(file, name)
    keys = {key for mark in test.pytestmark if mark.name == "parametrize" for key in mark.args[1]}  # type: ignore[attr-defined]
    return lambda key: test(key) if key in keys else None


def all_specials(key: str) -> None:
    """The special numbers, in all cases."""
    module = test_module("proof/test_ieee_specials.py")
    for case in module.ieee_cases.CASES:
        module.test_special_numbers_come_out_as_pytorchs(*case)


def random_programs(key: str) -> None:
    """Four hundred random programs on Tensors and on Values, without shrinking: it is enough that one fails."""
    machine = test_module("proof/test_same_program.py").SameProgram
    options = settings(
        max_examples=400,
        stateful_step_count=25,
        phases=[Phase.generate],
        derandomize=True,
        database=None,
        deadline=None,
    )
    with contextlib.redirect_stdout(io.StringIO()):
        run_state_machine_as_test(machine, settings=options)


OF_KERNELS = {
    "conv2d_input_grad": "test_conv2d_gradients_are_those_of_the_scalar_graph",
    "conv2d_weight_grad": "test_conv2d_gradients_are_those_of_the_scalar_graph",
    "linear_input_grad": "test_linear_gradients_are_those_of_the_scalar_graph",
    "linear_weight_grad": "test_linear_gradients_are_those_of_the_scalar_graph",
    "max_pool2d_input_grad": "test_max_pool2d_is_the_reference_and_gives_ties_to_the_first",
    "max_pool2d_take": "test_max_pool2d_take_is_the_adjoint_of_the_gradient",
    "avg_pool2d_input_grad": "test_avg_pool2d_is_the_reference",
    "adaptive_avg_pool2d_input_grad": "test_adaptive_avg_pool2d_is_the_reference",
    "adaptive_max_pool2d_input_grad": "test_adaptive_max_pool2d_is_the_largest_of_each_part",
    "cross_entropy_grad": "test_cross_entropy_and_its_gradient_are_those_of_the_scalar_graph",
    "relu_grad": "test_relu_keeps_what_is_positive_and_its_gradient_follows",
    "sigmoid_grad": "test_sigmoid_and_its_gradient_are_those_of_the_scalar_graph",
    "softmax_grad": "test_softmax_and_its_gradient_are_those_of_the_scalar_graph",
    "log_softmax_grad": "test_softmax_and_its_gradient_are_those_of_the_scalar_graph",
    **dict.fromkeys(
        (f"{name}_grad" for name in "leaky_relu elu softplus log_sigmoid silu gelu gelu_tanh hardtanh".split()),
        "test_activations_and_their_gradients_are_those_of_the_scalar_graph",
    ),
}
"""The tests of tests/kernels/test_kernels_mean_the_reference.py that compare each gradient kernel."""


def kernel_test(name: str, isa: str) -> None:
    """A test of tests/kernels with all its arguments, for one implementation."""
    test = claim("kernels/test_kernels_mean_the_reference.py", name)
    cases: list[dict[str, Any]] = [{}]
    for mark in getattr(test, "pytestmark", ()):
        names, values = mark.args
        one = isinstance(names, str)
        own = [{names: x} if one else dict(zip(names, x, strict=True)) for x in values]
        cases = [case | more for case in cases for more in own]
    takes = inspect.signature(test).parameters
    for dtype in (np.dtype(np.float32), np.dtype(np.float64)):
        close = test_module("kernels/conftest.py").closeness(dtype)
        fixtures = {"k": kernels.load(isa), "dtype": dtype, "close": close}
        for case in cases:
            test(**{key: x for key, x in fixtures.items() if key in takes}, **case)


def suite(mutant: Mutant, *, of_all: bool = True) -> Iterator[tuple[str, Callable[[], None]]]:
    """The tests that may notice a mutant, the quickest first; without `of_all`, those of its own row only."""
    hiding = "proof/test_where_mistakes_hide.py"
    if mutant.op == SHARED:
        squares = claim(hiding, "test_broadcasting_of_squares_is_undone_along_its_own_axis")
        yield "test_broadcasting_of_squares_is_undone_along_its_own_axis", lambda: [squares(s) for s in ((3,), (3, 1))]
        example = claim("proof/test_same_program.py", "test_y_grad_is_a_grad_plus_b_grad")
        yield "test_y_grad_is_a_grad_plus_b_grad", example
        views = claim(hiding, "test_views_follow_what_is_written_to_their_base")
        yield "test_views_follow_what_is_written_to_their_base", views
        yield "TestSameProgram", functools.partial(random_programs, mutant.op)
        return
    if mutant.isa:
        name = OF_KERNELS[mutant.op]
        yield name, functools.partial(kernel_test, name, mutant.isa)
        return
    for name in (
        "test_derivatives_are_what_differences_say",
        "test_gradients_of_tensors_are_those_of_values",
        "test_derivatives_of_derivatives_are_what_differences_say",
        "test_memory_layout_changes_nothing",
        "test_float32_stays_float32_there_and_back",
    ):
        yield name, functools.partial(row("test_table.py", name), mutant.op)
    yield (
        "test_no_argument_is_taken_for_another",
        functools.partial(row(hiding, "test_no_argument_is_taken_for_another"), mutant.op),
    )
    if not of_all:
        return
    bound = claim(hiding, "test_binary_cross_entropy_at_the_bound_has_pytorchs_gradient")
    yield "test_binary_cross_entropy_at_the_bound_has_pytorchs_gradient", bound
    yield "test_special_numbers_come_out_as_pytorchs", functools.partial(all_specials, mutant.op)


def caught_by(mutant: Mutant, *, of_all: bool = True) -> str | None:
    """The first test that fails, or None."""
    with mutant.switch(), warnings.catch_warnings(), np.errstate(all="ignore"):
        warnings.simplefilter("ignore")
        for name, test in suite(mutant, of_all=of_all):
            try:
                test()
            except pytest.skip.Exception:
                continue
            except (AssertionError, pytest.fail.Exception):
                return name
            except Exception as error:  # noqa: BLE001 (a library that is wrong may raise anything)
                return f"{name}, by a {type(error).__name__} on the way"
    return None


class Found(NamedTuple):
    """What came of all mutants: each with the test that caught it, if one did."""

    tried: list[tuple[Mutant, str | None]]
    n_unchanged: int
    false_alarms: list[tuple[str, str]]

    @property
    def survivors(self) -> list[Mutant]:
        """Those that no test caught."""
        return [mutant for mutant, name in self.tried if name is None]


def hunt(only: str = "") -> Found:
    """Try all mutants, or those of the Ops whose names contain `only`, and the library with nothing changed."""
    chosen = [m for m in mutants() if only in m.op and (m.op, m.what) not in EQUIVALENT]
    controls = [m for m in unchanged() if only in m.op]
    alarms = [(m.op, name) for m in controls if (name := caught_by(m, of_all=False))]
    return Found([(m, caught_by(m)) for m in chosen], len(controls), alarms)


def main() -> int:
    parser = argparse.ArgumentParser(description=inspect.cleandoc(__doc__ or "").splitlines()[0])
    parser.add_argument("--list", action="store_true", help="print every mutant and what caught it")
    parser.add_argument("--only", default="", help="mutants of the Ops whose names contain this")
    options = parser.parse_args()
    if core.is_compiled():
        parser.error("parts of a compiled core cannot be replaced; run it with SCALARGRAD_CORE=python")
    found = hunt(options.only)
    if options.list:
        for mutant, name in found.tried:
            print(f"{mutant.op:32} {mutant.what:70} {name or 'SURVIVED'}")
    n, survivors = len(found.tried), found.survivors
    print(f"{n} mutants: {n - len(survivors)} caught, {len(survivors)} survived. {len(EQUIVALENT)} are no mistake:")
    for (op, what), why in EQUIVALENT.items():
        print(f"    {op}: {what}: {why}")
    print(
        f"{found.n_unchanged} Ops with their derivatives rebuilt as they were: {len(found.false_alarms)} false alarms"
    )
    print("caught by:")
    for name, count in Counter(name for _, name in found.tried if name).most_common():
        print(f"{count:6} {name}")
    for mutant in survivors:
        print(f"survived: {mutant.op}: {mutant.what}")
    for op, name in found.false_alarms:
        print(f"false alarm: {op}: {name}")
    return 1 if survivors or found.false_alarms else 0


if __name__ == "__main__":
    sys.exit(main())
