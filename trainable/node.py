"""What a trial asks of Ray about its node: pixels that do not lie here yet, and whether the node is about to go"""

from __future__ import annotations

import os
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import ray
from filelock import FileLock

CHUNK_BYTES = 32 * 2**20
POLL_S = 2.0


class FileServer:
    """Reads one file of the driver's machine for nodes that share no folder with it, piece by piece."""

    def __init__(self, path: str) -> None:
        self.path = path

    def read(self, offset: int) -> bytes:
        with Path(self.path).open("rb") as file:
            file.seek(offset)
            return file.read(CHUNK_BYTES)


def serve_file(path: str) -> Any:
    """Serve `path` from this node, for as long as the handle lives. It costs one idle process and no memory."""
    here = ray.get_runtime_context().get_node_id()
    stays = ray.util.scheduling_strategies.NodeAffinitySchedulingStrategy(here, soft=False)
    return ray.remote(FileServer).options(num_cpus=0, scheduling_strategy=stays).remote(path)


def choose_node_dir(node_dir: str) -> Path:
    """A folder on this node's own disk: `CTSEARCH_NODE_DIR` where it is set on the node, else the driver's."""
    return Path(os.environ.get("CTSEARCH_NODE_DIR") or node_dir)


def bring_pixels(pixels_path: str, node_dir: Path, server: Any) -> str:
    """Where the cache file lies on this node; what does not lie in `node_dir` yet is fetched from the driver's node.

    A shared folder shows it there already, and without a `server` this is the driver's node. Of several trials of a
    node one fetches it and the others wait. The file is named by its content: one of this name is the right one.
    """
    target = node_dir / Path(pixels_path).name
    if server is None:
        return pixels_path
    if target.is_file():
        return str(target)
    node_dir.mkdir(parents=True, exist_ok=True)
    with FileLock(f"{target}.lock"):
        if not target.is_file():
            aside = target.with_name(f"{target.name}.{os.getpid()}.partial")
            try:
                with aside.open("wb") as file:
                    while chunk := ray.get(server.read.remote(file.tell())):
                        file.write(chunk)
                    file.flush()
                    os.fsync(file.fileno())
                aside.replace(target)
            finally:
                aside.unlink(missing_ok=True)
    return str(target)


class DrainWatch:
    """Calls `hurry` once, from a thread, when Ray says that this node will be taken away."""

    def __init__(self, hurry: Callable[[], None]) -> None:
        self._hurry = hurry
        self._closed = threading.Event()
        threading.Thread(target=self._run, name="drain-watch", daemon=True).start()

    def close(self) -> None:
        self._closed.set()

    def _run(self) -> None:
        here = ray.get_runtime_context().get_node_id()
        while not self._closed.wait(POLL_S):
            if here in draining_nodes():
                self._hurry()
                return


def draining_nodes() -> dict[str, int]:
    """Nodes that Ray is about to lose, with their deadlines in Unix milliseconds (`ray drain-node`, a spot notice)."""
    return ray._private.state.state.get_draining_nodes()
