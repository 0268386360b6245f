"""Who a DICOM file is of, by its header alone: PatientID, StudyInstanceUID and SeriesInstanceUID."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

from trainable.images.folders import volume_stem
from trainable.images.limits import open_file
from trainable.images.names import is_nobody
from trainable.images.quiet import quiet

_TAGS = ["SpecificCharacterSet", "PatientID", "StudyInstanceUID", "SeriesInstanceUID"]
_OTHER_SUFFIXES = {".png", ".jpg", ".jpeg", ".tif", ".tiff", ".bmp", ".gif", ".webp"}
_PREAMBLE_BYTES = 128
_PLACEHOLDER = re.compile(r"patient|patient[ _-]?id|id|test|x+|0+", re.IGNORECASE)


@dataclass(frozen=True, kw_only=True)
class DicomIds:
    """The ids of one file, "" where it has none. They are a person's: never log them."""

    patient: str
    study: str
    series: str


def names_somebody(patient: str) -> bool:
    """Whether a PatientID may be a person's: it is not empty and no stand-in, as ANONYMOUS."""
    return not is_nobody(patient) and _PLACEHOLDER.fullmatch(patient) is None


def read_dicom_ids(paths: Iterable[Path], num_workers: int = 1) -> Mapping[Path, DicomIds]:
    """The ids of those of the files that are DICOM, with or without a preamble, and whose header can be read."""
    with ThreadPoolExecutor(max(1, num_workers)) as threads:
        paths = list(paths)
        dicom = [path for path, yes in zip(paths, threads.map(is_dicom_file, paths), strict=True) if yes]
        if not dicom:
            return {}
        from pydicom.config import disable_value_validation  # pydicom's warnings would show patients' ids

        with quiet, disable_value_validation():
            found = list(threads.map(_read_header, dicom))
    return {path: ids for path, ids in zip(dicom, found, strict=True) if ids is not None}


def is_dicom_file(path: Path) -> bool:
    """Whether a file is DICOM, by its first bytes; False for one that cannot be read."""
    if volume_stem(path) is not None:
        return False
    try:
        with open_file(path) as file:
            start = file.read(_PREAMBLE_BYTES + 4)
    except (OSError, ValueError):  # the decoder's to judge, as a damaged header is
        return False
    if start[_PREAMBLE_BYTES:] == b"DICM":
        return True
    # Without a preamble the file begins with a tag of group 0002 or 0008, little endian (PS3.5, 7.1).
    return path.suffix.lower() not in _OTHER_SUFFIXES and start[:2] in (b"\x02\x00", b"\x08\x00")


def _read_header(path: Path) -> DicomIds | None:
    import pydicom

    try:
        dataset = pydicom.dcmread(path, stop_before_pixels=True, specific_tags=_TAGS, force=True)
        patient, study, series = (_to_text(dataset.get(tag)) for tag in _TAGS[1:])
    except Exception:
        return None
    return DicomIds(patient=patient, study=study, series=series)


def _to_text(value: object) -> str:
    return "" if value is None else str(value).strip().strip("\0").strip()
