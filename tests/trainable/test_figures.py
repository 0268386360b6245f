from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import pytest
from PIL import Image

from trainable.figures import (
    draw_confusion_matrix,
    draw_importances,
    draw_learning_curves,
    draw_precision_recall_curve,
    draw_roc_curve,
    draw_training,
    save_figure,
)
from trainable.intervals import Interval

if TYPE_CHECKING:
    from pathlib import Path

    from matplotlib.figure import Figure

HARD_NAMES = (
    "normal",
    "$\\frac{$ é",
    "肺炎",
)  # a formula that matplotlib cannot parse, letters it does not have


DECISIONS = "the model's decisions"


def read_legend(figure: Figure) -> list[str]:
    legend = figure.axes[0].get_legend()
    return [text.get_text() for text in legend.get_texts()] if legend else []


def draw_scores(num_classes: int, num_slices: int = 60) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(0)
    labels = rng.integers(0, num_classes, num_slices)
    probabilities = rng.random((num_slices, num_classes)) + np.eye(num_classes)[labels]
    return labels, probabilities / probabilities.sum(axis=1, keepdims=True)


def test_class_names_are_shown_as_they_are_whatever_their_letters(tmp_path: Path) -> None:
    labels, probabilities = draw_scores(3)
    figures = [
        draw_confusion_matrix(np.array([[5, 1, 0], [2, 7, 1], [0, 0, 0]]), HARD_NAMES),
        draw_roc_curve(labels, probabilities, HARD_NAMES, 0, 0.9, Interval(low=0.8, high=0.95, method="Newcombe")),
        draw_precision_recall_curve(labels, probabilities, HARD_NAMES, 0),
        draw_importances(dict.fromkeys(HARD_NAMES, 0.3)),
    ]
    for index, figure in enumerate(figures):
        path = save_figure(figure, tmp_path / f"{index}.png")
        with Image.open(path) as image:
            assert image.format == "PNG"
            assert min(image.size) > 200


def test_a_confusion_matrix_shows_every_count_and_its_share_of_the_true_class() -> None:
    figure = draw_confusion_matrix(np.array([[30, 10], [0, 7]]), ("healthy", "ill"))
    texts = [text.get_text() for text in figure.axes[0].texts]
    assert texts == ["30", "75%", "10", "25%", "0", "0%", "7", "100%"]


def test_a_confusion_matrix_of_another_size_than_the_classes_is_refused() -> None:
    with pytest.raises(ValueError, match=r"shape \(2, 2\); for 3 classes"):
        draw_confusion_matrix(np.eye(2, dtype=int), ("a", "b", "c"))


def test_a_roc_curve_of_two_classes_is_that_of_the_positive_one() -> None:
    labels, probabilities = draw_scores(2)
    figure = draw_roc_curve(
        labels, probabilities, ("healthy", "ill"), 1, 0.9123, Interval(low=0.85, high=0.96, method="Newcombe")
    )
    assert read_legend(figure) == ["ill", DECISIONS, "AUC 0.912\n0.850 to 0.960 (95 %, Newcombe)"]


def test_a_class_that_the_labels_lack_has_no_roc_curve() -> None:
    labels, probabilities = draw_scores(3)
    figure = draw_roc_curve(labels % 2, probabilities, ("a", "b", "absent"), 0, 0.9)
    assert read_legend(figure) == ["a", "b", DECISIONS, "macro AUC 0.900"]


def test_learning_curves_name_outcomes_and_champion(tmp_path: Path) -> None:
    curves = {0: {1: 0.5, 2: 0.7, 3: 0.9}, 1: {1: 0.4}, 2: {1: float("nan")}, 3: {}, 4: {3: 0.6, 1: 0.5}}
    outcomes = {0: "completed", 1: "stopped", 2: "failed", 3: "failed", 4: "stopped"}
    figure = draw_learning_curves(curves, outcomes, metric="auc", champion=0)
    assert read_legend(figure) == ["stopped (2)", "failed (1)", "champion: trial 0 (completed)"]
    save_figure(figure, tmp_path / "curves.png")


def test_a_search_without_any_epoch_still_has_its_figures(tmp_path: Path) -> None:
    save_figure(draw_learning_curves({}, {}, metric="loss"), tmp_path / "curves.png")
    save_figure(draw_importances({}), tmp_path / "importances.png")


def test_dots_lie_where_the_model_decides() -> None:
    labels = np.array([1, 1, 1, 1, 0, 0, 0, 0, 0, 0])
    ill = np.array([0.9, 0.8, 0.7, 0.2, 0.6, 0.4, 0.3, 0.2, 0.1, 0.1])
    probabilities = np.stack([1 - ill, ill], axis=1)
    roc = draw_roc_curve(labels, probabilities, ("healthy", "ill"), 1, 0.9)
    precision_recall = draw_precision_recall_curve(labels, probabilities, ("healthy", "ill"), 1)
    for figure, place in ((roc, (1 / 6, 3 / 4)), (precision_recall, (3 / 4, 3 / 4))):
        (dot,) = [
            line for line in figure.axes[0].lines if line.get_marker() == "o" and np.isfinite(line.get_xdata()).all()
        ]
        assert (np.asarray(dot.get_xdata())[0], np.asarray(dot.get_ydata())[0]) == pytest.approx(place)
    assert read_legend(precision_recall) == ["ill, average 0.875", DECISIONS]


def test_a_precision_recall_curve_of_one_class_alone_is_empty_and_drawn(tmp_path: Path) -> None:
    figure = draw_precision_recall_curve(np.zeros(5, int), np.full((5, 2), 0.5), ("a", "b"), 1)
    assert read_legend(figure) == [DECISIONS]
    save_figure(figure, tmp_path / "empty.png")


def test_a_training_shows_loss_and_metric_of_both_splits_and_its_best_epoch(tmp_path: Path) -> None:
    curves = {
        "train_loss": {1: 0.7, 2: 0.5},
        "val_loss": {1: 0.6, 2: 0.6},
        "train_auc": {},
        "val_auc": {2: 0.9, 1: 0.8},
    }
    figure = draw_training(curves, metric="auc", best_epoch=2, title="Training of the champion, trial 3")
    loss, auc = figure.axes
    assert [line.get_label() for line in loss.lines] == ["training", "validation", "best epoch, 2"]
    assert list(np.asarray(auc.lines[0].get_ydata())) == [0.8, 0.9]
    assert len(draw_training(curves, metric="loss", best_epoch=None, title="").axes) == 1
    save_figure(figure, tmp_path / "training.png")
