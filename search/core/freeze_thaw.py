"""Freeze-thaw: the rule that asks a model of the curves whether to go on with a paused trial, and which, or to begin.

For every free worker a horizon and a target are drawn, and what is likeliest to pass the target within the horizon is
trained until its next level: random horizons and targets as in ifBO (Rakotoarison et al. 2024, arXiv:2404.16795). The
model is told how noisy values are; until that is known, promotion decides.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from heapq import nlargest
from statistics import fmean
from typing import Any

import numpy as np

from search.core.board import WORST, Board, Standing, dense_levels, geometric_levels, nearest_levels
from search.core.curve_data import CurveData, choose_points
from search.core.curve_model import NOISE_SPREAD, Array, CurveModel, CurvePoints, Ints, Parameters
from search.core.decisions import Decision, Verdict
from search.core.encoding import Encoder
from search.core.epoch_cost import EpochCost
from search.core.noise import NoiseEstimate
from search.core.promotion import find_promotion
from search.core.proposals import Params, Proposals
from search.core.rule_bases import BoardRule
from search.core.warping import Warp

LEAST_NOISE, NOISE_OF_VALUES = 1e-3, 1e-2
"""Variances, where the values' own is 1: of a score without noise, and what the model of plain values begins from."""
SPREAD_OF_KNOWN = 0.5
"""Of the logarithm of the noise's variance, where noise is known."""


@dataclass(frozen=True)
class Settings:
    """What the rule was measured with (benchmarks/LOG.md).

    Until noise is known, trials go on by promotion with `factor`, and new ones are random draws. The model sees
    `num_points` values at most, `share_best` of them the best, and judges `num_paused` paused trials and `num_new` new
    configurations, `share_near` of them near the best `num_parents` trials; its target is 10 ** U(targets) of the way
    from the median to the best above the best, or what noise hides, if that is more. Its parameters are found anew with
    `refit_at` times as many values.
    """

    num_points: int = 160
    share_best: float = 2 / 3
    num_paused: int = 40
    num_new: int = 120
    share_near: float = 0.25
    num_parents: int = 5
    refit_at: float = 1.5
    min_trials: int = 4
    targets: tuple[float, float] = (-3.0, -1.0)
    factor: int = 3


@dataclass(frozen=True)
class View:
    """A model of what was seen, and the best that it believes in; the median is 0.

    `order` has the values' indices from the best down, and `hidden` is how far the best value lies from what another
    draw of its noise would have made it. What was standardised is middle + spread * value in the metric's unit; of
    normal scores neither means anything.
    """

    model: CurveModel
    order: Ints
    best: float
    hidden: float = 0.0
    middle: float = 0.0
    spread: float = 1.0


