"""How much is proved: counts of Ops, tests, draws, kernels × implementations × threads, and mutants.

    SCALARGRAD_CORE=python python benchmarks/count_proof.py

It collects the tests without running them, and hunts the mutants (benchmarks/mutants.py), which takes some ten seconds.
How to read what it prints is in docs/proof.md.
"""

from __future__ import annotations

import contextlib
import io
import sys
from pathlib import Path
from typing import Any

import hypothesis
import pytest

sys.path.append(str(Path(__file__).parent))
from mutants import EQUIVALENT, TESTS, hunt

from scalargrad import kernels
from scalargrad.operation import TABLE

NOT_A_KERNEL = {"available", "conv_output_size", "cpu_features", "get_num_threads", "isa", "load", "pool_output_size",
                "set_num_threads", "show_config", "why"}  # fmt: skip


class Collected:
    """A plugin of pytest that keeps what was collected."""

    def __init__(self) -> None:
        self.items: list[Any] = []

    def pytest_collection_finish(self, session: Any) -> None:
        """Keep the tests."""
        self.items = list(session.items)


def collected() -> list[Any]:
    """All tests of the suite."""
    plugin = Collected()
    with contextlib.redirect_stdout(io.StringIO()) as out:
        code = pytest.main(
            [
                "--collect-only",
                "-q",
                "-p",
                "no:cacheprovider",
                "-W",
                "ignore::pytest.PytestAssertRewriteWarning",
                str(TESTS),
            ],
            plugins=[plugin],
        )
    if code not in (0, pytest.ExitCode.NO_TESTS_COLLECTED):
        raise RuntimeError(f"the tests could not be collected:\n{out.getvalue()[-2000:]}")
    return plugin.items


def is_drawn(item: Any) -> bool:
    """Whether Hypothesis draws what a test runs on: a test with @given, or a state machine."""
    machine = getattr(getattr(item, "cls", None), "settings", None)
    return bool(getattr(item.obj, "is_hypothesis_test", False)) or isinstance(machine, hypothesis.settings)


def draws(items: list[Any], profile: str) -> int:
    """How many examples Hypothesis tries in a profile, at most."""
    default = hypothesis.settings.get_profile("ci").max_examples
    total = 0
    for item in items:
        own = getattr(item.obj, "_hypothesis_internal_use_settings", None)
        n = own.max_examples if own is not None else default
        total += hypothesis.settings.get_profile(profile).max_examples if n == default else n
    return total


def main() -> int:
    items = collected()
    drawn = [item for item in items if is_drawn(item)]
    differentiable = [op for op in TABLE.values() if op.differentiable]
    n_derivatives = sum(d is not None for op in differentiable for d in op.derivatives)
    on_numbers = sum(op.number is not None for op in TABLE.values())
    print(f"Ops: {len(TABLE)}, {on_numbers} of them on numbers, {len(differentiable)} differentiable")
    print(f"derivatives: {n_derivatives}")
    rows = sum(item.name.endswith(tuple(f"[{key}]" for key in TABLE)) for item in items)
    print(
        f"tests: {len(items)}; {rows} of them of one row of the table; for {len(drawn)} Hypothesis draws the problems"
    )
    for profile in ("ci", "dev", "nightly"):
        print(f"draws, profile {profile}: {draws(drawn, profile):,}")
    functions = sorted(set(kernels.__all__) - NOT_A_KERNEL)
    variants = kernels.available()
    here = [item for item in items if "kernels" in item.path.parts]
    compiled = [v for v in variants if v != "numpy"]
    n_exact = len(functions) * len(variants) * 2
    names = ", ".join(variants)
    print(f"kernels: {len(functions)} × {len(variants)} implementations here ({names}) × 2 dtypes = {n_exact}")
    print(f"    and the same bits for 1, 2, 3, 4 and 7 threads in {len(compiled)} of them; {len(here)} tests")
    found = hunt()
    n, survivors, alarms = len(found.tried), len(found.survivors), len(found.false_alarms)
    print(f"mutants: {n}, {survivors} survived; {len(EQUIVALENT)} more are no mistake; {alarms} false alarms")
    raised = sum("on the way" in (name or "") for _, name in found.tried)
    print(f"    {n - survivors - raised} failed a comparison, {raised} raised an error before they came to one")
    return 1 if survivors or alarms else 0


if __name__ == "__main__":
    sys.exit(main())
