"""Baselines: a rule that trains the sound first configurations to the end, whatever they seem worth on the way.

A search must not end below one untuned training. The first epochs of a long schedule that warms up say little of where
it ends: on COVID-CT the configuration that an expert would train was paused at an AUC of 0.49 and never went on.
"""

from __future__ import annotations

from collections.abc import Collection

from search.core.board import WORST
from search.core.decisions import Decision
from search.core.rule_bases import RuleWithBoard, WrappedBoardRule

NUM_BASELINES = 2
"""At most so many of the first points; a time budget is cut to sixteen full trainings or more."""


class Baselines(WrappedBoardRule):
    """`inner` decides, but the trials `numbers` go on to the last epoch before anything else is done."""

    def __init__(self, inner: RuleWithBoard, numbers: Collection[int]) -> None:
        self.inner = inner
        self.numbers = tuple(sorted(numbers))

    def next(self, *, may_begin: bool = True) -> Decision:
        for number in self.numbers:
            trial = self.board.trials.get(number)
            if trial is not None and trial.is_waiting and trial.last_score > WORST:
                return self.board.resume(trial, (self.board.max_epochs,))
        return self.inner.next(may_begin=may_begin)
