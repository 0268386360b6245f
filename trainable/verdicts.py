"""Verdicts: how the probabilities of a patient's slices, or of a volume's, become one."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from trainable.probability_metrics import LEAST_PROBABILITY

if TYPE_CHECKING:
    from collections.abc import Mapping

    from trainable.probability_metrics import Floats

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
        return names, scale(found, self.temperature)

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


def read_verdict(record: Mapping[str, Any] | None) -> PatientVerdict:
    """That of a model, by what `to_dict` gave; the mean where a model says nothing of it."""
    return PatientVerdict.from_dict(record) if record else MEAN_VERDICT


def scale(probabilities: np.ndarray, temperature: float) -> Floats:
    """Probabilities float (N, C) whose logarithms are divided by a temperature above 0 (Guo et al., ICML 2017)."""
    if temperature == 1:
        return np.asarray(probabilities, dtype=np.float64)
    logits = np.log(np.clip(probabilities, LEAST_PROBABILITY, 1)) / temperature
    powers = np.exp(logits - logits.max(axis=1, keepdims=True))
    return powers / powers.sum(axis=1, keepdims=True)
