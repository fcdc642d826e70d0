"""The products that everything in linear algebra is made of: matrix by matrix, batch by batch, and fully connected."""

from __future__ import annotations

from typing import Any

import numpy as np

from scalargrad import kernels
from scalargrad.kernels import linear, linear_input_grad, linear_weight_grad, matmul, sum_over
from scalargrad.kernels.geometry import check_linear, check_matmul
from scalargrad.operation import Op
from scalargrad.ops.shape import shaping
from scalargrad.ops.summation import summing


def _product(a: Any, b: Any) -> Any:
    """a @ b. The kernels multiply floats, and refuse what does not fit together; NumPy multiplies integers."""
    if a.dtype.kind == "f" or a.dtype != b.dtype:
        return matmul(a, b)
    _refuse_bool(a)
    check_matmul("matmul", a.shape, b.shape)
    return np.matmul(a, b)


def _linear(bias: Any, x: Any, w: Any) -> Any:
    if x.dtype.kind == "f" or x.dtype != w.dtype:
        return linear(x, w, bias)
    _refuse_bool(x)
    check_linear("linear", x.shape, w.shape, None if bias is None else bias.shape)
    y = np.matmul(x, w.T)
    return y if bias is None else y + bias


def _refuse_bool(x: Any) -> None:
    if x.dtype.kind == "b":
        raise NotImplementedError("a matrix product is not implemented for bool")


def _addmm(x: Any, a: Any, b: Any, beta: float, alpha: float) -> Any:
    y = _product(a, b)
    if alpha != 1:
        y *= alpha
    if beta != 0:  # otherwise not even nan comes through
        y += x if beta == 1 else x * beta
    return y


def _linear_gradients(g: Any, x: Any, w: Any, wanted: int) -> list[Any]:
    """Of bias, input and weight."""
    found = []
    if wanted & 1:
        found.append(sum_over(g, (0,), False))
    if wanted & 2:
        found.append(linear_input_grad(g, w))
    if wanted & 4:
        found.append(linear_weight_grad(g, x))
    return found


class multiplying:
    """The rows. Vectors come in as matrices; the batch dimensions of `bmm` broadcast."""

    mm = Op(
        None,
        _product,
        "a b",
        lambda g, b: multiplying.mm(g, shaping.t(b)),
        lambda g, a: multiplying.mm(shaping.t(a), g),
    )
    bmm = Op(
        None,
        _product,
        "a b",
        lambda g, b: multiplying.bmm(g, shaping.transpose(b, -1, -2)),
        lambda g, a: multiplying.bmm(shaping.transpose(a, -1, -2), g),
        fits=True,
    )
    mv = Op(
        None,
        _product,
        "a v",
        lambda g, v: shaping.unsqueeze(g, 1) * v,
        lambda g, a: multiplying.mv(shaping.t(a), g),
    )
    vm = Op(
        None,
        _product,
        "v a",
        lambda g, a: multiplying.mv(a, g),
        lambda g, v: shaping.unsqueeze(v, 1) * g,
        name="squeeze",
    )
    dot = Op(None, _product, "a b", lambda g, b: g * b, lambda g, a: g * a)
    addmm = Op(
        None,
        _addmm,
        "x a b beta alpha",
        lambda g, beta: g * beta,
        lambda g, b, alpha: multiplying.mm(g, shaping.t(b)) * alpha,
        lambda g, a, alpha: multiplying.mm(shaping.t(a), g) * alpha,
        fits=True,
    )
    linear = Op(
        None,
        _linear,
        "bias x w",
        lambda g: summing.sum(g, (0,), False),
        lambda g, w: multiplying.linear_input_grad(g, w),
        lambda g, x: multiplying.linear_weight_grad(g, x),
        gradients=_linear_gradients,
        name="addmm",
    )
    linear_without_bias = Op(
        None,
        lambda x, w: _linear(None, x, w),
        "x w",
        lambda g, w: multiplying.linear_input_grad(g, w),
        lambda g, x: multiplying.linear_weight_grad(g, x),
        gradients=lambda g, x, w, wanted: _linear_gradients(g, x, w, wanted << 1),
        name="mm",
    )
    linear_input_grad = Op(
        None,
        kernels.linear_input_grad,
        "g_y w",
        lambda g, w: multiplying.linear_without_bias(g, w),
        lambda g, g_y: multiplying.linear_weight_grad(g_y, g),
        name="mm",
    )
    linear_weight_grad = Op(
        None,
        kernels.linear_weight_grad,
        "g_y x",
        lambda g, x: multiplying.linear_without_bias(x, g),
        lambda g, g_y: multiplying.linear_input_grad(g_y, g),
        name="mm",
    )
