"""Ordinary image files (PNG, JPEG, TIFF, ...): bytes to an upright grey or colour image of 8 bits."""

from __future__ import annotations

import io
import re
from dataclasses import dataclass
from functools import cache

import numpy as np
from PIL import ExifTags, Image, ImageChops, UnidentifiedImageError
from PIL.TiffImagePlugin import ImageFileDirectory_v2 as TiffTags

from trainable.images.deep import (
    PNG_DEPTH,
    TIFF_BITS,
    TIFF_DESCRIPTION,
    TIFF_ORIENTATION,
    Deep,
    flatten_deep,
    read_deep,
    read_deep_jpeg,
    read_deep_tiff,
)
from trainable.images.limits import check_dimensions
from trainable.images.scales import Scale

_COMMON_FORMATS = ("PNG", "JPEG", "TIFF", "BMP", "GIF", "WEBP")
_REFUSED_FORMATS = ("EPS",)  # a program, which Pillow hands to Ghostscript
_STACK_FORMATS = ("TIFF", "GIF", "PNG", "WEBP", "AVIF")  # several frames are several slices here
_GREY_MODES = ("1", "L", "LA", "La")
_COLOUR_SIDE, _COLOURED = 64, 25.5  # pixels, of 255
_REDUCED, _SUBFILE = 1, 254  # TIFF 6.0, NewSubfileType: a smaller copy of another page
_TIFF_STARTS = (b"II*\0", b"MM\0*", b"II+\0", b"MM\0+")
_JPEG_START = b"\xff\xd8"
_IMAGEJ_STACK = re.compile(r"ImageJ=[^\n]*\nimages=(\d{1,9})\n")
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
        if (odd := _read_odd(data)) is not None:
            return odd.decode(colour=colour)
        packed = [f", but {name}; unpack it first" for start, name in _PACKED.items() if data.startswith(start)]
        raise ValueError(
            f"its content is neither DICOM nor an image that Pillow opens{packed[0] if packed else ''}"
        ) from None
    check_dimensions(image.width, image.height)
    if (num_frames := _count_frames(image, len(data))) > 1:
        raise ValueError(f"{num_frames} frames in one {image.format} file; write each as a file of its own")
    kind, mode = str(image.format), image.mode
    deep = read_deep(image, data)
    if deep is None:
        _scale_transparent_grey(image, data)
        if not colour:
            image.draft("L", image.size)  # a JPEG's luma, without its colours: same grey, less work
        image.load()  # a TIFF is turned upright by this
        shown = _flatten(image, "RGB" if colour else "L")
    else:
        shown = Image.fromarray(flatten_deep(deep, colour=colour))
    shown = _turn(shown, image.getexif().get(ExifTags.Base.Orientation))
    scale = Scale.STRETCHED if deep is not None and deep.is_deep else Scale.ORDINARY
    return Ordinary(image=shown, format=kind, mode=mode, scale=scale)


def measure_colour(data: bytes) -> float:
    """The share of the area that is coloured, in [0, 1], of a file that `decode_ordinary` takes.

    Coloured is where red, green and blue differ by more than a tenth of the range, on a 64 x 64 reduction. A JPEG is
    decoded at an eighth of its size.
    """
    try:
        image = Image.open(io.BytesIO(data), formats=_formats())
        deep = read_deep(image, data)
    except UnidentifiedImageError:
        odd = _read_odd(data)
        if odd is None:
            raise
        deep = odd.deep
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


def _scale_transparent_grey(image: Image.Image, data: bytes) -> None:
    """The transparent grey of a PNG of 2 or 4 bits as the 8 bits that Pillow makes of its greys (PNG, 11.3.2.1)."""
    if image.format == "PNG" and image.mode == "L" and (depth := data[PNG_DEPTH]) < 8:
        transparent = image.info.get("transparency")
        if isinstance(transparent, int):
            image.info["transparency"] = transparent * 255 // (2**depth - 1)


