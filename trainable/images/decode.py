"""An image file becomes 8-bit pixels: the one decoder of the cache and of the registered model."""

from __future__ import annotations

import hashlib
import threading
import warnings
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from PIL import Image

from trainable.images import dicom, ordinary
from trainable.images.dicom_scale import to_grey
from trainable.images.faults import BadImageError, NotASliceError, show_name, show_text
from trainable.images.limits import check_dimensions, read_file
from trainable.images.scales import Scale
from trainable.images.windows import LUNG, Window

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from pathlib import Path

    from numpy.typing import NDArray

__all__ = [
    "BadImageError",
    "DECODER_VERSION",
    "Decoded",
    "ImageFacts",
    "NotASliceError",
    "decode",
    "decode_frames",
    "decode_grey",
    "decode_slice",
    "decode_with_colour",
    "decode_with_facts",
    "quiet",
    "read_slice",
    "resize_grey",
    "resize_pixels",
]

DECODER_VERSION = 2  # part of a cache's name: raise it when the same bytes give other pixels

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


@dataclass(frozen=True, kw_only=True)
class Decoded:
    """An image, upright and at its own size: `pixels` uint8 (H, W), or (H, W, C) of several windows or of colours.

    The rest as in `ImageFacts`.
    """

    pixels: NDArray[np.uint8]
    format: str
    mode: str
    scale: Scale
    patient: str | None = None
    series: str | None = None


def decode(
    source: Path | bytes, *, windows: Sequence[Window] = (LUNG,), colour: bool = False, frame: int | None = None
) -> NDArray[np.uint8]:
    """The image, upright, at its own size; what it is, its content says and not its name.

    uint8 (H, W) for one window, (H, W, C) for several, one channel each; with `colour` (H, W, 3), RGB. CT in
    Hounsfield units goes through the windows; other files have one grey, which several windows repeat. `frame` picks
    one of a DICOM file of several. Raises BadImageError (NotASliceError for what is to be left out), OSError where
    the file cannot be read, and ValueError for colours through several windows.
    """
    return decode_with_facts(source, windows=windows, colour=colour, frame=frame).pixels


def decode_with_facts(
    source: Path | bytes, *, windows: Sequence[Window] = (LUNG,), colour: bool = False, frame: int | None = None
) -> Decoded:
    """The image as `decode` gives it, and what is known of it. Raises as `decode` does."""
    check_channels(windows, colour=colour)
    data = _read(source)
    with _naming(source), quiet:
        return _decode(data, windows, colour, frame)


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
    check_channels(windows, colour=colour)
    data = _read(path)
    with _naming(path), quiet:
        found = _decode(data, windows, colour, None)
    facts = ImageFacts(
        format=found.format,
        mode=found.mode,
        width=found.pixels.shape[1],
        height=found.pixels.shape[0],
        sha256=hashlib.sha256(data).hexdigest(),
        num_bytes=len(data),
        patient=found.patient,
        series=found.series,
        scale=found.scale,
    )
    return facts, resize_pixels(found.pixels, size)


def decode_frames(path: Path, frames: Sequence[int], *, windows: Sequence[Window] = (LUNG,)) -> Iterator[Decoded]:
    """Frames of one DICOM file, by their numbers from 0, each as `decode_with_facts` gives it; it is read once.

    Raises as `decode` does.
    """
    data = _read(path)
    with _naming(path), quiet:
        parsed = dicom.parse(data)
    for frame in frames:
        with _naming(path), quiet:
            found = _decode_dicom(parsed, windows, False, frame)
        yield found


def decode_slice(
    source: Path | bytes,
    size: int,
    *,
    windows: Sequence[Window] = (LUNG,),
    colour: bool = False,
    frame: int | None = None,
) -> NDArray[np.uint8]:
    """The whole image squeezed to uint8 (size, size), or (size, size, C). Raises as `decode` does."""
    return resize_pixels(decode(source, windows=windows, colour=colour, frame=frame), size)


def decode_grey(source: Path | bytes, *, window: Window = LUNG) -> Image.Image:
    """The image in mode "L", at its own size. Raises as `decode` does."""
    return Image.fromarray(decode(source, windows=(window,)))


