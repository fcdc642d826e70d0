"""Reading and writing by index, and gather, scatter and their kin: values, gradients, views, errors."""

import math

import numpy as np
import pytest
from differences import assert_derivatives
from hypothesis import given
from hypothesis import strategies as st

import scalargrad as sg
from scalargrad.ops.indexing import getitem, index_put

SHAPE = (3, 4, 5)


@st.composite
def parts(draw, size):
    """One part of an index for a dimension of this size, without negative steps."""
    kind = draw(st.sampled_from(["int", "slice", "array", "array", "mask"]))
    if kind == "int":
        return draw(st.integers(-size, size - 1))
    if kind == "slice":
        bound = st.none() | st.integers(-size - 1, size + 1)
        return slice(draw(bound), draw(bound), draw(st.none() | st.integers(1, 3)))
    if kind == "array":
        shape = draw(st.sampled_from([(2,), (1,), (2, 2), (2, 1)]))
        return np.array(
            draw(st.lists(st.integers(-size, size - 1), min_size=4, max_size=4))[: math.prod(shape)]
        ).reshape(shape)
    chosen = draw(st.permutations(range(size)))[:2]
    return np.isin(np.arange(size), chosen)


@st.composite
def indices(draw):
    """An index of up to three parts, with None here and there and perhaps an Ellipsis."""
    front = draw(st.integers(0, 3))
    back = draw(st.integers(0, 3 - front))
    index = [draw(parts(n)) for n in SHAPE[:front]]
    if back or draw(st.booleans()):
        index += [..., *(draw(parts(n)) for n in SHAPE[3 - back :])]
    for place in draw(st.lists(st.integers(0, len(index)), max_size=2)):
        index.insert(place, None)
    return tuple(index)


def as_torch_does(x, index):
    """`x[index]` by PyTorch's rule: integers first, then the rest together, which NumPy does in one go."""
    n_rest = x.ndim - sum(p is not None and p is not Ellipsis for p in index)
    whole = []
    for p in index:
        whole += [slice(None)] * n_rest if p is Ellipsis else [p]
    basic = tuple(slice(None) if isinstance(p, np.ndarray) else p for p in whole)
    rest = tuple(p if isinstance(p, np.ndarray) else slice(None) for p in whole if not isinstance(p, int))
    return x[basic][rest]


@given(index=indices(), as_tensors=st.booleans())
def test_any_index_reads_what_numpy_reads_and_its_gradient_goes_back_there(index, as_tensors):
    x = np.arange(60.0).reshape(SHAPE)
    given_index = tuple(sg.tensor(p) if as_tensors and isinstance(p, np.ndarray) else p for p in index)
    t = sg.tensor(x, dtype=sg.float64, requires_grad=True)
    y = t[given_index]
    expected = as_torch_does(x, index)
    assert tuple(y.shape) == expected.shape
    np.testing.assert_array_equal(y.detach().numpy(), expected)
    y.sum().backward()
    np.testing.assert_array_equal(t.grad.numpy().ravel(), np.bincount(expected.ravel().astype(int), minlength=60))


@given(index=indices(), accumulate=st.booleans())
def test_any_index_writes_where_it_reads(index, accumulate):
    x = np.arange(60.0).reshape(SHAPE)
    places = as_torch_does(np.arange(60).reshape(SHAPE), index)
    value = np.random.default_rng(0).standard_normal(places.shape)
    expected = x.copy().ravel()
    if accumulate:
        np.add.at(expected, places.ravel(), value.ravel())
    else:
        expected[places.ravel()] = value.ravel()
    y = index_put(sg.tensor(x), index, sg.tensor(value), accumulate)
    np.testing.assert_allclose(y.numpy().ravel(), expected)
    t = sg.tensor(x)
    t[index] = 7.0
    np.testing.assert_array_equal(t.numpy().ravel() == 7, np.isin(np.arange(60), [*places.ravel(), 7]))


I, J = sg.tensor([0, 2, 0]), sg.tensor([1, -1, 1])
MASK = sg.tensor([True, False, True])

