from __future__ import annotations

import os
import time
from types import SimpleNamespace
from typing import Any

import pytest
import ray

from search.engine.cluster import Cluster
from search.engine.nodes import NodeWatch, end_process, find_process
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
        until_s = time.monotonic() + 120
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


@pytest.fixture
def nodes(monkeypatch: pytest.MonkeyPatch) -> list[dict[str, Any]]:
    """Of a cluster of two; an actor is where it says."""
    found = [make_node("a"), make_node("b")]
    for module in ("search.engine.nodes", "search.engine.cluster"):
        monkeypatch.setattr(f"{module}.alive_nodes", lambda: list(found))
    monkeypatch.setattr("search.engine.nodes.LOOK_S", 0)
    monkeypatch.setattr("search.engine.nodes.find_process", lambda actor: (actor, 17))
    return found


def watch_two(said: list[str]) -> NodeWatch:
    cluster = Cluster(trial_cpus=1, trial_gpus=0, num_slots=2, num_nodes=2, description="", is_joined=True)
    searcher: Any = SimpleNamespace(num_slots=2)
    return NodeWatch(cluster, searcher, said.extend)


def make_trial(number: int, node: str) -> Any:
    state = SimpleNamespace(ray_actor=node)
    return SimpleNamespace(
        config={"number": number}, temporary_state=state, run_metadata=SimpleNamespace(num_failures=1)
    )


def test_a_trial_whose_node_dies_before_its_first_result_there_is_acquitted(nodes: list[dict[str, Any]]) -> None:
    said: list[str] = []
    watch, early, moved = watch_two(said), make_trial(0, "b"), make_trial(1, "a")
    watch.on_trial_start(0, [], early)
    watch.on_trial_start(0, [], moved)
    watch.on_trial_result(0, [], moved, {"node_id": "a", "pid": 17})
    moved.temporary_state.ray_actor = "b"
    watch.on_trial_start(0, [], moved)
    for trial in (early, moved):
        watch.on_trial_recover(0, [], trial)
    del nodes[1]
    watch.on_step_end(0, [])
    assert [trial.run_metadata.num_failures for trial in (early, moved)] == [0, 0]
    assert "trial   0 is not to blame: its node has died" in said


def test_a_process_that_dies_alone_before_its_first_result_counts_as_its_trials_failure(
    nodes: list[dict[str, Any]],
) -> None:
    watch, moved, unborn = watch_two([]), make_trial(0, "b"), make_trial(1, "")
    watch.on_trial_start(0, [], moved)
    watch.on_trial_recover(0, [], moved)
    moved.temporary_state.ray_actor = "a"
    watch.on_trial_start(0, [], moved)
    watch.on_trial_recover(0, [], unborn)  # of which no worker ever came up
    watch.on_step_end(0, [])
    assert [trial.run_metadata.num_failures for trial in (moved, unborn)] == [1, 1]


def test_a_worker_that_died_as_it_was_started_is_excused_by_a_node_that_went_then(nodes: list[dict[str, Any]]) -> None:
    said: list[str] = []
    watch, unborn = watch_two(said), make_trial(3, "")
    watch.on_trial_recover(0, [], unborn)
    del nodes[0]
    watch.on_step_end(0, [])
    assert unborn.run_metadata.num_failures == 0
    assert "trial   3 is not to blame: a node has died as its worker was started" in said


def test_a_node_that_failed_gets_no_first_epoch_either(
    nodes: list[dict[str, Any]], monkeypatch: pytest.MonkeyPatch
) -> None:
    ended: list[tuple[str, int]] = []
    monkeypatch.setattr("search.engine.nodes.end_process", lambda *worker: ended.append(worker))
    watch = watch_two([])
    watch.cluster.skipped.add("b")
    watch.on_trial_start(0, [], make_trial(0, "b"))
    assert ended == [("b", 17)]


def test_nobody_is_ended_for_a_trial_that_has_ended(
    nodes: list[dict[str, Any]], monkeypatch: pytest.MonkeyPatch
) -> None:
    ended: list[tuple[str, int]] = []
    monkeypatch.setattr("search.engine.nodes.end_process", lambda *worker: ended.append(worker))
    watch, done, broken = watch_two([]), make_trial(0, "b"), make_trial(1, "b")
    for trial in (done, broken):
        watch.on_trial_start(0, [], trial)
    watch.on_trial_complete(0, [], done)
    watch.on_trial_error(0, [], broken)
    watch.reports.put(NodeReport(node_id="b", address="b", faults=["torch is 1.0.0"]))
    watch.on_step_end(0, [])
    assert ended == [] and watch.cluster.skipped == {"b"}


def test_a_worker_is_ended_on_its_node(cluster: Cluster) -> None:
    class Worker:
        def tell(self) -> tuple[str, int]:
            return ray.get_runtime_context().get_node_id(), os.getpid()

    worker = ray.remote(Worker).remote()
    told = ray.get(worker.tell.remote())
    assert find_process(worker) == told
    end_process(*told)
    with pytest.raises(ray.exceptions.RayActorError):
        for _ in range(200):
            ray.get(worker.tell.remote())
            time.sleep(0.1)
