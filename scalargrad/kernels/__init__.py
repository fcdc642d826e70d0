"""Arithmetic on arrays: the contract between the table of derivatives and the machine.

A kernel takes NumPy arrays of float32 or float64 in any layout and returns fresh, C-contiguous ones. The same contract
has several implementations: Cython compiled for each instruction set (`base`, `v3` with AVX2, `v4` with AVX-512), and
plain NumPy. The fastest that this machine can run is chosen at import; SCALARGRAD_ISA=base, v3, v4 or numpy forces one.
"""

from __future__ import annotations

import functools
import importlib
import os
import sys
from collections.abc import Callable
from types import ModuleType, SimpleNamespace
from typing import Any, TypeVar, cast

import numpy as np

from scalargrad.core import is_compiled
from scalargrad.version import __version__

from . import memory as memory
from . import (
    plain,
    plain_activation,
    plain_block,
    plain_conv,
    plain_elementwise,
    plain_indexing,
    plain_loss,
    plain_norm,
    plain_optim,
    plain_pool,
    plain_program,
    plain_reduction,
    threads,
)
from .geometry import conv_output_size, pool_output_size
from .threads import get_num_threads, set_num_threads

__all__ = [
    "absolute",
    "accumulate",
    "adam_step",
    "adaptive_avg_pool2d",
    "adaptive_avg_pool2d_input_grad",
    "adaptive_max_pool2d",
    "adaptive_max_pool2d_input_grad",
    "add",
    "available",
    "avg_pool2d",
    "avg_pool2d_input_grad",
    "block_is_fused",
    "contiguous",
    "conv2d",
    "conv2d_input_grad",
    "conv2d_relu_max_pool2d",
    "conv2d_relu_max_pool2d_grads",
    "conv2d_weight_grad",
    "conv_output_size",
    "cpu_features",
    "cross_entropy",
    "cross_entropy_grad",
    "div",
    "elu",
    "elu_grad",
    "eq",
    "erf",
    "exp",
    "expm1",
    "gather",
    "ge",
    "gelu",
    "gelu_grad",
    "gelu_tanh",
    "gelu_tanh_grad",
    "get_num_threads",
    "gt",
    "hardtanh",
    "hardtanh_grad",
    "index_add",
    "isa",
    "le",
    "leaky_relu",
    "leaky_relu_grad",
    "linear",
    "linear_input_grad",
    "linear_weight_grad",
    "load",
    "log",
    "log1p",
    "log_sigmoid",
    "log_sigmoid_grad",
    "log_softmax",
    "log_softmax_grad",
    "lt",
    "matmul",
    "max_over",
    "max_pool2d",
    "max_pool2d_input_grad",
    "max_pool2d_take",
    "maximum",
    "mean_over",
    "min_over",
    "minimum",
    "mul",
    "ne",
    "neg",
    "normalize",
    "normalize_by",
    "normalize_by_grads",
    "normalize_grads",
    "pool_output_size",
    "power",
    "program",
    "relu",
    "relu_grad",
    "relu_max_pool2d",
    "rmsprop_step",
    "scatter_add",
    "select",
    "set_num_threads",
    "sgd_step",
    "show_config",
    "sigmoid",
    "sigmoid_grad",
    "sign",
    "silu",
    "silu_grad",
    "softmax",
    "softmax_grad",
    "softplus",
    "softplus_grad",
    "spread_over",
    "sqrt",
    "sub",
    "sum_by_channel",
    "sum_over",
    "sum_to_size",
    "tanh",
    "why",
    "zero_fill",
]

F = TypeVar("F", bound=Callable[..., Any])

PLAIN = (
    plain,
    plain_activation,
    plain_block,
    plain_conv,
    plain_elementwise,
    plain_indexing,
    plain_loss,
    plain_norm,
    plain_optim,
    plain_pool,
    plain_reduction,
)
"""The contract by subject, in NumPy: what each function means, its types and its documentation."""

COMPILED = ("v4", "v3", "base")  # fastest first
WHAT = {
    "v4": "Cython, x86-64-v4 (AVX-512)",
    "v3": "Cython, x86-64-v3 (AVX2 and FMA)",
    "base": "Cython, this platform's baseline instructions",
    "numpy": "plain NumPy",
}


def cpu_features() -> list[str]:
    """Instruction sets of this CPU that the kernels can use, or an empty list where nobody asked the CPU."""
    try:
        return list(_cpu_module().features())
    except ImportError:
        return []


def _cpu_module() -> ModuleType:
    return importlib.import_module("._cpu", __name__)


def _team_module() -> ModuleType:
    return importlib.import_module("._team", __name__)


