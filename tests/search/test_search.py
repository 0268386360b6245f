"""A whole search, real in every part: what it leaves in MLflow, in its folder and in the registry."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
import zipfile
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from mlflow import MlflowClient
from PIL import Image

from mlflow_server.serve import ServerHandle
from search.cli import run
from search.core.config import SearchConfig
from search.engine.cluster import Cluster
from tests.conftest import FinishedSearch
from trainable.checkpoint import CheckpointStore
from trainable.images.splits import read_splits

ROOT = Path(__file__).resolve().parents[2]
EPOCH_METRICS = {
    *(f"{split}_{name}" for split in ("train", "val") for name in ("loss", "auc", "accuracy", "f1")),
    *(f"{split}_{name}" for split in ("train", "val") for name in ("sensitivity", "specificity", "precision")),
    *("learning_rate", "images_per_s", "epoch_s"),
}


def test_every_trial_is_a_child_run_with_its_configuration_and_curves(finished_search: FinishedSearch) -> None:
    assert len(finished_search.children) == 8
    for run_ in finished_search.children:
        assert {"architecture", "optimizer", "learning_rate", "batch_size", "augmentation"} <= set(run_.data.params)
        epochs = {}
        for name in EPOCH_METRICS:
            history = finished_search.client.get_metric_history(run_.info.run_id, name)
            epochs[name] = sorted(point.step for point in history)
        lengths = {tuple(steps) for steps in epochs.values()}
        assert len(lengths) == 1
        (steps,) = lengths
        assert list(steps) == list(range(1, len(steps) + 1))
        assert steps[-1] in (1, 3, 4)


def test_every_trial_carries_the_tags_that_make_it_traceable(finished_search: FinishedSearch) -> None:
    for run_ in finished_search.children:
        tags = run_.data.tags
        assert tags["search"] == "finished"
        assert tags["outcome"] in ("completed", "stopped")
        assert tags["data_hash"] == finished_search.record["data_hash"]
        assert tags["rung"] in ("1", "3", "4")
        assert all(tags[name] for name in ("node", "device", "seed", "code_version", "precision", "memory_format"))
        assert run_.info.status == "FINISHED"


def test_the_parent_run_holds_audit_space_and_leaderboard(finished_search: FinishedSearch) -> None:
    parent = finished_search.parent
    assert parent.info.status == "FINISHED"
    assert parent.data.tags["outcome"] == "completed"
    names = {item.path for item in finished_search.client.list_artifacts(parent.info.run_id)}
    assert {"audit.json", "space.json", "leaderboard.csv", "report.md", "search.html", "learning_curves.png"} <= names
    assert {"test_auc", "test_auc_low", "test_auc_high"} <= set(parent.data.metrics)
    page = (finished_search.folder / "report.md").read_text()
    (link,) = re.findall(r"\[The first side by side in MLflow\]\((\S+)\)", page)
    compared = [run_.info.run_id for run_ in finished_search.children if run_.info.run_id in link]
    assert "#/compare-runs?runs=" in link and len(compared) == min(10, len(finished_search.children))


def test_the_champion_is_the_best_trial_and_both_models_bear_the_alias(finished_search: FinishedSearch) -> None:
    result = json.loads((finished_search.folder / "result.json").read_text())
    best_run = max(finished_search.children, key=lambda run_: float(run_.data.metrics["best_val_auc"]))
    assert result["champion"] == int(best_run.data.tags["trial"])
    history = finished_search.client.get_metric_history(best_run.info.run_id, "val_auc")
    (best,) = (point.value for point in history if point.step == best_run.data.metrics["best_epoch"])
    assert result["validation_value"] == pytest.approx(best, abs=1e-12), "what the model itself gives, not smoothed"
    for name in ("finished-model", "finished-model-images"):
        version = finished_search.client.get_model_version_by_alias(name, "champion")
        assert version.tags["data_hash"] == finished_search.record["data_hash"]
        assert float(version.tags["validation_value"]) == pytest.approx(best)


def test_only_the_best_five_checkpoints_are_kept(finished_search: FinishedSearch) -> None:
    trials = finished_search.folder / "trials"
    assert len(list(trials.glob("*/best.json"))) == 5
    assert not list(trials.rglob("newest*"))
    assert not (finished_search.folder / "tune").exists()


def test_no_patient_id_leaves_the_folder(finished_search: FinishedSearch) -> None:
    audit = Path(finished_search.client.download_artifacts(finished_search.parent.info.run_id, "audit.json"))
    text = audit.read_text() + (finished_search.folder / "search.json").read_text()
    patients = {row.path.parent.name for row in read_splits(finished_search.folder / "splits.csv")}
    assert patients
    assert not [patient for patient in patients if re.search(rf"\b{re.escape(patient)}\b", text)]


Search = Callable[..., dict[str, Any]]


@pytest.fixture
def search(cluster: Cluster, synthetic_folder: Path, mlflow_server: ServerHandle, tmp_path: Path) -> Search:
    """Run a small search in this process and return its `result.json`."""

    def run_small(name: str, **options: Any) -> dict[str, Any]:
        config = SearchConfig(
            name=name,
            home=tmp_path / "home",
            data=synthetic_folder,
            tracking_uri=mlflow_server.uri,
            model_name=f"{tmp_path.name.replace('_', '-')}",
            num_trials=2,
            max_epochs=1,
            image_size=32,
            trial_cpus=1,
        )
        if "space" not in options and "architectures" not in options:
            options["architectures"] = ("small_cnn",)
        assert run(replace(config, **options)) == 0
        result: dict[str, Any] = json.loads((tmp_path / "home/searches" / name / "result.json").read_text())
        return result

    return run_small


def test_one_seed_gives_the_same_numbers_twice_when_deterministic_and_an_equal_value_moves_no_alias(
    search: Search, tmp_path: Path, mlflow_server: ServerHandle
) -> None:
    options = {"deterministic": True, "trial_cpus": 2, "num_trials": 4, "max_epochs": 3, "seed": 5}
    first, second = search("first", **options), search("second", **options)
    boards = [(tmp_path / f"home/searches/{name}/leaderboard.csv").read_text() for name in ("first", "second")]
    rows = [[line.split(",") for line in board.splitlines()] for board in boards]
    place = rows[0][0].index("run_id")
    assert [row[:place] + row[place + 1 :] for row in rows[0]] == [row[:place] + row[place + 1 :] for row in rows[1]]
    assert first["params"] == second["params"]
    assert first["test_auc"] == second["test_auc"]
    assert first["validation_value"] == second["validation_value"]
    assert (first["alias"], second["alias"]) == ("champion", "challenger")
    client = MlflowClient(mlflow_server.uri)
    assert str(client.get_model_version_by_alias(first["model_name"], "champion").version) == first["version"]


OWN_MODEL = """
from torch import nn

