"""Tune, Optuna and what stands between them; only the training is a toy with a known optimum."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from optuna.trial import TrialState
from ray import tune

from search.core import convergence
from search.core.config import SearchConfig
from search.core.decisions import Rule
from search.core.events import Observer
from search.core.ledger import Ledger, TrialEntry
from search.core.promotion import Promotion
from search.core.rules import build_rule
from search.core.stop import StopReason
from search.core.stopping import Stopping
from search.observers.checkpoints import CheckpointKeeper
from tests.search.toy import Play, heights
from trainable.report import Direction, TrialReport
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
        assert sorted(trial.intermediate_values) == list(range(1, last + 1)) == played.memory.heard[trial.number]
        if outcome == "completed":
            assert trial.value == pytest.approx(trial.params["height"] * (7 / 8 + 8 / 9 + 9 / 10) / 3)


def test_every_slot_works_where_trials_are_shorter_than_the_start_of_a_worker(play: Play) -> None:
    def space(trial: Any) -> dict[str, Any]:
        return {**heights(trial), "start_s": 2.0, "sleep_s": 0.1, "max_epochs": 1}

    played = play(space, num_trials=50)
    num_first_of_a_process = 50 - len(played.timings.turn_rounds_s)
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
    best = played.ledger.ranked()[0]
    highest = max(played.study.trials(), key=lambda trial: trial.params["height"])
    assert best.number == highest.number
    assert best.outcome == "completed"
    assert (best.number, "best") not in played.deleted
    assert (best.number, "newest") in played.deleted
    kept = {entry.number for entry in played.ledger.ranked()[:5]}
    assert kept.isdisjoint(number for number, kind in played.deleted if kind == "best")


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
    assert played.memory.heard[0] == [1, 2, 3]


def test_a_checkpoint_that_cannot_be_read_keeps_no_outcome_from_being_written(play: Play, tmp_path: Path) -> None:
    def space(trial: Any) -> dict[str, Any]:
        (tmp_path / f"searches/toy/trials/{trial.number:04d}/best.json").mkdir(parents=True)
        return {**heights(trial), "sleep_s": 0.3}

    played = play(space, num_trials=8, stop_after=2)
    assert set(played.memory.outcomes) == set(played.ledger.entries)
    assert "interrupted" in played.memory.outcomes.values()


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


def test_a_best_checkpoint_goes_only_when_its_worker_is_at_another_trial(play: Play) -> None:
    waited: set[int] = set()

    class Check(Observer):
        """Hears after the keeper of checkpoints."""

        def __init__(self, ledger: Ledger) -> None:
            self.ledger = ledger

        @property
        def keeper(self) -> CheckpointKeeper:
            return next(found for found in self.ledger.observers if isinstance(found, CheckpointKeeper))

        @property
        def waiting(self) -> set[int]:
            return {number for number, kind in self.keeper.unneeded if kind == "best"}

        def epoch_reported(self, entry: TrialEntry, report: TrialReport) -> None:
            assert self.waiting <= set(self.keeper.at_work.values())
            waited.update(self.waiting)

        def trial_ended(self, entry: TrialEntry) -> None:
            waited.update(self.waiting)

    def space(trial: Any) -> dict[str, Any]:
        return {"height": trial.suggest_float("height", 0, 1) / 1000 + 1 / (1 + trial.number)}

    played = play(space, observers=lambda ledger: [Check(ledger)])
    deleted = {number for number, kind in played.deleted if kind == "best"}
    assert waited, "from the sixth on every trial is the worst, and its worker may still be writing"
    assert waited <= deleted == {entry.number for entry in played.ledger.ranked()[5:]}


def test_best_checkpoints_stay_within_their_room_and_the_very_best_always(play: Play) -> None:
    def space(trial: Any) -> dict[str, Any]:
        return {**heights(trial), "best_bytes": 40}

    played = play(space, kept_bytes=100)
    ended = [entry.number for entry in played.ledger.ranked()]
    freed = {number for number, kind in played.deleted if kind == "best"}
    assert set(ended) - freed == set(ended[:2]), "two of forty bytes fit into a hundred"
    assert ended[0] not in freed


def test_a_champion_larger_than_the_room_is_kept(play: Play) -> None:
    def space(trial: Any) -> dict[str, Any]:
        return {**heights(trial), "best_bytes": 400}

    played = play(space, num_trials=4, kept_bytes=100)
    freed = {number for number, kind in played.deleted if kind == "best"}
    assert freed == {entry.number for entry in played.ledger.ranked()[1:]}


def promote(ledger: Ledger) -> Promotion:
    return Promotion((1, 3, 9), factor=3)


def test_trials_pause_and_the_best_are_promoted_on_warm_workers(play: Play, tmp_path: Path) -> None:
    """The first trial is the best: it pauses, and is promoted when three have come to its rung."""
    seen: list[tuple[str, int]] = []

    class Listener(Observer):
        def trial_paused(self, entry: TrialEntry) -> None:
            seen.append(("paused", entry.number))

        def trial_resumed(self, entry: TrialEntry) -> None:
            seen.append(("resumed", entry.number))

    def space(trial: Any) -> dict[str, Any]:
        return {"height": 20.0 - trial.number, "trials_uri": str(tmp_path / "searches/toy/trials"), "goes_on": True}

    played = play(space, num_trials=9, build_rule=promote, observers=lambda ledger: [Listener()])
    entries = played.ledger.entries
    assert {entry.num_epochs for entry in entries.values()} == {1, 3, 9}
    assert entries[0].outcome == "completed"
    assert {entries[number].outcome for number in range(1, 9)} <= {"completed", "stopped"}
    assert ("paused", 0) in seen
    assert seen.index(("paused", 0)) < seen.index(("resumed", 0))
    for entry in entries.values():
        assert sorted(entry.values) == list(range(1, entry.num_epochs + 1)), "each epoch once, in order"
        assert played.memory.heard[entry.number] == sorted(entry.values)
    assert len(played.memory.processes) <= 2, "the workers stay warm"
    assert all(trial.state in (TrialState.COMPLETE, TrialState.PRUNED) for trial in played.study.trials())
    assert {(number, "newest") for number in entries} <= set(played.deleted)


def test_paused_trials_go_on_in_a_resumed_search(play: Play, tmp_path: Path) -> None:
    def space(trial: Any) -> dict[str, Any]:
        return {"height": 1.0 + trial.number, "trials_uri": str(tmp_path / "searches/toy/trials"), "goes_on": True}

    first = play(space, num_trials=9, build_rule=promote, stop_after=4, stop_reason=StopReason.TERMINATED)
    assert "interrupted" in first.memory.outcomes.values()
    assert not {number for number, kind in first.deleted if kind == "newest"} & first.ledger.interrupted()
    second = play(space, num_trials=9, build_rule=promote)
    assert len(second.ledger.entries) == 9
    assert max(entry.num_epochs for entry in second.ledger.entries.values()) == 9
    assert all(state.is_finished() for state in second.states()), "those it did not go on with have ended too"
    for number, entry in first.ledger.entries.items():
        assert entry.values.items() <= second.ledger.entries[number].values.items()


def test_the_worst_paused_trials_lose_their_checkpoints_where_room_is_short(play: Play, tmp_path: Path) -> None:
    def space(trial: Any) -> dict[str, Any]:
        uri = str(tmp_path / "searches/toy/trials")
        return {"height": 10.0 - trial.number, "trials_uri": uri, "goes_on": True, "best_bytes": 40}

    played = play(space, num_trials=6, build_rule=promote, paused_bytes=100)
    assert isinstance(played.rule, Promotion)
    forgotten = {trial.number for trial in played.rule.board.trials.values() if not trial.can_go_on}
    early = {number for number in forgotten if played.ledger.entries[number].num_epochs == 1}
    assert early, "two of forty bytes fit into a hundred"
    assert 0 not in early
    assert played.ledger.entries[0].outcome == "completed"


def test_a_search_ends_where_little_is_left_to_gain_with_its_finalists_trained(
    play: Play, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Half of the way come so far is called little here, so that it ends soon."""
    monkeypatch.setattr(convergence, "SHARE_OF_REACH", 0.5)
    monkeypatch.setattr(convergence, "LEAST_TRAININGS", 2)
    monkeypatch.setattr(convergence, "LEAST_BETWEEN_LOOKS", 4)
    config = SearchConfig(stop_when="converged", max_epochs=9, ensemble=2)

    def space(trial: Any) -> dict[str, Any]:
        return {"height": 1.0 + 1e-6 * trial.suggest_float("nothing", 0, 1)}

    def build(ledger: Ledger) -> Rule:
        return build_rule(config, space, Direction.MAXIMIZE, max_epochs=9)[0]

    played = play(space, num_trials=200, build_rule=build)
    assert played.reason is StopReason.CONVERGED
    assert str(played.budget.stop).startswith("nothing more to gain: the most promising next step")
    assert len(played.ledger.entries) < 200
    assert sum(entry.num_epochs == 9 for entry in played.ledger.entries.values()) >= 2
