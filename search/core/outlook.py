"""What is left to gain: the improvement that a search can still expect, and what it would cost."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from scipy.stats import norm

from search.core.freeze_thaw import FreezeThaw


@dataclass(frozen=True)
class Outlook:
    """The most promising next step of a search, trained to its end.

    `gain` is the expected improvement on the best trial, at least 0, in the metric's unit; `seconds` of one worker is
    what it costs; `number` is the paused trial to go on with, None a new one. `best` is what the model takes the best
    trial to be worth, in the metric's own direction.
    """

    best: float
    gain: float
    seconds: float
    number: int | None


def look_ahead(rule: FreezeThaw) -> Outlook | None:
    """The step with the most expected improvement a second (Mockus 1978; Snoek et al. 2012, arXiv:1206.2944).

    None before the rule has a model. It draws as the rule does, so looking changes no decision that follows but by the
    model's parameters, if they were due.
    """
    if len(rule.data.judged) < rule.settings.min_trials:
        return None
    generator = rule.generator()
    view = rule.view(generator, is_ranked=False)
    paused, fresh = rule.paused(), rule.fresh(generator, view.order)
    at, cost = rule.after(np.inf, paused, fresh)
    mean, deviation = view.model.predict(at)
    above = (mean - view.best) / deviation
    gains = deviation * (above * norm.cdf(above) + norm.pdf(above)) * view.spread
    begun = np.array([trial.epoch for trial in paused] + [0] * len(fresh))
    seconds = (rule.board.max_epochs - begun) * cost
    winner = int(np.argmax(gains / seconds))
    return Outlook(
        rule.board.sign * (view.middle + view.spread * view.best),
        max(float(gains[winner]), 0.0),
        float(seconds[winner]),
        paused[winner].number if winner < len(paused) else None,
    )


def has_converged(outlooks: Sequence[Outlook], *, least: float, patience: int = 3) -> bool:
    """Whether the last `patience` looks all promise less than `least`, in the metric's unit."""
    return len(outlooks) >= patience and all(outlook.gain < least for outlook in outlooks[-patience:])
