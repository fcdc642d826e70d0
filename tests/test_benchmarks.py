"""The benchmarks' workloads run on this library, so that they are not found broken on the day they are needed.

The peers are not needed here, and nothing is timed: that is what running the scripts is for.
"""

import importlib.util
import platform
import shutil
import sys
from pathlib import Path

import numpy as np
import pytest

import scalargrad

FOLDER = Path(__file__).parent.parent / "benchmarks"


@pytest.fixture(autouse=True)
def _scripts_see_each_other(monkeypatch):
    monkeypatch.syspath_prepend(FOLDER)


def script(name):
    """A benchmark as a module."""
    spec = importlib.util.spec_from_file_location(f"benchmark_{name}", FOLDER / f"{name}.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_the_moons_step_of_the_value_benchmark_learns():
    benchmark = script("value_vs_micrograd")
    points, labels = benchmark.moons()
    assert (len(points), sorted(set(labels))) == (100, [-1.0, 1.0])
    model = benchmark.network("scalargrad")
    losses = [benchmark.step(model, points[::5], labels[::5], learning_rate=0.02) for _ in range(3)]
    assert losses == sorted(losses, reverse=True)
    assert losses[-1] < losses[0]


def test_the_lenet_benchmark_trains_from_fixed_weights():
    benchmark = script("lenet_vs_torch")
    done = benchmark.measure("scalargrad", "train", n_images=2, n_threads=1, seconds=0.01)
    # ln 10 is the loss of a net that knows nothing, and five steps on two images lower it.
    assert 0 < done["result"] < 2.31
    assert done["step_us"] > 0
    assert benchmark.measure("scalargrad", "infer", n_images=2, n_threads=1, seconds=0.01)["step_us"] > 0


def test_the_convolution_benchmark_counts_the_operations_of_its_layers():
    benchmark = script("conv_vs_torch")
    assert benchmark.flop(benchmark.Layer(3, 224, 64, 7, 2, 3, N=2)) == 2 * 2 * 64 * 112**2 * 3 * 49
    assert benchmark.flop(benchmark.depthwise(512, 14, 2)._replace(N=1)) == 2 * 512 * 7**2 * 9
    times = benchmark.least_times((lambda: None, lambda: sum(range(1000))), seconds=0.01)
    assert 0 < times[0] < times[1]


@pytest.mark.skipif(sys.platform == "win32", reason="peak memory is read with the resource module")
def test_the_import_benchmark_measures_a_size_and_an_import():
    benchmark = script("import_time")
    elapsed_ms, peak_mb = benchmark.measure("import scalargrad")
    assert elapsed_ms > 0
    assert peak_mb > 1
    assert 0.1 < benchmark.size_mb("scalargrad") < 14


@pytest.mark.skipif(not any(map(shutil.which, ("cc", "gcc", "clang"))), reason="the loops need a C compiler")
def test_the_limits_are_measured_for_each_type_and_each_kind_of_traffic():
    limits = script("limits")
    assert limits.peak_flops("float32", seconds=0.001) > 0
    assert limits.peak_flops(np.dtype(np.float64), seconds=0.001) > 0
    for kind in limits.KINDS:
        assert limits.bandwidth(10_000, kind, seconds=0.001) > 0
    with pytest.raises(ValueError, match="expected one of read, write, copy, update, got 'move'"):
        limits.bandwidth(10_000, "move")
    assert platform.python_version() in limits.machine()


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_the_matmul_benchmark_asks_all_libraries_for_the_same(dtype):
    benchmark = script("matmul_vs_numpy")
    tables = list(benchmark.products(["square", "linear", "vector"], sizes=[3], batches=[2]))
    kinds = {product.kind for _, lines in tables for _, product in lines}
    assert kinds == {"matmul", "linear", "input gradient", "weight gradient", *benchmark.OF_VECTORS}
    for kind in kinds:
        sizes = {"v @ A": (1, 5, 3), "dot": (1, 5, 1), "outer": (4, 1, 3)}.get(kind, (4, 5, 1 if "@ v" in kind else 3))
        product = benchmark.Product(kind, *sizes)
        ours, theirs = (benchmark.prepared(library, product, dtype)() for library in ("scalargrad", "numpy"))
        assert ours.shape == theirs.shape
        np.testing.assert_allclose(ours.numpy(), theirs, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("direction", ["forward", "with backward"])
def test_the_elementwise_benchmark_does_the_work_that_it_names(direction):
    benchmark = script("elementwise_vs_torch")
    for name, (n_operands, _) in benchmark.WORK.items():
        y, *gradients = benchmark.workload(scalargrad, name, 10, direction)()
        assert y.shape == (() if name in ("sum", "mean", "max") else (10,))
        assert [g.shape for g in gradients] == [(10,)] * (n_operands if direction == "with backward" else 0)
    times = benchmark.least_times([lambda: None, lambda: None], seconds=0.001)
    assert all(time > 0 for time in times)


def test_no_peer_is_held_back_by_what_the_environment_happens_to_say(monkeypatch):
    environments = script("environments")
    monkeypatch.setenv("OPENBLAS_CORETYPE", "Haswell")
    monkeypatch.setenv("ONEDNN_MAX_CPU_ISA", "SSE41")
    monkeypatch.setenv("SCALARGRAD_ISA", "numpy")
    monkeypatch.setenv("OMP_NUM_THREADS", "7")
    found = environments.environment(environments.KEEP_MEMORY, n_threads=2)
    assert not environments.HOLDS_A_PEER_BACK & found.keys()
    assert found["SCALARGRAD_ISA"] == "numpy"
    assert {found[name] for name in environments.THREADS} == {"2"}
    assert environments.KEEP_MEMORY.items() <= found.items()
    held = environments.environment(environments.ONLY_AVX2)
    assert environments.ONLY_AVX2.items() <= held.items()
