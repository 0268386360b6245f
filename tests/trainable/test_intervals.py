from __future__ import annotations

import math

import numpy as np
import pytest
from scipy import stats

from tests.trainable.patient_sets import draw_set
from trainable.intervals import (
    UNKNOWN,
    Interval,
    auc_interval,
    bootstrap_interval,
    calibration_error_interval,
    jackknife_interval,
    mean_interval,
    newcombe_limits,
    newcombe_variance,
    share_interval,
    wilson_limits,
)


# Newcombe, Statistics in Medicine 17:857, 1998, table I, method 3
@pytest.mark.parametrize(
    ("right", "number", "low", "high"),
    [(81, 263, 0.2553, 0.3662), (15, 148, 0.0624, 0.1605), (0, 20, 0.0, 0.1611), (1, 29, 0.0061, 0.1718)],
)
def test_wilsons_limits_are_the_published_ones(right: int, number: int, low: float, high: float) -> None:
    assert wilson_limits(right / number, number) == pytest.approx((low, high), abs=5e-5)


@pytest.mark.parametrize(("right", "number"), [(0, 7), (3, 7), (95, 100), (100, 100)])
def test_wilsons_limits_are_scipys(right: int, number: int) -> None:
    expected = stats.binomtest(right, number).proportion_ci(0.9, method="wilson")
    assert wilson_limits(right / number, number, 0.9) == pytest.approx((expected.low, expected.high))


@pytest.mark.parametrize(("auc", "positives", "negatives"), [(0.5, 10, 10), (0.8, 7, 30), (0.99, 100, 4.5)])
def test_newcombes_limits_are_as_many_standard_errors_away_as_they_should_be(
    auc: float, positives: float, negatives: float
) -> None:
    low, high = newcombe_limits(auc, positives, negatives)
    for limit in (low, high):
        distance = abs(limit - auc) / math.sqrt(newcombe_variance(limit, positives, negatives))
        assert distance == pytest.approx(stats.norm.isf(0.025))
    assert low < auc < high


def test_newcombes_variance_is_hanley_and_mcneils_where_classes_are_equally_large() -> None:
    auc, num = 0.8, 25
    q1, q2 = auc / (2 - auc), 2 * auc**2 / (1 + auc)
    hanley_mcneil = (auc * (1 - auc) + (num - 1) * (q1 - auc**2 + q2 - auc**2)) / num**2
    assert newcombe_variance(auc, num, num) == pytest.approx(hanley_mcneil)


def test_newcombes_limits_mirror_those_of_the_other_class() -> None:
    low, high = newcombe_limits(0.83, 9, 20)
    assert newcombe_limits(0.17, 20, 9) == pytest.approx((1 - high, 1 - low))


@pytest.mark.parametrize("num_patients", [4, 14, 95])
def test_a_perfect_model_has_an_interval_with_a_width(num_patients: int) -> None:
    is_positive, _, patients = draw_set(np.random.default_rng(0), num_patients)
    perfect = auc_interval(is_positive, is_positive.astype(float), patients)
    right = share_interval(np.full(len(patients), True), patients)
    for interval in (perfect, right):
        assert interval.high == 1
        assert 0.2 / num_patients < interval.width < 1
    assert (perfect.method, right.method) == ("Newcombe", "Wilson")


def test_an_interval_is_wider_where_slices_of_a_patient_agree() -> None:
    rng = np.random.default_rng(1)
    is_positive, scores, patients = draw_set(rng, 40, slices=1)
    labels, values, groups = (np.repeat(each, 5) for each in (is_positive, scores, patients))
    once = auc_interval(is_positive, scores, patients)
    assert auc_interval(labels, values, groups).width == pytest.approx(once.width, rel=0.1)
    assert auc_interval(labels, values, np.arange(len(labels))).width < 0.6 * once.width


def test_an_auc_of_one_class_has_no_interval() -> None:
    assert auc_interval(np.full(4, True), np.arange(4.0), np.arange(4)) is UNKNOWN
    assert share_interval(np.zeros(0, bool), np.zeros(0)) is UNKNOWN
    assert not UNKNOWN.is_known


def test_one_patient_alone_still_has_an_interval_of_a_share() -> None:
    interval = share_interval(np.array([True, False, True]), np.zeros(3))
    assert interval.width > 0.9


