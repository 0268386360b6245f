"""EpochReport: what one epoch of a training gave, smoothed, and whether it is the best so far."""

from __future__ import annotations

from dataclasses import dataclass, fields, replace
from typing import TYPE_CHECKING, Any

from trainable.smoothing import WINDOW, is_best_epoch, smoothed_value

if TYPE_CHECKING:
    from trainable.config import TrialSettings


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


def build_report(
    epoch: int, metrics: dict[str, float], last: EpochReport | None, settings: TrialSettings
) -> EpochReport:
    """The report of an epoch by its metrics and the `last` report: smoothed, and whether it is the best so far."""
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
