"""Freeze-thaw on simulated searches: what it finds, what it never does, and that a resumed search decides alike."""

from __future__ import annotations

import math

import numpy as np
import pytest

from search.core.board import dense_levels
from search.core.decisions import New, Resume, replay
from search.core.freeze_thaw import FreezeThaw
from search.core.outlook import Outlook, has_converged, look_ahead
from search.core.proposals import SpaceProposals
from search.core.space import DefaultSpace
from tests.search.core.simulated import MAX_EPOCHS, Simulated, build, space


def test_it_finds_a_good_configuration_in_a_few_trainings_worth_of_epochs() -> None:
    search = Simulated(build())
    search.run(10 * MAX_EPOCHS)
    assert search.best_quality() > 0.95
    assert len(search.params) > 20


@pytest.mark.parametrize("noise", [0.05, 0.2])
def test_it_finds_one_under_noise(noise: float) -> None:
    search = Simulated(build(), noise=noise)
    search.run(15 * MAX_EPOCHS)
    assert search.best_quality() > 0.85


def test_a_loss_is_minimised_by_the_same_decisions() -> None:
    up, down = Simulated(build()), Simulated(build(higher_is_better=False), sign=-1.0)
    up.run(60)
    down.run(60)
    assert up.decisions == down.decisions


def test_the_same_seed_decides_the_same() -> None:
    first, second = Simulated(build()), Simulated(build())
    first.run(60)
    second.run(60)
    assert first.decisions == second.decisions


def test_two_resumed_searches_decide_the_same_and_go_on_where_the_first_was() -> None:
    search = Simulated(build())
    search.run(60)
    first, second = (replay(build(), search.history()) for _ in range(2))
    assert len(first.data) == len(search.rule.data)
    assert {number for number, trial in first.board.trials.items() if trial.is_waiting} == {
        number for number, trial in search.rule.board.trials.items() if trial.is_waiting
    }
    assert first.next() == second.next()


def test_a_trial_that_failed_or_lost_its_checkpoint_or_ended_never_goes_on() -> None:
    search = Simulated(build())
    search.run(60)
    gone = set()
    for number, trial in search.rule.board.trials.items():
        if trial.is_waiting and number % 2:
            [lambda n: search.rule.end(n, "failed"), search.rule.forget, lambda n: search.rule.end(n, "completed")][
                number % 3
            ](number)
            gone.add(number)
    search.decisions.clear()
    search.run(120)
    assert gone
    assert not gone & {decision.number for decision in search.decisions if isinstance(decision, Resume)}


def test_values_that_are_no_numbers_are_the_worst() -> None:
    rule = build()
    for number, params in enumerate(SpaceProposals(space).draw(6, np.random.default_rng(0))):
        rule.begin(number, params)
        rule.report(number, 1, math.nan)
    assert isinstance(rule.next(), New)
    rule.begin(6, {"kind": "adam", "rate": 1e-3, "depth": 1})
    rule.report(6, 1, 0.5)
    decisions = [rule.next() for _ in range(3)]
    assert {decision.number for decision in decisions if isinstance(decision, Resume)} <= {6}


def test_no_trial_is_handed_to_two_workers() -> None:
    search = Simulated(build())
    search.run(60)
    handed = [decision.number for decision in (search.rule.next() for _ in range(12)) if isinstance(decision, Resume)]
    assert len(handed) == len(set(handed))


def test_once_no_trial_may_begin_the_best_go_on_and_the_search_ends() -> None:
    search = Simulated(build())
    search.run(60)
    num_trials = len(search.params)
    while isinstance(decision := search.rule.next(may_begin=False), Resume):
        search.train(decision.number)
    assert decision is None
    assert len(search.params) == num_trials
    assert max(map(len, search.values.values())) == MAX_EPOCHS


def test_an_equal_configuration_that_costs_thirty_times_as_much_is_tried_less() -> None:
    free, dear = Simulated(build()), Simulated(build(), slow="adam")
    for search in (free, dear):
        search.run(8 * MAX_EPOCHS)
    spent = [
        sum(len(search.values[number]) for number, params in search.params.items() if params["kind"] == "adam")
        / search.num_epochs
        for search in (free, dear)
    ]
    assert spent[1] < spent[0]


