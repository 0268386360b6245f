"""An image file becomes 8-bit pixels: the one decoder of the cache and of the registered model."""

from __future__ import annotations

import hashlib
from contextlib import contextmanager
from dataclasses import dataclass
from functools import lru_cache
from typing import TYPE_CHECKING

import numpy as np
from PIL import Image

from trainable.images import dicom
from trainable.images.content import Content, decode_content, decode_dicom
from trainable.images.dicom_scale import rescale_values
from trainable.images.faults import BadImageError, NotASliceError, show_name, show_text
from trainable.images.limits import read_file
from trainable.images.ordinary import measure_colour
from trainable.images.quiet import quiet
from trainable.images.scales import Scale
from trainable.images.windows import LUNG, Window

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from pathlib import Path

    from numpy.typing import NDArray

__all__ = [
    "BadImageError",
    "DECODER_VERSION",
    "ImageFacts",
    "NotASliceError",
    "decode",
    "decode_frames",
    "decode_grey",
    "decode_slice",
    "decode_with_colour",
    "quiet",
    "read_frames",
    "read_hounsfield",
    "read_slice",
    "resize_grey",
]

DECODER_VERSION = 4  # part of a cache's name: raise it when the same bytes give other pixels

AIR_HU = -1000.0
_MAX_REASON = 400  # characters of an error that are passed on: some libraries write pages


@dataclass(frozen=True, kw_only=True)
class ImageFacts:
    """What an audit needs of one file. `width` and `height` in pixels of the upright image.

    `format` and `mode` are Pillow's words; for DICOM "DICOM" and "HU" or the photometric interpretation. `scale` is
    how the grey levels came about. `patient` and `series` are DICOM's PatientID and SeriesInstanceUID where there are
    any: never log the first.
    """

    format: str
    mode: str
    width: int
    height: int
    sha256: str
    num_bytes: int
    patient: str | None = None
    series: str | None = None
    scale: Scale = Scale.ORDINARY


def decode(
    source: Path | bytes, *, windows: Sequence[Window] = (LUNG,), colour: bool = False, frame: int | None = None
) -> NDArray[np.uint8]:
    """The image, upright, at its own size; what it is, its content says and not its name.

    uint8 (H, W) for one window, (H, W, C) for several, one channel each; with `colour` (H, W, 3), RGB. CT in
    Hounsfield units goes through the windows; other files have one grey, which several windows repeat. `frame` picks
    one of a DICOM file of several. Raises BadImageError (NotASliceError for what is to be left out), OSError where
    the file cannot be read, and ValueError for colours through several windows.
    """
    return _stack([np.array(channel) for channel in _look(source, windows, colour, frame).channels])


def check_channels(windows: Sequence[Window], *, colour: bool) -> None:
    """Raises ValueError where windows and colours cannot both be had, and for no window at all."""
    if not windows:
        raise ValueError("no window came; there must be one or several")
    if colour and len(windows) > 1:
        raise ValueError(f"colours and {len(windows)} windows; channels are either colours or windows: give one")


def read_slice(
    path: Path, size: int, *, windows: Sequence[Window] = (LUNG,), colour: bool = False
) -> tuple[ImageFacts, NDArray[np.uint8]]:
    """Facts of a file and its pixels as `decode_slice` gives them, from one reading and one decoding.

    Raises as `decode` does.
    """
    data = _read(path)
    found = _look(data, windows, colour, None, name=path)
    return _list_facts(found, hashlib.sha256(data).hexdigest(), num_bytes=len(data)), _squeeze(found, size)


def decode_slice(
    source: Path | bytes,
    size: int,
    *,
    windows: Sequence[Window] = (LUNG,),
    colour: bool = False,
    frame: int | None = None,
) -> NDArray[np.uint8]:
    """The whole image squeezed to uint8 (size, size), or (size, size, C). Raises as `decode` does."""
    return _squeeze(_look(source, windows, colour, frame), size)


def decode_frames(
    path: Path, frames: Sequence[int], *, size: int | None = None, windows: Sequence[Window] = (LUNG,)
) -> Iterator[tuple[NDArray[np.uint8], Scale]]:
    """Frames of one DICOM file, by their numbers from 0, and their scales; the file is read once.

    Pixels as `decode` gives them, with `size` as `decode_slice` does. Raises as `decode` does.
    """
    for found in _look_at_frames(path, _read(path), frames, windows, colour=False):
        pixels = _stack([np.array(channel) for channel in found.channels]) if size is None else _squeeze(found, size)
        yield pixels, found.scale


def read_frames(
    path: Path, frames: Sequence[int], size: int, *, windows: Sequence[Window] = (LUNG,), colour: bool = False
) -> Iterator[tuple[ImageFacts, NDArray[np.uint8]]]:
    """Facts and pixels of frames of one DICOM file, as `read_slice` gives them of a file; the SHA-256 is the file's.

    Raises as `decode` does.
    """
    data = _read(path)
    status = path.stat()
    sha256 = _hash_file(path, status.st_size, status.st_mtime_ns)
    for found in _look_at_frames(path, data, frames, windows, colour=colour):
        width, height = found.channels[0].size
        yield _list_facts(found, sha256, num_bytes=2 * width * height), _squeeze(found, size)


