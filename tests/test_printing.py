"""The text of a tensor against what PyTorch printed (recorded in data/), and against PyTorch itself where installed."""

import json
import math
import re
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from scalargrad.printing import get_printoptions, printoptions, set_printoptions, tensor_repr

RECORD = json.loads((Path(__file__).parent / "data" / "printing_torch.json").read_text(encoding="utf-8"))
DTYPES = ("float32", "float64", "int64", "int32", "int16", "int8", "uint8", "bool")


def filled(dtype, shape, numbers):
    """An array of this shape, filled with the numbers over and over."""
    return np.resize(np.array(numbers, dtype), shape) if numbers else np.empty(shape, dtype)


@pytest.fixture(autouse=True)
def _options_are_left_as_found():
    before = get_printoptions()
    yield
    after = get_printoptions()
    set_printoptions(**before)
    assert after == before, "this test leaks print options"


@pytest.mark.parametrize("case", RECORD["cases"], ids=lambda case: f"{case['dtype']}-{tuple(case['shape'])}")
def test_a_tensor_prints_as_pytorch_printed_it(case):
    array = filled(case["dtype"], case["shape"], case["numbers"])
    with printoptions(**case["options"]):
        text = tensor_repr(array, requires_grad=case["requires_grad"], grad_fn_name=case["grad_fn_name"])
    assert text.split("\n") == case["text"]


def test_the_record_covers_every_dtype_every_option_and_every_note():
    cases = RECORD["cases"]
    assert {case["dtype"] for case in cases} == set(DTYPES)
    assert {name for case in cases for name in case["options"]} == {*get_printoptions(), "profile"}
    texts = ["\n".join(case["text"]) for case in cases]
    for note in ("size=", "dtype=torch.", "requires_grad=True", "grad_fn=<"):
        assert any(f", {note}" in text for text in texts)
        assert any(f",\n       {note}" in text for text in texts)


@pytest.mark.parametrize(
    ("array", "text"),
    [
        (np.float32([1, 2.5]), "tensor([1.0000, 2.5000])"),
        (np.float32([[1, -2], [30, 4]]), "tensor([[ 1., -2.],\n        [30.,  4.]])"),
        (np.float32([1e-5, 1]), "tensor([1.0000e-05, 1.0000e+00])"),
        (np.zeros((2, 1, 1), np.float32), "tensor([[[0.]],\n\n        [[0.]]])"),
        (np.empty((0, 3), np.float32), "tensor([], size=(0, 3))"),
        (np.empty(0, np.int64), "tensor([], dtype=torch.int64)"),
        (np.array(True), "tensor(True)"),
        (np.float64([math.nan]), "tensor([nan], dtype=torch.float64)"),
    ],
)
def test_the_layout_is_the_one_known_from_pytorch(array, text):
    assert tensor_repr(array) == text


def test_a_result_names_its_function_and_a_leaf_that_it_requires_grad():
    one = np.float32(1.5)
    assert tensor_repr(np.asarray(one), requires_grad=True) == "tensor(1.5000, requires_grad=True)"
    text = tensor_repr(np.asarray(one), requires_grad=True, grad_fn_name="MseLossBackward")
    assert text == "tensor(1.5000, grad_fn=<MseLossBackward>)"


def test_lines_after_the_first_stand_under_the_numbers_whatever_the_prefix():
    first, second = tensor_repr(np.arange(30), prefix="Special(").split("\n")
    assert first.startswith("Special([ 0,  1, ")
    assert second.startswith(" " * len("Special([") + "1")


def test_any_memory_layout_prints_the_same():
    array = np.arange(24.0).reshape(4, 6) / 7
    expected = tensor_repr(array)
    wide = np.zeros((8, 12))
    wide[::2, ::2] = array
    frozen = array.copy()
    frozen.flags.writeable = False
    for same in (np.asfortranarray(array), wide[::2, ::2], array[::-1][::-1], frozen):
        assert tensor_repr(same) == expected


