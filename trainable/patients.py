"""A verdict per patient: the probabilities of a patient's slices become one."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from trainable.calibration import TemperatureScaling, fit_temperature_if_better
from trainable.comparisons import compare_aucs
from trainable.metrics import check_arrays
from trainable.probability_metrics import LEAST_PROBABILITY
from trainable.scorecard import measure

if TYPE_CHECKING:
    from collections.abc import Mapping

    from trainable.clustered import Floats
    from trainable.scorecard import Estimate

RULES = ("mean", "top_k_mean", "noisy_or")


@dataclass(frozen=True, kw_only=True)
class PatientRule:
    """How the slices of a patient become one probability.

    "mean": of all slices. "top_k_mean": of the `k` slices that are most probably positive (of all, where there are
    fewer). "noisy_or": that at least one slice is positive, if they were independent (Pearl 1988); for many slices it
    is near 1 and wants calibration. The two latter are for two classes: one slice may show what the others do not.
    """

    name: str = "mean"
    k: int = 3

    def __post_init__(self) -> None:
        if self.name not in RULES:
            raise ValueError(f"the rule for patients is {self.name!r}; it must be one of {', '.join(RULES)}")
        if self.k < 1:
            raise ValueError(f"k of the rule for patients is {self.k}; it must be 1 or more")

    def apply(self, probabilities: np.ndarray, patients: np.ndarray, positive: int) -> tuple[np.ndarray, Floats]:
        """The patients (P,), sorted, and their probabilities float (P, C), from slices' (N, C) and patients (N,).

        Raises ValueError for a rule other than the mean with more than two classes.
        """
        probabilities = np.asarray(probabilities, dtype=np.float64)
        num_classes = probabilities.shape[1]
        if self.name != "mean" and num_classes != 2:
            raise ValueError(f"the rule {self.name} is for two classes; there are {num_classes}: take the mean")
        names, patient_of, counts = np.unique(patients, return_inverse=True, return_counts=True)
        if self.name == "mean":
            columns = [np.bincount(patient_of, column, len(names)) / counts for column in probabilities.T]
            return names, np.stack(columns, axis=1)
        of_slices = probabilities[:, positive]
        if self.name == "noisy_or":
            missing = np.log(np.clip(1 - of_slices, LEAST_PROBABILITY, 1))
            of_patients = 1 - np.exp(np.bincount(patient_of, missing, len(names)))
        else:
            order = np.lexsort((-of_slices, patient_of))
            starts = np.cumsum(counts) - counts
            place = np.arange(len(order)) - np.repeat(starts, counts)
            top = order[place < self.k]
            of_patients = np.bincount(patient_of[top], of_slices[top], len(names)) / np.minimum(counts, self.k)
        both = np.empty((len(names), 2))
        both[:, positive], both[:, 1 - positive] = of_patients, 1 - of_patients
        return names, both

    def to_dict(self) -> dict[str, Any]:
        return asdict(self)

    @classmethod
    def from_dict(cls, given: Mapping[str, Any]) -> PatientRule:
        """What `to_dict` gave, read again."""
        return cls(**given)


@dataclass(frozen=True, kw_only=True)
class PatientVerdict:
    """A `rule` for a patient's slices, and the `temperature` that calibrates what it gives."""

    rule: PatientRule = PatientRule()
    temperature: float = 1.0

    def apply(self, probabilities: np.ndarray, patients: np.ndarray, positive: int) -> tuple[np.ndarray, Floats]:
        """The patients (P,), sorted, and their probabilities float (P, C); see `PatientRule.apply`."""
        names, found = self.rule.apply(probabilities, patients, positive)
        return names, TemperatureScaling(temperature=self.temperature).apply(found)

    def of_one(self, probabilities: np.ndarray, positive: int) -> Floats:
        """The probabilities float (C,) of one patient, or volume, of whom these (N, C) are the slices."""
        return self.apply(probabilities, np.zeros(len(probabilities), dtype=np.int64), positive)[1][0]

    def describe(self) -> str:
        """The rule in words."""
        words = {
            "mean": "the mean of all slices",
            "top_k_mean": f"the mean of the {self.rule.k} slices that are most probably positive",
            "noisy_or": "that any slice is positive, as if they were independent",
        }
        return words[self.rule.name]

    def to_dict(self) -> dict[str, Any]:
        return {"rule": self.rule.to_dict(), "temperature": self.temperature}

    @classmethod
    def from_dict(cls, given: Mapping[str, Any]) -> PatientVerdict:
        """What `to_dict` gave, read again."""
        return cls(rule=PatientRule.from_dict(given["rule"]), temperature=given["temperature"])


MEAN = PatientRule()
MEAN_VERDICT = PatientVerdict()
CANDIDATES = (
    MEAN,
    PatientRule(name="top_k_mean", k=3),
    PatientRule(name="top_k_mean", k=5),
    PatientRule(name="noisy_or"),
)


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
