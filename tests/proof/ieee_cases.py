"""What is called with which special numbers, in PyTorch's vocabulary: `t` is torch or scalargrad.

Run as a script, it records what torch gives to tests/data/ieee_specials.json; torch is needed for that only.
"""

import itertools
import json
import sys
import warnings
from pathlib import Path

import numpy as np

RECORD = Path(__file__).parent.parent / "data" / "ieee_specials.json"
NAN, INF = float("nan"), float("inf")
LIMITS = {"float32": (1e-45, 1e-40, 3e38), "float64": (5e-324, 1e-310, 1.7e308)}  # smallest, denormal, huge
SEEDS = (1.0, 0.0, INF)


def numbers(dtype):
    smallest, denormal, huge = LIMITS[dtype]
    large = 100.0 if dtype == "float32" else 800.0  # beyond where exp overflows
    positive = [0.0, smallest, denormal, 0.5, 1.0, 2.0, 30.0, large, huge, INF]
    return [NAN, *positive, *(-x for x in positive)]


def pairs(dtype):
    _, denormal, huge = LIMITS[dtype]
    few = [NAN, INF, -INF, 0.0, -0.0, 1.0, -1.0, 2.5, -3.0, huge, -huge, denormal]
    return [list(x) for x in zip(*itertools.product(few, few), strict=True)]


def lines(dtype):
    """Rows of four to be reduced: nan first, last and twice, both infinities, ties, zeros of both signs, overflow."""
    _, denormal, huge = LIMITS[dtype]
    return [
        [NAN, 1.0, 2.0, 3.0], [1.0, 2.0, 3.0, NAN], [1.0, NAN, 5.0, NAN], [INF, 1.0, 2.0, -1.0],
        [-INF, 1.0, 2.0, -1.0], [INF, -INF, 0.0, 1.0], [INF, INF, 0.0, 1.0], [-INF, -INF, -INF, -INF],
        [2.0, 2.0, 1.0, 2.0], [0.0, -0.0, 0.0, -0.0], [-0.0, -0.0, -0.0, -0.0], [huge, huge, 1.0, -1.0],
        [huge, -huge, 1.0, 2.0], [denormal, denormal, 0.0, -denormal], [0.0, 3.0, INF, 2.0], [NAN, INF, -INF, 0.0],
        [1.0, 0.0, 2.0, 0.0], [1.0, 2.0, 3.0, 4.0],
    ]  # fmt: skip


def number(t, x):
    """x, but 0 for nan, which binary_cross_entropy refuses."""
    return t.where(t.isnan(x), t.zeros_like(x), x)


def f(t):
    return t.nn.functional


UNARY = {
    name: (lambda t, x, name=name: getattr(t, name)(x))
    for name in """erf exp exp2 expm1 log log1p log2 log10 sqrt rsqrt reciprocal square sin cos tan asin acos atan sinh
    cosh tanh sigmoid relu abs neg sign floor ceil round trunc""".split()
} | {
    "silu": lambda t, x: f(t).silu(x),
    "gelu": lambda t, x: f(t).gelu(x),
    "gelu tanh": lambda t, x: f(t).gelu(x, approximate="tanh"),
    "elu": lambda t, x: f(t).elu(x),
    "leaky_relu": lambda t, x: f(t).leaky_relu(x, 0.1),
    "softplus": lambda t, x: f(t).softplus(x),
    "logsigmoid": lambda t, x: f(t).logsigmoid(x),
    "hardtanh": lambda t, x: f(t).hardtanh(x),
    "threshold": lambda t, x: f(t).threshold(x, 0.5, -3.0),
    "clamp": lambda t, x: x.clamp(-1.0, 2.0),
    "clamp below": lambda t, x: x.clamp(min=0.5),
    "pow 0": lambda t, x: x**0,
    "pow 2": lambda t, x: x**2,
    "pow 3": lambda t, x: x**3,
    "pow 0.5": lambda t, x: x**0.5,
    "pow -1": lambda t, x: x**-1,
    "pow of 2": lambda t, x: 2.0**x,
    "pow of 0": lambda t, x: 0.0**x,
    "divided by": lambda t, x: 1 / x,
}

BINARY = {
    name: (lambda t, a, b, name=name: getattr(t, name)(a, b))
    for name in "add sub mul div pow maximum minimum atan2 remainder fmod".split()
} | {
    "where": lambda t, a, b: t.where(a > b, a, b),
    "mse_loss": lambda t, a, b: f(t).mse_loss(a, b, reduction="none"),
    "l1_loss": lambda t, a, b: f(t).l1_loss(a, b, reduction="none"),
    "smooth_l1_loss": lambda t, a, b: f(t).smooth_l1_loss(a, b, reduction="none"),
    "huber_loss": lambda t, a, b: f(t).huber_loss(a, b, reduction="none", delta=1.5),
    "binary_cross_entropy_with_logits": lambda t, a, b: f(t).binary_cross_entropy_with_logits(
        a, b.detach().clamp(0, 1), reduction="none"
    ),
    "binary_cross_entropy": lambda t, a, b: f(t).binary_cross_entropy(
        t.sigmoid(number(t, a)), number(t, b.detach()).clamp(0, 1), reduction="none"
    ),
    "kl_div": lambda t, a, b: f(t).kl_div(a, b.detach(), reduction="none"),
}

