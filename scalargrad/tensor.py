"""Tensor: an array that remembers how it was computed, in PyTorch's vocabulary.

`apply` runs an Op on arrays and, where a gradient is wanted, leaves behind a `Backward` node (nodes.py): what the
derivatives named, and the edges to the nodes of the inputs. `backward` sends gradients back over these edges, by
`graph.sweep`, and adds what reaches a leaf to its `.grad`.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from math import prod
from operator import add
from typing import Any
from weakref import ref

import numpy as np

from scalargrad import dtypes, kernels
from scalargrad.dtypes import float32, float64, promoted
from scalargrad.grad_mode import _Scope, mode
from scalargrad.graph import Node, Outputs, sweep, tick
from scalargrad.kernels.memory import is_own, lend_to_numpy, take_back
from scalargrad.methods.graph import InGraph
from scalargrad.nodes import STALE, RemovableHandle, Saved, TensorNode, recorded
from scalargrad.operation import INPUT, SHAPE, SHAPES, Op, check_broadcast, mask_of
from scalargrad.ops.shape import Size, shaping
from scalargrad.pending import Pending, are_zeros, settle, wait, waiting
from scalargrad.printing import tensor_repr
from scalargrad.storage import Storage, fresh_storage

ndarray = np.ndarray  # a global of the module is had in a tenth of the time of an attribute


class Result(Saved):
    """A node's saved result: the array alone, so that no cycle arises, and its storage to know of writes."""

    __slots__ = ("array", "storage")

    array: np.ndarray[Any, Any]
    storage: Storage

    def saved_by(self, node: TensorNode, recording: bool) -> Any:
        if self.storage.written > node.seq:
            raise RuntimeError(STALE.format(node.name(), list(self.array.shape)))
        return wrap(self.array, node) if recording else self.array


