"""A search that trains a toy with a known optimum: real Ray, real Optuna, our searcher, scheduler and listener."""

from __future__ import annotations

import math
import os
import signal
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

from optuna.trial import TrialState
from ray import tune
from rich.console import Console

from search.core.budget import Budget
from search.core.folder import SearchHome, create_search, reopen_search
from search.core.ledger import Book
from search.engine.callback import Listener
from search.engine.cluster import Cluster
from search.engine.fit import fit
from search.engine.scheduler import Rungs, Scheduler, rung_levels
from search.engine.searcher import OptunaSearcher, Record
from search.observers.progress import Board
from search.observers.timings import Pace
from trainable.checkpoint import CheckpointStore
from trainable.task import locate_trial, read_best


class Toy(tune.Trainable):
    """Its value rises with the epochs towards `height`; `fails_at`, `dies_at` and so on do what they say.

    With `trials_uri` every epoch is its best checkpoint there.
    """

    def setup(self, config: dict[str, Any]) -> None:
        time.sleep(config["params"].get("start_s", 0))
        self.epoch = 0

    def reset_config(self, new_config: dict[str, Any]) -> bool:
        self.epoch = 0
        return True

    def step(self) -> dict[str, Any]:
        params = self.config["params"]
        self.epoch += 1
        if self.epoch == params.get("dies_at"):
            os.kill(os.getpid(), signal.SIGKILL)
        time.sleep(params.get("sleep_s", 0))
        if self.epoch == params.get("fails_at"):
            return {"value": math.nan, "error": f"the loss is nan at epoch {self.epoch}", "traceback": "Traceback"}
        value = params["height"] * self.epoch / (self.epoch + 1)
        if "trials_uri" in params:
            facts = {"epoch": self.epoch, "value": value, "metrics": {"val_auc": value}}
            CheckpointStore(locate_trial(params["trials_uri"], self.config["number"])).save("best", {}, facts)
        return {
            "epoch": self.epoch,
            "value": value,
            "best_value": value,
            "best_epoch": self.epoch,
            "finished": self.epoch == params.get("max_epochs", 9),
            "metrics": {"val_auc": value},
            "timestamp_ms": self.epoch,
            "began_at_s": time.time(),
            "ended_at_s": time.time(),
            "device": "toy",
            "plan": {"precision": "fp32", "memory_format": "contiguous"},
            "plan_key": "toy",
            "memory_tags": {},
            "checkpoint_bytes": {"best": params.get("best_bytes", 1)},
            "resident_bytes": 2**20,
            "timings_s": {},
            "process": os.getpid(),
        }


@dataclass
class Memory:
    """Stands for MLflow: this file is about Tune and Optuna."""

    heard: dict[int, list[int]] = field(default_factory=dict)
    outcomes: dict[int, str] = field(default_factory=dict)
    errors: dict[int, str | None] = field(default_factory=dict)

    def open_trial(self, number: int, params: dict[str, Any], tags: dict[str, str]) -> str:
        return f"run-{number}"

    def adopt_trial(self, number: int, run_id: str) -> None:
        assert run_id == f"run-{number}"

    def hear(self, number: int, epoch: int, timestamp_ms: int, metrics: dict[str, float]) -> None:
        self.heard.setdefault(number, []).append(epoch)

    def close_trial(self, number: int, outcome: str, *, tags: dict[str, str], error: str | None) -> None:
        self.outcomes[number] = outcome
        self.errors[number] = error


@dataclass
class Played:
    record: Record
    book: Book
    budget: Budget
    scheduler: Scheduler
    memory: Memory
    deleted: list[tuple[int, str]]
    started: list[int]
    pace: Pace

    def states(self) -> list[TrialState]:
        return [trial.state for trial in self.record.trials()]


Play = Callable[..., Played]


def play_in(tmp_path: Path, cluster: Cluster) -> Play:
    """What runs a toy search with a space; called twice, the second call resumes the first."""
    homes: list[SearchHome] = []

    def run(
        space: Any,
        *,
        num_trials: int | None = 12,
        slots: int = 2,
        stop_after: int | None = None,
        kept_bytes: float = math.inf,
        place_trial: Callable[[], tune.PlacementGroupFactory] | None = None,
        **limits: Any,
    ) -> Played:
        home = reopen_search(tmp_path, "toy") if homes else create_search(tmp_path, "toy", {})
        homes.append(home)
        record = Record(home.journal_file, sampler="random", seed=1, higher_is_better=True)
        book, memory, deleted, started = Book(), Memory(), [], []
        record.fill(book)
        pace = Pace()
        pace.num_slots = slots
        scheduler = Scheduler(Rungs(rung_levels(9), history=book.history()), place_trial)
        budget = Budget(home.spent_file, devices_per_trial=1, **limits)

        def begin_trial(number: int, params: dict[str, Any], run_id: str | None) -> str:
            started.append(number)
            if stop_after is not None and len(started) > stop_after:
                budget.stop_reason = "enough"
            return listener.begin(number, params, run_id)

        searcher = OptunaSearcher(
            record,
            space,
            num_slots=slots,
            num_trials=num_trials,
            begin_trial=begin_trial,
            outcome_of=scheduler.outcomes.get,
            plans={},
        )
        board = Board(
            Console(quiet=True),
            book,
            budget,
            name="toy",
            metric="auc",
            num_trials=num_trials,
            tracking_url="",
            is_gpu=False,
        )
        listener = Listener(
            home=home,
            book=book,
            budget=budget,
            scheduler=scheduler,
            tracking=memory,  # type: ignore[arg-type]
            board=board,
            pace=pace,
            kept_bytes=kept_bytes,
            plans={},
            trial_tags={},
            delete_checkpoint=lambda number, kind: deleted.append((number, kind)),
            read_best=partial(read_best, str(home.trials)),
        )
        fit(
            Toy,
            searcher=searcher,
            scheduler=scheduler,
            budget=budget,
            listener=listener,
            cluster=cluster,
            home=home,
        )
        home.release()
        return Played(record, book, budget, scheduler, memory, deleted, started, pace)

    return run


def heights(trial: Any) -> dict[str, Any]:
    return {"height": trial.suggest_float("height", 0, 1)}
