"""Hypothesis profiles, and the fixture that every test runs under: global state is left as it was found."""

import os
from collections.abc import Iterator

import pytest
from hypothesis import HealthCheck, settings

import scalargrad
from scalargrad.printing import get_printoptions, set_printoptions

# A first example compiles nothing but may import or warm caches; no test here is about time, so there is no deadline.
settings.register_profile("ci", max_examples=30, deadline=None, derandomize=True, database=None, print_blob=True)
settings.register_profile("dev", max_examples=100, deadline=None)
settings.register_profile(
    "nightly", max_examples=3000, deadline=None, print_blob=True, suppress_health_check=[HealthCheck.too_slow]
)
# `pytest --hypothesis-profile=dev` overrides this. The default is derandomised: two runs of one clone agree.
settings.load_profile("ci")


def _state() -> dict[str, object]:
    """The global state, but for the random generator's, which every test starts afresh."""
    return {
        "gradient mode": scalargrad.is_grad_enabled(),
        "number of threads": scalargrad.get_num_threads(),
        "printing": get_printoptions(),
    }


@pytest.fixture(autouse=True)
def _global_state_is_left_as_found() -> Iterator[None]:
    """Starts each test with the same random numbers, and fails the test that leaves global state changed.

    What was changed is put back, so that only the culprit fails.
    """
    scalargrad.manual_seed(0)
    before = _state()
    environment = dict(os.environ)
    yield
    after = _state()
    scalargrad.set_grad_enabled(before["gradient mode"])
    scalargrad.set_num_threads(before["number of threads"])
    set_printoptions(**before["printing"])
    # pytest itself writes PYTEST_CURRENT_TEST.
    changed = sorted(
        name
        for name in {*environment, *os.environ} - {"PYTEST_CURRENT_TEST"}
        if environment.get(name) != os.environ.get(name)
    )
    for name in changed:
        if name in environment:
            os.environ[name] = environment[name]
        else:
            del os.environ[name]
    leaks = [f"{what} was {before[what]} and is {after[what]}" for what in before if before[what] != after[what]]
    leaks += [f"environment variable {name} was changed" for name in changed]
    if leaks:
        pytest.fail("this test leaks global state: " + "; ".join(leaks))
