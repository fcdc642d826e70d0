"""The text of a tensor, letter for letter PyTorch's, so that what a tutorial prints is what is printed here."""

import math
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from scalargrad.dtypes import default_float


@dataclass
class PrintOptions:
    """How tensors are printed. One object, `OPTIONS`, serves every thread, as in PyTorch."""

    precision: int = 4
    threshold: float = 1000
    edgeitems: int = 3
    linewidth: int = 80
    sci_mode: bool | None = None


OPTIONS = PrintOptions()

PROFILES: dict[str, dict[str, Any]] = {
    "default": {"precision": 4, "threshold": 1000, "edgeitems": 3, "linewidth": 80},
    "short": {"precision": 2, "threshold": 1000, "edgeitems": 2, "linewidth": 80},
    "full": {"precision": 4, "threshold": math.inf, "edgeitems": 3, "linewidth": 80},
}


def set_printoptions(
    precision: int | None = None,
    threshold: float | None = None,
    edgeitems: int | None = None,
    linewidth: int | None = None,
    profile: str | None = None,
    sci_mode: bool | None = None,
) -> None:
    """Set how tensors are printed from now on; what is None stays, but for `sci_mode`, where None means "decide".

    `precision` digits follow the point, lines are `linewidth` characters at most, a tensor of more than `threshold`
    entries shows `edgeitems` at either end of each dimension. A `profile` ("default", "short", "full") sets all four.
    Raises ValueError for another profile.
    """
    if profile is not None and profile not in PROFILES:
        raise ValueError(f"set_printoptions(): expected a profile among {', '.join(PROFILES)}, got {profile!r}")
    given = {"precision": precision, "threshold": threshold, "edgeitems": edgeitems, "linewidth": linewidth}
    chosen = PROFILES.get(profile or "", {}) | {name: value for name, value in given.items() if value is not None}
    for name, value in chosen.items():
        setattr(OPTIONS, name, value)
    OPTIONS.sci_mode = sci_mode


def get_printoptions() -> dict[str, Any]:
    """The present options, as `set_printoptions` takes them."""
    return asdict(OPTIONS)


@contextmanager
def printoptions(**options: Any) -> Iterator[None]:
    """`set_printoptions(**options)` for the length of a `with` block."""
    before = get_printoptions()
    set_printoptions(**options)
    try:
        yield
    finally:
        set_printoptions(**before)


def tensor_repr(
    array: np.ndarray[Any, Any],
    *,
    requires_grad: bool = False,
    grad_fn_name: str | None = None,
    prefix: str = "tensor(",
) -> str:
    """The text of a tensor: `prefix`, the numbers, and what else is worth saying about it.

    That is the size of an empty tensor, a dtype that the numbers do not show, and where the tensor stands in the graph.
    """
    notes = []
    empty = array.size == 0
    if array.ndim != 1 if empty else OPTIONS.edgeitems == 0:
        notes.append(f"size={array.shape}")
    # float32 needs no mention, nor do the integers and truths that Python has, unless there are none to see.
    if array.dtype != default_float and (empty or array.dtype not in (np.int64, np.bool_)):
        notes.append(f"dtype=torch.{array.dtype.name}")
    if grad_fn_name is not None:
        notes.append(f"grad_fn=<{grad_fn_name}>")
    elif requires_grad:
        notes.append("requires_grad=True")
    return _with_notes(prefix + _numbers(array, len(prefix)), notes, len(prefix))


def _with_notes(text: str, notes: Sequence[str], indent: int) -> str:
    """The text and, after commas, its notes. A note that would pass the line's end begins another line."""
    used = len(text) - text.rfind("\n") + 1  # the last line, and 2 for a comma and a space that PyTorch counts again
    for note in notes:
        if used + len(note) + 2 > OPTIONS.linewidth:
            text += ",\n" + " " * indent + note
            used = indent + len(note)
        else:
            text += ", " + note
            used += len(note) + 2
    return text + ")"


def _numbers(array: np.ndarray[Any, Any], indent: int) -> str:
    """The numbers in their brackets, which open in column `indent`."""
    if array.size == 0:
        return "[]"
    is_cut = array.size > OPTIONS.threshold
    shown = _ends(array) if is_cut else array
    if array.dtype.kind == "f":
        telling = shown[np.isfinite(shown) & (shown != 0)]
        spell = _spelling(telling)
    else:
        telling, spell = shown, str
    width = max([1, *(len(spell(number)) for number in telling.ravel().tolist())])
    return _brackets(array, indent, is_cut, lambda number: spell(number).rjust(width), width)


def _ends(array: np.ndarray[Any, Any]) -> np.ndarray[Any, Any]:
    """The entries that a cut tensor shows."""
    n = OPTIONS.edgeitems
    for axis, size in enumerate(array.shape):
        if size > 2 * n:
            array = array.take([*range(n), *range(size - n, size)], axis)
    return array


def _spelling(numbers: np.ndarray[Any, Any]) -> Callable[[Any], str]:
    """How to write the floats of one tensor, judged by those that are neither 0 nor infinite nor nan.

    With an exponent where they span more than three decades or are very large or small; with a bare point where all
    are whole; otherwise with `precision` digits.
    """
    if numbers.size == 0:
        return _whole
    magnitudes = np.abs(numbers)
    largest, smallest = float(magnitudes.max()), float(magnitudes.min())
    scientific = largest / smallest > 1000 or largest > 1e8 or smallest < 1e-4
    if scientific if OPTIONS.sci_mode is None else OPTIONS.sci_mode:
        return f"{{:.{OPTIONS.precision}e}}".format
    return _whole if (numbers == np.ceil(numbers)).all() else f"{{:.{OPTIONS.precision}f}}".format


def _whole(number: float) -> str:
    """A whole float, with a point to tell it from an integer."""
    return f"{number:.0f}." if math.isfinite(number) else f"{number:.0f}"


def _brackets(array: np.ndarray[Any, Any], indent: int, is_cut: bool, write: Callable[[Any], str], width: int) -> str:
    """The numbers, one pair of brackets for each dimension; matrices in a block are set apart by blank lines."""
    if array.ndim == 0:
        return write(array.item())
    n, edge = len(array), OPTIONS.edgeitems
    has_gap = is_cut and n > 2 * edge
    places = [*range(edge), *range(n - edge, n)] if has_gap else range(n)
    if array.ndim == 1:
        parts = [write(number) for number in array[places].tolist()]
    else:
        parts = [_brackets(array[i], indent + 1, is_cut, write, width) for i in places]
    if has_gap:
        parts.insert(edge, " ..." if array.ndim == 1 and edge else "...")
    if array.ndim == 1:
        per_line = max(1, (OPTIONS.linewidth - indent) // (width + 2))
        parts = [", ".join(parts[i : i + per_line]) for i in range(0, len(parts), per_line)]
    break_ = "," + "\n" * max(1, array.ndim - 1) + " " * (indent + 1)
    return "[" + break_.join(parts) + "]"
