"""A search that trains a toy with a known optimum: real Ray, real Optuna, `run_trials` as in a real search."""

from __future__ import annotations

import math
import os
import signal
import threading
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import Any

from optuna.trial import TrialState
from ray import tune

from search.core.budget import Budget
from search.core.events import Observer
from search.core.folder import SearchFolder, create_search, reopen_search
from search.core.freeze_thaw import FreezeThaw
from search.core.ledger import Ledger, TrialEntry
from search.core.promotion import Promotion
from search.core.rungs import Rungs, rung_levels
from search.core.stop import StopReason
from search.core.stopping import Stopping
from search.engine.cluster import Cluster
from search.engine.fit import TrialPlan, run_trials
from search.engine.steered import Steered
from search.engine.study import Study
from search.observers.checkpoints import CheckpointKeeper
from search.observers.timings import Timings
from trainable.checkpoint import CheckpointStore
from trainable.report import Direction, Outcome, TrialFailure, TrialReport
from trainable.task import locate_trial, read_best


class Toy(tune.Trainable):
    """Its value rises with the epochs towards `height`; `fails_at`, `dies_at`, `hangs_at` and so on do what
    they say; with `dies_each` it dies once before every epoch, at `loses_storage_at` it has waited for that in vain;
    a worker that comes from another trial dies on its way to the first one with `dies_at_reset`, once.

    With `trials_uri` every epoch is its best checkpoint there; that of `hides_at` is written, and never reported.
    """

    def setup(self, config: dict[str, Any]) -> None:
        time.sleep(config["params"].get("start_s", 0))
        self.epoch = 0

    def reset_config(self, new_config: dict[str, Any]) -> bool:
        if (mark := new_config["params"].get("dies_at_reset")) and not Path(mark).exists():
            Path(mark).touch()
            os.kill(os.getpid(), signal.SIGKILL)
        self.epoch = 0
        return True

    def go_on(self) -> int:
        """With `goes_on`, the epoch of the best checkpoint; its report is repeated, as a real trial's is."""
        params = self.config["params"]
        found = read_best(params["trials_uri"], self.config["number"]) if params.get("goes_on") else None
        return found["epoch"] - 1 if found else 0

    def step(self) -> dict[str, Any]:
        params = self.config["params"]
        self.epoch = (self.epoch or self.go_on()) + 1
        if self.epoch == params.get("dies_at"):
            os.kill(os.getpid(), signal.SIGKILL)
        if params.get("dies_each"):
            mark = Path(params["trials_uri"], f"died-{self.config['number']}-{self.epoch}")
            if not mark.exists():
                mark.touch()
                os.kill(os.getpid(), signal.SIGKILL)
        if self.epoch == params.get("loses_storage_at"):
            return TrialFailure(error="the storage has been away for 300 s", lost_storage=True).to_result()
        if self.epoch == params.get("hangs_at"):
            Path(params["hung_file"]).touch()
            if params.get("stops"):
                os.kill(os.getpid(), signal.SIGSTOP)
            threading.Event().wait()
        time.sleep(params.get("sleep_s", 0))
        if self.epoch == params.get("fails_at"):
            return TrialFailure(error=f"the loss is nan at epoch {self.epoch}", traceback="Traceback").to_result()
        value = params["height"] * self.epoch / (self.epoch + 1)
        if "trials_uri" in params:
            facts = {"epoch": self.epoch, "value": value, "metrics": {"val_auc": value}}
            CheckpointStore(locate_trial(params["trials_uri"], self.config["number"])).save("best", {}, facts)
        if self.epoch == params.get("hides_at"):
            Path(params["trials_uri"], "hidden").touch()
            time.sleep(5)  # the search ends meanwhile
        return TrialReport(
            epoch=self.epoch,
            value=value,
            finished=self.epoch == params.get("max_epochs", 9),
            metrics={"val_auc": value},
            began_at_s=time.time(),
            ended_at_s=time.time(),
            checkpoint_bytes={"best": params.get("best_bytes", 1)},
            resident_bytes=2**20,
        ).to_result()


@dataclass
class Memory(Observer):
    """What an observer reported of a search: this file is about Tune and Optuna, so it stands for MLflow."""

    reported: dict[int, list[int]] = field(default_factory=dict)
    outcomes: dict[int, Outcome] = field(default_factory=dict)
    errors: dict[int, str | None] = field(default_factory=dict)
    started: list[int] = field(default_factory=list)
    processes: set[int] = field(default_factory=set)

    def trial_began(self, entry: TrialEntry) -> None:
        assert entry.run_id in (None, f"run-{entry.number}")
        entry.run_id = f"run-{entry.number}"
        self.started.append(entry.number)

    def epoch_reported(self, entry: TrialEntry, report: TrialReport) -> None:
        self.reported.setdefault(entry.number, []).append(report.epoch)
        self.processes.add(report.pid)

    def trial_ended(self, entry: TrialEntry) -> None:
        assert entry.outcome is not None
        self.outcomes[entry.number] = entry.outcome
        self.errors[entry.number] = entry.traceback or entry.error


