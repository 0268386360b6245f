"""Random changes of grey levels, and squares cut out, on a batch where it lies"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import torch
from torch import Tensor
from torch.nn import functional as F

from trainable.normalisation import from_unit_range, to_unit_range

if TYPE_CHECKING:
    from trainable.images.windows import Window

MAX_CONTRAST = 0.4
MAX_BRIGHTNESS = 0.2  # of the range of grey levels
MAX_LOG_GAMMA = 0.5
MAX_NOISE = 0.05  # standard deviation, of the range of grey levels
MAX_BLUR = 1.0  # weight of the mean over 3 x 3 pixels
MAX_SHIFT_HU = 60.0
MAX_SCALE = 0.1  # of Hounsfield units: what another tube voltage does to soft tissue and contrast medium
MAX_NOISE_HU = 60.0  # standard deviation: a thin slice of a low dose, by a sharp kernel


def jitter_intensity(
    images: Tensor,
    strength: float,
    generator: torch.Generator,
    *,
    part: slice = slice(None),
    num_drawn: int | None = None,
    windows: Sequence[Window] = (),
) -> Tensor:
    """Change the grey levels of each image of a batch, normalised float (N, C, S, S), by its own random amounts.

    At strength 1, in this order: half of the images are blurred, the window is jittered (contrast by up to 40 %,
    brightness by up to 20 % of the range), gamma lies between 0.6 and 1.65, and noise has a standard deviation of up to
    5 % of the range; all are uniform and scaled down with `strength` in [0, 1]. Grey levels stay in their range.
    Channels change alike, but for the noise.

    Where the channels are `windows` of Hounsfield units, one for each, it is these that change, in every window by the
    same: scaled by up to 10 %, shifted by up to 60 HU, with noise of up to 60 HU, and blurred; there is no gamma, for
    a tissue's value is the same in every scan but for those.
    Strength 0 returns the same tensor. Draws from `generator` alone, for `num_drawn` images of which `images` are a
    `part`; by default for these.
    """
    if strength == 0:
        return images
    num_drawn = len(images) if num_drawn is None else num_drawn
    drawn = torch.rand(5, num_drawn, 1, 1, 1, generator=generator, device=generator.device)
    noise = torch.randn(num_drawn, *images.shape[1:], generator=generator, device=generator.device)
    drawn, noise = drawn[:, part].to(images.device), noise[part].to(images.device)
    grey = to_unit_range(images)
    blur = MAX_BLUR * strength * (2 * drawn[0] - 1).clamp(min=0)
    grey = grey.lerp(F.avg_pool2d(grey, 3, stride=1, padding=1, count_include_pad=False), blur)
    if windows:
        return from_unit_range(_jitter_hounsfield(grey, strength * (2 * drawn - 1), noise, windows))
    contrast = 1 + MAX_CONTRAST * strength * (2 * drawn[1] - 1)
    brightness = MAX_BRIGHTNESS * strength * (2 * drawn[2] - 1)
    grey = ((grey - 0.5) * contrast + 0.5 + brightness).clamp(0, 1)
    grey = grey ** torch.exp(MAX_LOG_GAMMA * strength * (2 * drawn[3] - 1))
    grey = (grey + MAX_NOISE * strength * drawn[4] * noise).clamp(0, 1)
    return from_unit_range(grey)


def _jitter_hounsfield(grey: Tensor, amounts: Tensor, noise: Tensor, windows: Sequence[Window]) -> Tensor:
    """Grey levels (N, C, S, S) in [0, 1] through their windows to Hounsfield units, changed, and back.

    `amounts` (5, N, 1, 1, 1) are uniform within the strength on either side of 0.
    """
    widths = grey.new_tensor([window.width for window in windows]).view(-1, 1, 1)
    lowest = grey.new_tensor([window.centre - window.width / 2 for window in windows]).view(-1, 1, 1)
    values = (lowest + grey * widths) * (1 + MAX_SCALE * amounts[1]) + MAX_SHIFT_HU * amounts[2]
    values = values + MAX_NOISE_HU * amounts[4].abs() * noise
    return ((values - lowest) / widths).clamp(0, 1)


def cut_out(
    images: Tensor,
    max_side: float,
    generator: torch.Generator,
    *,
    part: slice = slice(None),
    num_drawn: int | None = None,
) -> Tensor:
    """Cut a square out of each image of a batch, float (N, C, S, S), and fill it with the mean, which is 0.

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
