"""Trials that pause and are promoted, in a real search of toys."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from optuna.trial import TrialState

from search.core import convergence
from search.core.config import SearchConfig
from search.core.decisions import Rule
from search.core.events import Observer
from search.core.ledger import Ledger, TrialEntry
from search.core.promotion import Promotion
from search.core.rules import build_rule
from search.core.stop import StopReason
from search.engine.study import Study
from tests.search.toy import Play, heights
from trainable.report import Direction, TrialReport


def promote(ledger: Ledger) -> Promotion:
    return Promotion((1, 3, 9), factor=3)


def test_trials_pause_and_the_best_are_promoted_on_warm_workers(play: Play, tmp_path: Path) -> None:
    """The first trial is the best; which of them pause before three have come to a rung, the machine decides."""
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
    resumed = [number for kind, number in seen if kind == "resumed"]
    assert resumed, "nine trials bring three to the second rung"
    assert all(seen.index(("paused", number)) < seen.index(("resumed", number)) for number in resumed)
    for entry in entries.values():
        assert sorted(entry.values) == list(range(1, entry.num_epochs + 1)), "each epoch once, in order"
        assert played.memory.reported[entry.number] == sorted(entry.values)
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


def test_a_trial_whose_last_epoch_was_noted_but_not_its_end_has_completed(play: Play, tmp_path: Path) -> None:
    """Its driver was killed in between."""
    played = play(heights, num_trials=1, slots=1, build_rule=promote)
    study = Study(tmp_path / "searches/toy/optuna.journal", sampler="random", seed=2, direction=Direction.MAXIMIZE)
    ledger = Ledger(observers=(study,))
    study.restore(ledger)
    begun = study.begin(heights)
    ledger.begin(begun.number, begun.params)
    for epoch in range(1, 10):
        report = TrialReport(
            epoch=epoch, value=0.5, finished=epoch == 9, metrics={"val_auc": 0.5}, began_at_s=0.0, ended_at_s=1.0
        )
        ledger.report(begun.number, report)
    again = play(heights, num_trials=2, slots=1, build_rule=promote)
    assert played.memory.outcomes == {0: "completed"}
    assert again.memory.outcomes == {1: "completed"}
    assert [trial.state for trial in again.study.trials()] == [TrialState.COMPLETE] * 2


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
