"""A step of each optimiser over all parameters, in scalargrad and in PyTorch.

    python benchmarks/optim_vs_torch.py [--rounds 30] [--cpu 0]

Parameters and gradients are those of LeNet (10 arrays, 81,194 numbers) or one array of 10⁶, in float32; the step is
called through the public API of both libraries, in turn, in one process on one core, and a figure is the median of the
rounds' best. PyTorch has up to three ways: a loop over the parameters, `foreach` and `fused`; the column is its best.
The limit is what moving the data costs: gradients are read, parameters and what is remembered are read and written.
"""

import argparse
import os
import statistics
from collections.abc import Callable
from time import perf_counter
from typing import Any

import numpy as np
import torch
from limits import bandwidth, machine

import scalargrad
from scalargrad import optim

SHAPES = {
    "LeNet": [(6, 1, 3, 3), (6,), (16, 6, 3, 3), (16,), (120, 576), (120,), (84, 120), (84,), (10, 84), (10,)],
    "10⁶": [(1_000_000,)],
}
# Name of the optimiser, its options, and how many arrays it remembers for each parameter.
STEPS: list[tuple[str, dict[str, Any], int]] = [
    ("SGD", {}, 0),
    ("SGD", {"momentum": 0.9, "weight_decay": 1e-4}, 1),
    ("Adam", {}, 2),
    ("AdamW", {"amsgrad": True}, 3),
    ("RMSprop", {}, 1),
]
WAYS: list[dict[str, bool]] = [{"foreach": False}, {"foreach": True}, {"fused": True}]


def parameters(library: Any, shapes: list[tuple[int, ...]]) -> list[Any]:
    """Parameters with gradients, the same numbers on each call, in memory of the library's own as in a network."""
    random = np.random.default_rng(0)
    made = []
    for shape in shapes:
        p = library.tensor(random.standard_normal(shape, dtype=np.float32))
        p.requires_grad = True
        p.grad = library.tensor(random.standard_normal(shape, dtype=np.float32))
        made.append(p)
    return made


def contestants(name: str, options: dict[str, Any], shapes: list[tuple[int, ...]]) -> dict[str, Callable[[], Any]]:
    """The step of each contestant."""
    steps = {"scalargrad": getattr(optim, name)(parameters(scalargrad, shapes), lr=1e-3, **options).step}
    for way in WAYS:
        try:
            optimizer = getattr(torch.optim, name)(parameters(torch, shapes), lr=1e-3, **options, **way)
            optimizer.step()
        except (TypeError, RuntimeError):
            continue  # PyTorch has no such way for this optimiser
        steps[next(iter(way)) if True in way.values() else "loop"] = optimizer.step
    return steps


def best(step: Callable[[], Any], seconds: float = 0.005) -> float:
    """The shortest time of the calls that fit in `seconds`."""
    shortest, ends = float("inf"), perf_counter() + seconds
    while (before := perf_counter()) < ends:
        step()
        shortest = min(shortest, perf_counter() - before)
    return shortest


def main() -> None:
    """Take turns, and print the table."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--rounds", type=int, default=30)
    parser.add_argument("--cpu", type=int, help="the core to use; the first that this process may use by default")
    arguments = parser.parse_args()
    if hasattr(os, "sched_setaffinity"):
        cpu = min(os.sched_getaffinity(0)) if arguments.cpu is None else arguments.cpu
        os.sched_setaffinity(0, [cpu])
    torch.set_num_threads(1)
    scalargrad.set_num_threads(1)
    print(f"{machine()}\n")
    print("| parameters | step | scalargrad, µs | torch, µs | (its way) | torch ÷ scalargrad | share of the limit |")
    print("|---|---|--:|--:|---|--:|--:|")
    for size, shapes in SHAPES.items():
        n_bytes = 4 * sum(int(np.prod(shape)) for shape in shapes)
        for name, options, n_states in STEPS:
            steps = contestants(name, options, shapes)
            times: dict[str, list[float]] = {contestant: [] for contestant in steps}
            limits = []
            for _ in range(arguments.rounds):
                for contestant, step in steps.items():
                    times[contestant].append(best(step))
                whole = n_bytes * (2 + n_states)
                updated = 2 * n_bytes * (1 + n_states) / bandwidth(whole, "update", 0.005)
                limits.append(updated + n_bytes / bandwidth(whole, "read", 0.005))
            ours = times.pop("scalargrad")
            way = min(times, key=lambda contestant: statistics.median(times[contestant]))
            ratio = statistics.median(theirs / our for theirs, our in zip(times[way], ours, strict=True))
            share = min(limits) / statistics.median(ours)
            options_shown = ", ".join(f"{key}={value}" for key, value in options.items())
            cells = [size, f"{name}({options_shown})", f"{statistics.median(ours) * 1e6:.1f}"]
            cells += [f"{statistics.median(times[way]) * 1e6:.1f}", way, f"{ratio:.1f}", f"{share:.0%}"]
            print("| " + " | ".join(cells) + " |", flush=True)


if __name__ == "__main__":
    main()
