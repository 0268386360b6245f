"""DICOM files: what a file holds, and its frames as stored values. Callers add the file's name to errors."""

from __future__ import annotations

import io
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from trainable.images.dicom_headers import PIXEL_KEYWORDS, as_list, read_headers, read_integer, read_numbers, read_word
from trainable.images.dicom_kinds import find_reason_to_leave_out
from trainable.images.faults import NotASliceError
from trainable.images.lookup_tables import apply_palette
from trainable.images.scales import Scale
from trainable.images.windows import stretch

if TYPE_CHECKING:
    import pydicom


START_BYTES = 132  # all that `is_dicom` looks at
_FIRST_VRS = (b"UL", b"OB", b"UI", b"SH", b"CS", b"DA", b"TM", b"LO")  # of the first elements


@dataclass(frozen=True, kw_only=True)
class DicomFile:
    """One DICOM file, parsed but not decoded. `width` and `height` in pixels, from the header.

    `patient` and `series` are PatientID and SeriesInstanceUID where there are any: never log the first.
    """

    dataset: pydicom.Dataset
    width: int
    height: int
    num_frames: int
    is_colour: bool
    patient: str | None
    series: str | None


def is_dicom(data: bytes) -> bool:
    """Whether bytes are a DICOM file, by content: `DICM` after a preamble (PS3.10, 7.1), or a data set without one."""
    return data[128:132] == b"DICM" or _is_bare(data)


def _is_bare(data: bytes) -> bool:
    """A data set, or its file meta group, from the first byte: elements of group 2 or 8 with a length that fits."""
    for order in ("little", "big"):
        group, element = (int.from_bytes(data[at : at + 2], order) for at in (0, 2))
        if (group == 2 and element <= 0x0102) or (group == 8 and element <= 0x0070):
            if data[4:6] in _FIRST_VRS:
                return True
            length = int.from_bytes(data[4:8], order)
            return len(data) > 64 and length % 2 == 0 and length <= 256
    return False


def parse(data: bytes) -> DicomFile:
    """Read the headers that are needed; pixels stay as they are stored.

    Raises NotASliceError for what is in order but no image to classify, and ValueError for damage.
    """
    dataset = read_headers(io.BytesIO(data))
    if reason := find_reason_to_leave_out(dataset):
        raise NotASliceError(reason)
    if not any(keyword in dataset for keyword in PIXEL_KEYWORDS):
        raise NotASliceError("a DICOM file without pixel data")
    samples = read_integer(dataset, "SamplesPerPixel", 1)
    photometric = read_word(dataset, "PhotometricInterpretation") or ("MONOCHROME2" if samples == 1 else "")
    dataset.PhotometricInterpretation = photometric
    dataset.SamplesPerPixel = samples
    if dataset.get("BitsStored") is None and dataset.get("BitsAllocated") is not None:
        dataset.BitsStored = dataset.BitsAllocated
    return DicomFile(
        dataset=dataset,
        width=read_integer(dataset, "Columns"),
        height=read_integer(dataset, "Rows"),
        num_frames=max(1, read_integer(dataset, "NumberOfFrames", 1)),
        is_colour=samples != 1 or photometric == "PALETTE COLOR",
        patient=str(dataset.get("PatientID") or "").strip() or None,
        series=str(dataset.get("SeriesInstanceUID") or "").strip() or None,
    )


@dataclass(frozen=True, kw_only=True)
class Frame:
    """One frame: `values` as stored, (height, width), or RGB (height, width, 3) of any whole-number type.

    `padding`, bool (height, width), is where the header says that there is no image; None where nothing is.
    """

    values: NDArray[Any]
    padding: NDArray[np.bool_] | None = None


def read_frame(parsed: DicomFile, frame: int) -> Frame:
    """One frame, decompressed.

    Bits outside BitsStored (old overlays, garbage) are taken away and signs extended. Raises ValueError where the
    pixels cannot be decompressed, or are those of more frames than the header says.
    """
    from pydicom.pixels.utils import pixel_array

    from trainable.images import codecs

    dataset, syntax = parsed.dataset, parsed.dataset.file_meta.TransferSyntaxUID
    plugin = ""
    if syntax.is_encapsulated:
        plugin = codecs.choose_plugin(syntax)
        codecs.add_codecs()
        codecs.check_frame(_get_packed_frame(parsed, frame), syntax, width=parsed.width, height=parsed.height)
    else:
        _check_length(parsed)
    try:
        values = np.asarray(pixel_array(dataset, index=frame, decoding_plugin=plugin, correct_unused_bits=False))
    except (RuntimeError, NotImplementedError, AttributeError) as error:
        if not syntax.is_compressed or "missing" in str(error):
            raise
        raise ValueError(
            f"its pixels are compressed as {syntax.name}, which cannot be decoded here; "
            f"decompress it first (gdcmconv --raw) ({error})"
        ) from error
    if values.shape[:2] != (parsed.height, parsed.width):
        raise ValueError(f"its pixels are {values.shape}, its header says {parsed.width} x {parsed.height}")
    if values.ndim == 3:
        return Frame(values=values)
    if values.dtype.kind not in "iu":
        return Frame(values=values, padding=_find_float_padding(values, dataset))
    stored = _keep_stored_bits(values, dataset)
    if dataset.PhotometricInterpretation == "PALETTE COLOR":
        return Frame(values=apply_palette(stored, dataset))
    return Frame(values=stored, padding=_find_padding(values, stored, dataset))


