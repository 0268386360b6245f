"""What of a file must not decide its class: its name, size and type, its header, its border and burnt-in lettering."""

from __future__ import annotations

import io
import re
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from trainable.images import dicom
from trainable.images.decode import ImageFacts
from trainable.images.members import split_member

Value = float | str | None
Features = dict[str, dict[str, Value]]  # group -> feature -> value

BEFORE = ("file", "name", "header")  # what a model never sees, once slices are decoded to grey of one size
AFTER = ("border", "lettering", "grey levels")  # what it does see
SIDE = 128  # pixels of the decoded slice that AFTER is measured on

_RING = 4  # pixels of SIDE
_SEGMENTS = 4  # of each side
_DICOM_WORDS = (
    "Manufacturer",
    "ManufacturerModelName",
    "InstitutionName",
    "ConvolutionKernel",
    "PatientSex",
    "Modality",
)
_DICOM_NUMBERS = ("KVP", "SliceThickness", "XRayTubeCurrent", "RescaleIntercept", "RescaleSlope", "WindowCenter")
_MAX_TEXT = 40
_AXIS = np.abs((np.arange(SIDE) + 0.5) * 2 / SIDE - 1)
_OUTER = (np.hypot.outer(_AXIS, _AXIS) > 1.0) | (np.maximum.outer(_AXIS, _AXIS) > 0.9)  # where scanners write


def measure_features(path: Path, name: str, facts: ImageFacts, pixels: NDArray[np.uint8]) -> Features:
    """Everything that `shortcuts.py` tries, of one file: `name` is its path below the data's folder, `pixels` are
    uint8 (128, 128). A header that cannot be read has no features. Raises OSError where the file cannot be read."""
    member = split_member(path)
    return {
        "file": {
            "size in bytes": float(facts.num_bytes),
            "bytes per pixel": facts.num_bytes / (facts.width * facts.height),
            "file type": facts.format,
            "ending": (member[0] if member else path).suffix.lower(),
            "colour mode": facts.mode,
            "width": float(facts.width),
            "height": float(facts.height),
            "shape": facts.width / facts.height,
        },
        "name": _describe_name(Path(name).name.rpartition("#")[0] if member else Path(name).name),
        "header": {} if member else _read_header(path),
        "border": _describe_border(pixels),
        "lettering": _find_lettering(pixels),
        "grey levels": _describe_levels(pixels),
    }


def _describe_name(name: str) -> dict[str, Value]:
    stem = name.rsplit(".", 1)[0]
    numbers = re.findall(r"\d+", stem)
    return {
        "length of the name": float(len(stem)),
        "digits in the name": float(sum(len(number) for number in numbers)),
        "numbers in the name": float(len(numbers)),
        "last number": float(numbers[-1][:15]) if numbers else None,
        "first letters": stem[:3].casefold(),
        "form of the name": re.sub(r"\d+", "0", re.sub(r"[^\W\d_]+", "a", stem))[:_MAX_TEXT],
    }


def _read_header(path: Path) -> dict[str, Value]:
    """Without pixels: an ordinary image's information, or what a scanner writes into DICOM."""
    with path.open("rb") as file:
        start = file.read(1 << 16)
    try:
        if dicom.is_dicom(start):
            return _read_dicom_header(path)
        with Image.open(io.BytesIO(start) if len(start) < 1 << 16 else path) as image:
            information = image.info
            found: dict[str, Value] = {
                "header entries": " ".join(sorted(str(key) for key in information))[:_MAX_TEXT],
                "dots per inch": _to_number(information.get("dpi")),
                "software": str(information.get("Software", ""))[:_MAX_TEXT],
                "progressive": float(bool(information.get("progressive") or information.get("interlace"))),
            }
            tables = getattr(image, "quantization", None)
            found["JPEG quantisation"] = float(sum(map(sum, tables.values()))) if tables else None
            return found
    except Exception:  # fed a damaged header, parsers raise nearly anything; the decoder has said what is wrong
        return {}


