"""Hypothesis strategies for property tests: arrays of any memory layout, problems that fit together, expressions.

Problems are drawn from the answer backwards: first how large the result is, then operands that give it. So every draw
is a problem, and none has to be thrown away. Small is what shrinking goes to.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import numpy as np

from scalargrad.tensor import Tensor, wrap

try:
    from hypothesis import strategies as st
except ImportError as error:
    raise ImportError(
        "scalargrad.testing draws its problems with Hypothesis, which is not installed: pip install scalargrad[testing]"
    ) from error

__all__ = [
    "ConvProblem",
    "Expression",
    "PoolProblem",
    "Window",
    "arrays",
    "broadcastable_shapes",
    "conv2d_problems",
    "expressions",
    "laid_out",
    "pool2d_problems",
    "shapes",
    "tensors",
    "windows",
]

Strategy = st.SearchStrategy
Draw = Callable[..., Any]


def shapes(*, min_dims: int = 0, max_dims: int = 3, min_side: int = 0, max_side: int = 4) -> Strategy[tuple[int, ...]]:
    """Shapes: () and sizes of 0 among them, unless `min_dims` or `min_side` says otherwise."""
    return st.lists(st.integers(min_side, max_side), min_size=min_dims, max_size=max_dims).map(tuple)


def broadcastable_shapes(
    n: int = 2, *, min_dims: int = 0, max_dims: int = 3, min_side: int = 0, max_side: int = 4
) -> Strategy[tuple[tuple[int, ...], ...]]:
    """n shapes that broadcast together: what they give is drawn, and each leaves out leading sizes or makes some 1."""

    @st.composite
    def drawn(draw: Draw) -> tuple[tuple[int, ...], ...]:
        result = draw(shapes(min_dims=min_dims, max_dims=max_dims, min_side=min_side, max_side=max_side))
        operands = []
        for _ in range(n):
            left_out = draw(st.integers(0, len(result) - min(min_dims, len(result))))
            operands.append(tuple(draw(st.sampled_from(sorted({size, 1}))) for size in result[left_out:]))
        return tuple(operands)

    return drawn()


def laid_out(x: Any, steps: Sequence[int], order: Sequence[int] | None = None) -> Any:
    """x again, equal to it, in other memory: each dimension with its step, negative or with gaps, in another order.

    `steps` has an entry other than 0 for each dimension. `order` has the dimensions from the slowest to the fastest:
    (1, 0) is Fortran's for a matrix. The gaps hold nan, or the largest integer, so that reading them shows.
    """
    x = np.asarray(x)
    order = range(x.ndim) if order is None else order
    sizes = [x.shape[d] * abs(steps[d]) for d in order]
    gap = np.nan if x.dtype.kind == "f" else True if x.dtype.kind == "b" else np.iinfo(x.dtype).max
    memory = np.full(sizes, gap, x.dtype)
    index: Any = (*(slice(None, None, step) for step in steps), ...)
    view = memory.transpose(np.argsort(order))[index]
    view[...] = x
    return view


def arrays(
    shape: tuple[int, ...] | Strategy[tuple[int, ...]] | None = None,
    *,
    dtype: Any = np.float64,
    low: float = -2.0,
    high: float = 2.0,
    any_layout: bool = True,
) -> Strategy[Any]:
    """NumPy arrays of numbers from `low` to `high`, in any layout unless `any_layout` is False.

    `shape` may be a strategy, and is any shape if left out. Layouts are C and Fortran order and what lies between,
    negative strides, and gaps. Integers and booleans are drawn for an integer dtype or bool.
    """
    dtype = np.dtype(dtype)

    @st.composite
    def drawn(draw: Draw) -> Any:
        size = shape if isinstance(shape, tuple) else draw(shapes() if shape is None else shape)
        rng = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
        if dtype.kind == "f":
            x = np.asarray(rng.uniform(low, high, size)).astype(dtype)
        elif dtype.kind == "b":
            x = np.asarray(rng.random(size) < 0.5)
        else:
            x = np.asarray(rng.integers(math.ceil(low), math.floor(high), size, endpoint=True)).astype(dtype)
        if not any_layout:
            return x
        steps = [draw(st.sampled_from([1, -1, 2, -3])) for _ in size]
        return laid_out(x, steps, draw(st.permutations(range(len(size)))))

    return drawn()


def tensors(
    shape: tuple[int, ...] | Strategy[tuple[int, ...]] | None = None,
    *,
    dtype: Any = np.float64,
    requires_grad: bool = True,
    low: float = -2.0,
    high: float = 2.0,
    any_layout: bool = True,
) -> Strategy[Tensor]:
    """Tensors of such `arrays`: leaves that require grad unless `requires_grad` is False."""
    drawn = arrays(shape, dtype=dtype, low=low, high=high, any_layout=any_layout)
    return drawn.map(lambda x: wrap(x).requires_grad_(requires_grad))


class Window(NamedTuple):
    """A window that slides over one dimension, and at how many places it stops."""

    size: int
    kernel: int
    stride: int
    padding: int
    dilation: int
    ceil_mode: bool
    n_windows: int


def windows(
    *,
    max_windows: int = 3,
    max_kernel: int = 3,
    max_stride: int = 3,
    max_dilation: int = 2,
    half_padding: bool = False,
    ceil_mode: bool = False,
) -> Strategy[Window]:
    """Windows, from how often they stop backwards. `half_padding` keeps to what pooling allows: half of the kernel.

    Otherwise padding may be wider than the kernel, so that some windows see nothing but padding.
    """

    @st.composite
    def drawn(draw: Draw) -> Window:
        n, kernel = draw(st.integers(1, max_windows)), draw(st.integers(1, max_kernel))
        stride, dilation = draw(st.integers(1, max_stride)), draw(st.integers(1, max_dilation))
        span = dilation * (kernel - 1) + 1
        reach = (n - 1) * stride + span  # what the windows cover, padding included
        if ceil_mode:
            # The last window sticks out by `over`; it must start before the numbers and their left padding end.
            padding = draw(st.integers(0, min(kernel // 2, (reach - 1) // 2)))
            over = draw(st.integers(0, min(stride - 1, span - padding - 1, reach - 2 * padding - 1)))
            return Window(reach - 2 * padding - over, kernel, stride, padding, dilation, True, n)
        # Up to stride - 1 numbers are left over at the end, too few for another window; one number there must be.
        widest = kernel // 2 if half_padding else kernel + 1
        padding = draw(st.integers(0, min(widest, (reach + stride - 2) // 2)))
        left_over = draw(st.integers(max(0, 1 + 2 * padding - reach), stride - 1))
        return Window(reach - 2 * padding + left_over, kernel, stride, padding, dilation, False, n)

    return drawn()


class ConvProblem(NamedTuple):
    """The shapes and the geometry of a convolution, in the order of `conv2d`'s arguments."""

    input_shape: tuple[int, int, int, int]
    weight_shape: tuple[int, int, int, int]
    bias_shape: tuple[int] | None
    stride: tuple[int, int]
    padding: tuple[int, int]
    dilation: tuple[int, int]
    groups: int
    output_shape: tuple[int, int, int, int]

    @property
    def geometry(self) -> tuple[tuple[int, int], tuple[int, int], tuple[int, int], int]:
        """What follows the operands in a call of `conv2d`."""
        return self.stride, self.padding, self.dilation, self.groups


