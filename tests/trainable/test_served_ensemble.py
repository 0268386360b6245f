from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from trainable.architectures import build_model
from trainable.calibration import UNCALIBRATED, TemperatureScaling, fit_temperature_if_better
from trainable.classifier import Classifier
from trainable.config import TrialConfig
from trainable.explain import Explainer, export
from trainable.served_ensemble import ServedEnsemble, TrainedEnsemble
from trainable.served_model import ServedModel
from trainable.to_onnx import write_onnx

SIZE = 32


def build_members() -> tuple[torch.nn.Module, ...]:
    torch.manual_seed(0)
    return tuple(build_model(TrialConfig(architecture=name), 2).eval() for name in ("small_cnn", "squeezenet1_1"))


@pytest.fixture
def pixels() -> np.ndarray:
    return np.random.default_rng(0).integers(0, 256, (5, SIZE, SIZE), dtype=np.uint8)


@pytest.mark.parametrize("temperature", [1.0, 2.5])
@pytest.mark.parametrize("is_mirrored", [False, True])
def test_what_is_served_is_the_calibrated_mean_of_its_members(
    pixels: np.ndarray, temperature: float, is_mirrored: bool
) -> None:
    members = build_members()
    trained = TrainedEnsemble(
        members=members, calibration=TemperatureScaling(temperature=temperature), is_mirrored=is_mirrored
    )
    expected = trained.predict(pixels, np.zeros(5, np.int64))
    served = trained.to_served()
    with torch.inference_mode():
        found = served(torch.from_numpy(pixels))
        views = [torch.from_numpy(pixels), torch.from_numpy(pixels).flip(-1)][: 1 + is_mirrored]
        each = torch.stack([ServedModel(member)(view) for member in members for view in views])
    np.testing.assert_allclose(found.numpy(), expected, atol=1e-6)
    if temperature == 1:
        torch.testing.assert_close(found, each.mean(dim=0))
    assert float(served.state_dict()["temperature"]) == temperature
    np.testing.assert_allclose(found.sum(dim=1).numpy(), 1, atol=1e-6)


def test_one_uncalibrated_member_is_its_served_model(pixels: np.ndarray) -> None:
    member = build_members()[0]
    with torch.inference_mode():
        found = ServedEnsemble([member])(torch.from_numpy(pixels))
        torch.testing.assert_close(found, ServedModel(member)(torch.from_numpy(pixels)), rtol=0, atol=0)


def test_it_is_one_onnx_file_and_is_explained_by_all_members(pixels: np.ndarray, tmp_path: Path) -> None:
    served = ServedEnsemble(build_members(), 2.0)
    graph = export(served, SIZE)
    classifier = Classifier(label="mean", classes=("healthy", "ill"), image_size=SIZE, predict=graph, threshold=0.3)
    assert write_onnx(classifier, tmp_path / "model.onnx") < 1e-4
    explainer = Explainer(graph)
    assert len(explainer.members) == 2
    heat = explainer.explain(torch.from_numpy(pixels))
    assert heat.shape == pixels.shape
    assert ((heat >= 0) & (heat <= 1)).all()
    alone = Explainer(export(ServedEnsemble(build_members()[:1]), SIZE)).explain(torch.from_numpy(pixels))
    assert not np.allclose(heat, alone), "the other member has its say"


@pytest.mark.parametrize("num_members", [1, 2])
def test_with_mirror_images_it_is_one_onnx_file_too_and_its_heat_lies_where_it_is_in_the_image(
    pixels: np.ndarray, num_members: int, tmp_path: Path
) -> None:
    members = build_members()[:num_members]
    graph = export(ServedEnsemble(members, 2.0, is_mirrored=True), SIZE)
    classifier = Classifier(label="mean", classes=("healthy", "ill"), image_size=SIZE, predict=graph, threshold=0.3)
    assert write_onnx(classifier, tmp_path / "model.onnx") < 1e-4
    shown = torch.from_numpy(pixels)
    found = graph(shown)
    torch.testing.assert_close(found, graph(shown.flip(2)))
    heat = Explainer(graph).explain(shown)
    assert heat.shape == pixels.shape
    np.testing.assert_allclose(heat, Explainer(graph).explain(shown.flip(2))[:, :, ::-1], atol=1e-5)
    plain = export(ServedEnsemble(members, 2.0), SIZE)
    called = found.argmax(dim=1)
    alike = (plain(shown).argmax(dim=1) == called) & (plain(shown.flip(2)).argmax(dim=1) == called)
    assert alike.any()
    sides = [Explainer(plain).explain(view) for view in (shown, shown.flip(2))]
    if num_members == 1:
        mean = (sides[0] + sides[1][:, :, ::-1]) / 2
        mean /= mean.max(axis=(1, 2), keepdims=True)
        np.testing.assert_allclose(heat[alike], mean[alike], atol=1e-5)


def test_a_temperature_is_kept_only_where_it_helps_patients_it_was_not_fitted_on() -> None:
    rng = np.random.default_rng(0)
    patients = np.repeat(np.arange(100), 3)
    truth = rng.uniform(0.05, 0.95, 100)[patients]
    labels = (rng.random(300) < truth).astype(int)
    honest = np.stack([1 - truth, truth], axis=1)
    bold = TemperatureScaling(temperature=0.25).apply(honest)
    assert fit_temperature_if_better(labels, bold, patients).temperature == pytest.approx(4, rel=0.4)
    one_patient = np.zeros(300, int)
    assert fit_temperature_if_better(labels, bold, one_patient) == UNCALIBRATED, "nothing can be cross-fitted"
