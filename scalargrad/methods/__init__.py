"""Tensor's methods, by subject: each is a line that calls the operation of the same name."""

from scalargrad.methods.arithmetic import Arithmetic
from scalargrad.methods.conversion import Casting, Conversion
from scalargrad.methods.inplace import InPlace
from scalargrad.methods.reductions import Reductions
from scalargrad.methods.shapes import Shapes


class Methods(Arithmetic, Reductions, Shapes, InPlace, Conversion, Casting):
    """All of them."""

    __slots__ = ()
