"""A search's name and folder: what lies where, what a second search may not touch, what a resumed one finds."""

from __future__ import annotations

import errno
import json
import os
import re
import shutil
import tempfile
import time
from collections.abc import Mapping
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from enum import StrEnum
from pathlib import Path
from typing import Any

from filelock import FileLock, Timeout

from search.core.record_fields import find_wrong_field
from trainable.files import write_atomically
from trainable.records import ADVICE, RecordError, copy_of, read_record, write_record

RECORD_VERSION = 2
NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,79}")


def default_home() -> Path:
    """`CTSEARCH_HOME`, else `~/.ctsearch`."""
    return Path(os.environ.get("CTSEARCH_HOME") or Path.home() / ".ctsearch")


def default_storage() -> str | None:
    """`CTSEARCH_STORAGE`, else none: checkpoints then lie in the search's own folder."""
    return os.environ.get("CTSEARCH_STORAGE") or None


def write_json(path: Path, content: Mapping[str, Any]) -> None:
    """Write aside, then rename: a reader sees the old file or the new one, never a half."""
    write_atomically(path, json.dumps(content, indent=2, default=str) + "\n")


def list_searches(home: Path) -> list[str]:
    found = (record.parent.name for record in home.glob("searches/*/search.json"))
    return sorted(name for name in found if not name.startswith("."))


class Phase(StrEnum):
    """How far a search has come, as its record says."""

    PREPARING = "preparing"
    SEARCHING = "searching"
    CONFIRMING = "confirming"
    CONCLUDING = "concluding"
    ENDED = "ended"


@dataclass(frozen=True, kw_only=True)
class SearchFolder:
    """The folder of one search and, beside it, what all searches of this home share."""

    home: Path
    name: str
    resumed: bool
    lock: FileLock

    @property
    def folder(self) -> Path:
        return self.home / "searches" / self.name

    @property
    def mlflow(self) -> Path:
        return self.home / "mlflow"

    @property
    def cache(self) -> Path:
        return self.home / "cache"

    @property
    def record_file(self) -> Path:
        return self.folder / "search.json"

    @property
    def splits_file(self) -> Path:
        return self.folder / "splits.csv"

    @property
    def journal_file(self) -> Path:
        return self.folder / "optuna.journal"

    @property
    def spent_file(self) -> Path:
        return self.folder / "spent.json"

    @property
    def sealed_test_file(self) -> Path:
        return self.folder / "sealed_test.json"

    @property
    def models(self) -> Path:
        """The champion's two models, as MLflow saves them."""
        return self.folder / "models"

    @property
    def trials(self) -> Path:
        return self.folder / "trials"

    def list_spools(self, kind: str = "") -> list[Path]:
        """What trials on this machine could not send to MLflow, a file a trial (trainable/run_log.py)."""
        return sorted((self.cache / "spool" / f"{self.name}{kind}").glob("*.jsonl"))

    def read_record(self) -> dict[str, Any]:
        """Raises RecordError for one that is damaged, or that a newer version has written."""
        record = read_record(self.record_file)
        version = record.get("version", 1)
        if not isinstance(version, int) or version > RECORD_VERSION:
            raise RecordError(
                f"{self.record_file} is of version {version!r}; this ctsearch reads versions up to {RECORD_VERSION}: "
                "take the one that wrote it, or a newer one"
            )
        if wrong := find_wrong_field(record):
            raise RecordError(f"{self.record_file} is damaged: {wrong}; {ADVICE}")
        return record

    @property
    def recorded_options(self) -> Mapping[str, Any]:
        """The configuration that the record holds, unread. Raises RecordError where it holds none."""
        options = self.read_record().get("config")
        if not isinstance(options, dict):
            raise RecordError(f"{self.record_file} is damaged: it has no config; {ADVICE}")
        return options

    def update_record(self, **entries: Any) -> None:
        write_record(self.record_file, {**self.read_record(), **entries})

    @property
    def phase(self) -> Phase:
        """Of records of version 1, which had none, it is read off the files."""
        record = self.read_record()
        if "phase" in record:
            if record["phase"] not in list(Phase):
                raise RecordError(
                    f"{self.record_file} is damaged: its phase is {record['phase']!r}; it must be one of "
                    f"{', '.join(Phase)}"
                )
            return Phase(record["phase"])
        if "champion" in record:
            return Phase.ENDED
        if self.sealed_test_file.exists():
            return Phase.CONCLUDING
        return Phase.SEARCHING if self.journal_file.exists() else Phase.PREPARING

    def enter(self, phase: Phase) -> None:
        """Note that the search has come to a phase."""
        self.update_record(phase=phase.value, version=RECORD_VERSION)

    @property
    def num_extensions(self) -> int:
        """How often the search went on with a larger budget."""
        return len(self.read_record().get("extensions", ()))

    @property
    def is_running(self) -> bool:
        """Whether a driver holds this search now; of a folder that was opened to look at it."""
        try:
            with FileLock(self.folder / "driver.lock", timeout=0):
                return False
        except Timeout:
            return True

    def release(self) -> None:
        self.lock.release()

    def discard(self) -> None:
        """Undo `create_search` for a search that failed before its first trial, so that its name is free again."""
        shutil.rmtree(self.folder)
        self.release()


