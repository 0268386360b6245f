"""Finishing: a rule that trains the best trials to the end before the budget is spent, whatever promotion would do.

The champion is a mean of full-length trials: one that was stopped early may stand high by a lucky epoch, and scores
less on new patients.
"""

from __future__ import annotations

from collections.abc import Callable

from search.core.board import WORST
from search.core.decisions import Decision
from search.core.rule_bases import RuleWithBoard, WrappedBoardRule

KEPT_SHARE = 0.2
"""The part of a time budget that is kept for it."""


class Finishing(WrappedBoardRule):
    """`inner` decides until it has nothing left to do, or `is_time` says that the kept part of the budget begins.

    Then the `num_finalists` best trials go on to the last epoch, those that have come farthest first; no other goes on.
    """

    def __init__(self, inner: RuleWithBoard, num_finalists: int, is_time: Callable[[], bool] = lambda: False) -> None:
        self.inner = inner
        self.num_finalists = num_finalists
        self.is_time = is_time

    def next(self, *, may_begin: bool = True) -> Decision:
        if not self.is_time():
            decision = self.inner.next(may_begin=may_begin)
            if decision is not None or may_begin:
                return decision
        waiting = [number for number in self.finalists() if self.board.trials[number].is_waiting]
        return self.board.resume(self.board.trials[waiting[0]]) if waiting else None

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
