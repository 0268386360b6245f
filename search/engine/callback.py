"""Tune's callback: translates the end of trials into the ledger's words."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import TYPE_CHECKING, Any

from ray import tune

from search.core.budget import Budget
from search.core.ledger import Ledger
from search.core.stop import StopReason
from search.engine.lost_workers import LostWorkers, describe_loss, read_last_failure
from search.engine.scheduler import Scheduler
from trainable.report import Outcome, TrialFailure, TrialReport

if TYPE_CHECKING:
    from ray.tune.experiment import Trial as TuneTrial

NUM_FAILURES_TO_END = 5
OWN_RAY_DIED = "its owner has died"
"""Ray's words where it holds this process, which owns all workers, for dead: then no trial is to blame."""

_log = logging.getLogger(__name__)
ReadBest = Callable[[int], Mapping[str, Any] | None]


class TuneEvents(tune.Callback):
    """`read_best(number)` gives the facts of a trial's best checkpoint, None without one. `levels` are the epochs at
    which trials are compared."""

    def __init__(self, ledger: Ledger, budget: Budget, scheduler: Scheduler, read_best: ReadBest) -> None:
        self.ledger = ledger
        self.budget = budget
        self.scheduler = scheduler
        self.levels: Sequence[int] = ()
        self.max_epochs: int | None = None  # of a whole training
        self.read_best = read_best
        self.lost_workers = LostWorkers(partial(budget.stop.ask, StopReason.OUT_OF_MEMORY))
        self.clock: Callable[[], float] = time.monotonic  # Tune goes by one that may be set
        self.held_since_s: dict[int, float] = {}  # what a trial has held its worker for since then is not charged yet
        self.blamed: dict[int, str] = {}  # trials whose worker was ended for what they did, and why

    def on_trial_start(self, iteration: int, trials: Sequence[TuneTrial], trial: TuneTrial, **info: Any) -> None:
        self.held_since_s[trial.config["number"]] = self.clock()

    def on_trial_result(
        self, iteration: int, trials: Sequence[TuneTrial], trial: TuneTrial, result: dict[str, Any], **info: Any
    ) -> None:
        self._charge(trial)
        self.lost_workers.go_on(trial, self.ledger.entries[trial.config["number"]].num_epochs)

    def on_trial_complete(self, iteration: int, trials: Sequence[TuneTrial], trial: TuneTrial, **info: Any) -> None:
        number = trial.config["number"]
        self.end(number, self.scheduler.outcomes.get(number, Outcome.INTERRUPTED))

    def on_trial_recover(self, iteration: int, trials: Sequence[TuneTrial], trial: TuneTrial, **info: Any) -> None:
        number = trial.config["number"]
        self._charge(trial)
        del self.held_since_s[number]
        self.lost_workers.lose(trial, self.ledger.entries[number].num_epochs)
        self.ledger.recover(number)

    def on_trial_error(self, iteration: int, trials: Sequence[TuneTrial], trial: TuneTrial, **info: Any) -> None:
        number = trial.config["number"]
        if OWN_RAY_DIED in read_last_failure(trial.error_file) and number not in self.blamed:
            self.end(number, Outcome.INTERRUPTED)
            return
        error = self.blamed.get(number) or describe_loss(trial.error_file)
        self.ledger.fail(number, TrialFailure(error=error))
        self.end(number, Outcome.FAILED)

    def _charge(self, trial: TuneTrial) -> None:
        """A trial has held its worker since it was asked last."""
        number, now_s = trial.config["number"], self.clock()
        self.budget.charge(now_s - self.held_since_s.get(number, now_s))
        self.held_since_s[number] = now_s

    def blame(self, number: int, why: str) -> None:
        """A trial's worker is about to be ended: the trial has then failed, for this reason."""
        self.blamed[number] = why

    def on_step_end(self, iteration: int, trials: Sequence[TuneTrial], **info: Any) -> None:
        self.ledger.pass_time()

    def end(self, number: int, outcome: Outcome) -> None:
        """Give a trial its outcome; a search whose first trials all fail ends.

        One whose last epoch was noted, but not that it had completed, before a driver or a worker died has completed.
        """
        if outcome in (Outcome.INTERRUPTED, Outcome.FAILED):
            self._recover_last_epoch(number)
        is_whole = self.max_epochs is not None and self.ledger.entries[number].num_epochs >= self.max_epochs
        if is_whole and outcome is not Outcome.FAILED:
            outcome = Outcome.COMPLETED
        self.scheduler.rule.end(number, outcome)
        epochs = self.ledger.entries[number].num_epochs
        rung = max((level for level in self.levels if level <= epochs), default=0)
        self.ledger.end(number, outcome, {"rung": str(rung)})
        num_failed = self.ledger.counts()[Outcome.FAILED]
        if num_failed >= NUM_FAILURES_TO_END and self.ledger.best() is None:
            self.budget.stop.ask(StopReason.ALL_FAILED, f"the first {num_failed} trials all failed")

    def _recover_last_epoch(self, number: int) -> None:
        """A worker ends its epoch while the search ends around it, or dies before it has reported: it may be the best.

        What it kept of it is reported here.
        """
        try:
            facts = self.read_best(number)
        except OSError as error:  # the outcome is written all the same
            _log.warning("trial %d: its last checkpoint cannot be read: %s", number, error)
            return
        if facts is not None and facts["epoch"] > self.ledger.entries[number].num_epochs:
            now_s = time.time()
            late = {key: facts[key] for key in ("epoch", "value", "metrics")}
            self.ledger.report(number, TrialReport(**late, finished=False, began_at_s=now_s, ended_at_s=now_s))

    def __reduce__(self) -> tuple[type[object], tuple[()]]:
        return object, ()
