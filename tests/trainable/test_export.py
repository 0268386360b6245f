from __future__ import annotations

import io
import json
import os
import subprocess
import sys
import tempfile
import textwrap
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
import torch
from mlflow import MlflowClient
from PIL import Image
from torch import Tensor, nn

from trainable.architectures import build_model
from trainable.cells import decode_cells
from trainable.config import TrialConfig, TrialSettings
from trainable.export import (
    LoggedModels,
    ModelFacts,
    images_name,
    register_models,
    save_image_model,
    save_models,
    save_pixel_model,
)
from trainable.images.decode import decode_slice
from trainable.normalisation import to_input
from trainable.served_model import ServedModel, check_exportable, predict, rebuild_model

if TYPE_CHECKING:
    from mlflow_server.serve import ServerHandle

ROOT = Path(__file__).resolve().parents[2]
SIZE = 48
CLASSES = {2: ("healthy", "ill"), 3: ("normal", "class", "probability, no. 3")}
EXAGGERATION = {"small_cnn": 2.0, "resnet18": 2.0}
FACTS = ModelFacts(
    name="export-test",
    classes=CLASSES[2],
    positive=1,
    image_size=SIZE,
    data_hash="abc",
    search="first",
    trial=7,
    metric="auc",
    value=0.1 + 0.2,
    warnings=("patients are unknown", "few slices"),
    test_metrics={"test_auc": 0.75},
    description="Trial 7 of search first.",
)


def draw_model(architecture: str, num_classes: int) -> nn.Module:
    torch.manual_seed(0)
    model = build_model(TrialConfig(architecture=architecture), num_classes)
    with torch.no_grad():  # a random model says nearly the same of every image: let this one exaggerate
        for _ in range(20):  # its norms see some images
            model.train()(to_input(torch.randint(0, 256, (8, SIZE, SIZE), dtype=torch.uint8)))
        *_, last_weight, _ = model.parameters()
        last_weight.mul_(EXAGGERATION[architecture])
    return model.eval()


def draw_files(count: int) -> list[bytes]:
    """Image files of several sizes, formats and modes."""
    rng = np.random.default_rng(0)
    files = []
    for index in range(count):
        noise = rng.integers(0, 100 + 25 * index, (50 + 9 * index, 70, 3), dtype=np.uint8)
        image = Image.fromarray(noise)
        buffer = io.BytesIO()
        image.convert(("RGB", "L")[index % 2]).save(buffer, ("PNG", "JPEG")[index % 3 == 0])
        files.append(buffer.getvalue())
    return files


def log_models(model: nn.Module, facts: ModelFacts, *, client: MlflowClient, run_id: str) -> LoggedModels:
    """Save and register both models, without keeping their folders."""
    with tempfile.TemporaryDirectory() as folder:
        save_models(model, facts, Path(folder) / "models")
        return register_models(Path(folder) / "models", facts, client=client, run_id=run_id)


@pytest.fixture
def client(mlflow_server: ServerHandle) -> MlflowClient:
    return MlflowClient(mlflow_server.uri)


@pytest.fixture
def run_id(client: MlflowClient, request: pytest.FixtureRequest) -> str:
    experiment = client.create_experiment(f"{request.node.name} {os.getpid()}")
    return client.create_run(experiment).info.run_id


