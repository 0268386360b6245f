"""The end of a model: how its last feature map is pooled, and the layers between that and the logits."""

from __future__ import annotations

from torch import Tensor, nn
from torch.nn import functional as F

from trainable.config import TrialConfig

GRID = 4


class GlobalPooling(nn.Module):
    """Float (N, C, h, w) to (N, C, 1, 1): the mean, the maximum, or the mean of both; `grid` to (N, C, 4, 4), means."""

    def __init__(self, kind: str) -> None:
        super().__init__()
        self.kind = kind
        self.num_cells = GRID**2 if kind == "grid" else 1

    def forward(self, features: Tensor) -> Tensor:
        if self.kind in ("avg", "grid"):
            return F.adaptive_avg_pool2d(features, GRID if self.kind == "grid" else 1)
        highest = F.adaptive_max_pool2d(features, 1)
        return highest if self.kind == "max" else (highest + F.adaptive_avg_pool2d(features, 1)) / 2


class Head(nn.Sequential):
    """`head_depth` hidden layers with ReLU and dropout, then the logits: (N, features) to (N, num_classes)."""

    def __init__(self, num_features: int, num_classes: int, config: TrialConfig) -> None:
        layers: list[nn.Module] = []
        for _ in range(config.head_depth):
            layers += [nn.Dropout(config.dropout), nn.Linear(num_features, config.head_width), nn.ReLU(inplace=True)]
            num_features = config.head_width
        super().__init__(*layers, nn.Dropout(config.dropout), nn.Linear(num_features, num_classes))


def deepen_head(model: nn.Module, num_classes: int, config: TrialConfig) -> None:
    """Put hidden layers before the last linear layer of `model`, where `head_depth` asks for any.

    Raises ValueError for a model that does not end in a linear layer.
    """
    if config.head_depth == 0:
        return
    linear = [(name, module) for name, module in model.named_modules() if isinstance(module, nn.Linear)]
    if not linear:
        raise ValueError(f"head_depth is {config.head_depth}; {config.architecture} ends in no linear layer: give 0")
    name, last = linear[-1]
    replace_module(model, name, Head(last.in_features, num_classes, config))


def change_pooling(model: nn.Module, config: TrialConfig) -> None:
    """Pool the last feature map as `pooling` asks. Raises ValueError for a model without global pooling."""
    if config.pooling == "avg":
        return
    if config.pooling == "grid":
        raise ValueError(
            f"pooling is 'grid', which small_cnn alone has; {config.architecture} takes avg, max or avg_max"
        )
    pooling = GlobalPooling(config.pooling)
    whole = [
        name
        for name, module in model.named_modules()
        if "." not in name and isinstance(module, nn.AdaptiveAvgPool2d) and module.output_size in (1, (1, 1))
    ]
    features = getattr(model, "features", None)
    if whole:
        replace_module(model, whole[-1], pooling)
    elif config.architecture in POOLED_IN_FORWARD and isinstance(features, nn.Sequential):
        # Their forward takes the mean by a function: of what is one pixel already, it changes nothing.
        features.add_module("pooling", nn.Sequential(nn.ReLU(), pooling))
    else:
        raise ValueError(f"pooling is {config.pooling!r}; {config.architecture} has no global pooling: give 'avg'")


POOLED_IN_FORWARD = ("densenet121", "mobilenet_v2")
"""Both end in a ReLU, densenet121 after its features: taken before the pooling, it changes nothing either."""


def replace_module(model: nn.Module, name: str, module: nn.Module) -> None:
    parent, _, child = name.rpartition(".")
    setattr(model.get_submodule(parent), child, module)
