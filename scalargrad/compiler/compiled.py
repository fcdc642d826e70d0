"""scalargrad.compile: a function of Values, at the speed of the machine."""

from __future__ import annotations

import functools
import inspect
import math
import sys
import threading
from collections.abc import Callable, Iterable, Sequence
from typing import Any, TypeAlias, overload

import numpy as np

from scalargrad.compiler.operation import operation
from scalargrad.compiler.paths import Argument, Call, Paths, summed_in_order
from scalargrad.operation import Op, Recordable
from scalargrad.value import Value

Array: TypeAlias = np.ndarray[Any, Any]

FLOAT32, FLOAT64 = np.dtype(np.float32), np.dtype(np.float64)
_ORDINARY = (inspect.Parameter.POSITIONAL_ONLY, inspect.Parameter.POSITIONAL_OR_KEYWORD)


class Compiled:
    """A function of Values that takes arrays, too. `scalargrad.compile` makes one; see there."""

    def __init__(self, fn: Callable[..., Any], batched: Iterable[str], dtype: np.dtype[Any], max_traces: int) -> None:
        functools.update_wrapper(self, fn)
        self.fn, self.dtype, self.max_traces = fn, dtype, max_traces
        self.name = getattr(fn, "__name__", type(fn).__name__)
        self.signature = inspect.signature(fn)
        self.parameters = tuple(self.signature.parameters)
        self.batched = tuple(self._named("batched", batched))
        for name, parameter in self.signature.parameters.items():
            if parameter.kind not in _ORDINARY:
                raise TypeError(
                    f"compile(): {self.name}() has the parameter {parameter}; each one needs a name and a place"
                )
            if name == "wrt":
                raise TypeError(
                    f"compile(): {self.name}() has a parameter wrt, which value_and_grad() needs for itself"
                )
        self._is_batched = [name in self.batched for name in self.parameters]
        self._variants: dict[Any, Paths] = {}
        self._lock = threading.Lock()
        self.gradients: dict[int, Op] = {}  # as operations on Tensors, by the number of the argument

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        """A number for each sample. Given Values, `fn` simply runs; given Tensors, it is one node of their graph."""
        args = self._positional(args, kwargs)
        other = self._other_than_arrays(args)
        if other is Value:
            return self.fn(*args)
        if other is not None:
            return self._operation(*args)
        return self._run((), args)[0]

    def value_and_grad(self, *args: Any, wrt: str | Sequence[str] | None = None, **kwargs: Any) -> tuple[Any, Any]:
        """What the function gives, and its gradient for the arguments named by `wrt`: for all, as a tuple, by default.

        The gradient for a batched argument has a row for each sample. That for a shared one is the sum over the
        samples, added up in their order (from 256 on in runs, see docs/compile.md).
        Raises RuntimeError if the function gives more than one number.
        """
        args = self._positional(args, kwargs)
        if self._other_than_arrays(args) is not None:
            raise TypeError(f"{self.name}.value_and_grad(): expected arrays; of Values and Tensors ask autograd.grad()")
        names = self.parameters if wrt is None else (wrt,) if isinstance(wrt, str) else tuple(self._named("wrt", wrt))
        if isinstance(wrt, str):
            self._named("wrt", names)
        values, gradients = self._run(names, args)
        return values, gradients[names[0]] if isinstance(wrt, str) else tuple(gradients[name] for name in names)

    def grad(self, *args: Any, wrt: str | Sequence[str] | None = None, **kwargs: Any) -> Any:
        """The gradients alone, as `value_and_grad` gives them."""
        return self.value_and_grad(*args, wrt=wrt, **kwargs)[1]

    def backward(self, *args: Any, **kwargs: Any) -> Any:
        """What the function gives. The gradient of the sum over the samples is added to `.grad` of the Values that the
        function closes over, a model's weights for example."""
        args = self._positional(args, kwargs)
        if self._other_than_arrays(args) is not None:
            raise TypeError(f"{self.name}.backward(): expected arrays; of a Value or Tensor call backward() itself")
        return self._run(None, args)[0]

    def listing(self, *args: Any, wrt: Sequence[str] | None = (), **kwargs: Any) -> str:
        """The program for arguments like these, line by line; with the gradients for `wrt`, where some are named.

        None stands for the gradients that `backward` adds. The first line of each path names what decides on it.
        """
        args = self._positional(args, kwargs)
        paths, call = self._prepared(None if wrt is None else tuple(self._named("wrt", wrt)), args)
        paths.taken(call)
        return "\n".join(paths.listing(path, f"{self.name}, path {k}") for k, path in enumerate(paths.paths))

    @property
    def n_traces(self) -> int:
        """How many times the function was traced: once for each path, kind of arguments and choice of gradients."""
        return sum(len(paths.paths) for paths in self._variants.values())

    def __repr__(self) -> str:
        return f"<compiled {self.name}{self.signature}, {self.n_traces} traces>"

    def __reduce__(self) -> Any:
        """By name where the name leads here, as for a decorated function; else by the function, to be traced again."""
        name = getattr(self.fn, "__qualname__", "")
        if getattr(sys.modules.get(getattr(self.fn, "__module__", "")), name, None) is self:
            return name
        return _same, (self.fn, self.batched, self.dtype, self.max_traces)

    def _named(self, what: str, names: Iterable[str]) -> list[str]:
        if isinstance(names, str):
            raise TypeError(f"compile(): expected a sequence of names as {what}, got the string {names!r}")
        names = list(names)
        for name in names:
            if name not in self.parameters:
                raise ValueError(
                    f"{self.name}(): {what} names {name!r}; the parameters are {', '.join(self.parameters)}"
                )
        return names

    def _positional(self, args: tuple[Any, ...], kwargs: dict[str, Any]) -> tuple[Any, ...]:
        if not kwargs and len(args) == len(self.parameters):
            return args
        bound = self.signature.bind(*args, **kwargs)
        bound.apply_defaults()
        return bound.args

    def _other_than_arrays(self, args: tuple[Any, ...]) -> Any:
        """Value if there is one among the arguments, Recordable if there is a Tensor; None if all are arrays."""
        for x in args:
            if type(x) is np.ndarray:
                continue
            if isinstance(x, Recordable):
                return Value if isinstance(x, Value) else Recordable
            if isinstance(x, (list, tuple)) and _has_value(x):
                return Value
        return None

    def _run(self, wanted: tuple[str, ...] | None, args: tuple[Any, ...]) -> tuple[Any, dict[str, Any]]:
        """The values, and the gradients by name; those of captured Values are added to them."""
        paths, call = self._prepared(wanted, args)
        taken = paths.taken(call)
        n, shape = call.n, taken[0][0].shape
        values = np.empty((n, *shape), self.dtype)
        rows = [np.empty((n, *a.shape), self.dtype) for a in paths.with_rows]
        outputs = [values, *rows]
        if len(taken) > 1 and any(path.shape != shape for path, _ in taken):
            raise RuntimeError(f"{self.name}(): gave more numbers for some samples than for others")
        if wanted is None:
            return self._run_backward(paths, call, taken, values), {}
        if len(taken) == 1:
            path, _ = taken[0]
            inputs, shared = call.for_path(path)
            total = path.replay.run(n, inputs, shared, outputs)
        elif paths.summed:
            total = summed_in_order(call, taken, outputs)
        else:
            for path, who in taken:
                inputs, shared = call.for_path(path)
                path.replay.run(n, inputs, shared, outputs, who)
        if not paths.has_batch:
            return values[0], {a.name: g[0] for a, g in zip(paths.with_rows, rows, strict=True)}
        gradients = {a.name: g for a, g in zip(paths.with_rows, rows, strict=True)}
        at = 0
        for a, size in paths.summed:
            gradients[a.name] = total[at : at + size].reshape(a.shape)
            at += size
        return values, gradients

    def _run_backward(self, paths: Paths, call: Call, taken: Any, values: Array) -> Any:
        """The values; the gradients for captured Values are added to these."""
        path, _ = taken[0]
        inputs, shared = call.for_path(path)
        if not paths.has_batch:
            own = np.empty((1, path.n_captured), self.dtype)
            path.replay.run(1, inputs, shared, [values, own])
            total = own[0]
        elif len(taken) == 1:
            total = path.replay.run(call.n, inputs, shared, [values])
        else:
            total = summed_in_order(call, taken, [values])
        for v, g in zip(paths.captured, total.tolist(), strict=False):
            if v.op is None:
                v.grad += g
            else:  # its graph goes on from here
                v.backward(g)
        return values if paths.has_batch else values[0]

    def _prepared(self, wanted: tuple[str, ...] | None, args: tuple[Any, ...]) -> tuple[Paths, Call]:
        """The paths for arguments of these shapes, and the arguments as its programs take them."""
        n = -1
        inputs: list[Array] = []
        shared: list[Array] = []
        shapes: list[tuple[int, ...]] = []
        for name, batched, x in zip(self.parameters, self._is_batched, args, strict=True):
            if type(x) is not np.ndarray or x.dtype is not self.dtype or not (x.flags.c_contiguous and x.flags.aligned):
                x = self._array(name, x)
            shape = x.shape
            if batched:
                if not shape:
                    raise TypeError(
                        f"{self.name}(): expected a number for each sample as {name!r}, got a single number"
                    )
                if n < 0:
                    n = shape[0]
                elif n != shape[0]:
                    raise ValueError(
                        f"{self.name}(): expected as many samples in {name!r} as in {self.batched[0]!r}, {n}; "
                        f"got {shape[0]}"
                    )
                shape = shape[1:]
                inputs.append(x.reshape(n, math.prod(shape)))
            else:
                (shared if self.batched else inputs).append(x.reshape(-1) if self.batched else x.reshape(1, -1))
            shapes.append(shape)
        key = (wanted, *shapes)
        paths = self._variants.get(key)
        if paths is None:
            with self._lock:
                paths = self._variants.setdefault(key, self._paths(wanted, shapes))
        return paths, Call(paths, n if self.batched else 1, inputs, shared)

    def _paths(self, wanted: tuple[str, ...] | None, shapes: Sequence[tuple[int, ...]]) -> Paths:
        arguments = list(map(Argument, self.parameters, self._is_batched, shapes))
        return Paths(self.fn, self.name, arguments, wanted, self.dtype, self.max_traces)

    def _array(self, name: str, x: Any) -> Array:
        try:
            array = np.asarray(x)
        except ValueError as error:
            raise ValueError(f"{self.name}(): argument {name!r}: {error}") from None
        if array.dtype.kind not in "fiub":
            raise TypeError(f"{self.name}(): expected real numbers as {name!r}, got {_kind(x, array)}")
        with np.errstate(all="ignore"):  # a number beyond float32 is inf there
            return np.require(array, self.dtype, ("C", "A")).reshape(array.shape)

    def derived(self, fn: Callable[..., Any], batched: Iterable[str]) -> Compiled:
        """Another function, compiled in the same way."""
        return Compiled(fn, batched, self.dtype, self.max_traces)

    @functools.cached_property
    def _operation(self) -> Op:
        return operation(self)


