"""Rows that only arrays have, run on arrays of Values: NumPy moves and adds objects, their graph is the gradient.

So the derivative in the table is compared with one that nobody wrote. Compiled kernels and logaddexp take no objects:
for these rows the specification in reference.py stands in, and this file says which function of it. A structured row
without either fails by name; so does one without a documented way to it, or without a domain where it needs one.
"""

import ast
import inspect
from pathlib import Path

import numpy as np
import pytest
from table_cases import UNIFORM, cases, differentiated, from_the_statistics

import scalargrad as sg
from scalargrad import Value, autograd, reference
from scalargrad.kernels.geometry import adaptive_windows
from scalargrad.operation import TABLE
from scalargrad.rules import ops

OF_REFERENCE = {
    "conv_transpose2d": "conv_transpose2d",
    "softmax": "softmax", "softmax_grad": "softmax", "log_softmax": "log_softmax", "log_softmax_grad": "log_softmax",
    "conv2d": "conv2d", "conv2d_input_grad": "conv2d", "conv2d_weight_grad": "conv2d", "max_pool2d": "max_pool2d",
    "max_pool2d_input_grad": "max_pool2d", "max_pool2d_take": "max_pool2d", "avg_pool2d": "avg_pool2d",
    "avg_pool2d_input_grad": "avg_pool2d", "adaptive_avg_pool2d": "adaptive_avg_pool2d",
    "adaptive_avg_pool2d_input_grad": "adaptive_avg_pool2d", "adaptive_max_pool2d_input_grad": "max_pool2d",
    "standardize_grad": "batch_norm", "binary_cross_entropy_with_logits": "binary_cross_entropy_with_logits",
    "cross_entropy": "cross_entropy", "cross_entropy_grad": "cross_entropy",
}  # fmt: skip
"""Rows whose kernels take no objects, and the function of reference.py that they, or the gradients of it, are."""

each_log, each_exp, each_root = (np.vectorize(f, otypes=[object]) for f in (Value.log, Value.exp, Value.sqrt))


