"""LeNet learns to read handwritten digits: `python -m scalargrad.demos.lenet`.

The net is the one of PyTorch's tutorial "Neural Networks", on the 1,797 real scans of `datasets.Digits` scaled up to
32×32, or on MNIST. Each epoch shows every training image once, pushed up to three pixels each way so that no place
is special, and the learning rate falls in a straight line to 0. What is minimised is the cross entropy with smoothed
labels (Szegedy and others, 2016, section 7); the losses that are shown are without smoothing. The held-out images are
only ever looked at.
"""

import argparse
import math
import sys
import time
from collections.abc import Sequence
from typing import Any

import numpy as np

import scalargrad as sg
import scalargrad.nn as nn
import scalargrad.nn.functional as F
from scalargrad import optim
from scalargrad.datasets import MNIST, Digits, ImageDataset
from scalargrad.demos import command_line
from scalargrad.demos.plots import plot_lenet
from scalargrad.demos.progress import Progress
from scalargrad.utils.data import DataLoader

SIZE = 32
"""The side of the images that the tutorial's net is made for."""

SHIFT = 3
"""How far an image is pushed at most, in pixels. Without it, 5 of 355 held-out digits are misread, not 3."""

SMOOTHING = 0.1
"""How much of each label is spread over all classes. Without it, 4 of 355 held-out digits are misread, not 3."""

DEFAULTS = {"batch_size": 16, "lr": 0.02, "momentum": 0.9, "seed": 0}
EPOCHS = {"Digits": 30, "MNIST": 5}
MEASURED = ("loss", "accuracy", "test_loss", "test_accuracy")
"""What is known of each epoch: of learning, and of the held-out images."""


class Net(nn.Module):
    """The tutorial's LeNet: two convolutions with pooling, then three affine layers."""

    def __init__(self) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(1, 6, 3)
        self.conv2 = nn.Conv2d(6, 16, 3)
        self.fc1 = nn.Linear(16 * 6 * 6, 120)
        self.fc2 = nn.Linear(120, 84)
        self.fc3 = nn.Linear(84, 10)

    def forward(self, x: sg.Tensor) -> sg.Tensor:
        """Ten scores for each image. Shapes: (N, 1, 32, 32) → (N, 10)."""
        x = F.max_pool2d(F.relu(self.conv1(x)), (2, 2))
        x = F.max_pool2d(F.relu(self.conv2(x)), 2)
        x = x.view(-1, self.num_flat_features(x))
        x = F.relu(self.fc1(x))
        x = F.relu(self.fc2(x))
        y: sg.Tensor = self.fc3(x)
        return y

    def num_flat_features(self, x: sg.Tensor) -> int:
        """How many numbers each sample of `x` has."""
        return math.prod(x.size()[1:])


def shifted(images: sg.Tensor, generator: sg.Generator) -> sg.Tensor:
    """Each of `images` (N, 1, H, W) pushed by up to SHIFT pixels down or up, and right or left; paper moves in."""
    n, c, height, width = images.shape
    # np.pad alone would take longer than all of this.
    framed = np.zeros((n, c, height + 2 * SHIFT, width + 2 * SHIFT), np.float32)
    framed[:, :, SHIFT:-SHIFT, SHIFT:-SHIFT] = images.numpy()
    corners = sg.randint(0, 2 * SHIFT + 1, (n, 2), generator=generator).tolist()
    return sg.from_numpy(
        np.stack([image[:, y : y + height, x : x + width] for image, (y, x) in zip(framed, corners, strict=True)])
    )


class Training:
    """A net, its optimizer, and what has happened so far: all that a checkpoint holds."""

    def __init__(self, settings: dict[str, Any]) -> None:
        sg.manual_seed(settings["seed"])
        self.settings = settings
        self.net = Net()
        self.optimizer = optim.SGD(self.net.parameters(), lr=settings["lr"], momentum=settings["momentum"])
        self.history: list[dict[str, float]] = []

    @property
    def epoch(self) -> int:
        """How many epochs are done."""
        return len(self.history)

    def save(self, path: str) -> None:
        """Write a checkpoint."""
        sg.save(
            {
                "settings": self.settings,
                "history": self.history,
                "net": self.net.state_dict(),
                "optimizer": self.optimizer.state_dict(),
            },
            path,
        )

    def restore(self, checkpoint: dict[str, Any]) -> None:
        """Go on from where `checkpoint` was written, with the settings of this Training."""
        self.net.load_state_dict(checkpoint["net"])
        self.optimizer.load_state_dict(checkpoint["optimizer"])
        self.history = checkpoint["history"]
        for group in self.optimizer.param_groups:
            group["momentum"] = self.settings["momentum"]

    def run_epoch(self, data: ImageDataset, progress: Progress) -> tuple[float, float]:
        """Learn from every image in `data` once. Gives the mean loss and the accuracy on the way."""
        # An epoch draws from a generator of its own, so that a resumed training goes on exactly as the unbroken one.
        generator = sg.Generator()
        generator.manual_seed(self.settings["seed"] * 1_000_003 + self.epoch)
        loader = DataLoader(data, self.settings["batch_size"], shuffle=True, generator=generator)
        n_batches = len(loader) * self.settings["epochs"]
        loss_sum, n_right, n_seen = 0.0, 0, 0
        for i, (images, targets) in enumerate(loader, self.epoch * len(loader)):
            for group in self.optimizer.param_groups:
                group["lr"] = self.settings["lr"] * (1 - i / n_batches)
            self.optimizer.zero_grad()
            output = self.net(shifted(images, generator))
            F.cross_entropy(output, targets, label_smoothing=SMOOTHING).backward()
            self.optimizer.step()
            output = output.detach()
            n_seen += len(targets)
            loss_sum += F.cross_entropy(output, targets, reduction="sum").item()
            n_right += int((output.argmax(1) == targets).sum())
            progress.step(len(targets), f"loss {loss_sum / n_seen:.4f}   accuracy {n_right / n_seen:6.2%}")
        return loss_sum / n_seen, n_right / n_seen


