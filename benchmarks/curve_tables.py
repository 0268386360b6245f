"""Recorded learning curves as tables that a simulated search can train from.

Three kinds of file are read: TaskSet's `.npz`, the folder of medquicktune (`config.csv`, `curve.csv`, `cost.csv`), and
`*.curves.json`, which search/core/curve_file.py describes and writes.
"""

from __future__ import annotations

import csv
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any
from zlib import crc32

import numpy as np
from numpy.typing import NDArray

from search.core.curve_file import read_curves
from search.core.encoding import Encoder

Array = NDArray[np.float64]


@dataclass(frozen=True)
class CurveTable:
    """One task: `params` of n configurations, `values` (n, max_epochs), `lengths` (n), `seconds` an epoch (n).

    Higher values are better: 0 is what the median configuration has after its first evaluation, 1 the best value of
    the table. NaN where training diverged. A configuration ends by itself after `lengths` epochs.
    """

    name: str
    params: tuple[Mapping[str, Any], ...]
    values: Array
    lengths: NDArray[np.int64]
    seconds: Array

    @cached_property
    def encode(self) -> Encoder:
        return Encoder(self.params)

    @cached_property
    def points(self) -> Array:
        return self.encode(self.params)

    @property
    def max_epochs(self) -> int:
        return int(self.values.shape[1])

    @property
    def full_training_s(self) -> float:
        """Seconds of a whole training, the mean over the table."""
        return float(self.seconds.mean() * self.max_epochs)

    def own_seed(self, seed: int) -> int:
        """Another one for each task: tasks of a family have the same configurations, and would share their luck."""
        return crc32(f"{self.name} {seed}".encode())

    def nearest(self, params: Mapping[str, Any], free: NDArray[np.bool_]) -> int:
        """The free configuration nearest to `params`."""
        distances = ((self.points - self.encode([params])) ** 2).sum(axis=1)
        return int(np.where(free, distances, np.inf).argmin())


def random_row(free: NDArray[np.bool_], seed: int, number: int) -> int:
    """A free row for a trial: the same for all contenders as long as they tried the same, so that luck is shared."""
    return int(np.random.default_rng((seed, number)).choice(np.flatnonzero(free)))


def scaled(values: Array, start: float) -> Array:
    """0 at `start`, 1 at the best; NaN where a value is not finite."""
    finite = np.where(np.isfinite(values), values, np.nan)
    return (finite - start) / (np.nanmax(finite) - start)


def read_tables(folder: Path) -> list[CurveTable]:
    """Every table under a folder, by name. Raises ValueError where there is none."""
    tables = [read_taskset(file) for file in sorted(folder.rglob("*.npz"))]
    for file in sorted(folder.rglob("curve.csv")):
        tables.extend(read_medquicktune(file.parent))
    tables.extend(read_exported(file) for file in sorted(folder.rglob("*.curves.json")))
    if not tables:
        raise ValueError(f"{folder} holds no curves; it must hold *.npz, curve.csv with config.csv, or *.curves.json")
    return tables


def read_taskset(file: Path) -> CurveTable:
    """The 50 evaluations after the first, which is before any training. Betas are told by their distance to 1."""
    with np.load(file) as data:
        losses, settings = data["valid_loss"].astype(float), data["hyperparameters"].astype(float)
        names = [str(name) for name in data["hyperparameter_names"]]
    values = scaled(-losses, -float(np.nanmedian(losses[:, 0])))[:, 1:]
    params = tuple(dict(zip(names, map(float, row), strict=True)) for row in settings)
    lengths = np.full(len(values), values.shape[1])
    return CurveTable(file.stem, params, values, lengths, np.ones(len(values)))


def read_medquicktune(folder: Path) -> Iterator[CurveTable]:
    """One table a data set. A curve that ended early is padded with its last value; what it cost is for its length."""
    configs, curves, costs = (_read_csv(folder / f"{name}.csv") for name in ("config", "curve", "cost"))
    datasets = [row["dataset"] for row in configs]
    for dataset in sorted(set(datasets)):
        rows = [index for index, name in enumerate(datasets) if name == dataset]
        raw = np.array([[float(text) for key, text in curves[row].items() if key] for row in rows])
        changes = np.diff(raw, axis=1) != 0
        lengths = np.array([int(changed.nonzero()[0].max()) + 2 if changed.any() else 1 for changed in changes])
        seconds = np.array([float(costs[row]["cost"]) for row in rows]) / lengths
        params = tuple(_params(configs[row]) for row in rows)
        yield CurveTable(dataset, params, scaled(raw, float(np.median(raw[:, 0]))), lengths, seconds)


def read_exported(file: Path) -> CurveTable:
    recorded = read_curves(file)
    rows = [trial for trial in recorded.trials if trial.values]
    raw = np.full((len(rows), recorded.max_epochs), np.nan)
    sign = 1.0 if recorded.higher_is_better else -1.0
    for row, trial in enumerate(rows):
        for epoch, value in trial.values.items():
            raw[row, epoch - 1] = sign * value
    lengths = np.array([max(trial.values) for trial in rows])
    seconds = np.array([np.mean(list(trial.seconds.values())) if trial.seconds else 1.0 for trial in rows])
    params = tuple(trial.params for trial in rows)
    return CurveTable(recorded.name, params, scaled(raw, float(np.nanmedian(raw[:, 0]))), lengths, seconds)


def _read_csv(file: Path) -> Sequence[dict[str, str]]:
    with file.open(newline="") as text:
        return list(csv.DictReader(text))


def _params(row: Mapping[str, str]) -> dict[str, Any]:
    """What is given, as a number where it is one; without the data set's name and the row's."""
    return {name: _value(text) for name, text in row.items() if text and name not in ("", "dataset")}


def _value(text: str) -> Any:
    try:
        return int(text) if text.lstrip("-").isdigit() else float(text)
    except ValueError:
        return text
