"""RayWatch: ends a search in one line where a part of the Ray that was started for it has died."""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

import psutil
from ray import tune

from search.engine.last_word import LastWord, describe_death

if TYPE_CHECKING:
    from ray.tune.experiment import Trial as TuneTrial

LOOK_S, PATIENCE_S = 2.0, 10.0
PARTS = {"raylet": "raylet", "gcs_server": "head (gcs_server)"}
"""Processes below the driver without which no trial can run; Ray itself waits for them for ever, or ends the driver."""


class RayDiedError(OSError):
    """A part of Ray on this machine has died, and no trial can go on in this process."""


class RayWatch(tune.Callback):
    """Looks at the processes of a Ray of our own every few seconds, from a thread. Raises RayDiedError out of Tune's
    loop; where that is held fast in a call to Ray, which then ends this process in its own time, `give_up(line)` is
    called from the thread. Where that does not come to a word either, `LastWord` has it. Call `close` where nobody
    needs Ray any more.
    """

    def __init__(self, name: str, give_up: Callable[[str], object]) -> None:
        self.name = name
        self.give_up = give_up
        self.parts = find_parts()
        self.fault = ""
        self.is_raised = threading.Event()
        self.is_over = threading.Event()
        self.last_word = LastWord(name, {what: process.pid for what, process in self.parts.items()})
        threading.Thread(target=self._watch, name="ray-watch", daemon=True).start()

    def on_step_end(self, iteration: int, trials: Sequence[TuneTrial], **info: Any) -> None:
        if self.fault:
            self.is_raised.set()
            raise RayDiedError(self.fault)

    def close(self) -> None:
        """Nobody needs Ray any more, and its end is not to be reported."""
        self.is_over.set()
        self.last_word.close()

    def _watch(self) -> None:
        while not self.is_over.wait(LOOK_S):
            for what, process in self.parts.items():
                if is_alive(process) or self.is_over.is_set():
                    continue
                self.fault = describe_death(self.name, f"Ray's {what}", process.pid)
                if not self.is_raised.wait(PATIENCE_S):
                    self.last_word.close()
                    self.give_up(self.fault)
                return

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
