"""Builds the compiled kernels: one source, compiled for each type of number and each instruction set; and the core.

The package's metadata is in pyproject.toml. Where the compiler cannot build a set of kernels, that set is left out and
what is left is used at run time; without any, the kernels run in plain NumPy. The core is Python that is compiled too,
with the types that stand in the .pxd beside each file; where that fails, the same files run as they are.
"""

import os
import platform
import runpy
import sys
import sysconfig
import tempfile
from pathlib import Path

import numpy
from Cython.Build import cythonize
from setuptools import Extension, setup
from setuptools.command.build_ext import build_ext
from setuptools.errors import CompileError, LinkError, PlatformError

KERNELS = Path("scalargrad/kernels")
# Compiled without special instructions.
BASELINE = ("_cpu", "_pool", "_team")

REALS = {"f32": ("float", 4), "f64": ("double", 8)}
# Bytes in a vector register, and what makes the compiler use it.
INSTRUCTION_SETS = {
    "base": (16, []),
    "v3": (32, ["-march=x86-64-v3"]),
    "v4": (64, ["-march=x86-64-v4", "-mprefer-vector-width=512"]),
}
# -O2 leaves the tiles' loops rolled, at a quarter of the speed. The next two flags allow selection without branches,
# and change no result. -ffast-math is not here and must not be: it flushes small numbers to zero in the whole process
# and takes NaN for impossible.
OPTIMISATION = [
    "-O3",
    "-fno-trapping-math",
    "-fno-math-errno",
    "--param=max-completely-peeled-insns=1000",
    "--param=max-completely-peel-times=64",
    "-g0",
    "-Wno-psabi",
    "-Wno-unused-function",
]
VECTORS = """
typedef float vec __attribute__((vector_size(16)));
vec f(vec a, float s) { return a + s * a; }
int main(void) { return 0; }
"""
# Built for the first NumPy 2, the modules run under every later one.
NUMPY_API = [("NPY_NO_DEPRECATED_API", "NPY_2_0_API_VERSION"), ("NPY_TARGET_VERSION", "NPY_2_0_API_VERSION")]
DIRECTIVES = {
    "language_level": 3,
    "boundscheck": False,
    "wraparound": False,
    "cdivision": True,
    "initializedcheck": False,
    "freethreading_compatible": True,
}
# The core stays Python in meaning: its annotations are no C types, and nothing is unchecked.
CORE_DIRECTIVES = {"language_level": 3, "annotation_typing": False, "freethreading_compatible": True}


def target_is_x86_64():
    """Whether the code is for x86-64: the platform's tag says so also where it is built elsewhere."""
    flags = os.environ.get("ARCHFLAGS", "")
    if "-arch" in flags:
        return "x86_64" in flags and "arm64" not in flags
    tag = sysconfig.get_platform()
    if tag.endswith("universal2"):
        return False  # one build for both: what both have
    return tag.endswith(("x86_64", "amd64")) or (sys.platform == "linux" and platform.machine() == "x86_64")


def extensions():
    found = [Extension(f"scalargrad.kernels.{name}", [str(KERNELS / f"{name}.pyx")]) for name in BASELINE]
    parts = sorted(str(path) for path in KERNELS.glob("*.pxi"))
    for real in REALS:
        for isa in INSTRUCTION_SETS if target_is_x86_64() else ["base"]:
            name = f"_{real}_{isa}"
            found.append(Extension(f"scalargrad.kernels.{name}", [str(KERNELS / f"{name}.pyx")], depends=parts))
    types = [str(path) for path in Path("scalargrad").rglob("*.pxd")]
    for module in runpy.run_path("scalargrad/core.py")["MODULES"]:
        path = Path("scalargrad", *module.split(".")).with_suffix(".py")
        found.append(Extension(f"scalargrad.{module}", [str(path)], depends=types))
    return found


