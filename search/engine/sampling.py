"""A sampler that learns from paused trials: to Optuna they run, and a trial that runs teaches it nothing."""

from __future__ import annotations

import copy
import math
import warnings
from collections.abc import Collection, Mapping, Sequence
from statistics import median
from typing import Any

import optuna
from optuna.distributions import BaseDistribution
from optuna.samplers import BaseSampler
from optuna.study import Study, StudyDirection
from optuna.trial import FrozenTrial, TrialState

WARM = "warm"
"""Marks a point that an earlier search knew."""
NUM_TO_JUDGE = 5
"""So many other trials it takes to say whether such a point holds here: half of what TPE draws before it learns."""


MOST_TAUGHT, MOST_GOOD = 300, 50
"""Trials that TPE learns from, and those among them that are the best: what a draw costs grows with them, 0.3 s with a
thousand."""


class PausedCount(BaseSampler):
    """`inner`, to which the trials numbered in `paused` are pruned ones: they count with the values they have so far.

    A paused trial cannot be reported to the study as pruned, since a trial that has ended there cannot go on. Points of
    earlier searches that do not hold here are kept from it: three bad ones at the start led TPE into a corner for the
    rest of a search (benchmarks/LOG.md).
    """

    def __init__(self, inner: BaseSampler, paused: Collection[int]) -> None:
        self.inner = inner
        self.paused = paused
        self._seen: _View | None = None

    def infer_relative_search_space(self, study: Study, trial: FrozenTrial) -> dict[str, BaseDistribution]:
        return self.inner.infer_relative_search_space(self._see(study, trial), trial)

    def sample_relative(
        self, study: Study, trial: FrozenTrial, search_space: dict[str, BaseDistribution]
    ) -> dict[str, Any]:
        return self.inner.sample_relative(self._see(study, trial), trial, search_space)

    def sample_independent(
        self, study: Study, trial: FrozenTrial, param_name: str, param_distribution: BaseDistribution
    ) -> Any:
        return self.inner.sample_independent(self._see(study, trial), trial, param_name, param_distribution)

    def before_trial(self, study: Study, trial: FrozenTrial) -> None:
        self._seen = None
        self.inner.before_trial(study, trial)

    def after_trial(self, study: Study, trial: FrozenTrial, state: TrialState, values: Any) -> None:
        self.inner.after_trial(study, trial, state, values)

    def reseed_rng(self) -> None:
        self.inner.reseed_rng()

    def _see(self, study: Study, trial: FrozenTrial) -> Any:
        """The study as it is while one trial is drawn: TPE asks twice for each group of hyperparameters."""
        if self._seen is None or self._seen.number != trial.number:
            self._seen = _View(study, self.paused, trial.number)
        return self._seen


class _View:
    """A study at one moment, while trial `number` is drawn: paused trials are pruned ones, and of many trials there are
    some."""

    def __init__(self, study: Study, paused: Collection[int], number: int) -> None:
        self.number = number
        self._study = study
        higher_is_better = study.direction == StudyDirection.MAXIMIZE
        known = study._get_trials(deepcopy=False, use_cache=False)
        doubted = find_doubted(known, higher_is_better=higher_is_better)
        trials = [_as_pruned(trial, paused) for trial in known if trial.number not in doubted]
        self._trials = choose_taught(trials, higher_is_better=higher_is_better)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._study, name)

    def get_trials(self, deepcopy: bool = True, states: Collection[TrialState] | None = None) -> list[FrozenTrial]:
        return self._get_trials(deepcopy, states)

    def _get_trials(
        self, deepcopy: bool = True, states: Collection[TrialState] | None = None, use_cache: bool = False
    ) -> list[FrozenTrial]:
        return [trial for trial in self._trials if states is None or trial.state in states]


def _as_pruned(trial: FrozenTrial, paused: Collection[int]) -> FrozenTrial:
    if trial.number not in paused or trial.state != TrialState.RUNNING or not trial.intermediate_values:
        return trial
    seen = copy.copy(trial)
    seen.state = TrialState.PRUNED
    return seen


def choose_taught(trials: Sequence[FrozenTrial], *, higher_is_better: bool) -> list[FrozenTrial]:
    """What TPE learns from: all trials, or of more than `MOST_TAUGHT` that have ended the best, in its own order
    (complete, then by how far they came, then by their value there), and of the others every so many.

    It models 25 good trials at most, however many there are, and all the others: a few hundred tell it as much.
    """
    ended = [trial for trial in trials if trial.state in (TrialState.COMPLETE, TrialState.PRUNED)]
    if len(ended) <= MOST_TAUGHT:
        return list(trials)
    sign = -1.0 if higher_is_better else 1.0

    def place(trial: FrozenTrial) -> tuple[float, float]:
        if trial.state == TrialState.COMPLETE:
            return -math.inf, sign * (trial.value or 0.0)
        step = max(trial.intermediate_values, default=0)
        value = trial.intermediate_values.get(step, math.nan)
        return -step, math.inf if math.isnan(value) else sign * value

    best = {trial.number for trial in sorted(ended, key=place)[:MOST_GOOD]}
    others = [trial.number for trial in ended if trial.number not in best]
    num_others = MOST_TAUGHT - len(best)
    kept = best | {others[at * len(others) // num_others] for at in range(num_others)}
    return [trial for trial in trials if trial.number in kept or trial.state == TrialState.RUNNING]


def find_doubted(trials: Sequence[FrozenTrial], *, higher_is_better: bool) -> set[int]:
    """The points of earlier searches that are, after their first epoch, below the median of enough other trials; while
    there are not enough, all."""
    warm = [trial for trial in trials if WARM in trial.user_attrs]
    if not warm:
        return set()
    firsts = [value for trial in trials if WARM not in trial.user_attrs and (value := _first(trial)) is not None]
    if len(firsts) < NUM_TO_JUDGE:
        return {trial.number for trial in warm}
    middle = median(firsts)

    def holds(value: float | None) -> bool:
        return value is not None and (value >= middle if higher_is_better else value <= middle)

    return {trial.number for trial in warm if not holds(_first(trial))}


def _first(trial: FrozenTrial) -> float | None:
    """The value of its first epoch; None without one that is a number."""
    value = trial.intermediate_values.get(min(trial.intermediate_values, default=0))
    return None if value is None or math.isnan(value) else value


def build_sampler(name: str, seed: int, paused: Mapping[int, Any]) -> optuna.samplers.BaseSampler:
    """`tpe`: multivariate TPE over groups of hyperparameters that occur together; `random`: independent draws."""
    if name == "random":
        return optuna.samplers.RandomSampler(seed=seed)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", optuna.exceptions.ExperimentalWarning)
        inner = optuna.samplers.TPESampler(seed=seed, multivariate=True, group=True, constant_liar=True)
    return PausedCount(inner, paused)
