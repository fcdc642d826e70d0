"""Memory of a training step of LeNet, in scalargrad and in PyTorch: page faults, and the most that was in use.

    python benchmarks/memory_vs_torch.py [--batches 1 16 64 256 1024] [--steps 200]

A page fault is a page of memory that the process touches for the first time since the system gave it, and costs about
as much as the arithmetic on it. The step is that of lenet_vs_torch.py, through the public API of both libraries, on one
thread, after a warm-up at the same batch size; each measurement is a process of its own. `peak` is the most memory that
the process had over the run, and `of it the step` leaves out what it had with the library imported and a network built.

PyTorch appears twice: as installed, glibc gives large freed blocks back to the system at once, so that every step pays
for fresh pages; in "memory kept" environment variables tell it to keep them, which costs memory and saves faults.
"""

import argparse
import json
import resource
import subprocess
import sys

from environments import KEEP_MEMORY, environment
from lenet_vs_torch import in_torch, pin
from limits import machine

CONTESTANTS = {"scalargrad": {}, "torch": {}, "torch, memory kept": KEEP_MEMORY}


def faults() -> int:
    """Pages that this process touched for the first time, so far."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_minflt


def peak_mb() -> float:
    """The most memory that this process had, in MB."""
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak / (1 << 20 if sys.platform == "darwin" else 1 << 10)


def train(library: str, n_images: int, n_steps: int) -> dict[str, float]:
    """Faults a step after `n_steps` steps of warming up, and the peak of the process with and without its imports."""
    step = in_torch(library, False, "train", 1, n_threads=1)
    idle_mb = peak_mb()
    step = in_torch(library, False, "train", n_images, n_threads=1)
    for _ in range(n_steps):
        step()
    before = faults()
    for _ in range(n_steps):
        step()
    return {"faults": (faults() - before) / n_steps, "peak": peak_mb(), "of it the step": peak_mb() - idle_mb}


def measure(contestant: str, n_images: int, n_steps: int) -> dict[str, float]:
    """`train` in a process of its own."""
    done = subprocess.run(
        [sys.executable, __file__, "--worker", contestant.split(",")[0], str(n_images), str(n_steps)],
        env=environment(CONTESTANTS[contestant]),
        stdout=subprocess.PIPE,
        text=True,
        check=True,
    )
    return json.loads(done.stdout)


def main() -> None:
    """Measure every combination, and print the table."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--batches", type=int, nargs="+", default=[1, 16, 64, 256, 1024], metavar="B")
    parser.add_argument("--steps", type=int, default=200)
    arguments = parser.parse_args()
    print(f"{machine()}\n")
    print("| batch | | page faults a step | peak, MB | of it the step, MB |\n|--:|---|--:|--:|--:|")
    for n_images in arguments.batches:
        for contestant in CONTESTANTS:
            found = measure(contestant, n_images, max(20, arguments.steps * 16 // (16 + n_images)))
            cells = (f"{found['faults']:,.1f}", f"{found['peak']:.0f}", f"{found['of it the step']:.0f}")
            print(f"| {n_images} | {contestant} | {' | '.join(cells)} |", flush=True)


if __name__ == "__main__":
    if sys.argv[1:2] == ["--worker"]:
        pin(1)
        print(json.dumps(train(sys.argv[2], int(sys.argv[3]), int(sys.argv[4]))))
    else:
        main()
