from __future__ import annotations

import pytest
import torch
from torchvision import transforms

from trainable.normalisation import GREY_MEAN, GREY_STD, RGB_MEAN, RGB_STD, pixel_shape, to_input


def test_grey_images_are_scaled_by_the_mean_of_imagenets_channels() -> None:
    given = to_input(torch.tensor([[[0, 255]]], dtype=torch.uint8))
    assert given.shape == (1, 1, 1, 2)
    torch.testing.assert_close(given.flatten(), torch.tensor([-GREY_MEAN / GREY_STD, (1 - GREY_MEAN) / GREY_STD]))
    assert pytest.approx(sum(RGB_MEAN) / 3, abs=1e-3) == GREY_MEAN
    assert pytest.approx(sum(RGB_STD) / 3, abs=1e-3) == GREY_STD


def test_three_channels_are_scaled_as_torchvision_does_it() -> None:
    pixels = torch.randint(0, 256, (5, 8, 6, 3), dtype=torch.uint8)
    expected = transforms.Normalize(RGB_MEAN, RGB_STD)(pixels.movedim(-1, 1).float() / 255)
    given = to_input(pixels)
    torch.testing.assert_close(given, expected, rtol=1e-4, atol=1e-5)
    assert given.is_contiguous()


@pytest.mark.parametrize("num_channels", [1, 2, 5])
def test_other_channels_are_scaled_each_as_a_grey_image(num_channels: int) -> None:
    pixels = torch.randint(0, 256, (2, 4, 4, num_channels), dtype=torch.uint8)
    given = to_input(pixels)
    for channel in range(num_channels):
        torch.testing.assert_close(given[:, channel : channel + 1], to_input(pixels[..., channel]))


def test_one_channel_has_no_axis_of_its_own() -> None:
    assert pixel_shape(32, 1) == (32, 32)
    assert pixel_shape(32, 5) == (32, 32, 5)
