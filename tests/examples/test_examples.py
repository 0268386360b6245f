"""The examples, run as their users run them."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import nbformat
import optuna
import pytest
from nbclient import NotebookClient

from mlflow_server.serve import ServerHandle
from search.cli import main
from search.core.space import configuration_of, load_space
from search.engine.cluster import Cluster
from tests.conftest import ROOT
from trainable.config import TrialConfig
from trainable.model_check import check_own_model

EXAMPLES = ROOT / "examples"


def run(*command: str, home: Path) -> str:
    environ = os.environ | {"CTSEARCH_HOME": str(home), "PYTHONPATH": str(ROOT)}
    done = subprocess.run([sys.executable, *command], cwd=home, env=environ, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def test_every_example_is_run_here() -> None:
    found = {path.name for path in EXAMPLES.iterdir() if path.is_file()}
    assert found == {"first_search.py", "notebook.ipynb", "own_space.py", "own_model.py"}


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_the_first_search_shows_its_trials_its_champion_and_a_classified_image(tmp_path: Path) -> None:
    output = run(str(EXAMPLES / "first_search.py"), "--quick", home=tmp_path)
    assert "sealed test" in output and "probability_covid" in output and "learning_rate" in output


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_the_notebook_runs_in_a_kernel_with_an_event_loop(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CTSEARCH_HOME", str(tmp_path / "home"))
    monkeypatch.setenv("PYTHONPATH", str(ROOT))
    monkeypatch.setenv("IPYTHONDIR", str(tmp_path / "ipython"))
    notebook = nbformat.read(EXAMPLES / "notebook.ipynb", as_version=4)
    nbformat.validate(notebook)
    assert not any(cell.get("outputs") for cell in notebook.cells), "a notebook is committed without outputs"
    notebook.cells.append(nbformat.v4.new_code_cell("import asyncio; print(asyncio.get_running_loop().is_running())"))
    NotebookClient(notebook, timeout=800, kernel_name="python3", resources={"metadata": {"path": tmp_path}}).execute()
    shown = [str(cell.outputs) for cell in notebook.cells if cell.cell_type == "code"]
    assert "text/html" in shown[1] and "learning_rate" in shown[1], "the trials are a table"
    assert "'auc'" in shown[2] and "probability_covid" in shown[3]
    assert "(True," in shown[4] and "http" in shown[4]
    assert "True" in shown[5]


Search = Callable[..., dict[str, Any]]


@pytest.fixture
def search(
    cluster: Cluster,
    synthetic_folder: Path,
    mlflow_server: ServerHandle,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> Search:
    """`ctsearch search` with these options, in this process; its `result.json`."""
    monkeypatch.chdir(ROOT)

    def run_search(*options: str) -> dict[str, Any]:
        small = ["--image-size", "32", "--max-epochs", "1", "--trial-cpus", "1", "--name", "own"]
        where = ["--data", str(synthetic_folder), "--home", str(tmp_path), "--tracking-uri", mlflow_server.uri]
        assert main(["search", *where, *small, "--model-name", tmp_path.name.replace("_", "-"), *options]) == 0
        result: dict[str, Any] = json.loads((tmp_path / "searches" / "own" / "result.json").read_text())
        return result

    return run_search


@pytest.mark.slow
def test_the_own_space_is_searched_in_place_of_the_default(search: Search) -> None:
    result = search("--space", "examples/own_space.py", "--num-trials", "2")
    assert result["num_trials"] == 2
    architecture = result["params"]["architecture"]
    drawn = {"small_cnn": {"cnn_depth", "cnn_filters"}, "mobilenet_v3_small": {"dropout"}}[architecture]
    assert 1e-4 <= result["params"]["learning_rate"] <= 1e-2
    assert drawn <= set(result["params"]) and "optimizer" not in result["params"], "it is not drawn there"


@pytest.mark.slow
def test_the_own_model_is_searched(search: Search) -> None:
    result = search("--arch", "examples/own_model.py:build", "--num-trials", "1")
    assert result["params"]["architecture"] == "examples/own_model.py:build"


def test_every_draw_of_the_own_space_is_a_configuration() -> None:
    space = load_space(EXAMPLES / "own_space.py")
    study = optuna.create_study(sampler=optuna.samplers.RandomSampler(seed=0))
    trials = [study.ask() for _ in range(20)]
    drawn = [TrialConfig.from_params(configuration_of(space(trial), trial.params)) for trial in trials]
    assert {config.architecture for config in drawn} == {"small_cnn", "mobilenet_v3_small"}


def test_the_own_model_passes_the_check_of_models() -> None:
    source = (EXAMPLES / "own_model.py").read_text()
    assert check_own_model("own_model.py:build", source, num_classes=3, image_size=64) == []
