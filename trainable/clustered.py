"""Sampling variance of a metric whose slices come in patients, and how many independent slices they are worth."""

from __future__ import annotations

from typing import TYPE_CHECKING, TypeAlias

import numpy as np
import numpy.typing as npt

if TYPE_CHECKING:
    from collections.abc import Sequence

Floats: TypeAlias = npt.NDArray[np.float64]


def auc_placements(is_positive: np.ndarray, scores: np.ndarray) -> tuple[float, Floats]:
    """The AUC and each slice's placement float (N,): the share of the other class that it is on the right side of.

    `is_positive` is bool (N,) with both classes, `scores` float (N,). Ties count half. The AUC is the mean placement
    of the positives, and of the negatives (DeLong, DeLong and Clarke-Pearson, Biometrics 44:837, 1988).
    """
    positives, negatives = np.sort(scores[is_positive]), np.sort(scores[~is_positive])
    placements = np.empty(len(scores))
    placements[is_positive] = _share_below(negatives, scores[is_positive])
    placements[~is_positive] = 1 - _share_below(positives, scores[~is_positive])
    return float(placements[is_positive].mean()), placements


def auc_covariance(
    is_positive: np.ndarray, scores: Sequence[np.ndarray], patients: np.ndarray
) -> tuple[Floats, Floats]:
    """AUCs float (M,) of M models' `scores` float (N,) on the same slices, and their covariance (M, M).

    DeLong's covariance with sums over patients in the place of single slices: Obuchowski, "Nonparametric analysis of
    clustered ROC curve data", Biometrics 53:567, 1997. A patient may have slices of both classes. NaN where a class
    is of one patient only: nothing tells then how patients differ.
    """
    _, patient_of = np.unique(patients, return_inverse=True)
    placed = [auc_placements(is_positive, each) for each in scores]
    aucs = np.array([auc for auc, _ in placed])
    deviations = np.stack([placements - auc for auc, placements in placed])
    of_positives, num_with_positives = _sum_by_patient(deviations, patient_of, is_positive)
    of_negatives, num_with_negatives = _sum_by_patient(deviations, patient_of, ~is_positive)
    cross = of_positives @ of_negatives.T * _unbiased(patient_of.max() + 1)
    covariance = (
        of_positives @ of_positives.T * _unbiased(num_with_positives)
        + of_negatives @ of_negatives.T * _unbiased(num_with_negatives)
        + cross
        + cross.T
    )
    return aucs, covariance


def auc_influences(is_positive: np.ndarray, scores: np.ndarray, patients: np.ndarray) -> Floats:
    """How far each patient moves the AUC from what it is: float (P,) with the sum 0, in the order of `np.unique`."""
    _, patient_of = np.unique(patients, return_inverse=True)
    auc, placements = auc_placements(is_positive, scores)
    deviations = (placements - auc)[None]
    of_positives, _ = _sum_by_patient(deviations, patient_of, is_positive)
    of_negatives, _ = _sum_by_patient(deviations, patient_of, ~is_positive)
    return (of_positives + of_negatives)[0]


def mean_influences(values: np.ndarray, patients: np.ndarray, rows: np.ndarray) -> Floats:
    """How far each patient moves the mean of `values` float (N,) over `rows` bool (N,): float (P,) with the sum 0."""
    _, patient_of = np.unique(patients, return_inverse=True)
    return _sum_by_patient((values - values[rows].mean())[None], patient_of, rows)[0][0]


def mean_variance(values: np.ndarray, patients: np.ndarray) -> float:
    """Variance of the mean of `values` float (N,), as a ratio over patients: sum of values by number of slices.

    Cochran, Sampling Techniques (1977), 6.3; for shares Obuchowski, Statistics in Medicine 17:1495, 1998. NaN for one
    patient.
    """
    influences = mean_influences(values, patients, np.full(len(values), True))
    return float((influences**2).sum() * _unbiased(len(influences)))


def count_patients(patients: np.ndarray) -> tuple[int, float]:
    """How many patients there are, and how many of equal size they are worth: (sum m)^2 / sum m^2 (Kish 1965)."""
    sizes = np.unique(patients, return_counts=True)[1].astype(float)
    return len(sizes), float(sizes.sum() ** 2 / (sizes**2).sum())


def effective_number(independent: float, clustered: float, patients: np.ndarray) -> float:
    """How many independent slices the slices of these patients are worth.

    `independent` is the variance that the metric had if all slices were independent, `clustered` the one it has
    (Obuchowski 1997). Kept between the number of patients (`count_patients`), where all slices of a patient
    agree, and the number of slices; the former where the variance is zero or unknown.
    """
    least = count_patients(patients)[1]
    if not clustered > 1e-18:  # what rounding leaves of zero
        return least
    return float(np.clip(len(patients) * independent / clustered, least, len(patients)))


def effective_number_of_share(is_right: np.ndarray, patients: np.ndarray) -> float:
    """How many independent slices a share of `is_right` bool (N,) rests on: the fewer by two ways.

    By the variance over patients (`mean_variance`), which says too much where patients are few or unequally large; and
    by the correlation within patients, each slice counting once (Ridout, Demetrio and Firth, Biometrics 55:137, 1999),
    at the patients' sizes (Kish 1965), for what the share's own error takes from both its parts.
    """
    num_slices, share = len(is_right), float(np.mean(is_right))
    by_variance = effective_number(share * (1 - share) / num_slices, mean_variance(is_right, patients), patients)
    spread = share * (1 - share)
    if spread == 0:
        return by_variance
    _, patient_of, sizes = np.unique(patients, return_inverse=True, return_counts=True)
    sums = np.bincount(patient_of, is_right - share)
    squares = np.bincount(patient_of, (is_right - share) ** 2)
    several = sizes > 1
    pairs = ((sums**2 - squares)[several] / (sizes[several] - 1)).sum() / max(int(sizes[several].sum()), 1)
    mean_size = float((sizes**2).sum()) / num_slices

    def count(correlation: float) -> float:
        return num_slices / (1 + (mean_size - 1) * float(np.clip(correlation, 0, 1)))

    error = spread / count(pairs / spread)
    return min(by_variance, count((pairs + error) / (spread + error)))


def _share_below(ordered: Floats, values: Floats) -> Floats:
    return (np.searchsorted(ordered, values, "left") + np.searchsorted(ordered, values, "right")) / (2 * len(ordered))


def _sum_by_patient(deviations: Floats, patient_of: np.ndarray, rows: np.ndarray) -> tuple[Floats, int]:
    """Sums (M, P) over each patient's `rows`, by the number of rows, and how many patients have one."""
    num_patients = int(patient_of.max()) + 1
    sums = np.stack([np.bincount(patient_of[rows], each[rows], num_patients) for each in deviations])
    return sums / rows.sum(), int((np.bincount(patient_of[rows], minlength=num_patients) > 0).sum())


def _unbiased(num_patients: int) -> float:
    return num_patients / (num_patients - 1) if num_patients > 1 else float("nan")
