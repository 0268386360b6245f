"""The simulated clock: W workers train configurations of a table, and a contender decides for each that is free."""

from __future__ import annotations

import heapq
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from benchmarks.curve_tables import CurveTable
from search.core.decisions import New, Resume, Rule, Verdict

Array = NDArray[np.float64]


class Proposer(Protocol):
    """Where new configurations come from when the rule has none of its own; it gets what became of them."""

    free: NDArray[np.bool_]
    """Which rows no trial has yet; the clock keeps it."""

    def propose(self, number: int) -> int:
        """A free row of the table."""
        ...

    def adopt(self, number: int, row: int) -> None:
        """The rule itself chose this row."""
        ...

    def report(self, number: int, epoch: int, value: float) -> None: ...

    def pause(self, number: int) -> None: ...

    def end(self, number: int, *, is_complete: bool) -> None: ...


@dataclass(frozen=True)
class Trace:
    """What a search had to show: from `seconds` (k) of the clock on, the true value (k) of what it would hand over."""

    seconds: Array
    values: Array
    num_trials: int
    num_epochs: int
    busy_s: float = 0.0  # of all workers
    rows: Mapping[int, int] = field(default_factory=dict)  # a trial's row of the table

    def regrets_at(self, seconds: Array) -> Array:
        """1 - value at each time: 0 is the table's best, 1 its median start, which is what nobody is worse than."""
        places = np.searchsorted(self.seconds, seconds, side="right")
        return 1.0 - np.concatenate([[0.0], np.clip(self.values, 0.0, 1.0)])[places]


def noisy(table: CurveTable, noise: float, seed: int) -> Array:
    """What is seen: values with independent normal noise of this standard deviation, the same for every contender."""
    return table.values + noise * np.random.default_rng((seed, 7)).standard_normal(table.values.shape)


def simulate(
    table: CurveTable,
    rule: Rule,
    proposer: Proposer,
    *,
    num_workers: int,
    seen: Array,
    seconds: float,
    tick: Callable[[float], object] = lambda now: None,
) -> Trace:
    """One search of so many seconds of the clock. What it hands over has the best value seen so far.

    `tick` hears the time before every decision.
    """
    search = _Search(table, rule, proposer, seen)
    events: list[tuple[float, int, int]] = []  # when an epoch ends, on which worker, of which trial

    def start(worker: int, now: float, just_paused: int | None = None) -> bool:
        tick(now)
        number = search.next_trial(just_paused)
        if number is None:
            return False
        heapq.heappush(events, (now + table.seconds[search.rows[number]], worker, number))
        return True

    idle = [worker for worker in range(num_workers) if not start(worker, 0.0)]
    while events and events[0][0] <= seconds:
        now, worker, number = heapq.heappop(events)
        if search.train_epoch(number, now):
            heapq.heappush(events, (now + table.seconds[search.rows[number]], worker, number))
            continue
        idle = [free for free in [worker, *idle] if not start(free, now, number)]
    return Trace(
        np.array(search.times), np.array(search.best), len(search.rows), search.num_epochs, search.busy_s, search.rows
    )


class _Search:
    def __init__(self, table: CurveTable, rule: Rule, proposer: Proposer, seen: Array) -> None:
        self.table, self.rule, self.proposer, self.seen = table, rule, proposer, seen
        self.free = proposer.free = np.ones(len(table.params), dtype=bool)
        self.rows: dict[int, int] = {}
        self.epochs: dict[int, int] = {}
        self.best_seen = -np.inf
        self.times: list[float] = []
        self.best: list[float] = []
        self.num_epochs = 0
        self.busy_s = 0.0

    def next_trial(self, just_paused: int | None) -> int | None:
        decision = self.rule.next(may_begin=bool(self.free.any()))
        if isinstance(decision, Resume):
            return decision.number
        if not isinstance(decision, New):
            return None
        number = len(self.rows)
        row = self._row_of(number, decision.params)
        self.free[row] = False
        self.rows[number], self.epochs[number] = row, 0
        self.rule.begin(number, self.table.params[row])
        return number

    def _row_of(self, number: int, params: Mapping[str, Any] | None) -> int:
        if params is None:
            return self.proposer.propose(number)
        row = self.table.nearest(params, self.free)
        self.proposer.adopt(number, row)
        return row

    def train_epoch(self, number: int, now: float) -> bool:
        """Whether the trial goes on with its next epoch at once."""
        row, epoch = self.rows[number], self.epochs[number] + 1
        self.epochs[number] = epoch
        self.num_epochs += 1
        self.busy_s += float(self.table.seconds[row])
        value = float(self.seen[row, epoch - 1])
        if value > self.best_seen:
            self.best_seen = value
            self.times.append(now)
            self.best.append(float(self.table.values[row, epoch - 1]))
        self.proposer.report(number, epoch, value)
        verdict = self.rule.report(number, epoch, value, None, float(self.table.seconds[row]))
        is_complete = epoch >= self.table.lengths[row]
        if is_complete or verdict is Verdict.STOP:
            self.rule.end(number, "completed" if is_complete else "stopped")
            self.proposer.end(number, is_complete=is_complete)
        elif verdict is Verdict.PAUSE:
            self.proposer.pause(number)
        return verdict is Verdict.CONTINUE and not is_complete
