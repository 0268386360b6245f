"""A tracking server that dies, is moved, or loses its database under a running search."""

from __future__ import annotations

import http.server
import json
import logging
import os
import signal
import threading
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest
from mlflow import MlflowClient

from mlflow_server.database import require_sound
from mlflow_server.mlflow_process import ServerError, bind_port
from mlflow_server.serve import ServerHandle, begin_server, ensure_server
from search.core.ledger import TrialEntry
from search.observers.questions import TrackingError
from search.observers.tracking import Tracking
from tests.mlflow_server.conftest import free_port, team_server
from tests.postgres import start_postgres
from tests.search.driven import Driven
from trainable.report import Outcome
from trainable.retry_queue import IMPATIENCE, is_lost_connection, is_no_mlflow
from trainable.run_log import RunLog

METRICS = {"val_auc": 0.5}


@pytest.fixture
def own_server(tmp_path: Path) -> Iterator[ServerHandle]:
    with ensure_server(tmp_path / "mlflow", free_port()) as server:
        yield server


class Stranger(http.server.BaseHTTPRequestHandler):
    """Another program on the port: it knows nothing of what it is asked."""

    def do_GET(self) -> None:
        self.send_error(404)

    do_POST = do_GET  # noqa: N815

    def log_message(self, *_: object) -> None:
        pass


class OtherMlflow(Stranger):
    """Another search's MLflow on the port: it has none of the runs that it is asked for."""

    def do_GET(self) -> None:
        told = json.dumps({"error_code": "RESOURCE_DOES_NOT_EXIST", "message": "No such run"}).encode()
        self.send_response(404)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(told)))
        self.end_headers()
        self.wfile.write(told)

    do_POST = do_GET  # noqa: N815


def kill_for_good(server: ServerHandle) -> int:
    """Kill the server with what keeps it up; the port that it had."""
    facts = json.loads((server.folder / "server.json").read_text())
    children = psutil.Process(facts["pid"]).children(recursive=True)
    os.kill(facts["pid"], signal.SIGKILL)
    for child in children:
        child.kill()
    psutil.wait_procs(children)
    while bind_port(facts["port"]) is None:
        threading.Event().wait(0.05)
    return int(facts["port"])


def steps(uri: str, run_id: str) -> list[int]:
    return sorted(point.step for point in MlflowClient(uri).get_metric_history(run_id, "val_auc"))


@pytest.mark.timeout(600)
def test_a_server_that_nobody_keeps_up_is_started_again_and_followed_to_another_port(
    own_server: ServerHandle, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    old = own_server.uri
    tracking = Driven.open(old, "returns", "first")
    tracking.find_server = own_server.find_again
    run_id = tracking.open_trial(0, {"lr": 1})
    port = kill_for_good(own_server)
    with http.server.ThreadingHTTPServer(("127.0.0.1", port), Stranger) as stranger:
        threading.Thread(target=stranger.serve_forever, daemon=True).start()
        log = RunLog(old, run_id, tmp_path / "0000.jsonl")
        for epoch in (1, 2):
            log.log_epoch(epoch, METRICS)
            tracking.report(0, epoch, 1_700_000_000_000 + epoch, METRICS)
        tracking.close_trial(0, "completed")
        assert tracking.close_search(Outcome.COMPLETED, timeout_s=300)
        log.close(timeout_s=0.0)
        stranger.shutdown()
    assert tracking.uri == own_server.uri != old
    assert len((tmp_path / "0000.jsonl").read_text().splitlines()) == 2, "what a stranger refuses is not sent"
    assert steps(tracking.uri, run_id) == [1, 2]
    assert MlflowClient(tracking.uri).get_run(run_id).info.status == "FINISHED"
    assert sum(f"MLflow is at {tracking.uri} now" in record.getMessage() for record in caplog.records) == 1
    assert tracking.logs_for_trials, "they know the old address alone"


def test_what_another_searchs_server_refuses_waits_for_the_searchs_own(
    mlflow_server: ServerHandle, caplog: pytest.LogCaptureFixture
) -> None:
    tracking = Driven.open(mlflow_server.uri, "returns", "taken")
    own = tracking.runs.client
    run_id = tracking.open_trial(0, {"lr": 1})
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), OtherMlflow) as other:
        threading.Thread(target=other.serve_forever, daemon=True).start()
        tracking.uri = f"http://127.0.0.1:{other.server_port}"
        tracking.runs.client = MlflowClient(tracking.uri)
        tracking.report(0, 1, 1_700_000_000_001, METRICS)
        tracking.ledger.begin(1, {"lr": 2})
        tracking.report(1, 1, 1_700_000_000_002, METRICS)
        while not tracking.is_away:
            threading.Event().wait(0.05)
        tracking.find_server = lambda: mlflow_server.uri
        for number in (0, 1):
            tracking.close_trial(number, "completed")
        assert tracking.close_search(Outcome.COMPLETED, timeout_s=300)
        other.shutdown()
    assert "MLflow refused" not in caplog.text
    found = own.search_runs([tracking.experiment_id], f"tags.`mlflow.parentRunId` = '{tracking.parent_run_id}'")
    assert {run.info.run_id: run.info.status for run in found}.keys() >= {run_id}
    assert [(run.info.status, steps(mlflow_server.uri, run.info.run_id)) for run in found] == [("FINISHED", [1])] * 2


