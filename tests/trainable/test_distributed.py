"""A trial of several processes under real Ray: the same numbers as one, and what becomes of it when a process fails."""

from __future__ import annotations

import os
import re
import signal
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import psutil
import pytest
import ray
from mlflow import MlflowClient
from ray.exceptions import WorkerCrashedError
from ray.util.placement_group import placement_group, remove_placement_group
from ray.util.scheduling_strategies import PlacementGroupSchedulingStrategy

from mlflow_server.serve import ServerHandle
from search.cli import run
from search.core.config import SearchConfig
from search.engine.cluster import Cluster
from search.engine.scheduler import Scheduler
from tests.trainable.test_process_group import CONFIG
from tests.trainable.test_train import SETTINGS
from tests.trainable.test_train import data as data  # the fixture
from trainable.config import TrialConfig
from trainable.distributed import Rank, wait_for_failures
from trainable.images.prepare import TrainingData
from trainable.report import TrialFailure, TrialReport
from trainable.task import TrialTask
from trainable.train import train
from trainable.trial import Trial

TWO = replace(SETTINGS, max_epochs=3, num_ranks=2)
OWN_MODEL = """
import torch.distributed as dist
from torch import nn

class Net(nn.Sequential):
    def forward(self, images):
        if self.training and dist.get_rank() == RANK:
            raise ValueError(f"rank {RANK} has had enough")
        return super().forward(images)

def build(num_classes):
    return Net(nn.Flatten(), nn.Linear(576, num_classes))
"""


class DirectTrial(Trial):
    """The trial without Tune around it: its task comes with its first config."""

    def setup(self, config: dict[str, Any], task: TrialTask | None = None) -> None:
        super().setup(config, task=config["task"])

    def ask_ranks(self, question: Callable[[Rank], Any]) -> list[Any]:
        assert self.others is not None
        return ray.get([actor.__ray_call__.remote(question) for actor in self.others.actors])


def describe_process(rank: Rank) -> tuple[int, str]:
    return os.getpid(), ray.get_runtime_context().get_placement_group_id()


def forget_first_size(rank: Rank) -> None:
    rank.memory.first_bytes = 1


def describe(number: int, config: TrialConfig = CONFIG, **more: Any) -> dict[str, Any]:
    return {"number": number, "params": config.to_params(), "run_id": None, "plans": {}, **more}


@pytest.fixture
def worker(cluster: Cluster, data: TrainingData, tmp_path: Path) -> Iterator[Any]:
    """A worker at its first trial, placed as Tune places it."""
    (tmp_path / "trials").mkdir()
    task = TrialTask(
        search="direct",
        settings=TWO,
        data=data,
        trials_uri=str(tmp_path / "trials"),
        node_dir=str(tmp_path / "node"),
        sources={f"own{rank}.py:build": f"RANK = {rank}\n{OWN_MODEL}" for rank in range(2)},
    )
    group = placement_group([{"CPU": 1}] * 2, strategy="STRICT_PACK")
    place = PlacementGroupSchedulingStrategy(group, 0)
    actor = ray.remote(DirectTrial).options(num_cpus=1, scheduling_strategy=place).remote(describe(0, task=task))
    yield actor
    ray.kill(actor)
    remove_placement_group(group)


def step(worker: Any) -> TrialReport | TrialFailure:
    return TrialReport.from_result(ray.get(worker.step.remote()))


def train_to_end(worker: Any) -> list[Any]:
    reports = [step(worker)]
    while isinstance(reports[-1], TrialReport) and not reports[-1].finished:
        reports.append(step(worker))
    return reports


