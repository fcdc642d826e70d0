"""Tensors from data and of given contents."""

import numpy as np
import pytest

import scalargrad as sg

CREATED = {
    "tensor of a number": lambda T: T.tensor(1.5),
    "tensor of an int": lambda T: T.tensor(2),
    "tensor of a bool": lambda T: T.tensor(True),
    "tensor of nested lists": lambda T: T.tensor([[1, 2], [3, 4]]),
    "tensor of a mixture": lambda T: T.tensor([1, 2.5, True]),
    "tensor of booleans and ints": lambda T: T.tensor([True, 2]),
    "tensor of nothing": lambda T: T.tensor([]),
    "tensor of nothing, deep": lambda T: T.tensor([[], []]),
    "tensor of an array": lambda T: T.tensor(np.arange(3, dtype=np.int32)),
    "tensor of doubles": lambda T: T.tensor(np.array([1.0, 2.0])),
    "tensor of a numpy scalar": lambda T: T.tensor(np.float64(3)),
    "tensor of numpy scalars": lambda T: T.tensor([np.float64(3), np.float64(2)]),
    "tensor of tensors": lambda T: T.tensor([T.tensor(1.0), T.tensor(2.0)]),
    "tensor with a dtype": lambda T: T.tensor([1.7, -1.7], dtype=T.int64),
    "tensor with inf and nan": lambda T: T.tensor([float("inf"), float("nan")]),
    "as_tensor": lambda T: T.as_tensor([1.0, 2.0]),
    "zeros": lambda T: T.zeros(2, 3),
    "zeros of a tuple": lambda T: T.zeros((2, 3)),
    "zeros of a list": lambda T: T.zeros([2, 3]),
    "zeros of a Size": lambda T: T.zeros(T.ones(2, 3).shape),
    "zeros of no dimensions": lambda T: T.zeros(()),
    "zeros of nothing": lambda T: T.zeros(0, 3),
    "ones": lambda T: T.ones(2, dtype=T.int32),
    "full": lambda T: T.full((2, 2), 1.5),
    "full of ints": lambda T: T.full((2,), 7),
    "full of booleans": lambda T: T.full((2,), True),
    "full with a dtype": lambda T: T.full((2,), 7, dtype=T.float64),
    "zeros_like": lambda T: T.zeros_like(T.ones(2, dtype=T.int64)),
    "ones_like": lambda T: T.ones_like(T.zeros(2), dtype=T.float64),
    "full_like": lambda T: T.full_like(T.zeros(2, dtype=T.int64), 3),
    "arange": lambda T: T.arange(5),
    "arange from": lambda T: T.arange(2, 5),
    "arange by": lambda T: T.arange(2, 9, 3),
    "arange down": lambda T: T.arange(5, 0, -2),
    "arange of floats": lambda T: T.arange(0, 1, 0.25),
    "arange of one float": lambda T: T.arange(3.0),
    "arange with a dtype": lambda T: T.arange(3, dtype=T.float64),
    "arange of nothing": lambda T: T.arange(0),
    "linspace": lambda T: T.linspace(0, 1, 5),
    "linspace of one": lambda T: T.linspace(3, 10, 1),
    "linspace of none": lambda T: T.linspace(3, 10, 0),
    "logspace": lambda T: T.logspace(0, 2, 3),
    "logspace, base 2": lambda T: T.logspace(0, 3, 4, base=2),
    "eye": lambda T: T.eye(3),
    "eye, wide": lambda T: T.eye(2, 3, dtype=T.int64),
    "meshgrid": lambda T: T.meshgrid(T.arange(2), T.arange(3), indexing="ij")[1],
    "meshgrid xy": lambda T: T.meshgrid(T.arange(2), T.arange(3), indexing="xy")[0],
}

