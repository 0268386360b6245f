"""The disk of a search's own folder is full: one line, nothing half written, and it goes on once there is room.

A limit to the size of files stands for the disk: a write beyond it is cut off and fails, in this process only.
"""

from __future__ import annotations

import json
import resource
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from search.core.events import Observer
from search.core.ledger import TrialEntry
from search.engine.cluster import Cluster
from search.engine.fit import SearchBrokenError, explain_break
from search.engine.study_file import WholeLines
from tests.search.toy import heights, play_in


def limit_files(num_bytes: int) -> None:
    resource.setrlimit(resource.RLIMIT_FSIZE, (num_bytes, resource.getrlimit(resource.RLIMIT_FSIZE)[1]))


@contextmanager
def full_disk(num_bytes: int) -> Iterator[None]:
    """No file takes more than so many bytes."""
    limit_files(num_bytes)
    try:
        yield
    finally:
        limit_files(resource.RLIM_INFINITY)


def test_a_line_that_does_not_fit_leaves_no_half_of_it(tmp_path: Path) -> None:
    journal = WholeLines(tmp_path / "optuna.journal")
    journal.append_logs([{"op_code": 0}])
    before = journal.journal.read_bytes()
    with full_disk(len(before) + 20), pytest.raises(OSError, match="too large"):
        journal.append_logs([{"op_code": 1}, {"op_code": 2, "told": "x" * 100}])
    assert journal.journal.read_bytes() == before
    journal.append_logs([{"op_code": 3}])
    assert [json.loads(line)["op_code"] for line in journal.journal.read_text().splitlines()] == [0, 3]


class FillDisk(Observer):
    """The disk is full from the begin of a trial on."""

    def __init__(self, journal: Path, number: int) -> None:
        self.journal = journal
        self.number = number

    def trial_began(self, entry: TrialEntry) -> None:
        if entry.number == self.number:
            limit_files(self.journal.stat().st_size + 10)


@pytest.mark.timeout(600)
def test_a_search_ends_in_one_line_and_goes_on_once_there_is_room(cluster: Cluster, tmp_path: Path) -> None:
    play = play_in(tmp_path, cluster)
    folder = tmp_path / "searches" / "toy"
    with full_disk(resource.RLIM_INFINITY), pytest.raises(SearchBrokenError) as caught:
        play(heights, num_trials=6, observers=lambda ledger: [FillDisk(folder / "optuna.journal", 3)])
    message = str(caught.value)
    assert str(folder) in message and "too large" in message and "ctsearch search --resume toy" in message
    assert "\n" not in message
    assert all(json.loads(line) for line in (folder / "optuna.journal").read_text().splitlines())
    again = play(heights, num_trials=6)
    assert len(again.states()) == 6 and all(state.is_finished() for state in again.states())


def test_other_failures_are_not_put_down_to_the_disk(tmp_path: Path) -> None:
    assert explain_break(ConnectionRefusedError(111, "Connection refused"), tmp_path) is None
    assert explain_break(RuntimeError("a bug"), tmp_path) is None
    wrapped = RuntimeError("Tune's words")
    wrapped.__context__ = OSError(28, "No space left on device")
    assert str(tmp_path) in str(explain_break(wrapped, tmp_path))