def evaluate(net: nn.Module, data: ImageDataset) -> tuple[float, np.ndarray[Any, Any]]:
    """The mean loss of `net` on `data`, and what it takes each image for."""
    loss_sum, answers = 0.0, []
    with sg.no_grad():
        for images, targets in DataLoader(data, 256):
            output = net(images)
            loss_sum += F.cross_entropy(output, targets, reduction="sum").item()
            answers.append(output.argmax(1).numpy())
    return loss_sum / len(data), np.concatenate(answers)


def confusion_table(targets: np.ndarray[Any, Any], answers: np.ndarray[Any, Any], classes: Sequence[str]) -> str:
    """A row for each class as written, a column for each class as read; dots are zeros."""
    counts = np.zeros((len(classes), len(classes)), np.int64)
    np.add.at(counts, (targets, answers), 1)
    width = max(4, len(str(counts.max())) + 1)
    lines = [
        "written".rjust(8) + "  read as".ljust(width),
        " " * 8 + "".join(name.rjust(width) for name in classes),
        *(
            name.rjust(8) + "".join((str(n) if n else "·").rjust(width) for n in row)
            for name, row in zip(classes, counts.tolist(), strict=True)
        ),
    ]
    return "\n".join(lines)


def _is_ours(checkpoint: Any) -> bool:
    """Whether a checkpoint is laid out as `Training.save` does it, with settings that the options could have given."""
    kinds: dict[str, type] = {"settings": dict, "history": list, "net": dict, "optimizer": dict}
    if not _has_kinds(checkpoint, kinds):
        return False
    settings = checkpoint["settings"]
    return (
        _has_kinds(settings, {"data": str, "epochs": int, **{key: type(value) for key, value in DEFAULTS.items()}})
        and min(settings["epochs"], settings["batch_size"], settings["seed"] + 1) >= 1
        and all(_has_kinds(entry, dict.fromkeys(MEASURED, float)) for entry in checkpoint["history"])
    )


def _has_kinds(entries: Any, kinds: dict[str, type]) -> bool:
    """Whether `entries` is a dict with exactly the keys of `kinds`, each value of its kind."""
    return (
        isinstance(entries, dict)
        and entries.keys() == kinds.keys()
        and all(isinstance(entries[key], kind) for key, kind in kinds.items())
    )


def read_checkpoint(path: str) -> dict[str, Any]:
    """The checkpoint in the file `path`. Raises OSError or RuntimeError if it cannot be read or is not one of ours."""
    checkpoint: dict[str, Any] = sg.load(path)
    if not _is_ours(checkpoint):
        raise RuntimeError(f"{path} is a checkpoint, but not of this demo")
    return checkpoint


def build_parser() -> command_line.Parser:
    """The options."""
    parser = command_line.Parser(
        prog="python -m scalargrad.demos.lenet", description="LeNet learns to read handwritten digits."
    )
    count, positive = command_line.whole_number(1), command_line.number(0, open_below=True)
    parser.add_argument("--mnist", metavar="DIR", help="learn from the MNIST files in DIR, not from Digits")
    parser.add_argument(
        "--epochs", metavar="N", type=count, help=f"default {EPOCHS['Digits']}, with --mnist {EPOCHS['MNIST']}"
    )
    parser.add_argument("--batch-size", metavar="N", type=count, help=f"default {DEFAULTS['batch_size']}")
    parser.add_argument(
        "--lr", metavar="X", type=positive, help=f"learning rate at the start; default {DEFAULTS['lr']}"
    )
    parser.add_argument(
        "--momentum", metavar="X", type=command_line.number(0, 1), help=f"default {DEFAULTS['momentum']}"
    )
    parser.add_argument("--seed", metavar="N", type=command_line.whole_number(0), help=f"default {DEFAULTS['seed']}")
    # Far above this the operating system refuses to make threads, and the process ends on the spot.
    threads = command_line.whole_number(1, 256)
    parser.add_argument("--threads", metavar="N", type=threads, help="threads that the kernels use")
    parser.add_argument(
        "--save", metavar="FILE", type=command_line.output_file, help="keep a checkpoint of the last epoch in FILE"
    )
    parser.add_argument(
        "--resume", metavar="FILE", help="go on from the checkpoint in FILE, with its settings where none are given"
    )
    command_line.add_plot_option(parser, "loss, accuracy, filters and misread digits into FILE")
    return parser


