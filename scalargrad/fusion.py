"""A convolution, its relu and its max-pooling, each written on its own, computed as one.

These are the array functions of their rows, and their gradients on arrays. What they give may be `Pending`, and what
they are given may be, too:

    conv2d(x, w, b)   waits if it is much work
    relu(c)           waits if its result is large; with a convolution that waits, it becomes a part of it
    max_pool2d(r)     runs: of a relu that waits, in one pass over c; of a convolution below it, without ever a whole c

On the way back the pooling's gradient waits for relu's derivative, and that for the convolution's. The folded pooling
knows where relu let nothing through, so relu's derivative costs nothing, and the convolution's take the pooling's small
gradient as it is. Bits are those of the separate operations but for the order of the sums in the gradients of weights
and bias, and for three corners: −0 comes out as +0, infinities in rows and columns that no window covers do not reach
the weights' gradient, and a kernel may leave out products of infinite weights with the padding's zeros.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache
from math import prod
from typing import Any

import numpy as np

from scalargrad import kernels
from scalargrad.kernels import (
    conv2d_input_grad,
    conv2d_relu_max_pool2d,
    conv2d_relu_max_pool2d_grads,
    conv2d_weight_grad,
    relu_grad,
    relu_max_pool2d,
    sum_by_channel,
)
from scalargrad.kernels.geometry import check_conv2d
from scalargrad.pending import Pending, elements

Pair = tuple[int, int]

# What computes at once. (A global of the module is had in a tenth of the time of an attribute.)
conv2d_now, relu_now, max_pool2d_now = kernels.conv2d, kernels.relu, kernels.max_pool2d
max_pool2d_input_grad_now, max_pool2d_take_now = kernels.max_pool2d_input_grad, kernels.max_pool2d_take

CONV_WAITS = 700_000
"""A convolution of so many multiply-adds waits, some 10 us of work: to wait costs 3. At batch 8, where LeNet's second
convolution does, its step took 144 us for 161."""
RELU_WAITS = 1 << 17
"""A relu of so many bytes waits. From half of this on, LeNet's step at batch 4 took 145 us for 130."""
LARGEST = 1 << 30
"""A convolution's result of more bytes is computed at once: for lack of memory it should fail where it stands."""


def conv2d(x: Any, w: Any, b: Any, stride: Pair, padding: Pair, dilation: Pair, groups: int) -> Any:
    """The convolution, which waits if it is much work."""
    x, w = elements(x), elements(w)
    if (
        x.ndim != 4
        or x.size * w.size < CONV_WAITS * x.shape[1]  # the products of one of this stride, in one group
        or type(groups) is not int
        or any(a is not None and a.dtype != x.dtype for a in (w, b))
    ):
        return conv2d_now(x, w, b, stride, padding, dilation, groups)
    shape = _conv2d_shape(x.shape, w.shape, stride, padding, dilation, groups, None if b is None else b.shape)
    pending = Pending(conv2d_now, (x, w, b, stride, padding, dilation, groups), shape, x.dtype)
    waits = prod(shape) * w.size >= CONV_WAITS * len(w) and pending.nbytes <= LARGEST and x.dtype.kind == "f"
    return pending if waits else pending.array


@lru_cache(64)  # to check takes 3 us, and the same layer comes again
def _conv2d_shape(x_shape: Any, w_shape: Any, stride: Pair, padding: Pair, dilation: Pair, *rest: Any) -> Any:
    return (x_shape[0], w_shape[0], *check_conv2d("conv2d", x_shape, w_shape, stride, padding, dilation, *rest))


def relu(x: Any) -> Any:
    """max(x, 0), which waits for images that are large."""
    if type(x) is Pending:
        if x.is_waiting and x.run is conv2d_now:
            return Pending(_relu, (x,), x.shape, x.dtype)
        x = x.array
    if x.dtype.kind != "f":
        return np.maximum(x, 0)
    if x.nbytes < RELU_WAITS or x.ndim != 4:
        return relu_now(x)
    return Pending(_relu, (x,), x.shape, x.dtype)


def _relu(x: Any) -> Any:
    """relu of an array; of a convolution that waits, as the convolution's last step."""
    if type(x) is Pending:
        with x.lock:
            if x.is_waiting:
                inputs: list[Any] = [*x.inputs, True]
                return conv2d_now(*inputs)
    return relu_now(elements(x))


class Folded:
    """The winners of a max-pooling that took relu in: their offsets, or the number of taps where relu let none through.

    Then all entries of relu's result were 0, and the first had won.
    """

    __slots__ = ("codes", "n_taps")

    def __init__(self, codes: Any, n_taps: int) -> None:
        self.codes, self.n_taps = codes, n_taps

    @property
    def offsets(self) -> Any:
        """The offsets as a pooling after relu has them."""
        return np.where(self.codes == self.n_taps, self.codes.dtype.type(0), self.codes)


