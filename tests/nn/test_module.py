"""Module: what it registers, how it is walked and printed, and what it refuses."""

import copy
import pickle
import re
from collections import OrderedDict

import numpy as np
import pytest

import scalargrad
from scalargrad import nn
from scalargrad.nn import functional as F


class LeNet(nn.Module):
    def __init__(self):
        super().__init__()
        self.conv1 = nn.Conv2d(1, 6, 3)
        self.conv2 = nn.Conv2d(6, 16, 3)
        self.fc1 = nn.Linear(16 * 6 * 6, 120)
        self.fc2 = nn.Linear(120, 84)
        self.fc3 = nn.Linear(84, 10)

    def forward(self, x):
        x = F.max_pool2d(F.relu(self.conv1(x)), (2, 2))
        x = F.max_pool2d(F.relu(self.conv2(x)), 2)
        x = x.view(x.size(0), -1)
        return self.fc3(F.relu(self.fc2(F.relu(self.fc1(x)))))


class Tree(nn.Module):
    """Parameters, buffers and modules on two levels, one module under two names."""

    def __init__(self):
        super().__init__()
        self.scale = nn.Parameter(scalargrad.ones(2))
        self.register_buffer("seen", scalargrad.zeros(3))
        self.register_buffer("scratch", scalargrad.zeros(1), persistent=False)
        self.first = nn.Linear(2, 2)
        self.block = nn.Sequential(OrderedDict(norm=nn.BatchNorm1d(2), act=nn.ReLU()))
        self.again = self.first

    def forward(self, x):
        return self.block(self.first(x) * self.scale)


LENET = """\
LeNet(
  (conv1): Conv2d(1, 6, kernel_size=(3, 3), stride=(1, 1))
  (conv2): Conv2d(6, 16, kernel_size=(3, 3), stride=(1, 1))
  (fc1): Linear(in_features=576, out_features=120, bias=True)
  (fc2): Linear(in_features=120, out_features=84, bias=True)
  (fc3): Linear(in_features=84, out_features=10, bias=True)
)"""

TREE = """\
Tree(
  (first): Linear(in_features=2, out_features=2, bias=True)
  (block): Sequential(
    (norm): BatchNorm1d(2, eps=1e-05, momentum=0.1, affine=True, bias=True, track_running_stats=True)
    (act): ReLU()
  )
  (again): Linear(in_features=2, out_features=2, bias=True)
)"""


def test_modules_print_nested_as_in_pytorch():
    assert repr(LeNet()) == LENET
    assert repr(Tree()) == TREE
    assert repr(nn.Module()) == "Module()"


def test_extra_lines_are_printed_before_the_children():
    class Noted(nn.Module):
        def __init__(self):
            super().__init__()
            self.act = nn.Tanh()

        def extra_repr(self):
            return "a=1\nb=2"

    assert repr(Noted()) == "Noted(\n  a=1\n  b=2\n  (act): Tanh()\n)"


def test_parameters_come_in_order_of_assignment_own_before_children_and_once():
    tree = Tree()
    names = [name for name, _ in tree.named_parameters()]
    assert names == ["scale", "first.weight", "first.bias", "block.norm.weight", "block.norm.bias"]
    assert [id(p) for p in tree.parameters()] == [id(p) for _, p in tree.named_parameters()]
    assert [name for name, _ in tree.named_parameters(recurse=False)] == ["scale"]
    assert [name for name, _ in tree.named_parameters(prefix="net")][1] == "net.first.weight"
    assert [n for n, _ in tree.named_parameters(remove_duplicate=False)][-2:] == ["again.weight", "again.bias"]
    assert len(list(LeNet().parameters())) == 10


def test_a_parameter_under_two_names_is_one():
    net = nn.Sequential(nn.Linear(3, 3), nn.Linear(3, 3))
    net[1].weight = net[0].weight
    assert [name for name, _ in net.named_parameters()] == ["0.weight", "0.bias", "1.bias"]


def test_buffers_modules_and_children_are_found():
    tree = Tree()
    expected = [
        "seen",
        "scratch",
        "block.norm.running_mean",
        "block.norm.running_var",
        "block.norm.num_batches_tracked",
    ]
    assert [name for name, _ in tree.named_buffers()] == expected
    assert len(list(tree.buffers(recurse=False))) == 2
    assert [name for name, _ in tree.named_modules()] == ["", "first", "block", "block.norm", "block.act"]
    assert [name for name, _ in tree.named_children()] == ["first", "block"]
    assert list(tree.children()) == [tree.first, tree.block]
    assert [type(m).__name__ for m in tree.modules()] == ["Tree", "Linear", "Sequential", "BatchNorm1d", "ReLU"]


