"""Every architecture by its name: our small CNN, those of torchvision and timm, the user's own file."""

from __future__ import annotations

import hashlib
import sys
from dataclasses import dataclass, replace
from functools import partial
from inspect import signature
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torchvision import models

from trainable.config import TrialConfig, is_own_model, is_timm
from trainable.files import check_regular_file
from trainable.heads import GlobalPooling, change_pooling, deepen_head, replace_module
from trainable.small_cnn import SmallCNN
from trainable.timm_models import MIN_IMAGE_SIZE, build_timm_model, fixed_image_size
from trainable.weights import WeightSource, load_weights, sum_over_rgb

if TYPE_CHECKING:
    from collections.abc import Callable


@dataclass(frozen=True, kw_only=True)
class Architecture:
    """One architecture: `build(config, num_classes, num_channels)` gives a model with fresh weights, which takes float
    (N, num_channels, S, S) to logits (N, num_classes).

    `min_image_size` is the least S in pixels. `cpu_friendly` models train in minutes on 2 CPU cores.
    """

    name: str
    build: Callable[[TrialConfig, int, int], nn.Module]
    min_image_size: int = 32
    cpu_friendly: bool = False


class DropoutLinear(nn.Linear):
    """A linear layer behind dropout, under one module name: state dicts of the plain layer fit."""

    def __init__(self, in_features: int, out_features: int, *, dropout: float) -> None:
        super().__init__(in_features, out_features)
        self.dropout = dropout

    def forward(self, features: Tensor) -> Tensor:
        return super().forward(F.dropout(features, self.dropout, self.training))


def _build_torchvision(
    config: TrialConfig,
    num_classes: int,
    num_channels: int,
    *,
    constructor: Callable[..., nn.Module],
    takes_dropout: bool = True,
) -> nn.Module:
    options: dict[str, Any] = {"dropout": config.dropout} if takes_dropout else {}
    model = constructor(weights=None, num_classes=num_classes, **options)
    if not takes_dropout and config.head_depth == 0:
        _put_dropout_before_last_linear(model, config.dropout)
    change_first_convolution(model, num_channels)
    change_pooling(model, config)
    deepen_head(model, num_classes, config)
    return model


def _put_dropout_before_last_linear(model: nn.Module, dropout: float) -> None:
    name, last = [(name, module) for name, module in model.named_modules() if isinstance(module, nn.Linear)][-1]
    layer = DropoutLinear(last.in_features, last.out_features, dropout=dropout)
    layer.load_state_dict(last.state_dict())
    replace_module(model, name, layer)


