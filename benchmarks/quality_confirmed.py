"""What the searches of search_quality.py have found is worth, trained again and judged on patients not trained on.

The best value so far flatters whoever asks validation most often. Here the configuration that leads a search is
trained again in folds of patients of train and val together, for as many epochs as it had when it led, by the loop
that found it: ours, or a tutorial's, or an expert's. The patients of val, a fifth of these, did choose the
configuration, so that some of the flattery stays, for all contenders alike. The sealed test stays closed.
"""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass, replace
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from sklearn.model_selection import StratifiedGroupKFold

from benchmarks.contenders import OURS, PEERS, Arena, Epoch, write_table
from benchmarks.peers import training
from search.champion.choice import LEAST_MEMBERS, list_eligible
from search.core.config import SearchConfig
from search.core.finalists import find_last_rung
from search.core.ledger import Ledger, TrialEntry
from search.core.rules import list_levels
from trainable.config import TrialConfig, TrialSettings
from trainable.images.prepare import TrainingData, prepare_data
from trainable.images.splits import read_splits
from trainable.report import Outcome
from trainable.step_plan import measure_step_plan, pick_device
from trainable.train import train

SEED = 17
"""Of the folds, so that they are not those by which a search confirms its own."""


@dataclass(frozen=True, kw_only=True)
class Retraining:
    """A configuration trained anew for `num_epochs`, by the loop of `contender`, and judged on fold `fold`."""

    contender: str
    configuration: dict[str, Any]
    num_epochs: int
    fold: int

    @property
    def key(self) -> str:
        """The same for two contenders with one loop."""
        loop = "ours" if self.contender in OURS else PEERS[self.contender][1]
        told = json.dumps([loop, self.configuration, self.num_epochs, self.fold], sort_keys=True)
        return hashlib.sha256(told.encode()).hexdigest()[:16]


class Folds:
    """Folds of the patients of train and val: where each slice of the arena is validated."""

    def __init__(self, arena: Arena, num_folds: int) -> None:
        self.arena = arena
        splits = arena.home / "splits.csv"
        prepared = prepare_data(
            arena.data, cache_dir=arena.home / "cache", splits_file=splits, image_size=arena.image_size, seed=0
        )
        self.data: TrainingData = prepared.training
        rows = read_splits(splits)
        self.rows = [row for split in ("train", "val") for row in rows if row.split == split and row.kept]
        folds = StratifiedGroupKFold(n_splits=num_folds, shuffle=True, random_state=SEED)
        held_out = folds.split(np.zeros(len(self.rows)), self.data.labels, self.data.groups)
        self.held_out = [self._as_mask(found) for _, found in held_out]
        positive = self.data.classes[self.data.positive]
        for fold, is_val in enumerate(self.held_out):
            write_table(
                self.locate_images(fold),
                path=[row.path for row in self.rows],
                label=[int(row.label == positive) for row in self.rows],
                split=["val" if each else "train" for each in is_val],
            )

    def locate_images(self, fold: int) -> Path:
        """The list of images for a peer, with this fold as validation."""
        return self.arena.home / f"images-fold-{fold}.csv"

    def _as_mask(self, found: NDArray[np.int64]) -> NDArray[np.bool_]:
        mask = np.zeros(len(self.rows), dtype=bool)
        mask[found] = True
        return mask


