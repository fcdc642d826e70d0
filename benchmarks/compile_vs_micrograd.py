"""Scalar code compiled: one training step of micrograd's moons classifier, and an MLP of MNIST's size.

    python benchmarks/compile_vs_micrograd.py [--steps 7] [--threads 1] [--without-micrograd]

The moons step is that of benchmarks/value_vs_micrograd.py: a 2-16-16-1 MLP, 100 points, hinge loss and L2 penalty,
forward, backward and update. micrograd, scalargrad's Value and the compiled function take turns in one process, from
the same weights, and their losses are compared after every step. Medians of wall time and of processor time are
printed.

Then, of the replay: the time for one instruction and sample, an instruction being an operation of the trace that was
not shared, folded or dead; the time that a call takes beyond its arithmetic; and tracing and replay of a 784-50-10 MLP
with cross entropy, whose images per second may be held against the 20,000 published for a compiled micrograd, which
took 12 minutes to compile.
"""

import argparse
import gc
import importlib
import importlib.util
import platform
import resource
import statistics
from collections.abc import Callable
from itertools import pairwise
from pathlib import Path
from time import perf_counter, process_time

import numpy as np

import scalargrad

N_COMPILED_STEPS = 200
SIZES = (784, 50, 10)


def moons_script():
    """The benchmark whose workload this one compiles."""
    spec = importlib.util.spec_from_file_location(
        "value_vs_micrograd", Path(__file__).with_name("value_vs_micrograd.py")
    )
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def mlp(weights, x, sizes):
    """The outputs of a multi-layer perceptron: relu between the layers; for each neuron its weights, then its bias."""
    w = iter(weights)
    for layer, (n_in, n_out) in enumerate(pairwise(sizes), 1):
        outputs = []
        for _ in range(n_out):
            own = [next(w) for _ in range(n_in)]
            total = sum((a * b for a, b in zip(own, x, strict=True)), next(w))
            outputs.append(total if layer == len(sizes) - 1 else total.relu())
        x = outputs
    return x


@scalargrad.compile(batched=("x", "y"))
def hinge(weights, x, y):
    """One sample's hinge loss."""
    return (1 + -y * mlp(weights, x, (2, 16, 16, 1))[0]).relu()


@scalargrad.compile(batched=("x", "target"))
def cross_entropy(weights, x, target):
    """One image's cross entropy, from the target's probabilities."""
    scores = mlp(weights, x, SIZES)
    top = scores[0]
    for score in scores[1:]:
        top = top.max(score)
    log_total = sum((score - top).exp() for score in scores).log() + top
    return log_total - sum(p * score for p, score in zip(target, scores, strict=True))


def compiled_step(weights, points, labels, learning_rate: float = 0.1) -> float:
    """One step of gradient descent on the whole batch; the loss before it. `weights` are updated in place."""
    losses, slope = hinge.value_and_grad(weights, points, labels, wrt="weights")
    loss = losses.sum() * (1.0 / len(losses)) + 1e-4 * (weights @ weights)
    slope *= 1.0 / len(losses)
    slope += 2e-4 * weights
    weights -= learning_rate * slope
    return float(loss)


class Times:
    """Wall and processor times of what is run through it."""

    def __init__(self) -> None:
        self.wall: list[float] = []
        self.processor: list[float] = []

    def run(self, function: Callable, *arguments):
        """What the function gives."""
        wall, processor = perf_counter(), process_time()
        result = function(*arguments)
        self.processor.append(process_time() - processor)
        self.wall.append(perf_counter() - wall)
        return result

    def medians(self) -> tuple[float, float]:
        """Seconds of wall time, and of processor time; where there are several, the first is for warming up."""
        return statistics.median(self.wall[1:] or self.wall), statistics.median(self.processor[1:] or self.processor)


def several(function: Callable, n: int) -> tuple[float, float]:
    """Median seconds of a short call: wall time, and processor time, which is read less often because it costs more."""
    times, started = Times(), process_time()
    for _ in range(n):
        before = perf_counter()
        function()
        times.wall.append(perf_counter() - before)
    return statistics.median(times.wall), (process_time() - started) / n


def compare_moons(n_steps: int, with_micrograd: bool) -> list[str]:
    """The table of the moons step, as lines."""
    script = moons_script()
    points, labels = script.moons()
    names = ["micrograd", "scalargrad"] if with_micrograd else ["scalargrad"]
    models = {name: script.network(name) for name in names}
    weights = np.array([p.data for p in models["scalargrad"].parameters()])
    x, y = np.array(points), np.array(labels)
    times = {name: Times() for name in names}
    compiled = Times()
    for number in range(n_steps + 1):
        losses: dict[str, float] = {}
        for name, model in models.items():
            losses[name] = times[name].run(script.step, model, points, labels)
        # One compiled step is too short to be timed alone: the same step again and again, from the same weights.
        losses["compiled"] = compiled_step(weights.copy(), x, y)
        wall, processor = several(lambda: compiled_step(weights.copy(), x, y), N_COMPILED_STEPS)
        compiled.wall.append(wall)
        compiled.processor.append(processor)
        compiled_step(weights, x, y)
        for name, loss in losses.items():
            if abs(loss - losses["scalargrad"]) > 1e-6 * abs(loss):
                raise SystemExit(f"step {number}: {name} did not do the same work: losses {losses}")
    rows = {"micrograd": "micrograd", "scalargrad": "scalargrad.Value", "compiled": "scalargrad.compile"}
    times["compiled"] = compiled
    ours = compiled.medians()
    lines = ["| moons step | wall | processor | ÷ compiled (wall) | ÷ compiled (processor) |", "|--|--:|--:|--:|--:|"]
    for name, timed in times.items():
        wall, processor = timed.medians()
        cells = [f"{t * 1e6:,.1f} µs" for t in (wall, processor)]
        cells += [f"{t / own:,.0f}" for t, own in zip((wall, processor), ours, strict=True)]
        lines.append(f"| {rows[name]} | {' | '.join(cells)} |")
    return lines


