"""Calibration: probabilities that mean what they say, fitted on predictions for patients that no training saw."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, TypeAlias

import numpy as np
from scipy import optimize
from sklearn.isotonic import IsotonicRegression

from trainable.folds import split_patients
from trainable.metrics import check_arrays
from trainable.probability_metrics import LEAST_PROBABILITY
from trainable.verdicts import scale

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from trainable.clustered import Floats

LEAST_TEMPERATURE, MOST_TEMPERATURE = 0.05, 20.0


@dataclass(frozen=True, kw_only=True)
class TemperatureScaling:
    """Logits divided by one `temperature` above 0; above 1 the model was too sure (Guo et al., ICML 2017).

    The order of the slices and the most probable class stay. A temperature of 1 changes nothing.
    """

    temperature: float = 1.0

    def __post_init__(self) -> None:
        if not 0 < self.temperature < float("inf"):
            raise ValueError(f"the temperature is {self.temperature}; it must be above 0 and finite")

    def apply(self, probabilities: np.ndarray) -> Floats:
        """Calibrated probabilities float (N, C) of `probabilities` (N, C)."""
        return scale(probabilities, self.temperature)

    def to_dict(self) -> dict[str, Any]:
        return {"kind": "temperature", "temperature": self.temperature}


@dataclass(frozen=True, kw_only=True)
class IsotonicCalibration:
    """A rising line of straight pieces for each class (Zadrozny and Elkan, KDD 2002); the sum is brought to 1.

    `inputs` and `outputs` hold for each class the corners of its line, in [0, 1]; for two classes that of class 1
    alone. Slices whose order says nothing become equal: the AUC may fall a little.
    """

    inputs: tuple[tuple[float, ...], ...]
    outputs: tuple[tuple[float, ...], ...]

    def __post_init__(self) -> None:
        if [len(each) for each in self.inputs] != [len(each) for each in self.outputs]:
            raise ValueError("inputs and outputs of an isotonic calibration differ in length; they must be pairs")

    def apply(self, probabilities: np.ndarray) -> Floats:
        """Calibrated probabilities float (N, C) of `probabilities` (N, C). Raises ValueError for another C."""
        num_classes = 2 if len(self.inputs) == 1 else len(self.inputs)
        if probabilities.shape[1] != num_classes:
            raise ValueError(
                f"the probabilities are of {probabilities.shape[1]} classes; this calibration is for {num_classes}"
            )
        columns = range(num_classes) if num_classes > 2 else [1]
        lines = zip(columns, self.inputs, self.outputs, strict=True)
        raised = np.stack([np.interp(probabilities[:, c], line, to) for c, line, to in lines], axis=1)
        if num_classes == 2:
            return np.concatenate([1 - raised, raised], axis=1)
        return raised / raised.sum(axis=1, keepdims=True)

    def to_dict(self) -> dict[str, Any]:
        return {"kind": "isotonic", "inputs": [*map(list, self.inputs)], "outputs": [*map(list, self.outputs)]}


Calibration: TypeAlias = TemperatureScaling | IsotonicCalibration
UNCALIBRATED = TemperatureScaling()


def fit_temperature(labels: np.ndarray, probabilities: np.ndarray) -> TemperatureScaling:
    """The temperature between 0.05 and 20 with the least log loss on `labels` int (N,), `probabilities` (N, C)."""
    labels, probabilities = check_arrays(labels, probabilities)

    def loss(log_temperature: float) -> float:
        return log_loss(labels, TemperatureScaling(temperature=float(np.exp(log_temperature))).apply(probabilities))

    bounds = (np.log(LEAST_TEMPERATURE), np.log(MOST_TEMPERATURE))
    found = optimize.minimize_scalar(loss, bounds=bounds, method="bounded", options={"xatol": 1e-4})
    return TemperatureScaling(temperature=float(np.exp(found.x)))


def fit_isotonic(labels: np.ndarray, probabilities: np.ndarray) -> IsotonicCalibration:
    """The rising line with the least squares for each class, kept 1 / (N + 2) away from 0 and 1."""
    labels, probabilities = check_arrays(labels, probabilities)
    num_slices, num_classes = probabilities.shape
    margin = 1 / (num_slices + 2)  # Laplace's rule of succession: nothing seen is not nothing possible
    inputs, outputs = [], []
    for index in range(num_classes) if num_classes > 2 else [1]:
        line = IsotonicRegression(y_min=margin, y_max=1 - margin, out_of_bounds="clip")
        line.fit(probabilities[:, index], labels == index)
        inputs.append(tuple(line.X_thresholds_.tolist()))
        outputs.append(tuple(line.y_thresholds_.tolist()))
    return IsotonicCalibration(inputs=tuple(inputs), outputs=tuple(outputs))


def _leave(labels: np.ndarray, probabilities: np.ndarray) -> TemperatureScaling:
    return UNCALIBRATED


FITS: Mapping[str, Callable[[np.ndarray, np.ndarray], Calibration]] = {
    "none": _leave,
    "temperature": fit_temperature,
    "isotonic": fit_isotonic,
}


def fit_calibration(
    labels: np.ndarray, probabilities: np.ndarray, patients: np.ndarray, *, num_folds: int = 5
) -> tuple[Calibration, dict[str, float]]:
    """The kind of calibration with the least cross-fitted log loss, fitted on all slices; and the loss of each kind.

    `labels` int (N,), `probabilities` float (N, C) of patients that the model was not trained on, `patients` (N,). The
    kinds are none, temperature and isotonic; of equals the first. With fewer than two patients of a class
    nothing can be cross-fitted: none is chosen.
    """
    labels, probabilities = check_arrays(labels, probabilities)
    losses = {name: log_loss(labels, cross_fit(labels, probabilities, patients, name, num_folds)) for name in FITS}
    chosen = min(losses, key=lambda name: losses[name])
    return FITS[chosen](labels, probabilities), losses


def fit_temperature_if_better(
    labels: np.ndarray, probabilities: np.ndarray, patients: np.ndarray
) -> TemperatureScaling:
    """The temperature that fits these slices; 1 where another is no better for patients that it was not fitted on.

    An isotonic line is not taken here: its steps make an answer depend on how a library rounds, and ties cost AUC.
    """
    left, scaled = (log_loss(labels, cross_fit(labels, probabilities, patients, k)) for k in ("none", "temperature"))
    return fit_temperature(labels, probabilities) if scaled < left else UNCALIBRATED


def cross_fit(
    labels: np.ndarray, probabilities: np.ndarray, patients: np.ndarray, kind: str, num_folds: int = 5
) -> Floats:
    """Probabilities float (N, C) calibrated by a `kind` that was fitted on the other folds' patients."""
    labels, probabilities = check_arrays(labels, probabilities)
    calibrated = probabilities.copy()
    for rows in split_patients(labels, patients, num_folds):
        calibrated[rows] = FITS[kind](labels[~rows], probabilities[~rows]).apply(probabilities[rows])
    return calibrated


def log_loss(labels: np.ndarray, probabilities: np.ndarray) -> float:
    """Mean cross-entropy in nats; a probability of 0 counts as 1e-7."""
    return float(-np.log(np.clip(probabilities[np.arange(len(labels)), labels], LEAST_PROBABILITY, 1)).mean())
