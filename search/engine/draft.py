"""Drafts: trials drawn in memory, which enter the study with their configuration, as one line of its journal.

A line for each hyperparameter would be a dozen, each of them flushed to the disk before the next is drawn.
"""

from __future__ import annotations

import copy
from collections.abc import Collection, Sequence
from typing import Any

import optuna
from optuna.distributions import BaseDistribution
from optuna.samplers import BaseSampler
from optuna.study import Study
from optuna.trial import FrozenTrial, Trial, TrialState


class Draft:
    """The next trial of `study`, whose trials are `known`, as long as only this process knows of it; a space draws from
    `trial` as from any other."""

    def __init__(self, study: Study, known: Sequence[FrozenTrial]) -> None:
        self.study = study
        memory = optuna.create_study(direction=study.direction, sampler=_SamplerOf(_Known(study, known), len(known)))
        self.trial = memory.ask()
        self.trial._cached_frozen_trial.number = len(known)  # a space may go by it

    def enter(self, **user_attrs: Any) -> Trial:
        """The trial in the study, where it runs."""
        frozen = self.trial.study._storage.get_trial(self.trial._trial_id)
        frozen.user_attrs |= user_attrs
        return Trial(self.study, self.study._storage.create_new_trial(self.study._study_id, template_trial=frozen))

    def fail(self) -> None:
        """Enter it as one that has failed: its configuration could not be drawn to the end."""
        self.study.tell(self.enter(), state=TrialState.FAIL)


class _Known:
    """A study whose trials have been listed just now: of thousands that takes milliseconds."""

    def __init__(self, study: Study, trials: Sequence[FrozenTrial]) -> None:
        self._study = study
        self._trials = trials

    def __getattr__(self, name: str) -> Any:
        return getattr(self._study, name)

    def _get_trials(
        self, deepcopy: bool = True, states: Collection[TrialState] | None = None, use_cache: bool = False
    ) -> list[FrozenTrial]:
        return [trial for trial in self._trials if states is None or trial.state in states]


class _SamplerOf(BaseSampler):
    """The sampler of `study`, for a trial that is kept elsewhere, as if it were number `number` there."""

    def __init__(self, study: Any, number: int) -> None:
        self.study = study
        self.number = number

    def before_trial(self, study: Study, trial: FrozenTrial) -> None:
        self.study.sampler.before_trial(self.study, self._place(trial))

    def infer_relative_search_space(self, study: Study, trial: FrozenTrial) -> dict[str, BaseDistribution]:
        return self.study.sampler.infer_relative_search_space(self.study, self._place(trial))

    def sample_relative(
        self, study: Study, trial: FrozenTrial, search_space: dict[str, BaseDistribution]
    ) -> dict[str, Any]:
        return self.study.sampler.sample_relative(self.study, self._place(trial), search_space)

    def sample_independent(
        self, study: Study, trial: FrozenTrial, param_name: str, param_distribution: BaseDistribution
    ) -> Any:
        return self.study.sampler.sample_independent(self.study, self._place(trial), param_name, param_distribution)

    def _place(self, trial: FrozenTrial) -> FrozenTrial:
        placed = copy.copy(trial)
        placed.number = self.number
        return placed
