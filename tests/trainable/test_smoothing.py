from __future__ import annotations

import math

import pytest

from trainable.smoothing import find_best, is_best_epoch, smoothed_value


def by_epoch(*values: float) -> dict[int, float]:
    return dict(enumerate(values, 1))


def test_a_value_is_the_mean_of_the_latter_half_of_its_epochs_and_of_three_at_most() -> None:
    values = by_epoch(0.9, 0.6, 0.7, 0.8, 0.3, 0.4)
    smoothed = [smoothed_value(values, epoch=epoch) for epoch in values]
    assert smoothed == pytest.approx([0.9, 0.6, 0.65, 0.75, 0.6, 0.5])
    assert smoothed_value(values) == smoothed[-1]
    assert smoothed_value(values, window=2) == pytest.approx(0.35)
    assert smoothed_value({4: 0.5, 6: 0.7}) == pytest.approx(0.6), "an epoch that was not reported is passed over"


def test_nan_stays_nan_and_no_value_is_an_error() -> None:
    assert math.isnan(smoothed_value(by_epoch(0.5, math.nan, 0.5)))
    with pytest.raises(ValueError, match="3 epochs up to epoch 9: values are of"):
        smoothed_value(by_epoch(0.5, 0.6), epoch=9)
    with pytest.raises(ValueError, match="values are empty"):
        find_best({}, higher_is_better=True)


def test_a_lucky_first_epoch_is_not_the_best_one() -> None:
    epoch, value = find_best(by_epoch(0.95, 0.6, 0.6), higher_is_better=True)
    assert (epoch, value) == (3, 0.6)
    assert find_best(by_epoch(0.95, 0.6), higher_is_better=True)[0] == 2


def test_the_best_epoch_ends_the_best_mean_and_equals_go_to_the_first() -> None:
    values = by_epoch(0.5, 0.6, 0.7, 0.8, 0.8, 0.8, 0.2, 0.9, 0.8)
    epoch, value = find_best(values, higher_is_better=True)
    assert (epoch, round(value, 6)) == (6, 0.8)
    epoch, value = find_best(values, higher_is_better=False)
    assert (epoch, round(value, 6)) == (7, 0.6)
    assert find_best(by_epoch(*[0.5] * 6), higher_is_better=True)[0] == 3


def test_nan_never_is_better() -> None:
    values = by_epoch(0.5, 0.5, 0.5, math.nan, 0.4)
    assert find_best(values, higher_is_better=True)[0] == 3
    assert not is_best_epoch(4, math.nan, best_epoch=3, best_value=0.5, higher_is_better=False)


def test_a_nan_among_the_first_epochs_gives_way_to_any_number() -> None:
    epoch, value = find_best({1: 0.5, 2: math.nan, 3: 0.4, 4: 0.6}, higher_is_better=False)
    assert epoch == 4
    assert value == pytest.approx(0.5)
