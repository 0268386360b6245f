"""Metrics: pure functions of labels and probabilities, and their intervals by bootstrap over patients."""

from __future__ import annotations

from typing import TypeAlias

import numpy as np
import numpy.typing as npt

Floats: TypeAlias = npt.NDArray[np.float64]

_RESAMPLES_AT_ONCE = 100


def score(labels: np.ndarray, probabilities: np.ndarray, positive: int) -> dict[str, float]:
    """Metrics of `probabilities` float (N, C) against `labels` int (N,), each in [0, 1].

    auc, accuracy, sensitivity, specificity, precision and f1; a picture is called what is most probable. For
    two classes they are those of the class `positive`; for more, the plain mean over one-versus-rest, beside
    `sensitivity_<i>` and `specificity_<i>` of every class. No positive call makes precision 0. What is
    undefined (no picture of a class) is NaN. Raises ValueError for arrays that do not belong together.
    """
    one_of_each = np.ones((1, len(labels)))
    return {name: float(values[0]) for name, values in _score(labels, probabilities, positive, one_of_each).items()}


def bootstrap_intervals(
    labels: np.ndarray,
    probabilities: np.ndarray,
    groups: np.ndarray,
    positive: int,
    *,
    num_resamples: int = 1000,
    seed: int = 0,
    level: float = 0.95,
) -> dict[str, tuple[float, float]]:
    """Intervals (low, high) of the metrics of `score`, by the percentile bootstrap over `groups` int (N,).

    Whole groups (patients) are drawn with replacement, since slices of one patient are not independent
    (Efron and Tibshirani, An Introduction to the Bootstrap, 1993, chapters 8 and 13). A resample in which a
    metric is undefined, such as AUC with one class only, is left out for that metric.
    """
    _, group_of_slice = np.unique(groups, return_inverse=True)
    num_groups = int(group_of_slice.max()) + 1
    rng = np.random.default_rng(seed)
    chunks: list[dict[str, Floats]] = []
    for start in range(0, num_resamples, _RESAMPLES_AT_ONCE):
        num_draws = min(_RESAMPLES_AT_ONCE, num_resamples - start)
        times_drawn = rng.multinomial(num_groups, np.full(num_groups, 1 / num_groups), size=num_draws)
        chunks.append(_score(labels, probabilities, positive, times_drawn[:, group_of_slice].astype(np.float64)))
    tail = (1 - level) / 2
    return {name: _interval(np.concatenate([chunk[name] for chunk in chunks]), tail) for name in chunks[0]}


def standard_error(
    labels: np.ndarray, probabilities: np.ndarray, groups: np.ndarray, positive: int, metric: str
) -> float:
    """The standard error of a metric of `score`, or of `loss`, over `groups` int (N,): patients are drawn, not slices.

    From each slice's share in the metric's error, to first order, summed patient by patient: for AUC the components of
    DeLong et al. 1988 as Obuchowski 1997 sums them over clusters, for shares the linearised ratio (Cochran, Sampling
    Techniques, 1977, chapter 9). NaN for fewer than two groups, or where the metric is undefined.
    """
    labels, probabilities = np.asarray(labels), np.asarray(probabilities, dtype=np.float64)
    called = probabilities.argmax(axis=1)
    if metric == "loss":
        of_label = probabilities[np.arange(len(labels)), labels]
        shares = _ratio_shares(-np.log(np.maximum(of_label, np.finfo(np.float32).tiny)), np.ones(len(labels)))
    elif metric == "accuracy":
        shares = _ratio_shares(called == labels, np.ones(len(labels)))
    else:
        num_classes = probabilities.shape[1]
        classes = [positive] if num_classes == 2 else range(num_classes)
        each = [_class_shares(labels == c, called == c, probabilities[:, c], metric) for c in classes]
        shares = np.mean(each, axis=0)
    _, group_of_slice = np.unique(groups, return_inverse=True)
    of_group = np.bincount(group_of_slice, weights=shares)
    num_groups = len(of_group)
    if num_groups < 2:
        return float("nan")
    return float(np.sqrt(num_groups / (num_groups - 1) * np.square(of_group).sum()))


def confusion_matrix(labels: np.ndarray, probabilities: np.ndarray) -> npt.NDArray[np.int64]:
    """Counts int (C, C): rows are the true classes, columns what was most probable."""
    num_classes = probabilities.shape[1]
    cells = np.asarray(labels) * num_classes + probabilities.argmax(axis=1)
    return np.bincount(cells, minlength=num_classes**2).reshape(num_classes, num_classes)


