"""Old searches are cleaned: what is listed, what goes, and above all what stays."""

from __future__ import annotations

import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest
from mlflow import MlflowClient
from mlflow.entities import ViewType
from mlflow.exceptions import MlflowException

from mlflow_server.clean import PARENT, clean
from mlflow_server.serve import ensure_server
from mlflow_server.stores import SQLITE, Stores, local_artifacts, open_stores
from tests.mlflow_server.conftest import TeamServer, server_command

DAY_MS = 86400 * 1000


@dataclass(kw_only=True)
class Logged:
    """What a test logged, by its ids."""

    client: MlflowClient
    experiment_id: str

    def search(self, name: str, *, days_ago: float | None) -> tuple[str, list[str]]:
        """A search of two trials, with 1000 bytes of artifacts a run; None: it still runs."""
        parent = self._run(name, {"search": name}, days_ago)
        tags = {"search": name, PARENT: parent}
        return parent, [self._run(f"{name}-{k}", tags, days_ago) for k in range(2)]

    def model(self, name: str, run_id: str, *, is_registered: bool) -> str:
        logged = self.client.create_logged_model(self.experiment_id, name=name, source_run_id=run_id)
        self.client.finalize_logged_model(logged.model_id, "READY")
        if is_registered:
            self.client.create_registered_model(name)
            source = f"models:/{logged.model_id}"
            self.client.create_model_version(name, source, run_id, model_id=logged.model_id)
        return str(logged.model_id)

    def exists(self, run_id: str) -> bool:
        try:
            return self.client.get_run(run_id).info.lifecycle_stage == "active"
        except MlflowException as error:
            assert error.error_code == "RESOURCE_DOES_NOT_EXIST", error
            return False

    def _run(self, name: str, tags: dict[str, str], days_ago: float | None) -> str:
        run = self.client.create_run(self.experiment_id, run_name=name, tags=tags)
        self.client.log_text(run.info.run_id, "x" * 1000, "folder/note.txt")
        self.client.log_metric(run.info.run_id, "val_auc", 0.5)
        if days_ago is not None:
            self.client.set_terminated(run.info.run_id, end_time=int(time.time() * 1000 - days_ago * DAY_MS))
        return str(run.info.run_id)


