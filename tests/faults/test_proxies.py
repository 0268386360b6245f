"""A dead proxy in the shell: what is called on this machine answers all the same."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
import urllib.request
from collections.abc import Iterator
from pathlib import Path

import pytest

from mlflow_server.serve import ServerHandle
from trainable.proxies import bypass_proxies

ROOT = Path(__file__).resolve().parents[2]
PROXY_NAMES = ("http_proxy", "https_proxy", "HTTP_PROXY", "HTTPS_PROXY", "all_proxy", "ALL_PROXY")
NO_PROXY_NAMES = ("no_proxy", "NO_PROXY", "no_grpc_proxy")

ASK = """
import os, sys, urllib.request
os.environ["MLFLOW_HTTP_REQUEST_MAX_RETRIES"] = "0"
uri, way, bypasses = sys.argv[1:]
if bypasses == "yes":
    from trainable.proxies import bypass_proxies
    bypass_proxies()
if way == "urllib":
    assert urllib.request.urlopen(uri + "/health", timeout=10).read() == b"OK"
else:
    from mlflow import MlflowClient
    MlflowClient(uri).search_experiments(max_results=1)
"""

SEARCH_DOOR = """
import sys
from pathlib import Path
from search.core.config import SearchConfig
from search.core.folder import create_search
from search.runtime import Caller, open_runtime

def ask(uri):
    import os
    from mlflow import MlflowClient
    return len(MlflowClient(uri).search_experiments()), os.environ["no_proxy"]

folder = create_search(Path(sys.argv[1]), "proxied", {})
with open_runtime(SearchConfig(home=Path(sys.argv[1]), trial_cpus=1), folder, Caller()) as runtime:
    import ray
    here, _ = ask(runtime.server.uri)
    there, no_proxy = ray.get(ray.remote(num_cpus=1)(ask).remote(runtime.server.uri))
    assert here == there == 1, (here, there)
    print(no_proxy)
"""


@pytest.fixture
def dead_proxy() -> Iterator[dict[str, str]]:
    """An environment whose every proxy is a port that is held and never listens: connections are refused."""
    with socket.socket() as held:
        held.bind(("127.0.0.1", 0))
        address = f"http://127.0.0.1:{held.getsockname()[1]}"
        bare = {name: value for name, value in os.environ.items() if name not in NO_PROXY_NAMES}
        yield bare | dict.fromkeys(PROXY_NAMES, address)


def run(code: str, *arguments: str, environment: dict[str, str]) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-c", code, *arguments], cwd=ROOT, env=environment, capture_output=True, text=True, check=False
    )


@pytest.mark.parametrize("way", ["urllib", "mlflow"])
def test_calls_to_loopback_pass_a_dead_proxy_by(
    way: str, mlflow_server: ServerHandle, dead_proxy: dict[str, str]
) -> None:
    through = run(ASK, mlflow_server.uri, way, "no", environment=dead_proxy)
    assert through.returncode != 0 and "refused" in through.stderr, "the proxy of this test is not in the way"
    past = run(ASK, mlflow_server.uri, way, "yes", environment=dead_proxy)
    assert past.returncode == 0, past.stderr


S3 = """
import boto3
from pyarrow import fs
from moto.server import ThreadedMotoServer
server = ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
server.start()
from trainable.proxies import bypass_proxies
bypass_proxies()
host, port = server.get_host_and_port()
login = {"aws_access_key_id": "k", "aws_secret_access_key": "s", "region_name": "us-east-1"}
boto3.client("s3", endpoint_url=f"http://{host}:{port}", **login).create_bucket(Bucket="bucket")
way = {"endpoint_override": f"{host}:{port}", "scheme": "http", "region": "us-east-1"}
s3 = fs.S3FileSystem(access_key="k", secret_key="s", **way)
with s3.open_output_stream("bucket/file") as stream:
    stream.write(b"content")
assert s3.open_input_stream("bucket/file").read() == b"content"
server.stop()
"""


def test_s3_on_loopback_passes_a_dead_proxy_by(dead_proxy: dict[str, str]) -> None:
    done = run(S3, environment=dead_proxy)
    assert done.returncode == 0, done.stderr


@pytest.mark.slow
def test_the_embedded_server_and_a_worker_are_reached_past_a_dead_proxy(
    dead_proxy: dict[str, str], tmp_path: Path
) -> None:
    done = run(SEARCH_DOOR, str(tmp_path), environment=dead_proxy)
    assert done.returncode == 0, done.stderr
    assert "127.0.0.1" in done.stdout


@pytest.fixture
def bare(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in NO_PROXY_NAMES:
        monkeypatch.setenv(name, "")  # whatever it was is put back in the end
        monkeypatch.delenv(name)


@pytest.mark.usefixtures("bare")
def test_what_no_proxy_holds_already_stays(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("no_proxy", "pacs.example.org, .example.org")
    monkeypatch.setenv("NO_PROXY", "10.0.0.0/8")
    monkeypatch.setenv("no_grpc_proxy", "other")
    bypass_proxies(["http://head.cluster:5000", "10.1.2.3", "[fd00::7]:6379", "fd00::8", "node-7:6379"])
    parts = os.environ["no_proxy"].split(",")
    assert parts[:3] == ["pacs.example.org", ".example.org", "10.0.0.0/8"]
    wanted = {"localhost", "127.0.0.1", "::1", "[::1]", "head.cluster", "10.1.2.3", "fd00::7", "[fd00::7]", "fd00::8"}
    assert wanted | {"node-7", socket.gethostname()} <= set(parts)
    assert os.environ["NO_PROXY"] == os.environ["no_proxy"] == os.environ["no_grpc_proxy"]  # noqa: SIM112 - gRPC's own name
    assert bypass_proxies() == os.environ["no_proxy"] == ",".join(parts), "a second call adds nothing"


@pytest.mark.usefixtures("bare")
def test_a_star_in_no_proxy_stays_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("NO_PROXY", "*")
    assert bypass_proxies() == "*" == os.environ["no_proxy"]


@pytest.mark.usefixtures("bare")
@pytest.mark.parametrize("given", [None, "pacs.example.org"])
def test_workers_of_a_joined_cluster_keep_their_own_list(given: str | None, monkeypatch: pytest.MonkeyPatch) -> None:
    from ray._private.utils import update_envs

    from search.engine.cluster import choose_runtime_env

    ours = {name: value for name, value in choose_runtime_env()["env_vars"].items() if name.lower() == "no_proxy"}
    assert set(ours) == {"no_proxy", "NO_PROXY"}
    if given is not None:
        monkeypatch.setenv("no_proxy", given)
    update_envs(ours)  # as a worker does before it runs our code
    parts = os.environ["no_proxy"].split(",")
    assert (given in parts) == (given is not None)
    assert {"127.0.0.1", "localhost", socket.gethostname()} <= set(parts)
    monkeypatch.setenv("http_proxy", "http://127.0.0.1:1")
    assert urllib.request.proxy_bypass("127.0.0.1") and not urllib.request.proxy_bypass("mlflow.example.org")
