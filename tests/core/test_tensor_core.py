"""Tensor as an object: conversions, sizes and strides, copies, data, iteration, what it refuses."""

import copy
import pickle

import numpy as np
import pytest

import scalargrad as sg
from scalargrad import Tensor


def leaf(*data, dtype=sg.float32):
    return sg.tensor(list(data), dtype=dtype, requires_grad=True)


class TestConversions:
    def test_item_and_tolist_give_python_numbers(self):
        assert type(sg.tensor(1.5).item()) is float
        assert type(sg.tensor([[3]]).item()) is int
        assert sg.tensor([True]).item() is True
        assert sg.tensor([[1, 2], [3, 4]]).tolist() == [[1, 2], [3, 4]]
        assert sg.tensor(1.5).tolist() == 1.5
        assert leaf(2.0).item() == 2.0
        assert float(sg.tensor([2.5])) == 2.5
        assert int(sg.tensor(2.5)) == 2

    @pytest.mark.parametrize("size", [0, 2])
    @pytest.mark.parametrize("convert", [lambda t: t.item(), float, int])
    def test_only_one_element_converts(self, convert, size):
        with pytest.raises((RuntimeError, ValueError), match="element"):
            convert(sg.ones(size))

    def test_truth_is_that_of_one_element(self):
        assert sg.tensor([1.0])
        assert not sg.tensor(0)
        with pytest.raises(RuntimeError, match="Boolean value of Tensor with more than one value is ambiguous"):
            bool(sg.ones(2))
        with pytest.raises(RuntimeError, match="Boolean value of Tensor with no values is ambiguous"):
            bool(sg.ones(0))

    def test_integer_tensors_index_python_sequences(self):
        assert "abc"[sg.tensor(1)] == "b"
        assert list(range(sg.tensor([3]))) == [0, 1, 2]
        for t in sg.tensor(1.0), sg.tensor([1, 2]):
            with pytest.raises(TypeError, match="only integer tensors of a single element"):
                "abc"[t]

    def test_formats(self):
        assert f"{sg.tensor(1.23456):.3f}" == "1.235"
        assert f"{sg.tensor([1.0])}" == "tensor([1.])"
        with pytest.raises(TypeError):
            f"{sg.tensor([1.0, 2.0]):.3f}"

    def test_len_iteration_and_membership(self):
        t = sg.tensor([[1, 2], [3, 4]])
        assert len(t) == 2
        assert [row.tolist() for row in t] == [[1, 2], [3, 4]]
        assert 3 in t
        assert 5 not in t
        with pytest.raises(TypeError, match="len\\(\\) of a 0-d tensor"):
            len(sg.tensor(1))
        with pytest.raises(TypeError, match="iteration over a 0-d tensor"):
            iter(sg.tensor(1))
        a, b = leaf(1.0, 2.0)
        (a * b).backward()

    def test_iteration_carries_gradients(self):
        x = leaf(1.0, 2.0, 3.0)
        sum(v * v for v in x).backward()
        assert x.grad.tolist() == [2.0, 4.0, 6.0]


