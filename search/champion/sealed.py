"""The score of the sealed test: every figure with its interval, by slice and by patient, and what it can show."""

from __future__ import annotations

import math
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING

import numpy as np
from mlflow.entities import Metric

from trainable import metrics

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence
    from pathlib import Path

    from mlflow import MlflowClient

    from search.champion.opening import Opening
    from trainable.images.prepare import SealedTest, TrainingData
    from trainable.operating_point import OperatingPoint
    from trainable.scorecard import Estimate
    from trainable.served_ensemble import TrainedEnsemble
    from trainable.verdicts import PatientVerdict

AT_POINT = ("accuracy", "sensitivity", "specificity", "precision")
METHODS = {"Newcombe": "Newcombe's method 5", "Wilson": "Wilson's method"}


@dataclass(frozen=True, kw_only=True)
class SealedFigures:
    """Figures of the sealed test (see `scorecard.measure`) with their 95 % intervals over groups.

    `group_name` says what groups are: patients, or clusters of near-duplicates where patients are unknown. `can_tell`
    says how far apart two models must be to be told apart by this test.
    """

    num_slices: int
    num_groups: int
    estimates: Mapping[str, Estimate]
    can_tell: str = ""
    group_name: str = "groups"

    @property
    def each(self) -> str:
        """One group: `patient`, or `group`."""
        return self.group_name.split()[0].removesuffix("s")

    @property
    def metrics(self) -> dict[str, float]:
        """The values alone; NaN is undefined."""
        return {name: estimate.value for name, estimate in self.estimates.items()}

    def to_metrics(self, prefix: str) -> dict[str, float]:
        """Flat, for MLflow: PREFIX_auc, PREFIX_auc_low, PREFIX_auc_high, ... without what is undefined."""
        flat: dict[str, float] = {"num_slices": self.num_slices, "num_groups": self.num_groups}
        for name, estimate in self.estimates.items():
            flat[name] = estimate.value
            flat[f"{name}_low"], flat[f"{name}_high"] = estimate.interval.low, estimate.interval.high
        return {f"{prefix}_{name}": value for name, value in flat.items() if math.isfinite(value)}

    def to_record(self, prefix: str) -> dict[str, float | str]:
        """`to_metrics`, and the method of each interval as PREFIX_auc_method, ..."""
        methods = {f"{prefix}_{name}_method": each.interval.method for name, each in self.estimates.items()}
        return {**self.to_metrics(prefix), **methods}

    def describe_intervals(self, names: Iterable[str] | None = None) -> str:
        """Whose the 95 % intervals of some figures are, of all without names: methods with their figures."""
        named = [name for name in names or self.estimates if name in self.estimates]
        known = [name for name in named if self.estimates[name].interval.is_known]
        methods: dict[str, list[str]] = {}
        for name in known:
            methods.setdefault(self.estimates[name].interval.method, []).append(name)
        if len(methods) < 2:
            return "".join(METHODS.get(method, method) for method in methods)
        return ", ".join(f"{METHODS.get(method, method)} ({', '.join(figures)})" for method, figures in methods.items())


@dataclass(frozen=True, kw_only=True)
class SealedScore:
    """A model on the sealed test: all slices, their patients, and the slices without near-duplicates elsewhere.

    Each is None where it would rest on no slice at all; `of_patients` also where each group is one slice, and
    where a group has slices of several of more than two classes. `probabilities` float (M, C) are the model's.
    """

    figures: SealedFigures | None
    of_patients: SealedFigures | None = None
    without_duplicates: SealedFigures | None
    figure_files: tuple[Path, ...]
    warnings: tuple[str, ...]
    probabilities: np.ndarray | None = field(default=None, compare=False, repr=False)

    def named(self) -> dict[str, SealedFigures]:
        """What there is, by the prefix under which it is logged: test, test_patients, test_without_duplicates."""
        found = {
            "test": self.figures,
            "test_patients": self.of_patients,
            "test_without_duplicates": self.without_duplicates,
        }
        return {prefix: figures for prefix, figures in found.items() if figures is not None}

    def to_metrics(self) -> dict[str, float]:
        """Everything, by the names it is logged under: test_auc, test_without_duplicates_auc, ..."""
        flat: dict[str, float] = {}
        for prefix, figures in self.named().items():
            flat |= figures.to_metrics(prefix)
        return flat


def measure_figures(
    labels: np.ndarray,
    probabilities: np.ndarray,
    groups: np.ndarray,
    positive: int,
    *,
    threshold: float | None = None,
    group_name: str = "groups",
    num_resamples: int = 1000,
    seed: int = 0,
) -> SealedFigures:
    """The figures of labels int (N,) and probabilities float (N, C) with their intervals over groups int (N,).

    With a `threshold` accuracy, sensitivity, specificity and precision are given at it too, as NAME_at_point.
    """
    from trainable.scorecard import measure

    given = labels, probabilities, groups, positive
    estimates = measure(*given, num_resamples=num_resamples, seed=seed)
    if threshold is not None:
        at_point = measure(*given, threshold=threshold, num_resamples=2)
        estimates |= {f"{name}_at_point": at_point[name] for name in AT_POINT}
    return SealedFigures(
        num_slices=len(labels),
        num_groups=len(np.unique(groups)),
        estimates=estimates,
        can_tell=describe_resolution(*given, group_name=group_name),
        group_name=group_name,
    )


