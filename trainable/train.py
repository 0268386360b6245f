"""Train one configuration, with no search around it: a generator that gives a report after every epoch"""

from __future__ import annotations

import math
import os
import time
from contextlib import contextmanager
from dataclasses import asdict, dataclass, fields, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from trainable.architectures import build_model, check_image_size, check_output
from trainable.config import StepPlan, TrialConfig, is_own_net
from trainable.images.batches import take_rows
from trainable.images.cache import open_pixels
from trainable.metrics import score
from trainable.optimizers import weigh_classes
from trainable.pace import PaceNote
from trainable.process_group import SINGLE
from trainable.smoothing import WINDOW, is_best_epoch, smoothed_value
from trainable.standard_errors import standard_error
from trainable.step_plan import pick_device
from trainable.trainer import Trainer
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


@dataclass(frozen=True, kw_only=True)
class EpochReport:
    """One epoch, counted from 1: `metrics` are train_*, val_*, val_se, learning_rate, images_per_s and epoch_s.

    `value` is the search's metric on validation, by the moving average of the weights; `val_se` is its standard error
    over patients. `smoothed_value` is its mean over the last epochs (`smoothing`), and the best of those so far is
    `best_value`, reached at `best_epoch`, whose averaged weights are the checkpoint `best`. `is_best` says that it is
    this one, `finished` that max_epochs is reached or patience is at its end. `recent_values` are those that the next
    smoothed value needs, this epoch's last. `micro_batch` is the most images that memory held at once where it did not
    hold a batch. In every tenth epoch and at max_epochs `metrics` has val_raw_*, of the weights themselves.
    """

    epoch: int
    metrics: dict[str, float]
    value: float
    smoothed_value: float
    best_value: float
    best_epoch: int
    is_best: bool
    finished: bool
    recent_values: tuple[float, ...]
    micro_batch: int | None = None

    @classmethod
    def from_facts(cls, facts: dict[str, Any]) -> EpochReport:
        """The report that a checkpoint's facts hold, also those written before values were smoothed."""
        old = {"smoothed_value": facts["value"], "recent_values": (facts["value"],)}
        known = {field.name: facts[field.name] for field in fields(cls) if field.name in facts}
        return replace(cls(**old | known), recent_values=tuple({**old, **known}["recent_values"]))


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
        if is_own_net(config.architecture):
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
        last = _resume(checkpoints, trainer, settings)
        if last is not None:  # whoever listens may have died before hearing of it
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
            last = replace(_report(epoch, metrics, last, settings), micro_batch=trainer.micro_batch)
            if pace is not None:
                pace.close()
                pace = None
            if checkpoints is not None:
                _save(checkpoints, last, trainer, settings)
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
            raise ValueError(f"split {split} has no picture of {', '.join(empty)}; every class needs some there")
    num_val = int(data.is_val.sum())
    if min(config.batch_size, num_val, len(data.is_val) - num_val) < process_group.size:
        raise ValueError(
            f"batches of {config.batch_size} and {num_val} validation pictures cannot be divided among "
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


def _report(epoch: int, metrics: dict[str, float], last: EpochReport | None, settings: TrialSettings) -> EpochReport:
    value = metrics[f"val_{settings.objective.key}"]
    recent = (*(last.recent_values if last else ()), value)[-WINDOW:]
    smoothed = smoothed_value(dict(enumerate(recent, epoch - len(recent) + 1)))
    best_value, best_epoch = (smoothed, epoch) if last is None else (last.best_value, last.best_epoch)
    if settings.keeps_last or is_best_epoch(
        epoch,
        smoothed,
        best_epoch=best_epoch,
        best_value=best_value,
        higher_is_better=settings.higher_is_better,
    ):
        best_value, best_epoch = smoothed, epoch
    out_of_patience = 0 < settings.patience <= epoch - best_epoch
    return EpochReport(
        epoch=epoch,
        metrics=metrics,
        value=value,
        smoothed_value=smoothed,
        best_value=best_value,
        best_epoch=best_epoch,
        is_best=epoch == best_epoch,
        finished=epoch >= settings.max_epochs or out_of_patience,
        recent_values=recent,
    )


def _save(checkpoints: CheckpointWriter, report: EpochReport, trainer: Trainer, settings: TrialSettings) -> None:
    facts = {
        "classes": list(settings.classes),
        "image_size": settings.image_size,
        "form": settings.form.to_dict(),
        "slices": settings.slices,
        "config": trainer.config.to_params(),
        "epochs_since_best": report.epoch - report.best_epoch,
        **asdict(report),
    }
    state = trainer.state_dict()
    checkpoints.wait_for_best()  # of the last epoch: it was written beside this one
    if report.is_best:
        checkpoints.write_best({"model": state["average"]}, facts)
    checkpoints.write_newest(state, facts)
    if report.finished:
        checkpoints.wait_for_best()


def _resume(checkpoints: CheckpointWriter | None, trainer: Trainer, settings: TrialSettings) -> EpochReport | None:
    """Let the trainer go on from the newest checkpoint; return its epoch's report, None without any.

    Rank 0 alone has `checkpoints`; the others hear from it what they hold.
    """
    loaded, best = trainer.process_group.broadcast(_load(checkpoints, trainer.config))
    if loaded is None:
        return None
    state, facts = loaded
    trainer.load_state_dict(state)
    report = EpochReport.from_facts(facts)
    trainer.micro_batch = report.micro_batch
    # Either may be the older one: `newest` is written now and then, `best` beside the epoch that follows it.
    if best is not None and best["epoch"] > report.epoch:
        report = replace(report, best_value=best["best_value"], best_epoch=best["epoch"], is_best=False)
    elif checkpoints is not None and report.is_best and (best is None or best["epoch"] != report.epoch):
        checkpoints.write_best({"model": trainer.average.model.state_dict()}, facts)
    return report


def _load(checkpoints: CheckpointWriter | None, config: TrialConfig) -> tuple[Any, Any]:
    """What is stored: state and facts of `newest`, facts of `best`; None for what is not there."""
    if checkpoints is None:
        return None, None
    loaded = checkpoints.store.load("newest")
    if loaded is not None and TrialConfig.from_params(loaded[1]["config"]) != config:
        raise ValueError(
            f"the checkpoint in {checkpoints.store.uri} is of another configuration, {loaded[1]['config']}: "
            "give this trial a folder of its own"
        )
    return loaded, checkpoints.store.facts("best")


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
            torch.compiler.reset()  # what was compiled for this net would count as a failure for the next
        torch.set_num_threads(num_threads)
        torch.use_deterministic_algorithms(was_deterministic)
