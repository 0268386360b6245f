"""Deep images: ordinary files of more than 8 bits a sample, with all their bits, and others that Pillow misreads.

Pillow keeps 8 of 16 bits wherever there are colours or transparency; imagecodecs reads those files.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import imagecodecs
import numpy as np
from numpy.typing import NDArray
from PIL import Image

from trainable.images.codestreams import read_jpeg_2000_header, read_jpeg_size
from trainable.images.limits import check_dimensions
from trainable.images.windows import stretch

_LUMA = np.array([0.299, 0.587, 0.114])  # ITU-R BT.601, as Pillow has it
PNG_DEPTH = 24  # where the header says how many bits a sample has (PNG, 11.2.1)
_PPM_GAP = rb"(?:\s|#[^\n]*\n)+"
_PPM_HEADER = re.compile(rb"P([36])" + _PPM_GAP + rb"(\d+)" + _PPM_GAP + rb"(\d+)" + _PPM_GAP + rb"(\d+)\s")

# Tags of TIFF 6.0, and some of their values
TIFF_WIDTH, TIFF_HEIGHT, TIFF_BITS, TIFF_PHOTOMETRIC, TIFF_SAMPLES, TIFF_EXTRA = 256, 257, 258, 262, 277, 338
TIFF_DESCRIPTION, TIFF_ORIENTATION, TIFF_FORMAT = 270, 274, 339
_WHITE_IS_ZERO, _BLACK_IS_ZERO, _RGB, _SEPARATED, _SIGNED = 0, 1, 2, 5, 2
_TIFF_PHOTOMETRICS = {0: 1, 1: 1, 2: 3}  # grey, grey, RGB: how many samples without the extra ones
_PREMULTIPLIED, _STRAIGHT_ALPHA = 1, 2


@dataclass(frozen=True, kw_only=True)
class Deep:
    """`samples` (height, width, 1 or 3) of any real type; `alpha` float (height, width) in [0, 1], or None."""

    samples: NDArray[Any]
    alpha: NDArray[np.float64] | None = None
    white_is_zero: bool = False

    @property
    def is_deep(self) -> bool:
        """Whether the samples must be scaled: 8 bits are greys as they are, whoever reads them."""
        return self.samples.dtype != np.uint8


def read_deep(image: Image.Image, data: bytes) -> Deep | None:
    """All bits of a file that Pillow has opened, or None where Pillow itself keeps them. Raises ValueError."""
    if image.format == "PNG" and data[PNG_DEPTH] == 16:
        return _with_alpha(imagecodecs.png_decode(data))
    if image.format == "TIFF":
        tags = image.tag_v2  # type: ignore[attr-defined]
        is_deep = set(_as_tuple(tags.get(TIFF_BITS, 1))) <= {16, 32, 64}
        # Pillow takes -1 of 8 bits for 255, and black for white where the file does not say which is zero.
        if is_deep or _SIGNED in _as_tuple(tags.get(TIFF_FORMAT)) or TIFF_PHOTOMETRIC not in tags:
            return read_deep_tiff(data, tags)
    if image.format == "JPEG2000":
        header = read_jpeg_2000_header(data)
        if header is not None and header[2] > 1 and header[3] > 8:
            return _with_alpha(imagecodecs.jpeg2k_decode(data))
    if image.format == "PPM" and (found := _PPM_HEADER.match(data)) and int(found[4]) > 255:
        return _read_deep_ppm(data[found.end() :], image.width, image.height, is_text=found[1] == b"3")
    if image.format == "SGI" and data[3] == 2:
        raise ValueError("an SGI file of 16 bits a sample; save it as PNG or TIFF")
    if image.mode.startswith(("I", "F")):  # I;16, I;16B, I, F: one sample a pixel
        tags = getattr(image, "tag_v2", {})
        samples = np.asarray(image)[..., None]
        return Deep(samples=samples, white_is_zero=tags.get(TIFF_PHOTOMETRIC) == _WHITE_IS_ZERO)
    return None


def read_deep_tiff(data: bytes, tags: Mapping[int, Any]) -> Deep:
    """The first page of a TIFF of any bits a sample, whole numbers or floats. Raises ValueError."""
    width, height = int(tags[TIFF_WIDTH]), int(tags[TIFF_HEIGHT])
    check_dimensions(width, height)
    num_samples = int(tags.get(TIFF_SAMPLES, 1))
    photometric = tags.get(TIFF_PHOTOMETRIC, _BLACK_IS_ZERO if num_samples < 3 else _RGB)  # as libtiff has it
    num_shown = _TIFF_PHOTOMETRICS.get(photometric, 0)
    if not num_shown or not num_shown <= num_samples <= num_shown + 1:
        kind = "CMYK" if photometric == _SEPARATED else f"the photometric interpretation {photometric}"
        raise ValueError(f"a TIFF of {num_samples} deep samples a pixel in {kind}; save it as grey or RGB")
    samples = imagecodecs.tiff_decode(data)
    if samples.dtype.kind == "b":
        samples = samples.astype(np.uint8) * 255
    if samples.dtype.kind not in "iuf":
        raise ValueError(f"a TIFF of samples of type {samples.dtype}; they must be whole numbers or floats")
    if samples.shape == (num_samples, height, width) and num_samples > 1:  # one plane after the other
        samples = np.moveaxis(samples, 0, -1)
    if samples.size != height * width * num_samples:
        raise ValueError(f"a TIFF of {width} x {height} pixels that holds {samples.shape}; it is damaged")
    samples = samples.reshape(height, width, num_samples)
    extra = _as_tuple(tags.get(TIFF_EXTRA))
    has_alpha = num_samples > num_shown and bool(extra) and extra[0] in (_PREMULTIPLIED, _STRAIGHT_ALPHA)
    shown = samples[..., :num_shown]
    alpha = _to_share(samples[..., num_shown]) if has_alpha else None
    if alpha is not None and extra[0] == _PREMULTIPLIED:  # taken back, so that both kinds become grey alike
        shown = np.divide(shown, alpha[..., None], out=np.zeros(shown.shape), where=alpha[..., None] > 0)
    return Deep(samples=shown, alpha=alpha, white_is_zero=photometric == _WHITE_IS_ZERO)


def read_deep_jpeg(data: bytes) -> Deep:
    """A JPEG of more than 8 bits a sample, which Pillow does not open: of 12, or lossless. Raises ValueError."""
    size = read_jpeg_size(data)
    if size is None or b"\xff\xd9" not in data:
        raise ValueError("a JPEG that is cut or damaged")
    check_dimensions(*size)
    samples = imagecodecs.jpeg8_decode(data)
    if samples.ndim == 3 and samples.shape[2] != 3:
        raise ValueError(f"a JPEG of {samples.shape[2]} deep samples a pixel; save it as grey or RGB")
    return _with_alpha(samples)


def flatten_deep(deep: Deep, *, colour: bool) -> NDArray[np.uint8]:
    """uint8 (height, width), or (height, width, 3) with `colour`: deep samples by their own minimum and maximum,
    transparency on black.

    What is wholly transparent counts for neither. Raises ValueError when no value is finite.
    """
    samples = deep.samples.astype(np.float64)
    if samples.shape[2] == 3 and not colour:
        samples = (samples @ _LUMA)[..., None]
    hidden = None
    alpha = deep.alpha if deep.alpha is not None and deep.alpha.any() else None  # nothing but 0 is a spare sample
    if alpha is not None:
        hidden = np.broadcast_to((alpha == 0)[..., None], samples.shape)
    flat = stretch(samples, leave_out=hidden) if deep.is_deep else np.rint(samples).astype(np.uint8)
    if deep.white_is_zero:
        flat = 255 - flat
    if alpha is not None:
        flat = np.rint(flat * alpha[..., None]).astype(np.uint8)
    return np.ascontiguousarray(np.broadcast_to(flat, (*flat.shape[:2], 3)) if colour else flat[..., 0])


def _read_deep_ppm(body: bytes, width: int, height: int, *, is_text: bool) -> Deep:
    num_samples = 3 * width * height
    if is_text:
        samples = np.array(re.sub(rb"#[^\n]*", b"", body).split()[:num_samples], np.uint16)
    else:
        samples = np.frombuffer(body, ">u2", num_samples)
    return Deep(samples=samples.reshape(height, width, 3))


def _with_alpha(samples: NDArray[Any]) -> Deep:
    """(H, W), or (H, W, C) of grey, grey and alpha, RGB, or RGB and alpha."""
    samples = samples[..., None] if samples.ndim == 2 else samples
    if samples.shape[2] not in (1, 2, 3, 4):
        raise ValueError(f"{samples.shape[2]} samples a pixel; there may be 1 to 4")
    if samples.shape[2] in (1, 3):
        return Deep(samples=samples)
    return Deep(samples=samples[..., :-1], alpha=_to_share(samples[..., -1]))


def _to_share(alpha: NDArray[Any]) -> NDArray[np.float64]:
    """Opacity in [0, 1] from whole numbers of any size, or from floats that are it already."""
    most = 1.0 if alpha.dtype.kind == "f" else float(np.iinfo(alpha.dtype).max)
    return np.clip(np.nan_to_num(alpha.astype(np.float64) / most), 0, 1)


def _as_tuple(value: Any) -> tuple[Any, ...]:
    return tuple(value) if isinstance(value, (tuple, list)) else () if value is None else (value,)
