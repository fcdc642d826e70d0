"""dtypes and promotion: PyTorch's rules, from a table that PyTorch itself wrote (tests/data/promotion_torch.json)."""

import json
from pathlib import Path

import numpy as np
import pytest

import scalargrad as sg

TABLE = json.loads((Path(__file__).parent.parent / "data" / "promotion_torch.json").read_text())
NAMES = ["float32", "float64", "int64", "int32", "int16", "int8", "uint8", "bool"]

BINARY = {
    "add": lambda a, b: a + b,
    "sub": lambda a, b: a - b,
    "mul": lambda a, b: a * b,
    "div": lambda a, b: a / b,
    "pow": lambda a, b: a**b,
    "floor_divide": lambda a, b: a // b,
    "remainder": lambda a, b: a % b,
    "eq": lambda a, b: a == b,
    "maximum": lambda a, b: sg.maximum(a, b),
}
UNARY = {
    "neg": lambda a: -a,
    "cumsum": lambda a: sg.cumsum(a, 0),
    "clamp": lambda a: sg.clamp(a, 0, 1),
    "clampf": lambda a: sg.clamp(a, 0.5, 1.5),
    "invert": lambda a: ~a,
}


def operand(kind, name):
    if kind == "python":
        return {"int": 2, "float": 2.0, "bool": True}[name]
    return sg.ones((2,) if kind == "1d" else (), dtype=getattr(sg, name))


def found(function):
    try:
        return str(function().dtype)
    except (RuntimeError, TypeError):
        return "error"


@pytest.mark.parametrize("name", BINARY)
def test_operations_promote_as_pytorchs(name):
    wrong = []
    for kind_a, a, kind_b, b, results in TABLE["binary"]:
        if name == "pow" and "python" in (kind_a, kind_b) and a == b == "bool":
            continue  # bool for a number, an error for a tensor: PyTorch's chance, and not taken over
        if name in results:
            dtype = found(lambda: BINARY[name](operand(kind_a, a), operand(kind_b, b)))  # noqa: B023
            if dtype != results[name]:
                wrong.append(f"{kind_a} {a} {name} {kind_b} {b}: {dtype}, PyTorch gives {results[name]}")
    assert not wrong, "\n".join(wrong)


@pytest.mark.parametrize("name", sorted(TABLE["unary"]))
def test_functions_give_pytorchs_dtype(name):
    function = UNARY.get(name) or getattr(sg, name)
    given = {dtype: found(lambda: function(sg.ones(2, dtype=getattr(sg, dtype)))) for dtype in NAMES}  # noqa: B023
    assert given == TABLE["unary"][name]


def test_dtypes_are_numpys_under_pytorchs_names():
    assert sg.float32 == np.dtype("float32")
    assert sg.double == sg.float64 == np.float64
    assert sg.long == sg.int64
    assert sg.tensor([1.0]).dtype == sg.float32
    assert sg.tensor([1]).dtype == sg.int64
    assert sg.tensor([True]).dtype == sg.bool
    assert sg.tensor([1, 2.5, True]).dtype == sg.float32
    assert sg.ones(1, dtype=sg.float64).dtype is np.dtype("float64")


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        (float, "float64"),
        (int, "int64"),
        (bool, "bool"),
        ("float32", "float32"),
        (np.float64, "float64"),
        ("double", "float64"),
        (np.int16, "int16"),
        (np.dtype("uint8"), "uint8"),
        ("long", "int64"),
    ],
)
def test_a_dtype_may_be_named_in_several_ways(given, expected):
    assert str(sg.zeros(1, dtype=given).dtype) == expected


@pytest.mark.parametrize("dtype", ["float16", np.complex64, "no", object, 3, "datetime64[s]", np.uint64, "U3"])
def test_a_dtype_that_there_is_not_is_refused_by_name(dtype):
    with pytest.raises(TypeError, match=r"zeros\(\): expected one of float32.*bool, got"):
        sg.zeros(1, dtype=dtype)
    with pytest.raises(TypeError, match=r"to\(\)"):
        sg.ones(1).to(dtype)


def test_byte_swapped_arrays_are_converted_or_refused_and_never_misread():
    swapped = np.array([1.0, 2.0]).astype(">f8")
    assert sg.tensor(swapped).tolist() == [1.0, 2.0]
    assert sg.tensor(swapped).dtype.isnative
    with pytest.raises(ValueError, match="order, got an array of >f8"):
        sg.from_numpy(swapped)


def test_result_type_and_python_numbers_that_change_nothing():
    a = sg.ones(2, dtype=sg.int16)
    assert (a + 1).dtype == (a * True).dtype == sg.int16
    assert (a + 1.0).dtype == sg.float32
    assert (sg.ones(2, dtype=sg.float64) * 0.5).dtype == sg.float64
    assert (sg.ones(2) * sg.tensor(0.5, dtype=sg.float64)).dtype == sg.float32


def test_integers_wrap_around_as_pytorchs():
    assert (sg.tensor([250], dtype=sg.uint8) + sg.tensor([10], dtype=sg.uint8)).tolist() == [4]
    assert (-sg.tensor([1], dtype=sg.uint8)).tolist() == [255]


@pytest.mark.parametrize(
    ("method", "dtype"),
    [
        ("float", "float32"),
        ("double", "float64"),
        ("long", "int64"),
        ("int", "int32"),
        ("short", "int16"),
        ("byte", "uint8"),
        ("bool", "bool"),
    ],
)
def test_casting_methods(method, dtype):
    assert str(getattr(sg.tensor([0.0, 1.7]), method)().dtype) == dtype


def test_casts_truncate_and_carry_gradients_between_floats():
    assert sg.tensor([1.9, -1.9]).long().tolist() == [1, -1]
    x = sg.tensor([1.0, 2.0], requires_grad=True)
    y = x.double()
    assert y.dtype == sg.float64
    (y * y).sum().backward()
    assert x.grad.dtype == sg.float32
    assert x.grad.tolist() == [2.0, 4.0]
    assert not x.long().requires_grad


def test_to_returns_the_tensor_itself_if_nothing_changes():
    x = sg.ones(2)
    assert x.to(sg.float32) is x
    assert x.to("cpu") is x
    assert x.to(sg.ones(1)) is x
    assert x.to(sg.float32, copy=True) is not x
    assert x.type_as(sg.ones(1, dtype=sg.int64)).dtype == sg.int64
    assert x.cpu() is x
    with pytest.raises(RuntimeError, match="CPU only, got device 'cuda:0'"):
        x.to("cuda:0")
