"""The curve model: a Gaussian process over configurations and epochs, for what trials have shown and may show.

Freeze-thaw as in Swersky et al. 2014 (arXiv:1406.3896), with a kernel that needs no assumption on a curve's form:

    k = e(epochs; length, growth) * (a * Matern-5/2(configuration; a length a hyperparameter) + c)
        + e(epochs; length, growth of trials) * b * same trial + noise

    e(epochs; length, growth) = (epoch epoch') ** growth * Matern-3/2(log epochs; length)

What trials come to lies farther apart than what they begin with, hence the growth; and what is a trial's own changes
sooner than what its configuration says, hence a length of its own. The parameters maximise the posterior by gradient,
under priors that make few points no more than they are.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.linalg import cho_solve, solve_triangular
from scipy.linalg.lapack import dpotrf, dpotri

Array = NDArray[np.float64]
Ints = NDArray[np.int64]
JITTER = 1e-6


@dataclass(frozen=True)
class CurvePoints:
    """n values of m trials' curves.

    `points` (m, columns) are their configurations, encoded, and `trials` (m) their numbers, -1 for one that has not
    begun. Value i belongs to trial `rows[i]`, in ascending order, after `epochs[i]`; `noise` (n) is the variance of a
    value's noise over the usual one.
    """

    points: Array
    trials: Ints
    rows: Ints
    epochs: Array
    noise: Array

    def joined(self, other: CurvePoints) -> CurvePoints:
        """These values, then those of `other`, whose trials may be the same."""
        known = {number: row for row, number in enumerate(self.trials.tolist())}
        added = [row for row, number in enumerate(other.trials.tolist()) if number not in known]
        known |= {int(other.trials[row]): len(self.trials) + place for place, row in enumerate(added)}
        rows = np.array([known[number] for number in other.trials[other.rows].tolist()], dtype=np.int64)
        return CurvePoints(
            np.concatenate([self.points, other.points[added]]),
            np.concatenate([self.trials, other.trials[added]]),
            np.concatenate([self.rows, rows]),
            np.concatenate([self.epochs, other.epochs]),
            np.concatenate([self.noise, other.noise]),
        )


@dataclass(frozen=True)
class Parameters:
    """The kernel's parameters: `lengths` (hyperparameters) and scalars as logarithms, the two growths as they are."""

    lengths: Array
    amplitude: float
    common_amplitude: float
    epoch_length: float
    growth: float
    trial_amplitude: float
    trial_epoch_length: float
    trial_growth: float
    noise: float

    @classmethod
    def typical(cls, num_hyperparameters: int, noise: float) -> Parameters:
        """The priors' centres. Lengths grow with the root of the dimension (Hvarfner et al. 2024, arXiv:2402.02229)."""
        length = np.log(0.3 * np.sqrt(max(num_hyperparameters, 1)))
        scalars = [*np.log([0.8, 0.2, 4.0]), 0.15, *np.log([0.2, 0.5]), 0.15, np.log(noise)]
        return cls.of(np.array([*[length] * num_hyperparameters, *scalars]))

    @classmethod
    def of(cls, vector: Array) -> Parameters:
        return cls(vector[:-NUM_SCALARS].copy(), *map(float, vector[-NUM_SCALARS:]))

    @property
    def vector(self) -> Array:
        of_configurations = self.amplitude, self.common_amplitude, self.epoch_length, self.growth
        of_trials = self.trial_amplitude, self.trial_epoch_length, self.trial_growth
        return np.array([*self.lengths, *of_configurations, *of_trials, self.noise])


NUM_SCALARS = 8
SPREADS = (1.0, 1.0, 1.0, 0.7, 0.2, 1.0, 0.7, 0.2, 1.5)
"""Standard deviations of the priors: of a length, then of each scalar."""
NOISE_SPREAD = SPREADS[-1]
BOUND = 4.0
"""Nothing leaves its prior's centre by more."""


