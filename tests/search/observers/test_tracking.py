from __future__ import annotations

import logging
import os
from itertools import count
from typing import TYPE_CHECKING, Any

import pytest
from mlflow import MlflowClient

from search.core.ledger import TrialEntry
from search.observers.mlflow_runs import STATUSES
from search.observers.questions import TrackingError
from tests.outages import outage
from tests.search.driven import Driven
from trainable.report import Outcome
from trainable.run_log import RunLog

if TYPE_CHECKING:
    from pathlib import Path

    from mlflow_server.serve import ServerHandle

NOWHERE = "http://127.0.0.1:9"  # the discard port: nobody listens
PARAMS = {"architecture": "small_cnn", "learning_rate": 1e-3, "class_weighting": False}
numbers = count()


@pytest.fixture(scope="module")
def client(mlflow_server: ServerHandle) -> MlflowClient:
    return MlflowClient(mlflow_server.uri)


@pytest.fixture
def name() -> str:
    return f"search-{next(numbers)}"


@pytest.fixture
def tracking(mlflow_server: ServerHandle, name: str) -> Driven:
    return Driven.open(mlflow_server.uri, "tracking-tests", name, tags={"seed": "0"}, description="A test.")


def report_epochs(tracking: Driven, number: int, aucs: dict[int, float]) -> None:
    for epoch, auc in aucs.items():
        tracking.report(number, epoch, 1000 * epoch, {"val_auc": auc, "train_loss": 1.0 / epoch})


def steps(client: MlflowClient, run_id: str, key: str = "val_auc") -> list[int]:
    return sorted(metric.step for metric in client.get_metric_history(run_id, key))


def test_a_search_is_a_parent_run_and_a_trial_its_child(tracking: Driven, client: MlflowClient, name: str) -> None:
    tracking.runs.trial_tags = {"device": "cpu"}
    run_id = tracking.open_trial(7, PARAMS | {"long": "x" * 9000})
    parent, child = client.get_run(tracking.parent_run_id), client.get_run(run_id)
    assert client.get_experiment(tracking.experiment_id).name == "tracking-tests"
    assert (parent.info.run_name, child.info.run_name) == (name, f"{name}-0007")
    assert parent.data.tags["mlflow.note.content"] == "A test."
    assert (parent.data.tags["search"], parent.data.tags["seed"]) == (name, "0")
    assert child.data.tags["mlflow.parentRunId"] == tracking.parent_run_id
    assert (child.data.tags["trial"], child.data.tags["device"]) == ("7", "cpu")
    assert child.data.params == {key: str(PARAMS[key]) for key in PARAMS} | {"long": "x" * 6000}
    assert parent.info.status == child.info.status == "RUNNING"


@pytest.mark.parametrize(
    ("outcome", "status"),
    [("completed", "FINISHED"), ("stopped", "FINISHED"), ("failed", "FAILED"), ("interrupted", "KILLED")],
)
def test_each_outcome_has_its_status_and_its_tag(
    tracking: Driven, client: MlflowClient, outcome: str, status: str
) -> None:
    run_id = tracking.open_trial(0, PARAMS)
    report_epochs(tracking, 0, {1: 0.6})
    tracking.close_trial(0, outcome, tags={"rung": "1"}, error="x" * 9000 + "ValueError: last")
    assert tracking.flush()
    run = client.get_run(run_id)
    assert run.info.status == status
    assert run.info.end_time is not None
    assert (run.data.tags["outcome"], run.data.tags["rung"]) == (outcome, "1")
    assert run.data.tags["error"].endswith("ValueError: last")
    assert tracking.close_search(Outcome(outcome), tags={"champion": "0"}, metrics={"best_val_auc": 0.6})
    parent = client.get_run(tracking.parent_run_id)
    assert (parent.info.status, parent.data.tags["outcome"]) == (status, outcome)
    assert (parent.data.tags["champion"], parent.data.metrics["best_val_auc"]) == ("0", 0.6)


def test_the_first_outcome_stays(tracking: Driven, client: MlflowClient) -> None:
    run_id = tracking.open_trial(0, PARAMS)
    tracking.close_trial(0, "stopped")
    assert tracking.flush()
    ended = client.get_run(run_id).info.end_time
    tracking.close_trial(0, "interrupted")
    assert tracking.flush()
    run = client.get_run(run_id)
    assert (run.info.status, run.data.tags["outcome"], run.info.end_time) == ("FINISHED", "stopped", ended)


def test_the_driver_fills_the_gaps_of_a_trials_own_log(tracking: Driven, client: MlflowClient, tmp_path: Path) -> None:
    run_id = tracking.open_trial(0, PARAMS)
    report_epochs(tracking, 0, {1: 0.6, 2: 0.9, 3: 0.9, 4: 0.7})
    own = RunLog(tracking.uri, run_id, tmp_path / "spool")
    own.log_epoch(1, {"val_auc": 0.6, "train_loss": 1.0}, 1000)
    own.log_epoch(3, {"val_auc": 0.9, "train_loss": 1 / 3}, 3000)
    own.close(60)
    tracking.close_trial(0, "completed")
    assert tracking.flush()
    assert steps(client, run_id) == steps(client, run_id, "train_loss") == [1, 2, 3, 4]
    metrics = client.get_run(run_id).data.metrics
    assert (metrics["best_val_auc"], metrics["best_epoch"]) == (0.9, 3), "the mean of the last epochs"


