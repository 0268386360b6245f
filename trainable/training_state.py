"""The state of a training in its checkpoints: saved after an epoch, and taken up where it stood."""

from __future__ import annotations

from dataclasses import asdict, replace
from typing import TYPE_CHECKING, Any

from trainable.config import TrialConfig
from trainable.epoch_report import EpochReport
from trainable.trainer import Trainer

if TYPE_CHECKING:
    from trainable.checkpoint_writer import CheckpointWriter
    from trainable.config import TrialSettings


def save_training(
    checkpoints: CheckpointWriter, report: EpochReport, trainer: Trainer, settings: TrialSettings
) -> None:
    """Write `newest`, and `best` where this epoch is the best so far; durable as `train` says."""
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


def resume_training(
    checkpoints: CheckpointWriter | None, trainer: Trainer, settings: TrialSettings
) -> EpochReport | None:
    """Let the trainer go on from the newest checkpoint; return its epoch's report, None without any.

    Rank 0 alone has `checkpoints`; the others get from it what they hold.
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
    loaded = checkpoints.load("newest")
    if loaded is not None and TrialConfig.from_params(loaded[1]["config"]) != config:
        raise ValueError(
            f"the checkpoint in {checkpoints.store.uri} is of another configuration, {loaded[1]['config']}: "
            "give this trial a folder of its own"
        )
    return loaded, checkpoints.facts("best")
