"""The rule of promotion: who goes on, who waits, and what it does when things go wrong."""

from __future__ import annotations

import math
from collections.abc import Sequence

import pytest

from search.core.board import dense_levels, geometric_levels
from search.core.decisions import New, PastTrial, Resume, Verdict, replay
from search.core.promotion import Promotion

LEVELS = (1, 3, 9)


def begin_and_pause(rule: Promotion, values: Sequence[float], *, first: int = 0) -> None:
    """So many new trials, each with one epoch of such a value."""
    for number, value in enumerate(values, start=first):
        rule.begin(number, {})
        assert rule.report(number, 1, value) is Verdict.PAUSE


def test_the_first_workers_begin_new_trials_until_the_first_level() -> None:
    assert Promotion(LEVELS).next() == New(None, 1)


def test_a_trial_goes_on_within_its_horizon_and_pauses_at_its_level() -> None:
    rule = Promotion(LEVELS)
    begin_and_pause(rule, [0.1, 0.2, 0.3])
    assert rule.next() == Resume(2, 3)
    assert rule.report(2, 2, 0.4) is Verdict.CONTINUE
    assert rule.report(2, 3, 0.5) is Verdict.PAUSE


def test_the_best_third_is_promoted_once_and_then_new_trials_begin() -> None:
    rule = Promotion(LEVELS)
    begin_and_pause(rule, [0.5, 0.1, 0.9, 0.3, 0.2, 0.4])
    assert [rule.next(), rule.next(), rule.next()] == [Resume(2, 3), Resume(0, 3), New(None, 1)]


def test_the_highest_rung_with_one_to_spare_comes_first() -> None:
    rule = Promotion(LEVELS)
    begin_and_pause(rule, [0.1 * number for number in range(9)])
    for number in (8, 7, 6):
        assert rule.next() == Resume(number, 3)
        rule.report(number, 2, 0.5)
        rule.report(number, 3, 1.0 - 0.1 * number)
    begin_and_pause(rule, [0.95, 0.96, 0.97], first=9)
    assert rule.next() == Resume(6, 9)
    assert rule.next() == Resume(11, 3)


def test_a_loss_is_better_when_it_is_lower() -> None:
    rule = Promotion(LEVELS, higher_is_better=False)
    begin_and_pause(rule, [0.5, 0.1, 0.9])
    assert rule.next() == Resume(1, 3)


def test_at_max_epochs_a_trial_stops_and_never_goes_on() -> None:
    rule = Promotion((1, 2))
    begin_and_pause(rule, [0.1, 0.2, 0.3])
    assert rule.next() == Resume(2, 2)
    assert rule.report(2, 2, 0.5) is Verdict.STOP
    assert rule.next() == New(None, 1)


@pytest.mark.parametrize("outcome", ["failed", "completed", "stopped"])
def test_a_trial_that_has_ended_is_never_promoted(outcome: str) -> None:
    rule = Promotion(LEVELS)
    begin_and_pause(rule, [0.1, 0.2, 0.9])
    rule.end(2, outcome)
    assert rule.next() == New(None, 1)


def test_a_trial_whose_checkpoint_is_lost_is_never_promoted() -> None:
    rule = Promotion(LEVELS)
    begin_and_pause(rule, [0.1, 0.2, 0.9])
    rule.forget(2)
    assert rule.next() == New(None, 1)


@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf])
def test_a_trial_whose_value_is_no_number_is_the_worst_and_never_promoted(value: float) -> None:
    rule = Promotion(LEVELS)
    begin_and_pause(rule, [value, value, value])
    assert rule.next() == New(None, 1)
    begin_and_pause(rule, [-1e9, -2e9], first=3)
    begin_and_pause(rule, [-3e9], first=5)
    assert rule.next() == Resume(3, 3)


def test_one_bad_epoch_spoils_no_mean() -> None:
    rule = Promotion((3, 9))
    for number, values in enumerate([[0.1, math.nan, 0.9], [0.5, 0.5, 0.5], [0.2, 0.2, 0.2]]):
        rule.begin(number, {})
        for epoch, value in enumerate(values, start=1):
            rule.report(number, epoch, value)
    assert rule.next() == Resume(0, 9)


