"""Resamples of patients, as weights: how often each slice counts when patients are drawn or left out."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator

    from trainable.clustered import Floats

_RESAMPLES_AT_ONCE = 100


def draw_patients(patients: np.ndarray, num_resamples: int, seed: int) -> Iterator[Floats]:
    """Weights float (R, N), at most 100 resamples at once, of slices whose `patients` are (N,).

    Whole patients are drawn, since slices of one patient are not independent (Efron and Tibshirani, An Introduction to
    the Bootstrap, 1993, chapters 8 and 13). The same seed gives the same patients.
    """
    _, patient_of = np.unique(patients, return_inverse=True)
    num_patients = int(patient_of.max()) + 1
    rng = np.random.default_rng(seed)
    for start in range(0, num_resamples, _RESAMPLES_AT_ONCE):
        num_draws = min(_RESAMPLES_AT_ONCE, num_resamples - start)
        times_drawn = rng.multinomial(num_patients, np.full(num_patients, 1 / num_patients), size=num_draws)
        yield times_drawn[:, patient_of].astype(np.float64)


def draw_all_but_one(patients: np.ndarray) -> Iterator[Floats]:
    """Weights float (R, N), at most 100 at once: 0 for the slices of one patient and 1 for all others, each in turn."""
    _, patient_of = np.unique(patients, return_inverse=True)
    num_patients = int(patient_of.max()) + 1
    for start in range(0, num_patients, _RESAMPLES_AT_ONCE):
        left_out = np.arange(start, min(start + _RESAMPLES_AT_ONCE, num_patients))
        yield (patient_of != left_out[:, None]).astype(np.float64)


def score_each(score: Callable[[Floats], dict[str, Floats]], weights: Iterable[Floats]) -> dict[str, Floats]:
    """Values float (R,) of the metrics that `score` gives for weights (R, N), from all chunks of `weights`."""
    chunks = [score(each) for each in weights]
    return {name: np.concatenate([chunk[name] for chunk in chunks]) for name in chunks[0]}
