"""Damaged tables, archives, images and DICOM slices end in success or in one clear line."""

from __future__ import annotations

import io
import tarfile
import warnings
import zipfile
from collections.abc import Mapping
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from tests.faults.damage import Edit, damage, edits, ends_well, few, may_last_long, sandbox
from tests.trainable.images.dicom_files import HU, build, save
from tests.trainable.images.sets import fill, read
from trainable.images.decode import decode

# -- tables and archives

TABLE = "path,label,patient,split,Report\n" + "".join(
    f"images/{i:02}.png,{('COVID', 'Normal')[i % 2]},P{i // 2},{('train', 'train', 'val', 'test')[i // 2 % 4]},a text\n"
    for i in range(16)
)


@may_last_long
@few
@given(edits, st.sampled_from(["labels.csv", "labels.tsv", "labels.parquet"]))
def test_tables(how: list[Edit], name: str) -> None:
    with sandbox() as folder:
        root = fill(folder / "x", *(f"images/{i:02}.png" for i in range(16)))
        (root / name).write_bytes(damage(write_parquet() if name.endswith("parquet") else TABLE.encode(), how))
        ends_well(lambda: read(root / name), name)


@lru_cache
def write_parquet() -> bytes:
    import pandas

    file = io.BytesIO()
    pandas.read_csv(io.StringIO(TABLE)).to_parquet(file)
    return file.getvalue()


NAMES = st.sampled_from(
    [
        *("COVID/1.png", "Normal/1.png", "../../escaped", "/tmp/ctsearch-escaped", "COVID/../../../escaped", "", "."),
        *("C:\\escaped", "COVID/\0.png", "COVID/1.png/", "COVID\\..\\..\\escaped", "x/\x1b[2J.png", "COVID/CON.png"),
        "a" * 300,
    ]
)
MEMBERS = st.lists(
    st.tuples(NAMES, st.sampled_from(["file", "link", "hard link", "device", "pipe", "folder"])), max_size=5
)


def pack_zip(members: list[tuple[str, str]]) -> bytes:
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, kind in members:
            entry = zipfile.ZipInfo(name or "nameless")
            entry.external_attr = (0o120777 if kind == "link" else 0o100644) << 16
            archive.writestr(entry, "../../../escaped" if kind == "link" else "x" * 100)
    whole = file.getvalue()
    return whole.replace(b"nameless", b"\0\0\0\0\0\0\0\0") if "" in dict(members) else whole  # zipfile writes none


def pack_tar(members: list[tuple[str, str]], mode: str) -> bytes:
    kinds = {"link": tarfile.SYMTYPE, "hard link": tarfile.LNKTYPE, "device": tarfile.CHRTYPE, "pipe": tarfile.FIFOTYPE}
    file = io.BytesIO()
    with tarfile.open(fileobj=file, mode=mode) as archive:  # type: ignore[call-overload]
        for name, kind in members:
            entry = tarfile.TarInfo(name)
            entry.type = kinds.get(kind, tarfile.DIRTYPE if kind == "folder" else tarfile.REGTYPE)
            entry.linkname = "../../../escaped" if "link" in kind else ""
            entry.size = 100 if kind == "file" else 0
            archive.addfile(entry, io.BytesIO(b"x" * entry.size))
    return file.getvalue()


ORDINARY = [(f"{label}/{i}.png", "file") for label in ("COVID", "Normal") for i in range(3)]


@may_last_long
@few
@given(MEMBERS, edits | st.just([]), st.sampled_from(["set.zip", "set.tar", "set.tar.gz"]))
@pytest.mark.filterwarnings("ignore:Duplicate name")
def test_archives(members: list[tuple[str, str]], how: list[Edit], name: str) -> None:
    with sandbox() as folder:
        members = [*ORDINARY, *members]
        whole = pack_zip(members) if name.endswith("zip") else pack_tar(members, "w:gz" if name.endswith("gz") else "w")
        (folder / name).write_bytes(damage(whole, how))
        ends_well(lambda: read(folder / name), name)
        assert {path.name for path in folder.iterdir()} <= {name, "unpacked"}
        assert not Path("/tmp/ctsearch-escaped").exists()


# -- images, DICOM, weights and checkpoints


@lru_cache
def write_image(kind: str) -> bytes:
    file = io.BytesIO()
    Image.fromarray(np.arange(256, dtype=np.uint8).reshape(16, 16)).save(file, kind)
    return file.getvalue()


def is_decoded(path: Path) -> None:
    pixels = decode(path)
    assert pixels.dtype == np.uint8 and pixels.ndim == 2


@may_last_long
@few
@given(edits, st.sampled_from(["PNG", "JPEG", "TIFF", "GIF", "BMP", "WEBP"]))
def test_images(how: list[Edit], kind: str) -> None:
    with sandbox() as folder:
        (path := folder / "a slice").write_bytes(damage(write_image(kind), how))
        ends_well(lambda: is_decoded(path), "a slice")


HEADERS: Mapping[str, list[Any]] = {
    "RescaleSlope": [None, "", 0, -1, "1e300", 1],
    "RescaleIntercept": [None, "", "1e300", -1024],
    "BitsStored": [0, 1, 12, 16, 300],
    "BitsAllocated": [0, 8, 16, 32, 64],
    "SamplesPerPixel": [0, 1, 3, 4],
    "Rows": [0, 1, 24, 65535],
    "Columns": [None, 0, 32],
    "NumberOfFrames": ["", "0", "-1", "2", "99999999"],
    "PhotometricInterpretation": [None, "", "MONOCHROME1", "RGB", "PALETTE COLOR", "nonsense"],
    "PixelRepresentation": [None, 0, 1, 7],
    "PixelData": [b"", b"x"],
    "WindowWidth": ["", "0", "nan"],
}


@may_last_long
@few
@given(
    st.dictionaries(st.sampled_from(sorted(HEADERS)), st.integers(0, 5), max_size=4), edits | st.just([]), st.booleans()
)
def test_dicom(headers: dict[str, int], how: list[Edit], implicit: bool) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of pydicom, for what is written here on purpose
        try:
            chosen = {name: HEADERS[name][number % len(HEADERS[name])] for name, number in headers.items()}
            whole = save(build((HU + 1400).astype(np.uint16), **chosen), implicit=implicit)
        except Exception:  # pydicom does not write everything
            whole = save(build((HU + 1400).astype(np.uint16)))
    with sandbox() as folder:
        (path := folder / "a slice.dcm").write_bytes(damage(whole, how))
        ends_well(lambda: is_decoded(path), "a slice.dcm")
