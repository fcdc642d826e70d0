"""Sums, extremes, products, norms, running sums, sorting: values, dtypes, derivatives, ties, empty inputs, errors."""

import math
import warnings

import numpy as np
import pytest
from differences import assert_derivatives
from hypothesis import given
from hypothesis import strategies as st

import scalargrad as sg
from scalargrad.ops import reduction, sorting

nan, inf = math.nan, math.inf


def gradient(f, x):
    """The gradient of f's sum, for a list of numbers."""
    t = sg.tensor(x, dtype=sg.float64, requires_grad=True)
    f(t).sum().backward()
    return t.grad.tolist()


def spaced(shape, seed):
    """Numbers of distinct sizes, none near 0 or near another: no kink within a difference's reach."""
    n = math.prod(shape)
    rng = np.random.default_rng(seed)
    return (rng.permutation(n) + 1.0).reshape(shape) * rng.choice([-0.3, 0.3], shape)


REDUCTIONS = {
    "sum": (sg.sum, np.sum),
    "mean": (sg.mean, np.mean),
    "amax": (sg.amax, np.max),
    "amin": (sg.amin, np.min),
    "var": (lambda x, dim, keepdim: sg.var(x, dim, False, keepdim), np.var),
    "std": (
        lambda x, dim, keepdim: sg.std(x, dim, keepdim=keepdim, correction=-1),
        lambda x, axis, keepdims: np.std(x, axis, ddof=-1, keepdims=keepdims),
    ),
    "logsumexp": (sg.logsumexp, lambda x, axis, keepdims: np.log(np.exp(x).sum(axis, keepdims=keepdims))),
    "norm": (
        lambda x, dim, keepdim: sg.norm(x, 2, dim, keepdim),
        lambda x, axis, keepdims: np.sqrt((x * x).sum(axis, keepdims=keepdims)),
    ),
    "norm1": (
        lambda x, dim, keepdim: sg.norm(x, 1, dim, keepdim),
        lambda x, axis, keepdims: np.abs(x).sum(axis, keepdims=keepdims),
    ),
    "norm3": (
        lambda x, dim, keepdim: sg.norm(x, 3, dim, keepdim),
        lambda x, axis, keepdims: (np.abs(x) ** 3).sum(axis, keepdims=keepdims) ** (1 / 3),
    ),
    "norminf": (
        lambda x, dim, keepdim: sg.norm(x, inf, dim, keepdim),
        lambda x, axis, keepdims: np.abs(x).max(axis, keepdims=keepdims),
    ),
}


@st.composite
def shapes_and_dims(draw):
    """A shape of one to three dimensions, and which of them to reduce."""
    shape = draw(st.lists(st.integers(1, 3), min_size=1, max_size=3).map(tuple))
    dims = draw(st.sets(st.integers(0, len(shape) - 1)).map(tuple))
    dim = draw(st.sampled_from([dims, tuple(d - len(shape) for d in dims), *dims[:1], *([None] if not dims else [])]))
    return shape, dim


@pytest.mark.parametrize("name", REDUCTIONS)
@given(drawn=shapes_and_dims(), keepdim=st.booleans(), seed=st.integers(0, 99))
def test_a_reduction_is_numpys_and_its_derivatives_are_right(name, drawn, keepdim, seed):
    ours, numpys = REDUCTIONS[name]
    shape, dim = drawn
    x = spaced(shape, seed) / math.prod(shape)
    y = ours(sg.tensor(x), dim, keepdim)
    expected = numpys(x, axis=dim if dim != () else None, keepdims=keepdim)
    assert tuple(y.shape) == np.shape(expected)
    np.testing.assert_allclose(y.numpy(), expected, rtol=1e-12, atol=1e-15)  # sums are in another order
    if not (name == "std" and seed % 3):  # its differences cost most
        assert_derivatives(lambda t: ours(t, dim, keepdim), x)


SMOOTH = {
    "prod": lambda x: sg.prod(x),
    "prod of rows": lambda x: sg.prod(x, 1),
    "prod kept": lambda x: x.prod(0, keepdim=True),
    "cumsum": lambda x: x.cumsum(1),
    "cumprod": lambda x: x.cumprod(1),
    "cumprod of columns": lambda x: x.cumprod(0),
}


