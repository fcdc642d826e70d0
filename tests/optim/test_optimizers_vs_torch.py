"""Optimisers beside PyTorch's, step by step."""

import functools

import numpy as np
import pytest

import scalargrad

torch = pytest.importorskip("torch")

from test_optimizers import CASES, data, run  # noqa: E402


@pytest.fixture(scope="module", autouse=True)
def _pytorch_finds_its_environment_set(tmp_path_factory):
    """PyTorch writes this variable when it first needs it, which would look like a leak of the test at hand."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("TORCHINDUCTOR_CACHE_DIR", str(tmp_path_factory.mktemp("torch")))
        yield


@pytest.mark.parametrize(("kind", "formula", "options"), CASES)
@pytest.mark.parametrize(("dtype", "rtol"), [(np.float64, 1e-10), (np.float32, 3e-5)])
def test_each_step_is_pytorchs(kind, formula, options, dtype, rtol):
    start, gradients = data(1)
    ours = run(kind, options, start, gradients, dtype=dtype)
    theirs = run(getattr(torch.optim, kind.__name__), options, start, gradients, torch, dtype)
    for a, b in zip(ours, theirs, strict=True):
        for p, q in zip(a, b, strict=True):
            assert p.dtype == q.dtype
            np.testing.assert_allclose(p, q, rtol=rtol, atol=rtol)


def made(library):
    a, b = (library.ones(2, requires_grad=True) for _ in "ab")
    a.grad = library.ones(2)
    optimizers = [
        library.optim.SGD([{"params": [a], "lr": 0.5}, {"params": [b]}], momentum=0.9),
        library.optim.Adam([a, b], amsgrad=True),
        library.optim.RMSprop([a, b], centered=True, momentum=0.1),
    ]
    for optimizer in optimizers:
        optimizer.step()
    return [optimizer.state_dict() for optimizer in optimizers]


def test_the_state_dict_has_pytorchs_structure():
    for ours, theirs in zip(made(scalargrad), made(torch), strict=True):
        kept = {number: set(state) for number, state in theirs["state"].items() if state}
        assert {number: set(state) for number, state in ours["state"].items()} == kept
        for group, other in zip(ours["param_groups"], theirs["param_groups"], strict=True):
            assert group.items() <= other.items()


SCHEDULES = [
    lambda s, o: s.StepLR(o, 3, 0.5),
    lambda s, o: s.MultiStepLR(o, [1, 4, 4], 0.5),
    lambda s, o: s.ExponentialLR(o, 0.8),
    lambda s, o: s.LambdaLR(o, [lambda t: 1 / (t + 1), lambda t: t]),
    lambda s, o: s.CosineAnnealingLR(o, 4, 0.01),
    lambda s, o: s.ReduceLROnPlateau(o, patience=1, cooldown=1, min_lr=[0.01, 0.0]),
]


@pytest.mark.parametrize("make", SCHEDULES)
def test_each_rate_is_pytorchs(make):
    seen = []
    for library in (scalargrad, torch):
        groups = [{"params": [library.zeros(1, requires_grad=True)], "lr": lr, "initial_lr": lr} for lr in (0.5, 0.2)]
        optimizer = library.optim.SGD(groups)
        scheduler = make(library.optim.lr_scheduler, optimizer)
        rates = [[g["lr"] for g in optimizer.param_groups]]
        for t in range(12):
            optimizer.step()
            scheduler.step(
                *([5.0 - t % 3] if isinstance(scheduler, library.optim.lr_scheduler.ReduceLROnPlateau) else [])
            )
            rates.append([g["lr"] for g in optimizer.param_groups])
        seen.append(rates)
    np.testing.assert_allclose(seen[0], seen[1], rtol=1e-12)


@pytest.mark.parametrize("make", SCHEDULES[:-1])
def test_a_late_start_is_pytorchs(make):
    seen = []
    for library in (scalargrad, torch):
        groups = [{"params": [library.zeros(1, requires_grad=True)], "lr": lr, "initial_lr": lr} for lr in (0.5, 0.2)]
        optimizer = library.optim.SGD(groups)
        kinds = library.optim.lr_scheduler
        scheduler = make(_Late(kinds), optimizer)
        rates = [scheduler.get_last_lr()]
        for _ in range(8):
            optimizer.step()
            scheduler.step()
            rates.append(scheduler.get_last_lr())
        seen.append(rates)
    np.testing.assert_allclose(seen[0], seen[1], rtol=1e-12)


class _Late:
    """The schedulers of a library, all made to start after epoch 2."""

    def __init__(self, kinds):
        self._kinds = kinds

    def __getattr__(self, name):
        return functools.partial(getattr(self._kinds, name), last_epoch=2)
