"""The benchmarks' workloads run on this library, so that they are not found broken on the day they are needed.

The peers are not needed here, and nothing is timed: that is what running the scripts is for.
"""

import importlib.util
import sys
from pathlib import Path

import pytest

FOLDER = Path(__file__).parent.parent / "benchmarks"


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
    done = benchmark.measure("scalargrad", n_images=2, n_threads=1, seconds=0.01)
    # ln 10 is the loss of a net that knows nothing, and five steps on two images lower it.
    assert 0 < done["loss"] < 2.31
    assert done["step_us"] > 0


@pytest.mark.skipif(sys.platform == "win32", reason="peak memory is read with the resource module")
def test_the_import_benchmark_measures_a_size_and_an_import():
    benchmark = script("import_time")
    elapsed_ms, peak_mb = benchmark.measure("import scalargrad")
    assert elapsed_ms > 0
    assert peak_mb > 1
    assert 0.1 < benchmark.size_mb("scalargrad") < 8
