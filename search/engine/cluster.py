"""Ray: connect to a cluster or start one here, ship the code, and see how many trials fit."""

from __future__ import annotations

import logging
import os
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from search.core.version import ROOT
from search.engine.ray_address import check_address, choose_address, choose_folder
from trainable.proxies import LOOPBACK, bypass_proxies, own_hosts

QUIET = {
    "RAY_AIR_NEW_OUTPUT": "0",
    "TUNE_DISABLE_AUTO_CALLBACK_LOGGERS": "1",
    "TUNE_DISABLE_SIGINT_HANDLER": "1",
    "TUNE_PRINT_ALL_TRIAL_ERRORS": "0",
    "TUNE_WARN_EXCESSIVE_EXPERIMENT_CHECKPOINT_SYNC_THRESHOLD_S": "0",
    "TUNE_GLOBAL_CHECKPOINT_S": "3600",
    "RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO": "0",
}
NO_IDLE_WORKERS = {"RAY_prestart_worker_first_driver": "0"}
"""Ray would start one idle worker a core and then give none of them to a trial (benchmarks/LOG.md)."""

FEW_ARENAS = {"MALLOC_ARENA_MAX": "2"}
"""glibc would give each thread of a warm worker the next of many heaps, and each keeps what a checkpoint once took."""

FORWARDED = ("AWS_ENDPOINT_URL", "AWS_ENDPOINT_URL_S3", "AWS_REGION", "AWS_DEFAULT_REGION")
"""Set for the driver, they hold for the workers too. A node's right to the storage is its own: a role, or a file."""

BOOTSTRAP_CONFIG = "~/ray_bootstrap_config.yaml"


@dataclass(frozen=True, kw_only=True)
class Cluster:
    """What one trial gets, and how many fit at once. `description` is one line for the terminal.

    `num_ranks` processes share what a trial gets, one for each of its GPUs. `is_joined` sets a cluster apart from a Ray
    that was started for this search, `grows` that it starts nodes when trials wait for them; `skipped` are ids of
    nodes that shall run no trial: more of them where nodes that join late fail the preflight.
    """

    trial_cpus: float
    trial_gpus: float
    num_slots: int
    num_nodes: int
    description: str
    num_ranks: int = 1
    is_joined: bool = False
    grows: bool = False
    skipped: set[str] = field(default_factory=set)

    @property
    def has_gpu(self) -> bool:
        return self.trial_gpus > 0

    @property
    def num_threads(self) -> int:
        """Torch threads of each of a trial's processes."""
        return max(1, int(self.trial_cpus / self.num_ranks))

    def count_slots_now(self) -> int:
        """How many trials fit on the nodes that are there now, or may start."""
        if self.grows:
            return self.num_slots
        nodes = [node["Resources"] for node in alive_nodes() if node["NodeID"] not in self.skipped]
        return count_slots(nodes, self.trial_cpus, self.trial_gpus)

    def reach(self, tracking_uri: str) -> str | None:
        """The tracking server as trials reach it: None for one on 127.0.0.1 where trials run on other machines."""
        host = urlsplit(tracking_uri).hostname or ""
        return None if self.is_joined and (host in ("localhost", "::1") or host.startswith("127.")) else tracking_uri

    def place_trial(self) -> Any:
        """A trial's share as Tune wants it: a part for each of its processes, all on one node that is not skipped."""
        from ray import tune

        cpus, gpus = self.trial_cpus / self.num_ranks, self.trial_gpus / self.num_ranks
        cpus = int(cpus) if cpus > 1 else cpus  # above 1 Ray wants whole ones
        part = {"CPU": cpus} | ({"GPU": gpus} if gpus else {})
        where: dict[str, Any] = {}
        if self.skipped:
            elsewhere = {"ray.io/node-id": f"!in({','.join(sorted(self.skipped))})"}
            where["bundle_label_selector"] = [elsewhere] * self.num_ranks
        return tune.PlacementGroupFactory([part] * self.num_ranks, strategy="STRICT_PACK", **where)


