"""Kinds of DICOM files against grey levels worked out by hand."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import imagecodecs
import numpy as np
import pytest
from numpy.typing import NDArray
from pydicom.dataset import Dataset
from pydicom.uid import (
    UID,
    ExplicitVRBigEndian,
    HTJ2KLossless,
    JPEG2000Lossless,
    JPEGLosslessSV1,
    JPEGLSLossless,
    JPEGLSNearLossless,
    RLELossless,
)

from tests.trainable.images.dicom_files import ENHANCED_CT, HU, LUNG_GREYS, SECONDARY_CAPTURE, build, item, pack, save
from trainable.images.content import decode_content
from trainable.images.decode import decode
from trainable.images.scales import Scale
from trainable.images.windows import LUNG

CT_UNSIGNED: dict[str, Any] = {"RescaleSlope": 1, "RescaleIntercept": -2000}


def greys_of(data: bytes, **options: Any) -> list[int]:
    """The grey of each of the eight columns of tissue."""
    pixels = decode(data, **options)
    assert pixels.shape == HU.shape
    assert np.ptp(pixels.reshape(24, 8, 4), axis=(0, 2)).max() <= 1
    return [int(grey) for grey in pixels[0, 1::4]]


def assert_greys(data: bytes, expected: list[int], scale: Scale) -> None:
    assert np.abs(np.array(greys_of(data)) - expected).max() <= 1
    assert decode_content(data, (LUNG,), colour=False, frame=None).scale is scale


def rescaled(**headers: Any) -> Dataset:
    return build(HU + 2000, **{**CT_UNSIGNED, **headers})


def _enhanced(shared: Dataset | None, per_frame: Dataset | None = None) -> Dataset:
    headers: dict[str, Any] = {"SOPClassUID": ENHANCED_CT, "NumberOfFrames": 1}
    if shared is not None:
        headers["SharedFunctionalGroupsSequence"] = [shared]
    if per_frame is not None:
        headers["PerFrameFunctionalGroupsSequence"] = [per_frame]
    return build(HU + 2000, **headers)


def _transformation(slope: float, intercept: float, kind: str = "HU") -> Dataset:
    values = item(RescaleSlope=slope, RescaleIntercept=intercept, RescaleType=kind)
    return item(PixelValueTransformationSequence=[values])


def _with_garbage() -> Dataset:
    stored = (HU + 1400).astype(np.uint16)
    garbage = stored | (np.arange(stored.size, dtype=np.uint16).reshape(stored.shape) << 12)
    return build(garbage, bits=12, RescaleSlope=1, RescaleIntercept=-1400)


def _signed_with_garbage() -> Dataset:
    stored = HU.astype(np.int16).view(np.uint16) & 0x0FFF
    garbage = (stored | (np.arange(stored.size, dtype=np.uint16).reshape(stored.shape) << 12)).view(np.int16)
    return build(garbage, bits=12, signed=True, RescaleSlope=1, RescaleIntercept=0)


def _shifted() -> Dataset:
    """Twelve bits at the upper end of sixteen, an overlay's bit below them."""
    stored = ((HU + 1400).astype(np.uint16) << 4) | 1
    return build(stored, bits=12, HighBit=15, RescaleSlope=1, RescaleIntercept=-1400)


def _big_endian() -> Dataset:
    dataset = rescaled()
    dataset.PixelData = (HU + 2000).astype(">u2").tobytes()
    dataset.file_meta.TransferSyntaxUID = ExplicitVRBigEndian
    return dataset


