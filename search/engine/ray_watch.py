"""RayWatch: ends a search in one line where a part of the Ray that was started for it has died."""

from __future__ import annotations

import time
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import psutil
from ray import tune

if TYPE_CHECKING:
    from ray.tune.experiment import Trial as TuneTrial

LOOK_S = 2.0
PARTS = {"raylet": "raylet", "gcs_server": "head (gcs_server)"}
"""Processes below the driver without which no trial can run; Ray itself waits for them for ever, or ends the driver."""


class RayDiedError(OSError):
    """A part of Ray on this machine has died, and no trial can go on in this process."""


class RayWatch(tune.Callback):
    """Looks at the processes of a Ray of our own every few seconds. Raises RayDiedError out of Tune's loop."""

    def __init__(self, name: str) -> None:
        self.name = name
        self.parts = find_parts()
        self.next_look_s = time.monotonic() + LOOK_S

    def on_step_end(self, iteration: int, trials: Sequence[TuneTrial], **info: Any) -> None:
        if time.monotonic() < self.next_look_s:
            return
        self.next_look_s = time.monotonic() + LOOK_S
        for what, process in self.parts.items():
            if not is_alive(process):
                raise RayDiedError(
                    f"Ray's {what} on this machine (process {process.pid}) has died, killed by somebody or for want of "
                    f"memory; nothing that was reported is lost: go on with ctsearch search --resume {self.name}"
                )

    def __reduce__(self) -> tuple[type[object], tuple[()]]:
        return object, ()


def find_parts() -> dict[str, psutil.Process]:
    """Ray's processes below this one, by what they are."""
    children = psutil.Process().children()
    return {PARTS[name]: child for child in children if (name := child.name()) in PARTS}


def is_alive(process: psutil.Process) -> bool:
    """Whether a process runs, and is not dead and waited for."""
    try:
        return process.is_running() and process.status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False
