"""The curve model: a Gaussian process over configurations and epochs, for what trials have shown and may show.

Freeze-thaw as in Swersky et al. 2014 (arXiv:1406.3896), with a kernel that needs no assumption on a curve's form:

    k = Matern-3/2(log epochs) * (a * Matern-5/2(configuration; one length a hyperparameter) + b * same trial) + noise

Its parameters maximise the posterior by gradient, under priors that make few points no more than they are.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.linalg import cho_solve, solve_triangular
from scipy.linalg.lapack import dpotrf, dpotri
from scipy.optimize import minimize

Array = NDArray[np.float64]
Ints = NDArray[np.int64]
JITTER = 1e-6


@dataclass(frozen=True)
class CurvePoints:
    """n values of curves: `points` (n, columns) of encoded configurations, `epochs` (n), `trials` (n), the trial's
    number or any below 0 for one that has not begun, and `noise` (n), each value's noise variance over the usual."""

    points: Array
    epochs: Array
    trials: Ints
    noise: Array

    def __len__(self) -> int:
        return len(self.epochs)


@dataclass(frozen=True)
class Lengths:
    """The kernel's parameters, in logarithms: `lengths` (hyperparameters), then four scalars."""

    lengths: Array
    amplitude: float
    trial_amplitude: float
    epoch_length: float
    noise: float

    @classmethod
    def default(cls, num_hyperparameters: int, noise: float) -> Lengths:
        """The priors' centres. Lengths grow with the root of the dimension (Hvarfner et al. 2024, arXiv:2402.02229)."""
        length = np.log(0.5 * np.sqrt(max(num_hyperparameters, 1)))
        return cls(np.full(num_hyperparameters, length), np.log(0.8), np.log(0.2), np.log(2.0), np.log(noise))

    @property
    def vector(self) -> Array:
        return np.array([*self.lengths, self.amplitude, self.trial_amplitude, self.epoch_length, self.noise])

    @classmethod
    def of(cls, vector: Array) -> Lengths:
        return cls(vector[:-4].copy(), *map(float, vector[-4:]))


SPREADS = (0.8, 1.0, 1.0, 0.7, 1.5)
"""Standard deviations of the priors, of logarithms: lengths, both amplitudes, the epochs' length, the noise."""
BOUND = 4.0
"""No logarithm leaves its prior's centre by more."""


class CurveModel:
    """A process fitted to `data` and `values` (n), which should have about unit spread, and mean 0 far from any data.

    `owners` (columns) says which hyperparameter a column belongs to; `noise` is the variance expected of a value.
    """

    def __init__(self, data: CurvePoints, values: Array, owners: Ints, parameters: Lengths) -> None:
        self.data, self.values, self.owners, self.parameters = data, values, owners, parameters
        covariance = self._covariance(data, data, parameters)
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
        start: Lengths | None = None,
        num_steps: int = 30,
    ) -> CurveModel:
        """The most probable parameters, by L-BFGS from `start` or from the priors' centres."""
        centre = Lengths.default(int(owners.max(initial=-1)) + 1, noise)
        begin = centre if start is None else start
        bounds = [(middle - BOUND, middle + BOUND) for middle in centre.vector]
        found = minimize(
            _loss,
            np.clip(begin.vector, *np.array(bounds).T),
            args=(data, values, owners, centre.vector),
            jac=True,
            method="L-BFGS-B",
            bounds=bounds,
            options={"maxiter": num_steps},
        )
        return cls(data, values, owners, Lengths.of(found.x))

    def predict(self, at: CurvePoints) -> tuple[Array, Array]:
        """Mean and standard deviation (m) of the curves at `at`, without the noise of a value."""
        parameters = self.parameters
        cross = self._covariance(self.data, at, parameters)
        mean = cross.T @ self._weights
        solved = solve_triangular(self._factor, cross, lower=True, check_finite=False)
        prior = np.exp(parameters.amplitude) + np.exp(parameters.trial_amplitude)
        return mean, np.sqrt(np.maximum(prior - (solved**2).sum(axis=0), 1e-10))

    def _covariance(self, a: CurvePoints, b: CurvePoints, parameters: Lengths) -> Array:
        scales = np.exp(-parameters.lengths)[self.owners]
        return _kernel(a, b, scales, parameters)[0]


def _squared_distances(a: Array, b: Array) -> Array:
    return np.maximum((a**2).sum(axis=1)[:, None] + (b**2).sum(axis=1) - 2 * a @ b.T, 0.0)


def _kernel(
    a: CurvePoints, b: CurvePoints, scales: Array, parameters: Lengths
) -> tuple[Array, Array, Array, Array, Array]:
    """The covariance, and what its gradient needs: epochs' part, settings' root distance, its decay, same trial."""
    root = np.sqrt(5.0 * _squared_distances(a.points * scales, b.points * scales))
    decay = np.exp(-root)
    settings = (1 + root + root**2 / 3) * decay
    apart = np.sqrt(3.0) * np.abs(np.log(a.epochs)[:, None] - np.log(b.epochs)) * np.exp(-parameters.epoch_length)
    over_epochs = (1 + apart) * np.exp(-apart)
    same = a.trials[:, None] == b.trials
    scaled = np.exp(parameters.amplitude) * settings + np.exp(parameters.trial_amplitude) * same
    return over_epochs * scaled, over_epochs, root, decay, apart


def _loss(vector: Array, data: CurvePoints, values: Array, owners: Ints, centre: Array) -> tuple[float, Array]:
    """The negative log posterior and its gradient."""
    parameters = Lengths.of(vector)
    scales = np.exp(-parameters.lengths)[owners]
    covariance, over_epochs, root, decay, apart = _kernel(data, data, scales, parameters)
    noise = np.exp(parameters.noise) * data.noise
    noisy = covariance.copy()
    noisy[np.diag_indices_from(noisy)] += noise + JITTER
    factor, info = dpotrf(noisy, lower=True)
    if info:
        return 1e10, np.zeros_like(vector)
    weights = cho_solve((factor, True), values, check_finite=False)
    inverse, _ = dpotri(factor, lower=True)
    inverse = np.tril(inverse) + np.tril(inverse, -1).T
    outer = np.outer(weights, weights) - inverse  # twice the gradient of the evidence by the covariance

    amplitude, trial_amplitude = np.exp(parameters.amplitude), np.exp(parameters.trial_amplitude)
    same = data.trials[:, None] == data.trials
    settings = (1 + root + root**2 / 3) * decay
    by_distance = outer * over_epochs * (amplitude * 5 / 3) * (1 + root) * decay
    scaled = data.points * scales
    by_column = 2 * (by_distance.sum(axis=1) @ scaled**2 - (scaled * (by_distance @ scaled)).sum(axis=0))
    gradient = np.concatenate(
        [
            np.bincount(owners, weights=by_column, minlength=len(parameters.lengths)),
            [
                (outer * over_epochs * settings).sum() * amplitude,
                (outer * over_epochs * same).sum() * trial_amplitude,
                (outer * covariance / np.maximum(over_epochs, 1e-300) * apart**2 * np.exp(-apart)).sum(),
                np.diag(outer) @ noise,
            ],
        ]
    )
    evidence = -0.5 * values @ weights - np.log(np.diag(factor)).sum()
    spreads = np.array([*[SPREADS[0]] * len(parameters.lengths), *SPREADS[1:]])
    off = (vector - centre) / spreads
    return float(-evidence + 0.5 * off @ off), -0.5 * gradient + off / spreads
