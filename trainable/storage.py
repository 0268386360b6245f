"""Where a search keeps what must outlive a node: a local or shared folder, or an object store, through pyarrow"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable
from functools import lru_cache
from pathlib import Path
from typing import TypeVar

from pyarrow import fs

from trainable.files import write_atomically

PATIENCE_S = 300.0
"""A share whose server is started again is back by then."""
FIRST_PAUSE_S, LONGEST_PAUSE_S = 0.5, 10.0

_T = TypeVar("_T")
_log = logging.getLogger(__name__)


class StorageLostError(RuntimeError):
    """A storage was away for longer than a trial waits for it."""


class Absence:
    """How long a storage has been away: gone, not mounted, full or read-only. Who needs it waits, and tries again."""

    def __init__(self, uri: str, patience_s: float = PATIENCE_S) -> None:
        self.uri = uri
        self.patience_s = patience_s
        self.began_s: float | None = None
        self.pause_s = FIRST_PAUSE_S

    def bear(self, error: OSError) -> float:
        """Seconds until the next try. The first error is told; raises StorageLostError after `patience_s` seconds."""
        if self.began_s is None:
            self.began_s = time.monotonic()
            _log.warning("the storage %s is away; what is written there waits: %s", self.uri, error)
        if (away_s := time.monotonic() - self.began_s) >= self.patience_s:
            raise StorageLostError(f"the storage {self.uri} has been away for {away_s:.0f} s: {error}") from error
        pause_s, self.pause_s = self.pause_s, min(2 * self.pause_s, LONGEST_PAUSE_S)
        return pause_s

    def end(self) -> None:
        """It is there."""
        if self.began_s is not None:
            _log.warning("the storage %s is back", self.uri)
        self.began_s, self.pause_s = None, FIRST_PAUSE_S


def outlast(uri: str, call: Callable[[], _T], patience_s: float = PATIENCE_S) -> _T:
    """What `call` gives, tried again while the storage at `uri` is away. Raises StorageLostError."""
    absence = Absence(uri, patience_s)
    while True:
        try:
            return call()
        except OSError as error:
            time.sleep(absence.bear(error))


@lru_cache(maxsize=8)
def open_folder(uri: str) -> tuple[fs.FileSystem, str]:
    """The file system and the path of a folder: a local path or what pyarrow.fs understands (`s3://bucket/folder`).

    Raises ValueError for a URI that pyarrow cannot read.
    """
    if "://" not in uri:
        return fs.LocalFileSystem(), str(Path(uri).absolute())
    try:
        system, folder = fs.FileSystem.from_uri(uri)
    except (ValueError, OSError) as error:
        raise ValueError(
            f"the storage is {uri!r}; it must be a folder or a URI such as s3://bucket/folder ({error})"
        ) from error
    return system, folder.rstrip("/")


def join(uri: str, *parts: str) -> str:
    """A folder below `uri`; options behind a question mark, such as `?endpoint_override=...`, stay at the end."""
    path, mark, options = uri.partition("?") if "://" in uri else (uri, "", "")
    return "/".join((path.rstrip("/"), *parts)) + mark + options


def make_folder(uri: str) -> None:
    """Make a folder and those above it, where the file system has any. Raises OSError.

    What is written later makes no folders above its own: where a storage is not mounted, they are not there.
    """
    system, folder = open_folder(uri)
    if isinstance(system, fs.LocalFileSystem):
        Path(folder).mkdir(parents=True, exist_ok=True)


def exists(uri: str) -> bool:
    """Whether a folder is there; in an object store, which has none, always. Raises OSError."""
    system, folder = open_folder(uri)
    return not isinstance(system, fs.LocalFileSystem) or Path(folder).is_dir()


def write_file(uri: str, name: str, content: bytes) -> None:
    """Write a file of a folder as one piece: a reader sees the old content or the new one. Raises OSError.

    The folder is made, those above it are not.
    """
    system, folder = open_folder(uri)
    if not isinstance(system, fs.LocalFileSystem):
        with system.open_output_stream(f"{folder}/{name}") as stream:  # a put of an object store is atomic
            stream.write(content)
        return
    Path(folder).mkdir(exist_ok=True)
    write_atomically(Path(folder, name), content)


def read_file(uri: str, name: str) -> bytes | None:
    """The content of a file of a folder, or None where there is none. Raises OSError."""
    system, folder = open_folder(uri)
    try:
        with system.open_input_stream(f"{folder}/{name}") as stream:
            return bytes(stream.read())
    except FileNotFoundError:
        return None


def delete_file(uri: str, name: str) -> None:
    """Remove a file of a folder. Raises OSError."""
    system, folder = open_folder(uri)
    system.delete_file(f"{folder}/{name}")
