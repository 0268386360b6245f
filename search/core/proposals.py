"""New configurations to judge: drawn from a define-by-run space, and near those that did well."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Protocol

import numpy as np

Params = Mapping[str, Any]


class Proposals(Protocol):
    """Where a rule's candidates come from, in the space's own names."""

    def draw(self, num: int, generator: np.random.Generator) -> list[Params]: ...

    def near(self, params: Params, num: int, generator: np.random.Generator) -> list[Params]:
        """So many like `params`."""
        ...


class SpaceProposals:
    """The proposals of a space: a callable that draws with `trial.suggest_*`, as for an Optuna trial.

    Near a configuration, each of its hyperparameters is drawn anew with the chance `change`; a number else moves by a
    normal step of `step` of its range. What the space then asks for that it did not have is drawn.
    """

    def __init__(self, space: Callable[[Any], Any], *, step: float = 0.1, change: float = 0.1) -> None:
        self.space, self.step, self.change = space, step, change

    def draw(self, num: int, generator: np.random.Generator) -> list[Params]:
        return self.near({}, num, generator)

    def near(self, params: Params, num: int, generator: np.random.Generator) -> list[Params]:
        trials = [_Drawing(params, generator, self.step, self.change) for _ in range(num)]
        for trial in trials:
            self.space(trial)
        return [trial.params for trial in trials]


class _Drawing:
    """Stands in for an Optuna trial: draws evenly, or near `base`. `params` is what was drawn."""

    def __init__(self, base: Params, generator: np.random.Generator, step: float, change: float) -> None:
        self.base, self.generator, self.step, self.change = base, generator, step, change
        self.params: dict[str, Any] = {}

    def suggest_float(
        self, name: str, low: float, high: float, *, step: float | None = None, log: bool = False
    ) -> float:
        if name not in self.params:
            value = self._number(name, low, high, log)
            if step is not None:
                value = low + round((value - low) / step) * step
            self.params[name] = min(max(value, low), high)
        return self.params[name]

    def suggest_int(self, name: str, low: int, high: int, *, step: int = 1, log: bool = False) -> int:
        if name not in self.params:
            margin = step / 2 - 1e-9
            value = self._number(name, max(low - margin, 0.5) if log else low - margin, high + margin, log)
            self.params[name] = min(max(low + round((value - low) / step) * step, low), high)
        return self.params[name]

    def suggest_categorical(self, name: str, choices: Sequence[Any]) -> Any:
        if name not in self.params:
            known = self.base.get(name)
            stays = name in self.base and known in choices and self.generator.random() >= self.change
            self.params[name] = known if stays else choices[int(self.generator.integers(len(choices)))]
        return self.params[name]

    def _number(self, name: str, low: float, high: float, log: bool) -> float:
        """Evenly in its range, or a step from where it was; off an end a step comes back."""
        into, back = (math.log, math.exp) if log else (float, float)
        bottom, top = into(low), into(high)
        known = self.base.get(name)
        if not isinstance(known, int | float) or top <= bottom or self.generator.random() < self.change:
            return back(self.generator.uniform(bottom, max(top, bottom)))
        place = (into(min(max(known, low), high)) - bottom) / (
            top - bottom
        ) + self.step * self.generator.standard_normal()
        place = abs(place) % 2
        return back(bottom + (place if place <= 1 else 2 - place) * (top - bottom))