@pytest.mark.parametrize("name", SMOOTH)
@pytest.mark.parametrize("zeros", [[], [1], [1, 4], [0, 1, 2], [0, 3, 4, 5]])
def test_products_and_running_sums_are_differentiable_twice_at_zeros_too(name, zeros):
    x = np.random.default_rng(1).standard_normal(6)
    x[zeros] = 0
    assert_derivatives(SMOOTH[name], x.reshape(2, 3))


@pytest.mark.parametrize("dim", [0, 1, -1])
def test_running_sums_and_products_are_numpys(dim):
    x = np.random.default_rng(0).standard_normal((3, 4))
    np.testing.assert_allclose(sg.cumsum(sg.tensor(x), dim).numpy(), np.cumsum(x, dim))
    np.testing.assert_allclose(sg.cumprod(sg.tensor(x), dim).numpy(), np.cumprod(x, dim))


@pytest.mark.parametrize(
    ("f", "expected"),
    [
        (lambda x: x.max(), [0, 0.5, 0.5, 0]),
        (lambda x: x.amax(), [0, 0.5, 0.5, 0]),
        (lambda x: x.amax(0), [0, 0.5, 0.5, 0]),
        (lambda x: (-x).min(), [0, -0.5, -0.5, 0]),
        (lambda x: (-x).amin(0), [0, -0.5, -0.5, 0]),
        (lambda x: x.max(0).values, [0, 1, 0, 0]),
        (lambda x: (-x).min(0).values, [0, -1, 0, 0]),
        (lambda x: x.median(), [0, 0, 0, 1]),
        (lambda x: x.median(0).values, [0, 0, 0, 1]),
        (lambda x: x[:3].median(), [0, 0.5, 0.5, 0]),
        (lambda x: x.norm(inf), [0, 0.5, 0.5, 0]),
    ],
)
def test_ties_share_the_gradient_unless_an_index_is_returned(f, expected):
    assert gradient(f, [1.0, 3.0, 3.0, 2.0]) == expected


def test_where_there_is_nan_it_is_the_extreme_and_the_first_of_them_is_found():
    x = sg.tensor([1.0, nan, 7.0, nan])
    for values in (x.max(), x.min(), x.amax(0), x.amin(0), x.median(), x.max(0).values, x.median(0).values):
        assert math.isnan(values.item())
    assert [x.argmax().item(), x.argmin().item(), x.max(0).indices.item(), x.median(0).indices.item()] == [1, 1, 1, 1]
    assert gradient(lambda t: t.max(), [1.0, nan, nan]) == [0, 0.5, 0.5]


def test_max_of_two_tensors_is_elementwise():
    a, b = sg.tensor([1.0, 5.0]), sg.tensor([[2.0, 3.0]])
    assert sg.max(a, b).tolist() == a.max(b).tolist() == [[2, 5]]
    assert sg.min(a, other=b).tolist() == [[1, 3]]


def test_a_pair_of_values_and_indices_prints_as_pytorchs():
    pair = sg.tensor([1.0, 3.0]).max(0)
    assert repr(pair) == "torch.return_types.max(\nvalues=tensor(3.),\nindices=tensor(1))"
    values, indices = pair
    assert (values.item(), indices.item(), indices.dtype) == (3, 1, sg.int64)


@pytest.mark.parametrize("p", [2, 1, 3, 1.5, inf, "fro"])
def test_the_gradient_of_a_norm_that_is_0_is_0(p):
    assert gradient(lambda x: x.norm(p), [0.0, 0.0]) == [0, 0]


def test_the_gradient_of_a_deviation_that_is_0_is_0():
    assert gradient(lambda x: x.std(), [2.0, 2.0]) == [0, 0]
    assert gradient(lambda x: x.std(unbiased=False), [2.0]) == [0]


def test_the_second_derivative_of_a_norm_is_finite_at_0():
    x = sg.tensor([0.0, 3.0, 4.0], dtype=sg.float64, requires_grad=True)
    (g,) = sg.autograd.grad(x.norm(3), x, create_graph=True)
    g.sum().backward()
    assert np.isfinite(x.grad.numpy()).all()


