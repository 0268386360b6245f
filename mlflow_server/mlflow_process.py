"""One `mlflow server` process: the flags it needs, whether it answers, and how it ends."""

from __future__ import annotations

import argparse
import contextlib
import ctypes
import http.client
import os
import re
import signal
import socket
import subprocess
import sys
from typing import TYPE_CHECKING

from mlflow_server.environment import clean_environment

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path

LOOPBACK = "127.0.0.1"
EVERYWHERE = ("0.0.0.0", "::")

ONE_CONNECTION_A_SESSION = {"MLFLOW_SQLALCHEMYSTORE_POOLCLASS": "NullPool"}
MANY_CONNECTIONS = {"MLFLOW_SQLALCHEMYSTORE_POOL_SIZE": "40", "MLFLOW_SQLALCHEMYSTORE_MAX_OVERFLOW": "40"}
"""PostgreSQL allows a hundred unless told otherwise."""


class ServerError(ConnectionError):
    """The tracking server did not start; the message says why."""


def start_mlflow(
    folder: Path,
    *,
    backend: str,
    artifacts: str,
    port: int,
    host: str = LOOPBACK,
    options: Sequence[str] = (),
    environment: Mapping[str, str] | None = None,
) -> subprocess.Popen[bytes]:
    """Start it in `folder`, in a session of its own; on Linux it ends with this process, however that dies.

    Of this process's environment it sees an allow-list (`clean_environment`), and all of `environment`.
    `backend` and `artifacts` are URIs. The former may hold a password, and a command line can be read by every
    user of the machine: it goes through the environment. One worker answers faster than the default of four.
    It serves forty requests at a time; with the default of fifteen connections sixty-four clients on SQLite hang it.
    """
    command = [sys.executable, "-m", "mlflow", "server", "--serve-artifacts", "--workers", "1"]
    command += ["--host", host, "--port", str(port), "--artifacts-destination", artifacts]
    command += ["--uvicorn-opts", "--no-access-log"]
    ours = {
        "MLFLOW_BACKEND_STORE_URI": backend,
        "MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false",
        "MLFLOW_DISABLE_TELEMETRY": "true",
        **(ONE_CONNECTION_A_SESSION if backend.startswith("sqlite:") else MANY_CONNECTIONS),
        "PYTHONSAFEPATH": "1",  # no folder of the user's can pass for a library
        "PYTHONUNBUFFERED": "1",
    }
    return subprocess.Popen(
        [*command, *options],
        cwd=folder,
        env={**clean_environment(os.environ), **ours, **(environment or {})},
        start_new_session=True,
        preexec_fn=_die_with_parent if sys.platform == "linux" else None,
    )


def stop_mlflow(server: subprocess.Popen[bytes]) -> None:
    """End the whole process group: gently, then not."""
    for wait_s, signum in ((10.0, signal.SIGTERM), (10.0, signal.SIGKILL)):
        with contextlib.suppress(ProcessLookupError):
            os.killpg(server.pid, signum)
        with contextlib.suppress(subprocess.TimeoutExpired):
            server.wait(wait_s)


def is_healthy(port: int, host: str = LOOPBACK) -> bool:
    """Whether an MLflow server answers there; this needs no password."""
    connection = http.client.HTTPConnection(reachable(host), port, timeout=2.0)  # knows no proxies
    try:
        connection.request("GET", "/health")
        response = connection.getresponse()
        return response.status == 200 and response.read().strip() == b"OK"
    except (OSError, http.client.HTTPException):
        return False
    finally:
        connection.close()


def find_port(wanted: int, host: str = LOOPBACK) -> int:
    """`wanted` where it is free, else any other. Raises ServerError where `host` is not this machine's."""
    for port in (wanted, 0):
        if (found := bind_port(port, host)) is not None:
            return found
    raise ServerError(f"{host} has no free port, or is no address of this machine")


def read_port(text: str) -> int:
    """A port as a command line gives it. Raises ArgumentTypeError for what is none."""
    if not re.fullmatch("[0-9]{1,5}", text) or not 0 < int(text) < 2**16:
        raise argparse.ArgumentTypeError(f"{text!r} is no port; it must be a whole number from 1 to 65535")
    return int(text)


def bind_port(port: int, host: str = LOOPBACK) -> int | None:
    """The port, if it can be bound now (0: any); else None."""
    with socket.socket(socket.AF_INET6 if ":" in host else socket.AF_INET) as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((host, port))
        except OSError:
            return None
        return int(probe.getsockname()[1])


def reachable(host: str) -> str:
    """An address by which this machine reaches a server that is bound to `host`."""
    return LOOPBACK if host in EVERYWHERE else host


def local_uri(host: str, port: int) -> str:
    """By which clients on this machine call a server that is bound to `host`."""
    address = reachable(host)
    return f"http://[{address}]:{port}" if ":" in address else f"http://{address}:{port}"


def _die_with_parent() -> None:
    pr_set_pdeathsig = 1
    ctypes.CDLL(None).prctl(pr_set_pdeathsig, signal.SIGTERM)
