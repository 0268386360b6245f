from __future__ import annotations

import numpy as np
import pytest
from sklearn import metrics as reference
from sklearn.linear_model import LogisticRegression

from tests.trainable.patient_sets import draw_set, to_probabilities
from trainable.probability_metrics import (
    average_precision,
    brier_score,
    calibration_error,
    calibration_line,
    net_benefit,
    score_probabilities,
    to_logit,
)


def draw(num_patients: int = 80, temperature: float = 0.5) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Truth, probabilities of the positive class, and whole weights (3, N)."""
    rng = np.random.default_rng(0)
    is_positive, scores, _ = draw_set(rng, num_patients)
    probabilities = np.round(to_probabilities(scores, temperature=temperature)[:, 1], 2)
    return is_positive, probabilities, rng.integers(0, 3, (3, len(scores))).astype(float)


def test_weighted_metrics_agree_with_sklearn() -> None:
    is_positive, probabilities, weights = draw()
    for index, row in enumerate(weights):
        expected = reference.average_precision_score(is_positive, probabilities, sample_weight=row)
        assert average_precision(is_positive, probabilities, weights)[index] == pytest.approx(expected)
        expected = reference.brier_score_loss(is_positive, probabilities, sample_weight=row)
        assert brier_score(is_positive, probabilities, weights)[index] == pytest.approx(expected)


def test_the_calibration_line_is_a_logistic_regression_of_the_logit() -> None:
    is_positive, probabilities, weights = draw()
    slopes, intercepts = calibration_line(is_positive, probabilities, weights)
    logits = to_logit(probabilities)
    for index, row in enumerate(weights):
        fitted = LogisticRegression(C=1e9, tol=1e-10, max_iter=1000).fit(logits[:, None], is_positive, row)
        assert slopes[index] == pytest.approx(fitted.coef_[0, 0], rel=1e-3)
        # beside a slope of 1 the mean probability is the share of positives
        moved = 1 / (1 + np.exp(-(logits + intercepts[index])))
        assert row @ moved == pytest.approx(row @ is_positive)


def test_too_sure_a_model_has_a_slope_below_1() -> None:
    rng = np.random.default_rng(1)
    is_positive, scores, patients = draw_set(rng, 3000, correlation=0, slices=1)
    weights = np.ones((1, len(patients)))
    for temperature in (0.5, 1.0, 2.0):
        slope, _ = calibration_line(is_positive, to_probabilities(scores, temperature=temperature)[:, 1], weights)
        assert slope[0] == pytest.approx(temperature, rel=0.1)


def test_classes_that_do_not_overlap_have_no_slope() -> None:
    slope, _ = calibration_line(np.array([False, False, True]), np.array([0.1, 0.2, 0.9]), np.ones((1, 3)))
    assert np.isnan(slope[0])


def test_the_calibration_error_is_the_gap_of_each_bin_by_its_size() -> None:
    probabilities = np.repeat([0.1, 0.8], [10, 30])
    is_positive = np.arange(40) % 10 < np.repeat([3, 8], [10, 30])
    assert calibration_error(is_positive, probabilities, np.ones((1, 40)))[0] == pytest.approx(0.2 * 10 / 40)


def test_net_benefit_of_a_table_of_counts() -> None:
    # 1000 men, 200 with cancer; 150 of them and 250 of the others would be biopsied at a risk of 10 % (Vickers, Van
    # Calster and Steyerberg, BMJ 352:i6, 2016: true positives less false ones by 0.1 / 0.9, by all)
    is_positive = np.arange(1000) < 200
    probabilities = np.where(is_positive, np.arange(1000) < 150, np.arange(1000) < 450) * 0.5
    found = net_benefit(is_positive, probabilities, np.ones((1, 1000)), 0.1)
    assert found[0] == pytest.approx(150 / 1000 - 250 / 1000 / 9)


def test_more_classes_are_the_mean_over_one_versus_rest() -> None:
    rng = np.random.default_rng(2)
    labels = rng.integers(0, 3, 200)
    probabilities = rng.dirichlet([1, 1, 1], 200)
    found = score_probabilities(labels, probabilities, 0, np.ones((1, 200)))
    expected = reference.average_precision_score(np.eye(3)[labels], probabilities, average="macro")
    assert found["average_precision"][0] == pytest.approx(expected)
    assert found["loss"][0] == pytest.approx(reference.log_loss(labels, probabilities))
    assert set(found) == {"average_precision", "brier", "calibration_error", "loss"}


def test_only_what_is_asked_for_is_computed() -> None:
    found = score_probabilities(
        np.array([0, 1]), np.array([[0.9, 0.1], [0.2, 0.8]]), 1, np.ones((1, 2)), names=("brier",)
    )
    assert set(found) == {"brier"}