def test_a_chain_of_ten_thousand_modules_is_walked_without_recursion():
    outer = inner = nn.Module()
    for _ in range(10_000):
        inner.next = nn.Module()
        inner = inner.next
    inner.weight = nn.Parameter(scalargrad.zeros(1))
    ((name, p),) = outer.named_parameters()
    assert name == "next." * 10_000 + "weight"
    assert p is inner.weight
    while outer is not inner:  # taken apart from the top, as no interpreter frees such a chain without recursion
        outer = outer.next


def test_submodules_parameters_and_buffers_are_found_by_path():
    tree = Tree()
    assert tree.get_submodule("block.norm") is tree.block.norm
    assert tree.get_submodule("") is tree
    assert tree.get_parameter("block.norm.weight") is tree.block.norm.weight
    assert tree.get_buffer("block.norm.running_var") is tree.block.norm.running_var


@pytest.mark.parametrize(
    ("method", "path", "words"),
    [
        ("get_submodule", "block.none", "Sequential has no attribute `none`"),
        ("get_submodule", "scale", "`scale` is not an nn.Module"),
        ("get_parameter", "block.norm.none", "BatchNorm1d has no attribute `none`"),
        ("get_parameter", "seen", "`seen` is not an nn.Parameter"),
        ("get_buffer", "scale", "`scale` is not a buffer"),
    ],
)
def test_a_path_that_leads_nowhere_is_an_attribute_error(method, path, words):
    with pytest.raises(AttributeError, match=re.escape(words)):
        getattr(Tree(), method)(path)


def test_assignment_registers_by_type_and_gives_way_by_type():
    net = nn.Module()
    net.x = 3
    net.x = nn.Parameter(scalargrad.zeros(2))
    assert list(net._parameters) == ["x"]
    net.x = nn.Tanh()
    assert list(net._parameters) == []
    assert list(net._modules) == ["x"]
    net.x = None
    assert net.x is None
    assert list(net.children()) == []
    net.x = nn.Parameter(scalargrad.ones(1))
    assert [name for name, _ in net.named_parameters()] == ["x"]
    net.x = None
    assert list(net.parameters()) == []
    net.t = scalargrad.zeros(3)
    assert list(net.buffers()) == [], "a plain tensor is a plain attribute"


def test_deleting_an_attribute_unregisters_it():
    tree = Tree()
    del tree.scale, tree.scratch, tree.again
    assert next(tree.named_parameters())[0] == "first.weight"
    assert "scratch" not in dict(tree.named_buffers())
    with pytest.raises(AttributeError):
        del tree.scale
    tree.scratch = scalargrad.ones(2)
    assert "scratch" not in tree.state_dict()
    tree.scratch = nn.Parameter(scalargrad.ones(2))
    assert "scratch" in tree.state_dict(), "what is not saved was the buffer, not the name"


@pytest.mark.parametrize(
    ("name", "value", "words"),
    [
        (
            "weight",
            scalargrad.zeros(2, 2),
            "cannot assign 'Tensor' as parameter 'weight' (torch.nn.Parameter or None expected)",
        ),
        ("weight", 3, "cannot assign 'int' as parameter 'weight'"),
        ("inner", 3, "cannot assign 'int' as child module 'inner' (torch.nn.Module or None expected)"),
        ("state", 3, "cannot assign 'int' as buffer 'state' (torch.Tensor or None expected)"),
    ],
)
def test_a_registered_name_takes_nothing_of_another_type(name, value, words):
    net = nn.Linear(2, 2)
    net.inner = nn.Tanh()
    net.register_buffer("state", scalargrad.zeros(1))
    before = getattr(net, name)
    with pytest.raises(TypeError, match=re.escape(words)):
        setattr(net, name, value)
    assert getattr(net, name) is before


class Before(nn.Module):
    """Does something before `super().__init__()`."""

    def __init__(self, action):
        action(self)


