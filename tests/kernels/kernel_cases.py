"""Calls of every kernel of the contract with drawn sizes, 0 and 1 among them, for tests of what all kernels must keep.

A case's arrays can be moved to other memory before the call: they are kept apart from the rest of its arguments.
"""

import inspect
import math
import random
from collections.abc import Callable
from dataclasses import dataclass, field
from itertools import zip_longest
from typing import Any

import numpy as np

from scalargrad import kernels

# Around the widths of vectors (2 to 16 numbers) and of tiles (3 vectors), and few large ones.
SIZES = [0, 1, 1, 2, 3, 4, 5, 6, 7, 8, 9, 12, 15, 16, 17, 23, 31, 32, 33, 47, 48, 49, 63, 65, 97, 130]
SMALL = [0, 1, 1, 2, 2, 3, 4, 5, 7]


@dataclass
class Case:
    """`call(k, *arrays)` returns what to compare: a kernel's results, or the arrays that it has written."""

    name: str
    arrays: list[np.ndarray]
    call: Callable[..., Any]
    writes: bool = False
    about: dict[str, Any] = field(default_factory=dict)

    def __str__(self) -> str:
        shapes = ", ".join(f"{array.dtype}{array.shape}" for array in self.arrays)
        return f"{self.name}({shapes}) {self.about}"


class Draw:
    """Random numbers and sizes, the same for the same seed."""

    def __init__(self, seed: int, dtype: np.dtype) -> None:
        self.random, self.numbers, self.dtype = random.Random(seed), np.random.default_rng(seed), dtype

    def size(self, least: int = 0) -> int:
        return max(least, self.random.choice(SIZES))

    def small(self, least: int = 0) -> int:
        return max(least, self.random.choice(SMALL))

    def shape(self, n_axes: int | None = None) -> tuple[int, ...]:
        n_axes = self.random.randrange(4) if n_axes is None else n_axes
        return (*[self.small() for _ in range(n_axes - 1)], *[self.size() for _ in range(min(n_axes, 1))])

    def array(self, *shape: int) -> np.ndarray:
        return np.asarray(self.numbers.standard_normal(shape).astype(self.dtype)).reshape(shape)

    def flag(self) -> bool:
        return self.random.random() < 0.5

    def pair(self, *choices: int) -> tuple[int, int]:
        return self.random.choice(choices), self.random.choice(choices)


def draw_matmul(d: Draw) -> Case:
    m, n, inner = d.size(), d.size(), d.size()
    batch = d.random.choice([(), (), (), (1,), (3,), (2, 2)])
    flip_a, flip_b = d.flag(), d.flag()
    a = d.array(*batch, inner, m) if flip_a else d.array(*batch, m, inner)
    b = d.array(n, inner) if flip_b else d.array(*d.random.choice([(), batch]), inner, n)
    if d.random.random() < 0.2:
        a, flip_a = d.array(inner), False
    elif d.random.random() < 0.2:
        b, flip_b = d.array(inner), False

    def call(k: Any, a: np.ndarray, b: np.ndarray) -> Any:
        return k.matmul(a.swapaxes(-1, -2) if flip_a else a, b.swapaxes(-1, -2) if flip_b else b)

    return Case("matmul", [a, b], call, about={"flip_a": flip_a, "flip_b": flip_b})


def draw_linear(d: Draw) -> Case:
    features, outputs = d.size(), d.size()
    arrays = [d.array(*d.shape(d.random.randrange(3)), features), d.array(outputs, features), d.array(outputs)]
    if d.flag():
        return Case("linear", arrays[:2], lambda k, x, w: k.linear(x, w, None))
    return Case("linear", arrays, lambda k, x, w, bias: k.linear(x, w, bias))


