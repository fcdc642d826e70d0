"""Reverse-mode differentiation, once, for any kind of payload.

A Node is something that gradients flow to. It knows its `parents`, its age `seq`, and how to `pull` the gradient of its
result back to them. A node without parents is a leaf. A node is always younger than its parents, so going from young to
old meets every node after all of its uses, when its gradient is complete: no recursion, and linear in the graph's size.

Nothing here knows whether a gradient is a number, an array, or something that records itself.
"""

from collections.abc import Callable, Container, Sequence
from itertools import count
from operator import attrgetter, iadd
from typing import Any

tick = count(1).__next__
"""The clock: numbers the operations and, for tensors, the in-place writes."""

_age = attrgetter("seq")


class Node:
    """Something that gradients flow to. `parents` are the nodes that it was computed from: none for a leaf."""

    __slots__ = ("seq",)

    seq: int
    parents: Sequence["Node"] = ()

    def receive(self, grad: Any) -> Any:
        """The gradient of the result, complete, as the node takes it: a hook's place."""
        return grad

    def pull(self, grad: Any, retain: bool) -> Sequence[Any]:
        """One gradient (or None) for each parent, from the gradient of the result."""
        raise NotImplementedError


class Outputs(Node):
    """Several results seen as one root: pulls each result's own gradient."""

    __slots__ = ("_seeds", "parents")

    def __init__(self, nodes: Sequence[Node], seeds: Sequence[Any]) -> None:
        self.parents, self._seeds, self.seq = nodes, seeds, tick()

    def pull(self, grad: Any, retain: bool) -> Sequence[Any]:
        return self._seeds


def operations(root: Node) -> list[Node]:
    """The operations behind `root`, youngest first; leaves are not operations."""
    found: list[Node] = []
    seen = {root}
    todo = [root]
    last_seq, in_order = root.seq + 1, True
    while todo:
        node = todo.pop()
        parents = node.parents
        if parents:
            in_order = in_order and node.seq < last_seq
            last_seq = node.seq
            found.append(node)
            for parent in parents:
                if parent not in seen:
                    seen.add(parent)
                    todo.append(parent)
    if not in_order:
        found.sort(key=_age, reverse=True)
    return found


def between(order: Sequence[Node], targets: Container[Node]) -> set[Node]:
    """Those of `order` (youngest first) that lead to one of `targets`."""
    leading: set[Node] = set()
    for node in reversed(order):
        for parent in node.parents:
            if parent in leading or parent in targets:
                leading.add(node)
                break
    return leading


def sweep(
    root: Node,
    seed: Any,
    targets: Container[Node] | None = None,
    keep: bool = False,
    retain: bool = True,
    plus: Callable[[Any, Any], Any] = iadd,
) -> dict[Node, Any]:
    """The gradient of `root` for every leaf, and for every node if `keep`. Contributions add up.

    With `targets`, only what leads to them is visited, and their gradients are what comes back. `retain=False` lets
    each node forget what it saved. `plus` adds to a sum that was made here: in place, unless sums must be recorded.
    """
    order = operations(root)
    leading = None if targets is None else between(order, targets)
    grads = {root: seed}
    sums: set[Node] = set()  # what was added up here, and so may be added to in place
    for node in order:
        grad = grads.get(node) if keep else grads.pop(node, None)
        if grad is None:  # every path to it was cut
            continue
        grad = node.receive(grad)
        if leading is not None:
            if node in targets:  # type: ignore[operator]
                grads[node] = grad
            if node not in leading:
                continue
        parents, pulled = node.parents, node.pull(grad, retain)
        if len(parents) != len(pulled):
            raise ValueError(f"{node!r} gave {len(pulled)} gradients for {len(parents)} parents")
        for i in range(len(parents)):
            parent, g = parents[i], pulled[i]
            if g is None:
                continue
            total = grads.get(parent)
            if total is None:
                grads[parent] = g
            elif parent in sums:
                grads[parent] = plus(total, g)
            else:  # the first contribution may be someone else's object, too
                grads[parent] = total + g
                sums.add(parent)
    return grads