@pytest.mark.parametrize(("p", "expected"), [(0, 3.0), (-inf, 1.0), (inf, 4.0), (1, 7.0), (0.5, (1 + 2 + 2**0.5) ** 2)])
def test_norms_other_than_the_length(p, expected):
    assert sg.tensor([1.0, -4.0, 2.0], dtype=sg.float64).norm(p).item() == pytest.approx(expected)


def test_logsumexp_neither_overflows_nor_makes_nan_of_infinities():
    assert sg.tensor([1000.0, 1000.0]).logsumexp(0).item() == pytest.approx(1000 + math.log(2))
    assert sg.tensor([-inf, -inf]).logsumexp(0).item() == -inf
    assert sg.tensor([-inf, inf]).logsumexp(0).item() == inf
    assert sg.tensor([1, 1]).logsumexp(0).item() == pytest.approx(1 + math.log(2))
    assert gradient(lambda x: x.logsumexp(0), [1000.0, 1000.0]) == pytest.approx([0.5, 0.5])


@pytest.mark.parametrize("dtype", [sg.bool, sg.uint8, sg.int8, sg.int16, sg.int32, sg.int64])
def test_integers_are_counted_in_int64(dtype):
    x = sg.tensor([1, 1, 0, 1]).to(dtype)
    assert [x.sum().dtype, x.prod().dtype, x.cumsum(0).dtype, x.cumprod(0).dtype] == [sg.int64] * 4
    assert [x.sum().item(), x.prod().item(), x.cumsum(0).tolist()] == [3, 0, [1, 2, 2, 3]]
    assert x.max().dtype == x.amax(0).dtype == x.min(0).values.dtype == dtype
    assert x.count_nonzero().item() == 3
    assert x.all().dtype == x.any(0).dtype == (sg.uint8 if dtype == sg.uint8 else sg.bool)
    assert sg.sum(x, dtype=sg.float32).dtype == sg.mean(x, dtype=sg.float32).dtype == sg.float32


def test_a_byte_sum_does_not_wrap():
    assert sg.tensor([200, 200]).to(sg.uint8).sum().item() == 400


def test_summing_in_another_dtype_gives_the_gradient_in_the_old_one():
    x = sg.ones(3, requires_grad=True)
    y = x.sum(dtype=sg.float64)
    y.backward()
    assert (y.dtype, x.grad.dtype) == (sg.float64, sg.float32)


def test_what_numpy_calls_axis_and_keepdims_is_understood():
    x = sg.arange(6.0).reshape(2, 3)
    assert sg.sum(x, axis=0).tolist() == [3, 5, 7]
    assert sg.mean(x, axis=(0, 1), keepdims=True).tolist() == [[2.5]]
    assert sg.max(x, axis=1).indices.tolist() == sg.argmax(x, axis=1).tolist() == [2, 2]
    assert sg.var(x, axis=1, correction=0).tolist() == pytest.approx([2 / 3, 2 / 3])


def test_nothing_has_a_sum_a_product_and_truths():
    x = sg.zeros(0, 3)
    assert [x.sum().item(), x.prod().item(), x.all().item(), x.any().item(), x.norm().item()] == [0, 1, True, False, 0]
    assert x.sum(0).tolist() == [0, 0, 0]
    assert x.logsumexp(0).tolist() == [-inf] * 3
    assert math.isnan(x.mean().item())
    assert math.isnan(x.median().item())
    assert tuple(x.amax(1).shape) == tuple(x.max(1).values.shape) == tuple(x.argmax(1).shape) == (0,)


def test_a_number_has_one_dimension_to_name():
    x = sg.tensor(3.0)
    assert [x.sum(0).item(), x.max(-1).values.item(), x.cumsum(0).item(), x.argmax(0).item()] == [3, 3, 3, 0]
    assert [t.item() for t in (*x.sort(), *x.topk(1), *x.median(0))] == [3, 0, 3, 0, 3, 0]


