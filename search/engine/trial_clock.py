"""TrialClock: ends the worker of a trial that runs past its timeout and does not end by itself."""

from __future__ import annotations

import time
from collections import defaultdict
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

from ray import tune

from search.engine.nodes import end_process, find_process

if TYPE_CHECKING:
    from ray.tune.experiment import Trial as TuneTrial

GRACE_S = 10.0
"""A trial asks for the time itself, between batches; a model or a file system that hangs never gets there."""

LONGEST_STEP_S = 5.0
"""Of the driver; what it stood still for longer (a suspended machine) is not counted against its trials."""


class TrialClock(tune.Callback):
    """Measures in the driver for how long each trial has held a worker: waiting and paused time is not counted.

    A trial past `timeout_s` seconds and a grace of `GRACE_S` has its worker ended, wherever that hangs. `blame(number,
    why)` is called before: it makes the death of the worker a failure of the trial. `clock` gives seconds.
    """

    def __init__(
        self,
        timeout_s: float,
        blame: Callable[[int, str], object],
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self.timeout_s = timeout_s
        self.blame = blame
        self.clock = clock
        self.held_s: defaultdict[int, float] = defaultdict(float)
        self.ended: set[int] = set()
        self.last_s = clock()

    def on_step_end(self, iteration: int, trials: Sequence[TuneTrial], **info: Any) -> None:
        now_s = self.clock()
        passed_s, self.last_s = min(now_s - self.last_s, LONGEST_STEP_S), now_s
        for trial in trials:
            number = trial.config["number"]
            if trial.status != trial.RUNNING or number in self.ended:
                continue
            self.held_s[number] += passed_s
            if self.held_s[number] > self.timeout_s + GRACE_S:
                self.ended.add(number)
                self._end(trial, number)

    def _end(self, trial: TuneTrial, number: int) -> None:
        """Fail a trial for good. Ray declares the worker dead at once, also where its process cannot end."""
        import ray

        why = f"ran past its timeout of {self.timeout_s:g} s and answered no more; its worker was ended"
        self.blame(number, why)
        trial.run_metadata.num_failures = trial.max_failures + 1  # Tune would start it again
        actor = trial.temporary_state.ray_actor
        if actor is None:
            return
        node_id, pid = find_process(actor)
        ray.kill(actor)
        if pid > 0:  # a process that is stopped, or deep in the kernel, does not answer Ray
            end_process(node_id, pid)

    def __reduce__(self) -> tuple[type[object], tuple[()]]:
        return object, ()
