"""Fronts, their order, and the trial that is chosen of one."""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from search.core.board import Order, by_score
from search.core.config import SearchConfig
from search.core.decisions import Resume
from search.core.ledger import Ledger, TrialEntry
from search.core.options import OptionError
from search.core.pareto import (
    ByFronts,
    choose_frugal,
    find_front,
    list_able,
    sort_by_fronts,
    sort_fronts,
    spread,
)
from search.core.promotion import Promotion
from trainable.report import Direction, Outcome

COSTS = ("latency_ms",)


def test_a_front_holds_whom_none_beats_and_the_next_whom_only_those_beat() -> None:
    points = np.array([[1, 5], [2, 3], [4, 1], [2, 4], [5, 5], [4, 2.0]])
    assert sort_fronts(points).tolist() == [0, 0, 0, 1, 2, 1]


def test_equal_points_share_a_front() -> None:
    assert sort_fronts(np.array([[1, 1], [1, 1], [2, 2.0]])).tolist() == [0, 0, 1]


@given(st.lists(st.tuples(st.integers(0, 6), st.integers(0, 6), st.integers(0, 3)), min_size=1, max_size=25))
def test_nobody_of_a_front_beats_another_and_each_behind_is_beaten_by_one_before(points: list[tuple[int, ...]]) -> None:
    fronts = sort_fronts(np.array(points, dtype=float))

    def beats(one: int, other: int) -> bool:
        return points[one] != points[other] and all(a <= b for a, b in zip(points[one], points[other], strict=True))

    for place, front in enumerate(fronts):
        above = [other for other in range(len(points)) if fronts[other] == front - 1]
        assert not any(beats(other, place) for other in range(len(points)) if fronts[other] == front)
        assert front == 0 or any(beats(other, place) for other in above)
    assert sorted(sort_by_fronts(np.array(points, dtype=float))) == list(range(len(points)))


def test_the_first_of_a_front_are_its_ends_and_then_its_middle() -> None:
    line = np.array([[0, 10], [1, 9], [5, 5], [9, 1], [10, 0.0]])
    assert spread(line)[:3] == [0, 4, 2]


def test_who_failed_or_whose_cost_is_unknown_comes_last() -> None:
    points = np.array([[math.inf, 1.0], [-0.9, 2.0], [-0.5, math.inf], [-0.8, 1.0]])
    assert set(sort_by_fronts(points)[:2]) == {1, 3}


def test_the_accurate_and_the_cheap_are_promoted_and_not_only_the_accurate() -> None:
    costs = {0: 30.0, 1: 29.0, 2: 28.0, 3: 2.0, 4: 3.0, 5: 40.0}
    values = {0: 0.90, 1: 0.89, 2: 0.88, 3: 0.70, 4: 0.6, 5: 0.5}
    promoted = {}
    orders: dict[str, Order] = {"alone": by_score, "both": ByFronts(lambda number: (costs[number],))}
    for name, order in orders.items():
        rule = Promotion((1, 3, 9), order=order)
        for number, value in values.items():
            rule.begin(number, {})
            rule.report(number, 1, value)
        promoted[name] = [rule.next(), rule.next()]
    assert promoted["alone"] == [Resume(0, 3), Resume(1, 3)]
    assert promoted["both"] == [Resume(0, 3), Resume(3, 3)]


def ledger_of(**rows: tuple[float, float, Outcome]) -> Ledger:
    ledger = Ledger()
    for number, (value, cost, outcome) in enumerate(rows.values()):
        entry = TrialEntry(number=number, params={}, values={1: value}, outcome=outcome, costs={"latency_ms": cost})
        ledger.restore(entry)
    return ledger


def test_the_cheapest_within_a_standard_error_of_the_best_is_chosen() -> None:
    done, stopped = Outcome.COMPLETED, Outcome.STOPPED
    ledger = ledger_of(
        best=(0.90, 30.0, done),
        near=(0.89, 9.0, done),
        beaten=(0.885, 10.0, done),
        far=(0.80, 1.0, done),
        lucky=(0.99, 1.0, stopped),
    )
    front = find_front(list_able(ledger), Direction.MAXIMIZE, COSTS)
    assert [entry.number for entry in front] == [0, 1, 3]
    assert choose_frugal(front, Direction.MAXIMIZE, COSTS, 0.02).number == 1
    assert choose_frugal(front, Direction.MAXIMIZE, COSTS, 0.2).number == 3
    assert choose_frugal(front, Direction.MAXIMIZE, COSTS, 0.0).number == 0


def test_a_loss_is_weighed_the_other_way_round() -> None:
    ledger = Ledger(Direction.MINIMIZE)
    for number, (value, cost) in enumerate([(0.2, 9.0), (0.3, 10.0), (0.4, 1.0)]):
        entry = TrialEntry(number=number, params={}, values={1: value}, outcome=Outcome.COMPLETED)
        entry.costs["latency_ms"] = cost
        ledger.restore(entry)
    front = find_front(list_able(ledger), Direction.MINIMIZE, COSTS)
    assert [entry.number for entry in front] == [0, 2]
    assert choose_frugal(front, Direction.MINIMIZE, COSTS, 0.05).number == 0


def test_several_objectives_settle_the_metric_and_a_champion_of_one_trial() -> None:
    config = SearchConfig.of(objective="sensitivity@specificity=0.8,latency_ms,size_mb")
    assert (config.metric, config.costs) == ("sensitivity@specificity=0.8", ("latency_ms", "size_mb"))
    assert (config.ensemble, config.confirm, config.sampler) == (1, 0, "random")
    assert SearchConfig.from_record(config.to_record()) == config
    assert SearchConfig().costs == ()


@pytest.mark.parametrize(
    ("given", "what"),
    [
        ({"objective": "auc"}, "objective is 'auc'; it must be a metric and what a model costs, of latency_ms"),
        ({"objective": "auc,speed"}, "objective is 'auc,speed'"),
        ({"objective": "latency_ms,auc"}, "objective is 'latency_ms,auc'"),
        ({"objective": "aux,size_mb"}, "'aux'"),
        ({"objective": "auc,size_mb", "metric": "f1"}, "metric is 'f1'; it must be the first of --objective"),
        ({"objective": "auc,size_mb", "ensemble": 3}, "ensemble is 3; it must be 1 with several objectives"),
        ({"objective": "auc,size_mb", "confirm": 5}, "confirm is 5; it must be 0 with several objectives"),
        ({"objective": "auc,size_mb", "scheduler": "asha"}, "scheduler is 'asha'; it must be promotion"),
        ({"objective": "auc,size_mb", "stop_when": "converged"}, "stop_when is 'converged'"),
    ],
)
def test_objectives_that_cannot_be_are_refused(given: dict[str, object], what: str, tmp_path: Path) -> None:
    with pytest.raises((OptionError, ValueError)) as error:
        SearchConfig.of(home=tmp_path, **given)
    assert what in str(error.value)
