from __future__ import annotations

import random

import pytest

from search.core.rungs import Rungs, rung_levels
from trainable.report import Direction

History = list[tuple[int, int, float]]


def build(levels: tuple[int, ...], history: History, direction: Direction = Direction.MAXIMIZE) -> Rungs:
    """Rungs with the trials of an earlier session."""
    rungs = Rungs(levels, direction=direction)
    values: dict[int, dict[int, float]] = {}
    for number, epoch, value in history:
        values.setdefault(number, {})[epoch] = value
    for number, by_epoch in sorted(values.items()):
        rungs.enter(number, by_epoch)
    return rungs


@pytest.mark.parametrize(
    ("max_epochs", "levels"), [(27, (1, 3, 9)), (81, (1, 3, 9, 27)), (10, (1, 3, 9)), (1, ()), (2, (1,))]
)
def test_rungs_lie_at_powers_of_the_reduction_factor_below_max_epochs(max_epochs: int, levels: tuple[int, ...]) -> None:
    assert rung_levels(max_epochs) == levels


def test_rungs_can_begin_later_and_lie_closer() -> None:
    assert rung_levels(20, first=2, reduction_factor=2) == (2, 4, 8, 16)


def test_a_reduction_factor_of_one_is_refused() -> None:
    with pytest.raises(ValueError, match="reduction factor 1"):
        rung_levels(27, reduction_factor=1)


def test_nobody_is_judged_before_a_third_can_be_told() -> None:
    rungs = Rungs((1, 3))
    assert [rungs.goes_on(number, 1, {1: value}) for number, value in enumerate((0.9, 0.1, 0.5))] == [True, True, False]
    assert [rungs.goes_on(number, 3, {3: 0.5}) for number in range(2)] == [True, True]


def test_a_trial_below_the_best_third_is_stopped() -> None:
    rungs = build((1,), [(0, 1, 0.9), (1, 1, 0.1)])
    assert not rungs.goes_on(2, 1, {1: 0.5})
    assert rungs.goes_on(3, 1, {1: 0.95})


def test_two_of_six_go_on_at_a_rung() -> None:
    rungs = build((1,), [(number, 1, number / 10) for number in range(5)])
    assert rungs.goes_on(5, 1, {1: 0.35})
    assert not rungs.goes_on(6, 1, {1: 0.2})


def test_epochs_between_rungs_never_stop_a_trial() -> None:
    rungs = build((1, 3), [(number, epoch, 0.9) for number in range(3) for epoch in (1, 2)])
    rungs.goes_on(3, 1, {1: 0.95})
    assert rungs.goes_on(3, 2, {1: 0.95, 2: 0.0})


def test_a_trial_counts_with_its_mean_since_the_rung_before() -> None:
    rungs = build((1, 3), [(0, 1, 0.0), (0, 2, 0.7), (0, 3, 0.9), (1, 1, 0.9), (1, 2, 0.5), (1, 3, 0.3)])
    assert rungs.records[3] == {0: pytest.approx(0.8), 1: pytest.approx(0.4)}
    lucky = {1: 1.0, 2: 0.1}
    rungs.goes_on(2, 1, lucky)
    assert not rungs.goes_on(2, 3, {**lucky, 3: 0.95})


def test_a_lower_loss_is_better_where_asked() -> None:
    rungs = build((1,), [(0, 1, 0.5), (1, 1, 0.5)], Direction.MINIMIZE)
    assert rungs.goes_on(2, 1, {1: 0.4})
    assert not rungs.goes_on(3, 1, {1: 0.6})


def test_what_a_resumed_trial_repeats_changes_nothing() -> None:
    history = [(0, 1, 0.5), (0, 2, 0.6), (0, 3, 0.7), (1, 1, 0.9), (2, 1, 0.8)]
    rungs = build((1, 3), history)
    before = {level: dict(rung) for level, rung in rungs.records.items()}
    assert rungs.goes_on(0, 1, {1: 0.1})
    assert rungs.records == before


def test_rungs_rebuilt_from_history_are_those_of_the_first_session() -> None:
    draw = random.Random(1)
    reports = [(number, epoch, draw.random()) for number in range(30) for epoch in range(1, 10)]
    live, values = Rungs((1, 3, 9)), dict[int, dict[int, float]]()
    for number, epoch, value in reports:
        values.setdefault(number, {})[epoch] = value
        live.goes_on(number, epoch, values[number])
    draw.shuffle(reports)
    assert build((1, 3, 9), reports).records == live.records


def test_a_value_that_is_no_number_is_never_kept_once_others_are_known() -> None:
    rungs = build((1,), [(0, 1, 0.5), (1, 1, 0.4)])
    assert not rungs.goes_on(2, 1, {1: float("nan")})
