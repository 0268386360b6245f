from __future__ import annotations

from pathlib import Path

import pytest

from trainable.storage import delete_file, join, open_folder, read_file, write_file
from trainable.task import locate_trial


def test_options_of_a_uri_stay_at_its_end() -> None:
    assert join("s3://bucket/a/?endpoint_override=h:9", "b", "c") == "s3://bucket/a/b/c?endpoint_override=h:9"
    assert join("/shared/a?b", "c") == "/shared/a?b/c"
    assert locate_trial("s3://bucket/trials", 7) == "s3://bucket/trials/0007"


def test_a_file_is_written_whole_read_back_and_removed(tmp_path: Path) -> None:
    folder = str(tmp_path / "new")
    assert read_file(folder, "a") is None
    write_file(folder, "a", b"1")
    write_file(folder, "a", b"22")
    assert read_file(folder, "a") == b"22"
    assert [file.name for file in (tmp_path / "new").iterdir()] == ["a"]
    delete_file(folder, "a")
    assert read_file(folder, "a") is None


def test_a_uri_that_no_file_system_knows_is_an_error_with_an_example() -> None:
    with pytest.raises(ValueError, match="such as s3://bucket/folder"):
        open_folder("ftp://host/folder")
