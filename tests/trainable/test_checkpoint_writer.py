from __future__ import annotations

import threading
from pathlib import Path
from typing import Any

import pytest
import torch

from tests.trainable.checkpoints import make_state, records, state_files
from trainable.checkpoint import CheckpointStore
from trainable.checkpoint_writer import CheckpointWriter


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return tmp_path / "trials of ü %20" / "0007"


@pytest.fixture
def store(folder: Path) -> CheckpointStore:
    return CheckpointStore(folder)


class SlowStore(CheckpointStore):
    """Saves only when it is let."""

    def __init__(self, uri: Path) -> None:
        super().__init__(uri)
        self.gate = threading.Event()
        self.began = threading.Event()

    def save(self, kind: Any, state: Any, facts: Any) -> int:
        self.began.set()
        assert self.gate.wait(60)
        return super().save(kind, state, facts)


class FullStore(CheckpointStore):
    """Fails on purpose."""

    def save(self, kind: Any, state: Any, facts: Any) -> int:
        raise OSError("no space left")


def test_the_writer_copies_at_once_and_the_latest_wins(folder: Path) -> None:
    store = SlowStore(folder)
    writer = CheckpointWriter(store, interval_s=0)
    weights = torch.zeros(4)
    writer.write_newest({"w": weights}, {"epoch": 0})
    assert store.began.wait(60)
    for epoch in (1, 2, 3):
        weights.fill_(epoch)
        writer.write_newest({"w": weights}, {"epoch": epoch})
    weights.fill_(-1)
    store.gate.set()
    writer.close()
    loaded = store.load("newest")
    assert loaded is not None
    assert loaded[1] == {"epoch": 3}
    assert torch.equal(loaded[0]["w"], torch.full((4,), 3.0))
    assert state_files(folder) == ["newest-0002.pt", *records("newest")], "epochs 1 and 2 were never written"


def test_newest_is_throttled_and_best_is_not(store: CheckpointStore) -> None:
    writer = CheckpointWriter(store, interval_s=3600, busy_share=0)
    writer.write_newest(make_state(1), {"epoch": 1})
    writer.write_best(make_state(1), {"epoch": 1})
    writer.wait_for_best()
    writer.write_newest(make_state(2), {"epoch": 2})
    writer.write_best(make_state(2), {"epoch": 2})
    writer.wait_for_best()
    assert store.facts("best") == {"epoch": 2}
    assert store.facts("newest") in ({"epoch": 1}, None)
    writer.close()
    assert store.facts("newest") == {"epoch": 2}
    writer.close()


def test_newest_is_written_more_often_where_that_is_quick(store: CheckpointStore) -> None:
    with CheckpointWriter(store, interval_s=3600, busy_share=1.0) as writer:
        for epoch in (1, 2, 3):
            writer.write_newest(make_state(1), {"epoch": epoch})
            while store.facts("newest") != {"epoch": epoch}:
                threading.Event().wait(0.01)


def test_a_newest_that_waits_is_durable_at_once_when_the_node_is_about_to_go(store: CheckpointStore) -> None:
    def wait_for(epoch: int) -> None:
        while store.facts("newest") != {"epoch": epoch}:
            threading.Event().wait(0.01)

    with CheckpointWriter(store, interval_s=3600, busy_share=0) as writer:
        writer.write_newest(make_state(1), {"epoch": 1})
        wait_for(1)
        writer.write_newest(make_state(2), {"epoch": 2})
        writer.hurry()
        wait_for(2)
        writer.write_newest(make_state(3), {"epoch": 3})
        wait_for(3)


def test_close_can_drop_what_waits(store: CheckpointStore) -> None:
    writer = CheckpointWriter(store, interval_s=3600, busy_share=0)
    writer.write_newest(make_state(1), {"epoch": 1})
    writer.write_best(make_state(1), {})  # after which epoch 1 is no longer waiting
    writer.wait_for_best()
    while store.facts("newest") is None:
        threading.Event().wait(0.01)
    writer.write_newest(make_state(2), {"epoch": 2})
    writer.close(keep_newest=False)
    assert store.facts("newest") == {"epoch": 1}
    with pytest.raises(RuntimeError, match="after its writer was closed"):
        writer.write_newest(make_state(3), {"epoch": 3})


def test_close_writes_a_best_that_waits_even_where_newest_is_dropped(folder: Path) -> None:
    store = SlowStore(folder)
    writer = CheckpointWriter(store, interval_s=3600, busy_share=0)
    writer.write_best(make_state(1), {"epoch": 1})
    assert store.began.wait(60)
    writer.write_best(make_state(2), {"epoch": 2})
    writer.write_newest(make_state(2), {"epoch": 2})
    store.gate.set()
    writer.close(keep_newest=False)
    assert store.facts("best") == {"epoch": 2}
    assert store.facts("newest") is None


def test_an_error_of_the_thread_surfaces_at_the_next_call(folder: Path) -> None:
    writer = CheckpointWriter(FullStore(folder), patience_s=0)
    writer.write_best(make_state(1), {})
    with pytest.raises(RuntimeError, match="no space left"):
        writer.wait_for_best()
    writer.write_best(make_state(1), {})
    with pytest.raises(RuntimeError, match="no space left"):
        writer.close()


def test_a_trial_without_room_writes_its_best_and_no_newest(folder: Path) -> None:
    store = CheckpointStore(folder)
    with CheckpointWriter(store, interval_s=0, max_bytes=10_000) as writer:
        writer.write_best({"w": torch.zeros(1000)}, {"epoch": 1})
        writer.wait_for_best()
        writer.write_newest({"w": torch.zeros(3000)}, {"epoch": 1})
        assert set(writer.sizes) == {"best"}
        writer.write_newest({"w": torch.zeros(1000)}, {"epoch": 2})
    assert store.facts("newest") == {"epoch": 2}
    on_disk = {path.name.split("-")[0]: path.stat().st_size for path in folder.glob("*.pt")}
    assert writer.sizes == on_disk
    assert sum(on_disk.values()) < 12_000
