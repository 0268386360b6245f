from __future__ import annotations

import os
import socket
from pathlib import Path

import pytest

from trainable.files import check_regular_file, check_target, open_regular_file, read_text_file, write_atomically


def test_a_file_is_replaced_whole_and_nothing_is_left_aside(tmp_path: Path) -> None:
    path = tmp_path / "record.json"
    write_atomically(path, "first")
    write_atomically(path, b"second")
    assert path.read_bytes() == b"second"
    assert list(tmp_path.iterdir()) == [path]


def test_a_write_that_fails_leaves_the_old_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "record.json"
    write_atomically(path, "old")

    def full(_: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("trainable.files.os.fsync", full)
    with pytest.raises(OSError, match="No space left"):
        write_atomically(path, "new")
    assert path.read_text() == "old" and list(tmp_path.iterdir()) == [path]


def test_a_mode_holds_from_the_first_byte(tmp_path: Path) -> None:
    path = tmp_path / "secret"
    write_atomically(path, "password", mode=0o600)
    assert path.stat().st_mode & 0o777 == 0o600


@pytest.fixture
def odd(tmp_path: Path) -> dict[str, Path]:
    """What is no regular file, by what the message calls it."""
    os.mkfifo(tmp_path / "pipe")
    (tmp_path / "link").symlink_to("/dev/zero")
    (tmp_path / "to-pipe").symlink_to(tmp_path / "pipe")
    (tmp_path / "loop").symlink_to(tmp_path / "loop")
    with socket.socket(socket.AF_UNIX) as made:
        made.bind(str(tmp_path / "socket"))
    return {
        "a named pipe": tmp_path / "pipe",
        "a device": tmp_path / "link",
        "named pipe and": tmp_path / "to-pipe",
        "a folder": tmp_path,
        "a socket": tmp_path / "socket",
        "there is no file": tmp_path / "missing",
        "symbolic links": tmp_path / "loop",
        "too long": tmp_path / ("x" * 300),
        "null": Path("a\0b"),
    }


def test_only_regular_files_are_opened(odd: dict[str, Path]) -> None:
    for word, path in odd.items():
        for use in (open_regular_file, check_regular_file, read_text_file):
            with pytest.raises(ValueError, match="--weights resnet18 is") as caught:
                use(path, "--weights resnet18")
            assert word in str(caught.value) and "\n" not in str(caught.value)


def test_a_link_to_a_regular_file_is_followed(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("text")
    (tmp_path / "link").symlink_to(tmp_path / "file")
    with open_regular_file(tmp_path / "link", "--space") as file:
        assert file.read() == b"text"


def test_a_python_file_must_be_text(tmp_path: Path) -> None:
    path = tmp_path / "space.py"
    path.write_bytes(b"\xef\xbb\xbfx = 1\n")
    assert read_text_file(path, "--space") == "x = 1\n"
    for content, word in ((b"x = 1\n# gr\xfcn\n", "line 2 is no text"), (b"a\0b", "null"), (b"#" * 2**21, "1 MB")):
        path.write_bytes(content)
        with pytest.raises(ValueError, match=word):
            read_text_file(path, "--space", max_bytes=2**20)


def test_a_target_is_a_file_in_a_folder_that_is_there(tmp_path: Path) -> None:
    check_target(tmp_path / "new.csv", "--csv")
    check_target(Path("new.csv"), "--csv")
    for wrong, words in ((tmp_path, "it is a folder"), (tmp_path / "gone" / "new.csv", "there is no folder")):
        with pytest.raises(ValueError, match=f"--csv is .*; {words}"):
            check_target(wrong, "--csv")
