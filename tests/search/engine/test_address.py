"""RAY_ADDRESS and MLFLOW_TRACKING_URI: a search joins a running cluster, ships its code there and leaves it running."""

from __future__ import annotations

import json
import os
import secrets
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from mlflow_server.serve import ServerHandle

ROOT = Path(__file__).resolve().parents[3]


def find_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


@pytest.fixture
def running_cluster(tmp_path: Path) -> Iterator[dict[str, str]]:
    """A Ray head of its own session with a token; yields the environment of who may join."""
    port = find_port()
    folder = tempfile.mkdtemp(prefix="ray-", dir="/tmp")  # a socket's path must stay short
    token = {**os.environ, "RAY_AUTH_MODE": "token", "RAY_AUTH_TOKEN": secrets.token_hex(16)}
    command = [str(Path(sys.executable).with_name("ray")), "start", "--head", "--block", f"--port={port}"]
    command += ["--num-cpus=1", "--include-dashboard=false", f"--temp-dir={folder}"]
    with (tmp_path / "head.log").open("wb") as log:
        head = subprocess.Popen(command, env=token, stdout=log, stderr=log, start_new_session=True)
    try:
        end = time.monotonic() + 300
        while "Ray runtime started" not in (tmp_path / "head.log").read_text():
            assert head.poll() is None and time.monotonic() < end, (tmp_path / "head.log").read_text()
            time.sleep(0.2)
        yield {**token, "RAY_ADDRESS": f"127.0.0.1:{port}"}
        assert head.poll() is None, "the search ended a cluster that is not its own"
    finally:
        os.killpg(head.pid, signal.SIGTERM)
        try:
            head.wait(timeout=5)
        except subprocess.TimeoutExpired:
            os.killpg(head.pid, signal.SIGKILL)
            head.wait()
        shutil.rmtree(folder, ignore_errors=True)


@pytest.mark.timeout(400)
def test_a_search_joins_a_cluster_and_a_tracking_server_named_by_the_environment(
    running_cluster: dict[str, str], synthetic_folder: Path, mlflow_server: ServerHandle, tmp_path: Path
) -> None:
    command = [
        sys.executable,
        str(ROOT / "search/run.py"),
        "--data",
        str(synthetic_folder),
        "--home",
        str(tmp_path / "h"),
    ]
    command += [
        "--name",
        "joined",
        "--arch",
        "small_cnn",
        "--num-trials",
        "2",
        "--max-epochs",
        "1",
        "--image-size",
        "32",
    ]
    env = {**running_cluster, "MLFLOW_TRACKING_URI": mlflow_server.uri}
    done = subprocess.run(command, env=env, capture_output=True, text=True, cwd=tmp_path, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "1 node, 1 CPU" in done.stdout
    assert mlflow_server.uri in done.stdout
    assert not (tmp_path / "h/mlflow").exists()
    assert json.loads((tmp_path / "h/searches/joined/result.json").read_text())["outcomes"]["completed"] == 2


def test_an_address_where_nobody_answers_is_a_clear_error(tmp_path: Path) -> None:
    command = [sys.executable, str(ROOT / "search/run.py"), "--home", str(tmp_path), "--name", "lost"]
    command += ["--ray-address", f"127.0.0.1:{find_port()}"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 2
    assert "no Ray cluster answers" in done.stderr
    assert not (tmp_path / "searches/lost").exists()
