"""A search on real Ray nodes with folders of their own and S3 storage: one is skipped, one is lost, and of two that
join late one is skipped as well.
"""

from __future__ import annotations

import json
import re
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from mlflow import MlflowClient

from mlflow_server.serve import ServerHandle
from search.engine.node_facts import read_versions, try_storage
from tests.cluster.conftest import ROOT, list_keys, open_bucket
from tests.cluster.nodes import Nodes
from tests.search.test_resume import read_trials

STORAGE = "s3://bucket/searches"
NUM_TRIALS, NUM_EPOCHS = 6, 120
MODEL = """
import time

from torch import nn


class Pace(nn.Module):
    def forward(self, images):
        time.sleep(0.02)
        return images


def build(num_classes):
    layers = nn.Conv2d(1, 8, 3, stride=2), nn.BatchNorm2d(8), nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten()
    return nn.Sequential(Pace(), *layers, nn.Linear(8, num_classes))
"""
"""Takes a fifth of a second an epoch or more, however fast the machine is: a trial outlives the notice to its node."""
OPTIONS = (
    *("--range", "batch_size=8", "--image-size", "64", "--deterministic", "--num-trials", str(NUM_TRIALS)),
    *("--max-epochs", str(NUM_EPOCHS), "--first-rung", str(NUM_EPOCHS), "--bad-nodes", "leave-out"),
)


def pretend_old_torch(folder: Path) -> str:
    """A folder that makes importlib.metadata, and so the preflight, see another torch."""
    facts = folder / "torch-1.0.0.dist-info"
    facts.mkdir(parents=True)
    (facts / "METADATA").write_text("Metadata-Version: 2.1\nName: torch\nVersion: 1.0.0\n")
    return str(folder)


@dataclass(frozen=True, kw_only=True)
class Story:
    """What was seen of the search: its output, the lost trial, and what of it was lost when its node went."""

    home: Path
    dirs: dict[str, Path]
    output: str
    newest_epoch: int
    repeated_s: float
    lost: int
    nodes: Nodes
    environ: dict[str, str]


def wait_for(condition: Callable[[], Any], process: subprocess.Popen[str], timeout_s: float = 600) -> Any:
    until_s = time.monotonic() + timeout_s
    while not (found := condition()):
        assert process.poll() is None, process.communicate()[0]
        assert time.monotonic() < until_s, f"it did not come in {timeout_s} s"
        time.sleep(0.1)
    return found


def read_newest(s3: dict[str, str]) -> dict[int, dict[str, Any]]:
    """What each trial's newest checkpoint says of itself."""
    client, found = open_bucket(s3), {}
    for key in list_keys(s3, "searches/first/trials/"):
        if key.endswith("/newest.json"):
            with suppress(client.exceptions.NoSuchKey):  # the trial has just ended
                found[int(key.split("/")[-2])] = json.loads(client.get_object(Bucket="bucket", Key=key)["Body"].read())
    return found


@pytest.fixture(scope="module")
def story(
    tmp_path_factory: pytest.TempPathFactory, synthetic_folder: Path, mlflow_server: ServerHandle, s3: dict[str, str]
) -> Iterator[Story]:
    folder = tmp_path_factory.mktemp("nodes")
    home, dirs = folder / "home", {name: folder / name for name in ("early", "lost", "old", "late-old", "late")}
    with Nodes() as nodes:
        nodes.add(s3 | {"CTSEARCH_NODE_DIR": str(dirs["early"])})
        doomed = nodes.add(s3 | {"CTSEARCH_NODE_DIR": str(dirs["lost"])})
        old = {"PYTHONPATH": pretend_old_torch(folder / "old-torch"), "CTSEARCH_NODE_DIR": str(dirs["old"])}
        nodes.add(s3 | old)
        environ = nodes.environ(**s3, RAY_ADDRESS=nodes.address, CTSEARCH_STORAGE=STORAGE)
        command = [sys.executable, "-m", "search.cli", "search", "--data", str(synthetic_folder), "--home", str(home)]
        model = folder / "model.py"
        model.write_text(MODEL)
        command += ["--name", "first", "--tracking-uri", mlflow_server.uri, "--arch", f"{model}:build", *OPTIONS]
        search = subprocess.Popen(
            command, cwd=ROOT, env=environ, text=True, stdout=subprocess.PIPE, stderr=subprocess.STDOUT
        )
        try:
            journal = home / "searches" / "first"
            wait_for(lambda: sum(len(t.intermediate_values) > 3 for t in read_trials(journal)) == 2, search)
            running = {trial.number for trial in read_trials(journal) if len(trial.intermediate_values) > 3}
            drained_s = time.time()
            assert nodes.drain(doomed, deadline_s=60)
            wait_for(lambda: all(newest["saved_at"] > drained_s for newest in read_newest(s3).values()), search, 60)
            killed_s = time.time()
            nodes.kill(doomed)
            held = read_newest(s3)
            nodes.add(s3 | old | {"CTSEARCH_NODE_DIR": str(dirs["late-old"])})
            nodes.add(s3 | {"CTSEARCH_NODE_DIR": str(dirs["late"])})
            output = search.communicate(timeout=900)[0]
            assert search.returncode == 0, output
            # later trials may lose theirs too, on the late node that fails the preflight
            lost_workers = [int(number) for number in re.findall(r"trial +(\d+) lost its worker", output)]
            assert running.intersection(lost_workers), output
            lost = next(number for number in lost_workers if number in running)
            newest = held[lost]
        finally:
            search.kill()
        yield Story(
            home=home,
            dirs=dirs,
            output=output,
            newest_epoch=newest["facts"]["epoch"],
            repeated_s=killed_s - newest["saved_at"],
            lost=lost,
            nodes=nodes,
            environ=environ,
        )


