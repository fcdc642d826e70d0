"""What is not right gets PyTorch's exception type, and a sentence: the operation, what was expected and what came."""

# One refusal a line: the call, and what it says.
# ruff: noqa: E501

import re

import numpy as np
import pytest

ONES, ZEROS = (1, 1), (0, 0)
CONV = (ONES, ZEROS, ONES, 1)
HALVES = ((2, 2), (2, 2), ZEROS, ONES)
SGD = {"lr": 0.1, "momentum": 0, "dampening": 0, "weight_decay": 0, "nesterov": False, "maximize": False, "first": True}
X, W = (8, 3, 28, 28), (6, 1, 5, 5)


def f(*sizes: int) -> np.ndarray:
    return np.ones(sizes, np.float32)


REFUSALS = [
    (lambda k: k.conv2d(f(*X), f(*W), None, *CONV), "conv2d(): input has 3 channels but weight expects 1 (input (8, 3, 28, 28), weight (6, 1, 5, 5), groups=1)"),
    (lambda k: k.conv2d(f(3, 28, 28), f(*W), None, *CONV), "conv2d(): expected a 4D input and a 4D weight, got (input (3, 28, 28)"),
    (lambda k: k.conv2d(f(1, 1, 4, 4), f(*W), None, *CONV), "padded input is 4 × 4, kernel spans 5 × 5"),
    (lambda k: k.conv2d(f(1, 1, 9, 9), f(*W), f(5), *CONV), "conv2d(): expected a bias of shape (6,), got (5,)"),
    (lambda k: k.conv2d(f(1, 1, 9, 9), f(*W), None, (0, 1), ZEROS, ONES, 1), "conv2d(): expected stride to be at least 1, got (0, 1)"),
    (lambda k: k.conv2d(f(1, 1, 9, 9), f(*W), None, ONES, (-1, 0), ONES, 1), "conv2d(): expected padding to be at least 0, got (-1, 0)"),
    (lambda k: k.conv2d(f(1, 1, 9, 9), f(*W), None, ONES, (0, 2**40), ONES, 1), "conv2d(): expected padding to be at most 2147483647"),
    (lambda k: k.conv2d(f(1, 4, 9, 9), f(6, 1, 5, 5), None, ONES, ZEROS, ONES, 4), "conv2d(): expected groups to divide the 6 output channels"),
    (lambda k: k.conv2d(f(1, 1, 9, 9), f(*W), None, ONES, ZEROS, ONES, 0), "conv2d(): expected groups to be at least 1, got 0"),
    (lambda k: k.conv2d(f(1, 1, 9, 9), f(6, 1, 0, 5), None, *CONV), "conv2d(): expected a kernel of at least 1 × 1"),
    (lambda k: k.conv2d(f(1, 1, 9, 9), f(*W).astype(float), None, *CONV), "conv2d(): expected weight to be float32 like the argument before it, got float64"),
    (lambda k: k.conv2d(f(1, 1, 9, 9).astype(float), f(*W), None, *CONV), "conv2d(): expected weight to be float64 like the argument before it, got float32"),
    (lambda k: k.conv2d(f(1, 1, 9, 9).astype(int), f(*W), None, *CONV), "conv2d(): expected input to be float32 or float64, got int64"),
    (lambda k: k.conv2d_input_grad(f(1, 6, 5, 4), f(*W), (1, 1, 9, 9), *CONV), "conv2d_input_grad(): expected a gradient of shape (1, 6, 5, 5), got (1, 6, 5, 4)"),
    (lambda k: k.sum_by_channel(f(6, 5, 5)), "sum_by_channel(): expected a 4D input, got shape (6, 5, 5)"),
    (lambda k: k.conv2d_input_grad(f(6, 5, 5), f(*W), (1, 1, 9, 9), *CONV), "conv2d_input_grad(): expected a gradient of shape (1, 6, 5, 5), got (6, 5, 5)"),
    (lambda k: k.conv2d_input_grad(f(1, 6, 5, 5), f(*W), (1, 1, 9, -9), *CONV), "conv2d_input_grad(): expected input_shape to be between 0 and"),
    (lambda k: k.conv2d_weight_grad(f(2, 6, 5, 5), f(1, 1, 9, 9), W, *CONV), "conv2d_weight_grad(): expected a gradient of shape (1, 6, 5, 5), got (2, 6, 5, 5)"),
    (lambda k: k.matmul(f(2, 3), f(2, 3)), "matmul(): expected the inner sizes to agree, got 3 and 2 (shapes (2, 3) and (2, 3))"),
    (lambda k: k.matmul(f(3), f(4)), "matmul(): expected the inner sizes to agree, got 3 and 4 (shapes (3,) and (4,))"),
    (lambda k: k.matmul(f(), f(4)), "matmul(): both arguments need to be at least 1D, got shapes () and (4,)"),
    (lambda k: k.matmul(f(2, 2, 3), f(3, 3, 2)), "matmul(): expected batch sizes that broadcast, got (2,) and (3,)"),
    (lambda k: k.matmul(f(2, 2), np.ones((2, 2), np.float16)), "matmul(): expected b to be float32 or float64, got float16"),
    (lambda k: k.linear(f(2, 3), f(4, 5), None), "linear(): input has 3 features but weight expects 5 (input (2, 3), weight (4, 5))"),
    (lambda k: k.linear(f(2, 5), f(5), None), "linear(): expected a weight of shape (out_features, in_features), got (5,)"),
    (lambda k: k.linear(f(2, 5), f(4, 5), f(5)), "linear(): expected a bias of shape (4,) for weight (4, 5), got (5,)"),
    (lambda k: k.linear_input_grad(f(2, 5), f(4, 5)), "linear_input_grad(): expected a gradient of shape (…, 4) for weight (4, 5), got (2, 5)"),
    (lambda k: k.linear_input_grad(f(2, 5), f(5)), "linear_input_grad(): expected a weight of shape (out_features, in_features), got (5,)"),
    (lambda k: k.linear_weight_grad(f(3, 5), f(2, 4)), "linear_weight_grad(): expected a gradient and an input of as many samples, got shapes (3, 5) and (2, 4)"),
    (lambda k: k.linear_weight_grad(f(2, 3, 5), f(6, 4)), "linear_weight_grad(): expected a gradient and an input of as many samples, got shapes (2, 3, 5) and (6, 4)"),
    (lambda k: k.max_pool2d(f(1, 4, 4), *HALVES, False), "max_pool2d(): expected a 4D input, got shape (1, 4, 4)"),
    (lambda k: k.max_pool2d(f(1, 1, 4, 1), *HALVES, False), "max_pool2d(): output size is too small: input (1, 1, 4, 1) gives 2 × 0"),
    (lambda k: k.max_pool2d(f(1, 1, 4, 4), (2, 2), (2, 2), (2, 2), ONES, False), "max_pool2d(): pad should be at most half of effective kernel size, got padding=(2, 2)"),
    (lambda k: k.max_pool2d_input_grad(f(1, 1, 3, 2), np.zeros((1, 1, 3, 2), np.uint8), (1, 1, 4, 4), *HALVES), "max_pool2d_input_grad(): expected a gradient of shape (1, 1, 2, 2)"),
    (lambda k: k.max_pool2d_input_grad(f(1, 1, 2, 2), np.zeros((1, 1, 2, 3), np.uint8), (1, 1, 4, 4), *HALVES), "max_pool2d_input_grad(): expected offsets of shape (1, 1, 2, 2), got (1, 1, 2, 3)"),
    (lambda k: k.max_pool2d_input_grad(f(1, 1, 2, 2), np.zeros((1, 1, 2, 2), np.int64), (1, 1, 4, 4), *HALVES), "max_pool2d_input_grad(): expected offsets of dtype uint8, got int64"),
    (lambda k: k.max_pool2d_take(f(1, 1, 4, 4), np.zeros((1, 1, 3, 2), np.uint8), *HALVES), "max_pool2d_take(): expected a gradient of shape (1, 1, 2, 2)"),
    (lambda k: k.avg_pool2d(f(1, 1, 4, 4), (2, 2), (2, 2), ZEROS, False, True, 0), "avg_pool2d(): expected divisor_override to be nonzero, got 0"),
    (lambda k: k.avg_pool2d_input_grad(f(1, 1, 2, 3), (1, 1, 4, 4), (2, 2), (2, 2), ZEROS, False, True, None), "avg_pool2d_input_grad(): expected a gradient of shape (1, 1, 2, 2)"),
    (lambda k: k.relu(np.ones(3, int)), "relu(): expected input to be float32 or float64, got int64"),
    (lambda k: k.relu_grad(f(3), f(4)), "relu_grad(): expected grad and result of the same shape, got (3,) and (4,)"),
    (lambda k: k.softmax_grad(f(3), f(1, 3), 0), "softmax_grad(): expected grad and result of the same shape, got (3,) and (1, 3)"),
    (lambda k: k.normalize(f(2, 3), f(2), None, (1, 2), 1, 0.1), "normalize(): expected weight of shape (3,), got (2,) (input (2, 3))"),
    (lambda k: k.normalize(f(2, 3), None, f(3, 1), (1, 2), 1, 0.1), "normalize(): expected bias of shape (3,), got (3, 1) (input (2, 3))"),
    (lambda k: k.normalize(f(2, 3), f(3).astype(float), None, (1, 2), 1, 0.1), "normalize(): expected weight to be float32 like the argument before it, got float64"),
    (lambda k: k.normalize(f(2, 3), None, None, (1, 3), 1, 0.1), "normalize(): expected channels to be axes of an input of shape (2, 3), got (1, 3)"),
    (lambda k: k.normalize(f(2, 3), None, None, (1, 2), 2, 0.1), "normalize(): expected groups to divide the channels (3,), got 2"),
    (lambda k: k.normalize(f(2, 3), None, None, (1, 2), -1, 0.1), "normalize(): expected groups to divide the channels (3,), got -1"),
    (lambda k: k.normalize_grads(f(2, 4), f(2, 3), None, f(2), f(2), (1, 2), 1, 7), "normalize_grads(): expected a gradient of shape (2, 3), got (2, 4)"),
    (lambda k: k.normalize_grads(f(2, 3), f(2, 3), None, f(3), f(2), (1, 2), 1, 7), "normalize_grads(): expected mean to have 2 entries, got shape (3,)"),
    (lambda k: k.normalize_grads(f(2, 3), f(2, 3), None, f(3), f(2), (1, 2), 0, 7), "normalize_grads(): expected rate to have 3 entries, got shape (2,)"),
    (lambda k: k.normalize_grads(f(2, 3), f(2, 3), f(2), f(2), f(2), (1, 2), 1, 7), "normalize_grads(): expected weight of shape (3,), got (2,)"),
    (lambda k: k.normalize_by(f(2, 3), None, None, f(2), f(3), (1, 2), 0.1), "normalize_by(): expected mean of shape (3,), got (2,)"),
    (lambda k: k.normalize_by(f(2, 3), None, None, f(3), f(3, 1), (1, 2), 0.1), "normalize_by(): expected variance of shape (3,), got (3, 1)"),
    (lambda k: k.normalize_by_grads(f(2, 3), None, None, None, f(3), (1, 2), 2), "normalize_by_grads(): expected input and mean for the gradient of weight, got None"),
    (lambda k: k.normalize_by_grads(f(2, 3), f(2, 4), None, f(3), f(3), (1, 2), 2), "normalize_by_grads(): expected a gradient of shape (2, 4), got (2, 3)"),
    (lambda k: k.sgd_step([f(3)], [], None, **SGD), "sgd_step(): expected"),
    (lambda k: k.sgd_step([f(3)], [f(4)], None, **SGD), "sgd_step(): expected params and grads of the same shape, got (3,) and (4,)"),
    (lambda k: k.sgd_step([f(3)], [f(3)], [None], **{**SGD, "momentum": 0.9}), "sgd_step(): expected an array in momentum_buffers for each parameter"),
    (lambda k: k.sgd_step([f(3)], [f(3)], None, **{**SGD, "first": [True, False]}), "sgd_step(): expected 1 values in first, one a parameter, got 2"),
    (lambda k: k.sgd_step([np.broadcast_to(f(1), 3)], [f(3)], None, **SGD), "sgd_step(): expected params to be writable, got a read-only array"),
]  # fmt: skip


