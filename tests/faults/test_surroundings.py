"""Variables of other work in the shell: neither our server nor the driver lets them decide anything."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import urllib.request
from pathlib import Path

import pytest
from mlflow import MlflowClient

from mlflow_server.environment import clean_environment
from mlflow_server.serve import ServerHandle
from search.core.config import SearchConfig
from search.observers.questions import require_server
from search.observers.surroundings import only_what_is_meant, read_tracking

ROOT = Path(__file__).resolve().parents[2]
OF_A_SERVER = {
    "MLFLOW_DEFAULT_ARTIFACT_ROOT": "file:///nowhere/elsewhere",
    "MLFLOW_SERVER_ALLOWED_HOSTS": "mlflow.example.org",
    "MLFLOW_SERVER_CORS_ALLOWED_ORIGINS": "https://mlflow.example.org",
    "MLFLOW_GUNICORN_OPTS": "--no-such-option",
    "MLFLOW_UVICORN_OPTS": "--no-such-option",
    "MLFLOW_STATIC_PREFIX": "/elsewhere",
    "MLFLOW_REGISTRY_URI": "http://registry.example.org",
    "MLFLOW_REGISTRY_STORE_URI": "sqlite:////nowhere/registry.db",
    "MLFLOW_ARTIFACTS_DESTINATION": "file:///nowhere/elsewhere",
    "MLFLOW_TRACKING_URI": "",
    "MLFLOW_EXPERIMENT_ID": "12345",
    "MLFLOW_RUN_ID": "0123456789abcdef",
    "MLFLOW_WORKERS": "7",
    "MLFLOW_HOST": "0.0.0.0",
    "MLFLOW_AUTH_CONFIG_PATH": "/nowhere/auth.ini",
    "MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "true",
    "GUNICORN_CMD_ARGS": "--no-such-option",
    "FLASK_ENV": "development",
    "WEB_CONCURRENCY": "7",
}

SERVE = """
import json, sys
from pathlib import Path
from mlflow_server.serve import ensure_server
with ensure_server(Path(sys.argv[1])) as server:
    print(server.uri, flush=True)
    sys.stdin.read()
