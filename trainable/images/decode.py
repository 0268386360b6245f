"""A picture file becomes grey 8-bit pixels: the one decoder of the cache and of the registered model."""

from __future__ import annotations

import hashlib
import io
import threading
import warnings
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cache
from typing import TYPE_CHECKING

import numpy as np
from PIL import ExifTags, Image, ImageChops, UnidentifiedImageError

from trainable.images import dicom

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

DECODER_VERSION = 1  # part of a cache's name: raise it when the same bytes give other pixels

MAX_PIXELS = 64_000_000
MIN_SIDE_PX = 16
MAX_ASPECT_RATIO = 20

_COMMON_FORMATS = ("PNG", "JPEG", "TIFF", "BMP", "GIF", "WEBP")
_REFUSED_FORMATS = ("EPS",)  # a program, which Pillow hands to Ghostscript
_STACK_FORMATS = ("TIFF", "GIF", "PNG", "WEBP", "AVIF")  # several frames are several slices here
_GREY_MODES = ("1", "L", "LA", "La")
_COLOUR_SIDE, _COLOURED = 64, 25.5  # pixels, of 255
_PHOTOMETRIC, _WHITE_IS_ZERO = 262, 0  # TIFF 6.0; Pillow honours it in 8-bit pictures only
_UPRIGHT = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}


class BadImageError(ValueError):
    """A picture that cannot be used; the message names the file, what came and what must hold."""


@dataclass(frozen=True, kw_only=True)
class ImageFacts:
    """What an audit needs of one file. `width` and `height` in pixels of the upright picture.

    `format` and `mode` are Pillow's words; for DICOM "DICOM" and "HU" or the photometric interpretation.
    `patient` is the DICOM PatientID where there is one: never log it.
    """

    format: str
    mode: str
    width: int
    height: int
    sha256: str
    num_bytes: int
    patient: str | None = None


def read_slice(path: Path, size: int) -> tuple[ImageFacts, np.ndarray]:
    """Facts of a file and its pixels as `decode_slice` gives them, from one reading and one decoding.

    Raises BadImageError, or OSError where the file cannot be read.
    """
    data = path.read_bytes()
    with _naming(path):
        grey, kind, mode, patient = _decode(data)
    facts = ImageFacts(
        format=kind,
        mode=mode,
        width=grey.width,
        height=grey.height,
        sha256=hashlib.sha256(data).hexdigest(),
        num_bytes=len(data),
        patient=patient,
    )
    return facts, resize_grey(grey, size)


def decode_grey(source: Path | bytes) -> Image.Image:
    """The picture, upright, in mode "L", at its own size; what it is, its content says and not its name.

    16-bit and float pictures are scaled by their own minimum and maximum, transparent ones lie on black,
    DICOM goes through the lung window. Raises BadImageError, or OSError where the file cannot be read.
    """
    data = source if isinstance(source, bytes) else source.read_bytes()
    with _naming(source):
        return _decode(data)[0]


def decode_slice(source: Path | bytes, size: int) -> np.ndarray:
    """The whole picture squeezed to uint8 (size, size). Raises as `decode_grey` does."""
    return resize_grey(decode_grey(source), size)


def decode_with_colour(source: Path | bytes) -> tuple[Image.Image, float]:
    """The picture as `decode_grey` gives it, and the share of its area that is coloured, in [0, 1].

    Coloured is where red, green and blue differ by more than a tenth of the range, on a 64 x 64 reduction: a tinted
    scan is not, a photo is. Raises as `decode_grey` does.
    """
    data = source if isinstance(source, bytes) else source.read_bytes()
    with _naming(source):
        return _decode(data)[0], _measure_colour(data)


def _measure_colour(data: bytes) -> float:
    """Of a picture that `_decode` takes. A JPEG is decoded at an eighth of its size."""
    if dicom.is_dicom(data):
        return 0.0
    with quiet:
        image = Image.open(io.BytesIO(data), formats=_formats())
    if image.mode in _GREY_MODES or image.mode.startswith(("I", "F")):
        return 0.0
    image.draft("RGB", (_COLOUR_SIDE, _COLOUR_SIDE))
    opaque = image.convert("RGBA") if image.has_transparency_data else image
    small = opaque.convert("RGB").resize((_COLOUR_SIDE, _COLOUR_SIDE), Image.Resampling.BOX)
    spread = np.ptp(np.asarray(small, dtype=np.int16), axis=2)
    return float((spread > _COLOURED).mean())


