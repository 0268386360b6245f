"""`ray up` over real SSH: clusters/local.yaml on three hosts, a team's MLflow on the head, a search that outlives a
worker, and `ray down`.
"""

from __future__ import annotations

import json
import os
import re
import shlex
import shutil
import sys
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from tests import needs
from tests.cluster.conftest import ROOT, S3_KEYS
from tests.cluster.hosts import IPS, NAMES, Hosts, start_hosts
from tests.postgres import Postgres, start_postgres
from tests.search.test_resume import read_trials

NUM_TRIALS, NUM_EPOCHS = 4, 30
OPTIONS = (
    *("--arch", "small_cnn", "--range", "cnn_filters=8", "--range", "cnn_depth=2", "--range", "batch_size=8"),
    *("--range", "cnn_kernel=3", "--image-size", "64", "--deterministic", "--num-trials", str(NUM_TRIALS)),
    *("--max-epochs", str(NUM_EPOCHS), "--first-rung", str(NUM_EPOCHS), "--trial-cpus", "2", "--model-name", "slices"),
)


class Laptop:
    """Who has the checkout, Ray and an SSH key, and types commands."""

    def __init__(self, hosts: Hosts) -> None:
        self.hosts = hosts
        self.file = hosts.folder / "local.yaml"
        kept = {key: value for key, value in os.environ.items() if not key.startswith(("RAY_", "CTSEARCH_", "MLFLOW_"))}
        paths = f"{Path(sys.executable).parent}:{os.environ['PATH']}"
        self.environ = kept | {"PATH": paths, "RAY_UP_enable_autoscaler_v2": "0", "RAY_USAGE_STATS_ENABLED": "0"}
        text = (ROOT / "clusters/local.yaml").read_text()
        for theirs, ours in (
            ("192.168.1.10", IPS["head"]),
            ("[192.168.1.11, 192.168.1.12]", f"[{IPS['worker1']}, {IPS['worker2']}]"),
            ("ssh_user: you", "ssh_user: root"),
            ("~/.ssh/id_ed25519", str(hosts.folder / "key")),
            ("CTSEARCH_STORAGE=/shared/ctsearch", "CTSEARCH_STORAGE=s3://bucket/searches"),
        ):
            assert theirs in text
            text = text.replace(theirs, ours)
        self.file.write_text(text)

    def ray(self, verb: str, *arguments: str, timeout_s: float = 900) -> str:
        return self.hosts.call("ray", verb, str(self.file), *arguments, environ=self.environ, timeout_s=timeout_s)

    def submit(self, *options: str) -> str:
        """`ctsearch submit`; the id of the job."""
        command = (sys.executable, "-m", "search.cli", "submit", str(self.file), "--", *options)
        output = self.hosts.call(*command, environ=self.environ)
        found = re.search(r"^Search .*, job (\S+):", output, re.MULTILINE)
        assert found, output
        assert f"'ray job logs --follow {found[1]}'" in output and "--port-forward 5000" in output
        return found[1]

    def wait_for_job(self, job: str) -> tuple[str, str]:
        """Its last state and its log, as its user reads them."""
        until_s = time.monotonic() + 900
        while True:
            status = self.ray("exec", f"ray job status {job}")
            found = re.findall(r"SUCCEEDED|FAILED|STOPPED", status.upper())
            if found:
                return found[-1], self.ray("exec", f"ray job logs {job}")
            assert time.monotonic() < until_s, status + self.ray("exec", f"ray job logs {job}")
            time.sleep(10)  # each question takes seconds of the cores on which the job runs


def wait_for(condition: Callable[[], Any], what: str, timeout_s: float = 600) -> Any:
    until_s = time.monotonic() + timeout_s
    while not (found := condition()):
        assert time.monotonic() < until_s, f"{what} did not come in {timeout_s} s"
        time.sleep(0.2)
    return found


def count_running(folder: Path) -> int:
    """The trials that train now and have done so for three epochs."""
    running = [trial for trial in read_trials(folder) if trial.state.name == "RUNNING"]
    return sum(len(trial.intermediate_values) > 2 for trial in running)


