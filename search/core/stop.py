"""StopReason and StopRequest: why a search ends; the first reason that is given stays."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from enum import Enum

from trainable.report import Outcome


class StopReason(Enum):
    """Why no further trial begins. The value is what people read."""

    ALL_TRIALS = "all trials have ended"
    TIME_BUDGET = "time budget spent"
    DEVICE_HOURS = "device-hours spent"
    CONVERGED = "nothing more to gain"
    CTRL_C = "Ctrl-C"
    TERMINATED = "SIGTERM"
    ALL_FAILED = "all trials failed"
    BAD_NODES = "the nodes that joined failed the preflight"
    NO_EPOCH = "no epoch can end within the budget"
    REQUESTED = "asked to stop"
    STORAGE_LOST = "the storage has been away"
    OUT_OF_MEMORY = "memory ran out"

    @property
    def outcome(self) -> Outcome:
        """How the search's own run in MLflow ends."""
        if self is StopReason.CTRL_C or not self.concludes:
            return Outcome.INTERRUPTED
        if self in (StopReason.ALL_FAILED, StopReason.BAD_NODES, StopReason.NO_EPOCH):
            return Outcome.FAILED
        return Outcome.COMPLETED

    @property
    def concludes(self) -> bool:
        """Whether a champion is chosen now; after SIGTERM, without storage or memory, the search waits for a resume."""
        return self not in (StopReason.TERMINATED, StopReason.STORAGE_LOST, StopReason.OUT_OF_MEMORY)


class StopRequest:
    """The one place where the end of a search is asked for."""

    def __init__(self) -> None:
        self.reason: StopReason | None = None
        self.detail = ""
        self.is_heeded = False

    @contextmanager
    def heeded(self) -> Iterator[None]:
        """While trials run, somebody looks at the request; outside of that an interruption has to be an exception."""
        self.is_heeded = True
        try:
            yield
        finally:
            self.is_heeded = False

    @contextmanager
    def anew(self) -> Iterator[None]:
        """While something else runs that can be ended: what has been asked before counts again afterwards."""
        before = self.reason, self.detail
        self.reason, self.detail = None, ""
        try:
            yield
        finally:
            self.reason, self.detail = before

    def ask(self, reason: StopReason, detail: str = "") -> bool:
        """Ask for the end; False if somebody asked before. `detail` replaces the reason's words for people."""
        if self.reason is not None:
            return False
        self.reason, self.detail = reason, detail
        return True

    @property
    def is_asked(self) -> bool:
        return self.reason is not None

    def __str__(self) -> str:
        return self.detail or (self.reason.value if self.reason else "")