def build(num_classes):
    head = nn.Sequential(nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(4, num_classes))
    return nn.Sequential(nn.Conv2d(1, 4, 3), nn.ReLU(), head, nn.Softmax(1))
"""


def test_three_classes_in_a_zip_with_a_model_of_ones_own_and_a_bad_image(
    search: Search, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    generator = np.random.default_rng(0)
    with zipfile.ZipFile(tmp_path / "three kinds.zip", "w") as archive:
        for label, level in (("dark", 60), ("grey", 120), ("bright", 200)):
            for patient in range(10):
                for index in range(2):
                    image = np.clip(generator.normal(level, 30, (48, 48)), 0, 255).astype(np.uint8)
                    file = tmp_path / "slice.png"
                    Image.fromarray(image).save(file)
                    archive.write(file, f"{label}/p {patient}/slice % {index} é.png")
        archive.writestr("grey/p 3/broken.png", b"no picture")
    (tmp_path / "my_model.py").write_text(OWN_MODEL)
    monkeypatch.chdir(tmp_path)
    options = {"data": tmp_path / "three kinds.zip", "architectures": ("my_model.py:build",)}
    with pytest.raises(ValueError, match=r"broken\.png"):
        search("bad", **options)
    result = search("good", **options, skip_bad_images=True, max_epochs=2)
    assert result["params"]["architecture"] == "my_model.py:build"
    assert {"test_sensitivity_0", "test_specificity_2", "test_auc"} <= set(result)
    output = capsys.readouterr().out
    assert "skipped: 1 " in output
    assert "Warning      --arch my_model.py:build: the model seems to end in a softmax" in output
    assert not (tmp_path / "home/searches/bad").exists()


def test_weights_from_a_file_travel_to_the_trials(search: Search, shared_data: Path, tmp_path: Path) -> None:
    file = shared_data / "weights/squeezenet1_1-features.pth"
    search(
        "loaded",
        architectures=("squeezenet1_1",),
        ranges={"learning_rate": "1e-9", "optimizer": "sgd", "augmentation": "0"},
        num_trials=1,
        weights={"squeezenet1_1": str(file)},
    )
    best = CheckpointStore(tmp_path / "home/searches/loaded/trials/0000").load("best")
    assert best is not None
    given, trained = torch.load(file), best[0]["model"]
    name = "features.12.expand3x3.weight"
    assert torch.allclose(trained[name], given[name].float(), atol=1e-4), "a step of 1e-9 has hardly changed them"
    with pytest.raises(ValueError, match="the search tries only: small_cnn"):
        search("other", weights={"squeezenet1_1": str(file)})


@pytest.mark.slow
@pytest.mark.timeout(3000)
def test_the_default_search_finds_a_champion_well_above_the_median(tmp_path: Path) -> None:
    """README's first search with 16 trials of 20 and a third of the epochs: all take slow cores half an hour here.

    Without a confirmation, which it would make or not by how fast the machine is.
    """
    command = [sys.executable, str(ROOT / "search/run.py"), "--home", str(tmp_path), "--name", "default"]
    command += ["--num-trials", "16", "--max-epochs", "9", "--confirm", "0"]
    own = {name: value for name, value in os.environ.items() if name not in ("MLFLOW_TRACKING_URI", "RAY_ADDRESS")}
    done = subprocess.run(command, capture_output=True, text=True, cwd=tmp_path, check=False, env=own)
    assert done.returncode == 0, done.stdout + done.stderr
    result = json.loads((tmp_path / "searches/default/result.json").read_text())
    leaderboard = (tmp_path / "searches/default/leaderboard.csv").read_text().splitlines()
    place = leaderboard[0].split(",").index("architecture")
    assert result["num_trials"] >= 16
    assert len({line.split(",")[place] for line in leaderboard[1:]}) >= 3
    assert result["outcomes"]["stopped"] >= result["num_trials"] / 3
    assert result["validation_value"] >= result["median_value"] + 0.1
    assert (result["model_name"], result["alias"]) == ("ctsearch-demo", "champion")
    for word in ("Sealed test", "95 % intervals", "ctsearch ui", "ctsearch search --data FOLDER", "synthetic"):
        assert word in done.stdout, done.stdout
    assert done.stderr == ""


SMALL_MEMORY_MODEL = """
import torch
from torch import nn

