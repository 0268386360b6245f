"""Several GPUs in one trial: its other ranks are actors beside its own, in the same placement group, in step with it"""

from __future__ import annotations

import shutil
import tempfile
import threading
from collections.abc import Generator
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import ray
from ray.exceptions import RayError, RayTaskError
from ray.util.scheduling_strategies import PlacementGroupSchedulingStrategy

from trainable.worker_memory import WorkerMemory, keep_freed_memory

if TYPE_CHECKING:
    from trainable.config import StepPlan, TrialConfig
    from trainable.epoch_report import EpochReport
    from trainable.images.prepare import TrainingData
    from trainable.process_group import ProcessGroup
    from trainable.task import TrialTask

GRACE_S = 10.0
"""How long after a broken connection Ray may take to say what became of the rank behind it."""


class Rank:
    """What runs in the actor of a rank other than 0, warm from trial to trial."""

    def __init__(self, task: TrialTask) -> None:
        import trainable.train  # noqa: F401

        keep_freed_memory()
        self.task = task
        self.reports: Generator[EpochReport] | None = None
        self.memory = WorkerMemory()

    def join(self, rank: int, meeting_file: str) -> None:
        from trainable.process_group import join_process_group
        from trainable.step_plan import pick_device

        self.process_group = join_process_group(rank, self.task.settings.num_ranks, Path(meeting_file), pick_device())

    def begin(self, config: TrialConfig, data: TrainingData, plan: StepPlan) -> None:
        """Make ready for a trial as rank 0 does; the clock and the checkpoints are rank 0's."""
        from trainable.train import train

        self.reports = train(
            config,
            replace(self.task.settings, timeout_s=None),
            data,
            plan=plan,
            weights=self.task.weights.get(config.architecture),
            source=self.task.sources.get(config.architecture),
            process_group=self.process_group,
        )

    def train_epoch(self) -> None:
        assert self.reports is not None
        next(self.reports)

    def end(self) -> bool:
        """Give everything of the last trial back; says whether that worked."""
        if self.reports is not None:
            self.reports.close()
            self.reports = None
        return self.memory.comes_back()


def wait_for_failures(work: list[Any]) -> list[Exception]:
    """Wait until all ranks have done their work, or one has failed: then what failed, the cause first.

    A rank that dies breaks its connections, and those who notice may be reported before Ray reports the dead one.
    """
    failures: list[Exception] = []
    while work:
        done, work = ray.wait(work, timeout=GRACE_S if failures else None)
        try:
            ray.get(done)
        except Exception as error:
            failures.append(error)
        if failures and not (done and isinstance(failures[-1], RuntimeError)):
            break
    return sorted(failures, key=lambda error: isinstance(error, RuntimeError))


class OtherRanks:
    """Rank 0's hold on the others. They start beside it, so that all import their libraries at the same time.

    They end with the trial's own actor, with its placement group, or as soon as one rank fails: whatever a trial leaves
    half done between processes, the next one begins with fresh ones.
    """

    def __init__(self, task: TrialTask) -> None:
        self.task = ray.put(task)
        self.size = task.settings.num_ranks
        self.actors: list[Any] = []
        self.process_group: ProcessGroup | None = None
        self.folder: str | None = None
        self._start()

    def begin(self, config: TrialConfig, data: TrainingData, plan: StepPlan) -> ProcessGroup:
        """Let all ranks begin a trial. Returns rank 0's place among them."""
        if not self.actors:
            self._start()
        if self.process_group is None:
            try:
                self.process_group = self._meet()
            except Exception:
                self.close()
                raise
        for actor in self.actors:
            actor.begin.remote(config, data, plan)
        return self.process_group

    def train_epoch(self, reports: Generator[EpochReport]) -> EpochReport:
        """Rank 0's next report, while the others train the same epoch.

        Raises what any rank raised, and RayActorError where the process of one is gone.
        """
        failures: list[Exception] = []
        work = [actor.train_epoch.remote() for actor in self.actors]
        watch = threading.Thread(target=self._watch, args=(work, failures), name="other-ranks", daemon=True)
        watch.start()
        report, error = None, None
        try:
            report = next(reports)
        except Exception as raised:
            error = raised
        if report is not None:
            watch.join()
        elif isinstance(error, RuntimeError):  # what a broken connection looks like: which rank broke it?
            watch.join(2 * GRACE_S)
        error = failures[0] if failures else error
        if error is not None:
            self.close()
            watch.join()
            if isinstance(error, RayTaskError):
                raise error.cause from error
            raise error
        assert report is not None
        return report

    def end(self) -> None:
        """After a trial; a rank whose memory does not come back is replaced, and all with it."""
        try:
            clean = all(ray.get([actor.end.remote() for actor in self.actors]))
        except RayError:
            clean = False
        if not clean:
            self.close()

    def close(self) -> None:
        """End the other ranks, whatever they are doing."""
        from trainable.process_group import abort_process_group, leave_process_group

        self._kill()
        abort_process_group()
        leave_process_group()
        self.process_group = None
        if self.folder is not None:
            shutil.rmtree(self.folder, ignore_errors=True)

    def _start(self) -> None:
        group = ray.util.get_current_placement_group()
        bundles = [{}] * self.size if group is None else group.bundle_specs
        for rank in range(1, self.size):
            place = PlacementGroupSchedulingStrategy(group, rank) if group is not None else "DEFAULT"
            share = {"num_cpus": bundles[rank].get("CPU", 0), "num_gpus": bundles[rank].get("GPU", 0)}
            actor = ray.remote(Rank).options(scheduling_strategy=place, **share).remote(self.task)
            self.actors.append(actor)

    def _meet(self) -> ProcessGroup:
        from trainable.process_group import join_process_group
        from trainable.step_plan import pick_device

        ray.get([actor.__ray_ready__.remote() for actor in self.actors])  # nobody waits for one that cannot start
        self.folder = tempfile.mkdtemp(prefix="ctsearch-ranks-")  # NCCL looks into it now and then
        file = Path(self.folder) / "meeting"
        joins = [actor.join.remote(rank, str(file)) for rank, actor in enumerate(self.actors, 1)]
        process_group = join_process_group(0, self.size, file, pick_device())
        ray.get(joins)
        return process_group

    def _watch(self, work: list[Any], failures: list[Exception]) -> None:
        """Where one fails, nobody may go on waiting for it."""
        from trainable.process_group import abort_process_group

        failures += wait_for_failures(work)
        if failures:
            self._kill()
            abort_process_group()

    def _kill(self) -> None:
        actors, self.actors = self.actors, []
        for actor in actors:
            ray.kill(actor)
