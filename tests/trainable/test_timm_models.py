from __future__ import annotations

import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import timm
import torch
from torch import nn

from tests.trainable.squares import make_squares
from trainable.architectures import build_model, check_image_size, check_weights, least_image_size
from trainable.classifier import Classifier
from trainable.config import TrialConfig, TrialSettings, is_timm
from trainable.explain import Explainer, export
from trainable.fine_tuning import freeze_layers, split_head
from trainable.served_model import ServedModel
from trainable.step_plan import measure_step_plan
from trainable.timm_models import check_timm_name, suggest_names
from trainable.to_onnx import write_onnx
from trainable.train import train

LITE = "timm:efficientnet_lite0"
SMALL = "timm:mobilenetv3_small_050"
VIT = "timm:vit_tiny_patch16_224"


@pytest.mark.parametrize("num_channels", [1, 3, 4])
@pytest.mark.parametrize("name", [LITE, SMALL, "timm:resnet10t", "timm:convnext_atto"])
def test_an_architecture_of_timms_has_the_classes_and_channels_asked_for(name: str, num_channels: int) -> None:
    assert is_timm(name)
    with torch.device("meta"):
        model = build_model(TrialConfig(architecture=name), 3, num_channels=num_channels).eval()
        assert model(torch.zeros(2, num_channels, 64, 64)).shape == (2, 3)
    assert least_image_size(name) == 32


def test_dropout_pooling_and_head_are_hyperparameters() -> None:
    config = TrialConfig(architecture=SMALL, dropout=0.4, pooling="avg_max")
    with torch.device("meta"):
        model = build_model(config, 2)
        deep = build_model(replace(config, head_depth=2, head_width=8), 2)
    assert model.drop_rate == 0.4
    assert getattr(model.global_pool, "pool_type", None) == "avgmax"
    widths = [module.out_features for module in deep.modules() if isinstance(module, nn.Linear)]
    assert widths == [8, 8, 2]
    dropouts = [module.p for module in deep.modules() if isinstance(module, nn.Dropout)]
    assert dropouts == [0.4] * 3
    with pytest.raises(ValueError, match="takes avg, max or avg_max"):
        build_model(replace(config, pooling="grid"), 2)


def test_an_unknown_name_suggests_near_ones() -> None:
    with pytest.raises(ValueError, match=r"no model 'efficientnetlite0'; near are timm:efficientnet_lite0"):
        build_model(TrialConfig(architecture="timm:efficientnetlite0"), 2)
    with pytest.raises(ValueError, match=r"no model 'hf_hub:someone/resnet18'"):  # which would be fetched
        check_timm_name("timm:hf_hub:someone/resnet18")
    with pytest.raises(ValueError, match="Invalid pretrained tag"):
        build_model(TrialConfig(architecture="timm:resnet18.none"), 2)
    assert suggest_names("effnet", ["resnet18"]) == []
    assert check_timm_name(f"{LITE}.ra_in1k") == "efficientnet_lite0.ra_in1k"


def test_without_timm_the_error_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "timm", None)
    with pytest.raises(ValueError, match=r"timm is not installed here: pip install 'ctsearch\[timm\]'"):
        build_model(TrialConfig(architecture=LITE), 2)


def test_a_model_of_one_size_says_which() -> None:
    config = TrialConfig(architecture=VIT)
    check_image_size(config, 224)
    with pytest.raises(ValueError, match=r"takes images of 224 px alone, got 128: give --image-size 224"):
        check_image_size(config, 128)


@pytest.mark.parametrize("num_channels", [1, 3])
def test_weights_come_from_a_file_of_timms_own_names(num_channels: int, tmp_path: Path) -> None:
    pretrained = timm.create_model("mobilenetv3_small_050", pretrained=False, num_classes=1000)
    torch.save(pretrained.state_dict(), tmp_path / "weights.pth")
    check_weights(SMALL, tmp_path / "weights.pth", num_channels=num_channels)
    config = TrialConfig(architecture=SMALL)
    ours = build_model(config, 2, num_channels=num_channels, weights=tmp_path / "weights.pth").eval()
    images = torch.rand(2, 1, 64, 64)
    kept: list[torch.Tensor] = []
    ours.get_submodule("classifier").register_forward_pre_hook(lambda module, given: kept.append(given[0]))
    pretrained.eval().classifier.register_forward_pre_hook(lambda module, given: kept.append(given[0]))
    ours(images.expand(-1, num_channels, -1, -1))
    pretrained(images.expand(-1, 3, -1, -1))
    found, expected = kept
    torch.testing.assert_close(found, expected, rtol=1e-3, atol=1e-5)
    with pytest.raises(ValueError, match=f"do not fit {LITE}"):
        check_weights(LITE, tmp_path / "weights.pth")


def test_frozen_layers_leave_those_inside_them_to_train() -> None:
    """A transformer holds its position embedding itself: were it put to evaluation, all of it would be."""
    model = build_model(TrialConfig(architecture=VIT, dropout=0.3), 2)
    backbone, head = split_head(model)
    frozen = freeze_layers(model, num_trained=4)
    model.train()
    for layer in frozen:
        layer.eval()
    assert all(layer.training for layer in [*backbone[-4:], *head])
    assert not dict(model.named_parameters())["pos_embed"].requires_grad
    assert [name for name, _ in model.named_parameters()][-1] == "head.bias"
    trained = {name.split(".")[0] for name, parameter in model.named_parameters() if parameter.requires_grad}
    assert trained == {"blocks", "norm", "head"}


def test_a_model_of_timms_trains_in_stages_and_is_served_explained_and_exported(tmp_path: Path) -> None:
    data = make_squares(tmp_path, count=24, size=32)
    config = TrialConfig(architecture=SMALL, unfreezing="staged", unfrozen_layers=6, batch_size=8)
    settings = TrialSettings(classes=data.classes, positive=1, image_size=32, max_epochs=2)
    plan = measure_step_plan(config, image_size=32, device=torch.device("cpu"), num_threads=1)
    *_, last = train(config, settings, data, plan=plan)
    assert last.finished and np.isfinite(last.value)
    model = ServedModel(build_model(config, 2))
    exported = export(model, 64)
    pixels = torch.randint(0, 256, (3, 64, 64), dtype=torch.uint8)
    with torch.inference_mode():
        torch.testing.assert_close(exported(pixels), model(pixels), rtol=1e-4, atol=1e-5)
    heat = Explainer(exported).explain(pixels)
    assert heat.shape == (3, 64, 64)
    classifier = Classifier(label="timm", classes=data.classes, image_size=64, predict=exported)
    assert write_onnx(classifier, tmp_path / "model.onnx") <= 1e-4