def offsets_of(winners: Any) -> Any:
    """The offsets of a max-pooling's winners, be it folded or not."""
    return winners.offsets if type(winners) is Folded else winners


def max_pool2d(
    x: Any, kernel_size: Pair, stride: Pair, padding: Pair, dilation: Pair, ceil_mode: bool
) -> tuple[Any, Any]:
    """The pooling and its winners; together with a relu that waits, and with the convolution below that."""
    # Where a window can hang over the edge, the first of its zeros need not be its first tap.
    if type(x) is Pending and x.run is _relu and padding == (0, 0) and not ceil_mode:
        with x.lock:  # while the inputs are read nobody gets hold of them
            if x.is_waiting:
                y, codes = _folded(x.inputs[0], [kernel_size, stride, padding, dilation, ceil_mode])
                return y, Folded(codes, kernel_size[0] * kernel_size[1])
    return max_pool2d_now(elements(x), kernel_size, stride, padding, dilation, ceil_mode)


def _folded(source: Any, pooling: list[Any]) -> tuple[Any, Any]:
    """The pooling of relu of an array, or of a convolution that waits."""
    if type(source) is Pending:
        with source.lock:
            if source.is_waiting:
                return conv2d_relu_max_pool2d(*source.inputs, *pooling)
    return relu_max_pool2d(elements(source), *pooling)


def max_pool2d_gradients(
    d: Any, offsets: Any, x_shape: tuple[int, ...], kernel_size: Pair, stride: Pair, padding: Pair, dilation: Pair
) -> Sequence[Any]:
    """The pooling's gradient; of a folded pooling it waits for what relu makes of it."""
    d = elements(d)
    if type(offsets) is not Folded:
        return (max_pool2d_input_grad_now(d, offsets, x_shape, kernel_size, stride, padding, dilation),)
    inputs = (d, offsets, x_shape, kernel_size, stride, padding, dilation)
    return (Pending(max_pool2d_input_grad, inputs, x_shape, d.dtype),)


def max_pool2d_input_grad(d: Any, winners: Any, *geometry: Any) -> Any:
    """The pooling's gradient; of a folded one, the gradient of relu's result."""
    return max_pool2d_input_grad_now(d, offsets_of(winners), *geometry)


def _through_relu(d: Any, winners: Folded, *geometry: Any) -> Any:
    """The gradient of what relu was given."""
    return max_pool2d_input_grad_now(d, winners.codes, *geometry)


def max_pool2d_take(x: Any, winners: Any, *geometry: Any) -> Any:
    """The entries that won."""
    return max_pool2d_take_now(x, offsets_of(winners), *geometry)


def relu_gradients(g: Any, y: Any) -> Sequence[Any]:
    """g where y is positive, else 0. A folded pooling's gradient has been there already, and waits on.

    Unless somebody has seen y, for then it may have been written to.
    """
    unseen = type(y) is Pending and y.is_waiting
    if unseen and type(g) is Pending and g.is_waiting and g.run is max_pool2d_input_grad:
        return (Pending(_through_relu, g.inputs, g.shape, g.dtype),)
    return (relu_grad(elements(g), elements(y)),)


def conv2d_gradients(
    d: Any,
    x: Any,
    w: Any,
    x_shape: tuple[int, ...],
    w_shape: tuple[int, ...],
    stride: Pair,
    padding: Pair,
    dilation: Pair,
    groups: int,
    wanted: int,
) -> Sequence[Any]:
    """The convolution's gradients for input, weight and bias; from a folded pooling's, image by image."""
    for_x, for_w, for_b = wanted & 1 != 0, wanted & 2 != 0, wanted & 4 != 0
    if (for_x or for_w) and _is_folded(d):
        g, winners, _, *pooling = d.inputs
        # Of what is not there, only the shape counts here.
        x = elements(x) if for_w else np.broadcast_to(g.dtype.type(0), x_shape)
        w = elements(w) if for_x else np.broadcast_to(g.dtype.type(0), w_shape)
        geometry: list[Any] = [stride, padding, dilation, groups, *pooling, False, for_x, for_w, for_b]
        grads = conv2d_relu_max_pool2d_grads(g, winners.codes, x, w, *geometry)
        return [grad for grad in grads if grad is not None]
    d = elements(d)
    found = []
    if for_x:
        found.append(conv2d_input_grad(d, elements(w), x_shape, stride, padding, dilation, groups))
    if for_w:
        found.append(conv2d_weight_grad(d, elements(x), w_shape, stride, padding, dilation, groups))
    if for_b:
        found.append(sum_by_channel(d))
    return found


def _is_folded(d: Any) -> bool:
    return type(d) is Pending and d.is_waiting and d.run is _through_relu
