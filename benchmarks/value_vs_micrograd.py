"""One training step of micrograd's moons classifier, on scalargrad's Value and on micrograd's.

    python benchmarks/value_vs_micrograd.py [--steps 9]

The net is a 2-16-16-1 MLP and the batch is all 100 points: forward, the hinge loss with L2 regularisation of
micrograd's demo, backward, update. Both libraries run the same function, `step`, with the same weights, taking turns in
one process; the losses are compared after every step. Medians and their ratio are printed. Garbage collection is left
on, as it is for a user.
"""

import argparse
import importlib
import platform
import random
import statistics
from importlib.metadata import version
from time import perf_counter

import numpy as np

LIBRARIES = {"scalargrad": "scalargrad.nn.scalar", "micrograd": "micrograd.nn"}
N_POINTS = 100


def moons() -> tuple[list[list[float]], list[float]]:
    """Two interleaved half circles with noise 0.1, labelled -1 and 1."""
    noise = np.random.default_rng(1337).normal(scale=0.1, size=(N_POINTS, 2))
    angle = np.linspace(0, np.pi, N_POINTS // 2)
    outer = np.stack([np.cos(angle), np.sin(angle)], axis=1)
    inner = np.stack([1 - np.cos(angle), 0.5 - np.sin(angle)], axis=1)
    points = np.concatenate([outer, inner]) + noise
    return points.tolist(), [-1.0] * (N_POINTS // 2) + [1.0] * (N_POINTS // 2)


def network(library: str):
    """The library's 2-16-16-1 MLP, always with the same weights."""
    model = importlib.import_module(LIBRARIES[library]).MLP(2, [16, 16, 1])
    draw = random.Random(7)
    for p in model.parameters():
        p.data = draw.uniform(-1, 1)
    return model


def step(model, points, labels, learning_rate: float = 0.1) -> float:
    """One step of gradient descent on the whole batch; the loss before it."""
    scores = [model(point) for point in points]
    losses = [(1 + -label * score).relu() for label, score in zip(labels, scores, strict=True)]
    data_loss = sum(losses) * (1.0 / len(losses))
    loss = data_loss + 1e-4 * sum(p * p for p in model.parameters())
    model.zero_grad()
    loss.backward()
    for p in model.parameters():
        p.data -= learning_rate * p.grad
    return loss.data


def main() -> None:
    """Take turns, and print the medians and their ratio."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--steps", type=int, default=9)
    n_steps = parser.parse_args().steps
    points, labels = moons()
    models = {name: network(name) for name in LIBRARIES}
    times = {name: [] for name in models}
    for number in range(n_steps + 1):
        losses = {}
        for name, model in models.items():
            before = perf_counter()
            losses[name] = step(model, points, labels)
            if number:  # the first step is for warming up
                times[name].append(perf_counter() - before)
        if abs(losses["scalargrad"] - losses["micrograd"]) > 1e-6 * abs(losses["micrograd"]):
            raise SystemExit(f"step {number}: the two did not do the same work: losses {losses}")
    ours, theirs = (statistics.median(times[name]) * 1e3 for name in models)
    print(f"Python {platform.python_version()}, scalargrad {version('scalargrad')}, micrograd {version('micrograd')}")
    print(f"2-16-16-1 MLP, {N_POINTS} points, forward + backward + update; median of {n_steps} steps, in turn\n")
    print("| scalargrad | micrograd | micrograd ÷ scalargrad |")
    print("|--:|--:|--:|")
    print(f"| {ours:.1f} ms | {theirs:.1f} ms | {theirs / ours:.1f} |")


if __name__ == "__main__":
    main()
