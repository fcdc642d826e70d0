"""The environment variables that contestants run with, in one place for all scripts."""

import os

KEEP_MEMORY = {
    "MALLOC_TRIM_THRESHOLD_": str(1 << 40),
    "MALLOC_MMAP_THRESHOLD_": str(1 << 25),
    "MALLOC_TOP_PAD_": str(1 << 26),
}
"""glibc keeps freed memory, and PyTorch and NumPy do not pay for fresh pages at every large result."""

ONLY_AVX2 = {
    "SCALARGRAD_ISA": "v3",
    "OPENBLAS_CORETYPE": "Haswell",
    "MKL_ENABLE_INSTRUCTIONS": "AVX2",
    "ONEDNN_MAX_CPU_ISA": "AVX2",
    "ATEN_CPU_CAPABILITY": "avx2",
}
"""Kernels of AVX2 and FMA for everybody. NumPy's own loops, outside of its BLAS, are not told."""

HOLDS_A_PEER_BACK = ONLY_AVX2.keys() - {"SCALARGRAD_ISA"} | {
    "DNNL_MAX_CPU_ISA",
    "GLIBC_TUNABLES",
    "JAX_DISABLE_JIT",
    "MKL_CBWR",
    "MKL_DEBUG_CPU_TYPE",
    "NPY_DISABLE_CPU_FEATURES",
    "OMP_THREAD_LIMIT",
    "ONEDNN_CPU_ISA_HINTS",
    "OPENBLAS_L2_SIZE",
    "TORCHDYNAMO_DISABLE",
    "XLA_FLAGS",
}
"""Containers and clusters set these for all their machines: then it is not the peer that one measures."""

THREADS = ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS")


def environment(*settings: dict[str, str], n_threads: int = 1) -> dict[str, str]:
    """This process's environment with these settings, and without what is known to keep a peer from what it can do.

    SCALARGRAD_ISA stays: who sets it wants to see it.
    """
    free = {name: value for name, value in os.environ.items() if name not in HOLDS_A_PEER_BACK}
    for each in settings:
        free |= each
    return free | dict.fromkeys(THREADS, str(n_threads))
