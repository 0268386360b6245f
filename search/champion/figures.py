"""The figures of a search's data, and of how its champion trained, drawn into the search's folder."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from mlflow import MlflowClient

    from search.core.ledger import TrialEntry
    from trainable.images.prepare import PreparedData
    from trainable.images.splits import SplitRow


def draw_data(
    prepared: PreparedData, rows: Sequence[SplitRow], folder: Path, *, strength: float | None = None
) -> list[Path]:
    """Counts by split, slices of each class, and augmentation; `strength` is the champion's. `rows` are the splits'.

    Only train slices are shown, and no patient is named.
    """
    from trainable.figures import save_figure
    from trainable.slice_figures import draw_counts, draw_training_slices

    data = prepared.training
    kept = [row for row in rows if row.kept]
    splits = ("train", "val", "test")
    slices = {name: {split: len(_groups(kept, name, split)) for split in splits} for name in data.classes}
    groups = {name: {split: len(set(_groups(kept, name, split))) for split in splits} for name in data.classes}
    group_name = "patients" if prepared.grouped_by == "patient" else "groups of neighbouring slices"

    drawn = {
        "counts": draw_counts(slices, groups, group_name=group_name),
        **draw_training_slices(data, chosen=strength),
    }
    return [save_figure(figure, folder / f"{name}.png") for name, figure in drawn.items()]


def draw_champion(client: MlflowClient, champion: TrialEntry, folder: Path, *, metric: str) -> Path:
    """How the champion trained, from the metrics that its run holds."""
    from trainable.figures import draw_training, save_figure

    names = dict.fromkeys(f"{split}_{name}" for name in ("loss", metric) for split in ("train", "val"))
    run_id = champion.run_id or ""
    curves = {name: {point.step: point.value for point in client.get_metric_history(run_id, name)} for name in names}
    title = f"Training of the champion, trial {champion.number}"
    figure = draw_training(curves, metric=metric, best_epoch=champion.best_epoch, title=title)
    return save_figure(figure, folder / "champion_training.png")


def _groups(rows: Sequence[SplitRow], label: str, split: str) -> list[int]:
    return [row.group for row in rows if row.label == label and row.split == split]
