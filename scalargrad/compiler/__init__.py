"""scalargrad.compile: functions of Values, traced once with their gradient and replayed over whole batches.

trace.py records what a function does, expressions.py keeps what is distinct, assembly.py makes a program of it,
paths.py finds each sample's way through the branches, and compiled.py is what a user holds. The interpreter of the
programs is a kernel, program.pxi.
"""

from scalargrad.compiler.compiled import Compiled, compile
from scalargrad.compiler.trace import TracingError

__all__ = ["Compiled", "TracingError", "compile"]
