"""Checkpoints in a real search of toys: which are kept, and when they go."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from search.core.events import Observer
from search.core.ledger import Ledger, TrialEntry
from search.observers.checkpoints import CheckpointKeeper
from tests.search.toy import Play, heights
from trainable.report import TrialReport


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


def test_a_checkpoint_that_cannot_be_read_keeps_no_outcome_from_being_written(play: Play, tmp_path: Path) -> None:
    def space(trial: Any) -> dict[str, Any]:
        (tmp_path / f"searches/toy/trials/{trial.number:04d}/best.json").mkdir(parents=True)
        return {**heights(trial), "sleep_s": 0.3}

    played = play(space, num_trials=8, stop_after=2)
    assert set(played.memory.outcomes) == set(played.ledger.entries)
    assert "interrupted" in played.memory.outcomes.values()


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
