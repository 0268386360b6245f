from __future__ import annotations

import hashlib
import json
import logging
import math
import os
import pickle
import socket
import subprocess
import sys
import textwrap
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from pyarrow import fs

from tests.trainable.checkpoints import is_listening, make_state, records, state_files
from trainable.checkpoint import CheckpointStore, copy_to_cpu, count_bytes

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return tmp_path / "trials of ü %20" / "0007"


@pytest.fixture
def store(folder: Path) -> CheckpointStore:
    return CheckpointStore(folder)


def test_state_and_facts_come_back_as_they_were(store: CheckpointStore) -> None:
    model = torch.nn.Sequential(torch.nn.Linear(3, 4), torch.nn.BatchNorm1d(4))
    optimizer = torch.optim.AdamW(model.parameters())
    model(torch.rand(8, 3)).sum().backward()
    optimizer.step()
    store.save("newest", {"model": model.state_dict(), "optimizer": optimizer.state_dict()}, {"epoch": 3})
    loaded = store.load("newest")
    assert loaded is not None
    state, facts = loaded
    assert facts == store.facts("newest") == {"epoch": 3}
    for name, tensor in model.state_dict().items():
        assert torch.equal(state["model"][name], tensor)
    optimizer.load_state_dict(state["optimizer"])


def test_a_new_state_replaces_the_old_one_of_its_kind(store: CheckpointStore, folder: Path) -> None:
    for k in range(3):
        store.save("newest", make_state(k), {"epoch": k})
    store.save("best", make_state(9), {"epoch": 9})
    assert state_files(folder) == ["best-0001.pt", *records("best"), "newest-0003.pt", *records("newest")]
    assert store.facts("newest") == {"epoch": 2}
    store.delete("newest")
    store.delete("newest")
    assert state_files(folder) == ["best-0001.pt", *records("best")]


def test_an_absent_checkpoint_is_none_without_a_warning(
    store: CheckpointStore, caplog: pytest.LogCaptureFixture
) -> None:
    assert store.load("newest") is None
    assert store.facts("best") is None
    store.delete("best")
    assert not caplog.records


@pytest.mark.parametrize("damage", ["truncate", "flip", "empty", "remove"])
def test_a_damaged_state_is_skipped_with_a_warning(
    store: CheckpointStore, folder: Path, caplog: pytest.LogCaptureFixture, damage: str
) -> None:
    store.save("newest", make_state(1), {"epoch": 1})
    file = folder / "newest-0001.pt"
    content = file.read_bytes()
    if damage == "remove":
        file.unlink()
    else:
        middle = len(content) // 2
        flipped = content[:middle] + bytes([content[middle] ^ 1]) + content[middle + 1 :]
        file.write_bytes({"truncate": content[:middle], "flip": flipped, "empty": b""}[damage])
    with caplog.at_level(logging.WARNING):
        assert store.load("newest") is None
    assert "newest-0001.pt is skipped" in caplog.text
    store.save("newest", make_state(2), {"epoch": 2})
    loaded = store.load("newest")
    assert loaded is not None and loaded[1] == {"epoch": 2}


def test_a_state_that_has_grown_is_not_read_to_its_end(
    store: CheckpointStore, folder: Path, caplog: pytest.LogCaptureFixture
) -> None:
    store.save("newest", make_state(1), {"epoch": 1})
    os.truncate(folder / "newest-0001.pt", 2**40)  # sparse: more than memory holds
    assert store.load("newest") is None
    assert "newest-0001.pt is skipped: it has more than" in caplog.text


def test_a_record_of_a_version_that_counted_no_bytes_is_read(store: CheckpointStore, folder: Path) -> None:
    store.save("newest", make_state(1), {"epoch": 1})
    for name in records("newest"):
        record = json.loads((folder / name).read_text())
        del record["num_bytes"], record["checksum"]
        checksum = hashlib.sha256(json.dumps(record, sort_keys=True).encode()).hexdigest()
        (folder / name).write_text(json.dumps(record | {"checksum": checksum}))
    loaded = store.load("newest")
    assert loaded is not None and loaded[1] == {"epoch": 1}


def test_damaged_facts_are_skipped_with_a_warning(
    store: CheckpointStore, folder: Path, caplog: pytest.LogCaptureFixture
) -> None:
    store.save("newest", make_state(1), {"epoch": 1})
    for name in records("newest"):
        (folder / name).write_text('{"file": "newest-00')
    assert store.load("newest") is None
    assert store.facts("newest") is None
    assert "newest.json is skipped" in caplog.text


def test_an_older_valid_state_is_taken_where_it_still_exists(store: CheckpointStore, folder: Path) -> None:
    store.save("newest", make_state(1), {"epoch": 1})
    older = (folder / "newest-0001.pt").read_bytes()
    store.save("newest", make_state(2), {"epoch": 2})
    (folder / "newest-0001.pt").write_bytes(older)  # as if the writer had been killed before removing it
    (folder / "newest-0002.pt").write_bytes(b"damaged")
    loaded = store.load("newest")
    assert loaded is not None
    assert loaded[1] == {"epoch": 1}
    assert torch.equal(loaded[0]["model"]["w"], torch.full((64, 64), 1.0))


class Trap:
    def __reduce__(self) -> tuple[Any, tuple[str]]:
        return os.mkdir, (str(Path.cwd() / "trap"),)


