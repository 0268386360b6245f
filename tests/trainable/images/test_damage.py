"""Damaged files of every kind: pixels or one line, nothing else."""

from __future__ import annotations

import io
import os
import stat
import warnings
from collections.abc import Callable
from functools import partial
from pathlib import Path

import imagecodecs
import numpy as np
import pydicom
import pytest
from PIL import Image
from pydicom.uid import JPEG2000Lossless, JPEGLosslessSV1, JPEGLSLossless, RLELossless

from tests.trainable.images.dicom_files import ENHANCED_CT, HU, build, item, pack, save
from trainable.images.decode import BadImageError, NotASliceError, decode, decode_with_colour
from trainable.images.limits import read_file

NUM_CASES = int(os.environ.get("CTSEARCH_FUZZ_CASES", "60"))
"""Damaged files of each kind; 1,500 and more for the slow tier."""
STORED = (HU + 1400).astype(np.uint16)


def _image(kind: str, **options: object) -> bytes:
    file = io.BytesIO()
    Image.merge("RGB", [Image.fromarray((STORED // 10).astype(np.uint8))] * 3).save(file, kind, **options)
    return file.getvalue()


def _run_length() -> bytes:
    dataset = build(STORED, bits=12)
    dataset.compress(RLELossless)
    return save(dataset)


def _enhanced() -> bytes:
    values = item(PixelValueTransformationSequence=[item(RescaleSlope=1, RescaleIntercept=-1400, RescaleType="HU")])
    return save(build(STORED, SOPClassUID=ENHANCED_CT, NumberOfFrames=1, SharedFunctionalGroupsSequence=[values]))


WHOLE: dict[str, Callable[[], bytes]] = {
    "DICOM": lambda: save(build(STORED, bits=12, RescaleSlope=1, RescaleIntercept=-1400)),
    "DICOM without a preamble": lambda: save(build(STORED, bits=12))[132:],
    "enhanced CT": _enhanced,
    "run length": _run_length,
    "JPEG lossless": lambda: save(
        pack(build(STORED, bits=12), bytes(imagecodecs.ljpeg_encode(STORED, bitspersample=12)), JPEGLosslessSV1)
    ),
    "JPEG-LS": lambda: save(pack(build(STORED, bits=12), bytes(imagecodecs.jpegls_encode(STORED)), JPEGLSLossless)),
    "JPEG 2000": lambda: save(
        pack(
            build(STORED, bits=12),
            bytes(imagecodecs.jpeg2k_encode(STORED, bitspersample=12, reversible=True, codecformat="j2k")),
            JPEG2000Lossless,
        )
    ),
    "deep PNG": lambda: bytes(imagecodecs.png_encode(np.dstack([STORED] * 4))),
    "deep TIFF": lambda: bytes(imagecodecs.tiff_encode(np.dstack([STORED] * 3), photometric="rgb")),
    "odd TIFF": lambda: bytes(imagecodecs.tiff_encode(STORED.astype(np.float64))),
    **{kind: partial(_image, kind) for kind in ("PNG", "JPEG", "TIFF", "GIF", "WEBP", "BMP", "JPEG2000")},
}


def _damage(whole: bytes, rng: np.random.Generator) -> bytes:
    """Cut off, bytes changed anywhere or near the beginning, or a stretch replaced by another of any length."""
    kind = rng.integers(4)
    if kind == 0:
        return whole[: rng.integers(len(whole))]
    damaged = bytearray(whole)
    if kind == 1:
        at = int(rng.integers(len(whole)))
        damaged[at : at + int(rng.integers(1, 40))] = rng.bytes(int(rng.integers(40)))
        return bytes(damaged)
    end = len(whole) if kind == 2 else min(len(whole), 500)
    for at in rng.integers(end, size=rng.integers(1, 8)):
        damaged[at] = rng.integers(256)
    return bytes(damaged)


@pytest.mark.parametrize("kind", WHOLE)
def test_a_damaged_file_gives_pixels_or_one_line(kind: str) -> None:
    whole, rng = WHOLE[kind](), np.random.default_rng(len(kind) + NUM_CASES)
    assert decode(whole).shape == HU.shape
    num_refused = 0
    for _ in range(NUM_CASES):
        damaged = _damage(whole, rng)
        try:
            pixels = decode(damaged)
            assert pixels.dtype == np.uint8 and pixels.ndim == 2
            assert 0 <= decode_with_colour(damaged)[1] <= 1
        except BadImageError as error:
            num_refused += 1
            assert "\n" not in str(error) and len(str(error)) < 600
    assert num_refused


def test_files_that_come_with_pydicom_are_decoded_or_refused_in_one_line() -> None:
    root = Path(pydicom.__file__).parent / "data" / "test_files"
    files = sorted(file for file in root.rglob("*") if file.is_file() and file.suffix not in (".py", ".txt", ".json"))
    decoded, left_out, refused = set(), set(), {}
    for file in files:
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("error")
                decode(file, colour=True)
            decoded.add(file.name)
        except NotASliceError as error:
            left_out.add(file.name)
            assert "\n" not in str(error)
        except BadImageError as error:
            refused[file.name] = str(error)
            assert "\n" not in str(error) and str(error).startswith(f"{file}: ")
    assert len(decoded) >= 60, refused
    assert {"693_J2KI.dcm", "JPGExtended.dcm", "MR_small_jpeg_ls_lossless.dcm", "SC_rgb_jpeg_gdcm.dcm"} <= decoded
    assert {"rtdose_1frame.dcm", "test-SR.dcm", "rtstruct.dcm", "liver_1frame.dcm", "DICOMDIR"} <= left_out
    assert {"MR_truncated.dcm", "JPEG2000-embedded-sequence-delimiter.dcm", "zipMR.gz"} <= set(refused)


def test_only_regular_files_are_opened(tmp_path: Path) -> None:
    os.mkfifo(pipe := tmp_path / "pipe.png")
    for path, kind in ((pipe, "a named pipe"), (tmp_path, "a folder"), (Path("/dev/zero"), "a device")):
        with pytest.raises(BadImageError, match=f"{kind}, not a file"):
            decode(path)
    (link := tmp_path / "link.png").symlink_to(tmp_path / "gone.png")
    with pytest.raises(FileNotFoundError):
        decode(link)
    (whole := tmp_path / "x").write_bytes(b"content")
    assert read_file(whole) == b"content"
    assert stat.S_ISFIFO(pipe.stat().st_mode)


def test_names_in_messages_can_be_printed(tmp_path: Path) -> None:
    path = tmp_path / "Icon\r\n\udcff.png"
    path.write_bytes(b"no image")
    with pytest.raises(BadImageError) as caught:
        decode(path)
    assert str(caught.value).isprintable()
    assert r"Icon\r\n\xff.png: its content is neither" in str(caught.value)
