"""Einstein's summation over any number of operands, by way of products of matrices."""

from __future__ import annotations

from collections.abc import Sequence
from math import prod
from string import ascii_letters
from typing import Any

from scalargrad.ops.arranging import diagonal
from scalargrad.ops.dimensions import check_tensor
from scalargrad.ops.products import multiplying
from scalargrad.ops.shape import shaping
from scalargrad.ops.summation import summing

Label = str | int
"""The name of a dimension: a letter, or for those under an ellipsis -1, -2, ... from its end."""
Operand = tuple[Any, list[Label]]
"""A tensor, and the name of each of its dimensions."""


def _sum_out(x: Any, labels: list[Label], unwanted: set[Label]) -> Operand:
    dims = tuple([i for i, s in enumerate(labels) if s in unwanted])
    return (summing.sum(x, dims, False), [s for s in labels if s not in unwanted]) if dims else (x, labels)


def _arranged(x: Any, labels: list[Label], order: list[Label]) -> Any:
    """x with its dimensions in another order."""
    return x if labels == order else shaping.permute(x, tuple([labels.index(s) for s in order]))


def contract(first: Operand, second: Operand, wanted: set[Label]) -> Operand:
    """The product of two operands, summed over the labels that are not `wanted`: one product of batches of matrices."""
    a, a_labels = _sum_out(*first, set(first[1]) - set(second[1]) - wanted)
    b, b_labels = _sum_out(*second, set(second[1]) - set(a_labels) - wanted)
    size = dict(zip(a_labels + b_labels, tuple(a.shape) + tuple(b.shape), strict=True))
    batch = [s for s in a_labels if s in b_labels and s in wanted]
    summed = [s for s in a_labels if s in b_labels and s not in wanted]
    rows, columns = [s for s in a_labels if s not in b_labels], [s for s in b_labels if s not in a_labels]
    n_batch, n_rows, n_columns, n_summed = (prod([size[s] for s in part]) for part in (batch, rows, columns, summed))
    a = shaping.view(_arranged(a, a_labels, batch + rows + summed), (n_batch, n_rows, n_summed))
    b = shaping.view(_arranged(b, b_labels, batch + summed + columns), (n_batch, n_summed, n_columns))
    labels = batch + rows + columns
    return shaping.view(multiplying.bmm(a, b), tuple([size[s] for s in labels])), labels


def _labels(term: str, ndim: int, position: int) -> list[Label]:
    """The names of an operand's dimensions."""
    head, dots, tail = term.partition("...")
    for letter in head + tail:
        if letter not in ascii_letters:
            raise RuntimeError(f"einsum(): invalid subscript {letter!r} in {term!r}, subscripts must be in [a-zA-Z]")
    n_dots = ndim - len(head) - len(tail)
    if n_dots < 0 or (n_dots and not dots):
        raise RuntimeError(
            f"einsum(): the number of subscripts in the equation ({len(head) + len(tail)}) does not match the number "
            f"of dimensions ({ndim}) for operand {position}" + ("" if dots else " and no ellipsis was given")
        )
    return [*head, *range(-n_dots, 0), *tail]


def _result_labels(output: str | None, operands: Sequence[Operand]) -> list[Label]:
    """The names of the result's dimensions: those given, or what stands once, in order."""
    named = [s for _, labels in operands for s in labels]
    dots: list[Label] = list(range(min([s for s in named if isinstance(s, int)], default=0), 0))
    if output is None:
        return dots + sorted([s for s in named if isinstance(s, str) and named.count(s) == 1])
    head, given_dots, tail = output.partition("...")
    for letter in head + tail:
        if (head + tail).count(letter) > 1:
            raise RuntimeError(f"einsum(): output subscript {letter} appears more than once in the output")
        if letter not in named:
            raise RuntimeError(
                f"einsum(): output subscript {letter} does not appear in the equation for any input operand"
            )
    return [*head, *(dots if given_dots else []), *tail]


