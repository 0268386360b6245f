"""What a search may spend and has spent: wall time, GPU-hours; kept on disk across sessions."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from search.core.stop import StopReason, StopRequest
from trainable.records import RecordError, read_record, write_record

if TYPE_CHECKING:
    from search.core.confirmation import Confirmation


@dataclass(frozen=True)
class Left:
    """What trials may still spend: seconds of the clock, and the same as a share of the whole budget.

    Of the trials `num_confirmed` are to be trained again with what is kept for it.
    """

    seconds: float = math.inf
    share: float = 1.0
    num_confirmed: int = 0


@dataclass(frozen=True)
class Kept:
    """What of a budget is kept for the confirmation that comes after the trials, and of how many of them."""

    seconds: float = 0.0
    device_s: float = 0.0
    num_trials: int = 0
    confirmation: Confirmation | None = None


class Budget:
    """Asks for the search's end when it is spent.

    `devices_per_trial` is what one running trial occupies: GPUs, or cores where trials use no GPU. A limit of None does
    not bind; `device_hours` counts GPU-hours, or core-hours where trials use no GPU. What is `kept` of them is not for
    trials.
    """

    def __init__(
        self,
        spent_file: Path,
        *,
        devices_per_trial: float = 1.0,
        time_budget_s: float | None = None,
        device_hours: float | None = None,
        stop: StopRequest | None = None,
    ) -> None:
        self.spent_file = spent_file
        self.devices_per_trial = devices_per_trial
        self.time_budget_s = time_budget_s
        self.device_hours = device_hours
        self.stop = stop or StopRequest()
        self.earlier_s, self.device_s = read_spent(spent_file)
        self.began_s = time.monotonic()
        self.saved_s = 0.0
        self.kept = Kept()
        self.reckon: Callable[[], Kept] = lambda: self.kept

    @property
    def is_limited(self) -> bool:
        return self.time_budget_s is not None or self.device_hours is not None

    @property
    def wall_s(self) -> float:
        return self.earlier_s + time.monotonic() - self.began_s

    def charge(self, step_s: float) -> None:
        """A trial has held its devices for `step_s` more seconds."""
        self.device_s += step_s * self.devices_per_trial
        if time.monotonic() - self.saved_s > 1:
            self.save()

    def save(self) -> None:
        self.saved_s = time.monotonic()
        write_record(self.spent_file, {"wall_s": self.wall_s, "device_s": self.device_s})

    def left(self, num_workers: int) -> Left:
        """What is left for trials, of which `num_workers` run at once."""
        found = [Left(num_confirmed=self.kept.num_trials)]
        if self.time_budget_s is not None:
            seconds = self.time_budget_s - self.kept.seconds - self.wall_s
            found.append(Left(seconds, seconds / self.time_budget_s, self.kept.num_trials))
        if self.device_hours is not None:
            device_s = self.device_hours * 3600 - self.kept.device_s - self.device_s
            seconds = device_s / (self.devices_per_trial * num_workers)
            found.append(Left(seconds, device_s / (self.device_hours * 3600), self.kept.num_trials))
        return min(found, key=lambda left: left.seconds)

    def is_over(self) -> bool:
        """Whether the search ends, for whatever reason."""
        if not self.stop.is_asked and (reason := self._find_spent()) is not None:
            if self.kept != Kept():
                self.kept = self.reckon()
                reason = self._find_spent()
            if reason is not None:
                self.stop.ask(reason)
        return self.stop.is_asked

    def _find_spent(self) -> StopReason | None:
        """What of the budget is spent, but for what is kept."""
        if self.time_budget_s is not None and self.wall_s >= self.time_budget_s - self.kept.seconds:
            return StopReason.TIME_BUDGET
        if self.device_hours is not None and self.device_s >= self.device_hours * 3600 - self.kept.device_s:
            return StopReason.DEVICE_HOURS
        return None


def read_spent(file: Path) -> tuple[float, float]:
    """Seconds of the clock and of devices that a search has spent, by its record. Raises RecordError."""
    spent = read_record(file) if file.exists() else {}
    return _read_seconds(file, spent, "wall_s"), _read_seconds(file, spent, "device_s")


def _read_seconds(file: Path, spent: Mapping[str, Any], name: str) -> float:
    """A time of a record, 0 where it has none. Raises RecordError for what is no time."""
    value = spent.get(name, 0.0)
    if isinstance(value, bool) or not isinstance(value, int | float) or not 0 <= value < math.inf:
        raise RecordError(f"{file} is damaged: {name} is {value!r}; it must be seconds")
    return float(value)
