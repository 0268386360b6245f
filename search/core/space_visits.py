"""Draws from a user's own space along every branch: each choice and both ends of each range, once at least."""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator, Mapping
from typing import Any

from search.core.own_space import KINDS, Configuration, OwnSpace, check_draw

Ask = Callable[[Mapping[str, Any]], Any]
"""Gives an Optuna trial in which the given values, by name, will be drawn, and all others as the sampler likes."""

MAX_DRAWS = 200
NUM_RANDOM_DRAWS, NUM_CORNERS = 24, 40


def check_own_space(space: OwnSpace, ask: Ask, check: Callable[[Configuration], None] = lambda _: None) -> int:
    """Draw from a user's space along every branch, and some dozens at random; how many draws there were.

    `ask` opens a trial of a study that nobody keeps. Every choice and both ends of every range are visited at least
    once, in the order in which they appear; then come some dozens of corners, for branches that hang on several values.
    Raises ValueError, with file and line, for the first configuration that no trial could be trained with, or for which
    `check` raises one.
    """
    points = _Unvisited()
    num_draws = 0
    while num_draws < MAX_DRAWS and (point := points.next(num_draws)) is not None:
        trial = ask(point)
        configuration = check_draw(space, space(trial), trial.params)
        try:
            check(configuration)
        except ValueError as error:
            first = str(error).partition(" ")[0]
            raise ValueError(f"{space.place(first if first in KINDS else 'architecture')}{error}") from error
        points.note(trial)
        num_draws += 1
    return num_draws


class _Unvisited:
    """Points that lead to what was not drawn yet: every choice, both ends of every range; then chance, then corners."""

    def __init__(self) -> None:
        self._waiting: list[dict[str, Any]] = []
        self._seen: set[tuple[str, str]] = set()
        self._ends: dict[str, list[Any]] = {}
        self._num_corners = 0
        self._random = random.Random(0)

    def next(self, num_draws: int) -> dict[str, Any] | None:
        if self._waiting:
            return self._waiting.pop(0)
        if num_draws < NUM_RANDOM_DRAWS:
            return {}
        self._num_corners += 1
        if self._num_corners > NUM_CORNERS:
            return None
        return {name: self._random.choice(ends) for name, ends in self._ends.items()}

    def note(self, trial: Any) -> None:
        """From what a draw has shown, plan the draws that differ from it in one value."""
        drawn = trial.params
        self._seen |= {(name, repr(value)) for name, value in drawn.items()}
        before: dict[str, Any] = {}
        for name, distribution in trial.distributions.items():
            ends = self._ends[name] = list(_ends(distribution))
            for value in ends:
                if (name, repr(value)) not in self._seen:
                    self._seen.add((name, repr(value)))
                    self._waiting.append({**before, name: value})
            before[name] = drawn[name]


def _ends(distribution: Any) -> Iterator[Any]:
    if hasattr(distribution, "choices"):
        yield from distribution.choices
    else:
        yield distribution.low
        yield distribution.high
