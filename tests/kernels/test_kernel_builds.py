"""Which kernels are built, chosen and shown: each for the instruction set of its name, and all for one contract."""

import inspect
import re
import shutil
import subprocess
import sys

import numpy as np
import pytest

from scalargrad import kernels
from scalargrad.kernels import plain, plain_optim

COMPILED = [isa for isa in kernels.available() if isa != "numpy"]


def run(code: str, **environment: str) -> subprocess.CompletedProcess:
    import os

    return subprocess.run(
        [sys.executable, "-c", code], env={**os.environ, **environment}, capture_output=True, text=True, timeout=60
    )


@pytest.mark.skipif(shutil.which("objdump") is None, reason="objdump is not installed")
@pytest.mark.skipif(sys.platform != "linux", reason="objdump reads ELF files")
@pytest.mark.parametrize("isa", [isa for isa in COMPILED if "v3" in COMPILED])
@pytest.mark.parametrize("real", ["f32", "f64"])
def test_a_module_holds_the_instructions_it_is_named_after_and_no_later_ones(isa, real):
    module = sys.modules[f"scalargrad.kernels._{real}_{isa}"]
    code = subprocess.run(["objdump", "-d", module.__file__], capture_output=True, text=True, check=True).stdout
    wide, wider = "%ymm" in code, "%zmm" in code
    assert (wide, wider) == {"base": (False, False), "v3": (True, False), "v4": (True, True)}[isa]


@pytest.mark.parametrize("isa", kernels.available())
def test_the_environment_forces_an_implementation(isa):
    shown = run("from scalargrad import kernels; print(kernels.isa); print(kernels.show_config())", SCALARGRAD_ISA=isa)
    first, _versions, *config = shown.stdout.splitlines()
    assert first == isa
    assert f"SCALARGRAD_ISA={isa}" in config[0]


def test_an_unknown_implementation_is_refused():
    refused = run("import scalargrad.kernels", SCALARGRAD_ISA="avx1024")
    assert refused.returncode != 0
    assert "SCALARGRAD_ISA: expected one of v4, v3, base, numpy, got 'avx1024'" in refused.stderr
    with pytest.raises(ImportError, match="expected one of v4, v3, base, numpy, got 'avx1024'"):
        kernels.load("avx1024")


def test_an_implementation_that_this_cpu_cannot_run_is_refused(monkeypatch):
    if not COMPILED:
        pytest.skip("nothing is compiled here")
    monkeypatch.setattr(kernels._cpu, "instruction_sets", lambda: ["base"])
    with pytest.raises(ImportError, match="this CPU cannot run 'v3'; it runs base"):
        kernels.load("v3")
    assert kernels.available() == ("base", "numpy")


WITHOUT_COMPILED = """
import sys
class Refuse:
    def find_spec(self, name, path=None, target=None):
        if name.startswith("scalargrad.kernels._"):
            raise ImportError(f"No module named {name!r}")
sys.meta_path.insert(0, Refuse())
import numpy as np
from scalargrad import kernels
kernels.set_num_threads(4)
assert kernels.isa == "numpy" and kernels.available() == ("numpy",) and kernels.get_num_threads() == 1
print(kernels.matmul(np.ones((2, 3), np.float32), np.ones((3, 2), np.float32)).tolist())
print(kernels.show_config())
"""


def test_without_compiled_modules_numpy_serves_and_says_so():
    shown = run(WITHOUT_COMPILED)
    product, _versions, config, *_ = shown.stdout.splitlines()
    assert product == "[[3.0, 3.0], [3.0, 3.0]]", shown.stderr
    assert config.startswith("kernels: numpy (plain NumPy), because: no compiled kernels could be loaded")


def test_show_config_names_the_kernels_in_use_the_cpu_and_the_threads():
    config = kernels.show_config()
    assert re.search(rf"^kernels: {kernels.isa} \(.+\), because: .+$", config, re.M)
    assert f"kernels available: {', '.join(kernels.available())}" in config
    assert "CPU features:" in config
    assert "threads:" in config


def test_every_implementation_has_every_function_of_the_contract_with_the_same_parameters():
    contract = {
        name: function
        for module in (plain, plain_optim)
        for name, function in vars(module).items()
        if inspect.isfunction(function) and not name.startswith("_") and function.__module__ == module.__name__
    }
    assert {"matmul", "conv2d", "max_pool2d_take", "adam_step"} <= set(contract)
    assert set(contract) <= set(kernels.__all__)
    for isa in kernels.available():
        implementation = kernels.load(isa)
        for name, function in contract.items():
            other = inspect.signature(getattr(implementation, name))
            mine = inspect.signature(inspect.unwrap(function))
            assert list(other.parameters) == list(mine.parameters), (isa, name)
            kinds = [parameter.kind for parameter in mine.parameters.values()]
            assert [parameter.kind for parameter in other.parameters.values()] == kinds, (isa, name)


def test_output_sizes_are_those_of_the_kernels(k, draw):
    for size, kernel, stride, padding, dilation in [(7, 3, 2, 1, 1), (9, 2, 3, 0, 4), (5, 5, 1, 2, 1), (8, 1, 9, 0, 1)]:
        expected = kernels.conv_output_size(size, kernel, stride, padding, dilation)
        y = k.conv2d(
            draw(1, 1, size, size), draw(1, 1, kernel, kernel), None, *[(v, v) for v in (stride, padding, dilation)], 1
        )
        assert y.shape[2:] == (expected, expected)
        if padding <= kernel // 2:
            for ceil_mode in (False, True):
                expected = kernels.pool_output_size(size, kernel, stride, padding, dilation, ceil_mode)
                geometry = [(v, v) for v in (kernel, stride, padding, dilation)]
                assert k.max_pool2d(draw(1, 1, size, size), *geometry, ceil_mode)[0].shape[2:] == (expected, expected)


@pytest.mark.parametrize(
    ("sizes", "expected"), [((2, 3, 1, 0, 1), 0), ((3, 3, 1, 0, 1), 1), ((4, 3, 2, 0, 1), 1), ((1, 3, 2, 1, 1), 1)]
)
def test_conv_output_size_counts_the_windows_that_fit(sizes, expected):
    assert kernels.conv_output_size(*sizes) == expected


def test_a_large_result_owns_its_memory_like_any_other_array(k, draw):
    y = k.relu(draw(300, 300))
    first = y[0].copy()
    y.resize((400, 300), refcheck=False)
    np.testing.assert_array_equal(y[0], first)
    assert not y[300:].any()
    np.testing.assert_array_equal(np.pad(y, 1)[1:-1, 1:-1], y)


def test_the_pool_holds_at_most_twice_what_was_ever_in_use(draw):
    if not COMPILED:
        pytest.skip("the pool is a compiled module")
    from scalargrad.kernels import _pool

    k = kernels.load(COMPILED[0])
    _pool.empty_pool()
    for n in (100, 700, 300, 500, 100):
        x = draw(n, n)
        several = [k.relu(x) for _ in range(4)]
        in_use, kept, most = _pool.pool_sizes()
        assert in_use >= 4 * x.nbytes
        assert in_use + kept <= 2 * most
        del several
        in_use, kept, most = _pool.pool_sizes()
        assert in_use + kept <= 2 * most
    _pool.empty_pool()
    assert _pool.pool_sizes()[1] == 0
