"""Calls of every kernel of the contract above the size from which it divides its work among threads.

Run as a script, it names the calls for which no thread was started.
"""

import os
import sys
from functools import partial
from typing import Any

import numpy as np

from scalargrad import kernels

OF_ONE = "erf exp expm1 log log1p sigmoid tanh".split()
ACTIVATIONS = {
    "leaky_relu": (0.3,), "elu": (1.3,), "softplus": (2.0, 1.5), "log_sigmoid": (), "silu": (), "gelu": (),
    "gelu_tanh": (), "hardtanh": (-0.7, 0.4),
}  # fmt: skip
OF_ONE_AND_CHEAP = "absolute neg relu sign sqrt".split()
OF_TWO = "add div eq ge gt le lt maximum minimum mul ne relu_grad sub".split()
REDUCTIONS = "max_over mean_over min_over sum_over".split()
ONES = (1, 1)
SAME = (ONES, ONES, ONES, 1)
HALVES = ((2, 2), (2, 2), (0, 0), ONES, False)
THIRDS = ((3, 3), (2, 2), ONES, ONES, False)


def accumulated(k: Any, y: np.ndarray, x: np.ndarray) -> np.ndarray:
    y = y.copy()
    k.accumulate(y, x)
    return y


def plain_step(k: Any, maps: np.ndarray) -> np.ndarray:
    params = [maps.ravel().copy(), maps[0, 0].copy()]
    k.sgd_step(
        params, [maps.ravel() * 2, maps[0, 1]], None, lr=0.1, momentum=0, dampening=0, weight_decay=0.1,
        nesterov=False, maximize=False, first=True,
    )  # fmt: skip
    return np.concatenate([p.ravel() for p in params])


