"""The checks of the cluster before anything is trained: one row a node, and for each fault its remedy"""

from __future__ import annotations

import secrets
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Protocol

from rich.console import RenderableType
from rich.table import Table

from search.core.config import SearchConfig
from search.core.folder import SearchFolder
from search.engine.cluster import Cluster, alive_nodes
from search.engine.node_facts import FOLDER, Demand, NodeFacts, inspect_node
from trainable.storage import delete_file, join, make_folder, write_file

MAX_CLOCK_S = 5.0
MIN_FREE_BYTES, MIN_SHM_BYTES = 2 * 10**9, 100 * 10**6
ANSWER_S = 180.0  # a node that has just joined unpacks the code first


class ServerAddress(Protocol):
    """Where MLflow's server is, and the variables by which its client logs in there."""

    @property
    def uri(self) -> str: ...

    @property
    def login(self) -> Mapping[str, str]: ...


@dataclass(kw_only=True)
class NodeReport:
    """One node of the cluster: what it has shown, how far its clock is off, and what is wrong with it."""

    node_id: str
    address: str
    facts: NodeFacts | None = None
    clock_s: float = 0.0
    faults: list[str] = field(default_factory=list)


def judge(report: NodeReport, own: NodeFacts, demand: Demand, *, num_gpus: float = 0) -> None:
    """Add to `report` what is wrong with a node that has answered, each fault with what fixes it."""
    facts, faults = report.facts, report.faults
    assert facts is not None
    install = "install what the head has: pip install -c constraints.txt"
    for name, mine in own.versions.items():
        if (theirs := facts.versions.get(name, "missing")) != mine:
            faults.append(f"{name} is {theirs}, the head has {mine}; {install}")
    if facts.code != own.code:
        faults.append(
            f"ctsearch's code is {facts.code}, the head has {own.code}; install the same version on every node"
        )
    if len(facts.gpus) < num_gpus:
        faults.append(f"Ray counts {num_gpus:g} GPUs, the driver shows {len(facts.gpus)}; look at `nvidia-smi` there")
    elif facts.cuda:
        faults.append(f"torch cannot use its GPUs ({facts.cuda}); the driver must be as new as torch's CUDA wants it")
    if facts.free_bytes < MIN_FREE_BYTES:
        faults.append(
            f"{facts.free_bytes / 1e9:.1f} GB of disk are free; free some, or name a larger disk by CTSEARCH_NODE_DIR"
        )
    if facts.shm_bytes is not None and facts.shm_bytes < MIN_SHM_BYTES:
        faults.append(f"/dev/shm has {facts.shm_bytes / 1e6:.0f} MB; give the container more by --shm-size")
    if abs(report.clock_s) > MAX_CLOCK_S:
        faults.append(f"its clock is {report.clock_s:+.0f} s off; run a time service such as chrony there")
    if facts.storage:
        faults.append(
            f"storage {demand.storage}: {facts.storage}; --storage must be a folder that all nodes share, or an "
            "object store that all may use"
        )
    if facts.tracking:
        faults.append(
            f"MLflow at {demand.tracking_uri}: {facts.tracking}; give a MLFLOW_TRACKING_URI that every node reaches, "
            "with MLFLOW_TRACKING_USERNAME and _PASSWORD where it asks for them"
        )


def check_cluster(
    config: SearchConfig,
    home: SearchFolder,
    cluster: Cluster,
    server: ServerAddress,
    *,
    show: Callable[[RenderableType], None] | None = None,
) -> Cluster:
    """Look at every node that trials may run on; the cluster without those that failed, where they are skipped.

    `show` is given the table and the faults; without it they are kept for the error. A Ray of our own has this
    machine alone, and nothing to compare it with. Raises ValueError, naming each fault with what fixes it.
    """
    if not cluster.is_joined and config.storage is None and show is None:
        return cluster
    reports = look(config, home, cluster, server, alive_nodes() if cluster.is_joined else [])
    faults = list_faults(reports)
    if show is not None:
        show(draw_table(reports))
        for fault in faults:
            show(fault)
    bad = {report.node_id for report in reports if report.faults}
    if not bad:
        return cluster
    if config.bad_nodes == "refuse" or not cluster.is_joined:
        leave_out = "; or leave such nodes out by --bad-nodes leave-out" if cluster.is_joined else ""
        raise ValueError("\n".join(["the preflight found:", *faults]) + leave_out)
    cluster.skipped.update(bad)
    num_slots = cluster.count_slots_now()
    if not num_slots and not cluster.grows:
        raise ValueError("\n".join(["no node that trials fit on passed the preflight:", *faults]))
    return replace(cluster, num_slots=num_slots)


def look(
    config: SearchConfig, home: SearchFolder, cluster: Cluster, server: ServerAddress, nodes: Sequence[dict[str, Any]]
) -> list[NodeReport]:
    """Compare these nodes with this machine; a Ray of our own is this machine."""
    demand = open_demand(config.storage, home.cache, cluster.reach(server.uri))
    demand = replace(demand, tracking_login=server.login)
    try:
        own = inspect_node(demand)
        return check_nodes(nodes, demand, own) if cluster.is_joined else [check_here(demand, own)]
    finally:
        close_demand(demand)