FRESH_PROCESS = """
    import base64, sys, warnings

    warnings.simplefilter("error")
    warnings.filterwarnings("ignore", message=".*Any type hint is inferred as AnyType")  # importing MLflow

    import mlflow.pyfunc
    import mlflow.pytorch
    import numpy as np
    import pandas as pd
    import torch

    folder, names = sys.argv[1], sys.argv[2:]
    given = np.load(folder + "/given.npz")
    found = {}
    for name in names:
        model = mlflow.pytorch.load_model(f"models:/{name}@champion")
        with torch.no_grad():
            found[name + ":7"] = model(torch.from_numpy(given["pixels"])).numpy()
            found[name + ":1"] = model(torch.from_numpy(given["pixels"][:1])).numpy()
        generic = mlflow.pyfunc.load_model(f"models:/{name}@champion")
        found[name + ":pyfunc"] = generic.predict(given["pixels"])

        files = [given[f"file{i}"].tobytes() for i in range(7)]
        images = mlflow.pyfunc.load_model(f"models:/{name}-images@champion")
        texts = [base64.b64encode(file).decode() for file in files]
        for kind, cells in (("bytes", files), ("text", texts)):
            table = images.predict(pd.DataFrame({"image": cells}))
            assert list(table)[:3] == ["class", "probability", "doubt"]
            shares = table.iloc[:, 3:].to_numpy()
            names_of_columns = [column.removeprefix("probability_") for column in table.columns[3:]]
            assert list(table["class"]) == [names_of_columns[i] for i in shares.argmax(axis=1)]
            assert (table["probability"] == shares.max(axis=1)).all()
            found[f"{name}:{kind}"] = shares
    import trainable

    print(trainable.__file__)
    print(sorted({"ray", "optuna", "search"} & set(sys.modules)))
    np.savez(folder + "/found.npz", **found)
"""


@pytest.mark.slow
def test_registered_models_give_what_the_trial_evaluates_in_a_fresh_process(
    client: MlflowClient, run_id: str, mlflow_server: ServerHandle, tmp_path: Path
) -> None:
    files = draw_files(7)
    pixels = np.stack([decode_slice(file, SIZE) for file in files])
    expected = {}
    for architecture, num_classes in (("small_cnn", 2), ("resnet18", 3)):
        model = draw_model(architecture, num_classes)
        name = f"fresh-{architecture}"
        _, expected[name] = predict(model, pixels, np.zeros(7, np.int64))
        assert np.ptp(expected[name], axis=0).max() > 1e-4  # the images are told apart
        facts = replace(FACTS, name=name, classes=CLASSES[num_classes])
        logged = log_models(model, facts, client=client, run_id=run_id)
        client.set_registered_model_alias(name, "champion", logged.version)
        client.set_registered_model_alias(images_name(name), "champion", logged.images_version)

    arrays: dict[str, Any] = {f"file{i}": np.frombuffer(file, np.uint8) for i, file in enumerate(files)}
    np.savez(tmp_path / "given.npz", pixels=pixels, **arrays)
    done = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(FRESH_PROCESS), str(tmp_path), *expected],
        cwd=tmp_path,
        env={**os.environ, "MLFLOW_TRACKING_URI": mlflow_server.uri, "PYTHONPATH": ""},
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr
    package, imported = done.stdout.splitlines()
    assert not Path(package).is_relative_to(ROOT)  # the code that the model brought along
    assert imported == "[]"
    found = np.load(tmp_path / "found.npz")
    for name, probabilities in expected.items():
        np.testing.assert_allclose(found[f"{name}:1"], probabilities[:1], rtol=0, atol=1e-6)
        for kind in ("7", "pyfunc", "bytes", "text"):
            np.testing.assert_allclose(found[f"{name}:{kind}"], probabilities, rtol=0, atol=1e-6)


def test_a_version_says_what_it_was_trained_on_and_how_good_it_is(client: MlflowClient, run_id: str) -> None:
    facts = replace(FACTS, name="facts-test")
    logged = log_models(draw_model("small_cnn", 2), facts, client=client, run_id=run_id)
    for name, number in (("facts-test", logged.version), ("facts-test-images", logged.images_version)):
        version = client.get_model_version(name, number)
        assert version.run_id == run_id
        assert version.description == "Trial 7 of search first."
        assert float(version.tags["validation_value"]) == 0.1 + 0.2
        assert version.tags["data_hash"] == "abc"
        assert version.tags["positive"] == "ill"
        assert json.loads(version.tags["warnings"]) == ["patients are unknown", "few slices"]
        assert json.loads(version.tags["classes"]) == ["healthy", "ill"]
        assert float(version.tags["test_auc"]) == 0.75
    experiment_id = client.get_run(run_id).info.experiment_id
    models = client.search_logged_models([experiment_id])
    assert {model.name for model in models} == {"facts-test", "facts-test-images"}
    assert {str(model.status) for model in models} == {"READY"}


