"""A scorecard: everything that is said of a model on a set of patients, each value with its interval."""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING

import numpy as np

from trainable.clustered import auc_influences, auc_placements, count_patients, mean_influences
from trainable.intervals import (
    LEVEL,
    UNKNOWN,
    Interval,
    auc_interval,
    bootstrap_interval,
    calibration_error_interval,
    jackknife_interval,
    mean_interval,
    share_interval,
    wilson_interval,
)
from trainable.metrics import call_classes, check_arrays, score_weighted
from trainable.probability_metrics import calibration_gaps, score_probabilities
from trainable.resampling import draw_all_but_one, draw_patients, score_each

if TYPE_CHECKING:
    from collections.abc import Collection, Sequence

    from trainable.clustered import Floats

LOWER_IS_BETTER = ("loss", "brier", "calibration_error")

# Where the jackknife holds better than the bootstrap, and the scale on which it does (benchmarks/LOG.md).
_JACKKNIFE_SCALES = {
    "average_precision": "logit",
    "brier": "logit",
    "loss": "log",
    "calibration_slope": "plain",
    "calibration_intercept": "plain",
}
_BY_BOOTSTRAP = ("calibration_error", "net_benefit")  # the former by its own way
_WITHIN_0_AND_1 = ("average_precision", "brier", "calibration_error")


@dataclass(frozen=True, kw_only=True)
class Estimate:
    """A metric's value and its interval. The value is NaN where it is undefined."""

    value: float
    interval: Interval

    def __str__(self) -> str:
        if math.isnan(self.value):
            return "undefined"
        if not self.interval.is_known:
            return f"{self.value:.3f}"
        return f"{self.value:.3f} ({self.interval.low:.3f} to {self.interval.high:.3f})"


@dataclass(frozen=True)
class _Part:
    """One class's estimate, and how far each patient moves it, float (P,): a part of a macro mean."""

    estimate: Estimate
    influences: Floats


UNKNOWN_PART = _Part(Estimate(value=math.nan, interval=UNKNOWN), np.zeros(0))


def weigh(
    metric: str,
    labels: np.ndarray,
    probabilities: np.ndarray,
    positive: int,
    weights: Floats,
    *,
    threshold: float | None = None,
) -> Floats:
    """One metric of those of `measure`, of R weightings of the slices at once: `weights` (R, N) -> float (R,).

    Raises ValueError for an unknown metric.
    """
    values = score_probabilities(labels, probabilities, positive, weights, threshold=threshold, names=(metric,))
    if metric not in values:
        values = score_weighted(labels, probabilities, positive, weights, threshold=threshold)
        values["balanced_accuracy"] = (values["sensitivity"] + values["specificity"]) / 2
    if metric not in values:
        known = (*values, *_JACKKNIFE_SCALES, *_BY_BOOTSTRAP)
        raise ValueError(f"the metric is {metric!r}; it must be one of {', '.join(known)}")
    return values[metric]


def measure(
    labels: np.ndarray,
    probabilities: np.ndarray,
    patients: np.ndarray,
    positive: int,
    *,
    threshold: float | None = None,
    level: float = LEVEL,
    num_resamples: int = 1000,
    seed: int = 0,
) -> dict[str, Estimate]:
    """The metrics of a model with their intervals; `probabilities` float (N, C), `labels` int (N,), `patients` (N,).

    Those of `metrics.score`, balanced_accuracy, and those of `score_probabilities`. For two classes they are of the
    class `positive`, called from a probability of `threshold` on (without one: what is most probable). For more they
    are macro means over one-versus-rest, beside `sensitivity_<i>` and `specificity_<i>`.

    AUC has Newcombe's interval, shares and F1 Wilson's, the others one by jackknife or bootstrap over patients; each
    names its method. Where no patient makes a difference to a metric in [0, 1] (all is right), it has Wilson's on
    the number of patients. Raises ValueError for arrays that do not belong together, and for probabilities that are not
    finite.
    """
    labels, probabilities = check_arrays(labels, probabilities)
    patients = np.asarray(patients)
    if patients.shape != labels.shape:
        raise ValueError(f"patients have shape {patients.shape}; there must be one for each of {len(labels)} slices")
    if num_bad := int((~np.isfinite(probabilities).all(axis=1)).sum()):
        raise ValueError(
            f"{num_bad} of {len(labels)} slices have a probability that is no number: the model diverged, or its "
            "output is not that of a softmax"
        )

    estimates = _measure_decisions(labels, probabilities, patients, positive, threshold, level)

    def weigh_some(names: Collection[str], weights: Floats) -> dict[str, Floats]:
        return score_probabilities(labels, probabilities, positive, weights, threshold=threshold, names=names)

    def weigh_gaps(weights: Floats) -> dict[str, Floats]:
        classes = [positive] if probabilities.shape[1] == 2 else range(probabilities.shape[1])
        each = [calibration_gaps(labels == c, probabilities[:, c], weights) for c in classes]
        return {"gaps": np.concatenate(each, axis=1) / len(each)}

    values = weigh_some((*_JACKKNIFE_SCALES, *_BY_BOOTSTRAP), np.ones((1, len(labels))))
    left_out = score_each(partial(weigh_some, _JACKKNIFE_SCALES), draw_all_but_one(patients))
    drawn = score_each(partial(weigh_some, ("net_benefit",)), draw_patients(patients, num_resamples, seed))
    num_equal = count_patients(patients)[1]
    rarest = min(count_patients(patients[labels == each])[1] for each in np.unique(labels))
    for name, value in ((name, float(value[0])) for name, value in values.items()):
        if name in left_out:
            # a slope is pulled by the patients of the rarer class
            freedom = (rarest if name == "calibration_slope" else num_equal) - 1
            scale = _JACKKNIFE_SCALES[name]
            interval = jackknife_interval(value, left_out[name], scale=scale, freedom=freedom, level=level)
        elif name == "calibration_error":
            gaps = weigh_gaps(np.ones((1, len(labels))))["gaps"][0]
            drawn_gaps = score_each(weigh_gaps, draw_patients(patients, num_resamples, seed))["gaps"]
            interval = calibration_error_interval(gaps, drawn_gaps, num_equal, level)
        else:
            interval = bootstrap_interval(drawn[name], num_equal, level)
        if not interval.is_known and name in _WITHIN_0_AND_1 and math.isfinite(value):
            interval = wilson_interval(value, num_equal, num_equal, level)
        estimates[name] = Estimate(value=value, interval=interval)
    return estimates


