"""Metrics: pure functions of labels and probabilities, each of many weightings of the same slices at once."""

from __future__ import annotations

from typing import TypeAlias

import numpy as np
import numpy.typing as npt

Floats: TypeAlias = npt.NDArray[np.float64]


def score(
    labels: np.ndarray, probabilities: np.ndarray, positive: int, *, threshold: float | None = None
) -> dict[str, float]:
    """Metrics of `probabilities` float (N, C) against `labels` int (N,), each in [0, 1].

    auc, accuracy, sensitivity, specificity, precision and f1; a slice is called what is most probable or, of two
    classes, `positive` from a probability of `threshold` on. For two classes they are those of the class `positive`;
    for more, the plain mean over one-versus-rest, beside `sensitivity_<i>` and `specificity_<i>` of every class. No
    positive call makes precision 0. What is undefined (no slice of a class) is NaN. Raises ValueError for arrays that
    do not belong together, and for a threshold with more than two classes.
    """
    one_of_each = np.ones((1, len(labels)))
    values = score_weighted(labels, probabilities, positive, one_of_each, threshold=threshold)
    return {name: float(each[0]) for name, each in values.items()}


def call_classes(probabilities: np.ndarray, positive: int, threshold: float | None = None) -> npt.NDArray[np.intp]:
    """The class int (N,) that each slice is called: the most probable, or by `threshold` of the class `positive`.

    Raises ValueError for a threshold with more than two classes.
    """
    if threshold is None:
        return probabilities.argmax(axis=1)
    if probabilities.shape[1] != 2:
        raise ValueError(
            f"there is a threshold of {threshold:g} and {probabilities.shape[1]} classes; a threshold belongs to "
            "two classes: leave it out"
        )
    return np.where(probabilities[:, positive] >= threshold, positive, 1 - positive)


def confusion_matrix(
    labels: np.ndarray, probabilities: np.ndarray, positive: int = 1, threshold: float | None = None
) -> npt.NDArray[np.int64]:
    """Counts int (C, C): rows are the true classes, columns what slices were called (`call_classes`)."""
    num_classes = probabilities.shape[1]
    cells = np.asarray(labels) * num_classes + call_classes(probabilities, positive, threshold)
    return np.bincount(cells, minlength=num_classes**2).reshape(num_classes, num_classes)


def score_weighted(
    labels: np.ndarray,
    probabilities: np.ndarray,
    positive: int,
    weights: Floats,
    *,
    threshold: float | None = None,
) -> dict[str, Floats]:
    """The metrics of `score`, of R weightings of the same N slices at once: `weights` (R, N) -> arrays (R,)."""
    labels, probabilities = check_arrays(labels, probabilities)
    called = call_classes(probabilities, positive, threshold)
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


def check_arrays(labels: np.ndarray, probabilities: np.ndarray) -> tuple[np.ndarray, Floats]:
    """Both as arrays, the probabilities in float64. Raises ValueError where they do not belong together."""
    labels, probabilities = np.asarray(labels), np.asarray(probabilities, dtype=np.float64)
    if probabilities.ndim != 2 or labels.shape != probabilities.shape[:1] or len(labels) == 0:
        raise ValueError(
            f"labels have shape {labels.shape} and probabilities {probabilities.shape}; "
            "they must be (N,) and (N, classes) with N of 1 or more"
        )
    return labels, probabilities


def _score_one(is_positive: np.ndarray, is_called: np.ndarray, scores: Floats, weights: Floats) -> dict[str, Floats]:
    true_positives = weights @ (is_positive & is_called)
    num_positives, num_negatives, num_called = (
        weights @ is_positive,
        weights @ ~is_positive,
        weights @ is_called,
    )
    true_negatives = num_negatives - (num_called - true_positives)
    return {
        "auc": area_under_roc(is_positive, scores, weights),
        "sensitivity": _divide(true_positives, num_positives),
        "specificity": _divide(true_negatives, num_negatives),
        "precision": np.where(num_called > 0, _divide(true_positives, num_called), 0.0),
        "f1": _divide(2 * true_positives, num_positives + num_called),
    }


def area_under_roc(is_positive: np.ndarray, scores: Floats, weights: Floats) -> Floats:
    """The chance that a positive scores above a negative, ties counting half (Hanley and McNeil 1982)."""
    order = np.argsort(scores, kind="stable")
    starts = np.flatnonzero(np.diff(scores[order], prepend=-np.inf))  # of each run of equal scores
    sorted_weights, sorted_positive = weights[:, order], is_positive[order]
    positives = np.add.reduceat(sorted_weights * sorted_positive, starts, axis=1)
    negatives = np.add.reduceat(sorted_weights * ~sorted_positive, starts, axis=1)
    negatives_below = np.cumsum(negatives, axis=1) - negatives
    wins = (positives * (negatives_below + negatives / 2)).sum(axis=1)
    return _divide(wins, positives.sum(axis=1) * negatives.sum(axis=1))


def _divide(numerator: Floats, denominator: Floats) -> Floats:
    return np.divide(numerator, denominator, out=np.full(len(numerator), np.nan), where=denominator > 0)
