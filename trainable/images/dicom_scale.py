"""The scale of DICOM values: stored values to Hounsfield units and a window, or to what else their file allows.

PS3.3: C.7.6.16.2.9 (functional groups), C.11.1 (rescale and modality LUT), C.11.2 (windows), C.7.5.1.1.2 (padding).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from trainable.images.dicom_headers import is_ct, is_secondary_capture, read_integer, read_numbers, read_word
from trainable.images.lookup_tables import apply_voi_lut, read_lut
from trainable.images.scales import Scale
from trainable.images.windows import apply_window, stretch

if TYPE_CHECKING:
    from collections.abc import Sequence

    import pydicom

    from trainable.images.windows import Window

LEAST_AIR_HU = -500.0  # a scale whose lowest possible value is above shows no lung: it is none of Hounsfield units
AIRLESS_HU = -200.0


@dataclass(frozen=True, kw_only=True)
class Rescale:
    """What makes a frame's stored values its modality's values: `slope` x stored + `intercept`, or a lookup table."""

    slope: float = 1.0
    intercept: float = 0.0
    has_lut: bool = False
    is_hounsfield: bool = False


def read_rescale(dataset: pydicom.Dataset, frame: int) -> Rescale:
    """The rescale of a frame, from its functional groups or the file's own fields, and whether it gives HU.

    An empty or missing slope is 1 and an intercept 0 where the other is there, but a guessed intercept counts only
    where the stored values can reach air. Raises ValueError for a slope of 0 in CT and for what is no number.
    """
    luts = dataset.get("ModalityLUTSequence")
    if luts:
        kind = read_word(luts[0], "ModalityLUTType")
        return Rescale(has_lut=True, is_hounsfield=kind == "HU" or (kind == "" and is_ct(dataset)))
    source = find_macro(dataset, frame, "PixelValueTransformationSequence") or dataset
    if "RescaleSlope" not in source and "RescaleIntercept" not in source:
        return Rescale()
    slopes, intercepts = read_numbers(source, "RescaleSlope"), read_numbers(source, "RescaleIntercept")
    slope, intercept = (slopes or [1.0])[0], (intercepts or [0.0])[0]
    kind = read_word(source, "RescaleType")
    if kind not in ("", "US", "HU") or (kind != "HU" and read_word(dataset, "Modality") not in ("CT", "")):
        return Rescale(slope=slope or 1.0, intercept=intercept)
    if slope == 0:
        raise ValueError("RescaleSlope is 0, which makes all its values one; correct its header or leave it out")
    is_sure = bool(intercepts) and (kind == "HU" or (is_ct(dataset) and not is_secondary_capture(dataset)))
    is_hounsfield = is_sure or _lowest_value(dataset, slope, intercept) <= LEAST_AIR_HU
    return Rescale(slope=slope, intercept=intercept, is_hounsfield=is_hounsfield)


def rescale_values(stored: NDArray[Any], dataset: pydicom.Dataset, frame: int) -> tuple[NDArray[Any], Rescale]:
    """Stored values (height, width) in their modality's unit, and by what: float32, of more than 24 bits float64.

    A table of Hounsfield units has signed entries: no tissue reaches 32,768. Raises as `read_rescale` does.
    """
    rescale = read_rescale(dataset, frame)
    if rescale.has_lut:
        below_zero = _lowest_value(dataset, 1, 0) < 0
        table = read_lut(dataset, dataset.ModalityLUTSequence[0], "modality LUT", below_zero=below_zero)
        entries = table.look_up(stored)
        return (entries.view(np.int16) if rescale.is_hounsfield else entries).astype(np.float32), rescale
    wide = stored.astype(np.result_type(stored.dtype, np.float32))
    return wide * np.float32(rescale.slope) + np.float32(rescale.intercept), rescale


def to_grey(
    stored: NDArray[Any],
    dataset: pydicom.Dataset,
    frame: int,
    windows: Sequence[Window],
    padding: NDArray[np.bool_] | None = None,
) -> tuple[list[NDArray[np.uint8]], Scale]:
    """Stored values (height, width) as uint8, one image a window, and how their grey levels came about.

    Hounsfield units go through the windows whatever the photometric interpretation: more is brighter. Else the
    window of the file is taken, or its own minimum and maximum (always in CT, whose windows mean Hounsfield units);
    then MONOCHROME1 is inverted. `padding`, bool (height, width), becomes black.
    """
    values, rescale = rescale_values(stored, dataset, frame)
    if rescale.is_hounsfield:
        greys = [apply_window(values, centre=window.centre, width=window.width) for window in windows]
        scale = Scale.MODALITY_LUT if rescale.has_lut else Scale.HOUNSFIELD
        shown = values if padding is None else values[~padding]
        if scale is Scale.HOUNSFIELD and shown.size and shown.min() > AIRLESS_HU:
            scale = Scale.HOUNSFIELD_WITHOUT_AIR
    else:
        grey, scale = None, Scale.WINDOW_OF_FILE
        modality = read_word(dataset, "Modality")
        if modality != "CT" and (modality or not is_ct(dataset)):
            grey = _apply_own_window(values, dataset, frame, rescale)
        if grey is None:
            grey, scale = stretch(values, leave_out=padding), Scale.STRETCHED
        if dataset.get("PhotometricInterpretation") == "MONOCHROME1":
            grey = 255 - grey
        greys = [grey] * len(windows)
    if padding is not None:
        greys = [np.where(padding, np.uint8(0), grey) for grey in greys]
    return greys, scale


def _apply_own_window(
    values: NDArray[Any], dataset: pydicom.Dataset, frame: int, rescale: Rescale
) -> NDArray[np.uint8] | None:
    """Values through the file's first window or VOI LUT (C.11.2.1.2, C.11.2.1.3); None where it has none that works.

    One that shows a flat image of values that are not flat does not work.
    """
    source = find_macro(dataset, frame, "FrameVOILUTSequence") or dataset
    centres, widths = read_numbers(source, "WindowCenter"), read_numbers(source, "WindowWidth")
    if source.get("VOILUTSequence") and "LUTData" in source.VOILUTSequence[0]:
        below_zero = not rescale.has_lut and _lowest_value(dataset, rescale.slope, rescale.intercept) < 0
        grey = apply_voi_lut(values, read_lut(dataset, source.VOILUTSequence[0], "VOI LUT", below_zero=below_zero))
    elif not centres or not widths or widths[0] <= 0:
        return None
    else:
        centre, width, kind = centres[0], widths[0], read_word(source, "VOILUTFunction")
        if kind == "SIGMOID":
            steps = np.clip(-4 * (values.astype(np.float64) - centre) / width, -700, 700)
            grey = np.rint(255 / (1 + np.exp(steps))).astype(np.uint8)
        elif kind == "LINEAR_EXACT":
            grey = apply_window(values, centre=centre, width=width)
        else:
            grey = apply_window(values, centre=centre - 0.5, width=max(width - 1, 1e-3))
    return None if np.ptp(grey) == 0 and np.ptp(values) > 0 else grey


def find_macro(dataset: pydicom.Dataset, frame: int, name: str) -> pydicom.Dataset | None:
    """The first item of a functional group: the frame's own, else the one that all frames share.

    Raises ValueError where frames have groups of their own and this one has none: its header is cut.
    """
    per_frame = dataset.get("PerFrameFunctionalGroupsSequence") or []
    if 0 < len(per_frame) <= frame:
        raise ValueError(f"its header describes {len(per_frame)} frames; frame {frame + 1} has no description")
    groups = [*per_frame[frame : frame + 1], *(dataset.get("SharedFunctionalGroupsSequence") or [])[:1]]
    return next((group[name].value[0] for group in groups if name in group and group[name].value), None)


def _lowest_value(dataset: pydicom.Dataset, slope: float, intercept: float) -> float:
    """The lowest value that a file's stored bits can hold, rescaled."""
    bits = read_integer(dataset, "BitsStored", read_integer(dataset, "BitsAllocated", 16))
    is_signed = read_integer(dataset, "PixelRepresentation", 0) == 1
    least, most = (-(2.0 ** (bits - 1)), 2.0 ** (bits - 1) - 1) if is_signed else (0.0, 2.0**bits - 1)
    return min(slope * least + intercept, slope * most + intercept)