ERRORS = [
    (lambda x: x.sum(2), IndexError, r"expected to be in range of \[-2, 1\], but got 2"),
    (lambda x: x.sum((0, -2)), RuntimeError, "dim 0 appears multiple times"),
    (lambda x: x.sum(1.5), TypeError, "must be int or tuple of ints, not 1.5"),
    (lambda x: x.sum(0, 1), TypeError, "'keepdim' must be bool, not int"),
    (lambda x: x.long().mean(), RuntimeError, "floating point or complex dtype. Got: int64"),
    (lambda x: x.long().var(), RuntimeError, "only support floating point"),
    (lambda x: x.long().norm(), RuntimeError, "expected a floating point"),
    (lambda x: x.norm("nuc"), RuntimeError, "a number or 'fro', got 'nuc'"),
    (lambda x: x[:0].norm(inf), RuntimeError, "empty tensor"),
    (lambda x: x[:0].max(), RuntimeError, r"max\(\): Expected reduction dim to be specified for input.numel\(\) == 0"),
    (lambda x: x[:0].amin(), RuntimeError, r"amin\(\): Expected reduction dim to be specified"),
    (lambda x: x[:0].max(0), IndexError, r"max\(\): Expected reduction dim 0 to have non-zero size"),
    (lambda x: x[:0].amax((0, 1)), IndexError, "Expected reduction dim 0 to have non-zero size"),
    (lambda x: x[:0].argmin(), IndexError, "Expected reduction dim to be specified"),
    (lambda x: x[:0].median(0), IndexError, "Expected reduction dim 0"),
    (lambda x: x.bool().argmax(), RuntimeError, "does not support bool"),
    (lambda x: x.max((0, 1)), TypeError, "must be int"),
    (lambda x: x.prod((0, 1)), TypeError, "must be int"),
    (lambda x: x.cumsum(3), IndexError, "out of range"),
    (lambda x: x.topk(4), RuntimeError, "k is 4, and dimension 1 has size 3"),
    (lambda x: x.sort(2), IndexError, "out of range"),
    (lambda x: sg.sum([1.0]), TypeError, r"sum\(\): argument 'input' must be Tensor, not list"),
    *((lambda x, f=f: f([1.0]), TypeError, "must be Tensor, not list") for f in (sg.var, sg.max, sg.argmin, sg.median)),
    *((lambda x, f=f: f([1.0]), TypeError, "must be Tensor, not list") for f in (sg.sort, sg.unique)),
    (lambda x: sg.cumprod([1.0], 0), TypeError, "must be Tensor, not list"),
    (lambda x: x.requires_grad_().sum(dtype=sg.int64), RuntimeError, "Autograd not support dtype"),
]


@pytest.mark.parametrize(("f", "error", "words"), ERRORS)
def test_a_bad_reduction_is_refused_in_pytorchs_words(f, error, words):
    with pytest.raises(error, match=words):
        f(sg.ones(2, 3))


def test_a_variance_of_too_few_warns_and_is_nan():
    with pytest.warns(UserWarning, match="degrees of freedom"):
        assert math.isnan(sg.ones(1).var().item())
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert sg.ones(1).var(False).item() == 0


def test_variance_and_mean_come_in_one_call():
    x = sg.tensor([[1.0, 3.0], [2.0, 6.0]])
    assert [t.tolist() for t in sg.var_mean(x, 1)] == [[2, 8], [2, 4]]
    assert [t.tolist() for t in sg.std_mean(x, 1, keepdim=True, correction=0)] == [[[1], [2]], [[2], [4]]]


def test_a_long_float32_sum_keeps_its_digits_along_any_dimension():
    x = sg.full((100_000, 3), 0.1)
    for y in (x.sum(0), x.t().contiguous().t().sum(0), x.t().sum(1), x.reshape(10, -1, 3).sum((0, 1)), x.cumsum(0)[-1]):
        np.testing.assert_allclose(y.numpy(), 1e4, rtol=1e-6)
    np.testing.assert_allclose(x.mean(0).numpy(), 0.1, rtol=1e-6)
    np.testing.assert_allclose(x.norm(2, 0).numpy(), 1000**0.5, rtol=1e-6)


