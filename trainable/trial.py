"""What Tune runs on a worker: one trial after another in one warm process, an epoch a step.

The heavy imports happen in `setup`, on the worker: the driver imports this module without torch.
"""

from __future__ import annotations

import logging
import platform
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from traceback import format_exc
from typing import TYPE_CHECKING, Any

import ray
from ray import tune
from ray.exceptions import RayActorError

from trainable.config import StepPlan, TrialConfig
from trainable.distributed import OtherRanks
from trainable.model_cost import measure_costs
from trainable.node import DrainWatch, bring_pixels, choose_node_dir
from trainable.report import TrialFailure, TrialReport
from trainable.storage import StorageLostError
from trainable.task import TrialTask
from trainable.worker_memory import WorkerMemory, keep_freed_memory, read_resident_bytes

if TYPE_CHECKING:
    from trainable.epoch_report import EpochReport
    from trainable.run_log import RunLog
    from trainable.training import Training


_log = logging.getLogger(__name__)


class Trial(tune.Trainable):
    """A Tune class trainable: `step` is an epoch, `reset_config` the next trial on the same warm worker.

    Its config holds `number` (Optuna's), `params` (the sampled configuration), `run_id` (MLflow's) and `plans`
    (step plans that the search has measured already). A trial's first result says where the time went before its
    first step: `timings_s` by name, in seconds.
    """

    def setup(self, config: dict[str, Any], task: TrialTask | None = None) -> None:
        assert task is not None
        self.timings_s: dict[str, float] = {}
        self.others = OtherRanks(task) if task.settings.num_ranks > 1 else None
        with self._timed("imports on the worker"):
            import trainable.step_plan
            import trainable.training  # noqa: F401
        keep_freed_memory()
        self.task = task
        self.training: Training | None = None
        self.has_finished = False
        self.closing_log: RunLog | None = None
        self.memory = WorkerMemory()
        self.node_dir = choose_node_dir(task.node_dir)
        if task.pixels_server is not None and task.tracking_uri:  # on the driver's own node the driver does so
            from trainable.run_log import send_left_spools

            spools, by = self.node_dir / "spool" / task.search, f"val_{task.settings.objective.key}"
            send_left_spools(task.tracking_uri, spools, by)
        self.drain_watch = DrainWatch(self._hurry) if task.pixels_server is not None else None

    def step(self) -> dict[str, Any]:
        """Train one epoch. Resuming and the model's construction fall into a trial's first step.

        What a trial raises is reported, not raised: the worker stays warm, and whatever else ends an actor
        (a lost node, a killed process) is no failure of the trial, which goes on from its newest checkpoint.
        """
        try:
            return self._train_epoch().to_result()
        except RayActorError:  # another rank's process is gone: as if this one were
            self.cleanup()
            ray.actor.exit_actor()
            raise
        except StorageLostError as error:
            return TrialFailure(error=str(error), lost_storage=True).to_result()
        except Exception as error:
            return TrialFailure(error=f"{type(error).__name__}: {error}", traceback=format_exc()).to_result()

    def _train_epoch(self) -> TrialReport:
        if (training := self.training) is None:
            training = self.training = self._begin()
        self.has_finished = False
        report = next(training.reports) if self.others is None else self.others.train_epoch(training.reports)
        self.has_finished = report.finished
        reported = training.report(report)
        device = self.device_name if self.others is None else f"{self.others.size} x {self.device_name}"
        return replace(
            reported,
            device=device,
            node_id=ray.get_runtime_context().get_node_id(),
            plan_key=self.plan_key,
            tags={"node": platform.node(), "device": device, **reported.tags, **self._tag_memory(report)},
            resident_bytes=read_resident_bytes(),
            timings_s=self._take_timings(),
        )

    def reset_config(self, new_config: dict[str, Any]) -> bool:
        """The next trial comes because the last one ended, or pauses: then its `newest` checkpoint is what it goes on
        from. The driver deletes what nobody needs only when this has returned (search/observers/checkpoints.py).
        A worker whose memory does not come back ends itself; Tune then starts the trial on a new one.
        """
        with self._timed("end of the last trial"):
            self._end(keep_newest=not self.has_finished)
        with self._timed("proof of memory"):
            if not self.memory.comes_back():
                self.cleanup()
                ray.actor.exit_actor()
        return True

    def cleanup(self) -> None:
        if self.drain_watch is not None:
            self.drain_watch.close()
        self._end()
        if self.others is not None:
            self.others.close()
        if self.closing_log is not None:
            self.closing_log.close()

    def _begin(self) -> Training:
        from trainable.process_group import SINGLE
        from trainable.step_plan import measure_step_plan, name_step, pick_device
        from trainable.training import Training

        task, number = self.task, self.config["number"]
        data = task.data_of(number)
        config = TrialConfig.from_params(self.config["params"])
        device = pick_device()
        self.device_name, self.plan_key = name_step(
            config,
            image_size=task.settings.image_size,
            num_channels=task.settings.num_channels,
            device=device,
            num_threads=task.settings.num_threads,
        )
        if task.settings.deterministic:
            self.plan = StepPlan()
        elif known := self.config["plans"].get(self.plan_key):
            self.plan = StepPlan(**known)
        else:
            with self._timed("step plan"):
                self.plan = measure_step_plan(
                    config,
                    image_size=task.settings.image_size,
                    num_channels=task.settings.num_channels,
                    device=device,
                    num_threads=task.settings.num_threads,
                    cache_file=self.node_dir / "step_plans.json",
                    source=task.sources.get(config.architecture),
                )
        costs: dict[str, float] = {}
        if task.settings.costs:
            with self._timed("cost of the model"):
                costs = measure_costs(config, task.settings, task.sources.get(config.architecture))
        with self._timed("pixels"):
            data = replace(data, pixels_path=bring_pixels(data.pixels_path, self.node_dir, task.pixels_server))
        process_group = SINGLE
        if self.others is not None:
            with self._timed("the other ranks"):
                process_group = self.others.begin(config, data, self.plan)
        return Training(
            task,
            number,
            config,
            data=data,
            plan=self.plan,
            node_dir=self.node_dir,
            run_id=self.config["run_id"],
            process_group=process_group,
            costs=costs,
        )

    def _tag_memory(self, report: EpochReport) -> dict[str, str]:
        """What the run says where memory did not hold a batch."""
        if report.micro_batch is None:
            return {}
        note = "gradients of parts were summed: the same step only for models without batch normalisation"
        return {"micro_batch": str(report.micro_batch), "micro_batch_note": note}

    def _end(self, *, keep_newest: bool = True) -> Training | None:
        """Give everything of the last trial back: its threads end, its tensors go. Returns what has ended."""
        training, self.training = self.training, None
        if training is not None:
            self.closing_log = training.run_log
            try:
                training.close(keep_newest=keep_newest, wait_for_log=False)
            except RuntimeError as error:  # the trial has ended: the next one must not fail for it
                _log.warning("trial %d: %s", self.config["number"], error)
        if self.others is not None:
            self.others.end()
        return training

    def _hurry(self) -> None:
        """Called by the watch's thread: trials that end meanwhile train no more."""
        if (training := self.training) is not None:
            training.writer.hurry()

    @contextmanager
    def _timed(self, what: str) -> Iterator[None]:
        began_s = time.monotonic()
        yield
        self.timings_s[what] = time.monotonic() - began_s

    def _take_timings(self) -> dict[str, float]:
        taken, self.timings_s = self.timings_s, {}
        return taken
