"""The synthetic set: learnable by a good configuration, and by nothing that takes a short cut."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from sklearn.ensemble import RandomForestClassifier
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import roc_auc_score
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from torch import nn

from trainable.images.decode import decode_slice, read_slice
from trainable.images.splits import assign_splits
from trainable.images.synthetic import write_synthetic_set

SMALL = {"num_patients": 4, "slices_per_patient": 2, "image_size": 64}


def files_of(folder: Path) -> list[Path]:
    return sorted(folder.glob("*/*/*.png"))


@pytest.fixture(scope="module")
def default_set(tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    return files_of(write_synthetic_set(tmp_path_factory.mktemp("synthetic") / "ctsearch-demo"))


@pytest.fixture(scope="module")
def arrays(default_set: list[Path]) -> dict[str, np.ndarray]:
    """Pixels at 64 px, labels (1 is covid), and which slices are in train and val, by patient."""
    labels = [int(path.parts[-3] == "covid") for path in default_set]
    splits = np.array(assign_splits(labels, [path.parts[-2] for path in default_set], seed=0))
    return {
        "pixels": np.stack([decode_slice(path, 64) for path in default_set]),
        "labels": np.array(labels),
        "train": splits == "train",
        "val": splits == "val",
    }


def test_the_same_arguments_give_the_same_bytes(tmp_path: Path) -> None:
    one, two = (files_of(write_synthetic_set(tmp_path / name, **SMALL)) for name in ("one", "two"))
    assert [path.read_bytes() for path in one] == [path.read_bytes() for path in two]


def test_another_seed_gives_other_images(tmp_path: Path) -> None:
    one, two = (files_of(write_synthetic_set(tmp_path / str(seed), seed=seed, **SMALL)) for seed in (0, 1))
    assert not {path.read_bytes() for path in one} & {path.read_bytes() for path in two}


def test_patients_have_folders_in_their_class_and_numbers_of_their_own(tmp_path: Path) -> None:
    folder = write_synthetic_set(tmp_path / "set", **SMALL)
    assert [str(path.relative_to(folder)) for path in files_of(folder)][:3] == [
        "covid/patient-002/slice-1.png",
        "covid/patient-002/slice-2.png",
        "covid/patient-004/slice-1.png",
    ]
    assert sorted(path.name for path in folder.glob("*/*")) == [f"patient-00{n}" for n in (1, 2, 3, 4)]


def test_a_complete_set_is_reused_and_nothing_is_left_beside_it(tmp_path: Path) -> None:
    folder = write_synthetic_set(tmp_path / "set", **SMALL)
    written = [path.stat().st_mtime_ns for path in files_of(folder)]
    assert write_synthetic_set(folder, **SMALL) == folder
    assert [path.stat().st_mtime_ns for path in files_of(folder)] == written
    assert list(tmp_path.iterdir()) == [folder]


def test_a_folder_with_anything_else_is_refused(tmp_path: Path) -> None:
    folder = write_synthetic_set(tmp_path / "set", **SMALL)
    with pytest.raises(ValueError, match="something other than the synthetic set"):
        write_synthetic_set(folder, seed=1, **SMALL)
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "thesis.txt").write_text("mine")
    with pytest.raises(ValueError, match="something other than the synthetic set"):
        write_synthetic_set(tmp_path / "mine", **SMALL)


def test_a_forest_on_file_metadata_learns_nothing(default_set: list[Path], arrays: dict[str, np.ndarray]) -> None:
    facts = [read_slice(path, 32)[0] for path in default_set]
    assert {(fact.format, fact.mode) for fact in facts} == {("PNG", "L")}
    features = np.array([(fact.num_bytes, fact.width, fact.height) for fact in facts])
    forest = RandomForestClassifier(100, random_state=0).fit(
        features[arrays["train"]], arrays["labels"][arrays["train"]]
    )
    scores = forest.predict_proba(features[arrays["val"]])[:, 1]
    assert roc_auc_score(arrays["labels"][arrays["val"]], scores) < 0.7


@pytest.mark.parametrize("strength", [1e-5, 1e-3, 1.0])
def test_a_logistic_regression_on_pixels_stays_below_0_7(arrays: dict[str, np.ndarray], strength: float) -> None:
    pixels = arrays["pixels"].reshape(len(arrays["labels"]), -1) / 255
    linear = make_pipeline(StandardScaler(), LogisticRegression(C=strength, max_iter=500))
    linear.fit(pixels[arrays["train"]], arrays["labels"][arrays["train"]])
    scores = linear.decision_function(pixels[arrays["val"]])
    assert roc_auc_score(arrays["labels"][arrays["val"]], scores) < 0.7


def test_mean_brightness_does_not_tell_the_classes_apart(arrays: dict[str, np.ndarray]) -> None:
    area = roc_auc_score(arrays["labels"], arrays["pixels"].mean(axis=(1, 2)))
    assert 0.4 < area < 0.6


def train_small_net(
    arrays: dict[str, np.ndarray], optimizer: type[torch.optim.Optimizer], learning_rate: float, num_epochs: int
) -> float:
    """Validation AUC of four convolution blocks after a one-cycle schedule."""
    torch.manual_seed(0)
    blocks: list[nn.Module] = []
    for before, after in ((1, 16), (16, 32), (32, 64), (64, 128)):
        blocks += [nn.Conv2d(before, after, 3, padding=1), nn.BatchNorm2d(after), nn.ReLU(), nn.MaxPool2d(2)]
    model = nn.Sequential(*blocks, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(128, 2))
    images = torch.from_numpy(arrays["pixels"])[:, None] / 255.0 - 0.3
    labels = torch.from_numpy(arrays["labels"])
    train, val = (torch.from_numpy(np.flatnonzero(arrays[name])) for name in ("train", "val"))
    stepper = optimizer(model.parameters(), lr=learning_rate)  # type: ignore[call-arg]
    num_steps = num_epochs * (len(train) // 32)
    schedule = torch.optim.lr_scheduler.OneCycleLR(stepper, learning_rate, total_steps=num_steps + 1)
    for _ in range(num_epochs):
        for batch in train[torch.randperm(len(train))].split(32)[: len(train) // 32]:
            stepper.zero_grad()
            nn.functional.cross_entropy(model(images[batch]), labels[batch]).backward()
            stepper.step()
            schedule.step()
    model.eval()
    with torch.no_grad():
        scores = model(images[val]).softmax(1)[:, 1].numpy()
    return float(roc_auc_score(arrays["labels"][arrays["val"]], scores))


@pytest.mark.slow
def test_a_good_configuration_learns_it_within_nine_epochs(arrays: dict[str, np.ndarray]) -> None:
    assert train_small_net(arrays, torch.optim.Adam, 2e-3, 9) > 0.95


@pytest.mark.slow
def test_a_poor_configuration_stays_near_chance(arrays: dict[str, np.ndarray]) -> None:
    assert 0.25 < train_small_net(arrays, torch.optim.SGD, 1e-5, 3) < 0.75