def test_logging_leaves_the_run_as_it_ended_and_registers_once(client: MlflowClient, run_id: str) -> None:
    model = draw_model("small_cnn", 2)
    client.update_run(run_id, status="KILLED")
    first = log_models(model, replace(FACTS, name="once-test"), client=client, run_id=run_id)
    again = log_models(model, replace(FACTS, name="once-test"), client=client, run_id=run_id)
    assert first == again
    assert len(client.search_model_versions("name = 'once-test'")) == 1
    run = client.get_run(run_id)
    assert run.info.status == "KILLED"
    assert run.data.params == {}


@pytest.fixture(scope="module")
def saved(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    folder = tmp_path_factory.mktemp("saved")
    pixels, images = folder / "pixels", folder / "images"
    save_pixel_model(draw_model("small_cnn", 2), FACTS, pixels)
    save_image_model(pixels, FACTS, images)
    return pixels, images


def test_nothing_is_pickled(saved: tuple[Path, Path]) -> None:
    for folder in saved:
        names = [path.name for path in folder.rglob("*") if path.is_file()]
        assert not [name for name in names if name.endswith((".pkl", ".pickle", ".pth", ".pt"))]
        assert "model.pt2" in names


def test_requirements_are_the_installed_versions_as_an_index_serves_them(saved: tuple[Path, Path]) -> None:
    for folder, extra in zip(
        saved, ((), ("pandas", "pillow", "pydicom", "imagecodecs", "nibabel", "filelock")), strict=True
    ):
        lines = (folder / "requirements.txt").read_text().split()
        assert {line.partition("==")[0] for line in lines} == {"mlflow", "torch", "numpy", *extra}
        assert f"torch=={torch.__version__.partition('+')[0]}" in lines


def test_a_saved_model_knows_its_classes_and_shows_a_request(saved: tuple[Path, Path]) -> None:
    pixels, images = saved
    assert "validation_value" in (pixels / "MLmodel").read_text()
    request = json.loads((images / "serving_input_example.json").read_text())
    (text,) = request["dataframe_split"]["data"][0]
    blank, colours = decode_cells([text], SIZE)
    assert (blank.shape, colours) == ((1, SIZE, SIZE), [0.0])


def test_a_model_is_rebuilt_from_its_checkpoint() -> None:
    model = draw_model("small_cnn", 3)
    settings = TrialSettings(classes=CLASSES[3], positive=0, image_size=SIZE, max_epochs=1)
    rebuilt = rebuild_model({"architecture": "small_cnn"}, settings, {"model": model.state_dict()})
    pixels = np.random.default_rng(0).integers(0, 256, (5, SIZE, SIZE), dtype=np.uint8)
    labels = np.zeros(5, np.int64)
    np.testing.assert_array_equal(predict(rebuilt, pixels, labels)[1], predict(model, pixels, labels)[1])


def test_a_served_model_takes_over_a_model_in_any_layout() -> None:
    pixels = torch.randint(0, 256, (3, SIZE, SIZE), dtype=torch.uint8)
    model = draw_model("small_cnn", 2)
    expected = ServedModel(model)(pixels)
    served = ServedModel(model.to(memory_format=torch.channels_last).train())
    assert not served.model.training
    torch.testing.assert_close(served(pixels), expected, rtol=0, atol=0)
    torch.testing.assert_close(expected.sum(dim=1), torch.ones(3))


class Branching(nn.Module):
    def forward(self, images: Tensor) -> Tensor:
        return images[:, 0, 0, :2] if images.sum() > 0 else images[:, 0, 1, :2]


class TwoAtATime(nn.Module):
    def forward(self, images: Tensor) -> Tensor:
        return images.reshape(2, -1)[:, :2]


def test_a_model_that_cannot_be_served_is_refused_before_it_trains() -> None:
    check_exportable(draw_model("small_cnn", 2), image_size=SIZE)
    for model in (Branching(), TwoAtATime()):
        with pytest.raises(ValueError, match="the model cannot be exported"):
            check_exportable(model, image_size=SIZE)
