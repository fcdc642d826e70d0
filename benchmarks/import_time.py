"""What it costs to have the library: import time, memory after the import, size on disk.

    python benchmarks/import_time.py [--rounds 15]

Each import is a fresh process, the contestants take turns, and the figures are medians; the time and the memory of an
interpreter that imports nothing are subtracted. The size is that of the installed package's files without bytecode, and
without the Cython sources that stand beside ours in an editable installation.
"""

import argparse
import json
import os
import platform
import statistics
import subprocess
import sys
from importlib.metadata import version
from importlib.util import find_spec
from pathlib import Path

CONTESTANTS = ("numpy", "scalargrad", "torch")
CHILD = """
import json, resource, sys, time
before = time.perf_counter()
{statement}
elapsed_ms = 1000 * (time.perf_counter() - before)
peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
print(json.dumps([elapsed_ms, peak / (1024 * 1024 if sys.platform == "darwin" else 1024)]))
"""
NOT_INSTALLED = {".pyx", ".pxi", ".pxd", ".c", ".h", ".pyc"}


def measure(statement: str) -> tuple[float, float]:
    """Milliseconds that `statement` takes in a new interpreter, and the interpreter's peak memory in MB."""
    code = CHILD.format(statement=statement)
    # Some containers forbid to keep bytecode; then each import compiles what an installation has compiled.
    keeps_bytecode = {name: value for name, value in os.environ.items() if name != "PYTHONDONTWRITEBYTECODE"}
    done = subprocess.run(
        [sys.executable, "-c", code], env=keeps_bytecode, stdout=subprocess.PIPE, text=True, check=True
    )
    return tuple(json.loads(done.stdout))


def size_mb(name: str) -> float:
    """The size of a package's files, and of the libraries that its wheel brings along beside it."""
    folder = Path(find_spec(name).submodule_search_locations[0])
    beside = folder.parent / f"{name}.libs"
    skipped = NOT_INSTALLED if name == "scalargrad" else {".pyc"}
    files = [path for top in (folder, beside) for path in top.rglob("*") if path.is_file()]
    return sum(path.stat().st_size for path in files if path.suffix not in skipped) / 1e6


def main() -> None:
    """Take turns, and print the table."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--rounds", type=int, default=15)
    rounds = parser.parse_args().rounds
    present = [name for name in CONTESTANTS if find_spec(name)]
    results = {name: [] for name in ("nothing", *present)}
    for number in range(rounds + 1):
        for name, measured in results.items():
            figures = measure("pass" if name == "nothing" else f"import {name}")
            if number:  # the first round brings the files into memory, and their bytecode into being
                measured.append(figures)
    print(f"Python {platform.python_version()}, {os.cpu_count()} cores; medians of {rounds} processes each, in turn\n")
    print("| | import | memory after import | size on disk |")
    print("|---|--:|--:|--:|")
    idle_ms, idle_mb = (statistics.median(column) for column in zip(*results.pop("nothing"), strict=True))
    for name, measured in results.items():
        elapsed_ms, peak_mb = (statistics.median(column) for column in zip(*measured, strict=True))
        cells = [f"{elapsed_ms - idle_ms:.0f} ms", f"{peak_mb - idle_mb:.0f} MB", f"{size_mb(name):.1f} MB"]
        print("| " + " | ".join([f"{name} {version(name)}", *cells]) + " |")


if __name__ == "__main__":
    main()
