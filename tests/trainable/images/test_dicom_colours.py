"""Colours of compressed DICOM files, which header and stream may name differently."""

from __future__ import annotations

import io
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image
from pydicom.uid import UID, JPEGBaseline8Bit, JPEGExtended12Bit

from tests.trainable.images.dicom_files import build, pack, save
from trainable.images.decode import decode

COLOURS = [(200, 40, 40), (40, 200, 40), (40, 40, 200), (120, 120, 120)]
SEEN = np.repeat(np.array([COLOURS], np.uint8), 16, axis=1).repeat(32, axis=0)  # (32, 64, 3)


def _jpeg(mark: str, **options: Any) -> bytes:
    """Marked by JFIF, as Pillow does, by Adobe's transform in the place of that, or by nothing."""
    file = io.BytesIO()
    Image.fromarray(SEEN).save(file, "JPEG", quality=98, subsampling=0, **options)
    data = file.getvalue()
    if mark == "JFIF" or options:
        return data
    assert data[2:4] == b"\xff\xe0"
    rest = data[4 + int.from_bytes(data[4:6], "big") :]
    adobe = b"" if mark == "none" else b"\xff\xee\x00\x0eAdobe\x00\x64\0\0\0\0" + bytes([int(mark)])
    return data[:2] + adobe + rest


def _decode(photometric: str, frame: bytes, syntax: UID) -> NDArray[np.uint8]:
    dataset = build(np.zeros((32, 64), np.uint8), bits=8, Modality="XC", SamplesPerPixel=3)
    dataset.PhotometricInterpretation, dataset.PlanarConfiguration = photometric, 0
    return decode(save(pack(dataset, frame, syntax)), colour=True)


@pytest.mark.parametrize("syntax", [JPEGBaseline8Bit, JPEGExtended12Bit])
@pytest.mark.parametrize(
    ("photometric", "mark"),
    [
        *[("YBR_FULL_422", mark) for mark in ("JFIF", "1", "none")],
        *[("RGB", mark) for mark in ("JFIF", "1")],  # the stream knows better
    ],
)
def test_colours_of_a_jpeg_become_rgb_once(photometric: str, mark: str, syntax: UID) -> None:
    assert np.abs(_decode(photometric, _jpeg(mark), syntax).astype(int) - SEEN).max() <= 3


@pytest.mark.parametrize("syntax", [JPEGBaseline8Bit, JPEGExtended12Bit])
@pytest.mark.parametrize("photometric", ["RGB", "YBR_FULL_422"])
def test_a_jpeg_of_rgb_stays_rgb(photometric: str, syntax: UID) -> None:
    frame = _jpeg("RGB", keep_rgb=True)
    assert np.abs(_decode(photometric, frame, syntax).astype(int) - SEEN).max() <= 3
