"""How fast a search goes: from its command to the first training step, from trial to trial, and what workers hold."""

from __future__ import annotations

import os
import statistics
import time
from collections import defaultdict
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from search.core.events import Observer
from search.core.ledger import TrialEntry
from trainable.report import TrialReport


def process_began_at_s() -> float:
    """When this process was started, in Unix time: before Python had imported anything (proc(5)); else now."""
    stat, uptime = Path("/proc/self/stat"), Path("/proc/uptime")
    if not (stat.exists() and uptime.exists()):
        return time.time()
    ticks = int(stat.read_text().rpartition(")")[2].split()[19])
    return time.time() - (float(uptime.read_text().split()[0]) - ticks / os.sysconf("SC_CLK_TCK"))


class Timings(Observer):
    """Where the time before the first step went, and every turn-round since.

    `began_at_s` is Unix time: of the command, or of the call that began the search. A turn-round is the time from where
    a trial ends or pauses to the first training step of the one that follows on its slot: in the same process, or,
    where that has ended, in a new one. `resumes_s` are those after which a paused trial went on. `num_slots` sets the
    first processes of a search apart from those; `started` is called with the lines that say where the time went, once
    the first epoch is known. Times of driver and workers are compared, which only clocks that nobody sets allow: a span
    that would be negative is left out.
    """

    def __init__(self, began_at_s: float | None = None) -> None:
        now_s = time.time()
        self.began_at_s = now_s if began_at_s is None else began_at_s
        self.parts_s: dict[str, float] = {"imports": max(0.0, now_s - self.began_at_s)}
        self._built_s = time.monotonic()
        self.start_s: float | None = None
        self.turn_rounds_s: list[float] = []
        self.resumes_s: list[float] = []
        self.resident_bytes: dict[int, int] = {}
        self.num_slots = 1
        self.started: Callable[[list[str]], None] = lambda lines: None
        self._free_since_s: dict[str, dict[int, float]] = defaultdict(dict)  # by host and process, the longest first
        self._under_way: dict[int, int] = {}  # a trial's process
        self._num_processes = 0
        self._has_begun = False

    @property
    def passed_s(self) -> float:
        """Seconds since the search began."""
        return self.parts_s["imports"] + time.monotonic() - self._built_s

    @contextmanager
    def part(self, name: str) -> Iterator[None]:
        """Time one part of the way to the first step."""
        began_s = time.monotonic()
        yield
        self.parts_s[name] = self.parts_s.get(name, 0.0) + time.monotonic() - began_s

    def epoch_reported(self, entry: TrialEntry, report: TrialReport) -> None:
        self.resident_bytes[entry.number] = report.resident_bytes
        if entry.number in self._under_way:
            return
        process, free = report.pid, self._free_since_s[report.hostname]
        self._under_way[entry.number] = process
        if process not in free and self._num_processes >= self.num_slots:
            process = next(iter(free), process)
        if process in free:
            if (turn_round_s := report.began_at_s - free.pop(process)) >= 0:
                self.turn_rounds_s.append(turn_round_s)
                if report.epoch > min(entry.reports):
                    self.resumes_s.append(turn_round_s)
        else:
            self._num_processes += 1
        is_first, self._has_begun = not self._has_begun, True
        if is_first and report.began_at_s >= self.began_at_s:
            self.start_s = report.began_at_s - self.began_at_s
            self.parts_s |= report.timings_s
            self.parts_s["other"] = self.start_s - sum(self.parts_s.values())
            self.started(self.lines())

    def trial_paused(self, entry: TrialEntry) -> None:
        self._free_slot_of(entry)

    def trial_ended(self, entry: TrialEntry) -> None:
        self._free_slot_of(entry)

    def lines(self) -> list[str]:
        """The way to the first step, for the terminal."""
        parts = [f"  {name:24s} {seconds:6.2f} s" for name, seconds in self.parts_s.items()]
        return [f"Timings      {self.start_s:.2f} s from the command to the first training step", *parts]

    def to_record(self) -> dict[str, Any]:
        """For `result.json`: seconds, and MiB of the worker at the end of each trial, in the order of their numbers."""
        return {
            "start_s": self.start_s,
            "start_parts_s": self.parts_s,
            "turn_round_s": statistics.median(self.turn_rounds_s) if self.turn_rounds_s else None,
            "turn_rounds_s": self.turn_rounds_s,
            "resume_s": statistics.median(self.resumes_s) if self.resumes_s else None,
            "resumes_s": self.resumes_s,
            "resident_mib": [self.resident_bytes[number] >> 20 for number in sorted(self.resident_bytes)],
        }

    def _free_slot_of(self, entry: TrialEntry) -> None:
        if (process := self._under_way.pop(entry.number, None)) is None:
            return
        last = entry.reports[max(entry.reports)] if entry.reports else None
        host = last.hostname if last else ""
        self._free_since_s[host][process] = last.ended_at_s if last else time.time()