def prepare(options: argparse.Namespace) -> tuple[Training, ImageDataset, ImageDataset]:
    """The Training that `options` ask for, and the images to learn from and to be tested on.

    Raises OSError, ValueError or RuntimeError, in words that name the file, if one is missing or damaged.
    """
    name = "Digits" if options.mnist is None else "MNIST"
    checkpoint = None if options.resume is None else read_checkpoint(options.resume)
    settings: dict[str, Any] = {"data": name, "epochs": EPOCHS[name], **DEFAULTS}
    if checkpoint is not None:
        learned_from = checkpoint["settings"]["data"]
        if learned_from != name:
            raise RuntimeError(f"{options.resume} learned from {learned_from}, not from {name}")
        settings |= checkpoint["settings"]
    settings |= {key: value for key, value in vars(options).items() if key in settings and value is not None}
    train, test = (
        Digits(part, size=SIZE) if options.mnist is None else MNIST(options.mnist, part, size=SIZE)
        for part in (True, False)
    )
    training = Training(settings)
    if checkpoint is not None:
        try:
            training.restore(checkpoint)
        except (AttributeError, KeyError, TypeError, ValueError, RuntimeError) as error:
            raise RuntimeError(f"{options.resume} does not fit this net: {error}") from None
    return training, train, test


def learn(training: Training, train: ImageDataset, test: ImageDataset, save_to: str | None) -> None:
    """Run the epochs that are left, a line and a checkpoint after each. Raises Refusal if loss or disk overflow."""
    settings, epochs = training.settings, training.settings["epochs"]
    with Progress(epochs * len(train), "image", training.epoch * len(train)) as progress:
        while training.epoch < epochs:
            started_s = time.perf_counter()
            loss, accuracy = training.run_epoch(train, progress)
            elapsed_s = time.perf_counter() - started_s
            number = f"epoch {training.epoch + 1:{len(str(epochs))}}/{epochs}"
            if not math.isfinite(loss):
                raise command_line.Refusal(f"the loss is {loss} in {number}: --lr {settings['lr']:g} is too large")
            test_loss, answers = evaluate(training.net, test)
            test_accuracy = float(np.mean(answers == test.targets.numpy()))
            measured = (loss, accuracy, test_loss, test_accuracy)
            training.history.append(dict(zip(MEASURED, measured, strict=True)))
            if save_to is not None:
                with command_line.writing(save_to):
                    training.save(save_to)
            progress.line(
                f"{number}   loss {loss:.4f}   accuracy {accuracy:7.2%}   held out: loss {test_loss:.4f}   "
                f"accuracy {test_accuracy:7.2%}   {len(train) / elapsed_s:,.0f} images/s"
            )


def report(training: Training, test: ImageDataset, plot: str | None, learned_s: float, started_s: float) -> None:
    """The test, in numbers and, if asked for, as a picture."""
    _, answers = evaluate(training.net, test)
    targets = test.targets.numpy()
    n_right = int(np.sum(answers == targets))
    print(f"\n{confusion_table(targets, answers, test.classes)}\n")
    print(f"test accuracy: {n_right / len(test):.2%} ({n_right} of {len(test)} held-out images)")
    if plot is not None:
        with command_line.writing(plot):
            plot_lenet(plot, training.history, training.net.conv1.weight.detach().numpy(), test, answers)
        print(f"plot: {plot}")
    print(f"time: {learned_s:.1f} s of learning, {time.perf_counter() - started_s:.1f} s in all")


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the demo. Gives the exit code: 0, 2 after a user's mistake, 130 after Ctrl-C."""
    started_s = time.perf_counter()
    parser = build_parser()
    options = parser.parse_args(arguments)
    if options.threads is not None:
        sg.set_num_threads(options.threads)
    try:
        training, train, test = prepare(options)
    except (OSError, ValueError, RuntimeError) as error:
        parser.error(str(error))
    print(training.net)
    print(f"{train}\nheld out: {test}\n", flush=True)
    learning_s = time.perf_counter()
    first_epoch = training.epoch
    try:
        learn(training, train, test, options.save)
        report(training, test, options.plot, time.perf_counter() - learning_s, started_s)
    except KeyboardInterrupt:
        saved = options.save is not None and training.epoch > first_epoch
        kept = f"{options.save} holds the last of them" if saved else "nothing was saved"
        sys.stderr.write(f"\nstopped after {training.epoch} of {training.settings['epochs']} epochs; {kept}\n")
        return command_line.INTERRUPTED
    except command_line.Refusal as error:
        parser.error(str(error))
    return 0


if __name__ == "__main__":
    command_line.run(main)
