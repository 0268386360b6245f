"""The embedded tracking server: SQLite and local files, on 127.0.0.1, alive as long as somebody uses it.

    python mlflow_server/serve.py [--home FOLDER] [--port N]

With --backend, --artifacts, --auth or --host it is the server of a team instead (team.py).

Every user holds a shared lock on `in_use`. A small supervisor in a process session of its own holds
`running`, keeps `mlflow server` alive, and ends it when nobody has held `in_use` for a while. The kernel
frees the locks of a process, however it dies: nothing here asks whether a process id is still valid.
"""

from __future__ import annotations

import contextlib
import fcntl
import importlib.metadata
import json
import os
import platform
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Self

if __name__ == "__main__":  # as a script, mlflow_server/ comes first on the path: the root must
    sys.path[0] = str(Path(__file__).resolve().parents[1])

from mlflow_server.database import require_sound
from mlflow_server.files import write_whole
from mlflow_server.locks import lock, try_lock, unlock
from mlflow_server.mlflow_process import (
    LOOPBACK,
    ServerError,
    bind_port,
    find_port,
    is_healthy,
    local_uri,
    start_mlflow,
    stop_mlflow,
)
from mlflow_server.stores import SQLITE, local_artifacts

USUAL_PORT = 5000
IDLE_S = 5.0  # how long nobody must have held `in_use` before the server ends
START_TIMEOUT_S = 120.0  # 8 s on an idle machine, 25 s seen on a busy one, twice that if port 5000 is lost to another
_POLL_S = 0.2


class ServerHandle:
    """One user's hold on a running server: it stays up at least until `close` or the end of this process."""

    def __init__(self, *, uri: str, started: bool, folder: Path, in_use: int) -> None:
        self.uri = uri
        self.started = started  # False when a running server was found and reused
        self.folder = folder
        self._in_use: int | None = in_use

    def find_again(self) -> str:
        """Where the server answers now: it may be at another port, if it has died meanwhile. Returns at once.

        Where nobody keeps it up any more it is started; until it answers, its address stays what it was. Raises
        ServerError where it is another machine's by now.
        """
        port = int(self.uri.rpartition(":")[2])
        pending = PendingServer(self.folder, port if bind_port(port) is not None else None)
        try:
            self.uri = pending.find_uri() or self.uri
        finally:
            pending.abandon()
        return self.uri

    def close(self) -> None:
        """Let go. The server ends about five seconds after its last user. Safe to call twice."""
        if self._in_use is not None:
            unlock(self._in_use)
            self._in_use = None

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


class PendingServer:
    """A server that is starting, or one that was found running."""

    def __init__(self, folder: Path, port: int | None) -> None:
        self._folder = folder.absolute()
        self._port = port
        (self._folder / "artifacts").mkdir(parents=True, exist_ok=True)
        require_sound(self._folder / "mlflow.db")
        self._in_use: int | None = lock(self._folder / "in_use", fcntl.LOCK_SH)
        self._supervisor = self._start_supervisor()

    def wait(self, timeout_s: float = START_TIMEOUT_S) -> ServerHandle:
        """Return when the server answers. Raises ServerError when it ends before, or takes too long."""
        end = time.monotonic() + timeout_s
        try:
            while time.monotonic() < end:
                if self._supervisor is not None and self._supervisor.poll() is not None:
                    require_sound(self._folder / "mlflow.db", wholly=True)
                    raise ServerError(f"the MLflow server ended as it started:\n{self._log()}")
                if self._supervisor is None:  # another search's server, which may have ended meanwhile
                    self._supervisor = self._start_supervisor()
                if (uri := self.find_uri()) is not None:
                    started = self._supervisor is not None
                    in_use, self._in_use = self._in_use, None
                    assert in_use is not None
                    return ServerHandle(uri=uri, started=started, folder=self._folder, in_use=in_use)
                time.sleep(_POLL_S)
            raise ServerError(f"the MLflow server did not answer within {timeout_s:g} s:\n{self._log()}")
        except BaseException:
            self.abandon()
            raise

    def abandon(self) -> None:
        """Let go without waiting: what started for us alone ends by itself. Safe to call twice, and after `wait`."""
        if self._in_use is not None:
            unlock(self._in_use)
            self._in_use = None

    def _start_supervisor(self) -> subprocess.Popen[bytes] | None:
        """Start one unless one runs. The lock goes over to it: there is no moment without an owner."""
        running = try_lock(self._folder / "running")
        if running is None:
            return None
        command = [sys.executable, __file__, "--supervise", str(self._folder), str(running)]
        command += [str(self._port)] if self._port else []
        try:
            (self._folder / "server.json").unlink(missing_ok=True)
            with (self._folder / "server.log").open("wb") as log:
                supervisor = subprocess.Popen(
                    command,
                    cwd=self._folder,
                    stdin=subprocess.DEVNULL,
                    stdout=log,
                    stderr=log,
                    start_new_session=True,
                    pass_fds=(running,),
                )
        finally:
            os.close(running)  # not _unlock: that would free the supervisor's copy as well
        threading.Thread(target=supervisor.wait, name="reap-supervisor", daemon=True).start()
        return supervisor

    def find_uri(self) -> str | None:
        """Where the server answers, None while it does not. Raises ServerError where it is another machine's."""
        try:
            facts = json.loads((self._folder / "server.json").read_text())
        except (FileNotFoundError, ValueError):
            return None
        if facts["host"] != platform.node():
            raise ServerError(
                f"the MLflow server of {self._folder} runs on {facts['host']} and serves that machine only; "
                f"this is {platform.node()}: take another home, or set MLFLOW_TRACKING_URI to a server that "
                "both can reach"
            )
        return facts["uri"] if is_healthy(facts["port"], facts.get("address", LOOPBACK)) else None

    def _log(self, num_lines: int = 15) -> str:
        lines = (self._folder / "server.log").read_text(errors="replace").splitlines()
        words = [*lines[-num_lines:], f"(its log: {self._folder / 'server.log'})"]
        if any("out-of-date database schema" in line for line in lines):
            words.append("Its database is of an older MLflow: `ctsearch server upgrade` backs it up and upgrades it")
        return "\n".join(words)