class TestShape:
    def test_size_is_a_tuple_that_prints_as_pytorchs(self):
        t = sg.zeros(6, 1, 3, 3)
        assert repr(t.shape) == "torch.Size([6, 1, 3, 3])"
        assert t.size() == t.shape == (6, 1, 3, 3)
        assert t.shape.numel() == 54
        assert (t.size(0), t.size(-1), t.shape[1]) == (6, 3, 1)
        assert type(t.shape[1:]) is type(t.shape + (2,)) is type(t.shape * 2) is type(t.shape)  # noqa: RUF005
        assert repr(sg.tensor(1.0).shape) == "torch.Size([])"
        with pytest.raises(
            IndexError, match=r"Dimension out of range \(expected to be in range of \[-4, 3\], but got 4\)"
        ):
            t.size(4)
        n, *rest = t.shape
        assert (n, rest) == (6, [1, 3, 3])
        assert {t.shape: 1}[(6, 1, 3, 3)] == 1

    def test_strides_and_contiguity(self):
        t = sg.zeros(2, 3, 4)
        assert t.stride() == (12, 4, 1)
        assert t.stride(1) == 4
        assert t.is_contiguous()
        u = t.transpose(0, 2)
        assert u.stride() == (1, 4, 12)
        assert not u.is_contiguous()
        assert u.contiguous().is_contiguous()
        assert t.contiguous() is t
        assert t.expand(5, 2, 3, 4).stride() == (0, 12, 4, 1)

    def test_numbers_about_a_tensor(self):
        t = sg.zeros(2, 3, dtype=sg.float64)
        assert (t.numel(), t.nelement(), t.dim(), t.ndim, t.element_size(), t.nbytes) == (6, 6, 2, 2, 8, 48)
        assert t.is_floating_point()
        assert not sg.tensor([1]).is_floating_point()
        assert t[1].data_ptr() == t.data_ptr() + 24

    def test_views_share_memory_and_know_their_base(self):
        t = sg.zeros(2, 3)
        for view in (
            t.view(6),
            t.t(),
            t[0],
            t[:, 1:],
            t.unsqueeze(0),
            t.flatten(),
            t.permute(1, 0),
            t.T,
            t.narrow(1, 0, 1),
            t.expand(4, 2, 3),
        ):
            assert np.shares_memory(view.numpy(), t.numpy())
            assert view._base is t
        assert t._base is None
        assert t.view(6)[2:].t()._base is t

    @pytest.mark.parametrize(
        "copied",
        [
            lambda t: t.clone(),
            lambda t: t + 0,
            lambda t: t[[0, 1]],
            lambda t: t.t().reshape(6),
            lambda t: t.repeat(1, 1),
            lambda t: t[:, :1].repeat(1, 3),
            lambda t: sg.cat([t]),
            lambda t: t.flip(0),
            lambda t: t[t >= 0],
            lambda t: t.double(),
        ],
    )
    def test_what_is_no_view_shares_nothing(self, copied):
        t = sg.zeros(2, 3)
        assert not np.shares_memory(copied(t).numpy(), t.numpy())
        assert copied(t)._base is None

    def test_clone_keeps_the_layout_and_contiguous_does_not(self):
        t = sg.zeros(2, 3).t()
        assert t.clone().stride() == (1, 3)
        assert t.contiguous().stride() == (2, 1)


class TestData:
    def test_data_is_a_tensor_of_the_same_memory_outside_of_the_graph(self):
        x = leaf(1.0, 2.0)
        assert np.shares_memory(x.data.numpy(), x.detach().numpy())
        assert not x.data.requires_grad
        x.data.sub_(x.data * 0.5)
        assert x.tolist() == [0.5, 1.0]
        assert x.is_leaf

    def test_the_tutorials_update(self):
        f = leaf(1.0, 2.0)
        (f * f).sum().backward()
        f.data.sub_(f.grad.data * 0.25)
        assert f.tolist() == [0.5, 1.0]

    def test_data_may_be_replaced(self):
        x = leaf(1.0, 2.0)
        x.data = sg.ones(3, dtype=sg.float64)
        (x * 2).sum().backward()
        assert x.grad.tolist() == [2.0, 2.0, 2.0]
        assert x.grad.dtype == sg.float64
        with pytest.raises(TypeError, match="expected a Tensor, got list"):
            x.data = [1.0]


class TestCopies:
    @pytest.mark.parametrize(
        "clone", [copy.deepcopy, lambda t: pickle.loads(pickle.dumps(t))], ids=["deepcopy", "pickle"]
    )
    @pytest.mark.parametrize("requires_grad", [False, True])
    def test_a_leaf_comes_back_as_itself(self, clone, requires_grad):
        x = sg.tensor([[1.0, 2.0]], dtype=sg.float64, requires_grad=requires_grad)
        y = clone(x)
        assert type(y) is Tensor
        assert (y.tolist(), y.dtype, y.requires_grad, y.is_leaf) == ([[1.0, 2.0]], sg.float64, requires_grad, True)
        assert not np.shares_memory(y.detach().numpy(), x.detach().numpy())
        (y * leaf(1.0, 1.0)).sum().backward()

    @pytest.mark.parametrize("dtype", [sg.int64, sg.bool, sg.uint8])
    def test_other_dtypes_and_empty_tensors_come_back(self, dtype):
        for shape in (2,), (0, 3), ():
            t = sg.zeros(shape, dtype=dtype)
            u = pickle.loads(pickle.dumps(t))
            assert (u.shape, u.dtype) == (t.shape, t.dtype)

    def test_a_shallow_copy_shares_memory(self):
        x = leaf(1.0)
        y = copy.copy(x)
        assert y is not x
        assert y.tolist() == [1.0]

    def test_sharing_between_deep_copied_tensors_is_kept(self):
        x = leaf(1.0)
        a, b = copy.deepcopy({"a": x, "b": x}).values()
        assert a is b


