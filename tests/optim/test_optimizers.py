"""Optimisers: every option against its formula, written out here for one number at a time, and against PyTorch."""

import copy
import math
import pickle
import re

import numpy as np
import pytest

import scalargrad
from scalargrad import nn, optim

N_STEPS = 5


def sgd(p, gradients, lr=1e-3, momentum=0, dampening=0, weight_decay=0, nesterov=False, maximize=False):
    buffer = None
    for g in gradients:
        g = (-g if maximize else g) + weight_decay * p
        if momentum:
            buffer = g if buffer is None else momentum * buffer + (1 - dampening) * g
            g = g + momentum * buffer if nesterov else buffer
        p = p - lr * g
    return p


def adam(
    p,
    gradients,
    lr=1e-3,
    betas=(0.9, 0.999),
    eps=1e-8,
    weight_decay=0.0,
    amsgrad=False,
    maximize=False,
    decoupled=False,
):
    m = v = largest = 0.0
    for t, g in enumerate(gradients, 1):
        g = -g if maximize else g
        if decoupled:
            p = p - lr * weight_decay * p
        else:
            g = g + weight_decay * p
        m = betas[0] * m + (1 - betas[0]) * g
        v = betas[1] * v + (1 - betas[1]) * g * g
        largest = max(largest, v) if amsgrad else v
        p = p - lr * (m / (1 - betas[0] ** t)) / (math.sqrt(largest) / math.sqrt(1 - betas[1] ** t) + eps)
    return p


def adamw(p, gradients, weight_decay=1e-2, **options):
    return adam(p, gradients, weight_decay=weight_decay, decoupled=True, **options)


def rmsprop(p, gradients, lr=1e-2, alpha=0.99, eps=1e-8, weight_decay=0, momentum=0, centered=False, maximize=False):
    v = mean = buffer = 0.0
    for g in gradients:
        g = (-g if maximize else g) + weight_decay * p
        v = alpha * v + (1 - alpha) * g * g
        mean = alpha * mean + (1 - alpha) * g
        d = g / (math.sqrt(v - mean * mean if centered else v) + eps)
        if momentum:
            buffer = momentum * buffer + d
            d = buffer
        p = p - lr * d
    return p


CASES = [
    (optim.SGD, sgd, {}),
    (optim.SGD, sgd, {"lr": 0.3}),
    (optim.SGD, sgd, {"lr": 0.3, "maximize": True, "weight_decay": 0.2}),
    (optim.SGD, sgd, {"lr": 0.3, "momentum": 0.9}),
    (optim.SGD, sgd, {"lr": 0.3, "momentum": 0.9, "dampening": 0.4, "weight_decay": 0.2}),
    (optim.SGD, sgd, {"lr": 0.3, "momentum": 0.9, "nesterov": True, "weight_decay": 0.2, "maximize": True}),
    (optim.Adam, adam, {}),
    (optim.Adam, adam, {"lr": 0.3, "betas": (0.5, 0.7), "eps": 0.1, "weight_decay": 0.2}),
    (optim.Adam, adam, {"lr": 0.3, "betas": (0.5, 0.7), "amsgrad": True}),
    (optim.Adam, adam, {"lr": 0.3, "maximize": True, "weight_decay": 0.2}),
    (optim.AdamW, adamw, {}),
    (optim.AdamW, adamw, {"lr": 0.3, "weight_decay": 0.4, "amsgrad": True, "betas": (0.5, 0.7)}),
    (optim.AdamW, adamw, {"lr": 0.3, "maximize": True}),
    (optim.RMSprop, rmsprop, {}),
    (optim.RMSprop, rmsprop, {"lr": 0.3, "alpha": 0.6, "eps": 0.1, "weight_decay": 0.2}),
    (optim.RMSprop, rmsprop, {"lr": 0.3, "alpha": 0.6, "centered": True}),
    (optim.RMSprop, rmsprop, {"lr": 0.3, "alpha": 0.6, "momentum": 0.8, "maximize": True}),
    (optim.RMSprop, rmsprop, {"lr": 0.3, "alpha": 0.6, "momentum": 0.8, "centered": True, "weight_decay": 0.2}),
]
SHAPES = [(3, 4), (5,), (), (2, 0)]


