"""An MLflow server that is really killed, and comes back."""

from __future__ import annotations

import json
import os
import signal
from collections.abc import Iterator
from contextlib import contextmanager

import psutil

from mlflow_server.serve import ServerHandle


@contextmanager
def outage(server: ServerHandle) -> Iterator[None]:
    """The server is killed, and stays away until the end of the block; then its supervisor starts it again."""
    supervisor = json.loads((server.folder / "server.json").read_text())["pid"]
    os.kill(supervisor, signal.SIGSTOP)
    try:
        for child in psutil.Process(supervisor).children():
            os.killpg(child.pid, signal.SIGKILL)
        yield
    finally:
        os.kill(supervisor, signal.SIGCONT)
