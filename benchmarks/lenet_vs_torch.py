"""LeNet in scalargrad and in PyTorch: a training step (forward, cross entropy, backward, SGD), or inference.

    python benchmarks/lenet_vs_torch.py [--work train infer] [--batches 1 16 64 256 1024] [--threads 1 2]
                                        [--rounds 5] [--seconds 1] [--compilers]

Both libraries run the same code, `measured` below, through their public API, from the same weights on the same images.
Each measurement is a process of its own, pinned to as many cores as it may use threads, and gives its median step. The
contestants take turns; a figure is the median over the rounds, and a ratio the median of the rounds' ratios, so that a
machine whose speed drifts does not decide. The losses that the contestants reach are compared, so that it is known that
they did the same work. The table is Markdown.

PyTorch appears twice. As installed, glibc gives large freed blocks back to the system at once, and every step pays for
fresh pages; in the second column environment variables tell glibc to keep them, which is the fairer comparison.
`--compilers` adds torch.compile, and JAX's jit where JAX is installed: they compile the whole step for its shapes.
"""

import argparse
import importlib
import json
import os
import platform
import statistics
import subprocess
import sys
from collections.abc import Callable
from importlib.metadata import version
from importlib.util import find_spec
from time import perf_counter

import numpy as np
from environments import KEEP_MEMORY, environment

CONTESTANTS = {
    "scalargrad": ("scalargrad", {}),
    "torch": ("torch", {}),
    "torch, memory kept": ("torch", KEEP_MEMORY),
}
COMPILERS = {
    "torch.compile": ("torch.compile", KEEP_MEMORY),
    "jax.jit": ("jax", KEEP_MEMORY),
}
COMPARED_STEPS = 5
"""After so many steps the losses are compared."""


def initial(n_images: int) -> tuple[dict[str, np.ndarray], np.ndarray, np.ndarray]:
    """The weights that everybody starts from, the images and the labels."""
    random = np.random.default_rng(0)
    shapes = {
        "conv1": (6, 1, 3, 3),
        "conv2": (16, 6, 3, 3),
        "fc1": (120, 576),
        "fc2": (84, 120),
        "fc3": (10, 84),
    }
    weights = {}
    for layer, shape in shapes.items():
        bound = 1 / np.sqrt(np.prod(shape[1:]))
        weights[f"{layer}.weight"] = random.uniform(-bound, bound, shape).astype(np.float32)
        weights[f"{layer}.bias"] = random.uniform(-bound, bound, shape[0]).astype(np.float32)
    images = random.standard_normal((n_images, 1, 32, 32), dtype=np.float32)
    return weights, images, random.integers(0, 10, n_images)


def in_torch(library: str, compiles: bool, work: str, n_images: int, n_threads: int) -> Callable[[], float]:
    """The work as a function that returns the loss, or for inference the sum of the scores."""
    torch = importlib.import_module(library)
    nn = importlib.import_module(f"{library}.nn")
    F = importlib.import_module(f"{library}.nn.functional")
    optim = importlib.import_module(f"{library}.optim")
    torch.set_num_threads(n_threads)

    class Net(nn.Module):
        def __init__(self):
            super().__init__()
            self.conv1 = nn.Conv2d(1, 6, 3)
            self.conv2 = nn.Conv2d(6, 16, 3)
            self.fc1 = nn.Linear(16 * 6 * 6, 120)
            self.fc2 = nn.Linear(120, 84)
            self.fc3 = nn.Linear(84, 10)

        def forward(self, x):
            x = F.max_pool2d(F.relu(self.conv1(x)), (2, 2))
            x = F.max_pool2d(F.relu(self.conv2(x)), 2)
            x = x.view(-1, 16 * 6 * 6)
            x = F.relu(self.fc1(x))
            x = F.relu(self.fc2(x))
            return self.fc3(x)

    weights, images, labels = initial(n_images)
    net = Net()
    net.load_state_dict({name: torch.from_numpy(array) for name, array in weights.items()})
    images, labels = torch.from_numpy(images), torch.from_numpy(labels)
    criterion = nn.CrossEntropyLoss()
    optimizer = optim.SGD(net.parameters(), lr=0.01)
    forward = torch.compile(net) if compiles else net

    def train():
        optimizer.zero_grad()
        loss = criterion(forward(images), labels)
        loss.backward()
        optimizer.step()
        return loss

    def infer():
        with torch.no_grad():
            return forward(images)

    return train if work == "train" else infer


