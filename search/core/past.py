"""What earlier trials drew, as a source of configurations: for who has a search's record and not its space."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from search.core.proposals import Params


@dataclass(frozen=True)
class Scale:
    """The range of a number that is drawn, and whether its logarithm is what is drawn evenly."""

    low: float
    high: float
    is_log: bool = False

    @classmethod
    def around(cls, values: Sequence[float]) -> Scale:
        """Of values alone; what spans more than a factor of thirty is taken as logarithmic."""
        low, high = min(values), max(values)
        return cls(low, high, is_log=low > 0 and high / low > 30)

    def joined(self, other: Scale) -> Scale:
        return Scale(min(self.low, other.low), max(self.high, other.high), is_log=self.is_log and other.is_log)

    def place(self, value: float) -> float:
        """Where a value lies in the range, 0 to 1; the middle where the range is one value."""
        low, high = self._into(self.low), self._into(self.high)
        return (self._into(value) - low) / (high - low) if high > low else 0.5

    def at(self, place: float) -> float:
        """The value at a place, 0 to 1."""
        low, high = self._into(self.low), self._into(self.high)
        value = low + place * (high - low)
        return math.exp(value) if self.is_log else value

    def _into(self, value: float) -> float:
        return math.log(value) if self.is_log else value


class PastProposals:
    """Configurations like the `past` ones: the categories of one of them, its numbers drawn anew within their `scales`.

    The categories stay together, so that a hyperparameter is there only where a trial with these had it.
    """

    def __init__(self, past: Sequence[Params], scales: Mapping[str, Scale], *, step: float = 0.1) -> None:
        if not past:
            raise ValueError("there is no trial yet; proposals like earlier trials need one at least")
        self.past, self.scales, self.step = list(past), scales, step

    def draw(self, num: int, generator: np.random.Generator) -> list[Params]:
        chosen = generator.integers(len(self.past), size=num)
        return [self._redrawn(self.past[index], generator, None) for index in chosen.tolist()]

    def near(self, params: Params, num: int, generator: np.random.Generator) -> list[Params]:
        return [self._redrawn(params, generator, self.step) for _ in range(num)]

    def _redrawn(self, params: Params, generator: np.random.Generator, step: float | None) -> Params:
        return {name: self._number(name, value, generator, step) for name, value in params.items()}

    def _number(self, name: str, value: object, generator: np.random.Generator, step: float | None) -> object:
        scale = self.scales.get(name)
        if scale is None or isinstance(value, bool) or not isinstance(value, int | float):
            return value
        place = generator.uniform() if step is None else scale.place(value) + step * generator.standard_normal()
        drawn = scale.at(min(max(place, 0.0), 1.0))
        return round(drawn) if isinstance(value, int) else drawn
