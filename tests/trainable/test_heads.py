from __future__ import annotations

from pathlib import Path

import pytest
import torch
from torch import nn

from trainable.architectures import ARCHITECTURES, build_model
from trainable.config import TrialConfig
from trainable.heads import GlobalPooling, Head
from trainable.weights import load_weights

GLOBALLY_POOLED = [name for name in ARCHITECTURES if not name.startswith("vgg")]
IN_LINEAR = [name for name in ARCHITECTURES if name != "squeezenet1_1"]


def test_poolings_are_the_mean_the_maximum_and_the_mean_of_both() -> None:
    features = torch.tensor([[[[0.0, 2.0], [4.0, 6.0]]]])
    pooled = {kind: float(GlobalPooling(kind)(features)) for kind in ("avg", "max", "avg_max")}
    assert pooled == {"avg": 3.0, "max": 6.0, "avg_max": 4.5}


@pytest.mark.parametrize("name", GLOBALLY_POOLED)
def test_every_globally_pooled_model_takes_every_pooling(name: str) -> None:
    images = torch.rand(2, 1, 64, 64)
    logits = {}
    for kind in ("avg", "max", "avg_max"):
        torch.manual_seed(0)
        logits[kind] = build_model(TrialConfig(architecture=name, pooling=kind), 2).eval()(images)
    assert logits["max"].shape == (2, 2)
    assert not torch.equal(logits["avg"], logits["max"])
    assert not torch.equal(logits["avg"], logits["avg_max"])


@pytest.mark.parametrize("name", ["densenet121", "mobilenet_v2"])
def test_a_model_that_pools_in_its_forward_sees_the_maximum(name: str) -> None:
    torch.manual_seed(0)
    stock = build_model(TrialConfig(architecture=name), 2).eval()
    torch.manual_seed(0)
    changed = build_model(TrialConfig(architecture=name, pooling="max"), 2).eval()
    images = torch.rand(2, 1, 64, 64)
    highest = stock.get_submodule("features")(images).relu().amax(dim=(2, 3))
    torch.testing.assert_close(changed(images), stock.get_submodule("classifier")(highest))


@pytest.mark.parametrize("name", IN_LINEAR)
def test_a_deeper_head_lies_before_the_logits(name: str) -> None:
    config = TrialConfig(architecture=name, head_depth=2, head_width=32)
    model = build_model(config, 3).eval()
    (head,) = [module for module in model.modules() if isinstance(module, Head) and len(module) > 2]
    assert [(m.in_features, m.out_features) for m in head if isinstance(m, nn.Linear)][1:] == [(32, 32), (32, 3)]
    assert model(torch.rand(2, 1, 64, 64)).shape == (2, 3)


def test_what_a_model_cannot_have_is_an_error_that_says_what_to_give() -> None:
    with pytest.raises(ValueError, match="vgg16 has no global pooling: give 'avg'"):
        build_model(TrialConfig(architecture="vgg16", pooling="max"), 2)
    with pytest.raises(ValueError, match="squeezenet1_1 ends in no linear layer: give 0"):
        build_model(TrialConfig(architecture="squeezenet1_1", head_depth=1), 2)


def test_weights_of_the_stock_model_fit_below_a_deeper_head(tmp_path: Path) -> None:
    stock = build_model(TrialConfig(architecture="resnet18"), 1000)
    torch.save(stock.state_dict(), tmp_path / "weights.pth")
    deeper = build_model(TrialConfig(architecture="resnet18", head_depth=1, pooling="max"), 2)
    num_taken = load_weights(deeper, tmp_path / "weights.pth", "resnet18")
    assert num_taken == len(stock.state_dict()) - 2
    assert torch.equal(deeper.state_dict()["layer4.1.conv2.weight"], stock.state_dict()["layer4.1.conv2.weight"])