def load(isa: str) -> Any:
    """The implementation for one instruction set: an object with the contract's functions as attributes.

    Raises ImportError, saying why, where it was not built or this CPU cannot run it.
    """
    if isa == "numpy":
        return _plain()
    if isa not in COMPILED:
        raise ImportError(f"kernels.load(): expected one of {', '.join((*COMPILED, 'numpy'))}, got {isa!r}")
    runnable = _cpu_module().instruction_sets()
    if isa not in runnable:
        raise ImportError(f"kernels.load(): this CPU cannot run {isa!r}; it runs {', '.join(runnable)}")
    float32 = importlib.import_module(f"._f32_{isa}", __name__)
    float64 = importlib.import_module(f"._f64_{isa}", __name__)
    # The float32 module is the face of both: what it is given in float64 it hands on, at no cost to float32.
    float32.pair_with(float64)
    if _team_module().HAS_THREADS:
        threads.follow(float32.set_num_threads)
        threads.follow(float64.set_num_threads)
    return float32


@functools.cache
def _plain() -> SimpleNamespace:
    functions = {name: getattr(module, name) for module in PLAIN for name in __all__ if hasattr(module, name)}
    return SimpleNamespace(**functions, program=plain_program.program)


def available() -> tuple[str, ...]:
    """The implementations that can be loaded here, fastest first. `numpy` is always one of them."""
    return tuple(isa for isa in (*COMPILED, "numpy") if not _obstacle(isa))


def _obstacle(isa: str) -> str:
    try:
        load(isa)
    except ImportError as error:
        return str(error)
    return ""


def _choose() -> tuple[str, str]:
    forced = os.environ.get("SCALARGRAD_ISA", "")
    if forced:
        if forced not in (*COMPILED, "numpy"):
            raise ImportError(f"SCALARGRAD_ISA: expected one of {', '.join((*COMPILED, 'numpy'))}, got {forced!r}")
        obstacle = _obstacle(forced)
        if obstacle:
            raise ImportError(f"SCALARGRAD_ISA={forced} cannot be used here: {obstacle}")
        return forced, f"SCALARGRAD_ISA={forced}"
    obstacles = []
    for candidate in COMPILED:
        obstacle = _obstacle(candidate)
        if not obstacle:
            return candidate, "the best of those built that this CPU runs"
        obstacles.append(obstacle)
    return "numpy", f"no compiled kernels could be loaded ({obstacles[-1]})"


isa, why = _choose()
_implementation = load(isa)


def _chosen(function: F) -> F:
    """The chosen implementation of a function of the contract, which `plain` documents and types."""
    return cast(F, getattr(_implementation, function.__name__))


