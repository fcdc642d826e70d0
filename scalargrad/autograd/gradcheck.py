"""gradcheck and gradgradcheck: what backward() says against what differences say.

Small functions are checked entry by entry. Large ones along random directions: ⟨v, Jᵀu⟩, which backward() gives, is how
fast ⟨u, f⟩ changes along v, which four evaluations give. A direction that disagrees is halved until one entry is left.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from scalargrad.autograd.differences import Slope, Tolerance, measure
from scalargrad.autograd.gradients import grad
from scalargrad.autograd.problem import GradcheckError, KinkWarning, Place, Problem, array, like, parts, source, vector
from scalargrad.tensor import Tensor, wrap
from scalargrad.value import Value

LARGE = 200
"""With more entries than this on either side, the check goes along random directions unless told otherwise."""

N_DIRECTIONS = 3


def gradcheck(
    func: Callable[..., Any],
    inputs: Any,
    *,
    eps: float = 1e-3,
    atol: float = 1e-8,
    rtol: float = 1e-6,
    raise_exception: bool = True,
    nondet_tol: float = 0.0,
    check_undefined_grad: bool = True,
    check_grad_dtypes: bool = False,
    check_batched_grad: bool = False,
    check_batched_forward_grad: bool = False,
    check_forward_ad: bool = False,
    check_backward_ad: bool = True,
    fast_mode: bool | None = None,
    masked: bool | None = None,
) -> bool:
    """True if the gradients of `func` are those that finite differences give, for the `inputs` that require grad.

    The differences take five points `eps` apart (times the entry, where that is larger), and closer where these
    disagree; PyTorch's take two, hence its laxer defaults. `fast_mode` checks along random directions, the default from
    200 entries on. A point whose two sides differ in slope is a kink: it gets a KinkWarning, and fails only if the
    gradient is not between the two. Works on functions of float64 Tensors, or of Values.
    Raises GradcheckError, which says where, or gives False without `raise_exception`; ValueError for other dtypes.
    """
    _refuse(
        "gradcheck",
        check_batched_grad=check_batched_grad,
        check_batched_forward_grad=check_batched_forward_grad,
        check_forward_ad=check_forward_ad,
        masked=masked,
    )
    problem = Problem(func, inputs, "gradcheck")
    return _checked(
        problem,
        Tolerance(eps, atol, rtol),
        raise_exception,
        nondet_tol,
        check_undefined_grad,
        check_grad_dtypes,
        check_backward_ad,
        fast_mode,
    )


def gradgradcheck(
    func: Callable[..., Any],
    inputs: Any,
    grad_outputs: Any = None,
    *,
    eps: float = 1e-3,
    atol: float = 1e-8,
    rtol: float = 1e-6,
    gen_non_contig_grad_outputs: bool = False,
    raise_exception: bool = True,
    nondet_tol: float = 0.0,
    check_undefined_grad: bool = True,
    check_grad_dtypes: bool = False,
    check_batched_grad: bool = False,
    check_fwd_over_rev: bool = False,
    check_rev_over_rev: bool = True,
    fast_mode: bool | None = None,
    masked: bool = False,
) -> bool:
    """True if the gradients of the gradients of `func` are right, in the inputs and in `grad_outputs`.

    `grad_outputs` are random numbers unless given; with `gen_non_contig_grad_outputs`, in memory with gaps. They count
    as further inputs in what is reported. All else as in `gradcheck`.
    """
    _refuse(
        "gradgradcheck", check_batched_grad=check_batched_grad, check_fwd_over_rev=check_fwd_over_rev, masked=masked
    )
    first = Problem(func, inputs, "gradgradcheck")
    if grad_outputs is None:
        rng = np.random.default_rng(0)
        seeds = [_weights(y, rng, gen_non_contig_grad_outputs) for y in first.outputs()]
    else:
        seeds = list(grad_outputs) if isinstance(grad_outputs, (tuple, list)) else [grad_outputs]
    n = len(first.inputs)

    def gradients(*arguments: Any) -> tuple[Any, ...]:
        found = func(*arguments[:n])
        several = list(found) if isinstance(found, (tuple, list)) else [found]
        outputs = [y for y in several if isinstance(y, Value) or y.requires_grad]
        return grad(outputs, first.wanted, list(arguments[n:]), create_graph=True, materialize_grads=True)

    problem = Problem(gradients, (*first.inputs, *seeds), "gradgradcheck", len(seeds))
    return _checked(
        problem,
        Tolerance(eps, atol, rtol),
        raise_exception,
        nondet_tol,
        check_undefined_grad,
        check_grad_dtypes,
        check_rev_over_rev,
        fast_mode,
    )


def _refuse(name: str, **asked: bool | None) -> None:
    for what, wanted in asked.items():
        if wanted:
            raise NotImplementedError(f"{name}: {what}=True asks for what this library does not have; leave it out")


def _weights(y: Any, rng: Any, gaps: bool) -> Any:
    """Random weights for an output, which require grad."""
    if isinstance(y, Value):
        return Value(rng.standard_normal())
    shape = tuple(y.shape)
    numbers = rng.standard_normal((*shape, 2))[..., 0] if gaps else rng.standard_normal(shape)
    return wrap(np.asarray(numbers)).requires_grad_()


def _checked(
    problem: Problem,
    tolerance: Tolerance,
    raise_exception: bool,
    nondet_tol: float,
    check_undefined_grad: bool,
    check_grad_dtypes: bool,
    check_jacobian: bool,
    fast_mode: bool | None,
) -> bool:
    try:
        check = Check(problem, tolerance)
        check.repeats(nondet_tol)
        if check_grad_dtypes:
            check.dtypes()
        if check_undefined_grad:
            check.outputs_alone()
        if check_jacobian:
            large = max(check.scale.size, check.n_outputs) > LARGE
            if large if fast_mode is None else fast_mode:
                check.along_directions()
            else:
                check.entry_by_entry()
    except GradcheckError:
        if raise_exception:
            raise
        return False
    for words in dict.fromkeys(check.kinks):
        warnings.warn(words, KinkWarning, stacklevel=3)
    return True


class Check:
    """The checks of one problem. Each raises GradcheckError; `kinks` says where nothing could be shown."""

    def __init__(self, problem: Problem, tolerance: Tolerance) -> None:
        self.problem, self.tolerance = problem, tolerance
        self.kinks: list[str] = []
        self.rest = [np.zeros(shape) for shape in problem.input_shapes]
        self.value = problem.at(self.rest, 0.0)
        self.n_outputs = self.value.size
        self.rng = np.random.default_rng(0)
        # A step is as long as the entry is large, or what is added to a large number would be rounded away.
        self.scale = vector([np.maximum(1.0, np.abs(x)) for x in problem.centre])

    def repeats(self, nondet_tol: float) -> None:
        """The same point gives the same outputs, and the same gradients."""
        again = self.problem.at(self.rest, 0.0)
        if again.shape != self.value.shape or not np.array_equal(again, self.value, equal_nan=True):
            raise GradcheckError(f"{self.problem.name}: func is not deterministic: called twice, it gives two results")
        weights = self.rng.standard_normal(self.n_outputs)
        once, twice = (vector(self.problem.pull(weights)) for _ in range(2))
        with np.errstate(invalid="ignore"):
            apart = np.where(once == twice, 0.0, np.nan_to_num(np.abs(once - twice), nan=0.0))
        if apart.size and apart.max() > nondet_tol:
            place = self.problem.place(int(apart.argmax()), self.problem.input_shapes)
            raise GradcheckError(
                f"{self.problem.name}: Backward is not reentrant, i.e., running backward with same input and "
                f"grad_output multiple times gives different values: they are {apart.max():.3g} apart for input "
                f"{Place(self.problem.numbers[place.number], place.entry)}, and nondet_tol is {nondet_tol:g}"
            )

    def dtypes(self) -> None:
        """Gradients have their inputs' dtype."""
        for i, g in enumerate(self.problem.pull(np.ones(self.n_outputs))):
            if g.dtype != np.float64:
                raise GradcheckError(f"{self.problem.name}: the gradient of input {i} has dtype {g.dtype}, not float64")

    def outputs_alone(self) -> None:
        """A gradient for one output alone, and none for the others, is one of zeros for the others."""
        outputs = self.problem.outputs()
        if len(outputs) == 1 or any(isinstance(y, Tensor) and not y.requires_grad for y in outputs):
            return
        for k, shape in enumerate(self.problem.output_shapes):
            weights = [np.zeros(s) for s in self.problem.output_shapes]
            weights[k] = self.rng.standard_normal(shape)
            with_zeros = self.problem.pull(vector(weights))
            y = self.problem.outputs()[k]
            alone = grad(y, self.problem.wanted, [like(y, weights[k])], allow_unused=True)
            for i, (g, h) in enumerate(zip(with_zeros, alone, strict=True)):
                if not np.allclose(g, np.zeros_like(g) if h is None else array(h), rtol=1e-12, equal_nan=True):
                    raise GradcheckError(
                        f"{self.problem.name}: Expected backward function to handle undefined output grads: the "
                        f"gradient of input {self.problem.numbers[i]} is another if one arrives at output {k} alone "
                        "than if zeros arrive at the other outputs"
                    )

    def entry_by_entry(self) -> None:
        """Every entry of the Jacobian."""
        n = self.scale.size
        jacobian = np.array([self.row(k) for k in range(self.n_outputs)]).reshape(self.n_outputs, n)
        wrong: list[tuple[int, int, Slope]] = []
        for j in range(n):
            slope = self.slope(j, slice(None), jacobian[:, j])
            wrong += [(int(k), j, slope.entry(int(k))) for k in np.flatnonzero(slope.wrong)]
            self.kinks += [self.kink(int(k), j, slope.entry(int(k))) for k in np.flatnonzero(slope.kink)]
        if wrong:
            worst = max(wrong, key=lambda at: at[2].rank)
            pattern = _pattern([slope for *_, slope in wrong])
            raise self.error(*worst, [f"  wrong:          {len(wrong)} of {jacobian.size} entries{pattern}"])

    def along_directions(self) -> None:
        """Random directions in the inputs, random weights on the outputs."""
        for _ in range(N_DIRECTIONS):
            v, u = self.rng.standard_normal(self.scale.size) * self.scale, self.rng.standard_normal(self.n_outputs)
            while True:
                along = self.weighted(v, u)
                if not (along.wrong.any() or along.kink.any()):
                    break
                j = self.halve(self.weighted, v, u, of_outputs=False)
                k = self.halve(self.weighted, _only(v, j), u, of_outputs=True)
                here = self.slope(j, slice(k, k + 1), self.row(k)[j : j + 1])
                if not here.kink.any():
                    if not along.wrong.any():
                        break  # a kink of several entries together, which agrees with what backward says
                    found = f"backward says {float(along.analytic[0])!r} and differences {float(along.numeric[0])!r}"
                    words = f"  found along a random direction, where {found}; it was halved down to this entry"
                    raise self.error(k, j, here, [words])
                self.kinks.append(self.kink(k, j, here))
                v = np.where(np.arange(v.size) == j, 0.0, v)

    def row(self, k: int) -> Any:
        """The k-th output's gradient, all inputs in one vector, as backward() gives it."""
        return vector(self.problem.pull(_only(np.ones(self.n_outputs), k)))

    def slope(self, j: int, which: slice, analytic: Any) -> Slope:
        """The slopes of outputs in the j-th entry of the inputs."""
        directions = parts(_only(np.ones(self.scale.size), j), self.problem.input_shapes)
        return measure(lambda t: self.problem.at(directions, t)[which], analytic, self.tolerance, float(self.scale[j]))

    def weighted(self, v: Any, u: Any) -> Slope:
        """The slope of ⟨u, f⟩ along v, and what backward() says it is."""
        directions = parts(v, self.problem.input_shapes)
        analytic = np.array([vector(self.problem.pull(u)) @ v])
        return measure(lambda t: np.array([self.problem.at(directions, t) @ u]), analytic, self.tolerance)

    def halve(self, slope: Callable[[Any, Any], Slope], v: Any, u: Any, *, of_outputs: bool) -> int:
        """The entry of v, or of the outputs' weights u, that disagrees most, found by halving."""
        halved = u if of_outputs else v
        places = np.flatnonzero(halved)
        while places.size > 1:
            halves = np.array_split(places, 2)
            found = []
            for half in halves:
                kept = np.zeros_like(halved)
                kept[half] = halved[half]
                found.append(slope(v, kept) if of_outputs else slope(kept, u))
            places = max(zip(found, halves, strict=True), key=lambda at: at[0].rank)[1]
        return int(places[0])

    def where(self, k: int, j: int) -> tuple[Place, Place]:
        """The k-th entry of all outputs, and the j-th of the differentiable inputs by its number among all inputs."""
        place = self.problem.place(j, self.problem.input_shapes)
        output = self.problem.place(k, self.problem.output_shapes)
        return output, Place(self.problem.numbers[place.number], place.entry)

    def kink(self, k: int, j: int, slope: Slope) -> str:
        """What there is to say about a kink."""
        output, place = self.where(k, j)
        return (
            f"{self.problem.name}: output {output} has a kink in input {place}: its slope is "
            f"{float(slope.left[0]):.6g} from below and {float(slope.right[0]):.6g} from above, and the gradient says "
            f"{float(slope.analytic[0]):.6g}. Differences cannot confirm it: draw another point"
        )

    def error(self, k: int, j: int, slope: Slope, more: Sequence[str]) -> GradcheckError:
        """The report."""
        output, place = self.where(k, j)
        analytic, numeric = float(slope.analytic[0]), float(slope.numeric[0])
        name, inputs = self.problem.name, self.problem.inputs
        shapes = f"{self.problem.output_shapes[output.number]} and {array(inputs[place.number]).shape}"
        lines = [
            f"{name}: Jacobian mismatch for output {output.number} with respect to input {place.number},",
            f"  at entry        {list(output.entry)} of the output, {list(place.entry)} of the input (shapes {shapes})",
            f"  analytic:       {analytic!r}  (backward)",
            f"  numeric:        {numeric!r}  (five points, {slope.step:.3g} apart)",
            f"  relative error: {abs(analytic - numeric) / max(abs(analytic), abs(numeric), 1e-300):.3g}",
        ]
        if np.isnan(numeric):
            lines.append("  there is no number to one side of the point: is it on the edge of the function's domain?")
        elif abs(slope.left[0] - slope.right[0]) > 1e-3 * abs(slope.right[0]):
            sides = f"{float(slope.left[0]):.6g} from below, {float(slope.right[0]):.6g} from above"
            lines.append(f"  one-sided:      {sides}; a gradient at a kink is between the two")
        lines += [*more, "to reproduce:"]
        lines += [f"  input_{i} = {source(x)}" for i, x in enumerate(inputs)]
        names = [f"input_{i}" for i in range(len(inputs))]
        eps, atol, rtol = self.tolerance
        lines.append(f"  {name}(func, {self.problem.call(names)}, eps={eps:g}, atol={atol:g}, rtol={rtol:g})")
        error = GradcheckError("\n".join(lines))
        error.input, error.entry, error.output, error.output_entry = *place, *output
        error.analytic, error.numeric = analytic, numeric
        return error


def _only(entries: Any, j: int) -> Any:
    """Zeros but for the j-th entry."""
    kept = np.zeros_like(entries)
    kept[j] = entries[j]
    return kept


def _pattern(wrong: Sequence[Slope]) -> str:
    """What the wrong entries have in common, if anything."""
    analytic, numeric = (np.concatenate(x) for x in zip(*[(s.analytic, s.numeric) for s in wrong], strict=True))
    if not analytic.any():
        return ", and the gradient is 0 in all of them"
    with np.errstate(all="ignore"):
        ratios = analytic / numeric
    if np.isfinite(ratios).all() and np.ptp(ratios) <= 1e-6 * abs(ratios[0]):
        return f", and in all of them the gradient is {ratios[0]:.6g} times what it should be"
    return ""
