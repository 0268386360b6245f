from __future__ import annotations

import io

import numpy as np
import pydicom
import pytest
from PIL import Image
from pydicom.data import get_testdata_file

from trainable.images.colour import decode_colour
from trainable.images.decode import BadImageError

SIZE = 32


def save(image: Image.Image, kind: str = "PNG", **options: object) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, kind, **options)
    return buffer.getvalue()


def draw_gradient() -> Image.Image:
    """Red from left to right, green from top to bottom, blue 40 all over."""
    levels = np.linspace(0, 255, SIZE).round().astype(np.uint8)
    red, green = np.meshgrid(levels, levels)
    return Image.fromarray(np.stack([red, green, np.full_like(red, 40)], axis=-1))


@pytest.mark.parametrize(
    ("kind", "options", "tolerance"),
    [("PNG", {}, 0), ("BMP", {}, 0), ("TIFF", {}, 0), ("WEBP", {"lossless": True}, 0), ("JPEG", {"quality": 95}, 12)],
)
def test_red_green_and_blue_come_out_as_they_were(kind: str, options: dict[str, object], tolerance: int) -> None:
    image = draw_gradient()
    pixels = decode_colour(save(image, kind, **options), SIZE)
    assert pixels.shape == (SIZE, SIZE, 3) and pixels.dtype == np.uint8 and pixels.flags.writeable
    assert np.abs(pixels.astype(int) - np.asarray(image)).max() <= tolerance


def test_resizes_as_pillow_does() -> None:
    image = draw_gradient().resize((90, 60))
    expected = np.asarray(image.resize((SIZE, SIZE), Image.Resampling.BILINEAR))
    np.testing.assert_array_equal(decode_colour(save(image), SIZE), expected)


def test_an_image_that_lies_on_its_side_is_set_upright() -> None:
    exif = Image.Exif()
    exif[0x0112] = 6  # to be turned by a quarter, clockwise
    turned = draw_gradient().transpose(Image.Transpose.ROTATE_90)
    np.testing.assert_array_equal(decode_colour(save(turned, exif=exif), SIZE), np.asarray(draw_gradient()))


def test_what_is_transparent_lies_on_black() -> None:
    image = draw_gradient().convert("RGBA")
    alpha = np.full((SIZE, SIZE), 255, np.uint8)
    alpha[:8] = 0
    image.putalpha(Image.fromarray(alpha))
    pixels = decode_colour(save(image), SIZE)
    assert (pixels[:8] == 0).all()
    np.testing.assert_array_equal(pixels[8:], np.asarray(draw_gradient())[8:])


@pytest.mark.parametrize("mode", ["L", "1", "I;16"])
def test_a_grey_image_has_three_equal_channels(mode: str) -> None:
    levels = np.arange(SIZE * SIZE).reshape(SIZE, SIZE) % 256
    image = (
        Image.fromarray((levels * 257).astype(np.uint16)) if mode == "I;16" else Image.fromarray(levels.astype("u1"))
    )
    pixels = decode_colour(save(image if mode == "I;16" else image.convert(mode)), SIZE)
    assert (np.ptp(pixels, axis=2) == 0).all()
    assert np.ptp(pixels) == 255


def test_a_palette_keeps_its_colours() -> None:
    image = draw_gradient().convert("P", palette=Image.Palette.ADAPTIVE, colors=64)
    np.testing.assert_array_equal(decode_colour(save(image), SIZE), np.asarray(image.convert("RGB")))


def test_what_is_no_colour_image_is_one_line() -> None:
    path = get_testdata_file("CT_small.dcm")
    assert isinstance(path, str) and pydicom.dcmread(path).Modality == "CT"
    with open(path, "rb") as file:  # noqa: PTH123 - where pydicom keeps it
        content = file.read()
    with pytest.raises(BadImageError, match="DICOM is read as grey"):
        decode_colour(content, SIZE)
    with pytest.raises(BadImageError, match="neither DICOM nor a picture"):
        decode_colour(b"no image", SIZE)
    with pytest.raises(BadImageError):
        decode_colour(save(draw_gradient())[:-100], SIZE)
