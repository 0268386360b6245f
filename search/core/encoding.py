"""Configurations as points: each hyperparameter one to a few numbers, also where only some trials have it."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

Params = Mapping[str, Any]
Points = NDArray[np.float64]


class Encoder:
    """What a space draws, mapped to points (n, `num_columns`) of entries in [0, 1].

    It learns from `draws` of the space alone, so any define-by-run space will do. A number becomes its quantile among
    the draws: uniform whatever its scale, logarithmic or not, integer or not. A category becomes one-hot, two of them
    at distance 1. A number that some draws lack lies on a quarter of a circle around the point of those that lack it
    (Swersky et al. 2014, "Raiders of the lost architecture", arXiv:1409.4011): these are alike, and equally far from
    all others. `owners` (num_columns) says whose hyperparameter's each column is, an index into `names`.
    """

    def __init__(self, draws: Iterable[Params]) -> None:
        draws = list(draws)
        if not draws:
            raise ValueError("an encoder was given no draws; it needs some hundred of the space")
        self.names = tuple(dict.fromkeys(name for params in draws for name in params))
        self._columns = [_column([p[name] for p in draws if name in p], len(draws)) for name in self.names]
        widths = [column.width for column in self._columns]
        self.owners = np.repeat(np.arange(len(self.names)), widths)
        self.num_columns = int(sum(widths))

    def __call__(self, configurations: Sequence[Params]) -> Points:
        """(len(configurations), num_columns). Names and categories that no draw had count as absent."""
        blocks = [
            column.encode([params.get(name) for params in configurations])
            for name, column in zip(self.names, self._columns, strict=True)
        ]
        return np.concatenate(blocks, axis=1) if blocks else np.zeros((len(configurations), 0))


class _Number:
    """Values by their quantile; on a quarter circle where `is_conditional`."""

    def __init__(self, values: Sequence[float], is_conditional: bool) -> None:
        self.known, counts = np.unique(np.asarray(values, dtype=np.float64), return_counts=True)
        self.quantiles = (np.cumsum(counts) - counts / 2) / len(values)
        self.is_conditional = is_conditional
        self.width = 2 if is_conditional else 1

    def encode(self, values: Sequence[Any]) -> Points:
        numbers = _to_floats(values)
        is_there = ~np.isnan(numbers)
        places = np.interp(numbers, self.known, self.quantiles)
        if not self.is_conditional:
            return np.where(is_there, places, 0.5)[:, None]
        angles = places * (np.pi / 2)
        return np.where(is_there[:, None], np.stack([np.cos(angles), np.sin(angles)], axis=1), 0.0)


class _Category:
    """One-hot, scaled so that two categories are at distance 1; all zeros where absent."""

    def __init__(self, values: Sequence[Any]) -> None:
        self.places = {repr(value): place for place, value in enumerate(sorted(set(values), key=repr))}
        self.width = len(self.places)

    def encode(self, values: Sequence[Any]) -> Points:
        points = np.zeros((len(values), self.width))
        for row, value in enumerate(values):
            if (place := self.places.get(repr(value))) is not None:
                points[row, place] = 0.5**0.5
        return points


def _to_floats(values: Sequence[Any]) -> Points:
    """Numbers; NaN for None and for what is none."""
    try:
        return np.array(values, dtype=np.float64)
    except (TypeError, ValueError):
        return np.array([value if _is_number(value) else np.nan for value in values], dtype=np.float64)


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


def _column(values: Sequence[Any], num_draws: int) -> _Number | _Category:
    if all(_is_number(value) for value in values):
        return _Number(values, is_conditional=len(values) < num_draws)
    return _Category(values)
