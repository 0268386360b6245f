"""FirstEpoch: ends a search early in which no epoch can end within its time, and says what would have to change"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

from ray import tune

from search.core.budget import Budget
from search.core.describe import format_duration
from search.core.ledger import Ledger
from search.core.stop import StopReason
from trainable.pace import Pace

if TYPE_CHECKING:
    from ray.tune.experiment import Trial as TuneTrial

FIRST_LOOK_S, LOOK_S = 60.0, 10.0
MARGIN = 1.25
"""A pace is measured on a machine that may be busy for a while: the time must be too short by this factor."""


class FirstEpoch(tune.Callback):
    """Looks, while no trial of the search has ended an epoch, at the paces that its running trials have noted.

    From a minute after the first trial began on: where every trial that runs needs more time for its first epoch than
    the search has left, the search ends with `NO_EPOCH`. `read_pace(number)` gives what a trial has noted; `clock`
    gives seconds.
    """

    def __init__(
        self,
        ledger: Ledger,
        budget: Budget,
        read_pace: Callable[[int], Pace | None],
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self.ledger = ledger
        self.budget = budget
        self.read_pace = read_pace
        self.clock = clock
        self.next_look_s: float | None = None
        self.seen: dict[int, tuple[Pace, float]] = {}  # by trial, and when: the worker's clock is another one

    def on_step_end(self, iteration: int, trials: Sequence[TuneTrial], **info: Any) -> None:
        running = [trial.config["number"] for trial in trials if trial.status == trial.RUNNING]
        if not running or self.budget.time_budget_s is None or any(e.values for e in self.ledger.entries.values()):
            return
        if self.next_look_s is None:
            self.next_look_s = self.clock() + FIRST_LOOK_S
        if self.clock() < self.next_look_s:
            return
        self.next_look_s = self.clock() + LOOK_S
        paces = {number: self.read_pace(number) for number in running}
        left_s = self.budget.time_budget_s - self.budget.wall_s
        if all(pace is not None and self._left_s(number, pace) > MARGIN * left_s for number, pace in paces.items()):
            self.budget.stop.ask(StopReason.NO_EPOCH, self._describe(paces))

    def _left_s(self, number: int, pace: Pace) -> float:
        """What the epoch of a trial still takes, at most: a note may be older than when it was seen first."""
        if number not in self.seen or self.seen[number][0] != pace:
            self.seen[number] = pace, self.clock()
        return pace.left_s(self.clock() - self.seen[number][1])

    def _describe(self, paces: dict[int, Pace | None]) -> str:
        """Such as "no epoch can end within the budget: one of resnet50 takes 9 min here"."""
        known = {number: pace.epoch_s for number, pace in paces.items() if pace is not None}
        fastest = min(known, key=lambda number: known[number])
        model = self.ledger.entries[fastest].params.get("architecture", "a trial")
        assert self.budget.time_budget_s is not None
        return (
            f"{StopReason.NO_EPOCH.value}: one of {model} takes about {format_duration(known[fastest])} here, and the "
            f"time budget is {format_duration(self.budget.time_budget_s)}; give a larger --time-budget, fewer pixels "
            "(--image-size) or a faster architecture (--arch; `ctsearch models` lists what each costs)"
        )

    def __reduce__(self) -> tuple[type[object], tuple[()]]:
        return object, ()