def _flatten(image: Image.Image, mode: str) -> Image.Image:
    """An image of 8 bits in mode "L" or "RGB", what is transparent on black unless all of it is."""
    if image.has_transparency_data:
        if image.mode not in ("RGBA", "LA"):
            image = image.convert("LA" if image.mode == "La" else "RGBA")
        alpha = image.getchannel("A")
        if alpha.getextrema() == (0, 0):  # a spare byte that somebody's format calls opacity
            return image.convert("RGB" if image.mode == "RGBA" else "L").convert(mode)
        return ImageChops.multiply(image.convert(mode), alpha if mode == "L" else Image.merge(mode, [alpha] * 3))
    if image.mode == mode:
        return image
    if image.mode == "LAB":
        image = image.convert("RGB")
    return image.convert(mode)


def _turn(image: Image.Image, orientation: int | None) -> Image.Image:
    return image.transpose(_UPRIGHT[orientation]) if orientation in _UPRIGHT else image


def _count_frames(image: Image.Image, num_bytes: int) -> int:
    """How many images a file holds; a TIFF's smaller copies of its first page count for none.

    ImageJ may write a stack as one page with all images behind each other: what it says of it counts, where the file
    is large enough for it.
    """
    num_frames: int = getattr(image, "n_frames", 1) if image.format in _STACK_FORMATS else 1
    if image.format == "TIFF" and 1 < num_frames <= 64:
        reduced = 0
        for frame in range(1, num_frames):
            image.seek(frame)
            reduced += image.tag_v2.get(_SUBFILE) == _REDUCED  # type: ignore[attr-defined]
        image.seek(0)
        num_frames -= reduced
    elif image.format == "TIFF" and num_frames == 1:
        tags = image.tag_v2  # type: ignore[attr-defined]
        num_bits = image.width * image.height * sum(tags.get(TIFF_BITS, (1,)))
        found = _IMAGEJ_STACK.match(str(tags.get(TIFF_DESCRIPTION, "")))
        if found and int(found[1]) * num_bits <= 8 * num_bytes:
            num_frames = int(found[1])
    return num_frames


@dataclass(frozen=True, kw_only=True)
class _Odd:
    """A file that Pillow does not open; `orientation` as in EXIF."""

    deep: Deep
    format: str
    orientation: int | None = None

    def decode(self, *, colour: bool) -> Ordinary:
        samples = self.deep.samples
        return Ordinary(
            image=_turn(Image.fromarray(flatten_deep(self.deep, colour=colour)), self.orientation),
            format=self.format,
            mode=f"{samples.dtype}x{samples.shape[2]}",
            scale=Scale.STRETCHED if self.deep.is_deep else Scale.ORDINARY,
        )


def _read_odd(data: bytes) -> _Odd | None:
    """A TIFF whose kind of samples Pillow does not know, such as floats of 64 bits, or a deep JPEG; None for others."""
    if data[:4] in _TIFF_STARTS:
        return _read_odd_tiff(data)
    return _Odd(deep=read_deep_jpeg(data), format="JPEG") if data[:2] == _JPEG_START else None


def _read_odd_tiff(data: bytes) -> _Odd:
    file = io.BytesIO(data)
    tags = TiffTags(file.read(16 if data[2:4] in (b"+\0", b"\0+") else 8))
    try:
        file.seek(tags.next)
        tags.load(file)
        if tags.next:
            raise ValueError("several frames in one TIFF file; write each as a file of its own")
        return _Odd(deep=read_deep_tiff(data, tags), format="TIFF", orientation=tags.get(TIFF_ORIENTATION))
    except Exception as error:  # of a damaged file, nearly anything
        raise ValueError(f"a TIFF that cannot be read: {error or type(error).__name__}") from error


@cache
def _formats() -> tuple[str, ...]:
    """Every format of Pillow's that is safe to open, the common ones first."""
    Image.init()
    others = [name for name in Image.ID if name not in (*_COMMON_FORMATS, *_REFUSED_FORMATS)]
    return (*_COMMON_FORMATS, *others)