def test_the_best_of_a_loss_is_the_lowest_and_nan_is_never_best(
    mlflow_server: ServerHandle, client: MlflowClient, name: str
) -> None:
    tracking = Driven.open(mlflow_server.uri, "tracking-tests", name, metric="val_loss")
    run_id = tracking.open_trial(0, PARAMS)
    for epoch, loss in {1: 0.5, 2: float("nan"), 3: 0.4, 4: 0.6}.items():
        tracking.report(0, epoch, 1000 * epoch, {"val_loss": loss})
    tracking.close_trial(0, "completed")
    assert tracking.flush()
    metrics = client.get_run(run_id).data.metrics
    assert (metrics["best_val_loss"], metrics["best_epoch"]) == (0.5, 4)


def test_a_trial_that_said_nothing_can_end(tracking: Driven, client: MlflowClient) -> None:
    run_id = tracking.open_trial(0, PARAMS)
    tracking.close_trial(0, "failed", error="CUDA out of memory")
    assert tracking.flush()
    run = client.get_run(run_id)
    assert (run.info.status, run.data.metrics) == ("FAILED", {})


def test_closing_a_search_leaves_nothing_running(tracking: Driven, client: MlflowClient) -> None:
    run_ids = [tracking.open_trial(number, PARAMS) for number in range(3)]
    tracking.close_trial(1, "completed")
    assert tracking.close_search(Outcome.INTERRUPTED)
    assert [client.get_run(run_id).info.status for run_id in run_ids] == ["KILLED", "FINISHED", "KILLED"]


def test_a_resumed_search_goes_on_in_its_runs(
    tracking: Driven, client: MlflowClient, mlflow_server: ServerHandle, name: str
) -> None:
    first, second = tracking.open_trial(0, PARAMS), tracking.open_trial(1, PARAMS)
    report_epochs(tracking, 0, {1: 0.6, 2: 0.8})
    tracking.close_trial(0, "interrupted")
    tracking.close_search(Outcome.INTERRUPTED)
    resumed = Driven.open(mlflow_server.uri, "tracking-tests", name, parent_run_id=tracking.parent_run_id)
    assert client.get_run(tracking.parent_run_id).info.status == "RUNNING"
    left = TrialEntry(number=0, params=PARAMS, run_id=first, outcome=Outcome.INTERRUPTED, values={1: 0.6, 2: 0.8})
    resumed.ledger.restore(left)
    assert resumed.open_trial(0, PARAMS, first) == first
    run = client.get_run(first)
    assert run.info.status == "RUNNING"
    assert "outcome" not in run.data.tags
    assert resumed.open_trial(1, PARAMS | {"learning_rate": 9.0}) == second, "one run a trial number"
    assert client.get_run(second).data.params["learning_rate"] == "0.001"
    report_epochs(resumed, 0, {2: 0.7, 3: 0.9})
    resumed.close_trial(0, "completed")
    assert resumed.flush()
    assert steps(client, first) == [1, 2, 3]
    run = client.get_run(first)
    assert (run.info.status, run.data.metrics["best_val_auc"]) == ("FINISHED", pytest.approx(0.85))
    assert run.data.metrics["best_epoch"] == 3
    assert resumed.close_search(Outcome.COMPLETED)


def test_what_a_killed_driver_left_running_is_fixed(
    tracking: Driven, client: MlflowClient, mlflow_server: ServerHandle, name: str
) -> None:
    run_ids = [tracking.open_trial(number, PARAMS) for number in range(4)]
    tracking.close_trial(0, "stopped")
    assert tracking.flush()
    after = Driven.open(mlflow_server.uri, "tracking-tests", name, parent_run_id=tracking.parent_run_id)
    assert after.fix({1: Outcome.COMPLETED}, keep=[3]) == [1, 2]
    runs = [client.get_run(run_id) for run_id in run_ids]
    assert [run.info.status for run in runs] == ["FINISHED", "FINISHED", "KILLED", "RUNNING"]
    assert [run.data.tags.get("outcome") for run in runs] == ["stopped", "completed", "interrupted", None]
    assert after.fix({}) == [3]
    assert after.fix({}) == []


