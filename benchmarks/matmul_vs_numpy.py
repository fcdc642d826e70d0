"""Matrix products through the public call, in scalargrad, in NumPy (OpenBLAS) and in PyTorch (MKL).

    python benchmarks/matmul_vs_numpy.py [--only square linear vector] [--dtypes float32 float64] [--sizes 16 32 ...]
                                         [--batches 1 16 64 256 1024] [--threads 1] [--avx2] [--seconds 0.2]

`square` is matmul of n × n matrices; `linear` what a fully connected layer computes, forward and for both gradients;
`vector` what touches each number of a matrix once, which memory limits. scalargrad computes under `no_grad`.

Each contestant is a process of its own, because thread pools in one process disturb each other, pinned to the same
cores. They take short turns on each product, five each, and a time is the shortest of all, because what else the
machine does only ever adds time. The results are compared. glibc is told to keep freed memory, which spares NumPy and
PyTorch fresh pages at every large result (ours come from the kernels' own pool). NumPy appears twice: with the kernels
that its OpenBLAS chooses, of AVX-512 where the processor has it, and held to those of AVX2. The limits, the peak of
multiply-adds and the bandwidth for data of this size, are measured between the turns. The tables are Markdown.
"""

import argparse
import json
import math
import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from importlib.util import find_spec
from itertools import repeat
from time import perf_counter
from typing import Any, NamedTuple

import numpy as np
from environments import KEEP_MEMORY, ONLY_AVX2, environment
from limits import bandwidth, machine, peak_flops

CONTESTANTS = {"scalargrad": {}, "numpy": {}, "numpy, AVX2": ONLY_AVX2, "torch": {}}
TURNS = 5
SQUARES = [16, 32, 64, 96, 128, 256, 512, 1024, 2048]
LAYERS = [(576, 120), (120, 84), (84, 10), (784, 256), (1024, 1024)]
VECTORS = [64, 256, 512, 1024, 4096]
OF_VECTORS = ("A @ v", "Aᵀ @ v", "v @ A", "outer", "dot")


class Product(NamedTuple):
    """M × K by K × N, and what the operands are."""

    kind: str
    M: int
    K: int
    N: int

    def flop(self) -> int:
        return 2 * self.M * self.K * self.N

    def numbers(self) -> int:
        """Numbers read and written, each once."""
        return self.M * self.K + self.K * self.N + self.M * self.N


def operands(product: Product, dtype: str) -> list[np.ndarray]:
    """Operands of a product of this kind, as they lie in memory where it occurs."""
    kind, M, K, N = product
    random = np.random.default_rng(0)
    a, b = (random.standard_normal(size, dtype=dtype) for size in ((M, K), (K, N)))
    at, bt = (np.ascontiguousarray(x.T).T for x in (a, b))
    if kind == "linear":
        return [a, bt.T, random.standard_normal(N, dtype=dtype)]
    if kind == "weight gradient":
        return [at, b]
    if kind in OF_VECTORS:
        left = a[0] if kind in ("dot", "v @ A") else at if kind == "Aᵀ @ v" else a
        return [left, b[:, 0].copy() if kind in ("dot", "A @ v", "Aᵀ @ v") else b]
    return [a, b]


def prepared(library: str, product: Product, dtype: str) -> Callable[[], Any]:
    """The public call, its operands bound."""
    arrays = operands(product, dtype)
    if library == "numpy":
        if product.kind == "linear":
            x, w, bias = arrays
            return lambda: x @ w.T + bias
        return lambda: np.matmul(*arrays)
    if library == "torch":
        import torch

        return bound(torch, product, [torch.from_numpy(x) for x in arrays])
    import scalargrad

    return bound(scalargrad, product, [scalargrad.from_numpy(x) for x in arrays])


def bound(library: Any, product: Product, tensors: list[Any]) -> Callable[[], Any]:
    if product.kind == "linear":
        linear = library.nn.functional.linear
        x, w, bias = tensors
        return lambda: linear(x, w, bias)
    matmul = library.matmul
    a, b = tensors
    return lambda: matmul(a, b)


def work(library: str, n_threads: int) -> None:
    """Answer each line of the input, a product, with the shortest time of a call and the sum of the result."""
    with ExitStack() as stack:
        if library != "numpy":
            module = __import__(library, fromlist=["nn"])
            __import__(f"{library}.nn.functional")
            module.set_num_threads(n_threads)
            stack.enter_context(module.no_grad())
        last, call = "", None
        for line in sys.stdin:
            kind, M, K, N, dtype, seconds = json.loads(line)
            if line != last:
                last, call = line, prepared(library, Product(kind, M, K, N), dtype)
            print(
                json.dumps([shortest(call, seconds), float(np.abs(np.asarray(call())).sum(dtype=np.float64))]),
                flush=True,
            )


def shortest(call: Callable[[], Any], seconds: float) -> float:
    """The shortest mean time of a handful of calls, of as many handfuls as fit."""
    call()
    started = perf_counter()
    call()
    handful = max(1, int(3e-5 / (perf_counter() - started)))
    best = math.inf
    ends = perf_counter() + seconds
    while (before := perf_counter()) < ends or best == math.inf:
        for _ in repeat(None, handful):
            call()
        best = min(best, (perf_counter() - before) / handful)
    return best


