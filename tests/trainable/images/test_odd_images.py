"""Ordinary files that Pillow misreads or does not open, against grey levels worked out by hand."""

from __future__ import annotations

import struct
import zlib
from typing import Any, Literal

import imagecodecs
import numpy as np
import pytest
from numpy.typing import NDArray

from trainable.images.content import decode_content
from trainable.images.decode import BadImageError, decode, decode_with_colour
from trainable.images.scales import Scale
from trainable.images.windows import LUNG

FLAT = np.tile(np.repeat(np.array([10, 60, 110, 235], np.uint8), 8), (24, 1))  # four columns of one grey each
FLAT_GREYS = [10, 60, 110, 235]
DEEP = np.tile(np.repeat(np.array([1000, 1100, 1300, 1400], np.uint16), 8), (24, 1))
DEEP_GREYS = [0, 64, 191, 255]  # 255 * (value - 1000) / 400
SIGNED = np.tile(np.repeat(np.array([-100, -50, 50, 100], np.int8), 8), (24, 1))
SHORT, LONG, TEXT = 3, 4, 2  # types of TIFF 6.0


def _assert_greys(data: bytes, expected: list[int], scale: Scale, *, off: int = 1) -> None:
    found = decode_content(data, (LUNG,), colour=False, frame=None)
    pixels = np.asarray(found.channels[0])
    assert pixels.shape == (24, 32)
    assert np.ptp(pixels.reshape(24, 4, 8), axis=(0, 2)).max() <= off
    assert np.abs(pixels[0, 1::8].astype(int) - expected).max() <= off
    assert found.scale is scale


def _tiff(samples: NDArray[Any], tags: dict[int, Any], *, order: Literal["<", ">"] = "<") -> bytes:
    """A TIFF of one strip by hand: `samples` (H, W) or (H, W, C); a tag of None is left out, text is given as bytes."""
    num_samples = 1 if samples.ndim == 2 else samples.shape[2]
    entries: dict[int, Any] = {
        256: [samples.shape[1]],
        257: [samples.shape[0]],
        258: [8 * samples.dtype.itemsize] * num_samples,
        259: [1],
        262: [1],
        273: [0],
        277: [num_samples],
        278: [samples.shape[0]],
        279: [samples.nbytes],
        **tags,
    }
    entries = {tag: value for tag, value in sorted(entries.items()) if value is not None}
    at = 8 + 2 + 12 * len(entries) + 4
    beyond = b""
    table = b""
    for tag, value in entries.items():
        raw = value if isinstance(value, bytes) else struct.pack(f"{order}{len(value)}H", *value)
        kind, count = (TEXT, len(raw)) if isinstance(value, bytes) else (SHORT, len(value))
        if len(raw) > 4:
            beyond += raw + b"\0" * (len(raw) % 2)
            raw = struct.pack(f"{order}I", at + len(beyond) - len(raw) - len(raw) % 2)
        table += struct.pack(f"{order}HHI", tag, kind, count) + raw.ljust(4, b"\0")
    strip = struct.pack(f"{order}HHII", 273, LONG, 1, at + len(beyond))
    place = table.index(struct.pack(f"{order}HHI", 273, SHORT, 1))
    table = table[:place] + strip + table[place + 12 :]
    start = (b"II*\0" if order == "<" else b"MM\0*") + struct.pack(f"{order}I", 8)
    body = samples.astype(samples.dtype.newbyteorder(order)).tobytes()
    return start + struct.pack(f"{order}H", len(entries)) + table + bytes(4) + beyond + body


@pytest.mark.parametrize(("bits", "transparent"), [(2, 1), (2, 3), (4, 5), (4, 15)])
def test_the_transparent_grey_of_a_png_of_few_bits_is_black(bits: int, transparent: int) -> None:
    """It is counted in the file's bits, of 4 or 16 greys, and not in the 256 that are shown."""
    values = np.array([0, 1, 2, 3]) * (5 if bits == 4 else 1)
    packed = values * (0x55 if bits == 2 else 0x11)
    rows = b"".join(b"\0" + np.repeat(packed.astype(np.uint8), bits).tobytes() for _ in range(24))

    def chunk(name: bytes, content: bytes) -> bytes:
        return struct.pack(">I", len(content)) + name + content + struct.pack(">I", zlib.crc32(name + content))

    header = chunk(b"IHDR", struct.pack(">IIBBBBB", 32, 24, bits, 0, 0, 0, 0))
    body = chunk(b"tRNS", struct.pack(">H", transparent)) + chunk(b"IDAT", zlib.compress(rows)) + chunk(b"IEND", b"")
    expected = [0 if value == transparent else grey for value, grey in zip(values, [0, 85, 170, 255], strict=True)]
    _assert_greys(b"\x89PNG\r\n\x1a\n" + header + body, expected, Scale.ORDINARY)


@pytest.mark.parametrize("order", ["<", ">"])
def test_signed_samples_of_eight_bits_keep_their_order(order: Literal["<", ">"]) -> None:
    data = _tiff(SIGNED, {339: [2]}, order=order)
    _assert_greys(data, [0, 64, 191, 255], Scale.STRETCHED)  # 255 * (value + 100) / 200
    inverted = _tiff(SIGNED, {339: [2], 262: [0]}, order=order)
    _assert_greys(inverted, [255, 191, 64, 0], Scale.STRETCHED)


