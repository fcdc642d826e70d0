"""Pooling, and convolution with relu and pooling in one, in scalargrad and in PyTorch, forward and with the gradient.

    python benchmarks/pooling_vs_torch.py [--seconds 0.3] [--only max avg adaptive relu block] [--batch 1 64 256 1024]

Both libraries pool the same numbers in one pinned process with one thread, call and call about, so that a machine whose
speed drifts does not decide; a time is the least of all. Results and gradients are compared first. glibc is told to
keep freed memory, which spares PyTorch the pages that it would otherwise take anew for every large result (ours come
from the kernels' own pool).

`kernel` is the call of `scalargrad.kernels`, `public` the function of `nn.functional` with its graph, like PyTorch's.
The share is of the time that the bytes read and written take at least, at the bandwidth that benchmarks/limits.py
measures for that much data beside each row: pooling has next to no arithmetic. The tables are Markdown.
"""

import argparse
import os
import subprocess
import sys
from collections.abc import Callable
from time import perf_counter
from typing import Any, NamedTuple

import numpy as np
from environments import KEEP_MEMORY, environment
from limits import bandwidth, machine

ONES, ZEROS, HALVES = (1, 1), (0, 0), ((2, 2), (2, 2), (0, 0), (1, 1))


class Case(NamedTuple):
    """Images (N, C, size, size), and windows by kernel, stride and padding; adaptive ones have the output's size."""

    kind: str
    N: int
    C: int
    size: int
    kernel: int
    stride: int = 0
    padding: int = 0

    def __str__(self) -> str:
        windows = f"to {self.kernel} × {self.kernel}"
        if self.stride:
            windows = f"{self.kernel} × {self.kernel} / {self.stride}" + f", pad {self.padding}" * bool(self.padding)
        return f"{self.kind} | {self.N}, {self.C}, {self.size}, {self.size} | {windows}"


WINDOWS = [
    (64, 6, 30, 2, 2),
    (64, 16, 13, 2, 2),
    (16, 64, 112, 2, 2),
    (16, 64, 112, 3, 2, 1),
    (32, 64, 56, 3, 2, 1),
    (32, 64, 56, 3, 1, 1),
    (64, 6, 30, 3, 3),
    (1, 6, 30, 2, 2),
    (1, 64, 56, 2, 2),
    (1, 64, 112, 3, 2, 1),
]
CASES = [Case(kind, *sizes) for kind in ("max", "avg") for sizes in WINDOWS]
CASES += [
    Case(f"adaptive {kind}", *sizes)
    for kind in ("max", "avg")
    for sizes in ((32, 64, 56, 7), (32, 512, 7, 1), (32, 64, 57, 6), (1, 64, 13, 6))
]
CASES += [Case("relu", *sizes) for sizes in ((64, 6, 30, 2, 2), (64, 16, 13, 2, 2), (32, 64, 56, 3, 2, 1))]


def least_times(calls: list[Callable[[], object]], seconds: float) -> list[float]:
    """The least time of each call, in turn for `seconds` each."""
    repeats = []
    for call in calls:
        call()
        before = perf_counter()
        call()
        repeats.append(max(1, int(5e-4 / (perf_counter() - before))))
    least, ends = [float("inf")] * len(calls), perf_counter() + seconds * len(calls)
    while perf_counter() < ends or least[0] == float("inf"):
        for i, call in enumerate(calls):
            before = perf_counter()
            for _ in range(repeats[i]):
                call()
            least[i] = min(least[i], (perf_counter() - before) / repeats[i])
    return least


def kernel_calls(case: Case, x: np.ndarray, g: np.ndarray | None) -> tuple[Callable[[], Any], Callable[[], Any]]:
    """Forward, its result and its winners if it has any; and that with the gradient of the input."""
    from scalargrad import kernels

    pair = (case.kernel, case.kernel)
    windows = (pair, (case.stride,) * 2, (case.padding,) * 2)
    if case.kind in ("max", "relu"):
        pool = kernels.max_pool2d if case.kind == "max" else kernels.relu_max_pool2d

        def forward() -> Any:
            return pool(x, *windows, ONES, False)

        def both() -> Any:
            return kernels.max_pool2d_input_grad(g, forward()[1], x.shape, *windows, ONES)

    elif case.kind == "avg":

        def forward() -> Any:
            return (kernels.avg_pool2d(x, *windows, False, True, None),)

        def both() -> Any:
            forward()
            return kernels.avg_pool2d_input_grad(g, x.shape, *windows, False, True, None)

    elif case.kind == "adaptive max":

        def forward() -> Any:
            return kernels.adaptive_max_pool2d(x, pair)

        def both() -> Any:
            return kernels.adaptive_max_pool2d_input_grad(g, forward()[1], x.shape)

    else:

        def forward() -> Any:
            return (kernels.adaptive_avg_pool2d(x, pair),)

        def both() -> Any:
            forward()
            return kernels.adaptive_avg_pool2d_input_grad(g, x.shape)

    return forward, both


