"""DICOM slices: pixel data to Hounsfield units to a lung window. Callers add the file's name to errors."""

from __future__ import annotations

import io
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    import pydicom

LUNG_CENTRE_HU = -600.0
LUNG_WIDTH_HU = 1500.0


@dataclass(frozen=True, kw_only=True)
class DicomSlice:
    """One DICOM file, parsed but not decoded. `width` and `height` in pixels, from the header."""

    dataset: pydicom.Dataset
    width: int
    height: int
    in_hounsfield: bool
    patient: str | None


def is_dicom(data: bytes) -> bool:
    """True for a DICOM Part 10 file, by content: `DICM` after a preamble of 128 bytes (PS3.10, 7.1)."""
    return data[128:132] == b"DICM"


def parse(data: bytes) -> DicomSlice:
    """Read everything but the pixels. Raises ValueError for what is not one grey slice."""
    import pydicom  # a quarter of a second, for who has DICOM files

    dataset = pydicom.dcmread(io.BytesIO(data))
    if "PixelData" not in dataset:
        raise ValueError("a DICOM file without pixel data; leave it out")
    num_frames = int(dataset.get("NumberOfFrames") or 1)
    if num_frames > 1:
        raise ValueError(f"a DICOM file of {num_frames} frames; write each frame as a file of its own")
    if int(dataset.get("SamplesPerPixel", 1)) != 1:
        raise ValueError(f"a DICOM file in {dataset.get('PhotometricInterpretation')}; it must be grey")
    return DicomSlice(
        dataset=dataset,
        width=int(dataset.Columns),
        height=int(dataset.Rows),
        in_hounsfield="RescaleIntercept" in dataset and dataset.get("Modality", "CT") in ("CT", "", None),
        patient=str(dataset.get("PatientID") or "").strip() or None,
    )


def decode(parsed: DicomSlice) -> np.ndarray:
    """The slice as uint8 (height, width).

    CT with a rescale goes to Hounsfield units and through the lung window (-1350 HU is 0, 150 HU is 255).
    Without a rescale, or of another modality, its values mean nothing outside the picture: its own minimum
    is 0 and its maximum 255. MONOCHROME1 (low is bright) is inverted. Raises ValueError where the pixels
    cannot be decompressed.
    """
    dataset = parsed.dataset
    try:
        values = np.asarray(dataset.pixel_array, dtype=np.float32)
    except (RuntimeError, NotImplementedError, AttributeError) as error:
        syntax = getattr(getattr(dataset, "file_meta", None), "TransferSyntaxUID", None)
        if syntax is None or not syntax.is_compressed:
            raise
        raise ValueError(
            f"its pixels are compressed as {syntax.name}, which the installed codecs cannot decode; "
            f"decompress it first (gdcmconv --raw) or install pylibjpeg ({error})"
        ) from error
    if parsed.in_hounsfield:
        values = values * float(dataset.get("RescaleSlope", 1)) + float(dataset.RescaleIntercept)
        grey = apply_window(values, centre=LUNG_CENTRE_HU, width=LUNG_WIDTH_HU)
    else:
        grey = stretch(values)
    return 255 - grey if dataset.get("PhotometricInterpretation") == "MONOCHROME1" else grey


def apply_window(values: np.ndarray, *, centre: float, width: float) -> np.ndarray:
    """Map centre -+ width/2 to 0 and 255, clipped, as uint8 (LINEAR_EXACT of DICOM PS3.3, C.11.2.1.3.2)."""
    return np.rint(np.clip((values - (centre - width / 2)) * (255 / width), 0, 255)).astype(np.uint8)


def stretch(values: np.ndarray) -> np.ndarray:
    """Map the least finite value to 0 and the greatest to 255; NaN becomes 0. A flat picture becomes black.

    Raises ValueError when no value is finite.
    """
    values = np.asarray(values, dtype=np.float64)
    finite = np.isfinite(values)
    if not finite.any():
        raise ValueError("no pixel has a finite value")
    low, high = values.min(where=finite, initial=np.inf), values.max(where=finite, initial=-np.inf)
    if high == low:
        return np.zeros(values.shape, np.uint8)
    values = np.nan_to_num(values, nan=low, posinf=high, neginf=low)
    return apply_window(values, centre=low / 2 + high / 2, width=high - low)
