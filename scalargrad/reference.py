"""What each structured operation means: loops over numbers, and nothing else. The specification, and it runs.

A tensor is a number or a list of tensors, a number is a float or a Value. On floats these functions are the forward
pass; on Values what comes back is a graph, whose `backward()` is what a gradient means in this library. There is no
derivative here, no NumPy, and no formula that a kernel uses: the kernels are tested against this file.

Names, defaults and edges are PyTorch's. Images are (N, C, H, W). Lists that do not fit together raise ValueError.
"""

import math
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any, TypeAlias

from scalargrad.rules import ops

Numbers: TypeAlias = Any
"""A number, or a list of Numbers that are all of one shape; None where an operand is left out."""
Pair: TypeAlias = int | tuple[int, int]
"""One size for both directions, or (vertical, horizontal)."""


def shape(x: Numbers) -> tuple[int, ...]:
    """The lengths of the lists, from the outside in; () for a number."""
    return (len(x), *(shape(x[0]) if x else ())) if isinstance(x, list | tuple) else ()


def grid(entry: Callable[..., Any], *sizes: int) -> Numbers:
    """The tensor of these sizes whose number at (i, j, …) is entry(i, j, …)."""
    return [grid(partial(entry, i), *sizes[1:]) for i in range(sizes[0])] if sizes else entry()


def each(f: Callable[..., Any], *xs: Numbers, rank: int = 0) -> Numbers:
    """f of what stands at the same place in all of `xs`: numbers, or with rank=1 the lines of the first of them."""
    if len(shape(xs[0])) <= rank:
        return f(*xs)
    return [each(f, *parts, rank=rank) for parts in zip(*xs, strict=True)]


def flat(x: Numbers) -> list[Any]:
    """The numbers of x in order, in one list."""
    return [number for part in x for number in flat(part)] if isinstance(x, list | tuple) else [x]


def to_last(x: Numbers, dim: int) -> Numbers:
    """x with dimension `dim` moved to the end."""
    if dim > 0:
        return [to_last(part, dim - 1) for part in x]
    return [to_last(part, 0) for part in zip(*x, strict=True)] if len(shape(x)) > 1 else list(x)


def from_last(x: Numbers, dim: int) -> Numbers:
    """x with the last dimension moved to `dim`: undoes `to_last`."""
    if dim > 0:
        return [from_last(part, dim - 1) for part in x]
    return [list(part) for part in zip(*(from_last(p, 0) for p in x), strict=True)] if len(shape(x)) > 1 else x


def along(f: Callable[..., Any], x: Numbers, dim: int) -> Numbers:
    """x with each line along `dim` replaced by f of it."""
    dim %= len(shape(x))
    return from_last(each(f, to_last(x, dim), rank=1), dim)


def dot(a: Sequence[Any], b: Sequence[Any]) -> Any:
    """Σ a_k b_k."""
    return sum(p * q for p, q in zip(a, b, strict=True))


def mean(numbers: Sequence[Any]) -> Any:
    """Their sum over their count; nan if there are none."""
    return ops.div(sum(numbers), len(numbers))


def reduced(losses: Numbers, reduction: str, weights: Numbers = None) -> Numbers:
    """The losses as they are ("none"), their "sum", or their "mean", which divides by the weights if there are any."""
    if reduction == "none":
        return losses
    if reduction == "sum":
        return sum(flat(losses))
    if reduction == "mean":
        return mean(flat(losses)) if weights is None else ops.div(sum(flat(losses)), sum(weights))
    raise ValueError(f"{reduction!r} is not a reduction: expected 'none', 'mean' or 'sum'")


