from __future__ import annotations

import pytest

from trainable.images.scales import DESCRIPTIONS, Scale, scale_warnings


def test_every_scale_is_described() -> None:
    assert set(DESCRIPTIONS) == set(Scale)


@pytest.mark.parametrize(
    "counts",
    [{}, {Scale.ORDINARY: 9}, {Scale.HOUNSFIELD: 9}, {Scale.HOUNSFIELD: 3, Scale.MODALITY_LUT: 2, Scale.STRETCHED: 0}],
)
def test_one_scale_needs_no_warning(counts: dict[Scale, int]) -> None:
    assert scale_warnings(counts) == []


def test_a_set_of_which_half_is_in_hounsfield_units_is_warned_about_with_counts() -> None:
    (line,) = scale_warnings({Scale.HOUNSFIELD: 10, Scale.MODALITY_LUT: 2, Scale.STRETCHED: 7, Scale.ORDINARY: 5})
    assert "12 of 24 files are in Hounsfield units, 12 cannot be brought to them" in line
    assert "7 by each stretched" in line and "5 by 8-bit grey levels" in line


def test_other_mixtures_and_scales_without_a_meaning_are_warned_about() -> None:
    (line,) = scale_warnings({Scale.STRETCHED: 7, Scale.ORDINARY: 5})
    assert line.startswith("2 scales in one set (7 by ")
    (line,) = scale_warnings({Scale.STRETCHED: 7})
    assert line.startswith("no file is in Hounsfield units (7 by ") and "--window changes nothing" in line
    (line,) = scale_warnings({Scale.HOUNSFIELD: 7, Scale.HOUNSFIELD_WITHOUT_AIR: 2})
    assert line.startswith("2 of 9 files are CT in Hounsfield units by their headers")
    assert len(scale_warnings({Scale.HOUNSFIELD_WITHOUT_AIR: 2, Scale.ORDINARY: 2})) == 2
