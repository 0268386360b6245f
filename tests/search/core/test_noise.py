"""The noise of values, read off curves whose noise is known."""

from __future__ import annotations

import math

import numpy as np
import pytest

from search.core.board import Standing
from search.core.noise import NoiseEstimate


def estimate(noise: float, *, num_trials: int = 40, num_epochs: int = 20, bad: bool = False) -> float:
    """Of trials that rise from 0 to their own level between 0 and 1."""
    generator = np.random.default_rng(0)
    estimate = NoiseEstimate()
    for number in range(num_trials):
        level = number / num_trials
        trial = Standing(number, {})
        for epoch in range(1, num_epochs + 1):
            value = level * (1 - math.exp(-(epoch - 1) / 8)) + noise * generator.standard_normal()
            trial.values[epoch] = -math.inf if bad and number % 3 == 0 else value
            estimate.note(trial, epoch)
    return estimate.deviation()


@pytest.mark.parametrize("noise", [0.02, 0.05, 0.1])
def test_the_noise_is_found(noise: float) -> None:
    assert estimate(noise) == pytest.approx(noise, rel=0.15)


def test_smooth_curves_have_none() -> None:
    assert estimate(0.0) < 0.005


def test_trials_that_diverged_change_nothing() -> None:
    assert estimate(0.05, bad=True) == pytest.approx(estimate(0.05), rel=0.1)


def test_it_is_known_once_enough_epochs_tell() -> None:
    noise, generator = NoiseEstimate(), np.random.default_rng(0)
    for number in range(20):
        assert not noise.is_known and not noise.is_small(spread=0.1)
        trial = Standing(number, {})
        for epoch in (1, 2, 3):
            trial.values[epoch] = 0.5 + 0.1 * generator.standard_normal()
            noise.note(trial, epoch)
    assert noise.is_known
    assert noise.deviation() == pytest.approx(0.1, rel=0.5)


def test_a_few_epochs_tell_that_noise_is_small_beside_what_values_differ_by() -> None:
    noise = NoiseEstimate()
    trial = Standing(0, {}, values={epoch: 0.5 + 0.01 * (epoch % 2) for epoch in range(1, 6)})
    for epoch in range(1, 6):
        noise.note(trial, epoch)
    assert noise.is_small(spread=0.1) and not noise.is_small(spread=0.03) and not noise.is_known


def test_two_differences_say_nothing() -> None:
    assert estimate(0.1, num_trials=1, num_epochs=4) == 0.0