def matmul(a: Numbers, b: Numbers) -> Numbers:
    """The matrix product; vectors, and batches of matrices, as in torch.matmul.

    Shapes: (K) (K) → (); (M, K) (K) → (M); (K) (K, N) → (N); (…, M, K) (…, K, N) → (…, M, N), where … broadcasts.
    """
    m, n = len(shape(a)), len(shape(b))
    if m == 1 and n == 1:
        return dot(a, b)
    if m == 1 and n == 2:
        return [dot(a, column) for column in zip(*b, strict=True)]
    if n <= 2 or m > n:
        return [matmul(part, b) for part in a]
    if m < n:
        return [matmul(a, part) for part in b]
    if len(a) == 1 or len(b) == 1:
        a, b = a * len(b), b * len(a)
    return [matmul(p, q) for p, q in zip(a, b, strict=True)]


def linear(x: Numbers, w: Numbers, bias: Numbers = None) -> Numbers:
    """y_m = Σ_k x_k w_mk + bias_m.

    Shapes: x (…, K), w (M, K), bias (M) → (…, M).
    """
    biases = [0.0] * len(w) if bias is None else bias
    return along(lambda line: [dot(line, row) + b for row, b in zip(w, biases, strict=True)], x, -1)


def pair(size: Pair) -> tuple[int, int]:
    """(vertical, horizontal)."""
    return (size, size) if isinstance(size, int) else size


def windows(
    size: int, kernel: int, stride: int, padding: int, dilation: int = 1, ceil_mode: bool = False
) -> list[range]:
    """The positions under each window that slides over `size` numbers. Those below 0 or from `size` on are padding.

    A window lies within the padding. With `ceil_mode` one more may stick out, if it does not start beyond the numbers.
    """
    span = dilation * (kernel - 1) + 1
    end = size + padding - span + 1
    starts = range(-padding, min(end + stride - 1, size) if ceil_mode else end, stride)
    return [range(start, start + span, dilation) for start in starts]


def conv2d(
    x: Numbers,
    w: Numbers,
    bias: Numbers = None,
    stride: Pair = 1,
    padding: Pair = 0,
    dilation: Pair = 1,
    groups: int = 1,
) -> Numbers:
    """y_nopq = bias_o + Σ_irs x_n,c(i),h(p,r),v(q,s) · w_oirs, a cross-correlation; padding is left out of the sum.

    Shapes: x (N, C, H, W), w (O, C / groups, R, S), bias (O) → (N, O, P, Q).
    Groups: the outputs are cut into `groups` equal runs, and so are the channels; a run of outputs sees its own.
    """
    (N, C, H, W), (O, I, R, S) = shape(x), shape(w)
    if I * groups != C or O % groups:
        raise ValueError(f"conv2d: {C} channels and {O} outputs in {groups} groups do not fit a weight {shape(w)}")
    (down, across), (above, left), (dy, dx) = pair(stride), pair(padding), pair(dilation)
    rows, columns = windows(H, R, down, above, dy), windows(W, S, across, left, dx)

    def entry(n: int, o: int, p: int, q: int) -> Any:
        first = o // (O // groups) * I
        products = [
            x[n][first + i][h][v] * w[o][i][r][s]
            for i in range(I)
            for r, h in enumerate(rows[p])
            for s, v in enumerate(columns[q])
            if 0 <= h < H and 0 <= v < W
        ]
        return sum(products) if bias is None else sum(products) + bias[o]

    return grid(entry, N, O, len(rows), len(columns))


