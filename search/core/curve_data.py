"""What a search has shown, as the curve model takes it: values at levels, scaled, and at most so many of them."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

import numpy as np

from search.core.board import Standing
from search.core.curve_model import Array, CurvePoints, Ints


class CurveData:
    """Every score that a trial had at a level, in the order in which they came."""

    def __init__(self) -> None:
        self.trials: list[int] = []
        self.epochs: list[int] = []
        self.values: list[float] = []
        self.precisions: list[float] = []
        self.variances: list[float] = []
        self.judged: set[int] = set()
        self._known: set[tuple[int, int]] = set()

    def __len__(self) -> int:
        return len(self.values)

    def note(self, trial: Standing, level: int) -> None:
        """Take a trial's score at a level into account, if it has one there, once."""
        if level not in trial.scores or (trial.number, level) in self._known:
            return
        self._known.add((trial.number, level))
        self.judged.add(trial.number)
        self.trials.append(trial.number)
        self.epochs.append(level)
        self.values.append(trial.scores[level])
        self.precisions.append(float(trial.num_averaged.get(level, 1)))
        self.variances.append(trial.variances.get(level, math.nan))

    def standardised(self) -> tuple[Array, float, float]:
        """Values less their median, over their spread; and both. None is further below than the best is above."""
        raw = np.array(self.values)
        finite = raw[np.isfinite(raw)]
        middle = float(np.median(finite)) if len(finite) else 0.0
        reach = max(float(raw.max()) - middle, 1e-12) if len(finite) else 1.0
        clipped = np.clip(raw - middle, -reach, reach)
        spread = max(float(clipped.std()), 1e-12) if len(raw) else 1e-12
        return clipped / spread, middle, spread

    def noise(self, chosen: Sequence[int]) -> Array:
        """Noise variances of scores over that of one epoch: by their own standard errors where all have one."""
        plain = 1 / np.array([self.precisions[index] for index in chosen])
        known = np.array([self.variances[index] for index in chosen])
        if np.isnan(known).any():
            return plain
        return known / known.mean() * plain.mean()

    def select(self, chosen: Ints, points: Mapping[int, Array]) -> tuple[CurvePoints, Ints]:
        """The chosen values as the model wants them, sorted by trial; and `chosen` in that order."""
        numbers = np.array([self.trials[index] for index in chosen.tolist()])
        order = np.argsort(numbers, kind="stable")
        trials, rows = np.unique(numbers[order], return_inverse=True)
        ordered = chosen[order]
        data = CurvePoints(
            np.stack([points[number] for number in trials.tolist()]),
            trials,
            rows,
            np.array([self.epochs[index] for index in ordered.tolist()], dtype=np.float64),
            self.noise(ordered.tolist()),
        )
        return data, ordered


def choose_points(order: Ints, at_most: int, share_best: float, generator: np.random.Generator) -> Ints:
    """At most so many of the indices `order`, which go from the best value down: a share the best, the rest drawn."""
    if len(order) <= at_most:
        return order
    num_best = int(at_most * share_best)
    return np.concatenate([order[:num_best], generator.choice(order[num_best:], at_most - num_best, replace=False)])