READINGS = {
    "int": lambda x: x[1],
    "ints and slices": lambda x: x[-1, 1:, ::2],
    "None and Ellipsis": lambda x: x[None, ..., 0],
    "repeated rows": lambda x: x[I],
    "pairs": lambda x: x[I, J],
    "in the middle": lambda x: x[:, J, None],
    "apart": lambda x: x[I, :, J],
    "int before": lambda x: x[0, :, I],
    "mask": lambda x: x[MASK],
    "mask of all": lambda x: x[sg.tensor(np.arange(60).reshape(SHAPE) % 3 == 0)],
    "list": lambda x: x[[1, 1], 2],
    "bool": lambda x: x[True],
    "gather": lambda x: sg.gather(x, 1, sg.tensor([[[0, 3], [3, 3]], [[1, 1], [2, 0]]])),
    "take": lambda x: sg.take(x, sg.tensor([[0, -1], [7, 7]])),
    "take_along_dim": lambda x: sg.take_along_dim(x, sg.tensor([[[0], [1], [1], [2]]]), 0),
    "index_select": lambda x: sg.index_select(x, 2, sg.tensor([4, 0, 4])),
    "masked_select": lambda x: sg.masked_select(x, MASK[:, None, None]),
    "masked_fill": lambda x: sg.masked_fill(x, MASK[:, None, None], 2.0),
    "select": lambda x: sg.select(x, 1, -2),
    "tril": lambda x: sg.tril(x, 1),
    "triu": lambda x: sg.triu(x, -1),
    "diagonal": lambda x: sg.diagonal(x, 1, 2, 0),
    "diag of a matrix": lambda x: sg.diag(x[0], -1),
    "diag of a vector": lambda x: sg.diag(x[0, 0], 1),
    "flip": lambda x: sg.flip(x, 0, 2),
    "roll": lambda x: sg.roll(x, (1, -2), (0, 2)),
    "roll of all": lambda x: sg.roll(x, 7),
}


@pytest.mark.parametrize("name", READINGS)
def test_what_reads_is_differentiable_twice(name):
    assert_derivatives(READINGS[name], np.random.default_rng(0).standard_normal(SHAPE))


ROWS = sg.tensor([[0, 1], [2, 0]])

WRITINGS = {
    "where": ((2, 3), (3,), lambda a, b: sg.where(sg.tensor([[True], [False]]), a, b)),
    "where, broadcast": ((2, 1), (1, 3), lambda a, b: sg.where(sg.tensor([True, False, True]), a, b)),
    "masked_fill": ((2, 3), (), lambda a, b: sg.masked_fill(a, sg.tensor([True, False, True]), b)),
    "index_put": ((3, 2), (2,), lambda a, b: index_put(a, (sg.tensor([2, 0]),), b)),
    "index_put, mixed": ((3, 4), (2,), lambda a, b: index_put(a, (slice(1, None), [*MASK.tolist(), False]), b)),
    "index_put, view": ((3, 2), (1, 1, 2), lambda a, b: index_put(a, slice(0, 2), b)),
    "accumulate": ((3, 2), (2, 2), lambda a, b: index_put(a, (sg.tensor([1, 1]),), b, True)),
    "accumulate, view": ((3, 2), (2,), lambda a, b: index_put(a, 1, b, True)),
    "scatter": ((3, 2), (3, 4), lambda a, b: sg.scatter(a, 0, ROWS, b)),
    "scatter_add": ((3, 2), (2, 3), lambda a, b: sg.scatter_add(a, 0, sg.tensor([[1, 1], [1, 0]]), b)),
    "index_add": ((3, 2), (2, 2), lambda a, b: sg.index_add(a, 0, sg.tensor([1, 1]), b, alpha=3)),
}


@pytest.mark.parametrize("name", WRITINGS)
def test_what_writes_is_differentiable_twice_in_both(name):
    a_shape, b_shape, f = WRITINGS[name]
    rng = np.random.default_rng(0)
    assert_derivatives(f, rng.standard_normal(a_shape), rng.standard_normal(b_shape))


def test_integers_slices_and_none_give_a_view_and_the_rest_a_copy():
    x = sg.zeros(3, 4)
    for view in (x[0], x[0, 1], x[1:, 2], x[..., None], x[()], x[sg.tensor(1)], x.select(1, 0), x.diagonal()):
        assert np.shares_memory(view.array, x.array)
        view.fill_(1)
    for copy in (x[[0]], x[sg.tensor([0, 1])], x[x == 0], x[True], x.diag(), x.flip(0)):
        assert not np.shares_memory(copy.array, x.array)
    assert x[2, 3].item() == 1


