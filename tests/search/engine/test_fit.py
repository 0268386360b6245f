"""Tune, Optuna and what stands between them; only the training is a toy with a known optimum."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from optuna.trial import TrialState
from ray import tune

from search.core.stop import StopReason
from search.core.stopping import Stopping
from tests.search.toy import Play, heights
from trainable.task import read_best


def test_every_trial_ends_as_completed_or_stopped_and_optuna_knows(play: Play) -> None:
    played = play(heights)
    assert len(played.states()) == 12
    assert set(played.memory.outcomes.values()) == {"completed", "stopped"}
    for trial in played.study.trials():
        outcome = played.memory.outcomes[trial.number]
        assert trial.state == {"completed": TrialState.COMPLETE, "stopped": TrialState.PRUNED}[outcome]
        last = max(trial.intermediate_values)
        assert last in ((9,) if outcome == "completed" else (1, 3))
        assert sorted(trial.intermediate_values) == list(range(1, last + 1)) == played.memory.reported[trial.number]
        if outcome == "completed":
            assert trial.value == pytest.approx(trial.params["height"] * (7 / 8 + 8 / 9 + 9 / 10) / 3)


def test_every_slot_works_where_trials_are_shorter_than_the_start_of_a_worker(play: Play) -> None:
    def space(trial: Any) -> dict[str, Any]:
        return {**heights(trial), "start_s": 2.0, "sleep_s": 0.1, "max_epochs": 1}

    played = play(space, num_trials=50)
    num_first_of_a_process = 50 - len(played.timings.turn_rounds_s)
    assert num_first_of_a_process == 2


def test_trials_that_come_or_lose_their_worker_later_keep_off_nodes_that_are_left_out_by_then(play: Play) -> None:
    skipped = {"f" * 56}
    places: list[dict[str, str]] = []

    def place_trial() -> tune.PlacementGroupFactory:
        if len(places) > 8:
            skipped.add("e" * 56)
        elsewhere = {"ray.io/node-id": f"!in({','.join(sorted(skipped))})"}
        places.append(elsewhere)
        return tune.PlacementGroupFactory([{"CPU": 1}], strategy="STRICT_PACK", bundle_label_selector=[elsewhere])

    def space(trial: Any) -> dict[str, Any]:
        is_third = trial.number == 3
        return {"height": 100 if is_third else 1 + trial.number, "dies_at": 5 if is_third else None}

    played = play(space, num_trials=8, place_trial=place_trial)
    assert len(skipped) == 2
    assert [outcome == "failed" for _, outcome in sorted(played.memory.outcomes.items())] == [n == 3 for n in range(8)]


def test_a_failing_trial_fails_alone(play: Play) -> None:
    def space(trial: Any) -> dict[str, Any]:
        return {
            **heights(trial),
            "fails_at": 1 if trial.number in (0, 3) else None,
            "height": 1.0 + trial.number,
        }

    played = play(space, num_trials=6)
    assert {number for number, outcome in played.memory.outcomes.items() if outcome == "failed"} == {0, 3}
    assert played.memory.errors[0] == "Traceback"
    assert played.ledger.entries[0].error == "the loss is nan at epoch 1"
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
    assert played.reason is StopReason.ALL_FAILED
    assert "all failed" in str(played.budget.stop)
    assert len(played.states()) < 12


def test_trials_around_which_the_search_ends_wait_and_go_on_first(play: Play) -> None:
    def space(trial: Any) -> dict[str, Any]:
        return {**heights(trial), "sleep_s": 0.05}

    first = play(space, num_trials=8, stop_after=4)
    waiting = [number for number, state in enumerate(first.states()) if state == TrialState.WAITING]
    assert waiting
    assert {number for number, outcome in first.memory.outcomes.items() if outcome == "interrupted"} == set(waiting)
    before = {trial.number: trial.params for trial in first.study.trials()}
    second = play(space, num_trials=8)
    assert second.started[: len(waiting)] == waiting
    assert len(second.states()) == 8
    assert all(state in (TrialState.COMPLETE, TrialState.PRUNED) for state in second.states())
    after = {trial.number: trial.params for trial in second.study.trials()}
    assert before.items() <= after.items()


def test_a_resumed_search_keeps_rungs_and_spent_budget(play: Play) -> None:
    first = play(heights, num_trials=5)
    second = play(heights, num_trials=10)
    assert isinstance(first.rule, Stopping)
    assert isinstance(second.rule, Stopping)
    for level, rung in first.rule.rungs.records.items():
        assert rung.items() <= second.rule.rungs.records[level].items()
    assert second.budget.device_s >= first.budget.device_s
    assert second.budget.earlier_s > 0
    assert set(second.started) == set(range(5, 10))


def test_a_time_budget_ends_the_search(play: Play) -> None:
    def space(trial: Any) -> dict[str, Any]:
        return {**heights(trial), "sleep_s": 0.05}

    played = play(space, num_trials=None, time_budget_s=4)
    assert played.reason is StopReason.TIME_BUDGET
    assert None not in played.memory.outcomes.values()
    assert set(played.memory.outcomes) == set(played.ledger.entries)


def test_an_epoch_that_ends_while_the_search_does_is_not_lost(play: Play, tmp_path: Path) -> None:
    trials = tmp_path / "searches" / "toy" / "trials"

    def space(trial: Any) -> dict[str, Any]:
        return {**heights(trial), "hides_at": 3, "trials_uri": str(trials)}

    played = play(space, num_trials=1, slots=1, stop_when=trials / "hidden")
    assert played.memory.outcomes == {0: "interrupted"}
    (trial,) = played.study.trials()
    assert sorted(trial.intermediate_values) == [1, 2, 3], "the worker kept it, and could not report it"
    entry, best = played.ledger.entries[0], read_best(str(trials), 0)
    assert best is not None
    assert entry.best_epoch == best["epoch"] == 3, "the champion may be this epoch"
    assert entry.values[3] == best["value"]
    assert played.memory.reported[0] == [1, 2, 3]


def test_device_hours_end_the_search(play: Play) -> None:
    def space(trial: Any) -> dict[str, Any]:
        return {**heights(trial), "sleep_s": 0.05}

    played = play(space, num_trials=None, device_hours=1.0 / 3600)
    assert played.reason is StopReason.DEVICE_HOURS
    assert played.budget.device_s >= 1.0


def test_a_warm_worker_serves_trial_after_trial(play: Play) -> None:
    played = play(heights, num_trials=10, slots=1)
    assert len(played.memory.processes) == 1
    assert len(played.timings.turn_rounds_s) == 9
    assert all(seconds >= 0 for seconds in played.timings.turn_rounds_s)
    assert played.timings.start_s is not None
    assert sorted(played.timings.resident_bytes) == list(range(10))
