"""The noise of a search's values, read off the curves themselves."""

from __future__ import annotations

import math
from collections.abc import Iterable

import numpy as np

from search.core.board import Standing

TO_DEVIATION = 1 / (0.6745 * math.sqrt(6.0))
"""From the median of |v[t-1] - 2 v[t] + v[t+1]| to the standard deviation of independent normal noise."""
MIN_DIFFERENCES = 8


def estimate_noise(trials: Iterable[Standing]) -> float | None:
    """The standard deviation of a value's noise, from the second differences of the curves; None with too few.

    What a curve really bends counts as noise too, so the median is taken, and of each trial alike.
    """
    differences: list[float] = []
    for trial in trials:
        values = np.array([trial.values[epoch] for epoch in sorted(trial.values)])
        if len(values) >= 3 and np.isfinite(values).all():
            differences.extend(np.abs(np.diff(values, n=2)))
    if len(differences) < MIN_DIFFERENCES:
        return None
    return float(np.median(differences)) * TO_DEVIATION


def relative_noise(trials: Iterable[Standing]) -> float | None:
    """The noise over the range from the median first value to the best: 0 none, 0.1 much; None with too few values."""
    trials = list(trials)
    noise = estimate_noise(trials)
    first = [trial.values[min(trial.values)] for trial in trials if trial.values]
    best = max((max(trial.values.values()) for trial in trials if trial.values), default=-math.inf)
    if noise is None or not math.isfinite(best):
        return None
    reach = best - float(np.median([value if math.isfinite(value) else best for value in first]))
    return noise / reach if reach > 0 else 1.0
