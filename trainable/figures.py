"""Matplotlib figures of results and curves, drawn without pyplot: no display needed, no global state kept."""

from __future__ import annotations

import warnings
from typing import TYPE_CHECKING, Any

import numpy as np
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator
from sklearn.metrics import average_precision_score, precision_recall_curve, roc_curve

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence
    from pathlib import Path

    from matplotlib.axes import Axes
    from matplotlib.text import Text

    from trainable.intervals import Interval

# Hues that people with colour blindness can tell apart: Okabe and Ito, "Color Universal Design" (2008).
BLUE, GREEN, ORANGE, RED, GREY = "#0072B2", "#009E73", "#E69F00", "#D55E00", "#9A9A9A"
CLASS_HUES = (BLUE, RED, GREEN, "#CC79A7", ORANGE, "#56B4E9", "#6A51A3", "#5B5B5B")
OUTCOME_HUES = {"completed": BLUE, "stopped": GREY, "failed": RED, "interrupted": ORANGE}
INK, PALE = "#2B2B2B", "#E4E4E4"


def new_axes(title: str, x_label: str, y_label: str, *, width: float, height: float) -> tuple[Figure, Axes]:
    """A figure of this size in inches with one plot in the look that all share."""
    figure = Figure(figsize=(width, height), dpi=150, facecolor="white")
    figure.set_layout_engine("constrained", w_pad=0.12, h_pad=0.1)  # inches
    axes = figure.add_subplot()
    dress(axes, title, x_label, y_label)
    return figure, axes


def dress(axes: Axes, title: str, x_label: str, y_label: str) -> None:
    """The look that all plots share."""
    axes.set_title(title, fontsize=11, color=INK, loc="left", pad=10, parse_math=False)
    axes.set_xlabel(x_label, fontsize=9, color=INK, parse_math=False)
    axes.set_ylabel(y_label, fontsize=9, color=INK, parse_math=False)
    axes.tick_params(labelsize=8, colors=INK, length=0)
    axes.set_axisbelow(True)
    for side, spine in axes.spines.items():
        spine.set_visible(side in ("left", "bottom"))
        spine.set_color(GREY)


def _spell(metric: str) -> str:
    return metric.upper() if metric == "auc" else metric


def show_names_literally(texts: Sequence[Text]) -> None:
    """A class may be called `$x$`: it is a name, not a formula."""
    for text in texts:
        text.set_parse_math(False)


def add_legend(axes: Axes, **place: Any) -> None:
    """A legend without a frame, at `place` (matplotlib's own arguments); names are shown literally."""
    legend = axes.legend(fontsize=8, frameon=False, labelcolor=INK, **place)
    show_names_literally(legend.get_texts())


def draw_confusion_matrix(matrix: np.ndarray, classes: Sequence[str], *, title: str = "Confusion matrix") -> Figure:
    """`matrix` is int (C, C): rows are true classes, columns predicted ones. Shades are shares of a row.

    Raises ValueError for a matrix that does not fit the classes.
    """
    num_classes = len(classes)
    if matrix.shape != (num_classes, num_classes):
        raise ValueError(
            f"the confusion matrix has shape {matrix.shape}; for {num_classes} classes it must be "
            f"({num_classes}, {num_classes})"
        )
    shares = matrix / np.maximum(matrix.sum(axis=1, keepdims=True), 1)

    side = 3.4 + 0.5 * num_classes
    figure, axes = new_axes(title, "predicted", "true", width=side + 0.4, height=side)
    axes.imshow(shares, cmap="Blues", vmin=0, vmax=1)
    for row, column in np.ndindex(matrix.shape):
        ink = "white" if shares[row, column] > 0.55 else INK
        axes.text(column, row, f"{matrix[row, column]:d}", ha="center", va="bottom", fontsize=12, color=ink)
        axes.text(column, row + 0.06, f"{shares[row, column]:.0%}", ha="center", va="top", fontsize=8, color=ink)
    ticks = range(num_classes)
    slant = 30 if num_classes > 4 or max(map(len, classes)) > 14 else 0
    axes.set_xticks(ticks, classes, rotation=slant, ha="right" if slant else "center")
    axes.set_yticks(ticks, classes)
    show_names_literally([*axes.get_xticklabels(), *axes.get_yticklabels()])
    axes.spines[:].set_visible(False)
    axes.set_xticks(np.arange(0.5, num_classes - 1), minor=True)
    axes.set_yticks(np.arange(0.5, num_classes - 1), minor=True)
    axes.grid(which="minor", color="white", linewidth=2)
    axes.tick_params(which="minor", length=0)
    return figure


