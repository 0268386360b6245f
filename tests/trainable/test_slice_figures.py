from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import pytest

from trainable.figures import save_figure
from trainable.slice_figures import draw_augmented, draw_counts, draw_mistakes, draw_samples

if TYPE_CHECKING:
    from pathlib import Path

    from matplotlib.figure import Figure

HARD_NAMES = ("normal", "$\\frac{$ é", "肺炎 with a name that is too long for a row")


def read_images(figure: Figure) -> list[np.ndarray]:
    return [np.asarray(image.get_array()) for axes in figure.axes for image in axes.images]


def draw_slices(count: int) -> np.ndarray:
    """Each of one grey of its own."""
    return np.repeat(np.arange(count, dtype=np.uint8), 32 * 32).reshape(count, 32, 32)


def test_samples_are_of_their_class_and_of_different_patients(tmp_path: Path) -> None:
    labels, groups = np.arange(60) % 3, np.arange(60) // 6
    figure = draw_samples(draw_slices(60), labels, groups, HARD_NAMES)
    shown = np.array([image[0, 0] for image in read_images(figure)]).reshape(3, 8)
    assert (labels[shown] == [[0], [1], [2]]).all()
    assert all(len(set(groups[row])) == 8 for row in shown)
    assert figure.axes[0].get_ylabel() == "normal"
    save_figure(figure, tmp_path / "samples.png")


def test_a_class_of_few_slices_has_a_shorter_row(tmp_path: Path) -> None:
    figure = draw_samples(draw_slices(5), np.array([0, 0, 0, 0, 1]), np.arange(5), ("a", "b"))
    assert len(read_images(figure)) == 5
    save_figure(figure, tmp_path / "samples.png")


def test_augmentation_is_that_of_training_and_grows_with_its_strength() -> None:
    pixels = np.random.default_rng(0).integers(0, 256, (8, 32, 32), dtype=np.uint8)
    figure = draw_augmented(pixels, chosen=0.3)
    rows = np.array(read_images(figure)).reshape(5, 8, 32, 32)
    names = [axes.get_ylabel() for axes in figure.axes if axes.get_ylabel()]
    assert names == ["0", "0.25", "0.3\nchampion", "0.5", "1"]
    np.testing.assert_array_equal(rows[0], pixels)
    assert (np.abs(rows[1:] - pixels).mean(axis=(1, 2, 3)) > 1).all()


def test_mistakes_are_shown_from_the_most_certain_one_on() -> None:
    labels = np.array([0, 0, 0, 1, 1])
    ill = np.array([0.1, 0.7, 0.95, 0.9, 0.2])
    figure = draw_mistakes(
        draw_slices(5), labels, np.stack([1 - ill, ill], axis=1), ("healthy", "ill"), title="Mistakes of a test"
    )
    assert [image[0, 0] for image in read_images(figure)] == [2, 4, 1]
    captions = [axes.get_xlabel() for axes in figure.axes if axes.images]
    assert captions == ["healthy\ncalled ill, 0.95", "ill\ncalled healthy, 0.80", "healthy\ncalled ill, 0.70"]
    assert figure.texts[0].get_text() == "Mistakes of a test: 3 of 5 slices, the worst 3"


def test_a_model_without_mistakes_has_an_empty_sheet(tmp_path: Path) -> None:
    figure = draw_mistakes(draw_slices(2), np.array([0, 1]), np.eye(2), ("a", "b"), title="Mistakes")
    assert figure.texts[0].get_text() == "Mistakes: 0 of 2 slices"
    save_figure(figure, tmp_path / "mistakes.png")


@pytest.mark.parametrize("num_classes", [2, 3])
def test_counts_of_slices_and_patients_stand_side_by_side(num_classes: int, tmp_path: Path) -> None:
    counts = {name: {"train": 30, "val": 0, "test": 5} for name in HARD_NAMES[:num_classes]}
    figure = draw_counts(counts, counts, group_name="patients")
    assert [axes.get_title(loc="left") for axes in figure.axes] == ["Slices", "Patients"]
    numbers = [text.get_text() for text in figure.axes[0].texts]
    assert numbers == ["30", "0", "5"] * num_classes
    save_figure(figure, tmp_path / "counts.png")
