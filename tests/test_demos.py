"""The demos: what they learn, what they leave behind, and what a mistake gets."""

import os
import random
import re
import signal
import subprocess
import sys

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from idx_files import mnist_files

import scalargrad as sg
from scalargrad import optim
from scalargrad.datasets import Digits
from scalargrad.demos import command_line, lenet, moons
from scalargrad.demos.progress import Progress

try:  # Imported here and not in a test, because it sets environment variables.
    import sklearn.datasets as scikit_learn
except ImportError:
    scikit_learn = None

QUICK = ["--epochs", "1", "--batch-size", "32", "--lr", "0.05"]
PNG = b"\x89PNG\r\n\x1a\n"


def output(capsys, main, *arguments):
    """What `main` prints when it ends well, without the numbers that depend on the clock."""
    assert main([str(argument) for argument in arguments]) == 0
    printed = capsys.readouterr()
    assert printed.err == ""
    return re.sub(r"[\d,.]+ (images/s|s in all|s of learning)", r"# \1", printed.out)


def refused(capsys, main, *arguments):
    """The one line that `main` leaves on stderr when it refuses."""
    with pytest.raises(SystemExit) as caught:
        main([str(argument) for argument in arguments])
    assert caught.value.code == 2
    lines = capsys.readouterr().err.splitlines()
    assert len(lines) == 1, lines
    return lines[0]


def start(*arguments, **options):
    """A demo in a process of its own, which hears Ctrl-C also where the tests run in the background and do not."""
    if os.name == "posix":
        options["preexec_fn"] = lambda: signal.signal(signal.SIGINT, signal.SIG_DFL)
    return subprocess.Popen(
        [sys.executable, "-m", *map(str, arguments)],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        encoding="utf-8",
        env=os.environ | {"PYTHONIOENCODING": "utf-8"},
        **options,
    )


def test_lenet_reads_at_least_985_in_1000_held_out_digits(tmp_path):
    """The run that the README promises, with its plot and checkpoint, in a process of its own."""
    plot, checkpoint = tmp_path / "lenet.png", tmp_path / "lenet.checkpoint"
    process = start("scalargrad.demos.lenet", "--plot", plot, "--save", checkpoint, "--threads", "1")
    out, err = process.communicate()
    assert (process.returncode, err) == (0, "")
    assert out.startswith("Net(\n  (conv1): Conv2d(1, 6, kernel_size=(3, 3), stride=(1, 1))\n")
    assert len(re.findall(r"^epoch +\d+/30 .* images/s$", out, re.MULTILINE)) == 30
    accuracy, n_right, n = re.search(r"test accuracy: ([\d.]+)% \((\d+) of (\d+) held-out images\)", out).groups()
    assert int(n) == 355
    assert int(n_right) / int(n) >= 0.985
    assert float(accuracy) == round(100 * int(n_right) / int(n), 2)
    assert plot.read_bytes().startswith(PNG)
    assert plot.stat().st_size > 30_000
    # The checkpoint holds the net that was tested.
    net, test = lenet.Net(), Digits(train=False, size=32)
    net.load_state_dict(sg.load(checkpoint)["net"])
    _, answers = lenet.evaluate(net, test)
    assert int(np.sum(answers == test.targets.numpy())) == int(n_right)


@pytest.fixture
def few_digits(monkeypatch):
    """LeNet learns from 128 digits and is tested on 40: enough for what is not about accuracy."""

    def made(train, **options):
        digits = Digits(train, **options)
        n = 128 if train else 40
        digits.data, digits.targets = digits.data[:n], digits.targets[:n]
        return digits

    monkeypatch.setattr(lenet, "Digits", made)


@pytest.mark.usefixtures("few_digits")
def test_the_same_seed_gives_the_same_run_and_another_seed_another(capsys):
    first = output(capsys, lenet.main, *QUICK)
    assert output(capsys, lenet.main, *QUICK, "--seed", 0) == first
    assert output(capsys, lenet.main, *QUICK, "--seed", 1) != first


