"""Every method of Tensor is the public function of its name; and what the elementwise ones compute, kinks included."""

import inspect
import math

import numpy as np
import pytest

import scalargrad as sg
from scalargrad import Tensor

inf, nan = math.inf, math.nan
MATRIX = [[1.5, -2.0, 0.5], [3.0, 0.25, -1.0]]
INDEX = [[0, 1, 0], [1, 0, 1]]

# The arguments after the tensor itself; strings stand for tensors made for each library.
CASES = {
    **dict.fromkeys(
        "abs ceil cos cosh count_nonzero diag erf exp exp2 expm1 flatten floor isfinite isinf isnan logical_not "
        "max mean median min neg norm prod reciprocal relu round sigmoid sign sin sinh square squeeze std sum "
        "t tan tanh trunc unique var all any argmax argmin argsort tril triu trace nonzero unbind diagonal "
        "sort atan".split(),
        (),
    ),
    **dict.fromkeys("log log10 log1p log2 sqrt rsqrt".split(), ()),
    **dict.fromkeys("asin acos".split(), ()),
    **dict.fromkeys(
        "add sub mul div pow maximum minimum eq ne lt le gt ge atan2 fmod remainder floor_divide".split(), ("other",)
    ),
    **dict.fromkeys("logical_and logical_or logical_xor allclose isclose equal".split(), ("other",)),
    **dict.fromkeys("amax amin cumsum cumprod logsumexp softmax log_softmax".split(), (1,)),
    **dict.fromkeys("bitwise_and bitwise_or bitwise_xor".split(), ("index",)),
    "bitwise_not": (),
    "addcdiv": ("other", "other"),
    "addcmul": ("other", "other"),
    "addmm": ("square", "other"),
    "bmm": ("batch",),
    "broadcast_to": ((4, 2, 3),),
    "chunk": (2, 1),
    "clamp": (-0.5, 1.0),
    "dot": ("vector",),
    "expand": (4, 2, 3),
    "flip": (1,),
    "gather": (0, "index"),
    "index_add": (0, "rows", "square"),
    "index_select": (0, "rows"),
    "lerp": ("other", 0.25),
    "masked_fill": ("mask", 9.0),
    "masked_select": ("mask",),
    "matmul": ("vector",),
    "mm": ("tall",),
    "movedim": (0, 1),
    "mv": ("vector",),
    "narrow": (1, 1, 2),
    "outer": ("vector",),
    "permute": (1, 0),
    "repeat": (2, 1),
    "reshape": (3, 2),
    "roll": (1, 1),
    "scatter": (0, "index", "other"),
    "scatter_add": (0, "index", "other"),
    "select": (1, 2),
    "split": (2, 1),
    "sum_to_size": (1, 3),
    "swapaxes": (0, 1),
    "swapdims": (0, 1),
    "take": ("rows",),
    "take_along_dim": ("index", 0),
    "topk": (2,),
    "transpose": (0, 1),
    "unflatten": (1, (3, 1)),
    "unsqueeze": (1,),
    "view": (-1,),
    "where": ("mask", "other"),
}
SELF = {
    "dot": "vector",
    "outer": "vector",
    "bmm": "batch",
    "trace": "square",
    "bitwise_and": "index",
    "bitwise_or": "index",
    "bitwise_xor": "index",
    "bitwise_not": "index",
    "asin": "small",
    "acos": "small",
    "log": "other",
    "log10": "other",
    "log1p": "other",
    "log2": "other",
    "sqrt": "other",
    "rsqrt": "other",
    "pow": "other",
    "addmm": "three",
}


