"""Which kernels are built, chosen and shown: each for the instruction set of its name, and all for one contract."""

import inspect
import os
import platform
import re
import shutil
import subprocess
import sys
from importlib.machinery import EXTENSION_SUFFIXES
from pathlib import Path

import pytest

from scalargrad import kernels
from scalargrad.core import is_compiled

COMPILED = [isa for isa in kernels.available() if isa != "numpy"]


def run(code: str, **environment: str) -> subprocess.CompletedProcess:
    """A new process that was told nothing of instruction sets, but for what `environment` says."""
    inherited = {name: value for name, value in os.environ.items() if name != "SCALARGRAD_ISA"}
    return subprocess.run(
        [sys.executable, "-c", code], env={**inherited, **environment}, capture_output=True, text=True, timeout=60
    )


# What x86-64 has come to have since SSE2. Instructions of AVX and later begin with v, but for those on masks (k) and on
# general registers; SSE3 to SSE4.2 have names of their own.
LATER = re.compile(
    r"v(?!err|erw|mcall|mlaunch)[a-z0-9]+|k(and|or|mov|not|xor|ortest|test|shift|add|unpck)[a-z]*"
    r"|andn|bextr|blsi|blsmsk|blsr|bzhi|mulx|pdep|pext|rorx|sarx|shlx|shrx|lzcnt|popcnt|movbe|crc32[a-z]*"
    r"|addsubp[sd]|haddp[sd]|hsubp[sd]|lddqu|movddup|movs[hl]dup|pabs[bwd]|palignr|phadd\w+|phsub\w+|pmaddubsw|pmulhrsw"
    r"|pshufb|psign[bwd]|blendv?p[sd]|pblendw|pblendvb|dpp[sd]|extractps|insertps|movntdqa|mpsadbw|packusdw|pcmpeqq"
    r"|pcmpgtq|pcmp[ei]str[im]|pext(rb|rd|rq)|pins(rb|rd|rq)|phminposuw|pm(ax|in)(sb|sd|ud|uw)|pmov[sz]x\w+|pmuldq"
    r"|pmulld|ptest|rounds[sd]|roundp[sd]"
)
MODULES = [
    path
    for path in Path(kernels.__file__).parents[1].rglob("*")
    if path.name.endswith(EXTENSION_SUFFIXES[0])  # for this Python
]
is_x86_64_linux = sys.platform == "linux" and platform.machine() == "x86_64"
reads_instructions = pytest.mark.skipif(
    not is_x86_64_linux or shutil.which("objdump") is None, reason="reads x86-64 instructions with objdump"
)


def instructions(path: Path) -> set[str]:
    """The different lines of a module's machine code: an instruction with its operands."""
    command = ["objdump", "-d", "--no-show-raw-insn", "--no-addresses", str(path)]
    code = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    return {line.strip() for line in code.splitlines() if line.startswith("\t")}


@reads_instructions
@pytest.mark.skipif(not MODULES, reason="nothing is compiled here")
@pytest.mark.parametrize("path", MODULES, ids=lambda path: path.name.partition(".")[0])
def test_a_module_holds_the_instructions_it_is_named_after_and_no_later_ones(path):
    """All but those for later instruction sets run on any x86-64: the core, and what picks the kernels, too."""
    code = instructions(path)
    names = {line.split()[0] for line in code}
    named = re.match(r"_(f32|f64)_(base|v3|v4)\.", path.name)
    real, isa = named.groups() if named else (None, "base")
    if isa == "base":
        assert not {name for name in names if LATER.fullmatch(name)}
        assert not [line for line in code if re.search("%[yz]mm|%[xyz]mm(1[6-9]|2[0-9]|3[01])|%k[0-7]", line)]
        return
    assert any(name.startswith("vfmadd") for name in names)
    own, later = {"v3": ("%ymm", "%zmm|%[xy]mm(1[6-9]|2[0-9]|3[01])|%k[0-7]"), "v4": ("%zmm", "%tmm")}[isa]
    assert any(own in line for line in code)
    assert not [line for line in code if re.search(later, line)]
    # Roots are taken by the optimisers alone: were their loops not vectors, these would be of single numbers.
    roots = "vsqrtps" if real == "f32" else "vsqrtpd"
    assert any(line.startswith(roots) and own in line for line in code)


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
    assert f"core: {'compiled' if is_compiled() else 'the Python source'}" in config
    assert "CPU features:" in config
    assert "threads:" in config


def test_every_implementation_has_every_function_of_the_contract_with_the_same_parameters():
    contract = {
        name: function
        for module in kernels.PLAIN
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
