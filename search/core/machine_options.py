"""Options of the machine: where trials run, and where their records lie."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from urllib.parse import urlsplit

from search.core.folder import default_storage
from search.core.option_values import place, real, size_bytes, text, truth, whole
from search.core.options import OptionError, option, require, require_choice, require_positive

BAD_NODES = ("refuse", "leave-out")
LEAST_SHARE = 0.05
"""Of a core or a GPU that a trial may take: with less, hundreds of trials would run at once and fill the memory."""


def check_tracking_uri(uri: str) -> str:
    """The URI, if it is a server's and holds no password: it is written into records, and shown. Raises ValueError."""
    try:
        is_address = bool((parts := urlsplit(uri)).hostname) and parts.port != 0
    except ValueError:  # of its port, and of brackets
        is_address = False
    if not uri.startswith(("http://", "https://")) or not is_address:
        raise ValueError(
            f"the tracking URI is {uri!r}; it must be the http:// or https:// of a server, as in http://HOST:5000"
        )
    if "@" in uri.partition("://")[2].partition("/")[0]:
        raise ValueError(
            "the tracking URI holds a login, and would be shown and recorded with it; give the address alone, and the "
            "login by MLFLOW_TRACKING_USERNAME and MLFLOW_TRACKING_PASSWORD"
        )
    return uri


@dataclass(frozen=True, kw_only=True)
class MachineOptions:
    """Where trials run. `trial_cpus` and `trial_gpus` of None fit the machine. `checkpoint_budget_bytes` bounds what
    all checkpoints of the search hold at a time; None is half of the free disk, or no bound in an object store.
    `storage` is a folder or a URI that all nodes share, for the search's checkpoints and a copy of its records; None is
    the search's own folder. `bad_nodes` says what becomes of nodes that fail the preflight.
    """

    trial_cpus: float | None = option("--trial-cpus", "cores of a trial", read=real)
    trial_gpus: float | None = option(
        "--trial-gpus", "fractions allowed; 2 or more: a trial on several GPUs", read=real
    )
    ray_address: str | None = option("--ray-address", "default: $RAY_ADDRESS, else Ray on this machine", read=str)
    tracking_uri: str | None = option(
        "--tracking-uri", "default: $MLFLOW_TRACKING_URI, else a server of our own", read=text
    )
    storage: str | None = option(
        "--storage",
        "what all nodes share (default: $CTSEARCH_STORAGE)",
        factory=default_storage,
        metavar="FOLDER|URI",
        read=place,
    )
    bad_nodes: str = option(
        "--bad-nodes",
        "that fail the preflight (default: refuse to begin)",
        default="refuse",
        choices=BAD_NODES,
    )
    seed: int = option("--seed", "decides splits, trials, weights and batches (default: 0)", default=0, read=whole)
    deterministic: bool = option(
        "--deterministic", "fp32 and deterministic kernels", default=False, is_flag=True, read=truth
    )
    compile: bool = option("--compile", "train through torch.compile", default=False, is_flag=True, read=truth)
    checkpoint_budget_bytes: int | None = option(
        "--checkpoint-budget",
        "most that all checkpoints hold (default: half of the free disk)",
        metavar="20GB",
        read=size_bytes,
    )
    timings: bool = option("--timings", "say where the start's time goes", default=False, is_flag=True, read=truth)
    checkpoint_interval_s: float = 30.0

    def check_machine(self) -> None:
        if self.tracking_uri is not None:
            check_tracking_uri(self.tracking_uri)
        self._check_storage()
        require_choice("bad_nodes", self.bad_nodes, BAD_NODES)
        require_positive(self, "checkpoint_budget_bytes")
        require("seed", self.seed, 0 <= self.seed < 2**32, "between 0 and 4294967295")
        cpus, gpus = self.trial_cpus, self.trial_gpus
        require("trial_cpus", cpus, cpus is None or cpus >= LEAST_SHARE, f"{LEAST_SHARE} or more")
        if gpus is None:
            return
        require("trial_gpus", gpus, gpus == 0 or gpus >= LEAST_SHARE, f"0, or {LEAST_SHARE} or more")
        require("trial_gpus", gpus, gpus <= 1 or gpus == int(gpus), "a whole number of GPUs above 1")
        if gpus > 1 and self.compile:
            raise OptionError("compile", f"is for one GPU a trial; trial_gpus is {gpus:g}: drop one of them")

    def _check_storage(self) -> None:
        if self.storage is None or "://" in self.storage:
            return
        folder = Path(self.storage)
        there = next(place for place in (folder, *folder.parents) if place.exists())
        if not there.is_dir():
            raise OptionError("storage", f"is {self.storage}; {there} is a file, and a folder must be there")
