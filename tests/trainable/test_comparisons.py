from __future__ import annotations

import numpy as np
import pytest
from scipy import stats

from tests.trainable.patient_sets import draw_set
from trainable.clustered import auc_covariance
from trainable.comparisons import compare, compare_aucs, describe_detectable, detectable_difference


def draw_pair(
    rng: np.random.Generator, num_patients: int, first: float, second: float, slices: int = 3
) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """Truth, two models' scores with these AUCs and half of their noise in common, patients."""
    is_positive, common, patients = draw_set(rng, num_patients, auc=0.5, slices=slices)
    scores = []
    for auc in (first, second):
        own = rng.normal(size=num_patients)[patients] * np.sqrt(0.4) + rng.normal(size=len(patients)) * np.sqrt(0.6)
        scores.append((common + own) / np.sqrt(2) + np.sqrt(2) * stats.norm.ppf(auc) * is_positive)
    return is_positive, scores[0], scores[1], patients


def in_two_classes(scores: np.ndarray) -> np.ndarray:
    positive = 1 / (1 + np.exp(-scores))
    return np.stack([1 - positive, positive], axis=1)


def test_a_better_model_is_better_and_the_other_way_round() -> None:
    given = draw_pair(np.random.default_rng(0), 200, 0.9, 0.75)
    forth, back = compare_aucs(*given), compare_aucs(given[0], given[2], given[1], given[3])
    assert forth.is_better
    assert forth.is_told_apart
    assert not back.is_better
    assert back.difference == pytest.approx(-forth.difference)
    assert back.probability_better == pytest.approx(1 - forth.probability_better)
    assert back.interval.low == pytest.approx(-forth.interval.high)


def test_delong_and_the_paired_bootstrap_agree_for_many_patients() -> None:
    is_positive, first, second, patients = draw_pair(np.random.default_rng(1), 400, 0.85, 0.83)
    by_formula = compare_aucs(is_positive, first, second, patients)
    aucs, covariance = auc_covariance(is_positive, [first, second], patients)
    error = np.sqrt(covariance[0, 0] + covariance[1, 1] - 2 * covariance[0, 1])
    assert by_formula.difference == pytest.approx(aucs[0] - aucs[1])
    assert by_formula.interval.width == pytest.approx(2 * 1.97 * error, rel=0.1)
    labels = is_positive.astype(int)
    resampled = compare("accuracy", labels, in_two_classes(first - 1), in_two_classes(second - 1), patients, 1)
    assert resampled.interval.method == "bootstrap"
    assert resampled.interval.low < resampled.difference < resampled.interval.high


def test_the_interval_of_a_difference_holds_and_equal_models_are_rarely_told_apart() -> None:
    rng = np.random.default_rng(2)
    different = [compare_aucs(*draw_pair(rng, 40, 0.9, 0.82)) for _ in range(250)]
    assert np.mean([0.08 in each.interval for each in different]) > 0.91
    equal = [compare_aucs(*draw_pair(rng, 40, 0.9, 0.9)) for _ in range(250)]
    assert np.mean([each.is_told_apart for each in equal]) < 0.09
    assert 0.4 < np.mean([each.probability_better for each in equal]) < 0.6


def test_two_perfect_models_are_not_told_apart_and_their_difference_is_not_certain() -> None:
    is_positive, scores, patients = draw_set(np.random.default_rng(3), 20)
    found = compare_aucs(is_positive, is_positive + 0.0, is_positive + 0.1 * np.tanh(scores), patients)
    assert found.difference == 0
    assert found.probability_better == 0.5
    assert found.interval.low < -0.02 < 0.02 < found.interval.high
    assert compare_aucs(is_positive, scores, scores, patients).interval.width == 0  # the same model is the same


def test_a_metric_that_should_be_low_is_turned_round() -> None:
    is_positive, good, bad, patients = draw_pair(np.random.default_rng(4), 150, 0.95, 0.7)
    given = (is_positive.astype(int), in_two_classes(2 * good - 2), in_two_classes(2 * bad - 1), patients, 1)
    for metric in ("loss", "brier", "f1", "average_precision", "balanced_accuracy"):
        found = compare(metric, *given, num_resamples=200)
        assert found.difference > 0
        assert found.probability_better > 0.99
    assert "better with probability" in found.describe()


def test_what_cannot_be_compared_is_refused() -> None:
    is_positive, first, second, patients = draw_pair(np.random.default_rng(5), 20, 0.9, 0.8)
    with pytest.raises(ValueError, match="of one class only"):
        compare_aucs(np.full(len(first), True), first, second, patients)
    given = (in_two_classes(first), in_two_classes(second), patients, 1)
    with pytest.raises(ValueError, match="'auroc'; it must be one of"):
        compare("auroc", is_positive.astype(int), *given)
    with pytest.raises(ValueError, match="sensitivity is undefined"):
        compare("sensitivity", np.zeros(len(first), int), *given)


def test_models_that_differ_as_much_as_can_be_detected_are_told_apart_four_times_in_five() -> None:
    rng = np.random.default_rng(6)
    errors = [
        auc_covariance(y, [s], p)[1][0, 0] ** 0.5 for y, s, p in (draw_set(rng, 95, slices=3) for _ in range(100))
    ]
    difference = detectable_difference(float(np.mean(errors)), 95)
    found = [compare_aucs(*draw_pair(rng, 95, 0.85 + difference / 2, 0.85 - difference / 2)) for _ in range(250)]
    assert 0.7 < np.mean([each.is_told_apart for each in found]) < 0.9


def test_a_detectable_difference_is_a_sentence() -> None:
    # z: (1.96 + 0.84) standard errors of the difference (Hanley and McNeil 1983)
    assert detectable_difference(0.03, 10**6) == pytest.approx(2.8016 * 0.03, rel=1e-3)
    assert detectable_difference(0.03, 10**6, correlation=0.0) == pytest.approx(2.8016 * 0.03 * np.sqrt(2), rel=1e-3)
    assert detectable_difference(0.03, 5) > detectable_difference(0.03, 95)
    sentence = "with 95 patients, two models must differ by 6 points to be told apart"
    assert describe_detectable(0.061, 95) == sentence
    with pytest.raises(ValueError, match="there must be two patients"):
        detectable_difference(0.03, 1)