def score_sealed_test(
    model: TrainedEnsemble,
    sealed: SealedTest,
    data: TrainingData,
    *,
    folder: Path,
    seed: int,
    num_resamples: int = 1000,
    group_name: str = "groups",
    point: OperatingPoint | None = None,
) -> SealedScore:
    """Score a model on the opened test; its figures and worst mistakes are drawn into `folder`.

    With an operating `point` accuracy, sensitivity, specificity and precision are given at it too, as NAME_at_point.
    """
    if len(sealed.labels) == 0:
        note = "the test split is empty: there are no test figures"
        return SealedScore(figures=None, without_duplicates=None, figure_files=(), warnings=(note,))
    probabilities = model.predict(sealed.pixels, sealed.labels)

    def score_rows(rows: np.ndarray) -> SealedFigures:
        given = sealed.labels[rows], probabilities[rows], sealed.groups[rows], data.positive
        threshold = None if point is None else point.threshold
        return measure_figures(
            *given, threshold=threshold, group_name=group_name, num_resamples=num_resamples, seed=seed
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
    if len(np.unique(sealed.labels)) < len(data.classes):
        undefined = [name for name, value in figures.metrics.items() if math.isnan(value)]
        notes.append(f"the test split lacks a class: {', '.join(undefined)} cannot be given")

    return SealedScore(
        figures=figures,
        of_patients=measure_patients(
            sealed.labels,
            probabilities,
            sealed.groups,
            data.positive,
            figures=figures,
            verdict=model.verdict,
            num_resamples=num_resamples,
        ),
        without_duplicates=without_duplicates,
        figure_files=draw_score(sealed, probabilities, figures, data, folder),
        warnings=tuple(notes),
        probabilities=probabilities,
    )


def measure_patients(
    labels: np.ndarray,
    probabilities: np.ndarray,
    groups: np.ndarray,
    positive: int,
    *,
    figures: SealedFigures,
    verdict: PatientVerdict | None = None,
    num_resamples: int = 1000,
) -> SealedFigures | None:
    """The figures by patient: what `verdict` makes of each group's slices (default: their mean). None as `SealedScore`
    says."""
    from trainable import patients
    from trainable.verdicts import MEAN_VERDICT

    if figures.num_groups == figures.num_slices:
        return None
    given = labels, probabilities, groups, positive
    try:
        estimates = patients.measure_patients(verdict or MEAN_VERDICT, *given, num_resamples=num_resamples)
    except ValueError:  # slices of several classes in one group
        return None
    return replace(figures, estimates=estimates, can_tell="")


def describe_resolution(
    labels: np.ndarray, probabilities: np.ndarray, groups: np.ndarray, positive: int, *, group_name: str = "groups"
) -> str:
    """By how much two models' AUCs must differ to be told apart on these slices; "" where nothing can be said."""
    from trainable.comparisons import describe_detectable, detectable_difference
    from trainable.standard_errors import standard_error

    num_groups = len(np.unique(groups))
    error = standard_error("auc", labels, probabilities, groups, positive)
    if num_groups < 2 or not error > 0:
        return ""
    sentence = describe_detectable(detectable_difference(error, num_groups), num_groups)
    return f"AUC: {sentence.replace('patients', group_name)}"


def draw_score(
    sealed: SealedTest, probabilities: np.ndarray, figures: SealedFigures, data: TrainingData, folder: Path
) -> tuple[Path, ...]:
    """ROC, precision and recall, confusion matrix and mistakes; of two classes also reliability and decision curve."""
    from trainable.decision_curve import decision_curve
    from trainable.figures import draw_confusion_matrix, draw_precision_recall_curve, draw_roc_curve, save_figure
    from trainable.probability_figures import draw_decision_curve, draw_reliability
    from trainable.slice_figures import draw_mistakes

    given = (sealed.labels, probabilities, data.classes)
    auc = figures.estimates["auc"]
    matrix = metrics.confusion_matrix(sealed.labels, probabilities)
    drawn = {
        "confusion_matrix": draw_confusion_matrix(matrix, data.classes, title="Confusion matrix, sealed test"),
        "roc_curve": draw_roc_curve(*given, data.positive, auc.value, auc.interval, title="ROC curve, sealed test"),
        "precision_recall": draw_precision_recall_curve(
            *given, data.positive, title="Precision and recall, sealed test"
        ),
        "mistakes": draw_mistakes(sealed.pixels, *given, title="Mistakes on the sealed test"),
    }
    if len(data.classes) == 2:
        is_positive, of_positive = sealed.labels == data.positive, probabilities[:, data.positive].astype(np.float64)
        curve = decision_curve(is_positive, of_positive, sealed.groups)
        drawn["reliability"] = draw_reliability(
            is_positive, {"the model": of_positive}, sealed.groups, title="Reliability, sealed test"
        )
        drawn["decision_curve"] = draw_decision_curve(curve, title="Decision curve, sealed test")
    return tuple(save_figure(figure, folder / f"{name}.png") for name, figure in drawn.items())


def log_score(client: MlflowClient, run_ids: Sequence[str], score: SealedScore, opening: Opening) -> None:
    """Log numbers and figures to each run. Called again after a crash, it changes nothing."""
    values = [Metric(key, value, opening.timestamp_ms, 0) for key, value in score.to_metrics().items()]
    for run_id in run_ids:
        client.log_batch(run_id, metrics=values)
        for file in score.figure_files:
            client.log_artifact(run_id, str(file), "sealed_test")
