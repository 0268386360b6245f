"""Metrics of probabilities, each of R weightings of the same N slices at once: `weights` (R, N) -> float (R,).

Those of one class take `is_positive` bool (N,) and its `probabilities` float (N,) in [0, 1]. What is undefined is NaN.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, TypeAlias

import numpy as np
import numpy.typing as npt

if TYPE_CHECKING:
    from collections.abc import Collection

Floats: TypeAlias = npt.NDArray[np.float64]

LEAST_PROBABILITY = 1e-7  # a probability of 0 or 1 counts as this far from it, where a logarithm is taken
SLICES_PER_BIN, MOST_BINS = 10, 10


def score_probabilities(
    labels: np.ndarray,
    probabilities: np.ndarray,
    positive: int,
    weights: Floats,
    *,
    threshold: float | None = None,
    names: Collection[str] | None = None,
) -> dict[str, Floats]:
    """Those of `names` (all, without) for `probabilities` float (N, C) of `labels` int (N,).

    average_precision, brier, calibration_error and loss; for two classes also calibration_slope, calibration_intercept
    and net_benefit at `threshold` (0.5 without one). For two classes they are of the class `positive`; for
    more the plain mean over one-versus-rest. Loss is cross-entropy over all classes in nats.
    """
    found = {}
    wanted = [name for name in ONE_VERSUS_REST if names is None or name in names]
    classes = [positive] if probabilities.shape[1] == 2 else range(probabilities.shape[1])
    for name in wanted:
        each = [ONE_VERSUS_REST[name](labels == c, probabilities[:, c], weights) for c in classes]
        found[name] = np.mean(each, axis=0)
    if names is None or "loss" in names:
        of_truth = np.clip(probabilities[np.arange(len(labels)), labels], LEAST_PROBABILITY, 1)
        found["loss"] = _divide(-(weights @ np.log(of_truth)), weights.sum(axis=1))
    if probabilities.shape[1] == 2:
        of_positive = (labels == positive, probabilities[:, positive], weights)
        if names is None or "calibration_slope" in names or "calibration_intercept" in names:
            found["calibration_slope"], found["calibration_intercept"] = calibration_line(*of_positive)
        if names is None or "net_benefit" in names:
            found["net_benefit"] = net_benefit(*of_positive, 0.5 if threshold is None else threshold)
    return found


def average_precision(is_positive: np.ndarray, probabilities: Floats, weights: Floats) -> Floats:
    """Area under the precision-recall curve as a sum of steps, as scikit-learn computes it. In [0, 1]."""
    order = np.argsort(-probabilities, kind="stable")
    starts = np.flatnonzero(np.diff(probabilities[order], prepend=np.inf))  # of each run of equal probabilities
    ordered = weights[:, order]
    positives = np.add.reduceat(ordered * is_positive[order], starts, axis=1)
    true_positives = np.cumsum(positives, axis=1)
    called = np.cumsum(np.add.reduceat(ordered, starts, axis=1), axis=1)
    precision = np.divide(true_positives, called, out=np.zeros_like(called), where=called > 0)
    return _divide((positives * precision).sum(axis=1), true_positives[:, -1])


def brier_score(is_positive: np.ndarray, probabilities: Floats, weights: Floats) -> Floats:
    """Mean squared difference between probability and truth (Brier 1950). In [0, 1]; 0 is perfect."""
    return _divide(weights @ (probabilities - is_positive) ** 2, weights.sum(axis=1))


def calibration_error(is_positive: np.ndarray, probabilities: Floats, weights: Floats) -> Floats:
    """Expected calibration error: how far a bin's share of positives is from its mean probability. In [0, 1].

    Weighted by the slices of a bin. Bins hold equally many slices, at most 10 of at least 10 each (Naeini, Cooper and
    Hauskrecht, AAAI 2015; Nguyen and O'Connor, EMNLP 2015). Too high where slices are few: chance makes gaps.
    """
    return np.abs(calibration_gaps(is_positive, probabilities, weights)).sum(axis=1)


def calibration_gaps(is_positive: np.ndarray, probabilities: Floats, weights: Floats) -> Floats:
    """The gaps float (R, B) of each bin, probability less share of positives, by the share of slices in it."""
    bins = assign_bins(probabilities)
    gaps = np.stack([weights[:, rows] @ (probabilities - is_positive)[rows] for rows in bins], axis=1)
    return gaps / weights.sum(axis=1, keepdims=True)


def assign_bins(probabilities: Floats) -> list[npt.NDArray[np.intp]]:
    """The rows of each bin, in the order of the probabilities; equal probabilities share a bin."""
    num_bins = int(np.clip(len(probabilities) // SLICES_PER_BIN, 1, MOST_BINS))
    inner = np.quantile(probabilities, np.arange(1, num_bins) / num_bins)
    bin_of = np.searchsorted(inner, probabilities, side="right")
    return [np.flatnonzero(bin_of == each) for each in np.unique(bin_of)]


def calibration_line(is_positive: np.ndarray, probabilities: Floats, weights: Floats) -> tuple[Floats, Floats]:
    """Slope and intercept (R,) of the truth's logit by the predicted one; 1 and 0 are perfect.

    By logistic regression (Cox 1958; Van Calster et al., BMC Medicine 17:230, 2019). A slope below 1: too
    sure of itself. The intercept is that beside a slope of 1 (calibration in the large). NaN where the classes do not
    overlap in a weighting: the slope is infinite then.
    """
    logits = to_logit(probabilities)
    slope, _ = _fit_logistic(is_positive, logits, weights, with_slope=True)
    _, intercept = _fit_logistic(is_positive, logits, weights, with_slope=False)
    return slope, intercept


def net_benefit(is_positive: np.ndarray, probabilities: Floats, weights: Floats, threshold: float) -> Floats:
    """True positives, less false ones at the odds of the threshold, by slice (Vickers and Elkin 2006).

    A slice is called positive from a probability of `threshold` in (0, 1) on. At most the share of positives.
    """
    called = probabilities >= threshold
    odds = threshold / (1 - threshold)
    return _divide(weights @ (called * np.where(is_positive, 1.0, -odds)), weights.sum(axis=1))


ONE_VERSUS_REST = {
    "average_precision": average_precision,
    "brier": brier_score,
    "calibration_error": calibration_error,
}


def to_logit(probabilities: Floats) -> Floats:
    clipped = np.clip(probabilities, LEAST_PROBABILITY, 1 - LEAST_PROBABILITY)
    return np.log(clipped) - np.log1p(-clipped)


def _fit_logistic(
    is_positive: np.ndarray, logits: Floats, weights: Floats, *, with_slope: bool
) -> tuple[Floats, Floats]:
    """Maximum likelihood by Newton's method, all weightings at once; without slope it is 1."""
    slope, intercept = np.full(len(weights), 0.0 if with_slope else 1.0), np.zeros(len(weights))
    step = np.ones((2, len(weights)))
    for _ in range(50):
        risk = 1 / (1 + np.exp(-np.clip(slope[:, None] * logits + intercept[:, None], -40, 40)))
        rest, curve = weights * (is_positive - risk), weights * risk * (1 - risk)
        g0, h00 = rest.sum(axis=1), curve.sum(axis=1)
        if with_slope:
            g1, h01, h11 = rest @ logits, curve @ logits, curve @ logits**2
        else:
            g1, h01, h11 = np.zeros_like(g0), np.zeros_like(g0), np.ones_like(g0)
        with np.errstate(divide="ignore", invalid="ignore"):
            determinant = h00 * h11 - h01**2
            step = np.stack([(h00 * g1 - h01 * g0), (h11 * g0 - h01 * g1)]) / determinant
        step = np.clip(np.nan_to_num(step, nan=5.0, posinf=5.0, neginf=-5.0), -5, 5)
        slope, intercept = slope + step[0], intercept + step[1]
        if np.abs(step).max() < 1e-6:
            break
    bad = np.abs(step).max(axis=0) > 1e-3
    return np.where(bad, np.nan, slope), np.where(bad, np.nan, intercept)


def _divide(numerator: Floats, denominator: Floats) -> Floats:
    return np.divide(numerator, denominator, out=np.full(len(numerator), np.nan), where=denominator > 0)
