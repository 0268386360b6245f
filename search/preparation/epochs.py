"""How many epochs a trial has, and the first epoch at which trials are compared: what the user says, else as follows.

A search needs some full trainings to choose among, and its champion is a mean of them: where the budget holds few
trials of the usual number, they are shorter. And what a few steps have made of a model says nothing of where it ends.
"""

from __future__ import annotations

import math
import statistics
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING

from search.core.config import SearchConfig
from search.core.describe import format_duration
from search.core.folder import SearchFolder
from trainable.config import TrialConfig

if TYPE_CHECKING:
    from search.engine.cluster import Cluster
    from search.preparation.models import SearchedModels
    from trainable.images.prepare import TrainingData

USUAL_EPOCHS, LEAST_EPOCHS = 27, 8
NUM_TRAININGS = 16
"""As many full trainings as a budget should hold: so many that half of it can confirm one whose architecture takes
twice as long as the usual one. On COVID-CT twice the epochs gain 0.025 of AUC, three folds 0.045
(benchmarks/LOG.md)."""
LEAST_STEPS, USUAL_BATCH = 64, 16
"""Trials are compared from the rung on that is nearest to so many steps. Rank agreement of validation with the test at
the end, COVID-CT: 0.2 after 20 steps, 0.3 after 40, 0.45 after 60, 0.7 after 100 (benchmarks/LOG.md)."""
SLOWEST_S = 0.2
"""For an image of 224 pixels: with a budget that holds enough trainings even so, nothing is measured."""


def settle_epochs(
    config: SearchConfig,
    folder: SearchFolder,
    cluster: Cluster,
    models: SearchedModels,
    data: TrainingData,
    say: Callable[[str], object] = lambda line: None,
) -> int:
    """The epochs of a trial; decided once, and read by a resumed search."""
    if config.max_epochs is not None:
        return config.max_epochs
    record = folder.read_record()
    if (known := record.get("max_epochs")) is not None:
        return int(known)
    budget_s = find_budget_s(config, cluster)
    num_images = len(data.labels)
    slowest_s = SLOWEST_S * (data.image_size / 224) ** 2 * num_images
    found = USUAL_EPOCHS
    if budget_s is not None and budget_s < slowest_s * NUM_TRAININGS * USUAL_EPOCHS:
        seconds = time_epochs(cluster, models, data, folder.cache / "step_plans.json")
        if seconds:
            epoch_s = statistics.median(seconds.values())
            found = fit_epochs(budget_s, epoch_s)
            if found < USUAL_EPOCHS:
                num_full = budget_s / (found * epoch_s)
                say(
                    f"Epochs       {found} a trial: one takes about {format_duration(epoch_s)} here, and the budget "
                    f"holds {num_full:.0f} trials of so many (--max-epochs {USUAL_EPOCHS}: as usual)"
                )
    folder.update_record(max_epochs=found)
    return found


def settle_first_rung(config: SearchConfig, folder: SearchFolder, num_train: int, max_epochs: int) -> int:
    """The first epoch at which trials are compared; decided once, and read by a resumed search."""
    if config.first_rung is not None:
        return config.first_rung
    record = folder.read_record()
    if (known := record.get("first_rung")) is not None:
        return int(known)
    found = fit_first_rung(num_train, max_epochs, config.reduction_factor)
    folder.update_record(first_rung=found)
    return found


def fit_first_rung(num_train: int, max_epochs: int, factor: int) -> int:
    """Of max_epochs / factor, / factor ** 2, ... the one that is nearest, by its ratio, to the least number of steps;
    1 where an epoch has so many."""
    wanted = LEAST_STEPS * USUAL_BATCH / max(num_train, 1)
    rungs = [max_epochs / factor**power for power in range(1, 32) if max_epochs >= factor**power]
    nearest = min(rungs, key=lambda rung: abs(math.log(rung / max(wanted, 1))), default=1.0)
    return max(1, round(nearest))


def find_budget_s(config: SearchConfig, cluster: Cluster) -> float | None:
    """The seconds that trials may train in all, on all slots; None without a limit of time."""
    limits = []
    if config.time_budget_s is not None:
        limits.append(config.time_budget_s * cluster.num_slots)
    if config.device_hours is not None:
        limits.append(config.device_hours * 3600 / (cluster.trial_gpus or cluster.trial_cpus))
    return min(limits, default=None)


def fit_epochs(budget_s: float, epoch_s: float) -> int:
    """As many epochs, up to the usual number, as let the budget hold enough full trainings."""
    return max(LEAST_EPOCHS, min(USUAL_EPOCHS, int(budget_s / (NUM_TRAININGS * epoch_s))))


def time_epochs(cluster: Cluster, models: SearchedModels, data: TrainingData, cache_file: Path) -> Mapping[str, float]:
    """Seconds of an epoch by architecture, measured on workers, as many at a time as there are slots.

    An architecture that cannot be measured is passed over: its trials say why.
    """
    import ray

    from trainable.epoch_time import time_epoch

    options = {"num_cpus": cluster.trial_cpus, "num_gpus": cluster.trial_gpus, "max_retries": 0}
    task = ray.remote(**options)(time_epoch)
    num_val = int(data.is_val.sum())
    asked = {
        name: task.remote(
            TrialConfig(architecture=name),
            image_size=data.image_size,
            num_train=len(data.labels) - num_val,
            num_val=num_val,
            num_threads=cluster.num_threads,
            num_channels=data.num_channels,
            cache_file=cache_file,
            source=models.sources.get(name),
        )
        for name in models.architectures
    }
    found: dict[str, float] = {}
    for name, reference in asked.items():
        try:
            found[name] = ray.get(reference)
        except (ray.exceptions.RayError, ValueError, RuntimeError):
            continue
    return found
