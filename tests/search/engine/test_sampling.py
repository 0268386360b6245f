from __future__ import annotations

from pathlib import Path
from typing import Any

import optuna

from search.core.ledger import Ledger
from search.core.ranges import Suggests
from search.engine.searcher import Study
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
