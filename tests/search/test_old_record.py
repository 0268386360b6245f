"""A search of version 0.1.0, whose record had neither a version nor a phase, goes on today.

`old_search/` is what was left of it when its driver was killed with -9: trial 0 had completed its three epochs, trial 1
had trained one, trial 2 had not begun. Paths, run ids and the hash of the data are filled in by the test.
"""

from __future__ import annotations

import json
import shutil
from pathlib import Path

from mlflow import MlflowClient

from mlflow_server.serve import ServerHandle
from search import resuming
from search.core.folder import RECORD_VERSION, Phase, view_search
from search.engine.cluster import Cluster
from tests.search.test_resume import read_trials
from trainable.architectures import build_model
from trainable.checkpoint import CheckpointStore
from trainable.config import TrialConfig
from trainable.images.prepare import prepare_data

OLD = Path(__file__).parent / "old_search"


def furnish(home: Path, data: Path, client: MlflowClient) -> Path:
    """Lay the old search into a home, beside the images that it began with; its runs are in MLflow."""
    folder = home / "searches" / "old"
    shutil.copytree(OLD, folder)
    prepared = prepare_data(
        data, cache_dir=home / "cache", splits_file=folder / "splits.csv", image_size=32, seed=0
    ).training
    experiment = client.create_experiment("old-search")
    parent = client.create_run(experiment, run_name="old").info.run_id
    names = {"HOME": str(home), "DATA-HASH": prepared.data_hash, "DATA": str(data), "PARENT-RUN": parent}
    for number in (0, 1):
        tags = {"mlflow.parentRunId": parent, "search": "old", "trial": str(number)}
        names[f"RUN-{number}"] = client.create_run(experiment, tags=tags).info.run_id
    for file in (folder / "search.json", folder / "optuna.journal"):
        text = file.read_text()
        for name, value in names.items():
            text = text.replace(name, value)
        file.write_text(text)
    write_best(folder / "trials" / "0000")
    return folder


def write_best(trial: Path) -> None:
    """The best checkpoint of trial 0, as that version wrote it; the weights are any."""
    facts = json.loads((OLD / "trials" / "0000" / "best_facts.json").read_text())
    model = build_model(TrialConfig.from_params(facts["config"]), 2)
    CheckpointStore(str(trial)).save("best", {"model": model.state_dict()}, facts)


def test_a_search_that_began_before_records_had_versions_goes_on_to_its_end(
    cluster: Cluster, synthetic_folder: Path, mlflow_server: ServerHandle, tmp_path: Path
) -> None:
    client = MlflowClient(mlflow_server.uri)
    folder = furnish(tmp_path, synthetic_folder, client)
    record = json.loads((folder / "search.json").read_text())
    assert "version" not in record and "phase" not in record
    assert view_search(tmp_path, "old").phase is Phase.SEARCHING, "read off its files"
    # the old search began a server of its own; this one stands in its place
    record["config"]["tracking_uri"] = mlflow_server.uri
    (folder / "search.json").write_text(json.dumps(record))
    before = read_trials(folder)

    result = resuming.resume("old", home=tmp_path)
    after = read_trials(folder)
    assert [trial.number for trial in after] == [0, 1, 2]
    for old, new in zip(before, after, strict=False):
        assert old.params.items() <= new.params.items()
        assert old.intermediate_values.items() <= new.intermediate_values.items(), "an epoch's first value stays"
        assert old.user_attrs["run_id"] == new.user_attrs["run_id"]
    assert all(trial.state.is_finished() for trial in after)
    assert result.champion is not None
    record = json.loads((folder / "search.json").read_text())
    assert (record["phase"], record["version"]) == ("ended", RECORD_VERSION)
    runs = [client.get_run(trial.user_attrs["run_id"]) for trial in after]
    assert {run.info.status for run in runs} == {"FINISHED"}
