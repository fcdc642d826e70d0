"""Products of vectors and matrices, einsum, and the fully connected layer: values, derivatives, graph, errors."""

import math

import numpy as np
import pytest
from differences import assert_derivatives
from hypothesis import given
from hypothesis import strategies as st

import scalargrad as sg
from scalargrad.ops.linalg import kron, linear, matmul

numbers = np.random.default_rng(0).standard_normal


@st.composite
def factors(draw):
    """Shapes of two arrays that can be multiplied, drawn from the shape of the product backwards."""
    n, k, m = (draw(st.integers(0, 3)) for _ in range(3))
    batch = draw(st.lists(st.integers(0, 3), max_size=2))
    a_batch, b_batch = (draw(st.sampled_from([batch, batch[1:], [1] * len(batch)])) for _ in range(2))
    a = draw(st.sampled_from([[k], [n, k], [*a_batch, n, k]]))
    b = draw(st.sampled_from([[k], [k, m], [*b_batch, k, m]]))
    return tuple(a), tuple(b)


@given(shapes=factors())
def test_matmul_is_numpys_for_all_ranks_and_differentiable_twice(shapes):
    a, b = (np.random.default_rng(i).standard_normal(shape) for i, shape in enumerate(shapes))
    y = sg.matmul(sg.tensor(a), sg.tensor(b))
    assert tuple(y.shape) == (a @ b).shape
    np.testing.assert_allclose(y.numpy(), a @ b, rtol=1e-12, atol=1e-12)
    assert_derivatives(matmul, a, b)


@pytest.mark.parametrize(
    ("f", "shapes"),
    [
        (sg.mm, [(2, 3), (3, 4)]),
        (sg.bmm, [(2, 2, 3), (2, 3, 1)]),
        (sg.mv, [(2, 3), (3,)]),
        (sg.dot, [(3,), (3,)]),
        (sg.outer, [(2,), (3,)]),
        (kron, [(2, 3), (3, 2)]),
        (lambda x, a, b: sg.addmm(x, a, b, beta=0.5, alpha=3), [(2, 2), (2, 3), (3, 2)]),
        (lambda x, a, b: sg.addmm(x, a, b), [(2,), (4, 3), (3, 2)]),
        (lambda x, a, b: sg.addmm(x, a, b), [(), (4, 3), (3, 2)]),
        (linear, [(4, 3), (2, 3), (2,)]),
        (linear, [(4, 3), (2, 3)]),
        (linear, [(3,), (2, 3), (2,)]),
        (linear, [(2, 2, 3), (2, 3), (2,)]),
        (linear, [(2, 2, 3), (2, 3)]),
        (linear, [(2, 2, 3), (3,)]),
        (linear, [(0, 3), (2, 3), (2,)]),
        (sg.trace, [(3, 2)]),
        (lambda a: a @ a @ a, [(2, 2)]),
        (lambda a, b: sg.tensordot(a, b, 2), [(2, 3, 2), (3, 2, 2)]),
        (lambda a, b: sg.tensordot(a, b, ([0, -1], [1, 0])), [(2, 3, 2), (2, 2)]),
    ],
)
def test_products_are_differentiable_twice(f, shapes):
    assert_derivatives(f, *(numbers(shape) for shape in shapes))


EQUATIONS = {
    "ij,jk->ik": [(2, 3), (3, 4)],
    "ij,jk": [(2, 3), (3, 4)],
    "ij,jk,kl->il": [(2, 3), (3, 2), (2, 3)],
    "ij,ij->": [(2, 3), (2, 3)],
    "ij,ij->ij": [(2, 3), (2, 3)],
    "ij,kj->ki": [(2, 3), (4, 3)],
    "bij,bjk->bik": [(2, 2, 3), (2, 3, 2)],
    "bhi,bhj->bij": [(2, 3, 2), (2, 3, 2)],
    "i,j->ij": [(2,), (3,)],
    "i,i,i->i": [(3,), (3,), (3,)],
    "ij->ji": [(2, 3)],
    "ij->j": [(2, 3)],
    "ba": [(2, 3)],
    "ii->i": [(3, 3)],
    "ii": [(3, 3)],
    "iij->j": [(2, 2, 3)],
    "iii->i": [(2, 2, 2)],
    "...ij,...jk->...ik": [(2, 2, 3), (3, 2)],
    "...i->...": [(2, 2, 3)],
    "i...->...i": [(2, 2, 3)],
    "a,b,c->cab": [(2,), (3,), (2,)],
    ",ij->ij": [(), (2, 3)],
    "ij,k->i": [(2, 3), (2,)],
}


