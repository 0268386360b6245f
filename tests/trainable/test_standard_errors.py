from __future__ import annotations

import numpy as np
import pytest

from tests.trainable.patient_sets import draw_set, to_probabilities
from trainable.calibration import log_loss
from trainable.config import METRICS
from trainable.metrics import score
from trainable.standard_errors import standard_error


@pytest.mark.parametrize("metric", METRICS)
def test_it_is_the_spread_over_new_sets_of_patients(metric: str) -> None:
    rng = np.random.default_rng(0)
    values, errors = [], []
    for _ in range(250):
        is_positive, scores, patients = draw_set(rng, 60, correlation=0.6)
        labels, probabilities = is_positive.astype(int), to_probabilities(scores)
        value = log_loss(labels, probabilities) if metric == "loss" else score(labels, probabilities, 1)[metric]
        values.append(value)
        errors.append(standard_error(metric, labels, probabilities, patients))
    assert np.mean(errors) == pytest.approx(np.std(values), rel=0.2)


@pytest.mark.parametrize("metric", [name for name in METRICS if name != "loss"])
def test_a_perfect_value_has_an_error(metric: str) -> None:
    labels = np.repeat([0, 1], 20)
    assert standard_error(metric, labels, np.eye(2)[labels], np.arange(40) // 4) > 0.02


def test_more_classes_have_the_error_of_their_mean() -> None:
    rng = np.random.default_rng(1)
    labels = rng.integers(0, 3, 300)
    probabilities = rng.dirichlet([1, 1, 1], 300) * 0.5 + 0.5 * np.eye(3)[labels] * (rng.random((300, 1)) < 0.6)
    probabilities /= probabilities.sum(axis=1, keepdims=True)
    of_mean = standard_error("auc", labels, probabilities, np.arange(300))
    draws = [rng.integers(0, 300, 300) for _ in range(200)]
    resampled = [score(labels[rows], probabilities[rows], 0)["auc"] for rows in draws]
    assert of_mean == pytest.approx(np.std(resampled), rel=0.2)


def test_what_is_undefined_has_no_error() -> None:
    assert np.isnan(standard_error("auc", np.zeros(4, int), np.full((4, 2), 0.5), np.arange(4)))
    assert np.isnan(standard_error("loss", np.array([0, 1]), np.full((2, 2), 0.5), np.zeros(2)))
    with pytest.raises(ValueError, match="'auroc'; it must be one of loss, accuracy, auc"):
        standard_error("auroc", np.array([0, 1]), np.full((2, 2), 0.5), np.arange(2))


def test_a_class_that_is_absent_makes_the_macro_mean_undefined() -> None:
    probabilities = np.random.default_rng(0).dirichlet(np.ones(3), 30)
    assert np.isnan(standard_error("auc", np.arange(30) % 2, probabilities, np.arange(30) // 2))
