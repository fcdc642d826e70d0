"""What this core can do at most: floating-point operations a second, and bytes a second by the size of the data.

    python benchmarks/limits.py [--cpu 0]

The other benchmarks divide by these to tell how much of the machine a kernel uses. A machine's clock drifts (the one
that these were written on by up to 1.8 times), so each benchmark measures the limits beside its own work, in its own
process: `peak_flops("float32")` and `bandwidth(n_bytes)` take 20 ms each.

A loop of C is compiled for the processor at hand by the system's compiler, into a temporary directory. The peak is a
loop of multiply-adds on registers, at the widest vectors there are. The bandwidth is the better of two ways, plain
vector loads and stores or the C library's `memset` and `memcpy`, which write past the caches when the data is large.
"""

import argparse
import ctypes
import functools
import os
import platform
import shutil
import subprocess
import tempfile
from contextlib import suppress
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from time import perf_counter

SOURCE = r"""
#include <stddef.h>
#include <string.h>

#if defined(__AVX512F__)
#define BYTES 64
#elif defined(__AVX__)
#define BYTES 32
#else
#define BYTES 16
#endif
enum { CHAINS = 12, ROUND = 16 };  /* more chains than a multiply-add's latency times the units; below 16 registers */

#define PEAK(name, type) \
    typedef type name##_vec __attribute__((vector_size(BYTES))); \
    double name(long n, type factor, type term) { \
        name##_vec sums[CHAINS], f = factor - (name##_vec){0}, t = term - (name##_vec){0}; \
        for (int c = 0; c < CHAINS; c++) sums[c] = t * (type)c; \
        for (long i = 0; i < n; i++) \
            for (int c = 0; c < CHAINS; c++) sums[c] = sums[c] * f + t; \
        double total = 0; \
        for (int c = 0; c < CHAINS; c++) total += sums[c][0]; \
        return total; \
    } \
    double name##_flop(long n) { return 2.0 * n * CHAINS * (BYTES / sizeof(type)); }
PEAK(peak_f32, float)
PEAK(peak_f64, double)

typedef long long word __attribute__((vector_size(BYTES)));

/* Each goes over its data n times. What the compiler cannot see may have changed the memory in between. */
#define TIMES(n) for (long time = 0; time < (n); time++, ({ __asm__ volatile("" ::: "memory"); }))

long long read_loop(long n, const word* from, size_t n_bytes) {
    word sums[ROUND] = {{0}};
    TIMES(n) for (size_t i = 0; i + ROUND <= n_bytes / BYTES; i += ROUND)
        for (int j = 0; j < ROUND; j++) sums[j] |= from[i + j];
    for (int j = 1; j < ROUND; j++) sums[0] |= sums[j];
    return sums[0][0];
}
void write_loop(long n, word* to, size_t n_bytes) {
    TIMES(n) for (size_t i = 0; i + ROUND <= n_bytes / BYTES; i += ROUND)
        for (int j = 0; j < ROUND; j++) to[i + j] = (word){0};
}
void write_by_memset(long n, word* to, size_t n_bytes) { TIMES(n) memset(to, 0, n_bytes); }
void update_loop(long n, word* at, size_t n_bytes) {
    TIMES(n) for (size_t i = 0; i + ROUND <= n_bytes / BYTES; i += ROUND)
        for (int j = 0; j < ROUND; j++) at[i + j] = ~at[i + j];
}
void copy_loop(long n, word* restrict to, const word* restrict from, size_t n_bytes) {
    TIMES(n) for (size_t i = 0; i + ROUND <= n_bytes / BYTES; i += ROUND)
        for (int j = 0; j < ROUND; j++) to[i + j] = from[i + j];
}
void copy_by_memcpy(long n, word* to, const word* from, size_t n_bytes) { TIMES(n) memcpy(to, from, n_bytes); }
"""
# The loops must stay loops: a compiler that knows them by their shape calls memset and memcpy instead.
FLAGS = ["-O3", "-std=gnu11", "-fPIC", "-shared", "-fno-builtin"]
FOR_THIS_CPU = [["-march=native"], ["-mcpu=native"], []]
STEP = 1024  # bytes that one round of a loop moves at the widest vectors; all sizes are multiples
PAGE = 4096
KINDS = ("read", "write", "copy", "update")


