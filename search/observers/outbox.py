"""What the driver has to tell MLflow: sent in order by a thread, and kept in memory while the server is away."""

from __future__ import annotations

import logging
import os
import threading
import time
from collections import deque
from typing import TYPE_CHECKING, Self, TypeVar

from trainable.run_log import IMPATIENT_HTTP, is_lost_connection

if TYPE_CHECKING:
    from collections.abc import Callable

_T = TypeVar("_T")
_AWAY_S, _HURRY_S = 5.0, 0.5  # how long a server that is away is left alone
_log = logging.getLogger(__name__)


class TrackingError(OSError):
    """MLflow cannot be used: it does not answer, or it refuses."""


class Outbox:
    """Calls to the server at `uri` that need no answer: no trial waits for them."""

    def __init__(self, uri: str) -> None:
        self.uri = uri
        self._waiting: deque[tuple[str, Callable[[], object]]] = deque()
        self._changed = threading.Condition()
        self._is_sending = False
        self._is_away = False
        self._is_awaited = False

    @property
    def is_away(self) -> bool:
        """Whether the server did not answer the last call."""
        return self._is_away

    def tell(self, what: str, action: Callable[[], object]) -> None:
        """Carry out `action`, which may be repeated without harm, soon or when the server is back.

        Never raises: an action that fails for another reason is dropped with a warning that names `what`.
        """
        with self._changed:
            self._waiting.append((what, action))
            if not self._is_sending:
                self._is_sending = True
                threading.Thread(target=self._send_all, name="outbox", daemon=True).start()

    def empty(self, timeout_s: float) -> bool:
        """Return when all is carried out; False, after a warning, when the server stayed away for `timeout_s`."""
        with self._changed:
            self._is_awaited = True
            self._changed.notify_all()
            is_empty = self._changed.wait_for(lambda: not self._waiting, timeout_s)
            self._is_awaited = False
            if not is_empty:
                missing = "; ".join(what for what, _ in self._waiting)
                _log.warning("MLflow at %s stayed away and was not told: %s", self.uri, missing)
            return is_empty

    def _send_all(self) -> None:
        while True:
            with self._changed:
                if not self._waiting:
                    self._is_sending = False
                    self._changed.notify_all()
                    return
                what, action = self._waiting[0]
            try:
                with IMPATIENCE:
                    action()
            except Exception as error:  # a search is worth more than its record
                if is_lost_connection(error):
                    self._pause(error)
                    continue
                _log.warning("MLflow refused %s: %s", what, error)
            self._is_away = False
            with self._changed:
                self._waiting.popleft()

    def _pause(self, error: Exception) -> None:
        if not self._is_away:
            _log.warning("MLflow at %s is away; its records wait in memory: %s", self.uri, error)
        self._is_away = True
        with self._changed:
            self._changed.wait(_HURRY_S if self._is_awaited else _AWAY_S)


TOLD_AFTER_S = 20.0


def ask(uri: str, question: Callable[[], _T], *, patience_s: float, is_over: Callable[[], bool] = lambda: False) -> _T:
    """The answer of the server at `uri`, asked again with growing pauses while it is away; a long absence is told.

    Raises TrackingError when it stays away for `patience_s` or until `is_over`, or refuses.
    """
    began, wait_s, is_told = time.monotonic(), 0.25, False
    while True:
        try:
            with IMPATIENCE:
                return question()
        except TrackingError:
            raise
        except Exception as error:
            if not is_lost_connection(error):
                raise TrackingError(f"MLflow at {uri} refused: {explain_refusal(error)}") from error
            away_s = time.monotonic() - began
            if is_over() or away_s + wait_s > patience_s:
                raise TrackingError(
                    f"MLflow at {uri} has not answered for {away_s + wait_s:.0f} s; is it running? {error}"
                ) from error
            if away_s > TOLD_AFTER_S and not is_told:
                is_told = True
                _log.warning("MLflow at %s is away: what needs its answer waits for up to %.0f s", uri, patience_s)
            time.sleep(wait_s)
            wait_s = min(2 * wait_s, 5.0)


def require_server(uri: str, *, timeout_s: float = 8.0) -> None:
    """Return when the server at `uri` answers at all, within `timeout_s`; to be asked before anything is read of it.

    For commands that a person waits for: MLflow's own client would try in silence for minutes. Raises TrackingError,
    one line.
    """
    import requests
    from requests.exceptions import ConnectionError as NoConnection
    from requests.exceptions import RequestException, Timeout

    try:
        with requests.get(f"{uri.rstrip('/')}/health", timeout=timeout_s / 2, stream=True) as answer:
            fault = f"a gateway before it says {answer.status_code}" if answer.status_code in (502, 503, 504) else ""
    except Timeout:
        fault = f"it has not answered within {timeout_s:g} s"
    except NoConnection as error:
        fault = _last_reason(error)
    except RequestException as error:
        fault = str(error)
    if fault:
        raise TrackingError(
            f"MLflow at {uri} cannot be reached ({fault}); start it, correct --tracking-uri or MLFLOW_TRACKING_URI, or "
            "give a checkpoint's folder as --model"
        )


def _last_reason(error: BaseException) -> str:
    """The words of the system, such as "Connection refused", below what requests and urllib3 wrap around them."""
    found: BaseException | None = error
    while found is not None:
        if isinstance(found, OSError) and found.strerror:
            return found.strerror
        reason = getattr(found, "reason", None)
        found = reason if isinstance(reason, BaseException) else found.__cause__ or found.__context__
    return type(error).__name__


def explain_refusal(error: Exception) -> str:
    """The words of MLflow, and what to do where it wants a login or does not know the address it was called by."""
    status = error.get_http_status_code() if hasattr(error, "get_http_status_code") else None
    words = str(error)
    if status == 401:
        who = os.environ.get("MLFLOW_TRACKING_USERNAME")
        login = f"the password of {who!r} is wrong, or there is no such user" if who else "it wants a login"
        return (
            f"{login}; set MLFLOW_TRACKING_USERNAME and MLFLOW_TRACKING_PASSWORD (whoever runs the server makes them "
            "by `ctsearch server user NAME`)"
        )
    if status == 403 and "Invalid Host" in words:
        return (
            "it does not know this address as its own; call it by one that it knows, or start it with "
            "--allowed-hosts (`ctsearch server start --help`)"
        )
    return words


class _Impatience:
    """MLflow's client would try for minutes by itself; it asks the environment, shared by all threads, for how long."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._num_inside = 0
        self._before: dict[str, str | None] = {}

    def __enter__(self) -> Self:
        with self._lock:
            if self._num_inside == 0:
                self._before = {name: os.environ.get(name) for name in IMPATIENT_HTTP}
                os.environ.update(IMPATIENT_HTTP)
            self._num_inside += 1
        return self

    def __exit__(self, *_: object) -> None:
        with self._lock:
            self._num_inside -= 1
            if self._num_inside:
                return
            for name, value in self._before.items():
                if value is None:
                    del os.environ[name]
                else:
                    os.environ[name] = value


IMPATIENCE = _Impatience()