def data(seed=0, n_steps=N_STEPS):
    """Start values, and the gradients of each step: the last one small, so that amsgrad makes a difference."""
    rng = np.random.default_rng(seed)
    start = [rng.normal(size=s) for s in SHAPES]
    gradients = [[rng.normal(size=s) * (0.01 if t == n_steps - 1 else 1) for s in SHAPES] for t in range(n_steps)]
    return start, gradients


def run(kind, options, start, gradients, library=scalargrad, dtype=np.float64):
    """Parameters after each step."""
    params = [library.tensor(p.astype(dtype), requires_grad=True) for p in start]
    optimizer = kind(params, **options)
    seen = []
    for step in gradients:
        for p, g in zip(params, step, strict=True):
            p.grad = library.tensor(g.astype(dtype))
        optimizer.step()
        seen.append([p.detach().numpy().copy() for p in params])
    return seen


@pytest.mark.parametrize(("kind", "formula", "options"), CASES)
def test_each_step_is_the_formula(kind, formula, options):
    start, gradients = data()
    seen = run(kind, options, start, gradients)
    for t in range(N_STEPS):
        for i, p in enumerate(start):
            for index in np.ndindex(p.shape):
                expected = formula(p[index], [g[i][index] for g in gradients[: t + 1]], **options)
                assert seen[t][i][index] == pytest.approx(expected, rel=1e-10, abs=1e-12)


@pytest.mark.parametrize(("kind", "formula", "options"), CASES)
def test_each_option_makes_a_difference_in_these_data(kind, formula, options):
    start, gradients = data()
    seen = run(kind, options, start, gradients)
    for name in options:
        others = {k: v for k, v in options.items() if k != name}
        if name in ("momentum", "dampening") and options.get("nesterov"):
            continue
        assert not np.allclose(seen[-1][0], run(kind, others, start, gradients)[-1][0], rtol=1e-9), name


@pytest.mark.parametrize(("kind", "formula", "options"), CASES)
def test_a_run_goes_on_from_a_saved_state_as_if_it_had_not_stopped(kind, formula, options):
    start, gradients = data(2)
    whole = run(kind, options, start, gradients)
    params = [scalargrad.tensor(p, requires_grad=True) for p in start]
    optimizer = kind(params, **options)
    for t, step in enumerate(gradients):
        for p, g in zip(params, step, strict=True):
            p.grad = scalargrad.tensor(g)
        optimizer.step()
        saved = pickle.loads(pickle.dumps(optimizer.state_dict()))
        params = [p.detach().clone().requires_grad_() for p in params]
        optimizer = kind(params, lr=99.0)
        optimizer.load_state_dict(saved)
        assert repr(optimizer.param_groups[0]["lr"]) == repr(saved["param_groups"][0]["lr"])
        for p, expected in zip(params, whole[t], strict=True):
            np.testing.assert_array_equal(p.detach().numpy(), expected)


def test_parameters_without_gradient_are_skipped_and_counted_by_themselves():
    a, b = (scalargrad.ones(2, requires_grad=True) for _ in "ab")
    optimizer = optim.Adam([a, b], lr=0.1)
    a.grad = scalargrad.ones(2)
    optimizer.step()
    assert b.tolist() == [1.0, 1.0]
    assert b not in optimizer.state
    b.grad = scalargrad.full((2,), 5.0)
    optimizer.step()
    assert b.detach().numpy() == pytest.approx(0.9), "its first step, of size lr"
    assert (optimizer.state[a]["step"], optimizer.state[b]["step"]) == (2, 1)


def test_a_later_first_gradient_fills_the_momentum_buffer_undampened():
    a, b = (scalargrad.zeros(1, requires_grad=True) for _ in "ab")
    optimizer = optim.SGD([a, b], lr=1.0, momentum=0.5, dampening=0.9)
    a.grad = scalargrad.ones(1)
    optimizer.step()
    b.grad = scalargrad.ones(1)
    optimizer.step()
    assert b.item() == -1.0
    assert a.item() == pytest.approx(-1.0 - 0.6)


def test_groups_have_options_of_their_own():
    a, b = (scalargrad.ones(1, requires_grad=True) for _ in "ab")
    optimizer = optim.SGD([{"params": a}, {"params": [b], "lr": 0.5, "name": "head"}], lr=0.1)
    a.grad = b.grad = scalargrad.ones(1)
    optimizer.step()
    assert (a.item(), b.item()) == (pytest.approx(0.9), pytest.approx(0.5))
    optimizer.param_groups[0]["lr"] = 1.0
    optimizer.step()
    assert a.item() == pytest.approx(-0.1)
    c = scalargrad.ones(1, requires_grad=True)
    given = {"params": (c,), "momentum": 0.9}
    optimizer.add_param_group(given)
    assert given == {"params": (c,), "momentum": 0.9}, "what the caller gave is not changed"
    assert [g["momentum"] for g in optimizer.param_groups] == [0, 0, 0.9]
    assert [g["lr"] for g in optimizer.param_groups] == [1.0, 0.5, 0.1]


