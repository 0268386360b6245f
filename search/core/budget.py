"""What a search may spend and has spent: trials, wall time, GPU-hours; kept on disk across sessions."""

from __future__ import annotations

import json
import time
from pathlib import Path

from ray import tune

from search.core.folder import write_json


class Budget(tune.Stopper):
    """Tune's stopper for the whole search. It also ends the search when `stop_reason` is set from outside.

    `devices_per_trial` is what one running trial occupies: GPUs, or cores where trials use no GPU.
    """

    def __init__(
        self,
        spent_file: Path,
        *,
        devices_per_trial: float,
        time_budget_s: float | None = None,
        device_hours: float | None = None,
    ) -> None:
        self.spent_file = spent_file
        self.devices_per_trial = devices_per_trial
        self.time_budget_s = time_budget_s
        self.device_hours = device_hours
        self.stop_reason: str | None = None
        spent = json.loads(spent_file.read_text()) if spent_file.exists() else {}
        self.earlier_s: float = spent.get("wall_s", 0.0)
        self.device_s: float = spent.get("device_s", 0.0)
        self.began_s = time.monotonic()
        self.saved_s = 0.0

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
        write_json(self.spent_file, {"wall_s": self.wall_s, "device_s": self.device_s})

    def __reduce__(self) -> tuple[type[object], tuple[()]]:
        return object, ()  # Tune pickles its stopper for `Tuner.restore`, which is not used here

    def __call__(self, trial_id: str, result: dict[str, object]) -> bool:
        return False

    def stop_all(self) -> bool:
        if self.stop_reason is None:
            if self.time_budget_s is not None and self.wall_s >= self.time_budget_s:
                self.stop_reason = "time budget spent"
            elif self.device_hours is not None and self.device_s >= self.device_hours * 3600:
                self.stop_reason = "device-hours spent"
        return self.stop_reason is not None
