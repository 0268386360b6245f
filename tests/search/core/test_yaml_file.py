from __future__ import annotations

import os
from pathlib import Path

import pytest

from search.core.yaml_file import read_yaml


def test_a_mapping_is_read_and_an_empty_file_is_an_empty_one(tmp_path: Path) -> None:
    (tmp_path / "a.yaml").write_text("budget: {max_epochs: 3}\n# ü\n", encoding="utf-8")
    (tmp_path / "empty.yaml").touch()
    assert read_yaml(tmp_path / "a.yaml", "--config") == {"budget": {"max_epochs": 3}}
    assert read_yaml(tmp_path / "empty.yaml", "--config") == {}


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (b"a: 1\nb: [1\n", r"a\.yaml, line 3: expected ',' or '\]'"),
        (b"a: b: c\n", r"a\.yaml, line 1: mapping values are not allowed here"),
        (b"\xbb\x00", r"a\.yaml: it is no text \(invalid start byte at byte 0\)"),
        (b"a: \x03\n", r"a\.yaml: unacceptable character #x0003"),
        (b"- 1\n", r"a\.yaml holds a list; it must be a mapping"),
        (b"hello\n", r"a\.yaml holds a str; it must be a mapping"),
        (b"[" * 5000, r"a\.yaml"),
    ],
)
def test_what_is_wrong_is_said_in_one_line_with_file_and_line(tmp_path: Path, content: bytes, words: str) -> None:
    (tmp_path / "a.yaml").write_bytes(content)
    with pytest.raises(ValueError, match=rf"^--config .*{words}") as caught:
        read_yaml(tmp_path / "a.yaml", "--config")
    assert "\n" not in str(caught.value)


def test_what_is_no_file_is_named_and_nobody_waits_for_it(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    for name, words in (("pipe", "named pipe"), ("", "folder"), ("missing", "no file|not there|there is no|No such")):
        with pytest.raises(ValueError, match=words) as caught:
            read_yaml(tmp_path / name, "--config")
        assert str(tmp_path / name) in str(caught.value)
