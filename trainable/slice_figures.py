"""Figures of slices: counts by split, some of each class, augmentation at several strengths, the worst mistakes."""

from __future__ import annotations

from itertools import chain
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import torch
from matplotlib.figure import Figure

from trainable.augment import augment
from trainable.figures import CLASS_HUES, GREEN, INK, RED, dress, show_names_literally
from trainable.images.mapped import open_pixels

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from matplotlib.axes import Axes
    from numpy.typing import NDArray

    from trainable.images.prepare import TrainingData

NUM_COLUMNS, MAX_ROWS = 8, 12
STRENGTHS = (0.0, 0.25, 0.5, 1.0)
_TILE, _MARGIN = 1.05, 1.0  # inches


def draw_counts(
    slices: Mapping[str, Mapping[str, int]], groups: Mapping[str, Mapping[str, int]], *, group_name: str
) -> Figure:
    """Slices, and patients (or other groups), of each class in each split: both map class to split to count."""
    num_classes = len(slices)
    figure = Figure(figsize=(7.4, 1.5 + 0.42 * 3 * max(num_classes, 2) ** 0.8), dpi=150, facecolor="white")
    figure.set_layout_engine("constrained", w_pad=0.12, h_pad=0.1)
    for place, (name, counts) in enumerate((("slices", slices), (group_name, groups))):
        axes = figure.add_subplot(1, 2, place + 1)
        splits = list(next(iter(counts.values())))
        height = 0.8 / num_classes
        for index, (label, by_split) in enumerate(counts.items()):
            rows = np.arange(len(splits)) + (index - (num_classes - 1) / 2) * height
            bars = axes.barh(
                rows,
                [by_split[split] for split in splits],
                height=0.88 * height,
                color=CLASS_HUES[index % len(CLASS_HUES)],
                label=label,
            )
            axes.bar_label(bars, fontsize=8, color=INK, padding=3)
        axes.set_yticks(range(len(splits)), splits)
        axes.invert_yaxis()
        dress(axes, name.capitalize(), "", "")
        axes.spines["bottom"].set_visible(False)
        axes.set_xticks([])
        axes.margins(x=0.14)
    handles, labels = figure.axes[0].get_legend_handles_labels()
    legend = figure.legend(
        handles,
        labels,
        loc="outside lower center",
        ncols=min(num_classes, 4),
        fontsize=8,
        frameon=False,
        labelcolor=INK,
    )
    show_names_literally(legend.get_texts())
    return figure


def draw_training_slices(data: TrainingData, *, chosen: float | None = None) -> dict[str, Figure]:
    """`samples` of each class and `augmentation` of a few, from the train split alone; `chosen` is the champion's."""
    pixels, train = open_pixels(Path(data.pixels_path)), np.flatnonzero(~data.is_val)
    some = np.random.default_rng(0).permutation(train)[:NUM_COLUMNS]
    return {
        "samples": draw_samples(pixels[train], data.labels[train], data.groups[train], data.classes),
        "augmentation": draw_augmented(pixels[some], chosen=chosen),
    }


def draw_samples(
    pixels: NDArray[np.uint8], labels: np.ndarray, groups: np.ndarray, classes: Sequence[str], *, seed: int = 0
) -> Figure:
    """A row of slices for each class, of as many patients as there are. `pixels` uint8 (N, S, S[, C]), `labels` and
    `groups` int (N,)."""
    rng = np.random.default_rng(seed)
    rows = []
    for index in range(min(len(classes), MAX_ROWS)):
        of_class = rng.permutation(np.flatnonzero(labels == index))
        _, first = np.unique(groups[of_class], return_index=True)
        one_each = of_class[np.sort(first)]
        rest = of_class[~np.isin(of_class, one_each)]
        rows.append(np.concatenate([one_each, rest])[:NUM_COLUMNS])
    figure, grid = _new_grid("Training slices", len(rows))
    for axes, chosen, name in zip(grid, rows, classes, strict=False):
        _name_row(axes[0], name)
        for place, index in zip(axes, chosen, strict=False):
            _show(place, pixels[index])
    return figure


