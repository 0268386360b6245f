"""Real parts of a team's server: a PostgreSQL of our own, an S3 server, and the tracking server on both."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.postgres import Postgres, start_postgres

ROOT = Path(__file__).resolve().parents[2]


@dataclass(frozen=True, kw_only=True)
class TeamServer:
    """A running server of a team and how to reach it."""

    uri: str
    home: Path
    backend: str
    artifacts: str
    environment: Mapping[str, str]
    admin_password: str
    process: subprocess.Popen[str]
    output: Path

    @property
    def folder(self) -> Path:
        return self.home / "mlflow"

    def login(self, name: str, password: str) -> dict[str, str]:
        names = ("MLFLOW_TRACKING_URI", "MLFLOW_TRACKING_USERNAME", "MLFLOW_TRACKING_PASSWORD")
        return dict(zip(names, (self.uri, name, password), strict=True))


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def server_command(*arguments: str, environment: Mapping[str, str], timeout_s: float = 600) -> str:
    """`ctsearch server ARGUMENTS` in a process of its own; what it printed, as its user would see it."""
    command = [sys.executable, "-m", "mlflow_server.cli", *arguments]
    done = subprocess.run(
        command,
        cwd=ROOT,
        env=os.environ | environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        timeout=timeout_s,
    )
    return done.stdout + (f"(status {done.returncode})" if done.returncode else "")


@contextmanager
def team_server(
    home: Path, *, backend: str, artifacts: str, environment: Mapping[str, str], options: tuple[str, ...] = ()
) -> Iterator[TeamServer]:
    """`python mlflow_server/serve.py --auth ...` until the end of the block."""
    port, output = free_port(), home.with_name(home.name + ".out")
    command = [str(ROOT / "mlflow_server" / "serve.py"), "--home", str(home), "--port", str(port)]
    command += ["--artifacts", artifacts, "--auth", *options]
    with output.open("w") as log:
        process = subprocess.Popen(
            [sys.executable, *command], env=os.environ | environment, stdout=log, stderr=subprocess.STDOUT, text=True
        )
    try:
        while f"MLflow: http://127.0.0.1:{port}" not in (text := output.read_text()):
            assert process.poll() is None, text
            try:
                process.wait(0.1)
            except subprocess.TimeoutExpired:
                continue
        shown = [line for line in text.splitlines() if line.startswith("User admin, password ")]
        kept = (home / "mlflow" / "admin_password").read_text().strip()
        yield TeamServer(
            uri=f"http://127.0.0.1:{port}",
            home=home,
            backend=backend,
            artifacts=artifacts,
            environment=environment,
            admin_password=shown[0].split()[-1] if shown else kept,
            process=process,
            output=output,
        )
    finally:
        process.send_signal(signal.SIGTERM)
        assert process.wait(60) in (0, 1), output.read_text()


@pytest.fixture(scope="session")
def postgres() -> Iterator[Postgres]:
    with start_postgres(free_port()) as server:
        yield server


@pytest.fixture(scope="session")
def s3() -> Iterator[dict[str, str]]:
    """A moto server; the environment by which it is reached."""
    from moto.server import ThreadedMotoServer

    server = ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
    server.start()
    _, port = server.get_host_and_port()
    yield {
        "AWS_ENDPOINT_URL": f"http://127.0.0.1:{port}",
        "AWS_ACCESS_KEY_ID": "key",
        "AWS_SECRET_ACCESS_KEY": "secret-of-s3",
        "AWS_DEFAULT_REGION": "us-east-1",
    }
    server.stop()


@pytest.fixture(scope="session")
def team(postgres: Postgres, s3: dict[str, str], tmp_path_factory: pytest.TempPathFactory) -> Iterator[TeamServer]:
    """One server on PostgreSQL and S3, with passwords, for all tests of this session."""
    backend = postgres.make_database("mlflow")
    make_bucket("team", s3)
    environment = s3 | {"MLFLOW_BACKEND_STORE_URI": postgres.with_password(backend)}
    with team_server(
        tmp_path_factory.mktemp("team") / "home",
        backend=backend,
        artifacts="s3://team/mlflow",
        environment=environment,
        options=("--allowed-hosts", "mlflow.example.org"),
    ) as server:
        yield server


def make_bucket(name: str, s3: Mapping[str, str]) -> None:
    import boto3

    client = boto3.client(
        "s3",
        endpoint_url=s3["AWS_ENDPOINT_URL"],
        aws_access_key_id=s3["AWS_ACCESS_KEY_ID"],
        aws_secret_access_key=s3["AWS_SECRET_ACCESS_KEY"],
        region_name=s3["AWS_DEFAULT_REGION"],
    )
    client.create_bucket(Bucket=name)