def _read_dicom_header(path: Path) -> dict[str, Value]:
    import pydicom

    tags = [*_DICOM_WORDS, *_DICOM_NUMBERS, "StudyDate", "PixelSpacing"]
    header = pydicom.dcmread(path, stop_before_pixels=True, force=True, specific_tags=tags)
    words: dict[str, Value] = {key: str(header.get(key, ""))[:_MAX_TEXT] for key in _DICOM_WORDS}
    numbers: dict[str, Value] = {key: _to_number(header.get(key)) for key in _DICOM_NUMBERS}
    year = str(header.get("StudyDate", ""))[:4]
    return (
        words
        | numbers
        | {"year of the study": _to_number(year), "pixel spacing": _to_number(header.get("PixelSpacing"))}
    )


def _to_number(value: object) -> float | None:
    try:
        first = value[0] if isinstance(value, (list, tuple)) or hasattr(value, "append") else value  # type: ignore[index]
        number = float(first)  # type: ignore[arg-type]
    except (TypeError, ValueError, IndexError):
        return None
    return number if np.isfinite(number) else None


def _describe_border(pixels: NDArray[np.uint8]) -> dict[str, Value]:
    strips = {
        "top": pixels[:_RING],
        "bottom": pixels[-_RING:],
        "left": pixels[:, :_RING].T,
        "right": pixels[:, -_RING:].T,
    }
    described: dict[str, Value] = {}
    for side, strip in strips.items():
        described[f"spread at the {side}"] = float(strip.std())
        for number, part in enumerate(np.array_split(strip, _SEGMENTS, axis=1), 1):
            described[f"{side} border, part {number} of {_SEGMENTS}"] = float(part.mean())
    return described


def _find_lettering(pixels: NDArray[np.uint8]) -> dict[str, Value]:
    """Shares of thin bright strokes on dark (or dark on bright) in eight fields around the middle, in thousandths.

    A stroke differs from the mean of the 9 x 9 pixels around it by more than 80 grey levels and lies near an end of
    the scale, as burnt-in text, arrows and scales do. Only corners and edges count: vessels and nodules are no text.
    """
    grey = pixels.astype(np.float32)
    around = _box_mean(grey, 4)
    stroke = ((grey - around > 80) & (grey > 180)) | ((around - grey > 80) & (grey < 60))
    stroke &= _OUTER
    third = SIDE // 3
    fields = {"top": slice(0, third), "middle": slice(third, -third), "bottom": slice(-third, None)}
    sides = {"left": slice(0, third), "centre": slice(third, -third), "right": slice(-third, None)}
    return {
        f"strokes at the {row} {column}": float(1000 * stroke[down, across].mean())
        for row, down in fields.items()
        for column, across in sides.items()
        if (row, column) != ("middle", "centre")
    }


def _box_mean(grey: NDArray[np.float32], reach: int) -> NDArray[np.float32]:
    padded = np.pad(grey, ((reach + 1, reach), (reach + 1, reach)), mode="edge").cumsum(0).cumsum(1)
    side = 2 * reach + 1
    total = padded[side:, side:] - padded[:-side, side:] - padded[side:, :-side] + padded[:-side, :-side]
    return total / side**2


def _describe_levels(pixels: NDArray[np.uint8]) -> dict[str, Value]:
    levels = np.percentile(pixels, (1, 10, 25, 50, 75, 90, 99))
    grey = pixels.astype(np.float32)
    detail = np.abs(4 * grey[1:-1, 1:-1] - grey[:-2, 1:-1] - grey[2:, 1:-1] - grey[1:-1, :-2] - grey[1:-1, 2:])
    described: dict[str, Value] = {
        f"level below which {share} % of pixels lie": float(level)
        for share, level in zip((1, 10, 25, 50, 75, 90, 99), levels, strict=True)
    }
    return described | {
        "mean grey": float(grey.mean()),
        "contrast": float(grey.std()),
        "black pixels": float((pixels == 0).mean()),
        "white pixels": float((pixels == 255).mean()),
        "number of grey levels": float(len(np.unique(pixels))),
        "noise": float(np.median(detail)),
        "sharpness": float(detail.mean()),
    }