def test_a_known_standard_error_weighs_the_epochs() -> None:
    rule = Promotion((2, 9), factor=2)
    for number, (values, errors) in enumerate([([0.9, 0.1], (0.5, 0.01)), ([0.4, 0.4], (0.1, 0.1))]):
        rule.begin(number, {})
        for epoch, (value, error) in enumerate(zip(values, errors, strict=True), start=1):
            rule.report(number, epoch, value, standard_error=error)
    assert rule.next() == Resume(1, 9)


def test_an_epoch_that_is_reported_again_changes_nothing() -> None:
    rule = Promotion(LEVELS)
    begin_and_pause(rule, [0.1, 0.2, 0.3])
    rule.next()
    assert rule.report(2, 1, 99.0) is Verdict.CONTINUE
    assert rule.board.trials[2].scores[1] == 0.3


def test_a_lost_worker_gives_its_trial_back() -> None:
    rule = Promotion(LEVELS)
    begin_and_pause(rule, [0.1, 0.2, 0.3])
    rule.next()
    rule.report(2, 2, 0.4)
    rule.end(2, "interrupted")
    assert rule.next() == Resume(2, 3)


def test_a_trial_that_was_interrupted_before_its_first_epoch_goes_on_first() -> None:
    rule = Promotion(LEVELS)
    begin_and_pause(rule, [0.1, 0.2, 0.3])
    rule.begin(3, {})
    rule.end(3, "interrupted")
    assert rule.next() == Resume(3, 1)


def test_once_no_trial_may_begin_each_rung_promotes_one_so_that_a_small_search_ends_with_a_whole_training() -> None:
    rule = Promotion(LEVELS)
    begin_and_pause(rule, [0.1, 0.2])
    assert rule.next(may_begin=False) == Resume(1, 3)
    assert rule.next(may_begin=False) is None
    rule.report(1, 3, 0.3)
    assert rule.next(may_begin=False) == Resume(1, 9)
    assert rule.report(1, 9, 0.3) is Verdict.STOP
    assert rule.next(may_begin=False) is None


def test_a_rule_is_built_anew_from_the_record_alone() -> None:
    live = Promotion(LEVELS)
    begin_and_pause(live, [0.1, 0.2, 0.9, 0.5, 0.6, 0.3])
    live.end(5, "failed")
    live.next()
    live.report(2, 2, 0.8)
    live.end(2, "interrupted")
    history = [PastTrial(number, {}, {1: value}) for number, value in [(4, 0.6), (0, 0.1), (1, 0.2), (3, 0.5)]]
    history += [PastTrial(2, {}, {1: 0.9, 2: 0.8}, "interrupted"), PastTrial(5, {}, {1: 0.3}, "failed")]
    anew = replay(Promotion(LEVELS), history)
    assert (
        [anew.next() for _ in range(3)] == [live.next() for _ in range(3)] == [Resume(2, 3), Resume(4, 3), New(None, 1)]
    )


def test_a_resumed_search_never_promotes_a_trial_without_a_checkpoint() -> None:
    history = [PastTrial(number, {}, {1: 0.1 * number}, can_resume=number != 5) for number in range(6)]
    assert replay(Promotion(LEVELS), history).next() == Resume(4, 3)


def test_what_must_hold_is_said() -> None:
    rule = Promotion(LEVELS)
    with pytest.raises(ValueError, match="trial 3 has not begun"):
        rule.report(3, 1, 0.5)
    rule.begin(3, {})
    with pytest.raises(ValueError, match="has begun before"):
        rule.begin(3, {})
    with pytest.raises(ValueError, match="ended as 'lost'"):
        rule.end(3, "lost")
    with pytest.raises(ValueError, match="factor is 1"):
        Promotion(LEVELS, factor=1)
    with pytest.raises(ValueError, match="at least one"):
        Promotion(())


def test_levels_end_at_max_epochs() -> None:
    assert geometric_levels(27) == (1, 3, 9, 27)
    assert geometric_levels(50, first=2, factor=4) == (2, 8, 32, 50)
    assert dense_levels(50) == (1, 2, 3, 5, 8, 12, 18, 27, 41, 50)
    assert dense_levels(1) == geometric_levels(1) == (1,)
    assert dense_levels(2) == (1, 2)
