"""Finishing: a rule that trains the best trials to the end before the budget is spent, whatever promotion would do.

The champion is a mean of full-length trials: one that was stopped early may stand high by a lucky epoch, and scores
less on new patients.
"""

from __future__ import annotations

from collections.abc import Callable
from statistics import fmean, median
from typing import Protocol

from search.core.board import WORST, Board, Standing
from search.core.budget import Left
from search.core.decisions import Decision, Rule
from search.core.rule_bases import WrappedRule

MOST_KEPT = 0.2
"""The largest part of a budget that is kept for it."""
MARGIN = 1.2
"""What finishing takes, over what the epochs so far say."""


class RuleWithBoard(Rule, Protocol):
    """A rule that pauses trials."""

    @property
    def board(self) -> Board: ...


class Finishing(WrappedRule[RuleWithBoard]):
    """`inner` decides until it has nothing left to do, or `left` of the budget is no more than finishing takes.

    Then the `num_finalists` best trials go on to the last epoch, those that have come farthest first. A worker that
    they leave free does what `inner` says for as long as a whole training would still end in time, and then goes on
    with the best of the paused trials that would: members to choose from. Once `is_end`, only the finalists go on.
    """

    def __init__(
        self,
        inner: RuleWithBoard,
        num_finalists: int,
        *,
        left: Callable[[int], Left] = lambda num_workers: Left(),
        is_end: Callable[[], bool] = lambda: False,
    ) -> None:
        self.inner = inner
        self.num_finalists = num_finalists
        self.left = left
        self.is_end = is_end

    @property
    def board(self) -> Board:
        return self.inner.board

    def next(self, *, may_begin: bool = True) -> Decision:
        if self.is_end():
            return self._finish()
        num_workers = 1 + sum(trial.is_running for trial in self.board.trials.values())
        left, epoch_s = self.left(num_workers), self._epoch_s()
        is_kept = left.share <= MOST_KEPT and left.seconds <= MARGIN * self._finishing_s(num_workers, epoch_s)
        if is_kept and (decision := self._finish()) is not None:
            return decision
        if left.seconds < self.board.max_epochs * epoch_s:
            return self._use(left.seconds, epoch_s)
        decision = self.inner.next(may_begin=may_begin)
        return self._finish() if decision is None and not may_begin else decision

    def finalists(self) -> list[int]:
        """The best trials that have ended their training or may go on, the farthest and then the best first."""
        trials = self.board.trials.values()
        able = [
            trial
            for trial in trials
            if trial.last_score > WORST and (trial.can_go_on or trial.epoch >= self.board.max_epochs)
        ]
        able.sort(key=lambda trial: (-trial.epoch, -trial.last_score, trial.number))
        return [trial.number for trial in able[: self.num_finalists]]

    def _finish(self) -> Decision:
        waiting = [number for number in self.finalists() if self.board.trials[number].is_waiting]
        return self.board.resume(self.board.trials[waiting[0]]) if waiting else None

    def _use(self, seconds: float, epoch_s: float) -> Decision:
        """The best of the paused trials that would end in so many seconds."""
        trials = self.board.trials
        ranked = sorted(self.board.waiting, key=lambda number: (-self.board.waiting[number], number))
        for number in ranked:
            if trials[number].last_score > WORST and MARGIN * self._rest_s(trials[number], epoch_s) <= seconds:
                return self.board.resume(trials[number])
        return None

    def _epoch_s(self) -> float:
        """Seconds of a usual epoch; 0 before any is known."""
        known = [seconds for trial in self.board.trials.values() for seconds in trial.seconds[-1:]]
        return median(known) if known else 0.0

    def _rest_s(self, trial: Standing, epoch_s: float) -> float:
        """Seconds to the end of a trial, by its own epochs."""
        return (self.board.max_epochs - trial.epoch) * (fmean(trial.seconds) if trial.seconds else epoch_s)

    def _finishing_s(self, num_workers: int, epoch_s: float) -> float:
        """Seconds until all finalists are at their end."""
        rests = [self._rest_s(self.board.trials[number], epoch_s) for number in self.finalists()]
        return max(sum(rests) / num_workers, max(rests, default=0.0))
