"""Two moons told apart by a net of scalars: `python -m scalargrad.demos.moons`.

This is micrograd's demo: every weight is a Value, every product and sum a node of the graph, and the loss is the hinge
loss of a support vector machine, max(0, 1 − y·score), plus a little of the weights' squares. With --compiled the same
net is traced once and replayed as machine code would be.
"""

import math
import random
import time
from collections.abc import Callable, Sequence

import numpy as np

import scalargrad
from scalargrad import Value
from scalargrad.demos import command_line
from scalargrad.demos.plots import plot_moons
from scalargrad.demos.progress import Progress
from scalargrad.nn.scalar import MLP

LINES = 10
"""How many lines a run prints about its progress."""

GRID, MARGIN = 70, 0.4
"""A plot asks the net about GRID × GRID points, up to MARGIN beyond the outermost moons."""

Point = tuple[float, float]


def make_moons(n: int, noise: float, generator: random.Random) -> tuple[list[Point], list[int]]:
    """`n` points on two interleaved half circles, each pushed by Gaussian noise, with the labels −1 and 1.

    The half circles are those of scikit-learn: radius 1, about (0, 0) and, upside down, about (1, 1/2).
    """
    n_upper = (n + 1) // 2
    points, labels = [], []
    for i in range(n):
        label = -1 if i < n_upper else 1
        k, count = (i, n_upper) if label < 0 else (i - n_upper, n - n_upper)
        angle = math.pi * k / max(count - 1, 1)
        x, y = math.cos(angle), math.sin(angle)
        if label > 0:
            x, y = 1 - x, 0.5 - y
        points.append((x + generator.gauss(0, noise), y + generator.gauss(0, noise)))
        labels.append(label)
    return points, labels


def objective(model: MLP, points: Sequence[Point], labels: Sequence[int], alpha: float) -> tuple[Value, float]:
    """The mean hinge loss plus `alpha` times the sum of the weights' squares, and the accuracy."""
    scores = [model(point) for point in points]
    losses = [(1 - y * score).relu() for y, score in zip(labels, scores, strict=True)]
    penalty = sum((p * p for p in model.parameters()), Value(0.0))
    n_right = sum((y > 0) == (score.data > 0) for y, score in zip(labels, scores, strict=True))
    return sum(losses, Value(0.0)) * (1 / len(losses)) + alpha * penalty, n_right / len(labels)


def graph_backward(model: MLP, points: Sequence[Point], labels: Sequence[int], alpha: float) -> tuple[float, float]:
    """The objective and the accuracy; the gradients are added to the weights'."""
    loss, accuracy = objective(model, points, labels, alpha)
    loss.backward()
    return loss.data, accuracy


def compiled_backward(model: MLP, alpha: float) -> Callable[..., tuple[float, float]]:
    """`graph_backward` by compiled functions: the same net, traced for one point and replayed for all."""
    hinge = scalargrad.compile(lambda x, y: (1 - y * model(x)).relu(), batched=("x", "y"))
    penalty = scalargrad.compile(lambda: alpha * sum((p * p for p in model.parameters()), Value(0.0)))

    def backward(model: MLP, points: Sequence[Point], labels: Sequence[int], alpha: float) -> tuple[float, float]:
        losses = hinge.backward(points, labels)
        for p in model.parameters():
            p.grad /= len(losses)  # of the mean, and not of the sum
        return float(losses.mean() + penalty.backward()), float(np.mean(losses < 1))

    return backward


def learn(
    model: MLP,
    points: Sequence[Point],
    labels: Sequence[int],
    *,
    steps: int,
    lr: float,
    alpha: float,
    compiled: bool = False,
) -> None:
    """Gradient descent over all points at once; the learning rate falls in a straight line to a tenth.

    Raises Refusal if the loss is no longer a number.
    """
    backward = compiled_backward(model, alpha) if compiled else graph_backward
    with Progress(steps, "step") as progress:
        for k in range(steps):
            model.zero_grad()
            loss, accuracy = backward(model, points, labels, alpha)
            if not math.isfinite(loss):
                raise command_line.Refusal(f"the loss is {loss} at step {k}: --lr {lr:g} is too large")
            rate = lr * (1 - 0.9 * k / steps)
            for p in model.parameters():
                p.data -= rate * p.grad
            status = f"loss {loss:.4f}   accuracy {accuracy:7.2%}"
            progress.step(1, status)
            if k % math.ceil(steps / LINES) == 0 or k == steps - 1:
                progress.line(f"step {k:{len(str(steps))}}   {status}")


