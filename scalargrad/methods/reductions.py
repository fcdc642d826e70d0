"""Reductions, sorting and linear algebra."""

from __future__ import annotations

from typing import Any

from scalargrad.methods.arithmetic import Arithmetic
from scalargrad.ops import activation, linalg, reduction, sorting


class Reductions(Arithmetic):
    """Over elements, or along dimensions."""

    __slots__ = ()

    def sum(
        self, dim: Any = None, keepdim: bool = False, *, dtype: Any = None, axis: Any = None, keepdims: Any = None
    ) -> Any:
        return reduction.sum(self, dim, keepdim, dtype=dtype, axis=axis, keepdims=keepdims)

    def mean(
        self, dim: Any = None, keepdim: bool = False, *, dtype: Any = None, axis: Any = None, keepdims: Any = None
    ) -> Any:
        return reduction.mean(self, dim, keepdim, dtype=dtype, axis=axis, keepdims=keepdims)

    def prod(
        self, dim: Any = None, keepdim: bool = False, *, dtype: Any = None, axis: Any = None, keepdims: Any = None
    ) -> Any:
        return reduction.prod(self, dim, keepdim, dtype=dtype, axis=axis, keepdims=keepdims)

    def max(self, dim: Any = None, keepdim: bool = False, *, axis: Any = None, keepdims: Any = None) -> Any:
        return reduction.max(self, dim, keepdim, axis=axis, keepdims=keepdims)

    def min(self, dim: Any = None, keepdim: bool = False, *, axis: Any = None, keepdims: Any = None) -> Any:
        return reduction.min(self, dim, keepdim, axis=axis, keepdims=keepdims)

    def amax(self, dim: Any = (), keepdim: bool = False, *, axis: Any = None, keepdims: Any = None) -> Any:
        return reduction.amax(self, dim, keepdim, axis=axis, keepdims=keepdims)

    def amin(self, dim: Any = (), keepdim: bool = False, *, axis: Any = None, keepdims: Any = None) -> Any:
        return reduction.amin(self, dim, keepdim, axis=axis, keepdims=keepdims)

    def argmax(self, dim: int | None = None, keepdim: bool = False, *, axis: Any = None, keepdims: Any = None) -> Any:
        return reduction.argmax(self, dim, keepdim, axis=axis, keepdims=keepdims)

    def argmin(self, dim: int | None = None, keepdim: bool = False, *, axis: Any = None, keepdims: Any = None) -> Any:
        return reduction.argmin(self, dim, keepdim, axis=axis, keepdims=keepdims)

    def logsumexp(self, dim: Any, keepdim: bool = False) -> Any:
        return reduction.logsumexp(self, dim, keepdim)

    def cumsum(self, dim: int, *, dtype: Any = None) -> Any:
        return reduction.cumsum(self, dim, dtype=dtype)

    def cumprod(self, dim: int, *, dtype: Any = None) -> Any:
        return reduction.cumprod(self, dim, dtype=dtype)

    def all(self, dim: Any = None, keepdim: bool = False, *, axis: Any = None, keepdims: Any = None) -> Any:
        return reduction.all(self, dim, keepdim, axis=axis, keepdims=keepdims)

    def any(self, dim: Any = None, keepdim: bool = False, *, axis: Any = None, keepdims: Any = None) -> Any:
        return reduction.any(self, dim, keepdim, axis=axis, keepdims=keepdims)

    def count_nonzero(self, dim: Any = None) -> Any:
        return reduction.count_nonzero(self, dim)

    def median(self, dim: int | None = None, keepdim: bool = False) -> Any:
        return reduction.median(self, dim, keepdim)

    def norm(self, p: Any = "fro", dim: Any = None, keepdim: bool = False, dtype: Any = None) -> Any:
        return reduction.norm(self, p, dim, keepdim, dtype)

    def var(
        self,
        dim: Any = None,
        unbiased: bool = True,
        keepdim: bool = False,
        *,
        correction: float | None = None,
        axis: Any = None,
        keepdims: Any = None,
    ) -> Any:
        return reduction.var(self, dim, unbiased, keepdim, correction=correction, axis=axis, keepdims=keepdims)

    def std(
        self,
        dim: Any = None,
        unbiased: bool = True,
        keepdim: bool = False,
        *,
        correction: float | None = None,
        axis: Any = None,
        keepdims: Any = None,
    ) -> Any:
        return reduction.std(self, dim, unbiased, keepdim, correction=correction, axis=axis, keepdims=keepdims)

    def sort(self, dim: int = -1, descending: bool = False) -> Any:
        return sorting.sort(self, dim, descending)

    def argsort(self, dim: int = -1, descending: bool = False) -> Any:
        return sorting.argsort(self, dim, descending)

    def topk(self, k: int, dim: int = -1, largest: bool = True, sorted: bool = True) -> Any:
        return sorting.topk(self, k, dim, largest, sorted)

    def unique(self, sorted: bool = True, return_inverse: bool = False, return_counts: bool = False) -> Any:
        return sorting.unique(self, sorted, return_inverse, return_counts)

    def softmax(self, dim: int) -> Any:
        return activation.softmax(self, dim)

    def log_softmax(self, dim: int) -> Any:
        return activation.log_softmax(self, dim)

    def matmul(self, other: Any) -> Any:
        return linalg.matmul(self, other)

    def __matmul__(self, other: Any) -> Any:
        return linalg.matmul(self, other)

    def __rmatmul__(self, other: Any) -> Any:
        return linalg.matmul(other, self)

    def mm(self, mat2: Any) -> Any:
        return linalg.mm(self, mat2)

    def bmm(self, mat2: Any) -> Any:
        return linalg.bmm(self, mat2)

    def mv(self, vec: Any) -> Any:
        return linalg.mv(self, vec)

    def dot(self, tensor: Any) -> Any:
        return linalg.dot(self, tensor)

    def outer(self, vec2: Any) -> Any:
        return linalg.outer(self, vec2)

    def addmm(self, mat1: Any, mat2: Any, *, beta: float = 1, alpha: float = 1) -> Any:
        return linalg.addmm(self, mat1, mat2, beta=beta, alpha=alpha)

    def trace(self) -> Any:
        return linalg.trace(self)
