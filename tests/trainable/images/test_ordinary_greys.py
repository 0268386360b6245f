"""Kinds of ordinary image files against grey levels worked out by hand."""

from __future__ import annotations

import io
import struct
import zlib
from collections.abc import Callable
from typing import Any

import imagecodecs
import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image

from trainable.images.content import decode_content
from trainable.images.decode import BadImageError, decode, decode_with_colour
from trainable.images.scales import Scale
from trainable.images.windows import LUNG, parse_windows

FLAT = np.tile(np.repeat(np.array([10, 60, 110, 235], np.uint8), 8), (24, 1))  # four columns of one grey each
FLAT_GREYS = [10, 60, 110, 235]
DEEP = np.tile(np.repeat(np.array([1000, 1100, 1300, 1400], np.uint16), 8), (24, 1))
DEEP_GREYS = [0, 64, 191, 255]  # 255 * (value - 1000) / 400: 63.75 and 191.25
OPAQUE, CLEAR = 65535, 0


def _greys(data: bytes, **options: Any) -> list[int]:
    pixels = decode(data, **options)
    assert pixels.shape == (24, 32)
    assert np.ptp(pixels.reshape(24, 4, 8), axis=(0, 2)).max() <= 1
    return [int(grey) for grey in pixels[0, 1::8]]


def _encode(image: Image.Image, kind: str = "PNG", **options: Any) -> bytes:
    file = io.BytesIO()
    image.save(file, kind, **options)
    return file.getvalue()


def _png(samples: NDArray[Any], bit_depth: int, colour_type: int, *chunks: tuple[bytes, bytes]) -> bytes:
    """A PNG by hand: samples (H, W, C) of 8 or 16 bits, or rows of packed bytes (H, n) for fewer."""
    height = samples.shape[0]
    width = 32
    rows = samples.astype(">u2" if bit_depth == 16 else "u1").reshape(height, -1)

    def chunk(name: bytes, content: bytes) -> bytes:
        return struct.pack(">I", len(content)) + name + content + struct.pack(">I", zlib.crc32(name + content))

    header = chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, bit_depth, colour_type, 0, 0, 0))
    body = zlib.compress(b"".join(b"\0" + row.tobytes() for row in rows))
    return (
        b"\x89PNG\r\n\x1a\n"
        + header
        + b"".join(chunk(*more) for more in chunks)
        + chunk(b"IDAT", body)
        + chunk(b"IEND", b"")
    )


def _stacked(*channels: NDArray[Any] | int) -> NDArray[np.uint16]:
    return np.dstack([np.broadcast_to(np.asarray(channel, np.uint16), DEEP.shape) for channel in channels])


def _half_clear() -> NDArray[np.uint16]:
    """Opaque on the left, clear on the right, where values lie that must not count."""
    return np.where(np.arange(32) < 24, OPAQUE, CLEAR).astype(np.uint16) * np.ones((24, 1), np.uint16)


def _two_bits() -> bytes:
    packed = np.tile(np.repeat(np.array([0x00, 0x55, 0xAA, 0xFF], np.uint8), 2), (24, 1))  # values 0, 1, 2, 3
    return _png(packed, 2, 0)


def _ppm() -> bytes:
    return b"P6\n# a remark\n32 24\n65535\n" + np.dstack([DEEP] * 3).astype(">u2").tobytes()


def _pgm() -> bytes:
    return b"P5 32 24 65535\n" + DEEP.astype(">u2").tobytes()


