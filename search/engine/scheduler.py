"""Tune's scheduler: feeds the ledger, applies the rungs, and decides every trial's outcome.

Of Tune's listeners it hears of a result first (tests/search/engine/test_tune_order.py): what it enters into the ledger
is there for all who come after.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from ray.tune.schedulers import TrialScheduler

from search.core.ledger import Ledger
from search.core.rungs import Rungs
from trainable.report import Outcome, TrialFailure, TrialReport

if TYPE_CHECKING:
    from ray.tune import PlacementGroupFactory
    from ray.tune.execution.tune_controller import TuneController
    from ray.tune.experiment import Trial


class Scheduler(TrialScheduler):
    """`outcomes` maps a trial's number to its outcome once it has one.

    `place_trial` says anew for every trial that is added or goes on elsewhere where it may run.
    """

    _supports_buffered_results = False

    def __init__(
        self, ledger: Ledger, rungs: Rungs, place_trial: Callable[[], PlacementGroupFactory] | None = None
    ) -> None:
        super().__init__()
        self.ledger = ledger
        self.rungs = rungs
        self.place_trial = place_trial
        self.outcomes: dict[int, Outcome] = {}
        self.chosen: set[int] = set()  # of the trials that wait for a worker

    def on_trial_add(self, tune_controller: TuneController, trial: Trial) -> None:
        """A new trial, or one whose worker was lost and that goes on elsewhere."""
        self.outcomes.pop(trial.config["number"], None)
        self.chosen.discard(trial.config["number"])
        self._place(trial)

    def on_trial_result(self, tune_controller: TuneController, trial: Trial, result: dict[str, Any]) -> str:
        number, report = trial.config["number"], TrialReport.from_result(result)
        if isinstance(report, TrialFailure):
            self.ledger.fail(number, report)
            self.outcomes[number] = Outcome.FAILED
            return TrialScheduler.STOP
        self.ledger.report(number, report)
        goes_on = self.rungs.goes_on(number, report.epoch, self.ledger.entries[number].values)
        if report.finished:
            self.outcomes[number] = Outcome.COMPLETED
        elif not goes_on:
            self.outcomes[number] = Outcome.STOPPED
        return TrialScheduler.STOP if number in self.outcomes else TrialScheduler.CONTINUE

    def on_trial_error(self, tune_controller: TuneController, trial: Trial) -> None:
        """A failure, or a lost worker: then the trial is queued again, for where it may run now."""
        self.outcomes[trial.config["number"]] = Outcome.FAILED
        self._place(trial)

    def on_trial_complete(self, tune_controller: TuneController, trial: Trial, result: dict[str, Any]) -> None:
        self.outcomes.setdefault(trial.config["number"], Outcome.INTERRUPTED)

    def on_trial_remove(self, tune_controller: TuneController, trial: Trial) -> None:
        self.outcomes.setdefault(trial.config["number"], Outcome.INTERRUPTED)

    def choose_trial_to_run(self, tune_controller: TuneController) -> Trial | None:
        """A trial that has not been chosen yet, the first of them.

        Tune asks at every step, and would end the worker that starts for a trial which is chosen once more as soon as
        another worker is free: where trials are shorter than that start, one slot would do all the work.
        """
        waiting = [trial for trial in tune_controller.get_live_trials() if trial.status == trial.PENDING]
        fresh = [trial for trial in waiting if trial.config["number"] not in self.chosen]
        if not fresh:
            return None
        trial = min(fresh, key=lambda trial: trial.config["number"])
        self.chosen.add(trial.config["number"])
        return trial

    def _place(self, trial: Trial) -> None:
        if self.place_trial is None or trial.status == trial.RUNNING:
            return
        if (place := self.place_trial()) != trial.placement_group_factory:
            trial.update_resources(place)

    def debug_string(self) -> str:
        return "ASHA, " + ", ".join(f"rung {level}: {len(rung)}" for level, rung in self.rungs.records.items())

    def __reduce__(self) -> tuple[type[object], tuple[()]]:
        return object, ()
