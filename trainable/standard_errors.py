"""The standard error of a validation value, over patients, in milliseconds."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import numpy as np

from trainable.clustered import auc_influences, count_patients, mean_influences
from trainable.metrics import call_classes, check_arrays
from trainable.probability_metrics import LEAST_PROBABILITY

if TYPE_CHECKING:
    from trainable.clustered import Floats


def standard_error(
    metric: str,
    labels: np.ndarray,
    probabilities: np.ndarray,
    patients: np.ndarray,
    positive: int = 1,
    *,
    threshold: float | None = None,
) -> float:
    """The standard error of a metric of `metrics.score`, or of "loss", were other patients drawn.

    `labels` int (N,), `probabilities` float (N, C), `patients` (N,). By how far each patient moves the metric (for AUC
    Obuchowski 1997, for shares a ratio over patients). Where no patient moves it (all is right), half the width of
    Wilson's interval on the number of patients, by 1.96: never 0 for a metric in [0, 1]. NaN where the metric is
    undefined, and for the loss of one patient. Raises ValueError for an unknown metric.
    """
    labels, probabilities = check_arrays(labels, probabilities)
    patients = np.asarray(patients)
    num_patients, num_equal = count_patients(patients)
    everywhere = np.full(len(labels), True)
    if metric == "loss":
        losses = -np.log(np.clip(probabilities[np.arange(len(labels)), labels], LEAST_PROBABILITY, 1))
        return _spread(mean_influences(losses, patients, everywhere), num_patients)
    called = call_classes(probabilities, positive, threshold)
    if metric == "accuracy":
        influences = mean_influences(labels == called, patients, everywhere)
    else:
        classes = [positive] if probabilities.shape[1] == 2 else range(probabilities.shape[1])
        each = [_of_class(metric, labels == c, called == c, probabilities[:, c], patients) for c in classes]
        influences = np.mean(each, axis=0)
    error = _spread(influences, num_patients)
    if error > 1e-9 or np.isnan(influences).any():
        return error
    from trainable.intervals import wilson_interval  # scipy takes a tenth of a second, and every worker imports this

    interval = wilson_interval(1.0, num_equal, num_equal)
    return interval.width / 2 / 1.96


def _of_class(
    metric: str, is_positive: np.ndarray, is_called: np.ndarray, scores: Floats, patients: np.ndarray
) -> Floats:
    is_right = is_positive == is_called
    undefined = np.full(len(np.unique(patients)), math.nan)
    if metric == "auc":
        if is_positive.all() or not is_positive.any():
            return undefined
        return auc_influences(is_positive, scores, patients)
    rows = {
        "sensitivity": is_positive,
        "specificity": ~is_positive,
        "precision": is_called,
        "f1": is_positive | is_called,
    }
    if metric not in rows:
        raise ValueError(f"the metric is {metric!r}; it must be one of loss, accuracy, auc, {', '.join(rows)}")
    if not rows[metric].any():
        return undefined
    influences = mean_influences(is_right, patients, rows[metric])
    if metric == "f1":  # 2 s / (1 + s) of the share s that is right, to first order
        influences = influences * 2 / (1 + is_right[rows[metric]].mean()) ** 2
    return influences


def _spread(influences: Floats, num_patients: int) -> float:
    if num_patients < 2:
        return math.nan
    return float(np.sqrt((influences**2).sum() * num_patients / (num_patients - 1)))
