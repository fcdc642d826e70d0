"""Arithmetic, elementary functions, reductions and softmax on vectors of 10 to 10⁶ numbers, here and in PyTorch.

    python benchmarks/elementwise_vs_torch.py [--sizes 10 100 ...] [--only add exp ...] [--seconds 0.1] [--core 0]

Both libraries are called through their public API, on one thread of one core, in one process and in turn; a time is the
least of many. Forward is a call under `no_grad`; with backward, a call whose operands require gradients, and `backward`
of its result. What is compared is first compared for equality.

PyTorch appears twice. As installed, glibc gives large freed blocks back to the system at once, and every large result
pays for fresh pages; in the second column of ratios environment variables tell glibc to keep them. The last table
sets the largest sizes against the machine: the time that moving the operands and results takes at the bandwidth
measured beside it, over ours.
"""

import argparse
import json
import math
import os
import subprocess
import sys
from collections.abc import Callable
from time import perf_counter
from typing import Any

import limits
import numpy as np
from environments import KEEP_MEMORY, environment

WORK: dict[str, tuple[int, Callable[..., Any]]] = {
    "add": (2, lambda lib, a, b: a + b),
    "mul": (2, lambda lib, a, b: a * b),
    "div": (2, lambda lib, a, b: a / b),
    "exp": (1, lambda lib, a: lib.exp(a)),
    "log": (1, lambda lib, a: lib.log(a)),
    "tanh": (1, lambda lib, a: lib.tanh(a)),
    "sigmoid": (1, lambda lib, a: lib.sigmoid(a)),
    "relu": (1, lambda lib, a: lib.relu(a)),
    "sum": (1, lambda lib, a: a.sum()),
    "mean": (1, lambda lib, a: a.mean()),
    "max": (1, lambda lib, a: a.max()),
    "softmax": (1, lambda lib, a: lib.softmax(a, 0)),
    "log_softmax": (1, lambda lib, a: lib.log_softmax(a, 0)),
}
"""For each name the number of operands, and the call."""
LIMITS_FROM = 100_000
DIRECTIONS = ("forward", "with backward")


def workload(library: Any, name: str, n: int, direction: str) -> Callable[[], tuple[Any, ...]]:
    """A call that does the work once, giving the result and the gradients."""
    n_operands, function = WORK[name]
    random = np.random.default_rng(0)
    operands = [library.tensor(random.uniform(0.1, 2, n).astype(np.float32)) for _ in range(n_operands)]
    if direction == "forward":
        return lambda: (function(library, *operands),)
    g = library.ones_like(function(library, *operands))
    for operand in operands:
        operand.requires_grad_()

    def both() -> tuple[Any, ...]:
        for operand in operands:
            operand.grad = None
        y = function(library, *operands)
        y.backward(g)
        return y.detach(), *[operand.grad for operand in operands]

    return both


def least_times(calls: list[Callable[[], Any]], seconds: float) -> list[float]:
    """The least time of a call of each in microseconds, in turn for so many seconds. Short calls are timed together."""
    repeats = []
    for call in calls:
        call()
        before = perf_counter()
        call()
        repeats.append(max(1, min(100, math.ceil(50e-6 / (perf_counter() - before)))))
    least = [math.inf] * len(calls)
    started, rounds = perf_counter(), 0
    while perf_counter() - started < seconds or rounds < 5:
        for i, call in enumerate(calls):
            before = perf_counter()
            for _ in range(repeats[i]):
                call()
            least[i] = min(least[i], (perf_counter() - before) / repeats[i])
        rounds += 1
    return [1e6 * t for t in least]


def compare(name: str, n: int, direction: str, seconds: float) -> list[float]:
    """Microseconds of this library and of PyTorch, after comparing what they give."""
    import torch

    import scalargrad

    torch.set_num_threads(1)
    scalargrad.set_num_threads(1)
    with (
        torch.no_grad() if direction == "forward" else torch.enable_grad(),
        scalargrad.no_grad() if direction == "forward" else scalargrad.enable_grad(),
    ):
        calls = [workload(library, name, n, direction) for library in (scalargrad, torch)]
        for ours, theirs in zip(*[call() for call in calls], strict=True):
            np.testing.assert_allclose(ours.numpy(), theirs.numpy(), rtol=1e-4, atol=1e-5)
        return least_times(calls, seconds)


