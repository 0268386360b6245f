"""cluster.yaml and what lies in clusters/: all that can be known of them without a cloud."""

from __future__ import annotations

import json
import os
import re
import runpy
import subprocess
import sys
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest
import yaml
from ray.autoscaler._private.util import prepare_config, validate_config
from ray.autoscaler.v2.instance_manager.config import AutoscalingConfig
from ray.autoscaler.v2.scheduler import ResourceDemandScheduler, SchedulingRequest
from ray.autoscaler.v2.utils import ResourceRequestUtil

from search.engine.cluster import fit_trials, read_growth
from tests.cluster.conftest import S3_KEYS

ROOT = Path(__file__).resolve().parents[2]
LAUNCHED = ("cluster.yaml", "clusters/local.yaml", "clusters/gcp.yaml")
CLOUDS = ("cluster.yaml", "clusters/gcp.yaml")


def read(name: str) -> Any:
    return yaml.safe_load((ROOT / name).read_text())


def prepare(name: str) -> dict[str, Any]:
    prepared: dict[str, Any] = prepare_config(read(name))
    return prepared


@pytest.mark.parametrize("name", LAUNCHED)
def test_rays_own_launcher_accepts_the_file(name: str) -> None:
    validate_config(prepare(name))


@pytest.mark.parametrize("name", LAUNCHED)
def test_every_node_asks_for_the_token_and_the_dashboard_stays_on_the_head(name: str) -> None:
    config = prepare(name)
    head, worker = (config[f"{kind}_start_ray_commands"] for kind in ("head", "worker"))
    assert any("get-auth-token --generate" in command for command in head)
    assert any("--dashboard-host=127.0.0.1" in command for command in head)
    assert any("TOKEN_OF_THIS_CLUSTER > ~/.ray/auth_token" in command for command in worker)
    everywhere = " ".join(config["setup_commands"])
    for command in (*head, *worker):
        if "ray start" in command:
            assert "RAY_AUTH_MODE=token" in command or "RAY_AUTH_MODE=token PATH" in everywhere


@pytest.mark.parametrize("name", LAUNCHED)
def test_the_heads_token_comes_into_the_commands_that_start_workers(name: str, tmp_path: Path) -> None:
    config = prepare(name)
    (tmp_path / ".ray").mkdir()
    (tmp_path / ".ray" / "auth_token").write_text("0123abcd")
    copy = tmp_path / "ray_bootstrap_config.yaml"
    copy.write_text(json.dumps(config))  # one line, as `ray up` writes it
    (command,) = (command for command in config["head_start_ray_commands"] if command.startswith("sed "))
    subprocess.run(["bash", "-c", command], env=os.environ | {"HOME": str(tmp_path)}, check=True)
    commands = " ".join(json.loads(copy.read_text())["worker_start_ray_commands"])
    assert "echo 0123abcd > ~/.ray/auth_token" in commands and "TOKEN_OF_THIS_CLUSTER" not in commands


@pytest.mark.parametrize("name", LAUNCHED)
def test_dependencies_are_installed_as_tested_and_no_code_of_ours(name: str) -> None:
    config = prepare(name)
    installs = [command for command in config["setup_commands"] if "pip install" in command]
    assert installs and all("constraints.txt" in command for command in installs)
    assert set(config["file_mounts"].values()) - {"clusters/spot_notice.py"} == {"constraints.txt", "pyproject.toml"}


@pytest.mark.parametrize("name", CLOUDS)
def test_images_hold_the_pinned_version_of_ray(name: str) -> None:
    pinned = re.search(r"^ray==(\S+)$", (ROOT / "constraints.txt").read_text(), re.MULTILINE)
    assert pinned
    docker = read(name)["docker"]
    for image in (docker["head_image"], docker["worker_image"]):
        assert image.startswith(f"rayproject/ray:{pinned[1]}-py311-")
    assert re.search(rf"rayproject/ray:{pinned[1]}-py311", (ROOT / "clusters/kuberay.yaml").read_text())