def conv_transpose2d(
    x: Numbers,
    w: Numbers,
    bias: Numbers = None,
    stride: Pair = 1,
    padding: Pair = 0,
    output_padding: Pair = 0,
    groups: int = 1,
    dilation: Pair = 1,
) -> Numbers:
    """y_nopq = bias_o + Σ x_nchv · w_c,o(i),rs, where p = h·stride − padding + r·dilation, and q likewise.

    Shapes: x (N, C, H, W), w (C, O / groups, R, S), bias (O) → (N, O, P, Q),
    P = (H − 1)·stride − 2·padding + dilation·(R − 1) + output_padding + 1.
    """
    (N, C, H, W), (_, I, R, S) = shape(x), shape(w)
    (down, across), (above, left), (more, wider) = pair(stride), pair(padding), pair(output_padding)
    dy, dx = pair(dilation)
    P, Q = (H - 1) * down - 2 * above + dy * (R - 1) + more + 1, (W - 1) * across - 2 * left + dx * (S - 1) + wider + 1

    def entry(n: int, o: int, p: int, q: int) -> Any:
        first = o // I * (C // groups)
        products = [
            x[n][c][h][v] * w[c][o % I][r][s]
            for c in range(first, first + C // groups)
            for h in range(H)
            for v in range(W)
            for r in range(R)
            for s in range(S)
            if h * down - above + r * dy == p and v * across - left + s * dx == q
        ]
        return sum(products) if bias is None else sum(products) + bias[o]

    return grid(entry, N, I * groups, P, Q)


def first_largest(numbers: Sequence[Any]) -> Any:
    """The largest number, the first of equals; a nan wins over all before it. -inf if there are none."""
    largest: Any = None
    for number in numbers:
        if largest is None or number > largest or math.isnan(number):
            largest = number
    return -math.inf if largest is None else largest


def max_pool2d(
    x: Numbers,
    kernel_size: Pair,
    stride: Pair | None = None,
    padding: Pair = 0,
    dilation: Pair = 1,
    ceil_mode: bool = False,
) -> Numbers:
    """The largest number of each window; `stride` is the kernel's size unless given. Padding is never chosen.

    Shapes: x (N, C, H, W) → (N, C, P, Q).
    """
    (N, C, H, W), (R, S) = shape(x), pair(kernel_size)
    (down, across), (above, left), (dy, dx) = pair(stride or kernel_size), pair(padding), pair(dilation)
    rows, columns = windows(H, R, down, above, dy, ceil_mode), windows(W, S, across, left, dx, ceil_mode)

    def entry(n: int, c: int, p: int, q: int) -> Any:
        return first_largest([x[n][c][h][v] for h in rows[p] for v in columns[q] if 0 <= h < H and 0 <= v < W])

    return grid(entry, N, C, len(rows), len(columns))


def avg_pool2d(
    x: Numbers,
    kernel_size: Pair,
    stride: Pair | None = None,
    padding: Pair = 0,
    ceil_mode: bool = False,
    count_include_pad: bool = True,
    divisor_override: int | None = None,
) -> Numbers:
    """The sum of each window over `divisor_override`, or else over how many positions it covers.

    Padding counts as positions unless `count_include_pad` is False; what `ceil_mode` adds beyond it never does.
    Shapes: x (N, C, H, W) → (N, C, P, Q).
    """
    (N, C, H, W), (R, S) = shape(x), pair(kernel_size)
    (down, across), (above, left) = pair(stride or kernel_size), pair(padding)
    rows = windows(H, R, down, above, ceil_mode=ceil_mode)
    columns = windows(W, S, across, left, ceil_mode=ceil_mode)

    def entry(n: int, c: int, p: int, q: int) -> Any:
        numbers = [x[n][c][h][v] for h in rows[p] for v in columns[q] if 0 <= h < H and 0 <= v < W]
        covered = [(h, v) for h in rows[p] for v in columns[q] if h < H + above and v < W + left]
        return ops.div(sum(numbers), divisor_override or len(covered if count_include_pad else numbers))

    return grid(entry, N, C, len(rows), len(columns))


def adaptive_avg_pool2d(x: Numbers, output_size: Pair) -> Numbers:
    """The mean of each of P · Q windows: window p of P over H rows goes from ⌊p·H / P⌋ up to ⌈(p + 1)·H / P⌉.

    Shapes: x (N, C, H, W) → (N, C, P, Q) for output_size (P, Q).
    """
    (N, C, H, W), (P, Q) = shape(x), pair(output_size)

    def entry(n: int, c: int, p: int, q: int) -> Any:
        rows = x[n][c][p * H // P : math.ceil((p + 1) * H / P)]
        return mean([number for row in rows for number in row[q * W // Q : math.ceil((q + 1) * W / Q)]])

    return grid(entry, N, C, P, Q)


def log_softmax(x: Numbers, dim: int) -> Numbers:
    """x − log Σ exp(x) along `dim`, computed on x less its largest number, so that nothing overflows."""

    def of_line(line: Sequence[Any]) -> list[Any]:
        shift = float(max(line))  # a mere number: it cancels, whatever it is
        logarithm = ops.log(sum(ops.exp(number - shift) for number in line))
        return [number - shift - logarithm for number in line]

    return along(of_line, x, dim)


def softmax(x: Numbers, dim: int) -> Numbers:
    """exp(x) / Σ exp(x) along `dim`, computed on x less its largest number, so that nothing overflows."""

    def of_line(line: Sequence[Any]) -> list[Any]:
        shift = float(max(line))
        powers = [ops.exp(number - shift) for number in line]
        total = sum(powers)
        return [power / total for power in powers]

    return along(of_line, x, dim)


def nll_loss(
    log_p: Numbers, target: Numbers, weight: Numbers = None, ignore_index: int = -100, reduction: str = "mean"
) -> Numbers:
    """−weight_t · log_p_t for each sample, t its target class; 0 where t is `ignore_index`.

    The mean divides by the sum of the weights of the targets that count, so that it is nan if none does.
    Shapes: log_p (C), (N, C) or (N, C, …), target the same without C. Raises IndexError for a target outside 0 … C − 1.
    """
    return cross_entropy_of(log_p, target, weight, ignore_index, reduction, label_smoothing=0.0)


def cross_entropy(
    x: Numbers,
    target: Numbers,
    weight: Numbers = None,
    ignore_index: int = -100,
    reduction: str = "mean",
    label_smoothing: float = 0.0,
) -> Numbers:
    """−Σ_c weight_c · p_c · log_softmax(x)_c for each sample, where p is what the target says, smoothed.

    A target t says p_t = 1; smoothing takes ε of that and spreads it evenly. A target of x's shape holds p itself; the
    mean then is over samples, and otherwise as in `nll_loss`. Shapes as in `nll_loss`.
    """
    log_p = log_softmax(x, min(1, len(shape(x)) - 1))
    return cross_entropy_of(log_p, target, weight, ignore_index, reduction, label_smoothing)


def cross_entropy_of(
    log_p: Numbers, target: Numbers, weight: Numbers, ignore_index: int, reduction: str, label_smoothing: float
) -> Numbers:
    """`cross_entropy` of log-probabilities. Classes are dimension 1, or 0 if there is but one sample."""
    dim = min(1, len(shape(log_p)) - 1)
    C = shape(log_p)[dim]
    weights = [1.0] * C if weight is None else weight
    keep, spread = 1 - label_smoothing, label_smoothing / C

    def of_probabilities(line: Sequence[Any], p: Sequence[Any]) -> Any:
        return -sum(weights[c] * (keep * p[c] + spread) * line[c] for c in range(C))

    def of_class(line: Sequence[Any], t: int) -> Any:
        if t == ignore_index:
            return 0.0
        if not 0 <= t < C:
            raise IndexError(f"Target {t} is out of bounds: expected a class from 0 to {C - 1}")
        loss = -weights[t] * line[t]
        return keep * loss + spread * -dot(weights, line) if label_smoothing else loss

    lines = to_last(log_p, dim)
    if shape(target) == shape(log_p):
        losses = each(of_probabilities, lines, to_last(target, dim), rank=1)
        return reduced(losses, reduction)
    losses = each(of_class, lines, target, rank=1)
    return reduced(losses, reduction, [weights[t] for t in flat(target) if t != ignore_index])


def mse_loss(x: Numbers, target: Numbers, reduction: str = "mean") -> Numbers:
    """(x − target)²."""
    return reduced(each(lambda a, b: (a - b) * (a - b), x, target), reduction)


def l1_loss(x: Numbers, target: Numbers, reduction: str = "mean") -> Numbers:
    """|x − target|."""
    return reduced(each(lambda a, b: abs(a - b), x, target), reduction)


def smooth_l1_loss(x: Numbers, target: Numbers, reduction: str = "mean", beta: float = 1.0) -> Numbers:
    """d² / 2β where d = |x − target| is below β, and d − β/2 beyond."""

    def loss(a: Any, b: Any) -> Any:
        d = abs(a - b)
        return d * d / (2 * beta) if d < beta else d - beta / 2

    return reduced(each(loss, x, target), reduction)


def binary_cross_entropy(x: Numbers, target: Numbers, weight: Numbers = None, reduction: str = "mean") -> Numbers:
    """−weight · (target · log x + (1 − target) · log(1 − x)), where a logarithm is never below −100.

    `weight` has x's shape. Where the bound applies, the gradient is 0 (PyTorch's formula says (x − target) / 10⁻¹²).
    Raises RuntimeError for an x outside [0, 1].
    """

    def log(p: Any) -> Any:
        return -100.0 if p < math.exp(-100) else ops.log(p)

    def loss(p: Any, t: Any, w: float) -> Any:
        if not 0 <= p <= 1:
            raise RuntimeError(f"binary_cross_entropy: expected numbers between 0 and 1, got {float(p)}")
        return -w * (t * log(p) + (1 - t) * log(1 - p))

    weights = each(lambda _: 1.0, x) if weight is None else weight
    return reduced(each(loss, x, target, weights), reduction)


def binary_cross_entropy_with_logits(
    x: Numbers, target: Numbers, weight: Numbers = None, reduction: str = "mean", pos_weight: Numbers = None
) -> Numbers:
    """−weight · (pos_weight · target · log σ(x) + (1 − target) · log(1 − σ(x))), however large x is.

    `weight` has x's shape; `pos_weight` has one number for each place in x's last dimension.
    """

    def minus_log_sigmoid(a: Any) -> Any:
        return ops.log(1 + ops.exp(-a)) if a > 0 else ops.log(1 + ops.exp(a)) - a

    def loss(a: Any, t: Any, w: float, positive: float) -> Any:
        return w * (positive * t * minus_log_sigmoid(a) + (1 - t) * (minus_log_sigmoid(a) + a))

    ones = each(lambda _: 1.0, x)
    weights = ones if weight is None else weight
    positives = ones if pos_weight is None else each(lambda _: list(pos_weight), x, rank=1)
    return reduced(each(loss, x, target, weights, positives), reduction)


def batch_norm(
    x: Numbers,
    running_mean: Numbers,
    running_var: Numbers,
    weight: Numbers = None,
    bias: Numbers = None,
    training: bool = False,
    momentum: float = 0.1,
    eps: float = 1e-5,
) -> Numbers:
    """(x − mean) / √(variance + eps) · weight + bias, channel by channel.

    In training, mean and variance are those of the channel in this batch, and move the running ones, in place, by
    `momentum`; there the variance is the unbiased one. In evaluation the running ones are used.
    Shapes: x (N, C, …), all else (C). Raises ValueError in training on one number a channel.
    """

    def statistics(c: int) -> tuple[Any, Any]:
        if not training:
            return running_mean[c], running_var[c]
        numbers = flat([sample[c] for sample in x])
        n = len(numbers)
        if n == 1:
            raise ValueError(f"batch_norm: expected more than 1 number a channel when training, got x {shape(x)}")
        centre = mean(numbers)
        variance = mean([(a - centre) * (a - centre) for a in numbers])
        if running_mean is not None:
            running_mean[c] += momentum * (float(centre) - running_mean[c])
        if running_var is not None:
            running_var[c] += momentum * (float(variance) * n / (n - 1) - running_var[c])
        return centre, variance

    def of_channel(c: int) -> Callable[[Any], Any]:
        centre, variance = statistics(c)
        scale = ops.div(1.0 if weight is None else weight[c], ops.sqrt(variance + eps))
        return lambda a: (a - centre) * scale + (0.0 if bias is None else bias[c])

    channels = [of_channel(c) for c in range(shape(x)[1])]
    return [[each(f, part) for f, part in zip(channels, sample, strict=True)] for sample in x]
