"""What `pip install ctsearch` brings: the three rooms, the front door, the files of clusters and servers, no tests."""

from __future__ import annotations

import shutil
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

from tests.conftest import ROOT

INPUTS = ("pyproject.toml", "README.md", "LICENSE", "ctsearch.py", "cluster.yaml", "constraints.txt")
FOLDERS = ("search", "trainable", "mlflow_server", "clusters", "tests", "benchmarks", "examples", "docs")
SERVER_FILES = ("nginx.conf", "compose.yaml", "Dockerfile", "ctsearch-mlflow.service")


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> zipfile.ZipFile:
    """Built from a copy, so that the checkout stays as it is."""
    folder = tmp_path_factory.mktemp("wheel")
    for name in INPUTS:
        shutil.copy(ROOT / name, folder / name)
    for name in FOLDERS:
        if (ROOT / name).is_dir():
            shutil.copytree(ROOT / name, folder / name, ignore=shutil.ignore_patterns("__pycache__"))
    command = [sys.executable, "-m", "pip", "wheel", "--no-deps", "--no-build-isolation", "--no-index", "."]
    done = subprocess.run([*command, "--wheel-dir", "built"], cwd=folder, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr
    (built,) = (folder / "built").glob("ctsearch-*.whl")
    return zipfile.ZipFile(built)


def test_the_wheel_holds_every_source_file_of_the_rooms_and_its_types(wheel: zipfile.ZipFile) -> None:
    names = set(wheel.namelist())
    rooms = ("search", "trainable", "mlflow_server")
    sources = {path.relative_to(ROOT).as_posix() for room in rooms for path in (ROOT / room).rglob("*.py")}
    assert {"ctsearch.py", *sources, *(f"{room}/py.typed" for room in rooms)} <= names


def test_the_wheel_holds_the_files_of_clusters_and_of_a_teams_server(wheel: zipfile.ZipFile) -> None:
    names = wheel.namelist()
    shipped = {name.partition("/data/share/ctsearch/")[2] for name in names if "/data/share/ctsearch/" in name}
    clusters = {path.relative_to(ROOT).as_posix() for path in (ROOT / "clusters").iterdir() if path.is_file()}
    assert shipped == {"cluster.yaml", "constraints.txt", *clusters}
    assert {f"mlflow_server/{name}" for name in SERVER_FILES} <= set(names)


def test_the_wheel_holds_no_tests_benchmarks_or_examples(wheel: zipfile.ZipFile) -> None:
    rooms = {name.partition("/")[0] for name in wheel.namelist()}
    (information,) = (room for room in rooms if room.endswith(".dist-info"))
    data = information.replace(".dist-info", ".data")
    assert rooms == {"ctsearch.py", "search", "trainable", "mlflow_server", information, data}


def test_the_unpacked_wheel_is_imported_from_another_folder(wheel: zipfile.ZipFile, tmp_path: Path) -> None:
    wheel.extractall(tmp_path / "site")
    code = "import sys; sys.path.insert(0, sys.argv[1]); import ctsearch, search.cli; "
    code += "print(ctsearch.__file__, search.cli.__file__, ctsearch.SearchConfig.of(num_trials=3).num_trials)"
    (tmp_path / "elsewhere").mkdir()
    command = [sys.executable, "-c", code, str(tmp_path / "site")]
    output = subprocess.run(command, cwd=tmp_path / "elsewhere", capture_output=True, text=True)
    site = tmp_path / "site"
    assert output.stdout.split() == [f"{site}/ctsearch.py", f"{site}/search/cli.py", "3"], output.stderr