def begin_server(folder: Path, port: int | None = None) -> PendingServer:
    """Start the server of this folder, or find it running, and return at once; `wait` gives its address.

    `port` is 5000 when free, else any free one, unless given. `folder` gets `mlflow.db`, `artifacts` and
    `server.log`.
    """
    return PendingServer(Path(folder), port)


def ensure_server(folder: Path, port: int | None = None) -> ServerHandle:
    """A running server of this folder: started, or found and reused. Raises ServerError."""
    return begin_server(folder, port).wait()


def serve_ui(folder: Path, port: int | None = None, on_ready: Callable[[str], object] = lambda uri: None) -> None:
    """Print the server's address and keep it up until Ctrl-C or SIGTERM. `on_ready` is called with its URI."""
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    print(f"MLflow starts; its files are in {folder}", flush=True)
    with contextlib.suppress(KeyboardInterrupt), ensure_server(folder, port) as server:
        print(f"MLflow: {server.uri}  (Ctrl-C ends it)", flush=True)
        on_ready(server.uri)
        while True:
            signal.pause()
    print("MLflow ends, unless a search still uses it.")


def supervise(folder: Path, running: int, port: int | None) -> int:
    """Keep `mlflow server` up while `in_use` is held by anybody. Returns an exit status."""
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(0))
    os.set_inheritable(running, False)
    chosen = port or find_port(USUAL_PORT)
    while True:
        server = start_mlflow(folder, backend=SQLITE, artifacts=local_artifacts(folder), port=chosen)
        try:
            was_ready, in_use = _watch(server, folder, chosen)
        finally:
            stop_mlflow(server)
        if in_use is not None:  # held until the end, so that the next user waits for it
            (folder / "server.json").unlink(missing_ok=True)
            unlock(running)
            unlock(in_use)
            return 0
        if not was_ready:
            if port or chosen != USUAL_PORT:
                return 1
            chosen = find_port(0)  # another server may have taken the usual port in the meantime
        print("the server ended by itself and is started again", flush=True)


def _watch(server: subprocess.Popen[bytes], folder: Path, port: int) -> tuple[bool, int | None]:
    """Announce the server once it answers; return when it has ended or nobody has used it for a while.

    Gives whether it has answered, and in the second case the exclusive lock on `in_use`.
    """
    was_ready, idle_since = False, None
    while server.poll() is None:
        if not was_ready and _is_ready(folder, port):
            was_ready = True
            announce(folder, port)
        in_use = try_lock(folder / "in_use")
        if in_use is None:
            idle_since = None
        else:
            idle_since = idle_since or time.monotonic()
            if time.monotonic() - idle_since > IDLE_S:
                return was_ready, in_use
            unlock(in_use)
        time.sleep(1.0 if was_ready else _POLL_S)
    return was_ready, None


def _is_ready(folder: Path, port: int) -> bool:
    """What answers on the port might be another's server: only one that could bind it logs this line."""
    line = f"Uvicorn running on http://{LOOPBACK}:{port}"
    return line in (folder / "server.log").read_text(errors="replace") and is_healthy(port)


def announce(folder: Path, port: int, address: str = LOOPBACK, backend: str = SQLITE) -> None:
    """Write where the server of this folder is found, for the searches and commands of this machine."""
    facts = {"pid": os.getpid(), "address": address, "port": port, "host": platform.node(), "backend": backend}
    facts |= {"uri": local_uri(address, port), "mlflow": importlib.metadata.version("mlflow")}
    write_whole(folder / "server.json", json.dumps(facts, indent=1))


if __name__ == "__main__":
    if sys.argv[1:2] == ["--supervise"]:
        sys.exit(supervise(Path(sys.argv[2]), int(sys.argv[3]), int(sys.argv[4]) if sys.argv[4:] else None))
    from mlflow_server.cli import main

    sys.exit(main(["start", *sys.argv[1:]]))