def public_calls(
    library: Any, functional: Any, case: Case, x: np.ndarray, g: np.ndarray
) -> tuple[Callable[[], Any], Callable[[], Any]]:
    """The same through the public API of either library."""
    windows = (case.kernel, case.stride, case.padding)
    pool = {
        "max": lambda x: functional.max_pool2d(x, *windows),
        "relu": lambda x: functional.max_pool2d(functional.relu(x), *windows),
        "avg": lambda x: functional.avg_pool2d(x, *windows),
        "adaptive max": lambda x: functional.adaptive_max_pool2d(x, case.kernel),
        "adaptive avg": lambda x: functional.adaptive_avg_pool2d(x, case.kernel),
    }[case.kind]
    images, leaf, seed = library.tensor(x), library.tensor(x, requires_grad=True), library.tensor(g)

    def forward() -> Any:
        with library.no_grad():
            return pool(images)

    def both() -> Any:
        leaf.grad = None
        pool(leaf).backward(seed)
        return leaf.grad

    return forward, both


def least_seconds(n_read: int, n_written: int) -> float:
    """How long these bytes take at the bandwidth of memory, or of the cache that holds them all."""
    total = n_read + n_written
    return n_read / bandwidth(total, "read") + n_written / bandwidth(total, "write")


def measure_pooling(kinds: list[str], seconds: float) -> None:
    import torch

    import scalargrad

    print(
        "| pooling | images | windows | forward: kernel, µs | torch ÷ kernel | torch ÷ public | share | with gradient:",
        end="",
    )
    print(" kernel, µs | torch ÷ kernel | torch ÷ public | share |")
    print("|---|---|---|" + "--:|" * 8)
    random = np.random.default_rng(0)
    for case in CASES:
        if not any(kind in case.kind for kind in kinds):
            continue
        x = random.standard_normal((case.N, case.C, case.size, case.size), dtype=np.float32)
        results = kernel_calls(case, x, None)[0]()
        g = random.standard_normal(results[0].shape, dtype=np.float32)
        forward, both = kernel_calls(case, x, g)
        ours = public_calls(scalargrad, scalargrad.nn.functional, case, x, g)
        theirs = public_calls(torch, torch.nn.functional, case, x, g)
        for mine, public, other in ((forward()[0], ours[0](), theirs[0]()), (both(), ours[1](), theirs[1]())):
            np.testing.assert_allclose(mine, other.numpy(), rtol=1e-4, atol=1e-5)
            np.testing.assert_allclose(public.numpy(), other.numpy(), rtol=1e-4, atol=1e-5)
        n_small = sum(result.nbytes for result in results)
        # With the gradient: its own bytes and the winners' are read, and as many as the images have are written.
        n_bytes = ((x.nbytes, n_small), (x.nbytes + n_small, n_small + x.nbytes))
        cells = []
        for calls, (n_read, n_written) in zip(
            ((forward, ours[0], theirs[0]), (both, ours[1], theirs[1])), n_bytes, strict=True
        ):
            kernel, public, torchs = least_times(list(calls), seconds)
            share = least_seconds(n_read, n_written) / kernel
            cells += [f"{kernel * 1e6:,.1f}", f"{torchs / kernel:.1f}", f"{torchs / public:.1f}", f"{share:.0%}"]
        print(f"| {case} | {' | '.join(cells)} |", flush=True)