@pytest.mark.parametrize(
    ("action", "words"),
    [
        (lambda m: setattr(m, "fc", nn.Tanh()), "cannot assign module before Module.__init__() call"),
        (
            lambda m: setattr(m, "w", nn.Parameter(scalargrad.ones(1))),
            "cannot assign parameters before Module.__init__() call",
        ),
        (lambda m: m.register_buffer("b", None), "cannot assign buffer before Module.__init__() call"),
        (lambda m: m.register_parameter("w", None), "cannot assign parameter before Module.__init__() call"),
        (lambda m: m.add_module("m", None), "cannot assign module before Module.__init__() call"),
        (lambda m: m(1), "Before.__init__() must call super().__init__() first"),
        (lambda m: list(m.parameters()), "Before.__init__() must call super().__init__() first"),
    ],
)
def test_a_module_does_nothing_before_its_init(action, words):
    with pytest.raises(AttributeError, match=re.escape(words)):
        Before(action)


@pytest.mark.parametrize("kind", ["buffer", "parameter", "module"])
@pytest.mark.parametrize(
    ("name", "error", "words"),
    [
        (3, TypeError, "{} name should be a string. Got int"),
        ("a.b", KeyError, '{} name can\'t contain "."'),
        ("", KeyError, '{} name can\'t be empty string ""'),
        ("forward", KeyError, "attribute 'forward' already exists"),
        ("plain", KeyError, "attribute 'plain' already exists"),
    ],
)
def test_registering_refuses_bad_names(kind, name, error, words):
    net = nn.Module()
    net.plain = 1
    with pytest.raises(error) as caught:
        getattr(net, f"register_{kind}")(name, None)
    assert words.format(kind) in str(caught.value.args[0])


def test_registering_refuses_bad_values():
    net = nn.Module()
    with pytest.raises(TypeError, match="cannot assign 'int' object to buffer 'b'"):
        net.register_buffer("b", 1)
    with pytest.raises(TypeError, match="cannot assign 'Tensor' object to parameter 'p'"):
        net.register_parameter("p", scalargrad.zeros(1))
    with pytest.raises(TypeError, match="int is not a Module subclass"):
        net.add_module("m", 1)


def test_a_missing_attribute_is_named_with_the_class():
    with pytest.raises(AttributeError, match="'LeNet' object has no attribute 'fc4'"):
        _ = LeNet().fc4
    assert not hasattr(LeNet(), "fc4")
    assert getattr(LeNet(), "fc4", 5) == 5


def test_dir_lists_what_is_registered_but_no_numbers():
    assert {"scale", "seen", "block", "forward", "training"} <= set(dir(Tree()))
    assert "0" not in dir(nn.Sequential(nn.Tanh()))


def test_the_registries_can_be_written_to():
    net = nn.Sequential(OrderedDict(a=nn.Tanh(), b=nn.Linear(1, 1)))
    net._modules["a"] = nn.ReLU()
    assert isinstance(net.a, nn.ReLU)
    assert list(net._modules.items()) == [("a", net.a), ("b", net.b)]
    del net._modules["a"]
    assert not hasattr(net, "a")
    with pytest.raises(KeyError):
        net._modules["a"]
    with pytest.raises(KeyError):
        del net._parameters["b"]


def test_calling_a_module_without_forward_is_not_implemented():
    class Empty(nn.Module):
        pass

    with pytest.raises(
        NotImplementedError, match=re.escape('Module [Empty] is missing the required "forward" function')
    ):
        Empty()(1)


def test_train_and_eval_reach_all_modules_and_may_be_overridden():
    class Frozen(nn.BatchNorm1d):
        def train(self, mode=True):
            return super().train(False)

    tree = Tree()
    tree.block.frozen = Frozen(2)
    assert tree.eval() is tree
    assert not any(m.training for m in tree.modules())
    assert tree.train() is tree
    assert [m.training for m in tree.modules()] == [True, True, True, True, True, False]
    with pytest.raises(ValueError, match="training mode is expected to be boolean"):
        tree.train(1)


def test_apply_visits_children_before_parents():
    visited = []
    tree = Tree()
    assert tree.apply(lambda m: visited.append(type(m).__name__)) is tree
    assert visited == ["Linear", "BatchNorm1d", "ReLU", "Sequential", "Tree"]


def test_zero_grad_fills_with_zeros_and_leaves_none_alone():
    net = nn.Sequential(nn.Linear(2, 2), nn.Linear(2, 1))
    net[0](scalargrad.ones(1, 2)).sum().backward()
    held = net[0].weight.grad
    net.zero_grad()
    assert net[0].weight.grad is held
    np.testing.assert_array_equal(held.numpy(), np.zeros((2, 2)))
    assert net[1].weight.grad is None
    net.zero_grad(set_to_none=True)
    assert net[0].weight.grad is None


