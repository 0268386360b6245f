"""A trained trial at the end of its search, and what the end of one needs to know."""

from __future__ import annotations

import shutil
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from search.champion.crown import Finish
from search.core.folder import create_search, reopen_search
from search.core.ledger import Ledger, TrialEntry
from trainable.checkpoint import CheckpointStore
from trainable.checkpoint_writer import CheckpointWriter
from trainable.config import TrialConfig, TrialSettings
from trainable.images.prepare import TrainingData, prepare_data
from trainable.report import Outcome
from trainable.task import TrialTask
from trainable.train import train

CLASSES = ("bars", "checks", "waves")
SIZE = 32


@dataclass(frozen=True, kw_only=True)
class TrainedSearch:
    """Trial 3 of a three-class set, trained, in a home of its own."""

    home: Path
    data: TrainingData
    settings: TrialSettings
    params: dict[str, Any]
    values: dict[int, float]

    def finish(self, name: str, model_name: str, tracking_uri: str, parent_run_id: str = "") -> Finish:
        """A search of this name, at its end; it has a copy of the splits and of the trials."""
        try:
            folder = create_search(self.home, name, {})
            shutil.copyfile(self.home / "splits.csv", folder.splits_file)
            shutil.copytree(self.home / "trials", folder.trials, dirs_exist_ok=True)
        except ValueError:
            folder = reopen_search(self.home, name)
        folder.release()
        task = TrialTask(
            search=name, settings=self.settings, data=self.data, trials_uri=str(folder.trials), node_dir=str(self.home)
        )
        return Finish(
            folder=folder,
            task=task,
            model_name=model_name,
            tracking_uri=tracking_uri,
            parent_run_id=parent_run_id,
            num_resamples=100,
        )

    def ledger(self, run_id: str | None, *, number: int = 3) -> Ledger:
        ledger = Ledger()
        ledger.restore(
            TrialEntry(
                number=number,
                params=self.params,
                values=dict(self.values),
                outcome=Outcome.COMPLETED,
                run_id=run_id,
            )
        )
        return ledger


def train_search(home: Path) -> TrainedSearch:
    """Made of noisy textures, and trained for two epochs; all of it lies in `home`."""
    rng = np.random.default_rng(0)
    y, x = np.mgrid[:40, :40]
    textures = (np.sin(x / 2), np.sin(x / 3) * np.sin(y / 3), np.sin((x**2 + y**2) / 90))
    for name, texture in zip(CLASSES, textures, strict=True):
        for patient in range(12):
            folder = home / "textures" / name / f"patient {patient}"
            folder.mkdir(parents=True)
            for index in range(2):
                noise = rng.normal(0, 70, texture.shape) + 40 * np.sin(x * rng.random() + y * rng.random())
                pixels = np.clip(128 + 60 * texture + noise, 0, 255).astype(np.uint8)
                Image.fromarray(pixels).save(folder / f"{index}.png")
    data = prepare_data(
        home / "textures",
        cache_dir=home / "cache",
        splits_file=home / "splits.csv",
        image_size=SIZE,
        seed=0,
    ).training
    settings = TrialSettings(classes=data.classes, positive=data.positive, image_size=SIZE, max_epochs=2)
    config = TrialConfig(architecture="small_cnn")
    with CheckpointWriter(CheckpointStore(home / "trials/0003")) as writer:
        reports = list(train(config, settings, data, checkpoints=writer))
    values = {report.epoch: report.value for report in reports}
    return TrainedSearch(home=home, data=data, settings=settings, params=config.to_params(), values=values)
