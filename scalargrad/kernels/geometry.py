"""Sizes of windows over images, and what every kernel refuses.

Output sizes are computed here, and in C inside the compiled kernels. The `check_*` functions hold the words of every
shape error; the compiled kernels test the same conditions on integers and come here when one of them fails.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any, NoReturn

import numpy as np

Pair = tuple[int, int]
Shape = tuple[int, ...]
Array = np.ndarray[Any, np.dtype[Any]]

# Kernels count in machine words: sizes up to here leave room for their products.
LARGEST_SIZE = 2**31 - 1

KERNEL_DTYPES = (np.dtype(np.float32), np.dtype(np.float64))


def conv_output_size(size: int, kernel: int, stride: int, padding: int, dilation: int) -> int:
    """How many windows fit along one axis.

    (size + 2·padding − dilation·(kernel − 1) − 1) // stride + 1, and 0 when none does.
    """
    span = size + 2 * padding - dilation * (kernel - 1) - 1
    return span // stride + 1 if span >= 0 else 0


def pool_output_size(size: int, kernel: int, stride: int, padding: int, dilation: int, ceil_mode: bool) -> int:
    """Like `conv_output_size`; `ceil_mode` also counts a last window that hangs over the end, if it starts inside.

    PyTorch's rule: a window that would start in the right padding is not counted.
    """
    span = size + 2 * padding - dilation * (kernel - 1) - 1
    if not ceil_mode:
        return span // stride + 1 if span >= 0 else 0
    count = -(-span // stride) + 1
    if (count - 1) * stride >= size + padding:
        count -= 1
    return max(count, 0)


def pool_divisors(
    size: int, kernel: int, stride: int, padding: int, count: int, count_include_pad: bool
) -> list[tuple[int, int, int]]:
    """For each of `count` windows along one axis: first entry inside the image, one past the last, and what divides.

    A window is cut at the right edge of the padding (`ceil_mode` lets it hang over). What divides is the cut window's
    length, with its padding or without.
    """
    windows = []
    for i in range(count):
        start = i * stride - padding
        stop = min(start + kernel, size + padding)
        inside_start, inside_stop = max(start, 0), min(stop, size)
        length = stop - start if count_include_pad else inside_stop - inside_start
        windows.append((inside_start, max(inside_start, inside_stop), length))
    return windows


def adaptive_windows(size: int, count: int) -> list[tuple[int, int]]:
    """The windows of adaptive pooling, first entry and one past the last: PyTorch's ⌊i·size / count⌋ and its kin."""
    return [(i * size // count, -(-(i + 1) * size // count)) for i in range(count)]


def as_array(op: str, name: str, value: Any) -> Array:
    """`value` as a NumPy array. A NumPy scalar, which arithmetic on 0-d arrays returns, counts as one."""
    if isinstance(value, np.ndarray):
        return value
    if isinstance(value, np.generic):
        return np.asarray(value)
    raise TypeError(f"{op}(): expected {name} to be a NumPy array, got {type(value).__name__}")


def check_dtypes(op: str, **arrays: Any) -> None:
    """Refuses anything but arrays that all are float32 or all are float64."""
    expected = None
    for name, value in arrays.items():
        check_dtype(op, name, value, expected)
        expected = value.dtype.newbyteorder("=")


def check_dtype(op: str, name: str, value: Any, expected: np.dtype[Any] | None) -> None:
    dtype = as_array(op, name, value).dtype.newbyteorder("=")
    if dtype not in KERNEL_DTYPES:
        raise RuntimeError(f"{op}(): expected {name} to be float32 or float64, got {dtype}")
    if expected is not None and dtype != expected:
        raise RuntimeError(f"{op}(): expected {name} to be {expected} like the argument before it, got {dtype}")


def check_matmul(op: str, a_shape: Shape, b_shape: Shape) -> None:
    if not a_shape or not b_shape:
        raise RuntimeError(f"{op}(): both arguments need to be at least 1D, got shapes {a_shape} and {b_shape}")
    inner = b_shape[-2] if len(b_shape) > 1 else b_shape[0]
    if a_shape[-1] != inner:
        raise RuntimeError(
            f"{op}(): expected the inner sizes to agree, got {a_shape[-1]} and {inner} (shapes {a_shape} and {b_shape})"
        )
    try:
        np.broadcast_shapes(a_shape[:-2], b_shape[:-2])
    except ValueError:
        raise RuntimeError(
            f"{op}(): expected batch sizes that broadcast, got {a_shape[:-2]} and {b_shape[:-2]} "
            f"(shapes {a_shape} and {b_shape})"
        ) from None


def check_linear(op: str, x_shape: Shape, w_shape: Shape, bias_shape: Shape | None) -> None:
    if len(w_shape) != 2:
        raise RuntimeError(f"{op}(): expected a weight of shape (out_features, in_features), got {w_shape}")
    if not x_shape or x_shape[-1] != w_shape[1]:
        features = f"{x_shape[-1]} features" if x_shape else "no dimensions"
        raise RuntimeError(
            f"{op}(): input has {features} but weight expects {w_shape[1]} (input {x_shape}, weight {w_shape})"
        )
    if bias_shape is not None and bias_shape != (w_shape[0],):
        raise RuntimeError(f"{op}(): expected a bias of shape ({w_shape[0]},) for weight {w_shape}, got {bias_shape}")


def check_linear_input_grad(op: str, g_shape: Shape, w_shape: Shape) -> None:
    if len(w_shape) != 2:
        raise RuntimeError(f"{op}(): expected a weight of shape (out_features, in_features), got {w_shape}")
    if not g_shape or g_shape[-1] != w_shape[0]:
        raise RuntimeError(
            f"{op}(): expected a gradient of shape (…, {w_shape[0]}) for weight {w_shape}, got {g_shape}"
        )


def check_linear_weight_grad(op: str, g_shape: Shape, x_shape: Shape) -> None:
    if not g_shape or not x_shape or g_shape[:-1] != x_shape[:-1]:
        raise RuntimeError(
            f"{op}(): expected a gradient and an input of as many samples, got shapes {g_shape} and {x_shape}"
        )


def check_pair(op: str, name: str, value: Any, minimum: int) -> Pair:
    """`value` as two Python integers, each at least `minimum`."""
    if not isinstance(value, Sequence) or len(value) != 2 or not all(isinstance(v, int | np.integer) for v in value):
        raise TypeError(f"{op}(): expected {name} to be a pair of integers, got {value!r}")
    if value[0] < minimum or value[1] < minimum:
        raise RuntimeError(f"{op}(): expected {name} to be at least {minimum}, got {tuple(value)}")
    if max(value) > LARGEST_SIZE:
        raise RuntimeError(f"{op}(): expected {name} to be at most {LARGEST_SIZE}, got {tuple(value)}")
    return int(value[0]), int(value[1])


def check_shape(op: str, name: str, value: Any) -> Shape:
    """`value` as a tuple of four sizes."""
    if not isinstance(value, Sequence) or len(value) != 4 or not all(isinstance(v, int | np.integer) for v in value):
        raise TypeError(f"{op}(): expected {name} to be four integers, got {value!r}")
    if min(value) < 0 or max(value) > LARGEST_SIZE:
        raise RuntimeError(f"{op}(): expected {name} to be between 0 and {LARGEST_SIZE}, got {tuple(value)}")
    return tuple(int(v) for v in value)


def check_conv2d(
    op: str,
    x_shape: Shape,
    w_shape: Shape,
    stride: Any,
    padding: Any,
    dilation: Any,
    groups: int,
    bias_shape: Shape | None = None,
    g_shape: Shape | None = None,
) -> Pair:
    """The output's height and width, after refusing everything that is not a convolution."""
    stride = check_pair(op, "stride", stride, 1)
    padding = check_pair(op, "padding", padding, 0)
    dilation = check_pair(op, "dilation", dilation, 1)
    height, width = check_conv(op, x_shape, w_shape, stride, padding, dilation, groups, bias_shape, g_shape)
    return height, width


def check_conv(
    op: str,
    x_shape: Shape,
    w_shape: Shape,
    stride: Shape,
    padding: Shape,
    dilation: Shape,
    groups: int,
    bias_shape: Shape | None = None,
    g_shape: Shape | None = None,
) -> Shape:
    """The output's sizes along each axis that the kernel slides over: as many as `stride` has."""
    came = f"(input {x_shape}, weight {w_shape}, groups={groups})"
    axes = range(len(stride))
    ndim = 2 + len(stride)
    if len(x_shape) != ndim or len(w_shape) != ndim:
        raise RuntimeError(f"{op}(): expected a {ndim}D input and a {ndim}D weight, got {came}")
    if groups < 1:
        raise RuntimeError(f"{op}(): expected groups to be at least 1, got {groups}")
    if min(w_shape[2:]) < 1:
        raise RuntimeError(f"{op}(): expected a kernel of at least {by(1 for _ in axes)}, got {came}")
    if w_shape[0] % groups:
        raise RuntimeError(f"{op}(): expected groups to divide the {w_shape[0]} output channels, got {came}")
    if x_shape[1] != w_shape[1] * groups:
        raise RuntimeError(f"{op}(): input has {x_shape[1]} channels but weight expects {w_shape[1] * groups} {came}")
    if bias_shape is not None and bias_shape != (w_shape[0],):
        raise RuntimeError(f"{op}(): expected a bias of shape ({w_shape[0]},), got {bias_shape} {came}")
    size = tuple(conv_output_size(x_shape[2 + i], w_shape[2 + i], stride[i], padding[i], dilation[i]) for i in axes)
    if min(size) < 1:
        padded = by(x_shape[2 + i] + 2 * padding[i] for i in axes)
        reach = by(dilation[i] * (w_shape[2 + i] - 1) + 1 for i in axes)
        raise RuntimeError(
            f"{op}(): kernel size can't be greater than input size: padded input is {padded}, "
            f"kernel spans {reach} {came}"
        )
    expected = (x_shape[0], w_shape[0], *size)
    if g_shape is not None and g_shape != expected:
        raise RuntimeError(f"{op}(): expected a gradient of shape {expected}, got {g_shape} {came}")
    return size


def conv_transpose_output_size(
    size: int, kernel: int, stride: int, padding: int, output_padding: int, dilation: int
) -> int:
    """The size whose convolution has `size` windows, and `output_padding` more.

    (size − 1)·stride − 2·padding + dilation·(kernel − 1) + output_padding + 1.
    """
    return (size - 1) * stride - 2 * padding + dilation * (kernel - 1) + output_padding + 1


def check_conv_transpose(
    op: str,
    x_shape: Shape,
    w_shape: Shape,
    bias_shape: Shape | None,
    stride: Shape,
    padding: Shape,
    output_padding: Shape,
    dilation: Shape,
    groups: int,
) -> Shape:
    """The output's shape, after refusing everything that is not a transposed convolution.

    Shapes: x (N, C, ...), w (C, O/groups, ...), bias (O,) → (N, O, ...).
    """
    came = f"(input {x_shape}, weight {w_shape}, groups={groups})"
    axes = range(len(stride))
    ndim = 2 + len(stride)
    if len(x_shape) != ndim or len(w_shape) != ndim:
        raise RuntimeError(f"{op}(): expected a {ndim}D input and a {ndim}D weight, got {came}")
    for name, sizes, minimum in (
        ("groups", (groups,), 1), ("stride", stride, 1), ("padding", padding, 0),
        ("output_padding", output_padding, 0), ("dilation", dilation, 1),
    ):  # fmt: skip
        if min(sizes) < minimum:
            raise RuntimeError(f"{op}(): expected {name} to be at least {minimum}, got {min(sizes)}")
    if min(w_shape[2:]) < 1:
        raise RuntimeError(f"{op}(): expected a kernel of at least {by(1 for _ in axes)}, got {came}")
    if x_shape[1] != w_shape[0]:
        raise RuntimeError(f"{op}(): input has {x_shape[1]} channels but weight expects {w_shape[0]} {came}")
    if w_shape[0] % groups:
        raise RuntimeError(f"{op}(): expected groups to divide the {w_shape[0]} input channels, got {came}")
    channels = w_shape[1] * groups
    if bias_shape is not None and bias_shape != (channels,):
        raise RuntimeError(f"{op}(): expected a bias of shape ({channels},), got {bias_shape} {came}")
    if any(output_padding[i] >= max(stride[i], dilation[i]) for i in axes):
        raise RuntimeError(
            f"{op}(): output padding must be smaller than either stride or dilation, but got "
            f"output_padding={output_padding}, stride={stride}, dilation={dilation}"
        )
    size = tuple(
        conv_transpose_output_size(
            x_shape[2 + i], w_shape[2 + i], stride[i], padding[i], output_padding[i], dilation[i]
        )
        for i in axes
    )
    if min(x_shape[2:]) < 1 or min(size) < 1:
        raise RuntimeError(f"{op}(): output size is too small: it would be {by(size)} {came}")
    return (x_shape[0], channels, *size)


def by(sizes: Iterable[int]) -> str:
    """Sizes as they are said: 3 × 5."""
    return " × ".join(map(str, sizes))


def check_images(op: str, x_shape: Shape) -> None:
    if len(x_shape) != 4:
        raise RuntimeError(f"{op}(): expected a 4D input, got shape {x_shape}")


def check_pool2d(
    op: str,
    x_shape: Shape,
    kernel_size: Any,
    stride: Any,
    padding: Any,
    dilation: Any,
    ceil_mode: bool,
) -> Pair:
    """The output's height and width, after refusing everything that is not a pooling."""
    if len(x_shape) != 4:
        raise RuntimeError(f"{op}(): expected a 4D input, got shape {x_shape}")
    kernel_size = check_pair(op, "kernel_size", kernel_size, 1)
    stride = check_pair(op, "stride", stride, 1)
    padding = check_pair(op, "padding", padding, 0)
    dilation = check_pair(op, "dilation", dilation, 1)
    for i in (0, 1):
        if padding[i] > (dilation[i] * (kernel_size[i] - 1) + 1) // 2:
            raise RuntimeError(
                f"{op}(): pad should be at most half of effective kernel size, got padding={padding}, "
                f"kernel_size={kernel_size} and dilation={dilation}"
            )
    size = [
        pool_output_size(x_shape[2 + i], kernel_size[i], stride[i], padding[i], dilation[i], ceil_mode) for i in (0, 1)
    ]
    if min(size) < 1:
        raise RuntimeError(
            f"{op}(): output size is too small: input {x_shape} gives {size[0]} × {size[1]} with "
            f"kernel_size={kernel_size}, stride={stride}, padding={padding}, dilation={dilation}"
        )
    return size[0], size[1]


def check_pool2d_gradient(
    op: str, g_shape: Shape, x_shape: Shape, kernel_size: Any, stride: Any, padding: Any, dilation: Any
) -> None:
    """Refuses a gradient that no pooling of an input of `x_shape` could have, be it with `ceil_mode` or without."""
    ceil = check_pool2d(op, x_shape, kernel_size, stride, padding, dilation, True)
    sizes = [
        pool_output_size(x_shape[2 + i], kernel_size[i], stride[i], padding[i], dilation[i], False) for i in (0, 1)
    ]
    floor = (sizes[0], sizes[1])
    if len(g_shape) != 4 or g_shape[:2] != x_shape[:2] or g_shape[2:] not in (floor, ceil):
        expected = (*x_shape[:2], *floor)
        refuse_gradient(op, expected, x_shape, g_shape)


def check_adaptive_pool2d(op: str, x_shape: Shape, output_size: Any) -> Pair:
    """`output_size`, after refusing images that are not there."""
    size = check_pair(op, "output_size", output_size, 0)
    if len(x_shape) != 4 or 0 in x_shape[1:]:
        raise RuntimeError(f"{op}(): expected a 4D input of images that are not empty, got shape {x_shape}")
    return size


def check_adaptive_pool2d_gradient(op: str, g_shape: Shape, x_shape: Shape) -> None:
    check_adaptive_pool2d(op, x_shape, g_shape[2:] if len(g_shape) == 4 else (1, 1))
    if len(g_shape) != 4 or g_shape[:2] != x_shape[:2]:
        raise RuntimeError(
            f"{op}(): expected a gradient of shape ({x_shape[0]}, {x_shape[1]}, P, Q) for an input of {x_shape}, "
            f"got {g_shape}"
        )


def refuse_gradient(op: str, expected: Shape, x_shape: Shape, got: Shape) -> NoReturn:
    raise RuntimeError(f"{op}(): expected a gradient of shape {expected} for an input of {x_shape}, got {got}")


def check_same_shape(op: str, **arrays: Array) -> None:
    shapes = {name: array.shape for name, array in arrays.items()}
    if len(set(shapes.values())) > 1:
        names = " and ".join(shapes)
        raise RuntimeError(f"{op}(): expected {names} of the same shape, got {' and '.join(map(str, shapes.values()))}")


def check_axis(op: str, axis: int, ndim: int) -> int:
    """`axis` counted from the front. A 0-d array counts as having one axis, as in PyTorch."""
    extent = max(ndim, 1)
    if not -extent <= axis < extent:
        raise IndexError(f"{op}(): expected a dimension in [{-extent}, {extent - 1}], got {axis}")
    return axis % extent


def offsets_dtype(kernel_size: Pair) -> np.dtype[Any]:
    """What holds the number of a window's winning tap."""
    return np.dtype(np.uint8 if kernel_size[0] * kernel_size[1] <= 255 else np.int32)


def check_offsets(op: str, offsets: Any, shape: Shape, kernel_size: Pair) -> Array:
    array = as_array(op, "offsets", offsets)
    expected = offsets_dtype(kernel_size)
    if array.dtype.newbyteorder("=") != expected:
        raise RuntimeError(f"{op}(): expected offsets of dtype {expected}, got {array.dtype}")
    if array.shape != shape:
        raise RuntimeError(f"{op}(): expected offsets of shape {shape}, got {array.shape}")
    return array


def check_positions(op: str, positions: Any, shape: Shape) -> Array:
    array = as_array(op, "positions", positions)
    if array.dtype.newbyteorder("=") != np.int64:
        raise RuntimeError(f"{op}(): expected positions of dtype int64, got {array.dtype}")
    if array.shape != shape:
        raise RuntimeError(f"{op}(): expected positions of shape {shape}, got {array.shape}")
    return array


def check_cross_entropy(op: str, x: Array, target: Any, weight: Any, reduction: str) -> None:
    """Refuses scores that are not (N, C), targets that are not N integers, and weights that are not C numbers."""
    check_dtypes(op, input=x) if weight is None else check_dtypes(op, input=x, weight=weight)
    target = as_array(op, "target", target)
    if target.dtype.kind not in "iu":
        raise RuntimeError(f"{op}(): expected a target of integers, got {target.dtype}")
    if x.ndim != 2 or target.shape != x.shape[:1] or (weight is not None and weight.shape != x.shape[1:]):
        raise RuntimeError(
            f"{op}(): expected an input of shape (N, C), a target (N) and a weight (C) or none, got {x.shape}, "
            f"{target.shape} and {None if weight is None else weight.shape}"
        )
    if reduction not in ("none", "sum", "mean"):
        raise ValueError(f"{op}(): expected a reduction 'none', 'sum' or 'mean', got {reduction!r}")


def check_shape_of_loss(op: str, g: Array, n_losses: int | None) -> None:
    """Refuses a gradient that has not the shape of the losses, or of their sum."""
    expected = () if n_losses is None else (n_losses,)
    if g.shape != expected:
        raise RuntimeError(f"{op}(): expected a gradient of shape {expected}, got {g.shape}")


def index_grid(index: Array, dim: int) -> tuple[Any, ...]:
    """An index for `x[...]` that runs over `index` along `dim` and counts along the others."""
    n = index.ndim
    return tuple(
        [
            index if d == dim else np.arange(size).reshape([-1 if i == d else 1 for i in range(n)])
            for d, size in enumerate(index.shape)
        ]
    )