@pytest.mark.usefixtures("few_digits")
def test_each_epoch_has_an_order_of_its_own_and_the_learning_rate_falls_to_zero(monkeypatch, capsys):
    rates, seen = [], []

    class Watched(lenet.Net):
        def forward(self, x):
            if sg.is_grad_enabled():
                seen.append(x.numpy().sum())
            return super().forward(x)

    class Sgd(optim.SGD):
        def step(self):
            rates.append(self.param_groups[0]["lr"])
            super().step()

    monkeypatch.setattr(lenet, "Net", Watched)
    monkeypatch.setattr(lenet.optim, "SGD", Sgd)
    output(capsys, lenet.main, "--epochs", 3, "--batch-size", 16, "--lr", 0.06)
    np.testing.assert_allclose(rates, 0.06 * (1 - np.arange(24) / 24))
    assert len(set(seen)) == 24


@pytest.mark.usefixtures("few_digits")
def test_a_stopped_run_goes_on_as_the_unbroken_one(tmp_path, capsys, monkeypatch):
    options = ["--epochs", 3, "--batch-size", 32, "--lr", 0.05, "--momentum", 0.8, "--seed", 5]
    unbroken, broken = tmp_path / "unbroken", tmp_path / "broken"
    output(capsys, lenet.main, *options, "--save", unbroken)

    run_epoch = lenet.Training.run_epoch

    def stop_in_the_second(self, data, progress):
        if self.epoch == 1:
            raise KeyboardInterrupt
        return run_epoch(self, data, progress)

    with monkeypatch.context() as patch:
        patch.setattr(lenet.Training, "run_epoch", stop_in_the_second)
        assert lenet.main([*map(str, options), "--save", str(broken)]) == command_line.INTERRUPTED
        assert f"stopped after 1 of 3 epochs; {broken} holds the last of them" in capsys.readouterr().err
        assert lenet.main([*map(str, options)][:-2]) == command_line.INTERRUPTED
        assert "stopped after 1 of 3 epochs; nothing was saved" in capsys.readouterr().err
    assert len(sg.load(broken)["history"]) == 1

    # All settings come from the checkpoint.
    resumed = output(capsys, lenet.main, "--resume", broken, "--save", broken)
    assert re.findall(r"^epoch (\d)/3", resumed, re.MULTILINE) == ["2", "3"]
    assert broken.read_bytes() == unbroken.read_bytes()

    # There is nothing left to do but the test; a setting that is given overrides the checkpoint's.
    assert "epoch" not in output(capsys, lenet.main, "--resume", broken)
    longer = output(capsys, lenet.main, "--resume", broken, "--epochs", 4)
    assert re.findall(r"^epoch (\d)/4", longer, re.MULTILINE) == ["4"]


@pytest.mark.skipif(os.name != "posix", reason="Ctrl-C is sent as a POSIX signal")
@pytest.mark.parametrize("demo", ["lenet", "moons"])
def test_ctrl_c_ends_a_demo_quietly_and_keeps_the_checkpoint(tmp_path, demo):
    checkpoint = tmp_path / "checkpoint"
    options = ["--epochs", "10000", "--save", checkpoint] if demo == "lenet" else ["--steps", "1000"]
    process = start(f"scalargrad.demos.{demo}", *options)
    while not process.stdout.readline().startswith(("epoch", "step")):
        assert process.poll() is None
    process.send_signal(signal.SIGINT)
    _, err = process.communicate(timeout=60)
    assert process.returncode == 130
    assert err.strip().startswith("stopped")
    assert "Traceback" not in err
    if demo == "lenet":
        assert len(sg.load(checkpoint)["history"]) >= 1
        assert os.listdir(tmp_path) == ["checkpoint"]


@pytest.mark.skipif(os.name != "posix", reason="a closed pipe is POSIX's")
@pytest.mark.parametrize("demo", ["lenet", "moons"])
def test_a_demo_whose_output_nobody_reads_on_ends_quietly(demo):
    with start(f"scalargrad.demos.{demo}") as process:
        process.stdout.readline()
        process.stdout.close()
        assert process.wait(timeout=60) == 141
        assert process.stderr.read() == ""