@pytest.mark.parametrize("equation", EQUATIONS)
def test_einsum_is_numpys_and_differentiable_twice(equation):
    operands = [numbers(shape) for shape in EQUATIONS[equation]]
    y = sg.einsum(equation, *map(sg.tensor, operands))
    expected = np.einsum(equation, *operands)
    assert tuple(y.shape) == expected.shape
    np.testing.assert_allclose(y.numpy(), expected, rtol=1e-12)
    assert_derivatives(lambda *xs: sg.einsum(equation, *xs), *operands)


def test_einsum_broadcasts_sizes_of_1_and_takes_lists_of_numbers():
    a, b = sg.arange(6.0).reshape(2, 3), sg.tensor([[2.0], [1.0]])
    assert sg.einsum("ij,ij->ij", a, b).tolist() == [[0, 2, 4], [3, 4, 5]]
    assert sg.einsum("ij,ij->i", [a, b]).tolist() == [6, 12]
    assert sg.einsum(a, [0, 1], b, [0, 2], [1]).tolist() == [3, 6, 9]
    assert sg.einsum(a, [..., 5], [..., 5]).tolist() == a.tolist()


@given(
    shape=st.lists(st.integers(1, 3), max_size=3).map(tuple),
    terms=st.lists(st.sets(st.integers(0, 2)), min_size=1, max_size=3),
    wanted=st.sets(st.integers(0, 2)),
)
def test_any_einsum_of_any_operands_is_numpys(shape, terms, wanted):
    letters = "xyz"[: len(shape)]
    terms = ["".join(letters[i] for i in sorted(t) if i < len(shape)) for t in terms]
    equation = (
        ",".join(terms) + "->" + "".join(letters[i] for i in wanted if i < len(shape) and letters[i] in "".join(terms))
    )
    operands = [numbers([shape[letters.index(s)] for s in t]) for t in terms]
    y = sg.einsum(equation, *map(sg.tensor, operands))
    np.testing.assert_allclose(y.numpy(), np.einsum(equation, *operands), rtol=1e-9, atol=1e-12)


@pytest.mark.parametrize("dtype", [np.int64, np.int32, np.int8, np.uint8])
def test_integers_are_multiplied_in_their_own_dtype(dtype):
    a = np.arange(9).reshape(3, 3).astype(dtype)
    t = sg.tensor(a)
    for y, expected in [
        (t @ t, a @ a),
        (t[0] @ t, a[0] @ a),
        (t[0] @ t[1], a[0] @ a[1]),
        (linear(t, t, t[0]), a @ a.T + a[0]),
    ]:
        assert y.dtype == dtype
        np.testing.assert_array_equal(y.numpy(), expected)


def test_a_factor_in_any_memory_order_gives_the_same_product():
    a, b = numbers((4, 6)), numbers((6, 4))
    expected = sg.tensor(a) @ sg.tensor(b)
    for other in (sg.tensor(np.asfortranarray(a)), sg.tensor(a.T.copy()).T, sg.tensor(np.repeat(a, 2, 1))[:, ::2]):
        np.testing.assert_allclose((other @ sg.tensor(b)).numpy(), expected.numpy(), rtol=1e-12)


def test_nothing_times_nothing_is_zeros():
    a, b = sg.zeros(2, 0, requires_grad=True), sg.zeros(0, 3)
    y = a @ b
    y.sum().backward()
    assert (y.tolist(), tuple(a.grad.shape)) == ([[0, 0, 0], [0, 0, 0]], (2, 0))


def test_with_beta_0_not_even_nan_of_the_input_comes_through():
    a = sg.ones(2, 2)
    assert sg.addmm(sg.full((2, 2), math.nan), a, a, beta=0, alpha=2).tolist() == [[4, 4], [4, 4]]


def test_the_graph_of_a_linear_layer_is_pytorchs():
    x, w, b = sg.ones(2, 3), sg.ones(4, 3, requires_grad=True), sg.zeros(4, requires_grad=True)
    node = linear(x, w, b).grad_fn
    assert node.name() == "AddmmBackward"
    (bias, _), (of_x, _), (weight, _) = node.next_functions
    assert (bias.variable is b, of_x, weight.variable is w) == (True, None, True)
    assert linear(x, w).grad_fn.name() == "MmBackward"
    names = [(w @ w.t()), (w @ w[0]), (w[0] @ w[0]), (w[None] @ w.t()[None]), sg.addmm(b, x, w.t())]
    assert [y.grad_fn.name() for y in names] == [f"{name}Backward" for name in ("Mm", "Mv", "Dot", "Bmm", "Addmm")]


A, V = sg.ones(2, 3), sg.ones(3)

