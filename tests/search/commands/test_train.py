"""`ctsearch train`: real in every part, as a user runs it."""

from __future__ import annotations

import json
import re
import signal
import subprocess
import sys
from pathlib import Path

import pytest
from mlflow import MlflowClient

from mlflow_server.serve import ServerHandle
from search.cli import main

FIGURES = {
    *("counts.png", "samples.png", "augmentation.png", "champion_training.png", "learning_curves.png"),
    *("confusion_matrix.png", "roc_curve.png", "precision_recall.png", "mistakes.png"),
    *("reliability.png", "decision_curve.png"),
}
ROOT = Path(__file__).resolve().parents[3]


def test_a_recipe_is_trained_logged_scored_once_and_registered(
    synthetic_folder: Path, mlflow_server: ServerHandle, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    options = ["--recipe", "cnn-rmsprop", "--data", str(synthetic_folder), "--home", str(tmp_path), "--name", "alone"]
    options += ["--image-size", "32", "--max-epochs", "2", "--model-name", "alone-model"]
    assert main(["train", *options, "--tracking-uri", mlflow_server.uri]) == 0
    shown = capsys.readouterr().out
    assert "Recipe       cnn-rmsprop: a CNN of 2x2 convolutions" in shown
    assert "epoch   2  train loss" in shown
    assert "Sealed test  auc" in shown
    assert "Registered   alone-model version 1 as champion" in shown

    folder = tmp_path / "searches" / "alone"
    result = json.loads((folder / "result.json").read_text())
    assert result["recipe"] == "cnn-rmsprop"
    assert result["params"]["cnn_kernel"] == 2
    assert (result["num_trials"], result["outcomes"]) == (1, {"completed": 1})
    assert len((folder / "sealed_test.json").read_text()) > 0
    client = MlflowClient(mlflow_server.uri)
    version = client.get_model_version_by_alias("alone-model", "champion")
    run = client.get_run(str(version.run_id))
    assert run.info.status == "FINISHED"
    assert (run.data.tags["recipe"], run.data.tags["pretrained"]) == ("cnn-rmsprop", "false")
    assert [point.step for point in client.get_metric_history(str(version.run_id), "val_auc")] == [1, 2]

    page = (folder / "report.md").read_text()
    shown_images = set(re.findall(r"\]\((.+?)\)", page))
    assert shown_images == FIGURES
    parent = run.data.tags["mlflow.parentRunId"]
    assert {artifact.path for artifact in client.list_artifacts(parent)} >= FIGURES
    assert "patient-0" not in page, "patients are counted, not named"

    assert main(["train", *options, "--tracking-uri", mlflow_server.uri]) == 2, "the name is taken"
    assert main(["search", "--resume", "alone", "--home", str(tmp_path)]) == 2
    assert "is a single training of the recipe cnn-rmsprop" in capsys.readouterr().err


def test_staged_fine_tuning_from_given_weights(
    shared_data: Path, synthetic_folder: Path, mlflow_server: ServerHandle, tmp_path: Path
) -> None:
    weights = shared_data / "weights/mobilenet_v2-fp16.pth"
    options = ["--recipe", "resnet50-finetune", "--arch", "mobilenet_v2", "--weights", f"mobilenet_v2={weights}"]
    options += ["--data", str(synthetic_folder), "--home", str(tmp_path), "--name", "staged", "--image-size", "32"]
    options += ["--max-epochs", "4", "--model-name", "staged-model", "--tracking-uri", mlflow_server.uri]
    assert main(["train", *options]) == 0
    result = json.loads((tmp_path / "searches/staged/result.json").read_text())
    assert (result["params"]["architecture"], result["params"]["unfreezing"]) == ("mobilenet_v2", "staged")
    assert result["num_epochs"] == 4


def test_what_cannot_be_trained_is_said_and_leaves_no_folder(
    synthetic_folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["train", "--recipe", "resnet"]) == 2
    assert "unknown recipe 'resnet'; it must be one of resnet152-pretrained" in capsys.readouterr().err
    options = ["--data", str(synthetic_folder), "--home", str(tmp_path), "--name", "bad"]
    assert main(["train", "--recipe", "cnn-rmsprop", "--weights", "resnet18=none.pth", *options]) == 2
    assert "--weights names 'resnet18'" in capsys.readouterr().err
    assert not (tmp_path / "searches" / "bad").exists()


def test_ctrl_c_ends_a_training_with_its_best_epoch(
    synthetic_folder: Path, mlflow_server: ServerHandle, tmp_path: Path
) -> None:
    options = ["--recipe", "cnn-rmsprop", "--data", str(synthetic_folder), "--home", str(tmp_path), "--name", "ended"]
    options += ["--image-size", "32", "--max-epochs", "5000", "--model-name", "ended-model"]
    command = [sys.executable, "-m", "search.cli", "train", *options, "--tracking-uri", mlflow_server.uri]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True, cwd=ROOT)
    assert process.stdout is not None
    for line in process.stdout:
        if line.startswith("epoch   2"):
            break
    process.send_signal(signal.SIGINT)
    shown = process.communicate(timeout=600)[0]
    assert process.returncode == 0
    assert "Registered   ended-model version 1 as champion" in shown
    result = json.loads((tmp_path / "searches/ended/result.json").read_text())
    assert result["outcomes"] == {"interrupted": 1}
