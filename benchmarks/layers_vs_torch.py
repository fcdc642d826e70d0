"""Activations, normalisation, losses and choosing by index, on small and large matrices, here and in PyTorch.

    python benchmarks/layers_vs_torch.py [--sizes 2x8 64x512 512x1024] [--only gelu layer_norm ...] [--seconds 0.1]

Through the public API, on one thread of one core, in one process and in turn; a time is the least of many. Forward is a
call under `no_grad`; with backward, a call whose operands require gradients, and `backward` of its result. What is
compared is first compared for equality. `--keep-memory` tells glibc to keep freed memory, for both.
"""

import argparse
import json
import os
import subprocess
import sys
from collections.abc import Callable
from typing import Any

import limits
import numpy as np
from elementwise_vs_torch import DIRECTIONS, least_times
from environments import KEEP_MEMORY, environment

Sizes = tuple[int, int]


class Operands:
    """What the work is done on, for one library: `matrix()`, `row()` and `column()` want gradients, the rest do not."""

    def __init__(self, library: Any, sizes: Sizes) -> None:
        self.library, self.sizes, self.random = library, sizes, np.random.default_rng(0)
        self.learned: list[Any] = []

    def numbers(self, *shape: int, low: float = -2.0, high: float = 2.0) -> Any:
        return self.library.tensor(self.random.uniform(low, high, shape).astype(np.float32))

    def matrix(self, low: float = -2.0, high: float = 2.0) -> Any:
        return self._learned(self.numbers(*self.sizes, low=low, high=high))

    def row(self) -> Any:
        return self._learned(self.numbers(self.sizes[1]))

    def images(self) -> Any:
        """As many numbers as the matrix has, of 8 channels or more."""
        return self._learned(self.numbers(self.sizes[0], self.sizes[1] // 8, 2, 4))

    def channels(self) -> Any:
        return self._learned(self.numbers(self.sizes[1] // 8))

    def places(self, n: int, *shape: int) -> Any:
        return self.library.tensor(self.random.integers(0, n, shape))

    def _learned(self, x: Any) -> Any:
        self.learned.append(x)
        return x


def _activation(name: str, **options: Any) -> Callable[[Any, Operands], Callable[[], Any]]:
    def prepared(F: Any, o: Operands) -> Callable[[], Any]:
        x = o.matrix()
        return lambda: getattr(F, name)(x, **options)

    return prepared


def _batch_norm(F: Any, o: Operands) -> Callable[[], Any]:
    x, w, b = o.matrix(), o.row(), o.row()
    return lambda: F.batch_norm(x, None, None, w, b, training=True)


def _batch_norm2d(F: Any, o: Operands) -> Callable[[], Any]:
    x, w, b = o.images(), o.channels(), o.channels()
    return lambda: F.batch_norm(x, None, None, w, b, training=True)


def _batch_norm_by_constants(F: Any, o: Operands) -> Callable[[], Any]:
    x, w, b = o.images(), o.channels(), o.channels()
    mean, variance = o.numbers(o.sizes[1] // 8), o.numbers(o.sizes[1] // 8, low=0.5)
    return lambda: F.batch_norm(x, mean, variance, w, b, training=False)


def _layer_norm(F: Any, o: Operands) -> Callable[[], Any]:
    x, w, b = o.matrix(), o.row(), o.row()
    return lambda: F.layer_norm(x, (o.sizes[1],), w, b)


def _group_norm(F: Any, o: Operands) -> Callable[[], Any]:
    x, w, b = o.images(), o.channels(), o.channels()
    return lambda: F.group_norm(x, 1 if o.sizes[1] < 32 else 4, w, b)


def _loss(name: str, low: float = -2.0, high: float = 2.0) -> Callable[[Any, Operands], Callable[[], Any]]:
    def prepared(F: Any, o: Operands) -> Callable[[], Any]:
        x, target = o.matrix(low, high), o.numbers(*o.sizes, low=0.0, high=1.0)
        return lambda: getattr(F, name)(x, target)

    return prepared


def _embedding(F: Any, o: Operands) -> Callable[[], Any]:
    table, places = o.matrix(), o.places(o.sizes[0], o.sizes[0])
    return lambda: F.embedding(places, table)


def _gather(F: Any, o: Operands) -> Callable[[], Any]:
    x, places = o.matrix(), o.places(o.sizes[1], *o.sizes)
    return lambda: x.gather(1, places)


def _index_select(F: Any, o: Operands) -> Callable[[], Any]:
    x, places = o.matrix(), o.places(o.sizes[0], o.sizes[0])
    return lambda: x.index_select(0, places)


def _rows(F: Any, o: Operands) -> Callable[[], Any]:
    x, places = o.matrix(), o.places(o.sizes[0], o.sizes[0])
    return lambda: x[places]


def _cat(F: Any, o: Operands) -> Callable[[], Any]:
    x, y = o.matrix(), o.matrix()
    return lambda: o.library.cat([x, y], 1)


def _transposed(F: Any, o: Operands) -> Callable[[], Any]:
    x = o.matrix()
    return lambda: x.T.contiguous()


WORK: dict[str, Callable[[Any, Operands], Callable[[], Any]]] = {
    "leaky_relu": _activation("leaky_relu"),
    "elu": _activation("elu"),
    "softplus": _activation("softplus"),
    "silu": _activation("silu"),
    "gelu": _activation("gelu"),
    "gelu, tanh": _activation("gelu", approximate="tanh"),
    "batch_norm": _batch_norm,
    "batch_norm of images": _batch_norm2d,
    "the same in evaluation": _batch_norm_by_constants,
    "layer_norm": _layer_norm,
    "group_norm": _group_norm,
    "mse_loss": _loss("mse_loss"),
    "smooth_l1_loss": _loss("smooth_l1_loss"),
    "binary_cross_entropy": _loss("binary_cross_entropy", 0.05, 0.95),
    "with logits": _loss("binary_cross_entropy_with_logits"),
    "embedding": _embedding,
    "gather": _gather,
    "index_select": _index_select,
    "x[rows]": _rows,
    "cat": _cat,
    "x.T.contiguous()": _transposed,
}
"""For each name what prepares the operands and gives the call."""


def workload(library: Any, functional: Any, name: str, sizes: Sizes, direction: str) -> Callable[[], tuple[Any, ...]]:
    """A call that does the work once, giving the result and the gradients."""
    operands = Operands(library, sizes)
    call = WORK[name](functional, operands)
    if direction == "forward":
        return lambda: (call(),)
    g = operands.numbers(*call().shape)
    for x in operands.learned:
        x.requires_grad_()

    def both() -> tuple[Any, ...]:
        for x in operands.learned:
            x.grad = None
        y = call()
        y.backward(g)
        return y.detach(), *[x.grad for x in operands.learned]

    return both


def compare(name: str, sizes: Sizes, direction: str, seconds: float) -> list[float]:
    """Microseconds of this library and of PyTorch, after comparing what they give."""
    import torch

    import scalargrad

    torch.set_num_threads(1)
    scalargrad.set_num_threads(1)
    with (
        torch.no_grad() if direction == "forward" else torch.enable_grad(),
        scalargrad.no_grad() if direction == "forward" else scalargrad.enable_grad(),
    ):
        calls = [workload(lib, lib.nn.functional, name, sizes, direction) for lib in (scalargrad, torch)]
        for ours, theirs in zip(*[call() for call in calls], strict=True):
            ours, theirs = ours.numpy(), theirs.numpy()
            np.testing.assert_allclose(ours, theirs, rtol=1e-3, atol=1e-4 * np.abs(theirs).max())
        return least_times(calls, seconds)


def worker(core: int, seconds: float, names: list[str], sizes: list[Sizes]) -> None:
    """Prints a line of JSON for each comparison: its name, sizes and direction, and the two times."""
    if hasattr(os, "sched_setaffinity"):
        os.sched_setaffinity(0, {core})
    for direction in DIRECTIONS:
        for name in names:
            for each in sizes:
                print(json.dumps([name, each, direction, *compare(name, each, direction, seconds)]), flush=True)


def main() -> None:
    """Measure, and print the table."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--sizes", nargs="+", default=["2x8", "64x512", "512x1024"], metavar="ROWSxCOLUMNS")
    parser.add_argument("--only", nargs="+", choices=list(WORK), default=list(WORK))
    parser.add_argument("--seconds", type=float, default=0.1, help="how long each pair is measured")
    parser.add_argument("--core", type=int, default=0, help="which of this process's cores to stay on")
    parser.add_argument("--keep-memory", action="store_true", help="tell glibc to keep freed memory")
    arguments = parser.parse_args()
    if hasattr(os, "sched_setaffinity"):
        arguments.core = sorted(os.sched_getaffinity(0))[arguments.core]
        os.sched_setaffinity(0, {arguments.core})
    sizes = [tuple(map(int, text.split("x"))) for text in arguments.sizes]
    print(limits.machine())
    print("Each cell: µs here, PyTorch ÷ here.\n")
    done = subprocess.run(
        [sys.executable, __file__, "--worker", json.dumps([arguments.core, arguments.seconds, arguments.only, sizes])],
        env=environment(KEEP_MEMORY if arguments.keep_memory else {}),
        stdout=subprocess.PIPE,
        text=True,
        check=True,
    )
    times = {
        (name, tuple(each), direction): (ours, theirs)
        for name, each, direction, ours, theirs in map(json.loads, done.stdout.splitlines())
    }
    titles = [f"{' × '.join(map(str, each))}, {direction}" for each in sizes for direction in DIRECTIONS]
    print(f"| | {' | '.join(titles)} |")
    print("|---|" + "--:|" * len(titles))
    for name in arguments.only:
        cells = [times[name, each, direction] for each in sizes for direction in DIRECTIONS]
        print(f"| {name} | {' | '.join(f'{ours:,.3g} · {theirs / ours:.2f}' for ours, theirs in cells)} |")


if __name__ == "__main__":
    if sys.argv[1:2] == ["--worker"]:
        worker(*json.loads(sys.argv[2]))
    else:
        main()