def find_leader(contender: str, epochs: Sequence[Epoch], at_s: float, arena: Arena) -> Epoch | None:
    """The epoch whose model a contender would hand over by then; None before the first.

    Of a peer it is the one with the best value; of ours the best, by its smoothed value, of the five whose mean would
    be the champion, or of all trials where fewer than two have come to the last rung (`search.champion.choice`).
    """
    known = [epoch for epoch in epochs if epoch.at_s <= at_s]
    if contender not in OURS:
        return max(known, key=lambda epoch: epoch.val_auc, default=None)
    trials: dict[str, dict[int, Epoch]] = {}
    for epoch in known:
        trials.setdefault(json.dumps(epoch.configuration), {})[epoch.epoch] = epoch
    ledger = Ledger()
    for number, trial in enumerate(trials.values()):
        values = {epoch: each.val_auc for epoch, each in trial.items()}
        outcome = Outcome.COMPLETED if max(values) >= arena.max_epochs else Outcome.STOPPED
        ledger.restore(TrialEntry(number=number, params={}, values=values, outcome=outcome))
    options = OURS[contender]
    config = SearchConfig(scheduler=options[1]) if options else SearchConfig()
    levels = list_levels(config, arena.max_epochs, arena.first_rung)
    members = list_eligible(ledger, find_last_rung(levels, arena.max_epochs))[: config.ensemble]
    for best in ledger.ranked():
        if best in members or len(members) < LEAST_MEMBERS:
            return list(trials.values())[best.number][best.best_epoch or 1]
    return None


def confirm(leaders: Sequence[tuple[str, Epoch]], arena: Arena, num_folds: int) -> list[float]:
    """The mean AUC over folds of each leader, of (contender, epoch); what was trained before is read."""
    folds = Folds(arena, num_folds)
    each = [
        [
            Retraining(contender=name, configuration=epoch.configuration, num_epochs=epoch.epoch, fold=fold)
            for fold in range(num_folds)
        ]
        for name, epoch in leaders
    ]
    kept_in = arena.home / f"confirmed-{num_folds}"
    kept_in.mkdir(exist_ok=True)
    missing = {job.key: job for jobs in each for job in jobs if not (kept_in / f"{job.key}.json").exists()}
    with ProcessPoolExecutor(os.cpu_count(), mp_context=get_context("spawn")) as pool:
        futures = {key: pool.submit(retrain, job, folds) for key, job in missing.items()}
        for key, future in futures.items():
            (kept_in / f"{key}.json").write_text(json.dumps(future.result()))
    return [
        round(float(np.mean([json.loads((kept_in / f"{job.key}.json").read_text()) for job in jobs])), 4)
        for jobs in each
    ]


def retrain(job: Retraining, folds: Folds) -> float:
    """The AUC of the last epoch on the fold's patients."""
    if job.contender in OURS:
        return retrain_ours(job, folds)
    arena, folder = folds.arena, folds.arena.home / "retrained"
    folder.mkdir(exist_ok=True)
    task = training.Task(
        images=folds.locate_images(job.fold),
        image_size=arena.image_size,
        max_epochs=job.num_epochs,
        form=PEERS[job.contender][1],
        folder=folder,
    )
    metrics = [metrics for metrics, _ in training.train(job.configuration, task)]
    return metrics[-1]["val_auc"]


def retrain_ours(job: Retraining, folds: Folds) -> float:
    """The same by our own loop; the learning-rate schedule is that of a whole trial."""
    config, data = read_params(job.configuration), replace(folds.data, is_val=folds.held_out[job.fold])
    settings = TrialSettings(
        classes=data.classes,
        positive=data.positive,
        image_size=data.image_size,
        max_epochs=folds.arena.max_epochs,
        num_threads=1,
        seed=job.fold,
    )
    plans = folds.arena.home / "step_plans.json"
    plan = measure_step_plan(config, image_size=data.image_size, device=pick_device(), num_threads=1, cache_file=plans)
    reports = train(config, settings, data, plan=plan)
    found = [next(reports) for _ in range(job.num_epochs)]
    reports.close()
    return found[-1].metrics["val_auc"]


def read_params(params: Mapping[str, str]) -> TrialConfig:
    """A configuration from MLflow, where every value is a text."""
    usual = TrialConfig(architecture="").to_params()
    return TrialConfig.from_params({name: _read_as(usual[name], text) for name, text in params.items()})


def _read_as(usual: Any, text: str) -> Any:
    """What `text` means where a usual value is as `usual`."""
    return text == "True" if isinstance(usual, bool) else type(usual)(text)
