"""Train one configuration, with no search around it: a generator that gives a report after every epoch"""

from __future__ import annotations

import math
import os
import time
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import torch

from trainable.architectures import build_model, check_image_size, check_output
from trainable.config import StepPlan, TrialConfig, is_own_model
from trainable.epoch_report import EpochReport, build_report
from trainable.images.batches import take_rows
from trainable.images.mapped import open_pixels
from trainable.metrics import score
from trainable.optimizers import weigh_classes
from trainable.pace import PaceNote
from trainable.process_group import SINGLE
from trainable.standard_errors import standard_error
from trainable.step_plan import pick_device
from trainable.trainer import Trainer
from trainable.training_state import resume_training, save_training
from trainable.weight_average import RENEWED

if TYPE_CHECKING:
    from collections.abc import Generator, Iterator

    from trainable.checkpoint_writer import CheckpointWriter
    from trainable.config import TrialSettings
    from trainable.images.prepare import TrainingData
    from trainable.process_group import ProcessGroup
    from trainable.weights import WeightSource

RAW_EVERY = 10
"""In which epochs the weights themselves are scored beside their average: each time it costs a validation."""


def train(
    config: TrialConfig,
    settings: TrialSettings,
    data: TrainingData,
    *,
    plan: StepPlan | None = None,
    weights: WeightSource | None = None,
    source: str | None = None,
    checkpoints: CheckpointWriter | None = None,
    process_group: ProcessGroup = SINGLE,
) -> Generator[EpochReport]:
    """Train until max_epochs or the end of patience; yield an EpochReport after every epoch.

    With `checkpoints`, training goes on from the newest one in its store and hands in `newest` after every epoch; a
    `best` is durable before the next epoch is yielded, the last one before its own; the caller closes the writer. A
    resumed trial yields its checkpoint's report first, again. `best` holds {"model": state dict} of the averaged
    weights, `newest` the `Trainer.state_dict`. `weights` and `source` are those of `build_model`. Every rank of a
    `process_group` calls this alike, rank 0 alone with `checkpoints`; they yield the same reports. Close the generator
    when done early: it sets torch back.

    Raises ValueError for a configuration and data that do not fit, FloatingPointError for a loss that is not
    finite, TimeoutError after `settings.timeout_s` seconds.
    """
    _check(config, settings, data, process_group)
    began_s = time.monotonic()
    pace: PaceNote | None = None

    def check_time() -> None:
        if settings.timeout_s is not None and time.monotonic() - began_s > settings.timeout_s:
            raise TimeoutError(f"the trial ran past its timeout of {settings.timeout_s:g} s")
        if pace is not None:
            pace.step()

    with _torch_set_to(settings):
        device = pick_device()
        pixels = open_pixels(Path(data.pixels_path))
        labels = torch.from_numpy(data.labels)
        train_pixels, train_labels = take_rows(pixels, ~data.is_val, device), labels[~data.is_val].to(device)
        val_pixels, val_labels = take_rows(pixels, data.is_val, device), labels[data.is_val].to(device)

        torch.manual_seed(settings.seed)
        num_classes, num_channels = len(settings.classes), settings.num_channels
        model = build_model(config, num_classes, num_channels=num_channels, weights=weights, source=source)
        if is_own_model(config.architecture):
            check_output(model, num_classes, settings.image_size, num_channels)
        trainer = Trainer(
            model,
            config,
            max_epochs=settings.max_epochs,
            device=device,
            plan=None if settings.deterministic else plan,
            seed=settings.seed,
            class_weights=weigh_classes(train_labels, num_classes) if config.class_weighting else None,
            compile=settings.compile,
            renews_statistics=weights is None and config.architecture in RENEWED,
            process_group=process_group,
            windows=settings.channel_windows,
        )
        last = resume_training(checkpoints, trainer, settings)
        if last is not None:  # whoever listens may have died before getting it
            yield last

        while last is None or not last.finished:
            epoch = 1 if last is None else last.epoch + 1
            epoch_began_s = time.perf_counter()
            if last is None and checkpoints is not None:
                pace = PaceNote(checkpoints.store.uri, len(train_labels), config.batch_size)
            result = trainer.train_epoch(train_pixels, train_labels, epoch, check_time=check_time)
            metrics = {
                **_name_metrics("train", result.loss, result.labels, result.probabilities, settings),
                **_validate(trainer, val_pixels, val_labels, data, settings, epoch),
                "learning_rate": result.learning_rate,
                "images_per_s": result.num_images / result.seconds,
                "epoch_s": time.perf_counter() - epoch_began_s,
            }
            last = replace(build_report(epoch, metrics, last, settings), micro_batch=trainer.micro_batch)
            if pace is not None:
                pace.close()
                pace = None
            if checkpoints is not None:
                save_training(checkpoints, last, trainer, settings)
            yield last


