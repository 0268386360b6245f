"""What the user's shell says of MLflow, read once; what other work left there changes nothing."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from mlflow_server.serve import ensure_server
from search.core.machine_options import check_tracking_uri
from search.observers.questions import require_server
from trainable.images.faults import show_text
from trainable.proxies import bypass_proxies
from trainable.retry_queue import IMPATIENCE

QUIET_MLFLOW = {"MLFLOW_SUPPRESS_PRINTING_URL_TO_STDOUT": "true", "MLFLOW_DISABLE_TELEMETRY": "true"}
_OF_ANY_SERVER = re.compile(
    "MLFLOW_(TRACKING_(USERNAME|PASSWORD|TOKEN)|HTTP_.*|S3_.*|BOTO_.*|.*MULTIPART.*|ENABLE_ARTIFACTS_PROGRESS_BAR"
    "|SUPPRESS_PRINTING_URL_TO_STDOUT|DISABLE_TELEMETRY|LOGGING_LEVEL)"
)
_OF_A_TEAMS_SERVER = re.compile("MLFLOW_(TRACKING_(?!DIR$).*|WORKSPACE|KERBEROS_.*|ALLOW_HTTP_REDIRECTS)")
"""How MLflow's client reaches a server and logs in; every other MLFLOW_ variable belongs to other work."""


@dataclass(frozen=True, kw_only=True)
class TrackingChoice:
    """The tracking server that a user means.

    `uri` is None for a server of our own. `login` holds MLflow's variables by which its client logs in; workers need
    them too. `ignored` are names of variables that change nothing here.
    """

    uri: str | None
    login: Mapping[str, str] = field(default_factory=dict, repr=False)
    ignored: tuple[str, ...] = ()


def read_tracking(uri: str | None = None) -> TrackingChoice:
    """`uri`, else MLFLOW_TRACKING_URI (empty is unset), else a server of our own.

    Raises ValueError for a URI that is no server's or holds a password, and where MLFLOW_REGISTRY_URI names another
    server than the one that is tracked to: the champion is registered where its run is.
    """
    chosen = (uri or os.environ.get("MLFLOW_TRACKING_URI") or "").strip() or None
    if chosen is not None:
        check_tracking_uri(chosen)
        registry = (os.environ.get("MLFLOW_REGISTRY_URI") or "").strip()
        if registry and registry.rstrip("/") != chosen.rstrip("/"):
            raise ValueError(
                f"MLFLOW_REGISTRY_URI is {_hide_login(registry)} and the tracking server is {chosen}; ctsearch "
                "registers models at its tracking server: unset MLFLOW_REGISTRY_URI, or set both to the same server"
            )
    login = read_login() if chosen is not None else {}
    return TrackingChoice(uri=chosen, login=login, ignored=_left_over(chosen))


@contextmanager
def only_what_is_meant(uri: str | None) -> Iterator[None]:
    """Within, this process's environment has no MLFLOW_ variable of other work, and no proxy before own machines.

    `uri` is the tracking server, None for one of our own. MLFLOW_RUN_ID, MLFLOW_EXPERIMENT_ID, MLFLOW_REGISTRY_URI and
    their like would act on MLflow's client from afar. Afterwards they are as they were.
    """
    bypass_proxies()
    taken = {name: os.environ.pop(name) for name in _left_over(uri)}
    for name, value in QUIET_MLFLOW.items():
        os.environ.setdefault(name, value)
    try:
        yield
    finally:
        os.environ.update(taken)


@contextmanager
def use_tracking(uri: str | None, folder: Path) -> Iterator[str]:
    """The address of the tracking server that is meant, for a command that reads from it: it answers, or one line says
    why not, within 10 s. `folder` is that of our own server, which is started where none is given.

    Within, the environment is as `only_what_is_meant` has it. Raises TrackingError, and what `read_tracking` raises.
    """
    choice = read_tracking(uri)
    with only_what_is_meant(choice.uri):
        if choice.uri is None:
            with ensure_server(folder) as server:
                yield server.uri
        else:
            require_server(choice.uri)
            with IMPATIENCE:
                yield choice.uri


def read_login() -> dict[str, str]:
    """The variables by which MLflow's client logs in here, from the environment or `~/.mlflow/credentials`."""
    from configparser import Error

    from mlflow.utils.credentials import read_mlflow_creds

    try:
        name, password = read_mlflow_creds()
    except (Error, ValueError) as error:
        raise ValueError(
            f"~/.mlflow/credentials cannot be read ({show_text(str(error))}); it holds a line [mlflow], then "
            "mlflow_tracking_username = NAME and mlflow_tracking_password = PASSWORD, where % is written %%"
        ) from error
    login = {
        "MLFLOW_TRACKING_USERNAME": name,
        "MLFLOW_TRACKING_PASSWORD": password,
        "MLFLOW_TRACKING_TOKEN": os.environ.get("MLFLOW_TRACKING_TOKEN"),
    }
    return {variable: value for variable, value in login.items() if value}


def _left_over(uri: str | None) -> tuple[str, ...]:
    """The MLFLOW_ variables that say nothing about the way to this server."""
    kept = (_OF_ANY_SERVER,) if uri is None else (_OF_ANY_SERVER, _OF_A_TEAMS_SERVER)
    found = sorted(name for name in os.environ if name.startswith("MLFLOW_"))
    return tuple(name for name in found if not any(pattern.fullmatch(name) for pattern in kept))


def _hide_login(uri: str) -> str:
    return re.sub(r"//[^/@]*@", "//...@", uri)
