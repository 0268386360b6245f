"""A sampler that learns from paused trials: to Optuna they run, and a trial that runs teaches it nothing."""

from __future__ import annotations

import copy
import warnings
from collections.abc import Collection, Mapping
from typing import Any

import optuna
from optuna.distributions import BaseDistribution
from optuna.samplers import BaseSampler
from optuna.study import Study
from optuna.trial import FrozenTrial, TrialState


class PausedCount(BaseSampler):
    """`inner`, to which the trials numbered in `paused` are pruned ones: they count with the values they have so far.

    A paused trial cannot be told to the study as pruned, since a trial that was told cannot go on.
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
        return [trial for trial in trials if states is None or trial.state in states]

    def _as_pruned(self, trial: FrozenTrial) -> FrozenTrial:
        if trial.number not in self._paused or trial.state != TrialState.RUNNING or not trial.intermediate_values:
            return trial
        seen = copy.copy(trial)
        seen.state = TrialState.PRUNED
        return seen


def build_sampler(name: str, seed: int, paused: Mapping[int, Any]) -> optuna.samplers.BaseSampler:
    """`tpe`: multivariate TPE over groups of hyperparameters that occur together; `random`: independent draws."""
    if name == "random":
        return optuna.samplers.RandomSampler(seed=seed)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", optuna.exceptions.ExperimentalWarning)
        inner = optuna.samplers.TPESampler(seed=seed, multivariate=True, group=True, constant_liar=True)
    return PausedCount(inner, paused)
