"""Op, one row of the table of derivatives: an operation, and how gradients go back through it.

    name = Op(on numbers, on arrays, "inputs", derivative for the first input, for the second, ...)

A derivative takes the gradient g of the result and whatever it names: inputs, the result `y`, or an input's shape
(`a_shape`). What it names is what gets saved. It is written in operators and Ops, so it runs on floats and arrays; run
on Values or Tensors it is itself recorded, and that is all there is to second and third derivatives. An input whose
derivative is missing or None gets no gradient.
"""

from collections.abc import Callable, Sequence
from inspect import signature
from typing import Any

import numpy as np

from scalargrad import xp
from scalargrad.kernels.memory import pooled

TABLE: dict[str, "Op"] = {}
"""Every Op by name: the tests run over it."""

NUMBERS = (float, int, bool, xp.Ieee)
"""Plain numbers: not NumPy's scalars, which subclass float but stand for arrays."""


def in_numpy(function: Callable[..., Any]) -> Callable[..., Any]:
    """An array function that is no kernel: without NumPy's warnings, and its arrays from the kernels' pool."""
    return pooled(xp.quiet(function))


class Recordable:
    """What an Op records instead of computing at once. A subclass has `record(op, inputs)`."""

    __slots__ = ()

    def record(self, op: "Op", inputs: tuple[Any, ...]) -> Any:
        """The result of `op`, remembering how it came about."""
        raise NotImplementedError


class OfArrays(Recordable):
    """A Recordable that stands for an array. Compiled, its `record` is called directly, not looked up by name."""

    __slots__ = ()

    def record(self, op: "Op", inputs: tuple[Any, ...]) -> Any:
        raise NotImplementedError


# What derivatives name. There is one object for each, so that `is` tells them apart.
INPUT, RESULT, SHAPE, SHAPES = "input", "result", "shape", "shapes"


