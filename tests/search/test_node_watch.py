from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest

from search.cluster import Cluster
from search.nodes import NodeWatch


def make_node(name: str) -> dict[str, Any]:
    return {"NodeID": name, "NodeManagerAddress": name, "Resources": {"CPU": 1.0}, "Alive": True}


def test_slots_follow_the_nodes_and_only_a_dead_node_acquits_its_trial(monkeypatch: pytest.MonkeyPatch) -> None:
    nodes = [make_node("a"), make_node("b"), make_node("bad")]
    for module in ("search.nodes", "search.cluster"):
        monkeypatch.setattr(f"{module}.alive_nodes", lambda: list(nodes))
    monkeypatch.setattr("search.nodes.LOOK_S", 0)
    said: list[str] = []
    searcher: Any = SimpleNamespace(num_slots=2)
    cluster = Cluster(
        trial_cpus=1,
        trial_gpus=0,
        num_slots=2,
        num_nodes=3,
        description="",
        is_joined=True,
        left_out=frozenset({"bad"}),
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
