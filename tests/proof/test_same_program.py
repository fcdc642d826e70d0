"""The same random program in Values and in Tensors: after each step, the same numbers and the same gradients.

A state machine draws the steps: operations and reuse, views, writes in place where they are legal, detach, no_grad,
retain_grad, backward passes with and without release of the graph, zero_grad between them, and updates of the leaves.
"""

import numpy as np
import scalar_twin as scalar
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule
from scalar_twin import Leaf, Twin

import scalargrad as sg
from scalargrad import Value
from scalargrad.nodes import STALE

SHAPES = [(), (2,), (2, 3), (3,), (1, 3), (2, 1)]
WHICH = st.integers(0, 10**6)
SEED = st.integers(0, 2**32 - 1)
STALE_WORDS = STALE.partition(":")[0]


def test_y_grad_is_a_grad_plus_b_grad():
    """The tutorial's first law: y goes two ways, into a and into b, and what comes back adds up."""
    y = Value(3.0)
    a, b = y * 1, y * 1
    ((a * a) * b).backward()
    assert y.grad == a.grad + b.grad == 2 * 3 * 3 + 3 * 3

    y = sg.tensor([3.0, -2.0], requires_grad=True)
    a, b = y.clone(), y.clone()
    a.retain_grad()
    b.retain_grad()
    ((a * a) * b).sum().backward()
    assert y.grad.tolist() == (a.grad + b.grad).tolist() == [27.0, 12.0]


