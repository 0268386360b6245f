"""Lookup tables of DICOM files against grey levels worked out by hand."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from pydicom.dataset import Dataset
from pydicom.uid import ExplicitVRBigEndian

from tests.trainable.images.dicom_files import HU, LUNG_GREYS, build, item, save
from trainable.images.content import decode_content
from trainable.images.decode import BadImageError, decode
from trainable.images.scales import Scale
from trainable.images.windows import LUNG

OWN_RANGE = [0, 38, 81, 136, 146, 157, 163, 255]  # 255 * (HU + 1350) / 2350
FALLING = [255 - grey for grey in OWN_RANGE]
EIGHTHS = np.tile(np.repeat(np.array([0, 36, 72, 108, 144, 180, 216, 252], np.uint8), 4), (24, 1))


def _table(entries: NDArray[Any], first: int, bits: int = 16, *, kind: str = "bytes", signs: str = "") -> Dataset:
    """An item of a sequence; `signs` is how the descriptor's numbers are written, US or SS."""
    table = item(ModalityLUTType="US")
    signs = signs or ("SS" if first < 0 else "US")
    most = 2**15 if signs == "SS" else 2**16
    numbers = [len(entries) % most if len(entries) < 2**16 else 0, first, bits]
    table.add_new("LUTDescriptor", signs, numbers)
    if kind == "words":
        table.add_new("LUTData", "US", (entries & 0xFFFF).tolist())
    else:
        table.add_new("LUTData", "OW", (entries & 0xFFFF).astype("u1" if kind == "packed" else "<u2").tobytes())
    return table


def _modality(stored: NDArray[Any], table: Dataset, *, signed: bool = False, hounsfield: bool = False) -> Dataset:
    if hounsfield:
        table.ModalityLUTType = "HU"
    headers: dict[str, Any] = {"Modality": "CT" if hounsfield else "CR", "ModalityLUTSequence": [table]}
    return build(stored, signed=signed, bits=8 if stored.dtype == np.uint8 else 16, **headers)


def _assert_greys(dataset: Dataset, expected: list[int], scale: Scale, *, implicit: bool = False) -> None:
    data = save(dataset, implicit=implicit)
    found = decode_content(data, (LUNG,), colour=False, frame=None)
    assert np.abs(np.asarray(found.channels[0])[0, 1::4].astype(int) - expected).max() <= 1
    assert found.scale is scale


