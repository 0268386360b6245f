"""What each hyperparameter of the default space may be: intervals and choices, ours, and as users write them."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Protocol

from trainable.config import LR_SCHEDULES, OPTIMIZERS, UNFREEZING, TrialConfig
from trainable.suggest import did_you_mean


class Suggests(Protocol):
    """The part of `optuna.Trial` that a space uses."""

    def suggest_float(self, name: str, low: float, high: float, *, log: bool = False) -> float: ...
    def suggest_int(self, name: str, low: int, high: int, *, log: bool = False) -> int: ...
    def suggest_categorical(self, name: str, choices: Any) -> Any: ...


@dataclass(frozen=True)
class Interval:
    """Numbers between `low` and `high`, both included; drawn evenly in the logarithm where `log`."""

    low: float
    high: float
    log: bool = False
    integer: bool = False

    def draw(self, trial: Suggests, name: str) -> float:
        if self.low == self.high:
            return self.low
        if self.integer:
            return trial.suggest_int(name, int(self.low), int(self.high), log=self.log)
        return trial.suggest_float(name, self.low, self.high, log=self.log)


@dataclass(frozen=True)
class Choice:
    """One of a few values."""

    values: tuple[Any, ...]

    def draw(self, trial: Suggests, name: str) -> Any:
        return self.values[0] if len(self.values) == 1 else trial.suggest_categorical(name, self.values)


DEFAULT_RANGES: Mapping[str, Interval | Choice] = {
    "optimizer": Choice(OPTIMIZERS),
    "learning_rate": Interval(1e-5, 1e-2, log=True),
    "weight_decay": Interval(1e-6, 1e-1, log=True),
    "momentum": Interval(0.0, 0.99),
    "lr_schedule": Choice(LR_SCHEDULES),
    "batch_size": Interval(8, 64, log=True, integer=True),
    "augmentation": Interval(0.0, 1.0),
    "dropout": Interval(0.0, 0.6),
    "label_smoothing": Interval(0.0, 0.2),
    "class_weighting": Choice((False, True)),
    "cnn_depth": Interval(2, 5, integer=True),
    "cnn_filters": Interval(8, 48, log=True, integer=True),
    "cnn_kernel": Choice((2, 3, 5)),
    "cnn_norm": Choice((True, False)),
    "cnn_pool": Choice((2, 3)),
    "unfreezing": Choice(UNFREEZING),
    "unfrozen_layers": Interval(4, 48, log=True, integer=True),
    "unfreeze_at": Interval(0.05, 0.5),
    "unfreeze_more_at": Interval(0.5, 1.0),
    "layer_lr_decay": Interval(0.05, 1.0, log=True),
    "pooling": Choice(("avg", "max", "avg_max")),
    "head_depth": Interval(0, 2, integer=True),
    "head_width": Interval(64, 1024, log=True, integer=True),
    "intensity": Interval(0.0, 0.0),
    "cutout": Interval(0.0, 0.0),
    "mixup": Interval(0.0, 0.0),
    "cutmix": Interval(0.0, 0.0),
}
"""The last four are off unless a range is given: none of them won on two sets (benchmarks/sound_changes.py)."""


def parse_range(name: str, text: str) -> Interval | Choice:
    """Read `LOW:HIGH` or `A,B,C` for one hyperparameter of the default space.

    Raises ValueError for an unknown name, and for a range that is empty, of the wrong kind, or holds what no trial can
    be trained with.
    """
    if name not in DEFAULT_RANGES:
        raise ValueError(
            f"--range has {name!r}, an unknown hyperparameter{did_you_mean(name, DEFAULT_RANGES)}; the default space "
            f"has: {', '.join(DEFAULT_RANGES)}"
        )
    found = _read_range(name, text)
    for value in (found.low, found.high) if isinstance(found, Interval) else found.values:
        try:
            TrialConfig(architecture="", **{name: value})
        except ValueError as error:
            hint = ""
            if isinstance(value, str) and isinstance(known := DEFAULT_RANGES[name], Choice):
                hint = did_you_mean(value, map(str, known.values))
            raise ValueError(f"--range {name}={text}: {error}{hint}") from error
    return found


def _read_range(name: str, text: str) -> Interval | Choice:
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
        return Choice(tuple(dict.fromkeys(_number(name, part, default.integer) for part in parts)))
    return Choice(tuple(dict.fromkeys(_like(name, part, default.values[0]) for part in parts)))


def _number(name: str, text: str, integer: bool) -> float:
    try:
        number = float(text)
        if math.isfinite(number):
            return int(text) if integer else number
    except (ValueError, OverflowError):
        pass
    kind = "a whole number" if integer else "a number"
    raise ValueError(f"{name} is {text!r}; it must be {kind}, such as 1:8 or 1e-5:1e-3")


def _like(name: str, text: str, example: Any) -> Any:
    if isinstance(example, bool):
        if text.lower() not in ("true", "false"):
            raise ValueError(f"{name} is {text!r}; it must be true or false")
        return text.lower() == "true"
    return _number(name, text, True) if isinstance(example, int) else text
