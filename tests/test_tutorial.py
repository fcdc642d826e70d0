"""The tutorial that this library was made for runs as it stands: only its import lines name another library."""

import contextlib
import io
import re
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest

import scalargrad

TEXT = (Path(__file__).parent / "data" / "tutorial_neural_networks.md").read_text(encoding="utf-8")
FENCED = re.findall(r"^````(python|bat)\n(.*?)^````$", TEXT, re.MULTILINE | re.DOTALL)
# One block carries its output along: what follows "Out:" is not code.
BLOCKS = [text.split("\nOut:\n")[0] for language, text in FENCED if language == "python"]
PRINTED = [text.removeprefix("Out:\n\n") for language, text in FENCED if language == "bat"]
DEFINE, COUNT, FORWARD, BACKWARD, LOSS, WALK, BACKPROP, BY_HAND, OPTIMIZER = range(9)
IMPORT = re.compile(r"^import torch(\.[\w.]+)?( as (\w+))?$", re.MULTILINE)


def ours(code: str) -> str:
    """The block with its import lines, and nothing else, naming this library."""
    return IMPORT.sub(lambda found: f"import scalargrad{found[1] or ''} as {found[3] or 'torch'}", code)


def snapshot(names):
    """The values and gradients of the net's parameters, copied."""
    if "net" not in names:
        return []
    return [
        (p.detach().numpy().copy(), None if p.grad is None else p.grad.numpy().copy())
        for p in names["net"].parameters()
    ]


@pytest.fixture(scope="module")
def tutorial():
    """All blocks, run in order in one namespace: what each printed, and the parameters before and after it."""
    scalargrad.manual_seed(2020)
    names = {"__name__": "tutorial"}
    printed, before, after = [], [], []
    for code in BLOCKS:
        before.append(snapshot(names))
        with contextlib.redirect_stdout(io.StringIO()) as out:
            exec(compile(ours(code), "<tutorial>", "exec"), names)
        printed.append(out.getvalue())
        after.append(snapshot(names))
    return SimpleNamespace(names=names, printed=printed, before=before, after=after)


def test_only_the_import_lines_of_the_blocks_are_changed():
    assert len(BLOCKS) == 9
    assert len(PRINTED) == 5
    changed = {
        (old, new)
        for code in BLOCKS
        for old, new in zip(code.splitlines(), ours(code).splitlines(), strict=True)
        if old != new
    }
    assert changed == {
        ("import torch", "import scalargrad as torch"),
        ("import torch.nn as nn", "import scalargrad.nn as nn"),
        ("import torch.nn.functional as F", "import scalargrad.nn.functional as F"),
        ("import torch.optim as optim", "import scalargrad.optim as optim"),
    }


def test_the_net_prints_as_in_the_tutorial(tutorial):
    assert tutorial.printed[DEFINE] == PRINTED[0]


def test_ten_parameters_and_the_size_of_the_first(tutorial):
    assert tutorial.printed[COUNT] == PRINTED[1] == "10\ntorch.Size([6, 1, 3, 3])\n"


def test_the_output_prints_as_ten_numbers_with_addmm_behind_them(tutorial):
    number = r"-?\d\.\d{4}"
    assert re.fullmatch(
        rf"tensor\(\[\[ ?({number}, +){{8}}\n {{9}} ?{number},  ?{number}\]\], grad_fn=<AddmmBackward>\)\n"
        rf"|tensor\(\[\[ ?({number},\s+){{9}}{number}\]\],\s+grad_fn=<AddmmBackward>\)\n",
        tutorial.printed[FORWARD],
    ), tutorial.printed[FORWARD]
    out = tutorial.names["out"]
    assert out.shape == (1, 10)
    assert repr(out.shape) == "torch.Size([1, 10])"
    assert 0 < np.abs(out.detach().numpy()).max() < 2, "a fresh LeNet's outputs are small"


def test_backward_from_a_random_gradient_reaches_every_parameter(tutorial):
    assert tutorial.printed[BACKWARD] == ""
    assert all(gradient is None for _, gradient in tutorial.before[BACKWARD])
    for value, gradient in tutorial.after[BACKWARD]:
        assert gradient.shape == value.shape
        assert np.abs(gradient).max() > 0


def test_the_loss_prints_as_one_number_with_mse_loss_behind_it(tutorial):
    assert re.fullmatch(r"tensor\(\d+\.\d{4}, grad_fn=<MseLossBackward>\)\n", tutorial.printed[LOSS])
    names = tutorial.names
    # The loss of the last block, by hand: the mean of the squared differences.
    difference = names["output"].detach().numpy().astype(np.float64) - names["target"].numpy()
    assert names["target"].shape == (1, 10)
    assert names["loss"].item() == pytest.approx((difference**2).mean(), rel=1e-6)


def test_the_graph_is_walked_from_the_loss_to_a_leaf(tutorial):
    expected = re.sub("0x[0-9a-f]+", "0x[0-9a-fA-F]+", PRINTED[3])
    assert re.fullmatch(expected, tutorial.printed[WALK]), tutorial.printed[WALK]
    net, loss = tutorial.names["net"], tutorial.names["net"](tutorial.names["input"])
    leaf = loss.grad_fn.next_functions[0][0]
    assert leaf.variable is net.fc3.bias


def test_gradients_are_zero_after_zero_grad_and_not_after_backward(tutorial):
    before, zeros, after, gradient = tutorial.printed[BACKPROP].split("\n", 3)
    assert [before, zeros, after] == PRINTED[4].splitlines()[:3]
    assert zeros == "tensor([0., 0., 0., 0., 0., 0.])"
    assert re.fullmatch(r"tensor\(\[ ?(-?\d\.\d{4}(e-?\d+)?,? *){6}\]\)\n", gradient)
    assert not np.array_equal(tutorial.after[BACKPROP][1][1], np.zeros(6))


def test_the_step_by_hand_subtracts_exactly_learning_rate_times_gradient(tutorial):
    for (old, _), (new, gradient) in zip(tutorial.before[BY_HAND], tutorial.after[BY_HAND], strict=True):
        np.testing.assert_array_equal(new, old - gradient * np.float32(0.01))
        assert not np.array_equal(new, old)


def test_the_optimizer_takes_the_same_step(tutorial):
    for (old, _), (new, gradient) in zip(tutorial.before[OPTIMIZER], tutorial.after[OPTIMIZER], strict=True):
        step = gradient * np.float32(0.01)
        # A kernel may round once where two operations round twice (a fused multiply-add).
        np.testing.assert_array_less(np.abs(new - (old - step)), 2 * np.spacing(np.abs(old) + np.abs(step)))
        assert not np.array_equal(new, old)


def test_the_optimizer_lowers_the_loss_of_the_sample_it_saw(tutorial):
    names = tutorial.names
    again = names["criterion"](names["net"](names["input"]), names["target"])
    assert again.item() < names["loss"].item()
