"""Which Ray a user means, and where a Ray of our own keeps its sockets: checked before Ray would wait for minutes."""

from __future__ import annotations

import os
import socket
import tempfile
from pathlib import Path

MAX_SOCKET_PATH_BYTES = 107  # of a Unix socket on Linux, sockaddr_un
LONGEST_BELOW = "/ray/session_2026-11-28_23-59-59_999999_1234567/sockets/plasma_store"
"""What Ray adds to its folder for temporary files (ray._private.node)."""
DASHBOARD_PORT = 8265


def choose_address(given: str | None) -> str | None:
    """The cluster to join: `given`, else RAY_ADDRESS; None for a Ray of our own (also for "" and "local")."""
    address = (given or os.environ.get("RAY_ADDRESS") or "").strip()
    return None if address in ("", "local") else address


def check_address(address: str, *, timeout_s: float = 10.0) -> None:
    """Raise ConnectionError, with the right reason, where no cluster can be joined at `address`."""
    if address == "auto":
        check_auto()
        return
    if address.startswith(("http://", "https://")):
        raise ConnectionError(_is_dashboard(address))
    host, colon, port = address.removeprefix("ray://").rpartition(":")
    if not colon or not host or not port.isdecimal() or len(port) > 5 or int(port) > 65535:
        raise ConnectionError(
            f"the Ray address is {address!r}; it must be HOST:PORT, such as 10.0.0.1:6379, or auto (--ray-address, "
            "RAY_ADDRESS)"
        )
    try:
        with socket.create_connection((host.strip("[]"), int(port)), timeout=timeout_s) as connection:
            speaks_http = _speaks_http(connection)
    except (OSError, ValueError) as error:  # ValueError of a name that can be no host's
        raise ConnectionError(
            f"no Ray cluster answers at {address!r} ({error}); start one with `ray start --head`, or unset RAY_ADDRESS "
            "and --ray-address to run on this machine"
        ) from error
    if speaks_http:
        raise ConnectionError(_is_dashboard(address))


def check_auto() -> None:
    """Raise ConnectionError where RAY_ADDRESS=auto, or --ray-address auto, finds no cluster on this machine."""
    from ray._private.services import canonicalize_bootstrap_address_or_die

    before = os.environ.pop("RAY_ADDRESS", None)  # Ray would look it up again, and find "auto"
    try:
        found = canonicalize_bootstrap_address_or_die("auto")
    except ConnectionError as error:
        several = "multiple" in str(error)
        what = "several clusters run on this machine" if several else "no Ray cluster runs on this machine"
        raise ConnectionError(
            f"the Ray address is 'auto' and {what}; start one with `ray start --head`, give its HOST:PORT, or unset "
            "RAY_ADDRESS and --ray-address for a Ray of our own"
        ) from error
    finally:
        if before is not None:
            os.environ["RAY_ADDRESS"] = before
    check_address(found)


def choose_folder() -> str | None:
    """Where a Ray of our own keeps its sockets: None for Ray's own choice, else a short folder that it can use.

    Ray takes RAY_TMPDIR, else TMPDIR, else /tmp; a path that is too long for a socket, or a /tmp/ray of another user,
    gives way to /tmp/ray-UID. Raises ValueError, naming the variable, where that cannot be used either.
    """
    name = next((name for name in ("RAY_TMPDIR", "TMPDIR") if os.environ.get(name)), None)
    usual = Path(os.environ[name] if name else "/tmp")
    fault = find_folder_fault(usual)
    if not fault:
        return None
    uid = os.getuid()
    for parent in dict.fromkeys((Path("/tmp"), Path("/var/tmp"), Path("/dev/shm"))):
        own = parent / f"ray-{uid}"
        try:
            own.mkdir(mode=0o700, exist_ok=True)
        except OSError:
            continue
        if own.stat().st_uid == uid and not own.is_symlink() and not find_folder_fault(own):
            return str(own / "ray")
    what = f"{name} is {usual}" if name else f"Ray's folder is {usual}/ray"
    raise ValueError(
        f"{what}; {fault}, and /tmp/ray-{uid} cannot be used either: set RAY_TMPDIR to a folder of yours with a path "
        f"of at most {MAX_SOCKET_PATH_BYTES - len(LONGEST_BELOW)} characters"
    )


def find_folder_fault(folder: Path) -> str:
    """Why Ray cannot keep its sockets in `folder`/ray, or nothing."""
    path = f"{folder.absolute()}{LONGEST_BELOW}"
    if len(os.fsencode(path)) > MAX_SOCKET_PATH_BYTES:
        return "its path is too long for a socket"
    ray = folder / "ray"
    existing = ray if ray.exists() else next(found for found in (folder, *folder.parents) if found.exists())
    try:
        with tempfile.TemporaryDirectory(prefix="probe-", dir=existing):
            return ""
    except OSError as error:
        owner = f"it belongs to user {existing.stat().st_uid}" if existing.stat().st_uid != os.getuid() else ""
        return f"{existing} cannot be written to ({owner or error.strerror})"


def _speaks_http(connection: socket.socket) -> bool:
    """Ray's own port speaks gRPC, over HTTP/2, and answers a request of HTTP/1 with none."""
    try:
        connection.settimeout(2.0)
        connection.sendall(b"GET /api/version HTTP/1.0\r\n\r\n")
        return connection.recv(7).startswith(b"HTTP/1.")
    except OSError:
        return False


def _is_dashboard(address: str) -> str:
    return (
        f"the Ray address is {address!r}, where a web page answers: the dashboard's, probably, whose usual port is "
        f"{DASHBOARD_PORT}; give the cluster's own as HOST:PORT, whose usual port is 6379 (--ray-address, RAY_ADDRESS)"
    )
