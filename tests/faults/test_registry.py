"""What would fail as the champion is crowned fails at the door."""

from __future__ import annotations

import http.server
import json
import socket
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from mlflow import MlflowClient
from mlflow.entities import ViewType
from mlflow.exceptions import MlflowException

from mlflow_server.serve import ServerHandle
from search.observers.questions import TrackingError
from search.observers.registry import check_model_name, check_server_version, rehearse_registration, suggest_model_name
from search.observers.server import TrackingServer

Answer = Callable[[str, str], tuple[int, str]]


@contextmanager
def answering(answer: Answer) -> Iterator[str]:
    """A server that gives `answer(method, path)`: a status and a body."""

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.rfile.read(int(self.headers.get("Content-Length") or 0))
            status, body = answer(self.command, self.path)
            self.send_response(status)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body.encode())

        do_POST = do_PATCH = do_DELETE = do_PUT = do_GET  # noqa: N815 - the library's names

        def log_message(self, *_: object) -> None:
            pass

    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    try:
        yield f"http://127.0.0.1:{server.server_port}"
    finally:
        server.shutdown()
        server.server_close()


@pytest.mark.parametrize(
    "name", ["lung.v2", "a:b", "team/slices", "50%", 'a"b', "it's", "", " ", " a", "a\nb", "x" * 201]
)
def test_a_name_that_cannot_be_registered_is_refused_with_one_that_can(name: str) -> None:
    with pytest.raises(ValueError, match="--model-name") as caught:
        check_model_name(name)
    assert "\n" not in str(caught.value)
    check_model_name(suggest_model_name(name))


@pytest.mark.parametrize("char", list("/:.%\"'"))
def test_the_refused_characters_are_those_of_mlflow(char: str) -> None:
    from mlflow.utils.validation import _validate_logged_model_name

    with pytest.raises(MlflowException):
        _validate_logged_model_name(f"a{char}b")
    with pytest.raises(ValueError, match="must not hold"):
        check_model_name(f"a{char}b")


@pytest.mark.parametrize("name", ["covid-ct", "Lunge links", "肺", "a_b+c(2)", "x" * 200])
def test_a_name_that_mlflow_registers_is_taken(name: str, mlflow_server: ServerHandle) -> None:
    check_model_name(name)
    assert suggest_model_name(name) == name
    client = MlflowClient(mlflow_server.uri)
    for registered in (name, f"{name}-images"):
        client.create_registered_model(registered)
        client.delete_registered_model(registered)


def test_the_rehearsal_registers_and_leaves_nothing(mlflow_server: ServerHandle) -> None:
    client = MlflowClient(mlflow_server.uri)
    assert rehearse_registration(mlflow_server.uri, "rehearsed") is None
    experiment = client.get_experiment_by_name("rehearsed")
    assert experiment is not None
    assert not [model.name for model in client.search_registered_models() if "rehearsal" in model.name]
    assert not client.search_logged_models([experiment.experiment_id])
    assert not client.search_runs([experiment.experiment_id], run_view_type=ViewType.ALL)
    own = mlflow_server.folder / "artifacts" / experiment.experiment_id
    assert not list(own.rglob("models/*/artifacts/MLmodel"))


def test_the_version_of_a_server_is_read(mlflow_server: ServerHandle) -> None:
    assert check_server_version(mlflow_server.uri).startswith("3.")


def test_a_server_without_logged_models_is_refused_with_the_version_that_is_needed() -> None:
    output = r"is MLflow 2\.22\.1.*MLflow 3\.0.*upgrade the server"
    old = answering(lambda _, path: (200, "2.22.1") if path == "/version" else (404, ""))
    with old as uri, pytest.raises(TrackingError, match=output):
        check_server_version(uri)


def test_a_server_that_hides_its_version_is_found_too_old_by_the_rehearsal() -> None:
    experiment = {"experiment": {"experiment_id": "1", "name": "e", "lifecycle_stage": "active"}}

    def answer(_: str, path: str) -> tuple[int, str]:
        return (200, json.dumps(experiment)) if "experiments/get-by-name" in path else (404, "Not Found")

    with answering(answer) as uri:
        assert check_server_version(uri) == ""
        with pytest.raises(TrackingError, match=r"knows no logged models.*MLflow 3\.0"):
            rehearse_registration(uri, "e")


def test_a_page_that_is_no_version_is_no_version() -> None:
    with answering(lambda *_: (200, "<html>Welcome to portal 2 of hospital 1</html>")) as uri:
        assert check_server_version(uri) == ""


def test_what_the_server_refuses_is_named_with_its_step() -> None:
    experiment = {"experiment": {"experiment_id": "1", "name": "e", "lifecycle_stage": "active"}}
    refusal = json.dumps({"error_code": "PERMISSION_DENIED", "message": "Permission denied"})

    def answer(_: str, path: str) -> tuple[int, str]:
        return (200, json.dumps(experiment)) if "experiments/get-by-name" in path else (403, refusal)

    with answering(answer) as uri, pytest.raises(TrackingError, match="refused to make a logged model") as caught:
        rehearse_registration(uri, "e")
    assert "\n" not in str(caught.value)


def test_a_server_that_is_gone_is_one_line(tmp_path: Path) -> None:
    with socket.socket() as held:
        held.bind(("127.0.0.1", 0))
        with pytest.raises(TrackingError, match=r"went away|has not answered") as caught:
            rehearse_registration(f"http://127.0.0.1:{held.getsockname()[1]}", "e")
    assert "\n" not in str(caught.value)


def test_a_tracking_server_asks_a_given_server_and_trust_our_own(
    mlflow_server: ServerHandle, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    with TrackingServer(mlflow_server.uri, tmp_path) as server:
        assert server.check_registry("asked") is None
        with pytest.raises(ValueError, match=r"'lung\.v2'"):
            server.check_registry("lung.v2")
    assert MlflowClient(mlflow_server.uri).get_experiment_by_name("asked") is not None
    own = TrackingServer(None, tmp_path)
    assert own.check_registry("asked") is None
    with pytest.raises(ValueError, match="--model-name"):
        own.check_registry("a:b")