def test_integers_are_taken_first_so_that_what_remains_stands_side_by_side():
    x = sg.zeros(2, 3, 4)
    i = sg.tensor([0, 1])
    assert x[0, :, i].shape == (3, 2)  # NumPy: (2, 3)
    assert x[i, :, i].shape == (2, 3)
    assert x[:, i, None, :1].shape == (2, 2, 1, 1)
    assert x[True, i].shape == x[i, :, True].shape == (2, 3, 4)
    assert x[False].shape == (0, 2, 3, 4)


def test_a_place_that_is_read_twice_gets_both_gradients():
    x = sg.zeros(3, requires_grad=True)
    x[[0, 0, 2]].backward(sg.tensor([1.0, 10.0, 100.0]))
    assert x.grad.tolist() == [11, 0, 100]


def test_an_index_tensor_that_is_written_to_later_does_not_disturb_the_gradient():
    i = sg.tensor([0, 0])
    x = sg.zeros(3, requires_grad=True)
    y = x[i]
    i.fill_(2)
    y.sum().backward()
    assert x.grad.tolist() == [2, 0, 0]


def test_writing_to_the_index_of_a_gather_before_backward_is_noticed():
    i = sg.tensor([0, 0])
    y = sg.zeros(3, requires_grad=True).gather(0, i)
    i.fill_(2)
    with pytest.raises(RuntimeError, match="modified by an inplace operation"):
        y.sum().backward()


def test_setting_items_is_recorded():
    x = sg.ones(3, requires_grad=True)
    v = sg.tensor(5.0, requires_grad=True)
    y = x * 1
    y[1] = v * 2
    y[[0]] *= 3
    (y * sg.tensor([1.0, 10.0, 100.0])).sum().backward()
    assert (y.tolist(), x.grad.tolist(), v.grad.item()) == ([3, 10, 1], [3, 0, 100], 20)


@pytest.mark.parametrize(
    ("dtype", "value", "expected"),
    [(sg.int64, 1.7, 1), (sg.bool, 2.0, True), (sg.uint8, -1, 255), (sg.float32, True, 1)],
)
def test_a_number_is_cast_to_the_tensor_it_is_written_to(dtype, value, expected):
    x = sg.zeros(2, dtype=dtype)
    x[0] = value
    assert (x.dtype, x[0].item()) == (dtype, expected)


def test_infinities_are_written_and_too_large_a_tensor_becomes_one():
    x = sg.zeros(3)
    x[0], x[1] = math.inf, math.nan
    x[2:] = sg.full((1,), 1e300, dtype=sg.float64)
    assert repr(x.tolist()) == "[inf, nan, inf]"
    assert sg.masked_fill(x, x == 0, 1e300).dtype == sg.float32


def test_where_promotes_broadcasts_and_without_branches_finds():
    c = sg.tensor([[True], [False]])
    assert sg.where(c, 1, 0).dtype == sg.int64
    assert sg.where(c, 1.0, 0).dtype == sg.float32
    assert sg.where(c, sg.zeros(3), sg.ones((), dtype=sg.float64)).dtype == sg.float32
    assert sg.where(c, sg.tensor([1, 2]), 0.5).tolist() == [[1, 2], [0.5, 0.5]]
    assert [i.tolist() for i in sg.where(sg.tensor([[0, 2], [3, 0]]))] == [[0, 1], [1, 0]]
    assert sg.nonzero(sg.tensor([[0, 2], [3, 0]])).tolist() == [[0, 1], [1, 0]]
    assert sg.nonzero(sg.tensor(3.0)).shape == (1, 0)


def test_the_branch_that_is_not_taken_gets_0_even_of_an_infinite_gradient():
    a, b = sg.ones(2, requires_grad=True), sg.ones(2, requires_grad=True)
    sg.where(sg.tensor([True, False]), a, b).backward(sg.tensor([math.inf, math.nan]))
    assert a.grad.tolist() == [math.inf, 0]
    assert b.grad[0].item() == 0
    a.grad = None
    sg.masked_fill(a, sg.tensor([True, False]), 3.0).backward(sg.tensor([math.inf, 5.0]))
    assert a.grad.tolist() == [0, 5]


