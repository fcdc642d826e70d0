"""One training step of LeNet, in scalargrad and in PyTorch: forward, cross entropy, backward, SGD.

    python benchmarks/lenet_vs_torch.py [--batches 1 16 64 256 1024] [--threads 1 2] [--rounds 5] [--seconds 1]

Both libraries run the same code, `train` below, through their public API, from the same weights on the same images.
Each measurement is a process of its own, pinned to as many cores as it may use threads, and gives its median step. The
contestants take turns; a figure is the median over the rounds, and a ratio the median of the rounds' ratios, so that a
machine whose speed drifts does not decide. The losses that the contestants reach are compared, so that it is known that
they did the same work. The table is Markdown.

PyTorch appears twice. As installed, glibc gives large freed blocks back to the system at once, and every step pays for
fresh pages; in the second column two environment variables tell glibc to keep them, which is the fairer comparison.
"""

import argparse
import importlib
import json
import os
import platform
import statistics
import subprocess
import sys
from importlib.metadata import version
from time import perf_counter

import numpy as np

KEEP_MEMORY = {"MALLOC_TRIM_THRESHOLD_": str(1 << 40), "MALLOC_MMAP_THRESHOLD_": str(1 << 25)}
CONTESTANTS = {
    "scalargrad": ("scalargrad", {}),
    "torch": ("torch", {}),
    "torch, memory kept": ("torch", KEEP_MEMORY),
}
COMPARED_STEPS = 5
"""After so many steps the losses are compared."""


def train(library: str, n_images: int, n_threads: int, seconds: float) -> dict[str, float]:
    """Median time of a step in microseconds, and the loss after COMPARED_STEPS steps."""
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

    random = np.random.default_rng(0)
    net = Net()
    for parameter in net.parameters():
        shape = tuple(parameter.shape)
        bound = 1 / np.sqrt(np.prod(shape[1:]) if len(shape) > 1 else 100)
        parameter.data.copy_(torch.from_numpy(random.uniform(-bound, bound, shape).astype(np.float32)))
    images = torch.from_numpy(random.standard_normal((n_images, 1, 32, 32), dtype=np.float32))
    labels = torch.from_numpy(random.integers(0, 10, n_images))
    criterion = nn.CrossEntropyLoss()
    optimizer = optim.SGD(net.parameters(), lr=0.01)

    def step():
        optimizer.zero_grad()
        loss = criterion(net(images), labels)
        loss.backward()
        optimizer.step()
        return loss

    for _ in range(COMPARED_STEPS):
        loss = step().item()
    warm_until = perf_counter() + seconds / 4
    while perf_counter() < warm_until:
        step()
    times = []
    started = perf_counter()
    while perf_counter() - started < seconds or len(times) < 7:
        before = perf_counter()
        step()
        times.append(perf_counter() - before)
    return {"step_us": statistics.median(times) * 1e6, "loss": loss}


def measure(contestant: str, n_images: int, n_threads: int, seconds: float) -> dict[str, float]:
    """`train` in a process of its own, on the first `n_threads` cores that this one may use."""
    library, environment = CONTESTANTS[contestant]
    done = subprocess.run(
        [sys.executable, __file__, "--worker", library, str(n_images), str(n_threads), str(seconds)],
        env={**os.environ, **environment, "OMP_NUM_THREADS": str(n_threads)},
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
    """Measure every combination, and print the table."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--batches", type=int, nargs="+", default=[1, 16, 64, 256, 1024], metavar="B")
    parser.add_argument("--threads", type=int, nargs="+", default=[1, 2], metavar="N")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--seconds", type=float, default=1.0, help="how long one process measures")
    arguments = parser.parse_args()
    load = f", load {os.getloadavg()[0]:.1f} at the start" if hasattr(os, "getloadavg") else ""
    versions = [f"{name} {version(name)}" for name in ("scalargrad", "numpy", "torch")]
    print(", ".join([f"Python {platform.python_version()}", *versions]))
    print(f"{os.cpu_count()} × {processor()}{load}; µs a step, medians of {arguments.rounds} processes in turn\n")
    print(f"| batch | threads | {' | '.join(CONTESTANTS)} | torch ÷ scalargrad | memory kept ÷ scalargrad |")
    print("|--:" * (len(CONTESTANTS) + 4) + "|")
    for n_threads in arguments.threads:
        for n_images in arguments.batches:
            results = {name: [] for name in CONTESTANTS}
            for _ in range(arguments.rounds):
                for name in CONTESTANTS:
                    results[name].append(measure(name, n_images, n_threads, arguments.seconds))
            losses = [result["loss"] for rounds in results.values() for result in rounds]
            if max(losses) - min(losses) > 1e-3:
                raise SystemExit(f"the contestants did not do the same work: losses {losses}")
            times = {name: [result["step_us"] for result in rounds] for name, rounds in results.items()}
            cells = [f"{n_images}", f"{n_threads}", *(f"{statistics.median(rounds):,.0f}" for rounds in times.values())]
            ours = times["scalargrad"]
            for name, theirs in times.items():
                if name != "scalargrad":
                    cells.append(f"{statistics.median(t / o for t, o in zip(theirs, ours, strict=True)):.2f}")
            print("| " + " | ".join(cells) + " |", flush=True)


if __name__ == "__main__":
    if sys.argv[1:2] == ["--worker"]:
        pin(int(sys.argv[4]))
        print(json.dumps(train(sys.argv[2], int(sys.argv[3]), int(sys.argv[4]), float(sys.argv[5]))))
    else:
        main()
