"""File locks between processes: the kernel frees them when their owner dies, however it dies."""

from __future__ import annotations

import fcntl
import os
from contextlib import contextmanager
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path


def lock(path: Path, mode: int) -> int:
    """Wait for the lock (fcntl.LOCK_SH, LOCK_EX); the file is made if missing. Gives its descriptor."""
    held = os.open(path, os.O_RDWR | os.O_CREAT, 0o600)
    try:
        fcntl.flock(held, mode)
    except OSError:
        os.close(held)
        raise
    return held


def try_lock(path: Path) -> int | None:
    """The exclusive lock, or None when somebody holds one."""
    try:
        return lock(path, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return None


def unlock(held: int) -> None:
    fcntl.flock(held, fcntl.LOCK_UN)
    os.close(held)


@contextmanager
def alone_in(folder: Path) -> Iterator[None]:
    """Hold a server's folder while no server of this machine runs in it. Raises ValueError where one does."""
    folder.mkdir(parents=True, exist_ok=True)
    if (held := try_lock(folder / "running")) is None:
        raise ValueError(f"an MLflow server runs in {folder}; end it first (its address is in server.json there)")
    try:
        yield
    finally:
        unlock(held)
