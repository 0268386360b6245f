"""Epochs that a trial could not send before its process died: the next command that opens the search sends them."""

from __future__ import annotations

import json
import time
from pathlib import Path

import pytest
from mlflow import MlflowClient

from mlflow_server.serve import ServerHandle
from search.commands.ui import send_all_spools
from search.core.config import SearchConfig
from search.core.folder import create_search, reopen_search
from search.core.ledger import Ledger, TrialEntry
from search.engine.study import Study
from search.observers.tracking import Tracking
from tests.search.driven import Driven
from tests.search.reports import report
from trainable.report import Direction, Outcome
from trainable.run_log import RunLog, read_spool, send_left_spools

METRICS = {"val_auc": 0.5, "val_loss": 1.0}
NOWHERE = "http://127.0.0.1:9"


def write_spool(path: Path, run_id: str, *values: float) -> None:
    """As a trial leaves it whose server was away."""
    log = RunLog(NOWHERE, run_id, path)
    for epoch, value in enumerate(values, start=1):
        log.log_epoch(epoch, {**METRICS, "val_auc": value}, timestamp_ms=1_700_000_000_000 + epoch)
    log.close(timeout_s=0.0)
    assert len(path.read_text().splitlines()) == len(values)


def steps(client: MlflowClient, run_id: str) -> dict[int, float]:
    return {point.step: point.value for point in client.get_metric_history(run_id, "val_auc")}


def test_a_resume_sends_the_spool_of_every_trial_and_keeps_those_of_trials_that_go_on(
    mlflow_server: ServerHandle, tmp_path: Path
) -> None:
    tracking = Driven.open(mlflow_server.uri, "spools", "first", metric="val_auc")
    runs = {number: tracking.open_trial(number, {"lr": 1}) for number in (0, 1)}
    tracking.report(0, 1, 1_700_000_000_001, {**METRICS, "val_auc": 0.6})
    tracking.close_trial(0, "completed")
    assert tracking.flush()
    spool = tmp_path / "spool"
    for number, run_id in runs.items():
        write_spool(spool / f"{number:04d}.jsonl", run_id, 0.6, 0.9, 0.7)
    (spool / "0007.jsonl").write_text("of a trial that nobody knows\n")
    with (spool / "0000.jsonl").open("a") as file:
        file.write('{"epoch": 4, "timest')  # its writer was killed within a line

    again = Tracking.open(mlflow_server.uri, "spools", "first", parent_run_id=tracking.parent_run_id)
    entries = {
        0: TrialEntry(number=0, params={}, run_id=runs[0], outcome=Outcome.COMPLETED),
        1: TrialEntry(number=1, params={}, run_id=runs[1], outcome=Outcome.INTERRUPTED),
    }
    again.send_spools(sorted(spool.glob("*.jsonl")), entries)
    assert again.flush()
    client = MlflowClient(mlflow_server.uri)
    assert steps(client, runs[0]) == steps(client, runs[1]) == {1: 0.6, 2: 0.9, 3: 0.7}
    ended = client.get_run(runs[0])
    assert (ended.data.metrics["best_val_auc"], ended.data.metrics["best_epoch"]) == (pytest.approx(0.8), 3.0)
    assert ended.info.status == "FINISHED"
    assert sorted(path.name for path in spool.iterdir()) == ["0001.jsonl", "0007.jsonl"]
    again.close_search(Outcome.INTERRUPTED)


def test_a_worker_sends_what_was_left_on_its_node(mlflow_server: ServerHandle, tmp_path: Path) -> None:
    tracking = Driven.open(mlflow_server.uri, "spools", "node", metric="val_auc")
    run_id = tracking.open_trial(0, {})
    write_spool(tmp_path / "0000.jsonl", run_id, 0.6, 0.9)
    send_left_spools(mlflow_server.uri, tmp_path).join()
    assert steps(MlflowClient(mlflow_server.uri), run_id) == {1: 0.6, 2: 0.9}
    tracking.close_search(Outcome.INTERRUPTED)


def test_a_spool_of_an_older_version_says_no_run(tmp_path: Path) -> None:
    path = tmp_path / "0000.jsonl"
    path.write_text(json.dumps({"epoch": 1, "timestamp_ms": 5, "metrics": {"val_auc": 0.5}}) + "\n[]\n7\n{}\n")
    assert read_spool(path)[1:] == (None, {1: (5, {"val_auc": 0.5})})


@pytest.mark.parametrize("runs", [False, True])
def test_the_ui_sends_the_spools_of_searches_that_do_not_run(
    mlflow_server: ServerHandle, tmp_path: Path, runs: bool, capsys: pytest.CaptureFixture[str]
) -> None:
    tracking = Driven.open(mlflow_server.uri, "spools", "dead", metric="val_auc")
    run_id = tracking.open_trial(0, {})
    config = SearchConfig(name="dead", home=tmp_path)
    folder = create_search(tmp_path, "dead", {"config": config.to_record(), "parent_run_id": tracking.parent_run_id})
    study = Study(folder.journal_file, sampler="random", seed=0, direction=Direction.MAXIMIZE)
    ledger = Ledger(observers=[study])
    begun = study.begin(lambda trial: {"height": trial.suggest_float("height", 0, 1)})
    ledger.begin(begun.number, begun.params, run_id)
    study.note_run(ledger.entries[0])
    ledger.report(0, report(1, 0.6, metrics=METRICS, ended_at_s=time.time()))
    ledger.end(0, Outcome.COMPLETED)
    write_spool(folder.cache / "spool" / "dead" / "0000.jsonl", run_id, 0.6, 0.9)
    if not runs:
        folder.release()
    send_all_spools(tmp_path, mlflow_server.uri)
    assert steps(MlflowClient(mlflow_server.uri), run_id) == ({} if runs else {1: 0.6, 2: 0.9})
    assert ("dead: epochs" in capsys.readouterr().out) is not runs
    if runs:
        folder.release()
    assert len(reopen_search(tmp_path, "dead").list_spools()) == runs
    tracking.close_search(Outcome.INTERRUPTED)