EXPECTED = {
    "tensor of a number": ("float32", 1.5),
    "tensor of an int": ("int64", 2),
    "tensor of a bool": ("bool", True),
    "tensor of nested lists": ("int64", [[1, 2], [3, 4]]),
    "tensor of a mixture": ("float32", [1.0, 2.5, 1.0]),
    "tensor of booleans and ints": ("int64", [1, 2]),
    "tensor of nothing": ("float32", []),
    "tensor of nothing, deep": ("float32", [[], []]),
    "tensor of an array": ("int32", [0, 1, 2]),
    "tensor of doubles": ("float64", [1.0, 2.0]),
    "tensor of a numpy scalar": ("float64", 3.0),
    "tensor of numpy scalars": ("float64", [3.0, 2.0]),
    "tensor of tensors": ("float32", [1.0, 2.0]),
    "tensor with a dtype": ("int64", [1, -1]),
    "as_tensor": ("float32", [1.0, 2.0]),
    "zeros": ("float32", [[0.0] * 3] * 2),
    "zeros of a tuple": ("float32", [[0.0] * 3] * 2),
    "zeros of a list": ("float32", [[0.0] * 3] * 2),
    "zeros of a Size": ("float32", [[0.0] * 3] * 2),
    "zeros of no dimensions": ("float32", 0.0),
    "zeros of nothing": ("float32", []),
    "ones": ("int32", [1, 1]),
    "full": ("float32", [[1.5, 1.5]] * 2),
    "full of ints": ("int64", [7, 7]),
    "full of booleans": ("bool", [True, True]),
    "full with a dtype": ("float64", [7.0, 7.0]),
    "zeros_like": ("int64", [0, 0]),
    "ones_like": ("float64", [1.0, 1.0]),
    "full_like": ("int64", [3, 3]),
    "arange": ("int64", [0, 1, 2, 3, 4]),
    "arange from": ("int64", [2, 3, 4]),
    "arange by": ("int64", [2, 5, 8]),
    "arange down": ("int64", [5, 3, 1]),
    "arange of floats": ("float32", [0.0, 0.25, 0.5, 0.75]),
    "arange of one float": ("float32", [0.0, 1.0, 2.0]),
    "arange with a dtype": ("float64", [0.0, 1.0, 2.0]),
    "arange of nothing": ("int64", []),
    "linspace": ("float32", [0.0, 0.25, 0.5, 0.75, 1.0]),
    "linspace of one": ("float32", [3.0]),
    "linspace of none": ("float32", []),
    "logspace": ("float32", [1.0, 10.0, 100.0]),
    "logspace, base 2": ("float32", [1.0, 2.0, 4.0, 8.0]),
    "eye": ("float32", [[1.0, 0.0, 0.0], [0.0, 1.0, 0.0], [0.0, 0.0, 1.0]]),
    "eye, wide": ("int64", [[1, 0, 0], [0, 1, 0]]),
    "meshgrid": ("int64", [[0, 1, 2], [0, 1, 2]]),
    "meshgrid xy": ("int64", [[0, 1]] * 3),
}


@pytest.mark.parametrize("name", EXPECTED)
def test_contents_and_dtypes(name):
    dtype, contents = EXPECTED[name]
    t = CREATED[name](sg)
    assert type(t) is sg.Tensor
    assert (str(t.dtype), t.tolist()) == (dtype, contents)
    assert t.is_leaf
    assert not t.requires_grad


@pytest.mark.parametrize("name", CREATED)
def test_torch_creates_the_same(name):
    torch = pytest.importorskip("torch")
    ours, theirs = CREATED[name](sg), CREATED[name](torch)
    np.testing.assert_array_equal(ours.numpy(), theirs.numpy())
    assert (f"torch.{ours.dtype}", tuple(ours.shape)) == (str(theirs.dtype), tuple(theirs.shape))


def test_empty_has_shape_and_dtype():
    assert sg.empty(2, 3, dtype=sg.float64).shape == (2, 3)
    assert sg.empty_like(sg.ones(2, dtype=sg.int64)).dtype == sg.int64


@pytest.mark.parametrize(
    "create",
    [
        lambda **k: sg.tensor([1.0], **k),
        lambda **k: sg.zeros(1, **k),
        lambda **k: sg.ones(1, **k),
        lambda **k: sg.empty(1, **k),
        lambda **k: sg.full((1,), 2.0, **k),
        lambda **k: sg.arange(2.0, **k),
        lambda **k: sg.linspace(0, 1, 2, **k),
        lambda **k: sg.eye(1, **k),
        lambda **k: sg.zeros_like(sg.ones(1), **k),
        lambda **k: sg.rand(1, **k),
        lambda **k: sg.randn(1, **k),
        lambda **k: sg.logspace(0, 1, 2, **k),
        lambda **k: sg.ones_like(sg.ones(1), **k),
        lambda **k: sg.full_like(sg.ones(1), 2, **k),
    ],
)
def test_requires_grad_makes_a_leaf(create):
    t = create(requires_grad=True)
    assert t.requires_grad
    assert t.is_leaf
    (t * 2).sum().backward()
    assert t.grad.tolist() == [2.0] * t.numel() or t.grad.tolist() == [[2.0]]
    with pytest.raises(RuntimeError, match=r"(?i)(only tensors of|expected a) floating point dtype"):
        create(dtype=sg.int64, requires_grad=True)


def test_tensor_copies_and_as_tensor_and_from_numpy_share():
    array = np.ones(3, np.float32)
    assert not np.shares_memory(sg.tensor(array).numpy(), array)
    assert np.shares_memory(sg.as_tensor(array).numpy(), array)
    assert np.shares_memory(sg.from_numpy(array).numpy(), array)
    assert not np.shares_memory(sg.as_tensor(array, dtype=sg.float64).numpy(), array)
    t = sg.ones(2)
    assert sg.as_tensor(t) is t
    assert not np.shares_memory(sg.tensor(t).numpy(), t.numpy())
    assert sg.tensor([array, array]).shape == (2, 3)


def test_tensor_of_a_tensor_is_cut_off_from_its_graph():
    x = sg.ones(2, requires_grad=True)
    assert not sg.tensor((x * 2).detach()).requires_grad


