"""Convolution and pooling as linear maps: ⟨d, A x⟩ = ⟨Aᵀ d, x⟩, for geometries drawn from the output backwards."""

from types import SimpleNamespace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from scalargrad.ops.convolution import convolving
from scalargrad.ops.pooling import pooling


def dot(a, b):
    assert a.shape == b.shape
    return float((a * b).sum())


@st.composite
def axis(draw, ceil_mode, most_dilation):
    """One direction: how many windows, and sizes that give just as many."""
    count, kernel, stride = draw(st.integers(1, 4)), draw(st.integers(1, 4)), draw(st.integers(1, 4))
    dilation = draw(st.integers(1, most_dilation))
    span = dilation * (kernel - 1) + 1
    # What does not fill another window; with ceil_mode what the last window lacks.
    spare = -draw(st.integers(0, min(stride, span) - 1)) if ceil_mode else draw(st.integers(0, stride - 1))
    framed = (count - 1) * stride + span + spare
    padding = draw(st.integers(0, min(span // 2, (framed - 1) // 2)))
    return {
        "count": count, "kernel": kernel, "stride": stride, "dilation": dilation, "padding": padding,
        "size": framed - 2 * padding,
    }  # fmt: skip


@st.composite
def geometry(draw, ceil_mode=False, most_dilation=3):
    down, across = draw(axis(ceil_mode, most_dilation)), draw(axis(ceil_mode, most_dilation))
    return SimpleNamespace(**{name: (down[name], across[name]) for name in down})


@given(
    window=geometry(),
    groups=st.integers(1, 2),
    sizes=st.tuples(st.integers(0, 2), st.integers(1, 2), st.integers(1, 2)),
    seed=st.integers(0, 99),
)
def test_the_gradients_of_conv2d_are_its_adjoints(window, groups, sizes, seed):
    rng = np.random.default_rng(seed)
    N, C, O = sizes
    x = rng.standard_normal((N, C * groups, *window.size))
    w = rng.standard_normal((O * groups, C, *window.kernel))
    d = rng.standard_normal((N, O * groups, *window.count))
    rest = (window.stride, window.padding, window.dilation, groups)
    forward = dot(d, convolving.conv2d(x, w, None, *rest))
    assert dot(x, convolving.conv2d_input_grad(d, w, x.shape, *rest)) == pytest.approx(forward, rel=1e-9, abs=1e-9)
    assert dot(w, convolving.conv2d_weight_grad(d, x, w.shape, *rest)) == pytest.approx(forward, rel=1e-9, abs=1e-9)


@given(ceil_mode=st.booleans(), data=st.data(), seed=st.integers(0, 99))
def test_what_max_pool2d_takes_it_puts_back(ceil_mode, data, seed):
    window = data.draw(geometry(ceil_mode))
    rng = np.random.default_rng(seed)
    x = rng.standard_normal((2, 2, *window.size))
    rest = (window.kernel, window.stride, window.padding, window.dilation)
    y, offsets = pooling.max_pool2d(x, *rest, ceil_mode)
    sees_image = y > -np.inf  # with dilation a window may step over the whole image
    y[~sees_image] = 0
    assert (pooling.max_pool2d_take(x, offsets, *rest) == y).all()
    d = rng.standard_normal(y.shape)
    assert dot(x, pooling.max_pool2d_input_grad(d, offsets, x.shape, *rest)) == pytest.approx(dot(d, y), abs=1e-9)
    positions = np.where(sees_image, pooling.max_pool2d_positions(x, offsets, *rest), 0)
    assert (pooling.adaptive_max_pool2d_take(x, positions) == y)[sees_image].all()


@given(
    ceil_mode=st.booleans(),
    count_include_pad=st.booleans(),
    divisor=st.sampled_from([None, 3]),
    data=st.data(),
    seed=st.integers(0, 99),
)
def test_what_avg_pool2d_gathers_it_spreads(ceil_mode, count_include_pad, divisor, data, seed):
    window = data.draw(geometry(ceil_mode, most_dilation=1))
    rng = np.random.default_rng(seed)
    x = rng.standard_normal((2, 2, *window.size))
    rest = (window.kernel, window.stride, window.padding, ceil_mode, count_include_pad, divisor)
    y = pooling.avg_pool2d(x, *rest)
    d = rng.standard_normal(y.shape)
    assert dot(x, pooling.avg_pool2d_input_grad(d, x.shape, *rest)) == pytest.approx(dot(d, y), abs=1e-9)


@given(
    sizes=st.tuples(st.integers(1, 7), st.integers(1, 7)),
    output=st.tuples(st.integers(0, 9), st.integers(0, 9)),
    seed=st.integers(0, 99),
)
def test_what_adaptive_pooling_gathers_it_spreads(sizes, output, seed):
    rng = np.random.default_rng(seed)
    x = rng.standard_normal((2, 2, *sizes))
    means = pooling.adaptive_avg_pool2d(x, output)
    d = rng.standard_normal(means.shape)
    assert dot(x, pooling.adaptive_avg_pool2d_input_grad(d, x.shape)) == pytest.approx(dot(d, means), abs=1e-9)
    largest, positions = pooling.adaptive_max_pool2d(x, output)
    assert dot(x, pooling.adaptive_max_pool2d_input_grad(d, positions, x.shape)) == pytest.approx(
        dot(d, largest), abs=1e-9
    )
    assert (largest >= means - 1e-12).all()