def test_a_step_is_a_write_that_the_graph_notices_and_records_nothing():
    w = scalargrad.ones(2, requires_grad=True)
    y = (w * w).sum()
    y.backward(retain_graph=True)
    optim.SGD([w], lr=0.1).step()
    assert w.is_leaf
    assert w.requires_grad
    with pytest.raises(RuntimeError, match="modified by an inplace operation"):
        y.backward()


def test_the_closure_runs_with_gradients_and_its_loss_comes_back():
    w = scalargrad.tensor([3.0], requires_grad=True)
    optimizer = optim.SGD([w], lr=0.5)

    def closure():
        optimizer.zero_grad()
        loss = (w * w).sum()
        loss.backward()
        return loss

    with scalargrad.no_grad():
        loss = optimizer.step(closure)
    assert loss.item() == 9.0
    assert w.item() == 0.0
    assert optimizer.step() is None


def test_zero_grad_fills_or_drops():
    a, b = (scalargrad.ones(2, requires_grad=True) for _ in "ab")
    optimizer = optim.SGD([a, b])
    (a * 2).sum().backward()
    optimizer.zero_grad()
    assert a.grad.tolist() == [0.0, 0.0]
    assert b.grad is None
    optimizer.zero_grad(set_to_none=True)
    assert a.grad is None


def test_training_a_small_network_lowers_its_loss_with_every_optimizer():
    x = scalargrad.randn(64, 2)
    t = (x[:, :1] * x[:, 1:] > 0).double().float()
    for kind, options in (
        (optim.SGD, {"lr": 0.5, "momentum": 0.9}),
        (optim.Adam, {"lr": 0.05}),
        (optim.AdamW, {"lr": 0.05}),
        (optim.RMSprop, {"lr": 0.01}),
    ):
        scalargrad.manual_seed(3)
        net, loss_of = nn.Sequential(nn.Linear(2, 16), nn.Tanh(), nn.Linear(16, 1)), nn.BCEWithLogitsLoss()
        optimizer = kind(net.parameters(), **options)
        for _ in range(150):
            optimizer.zero_grad()
            loss = loss_of(net(x), t)
            loss.backward()
            optimizer.step()
        assert loss.item() < 0.2, kind.__name__


def test_a_step_takes_parameters_of_any_layout():
    base = scalargrad.zeros(4, 6)
    view = base.numpy()[::2, ::-3]
    w = nn.Parameter(scalargrad.from_numpy(view))
    w.grad = scalargrad.from_numpy(np.arange(4.0, dtype=np.float32).reshape(2, 2).T)
    optim.SGD([w], lr=1.0, momentum=0.9).step()
    np.testing.assert_array_equal(view, -np.array([[0, 2], [1, 3]], np.float32))
    assert base.numpy()[1::2].sum() == 0


def test_the_state_dict_numbers_parameters_over_all_groups():
    a, b = (scalargrad.ones(2, requires_grad=True) for _ in "ab")
    b.grad = scalargrad.ones(2)
    optimizer = optim.SGD([{"params": [a], "lr": 0.5}, {"params": [b]}], momentum=0.9)
    optimizer.step()
    options = {"momentum": 0.9, "dampening": 0, "weight_decay": 0, "nesterov": False, "maximize": False}
    saved = optimizer.state_dict()
    assert saved["param_groups"] == [{"lr": 0.5, **options, "params": [0]}, {"lr": 1e-3, **options, "params": [1]}]
    assert list(saved["state"]) == [1]
    assert saved["state"][1]["momentum_buffer"] is optimizer.state[b]["momentum_buffer"]