def operands(T):
    return {
        "self": T.tensor(MATRIX),
        "other": T.tensor([[0.5, 1.5, 2.0], [1.0, 4.0, 0.75]]),
        "small": T.tensor([[0.5, -0.5], [0.0, 0.9]]),
        "square": T.tensor([[1.0, 2.0], [3.0, 4.0]]) if T is not None else None,
        "three": T.tensor([1.0, 2.0, 3.0]),
        "tall": T.tensor([[1.0, 2.0], [3.0, 4.0], [5.0, 6.0]]),
        "vector": T.tensor([1.0, -2.0, 3.0]),
        "batch": T.tensor([[[1.0, 2.0], [3.0, 4.0]]]),
        "index": T.tensor(INDEX),
        "rows": T.tensor([1, 0]),
        "mask": T.tensor([[True, False, True], [False, True, True]]),
    }


def call(T, name, function):
    """`function` of the tensor and arguments of a case, with that library's tensors."""
    made = operands(T)
    given = [made[a] if isinstance(a, str) else a for a in CASES[name]]
    if name == "index_add":
        given[2] = made["self"]
    if name == "where":
        return function(T, made["self"], given)
    return function(T, made[SELF.get(name, "self")], given)


def numbers(result):
    """What came out, as nested lists."""
    if isinstance(result, (bool, int, float)):
        return result
    if isinstance(result, tuple | list):
        return [numbers(r) for r in result]
    return np.asarray(result.detach().numpy())


def same(a, b):
    if isinstance(a, list):
        assert len(a) == len(b)
        for x, y in zip(a, b, strict=True):
            same(x, y)
    else:
        np.testing.assert_allclose(a, b, rtol=1e-5, atol=1e-6)
        assert np.shape(a) == np.shape(b)


def public(obj):
    return {name for name in dir(obj) if not name.startswith("_")}


def test_every_method_that_is_also_a_function_has_a_case():
    both = {name for name in public(Tensor) & public(sg) if callable(getattr(sg, name))}
    assert sorted(both - set(CASES)) == []
    assert sorted(set(CASES) - public(Tensor)) == []


@pytest.mark.parametrize("name", sorted(CASES))
def test_a_method_is_the_function_of_its_name(name):
    by_method = call(sg, name, lambda T, t, given: getattr(t, name)(*given))
    if not hasattr(sg, name):
        return

    def function(T, t, given):
        if name == "where":
            return T.where(given[0], t, given[1])
        if name in ("expand", "permute", "reshape", "view", "repeat", "sum_to_size") and hasattr(T, name):
            return getattr(T, name)(t, tuple(given))
        return getattr(T, name)(t, *given)

    same(numbers(by_method), numbers(call(sg, name, function)))


@pytest.mark.parametrize("name", sorted(CASES))
def test_methods_agree_with_torchs(name):
    torch = pytest.importorskip("torch")

    def method(T, t, given):
        if name == "where":
            return t.where(*given)
        return getattr(t, name)(*given)

    ours, theirs = call(sg, name, method), call(torch, name, method)
    same(numbers(ours), numbers(theirs))


@pytest.mark.parametrize("name", sorted(n for n in CASES if hasattr(sg, n) and n not in ("where", "split")))
def test_methods_and_functions_name_their_arguments_alike(name):
    method = list(inspect.signature(getattr(Tensor, name)).parameters.values())[1:]
    function = list(inspect.signature(getattr(sg, name)).parameters.values())[1:]
    names = [p.name for p in function]
    for p in method:
        if p.kind is p.VAR_POSITIONAL:
            continue
        assert p.name in names, f"Tensor.{name}() calls it {p.name}, scalargrad.{name}() has {names}"
        assert p.default == function[names.index(p.name)].default or p.default is p.empty


def test_clip_is_clamp_and_the_as_forms_follow_another_tensor():
    t, other = sg.arange(6.0), sg.zeros(2, 3)
    assert t.clip(1, 3).tolist() == t.clamp(1, 3).tolist()
    assert t.view_as(other).shape == t.reshape_as(other).shape == (2, 3)
    assert sg.zeros(3).expand_as(other).shape == (2, 3)
    assert other.mT.shape == other.T.shape == (3, 2)


