"""The pictures that the demos draw. matplotlib is imported when one is asked for."""

import os
from collections.abc import Sequence
from typing import Any

import numpy as np

from scalargrad.datasets import ImageDataset
from scalargrad.serialization import whole_file

INK, MUTED, GRID = "#1f2430", "#6b7280", "#e5e7eb"
LEARNED, HELD_OUT = "#2563a8", "#d97a1f"
CLASSES = ("#2563a8", "#d97a1f")
STYLE: Any = {
    "font.size": 10,
    "axes.titlesize": 11,
    "axes.titleweight": "bold",
    "axes.titlelocation": "left",
    "axes.titlecolor": INK,
    "axes.edgecolor": MUTED,
    "axes.labelcolor": MUTED,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.grid": True,
    "axes.axisbelow": True,
    "grid.color": GRID,
    "xtick.color": MUTED,
    "ytick.color": MUTED,
    "legend.frameon": False,
    "lines.linewidth": 1.8,
}
N_SHOWN = 12
"""How many misread digits a picture has room for."""


def _save(figure: Any, path: str) -> None:
    kind = os.path.splitext(path)[1].lower().removeprefix(".")
    with whole_file(path) as file:
        figure.savefig(file, format=kind, dpi=150, bbox_inches="tight", pad_inches=0.25)


def _curve(axes: Any, history: Sequence[dict[str, float]], key: str, scale: float) -> None:
    """The two lines of `key` over the epochs, each named at its end."""
    from matplotlib.ticker import MaxNLocator

    epochs = np.arange(1, len(history) + 1)
    marker = "o" if len(history) == 1 else ""
    for name, color, label in ((key, LEARNED, "learning, shifted"), (f"test_{key}", HELD_OUT, "held out")):
        axes.plot(epochs, [scale * entry[name] for entry in history], color=color, label=label, marker=marker)
    axes.xaxis.set_major_locator(MaxNLocator(integer=True, steps=[1, 2, 5, 10], min_n_ticks=1))
    axes.set_xlim(0.5, len(history) + 0.5)
    axes.set_xlabel("epoch")
    axes.legend(loc="upper right" if key == "loss" else "lower right")


def _image(axes: Any, image: np.ndarray[Any, Any], **options: Any) -> None:
    axes.imshow(image, interpolation="nearest", **options)
    axes.set_xticks([])
    axes.set_yticks([])
    axes.grid(False)
    for spine in axes.spines.values():
        spine.set(visible=True, color=GRID)


def _title(figure: Any, text: str) -> None:
    figure.suptitle(text, x=0.02, ha="left", fontsize=11, fontweight="bold", color=INK)


