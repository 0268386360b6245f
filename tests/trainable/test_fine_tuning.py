from __future__ import annotations

from dataclasses import replace
from itertools import pairwise

import pytest
import torch
from torch import nn

from tests.trainable.test_loop import train_once
from trainable.architectures import ARCHITECTURES, build_model
from trainable.config import TrialConfig
from trainable.fine_tuning import count_trained, freeze_layers, list_layers, scale_learning_rates, split_head
from trainable.optimizers import build_optimizer

RESNET = TrialConfig(architecture="resnet50")
SMALL = TrialConfig(architecture="small_cnn", batch_size=8, cnn_filters=4)


@pytest.mark.parametrize("name", ARCHITECTURES)
def test_every_model_has_a_backbone_and_a_head_that_ends_it(name: str) -> None:
    with torch.device("meta"):
        model = build_model(TrialConfig(architecture=name), 2)
    backbone, head = split_head(model)
    assert len(backbone) >= 6
    assert 1 <= len(head) <= 3
    assert [*backbone, *head] == [module for _, module in list_layers(model)]
    assert sum(p.numel() for layer in [*backbone, *head] for p in layer.parameters(recurse=False)) == sum(
        p.numel() for p in model.parameters()
    )


@pytest.mark.parametrize(
    ("unfreezing", "counts"),
    [
        ("all", [100] * 5),
        ("frozen", [0] * 5),
        ("last", [12] * 5),
        ("staged", [0, 12, 12, 24, 24]),
        ("gradual", [0, 34, 67, 100, 100]),
    ],
)
def test_stages_are_fractions_of_the_training(unfreezing: str, counts: list[int]) -> None:
    config = replace(RESNET, unfreezing=unfreezing, unfrozen_layers=12, unfreeze_at=0.25, unfreeze_more_at=0.75)
    assert [count_trained(config, progress, 100) for progress in (0, 0.25, 0.5, 0.75, 0.99)] == counts
    assert count_trained(config, 0.99, 5) <= 5


def test_the_last_layers_of_resnet50_are_its_last_blocks() -> None:
    with torch.device("meta"):
        model = build_model(RESNET, 2)
    freeze_layers(model, 12)
    trained = {name.rsplit(".", 1)[0] for name, p in model.named_parameters() if p.requires_grad}
    blocks = {f"layer4.{block}.{part}{number}" for block in (1, 2) for part in ("conv", "bn") for number in (1, 2, 3)}
    assert trained == {*blocks, "fc"}, "Keras' last twenty layers, activations and padding counted, are these blocks"


def test_frozen_layers_keep_weights_and_statistics_and_are_thawed_again() -> None:
    torch.manual_seed(0)
    model = build_model(SMALL, 2)
    before = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    train_once(replace(SMALL, unfreezing="last", unfrozen_layers=2), 1, model)
    changed = {name for name, tensor in model.state_dict().items() if not torch.equal(tensor, before[name])}
    assert {name.rsplit(".", 1)[0] for name in changed} == {"features.8", "features.9", "classifier.1"}
    assert freeze_layers(model, 100) == []
    train_once(SMALL, 1, model)
    assert not torch.equal(model.state_dict()["features.0.weight"], before["features.0.weight"])
    assert not torch.equal(model.state_dict()["features.1.running_mean"], before["features.1.running_mean"])


def test_learning_rates_fall_geometrically_from_the_head_to_the_stem() -> None:
    model = build_model(SMALL, 2)
    factors = [factor for _, factor in scale_learning_rates(model, 0.01)]
    assert factors[0] == pytest.approx(0.01)
    assert factors[-1] == 1
    ratios = [after / before for before, after in pairwise(factors)]
    assert ratios == pytest.approx([ratios[0]] * len(ratios))


def test_a_decayed_learning_rate_reaches_the_layers() -> None:
    config = replace(SMALL, optimizer="sgd", momentum=0.0, weight_decay=0.0, layer_lr_decay=0.01)
    torch.manual_seed(0)
    model = build_model(config, 2)
    optimizer = build_optimizer(model, config)
    assert {group["lr_factor"] for group in optimizer.param_groups} == {
        factor for _, factor in scale_learning_rates(model, 0.01)
    }
    train_once(config, 1, model)
    rates = {}
    for whole in (1.0, 0.01):
        torch.manual_seed(0)
        model = build_model(config, 2)
        start = model.state_dict()["features.0.weight"].clone()
        train_once(replace(config, layer_lr_decay=whole, learning_rate=1e-4), 1, model)
        rates[whole] = float((model.state_dict()["features.0.weight"] - start).norm())
    assert rates[0.01] == pytest.approx(0.01 * rates[1.0], rel=0.05)


def test_a_model_of_one_layer_is_all_head() -> None:
    backbone, head = split_head(nn.Sequential(nn.Flatten(), nn.Linear(4, 2)))
    assert (len(backbone), len(head)) == (0, 1)