class Net(nn.Module):
    def __init__(self, num_classes):
        super().__init__()
        self.layers = nn.Sequential(nn.AvgPool2d(8), nn.Flatten(), nn.LazyLinear(num_classes))
        self.layers(torch.zeros(2, 1, 32, 32))

    def forward(self, images):
        if self.training and len(images) > 10:
            raise torch.OutOfMemoryError("fails on purpose")
        return self.layers(images)

def build(num_classes):
    return Net(num_classes)
"""


def test_a_trial_out_of_memory_goes_on_in_micro_batches_and_says_so(
    search: Search,
    tmp_path: Path,
    mlflow_server: ServerHandle,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    (tmp_path / "my_model.py").write_text(SMALL_MEMORY_MODEL)
    monkeypatch.chdir(tmp_path)
    ranges = {"batch_size": "32"}
    result = search("narrow", architectures=("my_model.py:build",), ranges=ranges, num_trials=1, timings=True)
    client = MlflowClient(mlflow_server.uri)
    record = json.loads((tmp_path / "home/searches/narrow/search.json").read_text())
    parent = client.get_run(record["parent_run_id"])
    (child,) = client.search_runs([parent.info.experiment_id], f"tags.`mlflow.parentRunId` = '{parent.info.run_id}'")
    assert child.data.tags["micro_batch"] == "8"
    assert "without batch normalisation" in child.data.tags["micro_batch_note"]
    assert result["outcomes"] == {"completed": 1}
    shown = capsys.readouterr().out
    assert "from the command to the first training step" in shown
    for part in ("imports", "images", "step plan", "other"):
        assert f"\n  {part} " in shown


GPU_SEARCH = """
import sys
from pathlib import Path
import ray
ray.init(address="local", num_cpus=2, num_gpus=1, include_dashboard=False, log_to_driver=False)
from search.core.config import SearchConfig
from search.cli import run
home, data, uri = sys.argv[1:]
options = dict(num_trials=1, max_epochs=1, image_size=32, architectures=("small_cnn",))
sys.exit(run(SearchConfig(name="gpu", home=Path(home), data=Path(data), tracking_uri=uri, **options)))
"""


def test_how_many_trials_share_a_gpu_is_measured_before_the_first(
    synthetic_folder: Path, mlflow_server: ServerHandle, tmp_path: Path
) -> None:
    """Ray believes in a GPU that is not there: the measurement runs on the CPU, the rest is as it would be."""
    arguments = [str(tmp_path / "home"), str(synthetic_folder), mlflow_server.uri]
    done = subprocess.run([sys.executable, "-c", GPU_SEARCH, *arguments], capture_output=True, text=True, cwd=ROOT)
    assert done.returncode == 0, done.stdout + done.stderr
    found = re.search(r"Sharing +(\d) trials? a GPU; images a second in all: \d+ by 1", done.stdout)
    assert found, done.stdout
    record = json.loads((tmp_path / "home/searches/gpu/search.json").read_text())
    assert all(rate > 0 for rates in record["sharing"].values() for rate in rates)
