from __future__ import annotations

import heapq
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pytest

from search.core.board import geometric_levels
from search.core.budget import Left
from search.core.decisions import New, Resume, Rule, Verdict
from search.core.finishing import MARGIN, Finishing
from search.core.freeze_thaw import FreezeThaw
from search.core.promotion import Promotion


def run(rule: Rule, heights: Sequence[float]) -> dict[int, int]:
    """One worker, trial n being worth its height at every epoch; the last epoch of each."""
    epochs: dict[int, int] = {}
    while (decision := rule.next(may_begin=len(epochs) < len(heights))) is not None:
        if isinstance(decision, New):
            number = len(epochs)
            epochs[number] = 0
            rule.begin(number, {})
        else:
            number = decision.number
        verdict = Verdict.CONTINUE
        while verdict is Verdict.CONTINUE:
            epochs[number] += 1
            verdict = rule.report(number, epochs[number], heights[number])
    return epochs


class Timed:
    """A search of `seconds` with workers that train an epoch in one second, or in what `epoch_s` says of a trial."""

    def __init__(self, seconds: float, epoch_s: Mapping[int, float] | None = None) -> None:
        self.seconds, self.epoch_s = seconds, epoch_s or {}
        self.now = 0.0
        self.epochs: dict[int, int] = {}
        self.busy_s = 0.0
        self.began: dict[int, float] = {}

    def left(self, num_workers: int) -> Left:
        return Left(self.seconds - self.now, 1 - self.now / self.seconds)

    def run(self, rule: Finishing, num_workers: int) -> None:
        events: list[tuple[float, int]] = []
        num_idle = num_workers
        while True:
            while num_idle and (number := self._next(rule)) is not None:
                num_idle -= 1
                heapq.heappush(events, (self.now + self.epoch_s.get(number, 1.0), number))
            if not events or events[0][0] > self.seconds:
                return
            self.now, number = heapq.heappop(events)
            self.epochs[number] += 1
            self.busy_s += self.epoch_s.get(number, 1.0)
            value = (number * 7 % 11) / 11 + 0.01 * self.epochs[number]
            verdict = rule.report(number, self.epochs[number], value, None, self.epoch_s.get(number, 1.0))
            if verdict is Verdict.CONTINUE:
                heapq.heappush(events, (self.now + self.epoch_s.get(number, 1.0), number))
            else:
                num_idle += 1
                if verdict is Verdict.STOP:
                    rule.end(number, "completed")

    def _next(self, rule: Finishing) -> int | None:
        decision = rule.next()
        if isinstance(decision, Resume):
            return decision.number
        if decision is None:
            return None
        number = len(self.epochs)
        self.epochs[number], self.began[number] = 0, self.now
        rule.begin(number, {"rate": 10.0 ** -(number % 5)})
        return number

    def ended(self, max_epochs: int) -> set[int]:
        return {number for number, epoch in self.epochs.items() if epoch == max_epochs}


class Rates:
    """Draws of a space of one hyperparameter."""

    def draw(self, num: int, generator: np.random.Generator) -> list[Mapping[str, Any]]:
        return [{"rate": float(rate)} for rate in 10 ** generator.uniform(-5, 0, num)]

    def near(self, params: Mapping[str, Any], num: int, generator: np.random.Generator) -> list[Mapping[str, Any]]:
        return self.draw(num, generator)


def build_inner(name: str, max_epochs: int) -> Promotion | FreezeThaw:
    if name == "promotion":
        return Promotion(geometric_levels(max_epochs))
    return FreezeThaw(Rates(), max_epochs=max_epochs)


def test_the_best_trials_are_trained_to_the_end_when_nothing_else_is_left() -> None:
    heights = [0.9, 0.2, 0.3, 0.8, 0.7, 0.1, 0.4, 0.5]
    epochs = run(Finishing(Promotion((1, 3, 9)), 3), heights)
    assert {number for number, last in epochs.items() if last == 9} == {0, 3, 4}
    assert sum(last == 9 for last in run(Finishing(Promotion((1, 3, 9)), 1), heights).values()) == 1


def test_no_trial_begins_once_the_search_is_at_its_end() -> None:
    asked = iter([False] * 4 + [True] * 100)
    rule = Finishing(Promotion((1, 3, 9)), 2, is_end=lambda: next(asked))
    epochs = run(rule, [0.5, 0.9, 0.1, 0.7, 0.6, 0.8])
    assert len(epochs) <= 4
    assert sum(last == 9 for last in epochs.values()) == 2
    assert epochs[1] == 9


@pytest.mark.parametrize("num_workers", [1, 2, 4])
@pytest.mark.parametrize("inner", ["promotion", "freeze-thaw"])
def test_all_of_a_time_budget_is_used_and_its_members_are_at_their_end(inner: str, num_workers: int) -> None:
    timed = Timed(400 / num_workers)
    timed.run(Finishing(build_inner(inner, 20), 5, left=timed.left), num_workers)
    assert len(timed.ended(20)) >= 5
    assert timed.busy_s >= 380 - 20 * (num_workers - 1), "no more is left than a training on each of the others"
    assert max(timed.began.values()) <= timed.seconds - 20, "nothing begins that cannot come to its end"


def test_what_finishing_does_not_need_is_searched_with() -> None:
    timed = Timed(200)
    rule = Finishing(Promotion((1, 3, 9)), 1, left=timed.left)
    timed.run(rule, 1)
    assert timed.ended(9) and max(timed.began.values()) > 160, "a fifth was left, and its finalist had ended before"


def test_where_some_are_trained_again_no_more_than_those_are_finalists() -> None:
    heights = [0.5, 0.9, 0.1, 0.7, 0.6, 0.8]
    rule = Finishing(Promotion((1, 3, 9)), 5, left=lambda num_workers: Left(num_confirmed=2))
    assert sum(last == 9 for last in run(rule, heights).values()) == 2
    rule = Finishing(Promotion((1, 3, 9)), 5, left=lambda num_workers: Left())
    assert sum(last == 9 for last in run(rule, heights).values()) == 5


def test_a_paused_trial_goes_on_only_if_it_ends_in_time() -> None:
    timed = Timed(100)
    rule = Finishing(Promotion((1, 3, 9)), 1, left=timed.left)
    for number, (value, seconds) in enumerate([(0.5, 1.0), (0.9, 3.0), (0.7, 1.0), (0.6, 1.0)]):
        rule.begin(number, {})
        for epoch in (1, 2, 3):
            rule.report(number, epoch, value, None, seconds)
    for epoch in range(4, 10):
        rule.report(0, epoch, 0.5, None, 1.0)
    timed.now = 100 - 6 * MARGIN
    assert rule.next() == Resume(2, 9), "the best would take 18 seconds"
    timed.now = 100 - 6 * MARGIN + 0.1
    assert rule.next() is None


def test_a_trial_that_failed_or_lost_its_checkpoint_is_no_finalist() -> None:
    rule = Finishing(Promotion((1, 3)), 2, is_end=lambda: True)
    for number, value in enumerate((0.9, 0.8, 0.7, 0.6)):
        rule.begin(number, {})
        assert rule.report(number, 1, value) is Verdict.PAUSE
    rule.end(0, "failed")
    rule.forget(1)
    assert rule.next(may_begin=False) == Resume(2, 3)
    assert rule.next(may_begin=False) == Resume(3, 3)
    assert rule.next(may_begin=False) is None
