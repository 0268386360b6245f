"""The sealed test: each opening is recorded before it happens, and a search opens it for one trial only."""

from __future__ import annotations

import math
from dataclasses import asdict, dataclass, replace
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

import numpy as np
from mlflow.entities import Metric

from trainable import metrics
from trainable.records import read_record, write_record

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path

    from mlflow import MlflowClient

    from trainable.images.prepare import SealedTest, TrainingData

OPENING_FILE = "sealed_test.json"


class SealedTestError(ValueError):
    """The sealed test of this search was opened for another trial, or its record is damaged."""


@dataclass(frozen=True, kw_only=True)
class Opening:
    """One opening. `num_openings` counts those of this data in this home up to and including this one.

    `earlier` are the trials for which the same search has opened it before: a search that was extended may come to
    another champion. `num_extensions` is how often it had been extended by then.
    """

    search: str
    champion: int
    data_hash: str
    opened_at: str  # UTC, ISO 8601
    num_openings: int
    earlier: Sequence[int] = ()
    num_extensions: int = 0

    @property
    def warning(self) -> str | None:
        """What a user of the model must know of earlier openings; None without any."""
        if not self.earlier:
            return None
        before = ", ".join(map(str, self.earlier))
        return (
            f"the search was extended after its sealed test had been opened for trial {before}: this is its opening "
            f"number {len(self.earlier) + 1}, and the test figures are no longer those of an untouched test"
        )

    @property
    def timestamp_ms(self) -> int:
        return int(datetime.fromisoformat(self.opened_at).timestamp() * 1000)


@dataclass(frozen=True, kw_only=True)
class SealedFigures:
    """Metrics of the sealed test (see `metrics.score`) with their 95 % intervals by bootstrap over groups.

    A group is a patient, or a cluster of near-duplicates where patients are unknown.
    """

    num_slices: int
    num_groups: int
    metrics: Mapping[str, float]
    intervals: Mapping[str, tuple[float, float]]

    def to_metrics(self, prefix: str) -> dict[str, float]:
        """Flat, for MLflow: PREFIX_auc, PREFIX_auc_low, PREFIX_auc_high, ... without what is undefined."""
        flat: dict[str, float] = {"num_slices": self.num_slices, "num_groups": self.num_groups}
        for name, value in self.metrics.items():
            flat[name] = value
            flat[f"{name}_low"], flat[f"{name}_high"] = self.intervals[name]
        return {f"{prefix}_{name}": value for name, value in flat.items() if math.isfinite(value)}


@dataclass(frozen=True, kw_only=True)
class SealedScore:
    """A net on the sealed test: all slices, and those without near-duplicates in the other splits.

    Either is None where it would rest on no slice at all.
    """

    figures: SealedFigures | None
    without_duplicates: SealedFigures | None
    pictures: tuple[Path, ...]
    warnings: tuple[str, ...]

    def to_metrics(self) -> dict[str, float]:
        """Everything, by the names it is logged under: test_auc, test_without_duplicates_auc, ..."""
        flat = self.figures.to_metrics("test") if self.figures else {}
        if self.without_duplicates is not None:
            flat |= self.without_duplicates.to_metrics("test_without_duplicates")
        return flat


def opened_for(path: Path, num_extensions: int) -> int | None:
    """The trial that a search must go on with, since its sealed test was opened for it; None before an opening.

    A search that was extended since chooses anew.
    """
    opening = read_opening(path)
    return opening.champion if opening is not None and opening.num_extensions >= num_extensions else None


def record_opening(folder: Path, *, search: str, champion: int, data_hash: str, num_extensions: int = 0) -> Opening:
    """Write down that the sealed test is about to be opened; `folder` lies among the folders of all searches.

    The same champion finds its own record again. Another one is recorded and counted where the search was extended
    since (`num_extensions` is how often it was). Raises SealedTestError for any other.
    """
    path = folder / OPENING_FILE
    present = read_opening(path)
    is_extended = present is not None and present.num_extensions < num_extensions
    if present is not None and (not is_extended or present.champion == champion):
        if (present.champion, present.data_hash) != (champion, data_hash) and not is_extended:
            raise SealedTestError(
                f"the sealed test of search {search} was opened for trial {present.champion} at "
                f"{present.opened_at}. Opening it for trial {champion} too would make it a second validation "
                "set: start a new search to score another champion"
            )
        if is_extended:
            present = replace(present, num_extensions=num_extensions)
            write_record(path, asdict(present))
        return present
    others = [read_opening(other) for other in folder.parent.glob(f"*/{OPENING_FILE}")]
    of_this_data = [other for other in others if other is not None and other.data_hash == data_hash]
    opening = Opening(
        search=search,
        champion=champion,
        data_hash=data_hash,
        opened_at=datetime.now(UTC).isoformat(timespec="seconds"),
        num_openings=1 + sum(1 + len(other.earlier) for other in of_this_data),
        earlier=() if present is None else (*present.earlier, present.champion),
        num_extensions=num_extensions,
    )
    write_record(path, asdict(opening))
    return opening


