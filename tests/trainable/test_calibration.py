from __future__ import annotations

import numpy as np
import pytest
from sklearn.isotonic import IsotonicRegression

from tests.trainable.patient_sets import draw_set, to_probabilities
from trainable.calibration import (
    UNCALIBRATED,
    IsotonicCalibration,
    TemperatureScaling,
    cross_fit,
    fit_calibration,
    fit_isotonic,
    fit_temperature,
    log_loss,
)
from trainable.folds import split_patients
from trainable.probability_metrics import calibration_error


def draw(num_patients: int, temperature: float, seed: int = 0) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    is_positive, scores, patients = draw_set(np.random.default_rng(seed), num_patients, correlation=0.2)
    return is_positive.astype(int), to_probabilities(scores, temperature=temperature), patients


def test_a_temperature_undoes_too_much_sureness() -> None:
    labels, probabilities, _ = draw(2000, 1 / 3)
    assert fit_temperature(labels, probabilities).temperature == pytest.approx(3, rel=0.1)


def test_a_temperature_keeps_order_and_sum_of_any_number_of_classes() -> None:
    probabilities = np.random.default_rng(0).dirichlet([1, 1, 1, 1], 50)
    found = TemperatureScaling(temperature=2.5).apply(probabilities)
    assert np.array_equal(found.argsort(axis=1), probabilities.argsort(axis=1))
    assert found.sum(axis=1) == pytest.approx(1)
    logits = np.log(probabilities) / 2.5
    assert found == pytest.approx(np.exp(logits) / np.exp(logits).sum(axis=1, keepdims=True))
    assert np.array_equal(UNCALIBRATED.apply(probabilities), probabilities)
    assert np.isfinite(TemperatureScaling(temperature=0.1).apply(np.array([[0.0, 1.0]]))).all()


def test_isotonic_calibration_is_sklearns_and_never_certain() -> None:
    labels, probabilities, _ = draw(100, 0.4)
    found = fit_isotonic(labels, probabilities).apply(probabilities)
    expected = IsotonicRegression(out_of_bounds="clip").fit_transform(probabilities[:, 1], labels)
    margin = 1 / (len(labels) + 2)
    assert found[:, 1] == pytest.approx(np.clip(expected, margin, 1 - margin), abs=1e-9)
    assert found.min() > 0


def test_isotonic_calibration_of_three_classes_sums_to_one() -> None:
    rng = np.random.default_rng(1)
    labels, probabilities = rng.integers(0, 3, 90), rng.dirichlet([1, 1, 1], 90)
    found = fit_isotonic(labels, probabilities).apply(probabilities)
    assert found.shape == (90, 3)
    assert found.sum(axis=1) == pytest.approx(1)
    with pytest.raises(ValueError, match="of 2 classes; this calibration is for 3"):
        fit_isotonic(labels, probabilities).apply(probabilities[:, :2])


def test_what_is_no_calibration_is_refused() -> None:
    with pytest.raises(ValueError, match="must be above 0"):
        TemperatureScaling(temperature=0)
    with pytest.raises(ValueError, match="must be pairs"):
        IsotonicCalibration(inputs=((0.1, 0.2),), outputs=((0.1,),))


def test_what_needs_no_calibration_gets_none_or_hardly_any() -> None:
    calibration, losses = fit_calibration(*draw(150, 1.0))
    assert isinstance(calibration, TemperatureScaling)
    assert calibration.temperature == pytest.approx(1, abs=0.3)
    assert set(losses) == {"none", "temperature", "isotonic"}


def test_a_temperature_is_chosen_where_a_temperature_is_wrong_and_new_patients_gain() -> None:
    calibration, losses = fit_calibration(*draw(150, 1 / 3))
    assert isinstance(calibration, TemperatureScaling)
    assert losses["temperature"] < losses["none"]
    labels, probabilities, _ = draw(400, 1 / 3, seed=9)
    one_of_each = np.ones((1, len(labels)))
    before, after = (
        calibration_error(labels == 1, p[:, 1], one_of_each)[0]
        for p in (probabilities, calibration.apply(probabilities))
    )
    assert after < before / 2


def test_a_line_is_chosen_where_no_temperature_helps() -> None:
    labels, probabilities, patients = draw(800, 1.0)
    bent = np.where(probabilities[:, 1] > 0.5, 0.55, 0.1) + 0.3 * probabilities[:, 1]
    calibration, losses = fit_calibration(labels, np.stack([1 - bent, bent], axis=1), patients)
    assert isinstance(calibration, IsotonicCalibration)
    assert losses["isotonic"] < losses["temperature"] < losses["none"]


def test_no_patient_calibrates_itself() -> None:
    labels, probabilities, patients = draw(40, 0.3)
    calibrated = cross_fit(labels, probabilities, patients, "temperature")
    changed = labels.copy()
    changed[patients == 7] = 1 - changed[patients == 7]
    folds = split_patients(labels, patients)
    (own,) = (rows for rows in folds if rows[patients == 7].any())
    rest = fit_temperature(labels[~own], probabilities[~own])
    assert calibrated[patients == 7] == pytest.approx(rest.apply(probabilities[patients == 7]))


def test_folds_keep_patients_whole_and_hold_every_slice_once() -> None:
    labels, _, patients = draw(23, 1.0)
    folds = split_patients(labels, patients, 5)
    assert np.array_equal(np.sum(folds, axis=0), np.ones(len(labels)))
    for rows in folds:
        assert not set(patients[rows]) & set(patients[~rows])
        assert set(labels[~rows]) == {0, 1}
    assert [list(rows) for rows in split_patients(labels, patients, 5)] == [list(rows) for rows in folds]


def test_with_one_patient_of_a_class_nothing_is_fitted() -> None:
    calibration, _ = fit_calibration(np.array([0, 0, 1]), np.array([[0.9, 0.1]] * 3), np.array([1, 2, 3]))
    assert calibration == UNCALIBRATED


def test_log_loss_of_certainty_is_finite() -> None:
    assert log_loss(np.array([0]), np.array([[0.0, 1.0]])) == pytest.approx(-np.log(1e-7))