class Contestant:
    """A process that computes with one library."""

    def __init__(self, library: str, n_threads: int, settings: dict[str, str]) -> None:
        self.process = subprocess.Popen(
            [sys.executable, __file__, "--worker", library, str(n_threads)],
            env=environment(KEEP_MEMORY, settings, n_threads=n_threads),
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )

    def turn(self, product: Product, dtype: str, seconds: float) -> tuple[float, float]:
        """The shortest time of a call, and the sum of the result."""
        self.process.stdin.write(json.dumps([*product, dtype, seconds]) + "\n")
        self.process.stdin.flush()
        return tuple(json.loads(self.process.stdout.readline()))


def measured(contestants: dict[str, Contestant], product: Product, dtype: str, seconds: float) -> dict[str, float]:
    """The shortest time of each, and under `limit` the operations or bytes a second that are possible here."""
    times = dict.fromkeys(contestants, math.inf)
    n_bytes = product.numbers() * np.dtype(dtype).itemsize
    limit, sums = 0.0, set()
    for _ in range(TURNS):
        for name, contestant in contestants.items():
            time, total = contestant.turn(product, dtype, seconds / TURNS)
            times[name] = min(times[name], time)
            sums.add(total)
        if product.kind in OF_VECTORS:
            limit = max(limit, bandwidth(n_bytes, "write" if product.kind == "outer" else "read"))
        else:
            limit = max(limit, peak_flops(dtype))
    if max(sums) - min(sums) > 1e-3 * max(sums):
        raise SystemExit(f"the contestants did not compute the same {product}: {sorted(sums)}")
    return {**times, "limit": limit}


def products(
    sections: list[str], sizes: list[int], batches: list[int]
) -> Iterator[tuple[str, list[tuple[str, Product]]]]:
    """The tables' titles, with their lines: a name and a product each."""
    if "square" in sections:
        yield "n × n", [(str(n), Product("matmul", n, n, n)) for n in sizes]
    if "linear" in sections:
        for kind in ("linear", "input gradient", "weight gradient"):
            lines = []
            for B in batches:
                for K, M in LAYERS:
                    shape = {"linear": (B, K, M), "input gradient": (B, M, K), "weight gradient": (M, B, K)}[kind]
                    lines.append((f"{B} × {K} → {M}", Product(kind, *shape)))
            yield f"{kind}, batch × in → out", lines
    if "vector" in sections:
        for kind in OF_VECTORS[:4]:
            shapes = {"v @ A": lambda n: (1, n, n), "outer": lambda n: (n, 1, n)}.get(kind, lambda n: (n, n, 1))
            yield f"{kind}, n × n", [(str(n), Product(kind, *shapes(n))) for n in VECTORS]
        yield "dot, n", [(str(n * n), Product("dot", 1, n * n, 1)) for n in VECTORS]


def main() -> None:
    """Measure every product, and print the tables."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    sections = ["square", "linear", "vector"]
    parser.add_argument("--only", nargs="+", choices=sections, default=sections)
    parser.add_argument("--dtypes", nargs="+", choices=["float32", "float64"], default=["float32", "float64"])
    parser.add_argument("--sizes", type=int, nargs="+", default=SQUARES, metavar="N")
    parser.add_argument("--batches", type=int, nargs="+", default=[1, 16, 64, 256, 1024], metavar="B")
    parser.add_argument("--threads", type=int, default=1, metavar="N")
    parser.add_argument("--avx2", action="store_true", help="keep all of them to AVX2")
    parser.add_argument("--seconds", type=float, default=0.2, help="how long a contestant works on each product")
    arguments = parser.parse_args()
    if hasattr(os, "sched_setaffinity"):
        os.sched_setaffinity(0, sorted(os.sched_getaffinity(0))[: arguments.threads])
    contestants = {
        name: Contestant(library, arguments.threads, ONLY_AVX2 if arguments.avx2 else settings)
        for name, settings in CONTESTANTS.items()
        if find_spec(library := name.split(",")[0]) and not (arguments.avx2 and "AVX2" in name)
    }
    names = list(contestants)
    print(f"{machine()}\n\nµs a call, the shortest; {arguments.threads} thread(s){', AVX2' if arguments.avx2 else ''}")
    for dtype in arguments.dtypes:
        for title, lines in products(arguments.only, arguments.sizes, arguments.batches):
            by_memory = lines[0][1].kind in OF_VECTORS
            rate, limit = ("GB/s", "bandwidth") if by_memory else ("GFLOP/s", "peak")
            ratios = [f"{name} ÷ scalargrad" for name in names[1:]]
            columns = [f"{title}, {dtype}", *names, *ratios, f"our {rate}", f"of a core's {limit}"]
            print(f"\n| {' | '.join(columns)} |\n{'|--:' * len(columns)}|", flush=True)
            for line, product in lines:
                result = measured(contestants, product, dtype, arguments.seconds)
                ours = result["scalargrad"]
                done = product.numbers() * np.dtype(dtype).itemsize if by_memory else product.flop()
                cells = [line, *(f"{result[name] * 1e6:,.2f}" for name in names)]
                cells += [f"{result[name] / ours:.2f}" for name in names[1:]]
                cells += [f"{done / ours / 1e9:.1f}", f"{done / ours / result['limit']:.0%}"]
                print(f"| {' | '.join(cells)} |", flush=True)


if __name__ == "__main__":
    if sys.argv[1:2] == ["--worker"]:
        work(sys.argv[2], int(sys.argv[3]))
    else:
        main()
