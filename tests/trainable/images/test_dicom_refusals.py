"""DICOM files that are damaged, hold no slice, or have colours: refused or taken by name, never as another grey."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import imagecodecs
import numpy as np
import pytest
from numpy.typing import NDArray
from pydicom.encaps import encapsulate
from pydicom.uid import (
    JPEGExtended12Bit,
    JPEGLSLossless,
)

from tests.trainable.images.dicom_files import HU, LUNG_GREYS, SECONDARY_CAPTURE, build, pack, save
from trainable.images.content import decode_content
from trainable.images.decode import BadImageError, NotASliceError, decode
from trainable.images.faults import count_left_out
from trainable.images.scales import Scale
from trainable.images.windows import LUNG


def test_twelve_bit_jpeg_is_nearly_the_same_grey() -> None:
    dataset = build(HU + 1400, bits=12, RescaleSlope=1, RescaleIntercept=-1400)
    frame = bytes(imagecodecs.jpeg8_encode((HU + 1400).astype(np.uint16), level=100, bitspersample=12))
    pixels = decode(save(pack(dataset, frame, JPEGExtended12Bit)))
    assert np.abs(pixels[0, 1::4].astype(int) - LUNG_GREYS).max() <= 2


@pytest.mark.parametrize(
    ("frame", "reason"),
    [
        (lambda whole: whole[: len(whole) // 2], "end before their end marker"),
        (lambda whole: bytes(imagecodecs.jpegls_encode(np.zeros((48, 32), np.uint16))), "name 32 x 48 pixels"),
        (lambda whole: b"\xff\xd8\xff\xd9", "name no size"),
        (lambda whole: b"\0\0", "end before their end marker"),
    ],
)
def test_a_damaged_frame_is_refused_in_one_line(frame: Callable[[bytes], bytes], reason: str) -> None:
    whole = bytes(imagecodecs.jpegls_encode((HU + 1400).astype(np.uint16)))
    dataset = pack(build(HU + 1400, bits=12), frame(whole), JPEGLSLossless)
    with pytest.raises(BadImageError, match=reason) as caught:
        decode(save(dataset))
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("headers", "reason"),
    [
        ({"ImageType": ["ORIGINAL", "PRIMARY", "LOCALIZER"]}, "a localizer"),
        ({"ImageType": ["ORIGINAL", "PRIMARY", "SCOUT"]}, "a localizer"),
        ({"Modality": "SR", "PixelData": None}, "a report"),
        ({"Modality": "RTSTRUCT", "PixelData": None}, "contours of radiotherapy"),
        ({"Modality": "RTDOSE"}, "a dose grid"),
        ({"Modality": "SEG"}, "a segmentation"),
        ({"Modality": "DOC", "PixelData": None}, "a document"),
        ({"SOPClassUID": "1.2.840.10008.5.1.4.1.1.104.1", "Modality": "OT", "PixelData": None}, "without pixel data"),
        ({"SOPClassUID": SECONDARY_CAPTURE}, "a secondary capture"),
        ({"SOPClassUID": SECONDARY_CAPTURE, "RescaleSlope": 1, "RescaleIntercept": 0}, "a secondary capture"),
        ({"SOPClassUID": SECONDARY_CAPTURE, "Modality": "OT", "ImageType": ["SCREEN SAVE"]}, "a secondary capture"),
    ],
)
def test_what_holds_no_slice_is_told_apart_from_what_is_damaged(headers: dict[str, Any], reason: str) -> None:
    with pytest.raises(NotASliceError, match=reason) as caught:
        decode(save(build(HU + 2000, **headers)))
    assert str(caught.value).endswith(f": {caught.value.reason}")
    assert count_left_out([caught.value] * 3) == [f"3 files are left out: {caught.value.reason}"]


def test_a_radiograph_that_was_stored_as_a_secondary_capture_is_taken() -> None:
    data = save(build((HU // 10 + 140).astype(np.uint8), bits=8, Modality="CR", SOPClassUID=SECONDARY_CAPTURE))
    assert decode_content(data, (LUNG,), colour=False, frame=None).scale is Scale.STRETCHED


@pytest.mark.parametrize(
    ("headers", "reason"),
    [
        ({"RescaleSlope": 0, "RescaleIntercept": -1024}, "RescaleSlope is 0"),
        ({"BitsStored": 17}, "BitsStored|Bits Stored"),
        ({"BitsStored": 0}, "BitsStored|Bits Stored"),
        ({"HighBit": 3}, "HighBit 3"),
        ({"PixelRepresentation": None}, "Pixel Representation"),
        ({"Rows": ""}, "Rows is missing"),
        ({"NumberOfFrames": 2}, "2 frames; read it as a series"),
    ],
)
def test_headers_that_cannot_be_are_refused_by_name(headers: dict[str, Any], reason: str) -> None:
    with pytest.raises(BadImageError, match=reason):
        decode(save(build(HU + 2000, **headers)))


def test_pixels_of_more_frames_than_the_header_says_are_refused_and_a_few_bytes_more_are_not() -> None:
    dataset = build(HU + 2000, RescaleSlope=1, RescaleIntercept=-2000)
    whole, pixels = decode(save(dataset)), dataset.PixelData
    dataset.PixelData = pixels + bytes(len(pixels) - 2)
    np.testing.assert_array_equal(decode(save(dataset)), whole)
    dataset.PixelData = pixels * 3
    with pytest.raises(BadImageError, match="its pixels are 3 frames, its header says 1"):
        decode(save(dataset))


@pytest.mark.parametrize("has_offsets", [True, False])
@pytest.mark.parametrize("num_frames", [1, None])
def test_compressed_frames_that_no_header_counts_are_refused(has_offsets: bool, num_frames: int | None) -> None:
    dataset = build(HU + 1400, bits=12, RescaleSlope=1, RescaleIntercept=-1400, NumberOfFrames=num_frames)
    frame = bytes(imagecodecs.jpegls_encode((HU + 1400).astype(np.uint16)))
    pack(dataset, frame, JPEGLSLossless)
    assert decode(save(dataset)).max() == 255
    dataset.PixelData = encapsulate([frame, frame], has_bot=has_offsets)
    with pytest.raises(BadImageError, match=r"its header says (1|fewer); correct its header"):
        decode(save(dataset))


def _palette(red: NDArray[Any], green: NDArray[Any]) -> bytes:
    dataset = build(np.tile(np.arange(32, dtype=np.uint8), (24, 1)), bits=8, Modality="US")
    dataset.PhotometricInterpretation = "PALETTE COLOR"
    for name, entries in (("Red", red), ("Green", green), ("Blue", red)):
        setattr(dataset, f"{name}PaletteColorLookupTableDescriptor", [32, 0, 16])
        setattr(dataset, f"{name}PaletteColorLookupTableData", entries.astype("<u2").tobytes())
    return save(dataset)


def test_a_palette_is_looked_up_and_its_numbers_are_never_taken_for_greys() -> None:
    falling = np.arange(31, -1, -1) * 2048
    assert decode(_palette(falling, falling))[0].tolist() == [8 * grey for grey in range(31, -1, -1)]
    coloured = _palette(falling, falling[::-1])
    with pytest.raises(BadImageError, match="palette has colours"):
        decode(coloured)
    assert decode(coloured, colour=True)[0, 0].tolist() == [248, 0, 248]


def test_colours_are_kept_where_they_are_asked_for() -> None:
    rgb = np.zeros((24, 32, 3), np.uint8)
    rgb[..., 0], rgb[..., 1] = 200, 40
    dataset = build(np.zeros((24, 32), np.uint8), bits=8, Modality="XC", SamplesPerPixel=3)
    dataset.PhotometricInterpretation, dataset.PlanarConfiguration = "RGB", 0
    dataset.PixelData = rgb.tobytes()
    np.testing.assert_array_equal(decode(save(dataset), colour=True), rgb)
    with pytest.raises(BadImageError, match="must be grey, or be read in colour"):
        decode(save(dataset))
