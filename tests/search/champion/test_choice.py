"""Which trials become the champion, of those whose checkpoints can be read."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from search.champion.choice import choose_champion, choose_members
from search.champion.crown import crown_champion
from search.core.ledger import Ledger, TrialEntry
from tests.search.champion.trained import TrainedSearch
from trainable.checkpoint import CheckpointStore
from trainable.report import Outcome
from trainable.task import TrialTask


@pytest.fixture
def task(trained: TrainedSearch, tmp_path: Path) -> TrialTask:
    finish = trained.finish("choice", "none", "")
    return replace(finish.task, trials_uri=str(tmp_path))


def enter(ledger: Ledger, task: TrialTask, number: int, value: float, *, saved: bool = True) -> None:
    ledger.restore(TrialEntry(number=number, params={}, values={1: value}, outcome=Outcome.STOPPED))
    if saved:
        facts = {"epoch": 1, "value": value, "metrics": {}}
        CheckpointStore(Path(task.trials_uri) / f"{number:04d}").save("best", {}, facts)


def test_the_best_value_wins_and_of_equals_the_lower_number(task: TrialTask) -> None:
    ledger = Ledger()
    for number, value in ((5, 0.9), (3, 0.9), (4, 0.2), (1, float("nan"))):
        enter(ledger, task, number, value)
    candidate = choose_champion(ledger, task)
    assert candidate is not None
    assert (candidate.entry.number, candidate.value, candidate.warnings) == (3, 0.9, ())


def test_without_a_value_there_is_no_champion(task: TrialTask) -> None:
    ledger = Ledger()
    ledger.restore(TrialEntry(number=0, params={}, outcome=Outcome.FAILED))
    enter(ledger, task, 1, float("nan"))
    assert choose_champion(ledger, task) is None


def test_a_best_epoch_that_was_lost_or_damaged_gives_way_to_the_next_trial_with_a_warning(task: TrialTask) -> None:
    ledger = Ledger()
    enter(ledger, task, 1, 0.9, saved=False)
    enter(ledger, task, 2, 0.8)
    enter(ledger, task, 3, 0.7)
    next(Path(task.trials_uri, "0002").glob("best-*.pt")).write_bytes(b"damaged")
    candidate = choose_champion(ledger, task)
    assert candidate is not None
    assert candidate.entry.number == 3
    assert [warning.split(",")[0] for warning in candidate.warnings] == [
        "the best epoch of trial 1",
        "the best epoch of trial 2",
    ]


def test_members_are_the_best_that_completed_and_can_be_read(task: TrialTask) -> None:
    ledger = Ledger()
    for number, value in ((1, 0.6), (2, 0.9), (3, 0.8), (4, 0.7), (5, 0.99)):
        enter(ledger, task, number, value, saved=number != 2)
        ledger.entries[number].outcome = Outcome.STOPPED if number == 5 else Outcome.COMPLETED
    for number in (6, 7, 8):
        enter(ledger, task, number, 0.1, saved=False)
    members = choose_members(ledger, task, size=2)
    assert [member.entry.number for member in members] == [3, 4]
    assert members[0].warnings[0].startswith("the best epoch of trial 2, 0.9000, cannot be read")
    assert [member.entry.number for member in choose_members(ledger, task, size=1)] == [5], "the best alone"
    again = choose_members(ledger, task, size=5, opened_for=(1, 3))
    assert {member.entry.number for member in again} == {1, 3}, "the test is open for these"
    assert [member.entry.number for member in choose_members(ledger, task, size=5, opened_for=(4,))] == [4]
    left = choose_members(ledger, task, size=5, opened_for=(2, 3))
    assert [member.entry.number for member in left] == [3], "2 cannot be read, and no other takes its place"


def test_a_trial_below_the_median_is_no_member(task: TrialTask) -> None:
    ledger = Ledger()
    for number, value in ((0, 0.92), (1, 0.9), (2, 0.5)):
        enter(ledger, task, number, value)
        ledger.entries[number].outcome = Outcome.COMPLETED
    assert [member.entry.number for member in choose_members(ledger, task, size=5)] == [0, 1]


def test_with_fewer_than_two_members_the_best_single_trial_is_chosen(task: TrialTask) -> None:
    ledger = Ledger()
    for number, value in ((1, 0.6), (2, 0.9)):
        enter(ledger, task, number, value)
    ledger.entries[1].outcome = Outcome.COMPLETED
    assert [member.entry.number for member in choose_members(ledger, task, size=5)] == [2]
    assert [m.entry.number for m in choose_members(ledger, task, size=5, last_rung=1)] == [1, 2]
    assert choose_members(Ledger(), task, size=5) == []


def test_where_no_checkpoint_can_be_read_the_sealed_test_stays_closed(task: TrialTask, trained: TrainedSearch) -> None:
    ledger = Ledger()
    enter(ledger, task, 1, 0.9, saved=False)
    finish = replace(trained.finish("fourth", "none", ""), task=task)
    with pytest.raises(FileNotFoundError, match="none of 1 trials has a readable `best` checkpoint"):
        crown_champion(ledger, finish)
    assert not finish.folder.sealed_test_file.exists()
