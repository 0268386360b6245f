from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
import torch
from torch import nn
from torchvision import models

from trainable.architectures import (
    ARCHITECTURES,
    DropoutLinear,
    build_model,
    check_image_size,
    check_output,
    check_weights,
)
from trainable.config import TrialConfig, is_own_model

LARGE = {"resnet152", "vgg16", "vgg16_bn"}  # seconds to fill with fresh weights
OWN_MODEL = """
from __future__ import annotations
from dataclasses import dataclass
from torch import nn

@dataclass
class Sizes:
    hidden: int = 4

def build(num_classes: int) -> nn.Module:
    return nn.Sequential(nn.Flatten(), nn.LazyLinear(Sizes().hidden), nn.Linear(4, num_classes))
"""


@pytest.mark.parametrize("name", ARCHITECTURES)
def test_every_model_takes_grey_images_of_its_least_size(name: str) -> None:
    config = TrialConfig(architecture=name)
    size = max(ARCHITECTURES[name].min_image_size, 8)
    with torch.device("meta" if name in LARGE else "cpu"):
        model = build_model(config, 3).eval()
        assert model(torch.zeros(2, 1, size, size)).shape == (2, 3)


@pytest.mark.parametrize("name", sorted(set(ARCHITECTURES) - LARGE))
def test_every_model_has_the_dropout_of_its_configuration(name: str) -> None:
    config = TrialConfig(architecture=name, dropout=0.9)
    model = build_model(config, 2).eval()
    images = torch.rand(2, 1, 64, 64)
    strengths = [module.p for module in model.modules() if isinstance(module, nn.Dropout)]
    strengths += [module.dropout for module in model.modules() if isinstance(module, DropoutLinear)]
    assert strengths == [0.9]
    assert torch.equal(model(images), model(images))


@pytest.mark.parametrize("name", sorted(set(ARCHITECTURES) - LARGE - {"small_cnn"}))
def test_modules_keep_the_names_of_torchvision(name: str) -> None:
    with torch.device("meta"):
        ours = build_model(TrialConfig(architecture=name), 1000)
        theirs = models.get_model(name, weights=None)
    assert list(ours.state_dict()) == list(theirs.state_dict())


def test_a_grey_model_computes_what_the_rgb_model_does_on_three_equal_channels() -> None:
    config = TrialConfig(architecture="mobilenet_v2")
    torch.manual_seed(3)
    ours = build_model(config, 5).eval()
    torch.manual_seed(3)
    theirs = models.mobilenet_v2(weights=None, num_classes=5).eval()
    images = torch.rand(2, 1, 64, 64)
    torch.testing.assert_close(ours(images), theirs(images.expand(-1, 3, -1, -1)), rtol=1e-4, atol=1e-6)


def test_the_logits_of_squeezenet_can_be_negative() -> None:
    torch.manual_seed(0)
    model = build_model(TrialConfig(architecture="squeezenet1_1"), 2).eval()
    assert (model(torch.randn(16, 1, 64, 64)) < 0).any()


def test_an_unknown_name_lists_the_known() -> None:
    with pytest.raises(ValueError, match=r"alexnet.*small_cnn, squeezenet1_1.*FILE.py:FUNCTION"):
        build_model(TrialConfig(architecture="alexnet"), 2)


def test_a_small_cnn_deeper_than_its_images_allow_is_refused() -> None:
    config = TrialConfig(architecture="small_cnn", cnn_depth=6)
    check_image_size(config, 64)
    with pytest.raises(ValueError, match="64 px or more, got 63"):
        check_image_size(config, 63)
    with pytest.raises(ValueError, match="32 px or more"):
        check_image_size(TrialConfig(architecture="resnet18"), 31)


@pytest.mark.parametrize("kernel", [1, 2, 3, 5])
def test_the_hyperparameters_shape_the_small_cnn(kernel: int) -> None:
    config = TrialConfig(architecture="small_cnn", cnn_depth=4, cnn_filters=6, cnn_kernel=kernel)
    model = build_model(config, 2).eval()
    kernels = [m.weight.shape for m in model.modules() if isinstance(m, nn.Conv2d)]
    filters = [(1, 6), (6, 12), (12, 24), (24, 48)]
    assert kernels == [(num_out, num_in, kernel, kernel) for num_in, num_out in filters]
    assert model(torch.zeros(1, 1, 32, 32)).shape == (1, 2)


