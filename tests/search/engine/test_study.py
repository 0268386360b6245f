"""Optuna's record of a search: what a driver that died leaves in it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from optuna.trial import TrialState

from search.engine.study import Study
from trainable.report import Direction


def open_study(journal: Path) -> Study:
    return Study(journal, sampler="tpe", seed=0, direction=Direction.MAXIMIZE)


def space(trial: Any) -> dict[str, Any]:
    return {"height": trial.suggest_float("height", 0, 1)}


def test_a_trial_whose_driver_died_before_it_had_a_configuration_is_the_next_that_begins(tmp_path: Path) -> None:
    journal = tmp_path / "optuna.journal"
    study = open_study(journal)
    study.begin_with([{"height": 0.5}, {"height": 0.25}])
    assert study.begin(space).number == 0
    study.study.ask()  # its number is taken, and no configuration noted

    study = open_study(journal)
    assert [trial.state for trial in study.trials()] == [TrialState.RUNNING, TrialState.WAITING]
    begun = study.begin(space)
    assert (begun.number, begun.params) == (1, {"height": 0.25})
    assert study.begin(space).number == 2, "no number is skipped: folds are known by theirs"


def test_a_wish_whose_driver_died_is_still_one(tmp_path: Path) -> None:
    journal = tmp_path / "optuna.journal"
    study = open_study(journal)
    study.wish(space, {"height": 0.75})
    study.study.ask()
    study = open_study(journal)
    assert study.num_wishes == 1
    assert study.begin(space).params == {"height": 0.75}
    assert study.num_wishes == 0
