"""NumPy both ways: arrays of tensors, tensors of arrays, and arithmetic between the two."""

import numpy as np
import pytest

import scalargrad as sg
from scalargrad import Tensor


def leaf(*data, dtype=sg.float32):
    return sg.tensor(list(data), dtype=dtype, requires_grad=True)


class TestNumPy:
    def test_numpy_shares_memory_both_ways(self):
        array = np.ones(3, np.float32)
        t = sg.from_numpy(array)
        assert t.numpy() is array
        t[0] = 5.0
        array[1] = 7.0
        assert array.tolist() == t.tolist() == [5.0, 7.0, 1.0]

    def test_asarray_shares_memory_and_array_copies(self):
        t = sg.ones(3)
        assert np.shares_memory(np.asarray(t), t.numpy())
        assert not np.shares_memory(np.array(t), t.numpy())
        assert np.asarray(t, np.float64).dtype == np.float64
        assert not np.shares_memory(np.array(t, copy=True), t.numpy())
        with pytest.raises(ValueError, match="copy"):
            np.array(t, np.float64, copy=False)
        assert np.shares_memory(np.array(t, copy=False), t.numpy())

    @pytest.mark.parametrize("convert", [lambda t: t.numpy(), np.asarray, np.array, lambda t: np.from_dlpack(t)])
    def test_what_requires_grad_is_not_made_an_array(self, convert):
        for t in leaf(1.0, 2.0), leaf(1.0, 2.0) * 2:
            with pytest.raises(RuntimeError, match=r"requires? grad"):
                convert(t)
        assert leaf(1.0).numpy(force=True).tolist() == [1.0]

    def test_numpy_scalars_and_arrays_on_the_left_leave_the_operation_to_the_tensor(self):
        x = leaf(1.0, 2.0)
        for y in np.float64(2) * x, np.float32(2) * x, np.int64(2) * x, np.array([2.0, 2.0], np.float32) * x:
            assert type(y) is Tensor
            assert y.dtype == sg.float32
            assert y.tolist() == [2.0, 4.0]
            assert y.requires_grad
        assert (np.ones(2) + sg.ones(2)).dtype == sg.float64
        assert (np.array([3.0, 5.0]) - sg.ones(2)).tolist() == [2.0, 4.0]
        assert (np.array([3.0, 5.0]) / sg.tensor([3.0, 5.0])).tolist() == [1.0, 1.0]
        assert (np.eye(2) @ sg.ones(2, dtype=sg.float64)).tolist() == [1.0, 1.0]
        assert type(np.array([1.0, 2.0]) < sg.tensor([2.0, 1.0])) is Tensor
        assert (np.float64(2) ** sg.tensor([1.0, 2.0])).tolist() == [2.0, 4.0]

    def test_numpy_scalars_and_arrays_on_the_right(self):
        x = leaf(1.0, 2.0)
        assert (x * np.float64(2)).dtype == sg.float32
        assert (x * np.arange(2)).tolist() == [0.0, 2.0]
        y = (x + np.ones((3, 2))).sum()
        y.backward()
        assert x.grad.tolist() == [3.0, 3.0]
        assert x.grad.dtype == sg.float32

    def test_in_place_into_an_array_of_numpys(self):
        array = np.ones(2)
        array += sg.tensor([1.0, 2.0])
        assert type(array) is np.ndarray or type(array) is Tensor
        assert array.tolist() == [2.0, 3.0]

    def test_ufuncs_give_tensors(self):
        y = np.exp(sg.zeros(2))
        assert type(y) is Tensor
        assert y.tolist() == [1.0, 1.0]
        assert np.maximum(sg.tensor([1.0, 5.0]), 3.0).tolist() == [3.0, 5.0]

    def test_dlpack_shares_memory(self):
        t = sg.arange(6.0).view(2, 3)
        array = np.from_dlpack(t)
        assert np.shares_memory(array, t.numpy())
        assert t.__dlpack_device__()[0] == 1

    def test_an_array_of_tensors_is_not_made_by_accident(self):
        assert np.array([sg.tensor(1.0), sg.tensor(2.0)], np.float32).tolist() == [1.0, 2.0]

    def test_torch_and_scalargrad_exchange_memory(self):
        torch = pytest.importorskip("torch")
        t = torch.arange(3.0)
        assert sg.from_numpy(t.numpy()).tolist() == [0.0, 1.0, 2.0]
        assert torch.from_dlpack(sg.arange(3.0)).tolist() == [0.0, 1.0, 2.0]