def calls_of_every_kernel(k: Any, draw: Any) -> dict[str, Any]:
    """Calls above the size from which each kernel uses threads, whose shares end within vectors and blocks."""
    a, b, row, column = draw(811, 643), draw(811, 643), draw(643), draw(811, 1)
    scores, weight, one = np.abs(draw(1031, 97)) + 1, np.abs(draw(97)), np.ones((), a.dtype)
    target = np.arange(1031) % 97
    target[::5] = -100
    x, w, bias = draw(37, 3, 34, 33), draw(6, 3, 5, 5), draw(6)
    maps, g = draw(3, 35, 90, 70), draw(3, 35, 45, 35)
    y, offsets = k.conv2d_relu_max_pool2d(x, w, bias, *SAME, *HALVES)
    max_offsets, positions = k.max_pool2d(maps, *THIRDS)[1], k.adaptive_max_pool2d(maps, (45, 35))[1]
    calls = {name: partial(getattr(k, name), scores) for name in OF_ONE}
    calls |= {name: partial(getattr(k, name), a) for name in OF_ONE_AND_CHEAP}
    calls |= {name: partial(getattr(k, name), a, b) for name in OF_TWO}
    for name, parameters in ACTIVATIONS.items():
        calls[name] = partial(getattr(k, name), a, *parameters)
        calls[f"{name}_grad"] = partial(getattr(k, f"{name}_grad"), b, a, *parameters)
    calls |= {f"{name} of a row": partial(getattr(k, name), a, row) for name in ("add", "mul")}
    calls |= {f"{name} of a column": partial(getattr(k, name), column, a) for name in ("sub", "div")}
    places, one_place = np.abs(a * 1e6).astype(np.int64) % 811, np.abs(column[:, 0] * 1e6).astype(np.int64) % 811
    calls |= {
        "gather": lambda: k.gather(a, 0, places),
        "scatter_add": lambda: k.scatter_add(a.copy(), 0, places, b),
        "scatter_add of blocks": lambda: k.scatter_add(maps.copy(), 2, np.abs(maps * 1e6).astype(np.int64) % 90, maps),
        "index_add": lambda: k.index_add(a.copy(), 0, one_place, b),
    }
    calls["contiguous"] = lambda: k.contiguous(maps.transpose(2, 0, 3, 1))
    calls |= {"power": lambda: k.power(a, 3), "accumulate": lambda: accumulated(k, a, b)}
    for name in REDUCTIONS:
        for dims in (None, (0,), (1,)):
            calls[f"{name} {dims}"] = partial(getattr(k, name), a, dims, False)
        calls[f"{name} of the middle"] = partial(getattr(k, name), maps, (0, 2, 3), False)
    calls["spread_over"] = lambda: k.spread_over(row, a.shape, (0,), False)
    calls["spread_over columns"] = lambda: k.spread_over(column, a.shape, (1,), True)
    calls["sum_to_size"] = lambda: k.sum_to_size(a, (643,))
    for axis in (0, 1):
        for name in ("softmax", "log_softmax"):
            calls[f"{name} {axis}"] = partial(getattr(k, name), scores, axis)
            y_of_it = getattr(k, name)(scores, axis)
            calls[f"{name}_grad {axis}"] = partial(getattr(k, f"{name}_grad"), scores, y_of_it, axis)
    for kind, (x_of_it, groups) in {
        "of rows": (a, 1), "of groups": (maps, 5), "of columns": (a, 0), "of planes": (maps, 0),
        "of few positions": (maps.reshape(945, 100, 7), 0), "of groups of columns": (maps.reshape(945, 700), 7),
    }.items():  # fmt: skip
        each = x_of_it[0].reshape(x_of_it.shape[1], -1)[:, 0].copy()
        about = each, each, (1, 2)
        _, mean, variance, rate = k.normalize(x_of_it, *about, groups, 0.1)
        calls[f"normalize {kind}"] = partial(k.normalize, x_of_it, *about, groups, 0.1)
        calls[f"normalize_grads {kind}"] = partial(
            k.normalize_grads, 2 * x_of_it, x_of_it, each, mean, rate, (1, 2), groups, 7
        )
        if groups == 0:
            constants = mean.ravel(), variance.ravel()
            calls[f"normalize_by {kind}"] = partial(k.normalize_by, x_of_it, each, each, *constants, (1, 2), 0.1)
            calls[f"normalize_by_grads {kind}"] = partial(
                k.normalize_by_grads, 2 * x_of_it, x_of_it, each, mean, rate, (1, 2), 7
            )
    for reduction in ("none", "sum", "mean"):
        options = (-100, reduction, 0.1)
        loss, log_p, total = k.cross_entropy(scores, target, weight, *options)
        loss_g = one if reduction != "none" else draw(*loss.shape)
        calls[f"cross_entropy {reduction}"] = partial(k.cross_entropy, scores, target, weight, *options)
        calls[f"cross_entropy_grad {reduction}"] = partial(
            k.cross_entropy_grad, loss_g, log_p, target, weight, *options, total
        )
    calls |= {
        "conv2d_relu_max_pool2d": lambda: k.conv2d_relu_max_pool2d(x, w, bias, *SAME, *HALVES),
        "conv2d_relu_max_pool2d_grads": lambda: k.conv2d_relu_max_pool2d_grads(
            y, offsets, x, w, *SAME, *HALVES, True, True, True
        ),
        "relu_max_pool2d": lambda: k.relu_max_pool2d(maps, *THIRDS),
        "max_pool2d_take": lambda: k.max_pool2d_take(maps, max_offsets, *THIRDS[:4]),
        "avg_pool2d_input_grad": lambda: k.avg_pool2d_input_grad(g, maps.shape, *THIRDS[:3], False, False, None),
        "adaptive_avg_pool2d": lambda: k.adaptive_avg_pool2d(maps, (31, 32)),
        "adaptive_avg_pool2d_input_grad": lambda: k.adaptive_avg_pool2d_input_grad(g, maps.shape),
        "adaptive_max_pool2d": lambda: k.adaptive_max_pool2d(maps, (31, 32)),
        "adaptive_max_pool2d_input_grad": lambda: k.adaptive_max_pool2d_input_grad(g, positions, maps.shape),
        "sgd_step without momentum": lambda: plain_step(k, maps),
    }
    return calls


def bits(result: Any) -> list[bytes]:
    """The bytes of a kernel's results, in whatever tuple they come."""
    results = result if isinstance(result, tuple) else (result,)
    return [np.asarray(one).tobytes() for one in results]


def undivided() -> list[str]:
    """The calls that start no thread: each is made in a child of its own, which has none at first."""
    generator = np.random.default_rng(1)
    every = calls_of_every_kernel(kernels, lambda *shape: generator.standard_normal(shape).astype(np.float32))
    idle = []
    for name, call in every.items():
        child = os.fork()
        if child == 0:
            kernels.set_num_threads(2)
            call()
            os._exit(len(os.listdir("/proc/self/task")) == 1)
        if os.waitpid(child, 0)[1]:
            idle.append(name)
    return idle


if __name__ == "__main__":
    sys.stdout.write(", ".join(undivided()))
