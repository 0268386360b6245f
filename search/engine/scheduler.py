"""Tune's scheduler: feeds the ledger and the rule, carries out what the rule says, and decides every outcome.

Of all that Tune calls it gets a result first (tests/search/engine/test_tune_order.py): what it enters into the ledger
is there for all who come after.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from ray.tune.schedulers import TrialScheduler

from search.core.decisions import Resume, Verdict
from search.core.ledger import Ledger
from search.engine.searcher import OptunaSearcher
from trainable.report import Outcome, TrialFailure, TrialReport

if TYPE_CHECKING:
    from ray.tune import PlacementGroupFactory
    from ray.tune.execution.tune_controller import TuneController
    from ray.tune.experiment import Trial


class Scheduler(TrialScheduler):
    """`outcomes` maps a trial's number to its outcome once it has one. `give_up(why)` ends a search whose storage is
    lost: its trials are interrupted, and none has failed.

    `place_trial` says anew for every trial that is added or goes on elsewhere where it may run. A trial that pauses
    keeps its own checkpoint, not one of Tune's: pausing gives its worker away and nothing else.
    """

    _supports_buffered_results = False

    def __init__(
        self,
        ledger: Ledger,
        searcher: OptunaSearcher,
        place_trial: Callable[[], PlacementGroupFactory] | None = None,
    ) -> None:
        super().__init__()
        self.ledger = ledger
        self.searcher = searcher
        self.rule = searcher.rule
        self.place_trial = place_trial
        self.outcomes: dict[int, Outcome] = {}
        self.chosen: set[int] = set()  # of the trials that wait for a worker
        self.pausing: list[Trial] = []
        self.give_up: Callable[[str], object] = lambda why: None

    def on_trial_add(self, tune_controller: TuneController, trial: Trial) -> None:
        """A new trial, or one whose worker was lost and that goes on elsewhere."""
        self.outcomes.pop(trial.config["number"], None)
        self.chosen.discard(trial.config["number"])
        self._place(trial)

    def on_trial_result(self, tune_controller: TuneController, trial: Trial, result: dict[str, Any]) -> str:
        number, report = trial.config["number"], TrialReport.from_result(result)
        if isinstance(report, TrialFailure) and report.lost_storage:
            self.outcomes[number] = Outcome.INTERRUPTED
            self.give_up(report.error)
            return TrialScheduler.STOP
        if isinstance(report, TrialFailure):
            self.ledger.fail(number, report)
            self.outcomes[number] = Outcome.FAILED
            return TrialScheduler.STOP
        is_new = self.ledger.report(number, report)
        seconds = report.ended_at_s - report.began_at_s if is_new else None
        verdict = self.rule.report(number, report.epoch, report.value, report.standard_error, seconds)
        if report.finished:
            self.outcomes[number] = Outcome.COMPLETED
        elif verdict is Verdict.STOP or number in self.searcher.to_stop:
            self.outcomes[number] = Outcome.STOPPED
        elif verdict is Verdict.PAUSE and not self._goes_on(number):
            self.pausing.append(trial)
            self.ledger.pause(number)
            return TrialScheduler.NOOP
        return TrialScheduler.STOP if number in self.outcomes else TrialScheduler.CONTINUE

    def _goes_on(self, number: int) -> bool:
        """Whether a trial that could pause is itself what its worker does next; else that is kept for the searcher."""
        decision = self.searcher.decide()
        if isinstance(decision, Resume) and decision.number == number:
            return True
        if decision is not None:
            self.searcher.decided.append(decision)
        return False

    def on_trial_error(self, tune_controller: TuneController, trial: Trial) -> None:
        """A failure, or a lost worker: then the trial is queued again, for where it may run now."""
        self.outcomes[trial.config["number"]] = Outcome.FAILED
        self._place(trial)

    def on_trial_complete(self, tune_controller: TuneController, trial: Trial, result: dict[str, Any]) -> None:
        self.outcomes.setdefault(trial.config["number"], Outcome.INTERRUPTED)

    def on_trial_remove(self, tune_controller: TuneController, trial: Trial) -> None:
        self.outcomes.setdefault(trial.config["number"], Outcome.INTERRUPTED)

    def choose_trial_to_run(self, tune_controller: TuneController) -> Trial | None:
        """A paused trial that goes on, else one that waits and has not been chosen yet, the first of them.

        Tune asks at every step, and would end the worker that starts for a trial which is chosen once more as soon as
        another worker is free: where trials are shorter than that start, one slot would do all the work.
        """
        while self.pausing:
            tune_controller.pause_trial(self.pausing.pop(), should_checkpoint=False)
        live = tune_controller.get_live_trials()
        for trial in [trial for trial in live if trial.config["number"] in self.searcher.to_stop]:
            if trial.status == trial.PAUSED:
                self.outcomes[trial.config["number"]] = Outcome.STOPPED
                tune_controller.stop_trial(trial)
        for trial in live:
            number = trial.config["number"]
            if trial.status == trial.PAUSED and number in self.searcher.to_resume:
                self.searcher.to_resume.discard(number)
                self.chosen.add(number)
                return trial
        waiting = [trial for trial in live if trial.status == trial.PENDING]
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
        return type(self.rule).__name__

    def __reduce__(self) -> tuple[type[object], tuple[()]]:
        return object, ()
