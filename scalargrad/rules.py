"""The table of derivatives that numbers and arrays share, and Op, which is one row of it.

    name = Op(on numbers, on arrays, "inputs", derivative for the first input, for the second, ...)

A derivative takes the gradient g of the result and whatever it names: inputs, the result `y`, or an input's shape
(`a_shape`). What it names is what gets saved. It is written in operators and Ops, so it runs on floats and arrays; run
on Values or Tensors it is itself recorded, and that is all there is to second and third derivatives. An input whose
derivative is missing or None gets no gradient.

Kinks are PyTorch's: relu'(0) = abs'(0) = 0, maximum and minimum split a tie, and where a derivative chooses, it
selects rather than multiplying by a mask, because 0 times inf is nan.
"""

import operator
from collections.abc import Callable, Sequence
from functools import cached_property
from inspect import signature
from math import inf, tanh
from typing import Any, NamedTuple

import numpy as np

from scalargrad import kernels, xp

TABLE: dict[str, "Op"] = {}
"""Every Op by name: the tests run over it."""


class Recordable:
    """What an Op records instead of computing at once. A subclass has `record(op, inputs)`."""

    __slots__ = ()

    def record(self, op: "Op", inputs: tuple[Any, ...]) -> Any:
        """The result of `op`, remembering how it came about."""
        raise NotImplementedError


class Plan(NamedTuple):
    """An Op together with the inputs that want a gradient."""

    which: tuple[int, ...]  # the positions of those inputs
    save: tuple["Saved", ...]  # what their derivatives name
    pull: Callable[..., tuple[Any, ...]]  # (g, *saved) -> one gradient for each of them
    holds_tensors: bool  # whether something is saved whose memory a backward pass should set free


class Saved(NamedTuple):
    """Where something that a derivative names is found: an input, a result, or an input's shape."""

    kind: str
    position: int