def test_a_pickled_object_is_refused_and_never_run(
    store: CheckpointStore,
    folder: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    monkeypatch.chdir(tmp_path)
    store.save("best", make_state(1), {})
    torch.save({"model": Trap()}, folder / "best-0001.pt")
    record = json.loads((folder / "best.json").read_text())
    record["sha256"] = hashlib.sha256((folder / "best-0001.pt").read_bytes()).hexdigest()
    record["checksum"] = ""
    (folder / "best.json").write_text(json.dumps(record))
    assert store.load("best") is None
    assert "best-0001.pt is skipped" in caplog.text
    assert not (tmp_path / "trap").exists()
    pickle.loads(pickle.dumps(Trap()))
    assert (tmp_path / "trap").exists(), "the trap must be a working one"


def test_what_could_not_be_loaded_is_refused_when_it_is_saved(store: CheckpointStore) -> None:
    with pytest.raises(TypeError, match=r"state\.model\.0 .*Trap"):
        store.save("newest", {"model": [Trap()]}, {})
    with pytest.raises(TypeError, match="facts"):
        store.save("newest", {}, {"when": Trap()})
    with pytest.raises(ValueError, match="newest, best"):
        store.save("oldest", {}, {})  # type: ignore[arg-type]
    assert store.load("newest") is None


def test_numbers_of_numpy_become_plain_and_non_finite_ones_survive(store: CheckpointStore) -> None:
    facts = {"auc": np.float64(0.5), "epoch": np.int64(3), "best": -math.inf, "loss": math.nan}
    store.save("best", {"epoch": np.int64(3), "value": np.float32(0.5)}, facts)
    loaded = store.load("best")
    assert loaded is not None
    assert loaded[0] == {"epoch": 3, "value": 0.5}
    assert (loaded[1]["auc"], loaded[1]["epoch"], loaded[1]["best"]) == (0.5, 3, -math.inf)
    assert math.isnan(loaded[1]["loss"])


def test_a_writer_killed_at_any_moment_leaves_a_valid_state(tmp_path: Path) -> None:
    script = textwrap.dedent(
        """
        import os, random, signal, sys, time
        import torch
        from trainable.checkpoint import CheckpointStore
        store, random_ = CheckpointStore(sys.argv[1]), random.Random(0)
        store.save("newest", {"w": torch.zeros(50_000)}, {"k": 0})
        last = 0
        for _ in range(30):
            if (child := os.fork()) == 0:
                k = last
                while True:
                    k += 1
                    store.save("newest", {"w": torch.full((50_000,), float(k))}, {"k": k})
            time.sleep(random_.uniform(0.0, 0.06))
            os.kill(child, signal.SIGKILL)
            os.waitpid(child, 0)
            state, facts = store.load("newest")
            assert bool((state["w"] == facts["k"]).all()) and facts["k"] >= last, (facts, last)
            last = facts["k"]
        print(last)
        """
    )
    result = subprocess.run(
        [sys.executable, "-c", script, str(tmp_path)],
        cwd=ROOT,
        env=os.environ | {"OMP_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert result.returncode == 0, result.stderr
    assert int(result.stdout) > 0, "no save was ever finished, so nothing was tested"
    assert "skipped" not in result.stderr


def test_a_copy_shares_no_memory() -> None:
    weights = torch.zeros(3)
    copied = copy_to_cpu({"a": [weights], "b": (weights, 1)})
    weights.fill_(1)
    assert torch.equal(copied["a"][0], torch.zeros(3))
    assert torch.equal(copied["b"][0], torch.zeros(3))


def test_an_s3_bucket_serves_as_well(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("moto", reason="moto, a local stand-in for S3, is not installed")
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
        monkeypatch.setenv(name, "testing")
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    command = [sys.executable, "-W", "ignore", "-m", "moto.server", "-H", "127.0.0.1", "-p", str(port)]
    with (tmp_path / "log").open("wb") as log, subprocess.Popen(command, stdout=log, stderr=log) as server:
        try:
            address = f"127.0.0.1:{port}"
            bucket = fs.S3FileSystem(endpoint_override=address, scheme="http", allow_bucket_creation=True)
            end = time.monotonic() + 300
            while not is_listening(port) and time.monotonic() < end:
                time.sleep(0.1)
            bucket.create_dir("trials")
            store = CheckpointStore(f"s3://trials/search/0007?scheme=http&endpoint_override={address}")
            assert store.load("newest") is None
            for k in (1, 2):
                store.save("newest", make_state(k), {"epoch": k})
            loaded = store.load("newest")
            assert loaded is not None and loaded[1] == {"epoch": 2}
            found = bucket.get_file_info(fs.FileSelector("trials/search/0007"))
            assert sorted(info.base_name for info in found) == ["newest-0002.pt", *records("newest")]
            with bucket.open_output_stream("trials/search/0007/newest-0002.pt") as stream:
                stream.write(b"damaged")
            assert store.load("newest") is None
            store.delete("newest")
            assert store.facts("newest") is None
        finally:
            server.kill()


def test_bytes_of_nested_tensors_are_counted() -> None:
    assert count_bytes({"a": [torch.zeros(3), {"b": (torch.zeros(2, dtype=torch.uint8), 5, "text")}]}) == 14