FLAT_KINDS: dict[str, tuple[Callable[[], bytes], list[int]]] = {
    "grey PNG": (lambda: _encode(Image.fromarray(FLAT)), FLAT_GREYS),
    "grey PNG of 2 bits": (_two_bits, [0, 85, 170, 255]),
    "black and white": (
        lambda: _encode(Image.fromarray(FLAT).convert("1", dither=Image.Dither.NONE)),
        [0, 0, 0, 255],
    ),
    "black and white TIFF, group 4": (
        lambda: _encode(Image.fromarray(FLAT).convert("1", dither=Image.Dither.NONE), "TIFF", compression="group4"),
        [0, 0, 0, 255],
    ),
    "palette": (lambda: _encode(Image.fromarray(FLAT).convert("P")), FLAT_GREYS),
    "GIF": (lambda: _encode(Image.fromarray(FLAT), "GIF"), FLAT_GREYS),
    "colours": (lambda: _encode(Image.merge("RGB", [Image.fromarray(FLAT)] * 3), "BMP"), FLAT_GREYS),
    "CMYK TIFF": (lambda: _encode(Image.fromarray(FLAT).convert("CMYK"), "TIFF"), FLAT_GREYS),
    "JPEG": (lambda: _encode(Image.fromarray(FLAT), "JPEG", quality=100), FLAT_GREYS),
    "lossless WebP": (lambda: _encode(Image.fromarray(FLAT).convert("RGB"), "WEBP", lossless=True), FLAT_GREYS),
    "TIFF whose zero is white": (
        lambda: _encode(Image.fromarray(FLAT), "TIFF", tiffinfo={262: 0}),  # Pillow stores 255 - grey
        FLAT_GREYS,
    ),
    "LZW TIFF": (lambda: _encode(Image.fromarray(FLAT), "TIFF", compression="tiff_lzw"), FLAT_GREYS),
}
DEEP_KINDS: dict[str, Callable[[], bytes]] = {
    "grey PNG": lambda: _png(_stacked(DEEP), 16, 0),
    "grey PNG with transparency": lambda: _png(_stacked(DEEP, OPAQUE), 16, 4),
    "RGB PNG": lambda: _png(_stacked(DEEP, DEEP, DEEP), 16, 2),
    "RGBA PNG": lambda: _png(_stacked(DEEP, DEEP, DEEP, OPAQUE), 16, 6),
    "grey TIFF": lambda: bytes(imagecodecs.tiff_encode(DEEP)),
    "RGB TIFF": lambda: bytes(imagecodecs.tiff_encode(np.dstack([DEEP] * 3), photometric="rgb")),
    "RGB TIFF in planes": lambda: bytes(
        imagecodecs.tiff_encode(np.stack([DEEP] * 3), photometric="rgb", planarconfig="separate")
    ),
    "signed TIFF": lambda: bytes(imagecodecs.tiff_encode(DEEP.astype(np.int16) - 1200)),
    "TIFF of 32 bits beyond the signed ones": lambda: bytes(imagecodecs.tiff_encode(DEEP.astype(np.uint32) * 3000000)),
    "float TIFF": lambda: _encode(Image.fromarray(DEEP.astype(np.float32) / 7 - 100), "TIFF"),
    "float TIFF of 64 bits": lambda: bytes(imagecodecs.tiff_encode(DEEP / 1e6)),
    "big-endian TIFF": lambda: bytes(imagecodecs.tiff_encode(DEEP.copy(), byteorder=">")),
    "PGM": _pgm,
    "PPM": _ppm,
    "grey JPEG 2000": lambda: bytes(imagecodecs.jpeg2k_encode(DEEP, reversible=True)),
    "RGB JPEG 2000": lambda: bytes(imagecodecs.jpeg2k_encode(np.dstack([DEEP] * 3), reversible=True)),
}


@pytest.mark.parametrize("name", FLAT_KINDS)
def test_eight_bits_or_fewer_keep_their_greys(name: str) -> None:
    make, expected = FLAT_KINDS[name]
    data = make()
    assert np.abs(np.array(_greys(data)) - expected).max() <= 1
    assert decode_content(data, (LUNG,), colour=False, frame=None).scale is Scale.ORDINARY


@pytest.mark.parametrize("name", DEEP_KINDS)
def test_deep_files_are_scaled_by_their_own_range_with_all_their_bits(name: str) -> None:
    data = DEEP_KINDS[name]()
    assert np.abs(np.array(_greys(data)) - DEEP_GREYS).max() <= 1
    assert decode_content(data, (LUNG,), colour=False, frame=None).scale is Scale.STRETCHED


def test_deep_colours_become_luma_before_they_are_scaled() -> None:
    red = np.where(np.arange(32) < 16, 0, 4000) * np.ones((24, 1))  # 0 and 0.299 * 4000 = 1196
    green = np.where(np.arange(32) % 16 < 8, 0, 1000) * np.ones((24, 1))  # 0 and 0.587 * 1000 = 587
    data = _png(_stacked(red, green, 0), 16, 2)
    assert np.abs(np.array(_greys(data)) - [0, 84, 171, 255]).max() <= 1  # of 0, 587, 1196 and 1783


@pytest.mark.parametrize("channels", [1, 3])
def test_what_is_clear_in_a_deep_file_is_black_and_stretches_no_range(channels: int) -> None:
    values = DEEP.copy()
    values[:, 24:] = 60000
    data = _png(_stacked(*[values] * channels, _half_clear()), 16, 4 if channels == 1 else 6)
    assert np.abs(np.array(_greys(data)) - [0, 85, 255, 0]).max() <= 1  # 1000, 1100 and 1300; clear


@pytest.mark.parametrize(("colour_type", "key"), [(0, ">H"), (2, ">HHH")])
def test_the_transparent_value_of_a_deep_png_is_black_and_stretches_no_range(colour_type: int, key: str) -> None:
    values = DEEP.copy()
    values[:, 24:] = 60000
    channels = 1 if colour_type == 0 else 3
    transparent = (b"tRNS", struct.pack(key, *[60000] * channels))
    data = _png(_stacked(*[values] * channels), 16, colour_type, transparent)
    assert np.abs(np.array(_greys(data)) - [0, 85, 255, 0]).max() <= 1


