"""Convergence on simulated searches: when it ends one, what is still trained then, and what it says."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import numpy as np
import pytest

from search.core.config import SearchConfig
from search.core.convergence import Converging, reason_of
from search.core.decisions import New, Verdict
from search.core.options import OptionError
from search.core.rules import build_rule
from search.core.stop import StopReason
from search.preparation.plan import DEFAULT_NUM_TRIALS, limit_trials
from trainable.report import Direction


def space(trial: Any) -> dict[str, Any]:
    return {"rate": trial.suggest_float("rate", 1e-5, 1e-1, log=True)}


def flat(params: Mapping[str, Any], epoch: int) -> float:
    """All settings are nearly alike, and no epoch adds anything."""
    return 0.8 + 0.001 * math.log10(params["rate"])


def rising(params: Mapping[str, Any], epoch: int) -> float:
    """Rates matter, and so does every epoch."""
    return (1 - abs(math.log10(params["rate"]) + 3) / 4) * epoch / 9


def run(
    scheduler: str, value: Any, num_trials: int = 150, ensemble: int = 3, **options: Any
) -> tuple[Any, dict[int, int]]:
    """One worker; the rule, and how far each trial came."""
    config = SearchConfig(scheduler=scheduler, max_epochs=9, ensemble=ensemble, stop_when="converged", **options)
    rule, _ = build_rule(config, space, Direction.MAXIMIZE, max_epochs=9)
    generator = np.random.default_rng(0)
    epochs: dict[int, int] = {}
    drawn: dict[int, dict[str, Any]] = {}
    while (decision := rule.next(may_begin=len(epochs) < num_trials)) is not None:
        if isinstance(decision, New):
            number = len(epochs)
            drawn[number] = dict(decision.params or {"rate": 10 ** float(generator.uniform(-5, -1))})
            epochs[number] = 0
            rule.begin(number, drawn[number])
        else:
            number = decision.number
        verdict = Verdict.CONTINUE
        while verdict is Verdict.CONTINUE:
            epochs[number] += 1
            verdict = rule.report(number, epochs[number], value(drawn[number], epochs[number]), 0.05, 2.0)
        if verdict is Verdict.STOP:
            rule.end(number, "completed" if epochs[number] == 9 else "stopped")
    return rule, epochs


@pytest.mark.parametrize("scheduler", ["promotion", "freeze-thaw", "asha"])
def test_a_search_in_which_nothing_is_left_to_gain_ends_before_its_budget(scheduler: str) -> None:
    rule, epochs = run(scheduler, flat)
    assert isinstance(rule, Converging)
    assert rule.is_reached
    assert len(epochs) < 150
    reason, words = reason_of(rule)
    assert reason is StopReason.CONVERGED
    assert words.startswith("nothing more to gain: the most promising next step is expected to add ")
    assert "of one worker, and 0.005 would be worth it" in words  # a tenth of the standard error


def test_its_finalists_are_trained_to_the_end_first() -> None:
    _, epochs = run("promotion", flat)
    assert sum(last == 9 for last in epochs.values()) >= 3
    _, alone = run("promotion", flat, ensemble=1)
    assert sum(last == 9 for last in alone.values()) >= 1


def test_a_search_in_which_much_is_left_to_gain_goes_on() -> None:
    rule, epochs = run("promotion", rising, num_trials=12)
    assert not rule.is_reached
    assert len(epochs) == 12
    assert reason_of(rule) == (StopReason.ALL_TRIALS, "")


def test_no_search_ends_before_eight_full_trainings() -> None:
    _, epochs = run("promotion", flat)
    assert sum(epochs.values()) >= 72


def test_without_standard_errors_the_way_come_so_far_says_what_is_little() -> None:
    rule, _ = run("promotion", rising, num_trials=12)
    trials = rule.model.board.trials.values()
    for trial in trials:
        trial.standard_errors.clear()
    best = max(trial.last_score for trial in trials)
    assert 0 < rule.least() < 0.005 * best


def test_what_is_said_is_said_once() -> None:
    config = SearchConfig(stop_when="converged", max_epochs=9)
    rule, _ = build_rule(config, space, Direction.MAXIMIZE, max_epochs=9)
    assert isinstance(rule, Converging)
    lines: list[str] = []
    rule.say = lines.append
    for number in range(150):
        rule.begin(number, {"rate": 1e-3})
        rule.report(number, 1, 0.8, 0.05, 1.0)
        rule.next()
    assert len(lines) == 1


def test_a_search_that_ends_by_itself_needs_no_budget() -> None:
    assert limit_trials(SearchConfig()) == DEFAULT_NUM_TRIALS
    assert limit_trials(SearchConfig(stop_when="converged")) is None
    assert limit_trials(SearchConfig(stop_when="converged", num_trials=7)) == 7


def test_another_word_is_refused() -> None:
    with pytest.raises(OptionError, match="'never'; it must be one of budget, converged"):
        SearchConfig(stop_when="never")