@pytest.fixture(params=["embedded", "team"])
def served(
    request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Iterator[tuple[Stores, MlflowClient, list[str], dict[str, str]]]:
    """The stores of a running server, a client, and the options and environment of its commands."""
    if request.param == "embedded":
        folder = tmp_path / "home" / "mlflow"
        with ensure_server(folder) as server:
            stores = Stores(folder=folder, backend=SQLITE, artifacts=local_artifacts(folder))
            yield stores, MlflowClient(server.uri), ["--home", str(folder.parent)], {}
        return
    team: TeamServer = request.getfixturevalue("team")
    for name, value in (team.login("admin", team.admin_password) | dict(team.environment)).items():
        monkeypatch.setenv(name, value)
    monkeypatch.setenv("PGPASSWORD", "taken from the URI")
    stores = open_stores(team.home, None, team.artifacts)
    options = ["--home", str(team.home), "--artifacts", team.artifacts]
    yield stores, MlflowClient(team.uri), options, dict(team.environment)


@pytest.mark.timeout(400)
def test_old_searches_go_with_their_files_and_registered_models_stay_with_their_runs(
    served: tuple[Stores, MlflowClient, list[str], dict[str, str]],
) -> None:
    stores, client, options, environment = served
    logged = Logged(client=client, experiment_id=client.create_experiment("to clean"))
    old, old_trials = logged.search("old", days_ago=100)
    unregistered = logged.model("unregistered", old_trials[0], is_registered=False)
    kept, kept_trials = logged.search("kept", days_ago=100)
    registered = logged.model("kept-model", kept_trials[1], is_registered=True)
    young, young_trials = logged.search("young", days_ago=80)
    running, running_trials = logged.search("running", days_ago=None)
    foreign = logged._run("not of ctsearch", {}, 500)
    binned = logged._run("deleted before", {}, 1)
    client.delete_run(binned)
    rescued = logged._run("deleted by mistake", {}, 1)
    logged.model("rescued-model", rescued, is_registered=True)
    client.delete_run(rescued)
    binned_experiment = client.create_experiment("deleted before")
    Logged(client=client, experiment_id=binned_experiment)._run("in it", {}, 1)
    client.delete_experiment(binned_experiment)
    needed_experiment = client.create_experiment("deleted by mistake")
    in_needed = Logged(client=client, experiment_id=needed_experiment)
    needed = in_needed._run("in it", {}, 1)
    in_needed.model("needed-model", needed, is_registered=True)
    client.delete_experiment(needed_experiment)
    there = stores.list_files(logged.experiment_id)

    output = server_command("clean", "--older-than", "90", *options, environment=environment)
    assert "Nothing has been deleted: --yes does it." in output, output
    lines = [line for line in output.splitlines() if line.startswith(("old ", "kept ", "young ", "running "))]
    assert [line.split()[0] for line in lines] == ["old", "kept"]
    assert "3 runs, 0.0 MB: all" in lines[0]
    assert "1 runs" in lines[1] and "the trial of its registered model stay" in lines[1]
    assert stores.list_files(logged.experiment_id) == there
    assert logged.exists(old) and not logged.exists(binned)

    said: list[str] = []
    plan = clean(stores, older_than_days=90, really=True, say=said.append)
    assert said[-1].startswith("Deleted: ")
    assert set(plan.run_ids) == {old, *old_trials, kept_trials[0]}
    assert (plan.model_ids, set(plan.rescued_runs)) == ([unregistered], {rescued, needed})
    assert not stores.list_files(binned_experiment)
    assert {found.name for found in client.search_experiments()} >= {"to clean", "deleted by mistake"}
    assert binned_experiment not in {found.experiment_id for found in client.search_experiments(view_type=ViewType.ALL)}
    assert plan.num_bytes >= 5000, "of five runs"
    for run_id in (old, *old_trials, kept_trials[0], binned):
        assert not logged.exists(run_id)
    for run_id in (kept, kept_trials[1], young, *young_trials, running, *running_trials, foreign, rescued, needed):
        assert logged.exists(run_id)
    assert client.get_model_version("kept-model", "1").source == f"models:/{registered}"
    assert client.get_logged_model(registered).status == "READY"
    left = stores.list_files(logged.experiment_id)
    gone = {name for name in there if any(run_id in name for run_id in (*plan.run_ids, binned))}
    assert set(left) == set(there) - gone != set(there)
    client.delete_logged_model(registered)
    output = server_command("clean", "--older-than", "90", "--yes", *options, environment=environment)
    assert f"registered versions need the logged models {registered}" in output and "(status 2)" in output
    client.delete_model_version("kept-model", "1")
    output = server_command("clean", "--older-than", "90", *options, environment=environment)
    assert "deleted in MLflow before: 0 runs, 1 models, 0 experiments" in output, output


def test_without_its_server_or_with_another_database_nothing_is_cleaned(team: TeamServer, tmp_path: Path) -> None:
    output = server_command("clean", "--yes", "--home", str(tmp_path), environment={})
    assert "no server of" in output and "(status 2)" in output
    output = server_command("clean", "--yes", "--home", str(team.home), environment={})
    assert "runs on postgresql+psycopg2://" in output and "(status 2)" in output


def test_an_age_is_a_number_of_days(tmp_path: Path) -> None:
    stores = Stores(folder=tmp_path, backend=SQLITE, artifacts=local_artifacts(tmp_path))
    for wrong in (float("nan"), -1.0):
        with pytest.raises(ValueError, match=r"--older-than is .*; it must be 0 days or more"):
            clean(stores, older_than_days=wrong, really=True)
