"""Records that a command reads: damaged, of a newer version, or of a name that cannot be."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

import ctsearch
from search.cli import main
from search.core.folder import view_search
from tests.search.recorded import record_search
from trainable.records import RecordError

COMMANDS = (["report"], ["status"], ["status", "--json"], ["curves", "export"], ["search", "--resume"])


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("CTSEARCH_HOME", str(tmp_path))
    return tmp_path


def refusal(command: list[str], name: str, capsys: pytest.CaptureFixture[str]) -> str:
    """The one line by which a command refuses."""
    verb = [command[0], name, *command[1:]] if command[0] == "status" else [*command, name]
    assert main(verb) == 2
    lines = capsys.readouterr().err.splitlines()
    assert len(lines) == 1 and lines[0].startswith("ctsearch: "), lines
    return lines[0]


@pytest.mark.parametrize("command", COMMANDS, ids=" ".join)
@pytest.mark.parametrize(
    ("record", "words"),
    [
        ({}, "it has no config"),
        ({"config": []}, "it has no config"),
        ({"version": 99, "config": {}}, "is of version 99; this ctsearch reads versions up to"),
        ({"version": "2", "config": {}}, "is of version '2'"),
        ({"config": {}, "max_epochs": "nine"}, "its max_epochs is 'nine'; it must be a whole number from 1 on"),
    ],
)
def test_a_record_that_cannot_be_read_is_named(
    home: Path, capsys: pytest.CaptureFixture[str], command: list[str], record: dict[str, Any], words: str
) -> None:
    folder = home / "searches" / "first"
    folder.mkdir(parents=True)
    (folder / "search.json").write_text(json.dumps({"phase": "searching", **record}))
    told = refusal(command, "first", capsys)
    assert words in told and str(folder / "search.json") in told


@pytest.mark.parametrize(
    ("entry", "words"),
    [
        ({"first_rung": 0}, "its first_rung is 0; it must be a whole number from 1 on"),
        ({"image_size": True}, "its image_size is True; it must be a whole number from 1 on"),
        ({"champion": "best"}, "its champion is 'best'; it must be the number of a trial"),
        ({"nets": []}, "its nets is []; it must be an object with architectures"),
        ({"nets": {"sources": {"own": 3}}}, "it must be an object with architectures"),
        ({"runs": {"0": 1}}, "its runs is {'0': 1}; it must be runs of MLflow by the number of a trial"),
        ({"stop": "TIRED"}, "its stop is 'TIRED'; it must be one of ALL_TRIALS"),
        ({"stop": ["TIRED"]}, "its stop is ['TIRED']; it must be one of ALL_TRIALS"),
        ({"confirmation": {"members": [0]}}, "it must be an object with members, a list of trials, num_folds"),
        ({"confirmation": {"members": [0], "num_folds": 3, "final_size": "big"}}, "and final_size where there is one"),
        ({"warm_start": []}, "its warm_start is []; it must be an object with points"),
        ({"tracking_url": 5000}, "its tracking_url is 5000; it must be text"),
        ({"extensions": 2}, "its extensions is 2; it must be a list of objects"),
    ],
)
def test_an_entry_that_was_edited_by_hand_is_named(home: Path, entry: dict[str, Any], words: str) -> None:
    folder = home / "searches" / "first"
    folder.mkdir(parents=True)
    (folder / "search.json").write_text(json.dumps({"phase": "searching", "config": {}, **entry}))
    with pytest.raises(RecordError) as refused:
        view_search(home, "first").read_record()
    assert words in str(refused.value) and str(folder / "search.json") in str(refused.value)


@pytest.mark.parametrize("command", COMMANDS, ids=" ".join)
@pytest.mark.parametrize("name", [".", "..", "../first", "a/b", "x" * 300])
def test_what_can_be_no_name_is_no_search(
    home: Path, capsys: pytest.CaptureFixture[str], command: list[str], name: str
) -> None:
    assert "there is no search" in refusal(command, name, capsys)


RESULT = {
    "champion": 0,
    "params": {"architecture": "small_cnn"},
    "metric": "auc",
    "validation_value": 0.75,
    "model_name": "slices",
    "version": "1",
    "alias": "champion",
    "test_auc": 0.7,
    "test_auc_low": 0.6,
}


@pytest.fixture
def ended(home: Path) -> Path:
    """The folder of a search, without the copies by which records are restored."""
    folder = record_search(home, "first", num_trials=3, max_epochs=2)
    folder.release()
    for copy in folder.folder.glob("*.good"):
        copy.unlink()
    return folder.folder


def test_a_result_is_read(ended: Path, home: Path) -> None:
    (ended / "result.json").write_text(json.dumps(RESULT))
    champion = ctsearch.open("first", home=home).champion
    assert champion is not None and champion.test["auc"].low == 0.6


@pytest.mark.parametrize("command", [["status"], ["report"]], ids=" ".join)
@pytest.mark.parametrize(
    "content",
    [
        *(b"", b"{", b"[]", b"\0\0", b"\xff\xfe", b"[" * 100_000, b'{"champion": 0}'),
        *(
            json.dumps(RESULT | wrong).encode()
            for wrong in (
                {"champion": "x"},
                {"params": 5},
                {"validation_value": "high"},
                {"members": 5},
                {"warnings": None},
                {"test_auc_low": "x"},
            )
        ),
    ],
    ids=lambda content: str(content[:30]),
)
def test_a_damaged_result_is_named(
    content: bytes, command: list[str], ended: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (ended / "result.json").write_bytes(content)
    told = refusal(command, "first", capsys)
    assert str(ended / "result.json") in told and "is damaged" in told and "restore it" in told


@pytest.mark.parametrize("command", [["status"], ["report"], ["curves", "export"]], ids=" ".join)
@pytest.mark.parametrize(
    "damage",
    [
        lambda lines: [b"x" + lines[0], *lines[1:]],
        lambda lines: [*lines[:3], b"{{{\n", *lines[3:]],
        lambda lines: [*lines, b"{}\n"],
        lambda lines: [*lines, b"[]\n"],
        lambda lines: [*lines, b'{"op_code": 99, "worker_id": "x"}\n'],
        lambda lines: [*lines, b"[" * 100_000 + b"\n"],
    ],
)
def test_a_damaged_journal_is_named(
    damage: Callable[[list[bytes]], list[bytes]],
    command: list[str],
    ended: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    journal = ended / "optuna.journal"
    journal.write_bytes(b"".join(damage(journal.read_bytes().splitlines(keepends=True))))
    told = refusal(command, "first", capsys)
    assert f"{journal} is damaged" in told


@pytest.mark.parametrize("command", [["status"], ["report"]], ids=" ".join)
@pytest.mark.parametrize("content", [b"[]", b'{"wall_s": "x"}', b'{"device_s": null}', b"[" * 100_000])
def test_a_damaged_account_is_named(
    content: bytes, command: list[str], ended: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (ended / "spent.json").write_bytes(content)
    assert str(ended / "spent.json") in refusal(command, "first", capsys)


def test_a_search_whose_images_were_moved_is_still_shown(
    ended: Path, home: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    record = json.loads((ended / "search.json").read_text())
    (ended / "search.json").write_text(json.dumps(record | {"config": record["config"] | {"data": "/moved/away"}}))
    assert main(["status", "first"]) == 0
    assert main(["search", "--resume", "first", "--num-trials", "50"]) == 2
    assert "/moved/away; there is no such folder" in capsys.readouterr().err
