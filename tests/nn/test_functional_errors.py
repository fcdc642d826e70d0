"""What torch.nn.functional's functions refuse: PyTorch's exception, and what was expected and what came."""

import re

import numpy as np
import pytest

import scalargrad
from scalargrad import float64
from scalargrad.nn import functional as F

x = scalargrad.ones(8, 3, 28, 28)
w = scalargrad.ones(6, 3, 5, 5)
vector = scalargrad.ones(4)
counts = scalargrad.tensor([1, 2, 3])
scores, labels = scalargrad.ones(2, 10), scalargrad.tensor([3, 9])
three = scalargrad.ones(3)
table = scalargrad.ones(5, 2)


REFUSED = {
    TypeError: [
        (F.conv2d, ([1.0], w), {}, "conv2d(): argument 'input' must be Tensor, not list"),
        (F.conv2d, (x, np.ones((6, 3, 5, 5))), {}, "conv2d(): argument 'weight' must be Tensor, not ndarray"),
        (F.conv2d, (x, w), {"stride": "2"}, "conv2d(): argument 'stride' must be an int or two ints, got '2'"),
        (F.conv2d, (x, w), {"dilation": 1.5}, "conv2d(): argument 'dilation' must be an int or two ints, got 1.5"),
        (F.conv1d, ([1.0], w), {}, "conv1d(): argument 'input' must be Tensor, not list"),
        (F.conv1d, (x, w), {"stride": 1.5}, "conv1d(): argument 'stride' must be an int or one int, got 1.5"),
        (F.conv_transpose2d, (x, None), {}, "conv_transpose2d(): argument 'weight' must be Tensor, not NoneType"),
        (F.conv_transpose1d, (x, w, [1.0]), {}, "conv_transpose1d(): argument 'bias' must be Tensor, not list"),
        (F.max_pool2d, (x, (2, 2.0)), {}, "max_pool2d(): argument 'kernel_size' must be an int or two ints"),
        (F.max_pool2d, (None, 2), {}, "max_pool2d(): argument 'input' must be Tensor, not NoneType"),
        (F.avg_pool2d, (3, 2), {}, "avg_pool2d(): argument 'input' must be Tensor, not int"),
        (F.adaptive_avg_pool2d, (x, 2.5), {}, "argument 'output_size' must be an int or two ints"),
        (F.relu, ([1],), {}, "relu(): argument 'input' must be Tensor, not list"),
        (F.elu, ([1],), {}, "elu(): argument 'input' must be Tensor, not list"),
        (F.softmax, ([1], 0), {}, "softmax(): argument 'input' must be Tensor, not list"),
        (F.softmax, (vector, 0), {"dtype": "float16"}, "softmax(): expected one of float32"),
        (F.mse_loss, ([1.0], vector), {}, "mse_loss(): argument 'input' must be Tensor, not list"),
        (F.mse_loss, (vector, 1.0), {}, "mse_loss(): argument 'target' must be Tensor, not float"),
        (F.cross_entropy, (scores, [3, 9]), {}, "cross_entropy(): argument 'target' must be Tensor, not list"),
        (F.batch_norm, ([1.0], None, None), {}, "batch_norm(): argument 'input' must be Tensor, not list"),
        (F.batch_norm, (x, [0.0] * 3, three), {}, "batch_norm(): argument 'running_mean' must be Tensor, not list"),
        (F.layer_norm, (scores, 10), {}, "layer_norm(): argument 'normalized_shape' must be tuple of ints, not int"),
        (F.embedding, ([1], table), {}, "embedding(): argument 'input' must be Tensor, not list"),
        (F.one_hot, ([1],), {}, "one_hot(): argument 'input' must be Tensor, not list"),
    ],
    IndexError: [
        (F.softmax, (scores, 2), {}, "softmax(): Dimension out of range (expected to be in range of [-2, 1]"),
        (F.log_softmax, (scores, -3), {}, "Dimension out of range (expected to be in range of [-2, 1], but got -3)"),
        (F.cross_entropy, (scores, scalargrad.tensor([3, 10])), {}, "Target 10 is out of bounds."),
        (F.cross_entropy, (scores, scalargrad.tensor([-1, 0])), {}, "Target -1 is out of bounds."),
        (F.nll_loss, (scores, scalargrad.tensor([-100, 10])), {}, "Target 10 is out of bounds."),
        (F.nll_loss, (scores, scalargrad.tensor([-100, 0])), {"ignore_index": 0}, "Target -100 is out of bounds."),
        (F.embedding, (scalargrad.tensor([0, 5]), table), {}, "index out of range in self: 5 for a table of 5 rows"),
        (F.embedding, (scalargrad.tensor([-1]), table), {}, "index out of range in self: -1 for a table of 5 rows"),
        (F.normalize, (scores,), {"dim": 5}, "normalize(): Dimension out of range"),
    ],
    ValueError: [
        (F.mse_loss, (vector, vector), {"reduction": "avg"}, "avg is not a valid value for reduction"),
        (F.l1_loss, (vector, vector), {"reduction": "batchmean"}, "batchmean is not a valid value for reduction"),
        (F.nll_loss, (scores, labels), {"reduction": None}, "None is not a valid value for reduction"),
        (F.cross_entropy, (scores, labels), {"reduction": ""}, " is not a valid value for reduction"),
        (F.cross_entropy, (scores, counts), {}, "Expected input batch_size (2) to match target batch_size (3)."),
        (F.cross_entropy, (scores.sum(), labels), {}, "expected an input of shape (C), (N, C) or (N, C, …), got ()"),
        (
            F.binary_cross_entropy, (vector, three), {},
            "binary_cross_entropy(): expected input and target of the same shape, got (4,) and (3,)",
        ),
        (F.binary_cross_entropy_with_logits, (vector, vector[:1]), {}, "of the same shape, got (4,) and (1,)"),
        (F.dropout, (vector, 1.5), {}, "dropout probability has to be between 0 and 1, but got 1.5"),
        (F.dropout2d, (x, -1), {}, "dropout probability has to be between 0 and 1, but got -1"),
        (
            F.batch_norm, (scalargrad.ones(1, 3), None, None), {"training": True},
            "Expected more than 1 value per channel when training, got input size torch.Size([1, 3])",
        ),
        (F.group_norm, (x[:1, :2, 0, 0], 2), {}, "Expected more than 1 value per channel when training"),
        (F.hardtanh, (vector, 2.0, 1.0), {}, "hardtanh(): min_val cannot be greater than max_val, got 2.0 and 1.0"),
        (F.embedding, (labels, table), {"padding_idx": 5}, "padding_idx must be within the 5 rows, got 5"),
        (F.interpolate, (x,), {}, "interpolate(): exactly one of size and scale_factor must be defined"),
        (F.interpolate, (x, 2, 2.0), {}, "interpolate(): exactly one of size and scale_factor must be defined"),
        (F.interpolate, (x, (1, 2, 3)), {}, "has 2 dimensions to resize, got [1, 2, 3]"),
        (F.pad, (x, (1, 1), "reflect", 2.0), {}, 'Padding mode "reflect" doesn\'t take in value argument'),
    ],
    NotImplementedError: [
        (F.pad, (x, (1, 1), "mirror"), {}, "pad(): Unrecognised padding mode mirror; expected constant, reflect"),
        (F.interpolate, (x, 3), {"mode": "bicubic"}, "expected mode nearest or nearest-exact, got 'bicubic'"),
    ],
    RuntimeError: [
        (F.linear, (scores, scores[0], scores[0]), {}, "linear(): expected weight to be a matrix where there"),
        (
            F.conv2d, (x, scalargrad.ones(6, 1, 5, 5)), {},
            "conv2d(): input has 3 channels but weight expects 1 "
            "(input (8, 3, 28, 28), weight (6, 1, 5, 5), groups=1)",
        ),
        (F.conv2d, (x, w, three), {}, "conv2d(): expected a bias of shape (6,), got (3,)"),
        (F.conv2d, (x, w), {"groups": 4}, "conv2d(): expected groups to divide the 6 output channels"),
        (F.conv2d, (x, w.double()), {}, "float64"),
        (F.conv2d, (x.long(), w), {}, "conv2d(): expected input to be float32 or float64, got int64"),
        (F.conv2d, (x, scalargrad.ones(6, 3, 30, 5)), {}, "kernel size can't be greater than input size"),
        (F.conv2d, (vector, w), {}, "conv2d(): expected a 4D input and a 4D weight"),
        (F.conv1d, (scores, w), {}, "conv1d(): expected a 3D input and a 3D weight, got (input (1, 2, 10)"),
        (F.conv1d, (x[0], w[0]), {}, "conv1d(): input has 28 channels but weight expects 5 (input (3, 28, 28)"),
        (F.conv1d, (scores, w[0, :, :2]), {"padding": "full"}, "conv1d(): Invalid padding string: 'full'"),
        (F.conv1d, (scores, w[0, :, :2]), {"padding": "same", "stride": 2}, "not supported for strided convolutions"),
        (F.conv_transpose2d, (vector, w), {}, "conv_transpose2d(): expected a 4D input and a 4D weight"),
        (F.conv_transpose2d, (x, w), {}, "conv_transpose2d(): input has 3 channels but weight expects 6"),
        (F.conv_transpose2d, (x, w[:3]), {"groups": 2}, "expected groups to divide the 3 input channels"),
        (F.conv_transpose2d, (x, w[:3], vector), {}, "expected a bias of shape (3,), got (4,)"),
        (F.conv_transpose2d, (x, w[:3]), {"stride": 0}, "expected stride to be at least 1, got 0"),
        (F.conv_transpose2d, (x, w[:3]), {"padding": 40}, "output size is too small: it would be -48 × -48"),
        (
            F.conv_transpose2d, (x, w[:3]), {"output_padding": 1},
            "output padding must be smaller than either stride or dilation, but got output_padding=(1, 1)",
        ),
        (F.conv_transpose2d, (x, w[:3, :, :0]), {}, "expected a kernel of at least 1 × 1"),
        (F.conv_transpose1d, (scores, w[:2, :, 0]), {"stride": (1, 2)}, "expected stride to be one integer"),
        (F.conv2d, (x, vector), {"padding": "same"}, "conv2d(): expected a 4D input and a 4D weight"),
        (F.conv2d, (x, w), {"stride": 0}, "conv2d(): expected stride to be at least 1, got (0, 0)"),
        (F.conv2d, (x, w), {"padding": -1}, "conv2d(): expected padding to be at least 0, got (-1, -1)"),
        (F.conv2d, (x, w), {"stride": (1, 2, 3)}, "expected stride to be one integer or two, got [1, 2, 3]"),
        (F.conv2d, (x, w), {"padding": "full"}, "Invalid padding string: 'full', expected 'valid' or 'same'"),
        (F.conv2d, (x, w), {"padding": "same", "stride": 2}, "padding='same' is not supported for strided conv"),
        (F.max_pool2d, (vector, 2), {}, "Expected 3D or 4D (batch mode) tensor with optional"),
        (F.max_pool2d, (x[:, :, :0], 3), {"padding": 1}, "batch size for input, but got shape (8, 3, 0, 28)"),
        (F.avg_pool2d, (x[:, :0], 3), {"padding": 1}, "batch size for input, but got shape (8, 0, 28, 28)"),
        (F.max_pool2d, (x, 2), {"padding": 2}, "pad should be at most half of effective kernel size"),
        (F.max_pool2d, (x, 30), {}, "max_pool2d(): output size is too small"),
        (F.max_pool2d, (x.long(), 2), {}, "max_pool2d(): expected input to be float32 or float64, got int64"),
        (F.avg_pool2d, (x, 2), {"padding": 2}, "avg_pool2d(): pad should be at most half of effective kernel size"),
        (F.avg_pool2d, (x, 2), {"divisor_override": 0}, "expected divisor_override to be nonzero, got 0"),
        (F.adaptive_avg_pool2d, (x[:, :, :0], 2), {}, "batch size for input, but got shape (8, 3, 0, 28)"),
        (F.adaptive_avg_pool2d, (x, (1, 2, 3)), {}, "output_size must be one integer or two, got (1, 2, 3)"),
        (F.adaptive_max_pool2d, (x, -1), {}, "output_size must be greater than or equal to 0, got (-1, -1)"),
        (F.softmax, (counts, 0), {}, "softmax(): expected input to be float32 or float64, got int64"),
        (F.elu, (counts,), {}, "elu(): expected a floating point tensor, got int64"),
        (F.relu6, (counts,), {}, "expected a floating point tensor, got int64"),
        (F.gelu, (vector,), {"approximate": "erf"}, "approximate argument must be either none or tanh, got 'erf'"),
        (F.glu, (three,), {}, "glu(): Halving dimension must be even, but dimension 0 of (3,) is not"),
        (F.dropout, (counts,), {}, "dropout(): expected a floating point tensor, got int64"),
        (F.dropout2d, (vector,), {}, "dropout2d(): expected a 3D or 4D input, got shape (4,)"),
        (F.mse_loss, (vector, vector[:1]), {}, "mse_loss(): expected input and target of the same shape, got (4,)"),
        (F.l1_loss, (scores, three), {}, "input and target of the same shape, got (2, 10) and (3,)"),
        (F.mse_loss, (counts, counts), {}, "mse_loss(): expected floating point tensors, got int64 and int64"),
        (F.smooth_l1_loss, (vector, vector), {"beta": -1}, "does not support negative values for beta, got -1"),
        (F.huber_loss, (vector, vector), {"delta": 0}, "does not support non-positive values for delta, got 0"),
        (F.binary_cross_entropy, (vector * 2, vector), {}, "all elements of input should be between 0 and 1"),
        (F.binary_cross_entropy, (vector * float("nan"), vector), {}, "input should be between 0 and 1"),
        (F.binary_cross_entropy, (vector, vector, three), {}, "to broadcast to the input's shape (4,), got (3,)"),
        (
            F.binary_cross_entropy_with_logits, (three[0], three[0]), {"pos_weight": three},
            "expected pos_weight to broadcast to the input's shape (), got (3,)",
        ),
        (F.cross_entropy, (counts, counts[0]), {}, "cross_entropy(): expected a floating point tensor, got int64"),
        (F.cross_entropy, (scores, labels, three), {}, "weight tensor should be defined either for all 10 classes"),
        (F.cross_entropy, (scores, labels), {"label_smoothing": 1.5}, "must be between 0.0 and 1.0. Got: 1.5"),
        (F.cross_entropy, (scores, scores[:1]), {}, "in the input's shape (2, 10), got float32 of shape (1, 10)"),
        (F.cross_entropy, (scores, scores), {"ignore_index": 1}, "ignore_index is not supported for float"),
        (F.cross_entropy, (scores, labels.reshape(2, 1)), {}, "a target of shape (2,) for an input of shape (2, 10)"),
        (F.nll_loss, (scores, labels.float()), {}, "nll_loss(): expected a target of integers, got float32"),
        (F.batch_norm, (x, None, None), {}, "Expected running_mean and running_var to be defined in evaluation mode"),
        (F.batch_norm, (x, three, vector), {}, "expected running_var of shape (3,), got (4,) (input (8, 3, 28, 28))"),
        (F.batch_norm, (x, three, three.double()), {}, "running_var to have the input's dtype float32, got float64"),
        (F.batch_norm, (vector, None, None), {}, "expected an input of at least 2 dimensions, got shape (4,)"),
        (F.batch_norm, (counts, None, None), {}, "batch_norm(): expected a floating point tensor, got int64"),
        (F.layer_norm, (scores, (5,)), {}, "Given normalized_shape=[5], expected input with shape ['*', 5]"),
        (F.layer_norm, (scores, (10,), three), {}, "layer_norm(): expected weight of shape (10,), got (3,)"),
        (F.group_norm, (x, 2), {}, "Expected number of channels in input to be divisible by num_groups"),
        (F.embedding, (vector, table), {}, "embedding(): expected a tensor of integers, got float32"),
        (F.embedding, (labels, vector), {}, "embedding(): 'weight' must be 2-D, got shape (4,)"),
        (F.one_hot, (vector,), {}, "one_hot(): expected a tensor of integers, got float32"),
        (F.one_hot, (-counts,), {}, "one_hot(): Class values must be non-negative, got -3"),
        (F.one_hot, (counts, 3), {}, "Class values must be smaller than num_classes, got 3 for 3 classes"),
        (F.one_hot, (counts[:0],), {}, "Can not infer total number of classes from empty tensor."),
        (F.one_hot, (counts, 0), {}, "num_classes should be positive, got 0"),
        (F.pad, (x, (1,)), {}, "pad(): Padding length must be divisible by 2, got [1]"),
        (F.pad, (vector, (1, 1, 1, 1)), {}, "got padding length 4 and input of dimension 1"),
        (F.pad, (vector, (-3, -2)), {}, "gives sizes [-1]"),
        (F.pad, (vector, (4, 0), "reflect"), {}, "at most 3 for mode reflect in dimension 0 of size 4, got (4, 0)"),
        (F.pad, (vector, (5, 0), "circular"), {}, "at most 4 for mode circular in dimension 0 of size 4, got (5, 0)"),
        (F.interpolate, (x, 0), {}, "input and output sizes should be greater than 0, got 28 and 0"),
    ],
}  # fmt: skip


@pytest.mark.parametrize(
    ("error", "function", "arguments", "options", "message"),
    [(error, *row) for error, rows in REFUSED.items() for row in rows],
)
def test_bad_arguments_are_refused_in_words(error, function, arguments, options, message):
    with pytest.raises(error, match=re.escape(message)) as refusal:
        function(*arguments, **options)
    assert refusal.type is error


def test_what_is_refused_leaves_running_statistics_alone():
    mean, var = scalargrad.zeros(3, dtype=float64), scalargrad.ones(3, dtype=float64)
    with pytest.raises(ValueError, match="Expected more than 1 value per channel"):
        F.batch_norm(scalargrad.ones(1, 3, dtype=float64), mean, var, training=True)
    assert mean.tolist() == [0] * 3
    assert var.tolist() == [1] * 3