def n_instructions(compiled, *arguments, wrt: str) -> int:
    """Operations that are left of the trace when nothing is done twice or in vain: the work of one sample."""
    parts = last_path(compiled, *arguments, wrt=wrt).replay.parts
    names = scalargrad.kernels.opcodes.NAMES
    count = 0
    for op, _, _, n_terms in parts.code.tolist():
        name = names[op // 4]  # a term is a product and a sum; a dot's first term is what it begins with
        count += {"dot": 2 * (n_terms - 1), "sums": 2 * n_terms, "input": 0, "output": 0, "broadcast": 0}.get(name, 1)
    return count


def last_path(compiled, *arguments, wrt: str):
    """The one path of a compiled function for these arguments."""
    paths, call = compiled._prepared((wrt,), arguments)
    return paths.first(call)


def measure_replay() -> list[str]:
    """What an instruction costs, and a call."""
    rng = np.random.default_rng(0)
    weights = rng.uniform(-1, 1, 337)
    x, y = rng.uniform(-1, 1, (1000, 2)), rng.choice([-1.0, 1.0], 1000)
    n = n_instructions(hinge, weights, x, y, wrt="weights")
    lines = [f"| replay of the moons net ({n} instructions a sample) | |", "|--|--:|"]
    wall, _ = several(lambda: hinge.value_and_grad(weights, x, y, wrt="weights"), 200)
    lines.append(f"| 1,000 samples | {wall * 1e6:.1f} µs |")
    lines.append(f"| an instruction and sample | {wall * 1e9 / 1000 / n:.3f} ns |")
    path = last_path(hinge, weights, x[:1], y[:1], wrt="weights")
    out = [np.empty(1)]
    arithmetic, _ = several(lambda: path.replay.program.run(1, [x[:1], y[:1, None]], (weights, np.zeros(0)), out), 2000)
    call, _ = several(lambda: hinge.value_and_grad(weights, x[:1], y[:1], wrt="weights"), 2000)
    lines.append(f"| 1 sample | {call * 1e6:.1f} µs |")
    lines.append(f"| 1 sample, beyond its arithmetic | {(call - arithmetic) * 1e6:.1f} µs |")
    return lines


def measure_mnist() -> list[str]:
    """Tracing and replay of an MLP of MNIST's size."""
    rng = np.random.default_rng(0)
    n_weights = sum(a * b + b for a, b in pairwise(SIZES))
    weights = rng.normal(size=n_weights) * 0.05
    x, target = rng.random((256, 784)), np.eye(10)[rng.integers(0, 10, 256)]
    before_kb = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    gc.collect()
    traced = Times()
    path = traced.run(lambda: last_path(cross_entropy, weights, x, target, wrt="weights"))
    traced_mb = (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before_kb) / 1024
    parts = path.replay.parts
    program_mb = (parts.code.nbytes + parts.terms.nbytes) / 2**20
    rows_kb = parts.n_rows * scalargrad.kernels.opcodes.LANES * 8 / 1024
    lines = [f"| {'-'.join(map(str, SIZES))} MLP with cross entropy, {path.n_traced:,} nodes traced | |", "|--|--:|"]
    wall, processor = traced.medians()
    lines.append(f"| tracing and assembling | {wall:.2f} s ({processor:.2f} s of processor time) |")
    lines.append(f"| a node of the trace | {processor * 1e6 / path.n_traced:.1f} µs |")
    lines.append(f"| memory while tracing, at most | {traced_mb:.0f} MB |")
    lines.append(f"| memory of the program, of its rows | {program_mb:.1f} MB, {rows_kb:.0f} KB a thread |")
    for n in (1, 64, 256):
        wall, _ = several(lambda n=n: cross_entropy.value_and_grad(weights, x[:n], target[:n], wrt="weights"), 20)
        lines.append(f"| images/s, value and gradient, batch {n} | {n / wall:,.0f} |")
    return lines


def main() -> None:
    """Print the tables."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--steps", type=int, default=7)
    parser.add_argument("--without-micrograd", action="store_true")
    parser.add_argument("--threads", type=int, default=1)
    options = parser.parse_args()
    scalargrad.set_num_threads(options.threads)
    print(f"Python {platform.python_version()}, kernels {scalargrad.kernels.isa}, {options.threads} thread(s)\n")
    tables = compare_moons(options.steps, not options.without_micrograd), measure_replay(), measure_mnist()
    print("\n\n".join("\n".join(lines) for lines in tables))


if __name__ == "__main__":
    main()
