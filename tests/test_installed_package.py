"""The package under test is the one that was installed, with its compiled kernels where they could be compiled."""

import os
import shutil
import subprocess
import sys
import sysconfig
from importlib.metadata import metadata, requires
from pathlib import Path

import pytest

import scalargrad
from scalargrad import kernels


def compiler() -> str | None:
    """The C compiler that an installation here would have used, or None."""
    if sys.platform == "win32":  # Microsoft's own has no vector types, and setup.py asks for no other by itself
        return shutil.which("clang-cl") if "clang-cl" in os.environ.get("CC", "") else None
    configured = os.environ.get("CC") or sysconfig.get_config_var("CC") or "cc"
    return shutil.which(configured.split()[0])


@pytest.mark.skipif(compiler() is None, reason="no C compiler here: the NumPy implementation is right")
@pytest.mark.skipif("SCALARGRAD_ISA" in os.environ, reason="SCALARGRAD_ISA forces an implementation")
def test_the_compiled_kernels_are_the_ones_under_test():
    assert kernels.isa != "numpy", (
        f"there is a compiler ({compiler()}), but {kernels.why}; `pip install -e .` builds the kernels"
    )


def test_every_test_imports_the_same_package_as_a_user_does(tmp_path):
    """Started elsewhere, Python finds the same files: nothing depends on the current directory."""
    shown = subprocess.run(
        [sys.executable, "-c", "import scalargrad; print(scalargrad.__file__)"],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=True,
    ).stdout
    assert Path(shown.strip()).samefile(scalargrad.__file__)


def test_python_dash_m_prints_the_configuration():
    shown = subprocess.run(
        [sys.executable, "-m", "scalargrad"], capture_output=True, text=True, check=True
    ).stdout.strip()
    assert shown == scalargrad.show_config().strip()
    for fact in (scalargrad.__version__, "NumPy", "threads"):
        assert fact in shown


def test_numpy_is_the_only_dependency():
    needed = [line for line in requires("scalargrad") or [] if "extra ==" not in line]
    assert [line.split(">=")[0] for line in needed] == ["numpy"]
    assert metadata("scalargrad")["Requires-Python"] == ">=3.11"


def test_the_installed_package_stays_small():
    folder = Path(scalargrad.__file__).parent
    left_out = {".pyc", ".pyx", ".pxi", ".pxd", ".c", ".h"}  # sources and bytecode, in an editable installation
    size = sum(path.stat().st_size for path in folder.rglob("*") if path.is_file() and path.suffix not in left_out)
    assert size < 14_000_000
