from __future__ import annotations

from search.core.baselines import Baselines
from search.core.config import SearchConfig
from search.core.decisions import New, Resume, Verdict
from search.core.finishing import Finishing
from search.core.promotion import Promotion
from search.core.rules import build_rule
from search.core.space import DefaultSpace
from tests.search.core.test_finishing import run
from trainable.report import Direction


def test_a_baseline_is_trained_to_the_end_though_it_begins_as_the_worst() -> None:
    heights = [0.1, 0.2, 0.9, 0.8, 0.7, 0.6, 0.5, 0.4, 0.3]
    assert run(Promotion((1, 3, 9)), heights)[0] == 1
    epochs = run(Baselines(Promotion((1, 3, 9)), [0]), heights)
    assert epochs[0] == epochs[2] == 9
    assert epochs[1] == 1


def test_a_baseline_goes_on_before_another_trial_begins_and_the_others_as_the_rule_has_them() -> None:
    rule = Baselines(Promotion((1, 3, 9)), [1])
    for number in range(3):
        assert isinstance(rule.next(), New)
        rule.begin(number, {})
    for number in range(3):
        assert rule.report(number, 1, 0.5 + number / 10) is Verdict.PAUSE
    assert rule.next() == Resume(1, 9)
    assert rule.next() == Resume(2, 3)


def test_a_baseline_that_failed_or_diverged_or_lost_its_checkpoint_does_not_go_on() -> None:
    rule = Baselines(Promotion((1, 3, 9)), [0, 1, 2])
    for number in range(4):
        rule.begin(number, {})
        rule.report(number, 1, float("nan") if number == 1 else number / 10)
    rule.end(0, "failed")
    rule.forget(2)
    assert rule.next() == Resume(3, 3)


def test_the_kept_part_of_the_budget_is_for_the_best_trials_be_they_baselines_or_not() -> None:
    is_time = False
    rule = Finishing(Baselines(Promotion((1, 3, 9)), [0]), 1, is_end=lambda: is_time)
    for number, value in enumerate((0.5, 0.9)):
        rule.begin(number, {})
        rule.report(number, 1, value)
    is_time = True
    assert rule.next() == Resume(1, 3)


def test_a_search_has_them_unless_it_stops_trials_and_pauses_none() -> None:
    space = DefaultSpace(("small_cnn",))
    for scheduler in ("freeze-thaw", "promotion", "asha"):
        config = SearchConfig(scheduler=scheduler, sampler="random", ensemble=1)
        rule, _ = build_rule(config, space, Direction.MAXIMIZE, max_epochs=9, baselines=(0,))
        assert isinstance(rule, Baselines) == (scheduler != "asha")