matmul = _chosen(plain.matmul)
linear = _chosen(plain.linear)
linear_input_grad = _chosen(plain.linear_input_grad)
linear_weight_grad = _chosen(plain.linear_weight_grad)
conv2d = _chosen(plain_conv.conv2d)
conv2d_input_grad = _chosen(plain_conv.conv2d_input_grad)
conv2d_weight_grad = _chosen(plain_conv.conv2d_weight_grad)
sum_by_channel = _chosen(plain_conv.sum_by_channel)
max_pool2d = _chosen(plain_pool.max_pool2d)
relu_max_pool2d = _chosen(plain_pool.relu_max_pool2d)
max_pool2d_input_grad = _chosen(plain_pool.max_pool2d_input_grad)
max_pool2d_take = _chosen(plain_pool.max_pool2d_take)
avg_pool2d = _chosen(plain_pool.avg_pool2d)
avg_pool2d_input_grad = _chosen(plain_pool.avg_pool2d_input_grad)
adaptive_avg_pool2d = _chosen(plain_pool.adaptive_avg_pool2d)
adaptive_avg_pool2d_input_grad = _chosen(plain_pool.adaptive_avg_pool2d_input_grad)
adaptive_max_pool2d = _chosen(plain_pool.adaptive_max_pool2d)
adaptive_max_pool2d_input_grad = _chosen(plain_pool.adaptive_max_pool2d_input_grad)
block_is_fused = _chosen(plain_block.block_is_fused)
conv2d_relu_max_pool2d = _chosen(plain_block.conv2d_relu_max_pool2d)
conv2d_relu_max_pool2d_grads = _chosen(plain_block.conv2d_relu_max_pool2d_grads)
contiguous = _chosen(plain_elementwise.contiguous)
add = _chosen(plain_elementwise.add)
sub = _chosen(plain_elementwise.sub)
mul = _chosen(plain_elementwise.mul)
div = _chosen(plain_elementwise.div)
maximum = _chosen(plain_elementwise.maximum)
minimum = _chosen(plain_elementwise.minimum)
power = _chosen(plain_elementwise.power)
select = _chosen(plain_elementwise.select)
accumulate = _chosen(plain_elementwise.accumulate)
eq = _chosen(plain_elementwise.eq)
ne = _chosen(plain_elementwise.ne)
lt = _chosen(plain_elementwise.lt)
le = _chosen(plain_elementwise.le)
gt = _chosen(plain_elementwise.gt)
ge = _chosen(plain_elementwise.ge)
neg = _chosen(plain_elementwise.neg)
absolute = _chosen(plain_elementwise.absolute)
sign = _chosen(plain_elementwise.sign)
sqrt = _chosen(plain_elementwise.sqrt)
exp = _chosen(plain_elementwise.exp)
expm1 = _chosen(plain_elementwise.expm1)
log = _chosen(plain_elementwise.log)
log1p = _chosen(plain_elementwise.log1p)
tanh = _chosen(plain_elementwise.tanh)
erf = _chosen(plain_elementwise.erf)
sigmoid = _chosen(plain_elementwise.sigmoid)
sigmoid_grad = _chosen(plain_elementwise.sigmoid_grad)
leaky_relu = _chosen(plain_activation.leaky_relu)
leaky_relu_grad = _chosen(plain_activation.leaky_relu_grad)
elu = _chosen(plain_activation.elu)
elu_grad = _chosen(plain_activation.elu_grad)
softplus = _chosen(plain_activation.softplus)
softplus_grad = _chosen(plain_activation.softplus_grad)
log_sigmoid = _chosen(plain_activation.log_sigmoid)
log_sigmoid_grad = _chosen(plain_activation.log_sigmoid_grad)
silu = _chosen(plain_activation.silu)
silu_grad = _chosen(plain_activation.silu_grad)
gelu = _chosen(plain_activation.gelu)
gelu_grad = _chosen(plain_activation.gelu_grad)
gelu_tanh = _chosen(plain_activation.gelu_tanh)
gelu_tanh_grad = _chosen(plain_activation.gelu_tanh_grad)
hardtanh = _chosen(plain_activation.hardtanh)
hardtanh_grad = _chosen(plain_activation.hardtanh_grad)
gather = _chosen(plain_indexing.gather)
scatter_add = _chosen(plain_indexing.scatter_add)
index_add = _chosen(plain_indexing.index_add)
sum_over = _chosen(plain_reduction.sum_over)
mean_over = _chosen(plain_reduction.mean_over)
max_over = _chosen(plain_reduction.max_over)
min_over = _chosen(plain_reduction.min_over)
spread_over = _chosen(plain_reduction.spread_over)
sum_to_size = _chosen(plain_reduction.sum_to_size)
relu = _chosen(plain.relu)
relu_grad = _chosen(plain.relu_grad)
cross_entropy = _chosen(plain_loss.cross_entropy)
cross_entropy_grad = _chosen(plain_loss.cross_entropy_grad)
softmax = _chosen(plain.softmax)
softmax_grad = _chosen(plain.softmax_grad)
log_softmax = _chosen(plain.log_softmax)
log_softmax_grad = _chosen(plain.log_softmax_grad)
normalize = _chosen(plain_norm.normalize)
normalize_grads = _chosen(plain_norm.normalize_grads)
normalize_by = _chosen(plain_norm.normalize_by)
normalize_by_grads = _chosen(plain_norm.normalize_by_grads)
sgd_step = _chosen(plain_optim.sgd_step)
adam_step = _chosen(plain_optim.adam_step)
rmsprop_step = _chosen(plain_optim.rmsprop_step)
zero_fill = _chosen(plain_optim.zero_fill)
program = _chosen(plain_program.program)


def show_config() -> str:
    """The versions, the kernels in use and why, the core's form, the CPU's features, the threads: a fact a line."""
    if isa == "numpy":
        threading = "NumPy's own"
    elif _team_module().HAS_THREADS:
        threading = str(get_num_threads())
    else:
        threading = "1 (this platform has no POSIX threads)"
    return "\n".join(
        (
            f"scalargrad {__version__} on NumPy {np.__version__}, Python {sys.version.split()[0]}",
            f"kernels: {isa} ({WHAT[isa]}), because: {why}",
            f"kernels available: {', '.join(available())}",
            f"core: {'compiled' if is_compiled() else 'the Python source'}",
            f"CPU features: {', '.join(cpu_features()) or 'unknown'}",
            f"threads: {threading}",
        )
    )
