"""What the driver has to tell MLflow, kept in order and in memory while the server is away."""

from __future__ import annotations

import logging
import os
import time
from collections import deque
from contextlib import contextmanager
from typing import TYPE_CHECKING, TypeVar

from trainable.run_log import IMPATIENT_HTTP, is_lost_connection

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

_T = TypeVar("_T")
_AWAY_S = 5.0  # after a failure the server is left alone for so long, lest each call of the driver wait for it
_log = logging.getLogger(__name__)


class TrackingError(OSError):
    """MLflow cannot be used: it does not answer, or it refuses."""


class Outbox:
    """Calls to the server at `uri` that need no answer. Used from one thread."""

    def __init__(self, uri: str) -> None:
        self.uri = uri
        self._waiting: deque[tuple[str, Callable[[], object]]] = deque()
        self._is_away = False
        self._try_again_at = 0.0  # monotonic

    def tell(self, what: str, action: Callable[[], object]) -> None:
        """Carry out `action`, which may be repeated without harm, now or when the server is back.

        Never raises: an action that fails for another reason is dropped with a warning that names `what`.
        """
        self._waiting.append((what, action))
        if not self._is_away or time.monotonic() >= self._try_again_at:
            self._deliver()

    def empty(self, timeout_s: float) -> bool:
        """Carry out all that waits; False, after a warning, when the server stayed away for `timeout_s`."""
        end = time.monotonic() + timeout_s
        while not self._deliver():
            if time.monotonic() > end:
                missing = "; ".join(what for what, _ in self._waiting)
                _log.warning("MLflow at %s stayed away and was not told: %s", self.uri, missing)
                return False
            time.sleep(0.5)
        return True

    def _deliver(self) -> bool:
        while self._waiting:
            what, action = self._waiting[0]
            try:
                with _impatient_http():
                    action()
            except Exception as error:  # a search is worth more than its record
                if is_lost_connection(error):
                    if not self._is_away:
                        _log.warning("MLflow at %s is away; its records wait in memory: %s", self.uri, error)
                    self._is_away, self._try_again_at = True, time.monotonic() + _AWAY_S
                    return False
                _log.warning("MLflow refused %s: %s", what, error)
            self._waiting.popleft()
        self._is_away = False
        return True


def ask(uri: str, question: Callable[[], _T], *, patience_s: float) -> _T:
    """The answer of the server at `uri`, asked again with growing pauses while it is away.

    Raises TrackingError when it stays away for `patience_s`, or refuses.
    """
    end, wait_s = time.monotonic() + patience_s, 0.25
    while True:
        try:
            with _impatient_http():
                return question()
        except TrackingError:
            raise
        except Exception as error:
            if not is_lost_connection(error):
                raise TrackingError(f"MLflow at {uri} refused: {error}") from error
            if time.monotonic() + wait_s > end:
                raise TrackingError(
                    f"MLflow at {uri} has not answered for {patience_s:g} s; is it running? {error}"
                ) from error
            time.sleep(wait_s)
            wait_s = min(2 * wait_s, 5.0)


@contextmanager
def _impatient_http() -> Iterator[None]:
    """MLflow's client would try for minutes by itself; it asks the environment for how long."""
    before = {name: os.environ.get(name) for name in IMPATIENT_HTTP}
    os.environ.update(IMPATIENT_HTTP)
    try:
        yield
    finally:
        for name, value in before.items():
            if value is None:
                del os.environ[name]
            else:
                os.environ[name] = value