def furnish(hosts: Hosts, synthetic_folder: Path) -> dict[str, str]:
    """What the hosts have before `ray up`: Python with what is to be installed, and the way to an S3 server."""
    s3 = S3_KEYS | {"AWS_ENDPOINT_URL": f"http://{IPS['laptop']}:9000"}
    hosts.serve(
        *(sys.executable, "-W", "ignore", "-m", "moto.server", "-H", IPS["laptop"], "-p", "9000"), environ=os.environ
    )
    for name in NAMES:
        home = hosts.folder / name / "home"
        (home / ".aws").mkdir()
        lines = [f"{key.lower()} = {value}" for key, value in S3_KEYS.items() if key != "AWS_DEFAULT_REGION"]
        (home / ".aws" / "credentials").write_text("\n".join(["[default]", *lines, ""]))
        (home / "ctsearch-setup").mkdir()
        (home / "ctsearch-setup" / "venv").symlink_to(sys.prefix)
        variables = {
            "AWS_ENDPOINT_URL": s3["AWS_ENDPOINT_URL"],
            "AWS_DEFAULT_REGION": s3["AWS_DEFAULT_REGION"],
            "AWS_EC2_METADATA_DISABLED": "true",
            "PIP_NO_INDEX": "1",
        }
        (home / ".bashrc").write_text("".join(f"export {key}={value}\n" for key, value in variables.items()))
    shutil.copytree(synthetic_folder, hosts.folder / "laptop" / "slices")
    make_bucket = "import boto3, sys; boto3.client('s3', endpoint_url=sys.argv[1]).create_bucket(Bucket='bucket')"
    wait_for(lambda: tries(hosts, make_bucket, s3), "the S3 server")
    return s3


def tries(hosts: Hosts, code: str, s3: dict[str, str]) -> bool:
    try:
        hosts.call(sys.executable, "-c", code, s3["AWS_ENDPOINT_URL"], environ=dict(os.environ) | s3)
    except AssertionError:
        return False
    return True


def start_team_server(hosts: Hosts, postgres: Postgres, s3: dict[str, str]) -> dict[str, str]:
    """A team's MLflow on the head, on PostgreSQL and S3, for all hosts; MLflow's variables of its user ana."""
    stores = {
        "MLFLOW_BACKEND_STORE_URI": postgres.with_password(postgres.make_database("mlflow")),
        "MLFLOW_ARTIFACTS_DESTINATION": "s3://bucket/mlflow",
    }
    home = hosts.folder / "head" / "home"
    variables = (f"{name}={shlex.quote(value)}" for name, value in (s3 | stores).items())
    (home / "mlflow.env").write_text("\n".join([*variables, ""]))
    serve = f"{sys.executable} {ROOT}/mlflow_server/serve.py --auth --host {IPS['head']}"
    hosts.on("head", "bash", "-c", f"set -a; . ~/mlflow.env; nohup {serve} > ~/mlflow.out 2>&1 < /dev/null &")
    output = home / "mlflow.out"
    wait_for(lambda: output.exists() and "MLflow: http" in output.read_text(), "the team's server")
    make_user = ("env", f"PYTHONPATH={ROOT}", sys.executable, "-m", "mlflow_server.cli", "user", "ana")
    password = hosts.on("head", *make_user).split()[3]
    (home / ".mlflow").mkdir(mode=0o700)
    lines = ("[mlflow]", "mlflow_tracking_username = ana", f"mlflow_tracking_password = {password}", "")
    (home / ".mlflow" / "credentials").write_text("\n".join(lines))
    login = {"MLFLOW_TRACKING_USERNAME": "ana", "MLFLOW_TRACKING_PASSWORD": password}
    return login | {"MLFLOW_TRACKING_URI": f"http://{IPS['head']}:5000"}


READ_RUNS = """
import json
from mlflow import MlflowClient
client = MlflowClient()
found = client.search_runs([found.experiment_id for found in client.search_experiments()])
champion = client.get_model_version_by_alias("slices", "champion")
runs = [{"status": run.info.status, "tags": run.data.tags, "who": run.info.user_id,
         "num_epochs": len(client.get_metric_history(run.info.run_id, "val_auc"))} for run in found]
artifacts = [entry.path for entry in client.list_artifacts(champion.run_id)]
print(json.dumps({"runs": runs, "champion": champion.run_id, "artifacts": artifacts}))
"""


