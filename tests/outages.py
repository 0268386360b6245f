"""An MLflow server that is really killed, and comes back."""

from __future__ import annotations

import json
import os
import signal
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager

from mlflow_server.serve import ServerHandle
from tests import needs


@contextmanager
def outage(server: ServerHandle) -> Iterator[None]:
    """The server is killed, and stays away until the end of the block; then its supervisor starts it again."""
    supervisor = json.loads((server.folder / "server.json").read_text())["pid"]
    ps = needs.program("ps")
    os.kill(supervisor, signal.SIGSTOP)
    try:
        children = subprocess.run([ps, "-o", "pid=", "--ppid", str(supervisor)], capture_output=True, text=True)
        for child in children.stdout.split():
            os.killpg(int(child), signal.SIGKILL)
        yield
    finally:
        os.kill(supervisor, signal.SIGCONT)
