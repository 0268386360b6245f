"""Headers of DICOM files: the few that are read at all, and their values as numbers and words.

Only the headers of `HEADERS` are read (docs/dicom.md says what for): whatever else a file says of a person never
enters the process's data.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Iterable

    import pydicom

HEADERS = {
    "kind": ("SOPClassUID", "Modality", "ImageType"),
    "groups": ("PatientID", "StudyInstanceUID", "SeriesInstanceUID", "SOPInstanceUID"),
    "place": ("ImagePositionPatient", "ImageOrientationPatient", "InstanceNumber"),
    "pixels": (
        "SamplesPerPixel",
        "PhotometricInterpretation",
        "PlanarConfiguration",
        "NumberOfFrames",
        "Rows",
        "Columns",
        "BitsAllocated",
        "BitsStored",
        "HighBit",
        "PixelRepresentation",
        "RedPaletteColorLookupTableDescriptor",
        "GreenPaletteColorLookupTableDescriptor",
        "BluePaletteColorLookupTableDescriptor",
        "RedPaletteColorLookupTableData",
        "GreenPaletteColorLookupTableData",
        "BluePaletteColorLookupTableData",
        "SegmentedRedPaletteColorLookupTableData",
        "SegmentedGreenPaletteColorLookupTableData",
        "SegmentedBluePaletteColorLookupTableData",
        "ExtendedOffsetTable",
        "ExtendedOffsetTableLengths",
        "PixelData",
        "FloatPixelData",
        "DoubleFloatPixelData",
    ),
    "scale": (
        "RescaleSlope",
        "RescaleIntercept",
        "RescaleType",
        "ModalityLUTSequence",
        "PixelPaddingValue",
        "PixelPaddingRangeLimit",
        "FloatPixelPaddingValue",
        "FloatPixelPaddingRangeLimit",
        "DoubleFloatPixelPaddingValue",
        "DoubleFloatPixelPaddingRangeLimit",
        "WindowCenter",
        "WindowWidth",
        "VOILUTFunction",
        "VOILUTSequence",
        "SharedFunctionalGroupsSequence",
        "PerFrameFunctionalGroupsSequence",
    ),
}
PIXEL_KEYWORDS = ("PixelData", "FloatPixelData", "DoubleFloatPixelData")

_SECONDARY_CAPTURE = "1.2.840.10008.5.1.4.1.1.7"  # and its multi-frame kin, .1 to .4
_CT = "1.2.840.10008.5.1.4.1.1.2"  # and the enhanced kinds, .1 and .2


def read_headers(file: Any, kinds: Iterable[str] = HEADERS, *, with_pixels: bool = True) -> pydicom.Dataset:
    """The headers of some kinds of `HEADERS` from an open binary file, which is read to its pixels or with them.

    Raises ValueError for what is no data set.
    """
    import pydicom  # a quarter of a second, for who has DICOM files
    from pydicom.uid import ExplicitVRBigEndian, ExplicitVRLittleEndian, ImplicitVRLittleEndian

    dataset = pydicom.dcmread(
        file,
        force=True,
        specific_tags=[keyword for kind in kinds for keyword in HEADERS[kind]],
        stop_before_pixels=not with_pixels,
    )
    if not hasattr(dataset, "file_meta"):
        dataset.file_meta = pydicom.dataset.FileMetaDataset()
    if "TransferSyntaxUID" not in dataset.file_meta:  # a bare data set is never compressed (PS3.5, 10.1)
        is_implicit, is_little = dataset.original_encoding
        plain = ExplicitVRLittleEndian if is_little else ExplicitVRBigEndian
        dataset.file_meta.TransferSyntaxUID = ImplicitVRLittleEndian if is_implicit else plain
    return dataset


def read_integer(dataset: Any, keyword: str, default: int | None = None) -> int:
    """A header's whole number. Raises ValueError where it is none, or missing without a default."""
    value = dataset.get(keyword)
    if value is None or value == "":
        if default is None:
            raise ValueError(f"{keyword} is missing from its header")
        return default
    try:
        return int(value)
    except (TypeError, ValueError):
        raise ValueError(f"{keyword} is {value!r}; it must be a whole number") from None


def read_numbers(dataset: Any, keyword: str) -> list[float]:
    """A header's finite numbers, as many as there are. Raises ValueError where one is no number."""
    value = dataset.get(keyword)
    try:
        numbers = [float(entry) for entry in as_list(value) if str(entry).strip()]
    except (TypeError, ValueError):
        raise ValueError(f"{keyword} is {value!r}; it must be a number") from None
    if not np.isfinite(numbers).all():
        raise ValueError(f"{keyword} is {value!r}; it must be finite")
    return numbers


def read_word(dataset: Any, keyword: str) -> str:
    """A header's word in capitals, "" where it is missing or empty."""
    return " ".join(map(str, as_list(dataset.get(keyword)))).strip().upper()


def as_list(value: Any) -> list[Any]:
    if value is None:
        return []
    return [value] if isinstance(value, (str, bytes, int, float)) or not hasattr(value, "__iter__") else list(value)


def is_secondary_capture(dataset: pydicom.Dataset) -> bool:
    """Whether a file is an image of another system, not what a scanner stored."""
    sop_class = str(dataset.get("SOPClassUID") or "")
    return sop_class == _SECONDARY_CAPTURE or sop_class.startswith(f"{_SECONDARY_CAPTURE}.")


def is_ct(dataset: pydicom.Dataset) -> bool:
    """Whether a file is a CT image of a scanner by its SOP class."""
    return str(dataset.get("SOPClassUID") or "") in (_CT, f"{_CT}.1", f"{_CT}.2")