EDGES = {
    "relu": (
        [-1.0, -0.0, 0.0, 2.0, inf, -inf, nan],
        [0.0, -0.0, 0.0, 2.0, inf, 0.0, nan],
        [0.0, 0.0, 0.0, 1.0, 1.0, 0.0, 1.0],
    ),
    "abs": ([-1.0, 0.0, 2.0, -inf, nan], [1.0, 0.0, 2.0, inf, nan], [-1.0, 0.0, 1.0, -1.0, 0.0]),
    "sign": ([-2.0, 0.0, 3.0, nan], [-1.0, 0.0, 1.0, 0.0], None),
    "sqrt": ([0.0, 4.0, -1.0, inf], [0.0, 2.0, nan, inf], [inf, 0.25, nan, 0.0]),
    "log": ([0.0, 1.0, -1.0, inf], [-inf, 0.0, nan, inf], [inf, 1.0, -1.0, 0.0]),
    "exp": ([0.0, 1000.0, -1000.0, nan], [1.0, inf, 0.0, nan], [1.0, inf, 0.0, nan]),
    "sigmoid": ([0.0, 1000.0, -1000.0, inf], [0.5, 1.0, 0.0, 1.0], [0.25, 0.0, 0.0, 0.0]),
    "tanh": ([0.0, 100.0, -inf], [0.0, 1.0, -1.0], [1.0, 0.0, 0.0]),
    "reciprocal": ([0.0, -0.0, 2.0, inf], [inf, -inf, 0.5, 0.0], [-inf, -inf, -0.25, 0.0]),
    "rsqrt": ([0.0, 4.0, -1.0], [inf, 0.5, nan], [-inf, -0.0625, nan]),
    "square": ([0.0, -3.0, inf], [0.0, 9.0, inf], [0.0, -6.0, inf]),
    "floor": ([-1.5, 0.0, 1.5], [-2.0, 0.0, 1.0], [0.0, 0.0, 0.0]),
    "round": ([0.5, 1.5, 2.5, -0.5], [0.0, 2.0, 2.0, -0.0], [0.0] * 4),
    "trunc": ([-1.5, 1.5], [-1.0, 1.0], [0.0, 0.0]),
}


@pytest.mark.parametrize("name", EDGES)
def test_values_and_gradients_at_the_edges(name):
    data, values, gradients = EDGES[name]
    x = sg.tensor(data, dtype=sg.float64, requires_grad=True)
    y = getattr(sg, name)(x)
    np.testing.assert_array_equal(y.detach().numpy(), values)
    if gradients is not None:
        y.backward(sg.ones(len(data), dtype=sg.float64))
        np.testing.assert_array_equal(x.grad.numpy(), gradients)


@pytest.mark.parametrize("name", EDGES)
def test_torch_agrees_at_the_edges(name):
    torch = pytest.importorskip("torch")
    data, values, gradients = EDGES[name]
    x = torch.tensor(data, dtype=torch.float64, requires_grad=True)
    y = getattr(torch, name)(x)
    np.testing.assert_array_equal(y.detach().numpy(), values)
    if gradients is not None:
        y.backward(torch.ones(len(data), dtype=torch.float64))
        np.testing.assert_array_equal(x.grad.numpy(), gradients)


def gradients_of(function, *data):
    xs = [sg.tensor(d, dtype=sg.float64, requires_grad=True) for d in data]
    y = function(*xs)
    y.backward(sg.ones_like(y))
    return [y.detach().tolist(), *[x.grad.tolist() for x in xs]]


def test_maximum_and_minimum_split_ties_and_pass_nan():
    assert gradients_of(sg.maximum, [1.0, 2.0, 3.0], [2.0, 2.0, 1.0]) == [
        [2.0, 2.0, 3.0],
        [0.0, 0.5, 1.0],
        [1.0, 0.5, 0.0],
    ]
    assert gradients_of(sg.minimum, [1.0, 2.0, 3.0], [2.0, 2.0, 1.0]) == [
        [1.0, 2.0, 1.0],
        [1.0, 0.5, 0.0],
        [0.0, 0.5, 1.0],
    ]
    assert np.isnan(sg.maximum(sg.tensor([nan, 1.0]), sg.tensor([1.0, nan])).numpy()).all()


