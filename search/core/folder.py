"""A search's name and folder: what lies where, what a second search may not touch, what a resumed one finds."""

from __future__ import annotations

import json
import os
import re
import shutil
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from filelock import FileLock, Timeout

from trainable.files import write_atomically
from trainable.records import copy_of, read_record, write_record

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
    return sorted(found.parent.name for found in home.glob("searches/*/search.json"))


@dataclass(frozen=True, kw_only=True)
class SearchHome:
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
    def trials(self) -> Path:
        return self.folder / "trials"

    def read_record(self) -> dict[str, Any]:
        return read_record(self.record_file)

    def update_record(self, **entries: Any) -> None:
        write_record(self.record_file, {**self.read_record(), **entries})

    def release(self) -> None:
        self.lock.release()

    def discard(self) -> None:
        """Undo `create_search` for a search that failed before its first trial, so that its name is free again."""
        shutil.rmtree(self.folder)
        self.release()


def make_name(kind: str = "search") -> str:
    return datetime.now(UTC).strftime(f"{kind}-%Y%m%d-%H%M%S")


def create_search(home: Path, name: str | None, record: Mapping[str, Any]) -> SearchHome:
    """Make the folder of a new search. Raises ValueError for a name that is taken or cannot be a folder's name."""
    name = name or make_name()
    if not NAME.fullmatch(name):
        raise ValueError(f"--name is {name!r}; it must be letters, digits, '.', '_' or '-', at most 80 of them")
    folder = home / "searches" / name
    try:
        folder.mkdir(parents=True)
    except FileExistsError:
        raise ValueError(
            f"the search {name!r} exists in {folder}; go on with it by --resume {name}, or choose another --name"
        ) from None
    search_home = SearchHome(home=home, name=name, resumed=False, lock=_lock(folder, name))
    search_home.cache.mkdir(exist_ok=True)
    search_home.trials.mkdir()
    write_record(search_home.record_file, record)
    return search_home


def reopen_search(home: Path, name: str) -> SearchHome:
    """Open the folder of a search that began earlier. Raises ValueError where there is none, or it is running."""
    folder = home / "searches" / name
    if not (folder / "search.json").exists() and not copy_of(folder / "search.json").exists():
        known = ", ".join(list_searches(home)) or "none"
        raise ValueError(f"there is no search {name!r} in {home}; it must be one of: {known}")
    return SearchHome(home=home, name=name, resumed=True, lock=_lock(folder, name))


def _lock(folder: Path, name: str) -> FileLock:
    """Held for as long as the driver lives; the kernel frees it even after `kill -9`."""
    lock = FileLock(folder / "driver.lock")
    try:
        lock.acquire(timeout=0)
    except Timeout:
        raise ValueError(f"the search {name!r} is running in another process; wait for it or stop it") from None
    return lock