def _check_length(parsed: DicomFile) -> None:
    dataset = parsed.dataset
    num_bits = 16 if dataset.PhotometricInterpretation == "YBR_FULL_422" else 0  # a pixel: two samples of 8
    num_bits = num_bits or read_integer(dataset, "SamplesPerPixel") * read_integer(dataset, "BitsAllocated")
    num_bytes = len(dataset.get("PixelData") or b"")
    _check_number(parsed, 8 * num_bytes // max(1, parsed.width * parsed.height * num_bits))


def _check_number(parsed: DicomFile, num_found: int) -> None:
    """Raises ValueError for pixels of more frames than the header says, of which all but the first would be lost."""
    if num_found > parsed.num_frames:
        raise ValueError(f"its pixels are {num_found} frames, its header says {parsed.num_frames}; correct its header")


def _get_packed_frame(parsed: DicomFile, frame: int) -> bytes:
    from pydicom.encaps import get_frame, parse_basic_offsets

    pixels, offsets = parsed.dataset.PixelData, None
    _check_number(parsed, len(parse_basic_offsets(pixels)))
    if "ExtendedOffsetTable" in parsed.dataset:
        offsets = (parsed.dataset.ExtendedOffsetTable, parsed.dataset.ExtendedOffsetTableLengths)
    return get_frame(pixels, frame, number_of_frames=parsed.num_frames, extended_offsets=offsets)


def _keep_stored_bits(values: NDArray[Any], dataset: pydicom.Dataset) -> NDArray[Any]:
    """The bits HighBit - BitsStored + 1 to HighBit of each value, with its sign (PS3.5, 8.1.1)."""
    allocated = 8 * values.itemsize
    stored = read_integer(dataset, "BitsStored", allocated)
    high = read_integer(dataset, "HighBit", stored - 1)
    if not 0 < stored <= high + 1 <= allocated:
        raise ValueError(f"BitsStored is {stored} and HighBit {high}; of {allocated} bits that cannot be")
    if stored == allocated:
        return values
    return (values << (allocated - 1 - high)) >> (allocated - stored)


def _find_padding(raw: NDArray[Any], stored: NDArray[Any], dataset: pydicom.Dataset) -> NDArray[np.bool_] | None:
    """Where values are PixelPaddingValue or up to PixelPaddingRangeLimit (PS3.3, C.7.5.1.1.2).

    Some scanners pad by a value that BitsStored cannot hold: values are compared `raw` as well as `stored`.
    """
    if not (limits := read_numbers(dataset, "PixelPaddingValue")[:1]):
        return None
    limits += read_numbers(dataset, "PixelPaddingRangeLimit")[:1]
    info, span = np.iinfo(raw.dtype), 2.0 ** (8 * raw.itemsize)
    fitted = [limit - span * (limit > info.max) + span * (limit < info.min) for limit in limits]  # 63536 is -2000
    first, last = min(fitted), max(fitted)
    found = ((raw >= first) & (raw <= last)) | ((stored >= first) & (stored <= last))
    return found if found.any() else None


def _find_float_padding(values: NDArray[Any], dataset: pydicom.Dataset) -> NDArray[np.bool_] | None:
    """The same of pixels that are floats; what is not finite counts for nothing anyway."""
    prefix = "Float" if values.dtype.itemsize == 4 else "DoubleFloat"
    names = (f"{prefix}PixelPaddingValue", f"{prefix}PixelPaddingRangeLimit")
    limits = [float(number) for name in names for number in as_list(dataset.get(name))[:1]]
    if names[0] not in dataset or not np.isfinite(limits).all() or not limits:
        return None
    found = (values >= min(limits)) & (values <= max(limits))
    return found if found.any() else None


def is_grey(values: NDArray[Any]) -> bool:
    """Whether RGB (height, width, 3) has no colours."""
    return bool((values[..., 0] == values[..., 1]).all() and (values[..., 0] == values[..., 2]).all())


def flatten_colours(values: NDArray[Any]) -> tuple[NDArray[np.uint8], Scale]:
    """RGB (height, width, 3) of any whole-number type as uint8, deep ones by their own minimum and maximum."""
    return (values, Scale.ORDINARY) if values.dtype == np.uint8 else (stretch(values), Scale.STRETCHED)