def check_here(demand: Demand, own: NodeFacts) -> NodeReport:
    """This machine alone."""
    report = NodeReport(node_id="", address="here", facts=own)
    judge(report, own, demand)
    return report


def check_nodes(nodes: Sequence[dict[str, Any]], demand: Demand, own: NodeFacts) -> list[NodeReport]:
    """Look at all these nodes (of `ray.nodes()`) at once, each in a process of its own."""
    import ray
    from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

    asked = []
    for node in nodes:
        num_gpus = node["Resources"].get("GPU", 0)
        there = NodeAffinitySchedulingStrategy(node["NodeID"], soft=False)
        options = {"num_cpus": 0, "max_retries": 0, "scheduling_strategy": there}
        look = ray.remote(inspect_node).options(**options)
        asked.append((node, num_gpus, look.remote(replace(demand, num_gpus=num_gpus))))
    until_s = time.monotonic() + ANSWER_S
    reports = []
    for node, _, answer in asked:
        report = NodeReport(node_id=node["NodeID"], address=node["NodeManagerAddress"])
        reports.append(report)
        try:
            report.facts = ray.get(answer, timeout=max(1.0, until_s - time.monotonic()))
        except ray.exceptions.GetTimeoutError:
            report.faults.append(f"it has not answered within {ANSWER_S:.0f} s; look at `ray status` and its log")
        except ray.exceptions.RayError as error:
            report.faults.append(f"it cannot run our code: {last_words(error)}; install the same version on every node")
    for (node, num_gpus, _), report in zip(asked, reports, strict=True):
        if report.facts is not None:
            report.clock_s = measure_clock(node["NodeID"])
            judge(report, own, demand, num_gpus=num_gpus)
    return reports


def read_clock() -> float:
    return time.time()


def measure_clock(node_id: str) -> float:
    """How far a node's clock is ahead, in seconds: the better of two calls, against the middle of each."""
    import ray
    from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

    there = NodeAffinitySchedulingStrategy(node_id, soft=False)
    ask = ray.remote(read_clock).options(num_cpus=0, max_retries=0, scheduling_strategy=there)
    offsets = []
    for _ in range(2):
        asked_s = time.time()
        try:
            answer_s = ray.get(ask.remote(), timeout=30)
        except ray.exceptions.RayError:
            continue
        offsets.append((time.time() - asked_s, answer_s - (asked_s + time.time()) / 2))
    return min(offsets)[1] if offsets else 0.0


def last_words(error: Exception) -> str:
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return lines[-1] if lines else type(error).__name__


def open_demand(storage: str | None, node_dir: Path, tracking_uri: str | None) -> Demand:
    """Write the token that every node must find. Raises ValueError where the storage does not take it."""
    token = secrets.token_hex(8)
    if storage is not None:
        try:
            make_folder(storage)
            write_file(join(storage, FOLDER), token, token.encode())
        except OSError as error:
            raise ValueError(f"--storage is {storage}; this machine cannot write there ({error})") from error
    return Demand(storage=storage, token=token, node_dir=str(node_dir), tracking_uri=tracking_uri)


def close_demand(demand: Demand) -> None:
    """Take the token away again."""
    if demand.storage is not None:
        delete_file(join(demand.storage, FOLDER), demand.token)


def draw_table(reports: Sequence[NodeReport]) -> Table:
    """One row a node; its faults stand below the table, by `list_faults`."""
    table = Table(box=None, pad_edge=False, header_style="bold")
    for name in ("node", "python", "torch", "ray", "code", "GPUs, driver", "disk", "shm", "clock", "storage", "MLflow"):
        table.add_column(name)
    for report in reports:
        facts = report.facts
        if facts is None:
            table.add_row(report.address, *[""] * 9, "", style="red")
            continue
        names = sorted(set(facts.gpus))
        table.add_row(
            f"{report.address} {facts.host}",
            facts.versions["python"],
            facts.versions["torch"],
            facts.versions["ray"],
            facts.code,
            f"{len(facts.gpus)} x {'; '.join(names)}" if names else "none",
            f"{facts.free_bytes / 1e9:.0f} GB",
            f"{facts.shm_bytes / 1e9:.1f} GB" if facts.shm_bytes is not None else "none",
            f"{report.clock_s:+.1f} s",
            "fails" if facts.storage else "ok",
            "fails" if facts.tracking else "ok",
            style="red" if report.faults else None,
        )
    return table


def list_faults(reports: Sequence[NodeReport]) -> list[str]:
    """One line a fault, with the node that has it."""
    named = [(f"{r.address} {r.facts.host}" if r.facts else r.address, r.faults) for r in reports]
    return [f"{name}: {fault}" for name, faults in named for fault in faults]
