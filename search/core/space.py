"""The default search space: a define-by-run function of an Optuna trial, which users narrow or replace.

A space is any callable that draws from `trial.suggest_*` and returns a configuration: a dict whose entries are
those of `trainable.config.TrialConfig`. Conditional hyperparameters are plain `if`s.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from search.core.own_space import OwnSpace, load_own_space, settle
from search.core.ranges import DEFAULT_RANGES, Choice, Interval, Suggests
from trainable.config import TrialConfig, is_own_model

Configuration = dict[str, Any]
Space = Callable[[Suggests], Configuration]

SOUND: Mapping[str, Any] = {
    "optimizer": "adamw",
    "learning_rate": 1e-3,
    "weight_decay": 1e-2,
    "momentum": 0.9,
    "lr_schedule": "one_cycle",
    "batch_size": 16,
    "augmentation": 0.4,
    "dropout": 0.2,
    "label_smoothing": 0.0,
    "class_weighting": False,
    "cnn_depth": 4,
    "cnn_filters": 16,
    "cnn_kernel": 3,
    "cnn_norm": True,
    "unfreezing": "all",
    "layer_lr_decay": 1.0,
    "pooling": "avg",
    "head_depth": 0,
}
"""Where a search begins: chosen on validation figures of COVID-CT and the synthetic set (benchmarks/LOG.md)."""
SGD_FACTOR = 10.0
"""SGD steps by the gradient itself, not by its sign: its useful rates lie about ten times higher."""
MAX_DEPTH_OF_COARSE_POOLING = 3
"""Four blocks that pool by three would leave nothing of 64 pixels."""


def has_pooling(architecture: str) -> bool:
    """Whether its last feature map is pooled as a whole, so that `pooling` may say how."""
    return architecture not in ("vgg16", "vgg16_bn") and not is_own_model(architecture)


def has_linear_end(architecture: str) -> bool:
    """Whether it ends in a linear layer, before which `head_depth` may put others."""
    return architecture != "squeezenet1_1" and not is_own_model(architecture)


class DefaultSpace:
    """All that `trainable` can train, within `ranges`.

    How an architecture is fine-tuned (`unfreezing` and its stages, `layer_lr_decay`, `pooling`, the head) is drawn for
    the architectures in `fine_tuned`: without pretrained weights a frozen layer would stay as random as it began. A
    range that the user gave holds for every architecture that can have it.
    """

    def __init__(
        self,
        architectures: Iterable[str],
        ranges: Mapping[str, Interval | Choice] | None = None,
        *,
        fine_tuned: Collection[str] = (),
    ) -> None:
        self.architectures = tuple(architectures)
        self.ranges = {**DEFAULT_RANGES, **(ranges or {})}
        self.narrowed = frozenset(ranges or {})
        self.fine_tuned = frozenset(fine_tuned)

    def __call__(self, trial: Suggests) -> Configuration:
        drawn: Configuration = {"architecture": Choice(self.architectures).draw(trial, "architecture")}

        def draw(*names: str) -> None:
            drawn.update({name: self.ranges[name].draw(trial, name) for name in names})

        if drawn["architecture"] == "small_cnn":
            self._draw_small_cnn(drawn, draw)
        draw("optimizer")
        if drawn["optimizer"] == "sgd":
            drawn["learning_rate"] = self._sgd_rates().draw(trial, "learning_rate_sgd")
        else:
            draw("learning_rate")
        if drawn["optimizer"] in ("sgd", "rmsprop"):
            draw("momentum")
        # Under adaptive rates a penalty is no decay (Loshchilov and Hutter 2019): adam is adamw without any.
        drawn["weight_decay"] = 0.0
        if drawn["optimizer"] in ("adamw", "sgd") or "weight_decay" in self.narrowed:
            draw("weight_decay")
        draw("lr_schedule", "batch_size", "augmentation", "dropout", "label_smoothing", "class_weighting")
        draw(*(name for name in ("intensity", "cutout", "mixup", "cutmix") if name in self.narrowed))
        self._draw_fine_tuning(drawn, draw)
        return drawn

    def _draw_small_cnn(self, drawn: Configuration, draw: Callable[..., None]) -> None:
        """With batch norm, or as textbooks have it: without, pooled coarsely to a grid of cells and dense layers."""
        draw("cnn_depth", "cnn_filters", "cnn_kernel", "cnn_norm")
        has_room = drawn["cnn_depth"] <= MAX_DEPTH_OF_COARSE_POOLING
        if (not drawn["cnn_norm"] and has_room) or "cnn_pool" in self.narrowed:
            draw("cnn_pool")
        if not drawn["cnn_norm"]:
            drawn["pooling"] = "grid"

    def _draw_fine_tuning(self, drawn: Configuration, draw: Callable[..., None]) -> None:
        architecture, is_textbook = drawn["architecture"], "pooling" in drawn

        def wants(name: str, by_itself: bool) -> bool:
            return by_itself or name in self.narrowed

        is_tuned = architecture in self.fine_tuned
        if wants("unfreezing", is_tuned):
            draw("unfreezing")
            if drawn["unfreezing"] in ("last", "staged"):
                draw("unfrozen_layers")
            if drawn["unfreezing"] == "staged":
                draw("unfreeze_at")
            if drawn["unfreezing"] in ("staged", "gradual"):
                draw("unfreeze_more_at")
        if wants("layer_lr_decay", is_tuned and drawn["unfreezing"] != "frozen"):
            draw("layer_lr_decay")
        if wants("pooling", is_tuned) and not is_textbook and has_pooling(architecture):
            draw("pooling")
        if wants("head_depth", is_tuned or is_textbook) and has_linear_end(architecture):
            draw("head_depth")
            if drawn["head_depth"] > 0:
                draw("head_width")

    def _sgd_rates(self) -> Interval | Choice:
        """A range that the user gave holds for every optimiser; the default moves up for SGD."""
        rates = self.ranges["learning_rate"]
        if isinstance(rates, Choice) or "learning_rate" in self.narrowed:
            return rates
        return Interval(rates.low * SGD_FACTOR, rates.high * SGD_FACTOR, log=rates.log)

    def first_points(self, architectures: Sequence[str] = (), pretrained: Collection[str] = ()) -> list[dict[str, Any]]:
        """One sound configuration for each of `architectures` (default: all), to begin with: what a careful user
        would try.

        In Optuna's names, within the ranges, without what is fixed. `pretrained` architectures get half the rate.
        """
        points = []
        for architecture in architectures or self.architectures:
            rate = SOUND["learning_rate"] / (2 if architecture in pretrained else 1)
            rates = {"learning_rate": rate, "learning_rate_sgd": rate * SGD_FACTOR}
            wish = Wish({**SOUND, **rates, "architecture": architecture})
            self(wish)
            points.append(wish.params)
        return points

    def describe(self) -> dict[str, Any]:
        """The space as plain data, for MLflow and `search.json`."""
        ranges = {name: asdict(kind) for name, kind in self.ranges.items()}
        return {"architecture": {"values": self.architectures}, "fine_tuned": sorted(self.fine_tuned)} | ranges


class Wish:
    """Stands in for an Optuna trial and draws what is `wanted`, or the nearest to it; `params` is what was drawn."""

    def __init__(self, wanted: Mapping[str, Any]) -> None:
        self.wanted = wanted
        self.params: dict[str, Any] = {}

    def suggest_float(self, name: str, low: float, high: float, **_: Any) -> float:
        self.params[name] = min(max(self.wanted.get(name, low), low), high)
        return self.params[name]

    def suggest_int(self, name: str, low: int, high: int, **_: Any) -> int:
        self.params[name] = round(min(max(self.wanted.get(name, low), low), high))
        return self.params[name]

    def suggest_categorical(self, name: str, choices: Sequence[Any]) -> Any:
        """The value itself where it is one of them, else the nearest number, else the first."""
        value = self.wanted.get(name)
        if value not in choices:
            is_number = isinstance(value, int | float) and not isinstance(value, bool)
            value = min(choices, key=lambda choice: abs(choice - value)) if is_number else choices[0]
        self.params[name] = value
        return value


def find_point(space: Space, config: TrialConfig) -> dict[str, Any]:
    """Where `space` gives exactly `config`, in Optuna's names. Raises ValueError saying what it gives instead."""
    wish = Wish({**config.to_params(), "learning_rate_sgd": config.learning_rate})
    found = TrialConfig.from_params(configuration_of(space(wish), wish.params)).to_params()
    wanted = config.to_params()
    if differing := [f"{name} {found[name]!r} for {wanted[name]!r}" for name in wanted if found[name] != wanted[name]]:
        raise ValueError(f"the nearest that it has differs in {', '.join(differing)}")
    return wish.params


def configuration_of(drawn: Any, params: Mapping[str, Any]) -> Configuration:
    """A space may return its configuration, or nothing: then it is what was suggested, by name.

    Raises ValueError for what is no configuration; what is surely meant is cast (`own_space.settle`).
    """
    if drawn is not None and not isinstance(drawn, dict):
        raise ValueError(f"the space returned {type(drawn).__name__}; it must return a dict or None")
    return settle(params if drawn is None else drawn)


def load_space(file: Path, *, shown: Path | None = None) -> OwnSpace:
    """The function `space` of a user's own file, which they know as `shown`. Raises ValueError where there is none."""
    return load_own_space(file, shown=shown)
