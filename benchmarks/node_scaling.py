"""Whether trials per hour grow with the nodes: one search of sleeping stubs on 1, 2 and 4 simulated nodes

    python benchmarks/node_scaling.py [--nodes 1,2,4] [--gpus 2] [--rounds 12] [--epoch-s 1]

Each node is a real raylet with invented GPUs, one trial each; the head has none. A trial sleeps for nine epochs.
Counted are the trials that end between the moment when every slot is busy and the moment when the last trial begins.
One JSON line a number of nodes: trials an hour, and its share of that many times the figure of one node.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

if __name__ == "__main__":  # as a script, benchmarks/ comes first on the path: the root must
    sys.path[0] = str(Path(__file__).resolve().parents[1])

from benchmarks.driver_scale import run_stubs
from mlflow_server.serve import ensure_server
from search.engine.cluster import connect
from tests.cluster.nodes import Nodes


def measure(num_nodes: int, *, gpus: int, rounds: int, epoch_s: float) -> dict[str, Any]:
    """One search on so many nodes, in a process of its own: Ray joins one cluster in its life."""
    with Nodes() as nodes:
        for _ in range(num_nodes):
            nodes.add(num_cpus=gpus, num_gpus=gpus)
        command = [
            sys.executable,
            __file__,
            "--drive",
            nodes.address,
            "--rounds",
            str(rounds),
            "--epoch-s",
            str(epoch_s),
        ]
        done = subprocess.run(command, env=nodes.environ(), stdout=subprocess.PIPE, text=True, check=True)
    return {"num_nodes": num_nodes, **json.loads(done.stdout.splitlines()[-1])}


def drive(address: str, *, rounds: int, epoch_s: float) -> dict[str, Any]:
    """The driver's side: `rounds` trials a slot."""
    os.environ["RAY_ADDRESS"] = address
    cluster = connect(address)
    num_slots, num_trials = cluster.num_slots, cluster.num_slots * rounds
    with tempfile.TemporaryDirectory() as folder, ensure_server(Path(folder) / "mlflow") as server:
        clock = run_stubs(
            "scaling", home_folder=Path(folder), uri=server.uri, num_trials=num_trials, epoch_s=epoch_s, cluster=cluster
        )
    began_s = sorted(spans[0][0] for spans in clock.epochs.values())
    ended_s = [spans[-1][1] for spans in clock.epochs.values()]
    begin_s, end_s = began_s[num_slots - 1], began_s[-1]
    num_ended = sum(begin_s < at <= end_s for at in ended_s)
    return {"num_slots": num_slots, "num_trials": num_trials, "trials_per_hour": 3600 * num_ended / (end_s - begin_s)}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--nodes", default="1,2,4")
    parser.add_argument("--gpus", type=int, default=2, help="of a node")
    parser.add_argument("--rounds", type=int, default=12, help="trials a slot")
    parser.add_argument("--epoch-s", type=float, default=1.0)
    parser.add_argument("--drive", help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.drive:
        print(json.dumps(drive(args.drive, rounds=args.rounds, epoch_s=args.epoch_s)))
        return
    one_node = 0.0
    for num_nodes in map(int, args.nodes.split(",")):
        found = measure(num_nodes, gpus=args.gpus, rounds=args.rounds, epoch_s=args.epoch_s)
        one_node = one_node or found["trials_per_hour"] / num_nodes
        found["share_of_linear"] = round(found["trials_per_hour"] / (one_node * num_nodes), 3)
        print(json.dumps({"benchmark": "node_scaling"} | found), flush=True)


if __name__ == "__main__":
    main()
