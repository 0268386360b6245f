"""What an epoch of a configuration costs, learnt from the trials themselves."""

from __future__ import annotations

import math

import numpy as np

from search.core.curve_model import Array


class EpochCost:
    """Seconds of an epoch: the logarithm is linear in the encoded configuration (ridge regression, as it grows).

    Architectures differ 30-fold, and they are one-hot: a line is enough to tell them apart.
    """

    def __init__(self, num_columns: int, *, ridge: float = 1.0) -> None:
        self.ridge = ridge
        self.squares = np.zeros((num_columns + 1, num_columns + 1))
        self.products = np.zeros(num_columns + 1)
        self.logs: list[float] = []

    def note(self, point: Array, seconds: float) -> None:
        """The seconds of an epoch of one trial, once a trial."""
        row = np.append(point, 1.0)
        self.squares += np.outer(row, row)
        self.products += math.log(seconds) * row
        self.logs.append(math.log(seconds))

    def predict(self, points: Array) -> Array:
        """Seconds of an epoch (n) at points (n, num_columns), within what was seen; 1 before any."""
        if not self.logs:
            return np.ones(len(points))
        middle = float(np.mean(self.logs))
        penalty = self.ridge * np.eye(len(self.products))
        penalty[-1, -1] = 1e-9
        slopes = np.linalg.solve(self.squares + penalty, self.products - middle * self.squares[:, -1])
        logs = middle + np.column_stack([points, np.ones(len(points))]) @ slopes
        return np.exp(np.clip(logs, min(self.logs), max(self.logs)))