class Tensor(InGraph):
    """An array of one dtype, and `edge`: where its gradient goes, None if it wants none.

    `Tensor(data)` copies data to float32, as `torch.Tensor` does; `scalargrad.tensor` keeps or chooses the dtype.
    """

    __slots__ = ("__weakref__", "_array", "_grad", "base", "edge", "storage")

    _array: Any  # an np.ndarray, or a Pending
    edge: TensorNode | None
    storage: Storage | None
    base: Tensor | None
    _grad: Tensor | None

    __array_priority__ = 1000

    def __init__(self, *data: Any) -> None:
        if len(data) == 1 and not isinstance(data[0], int):
            array = np.array(data[0].array if isinstance(data[0], Tensor) else data[0], dtypes.default_float)
        else:
            array = np.empty(data or 0, dtypes.default_float)
        self._array, self.edge, self.storage, self._grad, self.base = array, None, None, None, None

    @property
    def array(self) -> np.ndarray[Any, Any]:
        """The elements, as a NumPy array of this very memory. Writes to it are not noticed by the graph."""
        return self.elements()

    @array.setter
    def array(self, array: np.ndarray[Any, Any]) -> None:
        self._array = array

    def elements(self) -> np.ndarray[Any, Any]:
        """`array`, for the core: a method of a compiled class is called directly, a property is looked up."""
        array = self._array
        if type(array) is Pending:
            self._array = array = array.array
        if waiting:  # what is to be computed from this memory comes first: it may be written to
            settle(array)
        return array  # type: ignore[no-any-return]

    def record(self, op: Op, inputs: tuple[Any, ...]) -> Any:
        return apply(op, inputs)

    def saved_by(self, node: TensorNode, recording: bool) -> Any:
        if self.storage is not None and self.storage.written > node.seq:
            raise RuntimeError(STALE.format(node.name(), list(self.array.shape)))
        return self if recording else self._array

    def own_storage(self) -> Storage:
        """The storage of this tensor's memory, made when it is first asked for."""
        if self.storage is None:
            self.storage = fresh_storage()
        return self.storage

    def stamp(self, now: int = 0) -> None:
        """Note that this tensor's memory has been written to, now or just `now`."""
        self.own_storage().written = now or tick()

    def alias(self, edge: TensorNode | None = None, *, copy: bool = False) -> Tensor:
        """Another tensor of this memory, or of a copy, unknown to this one, with an edge of its own."""
        return wrap(self.array.copy() if copy else self.array, edge)

    @property
    def data(self) -> Tensor:
        """A tensor of the same memory, outside of the graph: writes to it are not noticed."""
        return wrap(self.array)

    @data.setter
    def data(self, value: Tensor) -> None:
        if not isinstance(value, Tensor):
            raise TypeError(f"Tensor.data: expected a Tensor, got {type(value).__name__}")
        self.array = value.array
        if self.edge is not None:
            self.edge.shape, self.edge.dtype = self.array.shape, self.array.dtype

    @property
    def grad(self) -> Tensor | None:
        """The gradient that `backward()` has added up here; None at first, and off the leaves (see retain_grad)."""
        return self._grad

    @grad.setter
    def grad(self, value: Tensor | None) -> None:
        if value is not None:
            if not isinstance(value, Tensor):
                raise TypeError(f"assigned grad expected to be a Tensor or None but got {type(value).__name__}")
            for what, mine, its in (("size", self.shape, value.shape), ("type", self.dtype, value.dtype)):
                if mine != its:
                    raise RuntimeError(f"assigned grad has data of a different {what}: expected {mine}, got {its}")
        self._grad = value

    @grad.deleter
    def grad(self) -> None:
        self._grad = None

    @property
    def shape(self) -> Size:
        """The size of each dimension."""
        return Size(self._array.shape)

    @property
    def dtype(self) -> np.dtype[Any]:
        """The elements' NumPy dtype."""
        return self._array.dtype  # type: ignore[no-any-return]

    @property
    def ndim(self) -> int:
        """The number of dimensions."""
        return self._array.ndim  # type: ignore[no-any-return]

    def backward(
        self, gradient: Any = None, retain_graph: bool | None = None, create_graph: bool = False, inputs: Any = None
    ) -> None:
        """Add the gradient of this tensor to the `.grad` of every leaf (or only of `inputs`) that it was computed from.

        `gradient` is the gradient of something with respect to this tensor, of its shape; it may be left out for a
        tensor of one element. The graph is forgotten on the way unless `retain_graph` (which defaults to
        `create_graph`); with `create_graph` the gradients can be differentiated again.
        Raises RuntimeError without a graph, and for a second pass through a graph that was forgotten.
        """
        backpropagate([self], [gradient], retain_graph, create_graph, inputs)

    def accumulate(self, grad: Any, unshared: bool, now: int = 0) -> None:
        """Add `grad` to `.grad`. The first one is kept rather than copied if it can be, and nobody else has it."""
        before = self._grad
        if isinstance(grad, Tensor):
            own = grad if unshared or before is not None else grad.clone()
            self._grad = own if before is None else before + own
            return
        if before is None:
            shape, dtype = self._array.shape, self._array.dtype
            own = unshared and is_own(grad, shape, dtype)
            self._grad = wrap(grad if own else kernels.contiguous(np.asarray(grad, dtype)))
        elif before.edge is not None:
            self._grad = before + wrap(np.asarray(grad))
        else:
            zeros = before._array if unshared and are_zeros(before._array) else None
            if zeros is not None and is_own(grad, zeros.shape, zeros.dtype):
                before._array = grad
            else:
                kernels.accumulate(before.elements(), grad)
            before.stamp(now)

    def register_hook(self, hook: Callable[[Tensor], Any]) -> RemovableHandle:
        """Call `hook` with the gradient of this tensor, each time it is computed; a Tensor it returns replaces it.

        Raises RuntimeError if no gradient flows here.
        """
        if self.edge is None:
            raise RuntimeError("cannot register a hook on a tensor that doesn't require gradient")

        def on_arrival(grad: Any) -> Any:
            recording = isinstance(grad, Tensor)
            arriving = grad if recording else wrap(np.array(grad))  # a copy, which the hook may keep or write to
            with _Scope(recording):
                leaving = hook(arriving)
            if leaving is None:
                return grad
            if not isinstance(leaving, Tensor) or leaving.shape != arriving.shape:
                raise RuntimeError(f"hook: expected None or a Tensor of shape {arriving.shape}, got {leaving!r}")
            return leaving if recording else leaving.array.copy()

        handle = self.edge.add_hook(on_arrival)
        hooks: Any = self.edge.hooks
        for number in [n for n, h in hooks.items() if type(h) is _KeepGrad]:
            hooks[number] = hooks.pop(number)  # what is kept is what all hooks have left
        return handle

    def retain_grad(self) -> None:
        """Let `backward()` leave the gradient in `.grad` of this tensor, though it is no leaf."""
        if self.edge is None:
            raise RuntimeError("can't retain_grad on Tensor that has requires_grad=False")
        if self.is_leaf or self.retains_grad:
            return
        self.edge.add_hook(_KeepGrad(self))

    def lead_to(self, edge: TensorNode | None) -> None:
        """Take another place in the graph, after a write; a gradient that is retained is that of the new place."""
        before, self.edge = self.edge, edge
        hooks: Any = None if before is None else before.hooks
        for number in [n for n, h in (hooks or {}).items() if type(h) is _KeepGrad]:
            del hooks[number]
            self.retain_grad()

    @property
    def retains_grad(self) -> bool:
        """True if this is no leaf and `retain_grad` was called."""
        hooks = self.edge.hooks if self.edge is not None else None
        return hooks is not None and _KeepGrad in map(type, hooks.values())

    def detach(self) -> Tensor:
        """A tensor of the same memory, outside of the graph. Writes through either are noticed by both."""
        t = wrap(self.array)
        t.storage = self.own_storage()
        return t

    def detach_(self) -> Tensor:
        """This tensor, cut off from the graph, a leaf from now on. Raises RuntimeError for a view."""
        if self.base is not None and self.edge is not None:
            raise RuntimeError("Can't detach views in-place. Use detach() instead.")
        self.edge = None
        return self

    def __array_wrap__(self, array: np.ndarray[Any, Any], context: Any = None, return_scalar: bool = False) -> Tensor:
        """What a NumPy function of tensors gives is a tensor again."""
        return wrap(np.asarray(array))

    def __repr__(self) -> str:
        name = None if self.is_leaf else self.grad_fn.name()  # type: ignore[union-attr]
        return tensor_repr(self.array, requires_grad=self.requires_grad, grad_fn_name=name)


