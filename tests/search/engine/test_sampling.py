from __future__ import annotations

import math
from itertools import pairwise
from pathlib import Path
from typing import Any
from unittest.mock import Mock

import numpy as np
import optuna
import pytest
from optuna.samplers._tpe.sampler import _split_trials

from search.core.ledger import Ledger
from search.core.ranges import Suggests
from search.engine import sampling
from search.engine.sampling import MOST_GOOD, MOST_TAUGHT, WARM, ByGroups, Teacher, choose_taught, find_doubted
from search.engine.study import Study
from tests.search.reports import report
from trainable.report import Direction


def height(trial: Suggests) -> dict[str, Any]:
    return {"height": trial.suggest_float("height", 0, 1)}


def test_the_sampler_learns_from_paused_trials(tmp_path: Path) -> None:
    """Forty trials that all wait: without their values TPE would go on drawing anywhere."""
    study = Study(tmp_path / "optuna.journal", sampler="tpe", seed=0, direction=Direction.MAXIMIZE)
    ledger = Ledger(observers=[study])
    drawn = []
    for _ in range(40):
        begun = study.begin(height)
        drawn.append(begun.drawn["height"])
        ledger.begin(begun.number, begun.params)
        ledger.report(begun.number, report(1, -abs(begun.drawn["height"] - 0.8)))
        ledger.pause(begun.number)
    early, late = drawn[:10], drawn[-10:]
    assert sum(abs(value - 0.8) for value in late) < sum(abs(value - 0.8) for value in early) / 2
    assert all(trial.state == optuna.trial.TrialState.RUNNING for trial in study.trials()), "they may go on"


def test_trials_that_an_earlier_session_left_are_paused_and_go_on_with_their_values(tmp_path: Path) -> None:
    study = Study(tmp_path / "optuna.journal", sampler="tpe", seed=0, direction=Direction.MAXIMIZE)
    ledger = Ledger(observers=[study])
    begun = study.begin(height)
    ledger.begin(begun.number, begun.params)
    ledger.report(0, report(1, 0.5))
    again = Study(tmp_path / "optuna.journal", sampler="tpe", seed=0, direction=Direction.MAXIMIZE)
    assert list(again.paused) == [0]
    (past,) = again.history()
    assert (past.number, past.values, past.outcome) == (0, {1: 0.5}, "interrupted")
    assert again.resume(0).params == begun.params
    assert list(again.live) == [0]


def output(number: int, value: float, *, is_warm: bool = False) -> optuna.trial.FrozenTrial:
    trial = optuna.trial.create_trial(
        state=optuna.trial.TrialState.PRUNED,
        intermediate_values={1: value, 3: value + 1},
        user_attrs={WARM: True} if is_warm else {},
    )
    trial.number = number
    return trial


def test_points_of_earlier_searches_count_for_the_sampler_once_they_hold_here() -> None:
    warm = [output(0, 0.9, is_warm=True), output(1, 0.1, is_warm=True), output(2, math.nan, is_warm=True)]
    others = [output(3 + number, number / 10) for number in range(10)]
    assert find_doubted(others, higher_is_better=True) == set()
    assert find_doubted([*warm, *others[:4]], higher_is_better=True) == {0, 1, 2}, "too few others to tell"
    assert find_doubted([*warm, *others], higher_is_better=True) == {1, 2}
    assert find_doubted([*warm, *others], higher_is_better=False) == {0, 2}


def test_three_bad_points_of_an_earlier_search_do_not_move_what_the_sampler_draws(tmp_path: Path) -> None:
    """With them the study draws, trial by trial, what it draws without them."""
    drawn: dict[str, list[float]] = {}
    for name, points in (("cold", []), ("warm", [{"height": 0.0}] * 3)):
        study = Study(tmp_path / name, sampler="tpe", seed=0, direction=Direction.MAXIMIZE)
        study.begin_with(points, num_warm=len(points))
        ledger = Ledger(observers=[study])
        heights = drawn[name] = []
        for _ in range(20 + len(points)):
            begun = study.begin(height)
            heights.append(begun.drawn["height"])
            ledger.begin(begun.number, begun.params)
            ledger.report(begun.number, report(1, -abs(begun.drawn["height"] - 0.8)))
            ledger.pause(begun.number)
    assert drawn["warm"][:3] == [0.0] * 3
    assert drawn["warm"][3:] == drawn["cold"]


def ended(number: int, values: dict[int, float], *, is_complete: bool = False) -> optuna.trial.FrozenTrial:
    states = optuna.trial.TrialState
    trial = optuna.trial.create_trial(
        state=states.COMPLETE if is_complete else states.PRUNED,
        value=values[max(values)] if is_complete else None,
        intermediate_values=values,
    )
    trial.number = number
    return trial


