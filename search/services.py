"""What a search needs around it: Ray, and the MLflow server that starts beside it."""

from __future__ import annotations

import os
from contextlib import ExitStack
from types import TracebackType
from typing import Self

from mlflow_server.serve import PendingServer, begin_server
from search.cluster import Cluster, connect
from search.config import SearchConfig, check_tracking_uri
from search.home import SearchHome
from search.outbox import ask
from search.pace import Pace
from trainable.proxies import bypass_proxies

QUIET_MLFLOW = {"MLFLOW_SUPPRESS_PRINTING_URL_TO_STDOUT": "true", "MLFLOW_DISABLE_TELEMETRY": "true"}


class Services:
    """The server starts first, in processes of its own, and is waited for where it is first used.

    It is ours unless a tracking URI is given; Ray runs on this machine unless an address is. At the end a Ray of
    our own stops, and our hold on the server goes: it lives on while another search uses it.

    Ray starts in the calling thread, before any work with images: it forks, and a fork while another thread
    computes with OpenBLAS never returns. A single training does without (`with_ray`).
    """

    cluster: Cluster

    def __init__(self, config: SearchConfig, home: SearchHome, pace: Pace, *, with_ray: bool = True) -> None:
        self.config = config
        self.home = home
        self.pace = pace
        self.with_ray = with_ray
        self.tracking_login: dict[str, str] = {}  # for the workers; none for a server of our own
        self._uri = config.tracking_uri or os.environ.get("MLFLOW_TRACKING_URI")
        self._pending: PendingServer | None = None
        self._stack = ExitStack()

    def __enter__(self) -> Self:
        bypass_proxies()
        for name, value in QUIET_MLFLOW.items():
            os.environ.setdefault(name, value)
        if self._uri is None:
            self._pending = begin_server(self.home.mlflow)
        else:  # a wrong address or password is told now, not after the images
            from mlflow import MlflowClient

            client = MlflowClient(check_tracking_uri(self._uri))
            ask(self._uri, lambda: client.search_experiments(max_results=1), patience_s=30.0)
            self.tracking_login = read_login()
        if not self.with_ray:
            return self
        import ray

        if not ray.is_initialized():
            self._stack.callback(ray.shutdown)
        try:
            config = self.config
            with self.pace.part("Ray"):
                self.cluster = connect(config.ray_address, trial_cpus=config.trial_cpus, trial_gpus=config.trial_gpus)
        except BaseException:
            self._close()
            raise
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._close()

    @property
    def tracking_uri(self) -> str:
        if self._uri is None:
            assert self._pending is not None
            with self.pace.part("waiting for MLflow"):
                server = self._pending.wait()
            self._pending = None
            self._stack.callback(server.close)
            if not server.started:  # it may be a team's, that was found running in this home
                self.tracking_login = read_login()
            self._uri = server.uri
        return self._uri

    def _close(self) -> None:
        if self._pending is not None:
            self._pending.abandon()
        self._stack.close()


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