def conv2d_problems(*, max_batch: int = 2, max_channels: int = 2, max_groups: int = 2) -> Strategy[ConvProblem]:
    """Convolutions with every stride, padding, dilation and number of groups; channels are counted in each group."""

    @st.composite
    def drawn(draw: Draw) -> ConvProblem:
        down, across = draw(windows()), draw(windows())
        batch, groups = draw(st.integers(1, max_batch)), draw(st.integers(1, max_groups))
        inputs, outputs = (draw(st.integers(1, max_channels)) for _ in range(2))
        return ConvProblem(
            (batch, groups * inputs, down.size, across.size),
            (groups * outputs, inputs, down.kernel, across.kernel),
            (groups * outputs,) if draw(st.booleans()) else None,
            (down.stride, across.stride),
            (down.padding, across.padding),
            (down.dilation, across.dilation),
            groups,
            (batch, groups * outputs, down.n_windows, across.n_windows),
        )

    return drawn()


class PoolProblem(NamedTuple):
    """The shape and the geometry of a pooling; `avg_pool2d` has no dilation."""

    input_shape: tuple[int, int, int, int]
    kernel_size: tuple[int, int]
    stride: tuple[int, int]
    padding: tuple[int, int]
    dilation: tuple[int, int]
    ceil_mode: bool
    output_shape: tuple[int, int, int, int]