def test_lenet_learns_from_mnist_files(tmp_path, capsys):
    mnist_files(tmp_path / "mnist", n_train=20, n_test=7)
    plot = tmp_path / "mnist.png"
    out = output(
        capsys, lenet.main, "--mnist", tmp_path / "mnist", "--epochs", 1, "--plot", plot, "--save", tmp_path / "c"
    )
    assert "MNIST(20 images of 32×32, 10 classes)" in out
    assert "of 7 held-out images)" in out
    assert plot.read_bytes().startswith(PNG)
    line = refused(capsys, lenet.main, "--resume", tmp_path / "c")
    assert line.endswith("learned from MNIST, not from Digits")


BAD_OPTIONS = [
    (lenet.main, ["--epochs", "0"], "argument --epochs: expected a whole number of at least 1, got '0'"),
    (lenet.main, ["--epochs", "2.5"], "expected a whole number of at least 1, got '2.5'"),
    (lenet.main, ["--batch-size", "many"], "argument --batch-size: expected a whole number"),
    (lenet.main, ["--lr", "0"], "argument --lr: expected a number above 0, got '0'"),
    (lenet.main, ["--lr", "nan"], "expected a number above 0, got 'nan'"),
    (lenet.main, ["--lr", "inf"], "expected a number above 0, got 'inf'"),
    (lenet.main, ["--momentum", "1"], "expected a number of at least 0 and below 1, got '1'"),
    (lenet.main, ["--seed", "-1"], "argument --seed: expected a whole number of at least 0"),
    (lenet.main, ["--threads", "0"], "argument --threads: expected a whole number of at least 1"),
    (lenet.main, ["--threads", "257"], "expected a whole number of at least 1 and at most 256, got '257'"),
    (lenet.main, ["--save", "/nowhere/at/all"], "cannot write '/nowhere/at/all': there is no directory"),
    (lenet.main, ["--save", "."], "expected the name of a file, got '.' (a directory)"),
    (lenet.main, ["--save", ""], "expected the name of a file, got ''"),
    (lenet.main, ["--plot", "picture.doc"], "expected a file name ending in .png, .svg, .pdf, got 'picture.doc'"),
    (lenet.main, ["--plot", "/nowhere/picture.png"], "there is no directory"),
    (lenet.main, ["--resume", "/nowhere/checkpoint"], "No such file or directory: '/nowhere/checkpoint'"),
    (lenet.main, ["--resume", "."], "'.'"),
    (lenet.main, ["--mnist", "/nowhere"], "/nowhere is not a directory"),
    (lenet.main, ["--colour"], "unrecognized arguments: --colour"),
    (moons.main, ["--steps", "-3"], "argument --steps: expected a whole number of at least 1, got '-3'"),
    (moons.main, ["--samples", "1"], "expected a whole number of at least 2, got '1'"),
    (moons.main, ["--hidden", "8", "0"], "argument --hidden: expected a whole number of at least 1, got '0'"),
    (moons.main, ["--noise", "-0.1"], "expected a number of at least 0, got '-0.1'"),
    (moons.main, ["--plot", "moons"], "expected a file name ending in"),
]


@pytest.mark.parametrize(("main", "arguments", "message"), BAD_OPTIONS)
def test_a_bad_option_gets_one_line_and_exit_code_2(capsys, main, arguments, message):
    assert message in refused(capsys, main, *arguments)