def test_print_options_stay_until_changed_and_sci_mode_decides_again_when_not_given():
    with printoptions():
        set_printoptions(precision=2, sci_mode=True)
        assert tensor_repr(np.float32([1.5])) == "tensor([1.50e+00])"
        set_printoptions(edgeitems=1, threshold=2)
        assert tensor_repr(np.float32([1.5, 2, 3])) == "tensor([1.50,  ..., 3.00])"
        set_printoptions(profile="default")
        assert tensor_repr(np.float32([1.5, 2, 3])) == "tensor([1.5000, 2.0000, 3.0000])"
    assert get_printoptions() == {
        "precision": 4,
        "threshold": 1000,
        "edgeitems": 3,
        "linewidth": 80,
        "sci_mode": None,
    }


def test_an_unknown_profile_is_refused_and_changes_nothing():
    before = get_printoptions()
    with pytest.raises(ValueError, match="expected a profile among default, short, full, got 'wide'"):
        set_printoptions(precision=1, profile="wide")
    assert get_printoptions() == before


SHAPES = hnp.array_shapes(min_dims=0, max_dims=4, min_side=0, max_side=7)
SCALES = st.sampled_from([1e-30, 1e-5, 1e-3, 1.0, 30.0, 1e4, 1e7, 1e20])


@st.composite
def arrays(draw):
    """Any array; half of the floating ones of a common magnitude, so that each way of writing comes up."""
    dtype, shape = draw(st.sampled_from(DTYPES)), draw(SHAPES)
    if dtype.startswith("float") and draw(st.booleans()):
        array = draw(hnp.arrays("float32", shape, elements=st.floats(-8, 8, width=32)))
        array = array.astype(dtype) * np.dtype(dtype).type(draw(SCALES))
        return np.asarray(np.round(array) if draw(st.booleans()) else array, dtype)
    return draw(hnp.arrays(dtype, shape))


OPTIONS = st.fixed_dictionaries(
    {},
    optional={
        "precision": st.integers(0, 8),
        "threshold": st.sampled_from([0, 5, 50, 1000, math.inf]),
        "edgeitems": st.integers(0, 4),
        "linewidth": st.integers(1, 130),
        "profile": st.sampled_from(["default", "short", "full"]),
        "sci_mode": st.sampled_from([True, False, None]),
    },
)


@given(array=arrays(), options=OPTIONS, in_graph=st.sampled_from(["no", "leaf", "result"]))
def test_any_tensor_prints_as_pytorch_prints_it(array, options, in_graph):
    torch = pytest.importorskip("torch")
    from torch._tensor_str import printoptions as torch_printoptions

    tensor = torch.from_numpy(np.ascontiguousarray(array)).reshape(array.shape)
    name = None
    requires_grad = array.dtype.kind == "f" and in_graph != "no"
    if requires_grad:
        tensor.requires_grad_()
        if in_graph == "result":
            tensor = tensor.view(tensor.shape)
            name = type(tensor.grad_fn).__name__
    with printoptions(**options), torch_printoptions(**options):
        assert tensor_repr(array, requires_grad=requires_grad, grad_fn_name=name) == repr(tensor)


@given(array=arrays(), options=OPTIONS)
def test_a_tensor_prints_without_warning_and_reads_back(array, options):
    """Uncut and with 17 digits, the text holds the very numbers."""
    with printoptions(**options):
        tensor_repr(array)
    with printoptions(profile="full", precision=17, sci_mode=True):
        text = tensor_repr(array)
    body = re.split(r",\s+(?:dtype|size)=", text.removeprefix("tensor("))[0].rstrip(")")
    read = eval(body, {"nan": math.nan, "inf": math.inf})
    assert np.array_equal(np.array(read, array.dtype).ravel(), array.ravel(), equal_nan=array.dtype.kind == "f")
