"""LostWorkers: which deaths of workers count against their trials, and when it is the machine that ends them all"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from ray.tune.experiment import Trial as TuneTrial

MAX_LOST_WORKERS = 3
"""A trial whose worker dies goes on elsewhere; one that takes a fourth with it and ends no new epoch has failed."""
NUM_EXCUSED = 8
"""So many deaths of a trial for want of memory do not count: who took it may be another trial, or none of ours."""
NUM_TO_END = 10
"""After so many in a row, of two trials or more and without a new epoch of anybody, no trial is to blame."""
LONGEST_WORDS = 300


class LostWorkers:
    """Corrects what Tune counts, one failure for each death.

    A trial that has ended a new epoch since its last loss begins to count anew. `give_up(why)` ends a search whose
    machine has no memory left, before trial after trial fails for it.
    """

    def __init__(self, give_up: Callable[[str], object]) -> None:
        self.give_up = give_up
        self.epochs_at_loss: dict[int, int] = {}
        self.no_memory: Counter[int] = Counter()  # deaths since a trial's last new epoch, by trial
        self.in_a_row: Counter[int] = Counter()  # the same since the last new epoch of anybody

    def lose(self, trial: TuneTrial, num_epochs: int) -> None:
        """A trial with so many epochs has lost its worker, and will go on."""
        number = trial.config["number"]
        self.epochs_at_loss[number] = num_epochs
        if not is_no_memory(read_last_failure(trial.error_file)):
            return
        self.no_memory[number] += 1
        self.in_a_row[number] += 1
        if self.no_memory[number] <= NUM_EXCUSED:
            trial.run_metadata.num_failures = max(0, trial.run_metadata.num_failures - 1)
        if len(self.in_a_row) > 1 and self.in_a_row.total() >= NUM_TO_END:
            num_ended, num_trials = self.in_a_row.total(), len(self.in_a_row)
            self.give_up(
                f"memory ran out, {num_ended} workers of {num_trials} trials were ended for it, and no epoch ended in "
                "between; free memory, or begin with fewer trials at once (--trial-cpus) or fewer pixels (--image-size)"
            )

    def go_on(self, trial: TuneTrial, num_epochs: int) -> None:
        """A trial has reported, and has so many epochs now."""
        number = trial.config["number"]
        if num_epochs > self.epochs_at_loss.get(number, num_epochs):
            del self.epochs_at_loss[number], self.no_memory[number]
            self.in_a_row.clear()
            trial.run_metadata.num_failures = 0
        elif number not in self.epochs_at_loss:
            self.in_a_row.clear()


def describe_loss(error_file: str | None) -> str:
    """What a trial failed of that has lost worker after worker, in a line."""
    failure = read_last_failure(error_file)
    if is_no_memory(failure):
        return (
            "its worker was ended again and again for want of memory on its machine; let fewer trials run at once "
            "(--trial-cpus), or with fewer pixels (--image-size) or smaller batches (--range batch_size=...)"
        )
    return f"its worker died again and again, last: {last_line(failure)[:LONGEST_WORDS]}"


def is_no_memory(failure: str) -> bool:
    """Whether Ray ended a worker because memory was short on its node."""
    return any(words in failure.lower() for words in ("out of memory", "low on memory"))


@contextmanager
def as_lost_workers() -> Iterator[None]:
    """Within, Tune goes on after two deaths of workers for which by itself it ends the experiment, or the trial.

    A worker that Ray ended for want of memory is a lost one, also where Ray reports the fate of its task, which comes
    first by chance (ray-project/ray#29736). And one that dies on its way from a trial to the next is lost once: Tune
    takes note of it for the worker, lets the trial wait for another, and fails it when the task is heard of as well.
    """
    from ray.air.execution._internal.actor_manager import RayActorManager
    from ray.exceptions import OutOfMemoryError, RayActorError
    from ray.tune.execution.tune_controller import TuneController

    fail_worker, fail_trial = RayActorManager._actor_task_failed, TuneController._trial_task_failure

    def fail_worker_too(manager: Any, tracked_actor_task: Any, exception: Exception) -> None:
        if isinstance(exception, OutOfMemoryError):
            exception = RayActorError(error_msg=str(exception))
        fail_worker(manager, tracked_actor_task, exception)

    def fail_trial_once(controller: Any, trial: TuneTrial, exception: Exception) -> None:
        controller._resetting_trials.discard(trial)
        waits = trial.status == "PENDING" and trial not in controller._trial_to_actor
        if not (waits and isinstance(exception, RayActorError)):
            fail_trial(controller, trial, exception)

    RayActorManager._actor_task_failed = fail_worker_too
    TuneController._trial_task_failure = fail_trial_once
    try:
        yield
    finally:
        RayActorManager._actor_task_failed = fail_worker
        TuneController._trial_task_failure = fail_trial


def read_last_failure(error_file: str | None) -> str:
    """What Tune noted last of the failures of a trial; "" where it noted none."""
    text = Path(error_file).read_text(errors="replace") if error_file and Path(error_file).exists() else ""
    return text.rpartition("Failure # ")[2]


def last_line(text: str) -> str:
    """What was raised, in its own words: a traceback has them at its end."""
    lines = [line.strip() for line in text.splitlines() if line.strip()]
    return lines[-1] if lines else "ended without a word"
