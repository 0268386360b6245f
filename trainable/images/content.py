"""The content of an image file: its channels as grey images, and what is known of them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from PIL import Image

from trainable.images import dicom
from trainable.images.dicom_scale import find_macro, to_grey
from trainable.images.limits import check_dimensions
from trainable.images.ordinary import decode_ordinary

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

    from trainable.images.scales import Scale
    from trainable.images.windows import Window


@dataclass(frozen=True, kw_only=True)
class Content:
    """One decoded image. `channels` are images in mode "L", upright and of one size; the rest as in `ImageFacts`."""

    channels: tuple[Image.Image, ...]
    format: str
    mode: str
    scale: Scale
    patient: str | None = None
    series: str | None = None


def decode_content(data: bytes, windows: Sequence[Window], *, colour: bool, frame: int | None) -> Content:
    """Decode a file's bytes: one channel a window, or red, green and blue. Raises nearly anything for damage."""
    if dicom.is_dicom(data):
        return decode_dicom(dicom.parse(data), windows, colour=colour, frame=frame)
    if frame:
        raise ValueError(f"frame {frame} of an ordinary image file; only DICOM files have several")
    found = decode_ordinary(data, colour=colour)
    channels = found.image.split() if colour else (found.image,) * len(windows)
    return Content(channels=channels, format=found.format, mode=found.mode, scale=found.scale)


def decode_dicom(
    parsed: dicom.DicomFile, windows: Sequence[Window], *, colour: bool = False, frame: int | None = None
) -> Content:
    """Decode one frame of a DICOM file; None is the only one. Raises as `decode_content` does."""
    check_dimensions(parsed.width, parsed.height)
    if frame is None and parsed.num_frames > 1:
        find_macro(parsed.dataset, parsed.num_frames - 1, "PlanePositionSequence")  # raises where its header is cut
        raise ValueError(f"a DICOM file of {parsed.num_frames} frames; read it as a series, or write each by itself")
    if not 0 <= (index := frame or 0) < parsed.num_frames:
        raise ValueError(f"frame {index} of a DICOM file; it has {parsed.num_frames}, counted from 0")
    photometric = str(parsed.dataset.PhotometricInterpretation)
    num_grey = 3 if colour else len(windows)
    if parsed.is_colour:
        channels, scale = _read_colours(parsed, index, photometric, keep=colour)
        if not colour:
            channels = channels[:1] * num_grey
    else:
        found = dicom.read_frame(parsed, index)
        greys, scale = to_grey(found.values, parsed.dataset, index, windows, found.padding)
        channels = [Image.fromarray(grey) for grey in greys]
        if len(channels) < num_grey:
            channels *= num_grey
    return Content(
        channels=tuple(channels),
        format="DICOM",
        mode="HU" if scale.is_hounsfield else photometric,
        scale=scale,
        patient=parsed.patient,
        series=parsed.series,
    )


def _read_colours(
    parsed: dicom.DicomFile, frame: int, photometric: str, *, keep: bool
) -> tuple[list[Image.Image], Scale]:
    """Red, green and blue; without `keep`, only of a palette that is grey."""
    has_palette = photometric == "PALETTE COLOR"
    if not (keep or has_palette):
        raise ValueError(f"a DICOM file in {photometric}; it must be grey, or be read in colour (--colour)")
    pixels, scale = dicom.flatten_colours(dicom.read_frame(parsed, frame).values)
    if not (keep or dicom.is_grey(pixels)):
        raise ValueError("a DICOM file whose palette has colours; it must be grey, or be read in colour (--colour)")
    planes: NDArray[np.uint8] = np.ascontiguousarray(np.moveaxis(pixels, -1, 0))
    return [Image.fromarray(plane) for plane in planes], scale
