from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from tests import needs
from tests.trainable.squares import make_squares
from trainable.checkpoint import CheckpointStore
from trainable.checkpoint_writer import CheckpointWriter
from trainable.config import TrialConfig, TrialSettings
from trainable.epoch_report import EpochReport
from trainable.images.batches import draw_batches, take_rows
from trainable.images.prepare import TrainingData
from trainable.smoothing import find_best, smoothed_value
from trainable.train import train

CPU = torch.device("cpu")
CONFIG = TrialConfig(architecture="small_cnn", cnn_filters=4, learning_rate=3e-3, batch_size=8, dropout=0.1)
SETTINGS = TrialSettings(
    classes=("clear", "square"),
    positive=1,
    image_size=24,
    max_epochs=6,
    deterministic=True,
    checkpoint_interval_s=0.0,
)


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> TrainingData:
    return make_squares(tmp_path_factory.mktemp("pixels"), count=48, size=24)


def run(data: TrainingData, num_epochs: int | None = None, **options: Any) -> list[EpochReport]:
    """The reports of the first `num_epochs` epochs, or of all."""
    config, settings = options.pop("config", CONFIG), options.pop("settings", SETTINGS)
    reports = train(config, settings, data, **options)
    try:
        return list(reports) if num_epochs is None else [next(reports) for _ in range(num_epochs)]
    finally:
        reports.close()


def curve(reports: list[EpochReport]) -> list[dict[str, float]]:
    """All that must repeat: no clock."""
    clocks = ("images_per_s", "epoch_s")
    return [{k: v for k, v in report.metrics.items() if k not in clocks} for report in reports]


def test_training_learns_and_reports_every_epoch(data: TrainingData) -> None:
    reports = run(data)
    assert [report.epoch for report in reports] == [1, 2, 3, 4, 5, 6]
    assert [report.finished for report in reports] == [False] * 5 + [True]
    names = ("loss", "auc", "accuracy", "sensitivity", "specificity", "precision", "f1")
    expected = {f"{split}_{name}" for split in ("train", "val") for name in names}
    others = {"val_se", "learning_rate", "images_per_s", "epoch_s"}
    assert set(reports[0].metrics) == expected | others
    assert reports[-1].best_value > 0.9
    values = {report.epoch: report.metrics["val_auc"] for report in reports}
    assert [report.value for report in reports] == list(values.values())
    assert (reports[-1].best_epoch, reports[-1].best_value) == find_best(values, higher_is_better=True)
    assert [report.is_best for report in reports] == [report.epoch == report.best_epoch for report in reports]


def test_the_same_seed_gives_the_same_numbers_and_another_seed_others(data: TrainingData) -> None:
    first = curve(run(data, 2))
    torch.manual_seed(4711)
    assert curve(run(data, 2)) == first
    assert curve(run(data, 2, settings=replace(SETTINGS, seed=1))) != first


def test_patience_counts_epochs_without_a_better_value(data: TrainingData) -> None:
    config = replace(CONFIG, learning_rate=1e-9)
    settings = replace(SETTINGS, max_epochs=50, patience=2, metric="accuracy")
    reports = run(data, config=config, settings=settings)
    assert len(reports) < 50
    assert reports[-1].finished
    assert reports[-1].epoch - reports[-1].best_epoch == 2


def test_a_lower_loss_is_better(data: TrainingData) -> None:
    reports = run(data, settings=replace(SETTINGS, metric="loss"))
    losses = {report.epoch: report.metrics["val_loss"] for report in reports}
    smoothed = [smoothed_value(losses, epoch=epoch) for epoch in range(3, 7)]
    assert reports[-1].best_value == min(smoothed)
    assert [report.value for report in reports] == list(losses.values())
    assert [report.smoothed_value for report in reports[2:]] == smoothed


@pytest.mark.slow
def test_a_compiled_model_trains_as_the_plain_one_does(data: TrainingData, monkeypatch: pytest.MonkeyPatch) -> None:
    needs.program("g++")
    calls = 0
    original = torch.compile

    def count(model: Any) -> Any:
        compiled = original(model)

        def call(images: torch.Tensor) -> torch.Tensor:
            nonlocal calls
            calls += 1
            return compiled(images)

        return call

    monkeypatch.setattr(torch, "compile", count)
    config = replace(CONFIG, dropout=0.0)  # a compiled model draws its dropout otherwise
    compiled = run(data, config=config, settings=replace(SETTINGS, compile=True))
    plain = run(data, config=config)
    assert calls == 6 * 4 - 9, "all steps of whole batches once batch norm has warmed up"
    for ours, expected in zip(compiled, plain, strict=True):
        assert ours.metrics["val_loss"] == pytest.approx(expected.metrics["val_loss"], rel=1e-3)