def test_clamp_passes_at_its_bounds():
    assert gradients_of(lambda x: x.clamp(-1, 1), [-2.0, -1.0, 0.0, 1.0, 2.0]) == [
        [-1.0, -1.0, 0.0, 1.0, 1.0],
        [0.0, 1.0, 1.0, 1.0, 0.0],
    ]
    assert sg.tensor([1, 5, 9]).clamp(2, 6.5).tolist() == [2.0, 5.0, 6.5]
    assert math.isnan(sg.tensor([nan]).clamp(0, 1).item())
    assert sg.tensor([0.0, 5.0]).clamp(sg.tensor([1.0, 1.0]), sg.tensor([2.0, 2.0])).tolist() == [1.0, 2.0]


def test_division_and_remainders_have_pytorchs_signs():
    a, b = sg.tensor([7.0, -7.0, 7.0, -7.0]), sg.tensor([3.0, 3.0, -3.0, -3.0])
    assert (a // b).tolist() == [2.0, -3.0, -3.0, 2.0]
    assert (a % b).tolist() == [1.0, 2.0, -2.0, -1.0]
    assert sg.fmod(a, b).tolist() == [1.0, -1.0, 1.0, -1.0]
    assert sg.div(a, b, rounding_mode="trunc").tolist() == [2.0, -2.0, -2.0, 2.0]
    assert sg.div(sg.tensor([7, -7]), 2, rounding_mode="trunc").tolist() == [3, -3]
    assert sg.div(sg.tensor([7, -7]), 2, rounding_mode="floor").tolist() == [3, -4]
    assert sg.div(sg.tensor([7, -7]), 2, rounding_mode="trunc").dtype == sg.int64
    assert (7 // sg.tensor([2, 3])).tolist() == [3, 2]
    assert (7 % sg.tensor([2, 3])).tolist() == [1, 1]
    assert (a / 0).tolist() == [inf, -inf, inf, -inf]


def test_powers():
    assert (2 ** sg.tensor([1, 2])).tolist() == [2, 4]
    assert (2.0 ** sg.tensor([1, 2])).dtype == sg.float32
    assert (sg.tensor([2, 3]) ** 2).tolist() == [4, 9]
    assert gradients_of(lambda a, n: a**n, [0.0, 0.0, 2.0], [2.0, 0.0, 3.0])[1] == [0.0, 0.0, 12.0]
    assert gradients_of(lambda a: a**2, [0.0, -3.0]) == [[0.0, 9.0], [0.0, -6.0]]


def test_alpha_value_and_weight():
    a, b = sg.tensor([1.0, 2.0]), sg.tensor([3.0, 5.0])
    assert sg.add(a, b, alpha=2).tolist() == [7.0, 12.0]
    assert sg.sub(a, b, alpha=0.5).tolist() == [-0.5, -0.5]
    assert sg.addcmul(a, b, b, value=2).tolist() == [19.0, 52.0]
    assert sg.addcdiv(a, b, b, value=2).tolist() == [3.0, 4.0]
    assert sg.lerp(a, b, 0.5).tolist() == [2.0, 3.5]
    assert sg.round(sg.tensor([1.256, -1.254]), decimals=2).tolist() == pytest.approx([1.26, -1.25])


def test_closeness():
    a = sg.tensor([1.0, nan, inf])
    assert sg.isclose(a, a).tolist() == [True, False, True]
    assert sg.isclose(a, a, equal_nan=True).tolist() == [True, True, True]
    assert sg.allclose(sg.ones(2), sg.ones(2) * (1 + 1e-6))
    assert not sg.allclose(sg.ones(2), sg.ones(2) * 1.001)
    with pytest.raises(RuntimeError, match=r"isclose\(\): The size of tensor a \(2\) must match"):
        sg.allclose(sg.ones(2), sg.ones(3))
    assert sg.equal(sg.ones(2), sg.ones(2))
    assert not sg.equal(sg.ones(2), sg.ones(2, 1))
