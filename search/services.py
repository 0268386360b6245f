"""What a search needs around it, started side by side: Ray and the MLflow server."""

from __future__ import annotations

import os
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import ExitStack
from types import TracebackType
from typing import Self

from mlflow_server.serve import PendingServer, begin_server
from search.cluster import Cluster, connect
from search.config import SearchConfig
from search.home import SearchHome


class Services:
    """Both start in `__enter__` and are waited for where they are first used.

    The server is ours unless a tracking URI is given; Ray runs on this machine unless an address is. At the end
    a Ray of our own stops, and our hold on the server goes: it lives on while another search uses it.
    """

    def __init__(self, config: SearchConfig, home: SearchHome) -> None:
        self.config = config
        self.home = home
        self.given_uri = config.tracking_uri or os.environ.get("MLFLOW_TRACKING_URI")
        self.stack = ExitStack()
        self._pending: PendingServer | None = None
        self._uri: str | None = self.given_uri

    def __enter__(self) -> Self:
        import ray

        was_connected = ray.is_initialized()
        if self.given_uri is None:
            self._pending = begin_server(self.home.mlflow)
        pool = self.stack.enter_context(ThreadPoolExecutor(1))
        config = self.config
        self._cluster: Future[Cluster] = pool.submit(
            connect, config.ray_address, trial_cpus=config.trial_cpus, trial_gpus=config.trial_gpus
        )
        if not was_connected:
            self.stack.callback(ray.shutdown)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._pending is not None:
            self._pending.abandon()
        self.stack.close()

    @property
    def cluster(self) -> Cluster:
        return self._cluster.result()

    @property
    def tracking_uri(self) -> str:
        if self._uri is None:
            assert self._pending is not None
            server = self._pending.wait()
            self._pending = None
            self.stack.callback(server.close)
            self._uri = server.uri
        return self._uri
