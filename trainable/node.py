"""What a trial asks of Ray about its node: pixels that do not lie here yet, and whether the node is about to go"""

from __future__ import annotations

import logging
import os
import threading
from collections.abc import Callable
from functools import lru_cache
from pathlib import Path
from typing import Any

import ray
from filelock import FileLock

from trainable.files import write_atomically
from trainable.images.checksums import has_sums, is_whole, sums_file

CHUNK_BYTES = 32 * 2**20
POLL_S = 2.0
_log = logging.getLogger(__name__)


class FileServer:
    """Reads one file of the driver's machine, and its sums, for nodes that share no folder with it, piece by piece."""

    def __init__(self, path: str) -> None:
        self.path = path

    def read(self, offset: int) -> bytes:
        with Path(self.path).open("rb") as file:
            file.seek(offset)
            return file.read(CHUNK_BYTES)

    def read_sums(self) -> bytes:
        return sums_file(Path(self.path)).read_bytes()


def serve_file(path: str) -> Any:
    """Serve `path` from this node, for as long as the handle lives. It costs one idle process and no memory."""
    here = ray.get_runtime_context().get_node_id()
    stays = ray.util.scheduling_strategies.NodeAffinitySchedulingStrategy(here, soft=False)
    return ray.remote(FileServer).options(num_cpus=0, scheduling_strategy=stays).remote(path)


def choose_node_dir(node_dir: str) -> Path:
    """A folder on this node's own disk: `CTSEARCH_NODE_DIR` where it is set on the node, else the driver's."""
    return Path(os.environ.get("CTSEARCH_NODE_DIR") or node_dir)


def bring_pixels(pixels_path: str, node_dir: Path, server: Any) -> str:
    """Where the cache file lies on this node; what does not lie in `node_dir` whole is fetched from the driver's node.

    A shared folder shows it there already, and without a `server` this is the driver's node. Of several trials of a
    node one fetches it and the others wait. A file that is there, and one that has come, must have its checksums.
    Raises OSError where what comes is damaged twice.
    """
    target = node_dir / Path(pixels_path).name
    if server is None:
        return pixels_path
    if is_known_whole(target):
        return str(target)
    node_dir.mkdir(parents=True, exist_ok=True)
    with FileLock(f"{target}.lock"):
        if not is_known_whole(target):
            sums = ray.get(server.read_sums.remote())
            if not (fetch_pixels(target, sums, server) or fetch_pixels(target, sums, server)):
                raise OSError(
                    f"{target} was fetched twice from {pixels_path} of the driver's machine and came damaged both "
                    "times; look at the disks and the network of this node"
                )
    return str(target)


def fetch_pixels(target: Path, sums: bytes, server: Any) -> bool:
    """Fetch the file aside and put it in its place; False where it does not have these sums."""
    aside = target.with_name(f"{target.name}.{os.getpid()}.partial")
    try:
        with aside.open("wb") as file:
            while chunk := ray.get(server.read.remote(file.tell())):
                file.write(chunk)
            file.flush()
            os.fsync(file.fileno())
        if not has_sums(aside, sums):
            _log.warning("%s came damaged from the driver's node", target)
            return False
        write_atomically(sums_file(target), sums)
        aside.replace(target)
        return True
    finally:
        aside.unlink(missing_ok=True)


def is_known_whole(path: Path) -> bool:
    """Whether a file is there and has its checksums: read once in this process, and again once it has changed."""
    try:
        facts = path.stat()
    except FileNotFoundError:
        return False
    return _is_whole(path, facts.st_mtime_ns, facts.st_size, facts.st_ino)


@lru_cache(maxsize=64)
def _is_whole(path: Path, *state: int) -> bool:
    return is_whole(path)


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
