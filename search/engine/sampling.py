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


class PausedCount(BaseSampler):
    """`inner`, to which the trials numbered in `paused` are pruned ones: they count with the values they have so far.

    A paused trial cannot be reported to the study as pruned, since a trial that has ended there cannot go on. Points of
    earlier searches that do not hold here are kept from it: three bad ones at the start led TPE into a corner for the
    rest of a search (benchmarks/LOG.md).
    """

    def __init__(self, inner: BaseSampler, paused: Collection[int]) -> None:
        self.inner = inner
        self.paused = paused

    def infer_relative_search_space(self, study: Study, trial: FrozenTrial) -> dict[str, BaseDistribution]:
        return self.inner.infer_relative_search_space(self._view(study), trial)

    def sample_relative(
        self, study: Study, trial: FrozenTrial, search_space: dict[str, BaseDistribution]
    ) -> dict[str, Any]:
        return self.inner.sample_relative(self._view(study), trial, search_space)

    def sample_independent(
        self, study: Study, trial: FrozenTrial, param_name: str, param_distribution: BaseDistribution
    ) -> Any:
        return self.inner.sample_independent(self._view(study), trial, param_name, param_distribution)

    def before_trial(self, study: Study, trial: FrozenTrial) -> None:
        self.inner.before_trial(study, trial)

    def after_trial(self, study: Study, trial: FrozenTrial, state: TrialState, values: Any) -> None:
        self.inner.after_trial(study, trial, state, values)

    def reseed_rng(self) -> None:
        self.inner.reseed_rng()

    def _view(self, study: Study) -> Any:
        return _View(study, self.paused)


class _View:
    """A study whose paused trials are pruned ones."""

    def __init__(self, study: Study, paused: Collection[int]) -> None:
        self._study = study
        self._paused = paused

    def __getattr__(self, name: str) -> Any:
        return getattr(self._study, name)

    def get_trials(self, deepcopy: bool = True, states: Collection[TrialState] | None = None) -> list[FrozenTrial]:
        return self._get_trials(deepcopy, states)

    def _get_trials(
        self, deepcopy: bool = True, states: Collection[TrialState] | None = None, use_cache: bool = False
    ) -> list[FrozenTrial]:
        trials = [self._as_pruned(trial) for trial in self._study._get_trials(deepcopy, None, use_cache)]
        doubted = find_doubted(trials, higher_is_better=self._study.direction == StudyDirection.MAXIMIZE)
        return [t for t in trials if (states is None or t.state in states) and t.number not in doubted]

    def _as_pruned(self, trial: FrozenTrial) -> FrozenTrial:
        if trial.number not in self._paused or trial.state != TrialState.RUNNING or not trial.intermediate_values:
            return trial
        seen = copy.copy(trial)
        seen.state = TrialState.PRUNED
        return seen


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
