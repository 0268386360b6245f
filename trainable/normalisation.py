"""From uint8 pixels to a model's input: the one place of scaling, in training, scoring and serving alike."""

from __future__ import annotations

import torch
from torch import Tensor

# ImageNet's means and deviations for images scaled to [0, 1], by which torchvision and timm trained their weights.
RGB_MEAN = (0.485, 0.456, 0.406)
RGB_STD = (0.229, 0.224, 0.225)
# The means of both: pretrained filters then see grey images in the range they were trained on.
GREY_MEAN = 0.449
GREY_STD = 0.226


def pixel_shape(image_size: int, num_channels: int) -> tuple[int, ...]:
    """The shape of one image's pixels: (S, S), or (S, S, C) where there are several channels."""
    return (image_size, image_size) if num_channels == 1 else (image_size, image_size, num_channels)


def to_input(pixels: Tensor) -> Tensor:
    """Normalise uint8 images to a model's float32 input: (N, H, W) to (N, 1, H, W), (N, H, W, C) to (N, C, H, W).

    Three channels are scaled as ImageNet's red, green and blue were; any other number of them each as a grey image.
    """
    if pixels.ndim == 3:
        return (pixels.unsqueeze(1).float() - 255 * GREY_MEAN) / (255 * GREY_STD)
    scaled = [
        (channel.float() - 255 * mean) / (255 * std)
        for channel, (mean, std) in zip(pixels.unbind(-1), _list_scales(pixels.shape[-1]), strict=True)
    ]
    return torch.stack(scaled, dim=1)


def to_unit_range(images: Tensor) -> Tensor:
    """The grey levels or colours in [0, 1] of normalised images (N, C, H, W)."""
    means, deviations = _spread_scales(images)
    return images * deviations + means


def from_unit_range(images: Tensor) -> Tensor:
    """Normalise images (N, C, H, W) in [0, 1] as `to_input` does."""
    means, deviations = _spread_scales(images)
    return (images - means) / deviations


def _spread_scales(images: Tensor) -> tuple[Tensor, Tensor]:
    """Mean and deviation of each channel, both (C, 1, 1)."""
    scales = images.new_tensor(_list_scales(images.shape[1]))
    return scales[:, 0].view(-1, 1, 1), scales[:, 1].view(-1, 1, 1)


def _list_scales(num_channels: int) -> list[tuple[float, float]]:
    """Mean and deviation of each channel."""
    if num_channels == 3:
        return list(zip(RGB_MEAN, RGB_STD, strict=True))
    return [(GREY_MEAN, GREY_STD)] * num_channels
