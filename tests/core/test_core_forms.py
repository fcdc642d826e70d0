"""The core in its two forms, compiled and as it is written: the same source, the same behaviour."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from scalargrad import core

TESTS = Path(__file__).parent.parent
PACKAGE = Path(core.__file__).parent
REPEATED = ("core", "test_table.py", "proof/test_mutants.py", "proof/test_same_program.py")
"""What is run again on the source: what is about recording, and what replaces parts of the core by wrong ones."""


def python(*arguments, form="python"):
    """A run of Python in which the core has this form."""
    return subprocess.run(
        [sys.executable, *arguments],
        env={**os.environ, "SCALARGRAD_CORE": form},
        cwd=TESTS.parent,
        capture_output=True,
        text=True,
        check=False,
    )


@pytest.mark.skipif(not core.is_compiled(), reason="the core in use is the source")
def test_the_source_passes_what_the_compiled_core_passes():
    done = python("-m", "pytest", "-q", "-x", "-p", "no:cacheprovider", *(str(TESTS / name) for name in REPEATED))
    assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-1000:]


def test_the_source_runs_where_it_is_asked_for():
    shown = "scalargrad.core.is_compiled(), sys.modules['scalargrad.tensor'].__file__[-3:]"
    assert python("-c", f"import scalargrad, sys; print({shown})").stdout == "False .py\n"


def test_another_form_is_refused():
    done = python("-c", "import scalargrad", form="rust")
    assert done.returncode != 0
    assert "ImportError: SCALARGRAD_CORE: expected 'python' or nothing, got 'rust'" in done.stderr


def test_the_list_of_the_core_is_complete():
    listed = {PACKAGE.joinpath(*module.split(".")).with_suffix(".py") for module in core.MODULES}
    assert all(path.exists() for path in listed)
    typed = {path.with_suffix(".py") for path in PACKAGE.rglob("*.pxd") if path.parent.name != "kernels"}
    assert typed <= listed
    compiled = {path.stem.partition(".")[0] for path in PACKAGE.glob("*.so")}
    assert compiled in (set(), {module for module in core.MODULES if "." not in module})
