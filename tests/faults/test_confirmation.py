"""A driver killed with -9 while the best trials are trained again: the confirmation goes on where it stood."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from mlflow import MlflowClient
from optuna.storages import JournalStorage
from optuna.storages.journal import JournalFileBackend
from optuna.trial import FrozenTrial, TrialState

import ctsearch
from mlflow_server.serve import ServerHandle
from search.engine.cluster import Cluster

ROOT = Path(__file__).resolve().parents[2]
SCRIPT = """
import sys
import ctsearch
home, data, uri = sys.argv[1:]
ctsearch.search(
    data, name="sure", home=home, tracking_uri=uri, model_name="sure-model", arch="small_cnn", num_trials=3,
    max_epochs=3, confirm=2, ensemble=2, image_size=64, trial_cpus=1, progress=False,
)
"""


def read_folds(folder: Path) -> list[FrozenTrial]:
    journal = folder / "folds-0.journal"
    if not journal.exists():
        return []
    storage = JournalStorage(JournalFileBackend(str(journal)))
    return [trial for study in storage.get_all_studies() for trial in storage.get_all_trials(study._study_id)]


@pytest.mark.timeout(1800)
def test_a_killed_confirmation_goes_on_and_its_champion_has_a_value_on_patients_not_seen(
    cluster: Cluster, synthetic_folder: Path, mlflow_server: ServerHandle, tmp_path: Path
) -> None:
    home = tmp_path / "home"
    folder = home / "searches" / "sure"
    command = [sys.executable, "-c", SCRIPT, str(home), str(synthetic_folder), mlflow_server.uri]
    driver = subprocess.Popen(command, cwd=ROOT, text=True, stdout=subprocess.PIPE, stderr=subprocess.STDOUT)
    while not any(trial.state is TrialState.COMPLETE for trial in read_folds(folder)):
        assert driver.poll() is None, driver.communicate()[0]
        time.sleep(0.2)
    os.kill(driver.pid, signal.SIGKILL)
    driver.communicate()
    record = json.loads((folder / "search.json").read_text())
    assert record["phase"] == "confirming" and len(record["confirmation"]["members"]) == 2
    before = {trial.number: trial for trial in read_folds(folder)}

    result = ctsearch.resume("sure", home=home, progress=False)
    trainings = read_folds(folder)
    assert [trial.number for trial in trainings] == [0, 1, 2, 3]
    assert {trial.state for trial in trainings} == {TrialState.COMPLETE}
    for number, trial in before.items():
        assert trial.intermediate_values.items() <= trainings[number].intermediate_values.items()
    assert len(result.trials) == 3, "the trainings are no trials of the search"
    figures = json.loads((folder / "result.json").read_text())
    assert figures["num_folds"] == 2 and set(figures["members"]) <= set(record["confirmation"]["members"])
    assert result.champion is not None and result.champion.version == "1"
    assert not [path for path in (folder / "folds-0").rglob("*") if path.is_file()], "the model holds what it needs"

    client = MlflowClient(mlflow_server.uri)
    parent = client.get_run(record["parent_run_id"])
    children = client.search_runs([parent.info.experiment_id], f"tags.`mlflow.parentRunId` = '{parent.info.run_id}'")
    assert len(children) == 3 + 4
    assert {run.info.status for run in [parent, *children]} == {"FINISHED"}
    folds = {run.data.tags["fold"] for run in children if "fold" in run.data.tags}
    assert folds == {"1 of 2", "2 of 2"}
    assert json.loads((folder / "sealed_test.json").read_text())["num_openings"] == 1
