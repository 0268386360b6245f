from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any
from unittest.mock import Mock

import optuna
import pytest
from optuna.storages import JournalStorage
from optuna.storages.journal import JournalFileBackend
from optuna.trial import FrozenTrial, TrialState

from search.core.ledger import Ledger
from search.core.ranges import Suggests
from search.core.space import DefaultSpace
from search.engine.study import Study
from search.engine.study_file import STUDY_NAME
from tests.search.reports import report
from trainable.report import Direction

SPACE = DefaultSpace(("small_cnn", "mobilenet_v2"))


def height(trial: Suggests) -> dict[str, Any]:
    return {"height": trial.suggest_float("height", 0, 1)}


def open_study(folder: Path, sampler: str = "tpe") -> Study:
    return Study(folder / "optuna.journal", sampler=sampler, seed=0, direction=Direction.MAXIMIZE)


def test_a_trial_that_is_drawn_is_one_line_of_the_journal(tmp_path: Path) -> None:
    study = open_study(tmp_path)
    before = study.storage._backend.journal.read_text()  # type: ignore[attr-defined]
    begun = study.begin(SPACE)
    (line,) = (tmp_path / "optuna.journal").read_text().removeprefix(before).splitlines()
    assert json.loads(line)["user_attrs"] == {"params": json.dumps(begun.params)}
    (again,) = open_study(tmp_path).trials()
    assert (again.number, again.params, again.state) == (0, begun.drawn, TrialState.RUNNING)
    assert again.datetime_start is not None


def test_a_space_sees_the_number_that_its_trial_will_have(tmp_path: Path) -> None:
    study = open_study(tmp_path)
    seen: list[int] = []

    def space(trial: Any) -> dict[str, Any]:
        seen.append(trial.number)
        return {"height": trial.suggest_float("height", 0, 1), "seed": trial.number}

    begun = [study.begin(space) for _ in range(3)]
    assert seen == [0, 1, 2] == [each.number for each in begun] == [each.params["seed"] for each in begun]


def test_a_draw_lists_the_trials_of_the_study_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    study = open_study(tmp_path)
    study.study.add_trials([end(place / 20) for place in range(20)])
    listed = Mock(side_effect=study.storage.get_all_trials)
    monkeypatch.setattr(study.storage, "get_all_trials", listed)
    study.begin(height)
    assert listed.call_count == 1


def begin_by_asking(study: Study) -> dict[str, Any]:
    """As Optuna draws: into the study itself, line by line."""
    trial = study.study.ask()
    trial.set_user_attr("params", json.dumps(SPACE(trial)))
    study.live[trial.number] = trial
    return trial.params


def draw_forty(study: Study, begin: Callable[[Study], dict[str, Any]]) -> list[dict[str, Any]]:
    """Of which some run, some wait and some have ended."""
    ledger = Ledger(observers=[study])
    drawn = []
    for number in range(40):
        drawn.append(begin(study))
        ledger.begin(number, drawn[-1])
        if number % 4:
            ledger.report(number, report(1, drawn[-1]["dropout"]))
        if number % 4 > 1:
            ledger.pause(number)
    return drawn


@pytest.mark.parametrize("sampler", ["tpe", "random"])
def test_a_draft_draws_what_the_trial_itself_would_draw(sampler: str, tmp_path: Path) -> None:
    for name in ("draft", "asked"):
        (tmp_path / name).mkdir()
    drafted = draw_forty(open_study(tmp_path / "draft", sampler), lambda study: dict(study.begin(SPACE).drawn))
    assert drafted == draw_forty(open_study(tmp_path / "asked", sampler), begin_by_asking)


def test_a_space_that_raises_leaves_a_failed_trial_with_what_it_drew(tmp_path: Path) -> None:
    def broken(trial: Suggests) -> dict[str, Any]:
        trial.suggest_float("height", 0, 1)
        raise KeyError("width")

    study = open_study(tmp_path)
    with pytest.raises(KeyError, match="width"):
        study.begin(broken)
    (failed,) = study.trials()
    assert failed.state == TrialState.FAIL and list(failed.params) == ["height"]
    assert study.begin(height).number == 1 and list(study.live) == [1]


def end(value: float) -> FrozenTrial:
    kinds: dict[str, optuna.distributions.BaseDistribution] = {"height": optuna.distributions.FloatDistribution(0, 1)}
    return optuna.trial.create_trial(
        state=TrialState.PRUNED,
        params={"height": value},
        distributions=kinds,
        intermediate_values={1: -abs(value - 0.8)},
    )


def test_trials_that_come_in_by_the_journal_count_from_the_next_draw_on(tmp_path: Path) -> None:
    """Few: all of them; many: the best; and those that come after the sampler chose among many."""
    study = open_study(tmp_path)
    sampler: Any = study.study.sampler
    storage = JournalStorage(JournalFileBackend(str(tmp_path / "optuna.journal")))
    other = optuna.load_study(study_name=STUDY_NAME, storage=storage)
    for num_more, learned in ((20, range(20)), (400, (21 + 320,)), (2, (422, 423))):
        other.add_trials([end(place / num_more) for place in range(num_more)])
        assert study.begin(height).number == len(study.trials()) - 1, "no other trial's number"
        good, others = sampler.inner.tpe._split[2]
        assert {*learned} <= {trial.number for trial in (*good, *others)}
