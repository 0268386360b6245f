"""Calls to MLflow that need no answer: sent in order by a thread, and repeated while the server is away"""

from __future__ import annotations

import logging
import os
import re
import threading
import time
from collections import deque
from typing import TYPE_CHECKING, Self

if TYPE_CHECKING:
    from collections.abc import Callable

    _Call = tuple[str, Callable[[], object], Callable[[Exception], object]]

# Our own loops ask again; mlflow's own patience (four minutes and more) would be beyond our reach.
IMPATIENT_HTTP = {
    "MLFLOW_HTTP_REQUEST_TIMEOUT": "10",
    "MLFLOW_HTTP_REQUEST_MAX_RETRIES": "1",
    "MLFLOW_HTTP_REQUEST_BACKOFF_FACTOR": "0",
}
_OF_ITS_DATABASE = re.compile(r"\((sqlite3|psycopg2(\.errors)?)\.(DatabaseError|OperationalError|InterfaceError)\)")
"""MLflow says some of these as if it refused: a database that is damaged, full, locked or restarted."""
FIRST_PAUSE_S, LONGEST_PAUSE_S = 0.5, 10.0
HEAD_START_S = 0.002
"""For who puts a call: a thread that has just begun would else hold the interpreter for its first 5 ms."""
_log = logging.getLogger(__name__)


class RetryQueue:
    """Calls that a thread carries out in order; each may be repeated without harm, and nobody waits for them.

    `look_again` is called from the thread before a call is tried anew: the server may be elsewhere by then. `is_known`
    is called from it when a call is refused: another server may have taken the address.

    While the server is away, as `is_away` says, they are kept in memory and the first is tried again, with pauses of
    0.5 to 10 s; `report_away` is called when an absence begins. A call that fails for another reason is dropped with
    a warning that names it. The thread ends when nothing waits.
    """

    def __init__(self, name: str, report_away: Callable[[Exception], object] = lambda error: None) -> None:
        self.name = name
        self.report_away = report_away
        self.look_again: Callable[[], object] = lambda: None
        self.is_known: Callable[[], bool] = lambda: True
        self.is_away = False
        self._urgent: deque[_Call] = deque()
        self._usual: deque[_Call] = deque()
        self._changed = threading.Condition()
        self._is_sending = False
        self._is_awaited = False

    def put(
        self,
        what: str,
        call: Callable[[], object],
        *,
        is_urgent: bool = False,
        refused: Callable[[Exception], object] = lambda error: None,
    ) -> None:
        """Carry out `call` soon, or when the server is back; `what` names it in warnings. Never raises.

        What is urgent goes before all that is not. `refused` hears of the error by which the call is dropped.
        """
        with self._changed:
            (self._urgent if is_urgent else self._usual).append((what, call, refused))
            if not self._is_sending:
                self._is_sending = True
                threading.Thread(target=self._send_all, name=self.name, daemon=True).start()

    def flush(self, timeout_s: float) -> list[str]:
        """Return when all is carried out, or after `timeout_s` what is not; it waits on."""
        with self._changed:
            self._is_awaited = True
            self._changed.notify_all()
            self._changed.wait_for(lambda: not (self._urgent or self._usual), timeout_s)
            self._is_awaited = False
            return [what for what, *_ in (*self._urgent, *self._usual)]

    def drop(self) -> None:
        """Forget what waits; a call that is being tried may still succeed."""
        with self._changed:
            self._urgent.clear()
            self._usual.clear()
            self._changed.notify_all()

    def _send_all(self) -> None:
        pause_s = FIRST_PAUSE_S
        time.sleep(HEAD_START_S)
        while True:
            with self._changed:
                queue = self._urgent or self._usual
                if not queue:
                    self._is_sending = False
                    self._changed.notify_all()
                    return
                entry = queue[0]
            what, call, refused = entry
            try:
                with IMPATIENCE:
                    call()
            except Exception as error:  # a thread that dies would lose what comes later
                if is_lost_connection(error) or is_no_mlflow(error) or not self.is_known():
                    if not self.is_away:
                        self.report_away(error)
                    self.is_away = True
                    with self._changed:
                        self._changed.wait(FIRST_PAUSE_S if self._is_awaited else pause_s)
                    pause_s = min(2 * pause_s, LONGEST_PAUSE_S)
                    self.look_again()
                    continue
                _log.warning("MLflow refused %s: %s", what, error)
                refused(error)
            self.is_away, pause_s = False, FIRST_PAUSE_S
            with self._changed:
                if queue and queue[0] is entry:  # else it was dropped
                    queue.popleft()


def is_lost_connection(error: Exception) -> bool:
    """Whether it is worth asking again: the server was away, too slow or failed, rather than refused."""
    from mlflow.exceptions import MlflowException
    from requests.exceptions import RequestException

    if isinstance(error, MlflowException):
        status = error.get_http_status_code()
        return status >= 500 or status == 429 or _OF_ITS_DATABASE.search(str(error)) is not None
    return isinstance(error, RequestException | ConnectionError | TimeoutError)


def is_no_mlflow(error: Exception) -> bool:
    """Whether what answered is another program, which has taken the port of a server that died: MLflow's own refusals
    are JSON, but for those of who may call it."""
    from mlflow.exceptions import MlflowException, RestException

    return (
        isinstance(error, MlflowException)
        and not isinstance(error, RestException)
        and error.get_http_status_code() not in (401, 403)
        and str(error).startswith("API request to")
    )


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
