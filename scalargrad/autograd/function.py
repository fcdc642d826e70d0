"""Function: an operation with a derivative of the user's own."""

from __future__ import annotations

from typing import Any

import numpy as np

from scalargrad import dtypes
from scalargrad.grad_mode import _Scope, mode
from scalargrad.graph import tick
from scalargrad.nodes import SECOND_PASS, STALE, Output, TensorNode, fit, source
from scalargrad.tensor import Tensor, wrap


class SavedResult:
    """A result that its own node saved."""

    def __init__(self, t: Tensor, number: int) -> None:
        self.array, self.storage, self.shape, self._number = t.array, t.own_storage(), t.shape, number

    def tensor(self, node: FunctionCtx) -> Tensor:
        """The result again, with its place in the graph."""
        return wrap(self.array, Output(node, self._number, self.array) if mode.enabled else None)


class FunctionCtx(TensorNode):
    """What `forward` leaves for `backward`; it is the node of the graph, too, so `grad_fn` is where attributes are."""

    __slots__ = ("__dict__", "_edges", "_function", "_outputs", "_plain", "_saved", "_used", "needs_input_grad")

    def __init__(self, function: type[Function], inputs: tuple[Any, ...]) -> None:
        self._function = function
        self._edges = [x.edge if isinstance(x, Tensor) else None for x in inputs]
        self.needs_input_grad = tuple(edge is not None for edge in self._edges)
        self._saved: tuple[Any, ...] | None = ()
        self._used = False
        self._plain: set[int] = set()
        self._outputs: list[tuple[tuple[int, ...], np.dtype[Any]]] = []
        self.hooks, self.materialize_grads = None, True
        self.dirty_tensors: tuple[Tensor, ...] = ()

    materialize_grads: bool

    def save_for_backward(self, *tensors: Tensor | None) -> None:
        """Keep tensors for `backward`, to be had there as `ctx.saved_tensors`. Raises TypeError for anything else."""
        for t in tensors:
            if t is not None and not isinstance(t, Tensor):
                raise TypeError(
                    f"save_for_backward can only save variables, but argument is of type {type(t).__name__}"
                )
        self._saved = tensors

    @property
    def saved_tensors(self) -> tuple[Tensor | None, ...]:
        """What was saved. Raises RuntimeError after it was freed, or if it was written to since."""
        if self._saved is None:
            raise RuntimeError(SECOND_PASS)
        for t in self._saved:
            if t is not None and t.storage is not None and t.storage.written > self.seq:
                raise RuntimeError(STALE.format(self.name(), list(t.shape)))
        return tuple(t.tensor(self) if isinstance(t, SavedResult) else t for t in self._saved)

    def mark_non_differentiable(self, *tensors: Tensor) -> None:
        """These results carry no gradient."""
        self._plain.update(map(id, tensors))

    def mark_dirty(self, *tensors: Tensor) -> None:
        """These inputs were written to, and are returned."""
        self.dirty_tensors = tensors

    def set_materialize_grads(self, value: bool) -> None:
        """Whether `backward` gets zeros (the default) or None for a result that was not used."""
        self.materialize_grads = value

    def output(self, k: int, y: Any, inputs: tuple[Any, ...], recording: bool) -> Any:
        """The k-th result as the caller gets it: an edge of the graph, if it carries a gradient."""
        if not isinstance(y, Tensor):
            self._outputs.append(((), dtypes.default_float))
            return y
        self._outputs.append((y.array.shape, y.array.dtype))
        plain = id(y) in self._plain or y.array.dtype.kind != "f"
        if any(y is x for x in inputs) and not any(y is t for t in self.dirty_tensors):
            y = y.detach()  # an input returned as it is becomes a tensor of its own
        if recording and not plain:
            y.edge = Output(self, k, y.array)
        return y

    def forget_own_results(self, results: tuple[Any, ...]) -> None:
        """Hold saved results by their arrays, not by the tensors, whose edges lead back here."""
        self._saved = tuple(
            next((SavedResult(t, k) for k, y in enumerate(results) if t is y and t is not None), t)
            for t in self._saved or ()
        )

    @property
    def parents(self) -> list[TensorNode]:  # type: ignore[override]
        return [edge for edge in self._edges if edge is not None]

    @property
    def next_functions(self) -> tuple[Any, ...]:
        """For each input the node that its gradient goes to, and which result of that node it is."""
        return tuple(source(edge) for edge in self._edges)

    def name(self) -> str:
        return f"{self._function.__name__}Backward"

    def pull(self, grad: Any, retain: bool) -> list[Any]:
        if self._saved is None or self._used:
            raise RuntimeError(SECOND_PASS)
        recording = mode.enabled
        grads: list[Any] = []
        for k, (shape, dtype) in enumerate(self._outputs):
            g = grad.get(k)
            if g is None and self.materialize_grads:
                g = np.zeros(shape, dtype)
            # A copy: the user's function may write to it.
            grads.append(g if g is None or isinstance(g, Tensor) else wrap(np.array(g)))
        results = self._function.backward(self, *grads)
        if not retain:
            self._used, self._saved = True, None
        results = results if isinstance(results, tuple) else (results,)
        return self._checked(results, recording)

    def _checked(self, results: tuple[Any, ...], recording: bool) -> list[Any]:
        n = len(self._edges)
        if len(results) > n and all(r is None for r in results[n:]):
            results = results[:n]
        if len(results) != n:
            raise RuntimeError(
                f"function {self.name()} returned an incorrect number of gradients (expected {n}, got {len(results)})"
            )
        pulled: list[Any] = []
        for i, (edge, g) in enumerate(zip(self._edges, results, strict=True)):
            if edge is None:
                continue
            if g is None:
                pulled.append(None)
                continue
            if not isinstance(g, Tensor):
                raise TypeError(f"{self.name()}: expected a Tensor or None as gradient {i}, got {type(g).__name__}")
            if g.array.shape != edge.shape:
                try:
                    reducible = np.broadcast_shapes(g.array.shape, edge.shape) == g.array.shape
                except ValueError:
                    reducible = False
                if not reducible:
                    raise RuntimeError(
                        f"Function {self.name()} returned an invalid gradient at index {i} - got {list(g.shape)} but "
                        f"expected shape compatible with {list(edge.shape)}"
                    )
            # A copy: the user's function may return a tensor that it, or someone else, goes on using.
            pulled.append(fit(g if recording else g.array.copy(), edge.shape, edge.dtype))
        return pulled