@pytest.mark.usefixtures("few_digits")
def test_a_checkpoint_that_cannot_be_gone_on_from_gets_one_line(tmp_path, capsys):
    checkpoint = tmp_path / "checkpoint"
    output(capsys, lenet.main, *QUICK, "--save", checkpoint)
    whole = sg.load(checkpoint)

    checkpoint.write_bytes(checkpoint.read_bytes()[:-100])
    assert "is damaged or not a checkpoint" in refused(capsys, lenet.main, "--resume", checkpoint)
    strange = [whole | {"settings": whole["settings"] | {"batch_size": size}} for size in ("16", 0, None)]
    for other in ({"net": whole["net"]}, [1], whole | {"settings": {}}, whole | {"history": [{}]}, *strange):
        sg.save(other, checkpoint)
        assert "is a checkpoint, but not of this demo" in refused(capsys, lenet.main, "--resume", checkpoint)
    sg.save(whole | {"optimizer": whole["optimizer"] | {"state": 3}}, checkpoint)
    assert "does not fit this net" in refused(capsys, lenet.main, "--resume", checkpoint)
    sg.save(whole | {"net": whole["net"] | {"fc3.weight": sg.zeros(10, 80)}}, checkpoint)
    line = refused(capsys, lenet.main, "--resume", checkpoint)
    assert "does not fit this net" in line
    assert "fc3.weight" in line


def test_a_damaged_mnist_file_gets_one_line(tmp_path, capsys):
    mnist_files(tmp_path)
    images = tmp_path / "train-images-idx3-ubyte"
    images.write_bytes(images.read_bytes()[:-1])
    assert "cut short: uint8 of shape (6, 28, 28)" in refused(capsys, lenet.main, "--mnist", tmp_path)


@pytest.mark.usefixtures("few_digits")
def test_a_learning_rate_that_is_too_large_is_said_to_be(capsys):
    with np.errstate(all="ignore"):
        assert "--lr 1e+09 is too large" in refused(capsys, lenet.main, *QUICK, "--lr", "1e9")
        assert "--lr 1e+300 is too large" in refused(
            capsys, moons.main, "--lr", "1e300", "--samples", 4, "--hidden", 3, "--alpha", 1
        )


@pytest.mark.usefixtures("few_digits")
def test_a_checkpoint_that_cannot_be_written_ends_the_run_with_one_line(tmp_path, capsys, monkeypatch):
    def full(file):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    assert "No space left on device" in refused(capsys, lenet.main, *QUICK, "--save", tmp_path / "checkpoint")
    assert os.listdir(tmp_path) == []


def test_a_plot_without_matplotlib_is_refused_before_the_work(tmp_path, capsys, monkeypatch):
    monkeypatch.setitem(sys.modules, "matplotlib", None)
    for main in (lenet.main, moons.main):
        line = refused(capsys, main, "--plot", tmp_path / "plot.png")
        assert 'a plot needs matplotlib: pip install "scalargrad[demos]"' in line


@given(n=st.integers(1, 4), side=st.integers(1, 6), seed=st.integers(0, 99))
def test_a_shifted_image_is_the_image_elsewhere(n, side, seed):
    images = sg.from_numpy(np.random.default_rng(seed).random((n, 1, side, side)).astype(np.float32) + 1)
    made = lenet.shifted(images, sg.Generator().manual_seed(seed))
    assert made.shape == images.shape
    reach = range(-lenet.SHIFT, lenet.SHIFT + 1)
    for before, after in zip(images.numpy()[:, 0], made.numpy()[:, 0], strict=True):
        framed = np.pad(before, lenet.SHIFT)
        places = [framed[lenet.SHIFT + dy :, lenet.SHIFT + dx :][:side, :side] for dy in reach for dx in reach]
        assert any(np.array_equal(after, place) for place in places)


def test_images_are_pushed_every_way_equally_often():
    dots = sg.zeros(4900, 1, 7, 7)
    dots[:, 0, 3, 3] = 1
    counts = lenet.shifted(dots, sg.Generator().manual_seed(0)).numpy().sum((0, 1))
    assert counts.sum() == 4900
    assert 60 < counts.min() <= counts.max() < 140


def test_the_confusion_table_has_a_row_for_each_digit_as_written():
    targets, answers = np.array([0, 0, 1, 2, 2, 2]), np.array([0, 1, 1, 2, 2, 0])
    rows = [line.split() for line in lenet.confusion_table(targets, answers, "abc").splitlines()]
    assert rows[:2] == [["written", "read", "as"], ["a", "b", "c"]]
    assert rows[2:] == [["a", "1", "1", "·"], ["b", "·", "1", "·"], ["c", "1", "·", "2"]]