def test_a_loaded_state_is_a_copy_in_the_dtype_of_the_parameter():
    def optimizer(dtype):
        w = scalargrad.ones(2, dtype=dtype, requires_grad=True)
        w.grad = scalargrad.ones(2, dtype=dtype)
        made = optim.SGD([w], momentum=0.9)
        made.step()
        return w, made

    _, first = optimizer(scalargrad.float32)
    saved = first.state_dict()
    w, second = optimizer(scalargrad.float64)
    second.load_state_dict(saved)
    buffer = second.state[w]["momentum_buffer"]
    assert buffer.dtype == scalargrad.float64
    buffer.fill_(5)
    assert saved["state"][0]["momentum_buffer"].tolist() == [1.0, 1.0]
    second.param_groups[0]["lr"] = 7
    assert saved["param_groups"][0]["lr"] == 1e-3


def test_what_is_remembered_beside_the_parameters_is_loaded_too():
    w = scalargrad.ones(1, requires_grad=True)
    first, second = optim.SGD([w]), optim.SGD([w])
    first.state["rounds"]["done"] = [3]
    saved = first.state_dict()
    second.load_state_dict(saved)
    assert second.state["rounds"] == {"done": [3]}
    assert second.state["rounds"]["done"] is not saved["state"]["rounds"]["done"]


def test_parameters_of_two_dtypes_move_in_one_step():
    a, b = scalargrad.ones(3, requires_grad=True), scalargrad.ones(3, dtype=np.float64, requires_grad=True)
    a.grad, b.grad = scalargrad.ones(3), scalargrad.ones(3, dtype=np.float64)
    for kind in (optim.SGD, optim.Adam, optim.RMSprop):
        kind([a, b], lr=0.125).step()
    assert a.tolist() == pytest.approx(b.tolist(), rel=1e-6)
    assert (a.dtype, b.dtype) == (scalargrad.float32, scalargrad.float64)
    assert a.tolist()[0] < 0.5


def test_a_step_count_that_is_a_tensor_is_taken_as_a_number():
    w = scalargrad.ones(1, requires_grad=True)
    w.grad = scalargrad.ones(1)
    optimizer = optim.Adam([w])
    optimizer.step()
    saved = optimizer.state_dict()
    saved["state"][0]["step"] = scalargrad.tensor(1.0)
    optimizer.load_state_dict(saved)
    optimizer.step()
    assert optimizer.state[w]["step"] == 2


def loaded(change):
    a, b = (scalargrad.ones(2, requires_grad=True) for _ in "ab")
    a.grad = b.grad = scalargrad.ones(2)
    optimizer = optim.SGD([a, b], lr=0.1, momentum=0.9)
    optimizer.step()
    saved = copy.deepcopy(optimizer.state_dict())
    change(saved)
    optimizer.load_state_dict(saved)


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda s: s["param_groups"].append(s["param_groups"][0]), "has a different number of parameter groups"),
        (
            lambda s: s["param_groups"][0]["params"].pop(),
            "parameter group that doesn't match the size of optimizer's group",
        ),
        (
            lambda s: s["state"][0].update(momentum_buffer=scalargrad.ones(3)),
            "momentum_buffer of shape torch.Size([3])",
        ),
        (lambda s: s["state"].update({5: {}}), "state for parameter 5, which no group contains"),
        (lambda s: s["param_groups"][0].update(lr=-1), "Invalid learning rate: -1"),
    ],
)
def test_loading_refuses_a_state_that_does_not_fit(change, words):
    with pytest.raises(ValueError, match=re.escape(words)):
        loaded(change)


def test_a_refused_state_changes_nothing():
    w = scalargrad.ones(1, requires_grad=True)
    w.grad = scalargrad.ones(1)
    optimizer = optim.SGD([w], lr=0.1, momentum=0.9)
    optimizer.step()
    before = copy.deepcopy(optimizer.state_dict())
    bad = copy.deepcopy(before)
    bad["param_groups"][0]["lr"] = 5.0
    bad["state"][0]["momentum_buffer"] = scalargrad.ones(3)
    with pytest.raises(ValueError, match="shape"):
        optimizer.load_state_dict(bad)
    after = optimizer.state_dict()
    assert after["param_groups"] == before["param_groups"]
    assert after["state"][0]["momentum_buffer"].tolist() == [1.0]


W = scalargrad.ones(2, requires_grad=True)
V = scalargrad.ones(2, requires_grad=True)


