"""Records of a search: each is kept a second time, with its checksum, so that a damaged one is noticed and restored.

The record itself stays plain text that every program reads. Beside it lies NAME.good: a line with the SHA-256 of what
follows and of the record before it, then the record again. It is written first: whatever is interrupted, one of the
two is whole, a record that is one step behind its copy is known as such, and any other difference is damage.
"""

from __future__ import annotations

import hashlib
import json
import logging
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from trainable.files import write_atomically

ADVICE = "restore it, from --storage if the search has one, or begin a new search"
"""What to do about a damaged record, after what is wrong with it."""
_MARK = b"sha256 "
_log = logging.getLogger(__name__)


class RecordError(ValueError):
    """A record is damaged, and so is its copy, or there is none."""


def write_record(path: Path, content: Mapping[str, Any] | str) -> None:
    """Write a record, as JSON unless it is text, and its copy. Raises OSError; then the old ones hold.

    One process writes a record at a time; others may read it meanwhile.
    """
    data = _encode(content)
    _write_copy(path, data)
    write_atomically(path, data)


def keep_copy(path: Path) -> None:
    """Take what a record holds now as right: for one that somebody else has written, such as splits.csv."""
    _write_copy(path, path.read_bytes())


def _write_copy(path: Path, data: bytes) -> None:
    before = _read(path)
    head = _MARK + _hash(data) + (b" after " + _hash(before) if before is not None else b"")
    write_atomically(copy_of(path), head + b"\n" + data)


def read_record(path: Path) -> dict[str, Any]:
    """The JSON record at `path`; a damaged, changed or lost one is restored from its copy, with a warning.

    A record without a copy, as older versions wrote it, is taken as it is. Raises RecordError, naming the file, where
    neither can be read, and FileNotFoundError where there is neither.
    """
    text = read_text_record(path)
    try:
        record = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise RecordError(f"{path} is damaged ({error}){_advise(path)}") from error
    if not isinstance(record, dict):
        raise RecordError(f"{path} holds no JSON object{_advise(path)}")
    return record


def read_text_record(path: Path) -> str:
    """The record at `path` as text; all else as `read_record`."""
    _, data = _settle(path)
    if data is None:
        if not path.exists():
            raise FileNotFoundError(f"there is no {path}")
        raise RecordError(f"{path} cannot be read{_advise(path)}")
    return data.decode(errors="surrogateescape")


def restore_record(path: Path) -> bool:
    """Put the copy of a record in the place of one that is damaged, changed or lost, with a warning; whether it did.

    Call it before somebody else reads the record. A damaged copy is removed, and the record taken as it is.
    """
    return _settle(path)[0]


def _settle(path: Path) -> tuple[bool, bytes | None]:
    """Whether the record had to be restored, and what it holds now; None where it cannot be read.

    The copy is read before and after: where it stayed the same, the record is of the same version or of the one before.
    """
    while True:
        copy, found = _read(copy_of(path)), _read(path)
        if copy == _read(copy_of(path)):
            break
    if copy is None:
        return False, found
    head, _, good = copy.partition(b"\n")
    mark, _, before = head.partition(b" after ")
    if mark != _MARK + _hash(good):
        _log.warning("%s, the copy of a record, is damaged: %s is taken as it is", copy_of(path), path.name)
        copy_of(path).unlink(missing_ok=True)
        return False, found
    if found == good or (found is not None and _hash(found) == before):  # the writer is, or was, between its two writes
        return False, good
    what = "was missing or could not be read"
    if found is not None:
        what = "was damaged or changed"
        write_atomically(path.with_name(f"{path.name}.bad"), found)
    write_atomically(path, good)
    _log.warning("%s %s and is restored from its copy, %s", path, what, copy_of(path).name)
    return True, good


def _read(path: Path) -> bytes | None:
    try:
        return path.read_bytes()
    except OSError:
        return None


def _hash(data: bytes) -> bytes:
    return hashlib.sha256(data).hexdigest().encode()


def copy_of(path: Path) -> Path:
    """Where the copy of a record lies."""
    return path.with_name(f"{path.name}.good")


def repair_journal(path: Path) -> str | None:
    """Make a journal of JSON lines (Optuna's) fit to be read and appended to; what was done, as one line, or None.

    What follows the last newline is half a line of a writer that died: it is set aside as NAME.torn, before Optuna
    appends to it. The first line, which makes the study, is kept as a record; a damaged one is restored. Raises
    RecordError naming file and line for any other line that is no JSON.
    """
    try:
        content = path.read_bytes()
    except FileNotFoundError:
        return None
    notes = []
    whole, torn = content[: content.rfind(b"\n") + 1], content[content.rfind(b"\n") + 1 :]
    lines = whole.splitlines(keepends=True)
    head = path.with_name(f"{path.name}.head")
    if lines and not _is_entry(lines[0]) and (kept := _read_head(head)) is not None:
        lines[0] = kept
        notes.append("its first line was damaged and is restored from its copy")
    for number, line in enumerate(lines, start=1):
        if not _is_entry(line):
            raise RecordError(
                f"{path}, line {number} is damaged: the trials from there on cannot be read. Restore the file, from "
                f"--storage if the search has one, or keep the {number - 1} lines before and resume"
            )
    if torn.strip(b"\0"):
        aside = path.with_name(f"{path.name}.torn")
        with aside.open("ab") as file:
            file.write(torn + b"\n")
        notes.append(f"{len(torn)} bytes of a line that was never finished are set aside in {aside.name}")
    if (repaired := b"".join(lines)) != content:
        write_atomically(path, repaired)
    if lines and not head.exists():
        write_record(head, lines[0].decode())
    return f"{path}: {'; '.join(notes)}" if notes else None


def _is_entry(line: bytes) -> bool:
    try:
        return isinstance(json.loads(line), dict)
    except (ValueError, RecursionError):
        return False


def _read_head(head: Path) -> bytes | None:
    try:
        kept = os.fsencode(read_text_record(head))
    except (OSError, RecordError):
        return None
    return kept if _is_entry(kept) and kept.endswith(b"\n") else None


def _encode(content: Mapping[str, Any] | str) -> bytes:
    text = content if isinstance(content, str) else json.dumps(dict(content), indent=2, default=str) + "\n"
    return text.encode(errors="surrogateescape")


def _advise(path: Path) -> str:
    return f"; {ADVICE} ({path.name}.good is its copy)"
