"""An image file becomes red, green and blue of 8 bits, for sets in colour: fundus, skin, histology."""

from __future__ import annotations

import io
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageOps

from trainable.images.decode import BadImageError, decode_grey, quiet
from trainable.images.dicom import is_dicom


def decode_colour(source: Path | bytes, size: int) -> NDArray[np.uint8]:
    """The whole image squeezed to writable uint8 (size, size, 3): upright, on black where it is transparent.

    Resized as `resize_grey` does it. A grey image has three equal channels; one of 16 bits or of floats is brought to
    8 bits as `decode_grey` does it. Raises as `decode_grey` does, and for DICOM, which is read as grey alone.
    """
    data = source if isinstance(source, bytes) else source.read_bytes()
    name = f"an image of {len(data)} bytes" if isinstance(source, bytes) else str(source)
    if is_dicom(data):
        raise BadImageError(f"{name}: a DICOM file in a set of colour images; DICOM is read as grey, without --colour")
    grey = decode_grey(source if isinstance(source, Path) else data)  # refuses what is unsafe, damaged or no image
    try:
        with quiet:
            opened = Image.open(io.BytesIO(data))
            image = grey if opened.mode.startswith(("I", "F")) else ImageOps.exif_transpose(opened)
        if image.has_transparency_data:
            image = image.convert("RGBA")
            image = Image.composite(image.convert("RGB"), Image.new("RGB", image.size), image.getchannel("A"))
    except Exception as error:
        raise BadImageError(f"{name}: {error or type(error).__name__}") from error
    return np.array(image.convert("RGB").resize((size, size), Image.Resampling.BILINEAR))
