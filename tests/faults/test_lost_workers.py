"""Workers that die: what counts against a trial, and when it is the machine that has no memory left."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from optuna.trial import TrialState
from ray.air.execution._internal.actor_manager import RayActorManager
from ray.exceptions import OutOfMemoryError, RayActorError

from search.core.stop import StopReason
from search.engine.cluster import Cluster
from search.engine.lost_workers import (
    MAX_LOST_WORKERS,
    NUM_EXCUSED,
    NUM_TO_END,
    LostWorkers,
    as_lost_workers,
    describe_loss,
    is_no_memory,
    read_last_failure,
)
from tests.search.toy import play_in

NO_MEMORY = (
    "The actor died unexpectedly before finishing this task.\nMemory on the node was 15.4GB / 16GB\n"
    "Refer to the documentation on how to address the out of memory issue: https://docs.ray.io/ " + "and so on " * 200
)
KILLED = "The actor died unexpectedly before finishing this task.\n\nThe actor is dead because its worker was killed."


@pytest.fixture
def told() -> list[str]:
    return []


@pytest.fixture
def lost_workers(told: list[str]) -> LostWorkers:
    return LostWorkers(told.append)


def lose(lost_workers: LostWorkers, trial: Any, words: str, num_epochs: int = 0) -> None:
    """A worker's death as Tune counts it and writes it down."""
    trial.run_metadata.num_failures += 1
    with Path(trial.error_file).open("a") as file:
        file.write(f"Failure # {trial.run_metadata.num_failures} (occurred at 2026-11-28)\n{words}\n")
    lost_workers.lose(trial, num_epochs)


def make_trial(folder: Path, number: int) -> Any:
    return SimpleNamespace(
        config={"number": number},
        error_file=str(folder / f"error-{number}.txt"),
        run_metadata=SimpleNamespace(num_failures=0),
    )


def test_a_trial_that_goes_on_between_the_deaths_of_its_workers_never_fails_for_them(
    cluster: Cluster, tmp_path: Path
) -> None:
    trials = tmp_path / "kept"
    trials.mkdir()
    num_deaths = MAX_LOST_WORKERS + 2

    def space(trial: Any) -> dict[str, Any]:
        return {"height": 1.0, "dies_each": True, "goes_on": True, "trials_uri": str(trials), "max_epochs": num_deaths}

    played = play_in(tmp_path, cluster)(space, num_trials=1, slots=1)
    assert played.states() == [TrialState.COMPLETE]
    assert len(list(trials.glob("died-0-*"))) == num_deaths


def test_a_worker_that_dies_between_two_trials_costs_neither(cluster: Cluster, tmp_path: Path) -> None:
    def space(trial: Any) -> dict[str, Any]:
        return {"height": 1.0 + trial.number, "dies_at_reset": str(tmp_path / "died") if trial.number else None}

    played = play_in(tmp_path, cluster)(space, num_trials=3, slots=1)
    assert played.states() == [TrialState.COMPLETE] * 3
    assert (tmp_path / "died").exists()


def test_a_death_without_a_new_epoch_since_the_last_counts(lost_workers: LostWorkers, tmp_path: Path) -> None:
    trial = make_trial(tmp_path, 0)
    lose(lost_workers, trial, KILLED, num_epochs=3)
    lost_workers.go_on(trial, 3)  # a repeated one
    lose(lost_workers, trial, KILLED, num_epochs=3)
    assert trial.run_metadata.num_failures == 2
    lost_workers.go_on(trial, 4)
    assert trial.run_metadata.num_failures == 0


def test_a_machine_without_memory_ends_the_search_before_a_trial_fails_for_it(
    lost_workers: LostWorkers, told: list[str], tmp_path: Path
) -> None:
    trials = [make_trial(tmp_path, number) for number in range(2)]
    for at in range(NUM_TO_END):
        assert not told
        lose(lost_workers, trials[at % 2], NO_MEMORY)
    assert [trial.run_metadata.num_failures for trial in trials] == [0, 0]
    assert len(told) == 1 and "memory ran out" in told[0] and "--trial-cpus" in told[0]


def test_epochs_in_between_say_that_there_is_memory(lost_workers: LostWorkers, told: list[str], tmp_path: Path) -> None:
    hungry, other = make_trial(tmp_path, 0), make_trial(tmp_path, 1)
    for epoch in range(1, NUM_EXCUSED + MAX_LOST_WORKERS + 2):
        lose(lost_workers, hungry, NO_MEMORY)
        lose(lost_workers, other, NO_MEMORY, num_epochs=epoch - 1)
        lost_workers.go_on(other, epoch)
    assert told == []
    assert hungry.run_metadata.num_failures == MAX_LOST_WORKERS + 1, "it has failed"
    assert other.run_metadata.num_failures == 0


def test_the_reason_is_a_line_and_says_what_to_do(lost_workers: LostWorkers, tmp_path: Path) -> None:
    trial = make_trial(tmp_path, 0)
    lose(lost_workers, trial, NO_MEMORY)
    assert "--image-size" in describe_loss(trial.error_file) and "\n" not in describe_loss(trial.error_file)
    lose(lost_workers, trial, KILLED)
    assert describe_loss(trial.error_file).endswith("last: The actor is dead because its worker was killed.")
    assert "Memory" not in read_last_failure(trial.error_file)
    assert describe_loss(None).endswith("ended without a word")


def test_a_worker_that_ray_ends_for_want_of_memory_is_a_lost_one_and_no_end_of_the_search() -> None:
    heard: list[Exception] = []
    manager: Any = SimpleNamespace(_failed_actor_ids=set(), _cleanup_actor=lambda tracked_actor: None)
    actor = SimpleNamespace(actor_id="a", _on_error=None)
    task: Any = SimpleNamespace(_tracked_actor=actor, _on_error=lambda actor, error: heard.append(error))
    error = OutOfMemoryError("2 worker(s) were killed due to the node running low on memory")
    with pytest.raises(RuntimeError, match="unexpected"):
        RayActorManager._actor_task_failed(manager, tracked_actor_task=task, exception=error)
    with as_lost_workers():
        RayActorManager._actor_task_failed(manager, tracked_actor_task=task, exception=error)
    assert isinstance(heard[0], RayActorError) and is_no_memory(str(heard[0]))
    assert manager._failed_actor_ids == {"a"}
    with pytest.raises(RuntimeError, match="unexpected"):
        RayActorManager._actor_task_failed(manager, tracked_actor_task=task, exception=error)


def test_a_search_whose_storage_is_lost_ends_with_no_trial_failed_and_goes_on_later(
    cluster: Cluster, tmp_path: Path
) -> None:
    def space(trial: Any) -> dict[str, Any]:
        is_second = trial.number == 1  # and the best: the others may have come further when it first reports
        return {"height": 9.0 if is_second else 1.0, "sleep_s": 0.1, "loses_storage_at": 3 if is_second else None}

    play = play_in(tmp_path, cluster)
    first = play(space, num_trials=4)
    assert first.reason is StopReason.STORAGE_LOST and not first.reason.concludes
    assert "the storage has been away for 300 s" in str(first.budget.stop)
    assert "failed" not in first.memory.outcomes.values() and first.memory.outcomes[1] == "interrupted"
    assert first.states()[1] is TrialState.WAITING
