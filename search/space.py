"""The default search space: a define-by-run function of an Optuna trial, which users narrow or replace.

A space is any callable that draws from `trial.suggest_*` and returns a configuration: a dict whose entries are
those of `trainable.config.TrialConfig`. Conditional hyperparameters are plain `if`s.
"""

from __future__ import annotations

import importlib.util
from collections.abc import Callable, Collection, Iterable, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Protocol

from trainable.config import LR_SCHEDULES, OPTIMIZERS

Configuration = dict[str, Any]


class Suggests(Protocol):
    """The part of `optuna.Trial` that a space uses."""

    def suggest_float(self, name: str, low: float, high: float, *, log: bool = False) -> float: ...
    def suggest_int(self, name: str, low: int, high: int, *, log: bool = False) -> int: ...
    def suggest_categorical(self, name: str, choices: Any) -> Any: ...


Space = Callable[[Suggests], Configuration]


@dataclass(frozen=True)
class Interval:
    """Numbers between `low` and `high`, both included; drawn evenly in the logarithm where `log`."""

    low: float
    high: float
    log: bool = False
    integer: bool = False

    @property
    def is_fixed(self) -> bool:
        return self.low == self.high

    def nearest(self, value: float) -> float:
        return min(max(value, self.low), self.high)

    def draw(self, trial: Suggests, name: str) -> float:
        if self.is_fixed:
            return self.low
        if self.integer:
            return trial.suggest_int(name, int(self.low), int(self.high), log=self.log)
        return trial.suggest_float(name, self.low, self.high, log=self.log)


@dataclass(frozen=True)
class Choice:
    """One of a few values."""

    values: tuple[Any, ...]

    @property
    def is_fixed(self) -> bool:
        return len(self.values) == 1

    def nearest(self, value: Any) -> Any:
        """The value itself where it is one of ours, else the nearest number, else the first."""
        if value in self.values:
            return value
        is_number = isinstance(value, int | float) and not isinstance(value, bool)
        return min(self.values, key=lambda ours: abs(ours - value)) if is_number else self.values[0]

    def draw(self, trial: Suggests, name: str) -> Any:
        return self.values[0] if self.is_fixed else trial.suggest_categorical(name, self.values)


DEFAULT_RANGES: Mapping[str, Interval | Choice] = {
    "optimizer": Choice(OPTIMIZERS),
    "learning_rate": Interval(1e-5, 1e-2, log=True),
    "weight_decay": Interval(1e-6, 1e-1, log=True),
    "momentum": Interval(0.5, 0.99),
    "lr_schedule": Choice(LR_SCHEDULES),
    "batch_size": Choice((8, 16, 32, 64)),
    "augmentation": Interval(0.0, 1.0),
    "dropout": Interval(0.0, 0.6),
    "label_smoothing": Interval(0.0, 0.2),
    "class_weighting": Choice((False, True)),
    "cnn_depth": Interval(2, 5, integer=True),
    "cnn_filters": Interval(8, 48, log=True, integer=True),
    "cnn_kernel": Choice((3, 5)),
}

SOUND: Mapping[str, Any] = {
    "optimizer": "adamw",
    "learning_rate": 1e-3,
    "weight_decay": 1e-2,
    "lr_schedule": "one_cycle",
    "batch_size": 16,
    "augmentation": 0.4,
    "dropout": 0.2,
    "label_smoothing": 0.0,
    "class_weighting": False,
    "cnn_depth": 4,
    "cnn_filters": 16,
    "cnn_kernel": 3,
}
"""Where a search begins: chosen on validation figures of COVID-CT and the made set (benchmarks/LOG.md)."""
SGD_FACTOR = 10.0
"""SGD steps by the gradient itself, not by its sign: its useful rates lie about ten times higher."""