def is_core(extension):
    """Whether an extension is a part of the core: Python of ours, compiled."""
    return not extension.name.startswith("scalargrad.kernels.")


class BuildExtensions(build_ext):
    """Gives each extension its flags, which follow from its name, and leaves out what the compiler cannot build."""

    def accepts(self, flags, code="int main(void) { return 0; }", link=None):
        """Whether the compiler takes the flags for this program and, if there are flags to link, links it."""
        strict = [] if self.compiler.compiler_type == "msvc" else ["-Werror"]
        with tempfile.TemporaryDirectory() as directory:
            source = Path(directory, "probe.c")
            source.write_text(code)
            try:
                objects = self.compiler.compile([str(source)], output_dir=directory, extra_postargs=[*strict, *flags])
                if link is not None:
                    self.compiler.link_executable(objects, str(Path(directory, "probe")), extra_postargs=link)
            except (CompileError, LinkError, PlatformError):
                return False
        return True

    def buildable(self):
        """The extensions that this compiler can build; a warning for what it cannot."""
        if self.compiler.compiler_type == "msvc" and "clang-cl" in os.environ.get("CC", ""):
            self.compiler.initialize()
            self.compiler.cc = os.environ["CC"]
        if not self.accepts([]):
            self.warn("there is no working C compiler, so the kernels will be plain NumPy")
            return []
        if not self.accepts([], VECTORS):
            self.warn(
                "this compiler has no vector types (GCC, Clang and clang-cl do), so the kernels will be plain NumPy"
            )
            return [e for e in self.extensions if is_core(e) or e.name.endswith("._cpu")]
        left_out = {isa for isa, (_, march) in INSTRUCTION_SETS.items() if not all(self.accepts([f]) for f in march)}
        for isa in left_out:
            self.warn(f"this compiler does not know {INSTRUCTION_SETS[isa][1][0]}, so kernels {isa} are left out")
        return [e for e in self.extensions if is_core(e) or e.name.rsplit("_", 1)[1] not in left_out]

    def build_extensions(self):
        extensions = self.buildable()
        if not extensions:
            self.extensions = []
            return
        optimisation = [flag for flag in OPTIMISATION if self.accepts([flag])]
        threads = ["-pthread"] if self.accepts(["-pthread"]) else []
        strip = ["-Wl,-s"] if sys.platform == "linux" and self.accepts([], link=["-Wl,-s"]) else []
        for extension in extensions:
            extension.include_dirs.append(numpy.get_include())
            extension.define_macros += NUMPY_API
            extension.extra_link_args += strip
            if is_core(extension):
                extension.extra_compile_args += [flag for flag in ("-O2", "-g0") if self.accepts([flag])]
                continue
            if extension.name.rsplit(".", 1)[1] in BASELINE:
                extension.extra_compile_args += [*threads, "-g0"] if "-g0" in optimisation else threads
                extension.extra_link_args += threads
                continue
            real, isa = extension.name.rsplit("_", 2)[1:]
            ctype, real_bytes = REALS[real]
            vector_bytes, march = INSTRUCTION_SETS[isa]
            extension.define_macros += [("REAL", ctype), ("REALSZ", str(real_bytes)), ("VBYTES", str(vector_bytes))]
            extension.extra_compile_args += optimisation + march
        # The generated C stays in build/.
        self.extensions = []
        for directives, part in (
            (DIRECTIVES, [e for e in extensions if not is_core(e)]),
            (CORE_DIRECTIVES, [e for e in extensions if is_core(e)]),
        ):
            where = os.path.join(self.build_temp, "c")
            self.extensions += cythonize(part, build_dir=where, compiler_directives=directives, quiet=True)
        for extension in self.extensions:
            # Cython makes new objects, without what setuptools noted on the old ones before.
            extension._needs_stub = False
        self.parallel = self.parallel or os.cpu_count()
        super().build_extensions()


setup(ext_modules=extensions(), cmdclass={"build_ext": BuildExtensions})