def compiler() -> str:
    """The system's C compiler."""
    names = [os.environ.get("CC", ""), "cc", "gcc", "clang"]
    found = next((path for name in names if name and (path := shutil.which(name))), None)
    if found is None:
        raise SystemExit("limits: there is no C compiler here (cc, gcc or clang), which measuring the limits needs")
    return found


@functools.cache
def loops() -> ctypes.CDLL:
    """The compiled loops."""
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as folder:
        source, library = Path(folder, "limits.c"), Path(folder, "limits.so")
        source.write_text(SOURCE)
        for flags in FOR_THIS_CPU:
            command = [compiler(), *FLAGS, *flags, "-o", str(library), str(source)]
            done = subprocess.run(command, capture_output=True, text=True)
            if done.returncode == 0:
                break
        else:
            raise SystemExit(f"limits: {' '.join(command)} failed:\n{done.stderr}")
        loaded = ctypes.CDLL(str(library))
    for name, real in (("peak_f32", ctypes.c_float), ("peak_f64", ctypes.c_double)):
        getattr(loaded, name).argtypes = [ctypes.c_long, real, real]
        getattr(loaded, name).restype = ctypes.c_double
        getattr(loaded, f"{name}_flop").argtypes = [ctypes.c_long]
        getattr(loaded, f"{name}_flop").restype = ctypes.c_double
    for name in ("read_loop", "write_loop", "write_by_memset", "update_loop"):
        getattr(loaded, name).argtypes = [ctypes.c_long, ctypes.c_void_p, ctypes.c_size_t]
    for name in ("copy_loop", "copy_by_memcpy"):
        getattr(loaded, name).argtypes = [ctypes.c_long, ctypes.c_void_p, ctypes.c_void_p, ctypes.c_size_t]
    return loaded


def shortest(call, seconds: float) -> float:
    """The shortest time of the calls that fit in `seconds`: what else the machine does only ever adds time."""
    best = float("inf")
    ends = perf_counter() + seconds
    while (before := perf_counter()) < ends or best == float("inf"):
        call()
        best = min(best, perf_counter() - before)
    return best


def peak_flops(dtype: object = "float32", seconds: float = 0.02) -> float:
    """Floating-point operations a second that this core can do, a multiply-add counting as two."""
    name = {"float32": "peak_f32", "float64": "peak_f64"}[getattr(dtype, "name", str(dtype))]
    n = 20_000  # some 50 us
    run = getattr(loops(), name)
    return getattr(loops(), f"{name}_flop")(n) / shortest(lambda: run(n, 0.999, 0.001), seconds)