def test_a_worker_and_its_ranks_serve_trial_after_trial_with_the_numbers_of_one_process(
    worker: Any, data: TrainingData
) -> None:
    def begin(number: int, config: TrialConfig = CONFIG) -> list[tuple[int, str]]:
        assert ray.get(worker.reset.remote(describe(number, config)))
        return ray.get(worker.ask_ranks.remote(describe_process))

    expected = [report.value for report in train(CONFIG, replace(TWO, num_ranks=1), data)]
    first = train_to_end(worker)
    assert [report.value for report in first] == pytest.approx(expected, rel=1e-3)
    assert first[0].device.startswith("2 x ")
    ((pid, group),) = ray.get(worker.ask_ranks.remote(describe_process))
    assert group == ray.get(worker.__ray_call__.remote(lambda _: ray.get_runtime_context().get_placement_group_id()))

    # They stay warm from trial to trial.
    assert begin(1) == [(pid, group)]
    assert [report.value for report in train_to_end(worker)] == pytest.approx(expected, rel=1e-3)

    def fail(rank: int) -> None:
        (failed,) = train_to_end(worker)
        assert failed.error == f"ValueError: rank {rank} has had enough"
        assert "in forward" in failed.traceback

    # A rank's error is its trial's, also where rank 0 waits for it in the middle of a step; the next trial is well.
    process = psutil.Process(pid)
    assert begin(2, replace(CONFIG, architecture="own1.py:build")) == [(pid, group)]
    fail(1)
    assert psutil.wait_procs([process], timeout=30) == ([process], [])
    assert begin(3) == [], "new ones come with the next trial"
    assert [report.value for report in train_to_end(worker)] == pytest.approx(expected, rel=1e-3)

    # One whose memory does not come back is replaced; one that waits for rank 0, which has failed, ends.
    ray.get(worker.ask_ranks.remote(forget_first_size))
    assert begin(4, replace(CONFIG, architecture="own0.py:build")) == []
    fail(0)
    assert ray.get(worker.ask_ranks.remote(describe_process)) == []


def test_a_rank_that_died_is_the_cause_and_not_those_that_noticed(cluster: Cluster) -> None:
    def notice() -> None:
        raise RuntimeError("connection closed by peer")

    def die() -> None:
        time.sleep(0.5)
        os._exit(1)

    noticing = ray.remote(notice).options(num_cpus=0, max_retries=0).remote()
    ray.wait([noticing])
    dying = ray.remote(die).options(num_cpus=0, max_retries=0).remote()
    died, noticed = wait_for_failures([noticing, dying])
    assert isinstance(died, WorkerCrashedError)
    assert isinstance(noticed, RuntimeError)
    assert wait_for_failures([ray.put(None)]) == []


@pytest.mark.slow
def test_a_search_of_two_processes_a_trial_stops_trials_and_outlives_a_killed_process(
    cluster: Cluster,
    synthetic_folder: Path,
    mlflow_server: ServerHandle,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    pairs = replace(cluster, trial_cpus=2, num_slots=1, num_ranks=2)
    monkeypatch.setattr("search.runtime.connect", lambda *_, **__: pairs)
    reported: list[tuple[int, int]] = []
    original = Scheduler.on_trial_result

    def note(self: Scheduler, controller: Any, trial: Any, result: dict[str, Any]) -> str:
        report = TrialReport.from_result(result)
        assert isinstance(report, TrialReport)
        reported.append((trial.config["number"], report.epoch))
        if reported == [(0, 1), (0, 2)]:
            ranks = [p for p in psutil.Process().children(recursive=True) if p.name().startswith("ray::Rank")]
            assert len(ranks) == 1
            ranks[0].send_signal(signal.SIGKILL)
        return original(self, controller, trial, result)

    monkeypatch.setattr(Scheduler, "on_trial_result", note)
    config = SearchConfig(
        name="pairs",
        home=tmp_path,
        data=synthetic_folder,
        tracking_uri=mlflow_server.uri,
        model_name="pairs-model",
        architectures=("small_cnn",),
        ranges={"cnn_filters": "8", "cnn_depth": "2", "batch_size": "16"},
        scheduler="asha",
        num_trials=5,
        max_epochs=4,
        image_size=64,
        deterministic=True,
    )
    assert run(config) == 0
    assert "lost its worker and goes on from its newest checkpoint" in capsys.readouterr().out
    epochs = [epoch for number, epoch in reported if number == 0]
    assert epochs == [1, 2, 2, 3, 4], "what waited to be written was written when the other rank had gone"

    client = MlflowClient(mlflow_server.uri)
    (experiment,) = client.search_experiments(filter_string="name = 'pairs-model'")
    trials = client.search_runs([experiment.experiment_id], "tags.`mlflow.parentRunId` != ''")
    assert len(trials) == 5
    assert {trial.data.tags["outcome"] for trial in trials} == {"completed", "stopped"}
    assert all(re.match("2 x ", trial.data.tags["device"]) for trial in trials)
    assert ray.available_resources()["CPU"] == ray.cluster_resources()["CPU"], "everything is given back"