def draw_roc_curve(
    labels: np.ndarray,
    probabilities: np.ndarray,
    classes: Sequence[str],
    positive: int,
    auc: float,
    interval: Interval | None = None,
    *,
    title: str = "ROC curve",
) -> Figure:
    """For two classes the curve of the positive one; for more, one per class against the rest.

    `labels` is int (N,), `probabilities` float (N, C), `auc` the figure to show (for more classes the macro mean) and
    `interval` its 95 % interval, named by its method. A dot is where the model works: each image called what is most
    probable. A class that is absent, or the only one present, has no curve.
    """
    figure, axes = new_axes(title, "1 - specificity", "sensitivity", width=4.9, height=4.5)
    axes.plot([0, 1], [0, 1], color=GREY, linewidth=1, linestyle=(0, (4, 3)))
    for index, is_class, is_called, hue in _list_classes(labels, probabilities, classes, positive):
        false_positive_rate, true_positive_rate, _ = roc_curve(is_class, probabilities[:, index])
        axes.plot(false_positive_rate, true_positive_rate, color=hue, linewidth=2, label=classes[index])
        _mark(axes, is_called[~is_class].mean(), is_called[is_class].mean(), hue)
    spread = ""
    if interval is not None and interval.is_known:
        spread = f"\n{interval.low:.3f} to {interval.high:.3f} (95 %, {interval.method})"
    figures = f"{'AUC' if len(classes) == 2 else 'macro AUC'} {auc:.3f}{spread}"
    _mark(axes, np.nan, np.nan, GREY, "the model's decisions")
    axes.plot([], [], linestyle="none", label=figures)
    axes.set(xlim=(-0.01, 1.01), ylim=(-0.01, 1.01), aspect="equal")
    axes.grid(color=PALE, linewidth=0.7)
    add_legend(axes, loc="lower right")
    return figure


def draw_precision_recall_curve(
    labels: np.ndarray,
    probabilities: np.ndarray,
    classes: Sequence[str],
    positive: int,
    *,
    title: str = "Precision and recall",
) -> Figure:
    """As `draw_roc_curve`, of precision by recall; a broken line is what calling every image positive gives."""
    figure, axes = new_axes(title, "recall (sensitivity)", "precision", width=4.9, height=4.5)
    for index, is_class, is_called, hue in _list_classes(labels, probabilities, classes, positive):
        precision, recall, _ = precision_recall_curve(is_class, probabilities[:, index])
        name = f"{classes[index]}, average {average_precision_score(is_class, probabilities[:, index]):.3f}"
        axes.plot([0, 1], [is_class.mean()] * 2, color=hue, alpha=0.5, linewidth=1, linestyle=(0, (4, 3)))
        axes.plot(recall, precision, color=hue, linewidth=2, drawstyle="steps-post", label=name)
        if is_called.any():
            _mark(axes, is_called[is_class].mean(), is_class[is_called].mean(), hue)
    _mark(axes, np.nan, np.nan, GREY, "the model's decisions")
    axes.set(xlim=(-0.01, 1.01), ylim=(-0.01, 1.03), aspect="equal")
    axes.grid(color=PALE, linewidth=0.7)
    add_legend(axes, loc="lower left")
    return figure


def _list_classes(
    labels: np.ndarray, probabilities: np.ndarray, classes: Sequence[str], positive: int
) -> Iterator[tuple[int, np.ndarray, np.ndarray, str]]:
    """Each class that has a curve, which slices bool (N,) are of it and are called so, and its hue."""
    for index in [positive] if len(classes) == 2 else range(len(classes)):
        is_class = labels == index
        if 0 < is_class.sum() < len(labels):
            hue = CLASS_HUES[index % len(CLASS_HUES)] if len(classes) > 2 else BLUE
            yield index, is_class, probabilities.argmax(axis=1) == index, hue


def _mark(axes: Axes, x: float, y: float, hue: str, name: str = "_") -> None:
    axes.plot(
        [x], [y], "o", color=hue, markersize=7, markeredgecolor="white", markeredgewidth=1.5, zorder=5, label=name
    )


def draw_training(
    curves: Mapping[str, Mapping[int, float]], *, metric: str, best_epoch: int | None, title: str
) -> Figure:
    """One training: loss on both splits, and the validation metric, by epoch (1-based); a line marks the best epoch.

    `curves` maps the names `train_loss`, `val_loss`, `train_METRIC` and `val_METRIC`, as far as they are known, to
    values by epoch.
    """
    panels = ["loss"] if metric == "loss" else ["loss", metric]
    figure = Figure(figsize=(7.2, 2.6 * len(panels) + 0.3), dpi=150, facecolor="white")
    figure.set_layout_engine("constrained", w_pad=0.12, h_pad=0.1)
    for row, panel in enumerate(panels):
        axes = figure.add_subplot(len(panels), 1, row + 1)
        dress(axes, title if row == 0 else "", "epoch" if row == len(panels) - 1 else "", _spell(panel))
        for split, name, hue in (("train", "training", GREY), ("val", "validation", BLUE)):
            if curve := curves.get(f"{split}_{panel}"):
                epochs, values = zip(*sorted(curve.items()), strict=True)
                axes.plot(epochs, values, color=hue, linewidth=2, marker="o", markersize=3.5, label=name)
        if best_epoch is not None:
            axes.axvline(
                best_epoch, color=GREEN, linewidth=1.2, linestyle=(0, (4, 3)), label=f"best epoch, {best_epoch}"
            )
        axes.xaxis.set_major_locator(MaxNLocator(integer=True))
        axes.grid(axis="y", color=PALE, linewidth=0.7)
        if row == 0 and axes.lines:
            add_legend(axes, loc="center left", bbox_to_anchor=(1.0, 0.5))
    return figure