def draw(path: str, model: MLP, points: Sequence[Point], labels: Sequence[int]) -> None:
    """Ask the net about a grid of points, and draw its answers with the moons."""
    at = np.array(points)
    (x0, y0), (x1, y1) = at.min(0) - MARGIN, at.max(0) + MARGIN
    xs, ys = np.linspace(x0, x1, GRID), np.linspace(y0, y1, GRID)
    scores = np.array([[model((x, y)).data for x in xs.tolist()] for y in ys.tolist()])
    title = f"{model.__class__.__name__} of {len(model.parameters())} Values: solid is score 0, dashed are −1 and 1"
    plot_moons(path, at, np.array(labels), xs, ys, scores, title)


def build_parser() -> command_line.Parser:
    """The options."""
    parser = command_line.Parser(
        prog="python -m scalargrad.demos.moons", description="Two moons told apart by a net of scalars."
    )
    count = command_line.whole_number(1)
    positive, not_negative = command_line.number(0, open_below=True), command_line.number(0)
    parser.add_argument("--steps", metavar="N", type=count, default=100, help="default %(default)s")
    parser.add_argument(
        "--samples", metavar="N", type=command_line.whole_number(2), default=100, help="points; default %(default)s"
    )
    parser.add_argument("--noise", metavar="X", type=not_negative, default=0.1, help="default %(default)s")
    parser.add_argument(
        "--hidden", metavar="N", type=count, nargs="+", default=[16, 16], help="hidden layers; default 16 16"
    )
    parser.add_argument(
        "--lr", metavar="X", type=positive, default=1.0, help="learning rate at the start; default %(default)s"
    )
    parser.add_argument(
        "--alpha", metavar="X", type=not_negative, default=1e-4, help="weight of the squares; default %(default)s"
    )
    parser.add_argument(
        "--seed", metavar="N", type=command_line.whole_number(0), default=1337, help="default %(default)s"
    )
    parser.add_argument(
        "--compiled", action="store_true", help="learn by scalargrad.compile: thousands of times as fast"
    )
    command_line.add_plot_option(parser, "the points and the decision boundary into FILE")
    return parser


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the demo. Gives the exit code."""
    started_s = time.perf_counter()
    parser = build_parser()
    options = parser.parse_args(arguments)
    generator = random.Random(options.seed)
    points, labels = make_moons(options.samples, options.noise, generator)
    new_points, new_labels = make_moons(options.samples, options.noise, generator)
    # The net's first weights come from Python's own generator, as in micrograd.
    random.seed(options.seed)
    model = MLP(2, [*options.hidden, 1])
    print(f"{model}\n{len(model.parameters())} parameters, {options.samples} points\n", flush=True)
    learning_s = time.perf_counter()
    try:
        learn(model, points, labels, steps=options.steps, lr=options.lr, alpha=options.alpha, compiled=options.compiled)
        learned_s = time.perf_counter() - learning_s
        _, accuracy = objective(model, new_points, new_labels, options.alpha)
        print(f"\naccuracy on {options.samples} new points: {accuracy:.2%}")
        if options.plot is not None:
            with command_line.writing(options.plot):
                draw(options.plot, model, points, labels)
            print(f"plot: {options.plot}")
    except command_line.Refusal as error:
        parser.error(str(error))
    print(f"time: {learned_s:.2f} s of learning, {time.perf_counter() - started_s:.1f} s in all")
    return 0


if __name__ == "__main__":
    command_line.run(main)
