"""Records that a command reads: damaged, of a newer version, or of a name that cannot be."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from search.cli import main

COMMANDS = (["report"], ["status"], ["status", "--json"], ["curves", "export"], ["search", "--resume"])


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
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


@pytest.mark.parametrize("command", COMMANDS, ids=" ".join)
@pytest.mark.parametrize("name", [".", "..", "../first", "a/b", "x" * 300])
def test_what_can_be_no_name_is_no_search(
    home: Path, capsys: pytest.CaptureFixture[str], command: list[str], name: str
) -> None:
    assert "there is no search" in refusal(command, name, capsys)
