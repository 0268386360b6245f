"""Optuna's samplers and pruners on a table of curves: what they propose is moved to the nearest row that is free."""

from __future__ import annotations

import warnings
from collections.abc import Mapping
from typing import Any

import numpy as np
import optuna
from numpy.typing import NDArray
from optuna.distributions import BaseDistribution, CategoricalDistribution, FloatDistribution, IntDistribution
from optuna.samplers import BaseSampler, TPESampler
from optuna.trial import FrozenTrial, Trial, TrialState, create_trial
from sklearn.tree import DecisionTreeClassifier

from benchmarks.curve_tables import CurveTable, random_row
from search.core.decisions import Verdict

optuna.logging.set_verbosity(optuna.logging.ERROR)
NUM_FIRST = 10
"""Trials that must have ended before TPE begins; until then it draws at random."""
LOG_FROM = 50.0
"""A positive number whose largest value is so many times its smallest is drawn evenly in the logarithm."""
ABSENT = -1e6
"""In place of the value of a hyperparameter that a configuration lacks: below all values."""


class TableSpace:
    """The define-by-run space of a table: what decides whether others are there is drawn before them.

    Which of the names in `always` and of those before it in `wanted` say so is learnt from the configurations. Raises
    ValueError where none do.
    """

    def __init__(self, table: CurveTable) -> None:
        names = dict.fromkeys(name for params in table.params for name in params)
        values = {name: [params[name] for params in table.params if name in params] for name in names}
        self.distributions = {name: _distribution(values[name]) for name in names}
        self.always = [name for name in names if len(values[name]) == len(table.params)]
        self.wanted: dict[str, Presence] = {}
        left = [name for name in names if name not in self.always]
        while left:
            drawn = {name: self.distributions[name] for name in (*self.always, *self.wanted)}
            known = {name: each for name, each in drawn.items() if _is_choice(each)}
            told = [each for each in (Presence(name, known, table) for name in left if known) if each.is_exact]
            if not told:
                raise ValueError(f"{table.name}: no category or whole number says when {', '.join(left)} is there")
            simplest = min(told, key=lambda each: each.num_leaves)
            self.wanted[simplest.name] = simplest
            left.remove(simplest.name)

    def active(self, name: str, params: Mapping[str, Any]) -> bool:
        """Whether `name` is there beside `params`, which lack what is not there of those before it."""
        return name not in self.wanted or self.wanted[name](params)

    def settle(self, values: Mapping[str, Any]) -> dict[str, Any]:
        """Of values for all names those that are there."""
        params: dict[str, Any] = {}
        for name in (*self.always, *self.wanted):
            if self.active(name, params):
                params[name] = values[name]
        return params


class Presence:
    """Whether a configuration has `name`: a tree over the choices `known`, grown until the table agrees with it."""

    def __init__(self, name: str, known: Mapping[str, BaseDistribution], table: CurveTable) -> None:
        self.name, self.known = name, known
        is_there = [name in params for params in table.params]
        points = [self._encode(params) for params in table.params]
        self.tree = DecisionTreeClassifier(random_state=0).fit(points, is_there)
        self.is_exact = self.tree.score(points, is_there) == 1
        self.num_leaves = int(self.tree.get_n_leaves())

    def __call__(self, params: Mapping[str, Any]) -> bool:
        return bool(self.tree.predict([self._encode(params)])[0])

    def _encode(self, params: Mapping[str, Any]) -> list[float]:
        known = self.known.items()
        return [each.to_internal_repr(params[name]) if name in params else ABSENT for name, each in known]


def _is_choice(distribution: BaseDistribution) -> bool:
    return isinstance(distribution, CategoricalDistribution | IntDistribution)


def _distribution(values: list[Any]) -> BaseDistribution:
    if not all(isinstance(value, int | float) and not isinstance(value, bool) for value in values):
        return CategoricalDistribution(sorted(set(values), key=lambda value: (type(value).__name__, value)))
    low, high = min(values), max(values)
    is_log = low > 0 and high / low > LOG_FROM
    if all(isinstance(value, int) for value in values):
        return IntDistribution(low, high, log=is_log)
    return FloatDistribution(low, high, log=is_log)