def change_first_convolution(model: nn.Module, num_channels: int) -> None:
    """Let a fresh RGB model take images of `num_channels`: one takes the sum of its kernel over RGB.

    More take the kernel's own planes in turn, each time over with the filters moved on by one, so that no two channels
    begin alike and all with the deviation that the model's author chose.
    """
    if num_channels == 3:
        return
    convolution = next(module for module in model.modules() if isinstance(module, nn.Conv2d))
    kernel = convolution.weight.detach()
    if num_channels == 1:
        kernel = sum_over_rgb(kernel)
    else:
        kernel = torch.stack([kernel[:, c % 3].roll(c // 3, dims=0) for c in range(num_channels)], dim=1)
    convolution.weight = nn.Parameter(kernel)
    convolution.in_channels = num_channels


def _build_squeezenet(config: TrialConfig, num_classes: int, num_channels: int) -> nn.Module:
    stock_pooling = config if config.pooling == "grid" else replace(config, pooling="avg")
    model = _build_torchvision(stock_pooling, num_classes, num_channels, constructor=models.squeezenet1_1)
    # torchvision ends in a ReLU over the logits. With few classes they easily all go below zero, where the
    # model gives the same answer for every image and no gradient leads back.
    replace_module(model, "classifier.2", nn.Identity())
    if config.pooling not in ("avg", "grid"):
        replace_module(model, "classifier.3", GlobalPooling(config.pooling))
    return model


def _torchvision(name: str, *, cpu_friendly: bool = False, takes_dropout: bool = True) -> Architecture:
    build = partial(_build_torchvision, constructor=getattr(models, name), takes_dropout=takes_dropout)
    return Architecture(name=name, build=build, cpu_friendly=cpu_friendly)


ARCHITECTURES: dict[str, Architecture] = {
    architecture.name: architecture
    for architecture in (
        Architecture(name="small_cnn", build=SmallCNN, min_image_size=2, cpu_friendly=True),
        Architecture(name="squeezenet1_1", build=_build_squeezenet, cpu_friendly=True),
        _torchvision("mobilenet_v3_small", cpu_friendly=True),
        _torchvision("mobilenet_v2", cpu_friendly=True),
        _torchvision("resnet18", cpu_friendly=True, takes_dropout=False),
        _torchvision("resnet34", takes_dropout=False),
        _torchvision("resnet50", takes_dropout=False),
        _torchvision("resnet152", takes_dropout=False),
        _torchvision("densenet121", takes_dropout=False),
        _torchvision("efficientnet_b0"),
        _torchvision("vgg16"),
        _torchvision("vgg16_bn"),
        _torchvision("convnext_tiny", takes_dropout=False),
    )
}


def build_model(
    config: TrialConfig,
    num_classes: int,
    *,
    num_channels: int = 1,
    weights: WeightSource | None = None,
    source: str | None = None,
) -> nn.Module:
    """Build the model that `config` names: normalised float (N, num_channels, S, S) -> logits (N, num_classes).

    Fresh weights come from torch's global generator: seed it first. `weights` is a pretrained state dict
    (see `weights.load_weights`). `source` is the text of the user's file when `config.architecture` is
    "FILE.py:FUNCTION"; the function takes num_classes, and num_channels if it has a parameter of that name, and
    returns the model. Raises ValueError for an unknown
    name, for a user's file that does not give a model, and for weights that do not fit.
    """
    if is_own_model(config.architecture):
        model = _build_own_model(config.architecture, source, num_classes, num_channels)
    elif is_timm(config.architecture):
        model = build_timm_model(config, num_classes, num_channels)
        deepen_head(model, num_classes, config)
    elif config.architecture in ARCHITECTURES:
        model = ARCHITECTURES[config.architecture].build(config, num_classes, num_channels)
    else:
        raise ValueError(
            f"unknown architecture {config.architecture!r}; it must be one of {', '.join(ARCHITECTURES)}, "
            "one of timm's as timm:NAME, or your own model as FILE.py:FUNCTION"
        )
    if weights is not None:
        load_weights(model, weights, config.architecture)
    return model


def least_image_size(architecture: str) -> int:
    """The least side in pixels of the images that a known architecture takes."""
    if is_timm(architecture):
        return fixed_image_size(architecture) or MIN_IMAGE_SIZE
    return ARCHITECTURES[architecture].min_image_size


def check_image_size(config: TrialConfig, image_size: int) -> None:
    """Raise ValueError where the model of `config` would shrink images of `image_size` below 1 pixel."""
    if is_own_model(config.architecture):
        return
    if is_timm(config.architecture) and (side := fixed_image_size(config.architecture)) not in (None, image_size):
        raise ValueError(
            f"{config.architecture} takes images of {side} px alone, got {image_size}: give --image-size {side}"
        )
    least = least_image_size(config.architecture)
    advice = "choose a larger image size"
    if config.architecture == "small_cnn":
        least = config.cnn_pool**config.cnn_depth
        advice += " or a smaller cnn_depth"
    if image_size < least:
        raise ValueError(f"{config.architecture} needs images of {least} px or more, got {image_size}: {advice}")


def check_builds(config: TrialConfig, image_size: int | None = None) -> None:
    """Raise ValueError where the model of `config` cannot be built, or not for images of `image_size`; it is built
    without memory for its weights. A user's own model is not tried."""
    if image_size is not None:
        check_image_size(config, image_size)
    if not is_own_model(config.architecture):
        with torch.device("meta"):
            build_model(config, 2)


def check_weights(architecture: str, path: Path, *, num_channels: int = 1, source: str | None = None) -> None:
    """Raise ValueError unless `path` is a regular file of weights that fit: the check at the door.

    `source` is the text of the user's file when the architecture is "FILE.py:FUNCTION".
    """
    check_regular_file(path, f"--weights {architecture}")
    with torch.random.fork_rng(devices=[]):
        build_model(TrialConfig(architecture=architecture), 2, num_channels=num_channels, weights=path, source=source)


def check_output(model: nn.Module, num_classes: int, image_size: int, num_channels: int = 1) -> None:
    """Raise ValueError unless `model` turns (2, num_channels, image_size, image_size) into logits (2, num_classes)."""
    shape = (2, num_channels, image_size, image_size)
    was_training = model.training
    model.eval()
    try:
        with torch.no_grad():
            logits = model(torch.zeros(shape))
    except RuntimeError as error:
        advice = "" if num_channels == 1 else "; let its function take num_channels too"
        raise ValueError(f"the model does not take float images of shape {shape}{advice}: {error}") from error
    finally:
        model.train(was_training)
    came = tuple(logits.shape) if isinstance(logits, Tensor) else type(logits).__name__
    if came != (2, num_classes):
        raise ValueError(
            f"the model answers 2 images with {came}; it must give logits of shape (2, {num_classes}): "
            "end it in a layer with num_classes outputs"
        )


def _build_own_model(architecture: str, source: str | None, num_classes: int, num_channels: int) -> nn.Module:
    file, _, function = architecture.rpartition(":")
    if source is None:
        raise ValueError(f"{architecture} is a model of your own: pass the text of {file} as `source`")
    # Registered under a name of its own: dataclasses and pickle look a class up through sys.modules.
    name = f"{Path(file).stem}_{hashlib.sha256(source.encode()).hexdigest()[:12]}"
    module = ModuleType(name)
    sys.modules[name] = module
    try:
        exec(compile(source, file, "exec"), module.__dict__)
    except (Exception, SystemExit) as error:
        raise ValueError(f"{file} cannot be run: {_in_a_line(error)}") from error
    build = getattr(module, function, None)
    if not callable(build):
        raise ValueError(f"{file} has no function {function}; it must define {function}(num_classes) -> nn.Module")
    try:
        takes_channels = "num_channels" in signature(build).parameters
        model = build(num_classes, num_channels=num_channels) if takes_channels else build(num_classes)
    except (Exception, SystemExit) as error:
        raise ValueError(f"{architecture} builds no model: {_in_a_line(error)}") from error
    if not isinstance(model, nn.Module):
        raise ValueError(f"{architecture} gave a {type(model).__name__}; it must return a torch.nn.Module")
    return model


def _in_a_line(error: BaseException) -> str:
    words = next((line.strip() for line in str(error).splitlines() if line.strip()), "")
    return f"{type(error).__name__}: {words[:300]}" if words else type(error).__name__
