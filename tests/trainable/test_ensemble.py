from __future__ import annotations

import numpy as np
import pytest

from tests.trainable.patient_sets import draw_set
from trainable.calibration import log_loss
from trainable.ensemble import mean_probabilities, select_greedily, weigh_by_score
from trainable.metrics import score


def draw(num_patients: int, strengths: tuple[float, ...], seed: int = 0) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Predictions (M, N, 2) of models that see the truth so well, each with its own noise; labels; patients."""
    rng = np.random.default_rng(seed)
    is_positive, _, patients = draw_set(rng, num_patients, auc=0.5)
    logits = np.stack([strength * (2 * is_positive - 1) + rng.normal(size=len(patients)) for strength in strengths])
    positive = 1 / (1 + np.exp(-logits))
    return np.stack([1 - positive, positive], axis=2), is_positive.astype(int), patients


def test_who_is_behind_weighs_less_and_who_is_far_behind_nothing() -> None:
    alike = weigh_by_score([0.80, 0.80, 0.80, 0.80], 0.04)
    assert alike == pytest.approx([0.25] * 4)
    by_error = weigh_by_score([0.80, 0.84, 0.76, 0.50], 0.04)
    assert by_error[1] / by_error[0] == pytest.approx(np.e) and by_error[0] / by_error[2] == pytest.approx(np.e)
    assert by_error[3] == 0 and sum(by_error) == pytest.approx(1)
    assert weigh_by_score([-0.3, -0.9], 0.1)[1] == 0, "of a loss its negative"
    for unknown in (0.0, float("nan")):
        assert weigh_by_score([0.8, 0.5], unknown) == (0.5, 0.5)


def test_a_mean_is_plain_or_weighted() -> None:
    predictions, _, _ = draw(10, (0.5, 1.0, 0.2))
    assert mean_probabilities(predictions) == pytest.approx(predictions.mean(axis=0))
    weighted = mean_probabilities(predictions, (0.5, 0.5, 0.0))
    assert weighted == pytest.approx((predictions[0] + predictions[1]) / 2)


@pytest.mark.parametrize("metric", ["auc", "loss", "accuracy"])
def test_a_useless_candidate_is_left_out_and_the_mean_beats_the_best(metric: str) -> None:
    predictions, labels, patients = draw(100, (0.7, 0.0, 0.7, 0.65))
    found = select_greedily(predictions, labels, patients, 1, metric=metric)
    assert found.weights[1] < 0.15
    assert sum(found.weights) == pytest.approx(1)
    new, new_labels, _ = draw(300, (0.7, 0.0, 0.7, 0.65), seed=1)

    def judge(probabilities: np.ndarray) -> float:
        return -log_loss(new_labels, probabilities) if metric == "loss" else score(new_labels, probabilities, 1)[metric]

    assert judge(mean_probabilities(new, found.weights)) > max(judge(each) for each in new)


def test_its_own_value_flatters_and_the_honest_one_does_not() -> None:
    flattered, honest, true = [], [], []
    for seed in range(12):
        predictions, labels, patients = draw(24, (0.4,) * 15, seed=seed)
        found = select_greedily(predictions, labels, patients, 1, most_members=8)
        new, new_labels, _ = draw(200, (0.4,) * 15, seed=1000 + seed)
        flattered.append(found.value)
        honest.append(found.honest_value)
        true.append(score(new_labels, mean_probabilities(new, found.weights), 1)["auc"])
    assert np.mean(flattered) > np.mean(true)
    assert abs(np.mean(honest) - np.mean(true)) < abs(np.mean(flattered) - np.mean(true)) + 0.03


def test_one_clearly_best_candidate_is_taken_alone_and_the_first_of_equals() -> None:
    predictions, labels, patients = draw(60, (3.0, 0.0))
    found = select_greedily(predictions, labels, patients, 1)
    assert found.members == (0,)
    same = select_greedily(predictions[[0, 0, 0]], labels, patients, 1)
    assert same.members == (0,)
    assert same == select_greedily(predictions[[0, 0, 0]], labels, patients, 1)


def test_without_folds_there_is_an_ensemble_but_no_honest_value() -> None:
    predictions, labels, _ = draw(10, (0.7, 0.5))
    found = select_greedily(predictions, labels, labels, 1, most_members=3)  # each class is one patient
    assert sum(found.counts) == 3
    assert np.isnan(found.honest_value)


def test_arrays_that_do_not_belong_together_are_refused() -> None:
    predictions, labels, patients = draw(10, (0.7, 0.5))
    with pytest.raises(ValueError, match="must be \\(models, N, classes\\)"):
        select_greedily(predictions[0], labels, patients, 1)
    with pytest.raises(ValueError, match="'brier'; it must be loss or one of auc"):
        select_greedily(predictions, labels, patients, 1, metric="brier")
