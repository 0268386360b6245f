from __future__ import annotations

import os
from pathlib import Path

import pytest

from search.core.yaml_file import read_yaml


def test_a_mapping_is_read_and_an_empty_file_is_an_empty_one(tmp_path: Path) -> None:
    (tmp_path / "a.yaml").write_text("budget: {max_epochs: 3}\n# ü\n", encoding="utf-8")
    (tmp_path / "empty.yaml").touch()
    assert read_yaml(tmp_path / "a.yaml", "--config") == {"budget": {"max_epochs": "3"}}
    assert read_yaml(tmp_path / "empty.yaml", "--config") == {}


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (b"a: 1\nb: [1\n", r"a\.yaml, line 3: expected ',' or '\]'"),
        (b"a: b: c\n", r"a\.yaml, line 1: mapping values are not allowed here"),
        (b"a: 1\n\xbb\x00", r"is .*a\.yaml; its line 2 is no text in UTF-8"),
        (b"a: \x03\n", r"a\.yaml: unacceptable character #x0003"),
        (b"- 1\n", r"a\.yaml holds a list; it must be a mapping"),
        (b"hello\n", r"a\.yaml holds a str; it must be a mapping"),
        (b"[" * 5000, r"a\.yaml"),
        (b"a: 1\nb: 2\na: 3\n", r"a\.yaml, line 3: 'a' is given twice"),
        (b"g: {a: 1, a: 2}\n", r"a\.yaml, line 1: 'a' is given twice"),
        (b"a: " + b"x" * 11 * 2**20, r"a\.yaml; it has more than 10 MB, and a YAML file has less"),
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


def test_values_are_what_they_would_be_on_a_command_line(tmp_path: Path) -> None:
    """YAML 1.1 would read 0.5, 512, 8, false, a date, 1.1 and 1000 here."""
    texts = {"a": "0:0.5", "b": "8:32", "c": "010", "d": "off", "e": "2026-11-29", "f": "1.10", "g": "1_000"}
    (tmp_path / "a.yaml").write_text("".join(f"{name}: {text}\n" for name, text in texts.items()))
    assert read_yaml(tmp_path / "a.yaml", "--config") == texts
    (tmp_path / "a.yaml").write_text("a: true\nb: null\nc:\nd: [False, 'true']\ng: &g {x: 1}\nh: {<<: *g, y: 2}\n")
    assert read_yaml(tmp_path / "a.yaml", "--config") == {
        "a": True,
        "b": None,
        "c": None,
        "d": [False, "true"],
        "g": {"x": "1"},
        "h": {"x": "1", "y": "2"},
    }


def test_aliases_that_stand_for_more_than_fits_into_memory_are_refused(tmp_path: Path) -> None:
    lines = ["a0: &a0 [" + "x," * 10 + "]"]
    lines += [f"a{n}: &a{n} [{','.join([f'*a{n - 1}'] * 10)}]" for n in range(1, 9)]
    (tmp_path / "a.yaml").write_text("\n".join(lines))
    with pytest.raises(
        ValueError, match=r"^--config .*a\.yaml, line 6: its aliases stand for more than 1,000,000 signs"
    ):
        read_yaml(tmp_path / "a.yaml", "--config")
