"""The server of a team: PostgreSQL, S3 and passwords where asked, in the foreground until Ctrl-C or SIGTERM."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from ipaddress import ip_address
from typing import TYPE_CHECKING

from mlflow_server.database import read_revision
from mlflow_server.locks import alone_in
from mlflow_server.mlflow_process import (
    EVERYWHERE,
    LOOPBACK,
    ServerError,
    bind_port,
    is_healthy,
    local_uri,
    reachable,
    start_mlflow,
    stop_mlflow,
)
from mlflow_server.passwords import ADMIN, password_file, prepare_logins
from mlflow_server.serve import START_TIMEOUT_S, USUAL_PORT, announce

if TYPE_CHECKING:
    from collections.abc import Sequence

    from mlflow_server.stores import Stores

THIS_MACHINE = ("localhost", "localhost:*", "127.0.0.1", "127.0.0.1:*", "[::1]", "[[]::1]:*")
"""As Host headers, also through an SSH tunnel from any port; MLflow lets pages of these change things anyway."""


def serve_team(
    stores: Stores,
    *,
    auth: bool,
    host: str = LOOPBACK,
    port: int | None = None,
    allowed_hosts: Sequence[str] = (),
) -> int:
    """Serve until Ctrl-C or SIGTERM; the exit status is 1 when MLflow ends by itself.

    `allowed_hosts` are the names by which users reach it, such as the reverse proxy's; any other Host header is
    answered by 403. This machine's own names are always allowed. Raises ValueError for what would be open to
    strangers, ServerError when it does not start.
    """
    check_exposure(host, auth, allowed_hosts)
    port = port or USUAL_PORT
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    os.umask(0o077)  # the database holds the hashes of passwords
    with alone_in(stores.folder):
        if bind_port(port, host) is None:
            raise ServerError(f"port {port} of {host} is taken, or no address of this machine; choose another --port")
        if stores.artifacts.startswith("file://") and stores.artifacts.startswith(stores.folder.as_uri()):
            (stores.folder / "artifacts").mkdir(exist_ok=True)
        read_revision(stores)  # what cannot be reached is reported before anything starts
        if stores.artifacts.startswith("s3://"):
            stores.artifact_repository().list_artifacts()
        options, environment = list_hosts(host, port, allowed_hosts), dict[str, str]()
        if auth:
            environment, fresh = prepare_logins(stores.folder, stores.backend)
            options += ["--app-name", "basic-auth"]
            if fresh is not None:
                print(f"User {ADMIN}, password {fresh}", flush=True)
                print(f"(shown once; it is kept in {password_file(stores.folder)}, for you alone)", flush=True)
        server = start_mlflow(
            stores.folder,
            backend=stores.backend,
            artifacts=stores.artifacts,
            host=host,
            port=port,
            options=options,
            environment=environment,
        )
        try:
            _wait_until_healthy(server, host, port)
            announce(stores.folder, port, reachable(host), stores.backend)
            who = "for users with a password" if auth else "without passwords"
            print(f"MLflow: {local_uri(host, port)}  {who}, on {stores.describe()}", flush=True)
            server.wait()
            print("ctsearch: the MLflow server ended by itself", file=sys.stderr)
            return 1
        except KeyboardInterrupt:
            print("MLflow ends", flush=True)
            return 0
        finally:
            stop_mlflow(server)
            (stores.folder / "server.json").unlink(missing_ok=True)


def check_exposure(host: str, auth: bool, allowed_hosts: Sequence[str]) -> None:
    """Raise ValueError for a server that strangers could use."""
    if not host.strip():
        raise ValueError("--host is empty; it must be an address of this machine, or be left out for 127.0.0.1")
    if not is_loopback(host) and not auth:
        raise ValueError(
            f"--host is {host} and --auth is not given: whoever reaches this machine could read and change everything; "
            "add --auth, or leave --host out and let users come through an SSH tunnel"
        )
    if allowed_hosts and not auth:
        raise ValueError("--allowed-hosts lets users of other machines in; that needs --auth")
    if host in EVERYWHERE and not allowed_hosts:
        raise ValueError(f"--host is {host}; say by which names users come: --allowed-hosts mlflow.example.org")
    for name in allowed_hosts:
        if "*" in name or "/" in name or not name.strip():
            raise ValueError(f"--allowed-hosts has {name!r}; each must be a plain name or address, with :PORT if any")


def is_loopback(host: str) -> bool:
    """Whether only this machine reaches it; a name but `localhost` may mean any address."""
    try:
        return host == "localhost" or ip_address(host).is_loopback
    except ValueError:
        return False


def list_hosts(host: str, port: int, allowed_hosts: Sequence[str]) -> list[str]:
    """Options of `mlflow server`: which Host headers it answers, and from which pages a browser may change things."""
    names = [*THIS_MACHINE, *([] if host in EVERYWHERE else [f"{host}:{port}"]), *allowed_hosts]
    names = list(dict.fromkeys(names))
    origins = [f"{scheme}://{name}" for name in names if name not in THIS_MACHINE for scheme in ("http", "https")]
    return ["--allowed-hosts", ",".join(names), "--cors-allowed-origins", ",".join(origins)]


def _wait_until_healthy(server: subprocess.Popen[bytes], host: str, port: int) -> None:
    end = time.monotonic() + START_TIMEOUT_S
    while not is_healthy(port, host):
        if server.poll() is not None:
            raise ServerError(
                "the MLflow server ended as it started; its last lines above say why (a database of an older MLflow "
                "is backed up and upgraded by `ctsearch server upgrade`)"
            )
        if time.monotonic() > end:
            raise ServerError(f"the MLflow server did not answer within {START_TIMEOUT_S:g} s")
        time.sleep(0.2)