@pytest.mark.parametrize(("call", "sentence"), REFUSALS)
def test_a_refusal_names_the_operation_what_was_expected_and_what_came(k, call, sentence):
    with pytest.raises(RuntimeError, match=re.escape(sentence)):
        call(k)


@pytest.mark.parametrize(
    ("call", "sentence"),
    [
        (lambda k: k.relu([1.0]), "relu(): expected input to be a NumPy array, got list"),
        (lambda k: k.matmul(f(2, 2), None), "matmul(): expected b to be a NumPy array, got NoneType"),
        (lambda k: k.conv2d(f(1, 1, 9, 9), f(*W), None, 1, ZEROS, ONES, 1), "conv2d(): expected stride to be a pair of integers, got 1"),
        (lambda k: k.conv2d(f(1, 1, 9, 9), f(*W), None, (1.5, 1), ZEROS, ONES, 1), "conv2d(): expected stride to be a pair of integers, got (1.5, 1)"),
        (lambda k: k.conv2d_weight_grad(f(1, 6, 5, 5), f(1, 1, 9, 9), (6, 1, 5), *CONV), "conv2d_weight_grad(): expected weight_shape to be four integers, got (6, 1, 5)"),
    ],
)  # fmt: skip
def test_an_argument_of_another_type_is_a_type_error(k, call, sentence):
    with pytest.raises(TypeError, match=re.escape(sentence)):
        call(k)


@pytest.mark.parametrize("name", ["softmax", "log_softmax"])
@pytest.mark.parametrize("axis", [2, -3])
def test_an_axis_that_is_not_there_is_an_index_error(k, name, axis):
    with pytest.raises(IndexError, match=re.escape(f"{name}(): expected a dimension in [-2, 1], got {axis}")):
        getattr(k, name)(f(2, 3), axis)


def test_a_step_that_is_refused_has_changed_nothing(k):
    params = [f(3), f(4)]
    with pytest.raises(RuntimeError, match="same shape"):
        k.sgd_step(params, [f(3), f(5)], None, **SGD)
    assert (params[0] == 1).all()
    assert (params[1] == 1).all()


def test_a_frame_too_large_for_any_machine_is_a_memory_error(k):
    # The output is small, but the padded image would have 10¹⁸ entries.
    with pytest.raises(MemoryError):
        k.conv2d(f(1, 1, 3, 3), f(1, 1, 1, 1), None, (2**30, 2**30), (2**30, 2**30), ONES, 1)