REDUCING = {
    "sum": lambda t, x: x.sum(1),
    "mean": lambda t, x: x.mean(1),
    "prod": lambda t, x: x.prod(1),
    "amax": lambda t, x: x.amax(1),
    "amin": lambda t, x: x.amin(1),
    "max": lambda t, x: t.max(x, 1)[0],
    "min": lambda t, x: t.min(x, 1)[0],
    "median": lambda t, x: t.median(x, 1)[0],
    "logsumexp": lambda t, x: t.logsumexp(x, 1),
    "var": lambda t, x: x.var(1),
    "std": lambda t, x: x.std(1),
    "norm": lambda t, x: t.norm(x, dim=1),
    "norm 1": lambda t, x: t.norm(x, p=1, dim=1),
    "norm inf": lambda t, x: t.norm(x, p=INF, dim=1),
    "softmax": lambda t, x: t.softmax(x, 1),
    "log_softmax": lambda t, x: t.log_softmax(x, 1),
    "cumsum": lambda t, x: t.cumsum(x, 1),
    "cumprod": lambda t, x: t.cumprod(x, 1),
    "sort": lambda t, x: t.sort(x, dim=1)[0],
    "cross_entropy": lambda t, x: f(t).cross_entropy(x, t.tensor([2] * len(x)), reduction="none"),
    "nll_loss": lambda t, x: f(t).nll_loss(x, t.tensor([1] * len(x)), reduction="none"),
    "max_pool2d": lambda t, x: f(t).max_pool2d(x.reshape(-1, 1, 2, 2), 2),
    "avg_pool2d": lambda t, x: f(t).avg_pool2d(x.reshape(-1, 1, 2, 2), 2),
    "matmul": lambda t, x: x @ t.tensor([[0.0], [1.0], [-1.0], [2.0]], dtype=x.dtype),
    "layer_norm": lambda t, x: f(t).layer_norm(x, (4,)),
    "batch_norm": lambda t, x: f(t).batch_norm(x.t(), None, None, training=True).t(),
    "group_norm": lambda t, x: f(t).group_norm(x, 2),
    "max of all": lambda t, x: t.stack([t.max(row) for row in x]),
    "min of all": lambda t, x: t.stack([t.min(row) for row in x]),
    "median of all": lambda t, x: t.stack([t.median(row) for row in x]),
    "adaptive_avg_pool2d": lambda t, x: f(t).adaptive_avg_pool2d(x.reshape(-1, 1, 2, 2), 1),
    "adaptive_max_pool2d": lambda t, x: f(t).adaptive_max_pool2d(x.reshape(-1, 1, 2, 2), 1),
    "all": lambda t, x: x.all(1),
    "any": lambda t, x: x.any(1),
    "count_nonzero": lambda t, x: t.count_nonzero(x, dim=1),
    "argmax": lambda t, x: x.argmax(1),
    "isfinite": lambda t, x: t.isfinite(x),
    "isnan": lambda t, x: t.isnan(x),
}

GROUPS = {"unary": (UNARY, SEEDS), "binary": (BINARY, (1.0, 0.0)), "reducing": (REDUCING, (1.0, 0.0))}
OPERANDS = {"unary": lambda dtype: [numbers(dtype)], "binary": pairs, "reducing": lambda dtype: [lines(dtype)]}


def results(t, group, name, dtype):
    """What comes out, and for each seed the gradients of all operands, as lists."""
    function, seeds = GROUPS[group][0][name], GROUPS[group][1]
    kind = getattr(t, dtype)
    found = {}
    for seed in seeds:
        leaves = [t.tensor(x, dtype=kind, requires_grad=True) for x in OPERANDS[group](dtype)]
        y = function(t, *leaves)
        if y.requires_grad:
            y.backward(t.full(tuple(y.shape), seed, dtype=kind))
            found[f"gradients of {seed}"] = [None if x.grad is None else x.grad.reshape(-1).tolist() for x in leaves]
        found["y"] = [float(number) for number in y.detach().reshape(-1).tolist()]
    return found


CASES = [(group, name, dtype) for group, (functions, _) in GROUPS.items() for name in functions for dtype in LIMITS]


def shortest(x, dtype):
    """A number of this dtype with as few digits as tell it apart; -0.0, nan and infinities as they are."""
    if isinstance(x, list):
        return [shortest(part, dtype) for part in x]
    return x if x is None or not np.isfinite(x) else float(str(np.dtype(dtype).type(x)))


def record():
    import torch

    table = {}
    for group, name, dtype in CASES:
        found = results(torch, group, name, dtype)
        table["/".join((group, name, dtype))] = {what: shortest(x, dtype) for what, x in found.items()}
    entries = [f"{json.dumps(key)}: {json.dumps(value)}" for key, value in table.items()]
    entries.insert(0, f'"torch": "{torch.__version__.partition("+")[0]}"')
    RECORD.write_text("{" + ",\n".join(entries) + "}\n", encoding="utf-8")


if __name__ == "__main__":
    warnings.simplefilter("ignore")
    sys.exit(record())