def connect(address: str | None, *, trial_cpus: float | None = None, trial_gpus: float | None = None) -> Cluster:
    """Join the cluster at `address` (or RAY_ADDRESS), else start Ray on this machine for this search alone.

    Raises ConnectionError for a cluster that does not answer or refuses our token, ValueError where not one trial fits.
    """
    for name, value in (QUIET | NO_IDLE_WORKERS | FEW_ARENAS).items():
        os.environ.setdefault(name, value)
    address = choose_address(address)
    bypass_proxies([address] if address else [])
    # Workers started here import this code and no other checkout that may be installed.
    paths = [str(ROOT), *filter(None, os.environ.get("PYTHONPATH", "").split(os.pathsep))]
    os.environ["PYTHONPATH"] = os.pathsep.join(dict.fromkeys(paths))
    import ray

    # Ray protects a local cluster by a token in ~/.ray and warns that it does: as asked, so no warning.
    logging.getLogger("ray._private.authentication").setLevel(logging.ERROR)
    # What Tune has to say of failed trials our terminal says in one line each.
    logging.getLogger("ray.tune").setLevel(logging.CRITICAL)

    if not ray.is_initialized():
        options: dict[str, Any] = {
            "log_to_driver": False,
            "logging_level": "ERROR",
            "configure_logging": True,
        }
        if address:
            check_address(address)
            options |= {"address": address, "runtime_env": choose_runtime_env()}
        else:
            options |= {"address": "local", "include_dashboard": False, "_node_ip_address": "127.0.0.1"}
            options |= {"_temp_dir": folder} if (folder := choose_folder()) else {}
        try:
            ray.init(**options)
        except Exception as error:  # a node that is not up in time is a bare Exception
            words = next((line.strip() for line in str(error).splitlines() if line.strip()), type(error).__name__)
            if not address:
                raise ConnectionError(explain_start(words, options.get("_temp_dir"))) from error
            if not isinstance(error, (ray.exceptions.AuthenticationError, ConnectionError)):
                raise ConnectionError(f"the Ray cluster at {address!r} cannot be joined: {words}") from error
            raise ConnectionError(
                f"the Ray cluster at {address!r} answers and does not let us in; set RAY_AUTH_MODE=token, and "
                f"RAY_AUTH_TOKEN or ~/.ray/auth_token to the token of its head ({words})"
            ) from error
    bypass_proxies(name for node in alive_nodes() for name in (node["NodeManagerAddress"], node["NodeManagerHostname"]))
    growth = read_growth() if address else []
    if address and Path(BOOTSTRAP_CONFIG).expanduser().exists() and not growth:
        wait_for_workers()
    nodes = [node["Resources"] for node in alive_nodes()]
    cluster = fit_trials(nodes, trial_cpus=trial_cpus, trial_gpus=trial_gpus, growth=growth)
    # The searcher knows how many trials fit. On a cluster every one that waits asks for a node; on one machine no more
    # workers start at once than it has cores, and a worker that is ready waits for none of them.
    most = max(10 * len(growth), 2 * cluster.num_slots)
    os.environ["TUNE_MAX_PENDING_TRIALS_PG"] = str(most if address else min(most, max(2, os.cpu_count() or 1)))
    return replace(cluster, is_joined=bool(address), grows=bool(growth))


def explain_start(words: str, folder: str | None) -> str:
    """Why Ray did not start on this machine, and what helps; `words` are Ray's own, `folder` is where its files lie."""
    usual = os.environ.get("RAY_TMPDIR") or os.environ.get("TMPDIR") or "/tmp"
    return (
        f"Ray does not start on this machine: {words.rstrip('.')}; the usual reason is a machine that is very busy, or "
        f"short of memory or disk: try again when it is not (its logs: {folder or Path(usual, 'ray')}/session_latest)"
    )


def alive_nodes() -> list[dict[str, Any]]:
    """Ray's nodes, without those that are gone."""
    import ray

    return [node for node in ray.nodes() if node["Alive"]]


def wait_for_workers(timeout_s: float = 180.0) -> None:
    """`ray up` returns when the head is up; hosts of one's own join some time later."""
    until_s = time.monotonic() + timeout_s
    while time.monotonic() < until_s:
        if any(node["Resources"].get("CPU") or node["Resources"].get("GPU") for node in alive_nodes()):
            return
        time.sleep(1)