def test_take_and_gather_of_numbers():
    x = sg.arange(12).reshape(3, 4)
    assert sg.take(x, sg.tensor([0, -1, 5])).tolist() == [0, 11, 5]
    assert x.gather(1, sg.tensor([[0, 3], [1, 1]])).tolist() == [[0, 3], [5, 5]]
    assert sg.take_along_dim(x, sg.tensor([[1]]), 1).tolist() == [[1], [5], [9]]
    assert sg.take_along_dim(x, sg.tensor([7])).tolist() == [7]
    assert sg.scatter(x, 1, sg.tensor([[0], [3]]), -1).tolist() == [[-1, 1, 2, 3], [4, 5, 6, -1], [8, 9, 10, 11]]
    assert sg.index_select(x, 0, sg.tensor(2)).tolist() == [[8, 9, 10, 11]]
    one = sg.tensor(5.0)
    assert one.gather(0, sg.tensor(0)).item() == 5
    assert one.scatter_add(0, sg.tensor(0), sg.tensor(2.0)).item() == 7


ERRORS = [
    (lambda x: x[3], IndexError, "index 3 is out of bounds for dimension 0 with size 3"),
    (lambda x: x[0, -5], IndexError, "index -5 is out of bounds for dimension 1 with size 4"),
    (lambda x: x[I, I + 9], IndexError, "index 9 is out of bounds for dimension 1 with size 4"),
    (lambda x: x[..., [4]], IndexError, "index 4 is out of bounds for dimension 1 with size 4"),
    (lambda x: x[0, 0, 0], IndexError, "too many indices for tensor of dimension 2"),
    (lambda x: x[MASK, MASK, None, 0], IndexError, "too many indices for tensor of dimension 2"),
    (lambda x: x[0, 0][0], IndexError, "invalid index of a 0-dim tensor"),
    (lambda x: x[::-1], ValueError, "step must be greater than zero"),
    (lambda x: x[1.5], IndexError, r"valid indices \(got float\)"),
    (lambda x: x[sg.tensor([0.5])], IndexError, "must be long, int, byte or bool tensors"),
    (lambda x: x["a"], IndexError, r"got str"),
    (lambda x: x[:, MASK], IndexError, r"shape of the mask \[3\] at index 0 does not match .* \[3, 4\] at index 1"),
    (lambda x: x[I, sg.tensor([0, 1])], IndexError, r"could not be broadcast together with shapes \[3\], \[2\]"),
    (lambda x: index_put(x, 0, sg.ones(3)), RuntimeError, r"of shape \[3\] cannot be broadcast .* of shape \[4\]"),
    (lambda x: index_put(x, I, sg.ones(2, 2)), RuntimeError, r"of shape \[2, 2\] cannot .* of shape \[3, 4\]"),
    (lambda x: index_put(x, 3, 1.0), IndexError, "index 3 is out of bounds"),
    (lambda x: index_put(x, 0, [1.0]), TypeError, "can't assign a list"),
    (lambda x: index_put(x.to(sg.uint8), 0, 300), RuntimeError, "uint8 without overflow: 300"),
    (lambda x: index_put(x, 0, 1e39), RuntimeError, "float32 without overflow"),
    (lambda x: index_put(x.long(), 0, math.nan), RuntimeError, "without overflow"),
    (lambda x: sg.where(x, x, x), RuntimeError, "boolean tensor, but got a tensor with dtype float32"),
    (lambda x: sg.where(x > 0, x), TypeError, "condition, input, other"),
    (lambda x: sg.where(x > 0, x, sg.ones(3)), RuntimeError, r"\[3, 4\], \[3, 4\], \[3\]"),
    (lambda x: sg.masked_fill(x, x, 1.0), RuntimeError, "boolean masks, but got mask with dtype float32"),
    (lambda x: sg.masked_fill(x, x > 0, sg.ones(4)), RuntimeError, "0-dimensional value tensor"),
    (lambda x: sg.masked_select(x, MASK), RuntimeError, r"\[3, 4\], \[3\]"),
    (lambda x: sg.gather(x, 1, sg.tensor([[4]])), RuntimeError, "index 4 is out of bounds for dimension 1 with size 4"),
    (lambda x: sg.gather(x, 1, sg.tensor([[-1]])), RuntimeError, "index -1 is out of bounds"),
    (lambda x: sg.gather(x, 0, I), RuntimeError, "same number of dimensions as input"),
    (lambda x: sg.gather(x, 0, sg.ones(1, 1)), RuntimeError, "Expected dtype int32/int64 for index"),
    (lambda x: sg.gather(x, 0, sg.zeros(1, 5).long()), RuntimeError, r"\[1, 5\] to be no larger than self \[3, 4\]"),
    (lambda x: sg.gather(x, 0, [[0]]), TypeError, "'index' must be Tensor, not list"),
    (lambda x: sg.scatter(x, 0, I[:, None], sg.ones(2, 1)), RuntimeError, r"no larger size than src \[2, 1\]"),
    (lambda x: sg.scatter(x, 0, I[:, None], sg.ones(3, 1).double()), RuntimeError, "equal to src.dtype"),
    (lambda x: sg.index_select(x, 0, I + 3), IndexError, "index 3 is out of bounds"),
    (lambda x: sg.index_select(x, 0, I[None]), IndexError, "supposed to be a vector"),
    (lambda x: sg.index_add(x, 0, I, sg.ones(2, 4)), RuntimeError, r"a source of shape \[3, 4\] for dim 0"),
    (lambda x: sg.take(x, sg.tensor([12])), IndexError, "index 12 is out of bounds for dimension 0 with size 12"),
    (lambda x: sg.take_along_dim(x, I, 0), RuntimeError, "same number of dimensions"),
    (lambda x: sg.select(x, 0, 3), IndexError, r"index 3 out of range for tensor of size \[3, 4\] at dimension 0"),
    (lambda x: sg.tril(x[0]), RuntimeError, "at least 2 dimensions"),
    (lambda x: sg.diagonal(x, 0, 1, -1), RuntimeError, "cannot be identical 1, -1"),
    (lambda x: sg.diag(x[None]), RuntimeError, "Supports 1D or 2D tensors. Got 3D"),
    (lambda x: sg.flip(x, 0, 0), RuntimeError, "dim 0 appears multiple times"),
    *((lambda x, f=f: f([1.0]), TypeError, "must be Tensor, not list") for f in (sg.tril, sg.diag, sg.nonzero)),
    (lambda x: sg.index_add(x, 0, I, 1.0), TypeError, "'source' must be Tensor, not float"),
    (lambda x: sg.masked_fill(x, [True], 1.0), TypeError, "'mask' must be Tensor, not list"),
    (lambda x: sg.roll(x, (1, 2), 0), RuntimeError, "must align. shifts: 2, dims:1"),
]