ERRORS = [
    (lambda: A @ A, RuntimeError, r"matmul\(\).*\(2, 3\)"),
    (lambda: A @ sg.ones(2), RuntimeError, r"3 and 2 \(shapes \(2, 3\) and \(2,\)\)"),
    (lambda: sg.ones(2, 2, 3) @ sg.ones(3, 3, 2), RuntimeError, r"batch"),
    (lambda: sg.tensor(1.0) @ A, RuntimeError, "at least 1D, but they are 0D and 2D"),
    (lambda: A @ sg.ones(3, 2).double(), RuntimeError, "float32"),
    (lambda: A @ sg.ones(3, 2).long(), RuntimeError, "int64"),
    (lambda: A.long() @ sg.ones(2, 3).long(), RuntimeError, r"3 and 2"),
    (lambda: A.bool() @ A.bool().t(), NotImplementedError, "bool"),
    (lambda: sg.matmul(A, 3), TypeError, "got int"),
    (lambda: sg.mm(A, V), RuntimeError, r"mm\(\): mat2 must be a matrix, got shape \(3,\)"),
    (lambda: sg.mm(A, 3), TypeError, "'mat2' must be Tensor, not int"),
    (lambda: sg.bmm(A, A), RuntimeError, r"bmm\(\): input must be a 3D tensor"),
    (lambda: sg.bmm(sg.ones(2, 1, 1), sg.ones(3, 1, 1)), RuntimeError, "got 3 and 2"),
    (lambda: sg.mv(V, A), RuntimeError, r"mv\(\): input must be a matrix"),
    (lambda: sg.dot(A, V), RuntimeError, r"dot\(\): input must be a vector, got shape \(2, 3\)"),
    (lambda: sg.dot(V, sg.ones(2)), RuntimeError, "3 and 2"),
    (lambda: sg.outer(A, V), RuntimeError, r"outer\(\): input must be a vector"),
    (lambda: sg.addmm(sg.ones(3), A, sg.ones(3, 2)), RuntimeError, r"\(3,\) does not broadcast .* \(2, 2\)"),
    (lambda: sg.addmm(sg.ones(2).double(), A, sg.ones(3, 2)), RuntimeError, "same dtype, got float64 and float32"),
    (
        lambda: linear(sg.ones(4, 10), sg.ones(120, 576)),
        RuntimeError,
        r"linear\(\): input has 10 features but weight expects 576 \(input \(4, 10\), weight \(120, 576\)\)",
    ),
    (lambda: linear(sg.tensor(1.0), sg.ones(1, 1)), RuntimeError, "at least 1D, but they are 0D and 2D"),
    (lambda: linear(A, A, V), RuntimeError, r"bias of shape \(2,\)"),
    (lambda: linear(A, A.double()), RuntimeError, "float32"),
    (lambda: linear([1.0], A), TypeError, "must be Tensor, not list"),
    (lambda: sg.trace([1.0]), TypeError, "must be Tensor, not list"),
    (lambda: sg.addmm(1.0, A, A), TypeError, "must be Tensor, not float"),
    (lambda: sg.tensordot(A, 1.0), TypeError, "'b' must be Tensor, not float"),
    (lambda: sg.trace(V), RuntimeError, "expected a matrix, but got tensor with dim 1"),
    (lambda: sg.tensordot(A, A, 1), RuntimeError, "first has size 3 in dim 1 and second has size 2 in dim 0"),
    (lambda: sg.tensordot(A, A, ([0, 1], [0])), RuntimeError, "same length"),
    (lambda: sg.tensordot(A, A, 3), RuntimeError, "dims=3"),
    (lambda: sg.einsum("ij,jk", A, A), RuntimeError, "subscript j has size 2 for operand 1 .* seen size 3"),
    (
        lambda: sg.einsum("ii", A),
        RuntimeError,
        "subscript i is repeated for operand 0 but the sizes don't match, 3 != 2",
    ),
    (
        lambda: sg.einsum("i", A),
        RuntimeError,
        r"subscripts in the equation \(1\) .* dimensions \(2\) for operand 0 and no",
    ),
    (lambda: sg.einsum("ijk...", A), RuntimeError, r"\(3\) does not match the number of dimensions \(2\)"),
    (lambda: sg.einsum("i1", A), RuntimeError, "invalid subscript '1'"),
    (lambda: sg.einsum("ij", A, A), RuntimeError, "more operands were provided than specified"),
    (lambda: sg.einsum("ij,jk", A), RuntimeError, "fewer operands were provided than specified"),
    (lambda: sg.einsum("ij->ii", A), RuntimeError, "i appears more than once in the output"),
    (lambda: sg.einsum("ij->k", A), RuntimeError, "k does not appear in the equation"),
    (lambda: sg.einsum("i", [1.0]), TypeError, "must be Tensor, not float"),
]


@pytest.mark.parametrize(("f", "error", "words"), ERRORS)
def test_a_bad_product_is_refused_with_what_was_expected(f, error, words):
    with pytest.raises(error, match=words):
        f()
