"""Augmentation of batches on the trial's device: every transform, and the geometric ones in one resampling"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from trainable.intensity import cut_out, jitter_intensity
from trainable.loop import derive_seed
from trainable.mixing import mix_batch

if TYPE_CHECKING:
    from collections.abc import Sequence

    from trainable.config import TrialConfig
    from trainable.images.windows import Window

MAX_ROTATION = math.radians(20)
MAX_SHIFT = 0.1  # of the image's side
MAX_SHEAR = math.radians(10)
MAX_ZOOM = 0.15
MAX_FLIP_CHANCE = 0.5  # reached at half strength

_MOVES, _GREY_LEVELS, _MIXING = 2, 100, 101  # streams of random numbers; those from 3 on are dropout's, by rank


class Augmentation:
    """All the random transforms of one epoch by `config`, drawn from (`seed`, `epoch`) on `device`.

    `windows` are those of the channels where these show Hounsfield units, else ().
    """

    def __init__(
        self,
        config: TrialConfig,
        *,
        num_classes: int,
        seed: int,
        epoch: int,
        device: torch.device,
        windows: Sequence[Window] = (),
    ) -> None:
        self._config = config
        self._windows = windows
        self._num_classes = num_classes
        self._moves, self._grey_levels = (
            torch.Generator(device=device).manual_seed(derive_seed(seed, epoch, stream))
            for stream in (_MOVES, _GREY_LEVELS)
        )
        self._mixing = np.random.default_rng([seed, epoch, _MIXING])

    def __call__(self, images: Tensor, targets: Tensor, part: slice) -> tuple[Tensor, Tensor]:
        """Transform normalised images (n, C, S, S), which are a `part` of a batch with `targets` int64 (N,).

        Returns them with their targets: int64 (n,), or shares of the classes float (n, num_classes) where images of
        a part are mixed.
        """
        config, num_drawn, targets_of_part = self._config, len(targets), targets[part]
        images = augment(images, config.augmentation, self._moves, part=part, num_drawn=num_drawn)
        images = jitter_intensity(
            images, config.intensity, self._grey_levels, part=part, num_drawn=num_drawn, windows=self._windows
        )
        images = cut_out(images, config.cutout, self._grey_levels, part=part, num_drawn=num_drawn)
        if config.mixup == config.cutmix == 0:
            return images, targets_of_part
        return mix_batch(
            images,
            targets_of_part,
            num_classes=self._num_classes,
            mixup=config.mixup,
            cutmix=config.cutmix,
            rng=self._mixing,
            part=part,
            num_drawn=num_drawn,
        )


def augment(
    images: Tensor,
    strength: float,
    generator: torch.Generator,
    *,
    part: slice = slice(None),
    num_drawn: int | None = None,
) -> Tensor:
    """Move every image of a batch, float (N, C, S, S) on any device, by its own random affine map.

    Its channels move together. At strength 1 an image is turned by up to 20 degrees, shifted by up to 10 % of its
    side, sheared by up to 10 degrees and zoomed by 0.85 to 1.15, all uniform and scaled down with `strength` in [0, 1];
    it is mirrored left to right with a chance of min(0.5, strength). Strength 0 returns the same tensor. What
    comes in from outside repeats the border. Draws from `generator` alone, for `num_drawn` images of which `images`
    are a `part`; by default for these.
    """
    if strength == 0:
        return images
    num_drawn = len(images) if num_drawn is None else num_drawn
    maps = draw_affine_maps(num_drawn, strength, generator)[part].to(images.device, images.dtype)
    grid = build_grid(maps, images.shape[-1])
    return F.grid_sample(images, grid, mode="bilinear", padding_mode="border", align_corners=False)


def draw_affine_maps(num_images: int, strength: float, generator: torch.Generator) -> Tensor:
    """Random maps (N, 2, 3) from coordinates in [-1, 1] of the result to those of the image sampled."""
    uniform = torch.rand(6, num_images, generator=generator, device=generator.device)
    turn, shear, zoom, shift_x, shift_y = strength * (2 * uniform[:5] - 1)
    turn, shear = MAX_ROTATION * turn, torch.tan(MAX_SHEAR * shear)
    scale = 1 / (1 + MAX_ZOOM * zoom)
    mirror = torch.where(uniform[5] < min(MAX_FLIP_CHANCE, strength), -1.0, 1.0)
    cos, sin = scale * torch.cos(turn), scale * torch.sin(turn)
    row_x = [mirror * cos, mirror * (shear * cos - sin), 2 * MAX_SHIFT * shift_x]
    row_y = [sin, shear * sin + cos, 2 * MAX_SHIFT * shift_y]
    return torch.stack(row_x + row_y, dim=1).view(num_images, 2, 3)


def build_grid(maps: Tensor, size: int) -> Tensor:
    """Where in [-1, 1] to sample each pixel, (N, S, S, 2), from maps (N, 2, 3).

    What `F.affine_grid` gives, as sums of a row and a column: on a CPU in a twentieth of its time (benchmarks/LOG.md).
    """
    centres = (2 * torch.arange(size, device=maps.device, dtype=maps.dtype) + 1) / size - 1
    grid = maps.new_empty(len(maps), size, size, 2)
    for axis in range(2):
        of_x, of_y, shift = (maps[:, axis, k].view(-1, 1, 1) for k in range(3))
        torch.add(of_x * centres, of_y * centres.view(-1, 1) + shift, out=grid[..., axis])
    return grid
