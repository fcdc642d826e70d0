"""The moons demo learns the same net compiled as it does on Values."""

import importlib.util
import re
from pathlib import Path

import numpy as np

from scalargrad.demos import moons

BENCHMARKS = Path(__file__).parents[2] / "benchmarks"


def lines(capsys, *options):
    assert moons.main(["--steps", "6", "--samples", "20", "--hidden", "4", *options]) == 0
    return re.sub(r"[\d.]+ s", "# s", capsys.readouterr().out)


def test_compiled_moons_prints_what_moons_prints(capsys):
    assert lines(capsys, "--compiled") == lines(capsys)


def test_the_steps_that_the_compile_benchmark_compares_are_the_same():
    spec = importlib.util.spec_from_file_location("compile_benchmark", BENCHMARKS / "compile_vs_micrograd.py")
    benchmark = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(benchmark)
    script = benchmark.moons_script()
    points, labels = script.moons()
    points, labels = points[::10], labels[::10]
    model = script.network("scalargrad")
    weights = np.array([p.data for p in model.parameters()])
    for _ in range(3):
        expected = script.step(model, points, labels, learning_rate=0.02)
        found = benchmark.compiled_step(weights, np.array(points), np.array(labels), learning_rate=0.02)
        assert abs(found - expected) < 1e-12
    np.testing.assert_allclose(weights, [p.data for p in model.parameters()], rtol=1e-9)
    n = benchmark.n_instructions(benchmark.hinge, weights, np.array(points), np.array(labels), wrt="weights")
    assert 1500 < n < 2500
