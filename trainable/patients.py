"""Verdicts on patients: which rule for their slices is best for patients not seen, and the figures by patient."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from trainable.calibration import fit_temperature_if_better
from trainable.comparisons import compare_aucs
from trainable.metrics import check_arrays
from trainable.scorecard import measure
from trainable.verdicts import CANDIDATES, MEAN, MEAN_VERDICT, PatientRule, PatientVerdict

if TYPE_CHECKING:
    from trainable.scorecard import Estimate


def label_patients(labels: np.ndarray, patients: np.ndarray, positive: int, num_classes: int) -> np.ndarray:
    """The class int (P,) of each patient, in the order of `np.unique(patients)`.

    Of two classes a patient is positive where any slice is. Raises ValueError for a patient whose slices are of
    several of more than two classes.
    """
    _, patient_of = np.unique(patients, return_inverse=True)
    if num_classes == 2:
        has_positive = np.bincount(patient_of, labels == positive) > 0
        return np.where(has_positive, positive, 1 - positive)
    low, high = (np.full(patient_of.max() + 1, fill) for fill in (num_classes, -1))
    np.minimum.at(low, patient_of, labels)
    np.maximum.at(high, patient_of, labels)
    if count := int((low != high).sum()):
        raise ValueError(
            f"{count} patients have slices of several of {num_classes} classes; a verdict per patient needs one class "
            "for each: score slices instead"
        )
    return low


def measure_patients(
    verdict: PatientVerdict,
    labels: np.ndarray,
    probabilities: np.ndarray,
    patients: np.ndarray,
    positive: int,
    *,
    threshold: float | None = None,
    num_resamples: int = 1000,
) -> dict[str, Estimate]:
    """The scorecard (`measure`) of verdicts per patient, from slices' labels (N,), probabilities (N, C), patients (N,).

    `threshold` is applied to the patients' probabilities.
    """
    labels, probabilities = check_arrays(labels, probabilities)
    names, of_patients = verdict.apply(probabilities, patients, positive)
    truth = label_patients(labels, patients, positive, probabilities.shape[1])
    return measure(truth, of_patients, names, positive, threshold=threshold, num_resamples=num_resamples)


def choose_patient_rule(
    labels: np.ndarray,
    probabilities: np.ndarray,
    patients: np.ndarray,
    positive: int,
    *,
    least_probability: float = 0.9,
) -> PatientRule:
    """The rule with the best AUC of patients; the mean unless another is better with `least_probability`.

    `labels` int (N,), `probabilities` float (N, C), `patients` (N,) of slices whose patients the model was not trained
    on. Calibrate what the rule gives (`fit_calibration`) before its probabilities are shown. With more than two
    classes, or patients of one class only, the mean.
    """
    labels, probabilities = check_arrays(labels, probabilities)
    if probabilities.shape[1] != 2:
        return MEAN
    is_positive = label_patients(labels, patients, positive, 2) == positive
    if is_positive.all() or not is_positive.any():
        return MEAN
    names, of_mean = MEAN.apply(probabilities, patients, positive)
    best, most = MEAN, 0.0
    for rule in CANDIDATES[1:]:
        _, of_rule = rule.apply(probabilities, patients, positive)
        found = compare_aucs(is_positive, of_rule[:, positive], of_mean[:, positive], names)
        if found.probability_better >= least_probability and found.difference > most:
            best, most = rule, found.difference
    return best


def choose_verdict(
    labels: np.ndarray, probabilities: np.ndarray, patients: np.ndarray, positive: int
) -> PatientVerdict:
    """The rule of `choose_patient_rule`, and a temperature for what it gives where that is no mean.

    The arrays are those of `choose_patient_rule`. The mean of calibrated slices stays as it is.
    """
    rule = choose_patient_rule(labels, probabilities, patients, positive)
    if rule == MEAN:
        return MEAN_VERDICT
    names, of_patients = rule.apply(probabilities, patients, positive)
    truth = label_patients(labels, patients, positive, probabilities.shape[1])
    found = fit_temperature_if_better(truth, of_patients, names)
    return PatientVerdict(rule=rule, temperature=found.temperature)
