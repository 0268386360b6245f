"""Several objectives: which trials no other one beats in all of them, and in which order the others follow.

Schmucker et al. 2021, "Multi-objective Asynchronous Successive Halving" (arXiv:2106.12639): at a rung trials are
sorted by fronts (non-dominated sorting; Deb et al. 2002, NSGA-II), and within a front so that the first few are spread
over it (their epsilon-net). What is promoted covers the whole trade-off, and not the end that is most accurate.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING

import numpy as np

from search.core.board import Standing
from trainable.report import Outcome

if TYPE_CHECKING:
    from search.core.ledger import Ledger, TrialEntry
    from trainable.report import Direction

Costs = Callable[[int], Sequence[float]]
"""What a trial's model costs, by the trial's number; lower is better."""


def sort_fronts(points: np.ndarray) -> np.ndarray:
    """The front of each point, 0 that of those that none beats: int (N,) of `points` float (N, D), lower is better.

    One point beats another where it is nowhere worse and somewhere better; equal ones share a front.
    """
    no_worse: np.ndarray = np.all(points[:, None] <= points[None], axis=-1)
    beats = no_worse & ~no_worse.T
    fronts = np.full(len(points), -1)
    num_above = beats.sum(0)
    for front in range(len(points)):
        found = (num_above == 0) & (fronts < 0)
        if not found.any():
            break
        fronts[found] = front
        num_above = num_above - beats[found].sum(0)
    return fronts


def spread(points: np.ndarray) -> list[int]:
    """Places of `points` float (N, D), so that the first ones are far apart: first the best in the first dimension,
    then always the one that is farthest from all before it, each dimension by its own range."""
    reach = np.ptp(points, axis=0)
    scaled = points / np.where(reach > 0, reach, 1.0)
    order = [int(np.lexsort(scaled.T[::-1])[0])]
    distance = np.full(len(points), math.inf)
    while len(order) < len(points):
        distance = np.minimum(distance, np.linalg.norm(scaled - scaled[order[-1]], axis=1))
        distance[order] = -1.0
        order.append(int(distance.argmax()))
    return order


def sort_by_fronts(points: np.ndarray) -> list[int]:
    """Places of `points` float (N, D), lower is better: front by front, each of them spread."""
    if not len(points):
        return []
    known = np.where(np.isfinite(points), points, np.nan)
    worst = np.nan_to_num(np.nanmax(known, axis=0, initial=-math.inf), neginf=0.0)
    finite = np.where(np.isfinite(points), points, worst + 1.0)  # worse than all that are known
    fronts = sort_fronts(finite)
    order: list[int] = []
    for front in range(fronts.max() + 1):
        there = np.flatnonzero(fronts == front)
        order += there[spread(finite[there])].tolist()
    return order


class ByFronts:
    """The order of trials by their score (higher is better) and by their `costs`."""

    def __init__(self, costs: Costs) -> None:
        self.costs = costs

    def __call__(self, trials: Sequence[Standing], scores: Sequence[float]) -> list[Standing]:
        points = [(-score, *self.costs(trial.number)) for trial, score in zip(trials, scores, strict=True)]
        return [trials[place] for place in sort_by_fronts(np.array(points, dtype=float))]


def list_able(ledger: Ledger) -> list[TrialEntry]:
    """The trials of which one may become the champion: those that completed; before any has, all that have a value."""
    ranked = ledger.ranked()
    return [entry for entry in ranked if entry.outcome is Outcome.COMPLETED] or ranked


def find_front(entries: Sequence[TrialEntry], direction: Direction, costs: Sequence[str]) -> list[TrialEntry]:
    """Of trials with a value and with these `costs` those that none beats, the most accurate first."""
    known = [entry for entry in entries if entry.best_value is not None and set(costs) <= set(entry.costs)]
    if not known:
        return []
    points = [(-direction.score(entry.best_value), *list_costs(entry.costs, costs)) for entry in known]
    fronts = sort_fronts(np.array(points, dtype=float))
    front = [entry for entry, place in zip(known, fronts, strict=True) if place == 0]
    return direction.rank((entry.best_value, entry.number, entry) for entry in front)


def choose_frugal(front: Sequence[TrialEntry], direction: Direction, costs: Sequence[str], margin: float) -> TrialEntry:
    """Of a front, the most accurate first, the trial that costs least among those within `margin` of the first one.

    With a margin of one standard error it is the one-standard-error rule (Breiman et al. 1984, "Classification and
    Regression Trees", section 3.4.3): what cannot be told from the best may as well be the cheaper one. The first of
    several `costs` counts before the others.
    """
    best = direction.score(front[0].best_value)
    near = [entry for entry in front if direction.score(entry.best_value) >= best - margin]
    return min(near, key=lambda entry: list_costs(entry.costs, costs))


def list_costs(known: Mapping[str, float], names: Sequence[str]) -> tuple[float, ...]:
    """The costs by these names; infinity for one that is not known."""
    return tuple(known.get(name, math.inf) for name in names)