class _Snapped(BaseSampler):
    """A sampler whose every proposal is moved to a free row before Optuna gets it."""

    def __init__(self, inner: BaseSampler, space: TableSpace, table: CurveTable) -> None:
        self.inner, self.space, self.table = inner, space, table
        self.free: NDArray[np.bool_] = np.ones(len(table.params), dtype=bool)
        self.row = 0

    def infer_relative_search_space(self, study: optuna.Study, trial: FrozenTrial) -> dict[str, BaseDistribution]:
        return dict(self.space.distributions)

    def sample_relative(
        self, study: optuna.Study, trial: FrozenTrial, search_space: dict[str, BaseDistribution]
    ) -> dict[str, Any]:
        params = self.inner.sample_relative(study, trial, self.inner.infer_relative_search_space(study, trial))
        for name in [*self.space.always, *self.space.wanted]:
            if not self.space.active(name, params):
                params.pop(name, None)
            elif name not in params:
                distribution = self.space.distributions[name]
                params[name] = self.inner.sample_independent(study, trial, name, distribution)
        self.row = self.table.nearest(params, self.free)
        return dict(self.table.params[self.row])

    def sample_independent(
        self, study: optuna.Study, trial: FrozenTrial, param_name: str, param_distribution: BaseDistribution
    ) -> Any:
        raise AssertionError(f"{param_name} is in the row already")


class OptunaProposer:
    """A study that proposes rows, the first ones at random, as TPE does. `tells` says what it gets of one that ends:

    "complete": COMPLETE with its last value, as Ray's OptunaSearch has it; "pruned": PRUNED with all its values.
    """

    def __init__(
        self,
        table: CurveTable,
        sampler: BaseSampler,
        *,
        seed: int = 0,
        tells: str = "pruned",
        pruner: optuna.pruners.BasePruner | None = None,
    ) -> None:
        self.free: NDArray[np.bool_] = np.ones(len(table.params), dtype=bool)
        self.table, self.space, self.seed = table, TableSpace(table), seed
        self.sampler = _Snapped(sampler, self.space, table)
        self.storage = optuna.storages.InMemoryStorage()
        self.study = optuna.create_study(
            study_name="curves", storage=self.storage, sampler=self.sampler, direction="maximize", pruner=pruner
        )
        self.tells = tells
        self.trials: dict[int, Trial] = {}
        self.numbers: dict[int, int] = {}  # a trial's number in the study
        self.last: dict[int, float] = {}
        self.is_told: set[int] = set()

    def propose(self, number: int) -> int:
        self.sampler.free = self.free
        first = random_row(self.free, self.seed, number) if len(self.is_told) < NUM_FIRST else None
        if first is not None:
            self.study.enqueue_trial(dict(self.table.params[first]))
        trial = self.study.ask()
        params: dict[str, Any] = {}
        for name in [*self.space.always, *self.space.wanted]:
            if self.space.active(name, params):
                params[name] = trial._suggest(name, self.space.distributions[name])
        self.trials[number], self.numbers[number] = trial, trial.number
        return self.sampler.row if first is None else first

    def adopt(self, number: int, row: int) -> None:
        params = dict(self.table.params[row])
        distributions = {name: self.space.distributions[name] for name in params}
        self.numbers[number] = len(self.study.get_trials(deepcopy=False))
        self.study.add_trial(create_trial(state=TrialState.RUNNING, params=params, distributions=distributions))

    def _frozen(self, number: int) -> FrozenTrial:
        return self.storage._get_trial(
            self.storage.get_trial_id_from_study_id_trial_number(self.study._study_id, self.numbers[number])
        )

    def report(self, number: int, epoch: int, value: float) -> None:
        if not np.isfinite(value):
            return
        self.last[number] = value
        self._frozen(number).intermediate_values[epoch] = value  # of a paused trial too, which Optuna thinks has ended

    def pause(self, number: int) -> None:
        """A paused trial counts as pruned until it goes on: what it shows later is added to its values."""
        self._tell(number, TrialState.PRUNED)

    def end(self, number: int, *, is_complete: bool) -> None:
        is_complete = is_complete or self.tells == "complete"
        self._tell(number, TrialState.COMPLETE if is_complete else TrialState.PRUNED)

    def _tell(self, number: int, state: TrialState) -> None:
        if number not in self.last:
            state = TrialState.FAIL if state is TrialState.COMPLETE else state
        value = self.last.get(number)
        if number not in self.is_told:
            self.is_told.add(number)
            self.study.tell(self.numbers[number], value if state is TrialState.COMPLETE else None, state=state)
        elif state is TrialState.COMPLETE:
            frozen = self._frozen(number)
            frozen.state, frozen.values = state, [value]


def build_tpe(seed: int, *, is_group: bool) -> TPESampler:
    """Optuna's own defaults, or the multivariate one over groups that ctsearch takes."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", optuna.exceptions.ExperimentalWarning)
        return TPESampler(seed=seed, multivariate=True, group=True) if is_group else TPESampler(seed=seed)


class Pruned:
    """The rule of an Optuna pruner: `trial.should_prune()` after every epoch."""

    def __init__(self, proposer: OptunaProposer) -> None:
        self.proposer = proposer

    def verdict(self, number: int, value: float) -> Verdict:
        if not np.isfinite(value):
            return Verdict.STOP
        return Verdict.STOP if self.proposer.trials[number].should_prune() else Verdict.CONTINUE
