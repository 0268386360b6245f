"""A trial that trains nothing: it reports what a real one reports, logs itself as one does, and imports no torch."""

from __future__ import annotations

import os
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ray import tune

from trainable.report import TrialReport

if TYPE_CHECKING:
    from trainable.run_log import RunLog

NUM_REPORTS = 9
METRICS = ("val_auc", "val_loss", "val_accuracy", "val_f1", "train_loss", "train_auc", "learning_rate", "images_per_s")


class Stub(tune.Trainable):
    """Nine epochs of `epoch_s` seconds each. All trials have the same values: ASHA stops no tie.

    With `num_workers`, a worker is up when so many are, and each has imported all that it will: MLflow's client too,
    which a real one imports beside its first epoch. Their first trials begin one after another, over a trial's length.
    """

    def setup(
        self, config: dict[str, Any], uri: str = "", folder: str = "", epoch_s: float = 0.0, num_workers: int = 0
    ) -> None:
        self.uri, self.folder, self.epoch_s = uri, folder, epoch_s
        self.log: RunLog | None = None
        if num_workers:
            import mlflow  # noqa: F401

            (up := Path(folder, "up")).mkdir(exist_ok=True)
            (up / str(os.getpid())).touch()
            while len(list(up.iterdir())) < num_workers:
                time.sleep(0.5)
            time.sleep(config["number"] % num_workers / num_workers * NUM_REPORTS * epoch_s)

    def reset_config(self, new_config: dict[str, Any]) -> bool:
        if self.log is not None:
            self.log.close(wait=False)
        self.log = None
        return True

    def step(self) -> dict[str, Any]:
        from trainable.run_log import RunLog

        began_at_s = time.time()
        number = self.config["number"]
        if self.log is None:
            self.epoch = 0
            uri = self.uri if self.config["run_id"] else None  # the driver logs for a trial that began without its run
            self.log = RunLog(uri, self.config["run_id"], Path(self.folder) / f"{number}.jsonl")
        self.epoch += 1
        time.sleep(self.epoch_s)
        value = self.epoch / NUM_REPORTS
        metrics = dict.fromkeys(METRICS, value)
        report = TrialReport(
            epoch=self.epoch,
            value=value,
            finished=self.epoch == NUM_REPORTS,
            metrics=metrics,
            began_at_s=began_at_s,
            ended_at_s=time.time(),
        )
        self.log.log_epoch(self.epoch, metrics, report.timestamp_ms)
        return report.to_result()