def make_name(kind: str = "search") -> str:
    return datetime.now(UTC).strftime(f"{kind}-%Y%m%d-%H%M%S")


def create_search(home: Path, name: str | None, record: Mapping[str, Any]) -> SearchFolder:
    """Make the folder of a new search. Raises ValueError for a name that is taken or cannot be a folder's name.

    It is made aside, with its record in it, and then renamed: a search that is killed meanwhile leaves its name free.
    """
    name = name or make_name()
    if not NAME.fullmatch(name):
        raise ValueError(f"--name is {name!r}; it must be letters, digits, '.', '_' or '-', at most 80 of them")
    folder = home / "searches" / name
    taken = ValueError(
        f"the search {name!r} exists in {folder}; go on with it by --resume {name}, or choose another --name"
    )
    if (folder / "search.json").exists():
        raise taken
    try:
        folder.parent.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise ValueError(f"--home is {home}; no folder of searches can be made there ({error.strerror})") from error
    if folder.is_dir() and any(folder.iterdir()):  # without a record no search can go on in it
        folder.rename(folder.with_name(f".left-{name}-{time.time_ns()}"))
    (home / "cache").mkdir(exist_ok=True)
    aside = Path(tempfile.mkdtemp(prefix=".new-", dir=folder.parent))
    try:
        aside.chmod(0o755)
        (aside / "trials").mkdir()
        lock = _lock(aside, name)
        begun = {"version": RECORD_VERSION, "phase": Phase.PREPARING.value}
        write_record(aside / "search.json", {**begun, **record})
        aside.rename(folder)
    except OSError as error:
        shutil.rmtree(aside, ignore_errors=True)
        if error.errno in (errno.ENOTEMPTY, errno.EEXIST, errno.ENOTDIR):
            raise taken from None
        raise
    return SearchFolder(home=home, name=name, resumed=False, lock=lock)


def reopen_search(home: Path, name: str) -> SearchFolder:
    """Open the folder of a search that began earlier. Raises ValueError where there is none, or it is running."""
    search = view_search(home, name)
    return replace(search, lock=_lock(search.folder, name))


def is_name(name: object) -> bool:
    """Whether a search may be called so."""
    return isinstance(name, str) and NAME.fullmatch(name) is not None


def view_search(home: Path, name: str) -> SearchFolder:
    """A search to look at, which may be running. Raises ValueError where there is none."""
    folder = home / "searches" / str(name)
    if not is_name(name) or not ((folder / "search.json").exists() or copy_of(folder / "search.json").exists()):
        known = ", ".join(list_searches(home)) or "none"
        raise ValueError(f"there is no search {name!r} in {home}; it must be one of: {known}")
    return SearchFolder(home=home, name=name, resumed=True, lock=FileLock(folder / "driver.lock"))


def _lock(folder: Path, name: str) -> FileLock:
    """Held for as long as the driver lives; the kernel frees it even after `kill -9`."""
    lock = FileLock(folder / "driver.lock")
    try:
        lock.acquire(timeout=0)
    except Timeout:
        raise ValueError(f"the search {name!r} is running in another process; wait for it or stop it") from None
    return lock