def read_opening(path: Path) -> Opening | None:
    """The record of an opening, or None. Raises SealedTestError for a damaged one."""
    try:
        record = read_record(path)
        return Opening(**{**record, "earlier": tuple(record.get("earlier", ()))})
    except FileNotFoundError:
        return None
    except (ValueError, TypeError) as error:
        raise SealedTestError(
            f"{path} is damaged ({error}); it must say for whom the sealed test was opened: restore it"
        ) from error


def score_sealed_test(
    net: Any, sealed: SealedTest, data: TrainingData, *, folder: Path, seed: int, num_resamples: int = 1000
) -> SealedScore:
    """Score a trained net on the opened test; curves, confusion matrix and worst mistakes are drawn into `folder`."""
    from trainable.served_model import predict

    if len(sealed.labels) == 0:
        note = "the test split is empty: there are no test figures"
        return SealedScore(figures=None, without_duplicates=None, pictures=(), warnings=(note,))
    _, probabilities = predict(net, sealed.pixels, sealed.labels)

    def score_rows(rows: np.ndarray) -> SealedFigures:
        labels, groups = sealed.labels[rows], sealed.groups[rows]
        given = (labels, probabilities[rows])
        return SealedFigures(
            num_slices=len(labels),
            num_groups=len(np.unique(groups)),
            metrics=metrics.score(*given, data.positive),
            intervals=metrics.bootstrap_intervals(
                *given, groups, data.positive, num_resamples=num_resamples, seed=seed
            ),
        )

    is_unseen = ~sealed.has_near_duplicate
    figures = score_rows(np.full(len(is_unseen), True))
    without_duplicates = figures if is_unseen.all() else score_rows(is_unseen) if is_unseen.any() else None
    notes = []
    if not is_unseen.all():
        notes.append(
            f"{(~is_unseen).sum()} of {len(is_unseen)} test slices have near-duplicates among the given train "
            "and val slices: compare the test figures without them"
        )
    if undefined := [name for name, value in figures.metrics.items() if math.isnan(value)]:
        notes.append(f"the test split lacks a class: {', '.join(undefined)} cannot be given")

    return SealedScore(
        figures=figures,
        without_duplicates=without_duplicates,
        pictures=draw_score(sealed, probabilities, figures, data, folder),
        warnings=tuple(notes),
    )


def draw_score(
    sealed: SealedTest, probabilities: np.ndarray, figures: SealedFigures, data: TrainingData, folder: Path
) -> tuple[Path, ...]:
    from trainable.pictures import draw_confusion_matrix, draw_precision_recall_curve, draw_roc_curve, save_picture
    from trainable.slice_pictures import draw_mistakes

    given = (sealed.labels, probabilities, data.classes)
    auc, interval = figures.metrics["auc"], figures.intervals["auc"]
    matrix = metrics.confusion_matrix(sealed.labels, probabilities)
    drawn = {
        "confusion_matrix": draw_confusion_matrix(matrix, data.classes, title="Confusion matrix, sealed test"),
        "roc_curve": draw_roc_curve(*given, data.positive, auc, interval, title="ROC curve, sealed test"),
        "precision_recall": draw_precision_recall_curve(
            *given, data.positive, title="Precision and recall, sealed test"
        ),
        "mistakes": draw_mistakes(sealed.pixels, *given, title="Mistakes on the sealed test"),
    }
    return tuple(save_picture(figure, folder / f"{name}.png") for name, figure in drawn.items())


def log_score(client: MlflowClient, run_ids: Sequence[str], score: SealedScore, opening: Opening) -> None:
    """Log figures and pictures to each run. Called again after a crash, it changes nothing."""
    values = [Metric(key, value, opening.timestamp_ms, 0) for key, value in score.to_metrics().items()]
    for run_id in run_ids:
        client.log_batch(run_id, metrics=values)
        for picture in score.pictures:
            client.log_artifact(run_id, str(picture), "sealed_test")
