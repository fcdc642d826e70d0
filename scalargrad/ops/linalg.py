"""Products of vectors and matrices."""

from __future__ import annotations

from collections.abc import Sequence
from math import prod
from typing import Any

from scalargrad.ops.arguments import no_tensor
from scalargrad.ops.arranging import arranging
from scalargrad.ops.dimensions import check_tensor, is_tensor
from scalargrad.ops.einsum import Label, broadcast, contract
from scalargrad.ops.einsum import einsum as einsum
from scalargrad.ops.products import multiplying
from scalargrad.ops.shape import normalize_dim, shaping
from scalargrad.ops.summation import summing
from scalargrad.rules import ops


def _check(operation: str, **ranks: tuple[Any, int]) -> None:
    """Refuse what is not a tensor with so many dimensions."""
    kinds = {1: "a vector", 2: "a matrix", 3: "a 3D tensor"}
    for name, (x, ndim) in ranks.items():
        check_tensor(x, operation, name)
        if x.ndim != ndim:
            raise RuntimeError(f"{operation}(): {name} must be {kinds[ndim]}, got shape {tuple(x.shape)}")


def matmul(input: Any, other: Any) -> Any:
    """Matrix product over the last two dimensions; the dimensions before them broadcast.

    A vector is a row on the left and a column on the right, and two vectors give a number.
    Raises RuntimeError if inner sizes, dtypes or batches do not fit.
    """
    if not is_tensor(other) or not is_tensor(input):
        odd = input if is_tensor(other) else other
        raise TypeError(f"matmul(): expected Tensors, got {type(odd).__name__}")
    n, m = input.ndim, other.ndim
    if n == 2 and m == 2:
        return multiplying.mm(input, other)
    if n == 0 or m == 0:
        raise RuntimeError(f"both arguments to matmul need to be at least 1D, but they are {n}D and {m}D")
    if m == 1 and n <= 2:
        return (multiplying.dot if n == 1 else multiplying.mv)(input, other)
    if n == 1 and m == 2:
        return multiplying.vm(input, other)
    if n == 1:
        return shaping.squeeze(matmul(shaping.unsqueeze(input, 0), other), (m - 2,))
    if m == 1:
        return shaping.squeeze(matmul(input, shaping.unsqueeze(other, 1)), (n - 1,))
    if m == 2 and input.shape[-1] == other.shape[0]:  # one product instead of one for each matrix
        *batch, width = input.shape
        y = multiplying.mm(shaping.view(input, (prod(batch), width)), other)
        return shaping.view(y, (*batch, other.shape[1]))
    return multiplying.bmm(input, other)


def mm(input: Any, mat2: Any) -> Any:
    """Product of two matrices. Raises RuntimeError for anything else, or if they do not fit."""
    _check("mm", input=(input, 2), mat2=(mat2, 2))
    return multiplying.mm(input, mat2)


def bmm(input: Any, mat2: Any) -> Any:
    """Products of two batches of as many matrices. Raises RuntimeError if they do not fit: nothing broadcasts."""
    _check("bmm", input=(input, 3), mat2=(mat2, 3))
    if input.shape[0] != mat2.shape[0]:
        raise RuntimeError(
            f"bmm(): expected as many matrices in mat2 as in input, got {mat2.shape[0]} and {input.shape[0]} (shapes "
            f"{tuple(input.shape)} and {tuple(mat2.shape)})"
        )
    return multiplying.bmm(input, mat2)


def mv(input: Any, vec: Any) -> Any:
    """Product of a matrix and a vector. Raises RuntimeError for anything else, or if they do not fit."""
    _check("mv", input=(input, 2), vec=(vec, 1))
    return multiplying.mv(input, vec)


def dot(input: Any, tensor: Any) -> Any:
    """Σ a_i b_i of two vectors. Raises RuntimeError for anything else, or if they do not fit."""
    _check("dot", input=(input, 1), tensor=(tensor, 1))
    return multiplying.dot(input, tensor)


def outer(input: Any, vec2: Any) -> Any:
    """All products a_i b_j of two vectors. Raises RuntimeError for anything else."""
    _check("outer", input=(input, 1), vec2=(vec2, 1))
    return ops.mul(shaping.unsqueeze(input, 1), vec2)