@pytest.mark.parametrize("kind", ["HU", None])
@pytest.mark.parametrize("implicit", [False, True])
def test_a_modality_lut_gives_hounsfield_units(kind: str | None, implicit: bool) -> None:
    entries = (np.arange(4096) * 2).astype("<u2")
    lut = item(LUTDescriptor=[4096, 0, 16], LUTData=entries.tobytes())
    if kind:
        lut.ModalityLUTType = kind
    expected = [230, 230, 230, 230, 230, 246, 255, 255]  # of 0, 0, 0, 0, 0, 100, 150 and 1000
    dataset = build((HU.clip(0) // 2), ModalityLUTSequence=[lut])
    _assert_greys(dataset, expected, Scale.MODALITY_LUT, implicit=implicit)


@pytest.mark.parametrize("kind", ["bytes", "words"])
@pytest.mark.parametrize(("first", "signs"), [(-1400, "SS"), (64136, "US")])
@pytest.mark.parametrize("implicit", [False, True])
def test_a_modality_lut_may_begin_below_zero_and_hold_air(kind: str, first: int, signs: str, implicit: bool) -> None:
    """Air is below zero: as an entry of 16 bits it is 64,536, which was white."""
    table = _table(np.arange(-1400, 2696), first, kind=kind, signs=signs)
    dataset = _modality(HU, table, signed=True, hounsfield=True)
    _assert_greys(dataset, LUNG_GREYS, Scale.MODALITY_LUT, implicit=implicit)
    unsigned = _modality(HU + 1400, _table(np.arange(-1400, 2696), 0, kind=kind), hounsfield=True)
    _assert_greys(unsigned, LUNG_GREYS, Scale.MODALITY_LUT, implicit=implicit)


def test_a_table_begins_below_zero_by_its_file_and_not_by_what_one_image_shows() -> None:
    shown = HU.clip(0)  # of a signed file that shows nothing below zero
    dataset = _modality(shown, _table(np.arange(4096), 64512), signed=True)  # -1024
    _assert_greys(dataset, [0, 0, 0, 0, 0, 26, 38, 255], Scale.STRETCHED)
    table = _table(np.arange(4096), 64512, 12)
    voi = build(shown, signed=True, Modality="DX", VOILUTSequence=[table])
    _assert_greys(voi, [64, 64, 64, 64, 64, 70, 73, 126], Scale.WINDOW_OF_FILE)  # 255 * (HU + 1024) / 4095


@pytest.mark.parametrize("bits", [10, 12, 14, 16])
@pytest.mark.parametrize("kind", ["bytes", "words"])
def test_a_modality_lut_has_entries_of_any_number_of_bits(bits: int, kind: str) -> None:
    entries = 2**bits - 1 - np.arange(1024) * 2 ** (bits - 10)
    _assert_greys(_modality((HU + 2000) // 4, _table(entries, 0, bits, kind=kind)), FALLING, Scale.STRETCHED)


@pytest.mark.parametrize("kind", ["bytes", "packed"])
def test_a_modality_lut_of_eight_bits_is_read_packed_and_not(kind: str) -> None:
    expected = [255, 219, 182, 146, 109, 73, 36, 0]  # 255 - 255 * value / 252
    _assert_greys(_modality(EIGHTHS, _table(255 - np.arange(256), 0, 8, kind=kind)), expected, Scale.STRETCHED)


def test_a_modality_lut_may_be_longer_than_the_values_and_shorter() -> None:
    long = _modality(EIGHTHS, _table(4095 - np.arange(4096), 0, 12))
    _assert_greys(long, [255, 219, 182, 146, 109, 73, 36, 0], Scale.STRETCHED)
    whole = _modality(HU, _table(np.arange(2**16), -(2**15)), signed=True)
    _assert_greys(whole, OWN_RANGE, Scale.STRETCHED)
    short = _modality(HU + 2000, _table(2000 - np.arange(2001), 0))  # values above 2000 are the last entry: 0
    _assert_greys(short, [255, 189, 113, 19, 0, 0, 0, 0], Scale.STRETCHED)  # 255 * -HU / 1350


def test_a_modality_lut_that_is_cut_is_refused() -> None:
    table = _table(np.arange(600), 0)
    table.LUTDescriptor = [1000, 0, 16]
    with pytest.raises(BadImageError, match="its modality LUT has 600 entries; its LUTDescriptor says 1000"):
        decode(save(_modality(HU + 2000, table)))


@pytest.mark.parametrize("kind", ["words", "bytes", "bytes packed", "implicit"])
def test_a_voi_lut_gives_the_greys_of_its_whole_table(kind: str) -> None:
    """1,000 entries for the values from 500 on, falling from 4,000: the image uses some of them."""
    entries = np.linspace(4000, 0, 1000).round().astype(np.uint16)
    bits = 12
    if kind == "bytes packed":
        entries, bits = (entries / 4000 * 250).astype(np.uint8), 8
    table = item(LUTDescriptor=[1000, 500, bits], LUTData=entries.tolist() if kind == "words" else entries.tobytes())
    table["LUTData"].VR = "US" if kind == "words" else "OW"
    stored = np.tile(np.repeat([0, 500, 750, 1000, 1250, 1499, 1500, 3000], 4), (24, 1))
    data = save(build(stored, Modality="DX", VOILUTSequence=[table]), implicit=kind == "implicit")
    greys = decode(data)[0, ::4].astype(int)
    assert np.abs(greys - [255, 255, 191, 127, 63, 0, 0, 0]).max() <= 1
    half = np.where(stored < 1000, 1000, stored)  # another image's contrast is the same
    other = decode(save(build(half, Modality="DX", VOILUTSequence=[table])))[0, ::4].astype(int)
    assert np.abs(other - [127, 127, 127, 127, 63, 0, 0, 0]).max() <= 1


def test_a_voi_lut_that_is_cut_is_refused() -> None:
    table = item(LUTDescriptor=[1000, 0, 12], LUTData=bytes(600))
    table["LUTData"].VR = "OW"
    with pytest.raises(BadImageError, match="its VOI LUT has 300 entries; its LUTDescriptor says 1000"):
        decode(save(build(np.zeros((24, 32), int), Modality="DX", VOILUTSequence=[table])))


def test_a_voi_lut_without_a_table_leaves_the_window() -> None:
    headers: dict[str, Any] = {"Modality": "MR", "WindowCenter": 1825.5, "WindowWidth": 2351}
    dataset = build(HU + 2000, VOILUTSequence=[item(LUTExplanation="lung")], **headers)
    _assert_greys(dataset, OWN_RANGE, Scale.WINDOW_OF_FILE)


def _palette(stored: NDArray[Any], entries: NDArray[Any], *, bits: int = 16, first: int = 0, **headers: Any) -> Dataset:
    size = 8 * stored.dtype.itemsize if stored.dtype.itemsize < 4 else 16
    shape: dict[str, Any] = {"bits": size, "Modality": "US", "PhotometricInterpretation": "PALETTE COLOR", **headers}
    dataset = build(stored, **shape)
    for colour in ("Red", "Green", "Blue"):
        numbers = [len(entries) % 2**16, first, bits]
        dataset.add_new(f"{colour}PaletteColorLookupTableDescriptor", "SS" if first < 0 else "US", numbers)
        dataset.add_new(f"{colour}PaletteColorLookupTableData", "OW", entries.tobytes())
    return dataset


BY_SEVENTHS = np.tile(np.repeat(np.array([0, 585, 1170, 1755, 2340, 2925, 3510, 4095], np.uint16), 4), (24, 1))
FALLING_SEVENTHS = [255, 218, 182, 145, 109, 72, 36, 0]  # (4095 - value) // 16


@pytest.mark.parametrize("kind", ["<u2", "u1"])
def test_a_palette_of_many_colours_is_read_packed_and_not(kind: str) -> None:
    entries = 4095 - np.arange(4096)
    entries = entries // 16 if kind == "u1" else entries * 16
    dataset = _palette(BY_SEVENTHS, entries.astype(kind), bits=8 if kind == "u1" else 16)
    _assert_greys(dataset, FALLING_SEVENTHS, Scale.ORDINARY)


def test_a_big_endian_palette_is_read_by_its_bytes() -> None:
    dataset = _palette(BY_SEVENTHS, ((4095 - np.arange(4096)) * 16).astype(">u2"))
    dataset.PixelData = BY_SEVENTHS.astype(">u2").tobytes()
    dataset.file_meta.TransferSyntaxUID = ExplicitVRBigEndian
    _assert_greys(dataset, FALLING_SEVENTHS, Scale.ORDINARY)


def test_numbers_beyond_a_palette_have_its_last_colour_and_spare_bits_are_no_colour() -> None:
    stored = np.tile(np.repeat(np.array([0, 50, 100, 150, 199, 200, 300, 511], np.uint16), 4), (24, 1))
    entries = (255 - np.arange(200)).astype("u1")
    _assert_greys(_palette(stored, entries, bits=8), [255, 205, 155, 105, 56, 56, 56, 56], Scale.ORDINARY)
    spare = _palette(EIGHTHS.astype(np.uint16) | 0x1000, (255 - np.arange(256)).astype("u1"), bits=8)
    spare.BitsStored, spare.HighBit = 8, 7
    _assert_greys(spare, [255, 219, 183, 147, 111, 75, 39, 3], Scale.ORDINARY)
    signed = _palette(HU, ((np.arange(-1350, 1001) + 1350) * 27).astype("<u2"), first=-1350, signed=True)
    _assert_greys(signed, [0, 36, 79, 131, 142, 152, 158, 247], Scale.ORDINARY)  # (HU + 1350) * 27 // 256


def test_how_deep_a_palette_is_its_whole_table_says_and_not_what_one_image_shows() -> None:
    entries = (np.arange(256) * 257).astype("<u2")
    entries[:2] = 0, 200  # of 65535
    _assert_greys(_palette(EIGHTHS // 252, entries), [0] * 8, Scale.ORDINARY)


def test_a_palette_in_segments_is_read() -> None:
    dataset = _palette(EIGHTHS, np.zeros(256, "<u2"))
    for colour in ("Red", "Green", "Blue"):
        delattr(dataset, f"{colour}PaletteColorLookupTableData")
        # one entry of 65,535, then 255 on a line down to 0 (PS3.3, C.7.9.2)
        segments = np.array([0, 1, 65535, 1, 255, 0], "<u2").tobytes()
        dataset.add_new(f"Segmented{colour}PaletteColorLookupTableData", "OW", segments)
    _assert_greys(dataset, [255, 219, 183, 147, 111, 75, 39, 3], Scale.ORDINARY)
