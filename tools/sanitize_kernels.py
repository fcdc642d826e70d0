"""Run the kernels' tests with every memory access and every integer operation checked by the compiler's sanitizers.

    python tools/sanitize_kernels.py [--draws 1000] [--isa base v3 v4] [--select EXPRESSION] [--keep FOLDER]
    python tools/sanitize_kernels.py --races

Copies the package into a temporary folder and compiles its kernels there with AddressSanitizer and
UndefinedBehaviorSanitizer, by the flags of setup.py but at -O1; then runs the tests of the kernels in that folder, with
SCALARGRAD_DRAWS calls drawn of each kernel for each instruction set and type. Ends with 1 if a test fails or a
sanitizer reports. With --races it is ThreadSanitizer, and the tests of threads, which looks for two threads that touch
the same memory without order. For GCC and Clang on Linux; ten minutes on two cores, and an hour for 2000 draws.
"""

import argparse
import os
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

import setuptools

ROOT = Path(__file__).resolve().parent.parent
MEMORY = ["-fsanitize=address,undefined", "-fno-sanitize-recover=undefined"]
RACES = ["-fsanitize=thread"]
COMPILE = ["-O1", "-g1", "-fno-omit-frame-pointer"]
FOUND = ("ERROR: AddressSanitizer", "runtime error:", "WARNING: ThreadSanitizer")
ALL = ["tests/kernels", "tests/compiler"]
IGNORED_TESTS = [
    "test_kernel_builds",  # how the kernels are built by default
    "where_memory_ends",  # the sanitizer itself takes terabytes of addresses
    "numpy-",  # nothing of that is compiled
]


def build(folder: Path, sets: list[str], sanitizers: list[str]) -> None:
    """Compile the kernels for these instruction sets into a copy of the package in `folder`."""
    flags = [*sanitizers, *COMPILE]
    shutil.copytree(ROOT / "scalargrad", folder / "scalargrad", ignore=shutil.ignore_patterns("*.so", "__pycache__"))
    described = {}
    setuptools.setup = lambda **description: described.update(description)
    namespace = {"__name__": "__main__", "__file__": str(ROOT / "setup.py")}
    os.chdir(ROOT)
    exec(compile((ROOT / "setup.py").read_text(), "setup.py", "exec"), namespace)
    namespace["OPTIMISATION"][:] = [*(f for f in namespace["OPTIMISATION"] if f not in ("-O3", "-g0")), *flags]

    class BuildWithSanitizers(described["cmdclass"]["build_ext"]):
        """The build of setup.py, of the kernels only, with the sanitizers linked in."""

        def build_extensions(self) -> None:
            baseline = {f"scalargrad.kernels.{name}" for name in namespace["BASELINE"]}
            wanted = baseline | {f"scalargrad.kernels._{real}_{isa}" for real in namespace["REALS"] for isa in sets}
            self.extensions = [extension for extension in self.extensions if extension.name in wanted]
            for extension in self.extensions:
                extension.extra_compile_args += flags if extension.name in baseline else []
                extension.extra_link_args += sanitizers
            super().build_extensions()

    distribution = setuptools.Distribution(
        {**described, "name": "scalargrad", "cmdclass": {"build_ext": BuildWithSanitizers}}
    )
    command = distribution.get_command_obj("build_ext")
    command.build_lib, command.build_temp = str(folder), str(folder / "build")
    command.ensure_finalized()
    command.run()


def library(name: str) -> str:
    """The path of one of the compiler's libraries, which must be there before Python is."""
    compiler = os.environ.get("CC", "gcc")
    return subprocess.run([compiler, f"-print-file-name={name}"], stdout=subprocess.PIPE, text=True).stdout.strip()


def main() -> None:
    """Build, run the tests for each instruction set, and say how it ended."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--draws", type=int, default=1000, help="calls drawn of each kernel, set and type")
    parser.add_argument("--races", action="store_true", help="look for races between threads")
    parser.add_argument("--isa", nargs="+", default=["base", "v3", "v4"], metavar="SET")
    parser.add_argument("--tests", nargs="+", metavar="PATH")
    parser.add_argument("--select", default="", metavar="EXPRESSION", help="only these tests, as in pytest -k")
    parser.add_argument("--keep", type=Path, help="build here, or use what was built here before")
    arguments = parser.parse_args()
    races = arguments.races
    tests = arguments.tests or ([*map(str, (ROOT / "tests/kernels").glob("test_kernel_threads*.py"))] if races else ALL)
    with tempfile.TemporaryDirectory() as temporary:
        folder = (arguments.keep or Path(temporary)).resolve()
        if not (folder / "scalargrad").exists():
            build(folder, arguments.isa, RACES if races else MEMORY)
        for report in folder.glob("report.*"):
            report.unlink()
        environment = {
            **os.environ,
            "PYTHONPATH": str(folder),
            "LD_PRELOAD": " ".join(map(library, ["libtsan.so"] if races else ["libasan.so", "libubsan.so"])),
            # Python keeps what it allocates for ever, which is no leak of ours; its own allocator hides overruns.
            "ASAN_OPTIONS": f"detect_leaks=0:allocator_may_return_null=1:log_path={folder}/report",
            "UBSAN_OPTIONS": f"print_stacktrace=1:halt_on_error=1:log_path={folder}/report",
            "TSAN_OPTIONS": f"die_after_fork=0:log_path={folder}/report",
            "OPENBLAS_NUM_THREADS": "1",  # whose threads the sanitizer would not know
            "PYTHONMALLOC": "malloc",
            "SCALARGRAD_DRAWS": str(arguments.draws),
        }
        command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "--rootdir", str(ROOT)]
        selected = [f"not ({' or '.join(IGNORED_TESTS)})", *([f"({arguments.select})"] if arguments.select else [])]
        command += ["-k", " and ".join(selected), *(str(ROOT / path) for path in tests)]
        done = subprocess.run(command, env=environment, cwd=folder)
        # Processes that the tests start report here, too.
        reports = [report.read_text(errors="replace") for report in sorted(folder.glob("report.*"))]
        # A request for more memory than there is, which a test makes, is a warning of another kind.
        reports = [report for report in reports if any(words in report for words in FOUND)]
    failed = bool(done.returncode or reports)
    print(*reports, "FAILED: see above" if failed else "the sanitizers found nothing", sep="\n")
    sys.exit(failed)


if __name__ == "__main__":
    main()
