from __future__ import annotations

import numpy as np
import pytest

from tests.trainable.images.phantoms import SPACING_MM, draw_chest
from trainable.images.slice_rule import LEAST_LUNG_SHARE, SliceRule, measure_lung
from trainable.images.volumes import Volume


def volume_of(values: np.ndarray) -> Volume:
    return Volume(stored=values, spacing_mm=SPACING_MM)


@pytest.mark.parametrize(
    ("text", "num_slices", "chosen"),
    [
        ("all", 3, [0, 1, 2]),
        ("middle", 1, [0]),
        ("middle", 9, [4]),
        ("every:1", 3, [0, 1, 2]),
        ("every:3", 9, [1, 4, 7]),
        ("every:5", 11, [0, 5, 10]),
        (" Every:50 ", 11, [5]),
    ],
)
def test_a_rule_chooses_by_number(text: str, num_slices: int, chosen: list[int]) -> None:
    rule = SliceRule.parse(text)
    assert rule.choose(num_slices) == chosen
    assert SliceRule.parse(str(rule)) == rule


@pytest.mark.parametrize("text", ["", "none", "every", "every:0", "every:-1", "every:x", "lungs", "every:1.5"])
def test_another_rule_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match="must be all, middle, every:N or lung"):
        SliceRule.parse(text)


def test_lung_is_where_air_lies_inside_the_body() -> None:
    volume = volume_of(draw_chest(lung=slice(3, 8)))
    rule = SliceRule.parse("lung")
    assert rule.needs_voxels
    assert rule.choose(volume.num_slices, volume) == [3, 4, 5, 6, 7]
    shares = measure_lung(volume)
    np.testing.assert_allclose(shares[3:8], 2 * 0.25 * 0.4 / (0.8 * 0.6), atol=0.03)  # areas of the ellipses
    assert (shares[[0, 1, 2, 8, 9]] < LEAST_LUNG_SHARE / 2).all()


def test_bowel_gas_and_a_hollow_table_are_no_lung() -> None:
    values = draw_chest(lung=slice(0, 0))
    values[28:33, 26:30, 2] = -1000  # gas
    values[10:50, 0:3] = 40
    values[11:49, 1, :] = -1000  # the table's inside
    with pytest.raises(ValueError, match=r"no slice shows lung: .*at most \d+% of it, 10% are asked for"):
        SliceRule(kind="lung").choose(10, volume_of(values))


def test_an_empty_slice_has_no_lung() -> None:
    values = draw_chest()
    values[..., 5] = -1000
    assert measure_lung(volume_of(values))[5] == 0


def test_lung_needs_hounsfield_units() -> None:
    with pytest.raises(ValueError, match="run from 0 to 255, which are no Hounsfield units"):
        SliceRule(kind="lung").choose(4, volume_of(np.linspace(0, 255, 20 * 20 * 4).reshape(20, 20, 4)))
