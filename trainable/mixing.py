"""MixUp and CutMix: images of a batch mixed with each other, and their targets with them"""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from trainable.intensity import mark_squares


def mix_batch(
    images: Tensor,
    targets: Tensor,
    *,
    num_classes: int,
    mixup: float,
    cutmix: float,
    rng: np.random.Generator,
    part: slice = slice(None),
    num_drawn: int | None = None,
) -> tuple[Tensor, Tensor]:
    """Mix every image of a batch, float (N, 1, S, S), with its neighbour; targets int64 (N,) become float (N, C).

    With `mixup` the grey levels are averaged (Zhang et al. 2018), with `cutmix` a square of the neighbour is pasted in
    (Yun et al. 2019); each is the parameter of a Beta distribution, 0 switches it off, and with both each batch has
    one or the other. An image weighs at least as much as its neighbour, so that its own target stays the first one.
    Draws from `rng` alone, for `num_drawn` images of which these are a `part`; neighbours are within the part.
    """
    num_drawn = len(images) if num_drawn is None else num_drawn
    is_cutmix = cutmix > 0 and (mixup == 0 or rng.random() < 0.5)
    alpha = cutmix if is_cutmix else mixup
    drawn = rng.beta(alpha, alpha, num_drawn)
    centres = rng.random((2, num_drawn))

    def place(values: np.ndarray) -> Tensor:
        return torch.from_numpy(values[part].astype(np.float32)).to(images.device)

    neighbours = images.roll(1, 0)
    kept = place(np.maximum(drawn, 1 - drawn))
    if is_cutmix:
        is_pasted = mark_squares(place(centres[0]), place(centres[1]), (1 - kept).sqrt(), images.shape[-1])
        mixed = torch.where(is_pasted, neighbours, images)
        kept = 1 - is_pasted.float().mean(dim=(1, 2, 3))
    else:
        mixed = neighbours.lerp(images, kept.view(-1, 1, 1, 1))
    own = F.one_hot(targets, num_classes).float()
    return mixed, own.roll(1, 0).lerp(own, kept.view(-1, 1))
