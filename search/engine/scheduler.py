"""ASHA: a pure rule over rungs, and the Tune scheduler that applies it and decides every trial's outcome.

Asynchronous successive halving as in Li et al. 2020, "A System for Massively Parallel Hyperparameter Tuning"
(arXiv:1810.05934), in its stopping form: at a rung a trial goes on if it is among the best 1/reduction_factor
of those that have reached this rung so far.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from statistics import fmean
from typing import TYPE_CHECKING, Any

from ray.tune.schedulers import TrialScheduler

if TYPE_CHECKING:
    from ray.tune import PlacementGroupFactory
    from ray.tune.execution.tune_controller import TuneController
    from ray.tune.experiment import Trial

COMPLETED, STOPPED, FAILED, INTERRUPTED = OUTCOMES = ("completed", "stopped", "failed", "interrupted")


def rung_levels(max_epochs: int, *, first: int = 1, reduction_factor: int = 3) -> tuple[int, ...]:
    """Epoch counts at which trials are compared: first * reduction_factor ** k, all below `max_epochs`."""
    if first < 1 or reduction_factor < 2:
        raise ValueError(
            f"first rung {first}, reduction factor {reduction_factor}; they must be at least 1 and at least 2"
        )
    levels = []
    level = first
    while level < max_epochs:
        levels.append(level)
        level *= reduction_factor
    return tuple(levels)


class Rungs:
    """What each trial had to show when it came to each rung: its mean value since the rung before.

    A mean, since one epoch's value on a small validation split is noise; and nobody is judged before
    `reduction_factor` trials have come: benchmarks/rung_rules.py measures both. `history` rebuilds the rungs of an
    earlier session from (trial, epoch, value) in any order.
    """

    def __init__(
        self,
        levels: Iterable[int],
        *,
        reduction_factor: int = 3,
        higher_is_better: bool = True,
        history: Iterable[tuple[int, int, float]] = (),
    ) -> None:
        self.reduction_factor = reduction_factor
        self.sign = 1.0 if higher_is_better else -1.0
        self.records: dict[int, dict[int, float]] = {level: {} for level in sorted(levels)}
        self.previous = dict(zip(self.records, (0, *self.records), strict=False))
        self.values: dict[int, dict[int, float]] = {}
        for number, epoch, value in sorted(history, key=lambda entry: entry[:2]):
            self.record(number, epoch, value)

    def record(self, number: int, epoch: int, value: float) -> bool:
        """Note a value, of an epoch the first; True if it brings the trial to a rung for the first time."""
        values = self.values.setdefault(number, {})
        values.setdefault(epoch, self.sign * value)
        rung = self.records.get(epoch)
        if rung is None or number in rung:
            return False
        rung[number] = fmean(value for at, value in values.items() if self.previous[epoch] < at <= epoch)
        return True

    def keeps(self, number: int, epoch: int) -> bool:
        """Whether the trial is among the best 1/reduction_factor at this rung; ties stay, and so do the first."""
        rung = self.records[epoch]
        num_better = sum(value > rung[number] for value in rung.values())
        return len(rung) < self.reduction_factor or num_better < len(rung) // self.reduction_factor

    def goes_on(self, number: int, epoch: int, value: float) -> bool:
        """Decide at a report. A trial is judged once a rung: what it repeats after a resume changes nothing."""
        return not self.record(number, epoch, value) or self.keeps(number, epoch)

    @property
    def num_at_last(self) -> int:
        """How many trials have reached the last rung."""
        return len(self.records[max(self.records)]) if self.records else 0

    def rung_of(self, number: int) -> int:
        """The highest rung that the trial has reached, 0 before the first."""
        return max((level for level, rung in self.records.items() if number in rung), default=0)


class Scheduler(TrialScheduler):
    """Tune's view of the rungs. `outcomes` maps a trial's number to its outcome once it has one.

    `place_trial` says anew for every trial that is added or goes on elsewhere where it may run.
    """

    _supports_buffered_results = False

    def __init__(self, rungs: Rungs, place_trial: Callable[[], PlacementGroupFactory] | None = None) -> None:
        super().__init__()
        self.rungs = rungs
        self.place_trial = place_trial
        self.outcomes: dict[int, str] = {}
        self.chosen: set[int] = set()  # of the trials that wait for a worker

    def on_trial_add(self, tune_controller: TuneController, trial: Trial) -> None:
        """A new trial, or one whose worker was lost and that goes on elsewhere."""
        self.outcomes.pop(trial.config["number"], None)
        self.chosen.discard(trial.config["number"])
        self._place(trial)

    def on_trial_result(self, tune_controller: TuneController, trial: Trial, result: dict[str, Any]) -> str:
        number = trial.config["number"]
        if "error" in result:
            self.outcomes[number] = FAILED
            return TrialScheduler.STOP
        epoch = result["epoch"]
        goes_on = self.rungs.goes_on(number, epoch, result["value"])
        if result["finished"]:
            self.outcomes[number] = COMPLETED
        elif not goes_on:
            self.outcomes[number] = STOPPED
        return TrialScheduler.STOP if number in self.outcomes else TrialScheduler.CONTINUE

    def on_trial_error(self, tune_controller: TuneController, trial: Trial) -> None:
        """A failure, or a lost worker: then the trial is queued again, for where it may run now."""
        self.outcomes[trial.config["number"]] = FAILED
        self._place(trial)

    def on_trial_complete(self, tune_controller: TuneController, trial: Trial, result: dict[str, Any]) -> None:
        self.outcomes.setdefault(trial.config["number"], INTERRUPTED)

    def on_trial_remove(self, tune_controller: TuneController, trial: Trial) -> None:
        self.outcomes.setdefault(trial.config["number"], INTERRUPTED)

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