@lru_cache(maxsize=64)
def _hash_file(path: Path, size: int, mtime_ns: int) -> str:
    """The SHA-256 of a file of many frames, which several threads read a part of each."""
    return hashlib.sha256(_read(path)).hexdigest()


def read_hounsfield(path: Path, frames: Sequence[int]) -> Iterator[NDArray[np.float32]]:
    """Frames of one DICOM file in Hounsfield units, float32 (H, W); where nothing was measured it is air.

    Raises BadImageError for values that are none, else as `decode` does.
    """
    with _naming(path), quiet:
        parsed = dicom.parse(_read(path))
    for frame in frames:
        with _naming(path), quiet:
            if parsed.is_colour:
                raise ValueError("its frames are in colour, which are no Hounsfield units")
            found = dicom.read_frame(parsed, frame)
            values, rescale = rescale_values(found.values, parsed.dataset, frame)
            if not rescale.is_hounsfield:
                raise ValueError("its values are no Hounsfield units")
        shown = values if found.padding is None else np.where(found.padding, AIR_HU, values)
        yield shown.astype(np.float32, copy=False)


def decode_grey(source: Path | bytes, *, window: Window = LUNG) -> Image.Image:
    """The image in mode "L", at its own size. Raises as `decode` does."""
    return _look(source, (window,), False, None).channels[0]


def decode_with_colour(source: Path | bytes, *, window: Window = LUNG) -> tuple[Image.Image, float]:
    """The image as `decode_grey` gives it, and the share of its area that is coloured, in [0, 1].

    Coloured is where red, green and blue differ by more than a tenth of the range, on a 64 x 64 reduction: a tinted
    scan is not, a photo is. Raises as `decode` does.
    """
    data = _read(source)
    found = _look(data, (window,), False, None, name=source)
    with _naming(source), quiet:
        return found.channels[0], 0.0 if found.format == "DICOM" else measure_colour(data)


def resize_grey(image: Image.Image, size: int) -> NDArray[np.uint8]:
    """An image in mode "L" as writable uint8 (size, size): bilinear with antialiasing, nothing cropped."""
    if image.mode != "L":
        raise ValueError(f"the image's mode is {image.mode!r}; it must be 'L' (decode_grey gives that)")
    return np.array(image.resize((size, size), Image.Resampling.BILINEAR))


def _look_at_frames(
    path: Path, data: bytes, frames: Sequence[int], windows: Sequence[Window], *, colour: bool
) -> Iterator[Content]:
    with _naming(path), quiet:
        parsed = dicom.parse(data)
    for frame in frames:
        with _naming(path), quiet:
            found = decode_dicom(parsed, windows, colour=colour, frame=frame)
        yield found


def _list_facts(found: Content, sha256: str, *, num_bytes: int) -> ImageFacts:
    return ImageFacts(
        format=found.format,
        mode=found.mode,
        width=found.channels[0].width,
        height=found.channels[0].height,
        sha256=sha256,
        num_bytes=num_bytes,
        patient=found.patient,
        series=found.series,
        scale=found.scale,
    )


def _squeeze(found: Content, size: int) -> NDArray[np.uint8]:
    return _stack([resize_grey(channel, size) for channel in found.channels])


def _stack(channels: Sequence[NDArray[np.uint8]]) -> NDArray[np.uint8]:
    return channels[0] if len(channels) == 1 else np.stack(channels, axis=-1)


def _look(
    source: Path | bytes,
    windows: Sequence[Window],
    colour: bool,
    frame: int | None,
    *,
    name: Path | bytes | None = None,
) -> Content:
    check_channels(windows, colour=colour)
    data = _read(source)
    with _naming(source if name is None else name), quiet:
        return decode_content(data, windows, colour=colour, frame=frame)


def _read(source: Path | bytes) -> bytes:
    if isinstance(source, bytes):
        return source
    try:
        return read_file(source)
    except ValueError as error:
        raise BadImageError(f"{show_name(source)}: {error}") from None


@contextmanager
def _naming(source: Path | bytes) -> Iterator[None]:
    try:
        yield
    except ImportError:  # the installation's fault, not the file's
        raise
    except Exception as error:  # fed a damaged file, decoders raise nearly anything
        name = f"an image of {len(source)} bytes" if isinstance(source, bytes) else show_name(source)
        reason = show_text(str(error) or type(error).__name__)
        if isinstance(error, NotASliceError):
            raise NotASliceError(reason, name=name) from error
        shortened = reason if len(reason) <= _MAX_REASON else f"{reason[:_MAX_REASON]}..."
        raise BadImageError(f"{name}: {shortened}") from error