def draw_learning_curves(
    curves: Mapping[int, Mapping[int, float]],
    outcomes: Mapping[int, str],
    *,
    metric: str,
    champion: int | None = None,
) -> Figure:
    """The validation metric by epoch, one line a trial, coloured by outcome, with a dot at its last epoch.

    `curves` maps a trial's number to its values by epoch (1-based), `outcomes` its number to its outcome.
    """
    figure, axes = new_axes("Learning curves", "epoch", f"validation {_spell(metric)}", width=7.2, height=4.2)
    drawn = [number for number, curve in curves.items() if curve and number != champion]
    alpha = float(np.clip(12 / max(len(drawn), 1), 0.25, 0.8))
    for number in drawn:
        epochs, values = zip(*sorted(curves[number].items()), strict=True)
        hue = OUTCOME_HUES[outcomes[number]]
        axes.plot(epochs, values, color=hue, alpha=alpha, linewidth=1.1, label="_")
        axes.plot(epochs[-1], values[-1], ".", color=hue, alpha=alpha, markersize=5)
    for outcome, hue in OUTCOME_HUES.items():
        if count := sum(outcomes[number] == outcome for number in drawn):
            axes.plot([], [], color=hue, linewidth=2, label=f"{outcome} ({count})")
    if champion is not None and curves.get(champion):
        epochs, values = zip(*sorted(curves[champion].items()), strict=True)
        name = f"champion: trial {champion} ({outcomes[champion]})"
        axes.plot(epochs, values, color=GREEN, linewidth=2.4, marker="o", markersize=3.5, label=name)
    axes.xaxis.set_major_locator(MaxNLocator(integer=True))
    axes.grid(axis="y", color=PALE, linewidth=0.7)
    if axes.lines:
        add_legend(axes, loc="center left", bbox_to_anchor=(1.0, 0.5))
    return figure


def draw_importances(importances: Mapping[str, float]) -> Figure:
    """How much each hyperparameter explains of the results: shares in [0, 1], the largest on top."""
    ranked = sorted(importances.items(), key=lambda item: item[1])
    height = 1.2 + 0.32 * max(len(ranked), 1)
    figure, axes = new_axes("Hyperparameter importances", "share", "", width=6.0, height=height)
    names = [name for name, _ in ranked]
    bars = axes.barh(range(len(ranked)), [share for _, share in ranked], color=BLUE, height=0.6)
    axes.bar_label(bars, fmt="%.2f", fontsize=8, color=INK, padding=3)
    axes.set_yticks(range(len(ranked)), names)
    show_names_literally(axes.get_yticklabels())
    axes.margins(x=0.12)
    axes.set_xlim(left=0)
    axes.grid(axis="x", color=PALE, linewidth=0.7)
    return figure


def draw_trade_off(
    places: Mapping[int, tuple[float, float]], front: Sequence[int], chosen: int, *, titles: tuple[str, str]
) -> Figure:
    """What each trial costs and is worth, (cost, value) by number: the `front` joined, the `chosen` trial marked.

    `titles` are those of the axes.
    """
    figure, axes = new_axes("What accuracy costs", *titles, width=5.2, height=3.6)
    others = np.array([place for number, place in places.items() if number not in front]).reshape(-1, 2)
    axes.scatter(others[:, 0], others[:, 1], s=16, color=GREY, linewidths=0, label="beaten by another trial")
    joined = sorted(places[number] for number in front if number in places)
    axes.plot(
        [cost for cost, _ in joined],
        [value for _, value in joined],
        color=BLUE,
        marker="o",
        markersize=5,
        linewidth=1.2,
        label="beaten by none",
    )
    cost, value = places[chosen]
    axes.scatter(cost, value, s=70, facecolors="none", edgecolors=RED, linewidths=1.6, label="champion")
    for number in front:
        if number in places:
            axes.annotate(str(number), places[number], xytext=(5, -9), textcoords="offset points", fontsize=7)
    add_legend(axes, loc="lower right")
    return figure


def save_figure(figure: Figure, path: Path) -> Path:
    """Write `figure` as PNG. A letter that matplotlib's font lacks becomes a box, without a warning."""
    with warnings.catch_warnings():
        # class names are the user's; a Chinese one is no reason to end a search at its last step
        warnings.filterwarnings("ignore", message="Glyph .* missing from font", category=UserWarning)
        figure.savefig(path, format="png")
    return path
