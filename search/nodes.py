"""Nodes that come and go while a search runs: trials fill what is there, and a lost node is no failure of its trial"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Sequence
from queue import SimpleQueue
from typing import TYPE_CHECKING, Any

from ray import tune

from search.cluster import Cluster, alive_nodes

if TYPE_CHECKING:
    from ray.tune.experiment import Trial as TuneTrial

    from search.searcher import OptunaSearcher

LOOK_S = 3.0
PATIENCE_S = 120.0  # a node that does not answer is declared dead within half a minute or so


class NodeWatch(tune.Callback):
    """Counts the cluster's slots again every few seconds, and tells of nodes that joined or left.

    `find_faults(nodes)` is the preflight of nodes that join late, in a thread: what it finds is told, no more, since
    Ray may have given such a node a trial already.
    """

    def __init__(
        self,
        cluster: Cluster,
        searcher: OptunaSearcher,
        say: Callable[[list[str]], None],
        find_faults: Callable[[list[dict[str, Any]]], list[str]] = lambda nodes: [],
    ) -> None:
        self.cluster = cluster
        self.searcher = searcher
        self.say = say
        self.find_faults = find_faults
        self.faults: SimpleQueue[str] = SimpleQueue()
        self.node_of: dict[int, str] = {}
        self.suspects: list[tuple[float, str, TuneTrial]] = []
        self.present = self._look()
        self.next_look_s = time.monotonic() + LOOK_S

    def on_step_end(self, iteration: int, trials: Sequence[TuneTrial], **info: Any) -> None:
        if time.monotonic() < self.next_look_s:
            return
        self.next_look_s = time.monotonic() + LOOK_S
        while not self.faults.empty():
            self.say([f"preflight: {self.faults.get()}"])
        before, self.present = self.present, self._look()
        self._acquit()
        if before == self.present:
            return
        self.searcher.num_slots = self.cluster.count_slots_now()
        if new := [node for node in alive_nodes() if node["NodeID"] in self.present.keys() - before.keys()]:
            threading.Thread(target=self._check, args=(new,), name="late-preflight", daemon=True).start()
        came = [f"node {name} has joined" for node, name in self.present.items() if node not in before]
        went = [f"node {name} is gone" for node, name in before.items() if node not in self.present]
        self.say([f"{line}; trials that fit at once: {self.searcher.num_slots}" for line in (*came, *went)])

    def on_trial_result(
        self, iteration: int, trials: Sequence[TuneTrial], trial: TuneTrial, result: dict[str, Any], **info: Any
    ) -> None:
        self.node_of[trial.config["number"]] = result.get("node_id", "")

    def on_trial_recover(self, iteration: int, trials: Sequence[TuneTrial], trial: TuneTrial, **info: Any) -> None:
        """Tune counts every death of a worker. Ray may learn only later that the whole node has died."""
        if node := self.node_of.get(trial.config["number"]):
            self.suspects.append((time.monotonic(), node, trial))

    def _acquit(self) -> None:
        """The death of its node is not a trial's fault."""
        for suspect in list(self.suspects):
            since_s, node, trial = suspect
            if node not in self.present:
                trial.run_metadata.num_failures = max(0, trial.run_metadata.num_failures - 1)
                self.say([f"trial {trial.config['number']:3d} is not to blame: its node has died"])
            if node not in self.present or time.monotonic() - since_s > PATIENCE_S:
                self.suspects.remove(suspect)

    def _check(self, nodes: list[dict[str, Any]]) -> None:
        for fault in self.find_faults(nodes):
            self.faults.put(fault)

    def __reduce__(self) -> tuple[type[object], tuple[()]]:
        return object, ()

    def _look(self) -> dict[str, str]:
        return {node["NodeID"]: node["NodeManagerAddress"] for node in alive_nodes()}