def worker(core: int, seconds: float, names: list[str], sizes: list[int]) -> None:
    """Prints a line of JSON for each comparison: its name, size and direction, and the two times."""
    if hasattr(os, "sched_setaffinity"):
        os.sched_setaffinity(0, {core})
    for direction in DIRECTIONS:
        for name in names:
            for n in sizes:
                print(json.dumps([name, n, direction, *compare(name, n, direction, seconds)]), flush=True)


def measured(settings: dict[str, str], arguments: argparse.Namespace) -> dict[tuple[str, int, str], list[float]]:
    """All comparisons, in a process of their own."""
    task = json.dumps([arguments.core, arguments.seconds, arguments.only, arguments.sizes])
    done = subprocess.run(
        [sys.executable, __file__, "--worker", task],
        env=environment(settings),
        stdout=subprocess.PIPE,
        text=True,
        check=True,
    )
    lines = map(json.loads, done.stdout.splitlines())
    return {(name, n, direction): times for name, n, direction, *times in lines}


def share_of_bandwidth(name: str, n: int, time_us: float) -> float:
    """The time in which this core can move a forward call's operands and result, over the time of the call."""
    reduces = name in ("sum", "mean", "max")
    n_bytes = 4 * n * (WORK[name][0] + (not reduces))
    return n_bytes / limits.bandwidth(n_bytes, "read" if reduces else "copy") / time_us * 1e6


def main() -> None:
    """Measure, and print the tables."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--sizes", type=int, nargs="+", default=[10**k for k in range(1, 7)], metavar="N")
    parser.add_argument("--only", nargs="+", choices=list(WORK), default=list(WORK))
    parser.add_argument("--seconds", type=float, default=0.1, help="how long each pair is measured")
    parser.add_argument("--core", type=int, default=0, help="which of this process's cores to stay on")
    arguments = parser.parse_args()
    if hasattr(os, "sched_setaffinity"):
        arguments.core = sorted(os.sched_getaffinity(0))[arguments.core]
        os.sched_setaffinity(0, {arguments.core})
    load = f", load {os.getloadavg()[0]:.1f} at the start" if hasattr(os, "getloadavg") else ""
    print(f"{limits.machine()}{load}")
    print("Each cell: µs here, PyTorch ÷ here, PyTorch with its memory kept ÷ here with the same setting.")
    as_installed, kept = measured({}, arguments), measured(KEEP_MEMORY, arguments)
    for direction in DIRECTIONS:
        print(f"\n| {direction} | {' | '.join(f'{n:,}' for n in arguments.sizes)} |")
        print("|---|" + "--:|" * len(arguments.sizes))
        for name in arguments.only:
            cells = []
            for n in arguments.sizes:
                (ours, theirs), (ours_kept, theirs_kept) = (times[name, n, direction] for times in (as_installed, kept))
                cells.append(f"{ours:,.3g} · {theirs / ours:.2f} · {theirs_kept / ours_kept:.2f}")
            print(f"| {name} | {' | '.join(cells)} |")
    sizes = [n for n in arguments.sizes if n >= LIMITS_FROM]
    if sizes:
        print(f"\n| forward, share of the bandwidth | {' | '.join(f'{n:,}' for n in sizes)} |")
        print("|---|" + "--:|" * len(sizes))
        for name in arguments.only:
            shares = [f"{100 * share_of_bandwidth(name, n, as_installed[name, n, 'forward'][0]):.0f} %" for n in sizes]
            print(f"| {name} | {' | '.join(shares)} |")


if __name__ == "__main__":
    if sys.argv[1:2] == ["--worker"]:
        worker(*json.loads(sys.argv[2]))
    else:
        main()