def _has_value(x: Any) -> bool:
    return isinstance(x, Value) or (isinstance(x, (list, tuple)) and any(map(_has_value, x)))


def _kind(x: Any, array: Array) -> str:
    return type(x).__name__ if array.dtype == object and not array.shape else f"an array of {array.dtype}"


def _same(fn: Callable[..., Any], *options: Any) -> Compiled:
    return Compiled(fn, *options)


@overload
def compile(
    fn: Callable[..., Any], *, batched: Iterable[str] = (), dtype: Any = "float64", max_traces: int = 256
) -> Compiled: ...


@overload
def compile(
    fn: None = None, *, batched: Iterable[str] = (), dtype: Any = "float64", max_traces: int = 256
) -> Callable[[Callable[..., Any]], Compiled]: ...


def compile(
    fn: Callable[..., Any] | None = None,
    *,
    batched: Iterable[str] = (),
    dtype: Any = "float64",
    max_traces: int = 256,
) -> Any:
    """`fn`, a function of Values, for whole arrays: traced once with its gradient, then replayed as machine code would.

        @scalargrad.compile(batched=("x", "y"))
        def loss(params, x, y):
            return (1 - y * score(params, x)).relu()

        losses = loss(params, X, Y)
        losses, (slope,) = loss.value_and_grad(params, X, Y, wrt=("params",))

    Arguments named in `batched` have one row for each sample; the others are shared by all samples. A shared argument
    of shape (k,) reaches `fn` as a list of k Values, a single number as a Value, and so does one row of a batched
    argument. What `fn` gives is a number, or (nested) lists of numbers. The Values that it closes over are read anew in
    every call.

    In float64 the results have the bits that `fn` gives on Values. Where `fn` compares Values, each way that samples
    take is traced, up to `max_traces` of them. Reading a Value's number in `fn` is an error, because it would be that
    of one sample.
    Raises TypeError or ValueError for options that do not fit `fn`.
    """
    if fn is None:
        return functools.partial(compile, batched=batched, dtype=dtype, max_traces=max_traces)
    if isinstance(fn, Compiled):
        raise TypeError("compile(): this function is compiled already")
    if not callable(fn):
        raise TypeError(f"compile(): expected a function, got {type(fn).__name__}")
    try:
        dtype = {FLOAT32: FLOAT32, FLOAT64: FLOAT64}[np.dtype(dtype)]
    except (KeyError, TypeError):
        raise TypeError(f"compile(): expected float32 or float64 as dtype, got {dtype!r}") from None
    if type(max_traces) is not int or max_traces < 1:
        raise ValueError(f"compile(): expected a positive integer as max_traces, got {max_traces!r}")
    return Compiled(fn, batched, dtype, max_traces)
