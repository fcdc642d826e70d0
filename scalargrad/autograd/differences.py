"""Finite differences along a line, and what they say of a slope that is claimed."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np

SHORTER = (1.0, 1 / 16, 1 / 256, 1 / 4096)
"""Where five points disagree with what is claimed, they are tried again closer together: it may be the curvature."""

SIDE = 1e-6
"""How far one-sided slopes reach to either side; a kink's are as far apart from half as far."""


class Tolerance(NamedTuple):
    """How far apart the points are, and how far a slope may be from what is claimed: atol + rtol · |slope|."""

    eps: float
    atol: float
    rtol: float


class Slope(NamedTuple):
    """What is claimed of the slopes of several numbers along one line, and what was measured. All are vectors."""

    analytic: Any
    numeric: Any
    wrong: Any  # where they disagree, and the point is no kink, or what is claimed is not between the two sides' slopes
    kink: Any  # where the point is a kink, and what is claimed is between the two sides' slopes
    left: Any
    right: Any
    step: float

    def entry(self, k: int) -> Slope:
        """The k-th number alone."""
        analytic, numeric, wrong, kink, left, right = [x[k : k + 1] for x in self[:6]]
        return Slope(analytic, numeric, wrong, kink, left, right, self.step)

    @property
    def rank(self) -> tuple[int, float]:
        """Orders slopes by how much there is to say about them: wrong ones, kinks, others, each by the difference."""
        if self.wrong.any() or not self.kink.any():
            return 2 * int(self.wrong.any()), _size(
                np.where(np.isnan(self.numeric), np.inf, self.analytic - self.numeric)
            )
        return 1, _size(self.right - self.left)


def measure(line: Callable[[float], Any], analytic: Any, tolerance: Tolerance, length: float = 1.0) -> Slope:
    """The slopes at 0 of `line`, of which `analytic` is claimed; the points are eps · length apart.

    Rounding is allowed for: numbers of size s are known to s · 2⁻⁵², their differences over a step h to that over h.
    """
    eps, atol, rtol = tolerance
    numeric = np.full(analytic.shape, np.nan)
    wrong, suspect = np.ones(analytic.shape, bool), np.zeros(analytic.shape, bool)
    with np.errstate(all="ignore"):
        centre = line(0.0)
        for shorter in SHORTER:
            step = eps * length * shorter
            a, b, c, d = line(-2 * step), line(-step), line(step), line(2 * step)
            found = (8 * (c - b) - (d - a)) / (12 * step)
            noise = 4 * 2.0**-52 * max(map(_size, (a, b, c, d))) / step
            agrees = np.abs(analytic - found) <= atol + rtol * np.abs(found) + noise
            if shorter == 1:
                left, right = (4 * b - 3 * centre - a) / (-2 * step), (4 * c - 3 * centre - d) / (2 * step)
                # At a kink like abs'(0) differences from both sides may agree with what is claimed by symmetry.
                suspect = np.abs(right - left) > atol + noise + 0.1 * np.maximum(np.abs(left), np.abs(right))
            else:  # what drowns in rounding confirms nothing
                agrees &= noise <= atol + 1e-4 * np.abs(found)
            # Where no step agrees, the widest that gave a number is what is shown.
            numeric = np.where(wrong & (agrees | np.isnan(numeric)), found, numeric)
            wrong &= ~agrees
            if not wrong.any():
                break
        if not (wrong | suspect).any():
            return Slope(analytic, numeric, wrong, wrong, numeric, numeric, step)
        return _sides(
            line, centre, Slope(analytic, numeric, wrong, suspect, numeric, numeric, eps * length), atol, length
        )


def _sides(line: Callable[[float], Any], centre: Any, slope: Slope, atol: float, length: float) -> Slope:
    """Whether what disagrees, or is suspected, is a kink: whether the slopes to the two sides differ."""
    side = SIDE * length
    left, right = one_sided(line, centre, -side), one_sided(line, centre, side)
    nearer = one_sided(line, centre, side / 2) - one_sided(line, centre, -side / 2)
    gap = np.abs(right - left)
    slack = atol + 64 * 2.0**-52 * _size(centre) / side + 1e-4 * np.maximum(np.abs(left), np.abs(right))
    # Where the slope is merely changing fast, the gap halves with the distance; at a kink it stays, at a jump it grows.
    jumps = (gap > slack) & (np.abs(nearer) > 0.75 * gap)
    between = (slope.analytic >= np.minimum(left, right) - slack) & (slope.analytic <= np.maximum(left, right) + slack)
    kink = (slope.wrong | slope.kink) & jumps & between
    return slope._replace(wrong=slope.wrong & ~kink, kink=kink, left=left, right=right)


def one_sided(line: Callable[[float], Any], centre: Any, step: float) -> Any:
    """The slope at 0 to the side of `step`, to the second order."""
    return (4 * line(step) - 3 * centre - line(2 * step)) / (2 * step)


def _size(x: Any) -> float:
    """The largest of some numbers, without regard to sign and nan."""
    return float(np.max(np.abs(x), where=~np.isnan(x), initial=0.0))
