"""Values as normal scores: ranks without noise, distances within it, and the noise that a score has."""

from __future__ import annotations

import math

import numpy as np
import pytest
from scipy.stats import kurtosis, norm

from search.core.curve_model import Array
from search.core.warping import MAX_CENTRES, Warp


def ordered(values: Array) -> Array:
    return np.sort(values)[::-1]


def skewed(num: int) -> Array:
    """Most are near 0, some rise far above."""
    return np.random.default_rng(0).gamma(0.3, 1.0, num)


def test_without_noise_scores_are_those_of_the_ranks() -> None:
    values = skewed(101)
    scores = Warp(ordered(values), 0.0)(values)
    ranks = np.argsort(np.argsort(values))
    assert scores == pytest.approx(norm.ppf((ranks + 0.5) / 101))
    assert Warp(ordered(values), 0.0).variances(values, np.zeros(101)) == pytest.approx(0)


def test_equal_values_have_the_same_score_and_the_worst_are_below_all() -> None:
    for noise in (0.0, 0.1):
        values = np.array([0.5, -math.inf, 0.7, 0.5, -math.inf, 0.9])
        scores = Warp(ordered(values), noise)(values)
        assert scores[0] == scores[3] and scores[1] == scores[4]
        assert scores[1] < scores[0] < scores[2] < scores[5]
        assert np.isfinite(scores).all()


def test_values_that_noise_alone_parts_are_not_torn_apart() -> None:
    """A plateau of ninety, and ten far above it: by ranks the plateau would have most of the scale."""
    generator = np.random.default_rng(1)
    plateau, good = 0.02 + 0.05 * generator.standard_normal(90), np.linspace(0.5, 1.0, 10)
    values = np.concatenate([plateau, good])
    deviations = np.full(100, 0.05)
    warp = Warp(ordered(values), 0.05)
    scores, variances = warp(values), warp.variances(values, deviations)
    assert variances[:90].mean() == pytest.approx(scores[:90].var(), rel=0.4), "all of its spread is noise"
    assert variances[90:].mean() < 0.05 < (scores[90:].min() - scores[:90].max()) ** 2


def test_much_noise_leaves_distances_as_they_are() -> None:
    values = skewed(200)
    scores = Warp(ordered(values), 100 * values.std())(values)
    assert np.corrcoef(scores, values)[0, 1] > 0.999
    assert kurtosis(Warp(ordered(values), 0.0)(values)) < 1 < kurtosis(scores)


def test_a_surer_value_has_a_surer_score() -> None:
    values = np.linspace(0.0, 1.0, 50)
    warp = Warp(ordered(values), 0.1)
    once, thrice = (warp.variances(values, np.full(50, 0.1 / math.sqrt(num))) for num in (1, 3))
    assert (thrice < once).all()
    assert once[25] / thrice[25] == pytest.approx(3, rel=0.1)


@pytest.mark.parametrize("noise", [0.0, 0.05])
def test_of_many_values_a_sample_is_enough(noise: float) -> None:
    values = skewed(20 * MAX_CENTRES)
    warp = Warp(ordered(values), noise)
    assert len(warp.centres) == MAX_CENTRES
    share = (np.argsort(np.argsort(values)) + 0.5) / len(values)
    exact = norm.ppf(share) if noise == 0 else norm.ppf([norm.cdf((v - values) / noise).mean() for v in values[:100]])
    told = exact > -1.5
    assert told.mean() > 0.9 and warp(values)[: len(exact)][told] == pytest.approx(exact[told], abs=0.06)


def test_where_nothing_is_known_to_work_all_are_alike() -> None:
    values = np.full(5, -math.inf)
    warp = Warp(values, 0.1)
    assert warp(values) == pytest.approx(0)
    assert warp.variances(values, np.full(5, 0.1)) == pytest.approx(0)
