"""The board of a rule: where every trial stands, and the levels at which trials pause."""

from __future__ import annotations

import math
from bisect import bisect_right
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from statistics import fmean
from typing import Any

from search.core.decisions import OUTCOMES, New, Resume, Verdict

WORST = -math.inf
"""What NaN, and a trial that failed, count as, where higher is better."""


@dataclass
class Standing:
    """One trial. `values` and `scores` are signed: higher is better.

    `scores` has the levels it came to; `num_averaged` and, where standard errors are known, `variances` say how sure.
    """

    number: int
    params: Mapping[str, Any]
    values: dict[int, float] = field(default_factory=dict)
    standard_errors: dict[int, float] = field(default_factory=dict)
    seconds: list[float] = field(default_factory=list)
    scores: dict[int, float] = field(default_factory=dict)
    last_score: float = WORST
    num_averaged: dict[int, int] = field(default_factory=dict)
    variances: dict[int, float] = field(default_factory=dict)
    epoch: int = 0
    until: int = 0
    is_running: bool = False
    can_go_on: bool = True

    @property
    def is_waiting(self) -> bool:
        """Whether a free worker could go on with it."""
        return self.can_go_on and not self.is_running

    def score(self, level: int, previous: int, at_most: int) -> None:
        """Its score at a level: the mean of its last values since the previous one, by their precision if known."""
        epochs = [epoch for epoch in range(max(previous, level - at_most) + 1, level + 1) if epoch in self.values]
        if min(self.values[epoch] for epoch in epochs) == WORST:
            epochs = [level]
        values = [self.values[epoch] for epoch in epochs]
        errors = [self.standard_errors.get(epoch, 0.0) for epoch in epochs]
        self.num_averaged[level] = len(epochs)
        if min(errors) > 0:
            precisions = [error**-2 for error in errors]
            self.scores[level] = fmean(values, weights=precisions)
            self.variances[level] = 1 / sum(precisions)
        else:
            self.scores[level] = fmean(values)
        self.last_score = self.scores[level]


Order = Callable[[Sequence[Standing], Sequence[float]], list[Standing]]
"""Puts trials, and their scores, into the order in which they are to go on, the best first."""


def by_score(trials: Sequence[Standing], scores: Sequence[float]) -> list[Standing]:
    """The highest score first, of equals the lower number."""
    return [trial for _, _, trial in sorted((-score, t.number, t) for t, score in zip(trials, scores, strict=True))]