def _check(config: TrialConfig, settings: TrialSettings, data: TrainingData, process_group: ProcessGroup) -> None:
    check_image_size(config, settings.image_size)
    if data.image_size != settings.image_size or data.classes != settings.classes:
        raise ValueError(
            f"the data has {data.image_size} px and classes {data.classes}, "
            f"the settings have {settings.image_size} px and {settings.classes}: they must be the same"
        )
    if data.form != settings.form:
        raise ValueError(f"the data has {data.form}, the settings have {settings.form}: they must be the same")
    for split, rows in (("train", ~data.is_val), ("val", data.is_val)):
        counts = np.bincount(data.labels[rows], minlength=len(data.classes))
        if empty := [name for name, count in zip(data.classes, counts, strict=True) if count == 0]:
            raise ValueError(f"split {split} has no image of {', '.join(empty)}; every class needs some there")
    num_val = int(data.is_val.sum())
    if min(config.batch_size, num_val, len(data.is_val) - num_val) < process_group.size:
        raise ValueError(
            f"batches of {config.batch_size} and {num_val} validation images cannot be divided among "
            f"{process_group.size} GPUs: lower --trial-gpus, or raise --range batch_size"
        )


def _name_metrics(
    split: str, loss: float, labels: np.ndarray, probabilities: np.ndarray, settings: TrialSettings
) -> dict[str, float]:
    metrics = {"loss": loss, **score(labels, probabilities, settings.positive)}
    return {f"{split}_{name}": value for name, value in metrics.items()}


def _validate(
    trainer: Trainer,
    pixels: torch.Tensor,
    labels: torch.Tensor,
    data: TrainingData,
    settings: TrialSettings,
    epoch: int,
) -> dict[str, float]:
    """val_* of the averaged weights, and now and then val_raw_*, of the weights themselves."""
    true_labels, groups = labels.cpu().numpy(), data.groups[data.is_val]
    loss, probabilities = trainer.evaluate(pixels, labels)
    is_raw_too = epoch % RAW_EVERY == 0 or epoch == settings.max_epochs
    raw_loss, raw_probabilities = trainer.evaluate(pixels, labels, raw=True) if is_raw_too else (0.0, probabilities)
    trainer.process_group.barrier()  # before anything is kept of an epoch that a rank may have left
    if not math.isfinite(loss):
        raise FloatingPointError(f"the validation loss is {loss} after epoch {epoch}")
    metrics = _name_metrics("val", loss, true_labels, probabilities, settings)
    objective, positive = settings.objective, settings.positive
    metrics[f"val_{objective.key}"] = objective.value(true_labels, probabilities, positive, loss=loss)
    metrics["val_se"] = standard_error(objective.name, true_labels, probabilities, groups, positive)
    if is_raw_too:
        metrics |= _name_metrics("val_raw", raw_loss, true_labels, raw_probabilities, settings)
    return metrics


@contextmanager
def _torch_set_to(settings: TrialSettings) -> Iterator[None]:
    """Threads and determinism as the settings say, then as before: a warm worker runs other trials next."""
    num_threads, was_deterministic = torch.get_num_threads(), torch.are_deterministic_algorithms_enabled()
    torch.set_num_threads(settings.num_threads)
    if settings.deterministic:
        os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")  # what cuBLAS needs to repeat itself
        torch.use_deterministic_algorithms(True)
    try:
        yield
    finally:
        if settings.compile:
            torch.compiler.reset()  # what was compiled for this model would count as a failure for the next
        torch.set_num_threads(num_threads)
        torch.use_deterministic_algorithms(was_deterministic)
