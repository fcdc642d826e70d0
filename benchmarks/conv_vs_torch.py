"""Convolutions of well-known networks, forward and both gradients, in scalargrad's kernels and in PyTorch.

    python benchmarks/conv_vs_torch.py [--avx2] [--seconds 0.2] [--only lenet resnet mobilenet other] [--batch 1 8]
                                       [--match '^8,.*,7,']

Both libraries do the same convolution on the same numbers in one pinned process with one thread, call and call about,
so that a machine whose speed drifts does not decide; a time is the least of all, of processor time, which does not
count what other processes take. PyTorch's gradients are asked for one
at a time (`aten::convolution_backward` with a mask), as ours are. glibc is told to keep freed memory, which spares
PyTorch the pages that it would otherwise take anew for every large result (ours come from the kernels' own pool).

A cell is `torch ÷ scalargrad, our GFLOP/s, our share of the measured peak`. A floating-point operation counts as one
only where both libraries need it: products with the padding's zeros count. With `--avx2` both are kept to AVX2.
The table is Markdown.
"""

import argparse
import math
import os
import platform
import re
import subprocess
import sys
from collections.abc import Callable
from time import thread_time
from typing import NamedTuple

import numpy as np
from environments import KEEP_MEMORY, ONLY_AVX2, environment


class Layer(NamedTuple):
    """C channels of size × size in, O out, by kernel × kernel weights. No batch: that of the command line."""

    C: int
    size: int
    O: int
    kernel: int
    stride: int = 1
    padding: int = 0
    dilation: int = 1
    groups: int = 1
    N: int = 0


def depthwise(channels: int, size: int, stride: int) -> Layer:
    return Layer(channels, size, channels, 3, stride, 1, 1, channels)


LAYERS = {
    "lenet": [Layer(1, 32, 6, 3, N=n) for n in (1, 64)] + [Layer(6, 15, 16, 3, N=n) for n in (1, 64)],
    "other": [
        Layer(3, 32, 32, 3, N=32),
        Layer(32, 32, 64, 3, N=32),
        Layer(64, 56, 64, 3, N=16),
        Layer(128, 28, 128, 3, N=16),
        Layer(256, 14, 256, 3, N=16),
        Layer(64, 56, 256, 1, N=16),
        Layer(3, 224, 64, 7, 2, 3, N=8),
        Layer(32, 28, 32, 5, 1, 2, N=32),
        Layer(64, 28, 64, 3, 1, 2, 2, N=8),
        Layer(128, 28, 128, 3, 1, 1, 1, 32, N=8),
    ],
    "resnet": [
        Layer(3, 224, 64, 7, 2, 3),
        Layer(64, 56, 64, 3, 1, 1),
        Layer(64, 56, 128, 3, 2, 1),
        Layer(64, 56, 128, 1, 2),
        Layer(128, 28, 128, 3, 1, 1),
        Layer(128, 28, 256, 3, 2, 1),
        Layer(128, 28, 256, 1, 2),
        Layer(256, 14, 256, 3, 1, 1),
        Layer(256, 14, 512, 3, 2, 1),
        Layer(256, 14, 512, 1, 2),
        Layer(512, 7, 512, 3, 1, 1),
    ],
    "mobilenet": [
        Layer(3, 224, 32, 3, 2, 1),
        depthwise(32, 112, 1),
        Layer(32, 112, 64, 1),
        depthwise(64, 112, 2),
        Layer(64, 56, 128, 1),
        depthwise(128, 56, 1),
        Layer(128, 56, 128, 1),
        depthwise(128, 56, 2),
        Layer(128, 28, 256, 1),
        depthwise(256, 28, 1),
        Layer(256, 28, 256, 1),
        depthwise(256, 28, 2),
        Layer(256, 14, 512, 1),
        depthwise(512, 14, 1),
        Layer(512, 14, 512, 1),
        depthwise(512, 14, 2),
        Layer(512, 7, 1024, 1),
        depthwise(1024, 7, 1),
        Layer(1024, 7, 1024, 1),
    ],
}
DIRECTIONS = ("forward", "grad input", "grad weight")


