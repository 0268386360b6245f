"""Ordinary image files (PNG, JPEG, TIFF, ...): bytes to an upright grey or colour image of 8 bits."""

from __future__ import annotations

import io
from dataclasses import dataclass
from functools import cache

import numpy as np
from PIL import ExifTags, Image, ImageChops, UnidentifiedImageError
from PIL.TiffImagePlugin import ImageFileDirectory_v2 as TiffTags

from trainable.images.deep import Deep, flatten_deep, read_deep, read_deep_tiff
from trainable.images.limits import check_dimensions
from trainable.images.scales import Scale

_COMMON_FORMATS = ("PNG", "JPEG", "TIFF", "BMP", "GIF", "WEBP")
_REFUSED_FORMATS = ("EPS",)  # a program, which Pillow hands to Ghostscript
_STACK_FORMATS = ("TIFF", "GIF", "PNG", "WEBP", "AVIF")  # several frames are several slices here
_GREY_MODES = ("1", "L", "LA", "La")
_COLOUR_SIDE, _COLOURED = 64, 25.5  # pixels, of 255
_REDUCED, _SUBFILE = 1, 254  # TIFF 6.0, NewSubfileType: a smaller copy of another page
_TIFF_STARTS = (b"II*\0", b"MM\0*", b"II+\0", b"MM\0+")
_PACKED = {b"PK\3\4": "a zip archive", b"\x1f\x8b": "a gzip file", b"7z\xbc\xaf": "a 7z archive", b"Rar!": "a rar one"}
_UPRIGHT = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}


@dataclass(frozen=True, kw_only=True)
class Ordinary:
    """A decoded file: `image` upright, in mode "L" or "RGB"; `format` and `mode` in Pillow's words, as stored."""

    image: Image.Image
    format: str
    mode: str
    scale: Scale


def decode_ordinary(data: bytes, *, colour: bool = False) -> Ordinary:
    """The image, in grey or with its colours.

    Deep ones (more than 8 bits a sample) are scaled by their own minimum and maximum, over all channels at once;
    transparent ones lie on black; EXIF orientation is obeyed; colour profiles are not looked at. Raises ValueError
    for what is no image and for several frames in one file.
    """
    try:
        image = Image.open(io.BytesIO(data), formats=_formats())
    except UnidentifiedImageError:
        if data[:4] in _TIFF_STARTS:
            return _decode_odd_tiff(data, colour)
        packed = [f", but {name}; unpack it first" for start, name in _PACKED.items() if data.startswith(start)]
        raise ValueError(
            f"its content is neither DICOM nor an image that Pillow opens{packed[0] if packed else ''}"
        ) from None
    check_dimensions(image.width, image.height)
    if (num_frames := _count_frames(image)) > 1:
        raise ValueError(f"{num_frames} frames in one {image.format} file; write each as a file of its own")
    kind, mode = str(image.format), image.mode
    deep = read_deep(image, data)
    if deep is None:
        if not colour:
            image.draft("L", image.size)  # a JPEG's luma, without its colours: same grey, less work
        image.load()  # a TIFF is turned upright by this
        shown = _flatten(image, "RGB" if colour else "L")
    else:
        shown = Image.fromarray(flatten_deep(deep, colour=colour))
    if (orientation := image.getexif().get(ExifTags.Base.Orientation)) in _UPRIGHT:
        shown = shown.transpose(_UPRIGHT[orientation])
    return Ordinary(image=shown, format=kind, mode=mode, scale=Scale.STRETCHED if deep else Scale.ORDINARY)


def measure_colour(data: bytes) -> float:
    """The share of the area that is coloured, in [0, 1], of a file that `decode_ordinary` takes.

    Coloured is where red, green and blue differ by more than a tenth of the range, on a 64 x 64 reduction. A JPEG is
    decoded at an eighth of its size.
    """
    try:
        image = Image.open(io.BytesIO(data), formats=_formats())
        deep = read_deep(image, data)
    except UnidentifiedImageError:
        deep = _read_odd_tiff(data)
    if deep is not None:
        if deep.samples.shape[2] == 1:
            return 0.0
        small = Image.fromarray(flatten_deep(deep, colour=True))
    elif image.mode in _GREY_MODES:
        return 0.0
    else:
        image.draft("RGB", (_COLOUR_SIDE, _COLOUR_SIDE))
        small = (image.convert("RGBA") if image.has_transparency_data else image).convert("RGB")
    small = small.resize((_COLOUR_SIDE, _COLOUR_SIDE), Image.Resampling.BOX)
    spread = np.ptp(np.asarray(small, dtype=np.int16), axis=2)
    return float((spread > _COLOURED).mean())


def _flatten(image: Image.Image, mode: str) -> Image.Image:
    """An image of 8 bits in mode "L" or "RGB", what is transparent on black."""
    if image.has_transparency_data:
        if image.mode not in ("RGBA", "LA"):
            image = image.convert("RGBA")
        alpha = image.getchannel("A")
        return ImageChops.multiply(image.convert(mode), alpha if mode == "L" else Image.merge(mode, [alpha] * 3))
    if image.mode == mode:
        return image
    if image.mode == "LAB":
        image = image.convert("RGB")
    return image.convert(mode)


def _count_frames(image: Image.Image) -> int:
    """How many images a file holds; a TIFF's smaller copies of its first page count for none."""
    num_frames: int = getattr(image, "n_frames", 1) if image.format in _STACK_FORMATS else 1
    if image.format == "TIFF" and 1 < num_frames <= 64:
        reduced = 0
        for frame in range(1, num_frames):
            image.seek(frame)
            reduced += image.tag_v2.get(_SUBFILE) == _REDUCED  # type: ignore[attr-defined]
        image.seek(0)
        num_frames -= reduced
    return num_frames


def _decode_odd_tiff(data: bytes, colour: bool) -> Ordinary:
    """A TIFF whose kind of samples Pillow does not know, such as floats of 64 bits."""
    deep = _read_odd_tiff(data)
    mode = f"{deep.samples.dtype}x{deep.samples.shape[2]}"
    image = Image.fromarray(flatten_deep(deep, colour=colour))
    return Ordinary(image=image, format="TIFF", mode=mode, scale=Scale.STRETCHED)


def _read_odd_tiff(data: bytes) -> Deep:
    file = io.BytesIO(data)
    tags = TiffTags(file.read(16 if data[2:4] in (b"+\0", b"\0+") else 8))
    try:
        file.seek(tags.next)
        tags.load(file)
        if tags.next:
            raise ValueError("several frames in one TIFF file; write each as a file of its own")
        return read_deep_tiff(data, tags)
    except Exception as error:  # of a damaged file, nearly anything
        raise ValueError(f"a TIFF that cannot be read: {error or type(error).__name__}") from error


@cache
def _formats() -> tuple[str, ...]:
    """Every format of Pillow's that is safe to open, the common ones first."""
    Image.init()
    others = [name for name in Image.ID if name not in (*_COMMON_FORMATS, *_REFUSED_FORMATS)]
    return (*_COMMON_FORMATS, *others)