@pytest.mark.parametrize(
    ("make", "error", "words"),
    [
        (lambda: optim.SGD([]), ValueError, "optimizer got an empty parameter list"),
        (lambda: optim.SGD(nn.Tanh().parameters()), ValueError, "optimizer got an empty parameter list"),
        (lambda: optim.SGD(W), TypeError, "should be an iterable of Tensors or dicts, but got Tensor"),
        (lambda: optim.SGD([1.0]), TypeError, "optimizer can only optimize Tensors, but one of the params is float"),
        (lambda: optim.SGD([W, {"params": [V]}]), TypeError, "one of the params is dict"),
        (lambda: optim.SGD([{"params": [W]}, V]), TypeError, "param_group must be a dict"),
        (lambda: optim.SGD([{"params": {W}}]), TypeError, "ordered collections"),
        (lambda: optim.SGD([W * 2]), ValueError, "can't optimize a non-leaf Tensor"),
        (lambda: optim.SGD([W, W]), ValueError, "some parameters appear twice"),
        (lambda: optim.SGD([{"params": [W]}, {"params": [W]}]), ValueError, "in more than one parameter group"),
        (lambda: optim.SGD([W], lr=-1), ValueError, "Invalid learning rate: -1"),
        (lambda: optim.SGD([W], lr=math.nan), ValueError, "Invalid learning rate: nan"),
        (lambda: optim.SGD([{"params": [W], "lr": -0.5}]), ValueError, "Invalid learning rate: -0.5"),
        (lambda: optim.SGD([W], momentum=-1), ValueError, "Invalid momentum value: -1"),
        (lambda: optim.SGD([W], weight_decay=-1), ValueError, "Invalid weight_decay value: -1"),
        (lambda: optim.SGD([W], nesterov=True), ValueError, "Nesterov momentum requires a momentum and zero dampening"),
        (
            lambda: optim.SGD([W], momentum=0.9, dampening=0.1, nesterov=True),
            ValueError,
            "Nesterov momentum requires a momentum and zero dampening",
        ),
        (lambda: optim.Adam([W], lr=-1), ValueError, "Invalid learning rate: -1"),
        (lambda: optim.Adam([W], eps=-1), ValueError, "Invalid epsilon value: -1"),
        (lambda: optim.Adam([W], weight_decay=-1), ValueError, "Invalid weight_decay value: -1"),
        (lambda: optim.Adam([W], betas=(1.0, 0.9)), ValueError, "Invalid beta parameter at index 0: 1.0"),
        (lambda: optim.AdamW([W], betas=(0.9, -0.1)), ValueError, "Invalid beta parameter at index 1: -0.1"),
        (lambda: optim.RMSprop([W], lr=-1), ValueError, "Invalid learning rate: -1"),
        (lambda: optim.RMSprop([W], eps=-1), ValueError, "Invalid epsilon value: -1"),
        (lambda: optim.RMSprop([W], momentum=-1), ValueError, "Invalid momentum value: -1"),
        (lambda: optim.RMSprop([W], weight_decay=-1), ValueError, "Invalid weight_decay value: -1"),
        (lambda: optim.RMSprop([W], alpha=-1), ValueError, "Invalid alpha value: -1"),
    ],
)
def test_an_optimizer_refuses_what_makes_no_sense(make, error, words):
    with pytest.raises(error, match=re.escape(words)):
        make()


def test_the_base_of_all_optimizers_does_no_step():
    with pytest.raises(NotImplementedError):
        optim.Optimizer([W], {}).step()


def test_an_optimizer_prints_its_options():
    assert repr(optim.SGD([W], lr=0.1, momentum=0.9)) == (
        "SGD (\nParameter Group 0\n    dampening: 0\n    lr: 0.1\n    maximize: False\n    momentum: 0.9\n"
        "    nesterov: False\n    weight_decay: 0\n)"
    )


def test_an_optimizer_can_be_copied_together_with_its_network():
    net = nn.Linear(2, 1)
    optimizer = optim.SGD(net.parameters(), lr=0.1, momentum=0.9)
    net(scalargrad.ones(1, 2)).sum().backward()
    optimizer.step()
    for copied in (copy.deepcopy, lambda x: pickle.loads(pickle.dumps(x))):
        net2, optimizer2 = copied((net, optimizer))
        assert optimizer2.param_groups[0]["params"][0] is net2.weight
        assert list(optimizer2.state) == [net2.weight, net2.bias]
        net2(scalargrad.ones(1, 2)).sum().backward()
        before = net2.weight.detach().numpy().copy()
        optimizer2.step()
        assert not np.array_equal(net2.weight.detach().numpy(), before)
        assert not np.array_equal(net.weight.detach().numpy(), net2.weight.detach().numpy())
