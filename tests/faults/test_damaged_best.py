"""The checkpoint of the best trial is damaged or lost: the one before, else the next best trial, takes its place."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch

from search.champion.choice import choose_members
from search.core.ledger import Ledger
from tests.search.reports import report
from trainable.checkpoint import CheckpointStore
from trainable.report import Outcome
from trainable.task import locate_trial

VALUES = {0: 0.7, 1: 0.9, 2: 0.8}


@pytest.fixture
def searched(tmp_path: Path) -> tuple[Ledger, Any]:
    """Three trials of one epoch that have ended, and where their checkpoints lie."""
    ledger, task = Ledger(), SimpleNamespace(trials_uri=str(tmp_path))
    for number, value in VALUES.items():
        ledger.begin(number, {"architecture": "small_cnn"})
        ledger.report(number, report(1, value))
        ledger.end(number, Outcome.COMPLETED)
        facts = {"epoch": 1, "value": value}
        CheckpointStore(locate_trial(task.trials_uri, number)).save("best", {"model": {"w": torch.ones(9)}}, facts)
    return ledger, task


def spoil(task: Any, number: int) -> None:
    [state] = Path(locate_trial(task.trials_uri, number)).glob("best-*.pt")
    state.write_bytes(state.read_bytes()[:-100])


def test_the_next_best_trial_takes_its_place_and_the_warning_says_so(searched: tuple[Ledger, Any]) -> None:
    ledger, task = searched
    spoil(task, 1)
    [chosen] = choose_members(ledger, task, size=1)
    assert chosen.entry.number == 2
    assert "trial 1, 0.9000, cannot be read" in chosen.warnings[0] and "the next best trial" in chosen.warnings[0]
    members = choose_members(ledger, task, size=3, last_rung=1)
    assert 1 not in [member.entry.number for member in members]
    assert "trial 1, 0.9000, cannot be read" in members[0].warnings[0]


def test_the_epoch_before_is_taken_where_it_still_lies_there(searched: tuple[Ledger, Any]) -> None:
    ledger, task = searched
    folder = Path(locate_trial(task.trials_uri, 1))
    before = next(folder.glob("best-*.pt"))
    kept = before.read_bytes()
    ledger.entries[1].values[2] = 0.95
    CheckpointStore(folder).save("best", {"model": {"w": torch.zeros(9)}}, {"epoch": 2, "value": 0.95})
    before.write_bytes(kept)
    next(folder.glob("best-0002.pt")).write_bytes(b"")
    [chosen] = choose_members(ledger, task, size=1)
    assert (chosen.entry.number, chosen.epoch, chosen.value) == (1, 1, 0.9)


def test_where_none_can_be_read_the_folder_is_named(searched: tuple[Ledger, Any]) -> None:
    ledger, task = searched
    for number in VALUES:
        spoil(task, number)
    with pytest.raises(FileNotFoundError, match="none of 3 trials has a readable `best` checkpoint in /"):
        choose_members(ledger, task, size=1)
