"""Stopping: asynchronous successive halving that stops trials at rungs and pauses none."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from search.core.decisions import Decision, New, Resume, Verdict
from search.core.rungs import Rungs


class Stopping:
    """The rule of `rungs`; see `decisions.Rule` for its calls. Interrupted trials go on before anything else."""

    def __init__(self, rungs: Rungs, max_epochs: int) -> None:
        self.rungs = rungs
        self.max_epochs = max_epochs
        self.values: dict[int, dict[int, float]] = {}
        self.interrupted: dict[int, None] = {}

    def begin(self, number: int, params: Mapping[str, Any]) -> None:
        self.values[number] = {}

    def report(
        self,
        number: int,
        epoch: int,
        value: float,
        standard_error: float | None = None,
        seconds: float | None = None,
    ) -> Verdict:
        values = self.values[number]
        values.setdefault(epoch, value)
        goes_on = self.rungs.goes_on(number, epoch, values)
        return Verdict.CONTINUE if goes_on and epoch < self.max_epochs else Verdict.STOP

    def end(self, number: int, outcome: str) -> None:
        if outcome == "interrupted":
            self.interrupted[number] = None

    def forget(self, number: int) -> None:
        """It begins anew where it goes on: nothing else depends on its checkpoint."""

    def next(self, *, may_begin: bool = True) -> Decision:
        if self.interrupted:
            number = next(iter(self.interrupted))
            del self.interrupted[number]
            return Resume(number, self.max_epochs)
        return New(None, self.max_epochs) if may_begin else None