def test_eight_bits_are_greys_as_they_are_whoever_reads_them() -> None:
    """Two samples a pixel that no tag explains are nothing that Pillow opens."""
    _assert_greys(_tiff(np.dstack([FLAT, FLAT * 0]), {}), FLAT_GREYS, Scale.ORDINARY)
    white = _tiff(np.dstack([255 - FLAT, FLAT * 0]), {262: [0]})
    _assert_greys(white, FLAT_GREYS, Scale.ORDINARY)


@pytest.mark.parametrize("samples", [FLAT, np.dstack([FLAT] * 3)], ids=["grey", "RGB"])
def test_a_tiff_that_does_not_say_which_is_white_is_not_inverted(samples: NDArray[np.uint8]) -> None:
    _assert_greys(_tiff(samples, {262: None}), FLAT_GREYS, Scale.ORDINARY)


def test_a_tiff_that_does_not_say_how_many_bits_it_has_has_one() -> None:
    packed = np.tile(np.array([0, 255, 0, 255], np.uint8), (24, 1))
    data = _tiff(packed, {256: [32], 258: None, 262: [0]})
    _assert_greys(data, [255, 0, 255, 0], Scale.ORDINARY)


def test_grey_with_premultiplied_opacity_is_read() -> None:
    data = _tiff(np.dstack([FLAT // 2, np.full_like(FLAT, 128)]), {338: [1]})
    _assert_greys(data, [5, 30, 55, 117], Scale.ORDINARY)


@pytest.mark.parametrize("kind", ["TIFF", "TGA", "deep PNG"])
def test_an_opacity_that_is_nothing_everywhere_is_a_spare_sample(kind: str) -> None:
    if kind == "deep PNG":
        _assert_greys(bytes(imagecodecs.png_encode(np.dstack([DEEP] * 3 + [DEEP * 0]))), DEEP_GREYS, Scale.STRETCHED)
        return
    samples = np.dstack([FLAT] * 3 + [FLAT * 0])
    tga = bytes([0, 0, 2, *bytes(9), 32, 0, 24, 0, 32, 0x20]) + samples.tobytes()
    _assert_greys(_tiff(samples, {262: [2]}) if kind == "TIFF" else tga, FLAT_GREYS, Scale.ORDINARY)


@pytest.mark.parametrize("kind", [np.float64, np.int8, np.uint16])
@pytest.mark.parametrize("orientation", [3, 6])
def test_every_kind_of_samples_is_turned_upright(kind: type[np.generic], orientation: int) -> None:
    upright = np.zeros((32, 48))
    upright[:16, :24], upright[16:, 24:] = 100, 40
    stored = upright[::-1, ::-1] if orientation == 3 else np.rot90(upright)
    form = {np.float64: 3, np.int8: 2, np.uint16: 1}[kind]  # type: ignore[index]
    data = _tiff(np.ascontiguousarray(stored).astype(kind), {274: [orientation], 339: [form]})
    seen = decode(data)
    assert seen.shape == upright.shape
    assert np.abs(seen - upright * 2.55).max() <= 1


@pytest.mark.parametrize("samples", [FLAT, DEEP], ids=["8 bits", "16 bits"])
def test_a_stack_of_imagej_in_one_page_is_several_images(samples: NDArray[Any]) -> None:
    description = {270: b"ImageJ=1.53t\nimages=3\nslices=3\n\0"}
    with pytest.raises(BadImageError, match="3 frames in one TIFF"):
        decode(_tiff(samples, description) + samples.tobytes() * 2)
    is_flat = samples.dtype == np.uint8  # one page of it alone, with the stack's words
    alone = FLAT_GREYS if is_flat else DEEP_GREYS
    _assert_greys(_tiff(samples, description), alone, Scale.ORDINARY if is_flat else Scale.STRETCHED)


def test_deep_colours_in_words_keep_all_their_bits() -> None:
    words = " ".join(map(str, np.repeat(DEEP.ravel(), 3))).replace(" 1100 ", " # a remark\n1100 ", 1)
    data = f"P3\n32 24\n65535\n{words}\n".encode()
    _assert_greys(data, DEEP_GREYS, Scale.STRETCHED)
    with pytest.raises(BadImageError):
        decode(data[:-2000])


def test_a_jpeg_of_twelve_bits_and_a_lossless_one_keep_all_their_bits() -> None:
    lossless = bytes(imagecodecs.jpeg8_encode(DEEP, lossless=True, predictor=1, bitspersample=16))
    _assert_greys(lossless, DEEP_GREYS, Scale.STRETCHED)
    lossy = bytes(imagecodecs.jpeg8_encode(DEEP * 2, level=99, bitspersample=12))
    _assert_greys(lossy, DEEP_GREYS, Scale.STRETCHED, off=3)
    coloured = bytes(imagecodecs.jpeg8_encode(np.dstack([DEEP * 2, DEEP, DEEP]), level=99, bitspersample=12))
    assert decode_with_colour(lossy)[1] == 0 and decode(coloured, colour=True).shape == (24, 32, 3)
    with pytest.raises(BadImageError, match="a JPEG that is cut or damaged"):
        decode(lossy[:-20])
