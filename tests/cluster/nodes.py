"""A cluster of Ray nodes on this machine, in a process of its own: commands come in as lines of JSON, answers go out.

Run as a script it is that process; `Nodes` is its handle. Each node may have its own environment, as hosts have.
"""

from __future__ import annotations

import json
import os
import secrets
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Self


class Nodes:
    """Real raylets, closed to who does not hold `token`. The head runs no trial unless `head_cpus` says so."""

    def __init__(self, *, head_cpus: int = 0) -> None:
        self.token = secrets.token_hex(16)
        self._process = subprocess.Popen(
            [sys.executable, __file__],
            env=self.environ(),
            text=True,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            start_new_session=True,
        )
        self.address: str = self._ask(verb="begin", num_cpus=head_cpus)

    def environ(self, **more: str) -> dict[str, str]:
        """For a driver that may join."""
        kept = {key: value for key, value in os.environ.items() if not key.startswith(("RAY_", "CTSEARCH_"))}
        return kept | {"RAY_AUTH_MODE": "token", "RAY_AUTH_TOKEN": self.token} | more

    def add(self, environ: Mapping[str, str] | None = None, *, num_cpus: int = 1, num_gpus: int = 0) -> str:
        """Let a node join; returns its id."""
        node_id: str = self._ask(verb="add", num_cpus=num_cpus, num_gpus=num_gpus, environ=dict(environ or {}))
        return node_id

    def kill(self, node_id: str) -> None:
        """Kill every process of a node with -9."""
        self._ask(verb="kill", node_id=node_id)

    def drain(self, node_id: str, *, deadline_s: float) -> bool:
        """Tell Ray that the node will be taken away, as a spot notice does. Returns whether it agrees."""
        return bool(self._ask(verb="drain", node_id=node_id, deadline_s=deadline_s))

    def close(self) -> None:
        self._process.communicate(json.dumps({"verb": "end"}) + "\n", timeout=300)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _ask(self, **question: Any) -> Any:
        assert self._process.stdin and self._process.stdout
        self._process.stdin.write(json.dumps(question) + "\n")
        self._process.stdin.flush()
        for line in self._process.stdout:
            if line.startswith("ANSWER "):
                return json.loads(line.removeprefix("ANSWER "))
        raise RuntimeError(f"the cluster's process ended at {question}")


def main() -> None:
    import time

    import ray
    from ray.cluster_utils import Cluster

    sys.path.insert(0, str(Path(__file__).resolve().parents[2]))
    cluster, nodes = Cluster(), {}
    for line in sys.stdin:
        question = json.loads(line)
        match question.pop("verb"):
            case "begin":
                cluster.add_node(num_cpus=question["num_cpus"], include_dashboard=False)
                answer: Any = cluster.address
            case "add":
                environ = question.pop("environ")
                node = cluster.add_node(**question, env_vars=environ)
                nodes[node.node_id] = node
                answer = node.node_id
            case "kill":
                cluster.remove_node(nodes.pop(question["node_id"]), allow_graceful=False)
                answer = None
            case "drain":
                ends_ms = int((time.time() + question["deadline_s"]) * 1000)
                gcs = ray._raylet.GcsClient(address=cluster.address)
                preempted = 2  # DRAIN_NODE_REASON_PREEMPTION of Ray's autoscaler protocol
                answer = gcs.drain_node(question["node_id"], preempted, "spot notice", ends_ms)[0]
            case "end":
                cluster.shutdown()
                return
        print("ANSWER " + json.dumps(answer), flush=True)


if __name__ == "__main__":
    main()
