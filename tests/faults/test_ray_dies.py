"""A part of Ray dies on this machine: one line says what, and how to go on."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import psutil
import pytest
from mlflow import MlflowClient

from mlflow_server.serve import ServerHandle
from tests.search.test_resume import SCRIPT, count_epochs, read_trials, wait_until

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture
def command(tmp_path: Path, synthetic_folder: Path, mlflow_server: ServerHandle) -> Callable[[str], list[str]]:
    return lambda verb: [
        sys.executable,
        "-c",
        SCRIPT,
        str(tmp_path),
        str(synthetic_folder),
        mlflow_server.uri,
        "ray",
        verb,
    ]


def statuses(folder: Path, uri: str) -> set[str]:
    """Of the search's run and all of its trials'."""
    client = MlflowClient(uri)
    parent = client.get_run(json.loads((folder / "search.json").read_text())["parent_run_id"])
    children = client.search_runs([parent.info.experiment_id], "tags.search = 'ray'")
    return {run.info.status for run in [parent, *children]}


@pytest.mark.timeout(1800)
@pytest.mark.parametrize("part", ["raylet"])
def test_a_search_whose_ray_dies_says_so_in_one_line_and_closes_its_runs(
    command: Callable[[str], list[str]], tmp_path: Path, mlflow_server: ServerHandle, part: str
) -> None:
    folder = tmp_path / "searches" / "ray"
    process = subprocess.Popen(
        command("run"), cwd=ROOT, text=True, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, start_new_session=True
    )
    wait_until(lambda: count_epochs(read_trials(folder)) >= 3, process)
    [killed] = [child for child in psutil.Process(process.pid).children() if child.name() == part]
    killed.kill()
    output = process.communicate(timeout=900)[0]
    assert process.returncode != 0
    lines = [line for line in output.splitlines() if f"(process {killed.pid}) has died" in line]
    assert len(lines) == 1 and "ctsearch search --resume ray" in lines[0], output
    assert "RUNNING" not in statuses(folder, mlflow_server.uri)
