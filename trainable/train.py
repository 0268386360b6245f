"""Train one configuration, with no search around it: a generator that gives a report after every epoch."""

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
from trainable.fine_tuning import count_trained, freeze_layers, split_head
from trainable.images.batches import take_rows
from trainable.images.cache import open_pixels
from trainable.loop import evaluate, train_epoch
from trainable.metrics import score
from trainable.optimizers import build_lr_schedule, build_optimizer, weigh_classes
from trainable.step_plan import pick_device
from trainable.team import ALONE

if TYPE_CHECKING:
    from collections.abc import Generator, Iterator

    from torch import nn

    from trainable.checkpoint_writer import CheckpointWriter
    from trainable.config import TrialSettings
    from trainable.images.prepare import TrainingData
    from trainable.team import Team
    from trainable.weights import WeightSource


@dataclass(frozen=True, kw_only=True)
class EpochReport:
    """One epoch, counted from 1: `metrics` are train_*, val_*, learning_rate, images_per_s and epoch_s.

    `value` is the search's metric on validation, `best_value` the best so far, reached at `best_epoch`;
    `is_best` says that it is this one, `finished` that max_epochs is reached or patience is at its end. `micro_batch`
    is the most pictures that memory held at once where it did not hold a batch.
    """

    epoch: int
    metrics: dict[str, float]
    value: float
    best_value: float
    best_epoch: int
    is_best: bool
    finished: bool
    micro_batch: int | None = None


def train(
    config: TrialConfig,
    settings: TrialSettings,
    data: TrainingData,
    *,
    plan: StepPlan | None = None,
    weights: WeightSource | None = None,
    source: str | None = None,
    checkpoints: CheckpointWriter | None = None,
    team: Team = ALONE,
) -> Generator[EpochReport]:
    """Train until max_epochs or the end of patience; yield an EpochReport after every epoch.

    With `checkpoints`, training goes on from the newest one in its store and hands in `newest` after every epoch; a
    `best` is durable before the next epoch is yielded, the last one before its own; the caller closes the writer. A
    resumed trial yields its checkpoint's report first, again. `best` holds {"model": state dict}, `newest` also
    "optimizer". `weights` and `source` are those of `build_model`. Every rank of a `team` calls this alike, rank 0
    alone with `checkpoints`; they yield the same reports. Close the generator when done early: it sets torch back.

    Raises ValueError for a configuration and data that do not fit, FloatingPointError for a loss that is not
    finite, TimeoutError after `settings.timeout_s` seconds.
    """
    _check(config, settings, data, team)
    began_s = time.monotonic()

    def check_time() -> None:
        if settings.timeout_s is not None and time.monotonic() - began_s > settings.timeout_s:
            raise TimeoutError(f"the trial ran past its timeout of {settings.timeout_s:g} s")

    if plan is None or settings.deterministic:
        plan = StepPlan()
    with _torch_set_to(settings):
        device = pick_device()
        pixels = open_pixels(Path(data.pixels_path))
        labels = torch.from_numpy(data.labels)
        is_val = torch.from_numpy(data.is_val)
        train_pixels, train_labels = take_rows(pixels, ~data.is_val, device), labels[~is_val].to(device)
        val_pixels, val_labels = take_rows(pixels, data.is_val, device), labels[is_val].to(device)
        class_weights = None
        if config.class_weighting:
            class_weights = weigh_classes(train_labels, len(settings.classes))

        torch.manual_seed(settings.seed)
        num_classes, num_channels = len(settings.classes), settings.num_channels
        model = build_model(config, num_classes, num_channels=num_channels, weights=weights, source=source)
        if is_own_net(config.architecture):
            check_output(model, num_classes, settings.image_size, num_channels)
        model.to(device)
        team.adopt(model)
        compiled = torch.compile(model) if settings.compile else None
        optimizer = build_optimizer(model, config)
        lr_at = build_lr_schedule(config, settings.max_epochs)
        last = _resume(checkpoints, config, settings, model, optimizer, team)
        if last is not None:  # whoever listens may have died before hearing of it
            yield last

        while last is None or not last.finished:
            epoch = 1 if last is None else last.epoch + 1
            epoch_began_s = time.perf_counter()
            num_trained = count_trained(config, (epoch - 1) / settings.max_epochs, len(split_head(model)[0]))
            result = train_epoch(
                model,
                train_pixels,
                train_labels,
                optimizer=optimizer,
                lr_at=lr_at,
                plan=plan,
                config=config,
                epoch=epoch,
                seed=settings.seed,
                device=device,
                class_weights=class_weights,
                micro_batch=None if last is None else last.micro_batch,
                compiled=compiled,
                frozen=freeze_layers(model, num_trained),
                check_time=check_time,
                team=team,
            )
            val_loss, probabilities = evaluate(model, val_pixels, val_labels, device=device, team=team)
            team.meet()  # before anything is kept of an epoch that a rank may have left
            if not math.isfinite(val_loss):
                raise FloatingPointError(f"the validation loss is {val_loss} after epoch {epoch}")
            metrics = {
                **_name_metrics("train", result.loss, result.labels, result.probabilities, settings),
                **_name_metrics("val", val_loss, val_labels.cpu().numpy(), probabilities, settings),
                "learning_rate": result.learning_rate,
                "images_per_s": result.num_images / result.seconds,
                "epoch_s": time.perf_counter() - epoch_began_s,
            }
            last = replace(_report(epoch, metrics, last, settings), micro_batch=result.micro_batch)
            if checkpoints is not None:
                _save(checkpoints, last, config, settings, model, optimizer)
            yield last


