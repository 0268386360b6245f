"""Random changes of grey levels, and squares cut out, on a batch where it lies"""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional as F

from trainable.architectures import GREY_MEAN, GREY_STD

MAX_CONTRAST = 0.4
MAX_BRIGHTNESS = 0.2  # of the range of grey levels
MAX_LOG_GAMMA = 0.5
MAX_NOISE = 0.05  # standard deviation, of the range of grey levels
MAX_BLUR = 1.0  # weight of the mean over 3 x 3 pixels


def jitter_intensity(
    images: Tensor,
    strength: float,
    generator: torch.Generator,
    *,
    part: slice = slice(None),
    num_drawn: int | None = None,
) -> Tensor:
    """Change the grey levels of each image of a batch, normalised float (N, 1, S, S), by its own random amounts.

    At strength 1, in this order: half of the images are blurred, the window is jittered (contrast by up to 40 %,
    brightness by up to 20 % of the range), gamma lies between 0.6 and 1.65, and noise has a standard deviation of up to
    5 % of the range; all are uniform and scaled down with `strength` in [0, 1]. Grey levels stay in their range.
    Strength 0 returns the same tensor. Draws from `generator` alone, for `num_drawn` images of which `images` are a
    `part`; by default for these.
    """
    if strength == 0:
        return images
    num_drawn = len(images) if num_drawn is None else num_drawn
    drawn = torch.rand(5, num_drawn, 1, 1, 1, generator=generator, device=generator.device)
    noise = torch.randn(num_drawn, *images.shape[1:], generator=generator, device=generator.device)
    drawn, noise = drawn[:, part].to(images.device), noise[part].to(images.device)
    grey = images * GREY_STD + GREY_MEAN
    blur = MAX_BLUR * strength * (2 * drawn[0] - 1).clamp(min=0)
    grey = grey.lerp(F.avg_pool2d(grey, 3, stride=1, padding=1, count_include_pad=False), blur)
    contrast = 1 + MAX_CONTRAST * strength * (2 * drawn[1] - 1)
    brightness = MAX_BRIGHTNESS * strength * (2 * drawn[2] - 1)
    grey = ((grey - 0.5) * contrast + 0.5 + brightness).clamp(0, 1)
    grey = grey ** torch.exp(MAX_LOG_GAMMA * strength * (2 * drawn[3] - 1))
    grey = (grey + MAX_NOISE * strength * drawn[4] * noise).clamp(0, 1)
    return (grey - GREY_MEAN) / GREY_STD


def cut_out(
    images: Tensor,
    max_side: float,
    generator: torch.Generator,
    *,
    part: slice = slice(None),
    num_drawn: int | None = None,
) -> Tensor:
    """Cut a square out of each image of a batch, float (N, 1, S, S), and fill it with the mean, which is 0.

    Its side is uniform up to `max_side`, a share of the image's in [0, 1], and its centre anywhere in the image
    (DeVries and Taylor 2017). Draws as `jitter_intensity` does; 0 returns the same tensor.
    """
    if max_side == 0:
        return images
    num_drawn = len(images) if num_drawn is None else num_drawn
    drawn = torch.rand(3, num_drawn, generator=generator, device=generator.device)[:, part].to(images.device)
    is_cut = mark_squares(drawn[0], drawn[1], max_side * drawn[2], images.shape[-1])
    return images.masked_fill(is_cut, 0.0)


def mark_squares(centre_x: Tensor, centre_y: Tensor, sides: Tensor, size: int) -> Tensor:
    """Which pixels lie in a square, bool (N, 1, size, size); centres and sides (N,) are shares of the image's side."""
    places = (torch.arange(size, device=sides.device) + 0.5) / size
    in_x = (places - centre_x.view(-1, 1)).abs() < sides.view(-1, 1) / 2
    in_y = (places - centre_y.view(-1, 1)).abs() < sides.view(-1, 1) / 2
    return (in_y.unsqueeze(2) & in_x.unsqueeze(1)).unsqueeze(1)
