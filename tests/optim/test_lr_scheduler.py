"""Schedulers: each against its closed form, resumed, combined, and what they refuse."""

import math
import pickle
import re

import pytest

import scalargrad
from scalargrad import optim
from scalargrad.optim import lr_scheduler


def optimizer(*rates):
    groups = [{"params": [scalargrad.zeros(1, requires_grad=True)], "lr": lr} for lr in rates or (0.5, 0.02)]
    return optim.SGD(groups)


def rates(scheduler, n):
    """The rates of both groups at epochs 0 to n."""
    seen = [scheduler.get_last_lr()]
    for _ in range(n):
        scheduler.optimizer.step()
        scheduler.step()
        seen.append(scheduler.get_last_lr())
        assert seen[-1] == [group["lr"] for group in scheduler.optimizer.param_groups]
    return seen


CLOSED_FORMS = [
    (lambda o, **k: lr_scheduler.StepLR(o, 3, **k), lambda lr, t: lr * 0.1 ** (t // 3)),
    (lambda o, **k: lr_scheduler.StepLR(o, 2, gamma=0.5, **k), lambda lr, t: lr * 0.5 ** (t // 2)),
    (
        lambda o, **k: lr_scheduler.MultiStepLR(o, [5, 2, 2], 0.5, **k),
        lambda lr, t: lr * 0.5 ** (2 * (t >= 2) + (t >= 5)),
    ),
    (lambda o, **k: lr_scheduler.ExponentialLR(o, 0.9, **k), lambda lr, t: lr * 0.9**t),
    (lambda o, **k: lr_scheduler.LambdaLR(o, lambda t: 1 / (1 + t), **k), lambda lr, t: lr / (1 + t)),
    (
        lambda o, **k: lr_scheduler.CosineAnnealingLR(o, 4, eta_min=0.01, **k),
        lambda lr, t: 0.01 + (lr - 0.01) * (1 + math.cos(math.pi * t / 4)) / 2,
    ),
    (lambda o, **k: lr_scheduler.CosineAnnealingLR(o, 1, **k), lambda lr, t: lr * (1 - t % 2)),
]


@pytest.mark.parametrize(("make", "formula"), CLOSED_FORMS)
def test_the_rates_follow_the_closed_form(make, formula):
    for t, (first, second) in enumerate(rates(make(optimizer()), 13)):
        assert first == pytest.approx(formula(0.5, t), rel=1e-9, abs=1e-12)
        assert second == pytest.approx(formula(0.02, t), rel=1e-9, abs=1e-12)


@pytest.mark.parametrize(("make", "formula"), CLOSED_FORMS)
def test_a_schedule_goes_on_from_its_saved_state(make, formula):
    first = make(optimizer())
    rates(first, 3)
    saved = pickle.loads(pickle.dumps((first.optimizer.state_dict(), first.state_dict())))
    second = make(optimizer())
    second.optimizer.load_state_dict(saved[0])
    second.load_state_dict(saved[1])
    assert second.last_epoch == 3
    assert second.get_last_lr() == first.get_last_lr()
    assert rates(second, 5) == rates(first, 5)


def test_one_function_for_each_group():
    scheduler = lr_scheduler.LambdaLR(optimizer(1.0, 1.0), [lambda t: t, lambda t: 2 * t])
    assert rates(scheduler, 2) == [[0, 0], [1, 2], [2, 4]]


def test_two_schedules_on_one_optimizer_multiply():
    o = optimizer(1.0)
    first, second = lr_scheduler.ExponentialLR(o, 0.5), lr_scheduler.StepLR(o, 2, 0.1)
    seen = []
    for _ in range(4):
        first.step()
        second.step()
        seen.append(o.param_groups[0]["lr"])
    assert seen == pytest.approx([0.5, 0.025, 0.0125, 0.000625])
    assert o.param_groups[0]["initial_lr"] == 1.0


def test_a_schedule_can_start_late_with_an_optimizer_that_knows_its_initial_rate():
    o = optimizer(0.5)
    o.param_groups[0]["initial_lr"] = 0.5
    scheduler = lr_scheduler.LambdaLR(o, lambda t: 0.1**t, last_epoch=1)
    assert scheduler.last_epoch == 2
    assert scheduler.get_last_lr() == pytest.approx([0.005])


def plateau(metrics, **options):
    """The rate after each of these metrics, starting from 1."""
    scheduler = lr_scheduler.ReduceLROnPlateau(optimizer(1.0), **{"factor": 0.1, "patience": 1, **options})
    seen = []
    for metric in metrics:
        scheduler.step(metric)
        seen.append(scheduler.get_last_lr()[0])
    return seen


@pytest.mark.parametrize(
    ("metrics", "options", "expected"),
    [
        ([5, 4, 3, 2, 1], {}, [1, 1, 1, 1, 1]),
        ([5, 5, 5, 5, 5], {}, [1, 1, 0.1, 0.1, 0.01]),
        ([5, 6, 4, 6, 6], {}, [1, 1, 1, 1, 0.1]),
        ([5, 6, 7, 8, 9], {"mode": "max"}, [1, 1, 1, 1, 1]),
        ([5, 4, 3, 2], {"mode": "max", "patience": 0}, [1, 0.1, 0.01, 0.001]),
        ([10, 9.5, 9.2, 9.1], {"threshold": 0.1, "patience": 0}, [1, 0.1, 0.01, 0.001]),
        ([10, 8.9, 8.0, 7.3], {"threshold": 0.1, "patience": 0}, [1, 1, 1, 0.1]),
        ([10, 9.5, 8.9, 8.8], {"threshold": 1, "threshold_mode": "abs", "patience": 0}, [1, 0.1, 0.1, 0.01]),
        ([1, 1.5, 2.5], {"mode": "max", "threshold": 1, "threshold_mode": "abs", "patience": 0}, [1, 0.1, 0.1]),
        ([1, 1, 1, 1, 1, 1], {"patience": 0, "cooldown": 2}, [1, 0.1, 0.1, 0.1, 0.01, 0.01]),
        ([1, 1, 1, 1], {"patience": 0, "min_lr": 0.05}, [1, 0.1, 0.05, 0.05]),
        ([1, 1, 1], {"patience": 0, "eps": 0.5}, [1, 0.1, 0.1]),
        ([math.nan, math.nan, math.nan], {}, [1, 0.1, 0.1]),
    ],
)
def test_the_rate_falls_when_the_metric_stands_still(metrics, options, expected):
    assert plateau(metrics, **options) == pytest.approx(expected)


def test_the_metric_may_be_a_tensor_and_the_state_goes_on():
    first = lr_scheduler.ReduceLROnPlateau(optimizer(1.0, 2.0), patience=1, min_lr=[0.0, 0.5])
    first.step(scalargrad.tensor([2.0]))
    first.step(2.0)
    second = lr_scheduler.ReduceLROnPlateau(optimizer(1.0, 2.0), patience=5)
    second.load_state_dict(first.state_dict())
    second.step(2.0)
    assert second.get_last_lr() == pytest.approx([0.1, 0.5])


@pytest.mark.parametrize(
    ("make", "error", "words"),
    [
        (lambda: lr_scheduler.StepLR(3, 2), TypeError, "int is not an Optimizer"),
        (lambda: lr_scheduler.LambdaLR(3, abs), TypeError, "int is not an Optimizer"),
        (lambda: lr_scheduler.ReduceLROnPlateau(3), TypeError, "int is not an Optimizer"),
        (lambda: lr_scheduler.StepLR(optimizer(), 0), ValueError, "expected a step_size of at least 1, got 0"),
        (lambda: lr_scheduler.CosineAnnealingLR(optimizer(), 0), ValueError, "expected a T_max of at least 1, got 0"),
        (lambda: lr_scheduler.LambdaLR(optimizer(), [abs]), ValueError, "Expected 2 lr_lambdas, but got 1"),
        (
            lambda: lr_scheduler.StepLR(optimizer(), 2, last_epoch=4),
            KeyError,
            "param 'initial_lr' is not specified in param_groups[0] when resuming scheduler",
        ),
        (lambda: lr_scheduler.ReduceLROnPlateau(optimizer(), factor=1.0), ValueError, "Factor should be < 1.0."),
        (lambda: lr_scheduler.ReduceLROnPlateau(optimizer(), "low"), ValueError, "mode low is unknown!"),
        (
            lambda: lr_scheduler.ReduceLROnPlateau(optimizer(), threshold_mode="x"),
            ValueError,
            "threshold mode x is unknown!",
        ),
        (lambda: lr_scheduler.ReduceLROnPlateau(optimizer(), min_lr=[0.1]), ValueError, "expected 2 min_lrs, got 1"),
    ],
)
def test_a_scheduler_refuses_what_makes_no_sense(make, error, words):
    with pytest.raises(error, match=re.escape(words)):
        make()


def test_the_base_of_all_schedulers_knows_no_rates():
    with pytest.raises(NotImplementedError):
        lr_scheduler.LRScheduler(optimizer())