HOUNSFIELD: dict[str, Callable[[], Dataset]] = {
    "unsigned with an intercept": rescaled,
    "signed": lambda: build(HU, signed=True, RescaleSlope=1, RescaleIntercept=0),
    "slope of 2": lambda: build((HU + 2000) // 2, RescaleSlope=2, RescaleIntercept=-2000),
    "slope of a quarter": lambda: build((HU + 2000) * 4, RescaleSlope="0.25", RescaleIntercept="-2000.0"),
    "negative slope": lambda: build(2000 - HU, RescaleSlope=-1, RescaleIntercept=2000),
    "slope empty": lambda: rescaled(RescaleSlope=""),
    "slope missing": lambda: rescaled(RescaleSlope=None),
    "intercept empty": lambda: build(HU, signed=True, RescaleSlope=1, RescaleIntercept=""),
    "intercept missing": lambda: build(HU, signed=True, RescaleSlope=1),
    "both empty": lambda: build(HU, signed=True, RescaleSlope="", RescaleIntercept=""),
    "modality missing": lambda: rescaled(Modality=None),
    "modality empty": lambda: rescaled(Modality=""),
    "photometric interpretation missing": lambda: rescaled(PhotometricInterpretation=None),
    "samples per pixel missing": lambda: rescaled(SamplesPerPixel=None),
    "type said to be HU": lambda: rescaled(RescaleType="HU", Modality="OT"),
    "MONOCHROME1": lambda: rescaled(PhotometricInterpretation="MONOCHROME1"),
    "window in the file": lambda: rescaled(WindowCenter=40, WindowWidth=400),
    "shared functional groups": lambda: _enhanced(_transformation(1, -2000)),
    "functional groups of the frame": lambda: _enhanced(_transformation(3, 7), _transformation(1, -2000)),
    "only functional groups of the frame": lambda: _enhanced(None, _transformation(1, -2000)),
    "garbage in the high bits": _with_garbage,
    "garbage above the sign": _signed_with_garbage,
    "an overlay in the low bits": _shifted,
    "big endian": _big_endian,
    "secondary capture that keeps its scale": lambda: rescaled(SOPClassUID=SECONDARY_CAPTURE),
    "padding far below": lambda: rescaled(PixelPaddingValue=1),
}


@pytest.mark.parametrize("name", HOUNSFIELD)
def test_hounsfield_units_become_the_same_greys_however_they_are_written(name: str) -> None:
    assert_greys(save(HOUNSFIELD[name]()), LUNG_GREYS, Scale.HOUNSFIELD)


@pytest.mark.parametrize("name", ["unsigned with an intercept", "signed", "shared functional groups", "slope empty"])
def test_neither_implicit_representations_nor_a_missing_preamble_change_a_grey(name: str) -> None:
    assert_greys(save(HOUNSFIELD[name](), implicit=True), LUNG_GREYS, Scale.HOUNSFIELD)
    assert_greys(save(HOUNSFIELD[name]())[132:], LUNG_GREYS, Scale.HOUNSFIELD)  # begins with the file meta group
    data = save(HOUNSFIELD[name](), implicit=True)
    length = int.from_bytes(data[140:144], "little")  # of the group, after its own element of 12 bytes
    assert_greys(data[144 + length :], LUNG_GREYS, Scale.HOUNSFIELD)  # begins with the data set


OWN_RANGE = [0, 38, 81, 136, 146, 157, 163, 255]  # 255 * (HU + 1350) / 2350


@pytest.mark.parametrize(
    ("headers", "scale"),
    [
        ({}, Scale.STRETCHED),
        ({"Modality": "MR"}, Scale.STRETCHED),
        ({"Modality": "PT", "RescaleSlope": "0.5", "RescaleIntercept": 0}, Scale.STRETCHED),
        ({"Modality": "PT", "RescaleSlope": 0, "RescaleIntercept": 0}, Scale.STRETCHED),
        ({"RescaleType": "Z_EFF", "RescaleSlope": 1, "RescaleIntercept": -2000}, Scale.STRETCHED),
        ({"RescaleSlope": 1}, Scale.STRETCHED),  # unsigned without an intercept: no air can be meant
        ({"RescaleSlope": 1, "RescaleIntercept": ""}, Scale.STRETCHED),
        ({"WindowCenter": -600, "WindowWidth": 1500}, Scale.STRETCHED),  # in CT that means Hounsfield units
        ({"WindowCenter": -600, "WindowWidth": 1500, "Modality": None}, Scale.STRETCHED),  # CT by its class
        ({"Modality": "MR", "WindowCenter": "", "WindowWidth": ""}, Scale.STRETCHED),
        ({"Modality": "MR", "WindowCenter": 9000, "WindowWidth": 1}, Scale.STRETCHED),  # it would show nothing
        ({"Modality": "MR", "WindowCenter": 9000, "WindowWidth": 0}, Scale.STRETCHED),
        ({"Modality": "MR", "WindowCenter": [1825.5, 3], "WindowWidth": [2351, 4]}, Scale.WINDOW_OF_FILE),
        (
            {"Modality": "CR", "WindowCenter": 1825, "WindowWidth": 2350, "VOILUTFunction": "LINEAR_EXACT"},
            Scale.WINDOW_OF_FILE,
        ),
    ],
)
def test_without_hounsfield_units_the_own_range_or_window_counts(headers: dict[str, Any], scale: Scale) -> None:
    assert_greys(save(build(HU + 2000, **headers)), OWN_RANGE, scale)
    inverted = save(build(HU + 2000, PhotometricInterpretation="MONOCHROME1", **headers))
    assert_greys(inverted, [255 - grey for grey in OWN_RANGE], scale)


def test_a_sigmoid_window_is_the_files() -> None:
    headers: dict[str, Any] = {"Modality": "DX", "WindowCenter": 2000, "WindowWidth": 1000, "VOILUTFunction": "SIGMOID"}
    # 255 / (1 + exp(-4 HU / 1000))
    expected = [1, 5, 21, 102, 128, 153, 165, 250]
    assert_greys(save(build(HU + 2000, **headers)), expected, Scale.WINDOW_OF_FILE)


@pytest.mark.parametrize("implicit", [False, True])
@pytest.mark.parametrize(
    ("signed", "padding", "limit"),
    [(True, -2000, None), (True, -3000, -2000), (True, -2000, -3000), (False, 4000, None), (False, 3900, 4100)],
)
def test_padding_is_black_and_does_not_stretch_the_range(
    signed: bool, padding: int, limit: int | None, implicit: bool
) -> None:
    stored = HU.copy() if signed else HU + 2000
    stored[:, :4] = -2000 if signed else 4000  # the darkest tissue is padded over: the range begins at -1000
    headers: dict[str, Any] = {"PixelPaddingValue": padding, "Modality": "MR", "PixelPaddingRangeLimit": limit}
    expected = [0, 0, 51, 115, 128, 140, 147, 255]  # 255 * (HU + 1000) / 2000
    for photometric in ("MONOCHROME2", "MONOCHROME1"):
        data = save(build(stored, signed=signed, PhotometricInterpretation=photometric, **headers), implicit=implicit)
        wanted = expected if photometric == "MONOCHROME2" else [0, *(255 - grey for grey in expected[1:])]
        assert_greys(data, wanted, Scale.STRETCHED)


@pytest.mark.parametrize(("prefix", "kind", "padding"), [("Float", "<f4", -3e38), ("DoubleFloat", "<f8", -1e300)])
@pytest.mark.parametrize("is_range", [False, True])
def test_padding_of_floats_is_black_and_does_not_stretch_the_range(
    prefix: str, kind: str, padding: float, is_range: bool
) -> None:
    values = HU / 7
    values[:, :4] = padding
    dataset = build(HU, Modality="MR", BitsStored=None, HighBit=None, PixelRepresentation=None)
    del dataset.PixelData
    dataset.BitsAllocated = 8 * np.dtype(kind).itemsize
    setattr(dataset, f"{prefix}PixelData", values.astype(kind).tobytes())
    setattr(dataset, f"{prefix}PixelPaddingValue", padding)
    if is_range:
        setattr(dataset, f"{prefix}PixelPaddingRangeLimit", -2000.0)
    expected = [0, 0, 51, 115, 128, 140, 147, 255]  # 255 * (HU + 1000) / 2000
    assert_greys(save(dataset), expected, Scale.STRETCHED)


def test_values_of_32_bits_keep_what_lies_between_them() -> None:
    dataset = build(HU, Modality="PT", BitsStored=32, HighBit=31)
    dataset.BitsAllocated = 32
    dataset.PixelData = (HU.astype(np.int64) + 3_000_000_000).astype("<u4").tobytes()
    assert_greys(save(dataset), OWN_RANGE, Scale.STRETCHED)


def test_a_word_of_the_header_means_the_same_in_small_letters() -> None:
    data = save(build(HU + 2000, Modality="MR", PhotometricInterpretation="MONOCHROME1"))
    small = data.replace(b"MONOCHROME1", b"Monochrome1")
    assert_greys(small, [255 - grey for grey in OWN_RANGE], Scale.STRETCHED)


def test_padding_is_black_in_every_window_even_where_its_value_would_be_white() -> None:
    stored = HU + 2000
    stored[:, :4] = 4000
    data = save(build(stored, PixelPaddingValue=4000, **CT_UNSIGNED))
    assert_greys(data, LUNG_GREYS, Scale.HOUNSFIELD)


def test_a_padding_value_that_the_stored_bits_cannot_hold_is_found_and_takes_no_tissue_with_it() -> None:
    stored = HU + 1400
    stored[:, :4] = 63536
    dataset = build(stored, bits=12, RescaleSlope=1, RescaleIntercept=-1400, PixelPaddingValue=63536)
    assert_greys(save(dataset), LUNG_GREYS, Scale.HOUNSFIELD)
    stored[:, 28:] = 63536 & 0xFFF  # the same lower bits, in a real pixel
    dataset.PixelData = stored.astype("<u2").tobytes()
    assert greys_of(save(dataset))[-1] == 255


def test_a_slice_of_nothing_but_padding_is_black() -> None:
    data = save(build(np.full((24, 32), 7), PixelPaddingValue=7, **CT_UNSIGNED))
    assert decode(data).max() == 0


def test_values_that_can_be_no_ct_are_told_by_their_scale() -> None:
    data = save(build(HU + 1400, RescaleSlope=1, RescaleIntercept=0))
    assert decode_content(data, (LUNG,), colour=False, frame=None).scale is Scale.HOUNSFIELD_WITHOUT_AIR


def _lossless(syntax: str, stored: NDArray[Any]) -> bytes:
    if syntax == JPEGLosslessSV1:
        return bytes(imagecodecs.ljpeg_encode(stored, bitspersample=12))
    if syntax in (JPEGLSLossless, JPEGLSNearLossless):
        return bytes(imagecodecs.jpegls_encode(stored, level=int(syntax == JPEGLSNearLossless)))
    if syntax == HTJ2KLossless:
        return bytes(imagecodecs.htj2k_encode(stored, reversible=True))
    return bytes(imagecodecs.jpeg2k_encode(stored, bitspersample=12, reversible=True, codecformat="j2k"))


@pytest.mark.parametrize(
    "syntax", [JPEGLosslessSV1, JPEGLSLossless, JPEGLSNearLossless, JPEG2000Lossless, HTJ2KLossless, RLELossless]
)
@pytest.mark.parametrize("signed", [False, True])
def test_compressed_hounsfield_units_become_the_same_greys(syntax: UID, signed: bool) -> None:
    offset = 0 if signed else -1400
    dataset = build(HU - offset, bits=12, signed=signed, RescaleSlope=1, RescaleIntercept=offset)
    if syntax == RLELossless:
        dataset.compress(RLELossless)
    else:
        stored: NDArray[Any] = ((HU - offset) & 0xFFF).astype(np.uint16)
        if signed and syntax == JPEG2000Lossless:
            stored = HU.astype(np.int16)
        pack(dataset, _lossless(syntax, stored), syntax)
    assert_greys(save(dataset), LUNG_GREYS, Scale.HOUNSFIELD)