class CurveModel:
    """A process fitted to `data` and `values` (n), which should have about unit spread, and mean 0 far from any data.

    `owners` (columns) says which hyperparameter a column belongs to.
    """

    def __init__(self, data: CurvePoints, values: Array, owners: Ints, parameters: Parameters) -> None:
        self.data, self.values, self.owners, self.parameters = data, values, owners, parameters
        covariance = _covariance(data, data, owners, parameters)
        covariance[np.diag_indices_from(covariance)] += np.exp(parameters.noise) * data.noise + JITTER
        self._factor = np.linalg.cholesky(covariance)
        self._weights = cho_solve((self._factor, True), values, check_finite=False)

    @classmethod
    def fit(
        cls,
        data: CurvePoints,
        values: Array,
        owners: Ints,
        *,
        noise: float,
        noise_spread: float = NOISE_SPREAD,
        start: Parameters | None = None,
        num_steps: int = 30,
    ) -> CurveModel:
        """The most probable parameters, by L-BFGS from `start` or from the priors' centres.

        `noise` is the variance that a value's noise is expected to have, over that of `data`; `noise_spread` says how
        surely, as the standard deviation of its logarithm.
        """
        from scipy.optimize import minimize  # a fifth of a second, and every driver imports this module

        centre = Parameters.typical(int(owners.max(initial=-1)) + 1, noise).vector
        begin = centre if start is None else np.clip(start.vector, centre - BOUND, centre + BOUND)
        found = minimize(
            _Loss(data, values, owners, centre, noise_spread),
            begin,
            jac=True,
            method="L-BFGS-B",
            bounds=[(middle - BOUND, middle + BOUND) for middle in centre],
            options={"maxiter": num_steps},
        )
        return cls(data, values, owners, Parameters.of(found.x))

    def predict(self, at: CurvePoints) -> tuple[Array, Array]:
        """Mean and standard deviation (m) of the curves at `at`, without the noise of a value."""
        cross = _covariance(self.data, at, self.owners, self.parameters)
        solved = solve_triangular(self._factor, cross, lower=True, check_finite=False)
        p = self.parameters
        prior = np.exp([p.amplitude, p.common_amplitude]).sum() * at.epochs ** (2 * p.growth)
        prior += np.exp(p.trial_amplitude) * at.epochs ** (2 * p.trial_growth)
        return cross.T @ self._weights, np.sqrt(np.maximum(prior - (solved**2).sum(axis=0), 1e-10))

    def believing(self, at: CurvePoints) -> CurveModel:
        """The model had the curves `at`, of trials that have begun, shown what is expected of them.

        So many workers do not all look for the same (the kriging believer of Ginsbourger et al. 2010,
        doi:10.1007/978-3-642-10701-6_6).
        """
        values = np.concatenate([self.values, self.predict(at)[0]])
        return CurveModel(self.data.joined(at), values, self.owners, self.parameters)


def _root_distances(a: CurvePoints, b: CurvePoints, scales: Array) -> Array:
    """sqrt(5) times the scaled distance (m_a, m_b) between configurations."""
    one, other = a.points * scales, b.points * scales
    squares = (one**2).sum(axis=1)[:, None] + (other**2).sum(axis=1) - 2 * one @ other.T
    return np.sqrt(5.0 * np.maximum(squares, 0.0))


class _Epochs:
    """The kernel over epochs, between the distinct epochs of `a` and those of `b`; `at` takes it to pairs of values."""

    def __init__(self, a: CurvePoints, b: CurvePoints) -> None:
        (one, self.one_at), (other, self.other_at) = (np.unique(x.epochs, return_inverse=True) for x in (a, b))
        self.apart = np.sqrt(3.0) * np.abs(np.log(one)[:, None] - np.log(other))
        self.logs = np.log(one)[:, None] + np.log(other)
        self.at = self.one_at[:, None], self.other_at

    def __call__(self, length: float, growth: float) -> Array:
        apart = self.apart * np.exp(-length)
        return (1 + apart) * np.exp(growth * self.logs - apart)

    def by_length(self, length: float, growth: float) -> Array:
        """Its derivative."""
        apart = self.apart * np.exp(-length)
        return apart**2 * np.exp(growth * self.logs - apart)

    def summed(self, matrix: Array) -> Array:
        """A matrix over pairs of values, summed over pairs of distinct epochs."""
        one, other = (np.eye(num)[at] for num, at in zip(self.apart.shape, (self.one_at, self.other_at), strict=True))
        return one.T @ matrix @ other


