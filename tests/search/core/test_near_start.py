from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from search.core.baselines import Baselines
from search.core.config import SearchConfig
from search.core.decisions import New
from search.core.near_start import NUM_FIRST, NearStart
from search.core.promotion import Promotion
from search.core.proposals import Params, SpaceProposals
from search.core.ranges import Suggests
from search.core.rules import build_rule
from search.core.space import DefaultSpace
from trainable.report import Direction


def draw(trial: Suggests) -> Params:
    return {"rate": trial.suggest_float("rate", 0.0, 1.0), "kind": trial.suggest_categorical("kind", ["a", "b"])}


def start_near(points: Sequence[Params], seed: int = 0) -> NearStart:
    """A rule whose first trials are these points, all baselines."""
    numbers = range(len(points))
    rule = NearStart(Baselines(Promotion((1, 3, 9)), numbers), numbers, SpaceProposals(draw), seed=seed)
    for number in numbers:
        rule.begin(number, points[number])
    return rule


def propose(rule: NearStart, num: int) -> dict[int, Params | None]:
    """Begin so many trials as the rule proposes; by number what it proposed, None where it is the sampler's."""
    found: dict[int, Params | None] = {}
    for number in range(len(rule.board.trials), len(rule.board.trials) + num):
        decision = rule.next()
        assert isinstance(decision, New)
        found[number] = None if decision.params is None else dict(decision.params)
        rule.begin(number, decision.params or {"rate": 0.5, "kind": "a"})
    return found


def test_every_second_of_the_first_trials_is_drawn_near_a_sound_one_and_all_others_by_the_sampler() -> None:
    found = propose(start_near([{"rate": 0.2, "kind": "a"}]), 2 * NUM_FIRST)
    assert {number for number, params in found.items() if params is not None} == set(range(2, NUM_FIRST, 2))
    rates = [params["rate"] for params in found.values() if params is not None]
    assert len(set(rates)) == len(rates)
    assert np.median(np.abs(np.array(rates) - 0.2)) < 0.15


def test_the_same_seed_draws_the_same_and_another_one_something_else() -> None:
    first, again, other = (propose(start_near([{"rate": 0.2, "kind": "a"}], seed), 9) for seed in (1, 1, 2))
    assert first == again != other


def test_the_best_two_of_the_whole_trainings_are_the_parents() -> None:
    rule = start_near([{"rate": 0.1, "kind": "a"}, {"rate": 0.9, "kind": "a"}, {"rate": 0.5, "kind": "a"}])
    for number, value in enumerate((0.6, 0.7, 0.8)):
        for epoch in range(1, 10):
            rule.report(number, epoch, value)
    rates = [params["rate"] for params in propose(rule, NUM_FIRST).values() if params is not None]
    assert min(abs(rate - 0.5) for rate in rates) < 0.1
    assert min(abs(rate - 0.9) for rate in rates) < 0.1
    assert sum(rate < 0.2 for rate in rates) <= 2  # a hyperparameter is drawn anew now and then


def test_a_search_begins_so_unless_it_draws_at_random_or_has_no_sound_trial() -> None:
    space = DefaultSpace(("small_cnn",))
    for sampler, baselines, is_near in (("tpe", (0,), True), ("random", (0,), False), ("tpe", (), False)):
        config = SearchConfig(sampler=sampler, ensemble=1)
        rule, _ = build_rule(config, space, Direction.MAXIMIZE, max_epochs=9, baselines=baselines)
        assert isinstance(rule, NearStart) == is_near