def windows(d: Draw, padding_is_half: bool) -> tuple[tuple[int, int], ...]:
    """Kernel size, stride, padding and dilation, and the size of an image that they fit into."""
    kernel = d.pair(1, 1, 2, 3, 3, 5)
    stride, dilation = d.pair(1, 1, 2, 3), d.pair(1, 1, 1, 2)
    padding = tuple(d.random.randint(0, k // 2 if padding_is_half else k) for k in kernel)
    sizes = []
    for k, s, p, e in zip(kernel, stride, padding, dilation, strict=True):
        outputs = max(1, d.random.choice(SIZES) // s)
        sizes.append(max(1, (outputs - 1) * s + e * (k - 1) + 1 - 2 * p + d.random.randrange(s)))
    return kernel, stride, padding, dilation, tuple(sizes)


def draw_conv(d: Draw, name: str) -> Case:
    kernel, stride, padding, dilation, sizes = windows(d, padding_is_half=False)
    groups = d.random.choice([1, 1, 1, 2, 3])
    channels, outputs = groups * d.small(), groups * max(1, d.random.choice([d.small(), d.size() // groups]))
    if d.random.random() < 0.2:
        groups, channels = max(1, channels), max(1, channels)  # depthwise
        outputs = channels * d.random.choice([1, 1, 2])
    x, w = d.array(d.small(), channels, *sizes), d.array(outputs, channels // groups, *kernel)
    geometry = (stride, padding, dilation, groups)
    out = [kernels.conv_output_size(*one) for one in zip(sizes, kernel, stride, padding, dilation, strict=True)]
    g = d.array(len(x), outputs, *out)
    about = {"stride": stride, "padding": padding, "dilation": dilation, "groups": groups}
    if name == "conv2d_input_grad":
        return Case(name, [g, w], lambda k, g, w: k.conv2d_input_grad(g, w, x.shape, *geometry), about=about)
    if name == "conv2d_weight_grad":
        return Case(name, [g, x], lambda k, g, x: k.conv2d_weight_grad(g, x, w.shape, *geometry), about=about)
    if d.flag():
        return Case(name, [x, w], lambda k, x, w: k.conv2d(x, w, None, *geometry), about=about)
    return Case(name, [x, w, d.array(outputs)], lambda k, x, w, bias: k.conv2d(x, w, bias, *geometry), about=about)


def draw_max_pool(d: Draw, name: str) -> Case:
    halves = ((2, 2), (2, 2), (0, 0), (1, 1), (2 * d.size(1), 2 * d.size(1)))
    *geometry, sizes = halves if d.random.random() < 0.3 else windows(d, padding_is_half=True)
    ceil_mode = d.flag()
    x = d.array(d.small(), d.small(), *sizes)
    about = {"geometry": geometry, "ceil_mode": ceil_mode, "input": x.shape}
    if name in ("max_pool2d", "relu_max_pool2d"):
        return Case(name, [x], lambda k, x: getattr(k, name)(x, *geometry, ceil_mode), about=about)
    y, offsets = kernels.load("numpy").max_pool2d(x, *geometry, ceil_mode)
    if name == "max_pool2d_take":
        return Case(name, [x, offsets], lambda k, x, offsets: k.max_pool2d_take(x, offsets, *geometry), about=about)
    shape = x.shape
    return Case(
        name, [d.array(*y.shape), offsets], lambda k, g, o: k.max_pool2d_input_grad(g, o, shape, *geometry), about=about
    )


def draw_avg_pool(d: Draw, name: str) -> Case:
    kernel, stride, padding, _, _ = windows(d, padding_is_half=True)
    sizes = tuple(max(k, d.random.choice(SIZES)) for k in kernel)
    options = (kernel, stride, padding, d.flag(), d.flag(), d.random.choice([None, None, 3, -2]))
    x = d.array(d.small(), d.small(), *sizes)
    about = {"options": options, "input": x.shape}
    if name == "avg_pool2d":
        return Case(name, [x], lambda k, x: k.avg_pool2d(x, *options), about=about)
    shape = x.shape
    g = d.array(*kernels.load("numpy").avg_pool2d(x, *options).shape)
    return Case(name, [g], lambda k, g: k.avg_pool2d_input_grad(g, shape, *options), about=about)


def draw_adaptive_pool(d: Draw, name: str) -> Case:
    x = d.array(d.small(), d.small(1), d.size(1), d.size(1))
    # Plain NumPy goes through the windows one by one: of 10,000 of them, one call would take a second.
    output_size = d.random.randint(1, min(20, x.shape[2])), d.random.randint(1, min(20, x.shape[3]))
    shape, about = x.shape, {"output_size": output_size, "input": x.shape}
    if not name.endswith("_input_grad"):
        return Case(name, [x], lambda k, x: getattr(k, name)(x, output_size), about=about)
    g = d.array(*shape[:2], *output_size)
    if name == "adaptive_avg_pool2d_input_grad":
        return Case(name, [g], lambda k, g: k.adaptive_avg_pool2d_input_grad(g, shape), about=about)
    positions = kernels.load("numpy").adaptive_max_pool2d(x, output_size)[1]
    return Case(name, [g, positions], lambda k, g, p: k.adaptive_max_pool2d_input_grad(g, p, shape), about=about)


def draw_block(d: Draw, name: str) -> Case:
    """A convolution under relu and max pooling. Its offsets are not compared: a rounding can decide who wins."""
    kernel, stride, padding, dilation = (d.pair(*choices) for choices in ((1, 3, 5), (1, 1, 2), (0, 0, 1), (1, 1, 2)))
    pooling = ((2, 2), (2, 2), (0, 0), (1, 1), d.flag())
    groups = d.random.choice([1, 1, 1, 2])
    sizes = [e * (k - 1) + s + d.size(2) for k, s, e in zip(kernel, stride, dilation, strict=True)]
    x = d.array(d.small(), groups * d.small(1), *sizes)
    w = d.array(groups * d.small(1), x.shape[1] // groups, *kernel)
    options = (stride, padding, dilation, groups, *pooling)
    about = {"options": options}
    if name == "conv2d_relu_max_pool2d":
        bias = [d.array(len(w))] if d.flag() else []
        return Case(
            name,
            [x, w, *bias],
            lambda k, x, w, bias=None: k.conv2d_relu_max_pool2d(x, w, bias, *options)[0],
            about=about,
        )
    y, offsets = kernels.load("numpy").conv2d_relu_max_pool2d(x, w, None, *options)
    wanted = d.flag(), d.flag(), d.flag()

    def call(k: Any, *arrays: np.ndarray) -> Any:
        grads = k.conv2d_relu_max_pool2d_grads(*arrays, *options, *wanted)
        return tuple(grad for grad in grads if grad is not None)

    return Case(name, [d.array(*y.shape), offsets, x, w], call, about={**about, "wanted": wanted})


def draw_over(d: Draw, name: str) -> Case:
    shape = tuple(max(1, n) for n in d.shape()) if name in ("max_over", "min_over") else d.shape()
    dims = None if d.flag() else tuple(sorted(d.random.sample(range(len(shape)), d.random.randint(0, len(shape)))))
    keepdim, about = d.flag(), {"dims": dims}
    if not name.startswith("spread"):
        return Case(name, [d.array(*shape)], lambda k, x: getattr(k, name)(x, dims, keepdim), about=about)
    reduced = [1 if dims is None or i in dims else n for i, n in enumerate(shape)]
    if not keepdim:
        reduced = [n for i, n in enumerate(shape) if dims is not None and i not in dims]
    return Case(
        name, [d.array(*reduced)], lambda k, y: getattr(k, name)(y, shape, dims, keepdim), about={**about, "to": shape}
    )


def draw_cross_entropy(d: Draw, name: str) -> Case:
    n, classes = d.size(), d.size(1)
    target = d.numbers.integers(0, classes, n)
    target[::5] = -100  # ignored
    weight = [np.asarray(np.abs(d.array(classes)))] if d.flag() else []
    reduction, smoothing = d.random.choice(["none", "sum", "mean"]), d.random.choice([0.0, 0.1])
    scores, about = d.array(n, classes), {"reduction": reduction, "smoothing": smoothing}
    options = (-100, reduction, smoothing)
    if name == "cross_entropy":

        def loss(k: Any, x: np.ndarray, target: np.ndarray, weight: np.ndarray | None = None) -> Any:
            return k.cross_entropy(x, target, weight, *options)[:2]

        return Case(name, [scores, target, *weight], loss, about=about)
    losses, log_p, total = kernels.load("numpy").cross_entropy(scores, target, *(weight or [None]), *options)

    def grad(k: Any, g: np.ndarray, log_p: np.ndarray, target: np.ndarray, weight: np.ndarray | None = None) -> Any:
        return k.cross_entropy_grad(g, log_p, target, weight, *options, total)

    return Case(name, [d.array(*losses.shape), log_p, target, *weight], grad, about=about)


def draw_normalize(d: Draw, name: str) -> Case:
    """Channels on any axes, with few or many positions; means by channel, by sample or by group."""
    n_first, n_channels, n_rest = d.random.randrange(3), d.random.randrange(3), d.random.randrange(3)
    last = n_first + n_channels
    x = d.array(*[d.small() for _ in range(last)], *[d.size() for _ in range(n_rest)])
    if d.flag() and last:
        x = d.array(*x.shape[: last - 1], d.size(), *x.shape[last:][:1])
    axes, of_each = (n_first, last), x.shape[n_first:last]
    divisors = [n for n in range(1, 6) if math.prod(of_each) % n == 0]
    groups = 0 if "_by" in name else d.random.choice([0, *divisors])
    w, b, mean, g = d.array(*of_each), d.array(*of_each), d.array(*of_each), d.array(*x.shape)
    variance, wanted, has_w = np.asarray(np.abs(d.array(*of_each))), d.random.randint(1, 7), d.flag()
    about = {"channels": axes, "groups": groups, "wanted": wanted, "has_w": has_w}
    if name == "normalize":
        arrays = [x, w] if has_w else [x, w, b]
        return Case(name, arrays, lambda k, x, w, b=None: k.normalize(x, w, b, axes, groups, 0.1), about=about)
    if name == "normalize_by":
        arrays = [x, mean, variance, b, w] if has_w else [x, mean, variance, b]
        return Case(name, arrays, lambda k, x, m, v, b, w=None: k.normalize_by(x, w, b, m, v, axes, 0.1), about=about)
    plain = kernels.load("numpy")
    if name == "normalize_grads":
        _, mean, _, rate = plain.normalize(x, w, b, axes, groups, 0.1)
        rest = (axes, groups, wanted)
    else:
        _, mean, rate = plain.normalize_by(x, w, b, mean, variance, axes, 0.1)
        rest = (axes, wanted)
    arrays = [g, x, mean, rate, w] if has_w else [g, x, mean, rate]
    return Case(name, arrays, lambda k, g, x, m, r, w=None: getattr(k, name)(g, x, w, m, r, *rest), about=about)


def draw_sum_to_size(d: Draw) -> Case:
    shape = d.shape()
    target = tuple(1 if d.flag() else n for n in shape)[d.random.randint(0, len(shape)) :]
    return Case("sum_to_size", [d.array(*shape)], lambda k, x: k.sum_to_size(x, target), about={"to": target})


def draw_linear_grad(d: Draw, name: str) -> Case:
    batch, features, outputs = d.shape(d.random.randint(1, 2)), d.size(), d.size()
    g, x, w = d.array(*batch, outputs), d.array(*batch, features), d.array(outputs, features)
    return Case(name, [g, w if name == "linear_input_grad" else x], lambda k, *arrays: getattr(k, name)(*arrays))


def draw_power(d: Draw) -> Case:
    a, exponent = np.asarray(np.abs(d.array(*d.shape()))), d.random.choice([0, 1, 2, 3, -1, 0.5, 2.5])
    return Case("power", [a], lambda k, a: k.power(a, exponent), about={"exponent": exponent})


def draw_select(d: Draw) -> Case:
    shape = d.shape()
    condition, a = d.array(*shape) > 0, d.array(*shape)
    if d.random.random() < 0.3:
        a = a[tuple(slice(1) for _ in shape)].copy()
    return Case("select", [a], lambda k, a: k.select(condition, a))


def draw_indexing(d: Draw, name: str) -> Case:
    shape = tuple(max(1, n) for n in d.shape(d.random.randint(1, 3)))
    dim, n_index = d.random.randrange(len(shape)), d.size()
    chosen = tuple(n_index if i == dim else n for i, n in enumerate(shape))
    index = d.numbers.integers(0, shape[dim], n_index if name == "index_add" else chosen)
    about = {"dim": dim}
    if name == "gather":
        return Case(name, [d.array(*shape), index], lambda k, x, index: k.gather(x, dim, index), about=about)
    arrays = [d.array(*shape), index, d.array(*chosen)]
    return Case(name, arrays, lambda k, y, index, src: getattr(k, name)(y, dim, index, src), writes=True, about=about)


def draw_step(d: Draw, name: str) -> Case:
    shapes = [d.shape() for _ in range(d.small(1))]
    lists = [[np.asarray(np.abs(d.array(*shape)) + i) for shape in shapes] for i in range(5)]
    options: dict[str, Any] = {"lr": 0.1, "weight_decay": d.random.choice([0, 0.1]), "maximize": d.flag()}
    if name == "sgd_step":
        lists = lists[:3]
        momentum = d.random.choice([0, 0.9])
        options |= {"momentum": momentum, "dampening": 0.1, "nesterov": d.flag(), "first": d.flag()}
    elif name == "adam_step":
        options |= {"step": 2, "beta1": 0.9, "beta2": 0.99, "eps": 1e-3, "amsgrad": d.flag(), "decoupled": d.flag()}
    else:
        lists[2:4] = lists[4], [np.asarray(x / 9) for x in lists[2]]
        options |= {"alpha": 0.9, "eps": 1e-3, "momentum": d.random.choice([0, 0.9]), "centered": d.flag()}

    def call(k: Any, *arrays: np.ndarray) -> Any:
        n = len(shapes)
        getattr(k, name)(*[arrays[i * n : (i + 1) * n] for i in range(len(lists))], **options)
        return arrays

    return Case(name, [array for arrays in lists for array in arrays], call, writes=True, about=options)


def draw_zero_fill(d: Draw) -> Case:
    def call(k: Any, *arrays: np.ndarray) -> Any:
        k.zero_fill(arrays)
        return arrays

    return Case("zero_fill", [d.array(*d.shape()) for _ in range(d.small(1))], call, writes=True)


DRAWN: dict[str, Callable[[Draw], Case]] = {
    "matmul": draw_matmul,
    "linear": draw_linear,
    "zero_fill": draw_zero_fill,
    **{name: lambda d, name=name: draw_conv(d, name) for name in ("conv2d", "conv2d_input_grad", "conv2d_weight_grad")},
    **{
        name: lambda d, name=name: draw_max_pool(d, name)
        for name in ("max_pool2d", "max_pool2d_input_grad", "max_pool2d_take")
    },
    **{name: lambda d, name=name: draw_avg_pool(d, name) for name in ("avg_pool2d", "avg_pool2d_input_grad")},
    "relu_max_pool2d": lambda d: draw_max_pool(d, "relu_max_pool2d"),
    **{
        f"adaptive_{kind}": lambda d, name=f"adaptive_{kind}": draw_adaptive_pool(d, name)
        for kind in ("avg_pool2d", "avg_pool2d_input_grad", "max_pool2d", "max_pool2d_input_grad")
    },
    **{
        name: lambda d, name=name: draw_block(d, name)
        for name in ("conv2d_relu_max_pool2d", "conv2d_relu_max_pool2d_grads")
    },
    **{
        name: lambda d, name=name: draw_over(d, name)
        for name in ("sum_over", "mean_over", "max_over", "min_over", "spread", "spread_over")
    },
    "sum_to_size": draw_sum_to_size,
    **{
        name: lambda d, name=name: draw_normalize(d, name)
        for name in ("normalize", "normalize_grads", "normalize_by", "normalize_by_grads")
    },
    **{name: lambda d, name=name: draw_cross_entropy(d, name) for name in ("cross_entropy", "cross_entropy_grad")},
    **{name: lambda d, name=name: draw_linear_grad(d, name) for name in ("linear_input_grad", "linear_weight_grad")},
    "sum_by_channel": lambda d: Case(
        "sum_by_channel", [d.array(d.small(), d.small(), d.size(), d.size())], lambda k, x: k.sum_by_channel(x)
    ),
    **{name: lambda d, name=name: draw_indexing(d, name) for name in ("gather", "scatter_add", "index_add")},
    "power": draw_power,
    "select": draw_select,
    **{name: lambda d, name=name: draw_step(d, name) for name in ("sgd_step", "adam_step", "rmsprop_step")},
}
ELEMENTWISE = ["x", "y", "g", "a", "b"]
PARAMETERS = {"slope": 0.3, "alpha": 1.3, "beta": 2.0, "threshold": 1.5, "low": -0.7, "high": 0.4}
"""What activations are given besides arrays."""
WRITES_ITS_FIRST = {"accumulate"}
ELSEWHERE = {"program", "conv_output_size", "pool_output_size", "block_is_fused"}
"""Not drawn here: tests/compiler draws whole programs, and the others compute no array."""


def draw_by_parameters(name: str, parameters: list[str]) -> Callable[[Draw], Case]:
    """How to draw a kernel whose arguments are arrays of one shape, and perhaps an axis or parameters."""
    options = [PARAMETERS[p] for p in parameters if p in PARAMETERS]

    def draw(d: Draw) -> Case:
        shape = d.shape()
        n_arrays = len([p for p in parameters if p in ELEMENTWISE])
        arrays = [d.array(*shape) for _ in range(n_arrays)]
        if parameters == ["a", "b"]:  # b broadcasts
            arrays[1] = arrays[1][tuple(slice(1) if d.random.random() < 0.3 else slice(None) for _ in shape)].copy()
        if "axis" not in parameters:
            return Case(name, arrays, lambda k, *arrays: getattr(k, name)(*arrays, *options), name in WRITES_ITS_FIRST)
        axis = d.random.randrange(max(1, len(shape)))
        return Case(name, arrays, lambda k, *arrays: getattr(k, name)(*arrays, axis), about={"axis": axis})

    return draw


def contract() -> dict[str, Callable[..., Any]]:
    """The functions that every implementation has, by name."""
    plain = vars(kernels.load("numpy"))
    return {name: plain[name] for name in kernels.__all__ if inspect.isfunction(plain.get(name))}


def drawing(name: str) -> Callable[[Draw], Case] | None:
    """How to draw a kernel's arguments, if that is known."""
    if name in DRAWN:
        return DRAWN[name]
    parameters = list(inspect.signature(contract()[name]).parameters)
    return draw_by_parameters(name, parameters) if set(parameters) <= {*ELEMENTWISE, *PARAMETERS, "axis"} else None


def same(got: Any, expected: Any, dtype: np.dtype) -> bool:
    """Whether results agree, in the type's precision and the results' own scale."""
    got, expected = (results if isinstance(results, tuple) else (results,) for results in (got, expected))
    for one, other in zip_longest(got, expected):
        if one.shape != other.shape or one.dtype != other.dtype:
            return False
        scale = max(1.0, float(np.abs(other[np.isfinite(other)]).max(initial=0)))
        tolerance = scale * (1e-4 if dtype == np.float32 else 1e-12) if other.dtype.kind == "f" else 0
        if not np.allclose(one, other, rtol=0, atol=tolerance, equal_nan=True):
            return False
    return True
