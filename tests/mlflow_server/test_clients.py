"""Searches and trials as clients of a team's server: they log in, lose nothing, and tell nobody the password."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from mlflow import MlflowClient
from mlflow.exceptions import MlflowException

from search.cli import run
from search.core.config import SearchConfig
from search.engine.cluster import Cluster
from search.observers.questions import TrackingError
from search.observers.surroundings import read_login
from search.observers.tracking import Tracking
from tests.mlflow_server.conftest import ROOT, TeamServer, server_command
from tests.search.driven import Driven
from trainable.report import Outcome
from trainable.run_log import RunLog
from trainable.task import TrialTask

NUM_TRIALS, NUM_EPOCHS = 8, 40
TRIALS = """
import os, sys, time
from pathlib import Path
import mlflow  # once for all: each trial below is a process of its own
from tests.search.driven import Driven
from trainable.report import Outcome
from trainable.run_log import RunLog
uri, folder, num_epochs, *run_ids = sys.argv[1:]
go_s = time.time() + 1
processes = []
for number, run_id in enumerate(run_ids):
    process = os.fork()
    if process:
        processes.append(process)
        continue
    log = RunLog(uri, run_id, Path(folder) / f"{number}.jsonl")
    time.sleep(max(0, go_s - time.time()))
    for epoch in range(1, int(num_epochs) + 1):
        log.log_epoch(epoch, {f"metric_{k}": number * 1000 + epoch + k / 10 for k in range(5)}, 1000 * epoch)
    log.close(120)
    os._exit(0)
