"""What a node shows of itself in the preflight: versions, code, GPUs, disk, and what it reaches"""

from __future__ import annotations

import base64
import hashlib
import os
import platform
import secrets
import shutil
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Mapping
from dataclasses import dataclass, field
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

from search.core.version import ROOT
from trainable.storage import delete_file, join, read_file, write_file

PACKAGES = ("torch", "torchvision", "ray", "numpy")
FOLDER = "preflight"


@dataclass(frozen=True, kw_only=True)
class Demand:
    """What a node is asked to show. `token` lies in the storage, written by the driver; without a storage or a
    tracking URI that part is skipped. `tracking_login` holds MLflow's own variables (observers/server.py)."""

    storage: str | None
    token: str
    node_dir: str
    tracking_uri: str | None
    tracking_login: Mapping[str, str] = field(default_factory=dict, repr=False)
    num_gpus: float = 0


@dataclass(frozen=True, kw_only=True)
class NodeFacts:
    """What a node has shown. `storage` and `tracking` are "" where all is well, else what went wrong."""

    host: str
    versions: dict[str, str]
    code: str
    gpus: list[str]
    cuda: str
    free_bytes: int
    shm_bytes: int | None
    storage: str
    tracking: str


def inspect_node(demand: Demand) -> NodeFacts:
    """Run on a node: look at it. Raises nothing that a look can find."""
    node_dir = Path(os.environ.get("CTSEARCH_NODE_DIR") or demand.node_dir)
    existing = next(folder for folder in (node_dir, *node_dir.parents) if folder.exists())
    shm = Path("/dev/shm")
    return NodeFacts(
        host=platform.node(),
        versions=read_versions(),
        code=hash_code(),
        gpus=list_gpus(),
        cuda=ask_cuda() if demand.num_gpus else "",
        free_bytes=shutil.disk_usage(existing).free,
        shm_bytes=shutil.disk_usage(shm).total if shm.is_dir() else None,
        storage=try_storage(demand.storage, demand.token) if demand.storage else "",
        tracking=try_tracking(demand.tracking_uri, demand.tracking_login) if demand.tracking_uri else "",
    )


def read_versions() -> dict[str, str]:
    """Of Python and what trials import, without the build's suffix: a head without a GPU may have another build."""
    found = {"python": platform.python_version()}
    for name in PACKAGES:
        try:
            found[name] = version(name).partition("+")[0]
        except PackageNotFoundError:
            found[name] = "missing"
    return found


def hash_code() -> str:
    """Eight hex digits of the code that runs here."""
    digest = hashlib.sha256()
    for file in sorted(file for room in ("search", "trainable") for file in (ROOT / room).rglob("*.py")):
        digest.update(f"{file.relative_to(ROOT)}\n".encode() + file.read_bytes())
    return digest.hexdigest()[:8]


def list_gpus() -> list[str]:
    """Such as "NVIDIA L4, 570.86.15": name and driver of each GPU that the driver shows."""
    if not any(Path("/dev").glob("nvidia[0-9]*")):
        return []
    query = ["nvidia-smi", "--query-gpu=name,driver_version", "--format=csv,noheader"]
    try:
        done = subprocess.run(query, capture_output=True, text=True, timeout=30, check=True)
    except (OSError, subprocess.SubprocessError):
        return []
    return [line.strip() for line in done.stdout.splitlines() if line.strip()]


def ask_cuda() -> str:
    """Whether torch can use the GPUs: "" if so, else its own words. In a process of its own, which sees them all."""
    environ = {key: value for key, value in os.environ.items() if key != "CUDA_VISIBLE_DEVICES"}
    code = "import torch; torch.zeros(1, device='cuda')"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, env=environ)
    return "" if done.returncode == 0 else done.stderr.strip().splitlines()[-1]


def try_storage(storage: str, token: str) -> str:
    """Read what the driver wrote, write and read a file, and remove it; not every store shows a file at once."""
    folder, name, content = join(storage, FOLDER), f"{token}-{secrets.token_hex(4)}", secrets.token_bytes(64)
    try:
        if not sees(folder, token, token.encode()):
            return "does not hold what the head has just written there: it is not the same folder"
        write_file(folder, name, content)
        is_same = sees(folder, name, content)
        delete_file(folder, name)
        return "" if is_same else "does not give back what was written"
    except (OSError, ValueError) as error:
        return str(error).splitlines()[0]


def sees(folder: str, name: str, content: bytes) -> bool:
    for wait_s in (0.5, 1.0, 0.0):
        if read_file(folder, name) == content:
            return True
        time.sleep(wait_s)
    return False


def try_tracking(uri: str, login: Mapping[str, str]) -> str:
    """Ask the tracking server for one experiment, with the user and password in `login`, by MLflow's names for them."""
    request = urllib.request.Request(f"{uri.rstrip('/')}/api/2.0/mlflow/experiments/search?max_results=1")
    user, password = (login.get(f"MLFLOW_TRACKING_{name}") for name in ("USERNAME", "PASSWORD"))
    if user and password:
        request.add_header("Authorization", "Basic " + base64.b64encode(f"{user}:{password}".encode()).decode())
    try:
        urllib.request.urlopen(request, timeout=10).close()
    except urllib.error.HTTPError as error:
        reasons = {401: "user or password refused", 403: "refused: host not allowed, or no permission"}
        return reasons.get(error.code, f"HTTP status {error.code}")
    except OSError as error:
        return str(getattr(error, "reason", error))
    return ""
