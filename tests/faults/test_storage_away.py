"""The storage of a search is gone, not mounted or full for a while: what is written there waits, and is not lost."""

from __future__ import annotations

import threading
from pathlib import Path
from typing import Any

import pytest
import torch

from search.core.ledger import Ledger
from search.observers.checkpoints import CheckpointKeeper
from search.opening import make_trials_folder
from tests.search.reports import report
from trainable import storage
from trainable.checkpoint import CheckpointStore
from trainable.checkpoint_writer import CheckpointWriter
from trainable.report import Outcome
from trainable.storage import Absence, StorageLostError, outlast, write_file

STATE = {"w": torch.ones(3)}


@pytest.fixture
def trials(tmp_path: Path) -> Path:
    folder = tmp_path / "storage" / "trials"
    folder.mkdir(parents=True)
    return folder


@pytest.fixture
def store(trials: Path) -> CheckpointStore:
    return CheckpointStore(trials / "0007", needs_parent=True)


@pytest.fixture
def borne(monkeypatch: pytest.MonkeyPatch) -> threading.Event:
    """Set when somebody waits for a storage; the waits are short."""
    seen, bear = threading.Event(), Absence.bear

    def note(absence: Absence, error: OSError) -> float:
        pause_s = bear(absence, error)
        seen.set()
        return min(pause_s, 0.01)

    monkeypatch.setattr(Absence, "bear", note)
    return seen


class Away:
    """Takes a folder away: a file is in its place, or, where it is `unmounted`, an empty folder."""

    def __init__(self, folder: Path, *, unmounted: bool) -> None:
        self.folder = folder
        self.aside = folder.with_name(f"{folder.name}.away")
        folder.rename(self.aside)
        if unmounted:
            folder.mkdir()
        else:
            folder.touch()

    def come_back(self) -> list[Path]:
        """What was written in its place."""
        written = list(self.folder.rglob("*")) if self.folder.is_dir() else []
        self.folder.rename(self.folder.with_name("instead"))
        self.aside.rename(self.folder)
        return written


@pytest.mark.parametrize("unmounted", [False, True])
def test_checkpoints_wait_for_the_storage_and_the_latest_of_each_kind_is_written(
    store: CheckpointStore, trials: Path, borne: threading.Event, unmounted: bool
) -> None:
    with CheckpointWriter(store) as writer:
        writer.write_best(STATE, {"epoch": 1})
        writer.wait_for_best()
        away = Away(trials.parent, unmounted=unmounted)
        for epoch in (2, 3):
            writer.write_best(STATE, {"epoch": epoch})
            writer.write_newest(STATE, {"epoch": epoch})
        assert borne.wait(60)
        assert away.come_back() == [], "it would be lost, or hidden, once the storage is there"
        writer.wait_for_best()
    assert store.facts("best") == store.facts("newest") == {"epoch": 3}


@pytest.mark.parametrize("unmounted", [False, True])
def test_a_trial_that_goes_on_waits_for_its_checkpoint_and_does_not_begin_again(
    store: CheckpointStore, trials: Path, borne: threading.Event, unmounted: bool
) -> None:
    store.save("newest", STATE, {"epoch": 5})
    away, found = Away(trials.parent, unmounted=unmounted), list[Any]()
    with CheckpointWriter(store) as writer:
        thread = threading.Thread(target=lambda: found.append(writer.load("newest")))
        thread.start()
        assert borne.wait(60)
        away.come_back()
        thread.join()
    assert found[0][1] == {"epoch": 5}


def test_a_storage_that_stays_away_is_named_and_nobody_waits_for_ever(store: CheckpointStore, trials: Path) -> None:
    Away(trials.parent, unmounted=False)
    writer = CheckpointWriter(store, patience_s=0.0)
    writer.write_best(STATE, {"epoch": 1})
    with pytest.raises(StorageLostError, match=r"the storage .*0007 has been away for 0 s"):
        writer.wait_for_best()
    writer.close()
    with pytest.raises(StorageLostError):
        writer.load("newest")


def test_an_absence_is_told_once_and_its_pauses_grow(caplog: pytest.LogCaptureFixture) -> None:
    absence = Absence("s3://bucket", patience_s=3600.0)
    pauses_s = [absence.bear(OSError("no route to host")) for _ in range(8)]
    assert pauses_s[:3] == [0.5, 1.0, 2.0] and pauses_s[-1] == storage.LONGEST_PAUSE_S
    absence.end()
    assert absence.bear(OSError("no route to host")) == 0.5
    told = [record.getMessage() for record in caplog.records]
    assert told[0] == "the storage s3://bucket is away; what is written there waits: no route to host"
    assert told[1] == "the storage s3://bucket is back" and len(told) == 3


def test_what_a_storage_refuses_for_good_is_no_absence() -> None:
    def refuse() -> None:
        raise ValueError("another configuration")

    with pytest.raises(ValueError, match="another configuration"):
        outlast("s3://bucket", refuse)


def test_a_checkpoint_of_a_storage_that_is_away_is_not_damaged(store: CheckpointStore, trials: Path) -> None:
    store.save("best", STATE, {"epoch": 1})
    plain = CheckpointStore(trials / "0007")
    Away(trials.parent, unmounted=False)
    with pytest.raises(OSError, match="trials"):
        plain.load("best")


def test_what_nobody_needs_is_deleted_once_the_storage_is_back(caplog: pytest.LogCaptureFixture) -> None:
    away, deleted = [True], list[tuple[int, str]]()

    def delete(number: int, kind: str) -> None:
        if away[0]:
            raise NotADirectoryError("trials")
        deleted.append((number, kind))

    ledger = Ledger()
    keeper = CheckpointKeeper(ledger, delete)
    ledger.observers = (keeper,)
    for number in (0, 1):
        ledger.begin(number, {})
        ledger.report(number, report(1, 0.5))
        ledger.end(number, Outcome.STOPPED)
        keeper.at_work.clear()
    keeper._delete_unneeded()
    assert deleted == [] and len(caplog.records) == 1
    away[0] = False
    keeper._delete_unneeded()
    assert {(0, "newest"), (1, "newest")} <= set(deleted)


def test_a_search_that_has_begun_does_not_make_the_folder_of_its_trials_anew(tmp_path: Path) -> None:
    folder = tmp_path / "storage" / "first" / "trials"
    with pytest.raises(ValueError, match="mount the storage"):
        make_trials_folder(str(folder), has_begun=True)
    make_trials_folder(str(folder), has_begun=False)
    make_trials_folder(str(folder), has_begun=True)
    assert folder.is_dir()


def test_a_file_makes_its_folder_and_none_above_it(tmp_path: Path) -> None:
    write_file(str(tmp_path / "trial"), "pace.json", b"{}")
    with pytest.raises(FileNotFoundError):
        write_file(str(tmp_path / "away" / "trial"), "pace.json", b"{}")