class Function:
    """An operation of the user's own: subclass it, and call the subclass's `apply`.

        class Exp(Function):
            @staticmethod
            def forward(ctx, x):
                y = x.exp()
                ctx.save_for_backward(y)
                return y

            @staticmethod
            def backward(ctx, grad):
                (y,) = ctx.saved_tensors
                return grad * y

    `forward` runs unrecorded. `backward` gets a gradient for each result, and returns one (or None) for each input;
    under `create_graph` it is itself recorded. `setup_context(ctx, inputs, output)` may take over the saving, and then
    `forward` has no `ctx`.
    """

    @staticmethod
    def forward(*args: Any, **kwargs: Any) -> Any:
        """The results, Tensors or a tuple of them."""
        raise NotImplementedError("You must implement the forward function for custom autograd.Function.")

    setup_context: Any = None

    @staticmethod
    def backward(ctx: Any, *grad_outputs: Any) -> Any:
        """The gradient of each input, from that of each result."""
        raise NotImplementedError("You must implement the backward function for custom autograd.Function.")

    @classmethod
    def apply(cls, *inputs: Any) -> Any:
        """The results of `forward`, recorded."""
        ctx = FunctionCtx(cls, inputs)
        recording = mode.enabled and any(ctx.needs_input_grad)
        with _Scope(False):
            if cls.setup_context is None:
                result = cls.forward(ctx, *inputs)
            else:
                result = cls.forward(*inputs)
                cls.setup_context(ctx, inputs, result)
        results = result if isinstance(result, tuple) else (result,)
        for t in ctx.dirty_tensors:
            t.stamp()
        ctx.seq = tick()
        outputs = [ctx.output(k, y, inputs, recording) for k, y in enumerate(results)]
        ctx.forget_own_results(results)
        return tuple(outputs) if isinstance(result, tuple) else outputs[0]