class Op:
    """One operation: what it computes on numbers and on arrays, and a derivative for each input.

    The last input may be `*xs`, any number of them: their derivative is asked for one at a time, and may name the
    number `i` of the one that is meant, and all shapes, `xs_shape`.
    `results` names the results; only the first carries a gradient, the others (a pooling's offsets) are arrays that
    derivatives may name. `name` is what the graph shows, PyTorch's name where PyTorch has the operation.
    `promote` says what happens to dtypes: "common" brings the inputs to a common one, "float" also makes integers
    floats, None leaves them alone. `domain` holds the open interval of each restricted input, `kinks` where the
    derivative jumps: there, differences cannot confirm it. `view` marks results that may share the input's memory.
    `fits` has gradients brought to their inputs' shape and dtype, so that no derivative need undo broadcasting or
    promotion; an Op that promotes always has it.
    """

    def __init__(
        self,
        number: Callable[..., Any] | None,
        array: Callable[..., Any],
        inputs: str,
        *derivatives: Callable[..., Any] | None,
        results: str = "y",
        name: str | None = None,
        promote: str | None = None,
        domain: dict[str, tuple[float, float]] | None = None,
        kinks: Callable[..., Any] | None = None,
        view: bool = False,
        fits: bool = False,
        doc: str = "",
    ) -> None:
        self.number, self.derivatives = number, derivatives
        self.array = xp.quiet(array) if isinstance(array, np.ufunc) else array
        self.inputs, self.results = tuple(inputs.replace("*", "").split()), tuple(results.split())
        self.variadic = len(self.inputs) - 1 if "*" in inputs else None
        self.promote, self.domain, self.kinks, self.view = promote, domain or {}, kinks, view
        self.positions = tuple(i for i, d in enumerate(derivatives) if d is not None)
        self.differentiable = sum(1 << i for i in self.positions)
        if self.variadic is not None and self.differentiable >> self.variadic:
            self.differentiable |= -1 << self.variadic
        self.fits = fits or promote is not None
        self.plans: dict[int, Plan] = {}
        self.name, self.key, self.doc = name or "", "", doc

    def __set_name__(self, owner: type, key: str) -> None:
        self.key, self.name = key, self.name or key
        if key in TABLE:
            raise TypeError(f"two Ops are called {key}")
        TABLE[key] = self

    def __call__(self, *inputs: Any) -> Any:
        """On anything recordable, record; on plain numbers or arrays, compute."""
        if not _PLAIN.issuperset(map(type, inputs)):
            for x in inputs:
                if isinstance(x, Recordable):
                    return x.record(self, inputs)
        if self.number is not None and type(inputs[0]) in _NUMBERS and type(inputs[-1]) in _NUMBERS:
            return self.number(*inputs)
        return self.array(*inputs)

    def __repr__(self) -> str:
        return f"<Op {self.key}({', '.join(self.inputs)})>"

    def __reduce__(self) -> Any:
        return _row, (self.key,)

    def derivative(self, position: int) -> Callable[..., Any] | None:
        """The derivative for the input at `position`."""
        if self.variadic is not None:
            position = min(position, self.variadic)
        return self.derivatives[position] if position < len(self.derivatives) else None

    def named_by(self, position: int) -> list[str]:
        """What the derivative for the input at `position` names besides g."""
        derivative = self.derivative(position)
        return [] if derivative is None else list(signature(derivative).parameters)[1:]

    def plan(self, mask: int) -> Plan:
        """The Plan for the inputs whose bit is set in `mask`."""
        if mask not in self.plans:
            which = tuple(i for i in range(mask.bit_length()) if mask >> i & 1)
            names = tuple(dict.fromkeys(n for i in which for n in self.named_by(i) if n != "i"))
            save = tuple(map(self._found, names))
            holds = any(s.kind == "result" or (s.kind == "input" and s.position in self.positions) for s in save)
            self.plans[mask] = Plan(which, save, self._combined(which, names), holds)
        return self.plans[mask]

    def _found(self, name: str) -> Saved:
        """Where a name in a derivative is found."""
        if name in self.inputs:
            return Saved("input", self.inputs.index(name))
        if name in self.results:
            return Saved("result", self.results.index(name))
        position = self.inputs.index(name.removesuffix("_shape"))
        return Saved("shape" if position != self.variadic else "shapes", position)

    @cached_property
    def of_numbers(self) -> list[Callable[..., tuple[Any, ...]]]:
        """(g, *inputs, y) -> gradients, one function for each mask of the inputs that want one: Value's plan."""
        names = (*self.inputs, "_" if "y" in self.inputs else "y")
        masks = range(1 << len(self.inputs))
        return [self._combined(tuple(i for i in range(len(self.inputs)) if mask >> i & 1), names) for mask in masks]

    def _combined(self, which: Sequence[int], arguments: Sequence[str]) -> Callable[..., tuple[Any, ...]]:
        """One function (g, *arguments) that calls the derivatives of the inputs `which`.

        It is put together as source, so that the sweep pays for one call a node and not for picking arguments.
        """
        calls = []
        for i in which:
            names = [str(i - (self.variadic or 0)) if n == "i" else n for n in self.named_by(i)]
            calls.append(f"d{i}({', '.join(['g', *names])}), " if self.derivative(i) is not None else "None, ")
        function: Callable[..., tuple[Any, ...]] = eval(
            f"lambda {', '.join(['g', *arguments])}: ({''.join(calls)})", {f"d{i}": self.derivative(i) for i in which}
        )
        return function


def check_broadcast(op: Op, arrays: Sequence[Any]) -> None:
    """Raises RuntimeError if the shapes do not broadcast. Asked only once NumPy has refused them."""
    shape: tuple[int, ...] = ()
    for x in arrays:
        mine = np.shape(x)
        for i in range(1, min(len(shape), len(mine)) + 1):
            if shape[-i] != mine[-i] and 1 not in (shape[-i], mine[-i]):
                raise RuntimeError(
                    f"{op.key}(): The size of tensor a ({shape[-i]}) must match the size of tensor b ({mine[-i]}) at "
                    f"non-singleton dimension {max(len(shape), len(mine)) - i} (shapes {list(shape)} and {list(mine)})"
                )
        shape = np.broadcast_shapes(shape, mine)


def _row(key: str) -> Op:
    """The row of this name: what a pickled Op comes back as."""
    return TABLE[key]


_NUMBERS = (float, int, bool, xp.Ieee)  # not NumPy's scalars, which subclass float but stand for arrays
_PLAIN = frozenset({np.ndarray, float, int, bool, tuple, type(None)})  # certainly not recordable
POSITIVE, NONZERO = (0.0, inf), (0.5, inf)


def where(condition: Any, a: Any, b: Any) -> Any:
    """a where `condition` holds, else b, of two selections."""
    return ops.select(condition, a) + ops.select(ops.logical_not(condition), b)


def unless_zero(n: Any, a: Any) -> Any:
    """a, but 0 where n is 0. A plain number is asked once, and leaves no trace in a graph."""
    return a if type(n) in _NUMBERS and n != 0 else ops.select(ops.ne(n, 0), a)


