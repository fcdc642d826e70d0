"""Each kernel test runs for every implementation that this machine can load, in both types of number."""

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from typing import Any

import numpy as np
import pytest

from scalargrad import kernels


@pytest.fixture(params=kernels.available())
def k(request: pytest.FixtureRequest) -> Any:
    return kernels.load(request.param)


@pytest.fixture(params=["float32", "float64"])
def dtype(request: pytest.FixtureRequest) -> np.dtype:
    return np.dtype(request.param)


@pytest.fixture
def draw(dtype: np.dtype) -> Callable[..., np.ndarray]:
    """Normal numbers of the given sizes, the same on every run. float64 gets float32's numbers."""
    generator = np.random.default_rng(1)
    return lambda *sizes: generator.standard_normal(sizes).astype(np.float32).astype(dtype)


@pytest.fixture
def close(dtype: np.dtype) -> Callable[[np.ndarray, Any], None]:
    """Compares a kernel's result with what it should be."""
    return closeness(dtype)


def closeness(dtype: np.dtype) -> Callable[[np.ndarray, Any], None]:
    """Equality in the type's precision and the result's own scale."""

    def compare(got: np.ndarray, expected: Any) -> None:
        expected = np.asarray(expected, np.float64)
        assert type(got) is np.ndarray
        assert got.dtype == dtype
        assert got.flags.c_contiguous
        finite = np.abs(expected[np.isfinite(expected)])
        scale = max(finite.max(initial=0.0), 1.0)
        tolerance = 2e-5 if dtype == np.float32 else 1e-13
        np.testing.assert_allclose(got, expected, rtol=0, atol=tolerance * scale, strict=False)
        assert got.shape == expected.shape

    return compare


@pytest.fixture
def threads() -> Callable[[int], AbstractContextManager[None]]:
    """threads(n) is a block that computes with n threads."""

    @contextmanager
    def with_threads(n: int) -> Iterator[None]:
        before = kernels.get_num_threads()
        kernels.set_num_threads(n)
        try:
            yield
        finally:
            kernels.set_num_threads(before)

    return with_threads
