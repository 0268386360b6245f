"""A trial that trains: its epochs, with the checkpoints and the log that are written beside them"""

from __future__ import annotations

import time
from collections.abc import Mapping
from pathlib import Path
from types import MappingProxyType
from typing import TYPE_CHECKING

from trainable.checkpoint import CheckpointStore
from trainable.checkpoint_writer import CheckpointWriter
from trainable.process_group import SINGLE
from trainable.report import TrialReport
from trainable.run_log import RunLog
from trainable.task import locate_trial
from trainable.train import train

if TYPE_CHECKING:
    from trainable.config import StepPlan, TrialConfig
    from trainable.epoch_report import EpochReport
    from trainable.images.prepare import TrainingData
    from trainable.process_group import ProcessGroup
    from trainable.task import TrialTask


class Training:
    """Trial `number` of `task`, which goes on from its newest checkpoint if it has one.

    `reports` is the generator of `train`, and `report` is to get what it gives. `run_id` is MLflow's; without it, or
    without a tracking server, nothing is logged from here. `costs` of the model are logged and reported beside.
    """

    def __init__(
        self,
        task: TrialTask,
        number: int,
        config: TrialConfig,
        *,
        data: TrainingData,
        plan: StepPlan,
        node_dir: Path,
        run_id: str | None,
        process_group: ProcessGroup = SINGLE,
        costs: Mapping[str, float] = MappingProxyType({}),
    ) -> None:
        settings = task.settings
        self.costs = dict(costs)
        self.plan = {"precision": plan.precision, "memory_format": plan.memory_format}
        store = CheckpointStore(locate_trial(task.trials_uri, number), needs_parent=True)
        self.run_log: RunLog | None = None
        if task.tracking_uri and run_id:
            spool = node_dir / "spool" / task.search / f"{number:04d}.jsonl"
            self.run_log = RunLog(task.tracking_uri, run_id, spool, f"val_{settings.objective.key}")
        self.writer = CheckpointWriter(store, settings.checkpoint_interval_s, max_bytes=settings.checkpoint_bytes)
        self.reports = train(
            config,
            settings,
            data,
            plan=plan,
            weights=task.weights.get(config.architecture),
            source=task.sources.get(config.architecture),
            checkpoints=self.writer,
            process_group=process_group,
        )

    def report(self, report: EpochReport) -> TrialReport:
        """Log an epoch that has just ended; what the driver has to know of it, apart from where it was trained."""
        timestamp_ms = int(time.time() * 1000)
        metrics = {**report.metrics, **self.costs}
        if self.run_log is not None:
            self.run_log.log_epoch(report.epoch, metrics, timestamp_ms)
        ended_at_s = timestamp_ms / 1000
        return TrialReport(
            epoch=report.epoch,
            value=report.value,
            finished=report.finished,
            standard_error=report.metrics["val_se"],
            metrics=metrics,
            costs=self.costs,
            began_at_s=ended_at_s - report.metrics["epoch_s"],
            ended_at_s=ended_at_s,
            plan=self.plan,
            tags=self.plan,
            checkpoint_bytes=dict(self.writer.sizes),
        )

    def close(self, *, keep_newest: bool = True, wait_for_log: bool = True) -> None:
        """Give everything back; what waits to be written or sent is. Raises RuntimeError for a checkpoint that cannot.

        Without `wait_for_log` the log's thread goes on by itself.
        """
        self.reports.close()
        if self.run_log is not None:
            self.run_log.close(wait=wait_for_log)
        self.writer.close(keep_newest=keep_newest)