def _measure_decisions(
    labels: np.ndarray,
    probabilities: Floats,
    patients: np.ndarray,
    positive: int,
    threshold: float | None,
    level: float,
) -> dict[str, Estimate]:
    """What has an interval by formula: auc, accuracy, and what follows from the classes that slices are called."""
    called = call_classes(probabilities, positive, threshold)
    accuracy = _share(labels == called, np.full(len(labels), True), patients, level)
    num_classes = probabilities.shape[1]
    classes = [positive] if num_classes == 2 else range(num_classes)
    each = [_measure_class(labels == c, called == c, probabilities[:, c], patients, level) for c in classes]
    macro = {name: _mean([of_class[name] for of_class in each]) for name in each[0]}
    estimates = {"auc": macro.pop("auc"), "accuracy": accuracy.estimate, **macro}
    if num_classes > 2:
        for name in ("sensitivity", "specificity"):
            estimates |= {f"{name}_{c}": of_class[name].estimate for c, of_class in enumerate(each)}
        return estimates
    estimates["balanced_accuracy"] = _mean([each[0]["sensitivity"], each[0]["specificity"]])
    return estimates


def _measure_class(
    is_positive: np.ndarray, is_called: np.ndarray, scores: Floats, patients: np.ndarray, level: float
) -> dict[str, _Part]:
    is_right = is_positive == is_called
    auc = UNKNOWN_PART
    if 0 < is_positive.sum() < len(is_positive):
        value, _ = auc_placements(is_positive, scores)
        influences = auc_influences(is_positive, scores, patients)
        auc = _Part(Estimate(value=value, interval=auc_interval(is_positive, scores, patients, level)), influences)
    precision = _share(is_right, is_called, patients, level)
    if not is_called.any():  # no positive call makes precision 0, as everywhere
        precision = _Part(Estimate(value=0.0, interval=UNKNOWN), precision.influences)
    return {
        "auc": auc,
        "sensitivity": _share(is_right, is_positive, patients, level),
        "specificity": _share(is_right, ~is_positive, patients, level),
        "precision": precision,
        "f1": _to_f1(_share(is_right, is_positive | is_called, patients, level)),
    }


def _share(is_right: np.ndarray, rows: np.ndarray, patients: np.ndarray, level: float) -> _Part:
    """The share of `rows` bool (N,) that are right."""
    if not rows.any():
        return UNKNOWN_PART
    interval = share_interval(is_right[rows], patients[rows], level)
    estimate = Estimate(value=float(is_right[rows].mean()), interval=interval)
    return _Part(estimate, mean_influences(is_right, patients, rows))


def _to_f1(share: _Part) -> _Part:
    """F1 from F*, the share of true positives among all that are positive or called so: F1 = 2 F* / (1 + F*).

    Hand, Christen and Kirielle, "F*: an interpretable transformation of the F-measure", Machine Learning 110:451, 2021.
    """
    value, interval = share.estimate.value, share.estimate.interval
    low, high = (2 * each / (1 + each) for each in (interval.low, interval.high))
    interval = Interval(low=low, high=high, method=interval.method)
    return _Part(Estimate(value=2 * value / (1 + value), interval=interval), share.influences)


def _mean(parts: Sequence[_Part]) -> Estimate:
    """The macro mean; parts that the same patients move are correlated."""
    if len(parts) == 1:
        return parts[0].estimate
    values = [part.estimate.value for part in parts]
    intervals = [part.estimate.interval for part in parts]
    mean = float(np.mean(values))
    if not all(interval.is_known for interval in intervals):
        return Estimate(value=mean, interval=UNKNOWN)
    influences = np.stack([part.influences for part in parts])
    spreads = np.linalg.norm(influences, axis=1)
    both = np.outer(spreads, spreads)
    correlation = np.divide(influences @ influences.T, both, out=np.ones_like(both), where=both > 0)
    return Estimate(value=mean, interval=mean_interval(values, intervals, correlation))
