"""Simulated test sets: slices in patients, with a known AUC and a known correlation within patients."""

from __future__ import annotations

import numpy as np
from scipy import special, stats


def draw_set(
    rng: np.random.Generator,
    num_patients: int,
    *,
    auc: float = 0.85,
    correlation: float = 0.4,
    slices: int = 4,
    share_positive: float = 0.5,
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Whether slices are positive bool (N,), their scores float (N,), their patients int (N,); `slices` in the mean."""
    patients = np.repeat(np.arange(num_patients), rng.geometric(1 / slices, num_patients))
    is_positive = (np.arange(num_patients) < round(share_positive * num_patients))[patients]
    of_patient = rng.normal(size=num_patients)[patients]
    noise = np.sqrt(correlation) * of_patient + np.sqrt(1 - correlation) * rng.normal(size=len(patients))
    return is_positive, np.sqrt(2) * stats.norm.ppf(auc) * is_positive + noise, patients


def to_probabilities(scores: np.ndarray, *, auc: float = 0.85, temperature: float = 1.0) -> np.ndarray:
    """The true probabilities (N, 2) of scores of `draw_set`, half positive; too sure with a temperature below 1."""
    shift = np.sqrt(2) * stats.norm.ppf(auc)
    positive = special.expit((shift * scores - shift**2 / 2) / temperature)
    return np.stack([1 - positive, positive], axis=1)
