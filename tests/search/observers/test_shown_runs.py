"""What people see of a search in MLflow beside its curves: data, origin, descriptions, and the view it opens in."""

from __future__ import annotations

import getpass
import sys
from itertools import count
from pathlib import Path

import mlflow.data
import pytest
from mlflow import MlflowClient
from mlflow.entities import DatasetInput, Run

from mlflow_server.serve import ServerHandle
from search.observers.mlflow_runs import find_or_create_experiment
from tests.conftest import FinishedSearch
from tests.search.driven import Driven

EXPERIMENT = "shown-runs"
PARAMS = {"architecture": "small_cnn", "optimizer": "adamw", "learning_rate": 1e-3}
numbers = count()


@pytest.fixture(scope="module")
def client(mlflow_server: ServerHandle) -> MlflowClient:
    return MlflowClient(mlflow_server.uri)


@pytest.fixture
def tracking(mlflow_server: ServerHandle) -> Driven:
    return Driven.open(mlflow_server.uri, EXPERIMENT, f"shown-{next(numbers)}", description="Few patients.\nSmall.")


def datasets_of(run: Run) -> list[DatasetInput]:
    return list(run.inputs.dataset_inputs)


def test_parent_and_child_runs_say_what_they_are_trained_on(tracking: Driven, client: MlflowClient) -> None:
    for _ in range(2):  # as a resumed search does
        tracking.log_dataset("slices", "0123456789abcdef", "/data/slices")
        run_id = tracking.open_trial(0, PARAMS)
    assert tracking.flush()
    for run in (client.get_run(tracking.parent_run_id), client.get_run(run_id)):
        (found,) = datasets_of(run)
        assert (found.dataset.name, found.dataset.digest) == ("slices", "0123456789abcdef")
        assert {tag.key: tag.value for tag in found.tags} == {"mlflow.data.context": "training"}
        assert mlflow.data.get_source(found).uri == "/data/slices"


def test_runs_say_by_whom_by_what_and_with_which_configuration_they_were_made(
    tracking: Driven, client: MlflowClient
) -> None:
    run_id = tracking.open_trial(3, PARAMS)
    for run in (client.get_run(tracking.parent_run_id), client.get_run(run_id)):
        assert run.data.tags["mlflow.user"] == getpass.getuser()
        assert run.data.tags["mlflow.source.name"] == sys.argv[0]
        assert run.data.tags["mlflow.source.type"] == "LOCAL"
    note = client.get_run(run_id).data.tags["mlflow.note.content"]
    assert note == f"Trial 3 of the search {tracking.runs.search_name}: small_cnn, adamw, lr 0.001"


def test_the_champions_figures_come_first_in_both_descriptions(tracking: Driven, client: MlflowClient) -> None:
    run_id = tracking.open_trial(0, PARAMS)
    tracking.describe_champion("AUC 0.9\n\nWarning: Small.", run_id)
    assert tracking.flush()
    notes = [client.get_run(id_).data.tags["mlflow.note.content"] for id_ in (tracking.parent_run_id, run_id)]
    assert notes == ["AUC 0.9\n\nWarning: Small.\n\nFew patients.", "AUC 0.9\n\nWarning: Small."]


def test_an_experiment_opens_in_the_view_of_model_training(client: MlflowClient) -> None:
    """`useNavigateToExperimentPageTab` of MLflow's UI reads the view off this tag (mlflow 3.17)."""
    name = f"kind-{next(numbers)}"
    client.create_experiment(name)
    for _ in range(2):
        find_or_create_experiment(client, name)
        assert client.get_experiment_by_name(name).tags["mlflow.experimentKind"] == "custom_model_development"
    new = find_or_create_experiment(client, f"{name}-new")
    assert new.tags["mlflow.experimentKind"] == "custom_model_development"


def test_the_kind_that_its_owner_gave_an_experiment_stays(client: MlflowClient) -> None:
    name = f"owned-{next(numbers)}"
    client.create_experiment(name, tags={"mlflow.experimentKind": "genai_development"})
    find_or_create_experiment(client, name)
    assert client.get_experiment_by_name(name).tags["mlflow.experimentKind"] == "genai_development"


def test_a_finished_search_shows_its_data_its_champion_and_its_report(finished_search: FinishedSearch) -> None:
    client, parent = finished_search.client, finished_search.parent
    champion = next(run for run in finished_search.children if "**Champion**" in run.data.tags["mlflow.note.content"])
    assert int(champion.data.tags["trial"]) == finished_search.record["champion"]
    for run in (parent, champion):
        note = run.data.tags["mlflow.note.content"]
        assert f"**Champion**: trial {finished_search.record['champion']}" in note
        assert "Validation auc" in note and "Sealed test auc" in note and "95 % intervals" in note
    for run in (parent, *finished_search.children):
        (found,) = datasets_of(run)
        assert found.dataset.digest == finished_search.record["data_hash"]
        assert mlflow.data.get_source(found).uri == str(finished_search.record["config"]["data"])
    text = Path(client.download_artifacts(parent.info.run_id, "report.html")).read_text()
    assert "<h1>Search finished</h1>" in text and "data:image/png;base64," in text