def _without_repeats(x: Any, labels: list[Label], position: int) -> Operand:
    """Where a name stands twice, the diagonal."""
    for s in dict.fromkeys(labels):
        while labels.count(s) > 1:
            i = labels.index(s)
            j = labels.index(s, i + 1)
            if x.shape[i] != x.shape[j]:
                raise RuntimeError(
                    f"einsum(): subscript {s} is repeated for operand {position} but the sizes don't match, "
                    f"{x.shape[j]} != {x.shape[i]}"
                )
            x, labels = diagonal(x, 0, i, j), [*labels[:i], *labels[i + 1 : j], *labels[j + 1 :], s]
    return x, labels


def broadcast(operands: Sequence[Operand]) -> list[Operand]:
    """The operands without those dimensions of size 1 that another operand has at full size."""
    size: dict[Label, int] = {}
    for position, (x, labels) in enumerate(operands):
        for s, n in zip(labels, x.shape, strict=True):
            if size.get(s, 1) == 1:
                size[s] = n
            elif n not in (1, size[s]):
                raise RuntimeError(
                    f"einsum(): subscript {s} has size {n} for operand {position} which does not broadcast with "
                    f"previously seen size {size[s]}"
                )
    found = []
    for x, labels in operands:
        dims = tuple([i for i, s in enumerate(labels) if x.shape[i] == 1 != size[s]])
        rest = [s for i, s in enumerate(labels) if i not in dims]
        found.append((shaping.squeeze(x, dims) if dims else x, rest))
    return found


def _as_equation(arguments: Sequence[Any]) -> tuple[str, Sequence[Any]]:
    """The form einsum(x, [0, 1], y, [1, 2], [0, 2]) as an equation and operands."""

    def term(numbers: Sequence[Any]) -> str:
        if any(n is not Ellipsis and not 0 <= n < len(ascii_letters) for n in numbers):
            raise RuntimeError(f"einsum(): subscripts in {numbers} must be within the range [0, 52) or an Ellipsis")
        return "".join(["..." if n is Ellipsis else ascii_letters[n] for n in numbers])

    n = len(arguments) // 2 * 2
    inputs = ",".join(term(numbers) for numbers in arguments[1:n:2])
    return inputs + ("->" + term(arguments[-1]) if len(arguments) % 2 else ""), arguments[:n:2]


def einsum(equation: Any, *operands: Any) -> Any:
    """The sum over products that the equation names: "ij,jk->ik" is a matrix product, "ii->i" a diagonal.

    Letters that the result does not have are summed over; without "->" it has those that stand once, in order. "..."
    stands for any number of dimensions, which broadcast, as do dimensions of size 1. Operands are taken from left to
    right. Also einsum(x, [0, 1], y, [1, 2], [0, 2]). Raises RuntimeError where equation and operands do not fit.
    """
    if isinstance(equation, str):
        if len(operands) == 1 and isinstance(operands[0], list | tuple):
            operands = tuple(operands[0])
    else:
        equation, operands = _as_equation((equation, *operands))  # type: ignore[assignment]
    for x in operands:
        check_tensor(x, "einsum", "operands")
    inputs, arrow, output = equation.replace(" ", "").partition("->")
    terms = inputs.split(",")
    if len(terms) != len(operands):
        relation = "more" if len(operands) > len(terms) else "fewer"
        raise RuntimeError(
            f"einsum(): {relation} operands were provided than specified in the equation: got {len(operands)} for "
            f"{equation!r}"
        )
    named = [(x, _labels(term, x.ndim, i)) for i, (term, x) in enumerate(zip(terms, operands, strict=True))]
    result_labels = _result_labels(output if arrow else None, named)
    todo = broadcast([_without_repeats(x, labels, i) for i, (x, labels) in enumerate(named)])
    result = todo[0]
    for i, operand in enumerate(todo[1:], 2):
        result = contract(result, operand, {*result_labels, *(s for _, labels in todo[i:] for s in labels)})
    result = _sum_out(*result, set(result[1]) - set(result_labels))
    return _arranged(*result, result_labels)
