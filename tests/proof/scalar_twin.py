"""A program run twice: on Tensors, and on Values that stand in NumPy arrays of objects, one to an element.

Views of the object arrays are views in NumPy's sense, so a write through one is seen through all others, which is what
an in-place operation on shared memory means. A write to a leaf puts fresh Values in its place: the leaf's gradient is
the sum over all that ever stood there.
"""

import numpy as np

import scalargrad as sg
from scalargrad import Value
from scalargrad.rules import ops

UNARY = {
    "tanh": np.vectorize(Value.tanh, otypes=[object]),
    "sigmoid": np.vectorize(Value.sigmoid, otypes=[object]),
    "sin": np.vectorize(Value.sin, otypes=[object]),
    "relu": np.vectorize(Value.relu, otypes=[object]),
    "abs": np.vectorize(abs, otypes=[object]),
    "neg": np.vectorize(lambda v: -v, otypes=[object]),
    "exp": np.vectorize(lambda v: v.exp(), otypes=[object]),
}
BINARY = {
    "add": np.vectorize(lambda a, b: a + b, otypes=[object]),
    "sub": np.vectorize(lambda a, b: a - b, otypes=[object]),
    "mul": np.vectorize(lambda a, b: a * b, otypes=[object]),
    "maximum": np.vectorize(lambda a, b: ops.maximum(a, b), otypes=[object]),
}
IN_PLACE = {"add_": BINARY["add"], "mul_": BINARY["mul"], "sub_": BINARY["sub"]}
VIEWS = {
    "first": (lambda t: t[0, ...], 1),
    "rest": (lambda t: t[1:], 1),
    "last of each": (lambda t: t[..., -1], 1),
    "flat": (lambda t: t.reshape(-1), 0),
    "with one more": (lambda t: t[None], 0),
    "all": (lambda t: t[:], 1),
}
numbers = np.vectorize(lambda v: v.data, otypes=[np.float64])
constants = np.vectorize(lambda v: Value(v.data), otypes=[object])
grads = np.vectorize(lambda v: float(v.grad), otypes=[np.float64])


def values(array):
    """A Value for each element."""
    return np.array([Value(x) for x in np.ravel(array)], object).reshape(np.shape(array))


def cells_of(array):
    """What NumPy gave, which is an element and no array where there are no dimensions, as an array of Values."""
    if isinstance(array, np.ndarray):
        return array
    cell = np.empty((), object)
    cell[()] = array
    return cell


class Twin:
    """A Tensor, and the Values that it should be."""

    def __init__(self, tensor, cells, *, writable=True):
        self.tensor, self.cells, self.writable = tensor, cells_of(cells), writable
        self.kept = None  # what a retained gradient should be

    def same_numbers(self):
        np.testing.assert_allclose(self.tensor.numpy(force=True), numbers(self.cells), rtol=1e-12, atol=1e-12)


class Leaf(Twin):
    """A leaf: its gradient is that of all Values that ever stood in it."""

    def __init__(self, array):
        super().__init__(sg.tensor(array, requires_grad=True), values(array), writable=False)
        self.ever = [self.cells.copy()]

    def overwrite(self, array):
        """An update outside of the graph, as an optimiser makes it."""
        with sg.no_grad():
            self.tensor.copy_(sg.tensor(array))
        self.cells[...] = values(array)
        self.ever.append(self.cells.copy())

    def expected(self):
        return sum(grads(cells) for cells in self.ever)

    def same_gradient(self):
        found = self.tensor.grad
        if found is None:
            assert not self.expected().any()
            return
        assert (found.shape, found.dtype) == (self.tensor.shape, self.tensor.dtype)
        np.testing.assert_allclose(found.numpy(), self.expected(), rtol=1e-9, atol=1e-9)


def total(cells, weights):
    """Σ weights · cells."""
    return sum((v * float(w) for v, w in zip(cells.flat, np.ravel(weights), strict=True)), Value(0.0))
