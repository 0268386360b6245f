"""Freeze-thaw: the rule that asks a model of the curves whether to go on with a paused trial, and which, or to begin.

For every free worker a horizon and a target are drawn, and what is likeliest to pass the target within the horizon is
trained until its next level: random horizons and targets as in ifBO (Rakotoarison et al. 2024, arXiv:2404.16795).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from scipy.special import ndtri
from scipy.stats import norm

from search.core.board import WORST, Board, Standing, dense_levels, geometric_levels
from search.core.curve_model import Array, CurveModel, CurvePoints, Ints, Lengths
from search.core.decisions import Decision, Verdict
from search.core.encoding import Encoder
from search.core.noise import relative_noise
from search.core.promotion import find_promotion
from search.core.proposals import Params, Proposals


@dataclass(frozen=True)
class Settings:
    """What the rule was measured with (benchmarks/LOG.md).

    Up to `scores_below` of relative noise the model sees normal scores and the best value there is; above it values
    and the best it believes in; from `promotes_from` on trials are promoted without a model.
    """

    num_points: int = 240
    share_best: float = 2 / 3
    num_paused: int = 40
    num_new: int = 150
    share_near: float = 0.0
    scores_below: float = 0.02
    promotes_from: float = 0.08
    growth: float = 1.5
    min_trials: int = 4
    targets: tuple[float, float] = (-3.0, -1.0)
    factor: int = 3


class FreezeThaw:
    """The rule; see `decisions.Rule` for its calls.

    `proposals` draws from the space; the first `num_first` trials are left to the sampler (first points, random draws).
    Its decisions follow from the seed and what it was told.
    """

    def __init__(
        self,
        proposals: Proposals,
        *,
        max_epochs: int,
        higher_is_better: bool = True,
        seed: int = 0,
        settings: Settings | None = None,
    ) -> None:
        self.settings = settings or Settings()
        self.proposals, self.seed = proposals, seed
        self.board = Board(dense_levels(max_epochs), higher_is_better=higher_is_better)
        self.rungs = geometric_levels(max_epochs, factor=self.settings.factor)
        generator = np.random.default_rng((seed, 1))
        self.encode = Encoder([proposals.draw(generator) for _ in range(512)])
        self.points: dict[int, Array] = {}
        self.parameters: Lengths | None = None
        self.num_fitted = 0
        self._trials: list[int] = []
        self._epochs: list[int] = []
        self._values: list[float] = []
        self._known: set[tuple[int, int]] = set()

    def begin(self, number: int, params: Mapping[str, Any]) -> None:
        self.board.begin(number, params)
        self.points[number] = self.encode([params])[0]

    def report(
        self,
        number: int,
        epoch: int,
        value: float,
        standard_error: float | None = None,
        seconds: float | None = None,
    ) -> Verdict:
        verdict = self.board.report(number, epoch, value, standard_error, seconds)
        self._note(self.board.trials[number], epoch)
        return verdict

    def end(self, number: int, outcome: str) -> None:
        self.board.end(number, outcome)
        trial = self.board.trials[number]
        self._note(trial, max(trial.scores, default=0))

    def forget(self, number: int) -> None:
        self.board.forget(number)

    def _note(self, trial: Standing, epoch: int) -> None:
        if epoch in trial.scores and (trial.number, epoch) not in self._known:
            self._known.add((trial.number, epoch))
            self._trials.append(trial.number)
            self._epochs.append(epoch)
            self._values.append(trial.scores[epoch])

    def next(self, *, may_begin: bool = True) -> Decision:
        board = self.board
        if (trial := board.not_begun()) is not None:
            return board.resume(trial)
        num_judged = len({*self._trials})
        if num_judged < self.settings.min_trials:
            return board.new() if may_begin else self._promote(may_begin)
        noise = self._noise()
        if noise >= self.settings.promotes_from or not may_begin:
            return self._promote(may_begin)
        return self._choose(noise)

    def _noise(self) -> float:
        noise = relative_noise(self.board.trials.values())
        return 0.0 if noise is None else noise

    def _promote(self, may_begin: bool) -> Decision:
        board = self.board
        trial = find_promotion(board, self.rungs, factor=self.settings.factor, at_least=0 if may_begin else 1)
        if trial is not None:
            return board.resume(trial)
        return board.new() if may_begin else None

    def _choose(self, noise: float) -> Decision:
        s, board = self.settings, self.board
        generator = np.random.default_rng((self.seed, len(board.trials), board.num_reports))
        trials, epochs = np.array(self._trials), np.array(self._epochs, dtype=np.float64)
        is_scored = noise < s.scores_below
        values = _normal_scores(self._values) if is_scored else _standardised(self._values)
        chosen = _subset(values, s.num_points, s.share_best, generator)
        data = CurvePoints(
            np.stack([self.points[number] for number in trials[chosen]]),
            epochs[chosen],
            trials[chosen],
            np.ones(len(chosen)),
        )
        model = self._fit(data, values[chosen], len(values), 1e-3 if is_scored else 1e-2)
        best = float(values.max()) if is_scored else float(model.predict(data)[0].max())
        horizon = float(np.exp(generator.uniform(0, np.log(board.max_epochs))))
        target = best + 10 ** generator.uniform(*s.targets) * (best - float(np.median(values)))

        waiting = sorted(
            (trial for trial in board.trials.values() if trial.is_waiting and trial.scores[max(trial.scores)] > WORST),
            key=lambda trial: -trial.scores[max(trial.scores)],
        )[: s.num_paused]
        fresh = self._fresh(generator)
        ahead = np.array([trial.epoch + horizon for trial in waiting] + [horizon] * len(fresh))
        candidates = CurvePoints(
            np.concatenate([np.array([self.points[trial.number] for trial in waiting]).reshape(-1, self.encode.num_columns), self.encode(fresh)]),
            np.clip(ahead, 1.0, board.max_epochs),
            np.array([trial.number for trial in waiting] + [-1] * len(fresh)),
            np.ones(len(ahead)),
        )
        mean, deviation = model.predict(candidates)
        winner = int(np.argmax((mean - target) / deviation))
        if winner < len(waiting):
            return board.resume(waiting[winner])
        return board.new(fresh[winner - len(waiting)])

    def _fresh(self, generator: np.random.Generator) -> list[Params]:
        return [self.proposals.draw(generator) for _ in range(self.settings.num_new)]

    def _fit(self, data: CurvePoints, values: Array, num_values: int, noise: float) -> CurveModel:
        """The model of these values; its parameters are found anew whenever there are half as many more."""
        if self.parameters is None or num_values >= self.num_fitted * self.settings.growth:
            self.num_fitted = num_values
            model = CurveModel.fit(data, values, self.encode.owners, noise=noise, start=self.parameters)
            self.parameters = model.parameters
            return model
        return CurveModel(data, values, self.encode.owners, self.parameters)


def _normal_scores(values: list[float]) -> Array:
    """Each value's rank as a standard normal quantile."""
    order = np.argsort(np.argsort(values, kind="stable"), kind="stable")
    return ndtri((order + 0.5) / len(values))


def _standardised(values: list[float]) -> Array:
    """Values over their spread, 0 at the median; what is as far below it as the best is above is no worse than that."""
    raw = np.array(values)
    middle = float(np.median(raw[np.isfinite(raw)])) if np.isfinite(raw).any() else 0.0
    reach = max(float(raw.max()) - middle, 1e-12)
    clipped = np.clip(raw - middle, -reach, reach)
    return clipped / max(float(clipped.std()), 1e-12)


def _subset(values: Array, at_most: int, share_best: float, generator: np.random.Generator) -> Ints:
    """Indices of at most so many values: a share the best, the rest drawn."""
    if len(values) <= at_most:
        return np.arange(len(values))
    order = np.argsort(-values, kind="stable")
    num_best = int(at_most * share_best)
    rest = generator.choice(order[num_best:], at_most - num_best, replace=False)
    return np.concatenate([order[:num_best], rest])
