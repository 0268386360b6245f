"""Confidence intervals that hold for few patients and for metrics near 1. None has a width of zero."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from scipy import special

from trainable.clustered import Floats, auc_covariance, count_patients, effective_number, effective_number_of_share

if TYPE_CHECKING:
    from collections.abc import Sequence

LEVEL = 0.95

# Of the rarer class: from so many on, the clustered variance as it stands has half of the say. Alone it says too little
# where few patients are wrong; Newcombe's says too much where the AUC is near 1 (benchmarks/coverage.py).
_MANY_PATIENTS = 50


@dataclass(frozen=True, kw_only=True)
class Interval:
    """A confidence interval and the name of the method that gave it. NaN at both ends where nothing can be said."""

    low: float
    high: float
    method: str

    @property
    def width(self) -> float:
        return self.high - self.low

    @property
    def is_known(self) -> bool:
        return math.isfinite(self.low) and math.isfinite(self.high)

    def __contains__(self, value: float) -> bool:
        return self.low <= value <= self.high


UNKNOWN = Interval(low=math.nan, high=math.nan, method="undefined")

_NO_WIDTH = 1e-9  # what rounding leaves of a spread of zero

_SCALES = {"plain": (np.positive, np.positive), "log": (np.log, np.exp), "logit": (special.logit, special.expit)}


def auc_interval(is_positive: np.ndarray, scores: np.ndarray, patients: np.ndarray, level: float = LEVEL) -> Interval:
    """Newcombe's interval of an AUC, on the effective number of slices, with Student's t in the place of z.

    `is_positive` bool (N,), `scores` float (N,), `patients` (N,). The number of independent slices that these are worth
    is by Obuchowski's clustered variance: beside that of independent slices where patients are few, beside Newcombe's
    own where they are many (see `_MANY_PATIENTS`). t has one degree of freedom less than the rarer class has
    patients. Unknown where a class is missing.
    """
    if is_positive.all() or not is_positive.any():
        return UNKNOWN
    (auc,), ((clustered,),) = auc_covariance(is_positive, [scores], patients)
    _, ((independent,),) = auc_covariance(is_positive, [scores], np.arange(len(scores)))
    num_positives, num_negatives = float(is_positive.sum()), float((~is_positive).sum())
    num_patients = min(count_patients(patients[rows])[0] for rows in (is_positive, ~is_positive))

    share = effective_number(independent, clustered, patients) / len(scores)
    if clustered > _NO_WIDTH**2:
        least = count_patients(patients)[1] / len(scores)
        trust = 0.5 * min(num_patients / _MANY_PATIENTS, 1)
        own = _find_share(auc, num_positives, num_negatives, clustered)
        share = max(share ** (1 - trust) * own**trust, least)
    share *= _shrink_by_t(num_patients, level)
    low, high = newcombe_limits(float(auc), num_positives * share, num_negatives * share, level)
    return Interval(low=low, high=high, method="Newcombe")


def share_interval(is_right: np.ndarray, patients: np.ndarray, level: float = LEVEL) -> Interval:
    """Wilson's interval of the share of `is_right` bool (N,), on the effective number of slices, with Student's t.

    `patients` (N,). t has one degree of freedom less than there are patients, counted as equally large ones. Unknown
    without a slice.
    """
    if len(is_right) == 0:
        return UNKNOWN
    number = effective_number_of_share(is_right, patients)
    return wilson_interval(float(np.mean(is_right)), number, count_patients(patients)[1], level)


def wilson_interval(share: float, number: float, num_patients: float, level: float = LEVEL) -> Interval:
    """Wilson's interval of a share of an effective `number` of slices of so many patients, with Student's t."""
    low, high = wilson_limits(share, number * _shrink_by_t(num_patients, level), level)
    return Interval(low=low, high=high, method="Wilson")


def bootstrap_interval(resampled: Floats, num_patients: float, level: float = LEVEL) -> Interval:
    """The expanded percentile interval of a metric's values float (R,) in resamples of so many patients of equal size.

    Percentiles are taken further out, as t by z and by sqrt(n / (n - 1)), which the plain bootstrap is too
    narrow by (Hesterberg, The American Statistician 69:371, 2015, section 5.3). Values that are NaN are left out;
    unknown where fewer than half are left, or where they do not differ.
    """
    values = resampled[np.isfinite(resampled)]
    if len(values) < max(2, len(resampled) / 2) or num_patients <= 1 or np.ptp(values) < _NO_WIDTH:
        return UNKNOWN
    t = -special.stdtrit(num_patients - 1, (1 - level) / 2)
    tail = special.ndtr(-t * math.sqrt(num_patients / (num_patients - 1)))
    low, high = np.quantile(values, [tail, 1 - tail])
    return Interval(low=float(low), high=float(high), method="bootstrap")


def calibration_error_interval(gaps: Floats, resampled: Floats, num_patients: float, level: float = LEVEL) -> Interval:
    """The bootstrap interval of a calibration error, the sum of |`gaps`| float (B,), which comes out too high.

    `resampled` float (R, B) are the gaps in resamples of patients. What resamples add to the error, the error has added
    to the truth: of percentiles reflected at it (Efron and Tibshirani 1993, 13.5) and moved down by twice the mean
    difference the wider ends are taken. 0 is in it unless such an error is rare where all true gaps are 0.
    """
    value, values = float(np.abs(gaps).sum()), np.abs(resampled).sum(axis=1)
    around = bootstrap_interval(values, num_patients, level)
    if not around.is_known:
        return UNKNOWN
    bias = 2 * (float(values.mean()) - value)
    low, high = min(2 * value - around.high, around.low - bias), max(2 * value - around.low, around.high - bias)
    by_chance = bootstrap_interval(np.abs(resampled - gaps).sum(axis=1), num_patients, level)
    if value <= by_chance.high:
        low = 0.0
    return Interval(low=max(low, 0.0), high=max(high, value), method="bootstrap")


def jackknife_interval(
    value: float, left_out: Floats, *, scale: str = "plain", freedom: float | None = None, level: float = LEVEL
) -> Interval:
    """The interval value -+ t standard errors, by the values float (P,) with one patient left out at a time.

    The variance is Tukey's jackknife (Efron and Tibshirani 1993, chapter 11), t has `freedom` degrees of freedom, P - 1
    without. `scale` "logit" is for metrics in (0, 1), "log" for those above 0: the interval is taken there and ends
    within. Unknown where the metric is undefined without one of the patients, or never changes.
    """
    num_patients = len(left_out)
    if num_patients < 2 or not (math.isfinite(value) and np.isfinite(left_out).all()):
        return UNKNOWN
    there, back = _SCALES[scale]
    with np.errstate(divide="ignore"):
        centre, others = there(value), there(left_out)
    if not (math.isfinite(centre) and np.isfinite(others).all()):
        return UNKNOWN
    error = math.sqrt((num_patients - 1) / num_patients * float(((others - others.mean()) ** 2).sum()))
    if error < _NO_WIDTH:
        return UNKNOWN
    reach = -special.stdtrit(max(num_patients - 1 if freedom is None else freedom, 1), (1 - level) / 2) * error
    return Interval(low=float(back(centre - reach)), high=float(back(centre + reach)), method="jackknife")


def mean_interval(
    values: Sequence[float], intervals: Sequence[Interval], correlation: np.ndarray | None = None
) -> Interval:
    """The interval of the mean of C `values` from their own intervals: distances are added as standard errors are.

    `correlation` (C, C) is that of the values over test sets; without it they are independent. Newcombe, Statistics in
    Medicine 17:873, 1998 (method 10); Zou and Donner, Statistics in Medicine 27:1693, 2008.
    """
    mean, count = float(np.mean(values)), len(values)
    correlation = np.eye(count) if correlation is None else correlation
    down = np.array([value - interval.low for value, interval in zip(values, intervals, strict=True)])
    up = np.array([interval.high - value for value, interval in zip(values, intervals, strict=True)])
    down_reach, up_reach = (math.sqrt(max(float(d @ correlation @ d), 0.0)) / count for d in (down, up))
    return Interval(low=mean - down_reach, high=mean + up_reach, method=intervals[0].method)


def wilson_limits(share: float, number: float, level: float = LEVEL) -> tuple[float, float]:
    """Wilson's score interval of a share of `number` trials, which need not be whole (Wilson, JASA 22:209, 1927)."""
    z2 = special.ndtri((1 - level) / 2) ** 2
    centre = (share + z2 / (2 * number)) / (1 + z2 / number)
    half = math.sqrt(z2 * (share * (1 - share) + z2 / (4 * number)) / number) / (1 + z2 / number)
    # at a share of 0 or 1 that end is exact, but for rounding
    return float(max(0.0, centre - half)) if share > 0 else 0.0, float(min(1.0, centre + half)) if share < 1 else 1.0


