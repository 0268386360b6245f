"""The search's own short memory: one entry a trial, from which the terminal, the champion and the report read."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

FINAL = ("completed", "stopped", "failed")


@dataclass(kw_only=True)
class TrialEntry:
    """What is known of one trial. `values` holds its validation metric by epoch, as `note` enters them, `best_epoch`
    that of the best value; `outcome` is None while it runs; `best_bytes` is the size of its best checkpoint, as far
    as this session has heard."""

    number: int
    params: Mapping[str, Any]
    run_id: str | None = None
    values: dict[int, float] = field(default_factory=dict)
    outcome: str | None = None
    error: str | None = None
    tags: dict[str, str] = field(default_factory=dict)
    best_bytes: int = 0
    best_epoch: int | None = None
    higher_is_better: bool = True

    def note(self, epoch: int, value: float) -> None:
        """The first value of an epoch stays: a resumed trial repeats some. The earliest of equals is the best."""
        if epoch in self.values:
            return
        self.values[epoch] = value
        sign, best = 1 if self.higher_is_better else -1, self.best_value
        is_first = best is None or math.isnan(best)
        if is_first or (sign * value, -epoch) > (sign * (best or 0.0), -(self.best_epoch or 0)):
            self.best_epoch = epoch

    @property
    def best_value(self) -> float | None:
        return None if (epoch := self.best_epoch) is None else self.values[epoch]

    @property
    def num_epochs(self) -> int:
        return max(self.values, default=0)


class Book:
    """All trials of a search by number, earlier sessions included."""

    def __init__(self, *, higher_is_better: bool = True) -> None:
        self.higher_is_better = higher_is_better
        self.entries: dict[int, TrialEntry] = {}

    def open(self, number: int, params: Mapping[str, Any], run_id: str | None = None) -> TrialEntry:
        """Add a trial, or set one that goes on running again."""
        entry = self.entries.get(number)
        if entry is None:
            entry = TrialEntry(number=number, params=params, run_id=run_id, higher_is_better=self.higher_is_better)
            self.entries[number] = entry
        entry.outcome = None
        return entry

    def note(self, number: int, epoch: int, value: float) -> None:
        self.entries[number].note(epoch, value)

    def ranked(self) -> list[TrialEntry]:
        """Trials with a value, best first; of equals the lower number first."""
        sign = -1 if self.higher_is_better else 1
        scored = [(entry.best_value, entry) for entry in self.entries.values()]
        present = [(value, entry) for value, entry in scored if value is not None]
        return [entry for _, entry in sorted(present, key=lambda pair: (sign * pair[0], pair[1].number))]

    def ended(self) -> dict[int, str]:
        """The outcomes of the trials that are over for good."""
        return {entry.number: entry.outcome for entry in self.entries.values() if entry.outcome in FINAL}

    def interrupted(self) -> set[int]:
        """The trials that a resumed search goes on with."""
        return set(self.entries) - set(self.ended())

    def counts(self) -> Counter[str]:
        """How many trials have each outcome; `running` counts those without one."""
        return Counter(entry.outcome or "running" for entry in self.entries.values())

    def history(self) -> list[tuple[int, int, float]]:
        """(trial, epoch, value) of every report, for the scheduler's rungs."""
        return [(e.number, epoch, value) for e in self.entries.values() for epoch, value in e.values.items()]
