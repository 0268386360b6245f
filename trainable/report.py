"""TrialReport and TrialFailure: what a worker says to the driver, and the words both share.

A result of Ray Tune is a dict; ours holds one entry, the report, so that neither side knows keys by heart.
"""

from __future__ import annotations

import math
import time
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from enum import StrEnum
from typing import Any, Self, TypeVar

_T = TypeVar("_T")
_KEY = "report"


class Direction(StrEnum):
    """Which of two values is better. NaN is better than nothing else and worse than everything."""

    MAXIMIZE = "maximize"
    MINIMIZE = "minimize"

    @classmethod
    def of(cls, metric: str) -> Direction:
        """The direction of a metric by its name: losses are minimised, everything else is maximised."""
        return cls.MINIMIZE if metric == "loss" else cls.MAXIMIZE

    def is_better(self, value: float | None, than: float | None) -> bool:
        """Whether `value` is strictly better; a missing value (None, NaN) never is, and loses to any other."""
        if value is None or math.isnan(value):
            return False
        return than is None or math.isnan(than) or self.score(value) > self.score(than)

    def score(self, value: float | None) -> float:
        """The value with its sign turned so that higher is better; minus infinity for a missing one."""
        if value is None or math.isnan(value):
            return -math.inf
        return value if self is Direction.MAXIMIZE else -value

    def best_epoch(self, values: Mapping[int, float]) -> int | None:
        """The epoch of the best value, of equals the earliest; None without epochs."""
        return max(values, key=lambda epoch: (self.score(values[epoch]), -epoch), default=None)

    def rank(self, entries: Iterable[tuple[float | None, int, _T]]) -> list[_T]:
        """Entries of (value, number, anything), best value first, of equals the lower number; missing values last."""
        return [entry[2] for entry in sorted(entries, key=lambda entry: (-self.score(entry[0]), entry[1]))]


class Outcome(StrEnum):
    """How a trial ended (DESIGN.md, "Four outcomes"); a trial without one is running, or waits."""

    COMPLETED = "completed"
    STOPPED = "stopped"
    FAILED = "failed"
    INTERRUPTED = "interrupted"

    @property
    def is_final(self) -> bool:
        """Whether no resumed search goes on with the trial."""
        return self is not Outcome.INTERRUPTED


@dataclass(frozen=True, kw_only=True)
class TrialReport:
    """One epoch of one trial, counted from 1.

    `value` is the search's metric on validation, `standard_error` its own where that is known, `metrics` all that is
    logged, by name. `finished` says that the trial has reached its last epoch or the end of its patience. Times are
    Unix seconds. `plan` is the step plan by which it trains (precision, memory format), `plan_key` for which
    architecture and machine that was measured. `tags` are for the trial's run. Bytes: `checkpoint_bytes` by kind of
    checkpoint, `resident_bytes` of the worker. `timings_s` says where the time before the first step went. `hostname`,
    `pid` and `step_s` are what Tune adds on the worker. `costs` are the model's own, where the search weighs them.
    """

    epoch: int
    value: float
    finished: bool
    metrics: Mapping[str, float]
    began_at_s: float
    ended_at_s: float
    device: str = ""
    node_id: str = ""
    plan: Mapping[str, str] = field(default_factory=dict)
    plan_key: str = ""
    tags: Mapping[str, str] = field(default_factory=dict)
    checkpoint_bytes: Mapping[Any, int] = field(default_factory=dict)
    resident_bytes: int = 0
    timings_s: Mapping[str, float] = field(default_factory=dict)
    hostname: str = ""
    pid: int = 0
    step_s: float = 0.0
    standard_error: float | None = None
    costs: Mapping[str, float] = field(default_factory=dict)

    @property
    def timestamp_ms(self) -> int:
        """When the epoch ended, as MLflow wants it."""
        return int(self.ended_at_s * 1000)

    def to_result(self) -> dict[str, Any]:
        """What a trainable's `step` returns."""
        return {_KEY: self}

    @classmethod
    def from_result(cls, result: Mapping[str, Any]) -> TrialReport | TrialFailure:
        """What a worker's `step` returned, with what Tune has added to it. Raises KeyError for any other result."""
        return result[_KEY].on_worker(result)

    def on_worker(self, result: Mapping[str, Any]) -> Self:
        return replace(self, **_read_worker(result))


@dataclass(frozen=True, kw_only=True)
class TrialFailure:
    """What a trial raised: `error` in one line, and its traceback.

    With `lost_storage` the trial is not to blame: the storage was away for too long, and it can go on later.
    """

    error: str
    traceback: str = ""
    lost_storage: bool = False
    hostname: str = ""
    pid: int = 0
    step_s: float = 0.0
    node_id: str = ""
    ended_at_s: float = field(default_factory=time.time)

    def to_result(self) -> dict[str, Any]:
        """What a trainable's `step` returns."""
        return {_KEY: self}

    def on_worker(self, result: Mapping[str, Any]) -> Self:
        return replace(self, **_read_worker(result))


def _read_worker(result: Mapping[str, Any]) -> dict[str, Any]:
    return {
        "hostname": result.get("hostname", ""),
        "pid": result.get("pid", 0),
        "step_s": result.get("time_this_iter_s", 0.0),
    }