def resize_grey(image: Image.Image, size: int) -> np.ndarray:
    """A picture in mode "L" as writable uint8 (size, size): bilinear with antialiasing, nothing cropped."""
    if image.mode != "L":
        raise ValueError(f"the picture's mode is {image.mode!r}; it must be 'L' (decode_grey gives that)")
    return np.array(image.resize((size, size), Image.Resampling.BILINEAR))


@contextmanager
def _naming(source: Path | bytes) -> Iterator[None]:
    try:
        yield
    except Exception as error:  # fed a damaged file, decoders raise nearly anything
        name = f"a picture of {len(source)} bytes" if isinstance(source, bytes) else str(source)
        raise BadImageError(f"{name}: {error or type(error).__name__}") from error


class Quiet:
    """No warnings from parsers while anybody is inside: what cannot be used is an error.

    Filters are the process's, and setting them costs a third of decoding a small picture: the first one in sets them,
    the last one out sets them back. Who decodes many pictures goes in once around them all.
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._num_inside = 0
        self._filters = warnings.catch_warnings()

    def __enter__(self) -> None:
        with self._lock:
            self._num_inside += 1
            if self._num_inside == 1:
                self._filters = warnings.catch_warnings()
                self._filters.__enter__()
                warnings.simplefilter("ignore")

    def __exit__(self, *_: object) -> None:
        with self._lock:
            self._num_inside -= 1
            if self._num_inside == 0:
                self._filters.__exit__(None, None, None)


quiet = Quiet()


def _decode(data: bytes) -> tuple[Image.Image, str, str, str | None]:
    """The grey picture, its format, its mode, and its patient."""
    if dicom.is_dicom(data):
        with quiet:
            parsed = dicom.parse(data)
            _check_dimensions(parsed.width, parsed.height)
            grey = Image.fromarray(dicom.decode(parsed))
        mode = "HU" if parsed.in_hounsfield else str(parsed.dataset.get("PhotometricInterpretation"))
        return grey, "DICOM", mode, parsed.patient

    with quiet:
        try:
            image = Image.open(io.BytesIO(data), formats=_formats())
        except UnidentifiedImageError:
            raise ValueError("its content is neither DICOM nor a picture that Pillow opens") from None
        _check_dimensions(image.width, image.height)
        num_frames = getattr(image, "n_frames", 1) if image.format in _STACK_FORMATS else 1
    if num_frames > 1:
        raise ValueError(f"{num_frames} frames in one {image.format} file; write each as a file of its own")
    mode = image.mode
    image.draft("L", image.size)  # a JPEG's luma, without its colours: same grey, less work
    image.load()
    with quiet:
        orientation = image.getexif().get(ExifTags.Base.Orientation)
    grey = _to_grey(image)
    if orientation in _UPRIGHT:
        grey = grey.transpose(_UPRIGHT[orientation])
    return grey, str(image.format), mode, None


def _to_grey(image: Image.Image) -> Image.Image:
    if image.mode.startswith(("I", "F")):  # I;16, I;16B, I, F
        grey = Image.fromarray(dicom.stretch(np.asarray(image)))
        tiff_tags = getattr(image, "tag_v2", {})
        return ImageChops.invert(grey) if tiff_tags.get(_PHOTOMETRIC) == _WHITE_IS_ZERO else grey
    if image.has_transparency_data:
        if image.mode not in ("RGBA", "LA"):
            image = image.convert("RGBA")
        return ImageChops.multiply(image.convert("L"), image.getchannel("A"))
    if image.mode == "L":
        return image
    if image.mode == "LAB":
        image = image.convert("RGB")
    return image.convert("L")


def _check_dimensions(width: int, height: int) -> None:
    if width * height > MAX_PIXELS:
        raise ValueError(f"{width} x {height} pixels; at most {MAX_PIXELS // 10**6} megapixels are decoded")
    if min(width, height) < MIN_SIDE_PX:
        raise ValueError(f"{width} x {height} pixels; each side must have at least {MIN_SIDE_PX}")
    if max(width, height) > MAX_ASPECT_RATIO * min(width, height):
        raise ValueError(f"{width} x {height} pixels; the sides' ratio may be at most {MAX_ASPECT_RATIO}")


@cache
def _formats() -> tuple[str, ...]:
    """Every format of Pillow's that is safe to open, the common ones first."""
    Image.init()
    others = [name for name in Image.ID if name not in (*_COMMON_FORMATS, *_REFUSED_FORMATS)]
    return (*_COMMON_FORMATS, *others)