def _check(config: TrialConfig, settings: TrialSettings, data: TrainingData, team: Team) -> None:
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
    if min(config.batch_size, num_val, len(data.is_val) - num_val) < team.size:
        raise ValueError(
            f"batches of {config.batch_size} and {num_val} validation pictures cannot be divided among {team.size} "
            "GPUs: lower --trial-gpus, or raise --range batch_size"
        )


def _name_metrics(
    split: str, loss: float, labels: np.ndarray, probabilities: np.ndarray, settings: TrialSettings
) -> dict[str, float]:
    metrics = {"loss": loss, **score(labels, probabilities, settings.positive)}
    return {f"{split}_{name}": value for name, value in metrics.items()}


def _report(epoch: int, metrics: dict[str, float], last: EpochReport | None, settings: TrialSettings) -> EpochReport:
    value = metrics[f"val_{settings.metric}"]
    best_value, best_epoch = (value, epoch) if last is None else (last.best_value, last.best_epoch)
    if _is_better(value, best_value, settings):
        best_value, best_epoch = value, epoch
    out_of_patience = 0 < settings.patience <= epoch - best_epoch
    return EpochReport(
        epoch=epoch,
        metrics=metrics,
        value=value,
        best_value=best_value,
        best_epoch=best_epoch,
        is_best=epoch == best_epoch,
        finished=epoch >= settings.max_epochs or out_of_patience,
    )


def _is_better(value: float, other: float, settings: TrialSettings) -> bool:
    return value > other if settings.higher_is_better else value < other


def _save(
    checkpoints: CheckpointWriter,
    report: EpochReport,
    config: TrialConfig,
    settings: TrialSettings,
    model: nn.Module,
    optimizer: torch.optim.Optimizer,
) -> None:
    facts = {
        "classes": list(settings.classes),
        "image_size": settings.image_size,
        "form": settings.form.to_dict(),
        "config": config.to_params(),
        "epochs_since_best": report.epoch - report.best_epoch,
        **asdict(report),
    }
    weights = model.state_dict()
    checkpoints.wait_for_best()  # of the last epoch: it was written beside this one
    if report.is_best:
        checkpoints.write_best({"model": weights}, facts)
    checkpoints.write_newest({"model": weights, "optimizer": optimizer.state_dict()}, facts)
    if report.finished:
        checkpoints.wait_for_best()


def _resume(
    checkpoints: CheckpointWriter | None,
    config: TrialConfig,
    settings: TrialSettings,
    model: nn.Module,
    optimizer: torch.optim.Optimizer,
    team: Team,
) -> EpochReport | None:
    """Fill model and optimiser from the newest checkpoint; return its epoch's report, None without any.

    Rank 0 alone has `checkpoints`; the others hear from it what they hold.
    """
    loaded, best = team.share(_load(checkpoints, config))
    if loaded is None:
        return None
    state, facts = loaded
    model.load_state_dict(state["model"])
    optimizer.load_state_dict(state["optimizer"])
    report = EpochReport(**{field.name: facts[field.name] for field in fields(EpochReport) if field.name in facts})
    # Either may be the older one: `newest` is written now and then, `best` beside the epoch that follows it.
    if best is not None and _is_better(best["value"], report.best_value, settings):
        report = replace(report, best_value=best["value"], best_epoch=best["epoch"], is_best=False)
    elif checkpoints is not None and report.is_best and (best is None or best["epoch"] != report.epoch):
        checkpoints.write_best({"model": state["model"]}, facts)
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
