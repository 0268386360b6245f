"""Optuna's TPE, quicker, with the same draws from the same trials and seed.

What is the same for all groups of hyperparameters is done once for each trial that is drawn, and what Optuna computes
number by number in Python in one call. It stands on private names of Optuna's sampler, of which pyproject.toml allows
one minor version; a test compares the draws.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray
from optuna.distributions import BaseDistribution
from optuna.samplers import TPESampler
from optuna.samplers._tpe.parzen_estimator import _ParzenEstimator
from optuna.samplers._tpe.sampler import default_gamma
from optuna.study import Study, StudyDirection
from optuna.trial import FrozenTrial, TrialState

Numbers = NDArray[np.float64]

LOG_ROOT_OF_TWO_PI = math.log(math.sqrt(2 * math.pi))


class QuickTPE(TPESampler):
    """TPE that splits the trials into good and others once for each trial that it draws, and remembers their
    hyperparameters as numbers.

    What is remembered holds for one study, and of trials that have ended, whose hyperparameters cannot change.
    """

    def __init__(self, **options: Any) -> None:
        super().__init__(**options)
        self._parzen_estimator_cls = QuickParzen
        self._rows: dict[tuple[tuple[str, BaseDistribution], ...], dict[int, tuple[float, ...]]] = {}
        self._split: tuple[Any, int, tuple[list[FrozenTrial], list[FrozenTrial]]] = (None, -1, ([], []))

    def _sample(self, study: Study, trial: FrozenTrial, search_space: dict[str, BaseDistribution]) -> dict[str, Any]:
        if self._split[0] is not study or self._split[1] != trial.number:
            states = (TrialState.COMPLETE, TrialState.PRUNED, TrialState.RUNNING)
            trials = [other for other in study._get_trials(False, states) if other.number != trial.number]
            self._split = (
                study,
                trial.number,
                split_trials(trials, higher_is_better=study.direction == StudyDirection.MAXIMIZE),
            )
        good, others = self._split[2]
        below = self._build_parzen_estimator(study, search_space, good, handle_below=True)
        above = self._build_parzen_estimator(study, search_space, others, handle_below=False)
        candidates = below.sample(self._rng.rng, self._n_ei_candidates)
        best = self._compare(candidates, self._compute_acquisition_func(candidates, below, above))
        return {name: kind.to_external_repr(best[name]) for name, kind in search_space.items()}

    def _get_internal_repr(
        self, trials: list[FrozenTrial], search_space: dict[str, BaseDistribution], study: Study
    ) -> dict[str, Numbers]:
        known = self._rows.setdefault(tuple(search_space.items()), {})
        rows = []
        for trial in trials:
            row = known.get(trial._trial_id)
            if row is None:
                row = _read_row(self._get_params(trial, study), search_space)
                if trial.state.is_finished():
                    known[trial._trial_id] = row
            if row:
                rows.append(row)
        columns = np.array(rows, dtype=np.float64).reshape(len(rows), len(search_space)).T
        return dict(zip(search_space, columns, strict=True))


def find_place(trial: FrozenTrial, *, higher_is_better: bool) -> tuple[float, float]:
    """Where a trial that has ended stands in TPE's order, the best first: complete, then by how far it came, then by
    its value there."""
    sign = -1.0 if higher_is_better else 1.0
    if trial.state == TrialState.COMPLETE:
        return -math.inf, sign * (trial.value or 0.0)
    if not trial.intermediate_values:
        return 1, 0.0
    step = max(trial.intermediate_values)
    value = trial.intermediate_values[step]
    return -step, math.inf if math.isnan(value) else sign * value


def split_trials(
    trials: Sequence[FrozenTrial], *, higher_is_better: bool
) -> tuple[list[FrozenTrial], list[FrozenTrial]]:
    """The good trials and the others, each by number; those that run are not known to be good."""
    ended = [trial for trial in trials if trial.state != TrialState.RUNNING]
    ended.sort(key=lambda trial: find_place(trial, higher_is_better=higher_is_better))
    num_good = default_gamma(len(ended))
    others = [*ended[num_good:], *(trial for trial in trials if trial.state == TrialState.RUNNING)]
    return sorted(ended[:num_good], key=_by_number), sorted(others, key=_by_number)


def _by_number(trial: FrozenTrial) -> int:
    return trial.number


def _read_row(params: Mapping[str, Any], search_space: Mapping[str, BaseDistribution]) -> tuple[float, ...]:
    """A trial's hyperparameters as numbers; nothing where it has not all of them."""
    if not search_space.keys() <= params.keys():
        return ()
    return tuple(kind.to_internal_repr(params[name]) for name, kind in search_space.items())


class QuickParzen(_ParzenEstimator):
    """Optuna's Parzen estimator, whose densities scipy computes for all kernels in one call.

    They are added up in Optuna's order, since equally good candidates are told apart by how their sums were rounded.
    """

    def log_pdf(self, samples_dict: dict[str, Numbers]) -> Numbers:
        samples = self._transform(samples_dict)
        mixture = self._mixture_distribution
        logs, of_continuous = np.zeros((2, len(samples), len(mixture.weights)))
        for place, kernels in enumerate(mixture.distributions):
            is_continuous = getattr(kernels, "step", None) == 0.0
            (of_continuous if is_continuous else logs)[:] += compute_log_densities(samples[:, place], kernels)
        logs += of_continuous
        logs += np.log(mixture.weights)
        most = logs.max(axis=1)
        most[np.isneginf(most)] = 0.0  # no kernel reaches there
        with np.errstate(divide="ignore"):
            return np.log(np.exp(logs - most[:, np.newaxis]).sum(axis=1)) + most


def compute_log_densities(values: Numbers, kernels: Any) -> Numbers:
    """The logarithm of each kernel's density at each of `values`, one row a value: of choices, of normal distributions
    cut to a range, or of such rounded to steps."""
    if hasattr(kernels, "weights"):
        return np.log(kernels.weights)[:, values.astype(np.int64)].T
    mu, sigma = kernels.mu, kernels.sigma
    low, high = (kernels.adapted_low - mu) / sigma, (kernels.adapted_high - mu) / sigma
    whole = compute_log_mass(low, high)
    scale = np.log if kernels.is_log else np.asarray
    if kernels.step == 0.0:
        offset = (scale(values)[:, np.newaxis] - mu) / sigma
        logs = -(offset**2) / 2 - LOG_ROOT_OF_TWO_PI - np.log(sigma) - whole
        return np.where((offset < low) | (offset > high), -np.inf, logs)
    steps, places = np.unique(values, return_inverse=True)
    left, right = (scale(steps + side)[:, np.newaxis] for side in (-kernels.step / 2, kernels.step / 2))
    return (compute_log_mass((left - mu) / sigma, (right - mu) / sigma) - whole)[places]


def compute_log_mass(low: Numbers, high: Numbers) -> Numbers:
    """The logarithm of what a standard normal distribution has between `low` and `high`.

    In the right tail it is computed in the left one, where the logarithms are exact.
    """
    from scipy.special import log_ndtr, ndtr  # not before TPE has trials to learn from

    is_right = low > 0
    low, high = np.where(is_right, -high, low), np.where(is_right, -low, high)
    is_tail = high <= 0
    mass = np.empty_like(low)
    in_tail = log_ndtr(high[is_tail])
    with np.errstate(divide="ignore"):
        mass[is_tail] = in_tail + np.log1p(-np.exp(log_ndtr(low[is_tail]) - in_tail))
        mass[~is_tail] = np.log1p(-ndtr(low[~is_tail]) - ndtr(-high[~is_tail]))
    return mass
