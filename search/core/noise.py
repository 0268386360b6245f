"""The noise of a search's values, read off the curves themselves."""

from __future__ import annotations

import math

import numpy as np

from search.core.board import Standing

TO_DEVIATION = 1 / (0.6745 * math.sqrt(6.0))
"""From the median of |v[t-1] - 2 v[t] + v[t+1]| to the standard deviation of independent normal noise."""
MIN_DIFFERENCES = 8


class NoiseEstimate:
    """The standard deviation of a value's noise, over the range from the median first value to the best.

    From the second differences of the curves. What a curve really bends counts as noise too, so the median is taken.
    """

    def __init__(self) -> None:
        self.differences: list[float] = []
        self.first: list[float] = []
        self.best = -math.inf

    def note(self, trial: Standing, epoch: int) -> None:
        """Take the newest epoch of a trial into account, once."""
        value = trial.values[epoch]
        if not math.isfinite(value):
            return
        if len(trial.values) == 1:
            self.first.append(value)
        self.best = max(self.best, value)
        before = trial.values.get(epoch - 1, -math.inf), trial.values.get(epoch - 2, -math.inf)
        if math.isfinite(min(before)):
            self.differences.append(abs(value - 2 * before[0] + before[1]))

    def relative(self) -> float:
        """0 is none (or not known yet, with few values), 0.1 much."""
        if len(self.differences) < MIN_DIFFERENCES or not self.first:
            return 0.0
        reach = self.best - float(np.median(self.first))
        noise = float(np.median(self.differences)) * TO_DEVIATION
        return noise / reach if reach > 0 else math.inf
