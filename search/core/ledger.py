"""The ledger: the one place where a trial of a search changes, and what all others read."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from statistics import median
from typing import Any

from search.core.events import Observer
from search.core.stop import StopReason
from trainable.report import Direction, Outcome, TrialFailure, TrialReport
from trainable.smoothing import find_best


@dataclass(kw_only=True)
class TrialEntry:
    """What is known of one trial. The ledger alone changes it; `run_id` is set by who makes the run in MLflow.

    `values` holds the validation metric by epoch (1-based). A trial is known by `best_value`, the best mean of its last
    epochs (trainable/smoothing.py), reached at `best_epoch`; both None before the first epoch. `standard_error` is that
    of the epoch's own value, in the metric's unit, where this session knows it. `outcome` is None while
    the trial runs or waits; `is_paused` says that it waits for a worker, `is_left` that an earlier
    session left it and nothing has become of it in this one. `reports` are those of this session, until the
    trial has ended. `tags` are for its run, `costs` what its model costs where the search weighs that. `best_bytes`
    is the size of its best checkpoint, `held_bytes` that of all its checkpoints, `epoch_s` the median of its
    epochs' seconds, as far as this session knows; `traceback` belongs to `error`.
    """

    number: int
    params: Mapping[str, Any]
    run_id: str | None = None
    values: dict[int, float] = field(default_factory=dict)
    best_epoch: int | None = None
    best_value: float | None = None
    standard_error: float | None = None
    outcome: Outcome | None = None
    is_paused: bool = False
    is_left: bool = False
    error: str | None = None
    traceback: str | None = None
    tags: dict[str, str] = field(default_factory=dict)
    costs: dict[str, float] = field(default_factory=dict)
    best_bytes: int = 0
    held_bytes: int = 0
    epoch_s: float | None = None
    reports: dict[int, TrialReport] = field(default_factory=dict)

    @property
    def num_epochs(self) -> int:
        return max(self.values, default=0)

    @property
    def state(self) -> str:
        """The outcome, or `running` or `paused`."""
        return str(self.outcome or ("paused" if self.is_paused else "running"))


class Ledger:
    """All trials of a search by number, earlier sessions included, and their observers."""

    def __init__(self, direction: Direction = Direction.MAXIMIZE, observers: Sequence[Observer] = ()) -> None:
        self.direction = direction
        self.observers = tuple(observers)
        self.entries: dict[int, TrialEntry] = {}

    def restore(self, entry: TrialEntry) -> None:
        """Enter a trial of an earlier session; no observer is called. One that was interrupted may go on, or end
        now."""
        self._find_best(entry)
        entry.is_left = entry.outcome is Outcome.INTERRUPTED
        self.entries[entry.number] = entry

    def begin(self, number: int, params: Mapping[str, Any], run_id: str | None = None) -> TrialEntry:
        """A trial is about to start, or an interrupted one to go on."""
        entry = self.entries.setdefault(number, TrialEntry(number=number, params=params, run_id=run_id))
        entry.outcome = entry.error = entry.traceback = None
        entry.is_left = False
        for observer in self.observers:
            observer.trial_began(entry)
        return entry

    def report(self, number: int, report: TrialReport) -> bool:
        """An epoch has ended. The first value of an epoch stays: False for one that is known, which a resumed trial
        repeats; no observer is called."""
        entry = self.entries[number]
        entry.tags |= report.tags
        entry.costs = {**report.costs, **entry.costs}  # what was measured first stays
        if report.checkpoint_bytes:
            entry.best_bytes = report.checkpoint_bytes.get("best", 0)
            entry.held_bytes = sum(report.checkpoint_bytes.values())
        if report.epoch in entry.values:
            return False
        entry.values[report.epoch] = report.value
        entry.reports[report.epoch] = report
        entry.epoch_s = median(each.ended_at_s - each.began_at_s for each in entry.reports.values())
        self._find_best(entry)
        if entry.best_epoch == report.epoch:
            entry.standard_error = report.standard_error
        for observer in self.observers:
            observer.epoch_reported(entry, report)
        return True

    def pause(self, number: int) -> None:
        """A trial gave its worker to another one."""
        entry = self.entries[number]
        entry.is_paused = True
        for observer in self.observers:
            observer.trial_paused(entry)

    def resume(self, number: int) -> None:
        """A paused trial goes on."""
        entry = self.entries[number]
        entry.is_paused = False
        for observer in self.observers:
            observer.trial_resumed(entry)

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
        if entry.outcome is not None and not entry.is_left:
            return
        entry.outcome = outcome
        entry.is_left = False
        entry.is_paused = False
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

    def _find_best(self, entry: TrialEntry) -> None:
        if entry.values:
            higher_is_better = self.direction is Direction.MAXIMIZE
            entry.best_epoch, entry.best_value = find_best(entry.values, higher_is_better=higher_is_better)

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
        """How many trials have each outcome; `running` and `paused` count those without one."""
        return Counter(entry.state for entry in self.entries.values())

    def history(self) -> list[tuple[int, int, float]]:
        """(trial, epoch, value) of every report, for the scheduler's rungs."""
        return [(e.number, epoch, value) for e in self.entries.values() for epoch, value in e.values.items()]
