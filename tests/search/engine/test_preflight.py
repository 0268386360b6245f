"""What the preflight says of a node: every fault with what fixes it."""

from __future__ import annotations

import http.server
import socket
import threading
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pytest

from search.core.config import SearchConfig
from search.core.folder import create_search
from search.engine.cluster import Cluster
from search.engine.node_facts import Demand, NodeFacts, inspect_node, try_tracking
from search.engine.preflight import NodeReport, check_cluster, judge, list_faults

OWN = Cluster(trial_cpus=1, trial_gpus=0, num_slots=2, num_nodes=1, description="")
DEMAND = Demand(storage="s3://b/f", token="t", node_dir="/tmp", tracking_uri="http://head:5000")


@pytest.fixture
def facts(tmp_path: Path) -> NodeFacts:
    return inspect_node(Demand(storage=None, token="", node_dir=str(tmp_path), tracking_uri=None))


def faults_of(facts: NodeFacts, own: NodeFacts, *, clock_s: float = 0.0, num_gpus: float = 0) -> list[str]:
    report = NodeReport(node_id="a", address="10.0.0.7", facts=facts, clock_s=clock_s)
    judge(report, own, DEMAND, num_gpus=num_gpus)
    return list_faults([report])


def test_a_node_like_the_head_has_no_fault(facts: NodeFacts) -> None:
    assert faults_of(replace(facts, free_bytes=10**12, shm_bytes=10**10), facts) == []


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"code": "deadbeef"}, "ctsearch's code is deadbeef"),
        ({"free_bytes": 10**8}, "0.1 GB of disk are free; free some"),
        ({"shm_bytes": 64 * 10**6}, "/dev/shm has 64 MB; give the container more by --shm-size"),
        ({"storage": "Access denied"}, "storage s3://b/f: Access denied; --storage must be"),
        ({"tracking": "refused"}, "MLflow at http://head:5000: refused; give a MLFLOW_TRACKING_URI"),
        ({"cuda": "driver too old"}, "torch cannot use its GPUs (driver too old)"),
    ],
)
def test_each_fault_is_named_with_its_fix(facts: NodeFacts, change: dict[str, Any], words: str) -> None:
    sound = replace(facts, free_bytes=10**12, shm_bytes=10**10)
    (fault,) = faults_of(replace(sound, **change), sound)
    assert fault.startswith(f"10.0.0.7 {facts.host}: ") and words in fault


def test_versions_clock_and_missing_gpus_are_faults_too(facts: NodeFacts) -> None:
    sound = replace(facts, free_bytes=10**12, shm_bytes=10**10)
    other = replace(sound, versions=facts.versions | {"python": "3.12.1", "ray": "2.59.0"})
    python, ray = faults_of(other, sound)
    assert "python is 3.12.1" in python and "ray is 2.59.0" in ray and "-c constraints.txt" in ray
    assert "its clock is -60 s off; run a time service" in faults_of(sound, sound, clock_s=-60)[0]
    assert "Ray counts 2 GPUs, the driver shows 0" in faults_of(replace(sound, gpus=[]), sound, num_gpus=2)[0]


class Guarded(http.server.BaseHTTPRequestHandler):
    """A tracking server that knows one user and one name of itself."""

    def do_GET(self) -> None:
        is_known = self.headers["Authorization"] == "Basic dXNlcjpnb29k"
        is_host = str(self.headers["Host"]).startswith("127.0.0.1")
        self.send_response(403 if not is_host else 200 if is_known else 401)
        self.end_headers()

    def log_message(self, *_: object) -> None: ...


@pytest.fixture
def guarded() -> Iterator[int]:
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Guarded) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield server.server_port
        server.shutdown()


def test_a_refused_password_a_foreign_host_name_and_a_dead_server_are_told_apart(guarded: int) -> None:
    login = {"MLFLOW_TRACKING_USERNAME": "user", "MLFLOW_TRACKING_PASSWORD": "good"}
    assert try_tracking(f"http://127.0.0.1:{guarded}", login) == ""
    assert "host not allowed" in try_tracking(f"http://localhost:{guarded}", login)
    wrong = login | {"MLFLOW_TRACKING_PASSWORD": "bad"}
    assert "password refused" in try_tracking(f"http://127.0.0.1:{guarded}/", wrong)
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    assert "refused" in try_tracking(f"http://127.0.0.1:{port}", {})


@dataclass(frozen=True, kw_only=True)
class Server:
    uri: str
    login: dict[str, str]


LOGIN = {"MLFLOW_TRACKING_USERNAME": "user"}


def test_a_storage_that_this_machine_cannot_write_is_refused_before_anything_begins(
    tmp_path: Path, guarded: int
) -> None:
    server = Server(uri=f"http://127.0.0.1:{guarded}", login=LOGIN | {"MLFLOW_TRACKING_PASSWORD": "good"})
    config = SearchConfig(home=tmp_path, storage=str(tmp_path / "file"))
    (tmp_path / "file").touch()
    home = create_search(tmp_path, "first", {})
    with pytest.raises(ValueError, match="this machine cannot write there"):
        check_cluster(config, home, OWN, server)
    config = replace(config, storage=str(tmp_path / "folder"))
    assert check_cluster(config, home, OWN, server) is OWN, "with the driver's login"
    assert not list((tmp_path / "folder" / "preflight").iterdir())
    server = replace(server, login=LOGIN | {"MLFLOW_TRACKING_PASSWORD": "bad"})
    with pytest.raises(ValueError, match="user or password refused"):
        check_cluster(config, home, OWN, server)
