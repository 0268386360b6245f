from __future__ import annotations

import io
import warnings
import zlib
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
from PIL import Image

from trainable.images.decode import (
    BadImageError,
    decode_grey,
    decode_slice,
    decode_with_colour,
    read_slice,
    resize_grey,
)

if TYPE_CHECKING:
    from pathlib import Path

RAMP = np.tile(np.arange(0, 256, 4, dtype=np.uint8), (32, 1))  # 32 high, 64 wide, black to nearly white


def _encode(image: Image.Image, kind: str = "PNG", **options: Any) -> bytes:
    file = io.BytesIO()
    image.save(file, kind, **options)
    return file.getvalue()


def _decode(image: Image.Image, kind: str = "PNG", **options: Any) -> np.ndarray:
    return np.asarray(decode_grey(_encode(image, kind, **options)))


def _png_header(width: int, height: int) -> bytes:
    """A PNG that claims a size and holds nothing."""
    header = b"IHDR" + width.to_bytes(4, "big") + height.to_bytes(4, "big") + bytes([8, 0, 0, 0, 0])
    chunk = (13).to_bytes(4, "big") + header + zlib.crc32(header).to_bytes(4, "big")
    data = b"IDAT" + zlib.compress(b"")
    chunk += (len(data) - 4).to_bytes(4, "big") + data + zlib.crc32(data).to_bytes(4, "big")
    return b"\x89PNG\r\n\x1a\n" + chunk


@pytest.mark.parametrize("kind", ["PNG", "TIFF", "BMP", "GIF", "PPM", "TGA"])
def test_grey_is_kept_by_every_lossless_format(kind: str) -> None:
    np.testing.assert_array_equal(_decode(Image.fromarray(RAMP), kind), RAMP)


@pytest.mark.parametrize("kind", ["JPEG", "WEBP", "JPEG2000", "AVIF"])
def test_grey_is_nearly_kept_by_lossy_formats(kind: str) -> None:
    assert np.abs(_decode(Image.fromarray(RAMP), kind, quality=95).astype(int) - RAMP).max() <= 8


@pytest.mark.parametrize("mode", ["RGB", "RGBA", "LA", "P"])
def test_grey_in_another_mode_is_the_same_grey(mode: str) -> None:
    np.testing.assert_array_equal(_decode(Image.fromarray(RAMP).convert(mode)), RAMP)


@pytest.mark.parametrize("kind", ["TIFF", "JPEG"])
def test_grey_in_cmyk_is_nearly_the_same_grey(kind: str) -> None:
    image = Image.fromarray(RAMP).convert("CMYK")
    assert np.abs(_decode(image, kind).astype(int) - RAMP).max() <= 6


def test_one_bit_becomes_black_and_white() -> None:
    image = Image.fromarray(RAMP).convert("1", dither=Image.Dither.NONE)
    np.testing.assert_array_equal(_decode(image), np.where(RAMP > 127, 255, 0))


def test_colour_becomes_luma() -> None:
    assert _decode(Image.new("RGB", (32, 32), (255, 0, 0)))[0, 0] == 76
    assert abs(int(_decode(Image.new("RGB", (32, 32), (0, 255, 0)), "JPEG")[0, 0]) - 150) <= 1


@pytest.mark.parametrize("mode", ["RGBA", "LA"])
def test_transparent_images_lie_on_black(mode: str) -> None:
    image = Image.new("L", (32, 32), 200).convert(mode)
    image.putalpha(Image.fromarray(np.repeat(np.array([[0, 51, 128, 255]], np.uint8), 8, axis=1).repeat(32, 0)))
    assert _decode(image)[0, ::8].tolist() == [0, 40, 100, 200]


@pytest.mark.parametrize("mode", ["P", "L", "RGB"])
def test_the_transparent_colour_of_an_image_lies_on_black(mode: str) -> None:
    image = Image.new("L", (32, 32), 200)
    image.paste(90, (0, 0, 16, 32))
    image = image.convert(mode)
    transparent = image.getpixel((31, 0))
    assert _decode(image, transparency=transparent)[0, [0, 31]].tolist() == [90, 0]


