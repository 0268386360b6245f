"""Nodes that come and go while a search runs: trials fill what is there, and a lost node is no failure of its trial"""

from __future__ import annotations

import logging
import math
import os
import signal
import threading
import time
from collections.abc import Callable, Sequence
from queue import SimpleQueue
from typing import TYPE_CHECKING, Any

from ray import tune

from search.engine.cluster import Cluster, alive_nodes
from search.engine.preflight import NodeReport, list_faults

if TYPE_CHECKING:
    from ray.tune.experiment import Trial as TuneTrial

    from search.engine.searcher import OptunaSearcher

LOOK_S = 3.0
PATIENCE_S = 120.0  # a node that does not answer is declared dead within half a minute or so
MAX_BAD_NODES = 3
NOWHERE = ("", 0)
"""The node and process of a worker that is not known, most often because it died while it was being started."""

_log = logging.getLogger(__name__)


class NodeWatch(tune.Callback):
    """Counts the cluster's slots again every few seconds, and reports nodes that joined or left.

    `inspect(nodes)` is the preflight of nodes that join late, in a thread. Such a node may have been given trials
    before its faults are known: it is skipped from then on, and its trials go on elsewhere from their newest
    checkpoints. `give_up(reason)` ends a search whose cluster starts nodes of which the first three all fail.

    A trial's worker is known from its start on. One that died before that, with its node or alone, leaves no trace of
    where: its trial is acquitted where any node went at about that time.
    """

    def __init__(
        self,
        cluster: Cluster,
        searcher: OptunaSearcher,
        say: Callable[[list[str]], None],
        inspect: Callable[[list[dict[str, Any]]], list[NodeReport]] = lambda nodes: [],
        give_up: Callable[[str], object] = lambda reason: None,
    ) -> None:
        self.cluster = cluster
        self.searcher = searcher
        self.say = say
        self.inspect = inspect
        self.give_up = give_up
        self.reports: SimpleQueue[NodeReport] = SimpleQueue()
        self.worker_of: dict[int, tuple[str, int]] = {}  # a trial's node and process
        self.ended: set[tuple[str, int]] = set()
        self.suspects: list[tuple[float, str, TuneTrial]] = []
        self.went_s = -math.inf  # when a node was last seen to be gone
        self.num_passed = self.num_bad = 0  # of the nodes that joined late
        self.present = self._look()
        self.next_look_s = time.monotonic() + LOOK_S

    def on_step_end(self, iteration: int, trials: Sequence[TuneTrial], **info: Any) -> None:
        if time.monotonic() < self.next_look_s:
            return
        self.next_look_s = time.monotonic() + LOOK_S
        while not self.reports.empty():
            self._judge(self.reports.get())
        before, self.present = self.present, self._look()
        if before.keys() - self.present.keys():
            self.went_s = time.monotonic()
        self._acquit()
        if before == self.present:
            return
        self.searcher.num_slots = self.cluster.count_slots_now()
        if new := [node for node in alive_nodes() if node["NodeID"] in self.present.keys() - before.keys()]:
            threading.Thread(target=self._check, args=(new,), name="late-preflight", daemon=True).start()
        came = [f"node {name} has joined" for node, name in self.present.items() if node not in before]
        went = [f"node {name} is gone" for node, name in before.items() if node not in self.present]
        self.say([f"{line}; trials that fit at once: {self.searcher.num_slots}" for line in (*came, *went)])

    def on_trial_start(self, iteration: int, trials: Sequence[TuneTrial], trial: TuneTrial, **info: Any) -> None:
        """A worker is up, a new one or that of the trial before; its first result may never come."""
        self._note_worker(trial, find_process(trial.temporary_state.ray_actor))

    def on_trial_result(
        self, iteration: int, trials: Sequence[TuneTrial], trial: TuneTrial, result: dict[str, Any], **info: Any
    ) -> None:
        self._note_worker(trial, (result.get("node_id", ""), result.get("pid", 0)))

    def on_trial_recover(self, iteration: int, trials: Sequence[TuneTrial], trial: TuneTrial, **info: Any) -> None:
        """Tune counts every death of a worker. Ray may learn only later that the whole node has died."""
        node, _ = self.worker_of.pop(trial.config["number"], NOWHERE)
        self.suspects.append((time.monotonic(), node, trial))

    def on_trial_complete(self, iteration: int, trials: Sequence[TuneTrial], trial: TuneTrial, **info: Any) -> None:
        self.worker_of.pop(trial.config["number"], None)

    def on_trial_error(self, iteration: int, trials: Sequence[TuneTrial], trial: TuneTrial, **info: Any) -> None:
        self.worker_of.pop(trial.config["number"], None)

    def _note_worker(self, trial: TuneTrial, worker: tuple[str, int]) -> None:
        self.worker_of[trial.config["number"]] = worker
        if worker[0] in self.cluster.skipped:
            self._evict(worker)

    def _acquit(self) -> None:
        """The death of its node is not a trial's fault, nor is a node that it had to leave."""
        for suspect in list(self.suspects):
            since_s, node, trial = suspect
            why = self._excuse(node, since_s)
            if why:
                trial.run_metadata.num_failures = max(0, trial.run_metadata.num_failures - 1)
                self.say([f"trial {trial.config['number']:3d} is not to blame: {why}"])
            if why or time.monotonic() - since_s > PATIENCE_S:
                self.suspects.remove(suspect)

    def _excuse(self, node: str, since_s: float) -> str:
        """Why a worker that died then on this node ("": nobody knows which) did not die of its trial; else ""."""
        if not node:
            return "a node has died as its worker was started" if self.went_s > since_s - PATIENCE_S else ""
        if node in self.cluster.skipped:
            return "its node failed the preflight"
        return "" if node in self.present else "its node has died"

    def _check(self, nodes: list[dict[str, Any]]) -> None:
        for report in self.inspect(nodes):
            self.reports.put(report)

    def _judge(self, report: NodeReport) -> None:
        """Leave a node that failed out, and take its trials away from it."""
        self.num_passed += not report.faults
        if not report.faults:
            return
        self.num_bad += 1
        self.cluster.skipped.add(report.node_id)
        self.searcher.num_slots = num_slots = self.cluster.count_slots_now()
        lines = [f"preflight: {fault}" for fault in list_faults([report])]
        self.say([*lines, f"node {report.address} is skipped; trials that fit at once: {num_slots}"])
        for worker in self.worker_of.values():
            if worker[0] == report.node_id:
                self._evict(worker)
        if self.cluster.grows and not self.num_passed and self.num_bad >= MAX_BAD_NODES:
            self.give_up(f"the first {self.num_bad} nodes that joined all failed the preflight")

    def _evict(self, worker: tuple[str, int]) -> None:
        """End a trial's process: Tune then starts it where trials may run now."""
        if worker not in self.ended and worker[1] > 0:
            self.ended.add(worker)
            end_process(*worker)

    def __reduce__(self) -> tuple[type[object], tuple[()]]:
        return object, ()

    def _look(self) -> dict[str, str]:
        return {node["NodeID"]: node["NodeManagerAddress"] for node in alive_nodes()}


def find_process(actor: Any) -> tuple[str, int]:
    """The node and the process id of an actor, as the cluster knows them; ("", 0) where it does not."""
    from ray._private import state

    try:
        facts = state.actors(actor_id=actor._actor_id.hex())
        return str(facts["Address"]["NodeID"]), int(facts["Pid"])
    except (AttributeError, KeyError, TypeError, ValueError) as error:
        _log.warning("the process of a worker is not known: %s", error)
        return NOWHERE


def end_process(node_id: str, pid: int) -> None:
    """Kill a worker of ours on a node, without waiting for it."""
    import ray
    from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

    there = NodeAffinitySchedulingStrategy(node_id, soft=False)
    ray.remote(kill).options(num_cpus=0, max_retries=0, scheduling_strategy=there).remote(pid)


def kill(pid: int) -> None:
    os.kill(pid, signal.SIGKILL)
