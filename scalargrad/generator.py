"""The random generator, one of the library's three pieces of state. It is NumPy's PCG64."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cached_property
from typing import Any

import numpy as np


class Generator:
    """A source of random numbers. Drawing from one in several threads is safe, but in no fixed order.

    It is seeded from the operating system when it is first drawn from, unless it was given a seed by then.
    """

    def __init__(self) -> None:
        self._seed: int | None = None

    @cached_property
    def numpy(self) -> np.random.Generator:
        """NumPy's side of it, which is made late: numpy.random takes 10 ms to import."""
        return np.random.Generator(np.random.PCG64(self.initial_seed() % 2**64))

    def manual_seed(self, seed: int) -> Generator:
        """Start over from `seed`. Raises TypeError unless it is an integer."""
        if isinstance(seed, bool) or not isinstance(seed, (int, np.integer)):
            raise TypeError(f"manual_seed(): expected an integer, got {type(seed).__name__}")
        self._seed = int(seed)
        self.__dict__.pop("numpy", None)
        return self

    def seed(self) -> int:
        """Start over from a seed of the operating system's, and return it."""
        return self.manual_seed(int.from_bytes(os.urandom(7), "little")).initial_seed()

    def initial_seed(self) -> int:
        """The seed that this generator last started from."""
        return self.seed() if self._seed is None else self._seed

    def get_state(self) -> dict[str, Any]:
        """The state, for `set_state`."""
        return {"seed": self.initial_seed(), "bit_generator": self.numpy.bit_generator.state}

    def set_state(self, state: dict[str, Any]) -> None:
        """Go on from `state`."""
        self.manual_seed(state["seed"])
        self.numpy.bit_generator.state = state["bit_generator"]


default_generator = Generator()
"""What everything draws from that is not given a generator."""


def manual_seed(seed: int) -> Generator:
    """Seed the default generator."""
    return default_generator.manual_seed(seed)


def seed() -> int:
    """Seed the default generator from the operating system, and return the seed."""
    return default_generator.seed()


def initial_seed() -> int:
    """The seed of the default generator."""
    return default_generator.initial_seed()


def get_rng_state() -> dict[str, Any]:
    """The state of the default generator."""
    return default_generator.get_state()


def set_rng_state(state: dict[str, Any]) -> None:
    """Let the default generator go on from `state`."""
    default_generator.set_state(state)


@contextmanager
def fork_rng() -> Iterator[None]:
    """Draw inside the block without effect on what is drawn after it."""
    state = get_rng_state()
    try:
        yield
    finally:
        set_rng_state(state)


def numbers_of(generator: Generator | None) -> np.random.Generator:
    """NumPy's side of `generator`, or of the default one."""
    return (generator or default_generator).numpy