def test_half_opacity_halves_a_deep_grey() -> None:
    data = _png(_stacked(DEEP, 32768), 16, 4)
    assert np.abs(np.array(_greys(data)) - [0, 32, 96, 128]).max() <= 1


@pytest.mark.parametrize("orientation", [1, 2, 3, 4, 5, 6, 7, 8])
@pytest.mark.parametrize("kind", ["JPEG", "PNG", "TIFF", "WEBP", "deep PNG"])
def test_every_orientation_is_turned_upright(orientation: int, kind: str) -> None:
    upright = np.zeros((32, 48), np.uint8)
    upright[:16, :24], upright[16:, 24:] = 200, 90
    back = {
        1: upright,
        2: upright[:, ::-1],
        3: upright[::-1, ::-1],
        4: upright[::-1],
        5: upright.T,
        6: np.rot90(upright),
        7: upright[::-1, ::-1].T,
        8: np.rot90(upright, -1),
    }
    stored = Image.fromarray(np.ascontiguousarray(back[orientation]))
    exif = Image.Exif()
    exif[0x0112] = orientation
    if kind == "deep PNG":
        stored = Image.fromarray(np.asarray(stored).astype(np.uint16) * 100)
    data = _encode(stored.convert("RGB") if kind == "WEBP" else stored, kind.split()[-1], exif=exif.tobytes())
    seen = decode(data)
    wanted = upright if kind != "deep PNG" else np.rint(upright * (255 / 200))
    assert seen.shape == upright.shape
    centres = np.s_[8::16, 12::24]
    assert np.abs(seen[centres].astype(int) - wanted[centres]).max() <= 3


def test_smaller_copies_in_a_tiff_are_no_pages() -> None:
    whole, small = Image.fromarray(FLAT), Image.fromarray(FLAT[::2, ::2])
    small.encoderinfo = {"tiffinfo": {254: 1}}
    data = _encode(whole, "TIFF", save_all=True, append_images=[small])
    assert _greys(data) == FLAT_GREYS
    with pytest.raises(BadImageError, match="2 frames in one TIFF"):
        decode(_encode(whole, "TIFF", save_all=True, append_images=[Image.fromarray(FLAT)]))


@pytest.mark.parametrize(
    ("make", "reason"),
    [
        (lambda: bytes(imagecodecs.tiff_encode(np.dstack([DEEP] * 4), photometric="separated")), "CMYK"),
        (lambda: bytes(imagecodecs.tiff_encode(DEEP.astype(np.complex64))), "photometric|type|read"),
        (lambda: _png(_stacked(DEEP, DEEP, DEEP), 16, 2)[:-60], "PNG|IDAT|read"),
        (lambda: b"PK\3\4" + bytes(60), "a zip archive; unpack it first"),
        (lambda: b"\x1f\x8b" + bytes(60), "a gzip file; unpack it first"),
        (lambda: _ppm()[:-20], "buffer"),
    ],
)
def test_what_cannot_be_decoded_with_all_its_bits_is_refused_in_one_line(
    make: Callable[[], bytes], reason: str
) -> None:
    with pytest.raises(BadImageError, match=reason) as caught:
        decode(make())
    assert "\n" not in str(caught.value)


def test_colours_are_kept_where_they_are_asked_for() -> None:
    colours = np.zeros((24, 32, 3), np.uint8)
    colours[..., 0], colours[:, 16:, 2] = 200, 70
    np.testing.assert_array_equal(decode(_encode(Image.fromarray(colours)), colour=True), colours)
    clear = Image.fromarray(colours).convert("RGBA")
    clear.putalpha(128)
    assert np.abs(decode(_encode(clear), colour=True).astype(int) - colours // 2).max() <= 1
    grey = decode(_encode(Image.fromarray(FLAT)), colour=True)
    np.testing.assert_array_equal(grey, np.dstack([FLAT] * 3))
    deep = _png(_stacked(DEEP, 1000, 1000), 16, 2)
    assert np.abs(decode(deep, colour=True)[0, ::8, 0].astype(int) - DEEP_GREYS).max() <= 1
    assert decode(deep, colour=True)[..., 1:].max() == 0
    assert decode_with_colour(deep)[1] > 0.5


def test_several_windows_repeat_the_one_grey_of_an_ordinary_file() -> None:
    seen = decode(_encode(Image.fromarray(FLAT)), windows=parse_windows("lung,mediastinum"))
    np.testing.assert_array_equal(seen, np.dstack([FLAT] * 2))
    with pytest.raises(ValueError, match="either colours or windows"):
        decode(_encode(Image.fromarray(FLAT)), windows=parse_windows("lung,bone"), colour=True)
