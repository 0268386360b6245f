"""An exponential moving average of a model's weights: what a trial is scored by, and what is registered"""

from __future__ import annotations

from collections import OrderedDict
from copy import deepcopy
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm
from torch.optim.swa_utils import get_ema_multi_avg_fn

AVERAGED_EPOCHS = 2.0
"""How many epochs' steps the average reaches back over, once it has seen several times as many."""
RENEWED = ("mobilenet_v3_small",)
"""Architectures whose average gets new statistics of batch normalisation after each epoch, trained from scratch.

Measured (benchmarks/LOG.md): their early epochs tell more so; small_cnn loses a little by it, pretrained ones much.
"""
MAX_RENEWING = 64
RENEWING_SHARE = 0.1
"""Of how many training images the new statistics are: no more than MAX_RENEWING, and than this share."""


def find_decay(steps_done: int, steps_per_epoch: int) -> float:
    """The decay of step `steps_done`, counted from 0, in [0.1, 1).

    It is 1 - 1 / (steps of AVERAGED_EPOCHS) in the end, and (1 + t) / (10 + t) at step t before, so that the average is
    rid of the weights that training began with (the `num_updates` of TensorFlow's ExponentialMovingAverage).
    """
    reach = max(2.0, AVERAGED_EPOCHS * steps_per_epoch)
    return min(1 - 1 / reach, (1 + steps_done) / (10 + steps_done))


class WeightAverage:
    """The moving average of `model`'s weights (Polyak and Juditsky 1992, with exponential weights) as a `model` itself.

    Statistics of batch normalisation are averaged in the same way as the weights that they belong to, which leaves
    those of frozen layers as they are; counters are copied. `renew_statistics` computes them from images instead.
    """

    def __init__(self, model: nn.Module) -> None:
        self.model = copy_model(model).requires_grad_(False).eval()

    def follow(self, model: nn.Module) -> None:
        """Average `model` from now on. Call it anew once either has been laid out otherwise in memory."""
        averages, currents = ([*module.parameters(), *module.buffers()] for module in (self.model, model))
        pairs = list(zip(averages, currents, strict=True))
        self._weights = [(a, c.detach()) for a, c in pairs if a.is_floating_point()]
        self._counters = [(a, c) for a, c in pairs if not a.is_floating_point()]

    @torch.no_grad()
    def update(self, decay: float) -> None:
        """Move to `decay` x average + (1 - decay) x what is followed, after a step."""
        get_ema_multi_avg_fn(decay)([a for a, _ in self._weights], [c for _, c in self._weights], 0)

    @torch.no_grad()
    def copy_counters(self) -> None:
        """Take over what has no average, such as the number of batches that normalisation has seen."""
        for average, current in self._counters:
            average.copy_(current)

    @torch.no_grad()
    def renew_statistics(self, model: nn.Module, images: Tensor) -> None:
        """Take the statistics of batch normalisation from one pass of `images`, a model's input (N, C, S, S).

        Only where `model`, which is followed, normalises by batches, too: frozen layers keep what they have.
        """
        renewed = []
        for average, current in zip(self.model.modules(), model.modules(), strict=True):
            if isinstance(average, _BatchNorm) and current.training and average.track_running_stats:
                renewed.append((average, average.momentum))
                average.momentum = 1.0
                average.train()
        self.model(images)
        for average, momentum in renewed:
            average.momentum = momentum
            average.eval()


def copy_model(model: nn.Module) -> nn.Module:
    """A deep copy of `model`, in half the time that `copy.deepcopy` takes: every trial begins with one.

    The modules themselves are made first, so that whatever refers to one finds its copy. Those that say how they are
    copied or pickled are left to `copy.deepcopy`.
    """
    modules = list(model.modules())
    if any(hasattr(m, "__deepcopy__") or type(m).__getstate__ is not nn.Module.__getstate__ for m in modules):
        return deepcopy(model)
    copies: dict[int, Any] = {id(module): module.__new__(type(module)) for module in modules}
    for module in modules:
        for name, value in module.__getstate__().items():
            is_empty = type(value) in (dict, OrderedDict) and not value  # most hooks
            vars(copies[id(module)])[name] = type(value)() if is_empty else deepcopy(value, copies)
    copied: nn.Module = copies[id(model)]
    return copied
