from __future__ import annotations

import math

import numpy as np
import pytest

from tests.trainable.patient_sets import draw_set, to_probabilities
from trainable.intervals import UNKNOWN
from trainable.metrics import score
from trainable.scorecard import Estimate, measure, weigh

IN_UNITS = ("auc", "accuracy", "sensitivity", "specificity", "precision", "f1", "balanced_accuracy")


def draw(num_patients: int = 40, seed: int = 0) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    is_positive, scores, patients = draw_set(np.random.default_rng(seed), num_patients)
    return is_positive.astype(int), to_probabilities(scores), patients


def draw_three(num_patients: int = 60) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    rng = np.random.default_rng(1)
    patients = np.arange(5 * num_patients) // 5
    labels = rng.integers(0, 3, num_patients)[patients]
    logits = rng.normal(size=(len(labels), 3)) + 1.3 * np.eye(3)[labels]
    return labels, np.exp(logits) / np.exp(logits).sum(axis=1, keepdims=True), patients


def test_values_are_those_of_the_metrics_and_lie_in_their_intervals() -> None:
    labels, probabilities, patients = draw()
    found = measure(labels, probabilities, patients, 1, num_resamples=200)
    for name, value in score(labels, probabilities, 1).items():
        assert found[name].value == pytest.approx(value)
    one_of_each = np.ones((1, len(labels)))
    for name, estimate in found.items():
        assert estimate.value in estimate.interval
        assert estimate.interval.width > 0
        assert weigh(name, labels, probabilities, 1, one_of_each)[0] == pytest.approx(estimate.value)


def test_each_interval_names_its_method() -> None:
    found = measure(*draw(), 1, num_resamples=100)
    methods = {name: estimate.interval.method for name, estimate in found.items()}
    assert methods["auc"] == "Newcombe"
    assert methods["sensitivity"] == methods["f1"] == methods["balanced_accuracy"] == "Wilson"
    assert methods["brier"] == methods["average_precision"] == methods["calibration_slope"] == "jackknife"
    assert methods["calibration_error"] == methods["net_benefit"] == "bootstrap"


def test_a_perfect_model_is_not_certain() -> None:
    labels, _, patients = draw(14)
    found = measure(labels, 0.98 * np.eye(2)[labels] + 0.01, patients, 1, num_resamples=100)
    for name in (*IN_UNITS, "average_precision"):
        assert found[name].value == 1
        assert found[name].interval.low < 0.98
        assert found[name].interval.high == 1
    assert found["brier"].interval.width > 0.02
    assert found["calibration_slope"].interval is UNKNOWN


def test_a_threshold_moves_what_is_called() -> None:
    labels, probabilities, patients = draw()
    low = measure(labels, probabilities, patients, 1, threshold=0.1, num_resamples=50)
    high = measure(labels, probabilities, patients, 1, threshold=0.9, num_resamples=50)
    assert low["sensitivity"].value > high["sensitivity"].value
    assert low["specificity"].value < high["specificity"].value
    assert low["auc"] == high["auc"]


def test_more_classes_have_macro_means_with_intervals() -> None:
    labels, probabilities, patients = draw_three()
    found = measure(labels, probabilities, patients, 0, num_resamples=50)
    for name, value in score(labels, probabilities, 0).items():
        assert found[name].value == pytest.approx(value)
        assert value in found[name].interval
    assert found["sensitivity"].interval.width < found["sensitivity_0"].interval.width


def test_intervals_of_macro_means_hold() -> None:
    rng = np.random.default_rng(2)
    true_auc = 0.8794  # of a million such slices
    held = []
    for _ in range(70):
        patients = np.repeat(np.arange(45), rng.geometric(0.3, 45))
        labels = (np.arange(45) % 3)[patients]
        logits = rng.normal(size=(45, 3))[patients] * 0.6 + rng.normal(size=(len(labels), 3)) * 0.8
        logits += 1.3 * np.eye(3)[labels]
        probabilities = np.exp(logits) / np.exp(logits).sum(axis=1, keepdims=True)
        held.append(true_auc in measure(labels, probabilities, patients, 0, num_resamples=2)["auc"].interval)
    assert np.mean(held) > 0.88


def test_a_class_without_slices_leaves_its_metrics_undefined() -> None:
    found = measure(np.zeros(6, int), np.full((6, 2), 0.5), np.arange(6), 1, num_resamples=20)
    assert math.isnan(found["auc"].value)
    assert str(found["auc"]) == "undefined"
    assert found["specificity"].interval.is_known


def test_an_estimate_reads_as_a_figure_with_its_interval() -> None:
    found = measure(*draw(), 1, num_resamples=20)["accuracy"]
    low, high = found.interval.low, found.interval.high
    assert str(found) == f"{found.value:.3f} ({low:.3f} to {high:.3f})"
    assert str(Estimate(value=0.5, interval=UNKNOWN)) == "0.500"


def test_what_does_not_belong_together_or_is_no_number_is_refused() -> None:
    labels, probabilities, patients = draw()
    with pytest.raises(ValueError, match="one for each of"):
        measure(labels, probabilities, patients[1:], 1)
    with pytest.raises(ValueError, match=r"1 of .* slices have a probability that is no number"):
        measure(labels, np.where(np.arange(len(labels))[:, None] == 3, np.nan, probabilities), patients, 1)
    with pytest.raises(ValueError, match="'auroc'; it must be one of"):
        weigh("auroc", labels, probabilities, 1, np.ones((1, len(labels))))
