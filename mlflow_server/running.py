"""The server that runs in a folder, as the commands on its machine find it."""

from __future__ import annotations

import json
from contextlib import contextmanager
from typing import TYPE_CHECKING

from mlflow_server.mlflow_process import LOOPBACK, is_healthy
from mlflow_server.passwords import password_file
from mlflow_server.serve import ensure_server
from mlflow_server.stores import SQLITE

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from mlflow_server.stores import Stores


def find_running(folder: Path, backend: str | None = None) -> str | None:
    """The address of the server in `folder`, if one answers. Raises ValueError where it serves another database."""
    try:
        facts = json.loads((folder / "server.json").read_text())
    except (FileNotFoundError, ValueError):
        return None
    if not is_healthy(facts["port"], facts.get("address", LOOPBACK)):
        return None
    served = facts.get("backend", SQLITE)
    if backend is not None and served != backend:
        raise ValueError(f"the server in {folder} runs on {served}, not on {backend}: give that as --backend")
    return str(facts["uri"])


@contextmanager
def use_server(stores: Stores) -> Iterator[str]:
    """The address of the server on these stores: the one that runs, or for as long as it takes an embedded one.

    Raises ValueError for a team's server that does not run.
    """
    if (uri := find_running(stores.folder, stores.backend)) is not None:
        yield uri
    elif stores.is_sqlite and stores.sqlite_file.exists() and not password_file(stores.folder).exists():
        with ensure_server(stores.folder) as server:
            yield server.uri
    else:
        raise ValueError(f"no server of {stores.describe()} runs in {stores.folder}; start it, or give its --home")