@pytest.mark.parametrize(("num_patients", "auc"), [(14, 0.99), (30, 0.85), (95, 0.95)])
def test_intervals_of_an_auc_hold(num_patients: int, auc: float) -> None:
    rng = np.random.default_rng(2)
    held = [auc in auc_interval(*draw_set(rng, num_patients, auc=auc, correlation=0.5)) for _ in range(300)]
    assert np.mean(held) > 0.9


def test_intervals_of_a_share_hold_where_patients_are_right_or_wrong_as_a_whole() -> None:
    rng = np.random.default_rng(3)
    held = []
    for _ in range(400):
        patients = np.repeat(np.arange(20), rng.geometric(0.25, 20))
        is_right = (rng.random(20) < 0.9)[patients]
        held.append(0.9 in share_interval(is_right, patients))
    assert np.mean(held) > 0.9


# Newcombe, Statistics in Medicine 17:873, 1998, table II (a), method 10: 56/70 - 48/80
def test_the_interval_of_a_mean_is_the_published_one_of_a_difference() -> None:
    shares = (56 / 70, 1 - 48 / 80)  # a difference is twice the mean of the one and the other's complement, less 1
    limits = (wilson_limits(shares[0], 70), wilson_limits(shares[1], 80))
    found = mean_interval(shares, [Interval(low=low, high=high, method="Wilson") for low, high in limits])
    assert (2 * found.low - 1, 2 * found.high - 1) == pytest.approx((0.0524, 0.3339), abs=5e-5)


def test_parts_that_move_together_widen_the_interval_of_their_mean() -> None:
    parts = [Interval(low=0.7, high=0.9, method="Wilson")] * 2
    apart, together = (mean_interval((0.8, 0.8), parts, np.array([[1, r], [r, 1]])) for r in (0.0, 1.0))
    assert together.width == pytest.approx(0.2)
    assert apart.width == pytest.approx(0.2 / math.sqrt(2))


def test_a_bootstrap_is_wider_for_few_patients_than_its_percentiles() -> None:
    values = np.random.default_rng(4).normal(size=5000)
    few, many = bootstrap_interval(values, 10), bootstrap_interval(values, 10_000)
    assert (many.low, many.high) == pytest.approx((-1.96, 1.96), abs=0.1)
    assert few.high == pytest.approx(stats.t.isf(0.025, 9) * math.sqrt(10 / 9), abs=0.15)
    assert bootstrap_interval(np.ones(50), 10) is UNKNOWN
    assert bootstrap_interval(np.array([math.nan] * 30 + [1.0, 2.0]), 10) is UNKNOWN


def test_what_chance_adds_to_a_calibration_error_is_taken_away() -> None:
    rng = np.random.default_rng(5)
    true_gaps, noise = np.array([0.1, -0.05, 0.02, 0.0, 0.0]), 0.02
    held, without_gaps = 0, 0
    for _ in range(200):
        gaps = rng.normal(true_gaps, noise)
        held += np.abs(true_gaps).sum() in calibration_error_interval(gaps, rng.normal(gaps, noise, (300, 5)), 200)
        gaps = rng.normal(0, noise, 5)
        without_gaps += calibration_error_interval(gaps, rng.normal(gaps, noise, (300, 5)), 200).low == 0
    assert held > 170
    assert without_gaps > 180
    assert calibration_error_interval(np.zeros(3), np.zeros((50, 3)), 200) is UNKNOWN


def test_a_jackknife_of_a_mean_is_students_interval() -> None:
    values = np.random.default_rng(6).random(25)
    without = (values.sum() - values) / 24
    low, high = stats.t.interval(0.95, 24, loc=values.mean(), scale=values.std(ddof=1) / 5)
    found = jackknife_interval(float(values.mean()), without)
    assert (found.low, found.high) == pytest.approx((low, high))


def test_a_jackknife_on_a_scale_stays_within_it() -> None:
    without = np.array([0.9, 0.98, 0.97, 0.995])
    assert jackknife_interval(0.96, without, scale="logit").low > 0
    assert jackknife_interval(0.96, without, scale="logit").high < 1 < jackknife_interval(0.96, without).high
    assert jackknife_interval(1.0, np.array([1.0, 0.9]), scale="logit") is UNKNOWN
    assert jackknife_interval(0.5, np.array([0.5, math.nan])) is UNKNOWN
    assert jackknife_interval(0.5, np.full(4, 0.5)) is UNKNOWN
