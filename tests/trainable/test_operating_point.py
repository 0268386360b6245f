from __future__ import annotations

import json

import numpy as np
import pytest

from tests.trainable.patient_sets import draw_set, to_probabilities
from trainable.operating_point import OperatingPoint, choose_threshold


def draw(rng: np.random.Generator, num_patients: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    is_positive, scores, patients = draw_set(rng, num_patients)
    return is_positive, to_probabilities(scores)[:, 1], patients


@pytest.mark.parametrize("goal", ["min_sensitivity", "min_specificity"])
@pytest.mark.parametrize("num_patients", [30, 80])
def test_a_goal_holds_in_nine_of_ten_new_sets(goal: str, num_patients: int) -> None:
    rng = np.random.default_rng(1)
    held, held_by_share = [], []
    for _ in range(150):
        is_positive, probabilities, patients = draw(rng, num_patients)
        point = choose_threshold(
            is_positive,
            probabilities,
            patients,
            min_sensitivity=0.9 if goal == "min_sensitivity" else None,
            min_specificity=0.9 if goal == "min_specificity" else None,
            num_resamples=200,
        )
        rows = is_positive if goal == "min_sensitivity" else ~is_positive
        just = np.quantile(probabilities[rows], 0.1 if goal == "min_sensitivity" else 0.9)
        for _ in range(3):
            is_new_positive, new, _ = draw(rng, num_patients)
            right = (new >= point.threshold) == is_new_positive
            held.append(right[is_new_positive == is_positive[rows][0]].mean() >= 0.9)
            just_right = (new >= just) == is_new_positive
            held_by_share.append(just_right[is_new_positive == is_positive[rows][0]].mean() >= 0.9)
    assert 0.84 < np.mean(held) < 0.97
    assert np.mean(held_by_share) < 0.65  # the share of these slices alone holds in every second new set


def test_what_it_gives_here_is_said() -> None:
    is_positive, probabilities, patients = draw(np.random.default_rng(2), 60)
    point = choose_threshold(is_positive, probabilities, patients, min_sensitivity=0.9)
    assert point.rule == "sensitivity of at least 0.9"
    assert point.sensitivity == (probabilities >= point.threshold)[is_positive].mean() > 0.9
    assert point.specificity == (probabilities < point.threshold)[~is_positive].mean()
    assert point == choose_threshold(is_positive, probabilities, patients, min_sensitivity=0.9)
    assert OperatingPoint.from_dict(json.loads(json.dumps(point.to_dict()))) == point


def test_a_higher_goal_or_assurance_lowers_the_threshold() -> None:
    given = draw(np.random.default_rng(3), 60)
    chosen = choose_threshold(*given, min_sensitivity=0.9).threshold
    assert choose_threshold(*given, min_sensitivity=0.95).threshold < chosen
    assert choose_threshold(*given, min_sensitivity=0.9, assurance=0.99).threshold < chosen


def test_the_cheapest_threshold_is_near_that_of_true_probabilities() -> None:
    # of true probabilities it is 1 / (1 + ratio): Elkan, "The foundations of cost-sensitive learning", IJCAI 2001
    is_positive, probabilities, patients = draw(np.random.default_rng(4), 1500)
    for ratio in (1.0, 4.0):
        point = choose_threshold(is_positive, probabilities, patients, cost_ratio=ratio, num_resamples=200)
        assert point.threshold == pytest.approx(1 / (1 + ratio), abs=0.07)


def test_equal_probabilities_are_never_cut_apart() -> None:
    is_positive = np.array([False, False, True, True, False, True])
    probabilities = np.array([0.2, 0.2, 0.2, 0.8, 0.2, 0.8])
    point = choose_threshold(is_positive, probabilities, np.arange(6), cost_ratio=1, num_resamples=100)
    assert point.threshold != 0.2


def test_bad_goals_are_refused() -> None:
    given = draw(np.random.default_rng(5), 20)
    with pytest.raises(ValueError, match="goals of the threshold are none"):
        choose_threshold(*given)
    with pytest.raises(ValueError, match="are sensitivity, specificity; there must be one"):
        choose_threshold(*given, min_sensitivity=0.9, min_specificity=0.9)
    with pytest.raises(ValueError, match="sensitivity is 90; it must be between 0 and 1"):
        choose_threshold(*given, min_sensitivity=90)
    with pytest.raises(ValueError, match="cost ratio is -1; it must be above 0"):
        choose_threshold(*given, cost_ratio=-1)
    with pytest.raises(ValueError, match="fewer than two patients have positive slices"):
        choose_threshold(np.array([True, False, False]), np.full(3, 0.5), np.arange(3), min_sensitivity=0.9)