ASK = """
import sys, urllib.error, urllib.request
try:
    urllib.request.urlopen(urllib.request.Request(sys.argv[1], headers={"Host": sys.argv[2]}), timeout=10)
except urllib.error.HTTPError as error:
    print(error.code)
"""


@pytest.mark.slow
@pytest.mark.timeout(1800)
def test_hosts_of_ones_own_from_ray_up_to_ray_down(
    tmp_path: Path, synthetic_folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    needs.root("it makes network namespaces")
    monkeypatch.chdir(ROOT)  # the paths of clusters/local.yaml are those of the checkout
    with start_hosts(tmp_path) as hosts, start_postgres(5432, partial(hosts.on, "head")) as postgres:
        s3 = furnish(hosts, synthetic_folder)
        mlflow = start_team_server(hosts, postgres, s3)
        laptop = Laptop(hosts)
        head_home = tmp_path / "head" / "home"
        laptop.ray("up", "-y", "--no-config-cache")
        laptop.ray("rsync-up", f"{tmp_path}/laptop/slices/", "~/slices/")

        # A folder that is the head's alone is no storage.
        state, log = laptop.wait_for_job(laptop.submit("--preflight", "--storage", "~/mine"))
        assert state == "FAILED" and "not the same folder" in log, log
        assert f"{IPS['head']} head" in log and re.search(rf"({IPS['worker1']}|{IPS['worker2']}) worker\d", log), log

        # Both workers train; one is killed and comes back; the search ends with its champion.
        wait_for(lambda: hosts.find_ray("worker1") and hosts.find_ray("worker2"), "two workers")
        job = laptop.submit("--data", "~/slices", "--name", "first", *OPTIONS)
        folder = head_home / ".ctsearch" / "searches" / "first"
        wait_for(lambda: count_running(folder) == 2, "two trials at once")  # a worker has the CPUs of one
        assert hosts.kill_ray("worker2") > 2
        state, log = laptop.wait_for_job(job)
        assert state == "SUCCEEDED", log
        assert f"node {IPS['worker2']} is gone" in log and "goes on from its newest checkpoint" in log, log
        trials = read_trials(folder)
        assert [trial.state.name for trial in trials] == ["COMPLETE"] * NUM_TRIALS
        output = hosts.call(sys.executable, "-W", "ignore", "-c", READ_RUNS, environ=laptop.environ | mlflow)
        logged = json.loads(output.splitlines()[-1])
        children = [run for run in logged["runs"] if "trial" in run["tags"]]
        assert [(run["status"], run["num_epochs"]) for run in children] == [("FINISHED", NUM_EPOCHS)] * NUM_TRIALS
        nodes = {run["tags"]["node"] for run in children}
        assert "worker1" in nodes and "head" not in nodes, log
        assert logged["artifacts"] == ["sealed_test"], logged  # through the server, from S3
        wait_for(lambda: hosts.find_ray("worker2"), "the killed worker")
        record = json.loads((folder / "result.json").read_text())
        assert (record["model_name"], record["alias"]) == ("slices", "champion")

        # Who has no token is not let in; from outside answer SSH and, to who has a password, the team's server.
        token = (head_home / ".ray" / "auth_token").read_text()
        assert token.strip() == (tmp_path / "worker1" / "home" / ".ray" / "auth_token").read_text().strip()
        assert token.strip() not in laptop.file.read_text()
        knock = "import socket, sys; socket.create_connection((sys.argv[1], int(sys.argv[2])), 3)"
        with pytest.raises(AssertionError, match="refused"):
            hosts.call(sys.executable, "-c", knock, IPS["head"], "8265", environ=laptop.environ)
        asked = (sys.executable, "-c", ASK, f"{mlflow['MLFLOW_TRACKING_URI']}/api/2.0/mlflow/users/get")
        assert hosts.call(*asked, f"{IPS['head']}:5000", environ=laptop.environ).strip() == "401"
        assert hosts.call(*asked, "evil.example.org", environ=laptop.environ).strip() == "403"
        laptop.ray("down", "-y")
        wait_for(lambda: not hosts.find_ray("head"), "the end of Ray on the head")
