"""A running search steered from outside: what it is asked it answers, and no champion is lost by it."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
from optuna.trial import TrialState

import ctsearch
from mlflow_server.serve import ServerHandle
from search.commands.steer import read_params
from search.core import steering
from search.core.events import Observer
from search.core.folder import create_search
from search.core.freeze_thaw import FreezeThaw
from search.core.ledger import Ledger, TrialEntry
from search.core.promotion import Promotion
from search.core.rules import build_rule
from search.core.space import DefaultSpace
from search.core.stop import StopReason
from search.engine import steered
from search.engine.cluster import Cluster
from search.engine.space_probe import fit_wish
from tests.search.toy import Play, heights, play_in
from trainable.report import Direction, TrialReport

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture
def play(cluster: Cluster, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Play:
    monkeypatch.setattr(steered, "LOOK_S", 0.0)
    return play_in(tmp_path, cluster)


class Person(Observer):
    """Asks when so many epochs of the search have ended; `answers` are what the driver left."""

    def __init__(self, folder: Path, *asked: tuple[int, str, dict[str, Any]]) -> None:
        self.folder = folder
        self.asked = list(asked)
        self.requests: list[Path] = []
        self.num_epochs = 0

    def epoch_reported(self, entry: TrialEntry, report: TrialReport) -> None:
        self.num_epochs += 1
        while self.asked and self.num_epochs >= self.asked[0][0]:
            _, verb, content = self.asked.pop(0)
            self.requests.append(steering.ask(self.folder, verb, **content))

    def answers(self) -> list[steering.Answer]:
        given = [steering.wait_for_answer(request, 0.0) for request in self.requests]
        assert all(answer is not None for answer in given), given
        return [answer for answer in given if answer is not None]


@pytest.fixture
def person(tmp_path: Path) -> Callable[..., Person]:
    return lambda *asked: Person(tmp_path / "searches" / "toy", *asked)


def slowly(trial: Any) -> dict[str, Any]:
    return heights(trial) | {"sleep_s": 0.2}


@pytest.mark.timeout(600)
def test_a_search_that_is_reported_to_stop_keeps_what_it_has(play: Play, person: Callable[..., Person]) -> None:
    asks = person((4, "stop", {}))
    played = play(slowly, num_trials=50, observers=lambda ledger: [asks])
    assert played.reason is StopReason.REQUESTED and played.reason.concludes
    assert asks.answers() == [steering.Answer(done=True, text="the search ends now, with its champion")]
    assert played.ledger.best() is not None


@pytest.mark.timeout(600)
def test_one_trial_is_stopped_after_its_epoch_and_the_others_are_not(play: Play, person: Callable[..., Person]) -> None:
    asks = person((1, "stop-trial", {"trial": 0}), (1, "stop-trial", {"trial": 99}), (11, "stop-trial", {"trial": 0}))
    played = play(
        slowly, num_trials=3, slots=1, observers=lambda ledger: [asks], build_rule=lambda ledger: stop_nobody()
    )
    done, unknown, ended = asks.answers()
    assert done.done and "after the epoch" in done.text
    assert not unknown.done and "there is no trial 99" in unknown.text
    assert not ended.done and "has ended already: stopped" in ended.text
    assert [len(played.memory.reported[number]) for number in (1, 2)] == [9, 9]
    assert played.states() == [TrialState.PRUNED, TrialState.COMPLETE, TrialState.COMPLETE]


def stop_nobody() -> Any:
    """Nobody is stopped."""
    from search.core.rungs import Rungs
    from search.core.stopping import Stopping

    return Stopping(Rungs(()), 9)


def freeze_thaw(ledger: Ledger) -> FreezeThaw | Promotion:
    from search.core.config import SearchConfig

    config = SearchConfig(max_epochs=9, scheduler="promotion", num_trials=6, ensemble=1)
    rule, _ = build_rule(config, DefaultSpace(("small_cnn",)), Direction.MAXIMIZE, max_epochs=9)
    assert isinstance(rule, Promotion)
    return rule


class StopPaused(Observer):
    """Wants the first trial that pauses ended."""

    def __init__(self, person: Person) -> None:
        self.person = person
        self.number: int | None = None

    def trial_paused(self, entry: TrialEntry) -> None:
        if self.number is None:
            self.number = entry.number
            self.person.requests.append(steering.ask(self.person.folder, "stop-trial", trial=entry.number))


@pytest.mark.timeout(600)
def test_a_paused_trial_is_stopped_and_never_goes_on(play: Play, person: Callable[..., Person]) -> None:
    asks = person()
    stops = StopPaused(asks)
    played = play(slowly, num_trials=6, slots=1, observers=lambda ledger: [stops], build_rule=freeze_thaw)
    assert [answer.done for answer in asks.answers()] == [True]
    assert stops.number is not None
    assert played.study.trials()[stops.number].state is TrialState.PRUNED
    assert played.reason is StopReason.ALL_TRIALS


@pytest.mark.timeout(600)
@pytest.mark.parametrize("rule", ["stopping", "promotion"])
def test_a_configuration_that_is_tried_is_the_next_trial_beyond_the_number_asked_for(
    play: Play, person: Callable[..., Person], rule: str
) -> None:
    asks = person((2, "try", {"params": {"height": 0.625}}), (2, "try", {"params": {"hight": 1.0}}))
    played = play(
        slowly,
        num_trials=3,
        slots=1,
        observers=lambda ledger: [asks],
        build_rule=freeze_thaw if rule == "promotion" else None,
    )
    done, unknown = asks.answers()
    assert done.done and "height=0.625 is the next trial" in done.text
    assert not unknown.done and "did you mean 'height'?" in unknown.text
    heights_tried = [trial.params["height"] for trial in played.study.trials()]
    assert len(heights_tried) == 4 and heights_tried.index(0.625) in (1, 2)
    assert played.noted == [{"num_trials": 4}]


@pytest.mark.timeout(600)
def test_a_larger_budget_is_taken_and_a_smaller_one_refused(play: Play, person: Callable[..., Person]) -> None:
    asks = person(
        (2, "extend", {"budget": {"num_trials": 5, "time_budget_s": 7200.0}}),
        (2, "extend", {"budget": {"num_trials": 2}}),
        (2, "dance", {}),
    )
    played = play(slowly, num_trials=3, observers=lambda ledger: [asks], time_budget_s=3600.0)
    larger, smaller, unknown = asks.answers()
    assert larger.done and "num_trials=5" in larger.text
    assert not smaller.done and "has 5 already" in smaller.text
    assert not unknown.done
    assert len(played.states()) == 5 and played.budget.time_budget_s == 7200.0
    assert played.noted == [{"num_trials": 5, "time_budget_s": 7200.0}]


@pytest.mark.timeout(600)
def test_what_an_earlier_driver_was_asked_does_not_end_the_next_one(play: Play, person: Callable[..., Person]) -> None:
    folder = person().folder
    play(heights, num_trials=1)
    steering.ask(folder, "stop")
    (folder / "steering" / "7-7.request.json").write_text("{ torn")
    assert play(heights, num_trials=3).reason is StopReason.ALL_TRIALS
    assert list((folder / "steering").iterdir()) == []


def test_a_request_that_cannot_be_read_is_answered_so(tmp_path: Path) -> None:
    good = steering.ask(tmp_path, "stop")
    bad = tmp_path / "steering" / "1-1.request.json"
    for torn in ('{"verb', "[]", "{}"):
        bad.write_text(torn)
        assert [request.file for request in steering.read_requests(tmp_path)] == [good]
        given = steering.wait_for_answer(bad, 0.0)
        assert given is not None and not given.done and "cannot be read" in given.text


def test_a_wish_is_fitted_to_the_space() -> None:
    space = DefaultSpace(("small_cnn", "resnet18"))
    assert fit_wish(space, {"learning_rate": 3e-4, "optimizer": "adamw"}) == {
        "learning_rate": 3e-4,
        "optimizer": "adamw",
    }
    conditional = fit_wish(space, {"cnn_depth": 3})
    assert conditional["cnn_depth"] == 3 and conditional["architecture"] == "small_cnn"
    assert fit_wish(space, {"learning_rate": 0.01, "optimizer": "sgd"}) == {
        "learning_rate_sgd": 0.01,
        "optimizer": "sgd",
    }
    for wrong, said in {
        "architecture": "architecture='resnet19' is not in the space of this search",
        "learning_rte": "did you mean 'learning_rate' or",
    }.items():
        with pytest.raises(ValueError) as caught:
            fit_wish(space, {wrong: "resnet19"})
        assert said in str(caught.value) and "\n" not in str(caught.value)


def test_hyperparameters_are_read_as_numbers_where_they_are() -> None:
    given = ["lr=3e-4", "batch_size=16", "arch=resnet18", "class_weighting=true"]
    assert read_params(given) == {"lr": 3e-4, "batch_size": 16, "arch": "resnet18", "class_weighting": True}
    for wrong in ("lr", "=3", "lr=", "lr=1e999"):
        with pytest.raises(ValueError, match=r"hyperparameter|finite"):
            read_params([wrong])


def test_a_search_that_does_not_run_cannot_be_steered_and_its_status_is_reported(tmp_path: Path) -> None:
    folder = create_search(tmp_path, "still", {"config": {"home": str(tmp_path), "num_trials": 3}})
    with pytest.raises(ValueError, match="still preparing"):
        ctsearch.stop("still", home=tmp_path)
    assert ctsearch.status("still", home=tmp_path)["is_running"]
    folder.release()
    with pytest.raises(ValueError, match=r"is not running; .*resume still"):
        ctsearch.extend("still", home=tmp_path, num_trials=5)
    with pytest.raises(ValueError, match="there is no search 'other'"):
        ctsearch.status("other", home=tmp_path)
    assert not ctsearch.status("still", home=tmp_path)["is_running"]


@pytest.mark.timeout(1800)
def test_a_real_search_is_seen_and_steered_from_another_shell_and_ends_with_its_champion(
    cluster: Cluster, synthetic_folder: Path, mlflow_server: ServerHandle, tmp_path: Path
) -> None:
    home = tmp_path / "home"

    def call(*arguments: str) -> subprocess.CompletedProcess[str]:
        command = [sys.executable, "-m", "search.cli", *arguments, "--home", str(home)]
        return subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=600)

    class Shell(Observer):
        """Another shell, in which a person types after the first epoch."""

        def __init__(self) -> None:
            self.typed: Future[list[subprocess.CompletedProcess[str]]] | None = None
            self.pool = ThreadPoolExecutor(1)

        def epoch_reported(self, entry: TrialEntry, report: TrialReport) -> None:
            self.typed = self.typed or self.pool.submit(self.type)

        def type(self) -> list[subprocess.CompletedProcess[str]]:
            return [
                call("status", "steered", "--json"),
                call("try", "steered", "lr=0.003", "optimizer=adamw"),
                call("try", "steered", "arch=resnet18"),
                call("extend", "steered", "--num-trials", "1000"),
                call("stop", "steered"),
            ]

    shell = Shell()
    result = ctsearch.search(
        synthetic_folder,
        name="steered",
        home=home,
        tracking_uri=mlflow_server.uri,
        model_name="steered-model",
        arch="small_cnn",
        num_trials=500,
        max_epochs=30,
        image_size=64,
        trial_cpus=1,
        observers=[shell],
        progress=False,
    )
    assert shell.typed is not None
    status, tried, refused, extended, stopped = shell.typed.result()
    seen = json.loads(status.stdout)
    assert (seen["is_running"], seen["phase"], seen["budget"]["num_trials"]) == (True, "searching", 500)
    assert tried.returncode == 0 and "learning_rate=0.003" in tried.stdout, tried.stderr
    assert (
        refused.returncode == 2
        and "architecture is not drawn here" in refused.stderr
        and refused.stderr.count("\n") == 1
    )
    assert (extended.returncode, stopped.returncode) == (0, 0), extended.stderr + stopped.stderr
    assert result.champion is not None and result.stop_reason == "asked to stop"
    assert set(result.champion.members) <= {trial.number for trial in result.trials if trial.best_value is not None}
    assert 0.5 < result.champion.validation <= 1
    output = call("status", "steered")
    assert "ended, not running" in output.stdout and "1000 trials" in output.stdout, output.stdout + output.stderr
