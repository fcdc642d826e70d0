"""Operators, and what works element by element."""

from __future__ import annotations

from typing import Any

import numpy as np

from scalargrad.nodes import Saved
from scalargrad.operation import Recordable
from scalargrad.ops import comparison, elementwise
from scalargrad.ops.elementwise import elementwise as rows
from scalargrad.rules import ops

_OPERANDS = (Recordable, float, int, np.ndarray, np.generic)


class Arithmetic(Saved):
    """Element by element."""

    __slots__ = ()

    def __hash__(self) -> int:
        return object.__hash__(self)

    def __add__(self, other: Any) -> Any:
        return self.record(ops.add, (self, other)) if isinstance(other, _OPERANDS) else NotImplemented

    def __radd__(self, other: Any) -> Any:
        return self.record(ops.add, (other, self)) if isinstance(other, _OPERANDS) else NotImplemented

    def __mul__(self, other: Any) -> Any:
        return self.record(ops.mul, (self, other)) if isinstance(other, _OPERANDS) else NotImplemented

    def __rmul__(self, other: Any) -> Any:
        return self.record(ops.mul, (other, self)) if isinstance(other, _OPERANDS) else NotImplemented

    def __truediv__(self, other: Any) -> Any:
        return self.record(ops.div, (self, other)) if isinstance(other, _OPERANDS) else NotImplemented

    def __rtruediv__(self, other: Any) -> Any:
        return self.record(ops.div, (other, self)) if isinstance(other, _OPERANDS) else NotImplemented

    def __floordiv__(self, other: Any) -> Any:
        return self.record(rows.floor_divide, (self, other)) if isinstance(other, _OPERANDS) else NotImplemented

    def __rfloordiv__(self, other: Any) -> Any:
        return self.record(rows.floor_divide, (other, self)) if isinstance(other, _OPERANDS) else NotImplemented

    def __mod__(self, other: Any) -> Any:
        return self.record(rows.remainder, (self, other)) if isinstance(other, _OPERANDS) else NotImplemented

    def __rmod__(self, other: Any) -> Any:
        return self.record(rows.remainder, (other, self)) if isinstance(other, _OPERANDS) else NotImplemented

    def __sub__(self, other: Any) -> Any:
        return elementwise.sub(self, other) if isinstance(other, _OPERANDS) else NotImplemented

    def __rsub__(self, other: Any) -> Any:
        return elementwise.sub(other, self) if isinstance(other, _OPERANDS) else NotImplemented

    def __pow__(self, other: Any) -> Any:
        return elementwise.pow(self, other) if isinstance(other, _OPERANDS) else NotImplemented

    def __rpow__(self, other: Any) -> Any:
        return elementwise.pow(other, self) if isinstance(other, _OPERANDS) else NotImplemented

    def __neg__(self) -> Any:
        return elementwise.neg(self)

    def __pos__(self) -> Any:
        return self

    def __abs__(self) -> Any:
        return elementwise.abs(self)

    def __invert__(self) -> Any:
        return comparison.bitwise_not(self)

    def __and__(self, other: Any) -> Any:
        return comparison.bitwise_and(self, other)

    def __rand__(self, other: Any) -> Any:
        return comparison.bitwise_and(self, other)

    def __or__(self, other: Any) -> Any:
        return comparison.bitwise_or(self, other)

    def __ror__(self, other: Any) -> Any:
        return comparison.bitwise_or(self, other)

    def __xor__(self, other: Any) -> Any:
        return comparison.bitwise_xor(self, other)

    def __rxor__(self, other: Any) -> Any:
        return comparison.bitwise_xor(self, other)

    def __lt__(self, other: Any) -> Any:
        return self.record(ops.lt, (self, other)) if isinstance(other, _OPERANDS) else NotImplemented

    def __le__(self, other: Any) -> Any:
        return self.record(ops.le, (self, other)) if isinstance(other, _OPERANDS) else NotImplemented

    def __gt__(self, other: Any) -> Any:
        return self.record(ops.gt, (self, other)) if isinstance(other, _OPERANDS) else NotImplemented

    def __ge__(self, other: Any) -> Any:
        return self.record(ops.ge, (self, other)) if isinstance(other, _OPERANDS) else NotImplemented

    def __eq__(self, other: Any) -> Any:
        return self.record(ops.eq, (self, other)) if isinstance(other, _OPERANDS) else NotImplemented

    def __ne__(self, other: Any) -> Any:
        return self.record(ops.ne, (self, other)) if isinstance(other, _OPERANDS) else NotImplemented

    def add(self, other: Any, *, alpha: float = 1) -> Any:
        return elementwise.add(self, other, alpha=alpha)

    def sub(self, other: Any, *, alpha: float = 1) -> Any:
        return elementwise.sub(self, other, alpha=alpha)

    def div(self, other: Any, *, rounding_mode: str | None = None) -> Any:
        return elementwise.div(self, other, rounding_mode=rounding_mode)

    def mul(self, other: Any) -> Any:
        return elementwise.mul(self, other)

    def floor_divide(self, other: Any) -> Any:
        return elementwise.floor_divide(self, other)

    def remainder(self, other: Any) -> Any:
        return elementwise.remainder(self, other)

    def fmod(self, other: Any) -> Any:
        return elementwise.fmod(self, other)

    def pow(self, exponent: Any) -> Any:
        return elementwise.pow(self, exponent)

    def atan2(self, other: Any) -> Any:
        return elementwise.atan2(self, other)

    def maximum(self, other: Any) -> Any:
        return elementwise.maximum(self, other)

    def minimum(self, other: Any) -> Any:
        return elementwise.minimum(self, other)

    def eq(self, other: Any) -> Any:
        return comparison.eq(self, other)

    def ne(self, other: Any) -> Any:
        return comparison.ne(self, other)

    def lt(self, other: Any) -> Any:
        return comparison.lt(self, other)

    def le(self, other: Any) -> Any:
        return comparison.le(self, other)

    def gt(self, other: Any) -> Any:
        return comparison.gt(self, other)

    def ge(self, other: Any) -> Any:
        return comparison.ge(self, other)

    def logical_and(self, other: Any) -> Any:
        return comparison.logical_and(self, other)

    def logical_or(self, other: Any) -> Any:
        return comparison.logical_or(self, other)

    def logical_xor(self, other: Any) -> Any:
        return comparison.logical_xor(self, other)

    def bitwise_and(self, other: Any) -> Any:
        return comparison.bitwise_and(self, other)

    def bitwise_or(self, other: Any) -> Any:
        return comparison.bitwise_or(self, other)

    def bitwise_xor(self, other: Any) -> Any:
        return comparison.bitwise_xor(self, other)

    def erf(self) -> Any:
        return elementwise.erf(self)

    def exp(self) -> Any:
        return elementwise.exp(self)

    def exp2(self) -> Any:
        return elementwise.exp2(self)

    def expm1(self) -> Any:
        return elementwise.expm1(self)

    def log(self) -> Any:
        return elementwise.log(self)

    def log1p(self) -> Any:
        return elementwise.log1p(self)

    def log2(self) -> Any:
        return elementwise.log2(self)

    def log10(self) -> Any:
        return elementwise.log10(self)

    def sqrt(self) -> Any:
        return elementwise.sqrt(self)

    def rsqrt(self) -> Any:
        return elementwise.rsqrt(self)

    def reciprocal(self) -> Any:
        return elementwise.reciprocal(self)

    def square(self) -> Any:
        return elementwise.square(self)

    def neg(self) -> Any:
        return elementwise.neg(self)

    def abs(self) -> Any:
        return elementwise.abs(self)

    def sign(self) -> Any:
        return elementwise.sign(self)

    def sin(self) -> Any:
        return elementwise.sin(self)

    def cos(self) -> Any:
        return elementwise.cos(self)

    def tan(self) -> Any:
        return elementwise.tan(self)

    def asin(self) -> Any:
        return elementwise.asin(self)

    def acos(self) -> Any:
        return elementwise.acos(self)

    def atan(self) -> Any:
        return elementwise.atan(self)

    def sinh(self) -> Any:
        return elementwise.sinh(self)

    def cosh(self) -> Any:
        return elementwise.cosh(self)

    def tanh(self) -> Any:
        return elementwise.tanh(self)

    def sigmoid(self) -> Any:
        return elementwise.sigmoid(self)

    def relu(self) -> Any:
        return elementwise.relu(self)

    def floor(self) -> Any:
        return elementwise.floor(self)

    def ceil(self) -> Any:
        return elementwise.ceil(self)

    def trunc(self) -> Any:
        return elementwise.trunc(self)

    def isnan(self) -> Any:
        return comparison.isnan(self)

    def isinf(self) -> Any:
        return comparison.isinf(self)

    def isfinite(self) -> Any:
        return comparison.isfinite(self)

    def logical_not(self) -> Any:
        return comparison.logical_not(self)

    def bitwise_not(self) -> Any:
        return comparison.bitwise_not(self)

    def round(self, *, decimals: int = 0) -> Any:
        return elementwise.round(self, decimals=decimals)

    def clamp(self, min: Any = None, max: Any = None) -> Any:
        return elementwise.clamp(self, min, max)

    clip = clamp

    def lerp(self, end: Any, weight: Any) -> Any:
        return elementwise.lerp(self, end, weight)

    def addcmul(self, tensor1: Any, tensor2: Any, *, value: float = 1) -> Any:
        return elementwise.addcmul(self, tensor1, tensor2, value=value)

    def addcdiv(self, tensor1: Any, tensor2: Any, *, value: float = 1) -> Any:
        return elementwise.addcdiv(self, tensor1, tensor2, value=value)

    def isclose(self, other: Any, rtol: float = 1e-5, atol: float = 1e-8, equal_nan: bool = False) -> Any:
        return comparison.isclose(self, other, rtol, atol, equal_nan)

    def allclose(self, other: Any, rtol: float = 1e-5, atol: float = 1e-8, equal_nan: bool = False) -> bool:
        return comparison.allclose(self, other, rtol, atol, equal_nan)

    def equal(self, other: Any) -> bool:
        return comparison.equal(self, other)