def mean(x, dims, keepdim):
    total = np.sum(x, axis=dims, keepdims=keepdim)
    return total / (x.size // max(1, np.size(total)))


def variance(x, dims, correction, keepdim):
    apart = x - mean(x, dims, True)
    total = np.sum(apart * apart, axis=dims, keepdims=keepdim)
    return total / (x.size // max(1, np.size(total)) - correction)


def norm(x, p, dims, keepdim):
    if abs(p) == np.inf:
        return (np.max if p > 0 else np.min)(abs(x), axis=dims, keepdims=keepdim)
    return np.sum(abs(x) ** p, axis=dims, keepdims=keepdim) ** (1 / p)


def running(function):
    """A cumulative function, from the end if `backwards`."""

    def of_lines(x, dim, backwards):
        turned = np.flip(function(np.flip(x, dim), axis=dim), dim)
        return turned if backwards else function(x, axis=dim)

    return of_lines


def rate(x, dims):
    return 1 / each_root(variance(x, dims, 0, True) + 0.01)


def largest_of_parts(x, output_size):
    rows, columns = (adaptive_windows(size, n) for size, n in zip(x.shape[2:], output_size, strict=True))
    y = np.empty((*x.shape[:2], *output_size), object)
    for p, (top, bottom) in enumerate(rows):
        for q, (left, right) in enumerate(columns):
            y[..., p, q] = np.max(x[:, :, top:bottom, left:right], axis=(2, 3))
    return y


INSTEAD = {
    "cast": lambda x, dtype: x,
    "cat": lambda dim, *xs: np.concatenate(xs, dim),
    "where": np.where,
    "sum": lambda x, dims, keepdim: np.sum(x, axis=dims, keepdims=keepdim),
    "mean": mean,
    "prod": lambda x, dims, keepdim: np.prod(x, axis=dims, keepdims=keepdim),
    "var": variance,
    "std": lambda *inputs: each_root(variance(*inputs)),
    "norm": norm,
    "adaptive_max_pool2d": largest_of_parts,
    "cumsum": running(np.cumsum),
    "cumprod": running(np.cumprod),
    "logsumexp": lambda x, dims, keepdim: each_log(np.sum(each_exp(x), axis=dims, keepdims=keepdim)),
    "linear_input_grad": lambda g, w: g @ w,
    "linear_weight_grad": lambda g, x: g.T @ x,
    "sum_by_channel": lambda x: np.sum(x, axis=(0, 2, 3)),
    # What these are told of x they take to be functions of x.
    "standardize": lambda x, _mean, _rate, dims: (x - mean(x, dims, True)) * rate(x, dims),
    "deviation_reciprocal": lambda x, _mean, _rate, dims: rate(x, dims),
}
"""Rows whose functions ask for dtypes, or call C: the same in words that objects understand."""

OF_ELEMENTS = """asin acos atan atan2 sinh cosh exp2 log2 log10 remainder fmod elu softplus log_sigmoid erf gelu
    floor ceil trunc round""".split()
"""Functions of each element by itself that NumPy computes in C: differences judge their derivatives, torch their
numbers."""

ARRAYS_ONLY = sorted(
    key for key, op in TABLE.items() if op.differentiable and op.number is None and key not in OF_ELEMENTS
)


def on_values(key, inputs):
    """The result on arrays of Values, and these."""
    op, xs, values = TABLE[key], list(inputs), {}
    for i in differentiated(op, inputs):
        values[i] = np.array([Value(x) for x in np.ravel(xs[i])], object).reshape(xs[i].shape)
        xs[i] = values[i]
    y = INSTEAD.get(key, op.array)(*xs)
    return np.asarray(y[0] if isinstance(y, tuple) else y, object), values


def on_tensors(key, inputs, seed):
    op, xs = TABLE[key], list(inputs)
    places = differentiated(op, inputs)
    for i in places:
        xs[i] = sg.tensor(xs[i], requires_grad=True)
    y = op(*xs)
    y = y[0] if isinstance(y, tuple) else y
    return y.numpy(force=True), dict(
        zip(places, autograd.grad(y, [xs[i] for i in places], sg.tensor(seed)), strict=True)
    )


@pytest.mark.parametrize("key", [key for key in ARRAYS_ONLY if key not in OF_REFERENCE])
def test_derivatives_are_those_of_arrays_of_values(key):
    for inputs in cases(key):
        inputs = from_the_statistics(TABLE[key], inputs)
        y, values = on_values(key, inputs)
        seed = np.asarray(np.random.default_rng(0).uniform(-1, 1, y.shape))
        numbers, grads = on_tensors(key, inputs, seed)
        np.testing.assert_allclose(numbers, np.vectorize(float, otypes=[float])(y), rtol=1e-12, atol=1e-14)
        sum((v * float(s) for v, s in zip(y.flat, seed.flat, strict=True)), Value(0.0)).backward()
        for i, g in grads.items():
            expected = np.array([v.grad for v in values[i].flat], np.float64).reshape(g.shape)
            np.testing.assert_allclose(g.numpy(), expected, rtol=1e-9, atol=1e-12)


def test_every_structured_row_runs_on_values_or_has_a_reference():
    """What this file leaves to the specification is there, and compared with Tensors and kernels by its name."""
    tests = "".join(p.read_text(encoding="utf-8") for p in Path(__file__).parent.parent.rglob("test_*reference*.py"))
    for key, name in OF_REFERENCE.items():
        assert key in TABLE
        assert callable(getattr(reference, name))
        assert name in tests, f"{key}: no test compares reference.{name} with the library"
    assert set(OF_ELEMENTS) <= TABLE.keys()


def test_every_restricted_row_says_its_domain():
    """A row that gives nan, or an infinity, for ordinary numbers has a domain, and is finite inside it."""
    for key in UNIFORM:
        op = TABLE[key]
        if not op.differentiable:
            continue
        xs = np.array([-2.0, -1.0, -0.5, 0.0, 0.5, 2.0])
        grids = [g.ravel() for g in np.meshgrid(*[xs] * len(op.inputs))]
        with np.errstate(all="ignore"):
            y = np.asarray(op.array(*grids), np.float64)
        assert np.isfinite(y).all() or op.domain, f"{op!r} needs a domain: it is not finite at ordinary numbers"


ROWS_OF = {"ops"}  # names of classes that hold rows


def accesses():
    """By function and by row: the names of all attributes of classes of rows, and of functions, that they use."""
    classes, found = set(ROWS_OF), {}
    trees = [ast.parse(p.read_text(encoding="utf-8")) for p in sorted(Path(sg.__file__).parent.rglob("*.py"))]
    for tree in trees:
        for node in ast.walk(tree):
            if isinstance(node, ast.ClassDef) and node.name.islower():
                classes.add(node.name)

    def names(node):
        for part in ast.walk(node):
            if isinstance(part, ast.Attribute):
                base = part.value.id if isinstance(part.value, ast.Name) else ""
                yield f"row {part.attr}" if base in classes else f"function {part.attr}"
            elif isinstance(part, ast.Name):
                yield f"function {part.id}"

    entries = set()
    for tree in trees:
        for node in ast.walk(tree):
            if isinstance(node, ast.FunctionDef):
                found.setdefault(f"function {node.name}", set()).update(names(node))
                if ast.get_docstring(node) and not node.name.startswith("_"):
                    entries.add(f"function {node.name}")
            elif isinstance(node, ast.ClassDef) and node.name in classes:
                for line in node.body:
                    for target in getattr(line, "targets", [getattr(line, "target", None)]):
                        for part in ast.walk(target) if target is not None else ():
                            if isinstance(part, ast.Name):
                                found.setdefault(f"row {part.id}", set()).update(names(line))
            elif isinstance(node, ast.Module):
                for line in node.body:
                    if isinstance(line, ast.Assign):
                        for target in line.targets:
                            found.setdefault(f"function {ast.unparse(target)}", set()).update(names(line.value))
    return entries, found


def test_every_row_is_reached_from_a_documented_function_or_has_a_docstring():
    todo, found = accesses()
    todo |= {f"row {key}" for key, op in TABLE.items() if op.doc}
    reached = set()
    while todo:
        name = todo.pop()
        if name not in reached:
            reached.add(name)
            todo |= found.get(name, set())
    silent = [key for key in TABLE if f"row {key}" not in reached]
    assert not silent, f"no documented function leads to these rows, and they have no `doc`: {silent}"


def test_a_row_that_nobody_uses_would_be_noticed():
    _, found = accesses()
    assert "row add" in found["function add"]
    assert not any("row no_such_row" in names for names in found.values())
    assert inspect.getdoc(sg.add)
    assert ops.add is TABLE["add"]
