"""Scales: how the grey levels of a file came about, and what to say of a set that mixes them."""

from __future__ import annotations

from collections.abc import Mapping
from enum import StrEnum


class Scale(StrEnum):
    """How the grey levels of one file came about. The value is kept in records; `DESCRIPTIONS` is for people."""

    HOUNSFIELD = "hounsfield"
    HOUNSFIELD_WITHOUT_AIR = "hounsfield_without_air"
    MODALITY_LUT = "modality_lut"
    WINDOW_OF_FILE = "window_of_file"
    STRETCHED = "stretched"
    ORDINARY = "ordinary"

    @property
    def is_hounsfield(self) -> bool:
        """Whether the grey levels are Hounsfield units through the window that was asked for."""
        return self in (Scale.HOUNSFIELD, Scale.HOUNSFIELD_WITHOUT_AIR, Scale.MODALITY_LUT)


DESCRIPTIONS = {
    Scale.HOUNSFIELD: "Hounsfield units through the window",
    Scale.HOUNSFIELD_WITHOUT_AIR: "Hounsfield units through the window, with no value below -200",
    Scale.MODALITY_LUT: "Hounsfield units by a modality LUT, through the window",
    Scale.WINDOW_OF_FILE: "the window that the DICOM file names itself",
    Scale.STRETCHED: "each stretched by its own darkest and brightest value",
    Scale.ORDINARY: "8-bit grey levels as they are",
}


def scale_warnings(counts: Mapping[Scale, int]) -> list[str]:
    """Lines to warn with about a set: `counts` are its files of each scale, as `ImageFacts.scale` tells them.

    A set of one scale that means the same everywhere needs none.
    """
    present = {scale: counts[scale] for scale in Scale if counts.get(scale, 0) > 0}
    in_units = sum(number for scale, number in present.items() if scale.is_hounsfield)
    others = {scale: number for scale, number in present.items() if not scale.is_hounsfield}
    num_others, total = sum(others.values()), sum(present.values())
    listed = ", ".join(f"{number} by {DESCRIPTIONS[scale]}" for scale, number in others.items())
    lines = []
    if in_units and num_others:
        lines.append(
            f"two scales in one set: {in_units} of {total} files are in Hounsfield units, {num_others} cannot be "
            f"brought to them ({listed}); one tissue has several greys, and a model may tell classes apart by the "
            "scale alone: keep the files of one scale"
        )
    elif len(others) > 1:
        lines.append(
            f"{len(others)} scales in one set ({listed}); one tissue has several greys, and a model may tell classes "
            "apart by the scale alone: keep the files of one scale"
        )
    elif others and Scale.ORDINARY not in others:
        lines.append(
            f"no file is in Hounsfield units ({listed}); a grey level means another value in each file, and --window "
            "changes nothing"
        )
    if num_airless := present.get(Scale.HOUNSFIELD_WITHOUT_AIR, 0):
        lines.append(
            f"{num_airless} of {total} files are CT in Hounsfield units by their headers, but hold no value below "
            "-200 (lung and air lie below): their RescaleIntercept may be wrong"
        )
    return lines
