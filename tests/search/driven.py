"""Tracking without a search around it."""

from __future__ import annotations

from functools import cached_property
from typing import Any

from search.core.ledger import Ledger
from search.observers.tracking import Tracking
from tests.search.reports import report
from trainable.report import Outcome, TrialFailure


class Driven(Tracking):
    """Tracking under a ledger of its own, as a search drives it."""

    @cached_property
    def ledger(self) -> Ledger:
        return Ledger(self.direction, observers=[self])

    def open_trial(self, number: int, params: dict[str, Any], run_id: str | None = None) -> str:
        """The id of a trial's run, when MLflow has all of it: a search goes on as soon as there is one."""
        entry = self.ledger.begin(number, params, run_id)
        assert self.flush()
        assert entry.run_id is not None
        return entry.run_id

    def report(self, number: int, epoch: int, timestamp_ms: int, metrics: dict[str, float]) -> None:
        value, ended_at_s = metrics.get(self.metric, 0.0), timestamp_ms / 1000
        self.ledger.report(number, report(epoch, value, metrics=metrics, ended_at_s=ended_at_s))

    def close_trial(
        self, number: int, outcome: str, *, tags: dict[str, str] | None = None, error: str | None = None
    ) -> None:
        if error is not None:
            self.ledger.fail(number, TrialFailure(error=error))
        self.ledger.end(number, Outcome(outcome), tags)