def _score(labels: np.ndarray, probabilities: np.ndarray, positive: int, weights: Floats) -> dict[str, Floats]:
    """The metrics of R weightings of the same N slices at once: `weights` (R, N) -> arrays (R,)."""
    labels, probabilities = np.asarray(labels), np.asarray(probabilities, dtype=np.float64)
    if probabilities.ndim != 2 or labels.shape != probabilities.shape[:1] or len(labels) == 0:
        raise ValueError(
            f"labels have shape {labels.shape} and probabilities {probabilities.shape}; "
            "they must be (N,) and (N, classes) with N of 1 or more"
        )
    called = probabilities.argmax(axis=1)
    accuracy = _divide(weights @ (called == labels), weights.sum(axis=1))
    num_classes = probabilities.shape[1]
    if num_classes == 2:
        of_positive = _score_one(labels == positive, called == positive, probabilities[:, positive], weights)
        return {"auc": of_positive.pop("auc"), "accuracy": accuracy, **of_positive}
    each = [_score_one(labels == c, called == c, probabilities[:, c], weights) for c in range(num_classes)]
    scores = {name: np.mean([of_class[name] for of_class in each], axis=0) for name in each[0]}
    scores = {"auc": scores.pop("auc"), "accuracy": accuracy, **scores}
    for name in ("sensitivity", "specificity"):
        scores |= {f"{name}_{c}": of_class[name] for c, of_class in enumerate(each)}
    return scores


def _score_one(is_positive: np.ndarray, is_called: np.ndarray, scores: Floats, weights: Floats) -> dict[str, Floats]:
    true_positives = weights @ (is_positive & is_called)
    num_positives, num_negatives, num_called = (
        weights @ is_positive,
        weights @ ~is_positive,
        weights @ is_called,
    )
    true_negatives = num_negatives - (num_called - true_positives)
    return {
        "auc": _area_under_roc(is_positive, scores, weights),
        "sensitivity": _divide(true_positives, num_positives),
        "specificity": _divide(true_negatives, num_negatives),
        "precision": np.where(num_called > 0, _divide(true_positives, num_called), 0.0),
        "f1": _divide(2 * true_positives, num_positives + num_called),
    }


def _area_under_roc(is_positive: np.ndarray, scores: Floats, weights: Floats) -> Floats:
    """The chance that a positive scores above a negative, ties counting half (Hanley and McNeil 1982)."""
    order = np.argsort(scores, kind="stable")
    starts = np.flatnonzero(np.diff(scores[order], prepend=-np.inf))  # of each run of equal scores
    sorted_weights, sorted_positive = weights[:, order], is_positive[order]
    positives = np.add.reduceat(sorted_weights * sorted_positive, starts, axis=1)
    negatives = np.add.reduceat(sorted_weights * ~sorted_positive, starts, axis=1)
    negatives_below = np.cumsum(negatives, axis=1) - negatives
    wins = (positives * (negatives_below + negatives / 2)).sum(axis=1)
    return _divide(wins, positives.sum(axis=1) * negatives.sum(axis=1))


def _class_shares(is_positive: np.ndarray, is_called: np.ndarray, scores: Floats, metric: str) -> Floats:
    """Each slice's share (N,) in the error of one class's metric, to first order."""
    if metric == "auc":
        return _auc_shares(is_positive, scores)
    if metric == "specificity":
        return _ratio_shares(~is_positive & ~is_called, ~is_positive)
    hits = is_positive & is_called
    if metric == "f1":
        return _ratio_shares(2.0 * hits, is_positive.astype(np.float64) + is_called)
    if metric not in ("sensitivity", "precision"):
        raise ValueError(f"metric is {metric!r}; a standard error is known for those of `score` and for loss")
    return _ratio_shares(hits, is_positive if metric == "sensitivity" else is_called)


def _ratio_shares(numerators: np.ndarray, denominators: np.ndarray) -> Floats:
    total = float(denominators.sum())
    if total == 0:
        return np.full(len(numerators), np.nan)
    ratio = float(numerators.sum()) / total
    return (numerators.astype(np.float64) - ratio * denominators) / total


def _auc_shares(is_positive: np.ndarray, scores: Floats) -> Floats:
    positives, negatives = np.sort(scores[is_positive]), np.sort(scores[~is_positive])
    if len(positives) == 0 or len(negatives) == 0:
        return np.full(len(scores), np.nan)

    def rank(values: Floats, others: Floats) -> Floats:
        """The share of `others` below each of `values`, equals counting half."""
        return (np.searchsorted(others, values, "left") + np.searchsorted(others, values, "right")) / (2 * len(others))

    wins = np.where(is_positive, rank(scores, negatives), 1 - rank(scores, positives))
    auc = wins[is_positive].mean()
    return (wins - auc) / np.where(is_positive, len(positives), len(negatives))


def _divide(numerator: Floats, denominator: Floats) -> Floats:
    return np.divide(numerator, denominator, out=np.full(len(numerator), np.nan), where=denominator > 0)


def _interval(values: Floats, tail: float) -> tuple[float, float]:
    values = values[np.isfinite(values)]
    if len(values) == 0:
        return float("nan"), float("nan")
    low, high = np.quantile(values, [tail, 1 - tail])
    return float(low), float(high)