class SameProgram(RuleBasedStateMachine):
    """Twins of Tensors and Values, and what may be done with them."""

    @initialize(seed=SEED)
    def two_leaves(self, seed):
        rng = np.random.default_rng(seed)
        self.leaves = [Leaf(rng.uniform(-2, 2, shape)) for shape in ((2, 3), (3,))]
        self.computed = []
        self.n_writes = 0

    def pick(self, which):
        """One of all that there is; small numbers, which are drawn more often, pick what is recent."""
        everything = self.leaves + self.computed
        return everything[-1 - which % len(everything)]

    def keep(self, tensor, cells, *, writable=True):
        """Take in a result, made small again where it has grown large: no number is to lose its digits."""
        cells = scalar.cells_of(cells)
        if np.abs(scalar.numbers(cells)).max(initial=0.0) > 20:
            tensor, cells, writable = tensor.tanh(), scalar.cells_of(scalar.UNARY["tanh"](cells)), True
        self.computed.append(Twin(tensor, cells, writable=writable))

    @rule(shape=st.sampled_from(SHAPES), seed=SEED)
    def new_leaf(self, shape, seed):
        if len(self.leaves) < 4:
            self.leaves.append(Leaf(np.asarray(np.random.default_rng(seed).uniform(-2, 2, shape))))

    @rule(shape=st.sampled_from(SHAPES), seed=SEED)
    def new_constant(self, shape, seed):
        numbers = np.asarray(np.random.default_rng(seed).uniform(-2, 2, shape))
        self.keep(sg.tensor(numbers), scalar.values(numbers))

    @rule(name=st.sampled_from(sorted(scalar.UNARY)), which=WHICH)
    def unary(self, name, which):
        x = self.pick(which)
        self.keep(getattr(x.tensor, name)(), scalar.UNARY[name](x.cells))

    @rule(name=st.sampled_from(sorted(scalar.BINARY)), first=WHICH, second=WHICH)
    def binary(self, name, first, second):
        a, b = self.pick(first), self.pick(second)
        try:
            np.broadcast_shapes(a.cells.shape, b.cells.shape)
        except ValueError:
            b = a  # what does not fit together is combined with itself
        self.keep(getattr(a.tensor, name)(b.tensor), scalar.BINARY[name](a.cells, b.cells))

    @rule(which=WHICH, dim=st.sampled_from([None, 0, -1]))
    def summed(self, which, dim):
        x = self.pick(which)
        dim = dim if x.cells.ndim else None
        if x.cells.size:
            # + 0: the sum of one Value is that Value itself, but of one Tensor it is another.
            self.keep(x.tensor.sum() if dim is None else x.tensor.sum(dim), x.cells.sum(dim) + 0.0)

    @rule(first=WHICH, second=WHICH)
    def product(self, first, second):
        a, b = self.pick(first), self.pick(second)
        if a.cells.ndim == 2 and a.cells.size:
            cells = a.cells @ (b.cells.T if b.cells.shape == a.cells.shape else a.cells.T)
            self.keep(a.tensor @ (b.tensor.t() if b.cells.shape == a.cells.shape else a.tensor.t()), cells)

    @rule(name=st.sampled_from(sorted(scalar.VIEWS)), which=WHICH)
    def view(self, name, which):
        look, n_dims = scalar.VIEWS[name]
        x = self.pick(which)
        if x.cells.ndim >= n_dims and x.cells.size:
            y = look(x.tensor)
            cells = scalar.cells_of(look(x.cells))
            if not np.shares_memory(y.numpy(force=True), x.tensor.numpy(force=True)):
                cells = cells.copy()
            self.keep(y, cells, writable=x.writable)

    @rule(which=WHICH)
    def detach(self, which):
        """The numbers go on, the gradient does not. They share memory, so neither is written to from now on."""
        x = self.pick(which)
        self.freeze(x)
        self.keep(x.tensor.detach(), scalar.constants(x.cells), writable=False)

    def freeze(self, x):
        for other in self.computed:
            if np.shares_memory(other.cells, x.cells):
                other.writable = False

    @rule(name=st.sampled_from(sorted(scalar.UNARY)), which=WHICH)
    def without_recording(self, name, which):
        x = self.pick(which)
        with sg.no_grad():
            y = getattr(x.tensor, name)()
        assert not y.requires_grad
        self.keep(y, scalar.constants(scalar.cells_of(scalar.UNARY[name](x.cells))))

    @rule(name=st.sampled_from(sorted(scalar.IN_PLACE)), first=WHICH, second=WHICH)
    def in_place(self, name, first, second):
        legal = [x for x in self.computed if x.writable and x.kept is None]
        if not legal:
            return
        x, other = legal[-1 - first % len(legal)], self.pick(second)
        if other.cells.ndim and other.cells.shape != x.cells.shape:
            other = x
        cells = scalar.IN_PLACE[name](x.cells, other.cells)
        getattr(x.tensor, name)(other.tensor)
        x.cells[...] = cells
        self.n_writes += 1

    @rule(name=st.sampled_from(sorted(scalar.UNARY)), which=WHICH)
    def woven(self, name, which):
        """One tensor goes four ways, and all come together again."""
        x = self.pick(which)
        y, cells = getattr(x.tensor, name)(), scalar.cells_of(scalar.UNARY[name](x.cells))
        self.keep(y * x.tensor + (x.tensor + x.tensor) - y, cells * x.cells + (x.cells + x.cells) - cells)

    @rule(
        name=st.sampled_from(sorted(scalar.IN_PLACE)),
        look=st.sampled_from(["first", "rest", "flat", "all"]),
        first=WHICH,
    )
    def write_beside_a_view(self, name, look, first):
        """A view is taken, and either it or what it is a view of is written to: the other follows."""
        legal = [x for x in self.computed if x.writable and x.kept is None and x.cells.ndim and x.cells.size]
        if not legal:
            return
        x = legal[-1 - first % len(legal)]
        view = Twin(scalar.VIEWS[look][0](x.tensor), scalar.VIEWS[look][0](x.cells))
        if not np.shares_memory(view.cells, x.cells):
            return
        self.computed.append(view)
        written = (x, view)[first % 2]
        cells = scalar.IN_PLACE[name](written.cells, written.cells)
        getattr(written.tensor, name)(written.tensor)
        written.cells[...] = cells
        self.n_writes += 1

    @rule(which=WHICH)
    def retain_grad(self, which):
        x = self.pick(which)
        others = (other for other in self.leaves + self.computed if other is not x)
        if any(np.shares_memory(x.cells, other.cells) for other in others):
            return  # a view and its base are two nodes, but the same Values
        if x.tensor.requires_grad and not x.tensor.is_leaf and x.kept is None:
            x.tensor.retain_grad()
            x.kept = np.zeros(x.cells.shape)
            self.freeze(x)

    @rule(which=st.lists(WHICH, min_size=1, max_size=3), seed=SEED, release=st.booleans())
    def backward(self, which, seed, release):
        """One sweep from one result or several."""
        rng = np.random.default_rng(seed)
        roots = [y for y in map(self.pick, which) if y.tensor.requires_grad]
        if not roots:
            return
        weights = [np.asarray(rng.uniform(-1, 1, y.cells.shape)) for y in roots]
        kept = [x for x in self.computed if x.kept is not None]
        if self.refused([y.tensor for y in roots], [sg.tensor(w) for w in weights], retain_graph=not release):
            self.forget()
            return
        for x in kept:
            for v in x.cells.flat:
                v.grad = 0.0
        sum((scalar.total(y.cells, w) for y, w in zip(roots, weights, strict=True)), Value(0.0)).backward()
        for x in kept:
            x.kept = x.kept + scalar.grads(x.cells)
        if release:
            self.forget()

    def refused(self, roots, weights, **options):
        """Whether something that a derivative needs was written to. Then no gradient may change: the invariant."""
        try:
            sg.autograd.backward(roots, weights, **options)
        except RuntimeError as error:
            if STALE_WORDS in str(error) and self.n_writes:
                return True
            raise
        return False

    def forget(self):
        """Go on from the leaves: what was computed from them may have been released."""
        self.computed = []

    @rule(which=WHICH, to_none=st.booleans())
    def zero_grad(self, which, to_none):
        leaf = self.leaves[which % len(self.leaves)]
        if to_none:
            leaf.tensor.grad = None
        elif leaf.tensor.grad is not None:
            leaf.tensor.grad.zero_()
        for v in (v for cells in leaf.ever for v in cells.flat):
            v.grad = 0.0

    @rule(which=WHICH, seed=SEED)
    def update(self, which, seed):
        leaf = self.leaves[which % len(self.leaves)]
        if any(self.is_detached_from(x, leaf) for x in self.computed):
            return
        leaf.overwrite(np.asarray(np.random.default_rng(seed).uniform(-2, 2, leaf.cells.shape)))
        self.n_writes += 1

    def is_detached_from(self, x, leaf):
        """Whether x shares memory with a leaf, but not its Values, so that a write would have to be made twice."""
        arrays = x.tensor.numpy(force=True), leaf.tensor.numpy(force=True)
        return np.shares_memory(*arrays) and not np.shares_memory(x.cells, leaf.cells)

    @invariant()
    def they_agree(self):
        for x in getattr(self, "leaves", []):
            x.same_numbers()
            x.same_gradient()
        for x in getattr(self, "computed", []):
            x.same_numbers()
            if x.kept is not None:
                found = x.tensor.grad
                found = np.zeros(x.kept.shape) if found is None else found.numpy()
                np.testing.assert_allclose(found, x.kept, rtol=1e-9, atol=1e-9)


TestSameProgram = SameProgram.TestCase
TestSameProgram.settings = settings(stateful_step_count=25)