class Board:
    """Every trial of a search, fed by the calls of `decisions.Rule`.

    `levels` are the epochs at which trials pause, the last of them `max_epochs`. A trial's score at a level is the
    mean of its last values since the level before, `num_averaged` of them at most: one epoch's value is noise.
    """

    def __init__(self, levels: Iterable[int], *, higher_is_better: bool = True, num_averaged: int = 3) -> None:
        self.levels = check_levels(levels)
        self.previous = dict(zip(self.levels, (0, *self.levels), strict=False))
        self.sign = 1.0 if higher_is_better else -1.0
        self.num_averaged = num_averaged
        self.trials: dict[int, Standing] = {}
        self.num_reports = 0
        self.waiting: dict[int, float] = {}  # who could go on, with its last score
        self._not_begun: set[int] = set()

    @property
    def max_epochs(self) -> int:
        return self.levels[-1]

    def begin(self, number: int, params: Mapping[str, Any]) -> Standing:
        if number in self.trials:
            raise ValueError(f"trial {number} has begun before; a trial begins once, and goes on by `Resume`")
        trial = Standing(number, dict(params), until=self.levels[0], is_running=True)
        self.trials[number] = trial
        return trial

    def report(
        self, number: int, epoch: int, value: float, standard_error: float | None, seconds: float | None
    ) -> Verdict:
        """Note an epoch, the first time it is reported, and say by the trial's horizon how it goes on."""
        trial = self._trial(number)
        if epoch not in trial.values:
            self.num_reports += 1
            trial.values[epoch] = self.sign * value if math.isfinite(value) else WORST
            if standard_error is not None and standard_error > 0:
                trial.standard_errors[epoch] = standard_error
            if seconds is not None and seconds > 0:
                trial.seconds.append(seconds)
            trial.epoch = max(trial.epoch, epoch)
            if epoch in self.previous:
                trial.score(epoch, self.previous[epoch], self.num_averaged)
        if epoch >= self.max_epochs:
            trial.is_running = trial.can_go_on = False
            self.waiting.pop(number, None)
            return Verdict.STOP
        if epoch < trial.until:
            return Verdict.CONTINUE
        self._set_free(trial)
        return Verdict.PAUSE

    def end(self, number: int, outcome: str) -> None:
        """It ended. A failed trial counts as the worst at the first level that it never came to."""
        if outcome not in OUTCOMES:
            raise ValueError(f"trial {number} ended as {outcome!r}; it must be one of {', '.join(OUTCOMES)}")
        trial = self._trial(number)
        self._set_free(trial)
        if outcome == "interrupted":
            if trial.epoch < self.levels[0]:
                self._not_begun.add(number)
            return
        self.forget(number)
        if outcome == "failed":
            trial.scores.setdefault(next_level(self.levels, trial.epoch), WORST)

    def forget(self, number: int) -> None:
        self._trial(number).can_go_on = False
        self.waiting.pop(number, None)

    def resume(self, trial: Standing, levels: Sequence[int] = ()) -> Resume:
        """Hand a waiting trial to a worker, until its next level, or the next of these levels."""
        self._not_begun.discard(trial.number)
        self.waiting.pop(trial.number, None)
        trial.is_running, trial.until = True, next_level(levels or self.levels, trial.epoch)
        return Resume(trial.number, trial.until)

    def new(self, params: Mapping[str, Any] | None = None) -> New:
        return New(params, self.levels[0])

    def not_begun(self) -> Standing | None:
        """The first trial that was interrupted before its first level: it goes on before anything else."""
        waiting = [trial for number in sorted(self._not_begun) if (trial := self.trials[number]).is_waiting]
        return waiting[0] if waiting else None

    def _set_free(self, trial: Standing) -> None:
        trial.is_running = False
        if trial.can_go_on:
            self.waiting[trial.number] = trial.last_score

    def _trial(self, number: int) -> Standing:
        if number not in self.trials:
            raise ValueError(f"trial {number} has not begun; `begin` must come before all that is said of it")
        return self.trials[number]


def next_level(levels: Sequence[int], epoch: int) -> int:
    """The first level after `epoch`; the last where there is none."""
    return levels[min(bisect_right(levels, epoch), len(levels) - 1)]


def check_levels(levels: Iterable[int]) -> tuple[int, ...]:
    """The levels in order. Raises ValueError where there is none, or one below 1."""
    ordered = tuple(sorted(set(levels)))
    if not ordered or ordered[0] < 1:
        raise ValueError(f"levels {list(ordered)}; there must be at least one, and all at least 1 epoch")
    return ordered


def geometric_levels(max_epochs: int, *, first: int = 1, factor: float = 3) -> tuple[int, ...]:
    """first * factor ** k, rounded, all below `max_epochs`, and `max_epochs` itself."""
    if first < 1 or factor <= 1 or max_epochs < 1:
        raise ValueError(
            f"first level {first}, factor {factor}, {max_epochs} epochs; they must be at least 1, above 1, at least 1"
        )
    levels, exact = {max_epochs}, float(first)
    while round(exact) < max_epochs:
        levels.add(round(exact))
        exact *= factor
    return tuple(sorted(levels))


def nearest_levels(levels: Sequence[int], wanted: Iterable[int]) -> tuple[int, ...]:
    """Those of `levels` that are nearest to the wanted ones, by their ratio."""
    return tuple(sorted({min(levels, key=lambda level: abs(math.log(level / at))) for at in wanted}))


def dense_levels(max_epochs: int, *, first: int = 1) -> Sequence[int]:
    """1, 2, 3, 5, 8, 12, 18, 27, 40, ... from `first` on: every epoch, then half as much again, and `max_epochs`."""
    levels, level = [], first
    while level * 1.2 < max_epochs:
        levels.append(level)
        level = max(level + 1, int(level * 1.5 + 0.5))
    return (*levels, max_epochs)
