"""What the driver asks MLflow and needs an answer to: asked again for a while, and refusals in words that help"""

from __future__ import annotations

import logging
import os
import time
from typing import TYPE_CHECKING, TypeVar

from trainable.retry_queue import IMPATIENCE, is_lost_connection

if TYPE_CHECKING:
    from collections.abc import Callable

_T = TypeVar("_T")
_log = logging.getLogger(__name__)


class TrackingError(OSError):
    """MLflow cannot be used: it does not answer, or it refuses."""


REPORTED_AFTER_S = 20.0


def ask(uri: str, question: Callable[[], _T], *, patience_s: float, is_over: Callable[[], bool] = lambda: False) -> _T:
    """The answer of the server at `uri`, asked again with growing pauses while it is away; a long absence is reported.

    Raises TrackingError when it stays away for `patience_s` or until `is_over`, or refuses.
    """
    began, wait_s, is_reported = time.monotonic(), 0.25, False
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
            if away_s > REPORTED_AFTER_S and not is_reported:
                is_reported = True
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
    except (RequestException, ValueError) as error:  # ValueError of a name that can be no host's
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
