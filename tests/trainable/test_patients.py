from __future__ import annotations

import json

import numpy as np
import pytest
from sklearn.metrics import roc_auc_score

from trainable.calibration import log_loss
from trainable.patients import choose_patient_rule, choose_verdict, label_patients, measure_patients
from trainable.verdicts import MEAN, MEAN_VERDICT, PatientRule, PatientVerdict

PATIENTS = np.array(["b", "a", "b", "b", "a"])
ILL = np.array([0.9, 0.2, 0.5, 0.1, 0.4])
PROBABILITIES = np.stack([1 - ILL, ILL], axis=1)


@pytest.mark.parametrize(
    ("rule", "of_a", "of_b"),
    [
        (MEAN, 0.3, 0.5),
        (PatientRule(name="top_k_mean", k=2), 0.3, 0.7),
        (PatientRule(name="top_k_mean", k=1), 0.4, 0.9),
        (PatientRule(name="top_k_mean", k=9), 0.3, 0.5),
        (PatientRule(name="noisy_or"), 1 - 0.8 * 0.6, 1 - 0.1 * 0.5 * 0.9),
    ],
)
@pytest.mark.parametrize("positive", [0, 1])
def test_slices_become_one_probability_a_patient(rule: PatientRule, of_a: float, of_b: float, positive: int) -> None:
    given = PROBABILITIES if positive == 1 else PROBABILITIES[:, ::-1]
    names, found = rule.apply(given, PATIENTS, positive)
    assert list(names) == ["a", "b"]
    assert found[:, positive] == pytest.approx([of_a, of_b])
    assert found.sum(axis=1) == pytest.approx(1)


def test_the_mean_is_for_any_number_of_classes_and_the_others_are_not() -> None:
    probabilities = np.random.default_rng(0).dirichlet([1, 1, 1], 5)
    _, found = MEAN.apply(probabilities, PATIENTS, 0)
    assert found[0] == pytest.approx(probabilities[[1, 4]].mean(axis=0))
    with pytest.raises(ValueError, match="noisy_or is for two classes; there are 3"):
        PatientRule(name="noisy_or").apply(probabilities, PATIENTS, 0)


def test_many_certain_slices_stay_finite() -> None:
    _, found = PatientRule(name="noisy_or").apply(np.tile([0.0, 1.0], (500, 1)), np.zeros(500), 1)
    assert found[0] == pytest.approx([0, 1])


def test_a_patient_is_positive_where_any_slice_is() -> None:
    labels = np.array([1, 0, 0, 0, 0])
    assert list(label_patients(labels, PATIENTS, 1, 2)) == [0, 1]
    assert list(label_patients(1 - labels, PATIENTS, 0, 2)) == [1, 0]
    assert list(label_patients(np.array([2, 1, 2, 2, 1]), PATIENTS, 0, 3)) == [1, 2]
    with pytest.raises(ValueError, match="1 patients have slices of several of 3 classes"):
        label_patients(np.array([2, 1, 0, 2, 1]), PATIENTS, 0, 3)


def draw(rng: np.random.Generator, num_patients: int, share_ill: float) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Labels of patients on all their slices; of an ill one only `share_ill` of the slices show it."""
    patients = np.repeat(np.arange(num_patients), 15)
    labels = (np.arange(num_patients) % 2)[patients]
    shows = labels * (rng.random(len(patients)) < share_ill)
    ill = 1 / (1 + np.exp(-(rng.normal(size=len(patients)) + 3.5 * shows - 2)))
    return labels, np.stack([1 - ill, ill], axis=1), patients


def test_where_few_slices_show_it_the_mean_is_left_and_new_patients_gain() -> None:
    rng = np.random.default_rng(1)
    rule = choose_patient_rule(*draw(rng, 150, 0.15), positive=1)
    assert rule.name != "mean"
    labels, probabilities, patients = draw(rng, 400, 0.15)
    truth = label_patients(labels, patients, 1, 2)
    aucs = [roc_auc_score(truth, each.apply(probabilities, patients, 1)[1][:, 1]) for each in (rule, MEAN)]
    assert aucs[0] > aucs[1] + 0.02


def test_where_all_slices_show_it_or_patients_are_few_the_mean_stays() -> None:
    rng = np.random.default_rng(2)
    assert choose_patient_rule(*draw(rng, 150, 1.0), positive=1) == MEAN
    assert choose_patient_rule(np.zeros(5, int), PROBABILITIES, PATIENTS, 1) == MEAN
    assert choose_patient_rule(np.array([2, 1, 2, 2, 1]), np.full((5, 3), 1 / 3), PATIENTS, 1) == MEAN


def test_a_rule_survives_a_file_and_a_bad_one_is_refused() -> None:
    rule = PatientRule(name="top_k_mean", k=5)
    assert PatientRule.from_dict(json.loads(json.dumps(rule.to_dict()))) == rule
    with pytest.raises(ValueError, match="'max'; it must be one of mean, top_k_mean, noisy_or"):
        PatientRule(name="max")
    with pytest.raises(ValueError, match="is 0; it must be 1 or more"):
        PatientRule(name="top_k_mean", k=0)


def test_patients_have_a_scorecard_of_their_own() -> None:
    labels, probabilities, patients = draw(np.random.default_rng(3), 80, 0.3)
    rule = PatientRule(name="top_k_mean", k=3)
    verdict = PatientVerdict(rule=rule)
    found = measure_patients(verdict, labels, probabilities, patients, 1, num_resamples=50)
    names, of_patients = rule.apply(probabilities, patients, 1)
    truth = label_patients(labels, patients, 1, 2)
    assert found["auc"].value == pytest.approx(roc_auc_score(truth, of_patients[:, 1]))
    assert found["accuracy"].value == np.mean(truth == of_patients.argmax(axis=1))
    assert found["accuracy"].interval.is_known
    verdict = PatientVerdict(rule=rule, temperature=2.0)
    cooled = measure_patients(verdict, labels, probabilities, patients, 1, num_resamples=50)
    assert cooled["auc"].value == pytest.approx(found["auc"].value)
    assert cooled["calibration_slope"].value == pytest.approx(2 * found["calibration_slope"].value, rel=1e-3)
    assert len(names) == 80


def test_a_rule_that_is_no_mean_is_calibrated_for_patients_and_travels_as_plain_data() -> None:
    labels, probabilities, patients = draw(np.random.default_rng(1), 150, 0.15)
    verdict = choose_verdict(labels, probabilities, patients, 1)
    assert verdict.rule == choose_patient_rule(labels, probabilities, patients, 1) != MEAN
    again = PatientVerdict.from_dict(json.loads(json.dumps(verdict.to_dict())))
    names, found = again.apply(probabilities, patients, 1)
    truth = label_patients(labels, patients, 1, 2)
    plain = verdict.rule.apply(probabilities, patients, 1)[1]
    assert log_loss(truth, found) <= log_loss(truth, plain)
    assert np.allclose(again.of_one(probabilities[patients == names[3]], 1), found[3])
    assert choose_verdict(*draw(np.random.default_rng(2), 150, 1.0), positive=1) == MEAN_VERDICT
