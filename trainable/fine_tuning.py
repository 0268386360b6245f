"""Which layers of a model train, and when: all, the head alone, the last few, or more of them in stages."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

from torch import nn

if TYPE_CHECKING:
    from trainable.config import TrialConfig


def list_layers(model: nn.Module) -> list[tuple[str, nn.Module]]:
    """Every module that holds weights itself, by name, from the stem to the last layer: what is a "layer" here."""
    return [(name, module) for name, module in model.named_modules() if any(True for _ in module.parameters(False))]


def split_head(model: nn.Module) -> tuple[list[nn.Module], list[nn.Module]]:
    """The layers of the backbone and those of the head: the part of the model, by its own names, that ends it.

    That is `fc`, `classifier` or `head` in torchvision's and timm's; in a user's own the child that holds the last
    layer.
    """
    layers = list_layers(model)
    head = layers[-1][0].partition(".")[0]
    is_head = [name.partition(".")[0] == head for name, _ in layers]
    backbone = [module for (_, module), in_head in zip(layers, is_head, strict=True) if not in_head]
    return backbone, [module for (_, module), in_head in zip(layers, is_head, strict=True) if in_head]


def count_trained(config: TrialConfig, progress: float, num_layers: int) -> int:
    """How many of a backbone's `num_layers`, counted from its end, train at `progress` (epochs done of max_epochs).

    `all`; `frozen`: none; `last`: the last `unfrozen_layers`; `staged`: none before `unfreeze_at`, then so many, and
    twice as many from `unfreeze_more_at` on; `gradual`: one after another from the end, all of them from
    `unfreeze_more_at` on (after Howard and Ruder 2018, "Universal Language Model Fine-tuning", section 3.3).
    """
    if config.unfreezing == "all":
        return num_layers
    if config.unfreezing == "frozen":
        wanted = 0
    elif config.unfreezing == "last":
        wanted = config.unfrozen_layers
    elif config.unfreezing == "staged":
        num_stages = (progress >= config.unfreeze_at) + (progress >= config.unfreeze_more_at)
        wanted = num_stages * config.unfrozen_layers
    else:
        assert config.unfreezing == "gradual"
        wanted = math.ceil(num_layers * min(1.0, progress / config.unfreeze_more_at))
    return min(wanted, num_layers)


def freeze_layers(model: nn.Module, num_trained: int) -> list[nn.Module]:
    """Let the head and the last `num_trained` layers of the backbone train, and no others; gives the frozen ones.

    Frozen weights get no gradient, so that optimisers pass them over. Batch normalisation that is frozen is to keep
    its statistics as well: call `eval` on the frozen layers after `model.train()`. A module with weights of its own
    around others, such as a transformer with its position embedding, is frozen but not given: `eval` would reach those.
    """
    backbone, head = split_head(model)
    num_frozen = max(0, len(backbone) - num_trained)
    for layer in [*backbone[num_frozen:], *head]:
        layer.requires_grad_(True)
    for layer in backbone[:num_frozen]:
        for parameter in layer.parameters(recurse=False):
            parameter.requires_grad_(False)
    return [layer for layer in backbone[:num_frozen] if next(layer.children(), None) is None]


def scale_learning_rates(model: nn.Module, decay: float) -> list[tuple[nn.Module, float]]:
    """Each layer with the factor of its learning rate: 1 in the head, `decay` in the stem, geometric in between.

    Layer-wise decay as in Howard and Ruder 2018, section 3.1 (there called discriminative fine-tuning), stated for the
    whole model, so that one value suits deep and shallow ones.
    """
    backbone, head = split_head(model)
    factors = [decay ** (1 - index / len(backbone)) for index in range(len(backbone))]
    return [*zip(backbone, factors, strict=True), *((layer, 1.0) for layer in head)]
