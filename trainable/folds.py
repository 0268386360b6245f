"""Folds of patients, to fit on some and judge on the others."""

from __future__ import annotations

import numpy as np


def count_folds(labels: np.ndarray, patients: np.ndarray) -> int:
    """The most folds that `split_patients` can make: the patients of the class that has the fewest."""
    return min(len(np.unique(patients[labels == each])) for each in np.unique(labels))


def split_patients(labels: np.ndarray, patients: np.ndarray, num_folds: int = 5) -> list[np.ndarray]:
    """Which rows bool (N,) are of each fold: whole patients, balanced by class, the same at every call.

    Fewer folds where a class has fewer patients, so that each fold's others have all classes; none where a class has
    one patient. `labels` is int (N,), `patients` (N,).
    """
    from sklearn.model_selection import StratifiedGroupKFold  # a second; a driver imports this module

    _, patient_of = np.unique(patients, return_inverse=True)
    num_folds = min(num_folds, count_folds(labels, patient_of))
    if num_folds < 2:
        return []
    folds = StratifiedGroupKFold(n_splits=num_folds)
    found = []
    for _, held_out in folds.split(np.zeros(len(labels)), labels, patient_of):
        rows = np.full(len(labels), False)
        rows[held_out] = True
        if rows.any():
            found.append(rows)
    return found
