"""What is left to gain: the improvement that a search can still expect, and what it would cost."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from scipy.special import ndtr

from search.core.board import WORST, Standing
from search.core.freeze_thaw import FreezeThaw


@dataclass(frozen=True)
class Prospect:
    """A trial, or a new configuration (`number` None), trained to its end.

    `mean` and `deviation` are what the model expects of it there, `gain` its expected improvement on the best trial, at
    least 0, all in the metric's unit; `seconds` of one worker is what it costs from `epoch` on.
    """

    number: int | None
    params: Mapping[str, Any]
    epoch: int
    mean: float
    deviation: float
    gain: float
    seconds: float

    @property
    def rate(self) -> float:
        """Expected improvement a second."""
        return self.gain / self.seconds if self.seconds > 0 else 0.0


@dataclass(frozen=True)
class Outlook:
    """The most promising next step of a search, trained to its end: a `Prospect`'s gain, seconds and number.

    `best` is what the model takes the best trial to be worth, in the metric's own direction.
    """

    best: float
    gain: float
    seconds: float
    number: int | None


@dataclass(frozen=True)
class Foresight:
    """All prospects, those with the most expected improvement a second first, and what the best trial is worth now."""

    best: float
    prospects: Sequence[Prospect]


def foresee(rule: FreezeThaw, *, stopped_too: bool = False) -> Foresight | None:
    """What the model expects of every paused trial and of new configurations.

    Expected improvement a second: Mockus 1978; Snoek et al. 2012, arXiv:1206.2944. With `stopped_too` also of trials
    that will not go on. None before the rule has a model. It draws as the rule does, so looking changes no decision
    that follows but by the model's parameters, if they were due.
    """
    if len(rule.data.judged) < rule.settings.min_trials:
        return None
    generator = rule.generator()
    view = rule.view_of_values(generator)
    begun = _short_trials(rule) if stopped_too else rule.paused()
    fresh = rule.fresh(generator, view.order)
    points, cost = rule.price(begun, fresh)
    mean, deviation = view.model.predict(rule.after(np.inf, begun, points, cost))
    above = (mean - view.best) / deviation
    density = np.exp(-0.5 * above**2) / math.sqrt(2 * math.pi)
    gains = np.maximum(deviation * (above * ndtr(above) + density), 0.0) * view.spread
    epochs = np.array([trial.epoch for trial in begun] + [0] * len(fresh))
    seconds = (rule.board.max_epochs - epochs) * cost
    prospects = [
        Prospect(
            number=begun[row].number if row < len(begun) else None,
            params=begun[row].params if row < len(begun) else fresh[row - len(begun)],
            epoch=int(epochs[row]),
            mean=rule.board.sign * (view.middle + view.spread * float(mean[row])),
            deviation=view.spread * float(deviation[row]),
            gain=float(gains[row]),
            seconds=float(seconds[row]),
        )
        for row in range(len(mean))
    ]
    best = rule.board.sign * (view.middle + view.spread * view.best)
    return Foresight(best, sorted(prospects, key=lambda prospect: -prospect.rate))


def look_ahead(rule: FreezeThaw) -> Outlook | None:
    """The step with the most expected improvement a second; None before the rule has a model."""
    foresight = foresee(rule)
    if foresight is None:
        return None
    first = foresight.prospects[0]
    return Outlook(foresight.best, first.gain, first.seconds, first.number)


def has_converged(outlooks: Sequence[Outlook], *, least: float, patience: int = 3) -> bool:
    """Whether the last `patience` looks all promise less than `least`, in the metric's unit."""
    return len(outlooks) >= patience and all(outlook.gain < least for outlook in outlooks[-patience:])


def _short_trials(rule: FreezeThaw) -> list[Standing]:
    """The best trials that have not been trained to their end, whether they may go on or not."""
    trials = rule.board.trials.values()
    short = [trial for trial in trials if trial.last_score > WORST and 0 < trial.epoch < rule.board.max_epochs]
    return sorted(short, key=lambda trial: (-trial.last_score, trial.number))[: rule.settings.num_paused]