def pool2d_problems(*, max_batch: int = 2, max_channels: int = 2, max_dilation: int = 2) -> Strategy[PoolProblem]:
    """Poolings. For an average, which knows no dilation, take `max_dilation=1`."""

    @st.composite
    def drawn(draw: Draw) -> PoolProblem:
        ceil_mode = draw(st.booleans())
        sliding = windows(max_dilation=max_dilation, half_padding=True, ceil_mode=ceil_mode)
        down, across = draw(sliding), draw(sliding)
        batch, channels = draw(st.integers(1, max_batch)), draw(st.integers(1, max_channels))
        return PoolProblem(
            (batch, channels, down.size, across.size),
            (down.kernel, across.kernel),
            (down.stride, across.stride),
            (down.padding, across.padding),
            (down.dilation, across.dilation),
            ceil_mode,
            (batch, channels, down.n_windows, across.n_windows),
        )

    return drawn()


class Expression(NamedTuple):
    """A function of some operands, as Python: `code` over the names x0, x1, …"""

    code: str
    n_operands: int

    def __call__(self, *operands: Any) -> Any:
        """The result: of Values, of Tensors, or of anything else that has these methods."""
        if len(operands) != self.n_operands:
            raise TypeError(f"Expression: expected {self.n_operands} operands, got {len(operands)}")
        return eval(self.code, {f"x{i}": x for i, x in enumerate(operands)})


SMOOTH = (
    "({a} + {b})", "({a} - {b})", "({a} * {b})", "({a} / ({b} * {b} + 1))", "({a} * {a} + 1) ** ({b} * 0.5)", "(-{a})",
    "{a}.tanh()", "{a}.sigmoid()", "{a}.sin()", "{a}.cos()", "{a}.tanh().exp()", "({a} * {a} + 0.5).log()",
    "({a} * {a} + 0.5).sqrt()", "(1 - {a})", "(2 / ({a} * {a} + 1))",
)  # fmt: skip
KINKED = ("{a}.relu()", "{a}.abs()", "{a}.max({b})", "{a}.min({b})")


def expressions(n_operands: int = 2, *, max_size: int = 6, smooth: bool = False) -> Strategy[Expression]:
    """Random expressions that Values and Tensors both know, of up to `max_size` operations.

    Their numbers stay tame: no division by 0, no logarithm below 0. With `smooth`, none has a kink.
    """
    templates = SMOOTH if smooth else SMOOTH + KINKED

    @st.composite
    def drawn(draw: Draw) -> Expression:
        parts = [f"x{i}" for i in range(n_operands)]
        for _ in range(draw(st.integers(1, max_size))):
            a, b = draw(st.sampled_from(parts)), draw(st.sampled_from(parts))
            parts.append(f"({draw(st.sampled_from(templates)).format(a=a, b=b)})")
        return Expression(parts[-1], n_operands)

    return drawn()
