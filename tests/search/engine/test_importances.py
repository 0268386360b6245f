from __future__ import annotations

from pathlib import Path

from optuna.distributions import FloatDistribution
from optuna.trial import create_trial

from search.engine.study import Study
from trainable.report import Direction

UNIT = FloatDistribution(0.0, 1.0)


def open_study(folder: Path) -> Study:
    folder.mkdir(exist_ok=True)
    return Study(folder / "optuna.journal", sampler="random", seed=0, direction=Direction.MAXIMIZE)


def add(study: Study, value: float, **params: float) -> None:
    study.study.add_trial(create_trial(value=value, params=params, distributions=dict.fromkeys(params, UNIT)))


def test_a_hyperparameter_that_one_trial_alone_has_or_has_not_is_passed_over_without_a_warning(tmp_path: Path) -> None:
    study = open_study(tmp_path)
    for index in range(12):
        height = index / 11
        lonely = {"lonely": 0.5} if index == 3 else {}
        common = {} if index == 5 else {"common": height}
        half = {"half": 1 - height} if index % 2 else {}
        add(study, height, height=height, **lonely, **common, **half)
    shares = study.importances()
    assert set(shares) == {"height", "half"}
    assert abs(sum(shares.values()) - 1) < 1e-9
    assert shares["height"] > 0


def test_three_trials_tell_nothing_and_neither_does_one_value(tmp_path: Path) -> None:
    few, same = open_study(tmp_path / "few"), open_study(tmp_path / "same")
    for index in range(3):
        add(few, float(index), height=index / 3)
    for index in range(6):
        add(same, 0.5, height=index / 6)
    assert few.importances() == same.importances() == {}