def contestants(layer: Layer) -> list[tuple[Callable[[], object], Callable[[], object]]]:
    """For each direction PyTorch's call and ours, after comparing what they give."""
    import torch

    from scalargrad import kernels

    random = np.random.default_rng(0)
    x = random.standard_normal((layer.N, layer.C, layer.size, layer.size), dtype=np.float32)
    w = random.standard_normal((layer.O, layer.C // layer.groups, layer.kernel, layer.kernel), dtype=np.float32)
    pairs = [(n, n) for n in (layer.stride, layer.padding, layer.dilation)]
    rest = (*pairs, layer.groups)
    g = random.standard_normal(kernels.conv2d(x, w, None, *rest).shape, dtype=np.float32)
    x_t, w_t, g_t = map(torch.from_numpy, (x, w, g))

    def backward(*mask: bool) -> Callable[[], object]:
        where = mask.index(True)
        return lambda: torch.ops.aten.convolution_backward(
            g_t, x_t, w_t, None, *pairs, False, (0, 0), layer.groups, mask
        )[where]

    calls = [
        (lambda: torch.ops.aten.convolution(x_t, w_t, None, *pairs, False, (0, 0), layer.groups),
         lambda: kernels.conv2d(x, w, None, *rest)),
        (backward(True, False, False), lambda: kernels.conv2d_input_grad(g, w, x.shape, *rest)),
        (backward(False, True, False), lambda: kernels.conv2d_weight_grad(g, x, w.shape, *rest)),
    ]  # fmt: skip
    for theirs, ours in calls:
        expected = theirs().numpy()
        difference = np.linalg.norm(expected - ours()) / np.linalg.norm(expected)
        if not difference < 1e-5:
            raise SystemExit(f"the libraries do not do the same: they differ by {difference:.1e} for {layer}")
    return calls


def least_times(calls: tuple[Callable[[], object], ...], seconds: float) -> list[float]:
    """The least time of a call of each, in turn for so many seconds. Short calls are timed several at once."""
    repeats = []
    for call in calls:
        call()
        before = thread_time()
        call()
        repeats.append(max(1, min(100, math.ceil(50e-6 / (thread_time() - before)))))
    least = [math.inf] * len(calls)
    started, rounds = thread_time(), 0
    while thread_time() - started < seconds or rounds < 5:
        for i, call in enumerate(calls):
            before = thread_time()
            for _ in range(repeats[i]):
                call()
            least[i] = min(least[i], (thread_time() - before) / repeats[i])
        rounds += 1
    return least


def measured_peak(only_avx2: bool) -> float:
    """Operations a second that a core does at most; with AVX2 alone, what our product of 384 × 384 matrices does."""
    if not only_avx2:
        from limits import peak_flops

        return peak_flops("float32")
    from scalargrad import kernels

    a = np.ones((384, 384), np.float32)
    return 2 * 384**3 / least_times((lambda: kernels.matmul(a, a),), 0.5)[0]


def flop(layer: Layer) -> int:
    out = (layer.size + 2 * layer.padding - layer.dilation * (layer.kernel - 1) - 1) // layer.stride + 1
    return 2 * layer.N * layer.O * out**2 * layer.C // layer.groups * layer.kernel**2


def measure(arguments: argparse.Namespace) -> None:
    import torch

    import scalargrad

    torch.set_num_threads(1)
    scalargrad.set_num_threads(1)
    torch.set_grad_enabled(False)
    if hasattr(os, "sched_setaffinity"):
        os.sched_setaffinity(0, {sorted(os.sched_getaffinity(0))[arguments.core]})
    peak = measured_peak(arguments.avx2)
    versions = [f"{library.__name__} {library.__version__}" for library in (scalargrad, np, torch)]
    print(", ".join([f"Python {platform.python_version()}", *versions]))
    print(f"kernels {scalargrad.kernels.isa}, measured peak {peak / 1e9:.0f} GFLOP/s, one thread\n")
    print(f"| network | N,C,H,O,K,stride,padding,dilation,groups | {' | '.join(DIRECTIONS)} |")
    print("|---|---|" + "--:|" * len(DIRECTIONS))
    ratios: dict[str, list[float]] = {direction: [] for direction in DIRECTIONS}
    for network in arguments.only:
        batches = [(layer, [layer.N] if layer.N else arguments.batch) for layer in LAYERS[network]]
        for layer in [given._replace(N=n) for given, sizes in batches for n in sizes]:
            sizes = ",".join(map(str, (layer.N, *layer[:-1])))
            if not re.search(arguments.match, sizes):
                continue
            cells = []
            for direction, calls in zip(DIRECTIONS, contestants(layer), strict=True):
                theirs, ours = least_times(calls, arguments.seconds)
                ratios[direction].append(theirs / ours)
                rate = flop(layer) / ours
                cells.append(f"{theirs / ours:.2f}, {rate / 1e9:.0f}, {rate / peak:.0%}")
            print(f"| {network} | {sizes} | {' | '.join(cells)} |", flush=True)
    if not ratios[DIRECTIONS[0]]:
        raise SystemExit(f"no layer matches {arguments.match}")
    means = [f"{math.exp(np.mean(np.log(found))):.2f}" for found in ratios.values()]
    print(f"| geometric mean | | {' | '.join(means)} |")
    everything = [ratio for found in ratios.values() for ratio in found]
    print(
        f"\nAll {len(everything)}: geometric mean {math.exp(np.mean(np.log(everything))):.2f}, "
        f"least {min(everything):.2f}, below 1: {sum(ratio < 1 for ratio in everything)}"
    )


def main() -> None:
    """Measure in a process that has the environment for it, and print the table."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--avx2", action="store_true", help="keep both libraries to AVX2")
    parser.add_argument("--seconds", type=float, default=0.2, help="how long a cell is measured")
    parser.add_argument("--only", nargs="+", choices=list(LAYERS), default=list(LAYERS))
    parser.add_argument("--batch", type=int, nargs="+", default=[1, 8])
    parser.add_argument("--match", default="", help="only rows whose second column this regular expression is found in")
    parser.add_argument("--core", type=int, default=0)
    parser.add_argument("--worker", action="store_true", help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.worker:
        measure(arguments)
        return
    settings = environment(KEEP_MEMORY, ONLY_AVX2 if arguments.avx2 else {})
    subprocess.run([sys.executable, __file__, *sys.argv[1:], "--worker"], env=settings, check=True)


if __name__ == "__main__":
    main()