def _condition(compare: Callable[[Any, Any], Any], array: Callable[..., Any]) -> Op:
    """A comparison: no derivative. On numbers it is 1.0 or 0.0, so that a Value can hold it."""
    return Op(lambda a, b: float(compare(a, b)), array, "a b", promote="common")


class ops:
    """The rows that numbers and arrays share."""

    add = Op(operator.add, np.add, "a b", lambda g: g, lambda g: g, promote="common")
    sub = Op(operator.sub, np.subtract, "a b", lambda g: g, lambda g: -g, promote="common")
    mul = Op(operator.mul, np.multiply, "a b", lambda g, b: g * b, lambda g, a: g * a, promote="common")
    div = Op(
        xp.div,
        np.divide,
        "a b",
        lambda g, b: g / b,
        lambda g, b, y: -g * y / b,
        promote="float",
        domain={"b": NONZERO},
    )
    pow = Op(
        xp.pow,
        xp.quiet(operator.pow),  # NumPy's operator squares, where np.power calls pow
        "a n",
        lambda g, a, n: unless_zero(n, g * (n * ops.pow(a, n - 1))),
        lambda g, a, n, y: g * (y * where(ops.lt(n, 0), ops.log(a), ops.select(ops.ne(a, 0), ops.log(a)))),
        promote="common",
        domain={"a": POSITIVE},
    )
    neg = Op(operator.neg, np.negative, "a", lambda g: -g)
    exp = Op(xp.exp, np.exp, "a", lambda g, y: g * y, promote="float")
    expm1 = Op(xp.expm1, np.expm1, "a", lambda g, y: g * (y + 1), promote="float")
    log = Op(xp.log, np.log, "a", lambda g, a: g / a, promote="float", domain={"a": POSITIVE})
    log1p = Op(xp.log1p, np.log1p, "a", lambda g, a: g / (a + 1), promote="float", domain={"a": (-1.0, inf)})
    sqrt = Op(xp.sqrt, np.sqrt, "a", lambda g, y: g / (2 * y), promote="float", domain={"a": POSITIVE})
    sin = Op(xp.sin, np.sin, "a", lambda g, a: g * ops.cos(a), promote="float")
    cos = Op(xp.cos, np.cos, "a", lambda g, a: -g * ops.sin(a), promote="float")
    tan = Op(xp.tan, np.tan, "a", lambda g, y: g * (1 + y * y), promote="float", domain={"a": (-1.5, 1.5)})
    tanh = Op(tanh, np.tanh, "a", lambda g, y: g * (1 - y * y), promote="float")
    sigmoid = Op(xp.sigmoid, xp.quiet(xp.sigmoid_array), "a", lambda g, y: g * (y * (1 - y)), promote="float")
    relu = Op(
        xp.relu,
        lambda a: kernels.relu(a) if a.dtype.kind == "f" else np.maximum(a, 0),
        "a",
        lambda g, y: ops.relu_grad(g, y),
        kinks=lambda a: a,
    )
    relu_grad = Op(
        xp.relu_grad, kernels.relu_grad, "g_y y", lambda g, y: ops.relu_grad(g, y), name="threshold_backward"
    )
    abs = Op(abs, np.abs, "a", lambda g, a: g * ops.sign(a), kinks=lambda a: a)
    sign = Op(xp.sign, xp.sign_array, "a", lambda g: ops.select(False, g), kinks=lambda a: a)
    maximum = Op(
        xp.maximum,
        np.maximum,
        "a b",
        lambda g, a, b: where(ops.lt(a, b), 0.0, where(ops.eq(a, b), g / 2, g)),
        lambda g, a, b: where(ops.lt(b, a), 0.0, where(ops.eq(a, b), g / 2, g)),
        promote="common",
        kinks=lambda a, b: a - b,
    )
    minimum = Op(
        xp.minimum,
        np.minimum,
        "a b",
        lambda g, a, b: where(ops.gt(a, b), 0.0, where(ops.eq(a, b), g / 2, g)),
        lambda g, a, b: where(ops.gt(b, a), 0.0, where(ops.eq(a, b), g / 2, g)),
        promote="common",
        kinks=lambda a, b: a - b,
    )
    select = Op(xp.select, xp.select_array, "condition a", None, lambda g, condition: ops.select(condition, g))

    eq = _condition(operator.eq, np.equal)
    ne = _condition(operator.ne, np.not_equal)
    lt = _condition(operator.lt, np.less)
    le = _condition(operator.le, np.less_equal)
    gt = _condition(operator.gt, np.greater)
    ge = _condition(operator.ge, np.greater_equal)
    logical_not = Op(lambda a: float(not a), np.logical_not, "a")
