"""Real Ray, real Optuna, our searcher, scheduler and listener; only the training is a toy with a known optimum."""

from __future__ import annotations

import math
import os
import signal
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
from optuna.trial import TrialState
from ray import tune
from rich.console import Console

from search.book import Book
from search.budget import Budget
from search.cluster import Cluster
from search.fit import fit
from search.home import SearchHome, create_search, reopen_search
from search.listener import Listener
from search.pace import Pace
from search.scheduler import Rungs, Scheduler, rung_levels
from search.searcher import OptunaSearcher, Record
from search.terminal import Board


class Toy(tune.Trainable):
    """Its value rises with the epochs towards `height`; `fails_at`, `dies_at` and so on do what they say."""

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


@pytest.fixture
def play(cluster: Cluster, tmp_path: Path) -> Play:
    """Run a toy search with `space`; called twice, the second call resumes the first."""
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


def test_every_trial_ends_as_completed_or_stopped_and_optuna_knows(play: Play) -> None:
    played = play(heights)
    assert len(played.states()) == 12
    assert set(played.memory.outcomes.values()) == {"completed", "stopped"}
    for trial in played.record.trials():
        outcome = played.memory.outcomes[trial.number]
        assert trial.state == {"completed": TrialState.COMPLETE, "stopped": TrialState.PRUNED}[outcome]
        last = max(trial.intermediate_values)
        assert last in ((9,) if outcome == "completed" else (1, 3))
        assert sorted(trial.intermediate_values) == list(range(1, last + 1)) == played.memory.heard[trial.number]
        if outcome == "completed":
            assert trial.value == pytest.approx(trial.params["height"] * 0.9)


def test_every_slot_works_where_trials_are_shorter_than_the_start_of_a_worker(play: Play) -> None:
    def space(trial: Any) -> dict[str, Any]:
        return {**heights(trial), "start_s": 2.0, "sleep_s": 0.1, "max_epochs": 1}

    played = play(space, num_trials=50)
    num_first_of_a_process = 50 - len(played.pace.turn_rounds_s)
    assert num_first_of_a_process == 2


def test_trials_that_come_or_lose_their_worker_later_keep_off_nodes_that_are_left_out_by_then(play: Play) -> None:
    left_out = {"f" * 56}
    places: list[dict[str, str]] = []

    def place_trial() -> tune.PlacementGroupFactory:
        if len(places) > 8:
            left_out.add("e" * 56)
        elsewhere = {"ray.io/node-id": f"!in({','.join(sorted(left_out))})"}
        places.append(elsewhere)
        return tune.PlacementGroupFactory([{"CPU": 1}], strategy="STRICT_PACK", bundle_label_selector=[elsewhere])

    def space(trial: Any) -> dict[str, Any]:
        is_third = trial.number == 3
        return {"height": 100 if is_third else 1 + trial.number, "dies_at": 5 if is_third else None}

    played = play(space, num_trials=8, place_trial=place_trial)
    assert len(left_out) == 2
    assert [outcome == "failed" for _, outcome in sorted(played.memory.outcomes.items())] == [n == 3 for n in range(8)]


def test_the_best_trial_is_never_stopped_and_keeps_its_checkpoint(play: Play) -> None:
    played = play(heights)
    best = played.book.ranked()[0]
    highest = max(played.record.trials(), key=lambda trial: trial.params["height"])
    assert best.number == highest.number
    assert best.outcome == "completed"
    assert (best.number, "best") not in played.deleted
    assert (best.number, "newest") in played.deleted
    kept = {entry.number for entry in played.book.ranked()[:5]}
    assert kept.isdisjoint(number for number, kind in played.deleted if kind == "best")


def test_a_failing_trial_fails_alone(play: Play) -> None:
    def space(trial: Any) -> dict[str, Any]:
        return {
            **heights(trial),
            "fails_at": 2 if trial.number in (0, 3) else None,
            "height": 1.0 + trial.number,
        }

    played = play(space, num_trials=6)
    assert {number for number, outcome in played.memory.outcomes.items() if outcome == "failed"} == {0, 3}
    assert played.memory.errors[0] == "Traceback"
    assert played.book.entries[0].error == "the loss is nan at epoch 2"
    assert played.states()[3] == TrialState.FAIL
    assert played.states()[5] == TrialState.COMPLETE


def test_a_trial_that_kills_every_worker_fails_and_the_search_goes_on(play: Play) -> None:
    def space(trial: Any) -> dict[str, Any]:
        return {**heights(trial), "dies_at": 2 if trial.number == 1 else None}

    played = play(space, num_trials=3)
    assert played.memory.outcomes[1] == "failed"
    assert "died again and again" in str(played.memory.errors[1])
    assert played.states()[1] == TrialState.FAIL
    assert {played.memory.outcomes[number] for number in (0, 2)} <= {"completed", "stopped"}