def block_calls(x: np.ndarray, w: np.ndarray, b: np.ndarray, wants_input: bool) -> dict[str, list[Callable[[], Any]]]:
    """Forward, and forward with the gradients of weight, bias and, if wanted, input; of three contestants."""
    import torch

    from scalargrad import kernels

    convolution = (ONES, ZEROS, ONES, 1)
    g = np.ones_like(kernels.conv2d_relu_max_pool2d(x, w, b, *convolution, *HALVES, False)[0])
    F = torch.nn.functional
    images, weight, bias = (torch.tensor(a, requires_grad=True) for a in (x, w, b))
    images.requires_grad_(wants_input)
    leaves = [images, weight, bias] if wants_input else [weight, bias]

    def block() -> Any:
        return kernels.conv2d_relu_max_pool2d(x, w, b, *convolution, *HALVES, False)

    def block_both() -> Any:
        _, offsets = block()
        return kernels.conv2d_relu_max_pool2d_grads(
            g, offsets, x, w, *convolution, *HALVES, False, wants_input, True, True
        )[1 - wants_input :]

    def apart() -> Any:
        positive = kernels.relu(kernels.conv2d(x, w, b, *convolution))
        return *kernels.max_pool2d(positive, *HALVES, False), positive

    def apart_both() -> Any:
        _, offsets, positive = apart()
        d = kernels.relu_grad(kernels.max_pool2d_input_grad(g, offsets, positive.shape, *HALVES), positive)
        found = [kernels.conv2d_weight_grad(d, x, w.shape, *convolution), np.einsum("nchw->c", d)]
        return [kernels.conv2d_input_grad(d, w, x.shape, *convolution), *found] if wants_input else found

    def torchs(grad: bool) -> Any:
        with torch.set_grad_enabled(grad):
            return F.max_pool2d(F.relu(F.conv2d(images, weight, bias)), 2)

    def torchs_both() -> Any:
        return torch.autograd.grad(torchs(True), leaves, torch.from_numpy(g))

    for one, two, three in zip(block_both(), apart_both(), torchs_both(), strict=True):
        np.testing.assert_allclose(one, two, rtol=1e-3, atol=1e-3 * np.abs(two).max())
        np.testing.assert_allclose(one, three.numpy(), rtol=1e-3, atol=1e-3 * np.abs(two).max())
    return {"forward": [block, apart, lambda: torchs(False)], "with gradients": [block_both, apart_both, torchs_both]}


def measure_blocks(batches: list[int], seconds: float) -> None:
    print("| block | batch | forward: in one, µs | one by one ÷ in one | torch ÷ in one |", end="")
    print(" with gradients: in one, µs | one by one ÷ in one | torch ÷ in one |")
    print("|---|" + "--:|" * 7)
    random = np.random.default_rng(0)
    for (C, size, O), name in (
        ((1, 32, 6), "LeNet's first"),
        ((6, 15, 16), "LeNet's second"),
        ((3, 34, 32), "3 to 32"),
    ):
        for n in batches:
            x = random.standard_normal((n, C, size, size), dtype=np.float32)
            w, b = random.standard_normal((O, C, 3, 3), dtype=np.float32), random.standard_normal(O, dtype=np.float32)
            cells = []
            for calls in block_calls(x, w, b, wants_input=C != 1).values():
                in_one, apart, torchs = least_times(calls, seconds)
                cells += [f"{in_one * 1e6:,.1f}", f"{apart / in_one:.2f}", f"{torchs / in_one:.1f}"]
            print(f"| {name}, {C} × {size} × {size} to {O} | {n} | {' | '.join(cells)} |", flush=True)


def measure(arguments: argparse.Namespace) -> None:
    import torch

    import scalargrad

    torch.set_num_threads(1)
    scalargrad.set_num_threads(1)
    if hasattr(os, "sched_setaffinity"):
        os.sched_setaffinity(0, {sorted(os.sched_getaffinity(0))[arguments.core]})
    print(f"{machine()}; kernels {scalargrad.kernels.isa}, one thread\n")
    kinds = [kind for kind in arguments.only if kind != "block"]
    if kinds:
        measure_pooling(kinds, arguments.seconds)
    if "block" in arguments.only:
        print("\nConvolution 3 × 3, relu and max pooling 2 × 2\n")
        measure_blocks(arguments.batch, arguments.seconds)


def main() -> None:
    """Measure in a process that has the environment for it, and print the tables."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--seconds", type=float, default=0.3, help="how long a call is measured")
    names = ["max", "avg", "adaptive", "relu", "block"]
    parser.add_argument("--only", nargs="+", choices=names, default=names)
    parser.add_argument("--batch", type=int, nargs="+", default=[1, 64, 256, 1024], help="of the blocks")
    parser.add_argument("--core", type=int, default=0)
    parser.add_argument("--worker", action="store_true", help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.worker:
        measure(arguments)
        return
    subprocess.run([sys.executable, __file__, *sys.argv[1:], "--worker"], env=environment(KEEP_MEMORY), check=True)


if __name__ == "__main__":
    main()