def test_overflow_is_a_result_and_not_a_warning():
    x = sg.full((2,), 3e38)
    assert [x.sum().item(), x.prod().item(), x.norm().item(), x.cumsum(0)[1].item()] == [inf] * 4
    assert math.isnan(sg.tensor([inf, -inf]).sum().item())


@given(
    x=st.lists(st.sampled_from([-1.0, 0.0, 2.0, 3.0, inf, nan]), min_size=1, max_size=8),
    descending=st.booleans(),
)
def test_sorting_is_stable_with_nan_the_largest(x, descending):
    key = [(math.isnan(v), 0.0 if math.isnan(v) else v) for v in x]
    order = sorted(range(len(x)), key=lambda i: key[i])
    if descending:
        order = sorted(range(len(x)), key=lambda i: (not key[i][0], -key[i][1]))
    values, indices = sg.tensor(x).sort(descending=descending)
    assert indices.tolist() == order == sg.argsort(sg.tensor(x), descending=descending).tolist()
    np.testing.assert_array_equal(values.numpy(), np.array(x, np.float32)[order])
    for k in (0, 1, len(x)):
        assert sg.tensor(x).topk(k, largest=descending).indices.tolist() == order[:k]


@pytest.mark.parametrize(
    "f",
    [
        lambda x: x.sort(0).values,
        lambda x: x.sort(1, True).values,
        lambda x: x.topk(2).values,
        lambda x: x.topk(1, 0, largest=False).values,
        lambda x: x.max(1).values * x.min(1).values,
        lambda x: x.median(0, keepdim=True).values,
    ],
)
def test_the_gradient_goes_back_to_where_an_entry_came_from(f):
    assert_derivatives(f, spaced((3, 4), 2))


def test_an_entry_chosen_is_differentiable_any_number_of_times():
    x = sg.tensor([1.0, 2.0], dtype=sg.float64, requires_grad=True)
    (first,) = sg.autograd.grad(x.max(0).values ** 4, x, create_graph=True)
    (second,) = sg.autograd.grad((first * first).sum(), x, create_graph=True)  # of 16 v^6
    (third,) = sg.autograd.grad(second.sum(), x)
    assert [g.tolist() for g in (first, second, third)] == [[0, 32], [0, 96 * 2**5], [0, 480 * 2**4]]


def test_writing_to_returned_indices_before_backward_is_noticed():
    x = sg.ones(3, requires_grad=True)
    values, indices = x.max(0)
    indices.add_(1)
    with pytest.raises(RuntimeError, match="modified by an inplace operation"):
        values.backward()


def test_unique_gives_entries_in_order_their_places_and_counts():
    x = sg.tensor([[3, 1], [2, 1]])
    values, inverse, counts = sg.unique(x, return_inverse=True, return_counts=True)
    assert [values.tolist(), inverse.tolist(), counts.tolist()] == [[1, 2, 3], [[2, 0], [1, 0]], [2, 1, 1]]
    assert x.unique().tolist() == [1, 2, 3]
    assert sg.unique(x, dim=1).tolist() == [[1, 3], [1, 2]]
    assert sg.unique(sg.tensor([nan, nan])).shape == (2,)


def test_rows_compute_on_raw_arrays():
    x = np.arange(6.0).reshape(2, 3)
    assert reduction.sum(x, 0).tolist() == [3, 5, 7]
    assert reduction.max(x, 1).indices.tolist() == [2, 2]
    assert sorting.sort(x, 1, True).values.tolist() == [[2, 1, 0], [5, 4, 3]]


@pytest.mark.parametrize(
    ("f", "name"),
    [
        (lambda x: x.sum(), "SumBackward"),
        (lambda x: x.mean(0), "MeanBackward"),
        (lambda x: x.max(), "MaxBackward"),
        (lambda x: x.max(0)[0], "MaxBackward"),
        (lambda x: x.sort()[0], "SortBackward"),
        (lambda x: x.norm(), "LinalgVectorNormBackward"),
    ],
)
def test_the_graph_has_pytorchs_names(f, name):
    assert f(sg.ones(3, requires_grad=True)).grad_fn.name() == name