class Plan:
    """An Op together with the inputs that want a gradient."""

    __slots__ = ("holds_tensors", "pull", "pull_arrays", "save", "which")

    which: tuple[int, ...]  # the positions of those inputs
    save: tuple[tuple[str, int], ...]  # what their derivatives name: INPUT, RESULT, SHAPE or SHAPES, and which one
    pull: Callable[..., Sequence[Any]]  # (g, *saved) -> one gradient for each of them
    pull_arrays: Callable[..., Sequence[Any]]  # the same where nothing is recorded
    holds_tensors: bool  # whether something is saved whose memory a backward pass should set free

    def __init__(
        self,
        which: tuple[int, ...],
        save: tuple[tuple[str, int], ...],
        pull: Callable[..., Sequence[Any]],
        pull_arrays: Callable[..., Sequence[Any]],
        holds_tensors: bool,
    ) -> None:
        self.which, self.save, self.holds_tensors = which, save, holds_tensors
        self.pull, self.pull_arrays = pull, pull_arrays


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
    promotion; an Op that promotes always has it. `gradients` computes on arrays what the derivatives define, all at
    once: it is given g, those of the names that the derivatives ask for (None for a name that only an unwanted one
    asks for), and as `wanted` the mask of the inputs whose gradients it is to give, in order. `takes_pending` says that
    the array function and `gradients` know what to do with arrays that are not computed yet (pending.py): all others
    get theirs computed.
    """

    __slots__ = (
        "array",
        "derivatives",
        "differentiable",
        "doc",
        "domain",
        "fits",
        "gradients",
        "inputs",
        "is_single",
        "key",
        "kinks",
        "name",
        "number",
        "of_numbers",
        "plans",
        "positions",
        "promote",
        "results",
        "takes_pending",
        "variadic",
        "view",
    )

    number: Callable[..., Any] | None
    array: Callable[..., Any]
    inputs: tuple[str, ...]
    results: tuple[str, ...]
    derivatives: tuple[Callable[..., Any] | None, ...]
    gradients: Callable[..., Sequence[Any]] | None
    variadic: int | None
    plans: "Plans"
    of_numbers: "OfNumbers"

    def __init__(
        self,
        number: Callable[..., Any] | None,
        array: Callable[..., Any],
        inputs: str,
        *derivatives: Callable[..., Any] | None,
        gradients: Callable[..., Sequence[Any]] | None = None,
        results: str = "y",
        name: str | None = None,
        promote: str | None = None,
        domain: dict[str, tuple[float, float]] | None = None,
        kinks: Callable[..., Any] | None = None,
        view: bool = False,
        fits: bool = False,
        takes_pending: bool = False,
        doc: str = "",
    ) -> None:
        self.number, self.derivatives, self.gradients = number, derivatives, gradients
        self.array = in_numpy(array) if isinstance(array, np.ufunc) else array
        self.inputs, self.results = tuple(inputs.replace("*", "").split()), tuple(results.split())
        self.variadic = len(self.inputs) - 1 if "*" in inputs else None
        self.is_single = len(self.results) == 1
        self.promote, self.domain, self.kinks, self.view = promote, domain or {}, kinks, view
        self.positions = tuple([i for i, d in enumerate(derivatives) if d is not None])
        self.differentiable = sum([1 << i for i in self.positions])
        if self.variadic is not None and self.differentiable >> self.variadic:
            self.differentiable |= -1 << self.variadic
        self.fits = fits or promote is not None
        self.takes_pending = takes_pending
        self.plans, self.of_numbers = Plans(self), OfNumbers(self)
        self.name, self.key, self.doc = name or "", "", doc

    def __set_name__(self, owner: type, key: str) -> None:
        self.key, self.name = key, self.name or key
        if key in TABLE:
            raise TypeError(f"two Ops are called {key}")
        TABLE[key] = self

    def __call__(self, *inputs: Any) -> Any:
        """On anything recordable, record; on plain numbers or arrays, compute."""
        return self.of(inputs)

    def of(self, inputs: tuple[Any, ...]) -> Any:
        """The operation of these inputs."""
        for x in inputs:
            if isinstance(x, OfArrays):
                array = x
                return array.record(self, inputs)
            if isinstance(x, Recordable):
                return x.record(self, inputs)
        if self.number is not None and type(inputs[0]) in NUMBERS and type(inputs[-1]) in NUMBERS:
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

    def combined(self, which: Sequence[int], arguments: Sequence[str]) -> Callable[..., tuple[Any, ...]]:
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

    def at_once(self, which: Sequence[int], arguments: Sequence[str]) -> Callable[..., Sequence[Any]] | None:
        """`gradients` as a function of (g, *arguments), None if there is none."""
        if self.gradients is None:
            return None
        names = list(signature(self.gradients).parameters)[1:]
        if names == list(arguments):
            return self.gradients
        given = {name: name if name in arguments else "None" for name in names} | {"wanted": str(mask_of(which))}
        function: Callable[..., Sequence[Any]] = eval(
            f"lambda {', '.join(['g', *arguments])}: gradients({', '.join(['g', *[given[n] for n in names]])})",
            {"gradients": self.gradients},
        )
        return function


class Plans:
    """The Plans of an Op, each made when it is first asked for, by the mask of the inputs that want a gradient."""

    __slots__ = ("_made", "_op")

    def __init__(self, op: Op) -> None:
        self._made: dict[int, Plan] = {}
        self._op = op

    def of(self, mask: int) -> Plan:
        """The plan for this mask."""
        plan = self._made.get(mask)
        if plan is None:
            plan = self._made[mask] = self.make(mask)
        return plan

    def make(self, mask: int) -> Plan:
        """A new plan for this mask."""
        op = self._op
        which = wanted(mask)
        names = tuple(dict.fromkeys([n for i in which for n in op.named_by(i) if n != "i"]))
        save = tuple(map(self._found, names))
        tensors = [kind is RESULT or (kind is INPUT and i in op.positions) for kind, i in save]
        pull = op.combined(which, names)
        return Plan(which, save, pull, op.at_once(which, names) or pull, True in tensors)

    def _found(self, name: str) -> tuple[str, int]:
        """Where a name in a derivative is found."""
        op = self._op
        if name in op.inputs:
            return INPUT, op.inputs.index(name)
        if name in op.results:
            return RESULT, op.results.index(name)
        position = op.inputs.index(name.removesuffix("_shape"))
        return SHAPE if position != op.variadic else SHAPES, position


class OfNumbers(dict[int, Callable[..., tuple[Any, ...]]]):
    """Value's plans: functions (g, *inputs, y) -> gradients, by the mask of the inputs that want one."""

    def __init__(self, op: Op) -> None:
        super().__init__()
        self._op = op

    def __missing__(self, mask: int) -> Callable[..., tuple[Any, ...]]:
        names = (*self._op.inputs, "_" if "y" in self._op.inputs else "y")
        function = self[mask] = self._op.combined(wanted(mask), names)
        return function


def wanted(mask: int) -> tuple[int, ...]:
    """The positions whose bit is set."""
    return tuple([i for i in range(mask.bit_length()) if mask >> i & 1])


def mask_of(positions: Sequence[int]) -> int:
    """The mask that has these bits set, and there may be more of them than a machine word has."""
    mask = 0
    for i in positions:
        mask |= 1 << i
    return mask


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
