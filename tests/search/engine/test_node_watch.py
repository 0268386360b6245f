from __future__ import annotations

import os
import time
from types import SimpleNamespace
from typing import Any

import pytest
import ray

from search.engine.cluster import Cluster
from search.engine.nodes import NodeWatch, end_process
from search.engine.preflight import NodeReport


def make_node(name: str) -> dict[str, Any]:
    return {"NodeID": name, "NodeManagerAddress": name, "Resources": {"CPU": 1.0}, "Alive": True}


def test_slots_follow_the_nodes_and_only_a_dead_node_acquits_its_trial(monkeypatch: pytest.MonkeyPatch) -> None:
    nodes = [make_node("a"), make_node("b"), make_node("bad")]
    for module in ("search.engine.nodes", "search.engine.cluster"):
        monkeypatch.setattr(f"{module}.alive_nodes", lambda: list(nodes))
    monkeypatch.setattr("search.engine.nodes.LOOK_S", 0)
    said: list[str] = []
    searcher: Any = SimpleNamespace(num_slots=2)
    cluster = Cluster(
        trial_cpus=1,
        trial_gpus=0,
        num_slots=2,
        num_nodes=3,
        description="",
        is_joined=True,
        skipped={"bad"},
    )
    watch = NodeWatch(cluster, searcher, said.extend)
    trials: list[Any] = [
        SimpleNamespace(config={"number": number}, run_metadata=SimpleNamespace(num_failures=1)) for number in (0, 1)
    ]
    for trial, node in zip(trials, "ab", strict=True):
        watch.on_trial_result(0, [], trial, {"node_id": node})
        watch.on_trial_recover(0, [], trial)
    del nodes[1]
    watch.on_step_end(0, [])
    assert [trial.run_metadata.num_failures for trial in trials] == [1, 0]
    assert searcher.num_slots == 1 and any("node b is gone" in line for line in said)
    nodes += [make_node("c"), make_node("d")]
    watch.on_step_end(0, [])
    assert searcher.num_slots == 3 and any("node d has joined; trials that fit at once: 3" in line for line in said)
    assert [trial.run_metadata.num_failures for trial in trials] == [1, 0]


def test_nodes_that_join_late_and_fail_are_left_out_and_three_of_them_end_a_search(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    nodes = [make_node("head") | {"Resources": {"CPU": 0.0}}]
    for module in ("search.engine.nodes", "search.engine.cluster"):
        monkeypatch.setattr(f"{module}.alive_nodes", lambda: list(nodes))
    monkeypatch.setattr("search.engine.nodes.LOOK_S", 0)
    ended: list[tuple[str, int]] = []
    monkeypatch.setattr("search.engine.nodes.end_process", lambda *worker: ended.append(worker))
    said: list[str] = []
    reasons: list[str] = []
    searcher: Any = SimpleNamespace(num_slots=4)
    cluster = Cluster(trial_cpus=1, trial_gpus=0, num_slots=4, num_nodes=1, description="", is_joined=True, grows=True)

    def inspect(found: list[dict[str, Any]]) -> list[NodeReport]:
        return [NodeReport(node_id=n["NodeID"], address=n["NodeID"], faults=["torch is 1.0.0"]) for n in found]

    watch = NodeWatch(cluster, searcher, said.extend, inspect, reasons.append)
    trial: Any = SimpleNamespace(config={"number": 0}, run_metadata=SimpleNamespace(num_failures=1))
    unlucky: Any = SimpleNamespace(config={"number": 1}, run_metadata=SimpleNamespace(num_failures=1))
    for name in "abc":
        assert not reasons
        nodes.append(make_node(name))
        watch.on_trial_result(0, [], trial, {"node_id": "a", "pid": 17})
        watch.on_step_end(0, [])
        until_s = time.monotonic() + 10
        while name not in cluster.skipped:
            assert time.monotonic() < until_s
            watch.on_step_end(0, [])
    assert ended == [("a", 17)]  # once
    watch.on_trial_result(0, [], unlucky, {"node_id": "c", "pid": 18})
    assert ended == [("a", 17), ("c", 18)]
    watch.on_trial_recover(0, [], unlucky)
    watch.on_step_end(0, [])
    assert unlucky.run_metadata.num_failures == 0
    assert "node a is skipped; trials that fit at once: 4" in said and "preflight: a: torch is 1.0.0" in said
    assert reasons == ["the first 3 nodes that joined all failed the preflight"]
    assert "!in(a,b,c)" in str(cluster.place_trial())


def test_a_worker_is_ended_on_its_node(cluster: Cluster) -> None:
    class Worker:
        def tell(self) -> tuple[str, int]:
            return ray.get_runtime_context().get_node_id(), os.getpid()

    worker = ray.remote(Worker).remote()
    end_process(*ray.get(worker.tell.remote()))
    with pytest.raises(ray.exceptions.RayActorError):
        for _ in range(200):
            ray.get(worker.tell.remote())
            time.sleep(0.1)