def test_zero_grad_leaves_a_recorded_gradient_to_its_graph():
    w = nn.Parameter(scalargrad.tensor([2.0]))
    net = nn.Module()
    net.w = w
    (w**3).sum().backward(create_graph=True)
    first = w.grad
    net.zero_grad()
    np.testing.assert_array_equal(w.grad.numpy(), [0.0])
    assert not w.grad.requires_grad
    (second,) = scalargrad.autograd.grad(first, w)
    np.testing.assert_allclose(second.numpy(), [12.0])


def test_requires_grad_freezes_all_parameters():
    tree = Tree()
    assert tree.requires_grad_(False) is tree
    assert not any(p.requires_grad for p in tree.parameters())
    assert not tree(scalargrad.ones(3, 2)).requires_grad
    tree.block.requires_grad_()
    assert [p.requires_grad for p in tree.parameters()] == [False, False, False, True, True]


def test_conversion_keeps_the_parameters_and_converts_gradients_and_float_buffers():
    tree = Tree()
    tree(scalargrad.ones(3, 2)).sum().backward()
    parameters = list(tree.parameters())
    gradient = tree.first.weight.grad.numpy().copy()
    assert tree.double() is tree
    assert [id(p) for p in tree.parameters()] == [id(p) for p in parameters]
    assert {p.dtype for p in tree.parameters()} == {p.grad.dtype for p in parameters} == {scalargrad.float64}
    np.testing.assert_array_equal(tree.first.weight.grad.numpy(), gradient.astype(np.float64))
    assert tree.block.norm.running_mean.dtype == scalargrad.float64
    assert tree.block.norm.num_batches_tracked.dtype == scalargrad.int64
    out = tree(scalargrad.ones(3, 2).double())
    assert out.dtype == scalargrad.float64
    out.sum().backward()
    assert tree.to(scalargrad.float32).first.weight.dtype == scalargrad.float32
    assert tree.to("cpu") is tree.cpu() is tree
    assert tree.to(scalargrad.zeros(1).double()).scale.dtype == scalargrad.float64
    assert tree.to(device="cpu", dtype=scalargrad.float32).scale.dtype == scalargrad.float32
    assert tree.double().float().scale.dtype == scalargrad.float32
    assert tree.to("float64").scale.dtype == scalargrad.float64


@pytest.mark.parametrize(
    ("args", "kwargs", "error", "words"),
    [
        ((np.dtype(np.int64),), {}, TypeError, "only accepts floating point dtypes, but got desired dtype=int64"),
        (("cuda",), {}, RuntimeError, "the only one there is, got cuda"),
        ((), {"device": "meta"}, RuntimeError, "the only one there is, got meta"),
        ((), {"dtyp": np.float64}, TypeError, "unexpected keyword argument 'dtyp'"),
        ((np.complex64,), {}, TypeError, "Module.to(): expected one of float32"),
    ],
)
def test_conversion_refuses_what_is_no_float(args, kwargs, error, words):
    net = nn.Linear(1, 1)
    with pytest.raises(error, match=re.escape(words)):
        net.to(*args, **kwargs)
    assert net.weight.dtype == scalargrad.float32


@pytest.mark.parametrize("copied", [copy.deepcopy, lambda m: pickle.loads(pickle.dumps(m))], ids=["deepcopy", "pickle"])
def test_a_copied_module_computes_the_same_and_shares_nothing(copied):
    tree = Tree()
    tree.register_forward_hook(_doubled)
    x = scalargrad.randn(4, 2)
    tree(x)  # moves the running statistics
    other = copied(tree.eval())
    assert repr(other) == TREE
    assert other.first is other.again, "what was shared inside is shared again"
    np.testing.assert_array_equal(other(x).detach().numpy(), tree(x).detach().numpy())
    for (name, p), (same, q) in zip(tree.named_parameters(), other.named_parameters(), strict=True):
        assert name == same
        assert type(q) is nn.Parameter
        assert q.requires_grad
        assert not np.shares_memory(p.detach().numpy(), q.detach().numpy())
    assert "scratch" not in other.state_dict()
    with scalargrad.no_grad():
        other.first.weight.fill_(0)
    assert tree.first.weight.abs().sum().item() > 0


def _doubled(module, args, output):
    return output * 2
