from __future__ import annotations

import numpy as np
import pytest
from sklearn import metrics as reference

from trainable.metrics import bootstrap_intervals, confusion_matrix, score


def draw(num: int, num_classes: int, seed: int = 0, decimals: int = 2) -> tuple[np.ndarray, np.ndarray]:
    """Labels and somewhat right probabilities; rounded, so that scores tie."""
    rng = np.random.default_rng(seed)
    labels = rng.integers(0, num_classes, num)
    logits = rng.normal(size=(num, num_classes)) + 1.2 * np.eye(num_classes)[labels]
    probabilities = np.exp(logits) / np.exp(logits).sum(axis=1, keepdims=True)
    return labels, np.round(probabilities, decimals)


@pytest.mark.parametrize("positive", [0, 1])
def test_two_classes_agree_with_sklearn(positive: int) -> None:
    labels, probabilities = draw(203, 2)
    truth, called = labels == positive, probabilities.argmax(axis=1) == positive
    expected = {
        "auc": reference.roc_auc_score(truth, probabilities[:, positive]),
        "accuracy": reference.accuracy_score(truth, called),
        "sensitivity": reference.recall_score(truth, called),
        "specificity": reference.recall_score(~truth, ~called),
        "precision": reference.precision_score(truth, called),
        "f1": reference.f1_score(truth, called),
    }
    assert score(labels, probabilities, positive) == pytest.approx(expected)


def test_more_classes_are_the_mean_over_one_versus_rest() -> None:
    labels, probabilities = draw(300, 4, decimals=9)
    probabilities /= probabilities.sum(axis=1, keepdims=True)
    called = probabilities.argmax(axis=1)
    scores = score(labels, probabilities, 0)
    assert scores["auc"] == pytest.approx(reference.roc_auc_score(labels, probabilities, multi_class="ovr"))
    assert scores["f1"] == pytest.approx(reference.f1_score(labels, called, average="macro"))
    assert scores["sensitivity_2"] == pytest.approx(reference.recall_score(labels == 2, called == 2))
    assert scores["specificity_3"] == pytest.approx(reference.recall_score(labels != 3, called != 3))
    assert scores["specificity"] == pytest.approx(np.mean([scores[f"specificity_{c}"] for c in range(4)]))


def test_no_positive_call_makes_precision_zero() -> None:
    scores = score(np.array([0, 1, 1]), np.array([[0.9, 0.1], [0.8, 0.2], [0.7, 0.3]]), 1)
    assert (scores["precision"], scores["f1"], scores["auc"]) == (0.0, 0.0, 1.0)


def test_what_is_undefined_is_nan() -> None:
    scores = score(np.array([0, 0]), np.array([[0.9, 0.1], [0.2, 0.8]]), 1)
    assert np.isnan(scores["auc"])
    assert np.isnan(scores["sensitivity"])
    assert scores["specificity"] == 0.5


def test_arrays_that_do_not_belong_together_are_refused() -> None:
    with pytest.raises(ValueError, match=r"\(3,\) and probabilities \(2, 2\)"):
        score(np.zeros(3, int), np.zeros((2, 2)), 1)
    with pytest.raises(ValueError, match="1 or more"):
        score(np.zeros(0, int), np.zeros((0, 2)), 1)


def test_the_confusion_matrix_has_the_truth_in_rows() -> None:
    labels, probabilities = draw(100, 3)
    expected = reference.confusion_matrix(labels, probabilities.argmax(axis=1))
    assert np.array_equal(confusion_matrix(labels, probabilities), expected)


def test_intervals_are_those_of_resampling_groups_one_by_one() -> None:
    labels, probabilities = draw(60, 2)
    groups = np.arange(60) // 3
    intervals = bootstrap_intervals(labels, probabilities, groups, 1, num_resamples=250, seed=5)
    rng = np.random.default_rng(5)
    aucs = []
    for start in range(0, 250, 100):
        draws = rng.multinomial(20, np.full(20, 1 / 20), size=min(100, 250 - start))
        for times in draws:
            rows = np.concatenate([np.tile(np.flatnonzero(groups == g), n) for g, n in enumerate(times)])
            rows = rows.astype(int)
            aucs.append(reference.roc_auc_score(labels[rows], probabilities[rows, 1]))
    assert intervals["auc"] == pytest.approx(tuple(np.quantile(aucs, [0.025, 0.975])))


def test_intervals_hold_the_score_and_widen_with_the_level() -> None:
    labels, probabilities = draw(200, 2)
    groups = np.arange(200) // 2 + 1000
    narrow = bootstrap_intervals(labels, probabilities, groups, 1, num_resamples=300, level=0.8)
    wide = bootstrap_intervals(labels, probabilities, groups, 1, num_resamples=300, level=0.99)
    for name, value in score(labels, probabilities, 1).items():
        assert wide[name][0] <= narrow[name][0] <= value <= narrow[name][1] <= wide[name][1]


def test_groups_that_agree_with_themselves_widen_the_interval() -> None:
    labels, probabilities = draw(40, 2)
    labels, probabilities = labels.repeat(10), probabilities.repeat(10, axis=0)
    slices = bootstrap_intervals(labels, probabilities, np.arange(400), 1, num_resamples=300)["auc"]
    patients = bootstrap_intervals(labels, probabilities, np.arange(400) // 10, 1, num_resamples=300)["auc"]
    assert patients[1] - patients[0] > 2 * (slices[1] - slices[0])


def test_resamples_of_one_class_are_left_out() -> None:
    labels, probabilities = np.array([0, 1]), np.array([[0.9, 0.1], [0.1, 0.9]])
    intervals = bootstrap_intervals(labels, probabilities, np.arange(2), 1, num_resamples=50)
    assert intervals["auc"] == (1.0, 1.0)
    one_class = bootstrap_intervals(np.zeros(2, int), probabilities, np.arange(2), 1, num_resamples=50)
    assert np.isnan(one_class["auc"]).all()


def draw_patients(num_patients: int, seed: int, slices_each: int = 4) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Labels, probabilities and groups where half of a score's variance is the patient's."""
    rng = np.random.default_rng(seed)
    groups = np.repeat(np.arange(num_patients), slices_each)
    labels = rng.integers(0, 2, num_patients)[groups]
    logits = 1.2 * labels + rng.normal(size=num_patients)[groups] * 0.7 + rng.normal(size=len(groups)) * 0.7
    positive = 1 / (1 + np.exp(0.6 - logits))
    return labels, np.stack([1 - positive, positive], axis=1), groups