def test_a_run_that_the_searchs_own_server_refuses_ends_the_search_at_once(
    mlflow_server: ServerHandle, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("search.observers.trial_runs.OPENING_S", 60.0)  # however busy the machine is
    tracking = Driven.open(mlflow_server.uri, "returns", "refused")
    tracking.runs.experiment_id = "999999"
    with pytest.raises(TrackingError, match=r"refused the run of trial 0: .*999999"):
        tracking.ledger.begin(0, {"lr": 1})
    assert not tracking.is_away


def test_a_refusal_of_mlflows_own_is_told_from_a_strangers(mlflow_server: ServerHandle) -> None:
    with pytest.raises(Exception, match="not found") as refused:
        MlflowClient(mlflow_server.uri).get_run("0" * 32)
    assert not is_no_mlflow(refused.value)
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Stranger) as stranger:
        threading.Thread(target=stranger.serve_forever, daemon=True).start()
        with pytest.raises(Exception, match="404") as strange:
            MlflowClient(f"http://127.0.0.1:{stranger.server_port}").get_run("0" * 32)
        stranger.shutdown()
    assert is_no_mlflow(strange.value)


def test_a_search_that_mlflow_does_not_know_any_more_gets_its_runs_anew(
    mlflow_server: ServerHandle, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    entries = {
        0: TrialEntry(number=0, params={"lr": 1}, run_id="a" * 32, outcome=Outcome.COMPLETED, values={1: 0.5, 2: 0.7}),
        3: TrialEntry(number=3, params={"lr": 2}, run_id="b" * 32, outcome=Outcome.INTERRUPTED, values={1: 0.6}),
    }
    tracking = Tracking.open(mlflow_server.uri, "returns", "lost", parent_run_id="0" * 32)
    assert tracking.is_rebuilt and tracking.parent_run_id != "0" * 32
    made = tracking.rebuild(entries)
    assert made == tracking.rebuild(entries) == {number: entry.run_id for number, entry in entries.items()}
    client = MlflowClient(mlflow_server.uri)
    assert [steps(mlflow_server.uri, made[number]) for number in (0, 3)] == [[1, 2], [1]]
    ended, left = client.get_run(made[0]), client.get_run(made[3])
    assert (ended.info.status, left.info.status) == ("FINISHED", "KILLED")
    assert ended.data.params == {"lr": "1"} and ended.data.metrics["best_epoch"] == 2.0
    assert "made anew from the search's own record" in caplog.text
    left = RunLog("http://127.0.0.1:9", "a" * 32, tmp_path / "0000.jsonl")
    left.log_epoch(2, METRICS)
    left.close(timeout_s=0.0)
    tracking.send_spools([tmp_path / "0000.jsonl"], entries)
    assert tracking.flush() and not (tmp_path / "0000.jsonl").exists(), (
        "its run is lost, and the epoch is in the new one"
    )
    assert steps(mlflow_server.uri, made[0]) == [1, 2] and "MLflow refused" not in caplog.text
    again = RunLog(mlflow_server.uri, made[3], tmp_path / "0003.jsonl", by="val_auc")
    for epoch in (1, 2):  # a trial that goes on repeats some; what the search's record did not have is new
        again.log_epoch(epoch, {"epoch_s": 1.0, **METRICS})
    again.close()
    assert steps(mlflow_server.uri, made[3]) == [1, 2]
    tracking.close_search(Outcome.COMPLETED)


def test_a_search_that_mlflow_knows_is_not_made_anew(mlflow_server: ServerHandle) -> None:
    first = Tracking.open(mlflow_server.uri, "returns", "known")
    again = Tracking.open(mlflow_server.uri, "returns", "known", parent_run_id=first.parent_run_id)
    assert not first.is_rebuilt and not again.is_rebuilt
    again.close_search(Outcome.COMPLETED)


@pytest.mark.timeout(600)
def test_a_damaged_database_is_named_with_what_to_do(own_server: ServerHandle) -> None:
    file = own_server.folder / "mlflow.db"
    require_sound(file, wholly=True)
    content = bytearray(file.read_bytes())
    for at in range(len(content) // 2, len(content), 512):
        content[at] ^= 0xFF
    aside = file.with_name("other.db")
    aside.write_bytes(content)
    with pytest.raises(ServerError, match=r"other\.db is damaged"):
        require_sound(aside, wholly=True)
    aside.write_bytes(b"\xff" * 4096 + content[4096:])
    with pytest.raises(ServerError, match=r"other\.db is damaged \(file is not a database\): end what uses it, .*mv "):
        require_sound(aside)
    aside.replace(file)
    with pytest.raises(ServerError, match=r"mlflow\.db is damaged") as caught:
        begin_server(own_server.folder)
    assert "\n" not in str(caught.value)
    with pytest.raises(Exception, match=r"sqlite3|500 error") as failed, IMPATIENCE:
        MlflowClient(own_server.uri).create_experiment("while it is damaged")
    assert is_lost_connection(failed.value), "it may be mended: what the search has to say waits"
    file.write_bytes(b"")
    require_sound(file, wholly=True)


@pytest.mark.timeout(600)
def test_a_database_that_is_restarted_costs_a_search_nothing(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.WARNING)
    with start_postgres(free_port()) as postgres:
        backend = postgres.make_database("mlflow")
        environment = {"MLFLOW_BACKEND_STORE_URI": postgres.with_password(backend)}
        home, artifacts = tmp_path / "home", str(tmp_path / "artifacts")
        with (
            team_server(home, backend=backend, artifacts=artifacts, environment=environment) as team,
            pytest.MonkeyPatch.context() as patch,
        ):
            for name, value in team.login("admin", team.admin_password).items():
                patch.setenv(name, value)
            tracking = Driven.open(team.uri, "postgres", "first")
            runs = {number: tracking.open_trial(number, {"lr": number}) for number in range(3)}
            for number in runs:
                if number:
                    postgres.restart()
                for epoch in range(1, 10):
                    tracking.report(number, epoch, 1_700_000_000_000 + epoch, METRICS)
                tracking.close_trial(number, "completed")
            assert tracking.close_search(Outcome.COMPLETED, timeout_s=120)
            assert [steps(team.uri, run_id) for run_id in runs.values()] == [list(range(1, 10))] * 3
            statuses = {MlflowClient(team.uri).get_run(run_id).info.status for run_id in runs.values()}
    assert statuses == {"FINISHED"}
    assert "MLflow refused" not in caplog.text