class _KeepGrad:
    """A hook that leaves the gradient in a tensor's `.grad`."""

    def __init__(self, tensor: Tensor) -> None:
        self._tensor = ref(tensor)

    def __call__(self, grad: Any) -> Any:
        tensor = self._tensor()
        if tensor is not None:
            kept = grad if isinstance(grad, Tensor) else wrap(np.array(grad))
            tensor._grad = kept if tensor._grad is None else tensor._grad + kept
        return grad


def wrap(array: np.ndarray[Any, Any], edge: TensorNode | None = None) -> Tensor:
    """A Tensor of this very array."""
    t = Tensor.__new__(Tensor)
    t._array, t.edge, t.storage, t._grad, t.base = array, edge, None, None, None
    return t


def result(out: Tensor) -> Result:
    """What a node holds of its own result."""
    r = Result.__new__(Result)
    r.array, r.storage = out._array, out.own_storage()
    return r


def apply(op: Op, inputs: tuple[Any, ...]) -> Any:
    """Compute; and if recording is on and some input wants a gradient, remember.

    An Op with several results gives the first as a Tensor and the others as arrays.
    """
    arrays = list(inputs)
    for i in range(len(arrays)):
        x = arrays[i]
        if isinstance(x, Tensor):
            t = x
            arrays[i] = t.elements() if type(t._array) is Pending and not op.takes_pending else t._array
    if op.promote is not None:
        arrays = promoted(arrays, op.promote == "float")
    try:
        results = op.array(*arrays)
    except ValueError:
        if op.promote is not None:
            check_broadcast(op, arrays)
        raise
    y = results if op.is_single else results[0]
    if type(y) is not ndarray:
        y = wait(y, inputs, arrays) if type(y) is Pending else np.asarray(y)
    out = wrap(y)
    if op.view:
        _share(out, inputs[0])
    if mode.enabled:
        dtype = y.dtype
        if dtype is float32 or dtype is float64 or dtype.kind == "f":
            _remember(op, inputs, arrays, results, out, dtype)
    return out if op.is_single else (out, *results[1:])


def _remember(
    op: Op, inputs: tuple[Any, ...], arrays: list[Any], results: Any, out: Tensor, dtype: np.dtype[Any]
) -> None:
    """Give `out` its node, unless none of the inputs wants a gradient."""
    edges: list[TensorNode] = []
    mask = 0
    if op.variadic is None:
        for i in op.positions:
            x = inputs[i]
            if isinstance(x, Tensor):
                t = x
                if t.edge is not None:
                    mask |= 1 << i
                    edges.append(t.edge)
        if not edges:
            return
        plan = op.plans.of(mask)
    else:  # there may be more inputs than a machine word has bits
        wanting = [i for i, x in enumerate(inputs) if isinstance(x, Tensor) and x.edge is not None]
        if not wanting:
            return
        edges = [inputs[i].edge for i in wanting]
        plan = op.plans.of(mask_of(wanting))
    saved: list[Any] = list(plan.save)
    for j in range(len(saved)):
        kind, k = saved[j]
        if kind is INPUT:
            saved[j] = inputs[k]
        elif kind is SHAPE:
            saved[j] = _shape(arrays[k])
        elif kind is SHAPES:
            saved[j] = tuple([_shape(x) for x in arrays[k:]])
        else:
            saved[j] = results[k] if k else result(out)
    out.edge = recorded(op, plan, edges, saved, out._array.shape, dtype)