@pytest.mark.timeout(1800)
def test_a_draining_notice_writes_checkpoints_at_once_so_that_little_is_repeated(story: Story) -> None:
    assert story.newest_epoch > 1
    assert story.repeated_s < 10


def test_a_lost_node_costs_no_trial_and_counts_as_no_failure(story: Story) -> None:
    trials = read_trials(story.home / "searches" / "first")
    assert [trial.state.name for trial in trials] == ["COMPLETE"] * NUM_TRIALS
    assert all(list(trial.intermediate_values) == list(range(1, NUM_EPOCHS + 1)) for trial in trials)
    assert re.search(rf"trial\s+{story.lost} lost its worker and goes on from its newest checkpoint", story.output)


def test_a_node_that_joins_late_is_used(story: Story) -> None:
    slots = re.findall(r"node \S+ has joined; trials that fit at once: (\d)", story.output)
    assert len(slots) == 2 and set(slots) <= set("234"), story.output  # 4: both came before Ray knew of the death
    assert len(list(story.dirs["late"].glob("*.npy"))) == 1, story.output


def test_a_node_that_joins_late_with_another_torch_is_left_out_from_then_on(story: Story) -> None:
    assert re.search(r"preflight: .*torch is 1\.0\.0", story.output), story.output
    skipped = re.search(r"node \S+ is skipped; trials that fit at once: [123]", story.output)
    assert skipped, story.output
    lost_since = re.findall(r"trial +\d+ lost its worker", story.output[skipped.end() :])
    # others may lose theirs since then: of the killed node, or before a first epoch has said where they are
    assert story.output.count("is not to blame: its node failed the preflight") <= len(lost_since), story.output


def test_pixels_come_once_to_every_node_that_trains_and_lie_in_its_own_folder(story: Story) -> None:
    known = {file.name: file.read_bytes() for file in (story.home / "cache").glob("*-64px.npy")}
    for name in ("early", "lost", "late"):
        (file,) = story.dirs[name].glob("*.npy")
        assert file.read_bytes() == known[file.name]


def test_a_node_with_another_torch_is_named_and_gets_no_trial(story: Story) -> None:
    assert not story.dirs["old"].exists()
    done = subprocess.run(
        [sys.executable, "-m", "search.cli", "search", "--preflight", "--home", str(story.home)],
        cwd=ROOT,
        env=story.environ,
        text=True,
        capture_output=True,
        timeout=900,
    )
    assert done.returncode == 2
    assert f"torch is 1.0.0, the head has {read_versions()['torch']}; install what the head has" in done.stderr
    assert "the preflight found:" in done.stderr and "--bad-nodes leave-out" in done.stderr
    assert len(re.findall(r"^\d+\.\d+\.\d+\.\d+ \S+ +3\.\d+", done.stdout, re.MULTILINE)) == 5, done.stdout
    assert [folder.name for folder in (story.home / "searches").iterdir()] == ["first"]


def test_the_driver_logs_for_trials_that_cannot_reach_its_server(story: Story, mlflow_server: ServerHandle) -> None:
    record = json.loads((story.home / "searches" / "first" / "search.json").read_text())
    client = MlflowClient(mlflow_server.uri)
    parent = client.get_run(record["parent_run_id"])
    runs = client.search_runs([parent.info.experiment_id], f"tags.`mlflow.parentRunId` = '{parent.info.run_id}'")
    assert {run.info.status for run in runs} == {"FINISHED"}
    for run in runs:
        history = client.get_metric_history(run.info.run_id, "val_auc")
        assert sorted(metric.step for metric in history) == list(range(1, NUM_EPOCHS + 1))


def test_records_lie_beside_the_checkpoints_and_a_head_that_never_saw_the_search_finds_them(
    story: Story, s3: dict[str, str], tmp_path: Path
) -> None:
    kept = list_keys(s3, "searches/first/")
    assert {"searches/first/optuna.journal", "searches/first/splits.csv", "searches/first/search.json"} <= set(kept)
    assert list_keys(s3, "searches/preflight/") in ([], ["searches/preflight/"])
    command = [sys.executable, "-m", "search.cli", "search", "--home", str(tmp_path), "--storage", STORAGE]
    done = subprocess.run(
        [*command, "--resume", "first"], cwd=ROOT, env=story.environ, text=True, capture_output=True, timeout=900
    )
    assert (done.returncode, "has ended" in done.stderr) == (2, True), done.stderr
    assert read_trials(tmp_path / "searches" / "first") == read_trials(story.home / "searches" / "first")
    again = subprocess.run(
        [*command, "--name", "first"], cwd=ROOT, env=story.environ, text=True, capture_output=True, timeout=900
    )
    assert (again.returncode, "go on with it by --resume first" in again.stderr) == (2, True), again.stderr


def test_a_wrong_token_is_refused(story: Story, tmp_path: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-m", "search.cli", "search", "--preflight", "--home", str(tmp_path)],
        cwd=ROOT,
        env=story.environ | {"RAY_AUTH_TOKEN": "0" * 32},
        text=True,
        capture_output=True,
        timeout=900,
    )
    assert done.returncode == 2
    assert "token" in done.stderr.splitlines()[-1]


def test_a_storage_that_is_not_the_heads_is_told_from_one_that_is(tmp_path: Path) -> None:
    assert "not the same folder" in try_storage(str(tmp_path), "what-the-head-wrote")
    (tmp_path / "preflight").mkdir()
    (tmp_path / "preflight" / "token").write_text("token")
    assert try_storage(str(tmp_path), "token") == ""
    (tmp_path / "file").touch()
    assert "file" in try_storage(str(tmp_path / "file"), "token")