class FreezeThaw(BoardRule):
    """The rule; see `decisions.Rule` for its calls.

    `proposals` draws from the space; the first `min_trials` trials are left to the sampler (first points, random
    draws). Its decisions follow from the seed and what was reported.
    """

    def __init__(
        self,
        proposals: Proposals,
        *,
        max_epochs: int,
        first_level: int = 1,
        higher_is_better: bool = True,
        seed: int = 0,
        settings: Settings | None = None,
    ) -> None:
        self.settings = settings or Settings()
        self.proposals, self.seed = proposals, seed
        self.board = Board(dense_levels(max_epochs, first=first_level), higher_is_better=higher_is_better)
        self.rungs = nearest_levels(
            self.board.levels, geometric_levels(max_epochs, first=first_level, factor=self.settings.factor)
        )
        self.encode = Encoder(proposals.draw(512, np.random.default_rng((seed, 1))))
        self.noise = NoiseEstimate()
        self.data = CurveData()
        self.cost = EpochCost(self.encode.num_columns)
        self.points: dict[int, Array] = {}
        self.parameters: dict[bool, Parameters] = {}
        self.num_fitted: dict[bool, int] = {}

    def begin(self, number: int, params: Mapping[str, Any]) -> None:
        super().begin(number, params)
        self.points[number] = self.encode([params])[0]

    def report(
        self,
        number: int,
        epoch: int,
        value: float,
        standard_error: float | None = None,
        seconds: float | None = None,
    ) -> Verdict:
        num_known = self.board.num_reports
        verdict = super().report(number, epoch, value, standard_error, seconds)
        if self.board.num_reports > num_known:
            trial = self.board.trials[number]
            self.noise.note(trial, epoch)
            self.data.note(trial, epoch)
            if len(trial.seconds) == 1 and seconds:
                self.cost.note(self.points[number], seconds)
        return verdict

    def end(self, number: int, outcome: str) -> None:
        super().end(number, outcome)
        trial = self.board.trials[number]
        self.data.note(trial, max(trial.scores, default=0))

    def next(self, *, may_begin: bool = True) -> Decision:
        s, board = self.settings, self.board
        if (trial := board.not_begun()) is not None:
            return board.resume(trial)
        if len(self.data.judged) < s.min_trials and may_begin:
            return board.new()
        if may_begin and self.knows_noise():
            return self._choose()
        trial = find_promotion(board, self.rungs, factor=s.factor, at_least=0 if may_begin else 1)
        if trial is not None:
            return board.resume(trial, self.rungs)
        if not may_begin:
            return None
        return board.new(self.proposals.draw(1, np.random.default_rng((self.seed, len(board.trials))))[0])

    def knows_noise(self) -> bool:
        """Whether the noise is known, or known to be small; or never will be, where trainings are too short to tell."""
        noise = self.noise
        is_hopeless = self.board.max_epochs < noise.MIN_EPOCHS
        return is_hopeless or noise.is_known or noise.is_small(self.data.standardised()[2])

    def _choose(self) -> Decision:
        """What is likeliest to pass a target within a time of a worker, both drawn.

        The time is what one of the candidates, any of them, takes for one epoch at least and for all at most: where
        epochs differ in what they cost, what is dear must be judged by its end too.
        """
        s, board = self.settings, self.board
        generator = self.generator()
        view = self.view(generator)
        target = view.best + max(10 ** generator.uniform(*s.targets) * view.best, view.hidden)
        paused, fresh = self.paused(), self.fresh(generator, view.order)
        points, cost = self.price(paused, fresh)
        seconds = generator.choice(cost) * board.max_epochs ** generator.uniform()
        at = self.after(seconds, paused, points, cost)
        model = view.model.believing(under_way) if (under_way := self.under_way()) else view.model
        mean, deviation = model.predict(at)
        winner = int(np.argmax((mean - target) / deviation))
        if winner < len(paused):
            return board.resume(paused[winner])
        return board.new(fresh[winner - len(paused)])

    def generator(self) -> np.random.Generator:
        """Of draws that depend on the seed and on how far the search has come, and on nothing else."""
        return np.random.default_rng((self.seed, len(self.board.trials), self.board.num_reports))

    def view(self, generator: np.random.Generator) -> View:
        """What the model makes of all that was seen, in normal scores, whose noise follows from that of the values."""
        values = np.array(self.data.values)
        order = np.argsort(-values, kind="stable")
        data, chosen = self._select(order, generator)
        noise = self.noise.deviation()
        warp = Warp(values[order], noise)
        variances = warp.variances(values[chosen], noise * np.sqrt(data.noise))
        data = replace(data, noise=LEAST_NOISE + variances)
        model = self._fit(data, warp(values[chosen]), len(values), is_warped=True)
        hidden = math.sqrt(float(warp.variances(values[order[:1]], np.array([noise]))[0]))
        return View(model, order, float(model.predict(data)[0].max()), hidden)

    def view_of_values(self, generator: np.random.Generator) -> View:
        """The same of the values themselves, for what is to be said in the metric's unit."""
        values, middle, spread = self.data.standardised()
        order = np.argsort(-values, kind="stable")
        data, chosen = self._select(order, generator)
        model = self._fit(data, values[chosen], len(values), is_warped=False)
        return View(model, order, float(model.predict(data)[0].max()), middle=middle, spread=spread)

    def _select(self, order: Ints, generator: np.random.Generator) -> tuple[CurvePoints, Ints]:
        chosen = choose_points(order, self.settings.num_points, self.settings.share_best, generator)
        return self.data.select(chosen, self.points)

    def paused(self) -> list[Standing]:
        """The best of the trials that could go on."""
        waiting = ((score, -number) for number, score in self.board.waiting.items() if score > WORST)
        return [self.board.trials[-number] for _, number in nlargest(self.settings.num_paused, waiting)]

    def under_way(self) -> CurvePoints | None:
        """Where the trials that run will be next, if any runs."""
        running = [trial for trial in self.board.trials.values() if trial.is_running and trial.can_go_on]
        if not running:
            return None
        return CurvePoints(
            np.stack([self.points[trial.number] for trial in running]),
            np.array([trial.number for trial in running]),
            np.arange(len(running)),
            np.array([float(trial.until) for trial in running]),
            np.full(len(running), LEAST_NOISE),
        )

    def fresh(self, generator: np.random.Generator, order: Ints) -> list[Params]:
        """New configurations: draws of the space, and some near the trials that come first in `order`, of values."""
        s = self.settings
        num_near = round(s.num_new * s.share_near)
        fresh = self.proposals.draw(s.num_new - num_near, generator)
        best = order[: 10 * s.num_parents].tolist()
        parents = list(dict.fromkeys(self.data.trials[index] for index in best))[: s.num_parents]
        for number in parents if num_near else []:
            fresh.extend(self.proposals.near(self.board.trials[number].params, num_near // len(parents), generator))
        return fresh

    def price(self, paused: Sequence[Standing], fresh: Sequence[Params]) -> tuple[Array, Array]:
        """The candidates, encoded, and the seconds that an epoch of each costs."""
        points = self.encode(fresh)
        if paused:
            points = np.concatenate([[self.points[trial.number] for trial in paused], points])
        cost = self.cost.predict(points)
        cost[: len(paused)] = [fmean(trial.seconds) if trial.seconds else cost[row] for row, trial in enumerate(paused)]
        return points, cost

    def after(self, seconds: float, paused: Sequence[Standing], points: Array, cost: Array) -> CurvePoints:
        """Where the candidates, the paused trials first, would be after so many seconds of a worker."""
        num_fresh = len(points) - len(paused)
        begun = np.array([trial.epoch for trial in paused] + [0] * num_fresh)
        return CurvePoints(
            points,
            np.array([trial.number for trial in paused] + [-1] * num_fresh),
            np.arange(len(points)),
            np.clip(begun + seconds / cost, 0.5, self.board.max_epochs),
            np.ones(len(points)),
        )

    def _fit(self, data: CurvePoints, values: Array, num_values: int, *, is_warped: bool) -> CurveModel:
        """The model of these values; its parameters are found anew whenever there are so many more."""
        owners, known = self.encode.owners, self.parameters.get(is_warped)
        if known is not None and num_values < self.num_fitted[is_warped] * self.settings.refit_at:
            return CurveModel(data, values, owners, known)
        noise = 1.0 if is_warped else NOISE_OF_VALUES
        spread = SPREAD_OF_KNOWN if is_warped and self.noise.differences else NOISE_SPREAD
        model = CurveModel.fit(data, values, owners, noise=noise, noise_spread=spread, start=known)
        self.parameters[is_warped], self.num_fitted[is_warped] = model.parameters, num_values
        return model
