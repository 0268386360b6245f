"""The figures of the sealed test: by slice, by patient, and without near-duplicates."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from search.champion.sealed import score_sealed_test
from tests.search.champion.trained import CLASSES, SIZE
from trainable import metrics
from trainable.images.prepare import SealedTest, TrainingData
from trainable.served_ensemble import TrainedEnsemble
from trainable.served_model import predict


class FirstTwo(torch.nn.Module):
    """The logits of the first two classes."""

    def forward(self, logits: torch.Tensor) -> torch.Tensor:
        return logits[:, :2]


def alone(model: torch.nn.Module) -> TrainedEnsemble:
    return TrainedEnsemble(members=(model,))


@pytest.fixture
def model() -> Any:
    """A model that says how bright an image is: three classes by thirds of the range."""

    class Brightness(torch.nn.Module):
        def forward(self, images: torch.Tensor) -> torch.Tensor:
            distance = images.mean(dim=(1, 2, 3))[:, None] - torch.tensor([-1.5, 0.2, 2.0])
            return -distance.square()

    return Brightness()


def make_test(num_slices: int, is_seen: list[int]) -> tuple[SealedTest, TrainingData]:
    rng = np.random.default_rng(0)
    labels = np.arange(num_slices) % 3
    means = np.clip(40 + 85 * labels + rng.normal(0, 45, num_slices), 0, 255)
    sealed = SealedTest(
        pixels=np.broadcast_to(means[:, None, None], (num_slices, SIZE, SIZE)).astype(np.uint8),
        labels=labels.astype(np.int64),
        groups=np.arange(num_slices) // 2,
        has_near_duplicate=np.isin(np.arange(num_slices), is_seen),
    )
    none = np.zeros(0, np.int64)
    data = TrainingData(
        name="synthetic",
        data_hash="abc",
        classes=CLASSES,
        positive=0,
        image_size=SIZE,
        pixels_path="",
        labels=none,
        is_val=none.astype(bool),
        groups=none,
    )
    return sealed, data


def test_figures_are_given_with_and_without_near_duplicates(model: Any, tmp_path: Path) -> None:
    seen = [0, 1, 2, 7]
    sealed, data = make_test(60, seen)
    score = score_sealed_test(alone(model), sealed, data, folder=tmp_path, seed=0, num_resamples=200)
    assert score.figures is not None
    assert score.without_duplicates is not None
    _, probabilities = predict(model, sealed.pixels, sealed.labels)
    kept = np.setdiff1d(np.arange(60), seen)
    for figures, rows in ((score.figures, np.arange(60)), (score.without_duplicates, kept)):
        expected = metrics.score(sealed.labels[rows], probabilities[rows], 0)
        assert {name: figures.metrics[name] for name in expected} == pytest.approx(expected)
    assert (score.figures.num_slices, score.figures.num_groups) == (60, 30)
    assert (score.without_duplicates.num_slices, score.without_duplicates.num_groups) == (56, 29)
    assert "4 of 60 test slices have near-duplicates" in score.warnings[0]

    flat = score.to_metrics()
    assert 0.5 < flat["test_auc_low"] < flat["test_auc"] < flat["test_auc_high"] <= 1
    assert {"test_sensitivity_2", "test_without_duplicates_specificity_0_low"} <= set(flat)
    assert flat["test_without_duplicates_num_slices"] == 56
    assert score.figures.to_record("test")["test_auc_method"] == "Newcombe"
    assert score.of_patients is None  # a group's slices are of several classes here
    for path in score.figure_files:
        with Image.open(path) as image:
            assert image.format == "PNG"


def test_without_near_duplicates_both_figures_are_the_same(model: Any, tmp_path: Path) -> None:
    sealed, data = make_test(12, [])
    score = score_sealed_test(alone(model), sealed, data, folder=tmp_path, seed=0, num_resamples=20)
    assert score.without_duplicates == score.figures
    assert score.warnings == ()


def test_a_test_of_near_duplicates_only_has_one_kind_of_figures(model: Any, tmp_path: Path) -> None:
    sealed, data = make_test(6, list(range(6)))
    score = score_sealed_test(alone(model), sealed, data, folder=tmp_path, seed=0, num_resamples=20)
    assert score.figures is not None
    assert score.without_duplicates is None
    assert "test_auc" in score.to_metrics()


def test_an_empty_test_has_no_figures(model: Any, tmp_path: Path) -> None:
    sealed, data = make_test(0, [])
    score = score_sealed_test(alone(model), sealed, data, folder=tmp_path, seed=0)
    assert score.figures is None
    assert score.to_metrics() == {}
    assert score.warnings == ("the test split is empty: there are no test figures",)


def test_figures_are_given_by_patient_too_and_never_with_a_width_of_zero(model: Any, tmp_path: Path) -> None:
    sealed, data = make_test(36, [])
    labels = sealed.groups % 2  # two slices a patient
    pixels = np.broadcast_to((40 + 90 * labels)[:, None, None], sealed.pixels.shape).astype(np.uint8)
    sealed = replace(sealed, labels=labels, pixels=pixels)
    data = replace(data, classes=CLASSES[:2], positive=1)
    two = torch.nn.Sequential(model, torch.nn.Flatten(), FirstTwo())
    score = score_sealed_test(
        alone(two), sealed, data, folder=tmp_path, seed=0, num_resamples=20, group_name="patients"
    )
    assert score.figures is not None
    assert score.of_patients is not None
    for figures in (score.figures, score.of_patients):
        auc = figures.estimates["auc"]
        assert auc.value == 1
        assert auc.interval.width > 0.05
    assert "test_patients_auc_low" in score.to_metrics()
    assert score.figures.can_tell.startswith("AUC: with 18 patients, two models must differ by")
    assert {"reliability.png", "decision_curve.png"} <= {path.name for path in score.figure_files}


def test_what_cannot_be_computed_is_said_and_not_logged(model: Any, tmp_path: Path) -> None:
    sealed, data = make_test(30, [])
    sealed = replace(sealed, labels=np.minimum(sealed.labels, 1))
    score = score_sealed_test(alone(model), sealed, data, folder=tmp_path, seed=0, num_resamples=20)
    assert "lacks a class: auc" in score.warnings[0]
    assert "test_accuracy" in score.to_metrics()
    assert not {"test_auc", "test_auc_low"} & set(score.to_metrics())
