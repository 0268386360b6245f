"""Ensembles: the mean probability of several models, and which models it is best made of."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from trainable.calibration import log_loss
from trainable.folds import split_patients
from trainable.metrics import score

if TYPE_CHECKING:
    from collections.abc import Sequence

    from trainable.clustered import Floats


@dataclass(frozen=True, kw_only=True)
class Ensemble:
    """Members of a mean and what they reached.

    `counts` int (M,) says how often each of the M candidates was taken; `value` is the metric on the predictions that
    it was chosen by (flattered), `honest_value` the one of choosing on some patients and scoring on the others.
    """

    counts: tuple[int, ...]
    metric: str
    value: float
    honest_value: float

    @property
    def members(self) -> tuple[int, ...]:
        """The candidates with a share, the largest first."""
        taken = [index for index, count in enumerate(self.counts) if count > 0]
        return tuple(sorted(taken, key=lambda index: (-self.counts[index], index)))

    @property
    def weights(self) -> tuple[float, ...]:
        """The share float (M,) of each candidate, in [0, 1], with the sum 1."""
        total = sum(self.counts)
        return tuple(count / total for count in self.counts)


LEAST_OF_BEST = 0.05
"""A member with less of the best one's share, three standard errors below it, costs more than it gives."""


def weigh_by_score(scores: Sequence[float], error: float) -> tuple[float, ...]:
    """The shares float (M,) of models in a mean, with the sum 1: in proportion to exp(score / `error`).

    `scores` are validation's, higher is better, `error` the standard error of the best of them. So models that
    validation cannot tell apart count alike, and one that is clearly behind does not spoil the mean; from
    `LEAST_OF_BEST` down it has no share (`benchmarks/finish_rules.py`). All alike where no error above 0 is known.
    """
    behind = np.asarray(scores, dtype=np.float64) - max(scores)
    shares = np.exp(behind / error) if error > 0 else np.ones(len(behind))
    shares[shares < LEAST_OF_BEST] = 0.0
    return tuple((shares / shares.sum()).tolist())


def mean_probabilities(predictions: np.ndarray, weights: Sequence[float] | None = None) -> Floats:
    """The mean float (N, C) of M models' probabilities (M, N, C), plain or by `weights` (M,)."""
    return np.average(np.asarray(predictions, dtype=np.float64), axis=0, weights=weights)


def select_greedily(
    predictions: np.ndarray,
    labels: np.ndarray,
    patients: np.ndarray,
    positive: int,
    *,
    metric: str = "auc",
    most_members: int = 20,
    num_folds: int = 5,
) -> Ensemble:
    """Add, one at a time and with replacement, the candidate that improves the mean most (Caruana et al., ICML 2004).

    `predictions` float (M, N, C) are those of M candidates for slices whose patients they were not trained on
    (out-of-fold), `labels` int (N,), `patients` (N,). `metric` is one of `metrics.score` or "loss". How many are added,
    at most `most_members`, is chosen by cross-validation over patients: the number whose mean scores best on
    patients that the choice did not see. Of equals the earlier candidate and the smaller number: the same input gives
    the same ensemble. Raises ValueError for arrays that do not belong together and for an unknown metric.
    """
    predictions = np.asarray(predictions, dtype=np.float64)
    if predictions.ndim != 3 or predictions.shape[1] != len(labels) or len(predictions) == 0 or most_members < 1:
        raise ValueError(
            f"predictions have shape {predictions.shape}, labels {labels.shape} and at most {most_members} are wanted; "
            "they must be (models, N, classes), (N,) and 1 or more"
        )
    if metric != "loss" and metric not in (known := score(labels, predictions[0], positive)):
        raise ValueError(f"the metric is {metric!r}; it must be loss or one of {', '.join(known)}")
    path = _grow(predictions, labels, positive, metric, most_members)
    size, honest_value = len(path), float("nan")
    folds = split_patients(labels, patients, num_folds)
    if folds:
        curves, sizes = [], []
        for rows in folds:
            others = _grow(predictions[:, ~rows], labels[~rows], positive, metric, most_members)
            curves.append(_score_path(predictions[:, rows], others, labels[rows], positive, metric))
            sizes.append(rows.sum())
        mean = np.average(np.array(curves), axis=0, weights=sizes)
        if np.isfinite(mean).any():
            size = int(np.nanargmax(mean)) + 1
            honest_value = _shown(float(mean[size - 1]), metric)
    counts = Counter(path[:size])
    mean_of_chosen = predictions[path[:size]].mean(axis=0)
    return Ensemble(
        counts=tuple(counts[index] for index in range(len(predictions))),
        metric=metric,
        value=_shown(_goodness(labels, mean_of_chosen, positive, metric), metric),
        honest_value=honest_value,
    )


def _grow(predictions: Floats, labels: np.ndarray, positive: int, metric: str, size: int) -> list[int]:
    total = np.zeros(predictions.shape[1:])
    path: list[int] = []
    for step in range(1, size + 1):
        values = [_goodness(labels, (total + each) / step, positive, metric) for each in predictions]
        best = int(np.argmax(np.nan_to_num(np.round(values, 12), nan=-np.inf)))
        path.append(best)
        total = total + predictions[best]
    return path


def _score_path(predictions: Floats, path: list[int], labels: np.ndarray, positive: int, metric: str) -> list[float]:
    totals = np.cumsum(predictions[path], axis=0)
    return [_goodness(labels, total / step, positive, metric) for step, total in enumerate(totals, 1)]


def _goodness(labels: np.ndarray, probabilities: Floats, positive: int, metric: str) -> float:
    """The metric, turned so that higher is better."""
    if metric == "loss":
        return -log_loss(labels, probabilities)
    return score(labels, probabilities, positive)[metric]


def _shown(goodness: float, metric: str) -> float:
    return -goodness if metric == "loss" else goodness