def test_moons_are_told_apart(tmp_path, capsys):
    plot = tmp_path / "moons.png"
    options = ["--steps", 30, "--samples", 40, "--hidden", 8, 8, "--lr", 0.5]
    out = output(capsys, moons.main, *options, "--plot", plot)
    accuracies = [float(found) for found in re.findall(r"^step .* accuracy +([\d.]+)%$", out, re.MULTILINE)]
    assert len(accuracies) >= 8
    assert accuracies[-1] >= 90 > accuracies[0]
    assert float(re.search(r"accuracy on 40 new points: ([\d.]+)%", out)[1]) >= 85
    assert plot.read_bytes().startswith(PNG)
    assert output(capsys, moons.main, *options) == out.replace(f"plot: {plot}\n", "")


def test_moons_are_two_half_circles():
    points, labels = moons.make_moons(51, 0.0, random.Random(0))
    assert (labels.count(-1), labels.count(1)) == (26, 25)
    for (x, y), label in zip(points, labels, strict=True):
        centre = (0, 0) if label < 0 else (1, 0.5)
        assert np.hypot(x - centre[0], y - centre[1]) == pytest.approx(1)
        assert (y - centre[1]) * label <= 1e-12
    noisy, _ = moons.make_moons(51, 0.1, random.Random(0))
    off = np.subtract(noisy, points)
    assert 0.07 < off.std() < 0.13


@pytest.mark.skipif(scikit_learn is None, reason="compares with scikit-learn")
def test_moons_are_those_of_scikit_learn():
    theirs = scikit_learn.make_moons(20, shuffle=False)
    points, labels = moons.make_moons(20, 0.0, random.Random(0))
    np.testing.assert_allclose(points, theirs[0], atol=1e-12)
    assert labels == (2 * theirs[1] - 1).tolist()


class Terminal:
    """Stands in for a stream at which someone is looking: keeps what was written, and in what order to whom."""

    def __init__(self, written):
        self.written = written

    def isatty(self):
        return True

    def write(self, text):
        self.written.append((self, text))

    def flush(self):
        """There is nothing to flush."""


def shown(monkeypatch):
    """What a Progress writes at a terminal, in order: ("out" or "err", text)."""
    written = []
    out, err = Terminal(written), Terminal(written)
    with monkeypatch.context() as patch:
        patch.setattr(sys, "stdout", out)
        patch.setattr(sys, "stderr", err)
        with Progress(10, "image") as progress:
            progress.step(4, "loss 1.5")
            progress.line("a line")
            progress.step(5, "loss 0.7")
            progress.step(1, "loss 0.5")
    return [("out" if stream is out else "err", text) for stream, text in written if text]


def test_progress_is_a_bar_at_a_terminal_where_tqdm_is_installed(monkeypatch):
    pytest.importorskip("tqdm")
    written = shown(monkeypatch)
    assert "".join(text for stream, text in written if stream == "out") == "a line\n"
    assert any("0/10" in text.replace(".0", "") for stream, text in written if stream == "err")
    # The bar is wiped before the line is written, and when all is done.
    assert written[written.index(("out", "a line")) - 1][1].strip() == ""
    assert written[-1][0] == "err"
    assert written[-1][1].strip() == ""


def test_progress_is_plain_lines_without_tqdm(monkeypatch):
    monkeypatch.setitem(sys.modules, "tqdm", None)
    assert "".join(text for _, text in shown(monkeypatch)) == "a line\n"
    monkeypatch.setattr("scalargrad.demos.progress.EVERY_S", -1.0)
    written = shown(monkeypatch)
    assert {stream for stream, _ in written} == {"out"}
    assert re.sub(r"[\d,]+ images/s", "# images/s", "".join(text for _, text in written)) == (
        " 40.0%   loss 1.5   # images/s\na line\n 90.0%   loss 0.7   # images/s\n"
    )
