"""First and second derivatives against finite differences, along random directions, in float64."""

from collections.abc import Callable
from typing import Any

import numpy as np

import scalargrad

STEP = 1e-4


def assert_derivatives(f: Callable[..., Any], *arrays: Any) -> None:
    """The gradient of f and the gradient of its gradient are what five-point differences say they are.

    The results are squared on the way, so that the gradient that arrives at f depends on x, too.
    """
    rng = np.random.default_rng(0)
    xs = [np.asarray(a, np.float64) for a in arrays]
    u, v = (scalargrad.tensor(rng.standard_normal(tuple(f(*leaves(xs)).shape))) for _ in range(2))
    ws = [scalargrad.tensor(rng.standard_normal(x.shape)) for x in xs]

    def weighted(*ts: Any) -> Any:
        y = f(*ts)
        return (y * u + y * y * v).sum()

    def weighted_gradient(*ts: Any) -> Any:
        grads = scalargrad.autograd.grad(weighted(*ts), ts, create_graph=True)
        return sum((g * w).sum() for g, w in zip(grads, ws, strict=True))

    assert_slope(weighted, xs, rng)
    assert_slope(weighted_gradient, xs, rng)


def leaves(arrays: Any) -> list[Any]:
    """A leaf for each array, of memory of its own."""
    return [scalargrad.tensor(np.array(a), requires_grad=True) for a in arrays]


def assert_slope(scalar: Callable[..., Any], xs: Any, rng: Any) -> None:
    """What backward() says about a random direction is what going a little way in it says."""
    directions = [rng.standard_normal(x.shape) for x in xs]

    def at(t: float) -> float:
        return scalar(*leaves([x + t * v for x, v in zip(xs, directions, strict=True)])).item()

    ts = leaves(xs)
    y = scalar(*ts)
    slope = 0.0
    if y.requires_grad:
        y.backward()
        slope = sum(
            float((t.grad.numpy() * v).sum()) for t, v in zip(ts, directions, strict=True) if t.grad is not None
        )
    measured = (at(-2 * STEP) - 8 * at(-STEP) + 8 * at(STEP) - at(2 * STEP)) / (12 * STEP)
    assert abs(slope - measured) <= 1e-6 * max(1.0, abs(measured)), (slope, measured)
