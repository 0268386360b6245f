"""The MLflow server that a search uses: the user's, or one of our own that starts beside it."""

from __future__ import annotations

import os
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path
from typing import Self

from mlflow_server.serve import PendingServer, ServerHandle, begin_server
from search.core.config import check_tracking_uri
from search.observers.outbox import ask

QUIET_MLFLOW = {"MLFLOW_SUPPRESS_PRINTING_URL_TO_STDOUT": "true", "MLFLOW_DISABLE_TELEMETRY": "true"}
Timed = Callable[[str], AbstractContextManager[None]]


class TrackingServer:
    """A hold on the server: entered when a search begins, waited for (`uri`) where it is first used.

    Without a `uri` in the configuration or in MLFLOW_TRACKING_URI one of our own starts at once, in processes of its
    own; it lives on while another search uses it. A server of the user's is asked for an answer at once: a wrong
    address or password is said now, not after the images. `login` holds the variables by which workers log in.
    """

    def __init__(self, uri: str | None, folder: Path, timed: Timed = lambda name: nullcontext()) -> None:
        self.login: dict[str, str] = {}
        self._given = uri or os.environ.get("MLFLOW_TRACKING_URI") or None
        self._folder = folder
        self._timed = timed
        self._pending: PendingServer | None = None
        self._server: ServerHandle | None = None

    def __enter__(self) -> Self:
        for name, value in QUIET_MLFLOW.items():
            os.environ.setdefault(name, value)
        if self._given is None:
            self._pending = begin_server(self._folder)
            return self
        from mlflow import MlflowClient

        uri = check_tracking_uri(self._given)
        ask(uri, lambda: MlflowClient(uri).search_experiments(max_results=1), patience_s=30.0)
        self.login = read_login()
        return self

    @property
    def uri(self) -> str:
        """Where the server answers; a server of our own is waited for."""
        if self._given is not None:
            return self._given
        if self._server is None:
            assert self._pending is not None, "entered"
            with self._timed("waiting for MLflow"):
                self._server = self._pending.wait()
            self._pending = None
            if not self._server.started:  # it may be a team's, that was found running in this home
                self.login = read_login()
        return self._server.uri

    def __exit__(self, *_: object) -> None:
        if self._pending is not None:
            self._pending.abandon()
        if self._server is not None:
            self._server.close()


def read_login() -> dict[str, str]:
    """The variables by which MLflow's client logs in here, from the environment or `~/.mlflow/credentials`."""
    from mlflow.utils.credentials import read_mlflow_creds

    name, password = read_mlflow_creds()
    login = {
        "MLFLOW_TRACKING_USERNAME": name,
        "MLFLOW_TRACKING_PASSWORD": password,
        "MLFLOW_TRACKING_TOKEN": os.environ.get("MLFLOW_TRACKING_TOKEN"),
    }
    return {variable: value for variable, value in login.items() if value}