def _shape(x: Any) -> Any:
    """The shape of what an operation was given. (np.shape takes six times as long.)"""
    return () if isinstance(x, (float, int)) else x.shape


def _share(out: Tensor, x: Tensor) -> None:
    """Let `out` share the storage of `x` if it shares its memory."""
    mine, its = out._array, x._array  # neither is pending: what gives a view takes arrays
    memory = mine.base
    if mine is its or (memory is not None and (memory is its or memory is its.base or np.may_share_memory(mine, its))):
        out.storage = x.own_storage()
        out.base = x if x.base is None else x.base
        if mode.enabled:  # also where no gradient flows yet: one may be written in through the base or another view
            out.storage.add_view(out)


def backpropagate(
    outputs: Sequence[Tensor],
    seeds: Sequence[Any],
    retain_graph: bool | None = None,
    create_graph: bool = False,
    inputs: Any = None,
) -> None:
    """`Tensor.backward` for several tensors in one sweep."""
    targets = None
    if inputs is not None:
        targets = {t.edge: t for t in ([inputs] if isinstance(inputs, Tensor) else inputs)}
        if not targets:
            raise RuntimeError("backward(): inputs argument cannot be empty")
    grads, starts = gradients(outputs, seeds, retain_graph, create_graph, targets)
    taken, now = set(map(id, starts)), tick()
    for node, grad in grads.items():
        leaf = targets.get(node) if targets is not None else node.variable
        if leaf is None:
            continue
        g = grad
        if node.hooks and leaf.is_leaf:
            g, now = node.receive(grad), tick()  # a hook may have recorded something
        leaf.accumulate(g, not node.hooks and id(g) not in taken, now)
        taken.add(id(g))


def gradients(
    outputs: Sequence[Tensor], seeds: Sequence[Any], retain_graph: bool | None, create_graph: bool, targets: Any
) -> tuple[dict[Any, Any], list[Any]]:
    """The gradients of `outputs` by node, for the leaves or the `targets`, and the seeds they started from."""
    if len(outputs) != len(seeds):
        raise ValueError(f"backward(): expected a gradient for each of {len(outputs)} outputs, got {len(seeds)}")
    if not outputs:
        return {}, []
    starts = [_start(i, outputs[i], seeds[i], create_graph) for i in range(len(outputs))]
    root: Node = Outputs([y.edge for y in outputs], starts) if len(outputs) != 1 else outputs[0].edge  # type: ignore[misc, assignment]
    retain = create_graph if retain_graph is None else retain_graph
    before, mode.enabled = mode.enabled, create_graph
    memory = lend_to_numpy()  # derivatives are written in its operators
    try:
        with np.errstate(all="ignore"):  # inf and nan are results
            if create_graph:
                grads = sweep(root, starts[0], targets=targets, retain=retain, plus=add)  # not in place
            else:
                grads = sweep(root, starts[0], targets=targets, retain=retain)
            for node, grad in grads.items():
                if type(grad) is Pending:
                    grads[node] = grad.array
    finally:
        take_back(memory)
        mode.enabled = before
    return grads, starts


def _start(i: int, y: Tensor, seed: Any, recording: bool) -> Any:
    """The gradient that the i-th output starts with: a Tensor if what follows is recorded, else an array."""
    if y.edge is None:
        raise RuntimeError(f"element {i} of tensors does not require grad and does not have a grad_fn")
    shape, dtype = y._array.shape, y._array.dtype
    if seed is None:
        if prod(shape) != 1:
            raise RuntimeError(
                f"grad can be implicitly created only for scalar outputs, but output {i} has shape {list(shape)}"
            )
        one = np.array(1, dtype).reshape(shape)
        return wrap(one) if recording else one
    if not isinstance(seed, Tensor):
        raise TypeError(f"gradients can be either Tensors or None, but got {type(seed).__name__}")
    if seed._array.shape != shape:
        raise RuntimeError(
            f"Mismatch in shape: grad_output[{i}] has a shape of {seed.shape} and output[{i}] has a shape of {y.shape}."
        )
    if seed._array.dtype != dtype:
        seed = shaping.cast(seed, dtype)
    # Not copied, as in PyTorch: hooks and Functions get copies, and leaves keep copies.
    return seed if recording else seed.array