def measured(library: str, work: str, n_images: int, n_threads: int, seconds: float) -> dict[str, float]:
    """Median time of a step in microseconds, and what came out after COMPARED_STEPS steps."""
    if library == "jax":
        step = importlib.import_module("lenet_in_jax").step(work, *initial(n_images))
    else:
        step = in_torch(library.removesuffix(".compile"), library.endswith(".compile"), work, n_images, n_threads)
    for _ in range(COMPARED_STEPS):
        result = step().sum().item()
    warm_until = perf_counter() + seconds / 4
    while perf_counter() < warm_until:
        step()
    times = []
    started = perf_counter()
    while perf_counter() - started < seconds or len(times) < 7:
        before = perf_counter()
        step()
        times.append(perf_counter() - before)
    return {"step_us": statistics.median(times) * 1e6, "result": result}


def measure(contestant: str, work: str, n_images: int, n_threads: int, seconds: float) -> dict[str, float]:
    """`measured` in a process of its own, on the first `n_threads` cores that this one may use."""
    library, settings = {**CONTESTANTS, **COMPILERS}[contestant]
    done = subprocess.run(
        [sys.executable, __file__, "--worker", library, work, str(n_images), str(n_threads), str(seconds)],
        env=environment(settings, n_threads=n_threads),
        stdout=subprocess.PIPE,
        text=True,
        check=True,
    )
    return json.loads(done.stdout)


def pin(n_threads: int) -> None:
    """Keep this process on `n_threads` cores, where the system can."""
    if hasattr(os, "sched_setaffinity"):
        os.sched_setaffinity(0, sorted(os.sched_getaffinity(0))[:n_threads])


def processor() -> str:
    """The processor's name as the system gives it."""
    try:
        with open("/proc/cpuinfo", encoding="utf-8") as file:
            return next(line.split(":")[1].strip() for line in file if line.startswith("model name"))
    except (OSError, StopIteration):
        return platform.processor() or platform.machine()


def main() -> None:
    """Measure every combination, and print a table for each kind of work."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--work", nargs="+", choices=["train", "infer"], default=["train"])
    parser.add_argument("--batches", type=int, nargs="+", default=[1, 16, 64, 256, 1024], metavar="B")
    parser.add_argument("--threads", type=int, nargs="+", default=[1, 2], metavar="N")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--seconds", type=float, default=1.0, help="how long one process measures")
    parser.add_argument("--compilers", action="store_true", help="add torch.compile, and jax.jit where installed")
    arguments = parser.parse_args()
    contestants = list(CONTESTANTS)
    if arguments.compilers:
        contestants += [name for name in COMPILERS if name != "jax.jit" or find_spec("jax")]
    load = f", load {os.getloadavg()[0]:.1f} at the start" if hasattr(os, "getloadavg") else ""
    versions = [f"{name} {version(name)}" for name in ("scalargrad", "numpy", "torch")]
    print(", ".join([f"Python {platform.python_version()}", *versions]))
    print(f"{os.cpu_count()} × {processor()}{load}; µs, medians of {arguments.rounds} processes in turn")
    for work in arguments.work:
        print(f"\n{'A training step' if work == 'train' else 'Inference under no_grad'}\n")
        ratios = [f"{name} ÷ scalargrad" for name in contestants if name != "scalargrad"]
        print(f"| batch | threads | {' | '.join(contestants)} | {' | '.join(ratios)} |")
        print("|--:" * (len(contestants) * 2 + 1) + "|")
        for n_threads in arguments.threads:
            for n_images in arguments.batches:
                print(row(contestants, work, n_images, n_threads, arguments.rounds, arguments.seconds), flush=True)


def row(contestants: list[str], work: str, n_images: int, n_threads: int, n_rounds: int, seconds: float) -> str:
    """One line of the table."""
    results = {name: [] for name in contestants}
    for _ in range(n_rounds):
        for name in contestants:
            results[name].append(measure(name, work, n_images, n_threads, seconds))
    found = [result["result"] for rounds in results.values() for result in rounds]
    if max(found) - min(found) > 1e-3 * max(1, abs(max(found))):
        raise SystemExit(f"the contestants did not do the same work: {found}")
    times = {name: [result["step_us"] for result in rounds] for name, rounds in results.items()}
    cells = [f"{n_images}", f"{n_threads}", *(f"{statistics.median(rounds):,.0f}" for rounds in times.values())]
    ours = times["scalargrad"]
    for name, theirs in times.items():
        if name != "scalargrad":
            cells.append(f"{statistics.median(t / o for t, o in zip(theirs, ours, strict=True)):.2f}")
    return "| " + " | ".join(cells) + " |"


if __name__ == "__main__":
    if sys.argv[1:2] == ["--worker"]:
        library, work, *numbers = sys.argv[2:]
        pin(int(numbers[1]))
        print(json.dumps(measured(library, work, int(numbers[0]), int(numbers[1]), float(numbers[2]))))
    else:
        main()
