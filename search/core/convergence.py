"""Convergence: a rule that ends a search when what can still be gained is less than what validation can tell.

The expected improvement of the most promising next step is the measure (Mockus 1978), and the error of the measured
value the limit (Makarova et al. 2022, "Automatic Termination for Hyperparameter Optimization", arXiv:2104.08166).
"""

from __future__ import annotations

from collections.abc import Callable
from statistics import median
from typing import TYPE_CHECKING

from search.core.board import WORST
from search.core.decisions import Decision, Rule
from search.core.describe import format_duration
from search.core.rule_bases import WrappedRule
from search.core.stop import StopReason

if TYPE_CHECKING:
    from search.core.freeze_thaw import FreezeThaw
    from search.core.outlook import Outlook

SHARE_OF_ERROR, SHARE_OF_REACH = 0.1, 0.005
"""What is too little: this part of the value's standard error, or of the way from the first values to the best."""
LEAST_BETWEEN_LOOKS, SHARE_BETWEEN_LOOKS = 10, 0.05
"""How many epochs lie between two looks: so many, and this part of all."""
LEAST_TRAININGS, SHARE_IN_VAIN = 8, 2 / 3
"""No search ends before so many full trainings' worth of epochs, and this part of them without a gain worth something:
the model is sure too early where good configurations are rare (benchmarks/LOG.md)."""


class Converging(WrappedRule[Rule]):
    """`inner` decides; once `is_reached`, no trial begins, and what it then does is what it does at its end.

    `model` knows all that `inner` knows, and is asked now and then what is left to gain; `say` is called with the
    reason once that is too little.
    """

    def __init__(self, inner: Rule, model: FreezeThaw, say: Callable[[str], object] = lambda line: None) -> None:
        self.inner, self.model, self.say = inner, model, say
        self.advisers = (model,)
        self.outlooks: list[Outlook] = []
        self.is_reached = False
        self._looked_at = 0
        self._bests: list[tuple[int, float]] = []  # after how many epochs, the best score by then

    def next(self, *, may_begin: bool = True) -> Decision:
        if not self.is_reached:
            self._look()
        return self.inner.next(may_begin=may_begin and not self.is_reached)

    def least(self) -> float:
        """The gain that would be worth something, in the metric's unit."""
        trials = [trial for trial in self.model.board.trials.values() if trial.last_score > WORST]
        if not trials:
            return 0.0
        best = max(trials, key=lambda trial: trial.last_score)
        reach = best.last_score - median(min(trial.values.values()) for trial in trials)
        errors = list(best.standard_errors.values())
        return max(SHARE_OF_ERROR * median(errors) if errors else 0.0, SHARE_OF_REACH * max(reach, 0.0))

    def describe(self) -> str:
        """What the last look promised, and what it is too little against."""
        last = self.outlooks[-1]
        return (
            f"nothing more to gain: the most promising next step is expected to add {last.gain:.2g} for "
            f"{format_duration(last.seconds)} of one worker, and {self.least():.2g} would be worth it"
        )

    def _look(self) -> None:
        from search.core.outlook import has_converged, look_ahead

        num_epochs = self.model.board.num_reports
        if num_epochs - self._looked_at < max(LEAST_BETWEEN_LOOKS, SHARE_BETWEEN_LOOKS * num_epochs):
            return
        self._looked_at = num_epochs
        if (outlook := look_ahead(self.model)) is None:
            return
        self.outlooks.append(outlook)
        best = max(trial.last_score for trial in self.model.board.trials.values())
        self._bests.append((num_epochs, max([best, *(best for _, best in self._bests[-1:])])))
        if has_converged(self.outlooks, least=self.least()) and self._was_in_vain(num_epochs):
            self.is_reached = True
            self.say(self.describe())

    def _was_in_vain(self, num_epochs: int) -> bool:
        """Whether the search has gone on for long, and its latter epochs brought no gain worth something."""
        early = [best for epochs, best in self._bests if epochs <= (1 - SHARE_IN_VAIN) * num_epochs]
        is_long = num_epochs >= LEAST_TRAININGS * self.model.board.max_epochs
        return is_long and bool(early) and self._bests[-1][1] - early[-1] < self.least()


def reason_of(rule: Rule) -> tuple[StopReason, str]:
    """Why a search ends whose rule has nothing left to do, and the words for it ("": the reason's own)."""
    if isinstance(rule, Converging) and rule.is_reached:
        return StopReason.CONVERGED, rule.describe()
    return StopReason.ALL_TRIALS, ""