@pytest.mark.parametrize(("kind", "dtype"), [("PNG", "<u2"), ("TIFF", "<u2"), ("TIFF", "<i4"), ("TIFF", "<f4")])
def test_deep_grey_is_scaled_by_its_own_minimum_and_maximum(kind: str, dtype: str) -> None:
    deep = (1000 + 4 * RAMP.astype(float)).astype(dtype)
    expected = np.rint(RAMP * (255 / RAMP.max()))
    np.testing.assert_allclose(_decode(Image.fromarray(deep), kind), expected, atol=1)


def test_deep_grey_of_one_value_is_black_and_nan_too() -> None:
    assert _decode(Image.fromarray(np.full((32, 32), 700, np.uint16))).max() == 0
    values = np.full((32, 32), 5, np.float32)
    values[0, :3] = np.nan, np.inf, 3
    assert _decode(Image.fromarray(values), "TIFF")[0, :4].tolist() == [0, 255, 0, 255]
    with pytest.raises(BadImageError, match="finite"):
        _decode(Image.fromarray(np.full((32, 32), np.nan, np.float32)), "TIFF")


def test_deep_tiff_whose_zero_is_white_is_inverted() -> None:
    deep = RAMP.astype(np.uint16) * 100
    assert _decode(Image.fromarray(deep), "TIFF", tiffinfo={262: 0})[0, [0, 63]].tolist() == [255, 0]


@pytest.mark.parametrize("kind", ["JPEG", "PNG", "TIFF"])
def test_exif_orientation_is_honoured(kind: str) -> None:
    exif = Image.Exif()
    exif[0x0112] = 6  # shown upright after a quarter turn clockwise
    shown = _decode(Image.fromarray(RAMP), kind, exif=exif.tobytes())
    assert shown.shape == (64, 32)
    assert np.abs(shown.astype(int) - np.rot90(RAMP, -1)).max() <= 8


def test_content_decides_and_names_may_be_nasty(tmp_path: Path) -> None:
    for name in ("a b%20c%0.png", "Übersicht 肺 №1.dcm", "no suffix", "#x?.txt"):
        path = tmp_path / name
        path.write_bytes(_encode(Image.fromarray(RAMP), "JPEG", quality=95))
        assert read_slice(path, 32)[0].format == "JPEG"
        np.testing.assert_array_equal(decode_slice(path, 48), decode_slice(path.read_bytes(), 48))


def test_the_whole_image_is_squeezed_with_antialiasing() -> None:
    stripes = np.zeros((64, 128), np.uint8)
    stripes[:, ::2] = 200
    stripes[:, 64:] //= 2
    small = decode_slice(_encode(Image.fromarray(stripes)), 16)
    assert small.shape == (16, 16) and small.dtype == np.uint8 and small.flags.writeable
    assert np.abs(small[:, 1:7].astype(int) - 100).max() <= 8
    assert np.abs(small[:, 9:15].astype(int) - 50).max() <= 8


def test_resizing_takes_grey_only() -> None:
    with pytest.raises(ValueError, match="'RGB'"):
        resize_grey(Image.new("RGB", (32, 32)), 16)


def test_facts_are_those_of_the_file(tmp_path: Path) -> None:
    path = tmp_path / "x"
    path.write_bytes(_encode(Image.fromarray(RAMP).convert("RGBA")))
    facts = read_slice(path, 32)[0]
    assert (facts.format, facts.mode, facts.width, facts.height, facts.patient) == (
        "PNG",
        "RGBA",
        64,
        32,
        None,
    )
    assert facts.num_bytes == path.stat().st_size and len(facts.sha256) == 64


@pytest.mark.parametrize("kind", ["PNG", "JPEG", "TIFF", "BMP", "GIF", "WEBP", "JPEG2000", "TGA"])
@pytest.mark.parametrize("share", [0.0, 0.2, 0.9])
def test_truncated_image_is_an_error_that_names_it(kind: str, share: float, tmp_path: Path) -> None:
    noise = np.random.default_rng(0).integers(0, 255, (64, 64, 3), dtype=np.uint8)
    whole = _encode(Image.fromarray(noise), kind)
    path = tmp_path / "cut off.png"
    path.write_bytes(whole[: int(len(whole) * share)])
    for use in (lambda file: read_slice(file, 32), decode_grey):
        with pytest.raises(BadImageError, match=r"cut off\.png: "):
            use(path)


def test_what_is_no_image_is_an_error_that_names_it(tmp_path: Path) -> None:
    for content in (
        b"",
        b"not an image",
        b"path,label\n",
        bytes(5000),
        b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 99 99\n",
    ):
        path = tmp_path / "x.png"
        path.write_bytes(content)
        with pytest.raises(BadImageError, match=r"x\.png: "):
            decode_grey(path)