@pytest.mark.parametrize("name", CLOUDS)
def test_trials_wait_for_gpu_nodes_and_never_run_on_the_head(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    config = read(name)
    assert config["available_node_types"]["head"]["resources"] == {"CPU": 0}
    monkeypatch.setattr("search.engine.cluster.BOOTSTRAP_CONFIG", str(ROOT / name))
    cluster = fit_trials([{"memory": 1e9}], growth=read_growth())
    assert (cluster.trial_cpus, cluster.trial_gpus, cluster.num_slots) == (4, 1, config["max_workers"])


def ask_autoscaler(name: str, num_trials: int, lacking: tuple[str, ...] = ()) -> dict[str, int]:
    """What Ray's autoscaler would start for trials that wait, where the cloud has none of the types `lacking`."""
    config = prepare(name)
    scheduler = ResourceDemandScheduler()
    trial = ResourceRequestUtil.make({"CPU": 4, "GPU": 1})
    reply = scheduler.schedule(
        SchedulingRequest(
            disable_launch_config_check=True,
            node_type_configs=AutoscalingConfig(config, skip_content_hash=True).get_node_type_configs(),
            resource_requests=ResourceRequestUtil.group_by_count([trial] * num_trials),
            max_num_nodes=config["max_workers"],  # the head aside
            recoverable_resource_availabilities=dict.fromkeys(lacking, 0.0),
        )
    )
    return {launch.instance_type: launch.count for launch in reply.to_launch if launch.instance_type != "head"}


def test_spot_nodes_come_first_and_on_demand_ones_where_there_are_none() -> None:
    assert ask_autoscaler("cluster.yaml", 3) == {"l4_spot": 3}
    assert ask_autoscaler("cluster.yaml", 3, ("l4_spot",)) == {"a10g_spot": 3}
    spot = ("l4_spot", "a10g_spot", "t4_spot")
    assert ask_autoscaler("cluster.yaml", 3, spot) == {"l4_on_demand": 3}
    assert ask_autoscaler("clusters/gcp.yaml", 2, ("l4_spot",)) == {"l4_on_demand": 2}
    types = read("cluster.yaml")["available_node_types"]
    assert {name for name, kind in types.items() if "InstanceMarketOptions" in kind["node_config"]} == set(spot)


def test_no_more_nodes_than_allowed_and_idle_ones_go() -> None:
    config = read("cluster.yaml")
    assert sum(ask_autoscaler("cluster.yaml", 50).values()) == config["max_workers"]
    assert config["idle_timeout_minutes"] <= 10
    assert config["provider"]["cache_stopped_nodes"] is False


def test_the_security_group_opens_ssh_alone() -> None:
    from ray.autoscaler._private.aws.config import _create_default_inbound_rules

    assert "security_group" not in read("cluster.yaml")["provider"]
    open_to_all = [rule for rule in _create_default_inbound_rules({"sg-1"}) if "IpRanges" in rule]
    assert [(rule["FromPort"], rule["ToPort"]) for rule in open_to_all] == [(22, 22)]


def test_there_are_two_values_to_set_and_the_head_says_so() -> None:
    text = (ROOT / "cluster.yaml").read_text()
    assert text.count("<- yours") == 2
    head = text.split("\ncluster_name")[0]
    assert "Set two values" in head and "Validated offline" in head and "NOT RUN YET" in head


def test_the_roles_of_aws_are_made_once_and_give_workers_the_bucket_alone(
    s3: dict[str, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    import boto3

    for name, value in (s3 | S3_KEYS).items():
        monkeypatch.setenv(name, value)
    monkeypatch.setattr(sys, "argv", ["aws_role.py", "s3://my-bucket/ctsearch"])
    for _ in range(2):
        runpy.run_path(str(ROOT / "clusters/aws_role.py"), run_name="__main__")
    iam = boto3.client("iam")
    policies = {
        name: iam.get_role_policy(RoleName=name, PolicyName="ctsearch")["PolicyDocument"]["Statement"]
        for name in ("ctsearch-head", "ctsearch-worker")
    }
    profiles = {name: iam.get_instance_profile(InstanceProfileName=name)["InstanceProfile"] for name in policies}
    assert {name: [role["RoleName"] for role in found["Roles"]] for name, found in profiles.items()} == {
        name: [name] for name in policies
    }
    worker = policies["ctsearch-worker"]
    assert {statement["Resource"] for statement in worker} == {"arn:aws:s3:::my-bucket", "arn:aws:s3:::my-bucket/*"}
    passed = [statement["Resource"] for statement in policies["ctsearch-head"] if statement["Action"] == "iam:PassRole"]
    assert passed == [iam.get_role(RoleName="ctsearch-worker")["Role"]["Arn"]]
    types = read("cluster.yaml")["available_node_types"]
    named = {name: kind["node_config"]["IamInstanceProfile"]["Name"] for name, kind in types.items()}
    assert {named.pop("head")} == {"ctsearch-head"} and set(named.values()) == {"ctsearch-worker"}


class Metadata(BaseHTTPRequestHandler):
    """EC2's instance metadata, version 2: without a token no answer, and a notice from the third question on."""

    num_asked = 0

    def do_PUT(self) -> None:
        self.answer(200 if self.headers["X-aws-ec2-metadata-token-ttl-seconds"] else 400, b"a-token")

    def do_GET(self) -> None:
        Metadata.num_asked += 1
        is_allowed = self.headers["X-aws-ec2-metadata-token"] == "a-token"
        is_there = self.path == "/latest/meta-data/spot/instance-action" and Metadata.num_asked > 2
        self.answer(401 if not is_allowed else 200 if is_there else 404, b'{"action": "terminate"}')

    def answer(self, status: int, body: bytes) -> None:
        self.send_response(status)
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_: object) -> None: ...


def test_a_spot_notice_becomes_a_drained_node(tmp_path: Path) -> None:
    commands = [c for c in prepare("cluster.yaml")["worker_start_ray_commands"] if "spot_notice.py" in c]
    assert len(commands) == 1 and commands[0].endswith("&")
    ray = tmp_path / "ray"
    ray.write_text(f'#!/bin/sh\necho "$@" > {tmp_path}/said\n')
    ray.chmod(0o755)
    with ThreadingHTTPServer(("127.0.0.1", 0), Metadata) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        where = {"EC2_METADATA": f"http://127.0.0.1:{server.server_port}", "EC2_METADATA_POLL_S": "0.1"}
        paths = {"PATH": f"{tmp_path}:{os.environ['PATH']}"}
        script = [sys.executable, str(ROOT / "clusters/spot_notice.py")]
        subprocess.run(script, env=os.environ | where | paths, check=True, timeout=60)
        server.shutdown()
    said = (tmp_path / "said").read_text()
    assert said.startswith("drain-node --reason DRAIN_NODE_REASON_PREEMPTION") and "remaining-seconds 110" in said
    assert Metadata.num_asked == 3
