"""Decision curves: what acting on a model is worth, beside treating everybody and nobody."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from trainable.clustered import Floats, count_patients
from trainable.intervals import LEVEL, bootstrap_interval
from trainable.probability_metrics import net_benefit
from trainable.resampling import draw_patients, score_each

DEFAULT_THRESHOLDS = tuple(np.round(np.arange(0.01, 1.0, 0.01), 2).tolist())


@dataclass(frozen=True, kw_only=True)
class DecisionCurve:
    """Net benefit by slice, float (T,) each, at the probabilities `thresholds` from which one would act.

    `model`, its interval `low` to `high`, and `treat_all`; treating nobody is 0 everywhere.
    """

    thresholds: Floats
    model: Floats
    low: Floats
    high: Floats
    treat_all: Floats


def decision_curve(
    is_positive: np.ndarray,
    probabilities: np.ndarray,
    patients: np.ndarray,
    thresholds: tuple[float, ...] = DEFAULT_THRESHOLDS,
    *,
    num_resamples: int = 500,
    seed: int = 0,
    level: float = LEVEL,
) -> DecisionCurve:
    """The decision curve of calibrated `probabilities` float (N,) of the positive class; thresholds in (0, 1).

    Vickers and Elkin, "Decision curve analysis", Medical Decision Making 26:565, 2006. Intervals by bootstrap over
    patients. Raises ValueError for thresholds out of range.
    """
    if not thresholds or min(thresholds) <= 0 or max(thresholds) >= 1:
        raise ValueError("thresholds of a decision curve must lie between 0 and 1, and there must be one")

    def score(weights: Floats) -> dict[str, Floats]:
        return {str(each): net_benefit(is_positive, probabilities, weights, each) for each in thresholds}

    one_of_each = np.ones((1, len(is_positive)))
    model = score(one_of_each)
    drawn = score_each(score, draw_patients(patients, num_resamples, seed))
    num_patients = count_patients(patients)[1]
    intervals = [bootstrap_interval(values, num_patients, level) for values in drawn.values()]
    everybody = np.ones(len(is_positive))
    return DecisionCurve(
        thresholds=np.array(thresholds),
        model=np.array([float(value[0]) for value in model.values()]),
        low=np.array([interval.low for interval in intervals]),
        high=np.array([interval.high for interval in intervals]),
        treat_all=np.array([float(net_benefit(is_positive, everybody, one_of_each, each)[0]) for each in thresholds]),
    )
