"""The learning curves of a search as one JSON file, `NAME.curves.json`: what `benchmarks/curves.py` replays.

    {"format": "ctsearch-curves", "version": 1, "name": "covid-ct", "metric": "auc", "direction": "maximize",
     "max_epochs": 27,
     "trials": [{"number": 0, "params": {"architecture": "resnet18", "dropout": 0.2}, "outcome": "completed",
                 "values": {"1": 0.61, "2": 0.66}, "standard_errors": {"1": 0.05}, "seconds": {"1": 3.2}}]}

`params` are in the space's own names, without inactive entries; `values`, `standard_errors` and `seconds` go by epoch,
counted from 1; NaN is null. A trial that was stopped early can be replayed only as far as it went: a table to choose
rules on is recorded with whole trainings.
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from search.core.decisions import PastTrial

FORMAT, VERSION = "ctsearch-curves", 1
DIRECTIONS = {"maximize": True, "minimize": False}


@dataclass(frozen=True)
class RecordedCurves:
    """All trials of a search, with what is needed to compare them."""

    name: str
    metric: str
    higher_is_better: bool
    max_epochs: int
    trials: Sequence[PastTrial]


def write_curves(file: Path, curves: RecordedCurves) -> None:
    """Write `NAME.curves.json`; see this module for the format."""
    trials = [
        {
            "number": trial.number,
            "params": dict(trial.params),
            "outcome": trial.outcome,
            "values": _to_json(trial.values),
            "standard_errors": _to_json(trial.standard_errors),
            "seconds": _to_json(trial.seconds),
        }
        for trial in curves.trials
    ]
    head = {
        "format": FORMAT,
        "version": VERSION,
        "name": curves.name,
        "metric": curves.metric,
        "direction": "maximize" if curves.higher_is_better else "minimize",
        "max_epochs": curves.max_epochs,
    }
    file.write_text(json.dumps({**head, "trials": trials}, allow_nan=False) + "\n")


def read_curves(file: Path) -> RecordedCurves:
    """Read such a file. Raises ValueError, naming file and field, where it is not one."""
    try:
        data = json.loads(file.read_text())
    except ValueError as error:
        raise ValueError(f"{file} is no JSON ({error}); it must be what `ctsearch curves export` writes") from None
    if not isinstance(data, dict) or data.get("format") != FORMAT or data.get("version") != VERSION:
        raise ValueError(f"{file}: format and version must be {FORMAT!r} and {VERSION}; export the search again")
    if data.get("direction") not in DIRECTIONS:
        raise ValueError(f"{file}: direction is {data.get('direction')!r}; it must be one of {', '.join(DIRECTIONS)}")
    max_epochs = data.get("max_epochs")
    if not isinstance(max_epochs, int) or max_epochs < 1:
        raise ValueError(f"{file}: max_epochs is {max_epochs!r}; it must be a whole number of at least 1")
    try:
        trials = [_read_trial(entry, max_epochs) for entry in data["trials"]]
    except (KeyError, TypeError, AttributeError, ValueError) as error:
        raise ValueError(f"{file}: a trial cannot be read ({error!r}); export the search again") from None
    return RecordedCurves(
        str(data.get("name", file.name.split(".")[0])),
        str(data.get("metric", "value")),
        DIRECTIONS[data["direction"]],
        max_epochs,
        trials,
    )


def _read_trial(entry: Mapping[str, Any], max_epochs: int) -> PastTrial:
    values = _from_json(entry["values"])
    if values and not 1 <= min(values) <= max(values) <= max_epochs:
        raise ValueError(f"trial {entry['number']} has epochs {min(values)} to {max(values)} of {max_epochs}")
    return PastTrial(
        int(entry["number"]),
        dict(entry["params"]),
        values,
        entry.get("outcome"),
        _from_json(entry.get("standard_errors", {})),
        _from_json(entry.get("seconds", {})),
    )


def _to_json(by_epoch: Mapping[int, float]) -> dict[str, float | None]:
    return {str(epoch): float(value) if math.isfinite(value) else None for epoch, value in sorted(by_epoch.items())}


def _from_json(by_epoch: Mapping[str, float | None]) -> dict[int, float]:
    return {int(epoch): math.nan if value is None else float(value) for epoch, value in by_epoch.items()}
