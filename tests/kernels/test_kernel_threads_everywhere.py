"""The number of threads is never seen in any kernel's result, nor the other Python threads that call meanwhile."""

import os
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import thread_cases
from kernel_cases import ELSEWHERE, Draw, contract, drawing
from test_kernel_threads import large_calls

from scalargrad import kernels

COMPILED = [isa for isa in kernels.available() if isa != "numpy"]
pytestmark = pytest.mark.skipif(not COMPILED, reason="only compiled kernels have threads")

SERIAL = {"zero_fill"}
"""Kernels that use one thread whatever the size: memory is cleared at the speed of memory."""


def bits(result: Any) -> list[bytes]:
    """The bytes of a kernel's results, in whatever tuple they come."""
    results = result if isinstance(result, tuple | list) else (result,)
    return [np.asarray(one).tobytes() for one in results]


@pytest.mark.parametrize("isa", COMPILED)
def test_every_kernel_gives_the_same_bits_for_any_number_of_threads(isa, draw, threads):
    for name, call in thread_cases.calls_of_every_kernel(kernels.load(isa), draw).items():
        with threads(1):
            expected = bits(call())
        for n in (2, 3, 4, 7):
            with threads(n):
                assert bits(call()) == expected, f"{name} with {n} threads"


def test_no_kernel_is_left_out_of_the_comparisons_of_bits(draw):
    """A new kernel fails here by name until it has a call in thread_cases.py, or a reason to do without threads."""
    k, called = kernels.load(COMPILED[0]), set()

    def recorded(name: str) -> Callable[..., Any]:
        return lambda *xs, **options: called.add(name) or getattr(k, name)(*xs, **options)

    recorder = SimpleNamespace(**{name: recorded(name) for name in contract()})
    for calls in (large_calls, thread_cases.calls_of_every_kernel):
        for call in calls(recorder, draw).values():
            call()
    assert sorted(set(contract()) - ELSEWHERE - SERIAL - called) == []


@pytest.mark.skipif(not os.path.exists("/proc/self/task"), reason="threads are counted as on Linux")
def test_the_calls_whose_bits_are_compared_are_large_enough_for_threads():
    script = Path(thread_cases.__file__)
    environment = {**os.environ, "SCALARGRAD_ISA": COMPILED[0], "OPENBLAS_NUM_THREADS": "1"}
    run = subprocess.run([sys.executable, str(script)], env=environment, capture_output=True, text=True, timeout=120)
    assert run.returncode == 0, run.stderr
    assert run.stdout == "", f"no thread was started: {run.stdout}"


def jobs(k: Any, dtype: np.dtype) -> Iterator[tuple[str, Callable[[], Any]]]:
    """Drawn calls of every kernel, each on arrays of its own: most take scratch memory."""
    for name in sorted(set(contract()) - ELSEWHERE):
        for seed in (1, 2, 3):
            case = drawing(name)(Draw(seed, dtype))
            yield str(case), lambda case=case: case.call(k, *[array.copy() for array in case.arrays])


def test_no_kernel_is_disturbed_by_the_others_on_other_python_threads(k, dtype, threads):
    every = list(jobs(k, dtype))
    expected = [bits(job()) for _, job in every]
    wrong: set[str] = set()

    def work(first: int) -> None:
        for turn in range(len(every)):
            name, job = every[(first + turn) % len(every)]
            if bits(job()) != expected[(first + turn) % len(every)]:
                wrong.add(name)

    # Two workers begin at the same kernel, so that one kernel's scratch meets itself.
    workers = [threading.Thread(target=work, args=(first,)) for first in (0, 0, 60, 120)]
    with threads(2):
        for worker in workers:
            worker.start()
        for worker in workers:
            worker.join()
    assert not wrong


def test_large_calls_from_several_python_threads_share_nothing_but_the_team(draw, threads):
    every = thread_cases.calls_of_every_kernel(kernels, draw)
    chosen = [
        "conv2d_relu_max_pool2d_grads", "cross_entropy mean", "softmax 0", "sum_over of the middle", "max_over (0,)",
        "adaptive_max_pool2d", "sgd_step without momentum",
    ]  # fmt: skip
    calls = [every[name] for name in chosen]
    with threads(1):
        expected = [bits(call()) for call in calls]
    results: list[list[list[bytes]]] = [[] for _ in range(3)]

    def work(worker: int) -> None:
        for turn in range(2 * len(calls)):
            results[worker].append(bits(calls[(worker + turn) % len(calls)]()))

    workers = [threading.Thread(target=work, args=(i,)) for i in range(3)]
    with threads(3):
        for worker in workers:
            worker.start()
        for worker in workers:
            worker.join()
    for i, got in enumerate(results):
        assert got == [expected[(i + turn) % len(calls)] for turn in range(2 * len(calls))]
