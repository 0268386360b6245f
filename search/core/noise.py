"""The noise of a search's values, read off the curves themselves."""

from __future__ import annotations

import math

import numpy as np

from search.core.board import Standing

TO_DEVIATION = 1 / (0.6745 * math.sqrt(6.0))
"""From the median of |v[t-1] - 2 v[t] + v[t+1]| to the standard deviation of independent normal noise."""
MIN_DIFFERENCES, FEW_DIFFERENCES = 20, 3
SMALL = 0.2
"""Noise below this share of what values differ by is known to be small from a few differences."""


class NoiseEstimate:
    """The standard deviation of a value's noise, from the second differences of the curves.

    What a curve really bends counts as noise too, so the median is taken.
    """

    MIN_EPOCHS = 3
    """Of a trial that tells anything."""

    def __init__(self) -> None:
        self.differences: list[float] = []

    @property
    def is_known(self) -> bool:
        return len(self.differences) >= MIN_DIFFERENCES

    def is_small(self, spread: float) -> bool:
        """Whether a few epochs tell that it is small beside `spread`, the standard deviation of values."""
        return len(self.differences) >= FEW_DIFFERENCES and self.deviation() < SMALL * spread

    def note(self, trial: Standing, epoch: int) -> None:
        """Take the newest epoch of a trial into account, once."""
        value = trial.values[epoch]
        before = trial.values.get(epoch - 1, -math.inf), trial.values.get(epoch - 2, -math.inf)
        if math.isfinite(min(value, *before)):
            self.differences.append(abs(value - 2 * before[0] + before[1]))

    def deviation(self) -> float:
        """In the metric's unit; 0 before a few differences."""
        return float(np.median(self.differences)) * TO_DEVIATION if len(self.differences) >= FEW_DIFFERENCES else 0.0