def test_torch_is_set_back_however_a_trial_ends(data: TrainingData) -> None:
    def look() -> tuple[int, bool]:
        return torch.get_num_threads(), torch.are_deterministic_algorithms_enabled()

    before = look()
    reports = train(CONFIG, replace(SETTINGS, num_threads=2), data)
    next(reports)
    assert look() == (2, True)
    reports.close()
    assert look() == before
    with pytest.raises(TimeoutError):
        run(data, settings=replace(SETTINGS, timeout_s=0.0))
    assert look() == before


def test_a_timeout_names_its_seconds(data: TrainingData) -> None:
    with pytest.raises(TimeoutError, match=r"timeout of 0\.001 s"):
        run(data, settings=replace(SETTINGS, timeout_s=0.001))


def test_what_does_not_fit_is_said_before_training(data: TrainingData) -> None:
    with pytest.raises(ValueError, match="they must be the same"):
        run(data, settings=replace(SETTINGS, image_size=32))
    with pytest.raises(ValueError, match="smaller cnn_depth"):
        run(data, config=replace(CONFIG, cnn_depth=5))
    with pytest.raises(ValueError, match="split val has no image of square"):
        run(replace(data, is_val=np.arange(48) == 0))
    own = "from torch import nn\ndef build(n):\n    return nn.Sequential(nn.Flatten(), nn.Linear(576, n + 1))"
    with pytest.raises(ValueError, match=r"must give logits of shape \(2, 2\)"):
        run(data, config=replace(CONFIG, architecture="my_model.py:build"), source=own)


def test_a_users_own_model_and_class_weights_train(data: TrainingData) -> None:
    own = "from torch import nn\ndef build(n):\n    return nn.Sequential(nn.Flatten(), nn.Linear(576, n))"
    config = replace(CONFIG, architecture="my_model.py:build", class_weighting=True)
    assert run(data, config=config, source=own)[-1].best_value > 0.9


def test_weights_are_where_training_begins(data: TrainingData, tmp_path: Path) -> None:
    store = CheckpointStore(tmp_path / "trial")
    with CheckpointWriter(store, 0.0) as writer:
        trained = run(data, checkpoints=writer)[-1]
    state = store.load("newest")
    assert state is not None
    torch.save(state[0]["model"], tmp_path / "weights.pth")
    config = replace(CONFIG, learning_rate=1e-9)
    begun = run(data, 1, config=config, weights=tmp_path / "weights.pth")[0]
    assert begun.metrics["train_loss"] == pytest.approx(trained.metrics["train_loss"], abs=0.1)


@pytest.mark.slow
def test_weights_reach_a_known_score_on_real_slices(shared_data: Path, tmp_path: Path) -> None:
    from trainable.images.prepare import prepare_data

    prepared = prepare_data(
        shared_data / "covid-ct" / "manifest.csv",
        cache_dir=tmp_path / "cache",
        splits_file=tmp_path / "splits.csv",
        image_size=64,
        seed=0,
    )
    config = TrialConfig(architecture="squeezenet1_1", learning_rate=5e-4)
    settings = replace(
        SETTINGS,
        classes=prepared.training.classes,
        positive=prepared.training.positive,
        image_size=64,
        max_epochs=5,
        deterministic=False,
    )
    weights = shared_data / "weights" / "squeezenet1_1-features.pth"
    reports = list(train(config, settings, prepared.training, weights=weights))
    assert reports[-1].best_value > 0.65


def test_rows_side_by_side_are_a_view_and_others_a_copy() -> None:
    pixels = np.arange(6 * 4, dtype=np.uint8).reshape(6, 2, 2)
    together, apart = np.array([0, 1, 1, 1, 0, 0], bool), np.array([1, 0, 1, 0, 0, 1], bool)
    view, copy = take_rows(pixels, together, CPU), take_rows(pixels, apart, CPU)
    assert np.array_equal(view.numpy(), pixels[together])
    assert np.array_equal(copy.numpy(), pixels[apart])
    assert np.shares_memory(view.numpy(), pixels)
    assert not np.shares_memory(copy.numpy(), pixels)


@pytest.mark.parametrize(("num", "size", "sizes"), [(10, 4, [4, 4, 2]), (9, 4, [4, 4]), (1, 4, [1]), (3, 1, [1] * 3)])
def test_batches_take_every_image_once(num: int, size: int, sizes: list[int]) -> None:
    batches = draw_batches(num, size, torch.Generator().manual_seed(0))
    assert [len(batch) for batch in batches] == sizes
    assert len(set(torch.cat(batches).tolist())) == sum(sizes)
