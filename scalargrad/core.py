"""Which form of the core runs: compiled by Cython, or the Python source as it stands.

The modules below are plain Python. Where the package was built with a compiler, the same files were also compiled, with
the types in the .pxd beside some of them; that takes half off LeNet's step at batch 1. SCALARGRAD_CORE=python
takes the source instead, to step through it or to change it without building; either gives the same results.
"""

import os
import sys
from collections.abc import Sequence
from importlib.machinery import ModuleSpec
from importlib.util import spec_from_file_location
from pathlib import Path
from types import ModuleType

MODULES = (
    "dtypes",
    "fusion",
    "graph",
    "methods.arithmetic",
    "methods.conversion",
    "methods.graph",
    "methods.inplace",
    "methods.reductions",
    "methods.shapes",
    "nn.functional",
    "nn.module",
    "nn.parameter",
    "nodes",
    "operation",
    "ops.arguments",
    "ops.classification",
    "ops.convolution",
    "ops.dimensions",
    "ops.extremes",
    "ops.indexing",
    "ops.joining",
    "ops.linalg",
    "ops.pooling",
    "ops.products",
    "ops.reduction",
    "ops.shape",
    "ops.subscript",
    "ops.summation",
    "pending",
    "storage",
    "tensor",
)
"""What is compiled: the core, what every call of a layer passes through, and the functions that pick, join and reduce,
of which half the time for a few numbers is Python's. All of it or none, because a compiled module reads the fields of
the others' objects directly."""


class _Source:
    """Finds the source of the core's modules, before Python finds what was compiled from it."""

    @staticmethod
    def find_spec(name: str, path: Sequence[str] | None, target: ModuleType | None = None) -> ModuleSpec | None:
        """The spec of a module of the core, None for any other."""
        package, _, module = name.partition(".")
        if package != "scalargrad" or module not in MODULES:
            return None
        return spec_from_file_location(name, Path(__file__).parent.joinpath(*module.split(".")).with_suffix(".py"))


forced = os.environ.get("SCALARGRAD_CORE", "")
if forced == "python":
    sys.meta_path.insert(0, _Source)
elif forced:
    raise ImportError(f"SCALARGRAD_CORE: expected 'python' or nothing, got {forced!r}")


def is_compiled() -> bool:
    """True if the core in use was compiled."""
    return not str(sys.modules["scalargrad.graph"].__file__).endswith(".py")
