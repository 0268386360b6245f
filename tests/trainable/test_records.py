from __future__ import annotations

import json
import random
import subprocess
import sys
from pathlib import Path

import optuna
import pytest
from optuna.storages import JournalStorage
from optuna.storages.journal import JournalFileBackend

from trainable.files import write_atomically
from trainable.records import (
    RecordError,
    copy_of,
    keep_copy,
    read_record,
    read_text_record,
    repair_journal,
    restore_record,
    write_record,
)

ROOT = Path(__file__).resolve().parents[2]
RECORD = {"config": {"name": "first", "seed": 3}, "image_size": 64, "data_hash": "0123456789abcdef"}


@pytest.fixture
def path(tmp_path: Path) -> Path:
    write_record(tmp_path / "search.json", RECORD)
    return tmp_path / "search.json"


def damage(content: bytes, rng: random.Random) -> bytes:
    """One of what disks and people do: a byte changed, a part lost, zeros, another line, nothing left."""
    at, length = rng.randrange(len(content)), rng.randrange(1, 40)
    kinds = (
        content[:at] + bytes([content[at] ^ (1 << rng.randrange(8))]) + content[at + 1 :],
        content[:at],
        content[:at] + b"\0" * length + content[at + length :],
        content[:at] + content[at + length :],
        content[:at] + rng.randbytes(length) + content[at:],
        b"",
    )
    return rng.choice([kind for kind in kinds if kind != content])


def test_a_record_stays_plain_json_that_every_program_reads(path: Path) -> None:
    assert json.loads(path.read_text()) == RECORD == read_record(path)


def test_each_of_a_thousand_damaged_records_is_restored(path: Path, caplog: pytest.LogCaptureFixture) -> None:
    rng, content = random.Random(7), path.read_bytes()
    for number in range(1000):
        path.write_bytes(damage(content, rng))
        assert read_record(path) == RECORD
        assert path.read_bytes() == content
        assert len(caplog.records) == number + 1 and str(path) in caplog.records[-1].getMessage()


def test_each_of_a_thousand_damaged_copies_costs_nothing(path: Path) -> None:
    rng, content = random.Random(7), copy_of(path).read_bytes()
    for _ in range(1000):
        copy_of(path).write_bytes(damage(content, rng))
        assert read_record(path) == RECORD
        keep_copy(path)


def test_a_lost_record_is_restored_and_what_was_found_is_kept(path: Path) -> None:
    path.unlink()
    assert read_record(path) == RECORD
    path.write_text("{}")
    assert read_record(path) == RECORD
    assert path.with_name("search.json.bad").read_text() == "{}"


def test_a_record_of_an_older_version_has_no_copy_and_is_read(path: Path) -> None:
    copy_of(path).unlink()
    assert read_record(path) == RECORD
    assert not restore_record(path)


@pytest.mark.parametrize("content", ["", "{", "[1]", "null", "\0" * 9])
def test_where_both_are_damaged_the_file_is_named(content: str, path: Path) -> None:
    path.write_text(content)
    copy_of(path).write_text("sha256 0\n{}")
    with pytest.raises(RecordError, match=r"search\.json") as caught:
        read_record(path)
    assert "\n" not in str(caught.value)


def test_a_crash_between_the_two_writes_leaves_the_newer(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    files: list[Path] = []

    def die_at_second(target: Path, content: bytes | str) -> None:
        files.append(target)
        if len(files) == 2:
            raise KeyboardInterrupt
        write_atomically(target, content)

    monkeypatch.setattr("trainable.records.write_atomically", die_at_second)
    with pytest.raises(KeyboardInterrupt):
        write_record(path, RECORD | {"image_size": 128})
    monkeypatch.undo()
    assert read_record(path)["image_size"] == 128


WRITER = """
import sys
from pathlib import Path
from trainable.records import write_record
for number in range(400):
    write_record(Path(sys.argv[1]), {"number": number})
"""


def test_a_reader_beside_a_writer_sees_whole_records_and_restores_nothing(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    path = tmp_path / "search.json"
    write_record(path, {"number": -1})
    with subprocess.Popen([sys.executable, "-c", WRITER, str(path)], cwd=ROOT) as writer:
        seen = [-1]
        while writer.poll() is None:
            seen.append(read_record(path)["number"])
    assert seen == sorted(seen) and len(set(seen)) > 2
    assert read_record(path) == {"number": 399}
    assert not caplog.records and not path.with_name("search.json.bad").exists()


def test_splits_that_somebody_edits_are_put_back(tmp_path: Path) -> None:
    path = tmp_path / "splits.csv"
    path.write_text("path,split\na.png,train\nb.png,test\n")
    keep_copy(path)
    path.write_text("path,split\na.png,train\nb.png,train\n")
    assert read_text_record(path).endswith("b.png,test\n")


# -- Optuna's journal


def open_study(path: Path) -> optuna.Study:
    storage = JournalStorage(JournalFileBackend(str(path)))
    return optuna.create_study(study_name="s", storage=storage, load_if_exists=True)


@pytest.fixture
def journal(tmp_path: Path) -> Path:
    study = open_study(tmp_path / "optuna.journal")
    for _ in range(3):
        trial = study.ask()
        study.tell(trial, trial.suggest_float("x", 0, 1))
    return tmp_path / "optuna.journal"


def test_a_sound_journal_is_left_as_it_is(journal: Path, tmp_path: Path) -> None:
    content = journal.read_bytes()
    assert repair_journal(journal) is None
    assert journal.read_bytes() == content
    assert repair_journal(tmp_path / "missing") is None


def test_a_torn_last_line_is_set_aside_wherever_it_tears(journal: Path) -> None:
    content = journal.read_bytes()
    begin = content[:-1].rfind(b"\n") + 1
    for cut in range(begin + 1, len(content)):
        journal.write_bytes(content[:cut])
        output = repair_journal(journal)
        assert output is not None and "set aside" in output and "\n" not in output
        assert journal.read_bytes() == content[:begin]
    study = open_study(journal)
    assert len(study.trials) == 3
    study.tell(study.ask(), 0.5)
    assert len(open_study(journal).trials) == 4
    assert content[begin : len(content) - 1] in journal.with_name("optuna.journal.torn").read_bytes()


def test_zeros_at_the_end_are_cut_off(journal: Path) -> None:
    content = journal.read_bytes()
    journal.write_bytes(content + b"\0" * 4096)
    repair_journal(journal)
    assert journal.read_bytes() == content


def test_a_damaged_first_line_is_restored(journal: Path) -> None:
    content = journal.read_bytes()
    repair_journal(journal)
    journal.write_bytes(b"\0" + content[1:])
    output = repair_journal(journal)
    assert output is not None and "first line" in output
    assert journal.read_bytes() == content


def test_a_damaged_line_in_the_middle_is_named(journal: Path) -> None:
    lines = journal.read_bytes().splitlines(keepends=True)
    lines[2] = b"\0" * 8 + b"\n"
    journal.write_bytes(b"".join(lines))
    with pytest.raises(RecordError, match=r"optuna\.journal, line 3 is damaged"):
        repair_journal(journal)