def test_a_better_configuration_that_costs_thirty_times_as_much_is_judged_by_its_end() -> None:
    search = Simulated(build(), slow="adam")
    search.run(20 * MAX_EPOCHS)
    ended = [params for number, params in search.params.items() if len(search.values[number]) == MAX_EPOCHS]
    assert sum(params["kind"] == "adam" for params in ended) > 2
    assert search.best_quality() > 0.97


def test_it_searches_the_default_space_with_its_inactive_entries() -> None:
    default = DefaultSpace(["small_cnn", "resnet18", "vgg16"], fine_tuned=["resnet18"])
    rule = FreezeThaw(SpaceProposals(default), max_epochs=9, seed=0)
    generator = np.random.default_rng(0)
    for _ in range(60):
        decision = rule.next()
        assert decision is not None
        if isinstance(decision, Resume):
            chosen = decision.number
        else:
            chosen = len(rule.board.trials)
            params = decision.params or SpaceProposals(default).draw(1, generator)[0]
            rule.begin(chosen, params)
        trial = rule.board.trials[chosen]
        rate = trial.params.get("learning_rate", trial.params.get("learning_rate_sgd", 0.0) / 10)
        level = 0.8 - 0.1 * abs(math.log10(rate) + 3) - 0.3 * (trial.params["architecture"] != "resnet18")
        for epoch in range(trial.epoch + 1, trial.until + 1):
            rule.report(chosen, epoch, level * (1 - math.exp(-epoch)), standard_error=0.05)
    late = [trial.params["architecture"] for number, trial in rule.board.trials.items() if number >= 8]
    assert late.count("resnet18") > len(late) / 2  # of the draws a third are


def test_what_is_left_to_gain_shrinks_as_a_search_goes_on() -> None:
    search = Simulated(build())
    assert look_ahead(search.rule) is None
    search.run(30)
    early = look_ahead(search.rule)
    search.run(300)
    late = look_ahead(search.rule)
    assert early is not None
    assert late is not None
    assert 0 <= late.gain < early.gain
    assert min(early.seconds, late.seconds) > 0
    assert late.best == pytest.approx(1.0, abs=0.15)


def test_a_search_has_converged_when_several_looks_promise_little() -> None:
    looks = [Outlook(0.9, gain, 10.0, None) for gain in (0.1, 0.0005, 0.0004, 0.0002)]
    assert has_converged(looks, least=0.001)
    assert not has_converged(looks[:3], least=0.001)
    assert not has_converged([], least=0.001)


@pytest.mark.parametrize("max_epochs", [1, 2, 3, 9, 12, 20, 27, 50, 100])
def test_every_rung_is_a_level_at_which_trials_are_judged(max_epochs: int) -> None:
    rule = FreezeThaw(SpaceProposals(space), max_epochs=max_epochs)
    assert {1, max_epochs} <= set(rule.rungs) <= set(rule.board.levels)


def test_levels_are_dense() -> None:
    assert build().board.levels == dense_levels(MAX_EPOCHS) == (1, 2, 3, 5, 8, 12)


def test_trials_that_run_are_where_they_will_be_next() -> None:
    rule = FreezeThaw(SpaceProposals(space), max_epochs=MAX_EPOCHS, seed=3)
    assert rule.under_way() is None
    search = Simulated(rule)
    search.run(12)
    assert rule.under_way() is None, "its worker is free"
    numbers = [search.begin(decision) for decision in (rule.next(), rule.next()) if isinstance(decision, New)]
    resumed = [trial.number for trial in rule.board.trials.values() if trial.is_running and trial.number not in numbers]
    under_way = rule.under_way()
    assert under_way is not None
    assert sorted(under_way.trials) == sorted([*numbers, *resumed])
    assert all(
        rule.board.trials[number].until == epoch
        for number, epoch in zip(under_way.trials, under_way.epochs, strict=True)
    )
