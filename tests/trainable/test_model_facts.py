from __future__ import annotations

import re
from dataclasses import replace

import pytest
import torch

from trainable import model_facts
from trainable.architectures import ARCHITECTURES, build_model
from trainable.config import TrialConfig
from trainable.model_facts import measure_model, summarise_layers
from trainable.recipes import RECIPES

CNN = RECIPES["cnn-rmsprop"].config


def test_layers_have_their_shapes_and_parameters() -> None:
    summary = summarise_layers("squeezenet1_1", image_size=96)
    model = build_model(TrialConfig(architecture="squeezenet1_1"), 2)
    assert summary.total_params == sum(parameter.numel() for parameter in model.parameters())
    first = 64 * 47 * 47 * (9 + 1)  # 3 x 3 filters over grey, and a bias
    assert f"[1, 64, 47, 47] 640 {first:,}" in " ".join(str(summary).split())


def test_a_model_is_measured_by_training_it() -> None:
    facts = measure_model("small_cnn", image_size=32, batch_size=4, num_threads=1)
    assert facts.images_per_s > 0
    assert facts.num_mult_adds > facts.num_parameters > 0
    assert facts.step_bytes > 4 * 4 * facts.num_parameters, "weights, gradients and two moments at least"
    assert facts.plan.partition(",")[0] in ("fp32", "bf16")
    twice = measure_model("small_cnn", image_size=32, batch_size=8, num_threads=1)
    assert twice.step_bytes > facts.step_bytes


def test_images_too_small_for_a_model_are_refused() -> None:
    assert ARCHITECTURES["resnet18"].min_image_size > 16
    with pytest.raises(ValueError, match="resnet18 needs images of 32 px or more, got 16"):
        summarise_layers("resnet18", image_size=16)


def test_what_a_machine_cannot_train_is_reported_before_it_is_tried(monkeypatch: pytest.MonkeyPatch) -> None:
    assert model_facts.find_obstacle(CNN, image_size=32) == ""
    assert "needs images of 27 px" in model_facts.find_obstacle(CNN, image_size=16)
    too_large = replace(CNN, batch_size=65536, cnn_filters=1024)
    output = model_facts.find_obstacle(too_large, image_size=32)
    assert re.fullmatch(r"a training step of 65536 images of 32 px needs [\d.]+ GB, and [\d.]+ GB are free .*", output)

    def fail(*_: object, **__: object) -> tuple[float, int]:
        raise MemoryError("fails on purpose")

    monkeypatch.setattr(model_facts, "pick_device", lambda: torch.device("cuda"))
    monkeypatch.setattr(model_facts, "_train_for_a_moment", fail)
    assert model_facts.find_obstacle(TrialConfig(architecture="resnet18"), image_size=32) == "fails on purpose"
