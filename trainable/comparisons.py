"""Comparisons of two models on the same patients: difference, interval, and how probably one is better."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from scipy import stats

from trainable.clustered import auc_covariance, count_patients
from trainable.intervals import LEVEL, Interval, auc_interval, bootstrap_interval
from trainable.resampling import draw_patients, score_each
from trainable.scorecard import LOWER_IS_BETTER, weigh

if TYPE_CHECKING:
    from trainable.clustered import Floats


@dataclass(frozen=True, kw_only=True)
class Comparison:
    """A challenger beside a champion on the same patients.

    `difference` is the challenger's metric less the champion's, the other way round where lower is better: above 0
    the challenger is better, with `probability_better` in [0, 1].
    """

    metric: str
    difference: float
    interval: Interval
    probability_better: float
    num_patients: int

    @property
    def is_better(self) -> bool:
        return self.probability_better > 0.5

    @property
    def is_told_apart(self) -> bool:
        """Whether the interval leaves out a difference of zero."""
        return self.interval.is_known and 0 not in self.interval

    def describe(self) -> str:
        """The comparison in one sentence."""
        verdict = "told apart" if self.is_told_apart else "not told apart"
        return (
            f"{self.metric} differs by {self.difference:+.3f} ({self.interval.low:+.3f} to {self.interval.high:+.3f}, "
            f"{self.interval.method}) on {self.num_patients} patients: better with probability "
            f"{self.probability_better:.2f}, {verdict}"
        )


def compare_aucs(
    is_positive: np.ndarray,
    challenger: np.ndarray,
    champion: np.ndarray,
    patients: np.ndarray,
    level: float = LEVEL,
) -> Comparison:
    """Two AUCs by DeLong's test with sums over patients (Obuchowski 1997), with Student's t.

    `challenger` and `champion` are scores float (N,) of the same slices. Half of the interval's width comes from
    those of both models' own intervals and their correlation (after Zou and Yue, Statistics in Medicine 32:5077, 2013),
    so that it keeps a width where two different models have an AUC of 1. Raises ValueError where a class is missing.
    """
    if is_positive.all() or not is_positive.any():
        raise ValueError("the slices are of one class only; to compare AUCs there must be slices of both")
    aucs, covariance = auc_covariance(is_positive, [challenger, champion], patients)
    difference = float(aucs[0] - aucs[1])
    errors = np.sqrt(np.diag(covariance))
    correlation = 0.0
    if np.array_equal(challenger, champion):
        correlation = 1.0
    elif (errors > 0).all():
        correlation = float(np.clip(covariance[0, 1] / errors.prod(), -1, 1))
    first, second = (auc_interval(is_positive, scores, patients, level).width / 2 for scores in (challenger, champion))
    reach = math.sqrt(max(first**2 + second**2 - 2 * correlation * first * second, 0.0))
    num_of_class = [count_patients(patients[rows])[0] for rows in (is_positive, ~is_positive)]
    return Comparison(
        metric="auc",
        difference=difference,
        interval=Interval(low=difference - reach, high=difference + reach, method="DeLong"),
        probability_better=_probability(difference, reach, min(num_of_class) - 1, level),
        num_patients=count_patients(patients)[0],
    )


def compare(
    metric: str,
    labels: np.ndarray,
    challenger: np.ndarray,
    champion: np.ndarray,
    patients: np.ndarray,
    positive: int,
    *,
    threshold: float | None = None,
    num_resamples: int = 1000,
    seed: int = 0,
    level: float = LEVEL,
) -> Comparison:
    """Two models' `metric`, any of `scorecard.measure`, by a paired bootstrap over patients; AUC by `compare_aucs`.

    `labels` int (N,), `challenger` and `champion` probabilities float (N, C), `patients` (N,). Both models are scored
    on the same resamples (Efron and Tibshirani 1993, chapter 16); the probability of being better is the share of them
    in which the challenger is, ties counting half. Raises ValueError for an unknown metric and for one that is
    undefined on these slices.
    """
    if metric == "auc" and challenger.shape[1] == 2:
        return compare_aucs(labels == positive, challenger[:, positive], champion[:, positive], patients, level)

    sign = -1 if metric in LOWER_IS_BETTER else 1

    def subtract(weights: Floats) -> dict[str, Floats]:
        both = (challenger, champion)
        mine, theirs = (weigh(metric, labels, each, positive, weights, threshold=threshold) for each in both)
        return {metric: sign * (mine - theirs)}

    difference = float(subtract(np.ones((1, len(labels))))[metric][0])
    if math.isnan(difference):
        raise ValueError(f"{metric} is undefined on these {len(labels)} slices: models cannot be compared by it")
    values = score_each(subtract, draw_patients(patients, num_resamples, seed))[metric]
    values = values[np.isfinite(values)]
    num_patients, num_equal = count_patients(patients)
    return Comparison(
        metric=metric,
        difference=difference,
        interval=bootstrap_interval(values, num_equal, level),
        probability_better=float(np.mean(values > 0) + np.mean(values == 0) / 2) if len(values) else 0.5,
        num_patients=num_patients,
    )


def detectable_difference(
    standard_error: float, num_patients: int, *, correlation: float = 0.5, power: float = 0.8, level: float = LEVEL
) -> float:
    """How far two models must be apart to be told apart on `num_patients` patients, in the metric's own unit.

    A paired test at `level` finds a difference of this size in a share `power` of test sets. `standard_error` is that
    of one model's metric, `correlation` in [0, 1) that of two models' metrics over test sets (Hanley and McNeil,
    Radiology 148:839, 1983; about 0.5 for good models of the same images, more for relatives). Student's t in the
    place of z, for few patients. Raises ValueError for fewer than two patients or values out of range.
    """
    if num_patients < 2 or not standard_error > 0 or not 0 <= correlation < 1 or not 0 < power < 1:
        raise ValueError(
            f"there are {num_patients} patients, a standard error of {standard_error}, a correlation of {correlation} "
            f"and a power of {power}; there must be two patients, an error above 0, a correlation in [0, 1) and a "
            "power in (0, 1)"
        )
    error = standard_error * math.sqrt(2 * (1 - correlation))
    freedom = num_patients - 1
    return float(error * (stats.t.isf((1 - level) / 2, freedom) + stats.t.isf(1 - power, freedom)))


def describe_detectable(difference: float, num_patients: int) -> str:
    """What the test can tell, in one sentence."""
    return f"with {num_patients} patients, two models must differ by {100 * difference:.0f} points to be told apart"


def _probability(difference: float, reach: float, freedom: int, level: float) -> float:
    """That the truth is above 0, by the t distribution whose interval reaches so far around the difference."""
    if reach == 0 or difference == 0:
        return 0.5
    freedom = max(freedom, 1)
    return float(stats.t.cdf(difference / reach * stats.t.isf((1 - level) / 2, freedom), freedom))
