from __future__ import annotations

import math

import pytest
import torch

from trainable.augment import augment, build_grid, draw_affine_maps


def seeded(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def test_strength_zero_gives_the_same_tensor() -> None:
    images = torch.rand(2, 1, 16, 16)
    assert augment(images, 0.0, seeded()) is images


def test_the_generator_alone_decides() -> None:
    images = torch.rand(4, 1, 24, 24)
    first = augment(images, 0.5, seeded(1))
    torch.manual_seed(99)
    assert torch.equal(first, augment(images, 0.5, seeded(1)))
    assert not torch.equal(first, augment(images, 0.5, seeded(2)))


def test_images_of_a_batch_move_apart_and_the_input_stays() -> None:
    images = torch.rand(1, 1, 24, 24).repeat(3, 1, 1, 1)
    before = images.clone()
    moved = augment(images, 1.0, seeded())
    assert moved.shape == images.shape
    assert torch.equal(images, before)
    assert not torch.equal(moved[0], moved[1])


@pytest.mark.parametrize("strength", [0.1, 0.5, 1.0])
def test_maps_stay_within_their_limits(strength: float) -> None:
    maps = draw_affine_maps(20_000, strength, seeded())
    matrix, shift = maps[:, :, :2], maps[:, :, 2]
    mirrored = torch.det(matrix) < 0
    assert abs(mirrored.float().mean() - min(0.5, strength)) < 0.02
    assert shift.abs().max() <= 0.2 * strength + 1e-6  # coordinates run from -1 to 1
    column = matrix[:, :, 0] * torch.where(mirrored, -1.0, 1.0)[:, None]
    angle = torch.atan2(column[:, 1], column[:, 0]).abs().max()
    zoom = 1 / matrix.det().abs().sqrt()
    assert math.radians(19) * strength < angle <= math.radians(20) * strength + 1e-5
    assert 1 - 0.15 * strength - 1e-5 <= zoom.min() < 1 < zoom.max() <= 1 + 0.15 * strength + 1e-5


def test_a_mirrored_image_is_the_image_from_right_to_left() -> None:
    images = torch.rand(64, 1, 32, 32)
    strength = 1e-6  # too little to see, but for the mirror
    moved = augment(images, strength, seeded())
    torch.testing.assert_close(moved, images, atol=1e-4, rtol=0)

    maps = draw_affine_maps(200, 0.5, seeded())
    is_mirrored = (maps[:, :, :2].det() < 0).nonzero()[0, 0]
    images = torch.zeros(200, 1, 32, 32)
    images[:, :, :, :16] = 1
    left = augment(images, 0.5, seeded())[is_mirrored, 0, :, :8].mean()
    assert left < 0.1


def test_the_grid_is_that_of_torch() -> None:
    maps = draw_affine_maps(5, 1.0, torch.Generator().manual_seed(0))
    expected = torch.nn.functional.affine_grid(maps, [5, 1, 33, 33], align_corners=False)
    torch.testing.assert_close(build_grid(maps, 33), expected, rtol=0, atol=1e-6)
