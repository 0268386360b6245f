"""The samplers: TPE that learns from paused trials (to Optuna they run, and a trial that runs teaches it nothing), and
that draws of a conditional space what a trial needs."""

from __future__ import annotations

import copy
import math
import warnings
from collections.abc import Collection, Mapping, Sequence
from heapq import nsmallest
from statistics import median
from typing import Any

import optuna
from optuna.distributions import BaseDistribution
from optuna.samplers import BaseSampler
from optuna.study import Study, StudyDirection
from optuna.trial import FrozenTrial, TrialState

from search.engine.quick_tpe import QuickTPE, find_place

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
        self._teacher = Teacher()

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
            self._seen = _View(study, self.paused, trial.number, self._teacher)
        return self._seen


class ByGroups(BaseSampler):
    """Multivariate TPE over groups of hyperparameters that occur together, each drawn when a trial first asks for one
    of them.

    Optuna's own `group=True` draws the groups of all architectures for every trial, of which a trial has one.
    """

    def __init__(self, tpe: BaseSampler) -> None:
        self.tpe = tpe
        self._groups: list[frozenset[str]] = []
        self._kinds: dict[str, BaseDistribution] = {}
        self._counted: set[int] = set()
        self._drawn: tuple[int, dict[str, Any]] = (-1, {})  # of which trial, and by name

    def infer_relative_search_space(self, study: Study, trial: FrozenTrial) -> dict[str, BaseDistribution]:
        return {}

    def sample_relative(
        self, study: Study, trial: FrozenTrial, search_space: dict[str, BaseDistribution]
    ) -> dict[str, Any]:
        return {}

    def sample_independent(
        self, study: Study, trial: FrozenTrial, param_name: str, param_distribution: BaseDistribution
    ) -> Any:
        if self._drawn[0] != trial.number:
            self._drawn = trial.number, {}
            self._count(study)
        drawn = self._drawn[1]
        if param_name not in drawn:
            names = next((group for group in self._groups if param_name in group), ())
            kinds = {name: self._kinds[name] for name in sorted(names)}
            drawn |= self.tpe.sample_relative(study, trial, kinds) if kinds else {}
        if param_name in drawn and param_distribution._contains(param_distribution.to_internal_repr(drawn[param_name])):
            return drawn[param_name]
        return self.tpe.sample_independent(study, trial, param_name, param_distribution)

    def _count(self, study: Study) -> None:
        """Split the groups so that the hyperparameters of each trial that has ended since are whole groups."""
        for trial in study.get_trials(deepcopy=False, states=(TrialState.COMPLETE, TrialState.PRUNED)):
            if trial.number in self._counted:
                continue
            self._counted.add(trial.number)
            kinds = {name: kind for name, kind in trial.distributions.items() if not kind.single()}
            self._kinds |= kinds
            rest = frozenset(kinds)
            parts = [part for group in self._groups for part in (group & rest, group - rest) if part]
            new = rest.difference(*self._groups)
            self._groups = [*parts, new] if new else parts

    def reseed_rng(self) -> None:
        self.tpe.reseed_rng()


class _Deaf:
    """TPE writes down what it draws, for other drivers on the same study: there is one, and each note is a line of the
    journal."""

    def set_trial_system_attr(self, trial_id: int, key: str, value: Any) -> None:
        pass


class _View:
    """A study at one moment, while trial `number` is drawn: paused trials are pruned ones, and of many trials there are
    some."""

    _storage = _Deaf()

    def __init__(self, study: Study, paused: Collection[int], number: int, teacher: Teacher) -> None:
        self.number = number
        self.direction = study.direction
        self._study = study
        known = study._get_trials(deepcopy=False, use_cache=False)
        self._trials = teacher.choose(known, paused, higher_is_better=self.direction == StudyDirection.MAXIMIZE)

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
    best = {
        trial.number
        for trial in nsmallest(MOST_GOOD, ended, key=lambda trial: find_place(trial, higher_is_better=higher_is_better))
    }
    others = [trial.number for trial in ended if trial.number not in best]
    num_others = MOST_TAUGHT - len(best)
    kept = best | {others[at * len(others) // num_others] for at in range(num_others)}
    return [trial for trial in trials if trial.number in kept or trial.state == TrialState.RUNNING]


class Teacher:
    """`choose_taught` and `find_doubted` from draw to draw: of many trials they are asked anew once a hundredth more
    have begun, until then the same trials are taught, as far as they have come by now, with all new ones."""

    def __init__(self) -> None:
        self._chosen: list[int] = []
        self._num_known = 0

    def choose(
        self, trials: Sequence[FrozenTrial], paused: Collection[int] = (), *, higher_is_better: bool
    ) -> list[FrozenTrial]:
        """What TPE learns from, of all `trials` of a study, each at the place that its number says; those in `paused`
        as pruned ones."""
        if len(trials) <= MOST_TAUGHT or len(trials) > 1.01 * self._num_known:
            doubted = find_doubted(trials, higher_is_better=higher_is_better)
            known = [_as_pruned(trial, paused) for trial in trials if trial.number not in doubted]
            taught = choose_taught(known, higher_is_better=higher_is_better)
            self._chosen, self._num_known = [trial.number for trial in taught], len(trials)
            return taught
        same = [trials[number] for number in self._chosen]
        return [_as_pruned(trial, paused) for trial in (*same, *trials[self._num_known :])]


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
        tpe = QuickTPE(seed=seed, multivariate=True, constant_liar=True)
    return PausedCount(ByGroups(tpe), paused)