def read_growth() -> list[dict[str, float]]:
    """The nodes that `ray up` may start, as resources: as many as it may of the type that it prefers. Only its head
    knows; a cluster of hosts, or one that `ray up` has not made, has no others than those that are there."""
    file = Path(BOOTSTRAP_CONFIG).expanduser()
    if not file.exists():
        return []
    import yaml

    config = yaml.safe_load(file.read_text())
    types = {name: kind for name, kind in config["available_node_types"].items() if name != config["head_node_type"]}
    if config["provider"]["type"] == "local" or not types:
        return []
    best = max(types.values(), key=lambda kind: kind.get("priority", 0))
    return [best["resources"]] * min(config["max_workers"], best.get("max_workers", config["max_workers"]))


def choose_runtime_env() -> dict[str, Any]:
    """Ship the checkout, so that every node runs this code.

    A wheel is installed on the nodes themselves. Inside `ray job submit --working-dir` the code has been shipped
    already and must not be again.
    """
    is_checkout = (ROOT / "pyproject.toml").exists()
    is_job = "RAY_JOB_CONFIG_JSON_ENV_VAR" in os.environ
    code = {"working_dir": str(ROOT), "excludes": [".git"]} if is_checkout and not is_job else {}
    given = {name: os.environ[name] for name in FORWARDED if name in os.environ}
    # A node's own list stays: Ray puts what the node has in the place of its name (a name unset there is no host's).
    spared = {name: f"${{{name}}},{','.join((*LOOPBACK, *own_hosts()))}" for name in ("no_proxy", "NO_PROXY")}
    return {**code, "env_vars": FEW_ARENAS | given | spared}


def fit_trials(
    nodes: Sequence[Mapping[str, float]],
    *,
    trial_cpus: float | None = None,
    trial_gpus: float | None = None,
    growth: Sequence[Mapping[str, float]] = (),
) -> Cluster:
    """Choose a trial's share and count how many fit on these nodes (Ray's resource dicts), or on `growth`, all the
    nodes that trials may be given once they wait for them.

    The default is one GPU and its part of the node's cores a trial; without a GPU one core. Fractions are allowed.
    """
    num_cpus = sum(node.get("CPU", 0) for node in nodes)
    num_gpus = sum(node.get("GPU", 0) for node in nodes)
    gpus = trial_gpus if trial_gpus is not None else float(any(node.get("GPU") for node in (*nodes, *growth)))
    if trial_cpus is not None:
        cpus = trial_cpus
    elif gpus:
        with_gpu = [node for node in (*nodes, *growth) if node.get("GPU", 0) >= gpus]
        cpus = max(1.0, gpus, min((node.get("CPU", 0) * gpus // node["GPU"] for node in with_gpu), default=1.0))
    else:
        cpus = 1.0
    num_slots = max(count_slots(nodes, cpus, gpus), count_slots(growth, cpus, gpus))
    share = f"{cpus:g} CPU" + (f" and {gpus:g} GPU" if gpus else "")
    if not num_slots:
        raise ValueError(
            f"a trial wants {share} on one node; none has that ({len(nodes)} nodes with {num_cpus:g} CPU and "
            f"{num_gpus:g} GPU in all): lower --trial-cpus or --trial-gpus"
        )
    description = (
        f"{len(nodes)} node{'s' * (len(nodes) > 1)}, {num_cpus:g} CPU, {num_gpus:g} GPU; "
        f"{num_slots} trial{'s' * (num_slots > 1)} at once, {share} each"
        + (f"; up to {len(growth)} more nodes start when trials wait" if growth else "")
    )
    return Cluster(
        trial_cpus=cpus,
        trial_gpus=gpus,
        num_slots=num_slots,
        num_nodes=len(nodes),
        description=description,
        num_ranks=max(1, int(gpus)),
    )


def count_slots(nodes: Sequence[Mapping[str, float]], cpus: float, gpus: float) -> int:
    """How many trials of this share fit on these nodes."""
    return sum(_fit_on(node, cpus, gpus) for node in nodes)


def _fit_on(node: Mapping[str, float], cpus: float, gpus: float) -> int:
    by_cpu = int(node.get("CPU", 0) / cpus + 1e-9)
    return min(by_cpu, int(node.get("GPU", 0) / gpus + 1e-9)) if gpus else by_cpu
