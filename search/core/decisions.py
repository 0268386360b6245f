"""What a search asks a rule, and what the rule answers: begin a trial, go on with a paused one, pause, stop.

A rule gets every trial in five calls and is asked for every free worker:

    rule.begin(number, params)                        a trial was created
    rule.report(number, epoch, value, ...) -> Verdict an epoch ended; CONTINUE, PAUSE or STOP
    rule.end(number, outcome)                         it ended for good, or "interrupted": it may go on elsewhere
    rule.forget(number)                               its checkpoint is gone: it can never go on
    rule.next() -> Resume | New | None                for a worker that is free; None: nothing to do for now

All that a rule knows comes through these calls, so `replay` builds the rule of a resumed search from the record alone.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from enum import Enum
from typing import Any, Protocol, TypeVar

OUTCOMES = ("completed", "stopped", "failed", "interrupted")


class Verdict(Enum):
    """What becomes of a trial after an epoch."""

    CONTINUE = "continue"
    PAUSE = "pause"
    """Its worker is free: ask `next`, which may well answer with this very trial."""
    STOP = "stop"
    """It has nothing left to do: it reached `max_epochs`, or the rule will never go on with it."""


@dataclass(frozen=True)
class Resume:
    """Go on with trial `number`, paused or interrupted, until `until_epoch` (counted from its own first epoch)."""

    number: int
    until_epoch: int


@dataclass(frozen=True)
class New:
    """Begin a trial with `params`, in the space's own names; None: with whatever the sampler proposes."""

    params: Mapping[str, Any] | None
    until_epoch: int


Decision = Resume | New | None


class Rule(Protocol):
    """What decides which trial a free worker trains, and until when.

    `value` is in the metric's own direction; NaN is worse than any number. `standard_error` is in the value's unit,
    `seconds` is the time of this one epoch. A repeated epoch changes nothing: the first value stays.
    """

    def begin(self, number: int, params: Mapping[str, Any]) -> None: ...

    def report(
        self,
        number: int,
        epoch: int,
        value: float,
        standard_error: float | None = None,
        seconds: float | None = None,
    ) -> Verdict: ...

    def end(self, number: int, outcome: str) -> None: ...

    def forget(self, number: int) -> None: ...

    def next(self, *, may_begin: bool = True) -> Decision:
        """For a free worker. With `may_begin` false (all trials that the budget allows have begun) never `New`."""
        ...


RuleT = TypeVar("RuleT", bound=Rule)


@dataclass(frozen=True)
class PastTrial:
    """A trial as the record has it. `outcome` of None or "interrupted": it may go on, unless `can_resume` is false."""

    number: int
    params: Mapping[str, Any]
    values: Mapping[int, float]
    outcome: str | None = None
    standard_errors: Mapping[int, float] = field(default_factory=dict)
    seconds: Mapping[int, float] = field(default_factory=dict)
    can_resume: bool = True


def replay(rule: RuleT, history: Iterable[PastTrial]) -> RuleT:
    """The same rule, given what earlier sessions tried, in the order of the trials' numbers."""
    for trial in sorted(history, key=lambda trial: trial.number):
        rule.begin(trial.number, trial.params)
        for epoch, value in sorted(trial.values.items()):
            rule.report(trial.number, epoch, value, trial.standard_errors.get(epoch), trial.seconds.get(epoch))
        rule.end(trial.number, trial.outcome or "interrupted")
        if not trial.can_resume:
            rule.forget(trial.number)
    return rule
