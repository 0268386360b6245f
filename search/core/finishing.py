"""Finishing: a rule that trains the best trials to the end before the budget is spent, whatever promotion would do.

The champion is a mean of full-length trials: one that was stopped early may stand high by a lucky epoch, and scores
less on new patients.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from statistics import fmean, median

from search.core.board import WORST, Order, Standing, by_score
from search.core.budget import Left
from search.core.decisions import Decision
from search.core.rule_bases import RuleWithBoard, WrappedBoardRule

MOST_KEPT = 0.2
"""The largest part of a budget that is kept for it."""
MARGIN = 1.2
"""What finishing takes, over what the epochs so far say."""


class Finishing(WrappedBoardRule):
    """`inner` decides until it has nothing left to do, or what is `left` of the budget is what finishing takes.

    Then the `num_finalists` best trials go on to the last epoch, those that have come farthest first, and after them
    those that stand better without having come so far. Where finishing takes little, `inner` goes on for as long as a
    whole training would still end in time; then the best of the paused trials that would, which gives the champion more
    to choose from. Once `is_end`, or without a budget that binds, the finalists alone go on. Where some trials are to
    be trained again, the finalists are as many. `order` says which are the best.
    """

    def __init__(
        self,
        inner: RuleWithBoard,
        num_finalists: int,
        *,
        left: Callable[[int], Left] = lambda num_workers: Left(),
        is_end: Callable[[], bool] = lambda: False,
        order: Order = by_score,
    ) -> None:
        self.inner = inner
        self.num_finalists = num_finalists
        self.left = left
        self.is_end = is_end
        self.order = order

    def next(self, *, may_begin: bool = True) -> Decision:
        if self.is_end():
            return self._go_on(self.finalists())
        num_workers = 1 + sum(trial.is_running for trial in self.board.trials.values())
        left = self.left(num_workers)
        if left.share <= MOST_KEPT:
            wanted = self.finalists()
            wanted += [trial for trial in self.best() if trial not in wanted and self._fits(trial, left)]
            if left.seconds <= MARGIN * self._seconds_to_end(wanted, num_workers):
                return self._go_on(wanted) or self._go_on(self._fitting(left))
        if left.seconds < self.board.max_epochs * self._epoch_s():
            decision = self._go_on(self._fitting(left))
            if decision is not None or all(trial.epoch >= self.board.max_epochs for trial in self.finalists()):
                return decision
        decision = self.inner.next(may_begin=may_begin)
        return self._go_on(self.finalists()) if decision is None and not may_begin else decision

    def finalists(self) -> list[Standing]:
        """The trials that have come farthest, of these the best first, as many as become the champion."""
        return sorted(self._rank(self._able()), key=lambda trial: -trial.epoch)[: self._num_wanted()]

    def best(self) -> list[Standing]:
        """The best trials by what they are worth now, as many."""
        return self._rank(self._able())[: self._num_wanted()]

    def _num_wanted(self) -> int:
        return self.left(1).num_confirmed or self.num_finalists

    def _rank(self, trials: Sequence[Standing]) -> list[Standing]:
        return self.order(trials, [trial.last_score for trial in trials])

    def _able(self) -> list[Standing]:
        """Those that have ended their training or may go on."""
        last, trials = self.board.max_epochs, self.board.trials.values()
        return [trial for trial in trials if trial.last_score > WORST and (trial.can_go_on or trial.epoch >= last)]

    def _go_on(self, trials: Sequence[Standing]) -> Decision:
        """With the first of these trials that waits."""
        trial = next((trial for trial in trials if trial.is_waiting), None)
        return self.board.resume(trial) if trial is not None else None

    def _fitting(self, left: Left) -> list[Standing]:
        """The paused trials that would come to their end in time, the best first."""
        paused = [self.board.trials[number] for number in self.board.waiting]
        fitting = [trial for trial in paused if trial.last_score > WORST and self._fits(trial, left)]
        return self._rank(fitting)

    def _fits(self, trial: Standing, left: Left) -> bool:
        return MARGIN * self._rest_s(trial) <= left.seconds

    def _epoch_s(self) -> float:
        """Seconds of a usual epoch; 0 before any is known."""
        known = [seconds for trial in self.board.trials.values() for seconds in trial.seconds[-1:]]
        return median(known) if known else 0.0

    def _rest_s(self, trial: Standing) -> float:
        """Seconds to the end of a trial, by its own epochs."""
        return (self.board.max_epochs - trial.epoch) * (fmean(trial.seconds) if trial.seconds else self._epoch_s())

    def _seconds_to_end(self, trials: Sequence[Standing], num_workers: int) -> float:
        """Until all these trials are at their end."""
        rests = [self._rest_s(trial) for trial in trials]
        return max(sum(rests) / num_workers, max(rests, default=0.0))