def _draw_filters(figure: Any, filters: np.ndarray[Any, Any]) -> None:
    _title(figure, "First-layer filters")
    reach = float(np.abs(filters).max())
    panels = figure.subplots(2, -(-len(filters) // 2))
    for axes in panels.flat:
        axes.set_axis_off()
    for axes, weights in zip(panels.flat, filters[:, 0], strict=False):
        axes.set_axis_on()
        _image(axes, weights, cmap="RdBu_r", vmin=-reach, vmax=reach)
    bar = figure.colorbar(panels.flat[0].images[0], ax=panels, orientation="horizontal", shrink=0.9, aspect=30)
    bar.set_ticks([-reach, 0, reach], labels=[f"{value:.2g}" for value in (-reach, 0, reach)])
    bar.outline.set_visible(False)


def _draw_misread(figure: Any, test: ImageDataset, answers: np.ndarray[Any, Any]) -> None:
    wrong = np.flatnonzero(answers != test.targets.numpy())
    shown = wrong[:N_SHOWN]
    count = f"{len(wrong) or 'None'} of {len(test)} held-out digits misread"
    _title(figure, count + (f", the first {N_SHOWN}" if len(wrong) > N_SHOWN else ""))
    n_columns = max(3, len(shown) if len(shown) <= 4 else -(-len(shown) // 2))
    panels = figure.subplots(-(-max(len(shown), 1) // n_columns), n_columns, squeeze=False)
    for axes in panels.flat[len(shown) :]:
        axes.set_axis_off()
    for axes, i in zip(panels.flat, shown.tolist(), strict=False):
        image, target = test[i]
        _image(axes, image.numpy()[0], cmap="gray_r", vmin=0, vmax=1)
        label = f"{test.classes[target]} read as {test.classes[answers[i]]}"
        axes.set_title(label, fontsize=9, fontweight="normal", loc="center", color=INK)


def plot_lenet(
    path: str,
    history: Sequence[dict[str, float]],
    filters: np.ndarray[Any, Any],
    test: ImageDataset,
    answers: np.ndarray[Any, Any],
) -> None:
    """Draw the loss and the accuracy over the epochs, the filters of the first layer, and the misread digits.

    Shapes: filters (O, 1, R, S), answers (N,): the class that each image of `test` was taken for.
    """
    import matplotlib
    from matplotlib.figure import Figure
    from matplotlib.ticker import LogLocator, NullFormatter

    with matplotlib.rc_context(STYLE):
        figure: Any = Figure(figsize=(10, 7.5), layout="constrained", facecolor="white")
        curves, pictures = figure.subfigures(2, 1, height_ratios=(1.15, 1), hspace=0.04)
        loss, accuracy = curves.subplots(1, 2)
        loss.set_title("Loss")
        _curve(loss, history, "loss", 1)
        losses = [entry[key] for entry in history for key in ("loss", "test_loss")]
        if 0 < 10 * min(losses) < max(losses):
            loss.set_yscale("log")
            loss.yaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
            loss.yaxis.set_major_formatter("{x:g}")
            loss.yaxis.set_minor_formatter(NullFormatter())
        loss.set_ylabel("cross entropy")
        accuracy.set_title("Accuracy")
        _curve(accuracy, history, "accuracy", 100)
        accuracy.set_ylabel("%")

        left, right = pictures.subfigures(1, 2, width_ratios=(1, 2), wspace=0.06)
        _draw_filters(left, filters)
        _draw_misread(right, test, answers)
        _save(figure, path)


def plot_moons(
    path: str,
    points: np.ndarray[Any, Any],
    labels: np.ndarray[Any, Any],
    xs: np.ndarray[Any, Any],
    ys: np.ndarray[Any, Any],
    scores: np.ndarray[Any, Any],
    title: str,
) -> None:
    """Draw the points, and how the plane is divided between the two classes.

    Shapes: points (N, 2), labels (N,) of −1 and 1, xs (Q,), ys (P,), scores (P, Q): above 0 where the net says 1.
    """
    import matplotlib
    from matplotlib.colors import LinearSegmentedColormap
    from matplotlib.figure import Figure

    with matplotlib.rc_context(STYLE):
        width, height = xs[-1] - xs[0], ys[-1] - ys[0]
        figure = Figure(figsize=(8, 8 * height / width + 0.4), layout="constrained", facecolor="white")
        axes = figure.subplots()
        colors = LinearSegmentedColormap.from_list("classes", [CLASSES[0], "white", CLASSES[1]])
        # Scores are squeezed into (-1, 1), or the far corners would take all the shades.
        shades = np.tanh(scores / 2)
        extent = (xs[0], xs[-1], ys[0], ys[-1])
        axes.imshow(shades, extent=extent, origin="lower", interpolation="bilinear", cmap=colors, vmin=-1.6, vmax=1.6)
        axes.contour(xs, ys, scores, levels=[0], colors=[INK], linewidths=1.6)
        axes.contour(xs, ys, scores, levels=[-1, 1], colors=[INK], linewidths=0.8, linestyles="dashed")
        for label, color in zip((-1, 1), CLASSES, strict=True):
            chosen = points[labels == label]
            axes.scatter(chosen[:, 0], chosen[:, 1], s=38, color=color, edgecolor="white", linewidth=0.9, zorder=3)
        axes.set(aspect="equal", xlim=(xs[0], xs[-1]), ylim=(ys[0], ys[-1]), title=title)
        axes.grid(False)
        _save(figure, path)
