from __future__ import annotations

import numpy as np
import pytest
from sklearn.metrics import roc_auc_score

from tests.trainable.patient_sets import draw_set
from trainable.clustered import (
    auc_covariance,
    auc_influences,
    auc_placements,
    count_patients,
    effective_number,
    effective_number_of_share,
    mean_influences,
    mean_variance,
)

RNG = 5


def leave_one_out(values: list[float]) -> float:
    """Tukey's variance of a metric from its values without each unit."""
    num = len(values)
    return (num - 1) / num * float(((np.array(values) - np.mean(values)) ** 2).sum())


def test_placements_average_to_the_auc_in_both_classes_with_ties() -> None:
    is_positive, scores, _ = draw_set(np.random.default_rng(RNG), 60)
    scores = np.round(scores, 1)
    auc, placements = auc_placements(is_positive, scores)
    assert auc == pytest.approx(roc_auc_score(is_positive, scores))
    assert placements[~is_positive].mean() == pytest.approx(auc)


def test_the_covariance_of_independent_slices_is_delongs() -> None:
    rng = np.random.default_rng(RNG)
    is_positive, first, _ = draw_set(rng, 50)
    second = first + rng.normal(size=len(first))
    _, covariance = auc_covariance(is_positive, [first, second], np.arange(len(first)))
    # DeLong et al. 1988, slice by slice: covariances of placements, by their number
    wins = [
        np.array([[(p > n) + (p == n) / 2 for n in s[~is_positive]] for p in s[is_positive]]) for s in (first, second)
    ]
    expected = np.cov([w.mean(axis=1) for w in wins]) / is_positive.sum()
    expected += np.cov([w.mean(axis=0) for w in wins]) / (~is_positive).sum()
    assert covariance == pytest.approx(expected)


def test_the_clustered_variance_is_near_that_of_leaving_out_patients() -> None:
    is_positive, scores, patients = draw_set(np.random.default_rng(RNG), 120, correlation=0.6)
    _, covariance = auc_covariance(is_positive, [scores], patients)
    without = [roc_auc_score(is_positive[patients != p], scores[patients != p]) for p in range(120)]
    assert covariance[0, 0] == pytest.approx(leave_one_out(without), rel=0.05)


def test_the_clustered_variance_is_that_of_new_sets_of_patients() -> None:
    rng = np.random.default_rng(RNG)
    aucs, variances = [], []
    for _ in range(400):
        is_positive, scores, patients = draw_set(rng, 60, correlation=0.7)
        (auc,), covariance = auc_covariance(is_positive, [scores], patients)
        aucs.append(auc)
        variances.append(covariance[0, 0])
    assert np.mean(variances) == pytest.approx(np.var(aucs), rel=0.15)


def test_patients_with_slices_of_both_classes_are_counted_in_both() -> None:
    rng = np.random.default_rng(RNG)
    patients = np.repeat(np.arange(80), 4)
    is_positive = rng.random(320) < 0.5
    scores = is_positive + rng.normal(size=80)[patients]
    _, covariance = auc_covariance(is_positive, [scores], patients)
    without = [roc_auc_score(is_positive[patients != p], scores[patients != p]) for p in range(80)]
    assert covariance[0, 0] == pytest.approx(leave_one_out(without), rel=0.05)


def test_influences_sum_to_nothing_and_give_the_variance() -> None:
    is_positive, scores, patients = draw_set(np.random.default_rng(RNG), 200)
    influences = auc_influences(is_positive, scores, patients)
    _, covariance = auc_covariance(is_positive, [scores], patients)
    assert influences.sum() == pytest.approx(0, abs=1e-12)
    assert (influences**2).sum() == pytest.approx(covariance[0, 0], rel=0.02)


def test_the_variance_of_a_mean_of_patients_of_one_slice_is_the_textbook_one() -> None:
    values = np.random.default_rng(RNG).random(30)
    assert mean_variance(values, np.arange(30)) == pytest.approx(values.var(ddof=1) / 30)
    assert np.isnan(mean_variance(values, np.zeros(30)))


def test_influences_of_a_mean_are_those_of_its_rows_alone() -> None:
    values, rows = np.array([1.0, 3.0, 100.0]), np.array([True, True, False])
    assert mean_influences(values, np.array([4, 7, 9]), rows) == pytest.approx([-0.5, 0.5, 0.0])


def test_patients_of_unequal_size_are_worth_fewer() -> None:
    assert count_patients(np.array([3, 3, 8, 8])) == (2, 2.0)
    assert count_patients(np.repeat([0, 1], [1, 3]))[1] == pytest.approx(16 / 10)


def test_an_effective_number_lies_between_patients_and_slices() -> None:
    patients = np.repeat(np.arange(10), 5)
    assert effective_number(0.01, 0.02, patients) == 25
    assert effective_number(0.01, 0.0001, patients) == 50
    assert effective_number(0.01, 1.0, patients) == 10
    assert effective_number(0.0, 0.0, patients) == 10
    assert effective_number(0.01, float("nan"), patients) == 10


def test_a_share_rests_on_patients_where_their_slices_agree_and_on_slices_where_they_do_not() -> None:
    rng = np.random.default_rng(RNG)
    patients = np.repeat(np.arange(300), rng.integers(1, 9, 300))
    as_one, each = rng.random(300)[patients] < 0.8, rng.random(len(patients)) < 0.8
    assert effective_number_of_share(as_one, patients) == pytest.approx(count_patients(patients)[1], rel=0.15)
    assert effective_number_of_share(each, patients) == pytest.approx(len(patients), rel=0.15)
    assert effective_number_of_share(np.full(len(patients), True), patients) == count_patients(patients)[1]
