"""The tracking server is down, deaf or behind a gateway: one line, and soon."""

from __future__ import annotations

import http.server
import os
import socket
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from mlflow_server.serve import ServerHandle
from search.observers.questions import TrackingError, require_server
from search.observers.surroundings import use_tracking


def refusal(uri: str) -> str:
    with pytest.raises(TrackingError) as caught:
        require_server(uri, timeout_s=4.0)
    message = str(caught.value)
    assert uri in message and "\n" not in message and "--tracking-uri" in message
    return message


def test_a_server_that_answers_is_no_matter(mlflow_server: ServerHandle) -> None:
    require_server(mlflow_server.uri)
    require_server(f"{mlflow_server.uri}/")


def test_a_port_where_nobody_listens() -> None:
    with socket.socket() as held:
        held.bind(("127.0.0.1", 0))
        assert "refused" in refusal(f"http://127.0.0.1:{held.getsockname()[1]}")


def test_a_name_that_nobody_knows() -> None:
    refusal("http://mlflow.invalid:5000")


def test_a_server_that_takes_the_call_and_says_nothing() -> None:
    with socket.create_server(("127.0.0.1", 0)) as deaf:
        assert "not answered within 4 s" in refusal(f"http://127.0.0.1:{deaf.getsockname()[1]}")


class Gateway(http.server.BaseHTTPRequestHandler):
    def do_GET(self) -> None:
        self.send_response(503)
        self.end_headers()

    def log_message(self, *_: object) -> None:
        pass


@pytest.fixture
def gateway() -> Iterator[str]:
    with http.server.HTTPServer(("127.0.0.1", 0), Gateway) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{server.server_port}"
        server.shutdown()


def test_a_gateway_before_a_server_that_is_down(gateway: str) -> None:
    assert "says 503" in refusal(gateway)


def test_a_command_that_reads_gets_the_server_that_is_meant(
    mlflow_server: ServerHandle, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MLFLOW_RUN_ID", "left over")
    monkeypatch.setenv("MLFLOW_TRACKING_URI", mlflow_server.uri)
    with use_tracking(None, tmp_path) as uri:
        assert uri == mlflow_server.uri and "MLFLOW_RUN_ID" not in os.environ
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "")
    with use_tracking(None, mlflow_server.folder) as uri:
        assert uri == mlflow_server.uri, "the server of this folder runs already"
    assert os.environ["MLFLOW_RUN_ID"] == "left over"


def test_a_command_that_reads_from_a_server_that_is_down_says_so(gateway: str, tmp_path: Path) -> None:
    with pytest.raises(TrackingError, match="says 503"), use_tracking(gateway, tmp_path):
        raise AssertionError("nothing is read")
    assert not list(tmp_path.iterdir()), "no server of our own was started in its place"
