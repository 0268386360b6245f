"""Freeze-thaw and noise: when it is known, who decides until then, and what the model makes of it."""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
import pytest

from search.core.decisions import New, Resume
from search.core.freeze_thaw import FreezeThaw
from search.core.promotion import find_promotion
from search.core.proposals import SpaceProposals
from tests.search.core.simulated import Simulated, build, quality, space


def test_until_noise_is_known_trials_go_on_by_promotion_and_new_ones_are_drawn() -> None:
    rule = build()
    search = Simulated(rule, noise=0.3)
    search.run(rule.settings.min_trials)
    num_promoted = 0
    while not rule.knows_noise():
        promoted = find_promotion(rule.board, rule.rungs, factor=3)
        search.run(search.num_epochs + 1)
        decision = search.decisions[-1]
        if promoted is not None:
            assert decision == Resume(promoted.number, promoted.until)
            num_promoted += 1
        else:
            assert isinstance(decision, New) and decision.until_epoch == 1
    assert num_promoted and not rule.parameters, "no model was asked"
    search.run(search.num_epochs + 1)
    assert rule.parameters


def test_noise_that_is_small_beside_what_values_differ_by_is_known_sooner() -> None:
    def differences_until_known(noise: float) -> int:
        rule = build()
        search = Simulated(rule, noise=noise)
        while not rule.knows_noise():
            search.run(search.num_epochs + 1)
        return len(rule.noise.differences)

    assert differences_until_known(0.0) < 10 and differences_until_known(0.3) >= 20


def test_where_no_trial_is_long_enough_to_tell_its_noise_the_model_decides_without() -> None:
    rule = FreezeThaw(SpaceProposals(space), max_epochs=2, seed=1)
    generator = np.random.default_rng(0)
    for number in range(12):
        decision = rule.next()
        if isinstance(decision, New):
            rule.begin(number, decision.params or SpaceProposals(space).draw(1, generator)[0])
            rule.report(number, 1, quality(rule.board.trials[number].params))
    assert rule.parameters and not rule.noise.differences


@pytest.mark.parametrize("noise", [0.0, 0.03, 0.3])
def test_the_model_knows_the_noise_of_every_score(noise: float) -> None:
    rule = build()
    search = Simulated(rule, noise=noise)
    search.run(200)
    assert rule.noise.deviation() == pytest.approx(noise, rel=0.4, abs=0.01)
    view = rule.view(rule.generator())
    known = float(np.median(view.model.data.noise)) * math.exp(view.model.parameters.noise)
    assert known > 0.1 if noise > 0.1 else known < 0.02


def test_a_gain_that_noise_hides_is_no_target() -> None:
    """With targets next to the best, what differs from it by next to nothing would be tried for an epoch each."""

    def search(noise: float, *, hides: bool = True) -> Simulated:
        rule = build()
        view = rule.view
        if not hides:
            rule.view = lambda generator: replace(view(generator), hidden=0.0)  # type: ignore[method-assign]
        found = Simulated(rule, noise=noise)
        found.run(100)
        return found

    calm, noisy = (search(noise) for noise in (0.0, 0.3))
    assert 0 < calm.rule.view(calm.rule.generator()).hidden < noisy.rule.view(noisy.rule.generator()).hidden
    assert noisy.decisions != search(0.3, hides=False).decisions