def touched(n_bytes: int) -> tuple[object, int]:
    """Memory whose pages have all been touched, and the address of a page's beginning in it."""
    memory = ctypes.create_string_buffer(n_bytes + PAGE)
    ctypes.memset(memory, 1, n_bytes + PAGE)
    return memory, -(-ctypes.addressof(memory) // PAGE) * PAGE


def bandwidth(n_bytes: int, kind: str = "read", seconds: float = 0.02) -> float:
    """Bytes a second that this core can move, going over `n_bytes` of data again and again.

    `kind` is read, write, copy, whose data is half source and half destination, or update, which reads and writes each
    place. Bytes that are read and bytes that are written both count: a copy moves n_bytes, an update 2 · n_bytes, which
    beyond the first cache takes no longer than a read, because the lines come in for it anyway.
    """
    if kind not in KINDS:
        raise ValueError(f"bandwidth(): expected one of {', '.join(KINDS)}, got {kind!r}")
    n_bytes = max(2 * STEP, n_bytes // (2 * STEP) * (2 * STEP))
    half = n_bytes // 2
    _memory, at = touched(n_bytes)
    n = max(1, (1 << 20) // n_bytes)  # a call from Python costs 0.3 us, as much as reading 30 KB
    c = loops()
    ways = {
        "read": [lambda: c.read_loop(n, at, n_bytes)],
        "write": [lambda: c.write_loop(n, at, n_bytes), lambda: c.write_by_memset(n, at, n_bytes)],
        "update": [lambda: c.update_loop(n, at, n_bytes)],
        "copy": [lambda: c.copy_loop(n, at + half, at, half), lambda: c.copy_by_memcpy(n, at + half, at, half)],
    }[kind]
    moved = 2 * n_bytes if kind == "update" else n_bytes
    return moved * n / min(shortest(way, seconds / len(ways)) for way in ways)


def caches() -> dict[str, int]:
    """Bytes of this core's data caches by their names, where the system tells: {"L1": 49152, ...}."""
    found = {}
    for folder in sorted(Path("/sys/devices/system/cpu/cpu0/cache").glob("index*")):
        level, kind, size = (Path(folder, name).read_text().strip() for name in ("level", "type", "size"))
        if kind != "Instruction" and size.endswith("K"):
            found[f"L{level}"] = int(size[:-1]) * 1024
    return found


def processor() -> str:
    """The processor's name as the system gives it."""
    try:
        with open("/proc/cpuinfo", encoding="utf-8") as file:
            return next(line.split(":")[1].strip() for line in file if line.startswith("model name"))
    except (OSError, StopIteration):
        return platform.processor() or platform.machine()


def machine() -> str:
    """A line that names the processor, its caches, the compiler and the versions of the libraries."""
    sizes = ", ".join(f"{name} {amount(n_bytes)}" for name, n_bytes in caches().items())
    first = subprocess.run([compiler(), "--version"], capture_output=True, text=True, check=True).stdout.splitlines()[0]
    versions = [f"Python {platform.python_version()}"]
    for name in ("scalargrad", "numpy", "torch"):
        with suppress(PackageNotFoundError):
            versions.append(f"{name} {version(name)}")
    return "; ".join(part for part in (f"{os.cpu_count()} × {processor()}", sizes, first, ", ".join(versions)) if part)


def amount(n_bytes: int) -> str:
    """A number of bytes in words."""
    return f"{n_bytes >> 20} MB" if n_bytes >= 1 << 20 else f"{n_bytes >> 10} KB"


def sizes() -> dict[str, int]:
    """A size of data well inside each cache, and one far beyond the last."""
    known = caches() or {"L1": 32 << 10, "L2": 512 << 10, "L3": 8 << 20}
    inside = {name: n_bytes // 2 for name, n_bytes in known.items()}
    return {**inside, "memory": 8 * max(known.values())}


def main() -> None:
    """Measure, and print the tables."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--cpu", type=int, help="the core to measure; the first that this process may use by default")
    cpu = parser.parse_args().cpu
    if hasattr(os, "sched_setaffinity"):
        os.sched_setaffinity(0, [min(os.sched_getaffinity(0)) if cpu is None else cpu])
    print(f"{machine()}\n")
    print("| multiply-adds on registers | GFLOP/s |\n|---|--:|")
    for dtype in ("float32", "float64"):
        print(f"| {dtype} | {peak_flops(dtype, 0.2) / 1e9:.0f} |")
    print(f"\n| bytes moved, GB/s | data | {' | '.join(KINDS)} |\n|---|--:|{'--:|' * len(KINDS)}")
    for name, n_bytes in sizes().items():
        rates = [f"{bandwidth(n_bytes, kind, 0.4) / 1e9:.0f}" for kind in KINDS]
        print(f"| {name} | {amount(n_bytes)} | {' | '.join(rates)} |")


if __name__ == "__main__":
    main()
