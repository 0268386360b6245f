"""Reports of trials, made for tests."""

from __future__ import annotations

from typing import Any

from trainable.report import TrialReport


def report(epoch: int, value: float, **others: Any) -> TrialReport:
    """An epoch that ends `epoch` seconds after 1970, with its value as `val_auc`."""
    given = {"began_at_s": float(epoch) - 1, "ended_at_s": float(epoch), "metrics": {"val_auc": value}}
    return TrialReport(epoch=epoch, value=value, **{"finished": False, **given, **others})