def test_of_many_trials_the_sampler_learns_from_the_best_and_some_of_the_others() -> None:
    few = [ended(number, {1: 0.5}) for number in range(MOST_TAUGHT)]
    assert choose_taught(few, higher_is_better=True) == few
    many = [ended(number, {1: number / 1000}) for number in range(2000)]
    many += [ended(2000, {1: 0.1, 3: 0.2}), ended(2001, {1: 0.0, 9: 0.0}, is_complete=True), ended(2002, {1: math.nan})]
    waiting = optuna.trial.create_trial(state=optuna.trial.TrialState.RUNNING)
    waiting.number = 2003
    taught = [trial.number for trial in choose_taught([*many, waiting], higher_is_better=True)]
    assert len(taught) == MOST_TAUGHT + 1 and taught == sorted(taught)
    assert {2000, 2001, 2003, *range(1999, 1999 - MOST_GOOD + 2, -1)} <= set(taught), "the best, in TPE's order"
    others = [number for number in taught if number <= 1999 - MOST_GOOD]
    assert max(after - before for before, after in pairwise([0, *others])) < 20, "of every time"
    assert {2001, 0, 1} <= {trial.number for trial in choose_taught(many, higher_is_better=False)}


def test_a_view_that_is_cut_gives_the_same_best_trials_as_the_sampler_itself_would_choose() -> None:
    rng = np.random.default_rng(0)
    many = [
        ended(number, {epoch: float(rng.uniform()) for epoch in range(1, 2 + int(rng.geometric(0.4)))})
        for number in range(800)
    ]
    study = optuna.create_study(direction="maximize", sampler=optuna.samplers.RandomSampler(seed=0))
    study.add_trials(many)
    told = study.get_trials(deepcopy=False)
    all_below, _ = _split_trials(study, told, 25)
    below, above = _split_trials(study, choose_taught(told, higher_is_better=True), 25)
    assert [trial.number for trial in below] == [trial.number for trial in all_below]
    assert len(above) == MOST_TAUGHT - 25


def test_between_two_choices_every_new_trial_is_taught(tmp_path: Path) -> None:
    teacher = Teacher()
    many = [ended(number, {1: number / 1000}) for number in range(1000)]
    first = teacher.choose(many, higher_is_better=True)
    assert first == choose_taught(many, higher_is_better=True)
    many += [ended(1000 + more, {1: 0.5}) for more in range(10)]
    assert teacher.choose(many, higher_is_better=True) == [*first, *many[1000:]]
    many += [ended(1010 + more, {1: 0.5}) for more in range(10)]
    assert teacher.choose(many, higher_is_better=True) == choose_taught(many, higher_is_better=True)


def test_what_is_taught_between_two_choices_is_as_far_as_it_has_come(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nothing looks at every trial then, and one that is paused counts with the values that it has by now."""
    teacher = Teacher()
    many = [ended(number, {1: number / 1000}) for number in range(1000)]
    many[999].state = optuna.trial.TrialState.RUNNING
    assert teacher.choose(many, higher_is_better=True)[-1] is many[999]
    looked = Mock(side_effect=AssertionError)
    monkeypatch.setattr(sampling, "find_doubted", looked)
    monkeypatch.setattr(sampling, "choose_taught", looked)
    many[999].intermediate_values[3] = 0.7
    many.append(ended(1000, {1: 0.5}))
    *_, paused, newest = teacher.choose(many, {999}, higher_is_better=True)
    assert paused.state == optuna.trial.TrialState.PRUNED and paused.intermediate_values[3] == 0.7
    assert many[999].state == optuna.trial.TrialState.RUNNING and newest is many[1000]


def branches(trial: Suggests) -> dict[str, Any]:
    """Two architectures, of which each has a hyperparameter of its own; the first one is better."""
    rate = trial.suggest_float("rate", 0, 1)
    if trial.suggest_categorical("architecture", ["deep", "wide"]) == "deep":
        return {"value": 1 - abs(rate - 0.7) - abs(trial.suggest_float("depth", 0, 1) - 0.2)}
    return {"value": -abs(trial.suggest_float("width", 0, 1) - 0.5)}


class Counted(optuna.samplers.TPESampler):
    """Notes which hyperparameters are drawn together."""

    def __init__(self) -> None:
        super().__init__(seed=0, multivariate=True, constant_liar=True)
        self.together: list[tuple[str, ...]] = []

    def sample_relative(self, study: Any, trial: Any, search_space: Any) -> dict[str, Any]:
        self.together.append(tuple(search_space))
        return super().sample_relative(study, trial, search_space)


def test_a_trial_draws_the_groups_of_its_own_architecture_and_finds_what_is_good_there() -> None:
    tpe = Counted()
    study = optuna.create_study(direction="maximize", sampler=ByGroups(tpe))
    study.optimize(lambda trial: float(branches(trial)["value"]), n_trials=80)
    assert set(tpe.together[-60:]) <= {("architecture", "rate"), ("depth",), ("width",)}, "since both have been drawn"
    late = study.trials[-30:]
    assert sum(trial.params["architecture"] == "deep" for trial in late) > 20
    assert sum(abs(trial.params.get("depth", 1.0) - 0.2) < 0.15 for trial in late) > 12
    for trial in study.trials[11:]:
        assert ("depth" in trial.params) != ("width" in trial.params)


def test_a_range_that_has_changed_is_drawn_within() -> None:
    study = optuna.create_study(sampler=ByGroups(optuna.samplers.TPESampler(seed=0, multivariate=True)))
    study.optimize(lambda trial: trial.suggest_float("rate", 0.0, 1.0), n_trials=15)
    study.optimize(lambda trial: trial.suggest_float("rate", 2.0, 3.0), n_trials=5)
    assert all(2.0 <= trial.params["rate"] <= 3.0 for trial in study.trials[15:])