class DefaultSpace:
    """All that `trainable` can train, within `ranges`."""

    def __init__(self, architectures: Iterable[str], ranges: Mapping[str, Interval | Choice] | None = None) -> None:
        self.architectures = tuple(architectures)
        self.ranges = {**DEFAULT_RANGES, **(ranges or {})}
        self.narrowed = frozenset(ranges or {})

    def __call__(self, trial: Suggests) -> Configuration:
        def draw(name: str) -> Any:
            return self.ranges[name].draw(trial, name)

        drawn: Configuration = {"architecture": Choice(self.architectures).draw(trial, "architecture")}
        if drawn["architecture"] == "small_cnn":
            drawn |= {name: draw(name) for name in ("cnn_depth", "cnn_filters", "cnn_kernel")}
        drawn["optimizer"] = draw("optimizer")
        if drawn["optimizer"] == "sgd":
            drawn["learning_rate"] = self._sgd_rates().draw(trial, "learning_rate_sgd")
        else:
            drawn["learning_rate"] = draw("learning_rate")
        if drawn["optimizer"] in ("sgd", "rmsprop"):
            drawn["momentum"] = draw("momentum")
        for name in ("weight_decay", "lr_schedule", "batch_size", "augmentation"):
            drawn[name] = draw(name)
        for name in ("dropout", "label_smoothing", "class_weighting"):
            drawn[name] = draw(name)
        return drawn

    def _sgd_rates(self) -> Interval | Choice:
        """A range that the user gave holds for every optimiser; the default moves up for SGD."""
        rates = self.ranges["learning_rate"]
        if isinstance(rates, Choice) or "learning_rate" in self.narrowed:
            return rates
        return Interval(rates.low * SGD_FACTOR, rates.high * SGD_FACTOR, log=rates.log)

    def first_points(self, pretrained: Collection[str] = ()) -> list[dict[str, Any]]:
        """One sound configuration for every net, to begin with: what a careful user would try by hand.

        In Optuna's names, within the ranges, without what is fixed. `pretrained` nets get half the rate.
        """
        points = []
        for architecture in self.architectures:
            wanted = {**SOUND, "learning_rate": SOUND["learning_rate"] / (2 if architecture in pretrained else 1)}
            names = [name for name in wanted if not name.startswith("cnn_") or architecture == "small_cnn"]
            kinds = {"architecture": Choice(self.architectures)} | {name: self.ranges[name] for name in names}
            point = {
                name: kind.nearest(wanted.get(name, architecture)) for name, kind in kinds.items() if not kind.is_fixed
            }
            if self.ranges["optimizer"].nearest(SOUND["optimizer"]) == "sgd" and "learning_rate" in point:
                rates = self._sgd_rates()
                point["learning_rate_sgd"] = rates.nearest(point.pop("learning_rate") * SGD_FACTOR)
            points.append(point)
        return points

    def describe(self) -> dict[str, Any]:
        """The space as plain data, for MLflow and `search.json`."""
        ranges = {name: asdict(kind) for name, kind in self.ranges.items()}
        return {"architecture": {"values": self.architectures}} | ranges


def parse_range(name: str, text: str) -> Interval | Choice:
    """Read `LOW:HIGH` or `A,B,C` for one hyperparameter of the default space.

    Raises ValueError for an unknown name, and for a range that is empty or of the wrong kind.
    """
    if name not in DEFAULT_RANGES:
        raise ValueError(f"unknown hyperparameter {name!r}; the default space has: {', '.join(DEFAULT_RANGES)}")
    default = DEFAULT_RANGES[name]
    if ":" in text:
        if isinstance(default, Choice):
            raise ValueError(f"{name} is a choice; give its values as A,B,C and not as {text!r}")
        low, high = (_number(name, part, default.integer) for part in text.split(":", 1))
        if low > high:
            raise ValueError(f"{name} is {text!r}; the lower end must come first")
        return Interval(low, high, log=default.log and low > 0, integer=default.integer)
    parts = [part.strip() for part in text.split(",") if part.strip()]
    if not parts:
        raise ValueError(f"{name} is {text!r}; give LOW:HIGH or A,B,C")
    if isinstance(default, Interval):
        return Choice(tuple(_number(name, part, default.integer) for part in parts))
    return Choice(tuple(_like(name, part, default.values[0]) for part in parts))


def _number(name: str, text: str, integer: bool) -> float:
    try:
        return int(text) if integer else float(text)
    except ValueError:
        kind = "a whole number" if integer else "a number"
        raise ValueError(f"{name} is {text!r}; it must be {kind}, such as 1:8 or 1e-5:1e-3") from None


def _like(name: str, text: str, example: Any) -> Any:
    if isinstance(example, bool):
        if text.lower() not in ("true", "false"):
            raise ValueError(f"{name} is {text!r}; it must be true or false")
        return text.lower() == "true"
    return _number(name, text, True) if isinstance(example, int) else text


def load_space(file: Path) -> Space:
    """The function `space` of a user's own file. Raises ValueError where there is none."""
    spec = importlib.util.spec_from_file_location("ctsearch_user_space", file)
    if not file.is_file() or spec is None or spec.loader is None:
        raise ValueError(f"--space is {str(file)!r}; it must be a Python file that defines `def space(trial)`")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    space = getattr(module, "space", None)
    if not callable(space):
        raise ValueError(f"{file} defines no function `space`; it must define `def space(trial)` returning a dict")
    return space