def test_a_search_goes_on_while_the_server_is_away_and_reports_it_later(
    tracking: Driven,
    client: MlflowClient,
    mlflow_server: ServerHandle,
    tmp_path: Path,
    caplog: pytest.LogCaptureFixture,
) -> None:
    first, second = tracking.open_trial(0, PARAMS), tracking.open_trial(1, PARAMS)
    report_epochs(tracking, 0, {1: 0.6})
    with outage(mlflow_server), caplog.at_level(logging.WARNING):
        report_epochs(tracking, 0, {2: 0.7})
        tracking.close_trial(0, "stopped")
        tracking.log_text("notes.txt", "while away")
        tracking.close_trial(1, "failed", error="out of memory")
        third = tracking.ledger.begin(2, PARAMS)
        assert third.run_id is None, "it trains without its run"
        report_epochs(tracking, 2, {1: 0.5, 2: 0.6})
        assert not tracking.flush(5)
    assert caplog.text.count("is away") == 1
    report_epochs(tracking, 2, {3: 0.7})
    assert tracking.flush(120)
    assert third.run_id is not None, "it was opened when the server was back"
    assert tracking.close_search(Outcome.COMPLETED, timeout_s=120)
    assert steps(client, first) == [1, 2]
    assert steps(client, third.run_id) == [1, 2, 3], "the driver logged for it"
    outcomes = [client.get_run(run_id).data.tags["outcome"] for run_id in (first, second, third.run_id)]
    assert outcomes == ["stopped", "failed", "interrupted"]
    assert [file.path for file in client.list_artifacts(tracking.parent_run_id)] == ["notes.txt"]


def test_a_run_that_was_opened_late_is_found_by_a_resumed_search(
    tracking: Driven, client: MlflowClient, mlflow_server: ServerHandle, name: str
) -> None:
    run_id = tracking.open_trial(0, PARAMS)
    tracking.close_search(Outcome.INTERRUPTED)
    resumed = Driven.open(mlflow_server.uri, "tracking-tests", name, parent_run_id=tracking.parent_run_id)
    assert resumed.open_trial(0, PARAMS) == run_id


def test_a_server_that_stays_away_is_an_error_where_an_answer_is_needed(
    name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Driven, "patience_s", 0.5)
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_TIMEOUT", "77")
    with pytest.raises(TrackingError, match=r"http://127.0.0.1:9 has not answered for \d s"):
        Driven.open(NOWHERE, "tracking-tests", name)
    with pytest.raises(ValueError, match="http"):
        Driven.open("sqlite:///mlflow.db", "tracking-tests", name)
    assert os.environ["MLFLOW_HTTP_REQUEST_TIMEOUT"] == "77", "the rest of the process keeps its patience"


def test_what_cannot_be_delivered_at_the_end_is_named(
    tracking: Driven, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(tracking.runs, "client", MlflowClient(NOWHERE))
    tracking.log_dict("space.json", {"a": 1})
    assert not tracking.close_search(Outcome.COMPLETED, timeout_s=0)
    assert "did not get: space.json; the end of the search" in caplog.text


def test_what_the_server_refuses_is_dropped_and_the_rest_delivered(
    tracking: Driven, client: MlflowClient, caplog: pytest.LogCaptureFixture
) -> None:
    run_id = tracking.open_trial(0, PARAMS)
    tracking.report(0, 1, 1000, {"no \t such / name?": 1.0})
    tracking.close_trial(0, "completed")
    assert tracking.flush()
    assert "MLflow refused epochs of trial 0" in caplog.text
    assert client.get_run(run_id).info.status == "FINISHED"


def test_a_deleted_experiment_is_an_error_that_says_what_to_do(
    mlflow_server: ServerHandle, client: MlflowClient, name: str
) -> None:
    experiment_id = client.create_experiment(name)
    client.delete_experiment(experiment_id)
    with pytest.raises(TrackingError, match=rf"restore.*--experiment-id {experiment_id}"):
        Driven.open(mlflow_server.uri, name, name)


def test_artifacts_and_figures_of_the_search_hang_on_its_parent_run(
    tracking: Driven, client: MlflowClient, tmp_path: Path
) -> None:
    content: dict[str, Any] = {"slices": 3}
    image = tmp_path / "curve ü.png"
    image.write_bytes(b"png")
    tracking.log_text("report/leaderboard.md", "| trial |")
    tracking.log_dict("audit.json", content)
    tracking.log_file(image, "report")
    tracking.log_metrics({"other_auc": 0.75})
    assert tracking.flush()
    parent = tracking.parent_run_id
    assert client.get_run(parent).data.metrics["other_auc"] == 0.75
    found = {file.path for folder in ("", "report") for file in client.list_artifacts(parent, folder)}
    assert found == {"audit.json", "report", "report/leaderboard.md", "report/curve ü.png"}


def test_addresses_lead_into_the_ui(tracking: Driven) -> None:
    experiment = f"{tracking.uri}/#/experiments/{tracking.experiment_id}"
    view = "workflowType=machine_learning"
    assert tracking.search_url() == f"{experiment}/runs/{tracking.parent_run_id}?{view}"
    assert tracking.run_url("ab") == f"{experiment}/runs/ab?{view}"
    assert tracking.compare_url(["ab", "cd"]) == (
        f"{tracking.uri}/#/compare-runs?runs=%5B%22ab%22%2C%22cd%22%5D"
        f"&experiments=%5B%22{tracking.experiment_id}%22%5D&{view}"
    )


def test_every_outcome_of_the_project_is_known() -> None:
    assert set(STATUSES) == set(Outcome)
