"""A confirmation at two sizes: which images the champion takes is said by patients that its models have not seen."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

import ctsearch
from mlflow_server.serve import ServerHandle
from search.champion.final_size import choose_size, resize
from search.champion.model import ChampionModel
from search.core.config import SearchConfig
from search.core.confirmation import Confirmation, Pace
from search.core.ledger import TrialEntry
from search.engine.cluster import Cluster
from trainable.config import TrialSettings
from trainable.images.prepare import TrainingData
from trainable.task import TrialTask


def task_of(size: int) -> TrialTask:
    """Sixty patients with a slice each, of two classes."""
    labels = np.arange(60) % 2
    data = TrainingData(
        name="two",
        data_hash="0" * 16,
        classes=("no", "yes"),
        positive=1,
        image_size=size,
        pixels_path=f"{size}.npy",
        labels=labels,
        is_val=np.zeros(60, dtype=bool),
        groups=np.arange(60),
    )
    settings = TrialSettings(classes=data.classes, positive=1, image_size=size, max_epochs=1)
    return TrialTask(search="s", settings=settings, data=data, trials_uri="", node_dir="")


def model_of(signal: float) -> ChampionModel:
    """A champion whose out-of-fold predictions hold so much of the truth."""
    truth, noise = np.arange(60) % 2, np.random.default_rng(0).uniform(0, 1, 60)
    positive = signal * truth + (1 - signal) * noise
    model: Any = None
    return ChampionModel(
        candidates=(),
        model=model,
        value=0.0,
        probabilities=np.empty((0, 2)),
        point=None,
        warnings=(),
        num_folds=5,
        out_of_fold=np.stack([1 - positive, positive], axis=1),
    )


def test_the_larger_size_is_taken_where_patients_say_so() -> None:
    found, task = choose_size([(model_of(0.2), task_of(64)), (model_of(0.6), task_of(96))])
    assert task.data.image_size == 96
    assert found.notes[0].startswith("96 px beside 64 px: auc differs by +") and found.notes[0].endswith("; taken")


@pytest.mark.parametrize("signal", [0.2, 0.6])
def test_the_smaller_one_is_kept_where_the_larger_is_no_better(signal: float) -> None:
    found, task = choose_size([(model_of(0.6), task_of(64)), (model_of(signal), task_of(96))])
    assert task.data.image_size == 64
    assert found.notes[0].endswith("; 64 px kept")


def test_without_a_second_size_nothing_is_said() -> None:
    found, task = choose_size([(model_of(0.2), task_of(64))])
    assert (found.notes, task.data.image_size) == ((), 64)


def test_all_that_follows_takes_the_larger_images() -> None:
    resized = resize(task_of(64), task_of(96))
    assert (resized.settings.image_size, resized.data.pixels_path) == (96, "96.npy")


def test_its_trainings_cost_as_much_more_as_they_have_pixels() -> None:
    ranked = [TrialEntry(number=number, params={}, epoch_s=1.0) for number in range(2)]
    pace = Pace(max_epochs=100, num_slots=1, num_train=80, num_slices=100, most_folds=5, image_size=64)
    plain, both = pace.plan(ranked, 2, 5), replace(pace, final_size=128).plan(ranked, 2, 5)
    assert plain is not None and both is not None
    assert both.device_s == pytest.approx(5 * plain.device_s)
    assert (plain.num_trainings, both.num_trainings) == (10, 10)
    assert "10 trainings, and as many at 128 px, about" in both.describe()
    assert Confirmation.from_record(both.to_record()).final_size == 128


def test_it_must_be_larger_and_needs_a_confirmation(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"final_size is 96, and is judged by the confirmation"):
        ctsearch.search(tmp_path, home=tmp_path, final_size=96, confirm=0)
    with pytest.raises(ValueError, match=r"final_size is 96, and images are read as 128 px: it must be larger"):
        ctsearch.search(tmp_path, home=tmp_path, final_size=96, image_size=128)
    with pytest.raises(ValueError, match=r"final_size is 64, and images are read as 128 px: it must be larger"):
        SearchConfig.of(final_size=64).check_final_size(128)  # as the plan asks, which knows what they are read as


@pytest.mark.timeout(1200)
def test_a_search_confirms_at_both_sizes_and_registers_the_one_it_takes(
    cluster: Cluster, synthetic_folder: Path, mlflow_server: ServerHandle, tmp_path: Path
) -> None:
    result = ctsearch.search(
        synthetic_folder,
        name="sized",
        home=tmp_path,
        tracking_uri=mlflow_server.uri,
        model_name="sized-model",
        arch="small_cnn",
        num_trials=2,
        max_epochs=3,
        ensemble=2,
        confirm=2,
        final_size=48,
        image_size=32,
        trial_cpus=1,
        progress=False,
    )
    champion, figures = result.champion, result.figures
    assert champion is not None and champion.version == "1"
    assert figures["image_size"] in (32, 48) and figures["num_openings"] == 1
    report = (result.folder / "report.md").read_text()
    assert "48 px beside 32 px: auc differs by" in report
    assert ("; taken" if figures["image_size"] == 48 else "; 32 px kept") in report
    for kind in ("folds-0", "folds-0-48px"):
        assert (result.folder / f"{kind}.journal").exists()
        assert not [path for path in (result.folder / kind).rglob("*") if path.is_file()]
    image = next(path for path in synthetic_folder.rglob("*") if path.is_file() and path.suffix == ".png")
    assert champion.classify(image)["error"].tolist() == [""]
    (folder := tmp_path / "beside").mkdir()
    for name in ("1.png", "1_mask.png"):
        (folder / name).write_bytes(image.read_bytes())
    with pytest.warns(UserWarning, match=r"1_mask\.png\): masks are not read"):
        assert champion.classify(folder)["path"].tolist() == [str(folder / "1.png")]
    side = figures["image_size"]
    assert champion.load()(torch.zeros((1, side, side), dtype=torch.uint8)).shape == (1, 2)