def decode_with_colour(source: Path | bytes, *, window: Window = LUNG) -> tuple[Image.Image, float]:
    """The image as `decode_grey` gives it, and the share of its area that is coloured, in [0, 1].

    Coloured is where red, green and blue differ by more than a tenth of the range, on a 64 x 64 reduction: a tinted
    scan is not, a photo is. Raises as `decode` does.
    """
    data = _read(source)
    with _naming(source), quiet:
        found = _decode(data, (window,), False, None)
        return Image.fromarray(found.pixels), 0.0 if found.format == "DICOM" else ordinary.measure_colour(data)


def resize_grey(image: Image.Image, size: int) -> NDArray[np.uint8]:
    """An image in mode "L" as writable uint8 (size, size): bilinear with antialiasing, nothing cropped."""
    if image.mode != "L":
        raise ValueError(f"the picture's mode is {image.mode!r}; it must be 'L' (decode_grey gives that)")
    return np.array(image.resize((size, size), Image.Resampling.BILINEAR))


def resize_pixels(pixels: NDArray[np.uint8], size: int) -> NDArray[np.uint8]:
    """uint8 (H, W) or (H, W, C) as writable (size, size) or (size, size, C), each channel as `resize_grey` does."""
    if pixels.ndim == 2:
        return resize_grey(Image.fromarray(pixels), size)
    channels = [resize_grey(Image.fromarray(channel), size) for channel in np.moveaxis(pixels, -1, 0)]
    return np.stack(channels, axis=-1)


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
        name = f"a picture of {len(source)} bytes" if isinstance(source, bytes) else show_name(source)
        kind = NotASliceError if isinstance(error, NotASliceError) else BadImageError
        reason = show_text(str(error) or type(error).__name__)
        raise kind(f"{name}: {reason if len(reason) <= _MAX_REASON else f'{reason[:_MAX_REASON]}...'}") from error


class Quiet:
    """No warnings from parsers while anybody is inside: what cannot be used is an error.

    Filters are the process's, and setting them costs a third of decoding a small image: the first one in sets them,
    the last one out sets them back. Who decodes many images goes in once around them all.
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


def _decode(data: bytes, windows: Sequence[Window], colour: bool, frame: int | None) -> Decoded:
    if dicom.is_dicom(data):
        return _decode_dicom(dicom.parse(data), windows, colour, frame)
    if frame:
        raise ValueError(f"frame {frame} of an ordinary image file; only DICOM files have several")
    found = ordinary.decode_ordinary(data, colour=colour)
    pixels = np.array(found.image)
    if len(windows) > 1:
        pixels = np.stack([pixels] * len(windows), axis=-1)
    return Decoded(pixels=pixels, format=found.format, mode=found.mode, scale=found.scale)


def _decode_dicom(parsed: dicom.DicomFile, windows: Sequence[Window], colour: bool, frame: int | None) -> Decoded:
    check_dimensions(parsed.width, parsed.height)
    if frame is None and parsed.num_frames > 1:
        raise ValueError(f"a DICOM file of {parsed.num_frames} frames; read it as a series, or write each by itself")
    if not 0 <= (index := frame or 0) < parsed.num_frames:
        raise ValueError(f"frame {index} of a DICOM file; it has {parsed.num_frames}, counted from 0")
    photometric = str(parsed.dataset.PhotometricInterpretation)
    has_palette = photometric == "PALETTE COLOR"
    if parsed.is_colour and not colour and not has_palette:
        raise ValueError(f"a DICOM file in {photometric}; it must be grey, or be read in colour")
    content = dicom.read_frame(parsed, index)
    if parsed.is_colour:
        pixels, scale = dicom.flatten_colours(content.values, from_palette=has_palette)
        if not colour:
            if not dicom.is_grey(pixels):
                raise ValueError("a DICOM file whose palette has colours; it must be grey, or be read in colour")
            pixels = np.stack([pixels[..., 0]] * len(windows), axis=-1) if len(windows) > 1 else pixels[..., 0]
    else:
        greys, scale = to_grey(content.values, parsed.dataset, index, windows, content.padding)
        pixels = np.stack(greys * 3 if colour else greys, axis=-1) if colour or len(greys) > 1 else greys[0]
    return Decoded(
        pixels=pixels,
        format="DICOM",
        mode="HU" if scale.is_hounsfield else photometric,
        scale=scale,
        patient=parsed.patient,
        series=parsed.series,
    )
