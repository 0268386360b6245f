"""What a search needs around it: Ray, and the MLflow server that starts beside it."""

from __future__ import annotations

from contextlib import ExitStack
from types import TracebackType
from typing import Self

from mlflow_server.serve import PendingServer, begin_server
from search.core.config import SearchConfig
from search.core.folder import SearchHome
from search.engine.cluster import Cluster, connect
from search.observers.outbox import ask
from search.observers.registry import check_model_name, check_server_version, rehearse_registration
from search.observers.surroundings import QUIET_MLFLOW, only_what_is_meant, read_login, read_tracking
from search.observers.timings import Pace

__all__ = ["Services", "QUIET_MLFLOW", "read_login"]


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
        self._chosen = read_tracking(config.tracking_uri)
        self._uri = self._chosen.uri
        self._pending: PendingServer | None = None
        self._stack = ExitStack()

    def __enter__(self) -> Self:
        self._stack.enter_context(only_what_is_meant(self._uri))
        try:
            self._open()
        except BaseException:
            self._close()
            raise
        return self

    def _open(self) -> None:
        if self._uri is None:
            self._pending = begin_server(self.home.mlflow)
        else:  # a wrong address or password is told now, not after the images
            from mlflow import MlflowClient

            client = MlflowClient(self._uri)
            ask(self._uri, lambda: client.search_experiments(max_results=1), patience_s=30.0)
            self.tracking_login = dict(self._chosen.login)
        if not self.with_ray:
            return
        import ray

        if not ray.is_initialized():
            self._stack.callback(ray.shutdown)
        config = self.config
        with self.pace.part("Ray"):
            self.cluster = connect(config.ray_address, trial_cpus=config.trial_cpus, trial_gpus=config.trial_gpus)

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

    def check_registry(self, model_name: str) -> str | None:
        """Ask, before images are read, whether the champion can be registered as `model_name` in the end.

        A server of our own can register what its name allows; on any other the registration is rehearsed. Returns a
        warning, or None. Raises ValueError for the name, TrackingError for the server.
        """
        check_model_name(model_name)
        if self._chosen.uri is None:
            return None
        check_server_version(self._chosen.uri)
        return rehearse_registration(self._chosen.uri, model_name)

    def _close(self) -> None:
        if self._pending is not None:
            self._pending.abandon()
        self._stack.close()
