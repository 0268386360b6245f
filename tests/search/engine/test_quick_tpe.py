"""The quick TPE against Optuna's own: where Optuna changes what it stands on, these fail first."""

from __future__ import annotations

from typing import Any
from unittest.mock import Mock

import numpy as np
import optuna
import pytest
from optuna.distributions import BaseDistribution, CategoricalDistribution, FloatDistribution, IntDistribution
from optuna.samplers import TPESampler
from optuna.samplers._tpe.parzen_estimator import _ParzenEstimator
from optuna.samplers._tpe.sampler import _split_trials, default_gamma

from search.core.space import DefaultSpace
from search.engine import quick_tpe
from search.engine.quick_tpe import QuickParzen, QuickTPE, compute_log_mass, split_trials
from search.engine.sampling import ByGroups, PausedCount
from trainable.report import Direction

SPACE = DefaultSpace(("small_cnn", "mobilenet_v2"), fine_tuned=("mobilenet_v2",))
NUM_TRIALS = 120


def draw_all(tpe: TPESampler, direction: Direction) -> list[dict[str, Any]]:
    """What a study draws whose trials end in all ways: completed, stopped, paused, failed, still running."""
    paused: dict[int, bool] = {}
    study = optuna.create_study(direction=direction.value, sampler=PausedCount(ByGroups(tpe), paused))
    rng = np.random.default_rng(0)
    for number in range(NUM_TRIALS):
        trial = study.ask()
        SPACE(trial)
        value = float(rng.uniform())
        if number % 7 == 6:
            continue
        for epoch in range(1, 2 + number % 3):
            trial.report(value / epoch, epoch)
        if number % 7 == 5:
            paused[number] = True
        elif number % 7 == 4:
            study.tell(trial, value)
        elif number % 7 == 3:
            study.tell(trial, state=optuna.trial.TrialState.FAIL)
        else:
            study.tell(trial, state=optuna.trial.TrialState.PRUNED)
    return [trial.params for trial in study.trials]


@pytest.mark.parametrize("direction", list(Direction))
def test_it_draws_what_optuna_draws(direction: Direction) -> None:
    options: dict[str, Any] = {"seed": 3, "multivariate": True, "constant_liar": True}
    assert draw_all(QuickTPE(**options), direction) == draw_all(TPESampler(**options), direction)


KINDS: dict[str, BaseDistribution] = {
    "choice": CategoricalDistribution(("a", "b", "c")),
    "even": FloatDistribution(-1.0, 2.0),
    "log": FloatDistribution(1e-5, 1e-1, log=True),
    "steps": FloatDistribution(0.0, 1.0, step=0.25),
    "whole": IntDistribution(1, 9),
    "log_whole": IntDistribution(4, 48, log=True),
}


@pytest.mark.parametrize("num", [0, 1, 2, 200])
@pytest.mark.parametrize("names", [tuple(KINDS), *((name,) for name in KINDS)])
def test_its_densities_are_optunas(names: tuple[str, ...], num: int) -> None:
    """Of kernels that lie evenly, and all but one at one end: narrow ones, which other candidates see as far tails."""
    kinds = {name: KINDS[name] for name in names}
    parameters = TPESampler()._parzen_estimator_parameters
    drawing = optuna.create_study(sampler=optuna.samplers.RandomSampler(seed=0))
    params = [drawing.ask(kinds).params for _ in range(num + 24)]
    drawn = {name: np.array([kind.to_internal_repr(one[name]) for one in params]) for name, kind in kinds.items()}
    values = {name: column[:24] for name, column in drawn.items()}
    ends = {name: np.where(np.arange(num) == 0, column[24:], column.min()) for name, column in drawn.items()}
    for observed in ({name: column[24:] for name, column in drawn.items()}, ends):
        expected = _ParzenEstimator(observed, kinds, parameters).log_pdf(values)
        np.testing.assert_allclose(QuickParzen(observed, kinds, parameters).log_pdf(values), expected, rtol=1e-9)


def test_the_mass_far_out_in_a_tail_is_not_lost() -> None:
    low, high = np.array([-30.0, 29.0, -1.0, -9.0]), np.array([-29.0, 30.0, 1.0, 9.0])
    left, right, middle, all_of_it = compute_log_mass(low, high)
    assert left == right == pytest.approx(-424.787, abs=1e-3)
    assert middle == pytest.approx(np.log(0.6826895))
    assert all_of_it == pytest.approx(0.0, abs=1e-15)


def test_trials_are_split_once_for_each_that_is_drawn_and_read_once(monkeypatch: pytest.MonkeyPatch) -> None:
    splits, reads = Mock(side_effect=quick_tpe.split_trials), Mock(side_effect=quick_tpe._read_row)
    monkeypatch.setattr(quick_tpe, "split_trials", splits)
    monkeypatch.setattr(quick_tpe, "_read_row", reads)
    study = optuna.create_study(sampler=PausedCount(ByGroups(QuickTPE(seed=0)), {}))
    study.optimize(lambda trial: len(SPACE(trial)), n_trials=60)
    splits.reset_mock()
    reads.reset_mock()
    study.optimize(lambda trial: len(SPACE(trial)), n_trials=20)
    assert splits.call_count == 20
    assert reads.call_count < 20 * 10, "each trial that has ended once for each group, not all sixty"


@pytest.mark.parametrize("direction", list(Direction))
@pytest.mark.parametrize("num", [1, 8, 90, 600])
def test_trials_are_good_that_optuna_takes_for_good(num: int, direction: Direction) -> None:
    """Of all states, with values that are equal, that are no number, and without any."""
    rng = np.random.default_rng(num)
    study = optuna.create_study(direction=direction.value)
    states = optuna.trial.TrialState
    for _ in range(num):
        state = (states.COMPLETE, states.PRUNED, states.PRUNED, states.PRUNED, states.RUNNING)[rng.integers(5)]
        values = {epoch: float(rng.integers(20)) for epoch in range(1, 1 + int(rng.integers(4)))}
        if rng.uniform() < 0.1:
            values[9] = float("nan")
        value = float(rng.integers(20)) if state == states.COMPLETE else None
        study.add_trial(optuna.trial.create_trial(state=state, value=value, intermediate_values=values))
    trials = study.get_trials()
    num_ended = sum(trial.state != states.RUNNING for trial in trials)
    expected = _split_trials(study, trials, default_gamma(num_ended))
    assert split_trials(trials, higher_is_better=direction is Direction.MAXIMIZE) == expected


def test_what_it_remembers_of_a_trial_is_of_one_range() -> None:
    """The same choice has another number where the choices have changed."""
    tpe = QuickTPE(seed=0)
    study = optuna.create_study(sampler=tpe)
    study.add_trial(
        optuna.trial.create_trial(params={"x": "b"}, distributions={"x": CategoricalDistribution("ab")}, value=0.0)
    )
    trials = study.get_trials()
    for choices, expected in (("ab", 1.0), ("bca", 0.0), ("ab", 1.0)):
        kinds: dict[str, BaseDistribution] = {"x": CategoricalDistribution(choices)}
        assert tpe._get_internal_repr(trials, kinds, study)["x"] == [expected]
    running = study.ask()
    kinds = {"y": FloatDistribution(0, 1)}
    assert len(tpe._get_internal_repr([running._get_latest_trial()], kinds, study)["y"]) == 0
    value = running.suggest_float("y", 0, 1)
    assert tpe._get_internal_repr([running._get_latest_trial()], kinds, study)["y"] == [value], "it had not ended"