def _covariance(a: CurvePoints, b: CurvePoints, owners: Ints, parameters: Parameters) -> Array:
    p, epochs = parameters, _Epochs(a, b)
    root = _root_distances(a, b, np.exp(-p.lengths)[owners])
    between = np.exp(p.amplitude) * (1 + root + root**2 / 3) * np.exp(-root) + np.exp(p.common_amplitude)
    of_configurations = between[a.rows[:, None], b.rows] * epochs(p.epoch_length, p.growth)[epochs.at]
    is_same = a.trials[a.rows][:, None] == b.trials[b.rows]
    of_trials = np.exp(p.trial_amplitude) * epochs(p.trial_epoch_length, p.trial_growth)[epochs.at]
    return of_configurations + np.where(is_same, of_trials, 0.0)


class _Loss:
    """The negative log posterior of the parameters, and its gradient."""

    def __init__(self, data: CurvePoints, values: Array, owners: Ints, centre: Array, noise_spread: float) -> None:
        self.data, self.values, self.owners, self.centre = data, values, owners, centre
        lengths = [SPREADS[0]] * (len(centre) - NUM_SCALARS)
        self.spreads = np.array([*lengths, *SPREADS[1:-1], noise_spread])
        self.pairs = data.rows[:, None], data.rows
        self.is_same = data.rows[:, None] == data.rows
        self.starts = np.flatnonzero(np.diff(data.rows, prepend=-1))
        self.epochs = _Epochs(data, data)

    def by_trial(self, matrix: Array) -> Array:
        """A matrix over pairs of values, summed over pairs of trials."""
        return np.add.reduceat(np.add.reduceat(matrix, self.starts, axis=0), self.starts, axis=1)

    def __call__(self, vector: Array) -> tuple[float, Array]:
        p, data, epochs = Parameters.of(vector), self.data, self.epochs
        amplitude, common, of_trial = np.exp([p.amplitude, p.common_amplitude, p.trial_amplitude])
        scales = np.exp(-p.lengths)[self.owners]
        root = _root_distances(data, data, scales)
        decay = np.exp(-root)
        settings = (1 + root + root**2 / 3) * decay
        between = (amplitude * settings + common)[self.pairs]
        over, own_over = epochs(p.epoch_length, p.growth), epochs(p.trial_epoch_length, p.trial_growth)
        over_epochs = over[epochs.at]
        covariance = between * over_epochs + np.where(self.is_same, of_trial * own_over[epochs.at], 0.0)
        noise = np.exp(p.noise) * data.noise
        covariance[np.diag_indices_from(covariance)] += noise + JITTER
        factor, info = dpotrf(covariance, lower=True)
        if info:
            return 1e10, np.zeros_like(vector)
        weights = cho_solve((factor, True), self.values, check_finite=False)
        evidence = -0.5 * self.values @ weights - np.log(np.diag(factor)).sum()

        inverse, _ = dpotri(factor, lower=True)
        inverse = np.tril(inverse) + np.tril(inverse, -1).T
        outer = np.outer(weights, weights) - inverse  # twice the gradient of the evidence by the covariance
        by_trial = self.by_trial(outer * over_epochs)
        by_distance = by_trial * (amplitude * 5 / 3) * (1 + root) * decay
        scaled = data.points * scales
        by_column = 2 * (by_distance.sum(axis=1) @ scaled**2 - (scaled * (by_distance @ scaled)).sum(axis=0))
        by_epochs = epochs.summed(outer * between)
        by_own = of_trial * epochs.summed(np.where(self.is_same, outer, 0.0))
        scalars = [
            (by_trial * settings).sum() * amplitude,
            by_trial.sum() * common,
            (by_epochs * epochs.by_length(p.epoch_length, p.growth)).sum(),
            (by_epochs * over * epochs.logs).sum(),
            (by_own * own_over).sum(),
            (by_own * epochs.by_length(p.trial_epoch_length, p.trial_growth)).sum(),
            (by_own * own_over * epochs.logs).sum(),
            np.diag(outer) @ noise,
        ]
        gradient = [*np.bincount(self.owners, weights=by_column, minlength=len(p.lengths)), *scalars]
        off = (vector - self.centre) / self.spreads
        return float(0.5 * off @ off - evidence), off / self.spreads - 0.5 * np.array(gradient)
