"""A search's own records beside its checkpoints: copied to the storage as trials end, fetched back by a resumed one"""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from trainable.storage import join, make_folder, read_file, write_file

_log = logging.getLogger(__name__)
RECORDS = ("optuna.journal", "search.json", "splits.csv", "spent.json", "space.py", "sealed_test.json", "result.json")


class Mirror:
    """Copies what has changed of `folder` to `storage`/NAME, from a thread: the search does not wait for it.

    A copy that fails is tried again at the next call; if the last one does, a warning says so.
    """

    def __init__(self, folder: Path, storage: str) -> None:
        self.folder = folder
        self.uri = join(storage, folder.name)
        self._copied: dict[str, bytes] = {}
        self._error: OSError | None = None
        self._is_wanted = False
        self._closed = False
        self._wanted = threading.Event()
        self._thread = threading.Thread(target=self._run, name="mirror", daemon=True)
        self._thread.start()

    def copy(self) -> None:
        """Ask for a copy; returns at once."""
        self._is_wanted = True
        self._wanted.set()

    def close(self) -> None:
        """Copy for the last time, if a copy was ever asked for."""
        self._closed = True
        self._wanted.set()
        self._thread.join()
        if self._error is not None:
            _log.warning("the records of this search could not be copied to %s: %s", self.uri, self._error)

    def _run(self) -> None:
        is_last = False
        while not is_last:
            self._wanted.wait()
            self._wanted.clear()
            is_last = self._closed
            try:
                self._copy()
                self._error = None
            except OSError as error:
                self._error = error

    def _copy(self) -> None:
        if not self._is_wanted:
            return
        if not self._copied:
            make_folder(self.uri)
        for name in RECORDS:
            file = self.folder / name
            content = file.read_bytes() if file.exists() else b""
            if name.endswith(".journal"):  # which may just be growing
                content = content[: content.rfind(b"\n") + 1]
            if content and self._copied.get(name) != content:
                write_file(self.uri, name, content)
                self._copied[name] = content


@contextmanager
def mirror_records(folder: Path, storage: str | None) -> Iterator[Callable[[], None]]:
    """Gives what asks for a copy; without a storage it does nothing."""
    if storage is None:
        yield lambda: None
        return
    mirror = Mirror(folder, storage)
    try:
        yield mirror.copy
    finally:
        mirror.close()


def holds(storage: str, name: str) -> bool:
    """Whether the storage holds a search of this name."""
    return read_file(join(storage, name), "search.json") is not None


def fetch(storage: str, folder: Path) -> None:
    """Bring the records of a search to a head that has never seen it. Raises ValueError where there are none."""
    found = {name: read_file(join(storage, folder.name), name) for name in RECORDS}
    if found["search.json"] is None:
        raise ValueError(f"there is no search {folder.name!r}, neither in {folder.parent} nor in {storage}")
    folder.mkdir(parents=True)
    for name, content in found.items():
        if content is not None:
            (folder / name).write_bytes(content)