def test_missing_file_is_not_taken_for_a_bad_image(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError):
        decode_grey(tmp_path / "gone.png")


@pytest.mark.parametrize(
    ("size", "rule"),
    [
        ((8001, 8000), "at most 64 megapixels"),
        ((10_000, 10_000), "at most 64 megapixels"),  # where Pillow itself would warn
        ((60_000, 60_000), "60000|3600000000"),  # where Pillow itself would raise
        ((15, 100), "at least 16"),
        ((16, 321), "ratio may be at most 20"),
    ],
)
def test_absurd_dimensions_are_an_error_before_decoding(size: tuple[int, int], rule: str, tmp_path: Path) -> None:
    path = tmp_path / "absurd.png"
    path.write_bytes(_png_header(*size))
    with warnings.catch_warnings(record=True) as seen:
        warnings.simplefilter("always")
        with pytest.raises(BadImageError, match=rf"absurd\.png.*({rule})"):
            decode_grey(path)
    assert not seen


def test_extreme_but_sane_dimensions_are_decoded() -> None:
    assert decode_slice(_encode(Image.new("L", (16, 320), 9)), 32).max() == 9
    assert decode_slice(_encode(Image.new("L", (8000, 8000), 9)), 32).max() == 9


@pytest.mark.parametrize("kind", ["TIFF", "GIF", "PNG", "WEBP"])
def test_several_frames_in_one_file_are_an_error(kind: str) -> None:
    frames = [Image.fromarray(np.roll(RAMP, 9 * i)) for i in range(3)]
    with pytest.raises(BadImageError, match="3 frames"):
        decode_grey(_encode(frames[0], kind, save_all=True, append_images=frames[1:]))


def test_threads_decode_alike_and_leave_the_warning_filters_alone(tmp_path: Path) -> None:
    sources = [_encode(Image.fromarray(np.roll(RAMP, i)), "PNG" if i % 2 else "JPEG") for i in range(40)]
    filters = list(warnings.filters)
    with ThreadPoolExecutor(4) as pool:
        together = list(pool.map(lambda source: decode_slice(source, 32), sources))
    for source, image in zip(sources, together, strict=True):
        np.testing.assert_array_equal(decode_slice(source, 32), image)
    assert list(warnings.filters) == filters


def test_real_slices_are_decoded_as_pillow_decodes_them(shared_data: Path) -> None:
    folder = shared_data / "covid-ct"
    paths = [path for name in ("CT_COVID", "CT_NonCOVID") for path in sorted((folder / name).iterdir())[::20]]
    for path in paths:
        with Image.open(path) as image:
            image.load()
            if image.mode != "RGBA":
                plain = np.asarray(image.convert("L").resize((96, 96), Image.Resampling.BILINEAR)).astype(int)
                assert np.abs(decode_slice(path, 96) - plain).max() <= 2


@pytest.mark.parametrize(
    ("kind", "mode"),
    [("PNG", "L"), ("PNG", "RGB"), ("JPEG", "L"), ("JPEG", "RGB"), ("JPEG", "CMYK"), ("TIFF", "CMYK"), ("WEBP", "RGB")],
)
def test_how_much_of_an_image_is_coloured_is_told_beside_its_grey(kind: str, mode: str) -> None:
    image = Image.new("RGB", (200, 120), (90, 90, 100))  # a tint is no colour
    image.paste((200, 30, 30), (0, 0, 50, 120))
    data = _encode(image.convert(mode), kind)
    grey, share = decode_with_colour(data)
    np.testing.assert_array_equal(np.asarray(grey), np.asarray(decode_grey(data)))
    assert share == pytest.approx(0 if mode == "L" else 0.25, abs=0.03)


def test_palettes_and_transparency_have_colours_too() -> None:
    image = Image.new("RGBA", (64, 64), (200, 30, 30, 255))
    palette = image.convert("P")
    for data in (_encode(image), _encode(palette), _encode(palette, transparency=bytes([255, 128]))):
        assert decode_with_colour(data)[1] == 1
    assert decode_with_colour(_encode(Image.new("I;16", (64, 64), 500)))[1] == 0
    with pytest.raises(BadImageError, match="an image of 10 bytes"):
        decode_with_colour(b"no picture")
