"""Faults of disks: a storage that is gone, not mounted, read-only or full, and a full disk of the searches' folder"""

from __future__ import annotations

import signal
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from benchmarks.chaos_search import Chaos

AWAY_S = 20.0
"""For how long a storage or a disk is away."""
DISK_BYTES = 256 << 20


def lose_storage(chaos: Chaos) -> None:
    """The storage is gone for a while, as a share whose server is: nothing can be read or written there."""
    aside = chaos.storage.with_name("storage.away")
    chaos.storage.rename(aside)
    chaos.storage.touch()
    wait_out(chaos)
    chaos.storage.unlink()
    aside.rename(chaos.storage)


def empty_storage(chaos: Chaos) -> None:
    """The storage is not mounted for a while: an empty folder takes what is written."""
    aside = chaos.storage.with_name("storage.away")
    chaos.storage.rename(aside)
    chaos.storage.mkdir()
    wait_out(chaos)
    chaos.storage.rename(chaos.storage.with_name(f"storage.unmounted-{time.monotonic_ns()}"))
    aside.rename(chaos.storage)


def lock_storage(chaos: Chaos) -> None:
    """The storage can be read only, for a while."""
    with mounted(chaos, chaos.storage):
        while not run("mount", "-o", "remount,ro", str(chaos.storage)):
            time.sleep(0.05)  # a checkpoint is being written
        wait_out(chaos)
        run("mount", "-o", "remount,rw", str(chaos.storage))
        chaos.end(signal.SIGTERM)


def fill_storage(chaos: Chaos) -> None:
    with mounted(chaos, chaos.storage):
        fill_disk(chaos, chaos.storage)
        chaos.end(signal.SIGTERM)


def fill_home(chaos: Chaos) -> None:
    """The disk of the searches' folder is full: the driver may end, with a line, and goes on once there is room."""
    with mounted(chaos, chaos.home / "searches"):
        fill_disk(chaos, chaos.home / "searches")
        if chaos.driver.poll() is None:
            chaos.end(signal.SIGTERM)


def fill_disk(chaos: Chaos, folder: Path) -> None:
    filler = folder / "filler"
    with filler.open("wb", buffering=0) as file, suppress(OSError):
        while file.write(b"\0" * 4096):
            pass
    wait_out(chaos)
    filler.unlink()


def wait_out(chaos: Chaos) -> None:
    """For as long as a disk is away; a driver that ends meanwhile has done so with a line."""
    with suppress(subprocess.TimeoutExpired):
        chaos.driver.wait(AWAY_S)
        chaos.note_finished()
        if "Traceback" in chaos.log_file.read_text().rpartition("\n---")[2]:
            chaos.lost.append(f"{chaos.name}: the driver ended with a traceback where a disk was away")


@contextmanager
def mounted(chaos: Chaos, folder: Path) -> Iterator[None]:
    """A small disk in the place of a folder, with what is in it, while the driver runs; none runs at the ends."""
    chaos.end(signal.SIGTERM)
    aside = folder.with_name(f"{folder.name}.aside")
    folder.rename(aside)
    folder.mkdir()
    if not run("mount", "-t", "tmpfs", "-o", f"size={DISK_BYTES}", "tmpfs", str(folder)):
        raise OSError(f"no disk can be mounted on {folder}")
    try:
        run("cp", "-a", f"{aside}/.", str(folder))
        chaos.start_again()
        yield
    finally:
        if chaos.driver.poll() is None:
            chaos.kill()
        run("rm", "-rf", str(aside))
        run("cp", "-a", str(folder), str(aside))
        while not run("umount", str(folder)):
            time.sleep(0.2)  # a worker of the last driver
        folder.rmdir()
        aside.rename(folder)


def run(*command: str) -> bool:
    return subprocess.run(command, capture_output=True).returncode == 0