def addmm(input: Any, mat1: Any, mat2: Any, *, beta: float = 1, alpha: float = 1) -> Any:
    """beta · input + alpha · (mat1 @ mat2), where input broadcasts. With beta = 0 not even nan of input comes through.

    Raises RuntimeError if sizes or dtypes do not fit.
    """
    check_tensor(input, "addmm")
    _check("addmm", mat1=(mat1, 2), mat2=(mat2, 2))
    if input.dtype != mat1.dtype:
        raise RuntimeError(
            f"addmm(): expected input and mat1 to have the same dtype, got {input.dtype} and {mat1.dtype}"
        )
    shape = (mat1.shape[0], mat2.shape[1])
    if input.ndim > 2 or any(n not in (1, m) for n, m in zip(input.shape[::-1], shape[::-1], strict=False)):
        raise RuntimeError(f"addmm(): input of shape {tuple(input.shape)} does not broadcast to the product's {shape}")
    return multiplying.addmm(input, mat1, mat2, beta, alpha)


def linear(input: Any, weight: Any, bias: Any = None) -> Any:
    """input @ weight.T + bias.

    Shapes: input (..., K), weight (M, K), bias (M,) → (..., M); weight (K,) → (...).
    Raises RuntimeError if sizes or dtypes do not fit.
    """
    try:
        n = input.ndim
    except AttributeError:
        raise no_tensor("linear", input) from None
    if n == 2 and weight.ndim != 1:
        if bias is None:
            return multiplying.linear_without_bias(input, weight)
        return multiplying.linear(bias, input, weight)
    if n == 0:
        raise RuntimeError(f"both arguments to linear need to be at least 1D, but they are 0D and {weight.ndim}D")
    if weight.ndim == 1:
        if bias is not None:
            raise RuntimeError(f"linear(): expected weight to be a matrix where there is a bias, got {weight.shape}")
        return matmul(input, weight)
    *batch, width = input.shape
    y = linear(shaping.view(input, (prod(batch), width)), weight, bias)
    return shaping.view(y, (*batch, y.shape[1]))


def tensordot(a: Any, b: Any, dims: Any = 2) -> Any:
    """The sum over products along pairs of dimensions: the last `dims` of a with the first of b, or two lists of them.

    Sizes of 1 broadcast. Raises RuntimeError if sizes differ otherwise.
    """
    check_tensor(a, "tensordot", "a")
    check_tensor(b, "tensordot", "b")
    if isinstance(dims, int):
        if not 0 <= dims <= min(a.ndim, b.ndim):
            raise RuntimeError(f"tensordot expects dims >= 0 and at most the number of dimensions, but got dims={dims}")
        pairs: tuple[Sequence[int], Sequence[int]] = range(a.ndim - dims, a.ndim), range(dims)
    else:
        first, second = dims
        pairs = (
            ([first] if isinstance(first, int) else list(first)),
            ([second] if isinstance(second, int) else list(second)),
        )
    if len(pairs[0]) != len(pairs[1]):
        raise RuntimeError(f"tensordot(): both dimension lists should have same length, got {pairs[0]} and {pairs[1]}")
    a_labels: list[Label] = list(range(a.ndim))
    b_labels: list[Label] = list(range(a.ndim, a.ndim + b.ndim))
    for i, j in zip(*pairs, strict=True):
        i, j = normalize_dim(i, a.ndim, "tensordot"), normalize_dim(j, b.ndim, "tensordot")
        if a.shape[i] != b.shape[j] and 1 not in (a.shape[i], b.shape[j]):
            raise RuntimeError(
                f"tensordot(): contracted dimensions need to match, but first has size {a.shape[i]} in dim {i} and "
                f"second has size {b.shape[j]} in dim {j}"
            )
        b_labels[j] = a_labels[i]
    wanted = set(a_labels) ^ set(b_labels)
    first, second = broadcast([(a, a_labels), (b, b_labels)])
    return contract(first, second, wanted)[0]


def trace(input: Any) -> Any:
    """The sum of a matrix's diagonal. Raises RuntimeError for anything else."""
    check_tensor(input, "trace")
    if input.ndim != 2:
        raise RuntimeError(f"trace: expected a matrix, but got tensor with dim {input.ndim}")
    return summing.sum(arranging.diagonal(input, 0, 0, 1), None, False)


def kron(input: Any, other: Any) -> Any:
    """Kronecker's product: every entry of `input` times all of `other`, side by side."""
    ndim = max(input.ndim, other.ndim)
    a, b = ((1,) * (ndim - x.ndim) + tuple(x.shape) for x in (input, other))
    y = ops.mul(
        shaping.view(input, tuple([m for n in a for m in (n, 1)])),
        shaping.view(other, tuple([m for n in b for m in (1, n)])),
    )
    return shaping.view(y, tuple([n * m for n, m in zip(a, b, strict=True)]))