class TestComparison:
    def test_equality_is_by_element_and_hash_by_identity(self):
        a, b = sg.ones(2), sg.ones(2)
        assert (a == b).tolist() == [True, True]
        assert len({a, b, a}) == 2
        assert (a != 1).tolist() == [False, False]
        assert (a == None) is False  # noqa: E711
        assert (a != "x") is True

    def test_comparisons_are_of_booleans_without_gradient(self):
        x = leaf(1.0, 3.0)
        for y, expected in [
            (x < 2, [True, False]),
            (x >= 3, [False, True]),
            (x < 2, [True, False]),
            (x == x, [True, True]),
        ]:
            assert y.dtype == sg.bool
            assert y.tolist() == expected
            assert not y.requires_grad


WRONG = {
    "broadcast": (
        lambda: sg.ones(2) + sg.ones(3),
        RuntimeError,
        r"The size of tensor a \(2\) must match the size of tensor b \(3\) at non-singleton dimension 0",
    ),
    "broadcast, inner": (
        lambda: sg.ones(4, 2, 5) * sg.ones(3, 5),
        RuntimeError,
        r"a \(2\) must match the size of tensor b \(3\) at non-singleton dimension 1",
    ),
    "broadcast, comparison": (lambda: sg.ones(2) < sg.ones(3), RuntimeError, r"lt\(\): The size of tensor a \(2\)"),
    "a string": (lambda: sg.ones(2) + "a", TypeError, "unsupported operand"),
    "a list": (lambda: sg.ones(2) * [1, 2], TypeError, "unsupported operand|can't multiply|only integer tensors"),
    "none": (lambda: None - sg.ones(2), TypeError, "unsupported operand"),
    "a complex number": (lambda: sg.ones(2) * 1j, TypeError, "unsupported operand|real number"),
    "a string, as a function": (lambda: sg.add(sg.ones(2), "a"), TypeError, "str"),
    "order with a string": (lambda: sg.ones(2) < "a", TypeError, "not supported between"),
    "view": (lambda: sg.ones(2, 3).view(4), RuntimeError, r"shape '\[4\]' is invalid for input of size 6"),
    "view of a transpose": (lambda: sg.ones(2, 3).t().view(6), RuntimeError, r"Use \.reshape\(\.\.\.\) instead"),
    "reshape": (lambda: sg.ones(2, 3).reshape(-1, -1), RuntimeError, "only one dimension can be inferred"),
    "reshape, negative": (lambda: sg.ones(2, 3).reshape(-2, 3), RuntimeError, "invalid shape dimension -2"),
    "reshape of nothing": (
        lambda: sg.ones(0, 3).reshape(-1, 0),
        RuntimeError,
        "unspecified dimension size -1 can be any value",
    ),
    "reshape, a float": (lambda: sg.ones(2).reshape(2.0), TypeError, "float"),
    "permute": (lambda: sg.ones(2, 3).permute(0, 0), RuntimeError, "permute"),
    "permute, out of range": (lambda: sg.ones(2, 3).permute(0, 2), IndexError, "Dimension out of range"),
    "transpose": (lambda: sg.ones(2).transpose(0, 1), IndexError, r"expected to be in range of \[-1, 0\], but got 1"),
    "t of three dimensions": (
        lambda: sg.ones(2, 2, 2).t(),
        RuntimeError,
        r"t\(\) expects a tensor with <= 2 dimensions, but self is 3D",
    ),
    "expand": (
        lambda: sg.ones(2, 3).expand(4, 3),
        RuntimeError,
        r"expanded size of the tensor \(4\) must match the existing size \(2\)",
    ),
    "expand, too few": (lambda: sg.ones(2, 3).expand(3), RuntimeError, "greater or equal to the number of dimensions"),
    "unsqueeze": (lambda: sg.ones(2).unsqueeze(3), IndexError, "Dimension out of range"),
    "flatten": (lambda: sg.ones(2, 3).flatten(1, 0), RuntimeError, "start_dim 1 cannot come after end_dim 0"),
    "cat": (
        lambda: sg.cat([sg.ones(2, 3), sg.ones(3, 2)]),
        RuntimeError,
        "Sizes of tensors must match except in dimension 0",
    ),
    "cat of numbers": (lambda: sg.cat([sg.tensor(1.0)]), RuntimeError, "zero-dimensional tensor"),
    "cat of nothing": (lambda: sg.cat([]), (ValueError, RuntimeError), "non-empty list of Tensors"),
    "cat of one tensor": (lambda: sg.cat(sg.ones(2)), TypeError, "must be .*tuple of Tensors|list or tuple"),
    "stack": (
        lambda: sg.stack([sg.ones(2), sg.ones(3)]),
        RuntimeError,
        r"stack expects each tensor to be equal size, but got \[2\] at entry 0 and \[3\] at entry 1",
    ),
    "split": (lambda: sg.ones(5).split([2, 2]), RuntimeError, "sum exactly to 5"),
    "split by nothing": (lambda: sg.ones(5).split(0), RuntimeError, "split_size"),
    "chunk": (lambda: sg.ones(5).chunk(0), RuntimeError, "greater than 0, got: 0"),
    "narrow": (
        lambda: sg.ones(3).narrow(0, 2, 2),
        RuntimeError,
        r"start \(2\) \+ length \(2\) exceeds dimension size \(3\)",
    ),
    "repeat": (lambda: sg.ones(2, 3).repeat(2), RuntimeError, "Number of dimensions of repeat dims can not be smaller"),
    "sum_to_size": (lambda: sg.ones(2, 3).sum_to_size(2), RuntimeError, "not expandable"),
    "integer power": (
        lambda: sg.tensor([2]) ** -1,
        RuntimeError,
        "Integers to negative integer powers are not allowed",
    ),
    "integer by zero": (lambda: sg.tensor([1]) // 0, RuntimeError, "ZeroDivisionError"),
    "integer modulo zero": (lambda: sg.tensor([1]) % sg.tensor([0]), RuntimeError, "ZeroDivisionError"),
    "minus of booleans": (
        lambda: 1 - sg.tensor([True]),
        RuntimeError,
        "Subtraction, the `-` operator, with a bool tensor is not supported",
    ),
    "negative boolean": (
        lambda: -sg.tensor([True]),
        RuntimeError,
        "Negation, the `-` operator, on a bool tensor is not supported",
    ),
    "bits of floats": (lambda: sg.ones(2) & sg.ones(2), (RuntimeError, TypeError), "bitwise_and"),
    "clamp": (
        lambda: sg.ones(2).clamp(),
        (RuntimeError, ValueError),
        "At least one of 'min' or 'max' must not be None",
    ),
    "rounding_mode": (lambda: sg.div(sg.ones(2), 2, rounding_mode="up"), RuntimeError, "rounding_mode"),
    "a device": (lambda: sg.ones(2).to("cuda"), RuntimeError, "CPU only, got device 'cuda'"),
    "movedim": (lambda: sg.ones(2, 3).movedim(0, 5), (IndexError, np.exceptions.AxisError), "out of (range|bounds)"),
}


@pytest.mark.parametrize("name", WRONG)
def test_bad_input_gets_pytorchs_exception_and_a_sentence(name):
    call, error, words = WRONG[name]
    with pytest.raises(error, match=words):
        call()


@pytest.mark.parametrize("name", WRONG)
def test_what_is_refused_here_is_refused_by_torch_with_the_same_type(name, monkeypatch):
    torch = pytest.importorskip("torch")
    if name in ("a device", "a complex number", "minus of booleans"):
        pytest.skip("is not refused there, or not for this reason")
    call, _, _ = WRONG[name]
    with pytest.raises(Exception) as ours:
        call()
    import types

    with pytest.raises(Exception) as theirs:
        types.FunctionType(call.__code__, {**globals(), "sg": torch})()
    assert issubclass(ours.type, theirs.type) or issubclass(theirs.type, ours.type), (ours.value, theirs.value)


def test_the_constructor_copies_to_float32_as_torch_tensor_does():
    assert Tensor([1, 2]).dtype == sg.float32
    assert Tensor(2, 3).shape == (2, 3)
    assert Tensor().shape == (0,)
    array = np.ones(2, np.float32)
    assert not np.shares_memory(Tensor(array).numpy(), array)


def test_attributes_that_there_are_not_are_refused():
    with pytest.raises(AttributeError):
        sg.ones(1).nonsense  # noqa: B018
    with pytest.raises(AttributeError):
        sg.ones(1).label = 1