def newcombe_limits(auc: float, positives: float, negatives: float, level: float = LEVEL) -> tuple[float, float]:
    """Newcombe's method 5: the AUCs from which `auc` is z standard errors away, by the variance that those have.

    Newcombe, "Confidence intervals for an effect size measure based on the Mann-Whitney statistic. Part 2", Statistics
    in Medicine 25:559, 2006. The numbers of slices of each class need not be whole.
    """
    from scipy.optimize import brentq  # a third of a second, and workers import this module

    z = -special.ndtri((1 - level) / 2)

    def distance(limit: float) -> float:
        return abs(limit - auc) - z * math.sqrt(newcombe_variance(limit, positives, negatives))

    # an AUC of 0 or 1 is a root itself, but not the one that is meant
    low = 0.0 if auc <= 0 else brentq(distance, 0.0, auc * (1 - 1e-12))
    high = 1.0 if auc >= 1 else brentq(distance, 1 - (1 - auc) * (1 - 1e-12), 1.0)
    return float(low), float(high)


def newcombe_variance(auc: float, positives: float, negatives: float) -> float:
    """Variance of an AUC by Hanley and McNeil (1982), both classes' numbers at their mean but in the denominator."""
    others = max((positives + negatives) / 2 - 1, 0.0)
    spread = 1 + others * ((1 - auc) / (2 - auc) + auc / (1 + auc))
    return auc * (1 - auc) * spread / (positives * negatives)


def _find_share(auc: float, positives: float, negatives: float, variance: float) -> float:
    """The share of the slices at which `newcombe_variance` is `variance`; the root of a quadratic equation."""
    spread = (1 - auc) / (2 - auc) + auc / (1 + auc)
    square = variance * positives * negatives / (auc * (1 - auc))
    linear = (positives + negatives) / 2 * spread
    return (linear + math.sqrt(linear**2 + 4 * square * (1 - spread))) / (2 * square)


def _shrink_by_t(num_patients: float, level: float) -> float:
    """(z / t)^2: so many fewer slices make an interval by z as wide as one by t."""
    tail = (1 - level) / 2
    return float((special.ndtri(tail) / special.stdtrit(max(num_patients - 1, 1), tail)) ** 2)