@pytest.mark.parametrize(("f", "error", "words"), ERRORS)
def test_a_bad_index_is_refused_in_pytorchs_words(f, error, words):
    with pytest.raises(error, match=words):
        f(sg.arange(12.0).reshape(3, 4))


def test_bytes_as_an_index_are_a_mask_with_a_warning():
    with pytest.warns(UserWarning, match="indexing with dtype uint8 is now deprecated"):
        assert sg.arange(3)[sg.tensor([1, 0, 1]).to(sg.uint8)].tolist() == [0, 2]


def test_getitem_on_a_raw_array_is_an_array():
    x = np.arange(6.0).reshape(2, 3)
    assert type(getitem(x, (0, [1, 2]))) is np.ndarray
    assert index_put(x, 0, 1.0).tolist() == [[1, 1, 1], [3, 4, 5]]
    assert x[0, 0] == 0


@pytest.mark.parametrize(
    ("f", "name"),
    [
        (lambda x: x[0], "SelectBackward"),
        (lambda x: x[1:, 0], "SelectBackward"),
        (lambda x: x[0, 1:], "SliceBackward"),
        (lambda x: x[[0]], "IndexBackward"),
        (lambda x: x.gather(0, sg.zeros(1, 1).long()), "GatherBackward"),
        (lambda x: sg.where(x > 0, x, 0.0), "WhereBackward"),
        (lambda x: x.index_select(0, sg.tensor([0])), "IndexSelectBackward"),
    ],
)
def test_the_graph_has_pytorchs_names(f, name):
    assert f(sg.ones(2, 2, requires_grad=True)).grad_fn.name() == name