def test_any_layout_goes_in():
    array = np.arange(6.0).reshape(2, 3)
    for laid in array.T, array[:, ::-1], array[::2], np.asfortranarray(array):
        assert sg.tensor(laid).tolist() == laid.tolist()
        assert sg.tensor(laid).is_contiguous()
        assert sg.from_numpy(laid).tolist() == laid.tolist()


WRONG = {
    "ragged": (lambda: sg.tensor([[1, 2], [3]]), ValueError, "expected sequences? of"),
    "a string": (lambda: sg.tensor("abc"), TypeError, "expected numbers, got str|invalid data type 'str'"),
    "strings": (
        lambda: sg.tensor(["a"]),
        (TypeError, ValueError),
        "expected numbers|invalid data type|too many dimensions 'str'",
    ),
    "none": (lambda: sg.tensor(None), (TypeError, RuntimeError), "None"),
    "an object": (lambda: sg.tensor(object()), (TypeError, RuntimeError), "object"),
    "a set": (lambda: sg.tensor({1, 2}), (TypeError, RuntimeError), "set"),
    "a dict": (lambda: sg.tensor({1: 2}), (TypeError, RuntimeError), "dict"),
    "negative size": (lambda: sg.zeros(-1), RuntimeError, "negative"),
    "float size": (lambda: sg.zeros(2.5), TypeError, "float"),
    "float size, second": (lambda: sg.ones(2, 2.5), TypeError, "float"),
    "string size": (lambda: sg.zeros("2"), TypeError, "str"),
    "arange without step": (lambda: sg.arange(0, 5, 0), RuntimeError, "step must be nonzero"),
    "arange the wrong way": (lambda: sg.arange(5, 0), RuntimeError, "inconsistent with step sign"),
    "arange of nothing": (lambda: sg.arange(), TypeError, "arange"),
    "linspace": (lambda: sg.linspace(0, 1, -1), RuntimeError, "number of steps must be non-negative"),
    "eye": (lambda: sg.eye(-1), RuntimeError, "negative|greater or equal to 0"),
    "meshgrid": (lambda: sg.meshgrid(sg.arange(2), indexing="no"), RuntimeError, "indexing must be one of"),
    "from_numpy of a list": (lambda: sg.from_numpy([1]), TypeError, r"expected np.ndarray \(got list\)"),
    "from_numpy of strings": (lambda: sg.from_numpy(np.array(["a"])), TypeError, "can't convert np.ndarray of type"),
    "from_numpy of objects": (lambda: sg.from_numpy(np.array([None])), TypeError, "can't convert np.ndarray of type"),
    "full of a list": (lambda: sg.full((2,), [1, 2, 3]), (TypeError, RuntimeError, ValueError), "full"),
}


@pytest.mark.parametrize("dtype", ["uint8", "int8", "int32", "int64"])
@pytest.mark.parametrize("number", [2**63, 1e30, float("nan"), float("-inf")])
def test_a_number_that_an_integer_dtype_cannot_hold_is_refused_and_does_not_wrap_around(dtype, number):
    kind = getattr(sg, dtype)
    for call in (
        lambda: sg.tensor(number, dtype=kind),
        lambda: sg.tensor([[0, 1], [number, 2]], dtype=kind),
        lambda: sg.as_tensor([number], dtype=kind),
        lambda: sg.full((2,), number, dtype=kind),
        lambda: sg.zeros(2, dtype=kind).fill_(number),
    ):
        with pytest.raises(RuntimeError, match="without overflow"):
            call()


def test_a_number_within_a_dtype_is_taken_and_integers_are_int64_or_refused():
    assert sg.tensor([0, 255], dtype=sg.uint8).tolist() == [0, 255]
    assert sg.tensor([-128, 126.9], dtype=sg.int8).tolist() == [-128, 126]
    assert sg.zeros(1, dtype=sg.uint8).fill_(-1).tolist() == [255]  # as in PyTorch
    assert sg.tensor([], dtype=sg.uint8).tolist() == []
    assert sg.tensor(2**63 - 1).item() == 2**63 - 1
    assert sg.tensor(2**63, dtype=sg.float32).item() == 2.0**63
    assert sg.zeros(1, dtype=sg.bool).fill_(float("nan")).tolist() == [True]
    with pytest.raises(RuntimeError, match="int64 without overflow: 9223372036854775808"):
        sg.tensor([2**63])


@pytest.mark.parametrize("name", WRONG)
def test_bad_input_gets_an_exception_and_a_sentence(name):
    call, error, words = WRONG[name]
    with pytest.raises(error, match=words):
        call()


def test_large_tensors_begin_on_a_cache_line_where_the_kernels_are_compiled():
    made = (sg.tensor(np.ones(20_000)), sg.ones(20_000), sg.full((20_000,), 2.0), sg.empty(20_000), sg.rand(20_000))
    places = {t.numpy().ctypes.data % 64 for t in (*made, sg.randn(20_000))}
    assert places == {0} or sg.kernels.isa == "numpy"
    assert made[0].tolist() == made[1].tolist() == [1.0] * 20_000