"""


def environment_of(folder: Path) -> list[dict[str, str]]:
    """The environments of the processes that work in `folder`."""
    found = []
    for process in Path("/proc").iterdir():
        try:
            if process.name.isdecimal() and (process / "cwd").resolve() == folder:
                words = (process / "cmdline").read_bytes()
                entries = (process / "environ").read_bytes().decode(errors="replace").split("\0")
                if b"--supervise" not in words and entries != [""]:
                    found.append(dict(entry.partition("=")[::2] for entry in entries if entry))
        except OSError:
            continue
    return found


def test_the_embedded_server_sees_nothing_of_other_work(tmp_path: Path) -> None:
    with subprocess.Popen(
        [sys.executable, "-c", SERVE, str(tmp_path)],
        cwd=ROOT,
        env=os.environ | OF_A_SERVER,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    ) as user:
        assert user.stdin is not None and user.stdout is not None
        uri = user.stdout.readline().strip()
        assert uri.startswith("http://127.0.0.1:"), (tmp_path / "server.log").read_text()
        assert urllib.request.urlopen(f"{uri}/health", timeout=30).read() == b"OK"
        client = MlflowClient(uri)
        experiment = client.get_experiment(client.create_experiment("artifacts"))
        assert experiment.artifact_location.startswith("mlflow-artifacts:")
        run = client.create_run(experiment.experiment_id)
        client.log_text(run.info.run_id, "slices stay here", "note.txt")
        assert [file.read_text() for file in (tmp_path / "artifacts").rglob("note.txt")] == ["slices stay here"]
        environments = environment_of(tmp_path.resolve())
        assert environments, "no process of the server was found"
        for environment in environments:
            assert not {name for name, value in OF_A_SERVER.items() if value and environment.get(name) == value}
        user.stdin.close()
        assert user.wait(timeout=300) == 0


@pytest.mark.parametrize("name", OF_A_SERVER)
def test_no_variable_of_other_work_is_handed_to_a_server(name: str) -> None:
    assert name not in clean_environment({name: OF_A_SERVER[name], "PATH": "/bin"})


def test_what_leads_to_a_teams_stores_is_handed_on() -> None:
    names = (
        "PATH",
        "HOME",
        "PGPASSWORD",
        "AWS_SECRET_ACCESS_KEY",
        "AWS_ENDPOINT_URL",
        "MLFLOW_S3_ENDPOINT_URL",
        "LC_ALL",
    )
    kept = clean_environment(dict.fromkeys((*names, "https_proxy"), "value"))
    assert {name for name, value in kept.items() if value == "value"} == {*names, "https_proxy"}
    assert "127.0.0.1" in kept["no_proxy"] and kept["NO_PROXY"] == kept["no_proxy"]


OF_A_CLIENT = [name for name in OF_A_SERVER if name.startswith("MLFLOW_")]


@pytest.mark.parametrize("name", [*OF_A_CLIENT, "MLFLOW_EXPERIMENT_NAME", "MLFLOW_ENABLE_ASYNC_LOGGING"])
def test_no_variable_of_other_work_is_seen_by_the_driver(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(name, "left over")
    with only_what_is_meant(None):
        assert name not in os.environ
    assert os.environ[name] == "left over"


def test_a_run_of_other_work_takes_no_part_in_ours(
    mlflow_server: ServerHandle, monkeypatch: pytest.MonkeyPatch
) -> None:
    """`mlflow.start_run` without arguments would go on with MLFLOW_RUN_ID: the strongest of the left-overs."""
    import mlflow

    client = MlflowClient(mlflow_server.uri)
    other = client.create_run(client.create_experiment("other work"))
    monkeypatch.setenv("MLFLOW_RUN_ID", other.info.run_id)
    monkeypatch.setenv("MLFLOW_EXPERIMENT_ID", other.info.experiment_id)
    monkeypatch.setenv("MLFLOW_TRACKING_URI", mlflow_server.uri)
    with only_what_is_meant(mlflow_server.uri), mlflow.start_run() as ours:
        assert ours.info.run_id != other.info.run_id
        assert ours.info.experiment_id != other.info.experiment_id


def test_an_empty_tracking_uri_is_unset(monkeypatch: pytest.MonkeyPatch) -> None:
    for value in ("", "  "):
        monkeypatch.setenv("MLFLOW_TRACKING_URI", value)
        assert read_tracking().uri is None
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "http://127.0.0.1:5000")
    assert read_tracking().uri == "http://127.0.0.1:5000"
    assert read_tracking("http://127.0.0.1:6000").uri == "http://127.0.0.1:6000"


def test_a_registry_elsewhere_is_refused_where_a_server_is_given(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MLFLOW_REGISTRY_URI", "https://ana:secret@registry.example.org")
    with pytest.raises(ValueError, match="unset MLFLOW_REGISTRY_URI") as caught:
        read_tracking("http://127.0.0.1:5000")
    assert "secret" not in str(caught.value)
    assert read_tracking(None).uri is None, "a server of our own has its own registry"
    monkeypatch.setenv("MLFLOW_REGISTRY_URI", "http://127.0.0.1:5000/")
    assert read_tracking("http://127.0.0.1:5000").uri == "http://127.0.0.1:5000"


def test_the_login_is_read_once_and_names_are_not_lost(monkeypatch: pytest.MonkeyPatch) -> None:
    login = {"MLFLOW_TRACKING_USERNAME": "ana", "MLFLOW_TRACKING_PASSWORD": "secret", "MLFLOW_TRACKING_TOKEN": "t"}
    for name, value in login.items():
        monkeypatch.setenv(name, value)
    monkeypatch.setenv("MLFLOW_TRACKING_INSECURE_TLS", "true")
    choice = read_tracking("https://mlflow.example.org")
    assert choice.login == login and "secret" not in repr(choice)
    with only_what_is_meant(choice.uri):
        assert os.environ.items() >= {**login, "MLFLOW_TRACKING_INSECURE_TLS": "true"}.items()


def test_names_of_ignored_variables_can_be_told(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    monkeypatch.setenv("MLFLOW_DEFAULT_ARTIFACT_ROOT", "s3://elsewhere")
    assert "MLFLOW_DEFAULT_ARTIFACT_ROOT" in json.dumps(read_tracking().ignored)


@pytest.mark.parametrize(
    "content",
    [
        "mlflow_tracking_username = ana\n",
        "[mlflow]\nmlflow_tracking_username = ana\nmlflow_tracking_password = 50%off\n",
        "[mlflow]\na = 1\na = 2\n",
        "\udcff",
    ],
)
def test_a_file_of_logins_that_cannot_be_read_is_named(
    content: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / ".mlflow").mkdir()
    (tmp_path / ".mlflow" / "credentials").write_text(content, errors="surrogateescape")
    monkeypatch.setenv("HOME", str(tmp_path))
    for name in ("USERNAME", "PASSWORD"):
        monkeypatch.delenv(f"MLFLOW_TRACKING_{name}", raising=False)
    with pytest.raises(ValueError, match=r"^~/.mlflow/credentials cannot be read .* % is written %%$") as caught:
        read_tracking("http://127.0.0.1:1")
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("address", ["http://10.0.0..1:5000", "http://" + "a" * 300])
def test_an_address_that_can_be_none_is_named(address: str) -> None:
    with pytest.raises(OSError, match=r"MLflow at http://.* cannot be reached \("):
        require_server(address)


@pytest.mark.parametrize("address", ["http://", "http://[::1", "http://host:99999", "http://host:x", "localhost:5000"])
def test_what_is_no_address_is_refused_at_the_door(address: str) -> None:
    with pytest.raises(ValueError, match=r"the tracking URI is .*; it must be the http:// or https:// of a server"):
        SearchConfig(tracking_uri=address)
