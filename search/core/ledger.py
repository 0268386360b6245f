"""The ledger: the one place where a trial of a search changes, and what all others read."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from search.core.events import Observer
from search.core.stop import StopReason
from trainable.report import Direction, Outcome, TrialFailure, TrialReport


@dataclass(kw_only=True)
class TrialEntry:
    """What is known of one trial. The ledger alone changes it; `run_id` is set by who makes the run in MLflow.

    `values` holds the validation metric by epoch (1-based), `best_epoch` that of the best one. `outcome` is None while
    the trial runs or waits. `reports` are those of this session, until the trial has ended. `tags` are for its run,
    `best_bytes` is the size of its best checkpoint as far as this session has heard, `traceback` belongs to `error`.
    """

    number: int
    params: Mapping[str, Any]
    run_id: str | None = None
    values: dict[int, float] = field(default_factory=dict)
    best_epoch: int | None = None
    outcome: Outcome | None = None
    error: str | None = None
    traceback: str | None = None
    tags: dict[str, str] = field(default_factory=dict)
    best_bytes: int = 0
    reports: dict[int, TrialReport] = field(default_factory=dict)

    @property
    def best_value(self) -> float | None:
        """The value of the best epoch; None before the first."""
        return None if self.best_epoch is None else self.values[self.best_epoch]

    @property
    def num_epochs(self) -> int:
        return max(self.values, default=0)


class Ledger:
    """All trials of a search by number, earlier sessions included, and who hears of them."""

    def __init__(self, direction: Direction = Direction.MAXIMIZE, observers: Sequence[Observer] = ()) -> None:
        self.direction = direction
        self.observers = tuple(observers)
        self.entries: dict[int, TrialEntry] = {}

    def restore(self, entry: TrialEntry) -> None:
        """Enter a trial of an earlier session; nobody hears of it."""
        entry.best_epoch = self.direction.best_epoch(entry.values)
        self.entries[entry.number] = entry

    def begin(self, number: int, params: Mapping[str, Any], run_id: str | None = None) -> TrialEntry:
        """A trial is about to start, or an interrupted one to go on."""
        entry = self.entries.setdefault(number, TrialEntry(number=number, params=params, run_id=run_id))
        entry.outcome = entry.error = entry.traceback = None
        for observer in self.observers:
            observer.trial_began(entry)
        return entry

    def report(self, number: int, report: TrialReport) -> bool:
        """An epoch has ended. The first value of an epoch stays: False for one that is known, which a resumed trial
        repeats; nobody hears of that."""
        entry = self.entries[number]
        entry.tags |= report.tags
        if report.checkpoint_bytes.get("best"):
            entry.best_bytes = report.checkpoint_bytes["best"]
        if report.epoch in entry.values:
            return False
        entry.values[report.epoch] = report.value
        entry.reports[report.epoch] = report
        entry.best_epoch = self.direction.best_epoch(entry.values)
        for observer in self.observers:
            observer.epoch_reported(entry, report)
        return True

    def fail(self, number: int, failure: TrialFailure) -> None:
        """Note what a trial raised; `end` follows."""
        entry = self.entries[number]
        entry.error, entry.traceback = failure.error, failure.traceback or None

    def recover(self, number: int) -> None:
        """A trial lost its worker and goes on elsewhere."""
        for observer in self.observers:
            observer.trial_recovered(self.entries[number])

    def end(self, number: int, outcome: Outcome, tags: Mapping[str, str] | None = None) -> None:
        """A trial has ended; the first outcome of a session stays. `tags` are further ones for its run."""
        entry = self.entries[number]
        if entry.outcome is not None:
            return
        entry.outcome = outcome
        entry.tags |= tags or {}
        for observer in self.observers:
            observer.trial_ended(entry)
        entry.reports.clear()

    def pass_time(self) -> None:
        for observer in self.observers:
            observer.time_passed()

    def close(self, reason: StopReason) -> None:
        """No trial runs any more."""
        for observer in self.observers:
            observer.search_ended(reason)

    def best(self) -> TrialEntry | None:
        return next(iter(self.ranked()), None)

    def ranked(self) -> list[TrialEntry]:
        """Trials with a value, best first; of equals the lower number first, NaN last."""
        scored = [(entry.best_value, entry.number, entry) for entry in self.entries.values() if entry.values]
        return self.direction.rank(scored)

    def leaderboard(self) -> list[TrialEntry]:
        """All trials, best first; those without a value last."""
        return self.direction.rank((entry.best_value, entry.number, entry) for entry in self.entries.values())

    def ended(self) -> dict[int, Outcome]:
        """The outcomes of the trials that are over for good."""
        return {e.number: e.outcome for e in self.entries.values() if e.outcome is not None and e.outcome.is_final}

    def interrupted(self) -> set[int]:
        """The trials that a resumed search goes on with."""
        return set(self.entries) - set(self.ended())

    def counts(self) -> Counter[str]:
        """How many trials have each outcome; `running` counts those without one."""
        return Counter(str(entry.outcome or "running") for entry in self.entries.values())

    def history(self) -> list[tuple[int, int, float]]:
        """(trial, epoch, value) of every report, for the scheduler's rungs."""
        return [(e.number, epoch, value) for e in self.entries.values() for epoch, value in e.values.items()]
