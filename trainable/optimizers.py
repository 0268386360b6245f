"""What steers a training step: the optimiser, the learning-rate schedule and the weights of the classes."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn

from trainable.fine_tuning import scale_learning_rates

if TYPE_CHECKING:
    from collections.abc import Callable

    from trainable.config import TrialConfig

ONE_CYCLE_WARM_UP = 0.3  # of the schedule
ONE_CYCLE_START = 1 / 25  # of the peak


def build_optimizer(model: nn.Module, config: TrialConfig) -> torch.optim.Optimizer:
    """The optimiser that `config` names, over all weights of `model`, which lies on its device already.

    Biases and normalisation weights are not decayed (He et al. 2019, "Bag of Tricks", section 3.1). Each group of
    parameters has an `lr_factor`: whoever sets learning rates multiplies by it.
    """
    parameters = list(model.parameters())
    groups = _group_parameters(model, config)
    lr, momentum = config.learning_rate, config.momentum
    fused = all(parameter.device.type in ("cpu", "cuda") for parameter in parameters)
    if config.optimizer == "adam":
        return torch.optim.Adam(groups, lr=lr, fused=fused)
    if config.optimizer == "adamw":
        return torch.optim.AdamW(groups, lr=lr, fused=fused)
    if config.optimizer == "sgd":
        return torch.optim.SGD(groups, lr=lr, momentum=momentum, nesterov=momentum > 0, fused=fused)
    assert config.optimizer == "rmsprop"
    return torch.optim.RMSprop(groups, lr=lr, momentum=momentum)


def _group_parameters(model: nn.Module, config: TrialConfig) -> list[dict[str, Any]]:
    """By learning rate and by whether they are decayed."""
    layers = scale_learning_rates(model, config.layer_lr_decay)
    by_factor: dict[float, list[nn.Parameter]] = {}
    for layer, factor in layers:
        by_factor.setdefault(factor, []).extend(layer.parameters(recurse=False))
    groups = [
        {"params": [p for p in of_one if (p.ndim > 1) == is_decayed], "weight_decay": decay, "lr_factor": factor}
        for factor, of_one in by_factor.items()
        for is_decayed, decay in ((True, config.weight_decay), (False, 0.0))
    ]
    return [group for group in groups if group["params"]]


def build_lr_schedule(config: TrialConfig, max_epochs: int) -> Callable[[float], float]:
    """A function from epochs done, whole and part, to the learning rate, in closed form over `max_epochs`.

    `constant`; `cosine` from the peak to 0 (Loshchilov and Hutter 2017); `one_cycle`: a straight line from a
    25th of the peak up to it over the first 30 %, then a cosine to 0 (after Smith 2018).
    """
    peak = config.learning_rate

    def fall(part: float) -> float:
        return peak * (1 + math.cos(math.pi * part)) / 2

    def lr_at(epochs_done: float) -> float:
        progress = min(1.0, epochs_done / max_epochs)
        if config.lr_schedule == "constant":
            return peak
        if config.lr_schedule == "cosine":
            return fall(progress)
        assert config.lr_schedule == "one_cycle"
        if progress < ONE_CYCLE_WARM_UP:
            return peak * (ONE_CYCLE_START + (1 - ONE_CYCLE_START) * progress / ONE_CYCLE_WARM_UP)
        return fall((progress - ONE_CYCLE_WARM_UP) / (1 - ONE_CYCLE_WARM_UP))

    return lr_at


def weigh_classes(labels: Tensor, num_classes: int) -> Tensor:
    """Weights float32 (num_classes,) of the classes in `labels` int64 (N,), inverse to how often they occur.

    They are 1 where all classes are equally frequent.
    """
    counts = torch.bincount(labels, minlength=num_classes).clamp(min=1)
    return len(labels) / (num_classes * counts.float())
