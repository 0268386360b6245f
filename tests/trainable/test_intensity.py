from __future__ import annotations

from collections.abc import Callable

import pytest
import torch

from trainable.images.windows import WINDOWS
from trainable.intensity import MAX_SCALE, MAX_SHIFT_HU, cut_out, jitter_intensity, mark_squares
from trainable.normalisation import GREY_MEAN, GREY_STD, from_unit_range, to_input, to_unit_range


def seeded(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def normalise(grey: torch.Tensor) -> torch.Tensor:
    return (grey - GREY_MEAN) / GREY_STD


def test_strength_zero_gives_the_same_tensor() -> None:
    images = torch.rand(2, 1, 16, 16)
    assert jitter_intensity(images, 0.0, seeded()) is images
    assert cut_out(images, 0.0, seeded()) is images


@pytest.mark.parametrize("transform", [jitter_intensity, cut_out])
def test_the_generator_alone_decides_and_a_part_gets_what_is_its_own(transform: Callable[..., torch.Tensor]) -> None:
    images = normalise(torch.rand(7, 1, 24, 24, generator=seeded()))
    whole = transform(images, 0.5, seeded(1))
    torch.manual_seed(99)
    parts = [transform(images[p], 0.5, seeded(1), part=p, num_drawn=7) for p in (slice(0, 3), slice(3, 7))]
    assert torch.equal(torch.cat(parts), whole)
    assert not torch.equal(whole, transform(images, 0.5, seeded(2)))


def test_grey_levels_stay_in_their_range_and_images_change_apart() -> None:
    images = normalise(torch.rand(1, 1, 32, 32, generator=seeded())).repeat(200, 1, 1, 1)
    before = images.clone()
    changed = jitter_intensity(images, 1.0, seeded())
    assert torch.equal(images, before), "the input stays"
    grey = changed * GREY_STD + GREY_MEAN
    assert grey.min() >= -1e-6
    assert grey.max() <= 1 + 1e-6
    means = grey.mean(dim=(1, 2, 3))
    assert means.std() > 0.05, "brightness and gamma differ from image to image"
    assert abs(means.mean() - 0.5) < 0.05, "and on average keep it"


def test_colours_and_other_channels_change_alike_in_their_own_ranges() -> None:
    for num_channels in (3, 5):
        pixels = torch.randint(0, 256, (40, 24, 24, 1), dtype=torch.uint8, generator=seeded()).expand(-1, -1, -1, 5)
        images = to_input(pixels[..., :num_channels])
        levels = to_unit_range(jitter_intensity(images, 1.0, seeded()))
        assert levels.min() >= -1e-6 and levels.max() <= 1 + 1e-6
        torch.testing.assert_close(
            levels.mean(dim=(2, 3)), levels.mean(dim=(1, 2, 3)).unsqueeze(1).expand(-1, num_channels), atol=0.02, rtol=0
        )
        torch.testing.assert_close(from_unit_range(to_unit_range(images)), images)
        holes = cut_out(images, 0.5, seeded()) == 0
        assert torch.equal(holes.all(dim=1), holes.any(dim=1)), "a square goes through all channels"


def test_a_weak_jitter_changes_little() -> None:
    images = normalise(torch.rand(50, 1, 32, 32, generator=seeded()))
    weak, strong = ((jitter_intensity(images, strength, seeded()) - images).abs().mean() for strength in (0.1, 1.0))
    assert weak < 0.2 * strong


def test_squares_are_cut_out_up_to_their_largest_side() -> None:
    images = torch.ones(2000, 1, 20, 20)
    cut = cut_out(images, 0.5, seeded()) == 0
    areas = cut.float().mean(dim=(1, 2, 3))
    assert areas.max() <= 0.3
    assert areas.max() > 0.2
    sides = cut.any(dim=2).sum(dim=-1).float()
    assert sides.max() in (10, 11)
    assert 0.04 < areas.mean() < 0.25 / 3, "a third of the largest area, less what hangs over the border"
    assert 0.8 < cut.float().mean(dim=(0, 1))[8:12, 8:12].mean() / areas.mean() < 1.5


def test_a_square_lies_where_it_is_wanted() -> None:
    marked = mark_squares(torch.tensor([0.25]), torch.tensor([0.75]), torch.tensor([0.5]), 4)
    expected = torch.zeros(1, 1, 4, 4, dtype=torch.bool)
    expected[:, :, 2:, :2] = True
    assert torch.equal(marked, expected)


def test_hounsfield_units_change_by_the_same_in_every_window() -> None:
    lung, soft = WINDOWS["lung"], WINDOWS["mediastinum"]
    values = torch.linspace(0, 100, 32 * 32).view(1, 32, 32).repeat(300, 1, 1)  # inside both windows
    shown = [(values - (w.centre - w.width / 2)) / w.width for w in (lung, soft)]
    changed = to_unit_range(
        jitter_intensity(from_unit_range(torch.stack(shown, dim=1)), 1.0, seeded(), windows=(lung, soft))
    )
    back = [changed[:, k] * w.width + w.centre - w.width / 2 for k, w in enumerate((lung, soft))]
    means = [found.mean(dim=(1, 2)) for found in back]
    inside = (back[0].amax(dim=(1, 2)) < 149) & (back[1].amin(dim=(1, 2)) > -124)
    assert inside.sum() > 20
    torch.testing.assert_close(means[0][inside], means[1][inside], atol=6.0, rtol=0)  # noise differs by channel
    shift = means[0][inside] - 50
    assert shift.abs().max() < MAX_SHIFT_HU + 50 * MAX_SCALE + 6
    assert shift.std() > 10, "images change apart"


def test_strength_scales_what_hounsfield_units_do() -> None:
    images = normalise(torch.full((200, 1, 8, 8), 0.5))
    widths = [
        float(to_unit_range(jitter_intensity(images, strength, seeded(), windows=(WINDOWS["lung"],))).std())
        for strength in (0.1, 1.0)
    ]
    assert 5 < widths[1] / widths[0] < 20
    assert torch.equal(
        jitter_intensity(images, 0.5, seeded(1), windows=(WINDOWS["lung"],))[50:],
        jitter_intensity(images[50:], 0.5, seeded(1), part=slice(50, 200), num_drawn=200, windows=(WINDOWS["lung"],)),
    )
