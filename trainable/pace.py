"""The pace of a first epoch: noted beside a trial's checkpoints while it is trained, for a driver that has a budget"""

from __future__ import annotations

import json
import logging
import math
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass

from trainable.storage import delete_file, read_file, write_file

FILE = "pace.json"
FIRST_NOTE_S = 20.0
"""An epoch that is shorter leaves no note: most never leave one."""

_log = logging.getLogger(__name__)


@dataclass(frozen=True, kw_only=True)
class Pace:
    """How far an epoch is: steps done and in all, and seconds a step without the first, which sets everything up."""

    num_done: int
    num_steps: int
    step_s: float

    @property
    def epoch_s(self) -> float:
        """What the steps of an epoch take, without its validation."""
        return self.num_steps * self.step_s

    def left_s(self, since_s: float) -> float:
        """What the epoch still takes so many seconds after this was noted, without its validation."""
        return max(0.0, (self.num_steps - self.num_done) * self.step_s - since_s)


class PaceNote:
    """Call `step` before each step of a trial's first epoch, and `close` after it; `uri` is the trial's folder.

    Notes are written after 20 s and then at twice the time each. A note that cannot be written or removed harms nobody.
    """

    def __init__(self, uri: str, num_images: int, batch_size: int, clock: Callable[[], float] = time.monotonic) -> None:
        self.uri = uri
        self.num_steps = math.ceil(num_images / batch_size)
        self.clock = clock
        self.num_begun = 0
        self.second_began_s = 0.0
        self.next_note_s = clock() + FIRST_NOTE_S
        self.wait_s = FIRST_NOTE_S
        self.is_written = False

    def step(self) -> None:
        self.num_begun += 1
        now_s = self.clock()
        if self.num_begun == 2:
            self.second_began_s = now_s
        if self.num_begun < 3 or now_s < self.next_note_s:
            return
        self.next_note_s = now_s + self.wait_s
        self.wait_s *= 2
        done = self.num_begun - 1
        step_s = (now_s - self.second_began_s) / (done - 1)
        pace = Pace(num_done=done, num_steps=max(done, self.num_steps), step_s=step_s)
        try:
            write_file(self.uri, FILE, json.dumps(asdict(pace)).encode())
            self.is_written = True
        except OSError as error:
            _log.warning("the pace of an epoch could not be noted in %s: %s", self.uri, error)

    def close(self) -> None:
        if self.is_written:
            try:
                delete_file(self.uri, FILE)
            except OSError as error:
                _log.warning("the pace of an epoch could not be removed from %s: %s", self.uri, error)


def read_pace(uri: str) -> Pace | None:
    """What was noted last of the first epoch of the trial in the folder `uri`; None without a note that can be read."""
    try:
        content = read_file(uri, FILE)
        return Pace(**json.loads(content)) if content else None
    except (OSError, TypeError, ValueError):
        return None
