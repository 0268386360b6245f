"""Who a DICOM file is of, by its header alone: PatientID, StudyInstanceUID and SeriesInstanceUID."""

from __future__ import annotations

import warnings
from collections.abc import Iterable, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

from trainable.images.folders import volume_stem

_TAGS = ["SpecificCharacterSet", "PatientID", "StudyInstanceUID", "SeriesInstanceUID"]
_OTHER_SUFFIXES = {".png", ".jpg", ".jpeg", ".tif", ".tiff", ".bmp", ".gif", ".webp"}
_PREAMBLE_BYTES = 128


@dataclass(frozen=True, kw_only=True)
class DicomIds:
    """The ids of one file, "" where it has none. They are a person's: never log them."""

    patient: str
    study: str
    series: str


def read_dicom_ids(path: Path) -> DicomIds | None:
    """Ids from the header of a DICOM file, with or without a preamble; None for what is no DICOM file."""
    if volume_stem(path) is not None:
        return None
    with path.open("rb") as file:
        start = file.read(_PREAMBLE_BYTES + 4)
    has_preamble = start[_PREAMBLE_BYTES:] == b"DICM"
    # Without one, the file begins with a tag of group 0002 or 0008, little endian (PS3.5, 7.1).
    if not has_preamble and (path.suffix.lower() in _OTHER_SUFFIXES or start[:2] not in (b"\x02\x00", b"\x08\x00")):
        return None
    import pydicom

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            dataset = pydicom.dcmread(path, stop_before_pixels=True, specific_tags=_TAGS, force=not has_preamble)
            patient, study, series = (_to_text(dataset.get(tag)) for tag in _TAGS[1:])
        except Exception:  # a damaged header is the decoder's to judge
            return None
    return DicomIds(patient=patient, study=study, series=series)


def read_all_dicom_ids(paths: Iterable[Path], num_workers: int) -> Mapping[Path, DicomIds]:
    """The ids of those of the files that are DICOM and can be read."""
    paths = list(paths)

    def read(path: Path) -> DicomIds | None:
        try:
            return read_dicom_ids(path)
        except OSError:
            return None

    with ThreadPoolExecutor(max(1, num_workers)) as threads:
        found = zip(paths, threads.map(read, paths), strict=True)
        return {path: ids for path, ids in found if ids is not None}


def _to_text(value: object) -> str:
    return "" if value is None else str(value).strip().strip("\0").strip()