def test_the_same_seed_gives_the_same_model() -> None:
    config = TrialConfig(architecture="small_cnn")
    models = []
    for _ in range(2):
        torch.manual_seed(7)
        models.append(build_model(config, 2).state_dict())
    assert all(torch.equal(models[0][name], models[1][name]) for name in models[0])


def test_a_users_own_model_is_built_from_the_text_of_its_file() -> None:
    config = TrialConfig(architecture="my_model.py:build")
    assert is_own_model(config.architecture)
    model = build_model(config, 3, source=OWN_MODEL)
    check_output(model, 3, 16)
    check_image_size(config, 16)


def test_what_is_wrong_with_a_users_own_model_is_said() -> None:
    config = TrialConfig(architecture="my_model.py:build")
    with pytest.raises(ValueError, match=r"pass the text of my_model\.py"):
        build_model(config, 2)
    with pytest.raises(ValueError, match="cannot be run: NameError"):
        build_model(config, 2, source="nonsense")
    with pytest.raises(ValueError, match="no function make"):
        build_model(replace(config, architecture="my_model.py:make"), 2, source=OWN_MODEL)
    with pytest.raises(ValueError, match="gave a int"):
        build_model(config, 2, source="def build(num_classes):\n    return 1")
    with pytest.raises(ValueError, match=r"\(2, 3\); it must give logits of shape \(2, 2\)"):
        check_output(build_model(config, 3, source=OWN_MODEL), 2, 16)
    with pytest.raises(ValueError, match="does not take"):
        check_output(nn.Conv2d(3, 2, 3), 2, 16)


def test_weights_are_checked_at_the_door(tmp_path: Path) -> None:
    model = build_model(TrialConfig(architecture="small_cnn"), 7)
    torch.save(model.state_dict(), tmp_path / "fits.pth")
    state = torch.random.get_rng_state()
    check_weights("small_cnn", tmp_path / "fits.pth")
    assert torch.equal(state, torch.random.get_rng_state())
    with pytest.raises(ValueError, match="do not fit squeezenet1_1"):
        check_weights("squeezenet1_1", tmp_path / "fits.pth")
    with pytest.raises(ValueError, match=r"--weights small_cnn is .* there is no file"):
        check_weights("small_cnn", tmp_path / "none.pth")


@pytest.mark.parametrize("num_channels", [2, 3, 5])
@pytest.mark.parametrize("name", ARCHITECTURES)
def test_every_architecture_takes_any_number_of_channels(name: str, num_channels: int) -> None:
    size = max(ARCHITECTURES[name].min_image_size, 8)
    with torch.device("meta"):
        model = build_model(TrialConfig(architecture=name), 3, num_channels=num_channels).eval()
        assert model(torch.zeros(2, num_channels, size, size)).shape == (2, 3)


def test_a_model_for_three_channels_is_torchvisions_own() -> None:
    torch.manual_seed(3)
    ours = build_model(TrialConfig(architecture="mobilenet_v2"), 5, num_channels=3).eval()
    torch.manual_seed(3)
    theirs = models.mobilenet_v2(weights=None, num_classes=5).eval()
    images = torch.rand(2, 3, 64, 64)
    assert torch.equal(ours(images), theirs(images))


def test_no_two_channels_of_fresh_weights_begin_alike() -> None:
    model = build_model(TrialConfig(architecture="resnet18"), 2, num_channels=7)
    kernel = next(module for module in model.modules() if isinstance(module, nn.Conv2d)).weight
    assert kernel.shape[1] == 7
    for first in range(7):
        assert not any(torch.equal(kernel[:, first], kernel[:, other]) for other in range(first))


def test_a_users_own_model_may_take_the_number_of_channels() -> None:
    config = TrialConfig(architecture="my_model.py:build")
    source = """
from torch import nn

def build(num_classes, num_channels=1):
    return nn.Sequential(nn.Conv2d(num_channels, 4, 3), nn.Flatten(), nn.LazyLinear(num_classes))
"""
    for num_channels in (1, 3):
        check_output(build_model(config, 2, num_channels=num_channels, source=source), 2, 16, num_channels)
    grey_alone = "from torch import nn\ndef build(num_classes):\n    return nn.Sequential(nn.Conv2d(1, 4, 3))"
    with pytest.raises(ValueError, match=r"\(2, 3, 16, 16\); let its function take num_channels"):
        check_output(build_model(config, 2, num_channels=3, source=grey_alone), 2, 16, 3)
