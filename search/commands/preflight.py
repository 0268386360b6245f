"""`ctsearch search --preflight`: look at every node of the cluster, show what was found, and end."""

from __future__ import annotations

from functools import partial

from rich.console import Console

from search.core.config import SearchConfig
from search.core.folder import create_search
from search.engine.preflight import check_cluster
from search.runtime import Caller, open_runtime


def preflight(config: SearchConfig) -> int:
    """Returns 0 where all is well, else raises ValueError."""
    console = Console()
    if not console.is_terminal:  # a job's log has room for the table
        console = Console(width=160)
    show = partial(console.print, markup=False, highlight=False)
    folder = create_search(config.home, config.name, {})
    try:
        with open_runtime(config, folder, Caller(console=console)) as runtime:
            show(f"Cluster      {runtime.cluster.description}")
            check_cluster(config, folder, runtime.cluster, runtime.server, show=show)
    finally:
        folder.discard()
    return 0
