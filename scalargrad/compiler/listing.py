"""A program in words: one line an instruction."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from scalargrad.kernels.opcodes import INIT_ROW, INIT_SCALAR, NAMES, ROW_SCALAR, SCALAR_ROW, UNARY

if TYPE_CHECKING:
    from scalargrad.compiler.assembly import Parts

SIGNS = {"add": "+", "sub": "-", "mul": "*", "div": "/", "pow": "**", "eq": "==", "ne": "!=", "lt": "<", "le": "<="}
SIGNS |= {"gt": ">", "ge": ">="}


class Names(NamedTuple):
    """What the columns of the arrays, the shared numbers and the sums are called."""

    inputs: list[list[str]]
    shared: list[str]
    outputs: list[list[str]]
    sums: list[str]


def listing(parts: Parts, names: Names, when: str) -> str:
    """The instructions, under a line that says how many they are and how many rows they need."""
    scalars = [
        *(f"{x:g}" if f"{x:g}" == repr(x) else repr(x).removesuffix(".0") for x in parts.constants),
        *names.shared,
    ]
    terms = parts.terms.tolist()

    def factor(x: int, mode: int) -> str:
        return scalars[x] if mode == SCALAR_ROW else f"r{x}"

    lines = [f"{when}: {len(parts.code)} instructions, {parts.n_rows} rows"]
    for op, d, a, b in parts.code.tolist():
        name, mode = NAMES[op // 4], op % 4
        if name == "input":
            line = f"r{d} = {names.inputs[a][b]}"
        elif name == "output":
            line = f"{names.outputs[b][d]} = {factor(a, mode)}"
        elif name == "broadcast":
            line = f"r{d} = {scalars[a]}"
        elif name == "dot":
            (kind, init, _), *pairs = terms[a : a + b]
            start = [f"r{init}"] if kind == INIT_ROW else [scalars[init]] if kind == INIT_SCALAR else []
            line = f"r{d} = " + " + ".join([*start, *(f"{factor(x, mode)} * r{y}" for x, y, _ in pairs)])
        elif name == "sums":
            lines += [
                f"    {names.sums[s]} += " + (f"r{x}" if y < 0 else f"r{x} * r{y}") for s, x, y in terms[a : a + b]
            ]
            continue
        else:
            x = factor(a, mode)
            y = scalars[b] if mode == ROW_SCALAR else f"r{b}"
            if name == "neg":
                right = f"-{x}"
            elif name in SIGNS:
                right = f"{x} {SIGNS[name]} {y}"
            else:
                unary = name in UNARY
                right = f"{name}({x})" if unary else f"{name}({x}, {y})"
            line = f"r{d} = {right}"
        lines.append("    " + line)
    return "\n".join(lines) + "\n"