def test_a_search_whose_first_trials_all_fail_ends(play: Play) -> None:
    def space(trial: Any) -> dict[str, Any]:
        return {**heights(trial), "fails_at": 1}

    played = play(space, num_trials=40)
    assert played.budget.stop_reason is not None
    assert "all failed" in played.budget.stop_reason
    assert len(played.states()) < 12


def test_trials_around_which_the_search_ends_wait_and_go_on_first(play: Play) -> None:
    def space(trial: Any) -> dict[str, Any]:
        return {**heights(trial), "sleep_s": 0.05}

    first = play(space, num_trials=8, stop_after=4)
    waiting = [number for number, state in enumerate(first.states()) if state == TrialState.WAITING]
    assert waiting
    assert {number for number, outcome in first.memory.outcomes.items() if outcome == "interrupted"} == set(waiting)
    before = {trial.number: trial.params for trial in first.record.trials()}
    second = play(space, num_trials=8)
    assert second.started[: len(waiting)] == waiting
    assert len(second.states()) == 8
    assert all(state in (TrialState.COMPLETE, TrialState.PRUNED) for state in second.states())
    after = {trial.number: trial.params for trial in second.record.trials()}
    assert before.items() <= after.items()


def test_a_resumed_search_keeps_rungs_and_spent_budget(play: Play) -> None:
    first = play(heights, num_trials=5)
    second = play(heights, num_trials=10)
    for level, rung in first.scheduler.rungs.records.items():
        assert rung.items() <= second.scheduler.rungs.records[level].items()
    assert second.budget.device_s >= first.budget.device_s
    assert second.budget.earlier_s > 0
    assert set(second.started) == set(range(5, 10))


def test_a_time_budget_ends_the_search(play: Play) -> None:
    def space(trial: Any) -> dict[str, Any]:
        return {**heights(trial), "sleep_s": 0.05}

    played = play(space, num_trials=None, time_budget_s=4)
    assert played.budget.stop_reason == "time budget spent"
    assert None not in played.memory.outcomes.values()
    assert set(played.memory.outcomes) == set(played.book.entries)


def test_device_hours_end_the_search(play: Play) -> None:
    def space(trial: Any) -> dict[str, Any]:
        return {**heights(trial), "sleep_s": 0.05}

    played = play(space, num_trials=None, device_hours=1.0 / 3600)
    assert played.budget.stop_reason == "device-hours spent"
    assert played.budget.device_s >= 1.0


def test_a_warm_worker_serves_trial_after_trial(play: Play) -> None:
    processes: set[int] = set()
    original = Listener.on_trial_result

    def listen(self: Listener, *args: Any, **kwargs: Any) -> None:
        processes.add(kwargs["result"]["process"])
        original(self, *args, **kwargs)

    Listener.on_trial_result = listen  # type: ignore[method-assign]
    try:
        played = play(heights, num_trials=10, slots=1)
    finally:
        Listener.on_trial_result = original  # type: ignore[method-assign]
    assert len(processes) == 1
    assert len(played.pace.turn_rounds_s) == 9
    assert all(seconds >= 0 for seconds in played.pace.turn_rounds_s)
    assert played.pace.start_s is not None
    assert sorted(played.pace.resident_bytes) == list(range(10))


def test_a_best_checkpoint_goes_only_when_its_worker_is_at_another_trial(
    play: Play, monkeypatch: pytest.MonkeyPatch
) -> None:
    waited: set[int] = set()
    original = Listener.on_trial_result

    def listen(self: Listener, *args: Any, **kwargs: Any) -> None:
        waited.update(self.unneeded_best)
        original(self, *args, **kwargs)
        assert self.unneeded_best <= set(self.at_work.values())

    monkeypatch.setattr(Listener, "on_trial_result", listen)
    played = play(lambda trial: {"height": trial.suggest_float("height", 0, 1) / 1000 + 1 / (1 + trial.number)})
    deleted = {number for number, kind in played.deleted if kind == "best"}
    assert waited, "from the sixth on every trial is the worst, and its worker may still be writing"
    assert waited <= deleted == {entry.number for entry in played.book.ranked()[5:]}


def test_best_checkpoints_stay_within_their_room_and_the_very_best_always(play: Play) -> None:
    def space(trial: Any) -> dict[str, Any]:
        return {**heights(trial), "best_bytes": 40}

    played = play(space, kept_bytes=100)
    ended = [entry.number for entry in played.book.ranked()]
    freed = {number for number, kind in played.deleted if kind == "best"}
    assert set(ended) - freed == set(ended[:2]), "two of forty bytes fit into a hundred"
    assert ended[0] not in freed


def test_a_champion_larger_than_the_room_is_kept(play: Play) -> None:
    def space(trial: Any) -> dict[str, Any]:
        return {**heights(trial), "best_bytes": 400}

    played = play(space, num_trials=4, kept_bytes=100)
    freed = {number for number, kind in played.deleted if kind == "best"}
    assert freed == {entry.number for entry in played.book.ranked()[1:]}