def draw_augmented(pixels: NDArray[np.uint8], *, chosen: float | None = None, seed: int = 0) -> Figure:
    """The same slices, uint8 (N, S, S[, C]), as training sees them at several strengths; `chosen` is the champion's."""
    strengths = STRENGTHS if chosen is None else sorted({*STRENGTHS, round(chosen, 2)})
    given = torch.from_numpy(pixels[:NUM_COLUMNS].copy())
    given = (given.unsqueeze(1) if given.ndim == 3 else given.movedim(-1, 1)).float()
    figure, grid = _new_grid("Augmentation by its strength", len(strengths))
    for axes, strength in zip(grid, strengths, strict=True):
        of_champion = chosen is not None and strength == round(chosen, 2)
        _name_row(axes[0], f"{strength:g}" + ("\nchampion" if of_champion else ""), GREEN if of_champion else INK)
        moved = augment(given, strength, torch.Generator().manual_seed(seed))  # the same directions in every row
        for place, image in zip(axes, moved.movedim(1, -1).numpy(), strict=False):
            _show(place, image)
    return figure


def draw_mistakes(
    pixels: NDArray[np.uint8],
    labels: np.ndarray,
    probabilities: np.ndarray,
    classes: Sequence[str],
    *,
    title: str,
    num_rows: int = 2,
) -> Figure:
    """The slices uint8 (N, S, S[, C]) whose true class was given the least probability, of those called
    wrong.

    `labels` int (N,), `probabilities` float (N, C).
    """
    called = probabilities.argmax(axis=1)
    wrong = np.flatnonzero(called != labels)
    worst = wrong[np.argsort(probabilities[wrong, labels[wrong]], kind="stable")]
    num_columns = NUM_COLUMNS - 2  # captions want room
    shown = worst[: num_rows * num_columns]
    counted = f"{title}: {len(wrong)} of {len(labels)} slices" + (f", the worst {len(shown)}" if len(shown) else "")
    figure, grid = _new_grid(
        counted, max(1, -(-len(shown) // num_columns)), num_columns=num_columns, tile=1.4, caption=0.42, margin=0.2
    )
    for place, index in zip(chain.from_iterable(grid), shown, strict=False):
        _show(place, pixels[index])
        text = f"{classes[labels[index]]}\ncalled {classes[called[index]]}, {probabilities[index, called[index]]:.2f}"
        place.set_xlabel(text, fontsize=7.5, color=INK, parse_math=False, labelpad=3)
        for spine in place.spines.values():
            spine.set(visible=True, color=RED, linewidth=1.2)
    return figure


def _new_grid(
    title: str,
    num_rows: int,
    *,
    num_columns: int = NUM_COLUMNS,
    tile: float = _TILE,
    caption: float = 0.0,
    margin: float = _MARGIN,
) -> tuple[Figure, list[list[Axes]]]:
    """A sheet of bare square places (num_rows, num_columns), `tile` inches a side, under one title."""
    gap, head = 0.07, 0.45
    width = margin + num_columns * (tile + gap) + 0.1
    height = head + num_rows * (tile + caption + gap) + 0.1
    figure = Figure(figsize=(width, height), dpi=150, facecolor="white")
    figure.text(0.12 / width, 1 - 0.22 / height, title, fontsize=11, color=INK, va="center", parse_math=False)
    grid: list[list[Axes]] = [[] for _ in range(num_rows)]
    for row, column in np.ndindex(num_rows, num_columns):
        left = margin + column * (tile + gap)
        bottom = height - head - (row + 1) * (tile + caption + gap) + caption + gap
        axes = figure.add_axes((left / width, bottom / height, tile / width, tile / height))
        axes.set(xticks=[], yticks=[])
        axes.spines[:].set_visible(False)
        grid[row].append(axes)
    return figure, grid


def _name_row(axes: Axes, name: str, hue: str = INK) -> None:
    shown = name if len(name) <= 14 else f"{name[:13]}…"
    axes.set_ylabel(shown, fontsize=9, color=hue, rotation=0, ha="right", va="center", labelpad=8, parse_math=False)


def _show(axes: Axes, image: np.ndarray) -> None:
    """(S, S) or (S, S, C) of 0 to 255: three channels as red, green and blue, of any other number the middle one."""
    if image.ndim == 3:
        image = np.clip(image, 0, 255).astype(np.uint8) if image.shape[2] == 3 else image[..., image.shape[2] // 2]
    axes.imshow(image, cmap="gray", vmin=0, vmax=255, interpolation="lanczos", aspect="auto")
