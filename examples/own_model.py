"""An architecture of your own: `build(num_classes)` returns a module.

    ctsearch search --data slices/ --arch examples/own_model.py:build

It takes normalised grey images, float (N, 1, S, S), and returns logits (N, num_classes), for any N. It is searched like
any other: optimiser, learning rate, batch size and augmentation are drawn for it. Its text travels to the workers, so
it must stand in this one file. Whether it trains and can be registered is tried before the first trial.
"""

from __future__ import annotations

import torch
from torch import nn


class TinyResNet(nn.Module):
    """Three residual stages, each with twice the channels and half the resolution."""

    def __init__(self, num_classes: int, width: int = 16) -> None:
        super().__init__()
        self.stem = nn.Sequential(nn.Conv2d(1, width, 5, stride=2, padding=2), nn.BatchNorm2d(width), nn.ReLU())
        self.stages = nn.ModuleList(Stage(width * 2**i, width * 2 ** (i + 1)) for i in range(3))
        self.head = nn.Linear(width * 8, num_classes)

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        x = self.stem(images)
        for stage in self.stages:
            x = stage(x)
        return self.head(x.mean((2, 3)))


class Stage(nn.Module):
    """A convolution beside a strided projection, added."""

    def __init__(self, num_in: int, num_out: int) -> None:
        super().__init__()
        self.body = nn.Sequential(nn.Conv2d(num_in, num_out, 3, stride=2, padding=1), nn.BatchNorm2d(num_out))
        self.skip = nn.Conv2d(num_in, num_out, 1, stride=2)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return torch.relu(self.body(x) + self.skip(x))


def build(num_classes: int) -> nn.Module:
    return TinyResNet(num_classes)