sys.exit(max(os.waitstatus_to_exitcode(os.waitpid(process, 0)[1]) for process in processes))
"""


@pytest.fixture(scope="module")
def ana(team: TeamServer) -> str:
    """The password of a user of the team."""
    return server_command("user", "ana", "--home", str(team.home), environment={}).split()[3]


@pytest.fixture
def logged_in(team: TeamServer, ana: str, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    for name, value in team.login("ana", ana).items():
        monkeypatch.setenv(name, value)
    yield


def small_search(home: Path, data: Path, name: str, **more: object) -> SearchConfig:
    entries = {"architectures": ("small_cnn",), "num_trials": 3, "max_epochs": 2, "image_size": 32, **more}
    return SearchConfig(name=name, home=home, data=data, trial_cpus=1, **entries)  # type: ignore[arg-type]


@pytest.mark.timeout(400)
def test_a_search_and_its_workers_log_in_and_the_password_is_in_no_file_no_run_and_no_output(
    cluster: Cluster,
    team: TeamServer,
    ana: str,
    synthetic_folder: Path,
    tmp_path: Path,
    logged_in: None,
    capfd: pytest.CaptureFixture[str],
) -> None:
    import ray

    assert run(small_search(tmp_path, synthetic_folder, "with-login", model_name="team-model")) == 0

    client = MlflowClient(team.uri)
    record = json.loads((tmp_path / "searches/with-login/search.json").read_text())
    parent = client.get_run(record["parent_run_id"])
    runs = client.search_runs([parent.info.experiment_id])
    assert sum(found.data.tags.get("mlflow.parentRunId") == parent.info.run_id for found in runs) == 3
    assert client.get_model_version_by_alias("team-model", "champion").run_id
    kept = [file.read_bytes() for file in tmp_path.rglob("*") if file.is_file() and file.suffix != ".py"]
    logs = Path(ray._private.worker.global_worker.node.get_session_dir_path()) / "logs"
    kept += [file.read_bytes() for file in logs.rglob("*") if file.is_file()]
    kept += [str(found.to_dictionary()).encode() for found in runs]
    out, err = capfd.readouterr()
    kept += [out.encode(), err.encode(), team.output.read_bytes()]
    assert kept and not any(ana.encode() in text for text in kept)
    refused = [text[max(0, at - 200) : at + 400] for text in kept if (at := text.find(b"MLflow refused")) >= 0]
    assert not refused, "as a worker without the login would have said"


def test_a_worker_whose_environment_knows_no_password_logs_in_by_the_task_that_it_gets(
    cluster: Cluster, team: TeamServer, logged_in: None, tmp_path: Path
) -> None:
    import ray

    class Worker:
        def knows(self) -> bool:
            return "MLFLOW_TRACKING_PASSWORD" in os.environ

        def log(self, task: TrialTask, run_id: str) -> None:
            log = RunLog(task.tracking_uri, run_id, Path(task.node_dir) / "spool")
            log.log_epoch(1, {"val_auc": 0.75})
            log.close(60)

    task = TrialTask(
        search="task",
        settings=None,  # type: ignore[arg-type]
        data=None,  # type: ignore[arg-type]
        trials_uri="",
        node_dir=str(tmp_path),
        tracking_uri=team.uri,
        tracking_login=read_login(),
    )
    assert task.tracking_login["MLFLOW_TRACKING_PASSWORD"] not in repr(task)
    client = MlflowClient(team.uri)
    run_id = client.create_run("0").info.run_id
    worker = ray.remote(num_cpus=0)(Worker).remote()
    assert not ray.get(worker.knows.remote())
    ray.get(worker.log.remote(task, run_id))
    assert client.get_run(run_id).data.metrics == {"val_auc": 0.75}
    ray.kill(worker)


def test_everybody_of_a_team_adds_to_the_same_experiment_and_model_and_only_its_owner_deletes(
    team: TeamServer, ana: str, logged_in: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    hers = MlflowClient(team.uri)
    experiment = hers.create_experiment("shared")
    run = hers.create_run(experiment).info.run_id
    hers.create_registered_model("shared-model")

    ben = server_command("user", "ben", "--home", str(team.home), environment={}).split()[3]
    for name, value in team.login("ben", ben).items():
        monkeypatch.setenv(name, value)
    his = MlflowClient(team.uri)
    own = his.create_run(experiment).info.run_id
    his.log_metric(own, "val_auc", 0.75)
    his.log_text(own, "his", "note.txt")
    model = his.create_logged_model(experiment, name="shared-model", source_run_id=own)
    his.finalize_logged_model(model.model_id, "READY")
    source = f"models:/{model.model_id}"
    version = his.create_model_version("shared-model", source, own, model_id=model.model_id).version
    his.set_registered_model_alias("shared-model", "champion", version)
    assert hers.get_model_version_by_alias("shared-model", "champion").run_id == own
    for forbidden in (
        lambda: his.delete_run(run),
        lambda: his.delete_experiment(experiment),
        lambda: his.delete_registered_model("shared-model"),
    ):
        with pytest.raises(MlflowException, match="Permission denied"):
            forbidden()


@pytest.mark.parametrize(
    ("name", "password", "words"),
    [
        ("ana", "wrong", "password of 'ana' is wrong"),
        ("nobody-knows", "it", "password of 'nobody-knows' is wrong, or there is no such user"),
        (None, None, "wants a login; set MLFLOW_TRACKING_USERNAME and MLFLOW_TRACKING_PASSWORD"),
    ],
)
def test_a_wrong_password_is_reported_at_once_and_leaves_no_search(
    name: str | None,
    password: str | None,
    words: str,
    cluster: Cluster,
    team: TeamServer,
    synthetic_folder: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    for variable, value in (("MLFLOW_TRACKING_USERNAME", name), ("MLFLOW_TRACKING_PASSWORD", password)):
        monkeypatch.delenv(variable, raising=False)
        if value is not None:
            monkeypatch.setenv(variable, value)
    with pytest.raises(TrackingError, match=words):
        run(small_search(tmp_path, synthetic_folder, "refused", tracking_uri=team.uri))
    assert not (tmp_path / "searches/refused").exists()


def test_an_address_that_the_server_does_not_know_is_reported_with_the_way_out(
    team: TeamServer, logged_in: None
) -> None:
    foreign = team.uri.replace("127.0.0.1", "127.1")  # the same machine by another name
    with pytest.raises(TrackingError, match=r"does not know this address.*--allowed-hosts"):
        Tracking.open(foreign, "team-tests", "foreign")


def test_a_login_within_the_address_is_refused_before_it_is_written_anywhere(
    team: TeamServer, synthetic_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    address = team.uri.replace("://", "://ana:secret@")
    with pytest.raises(ValueError, match="MLFLOW_TRACKING_PASSWORD") as refusal:
        small_search(tmp_path, synthetic_folder, "leaking", tracking_uri=address)
    assert "secret" not in str(refusal.value)
    monkeypatch.setenv("MLFLOW_TRACKING_URI", address)
    with pytest.raises(ValueError, match="MLFLOW_TRACKING_PASSWORD"):
        run(small_search(tmp_path, synthetic_folder, "leaking"))
    assert not (tmp_path / "searches/leaking").exists()


def test_eight_trials_log_into_postgresql_at_once_and_nothing_is_lost_or_locked(
    team: TeamServer, logged_in: None, tmp_path: Path
) -> None:
    tracking = Driven.open(team.uri, "team-tests", "eight", metric="metric_0")
    run_ids = [tracking.open_trial(number, {"number": number}) for number in range(NUM_TRIALS)]
    command = [sys.executable, "-c", TRIALS, team.uri, str(tmp_path), str(NUM_EPOCHS), *run_ids]
    subprocess.run(command, cwd=ROOT, check=True, timeout=600)
    assert not list(tmp_path.glob("*.jsonl")), "every epoch was confirmed"

    client = MlflowClient(team.uri)
    for number, run_id in enumerate(run_ids):
        for k in range(5):
            history = client.get_metric_history(run_id, f"metric_{k}")
            found = {entry.step: (entry.value, entry.timestamp) for entry in history}
            wanted = {epoch: (number * 1000 + epoch + k / 10, 1000 * epoch) for epoch in range(1, NUM_EPOCHS + 1)}
            assert (found, len(history)) == (wanted, NUM_EPOCHS), "each value once"
        tracking.close_trial(number, "completed")
    assert tracking.close_search(Outcome.COMPLETED)
    statuses = {client.get_run(run_id).info.status for run_id in (*run_ids, tracking.parent_run_id)}
    assert statuses == {"FINISHED"}
    assert not re.search(r"\b(locked|deadlock|traceback|queuepool)\b", team.output.read_text(), re.IGNORECASE)
