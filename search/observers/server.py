"""The MLflow server that a search uses: the user's, or one of our own that starts beside it."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager, ExitStack, nullcontext
from pathlib import Path
from typing import Self

from mlflow_server.database import require_sound
from mlflow_server.serve import PendingServer, ServerHandle, begin_server
from search.observers.questions import ask
from search.observers.registry import check_model_name, check_server_version, rehearse_registration
from search.observers.surroundings import only_what_is_meant, read_login, read_tracking

Timed = Callable[[str], AbstractContextManager[None]]


class TrackingServer:
    """A hold on the server: entered when a search begins, waited for (`uri`) where it is first used.

    Without a `uri` in the configuration or in MLFLOW_TRACKING_URI one of our own starts at once, in processes of its
    own; it lives on while another search uses it. A server of the user's is asked for an answer at once: a wrong
    address or password is said now, not after the images. `login` holds the variables by which workers log in. Within,
    no variable of other work acts on MLflow's client.
    """

    def __init__(self, uri: str | None, folder: Path, timed: Timed = lambda name: nullcontext()) -> None:
        self.login: Mapping[str, str] = {}
        self._choice = read_tracking(uri)
        self._uri = self._choice.uri
        self._folder = folder
        self._timed = timed
        self._pending: PendingServer | None = None
        self._handle: ServerHandle | None = None
        self._stack = ExitStack()

    def __enter__(self) -> Self:
        self._stack.enter_context(only_what_is_meant(self._uri))
        try:
            if (uri := self._uri) is None:
                self._pending = begin_server(self._folder)
            else:
                from mlflow import MlflowClient

                ask(uri, lambda: MlflowClient(uri).search_experiments(max_results=1), patience_s=30.0)
                self.login = dict(self._choice.login)
        except BaseException:
            self.__exit__()
            raise
        return self

    @property
    def uri(self) -> str:
        """Where the server answers; a server of our own is waited for."""
        if self._uri is None:
            assert self._pending is not None, "entered"
            with self._timed("waiting for MLflow"):
                server = self._pending.wait()
            self._pending = None
            self._stack.callback(server.close)
            self._handle = server
            if not server.started:  # it may be a team's, that was found running in this home
                self.login = read_login()
            self._uri = server.uri
        return self._uri

    def find_again(self) -> str:
        """Where the server answers by now; one of our own is started again where nobody else has done so.

        To be asked while it is away. Raises ServerError where it cannot be started.
        """
        if self._handle is not None:
            self._uri = self._handle.find_again()
        return self.uri

    def check_database(self) -> None:
        """Raise ServerError where the database of our own server is damaged: it answers nothing then."""
        if self._choice.uri is None:
            require_sound(self._folder / "mlflow.db", wholly=True)

    def check_registry(self, model_name: str) -> str | None:
        """Ask, before images are read, whether the champion can be registered as `model_name` in the end.

        A server of our own can register what its name allows; on any other the registration is rehearsed. Returns a
        warning, or None. Raises ValueError for the name, TrackingError for the server.
        """
        check_model_name(model_name)
        if self._choice.uri is None:
            return None
        check_server_version(self._choice.uri)
        return rehearse_registration(self._choice.uri, model_name)

    def __exit__(self, *_: object) -> None:
        if self._pending is not None:
            self._pending.abandon()
            self._pending = None
        self._stack.close()