class EndWhen(Observer):
    """Asks for the end when a file is there."""

    def __init__(self, budget: Budget, file: Path) -> None:
        self.budget = budget
        self.file = file

    def time_passed(self) -> None:
        if self.file.exists():
            self.budget.stop.ask(StopReason.REQUESTED)


class EndAfter(Observer):
    """Asks for the end when more than so many trials have begun."""

    def __init__(self, budget: Budget, num_trials: int, reason: StopReason) -> None:
        self.budget = budget
        self.num_left = num_trials
        self.reason = reason

    def trial_began(self, entry: TrialEntry) -> None:
        self.num_left -= 1
        if self.num_left < 0:
            self.budget.stop.ask(self.reason)


@dataclass
class Played:
    study: Study
    ledger: Ledger
    budget: Budget
    rule: Stopping | Promotion | FreezeThaw
    memory: Memory
    deleted: list[tuple[int, str]]
    timings: Timings
    reason: StopReason
    noted: list[Mapping[str, Any]]

    @property
    def started(self) -> list[int]:
        return self.memory.started

    def states(self) -> list[TrialState]:
        return [trial.state for trial in self.study.trials()]


Play = Callable[..., Played]


def play_in(tmp_path: Path, cluster: Cluster) -> Play:
    """What runs a toy search with a space; called twice, the second call resumes the first."""
    folders: list[SearchFolder] = []

    def run(
        space: Any,
        *,
        num_trials: int | None = 12,
        slots: int = 2,
        stop_after: int | None = None,
        stop_reason: StopReason = StopReason.REQUESTED,
        paused_bytes: float = math.inf,
        stop_when: Path | None = None,
        build_rule: Callable[[Ledger], Any] | None = None,
        kept_bytes: float = math.inf,
        observers: Callable[[Ledger], list[Observer]] = lambda ledger: [],
        place_trial: Callable[[], tune.PlacementGroupFactory] | None = None,
        timeout_s: float | None = None,
        watches: Callable[[Ledger, Budget], list[Any]] = lambda ledger, budget: [],
        **limits: Any,
    ) -> Played:
        folder = reopen_search(tmp_path, "toy") if folders else create_search(tmp_path, "toy", {})
        folders.append(folder)
        study = Study(folder.journal_file, sampler="random", seed=1, direction=Direction.MAXIMIZE)
        noted: list[Mapping[str, Any]] = []
        ledger, memory, deleted, timings = Ledger(), Memory(), list[tuple[int, str]](), Timings()
        study.restore(ledger)
        timings.num_slots = slots
        budget = Budget(folder.spent_file, **limits)
        keeper = CheckpointKeeper(ledger, lambda number, kind: deleted.append((number, kind)), kept_bytes)
        ledger.observers = (study, memory, timings, keeper, *observers(ledger))
        if stop_when is not None:
            ledger.observers = (*ledger.observers, EndWhen(budget, stop_when))
        if stop_after is not None:
            ledger.observers = (*ledger.observers, EndAfter(budget, stop_after, stop_reason))
        keeper.paused_bytes = paused_bytes
        rule = build_rule(ledger) if build_rule else Stopping(Rungs(rung_levels(9)), 9)
        keeper.forget = rule.forget
        plan = TrialPlan(
            trainable=Toy,
            space=space,
            study=study,
            rule=rule,
            levels=(1, 3, 9),
            max_epochs=9,
            budget=budget,
            num_trials=num_trials,
            read_best=partial(read_best, str(folder.trials)),
            timeout_s=timeout_s,
        )
        own = replace(cluster, num_slots=slots) if place_trial is None else Placed(cluster, slots, place_trial)
        steered = partial(Steered, folder.folder, budget=budget, note=noted.append, say=lambda lines: None)
        further = [partial(give, watch) for watch in watches(ledger, budget)]
        try:
            reason = run_trials(plan, ledger, own, folder.folder, [steered, *further])
        finally:
            folder.release()
        return Played(study, ledger, budget, rule, memory, deleted, timings, reason, noted)

    return run


def give(watch: Any, searcher: Any) -> Any:
    """A callback that needs no searcher."""
    return watch


class Placed(Cluster):
    """A cluster whose trials are placed by a function of the test's."""

    def __init__(self, cluster: Cluster, slots: int, place: Callable[[], tune.PlacementGroupFactory]) -> None:
        super().__init__(**{**vars(cluster), "num_slots": slots})
        object.__setattr__(self, "place", place)

    def place_trial(self) -> tune.PlacementGroupFactory:
        return self.place()  # type: ignore[attr-defined]


def heights(trial: Any) -> dict[str, Any]:
    return {"height": trial.suggest_float("height", 0, 1)}
