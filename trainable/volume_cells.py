"""Volumes sent to a served model: the bytes of a NIfTI file, a multi-frame DICOM file, or an archive of one series."""

from __future__ import annotations

import re
import tempfile
import zlib
from pathlib import Path
from typing import TYPE_CHECKING

from trainable.answers import classify_scans
from trainable.images.archive import is_archive, unpack
from trainable.images.dicom import is_dicom
from trainable.images.faults import BadImageError
from trainable.images.folders import walk
from trainable.images.scans import Scan, find_scans, open_scan

if TYPE_CHECKING:
    from trainable.answers import Answer
    from trainable.classifier import Classifier

_MAGIC_BYTES = 352  # NIfTI-1's magic ends here; NIfTI-2's stands at the beginning
_ARCHIVE_STARTS = (b"PK\x03\x04", b"PK\x05\x06", b"\x1f\x8b", b"BZh", b"\xfd7zXZ\x00")


def answer_volume(content: bytes, classifier: Classifier) -> Answer | None:
    """The answer on a volume, by the model's verdict on the slices that its rule chooses; None for a single image.

    An archive (zip or tar) must hold one scan: a series' slices, or a file. Raises BadImageError, in words without
    the places the content is kept at meanwhile, and OSError.
    """
    suffix = _find_suffix(content)
    if suffix is None:
        return None
    with tempfile.TemporaryDirectory(prefix="ctsearch-cell-") as aside:
        file = Path(aside) / f"content{suffix}"
        file.write_bytes(content)
        try:
            scan = _find_scan(file, Path(aside)) if suffix == ".archive" else open_scan(file)
            if suffix == ".dcm" and not scan.is_volume:
                return None
            ((_, answer),) = classify_scans([scan], classifier, num_workers=1)
        except ValueError as error:
            answer = error
        if isinstance(answer, Exception):
            raise BadImageError(_hide(str(answer), aside)) from answer
        return answer


def _hide(reason: str, aside: str) -> str:
    """A reason without the folder that the content is kept in; of an archive's members the names are left."""
    inside = re.sub(rf"{re.escape(aside)}(/unpacked/\w+)?/?", "", reason)
    return re.sub(r"^content(\.nii|\.nii\.gz|\.dcm|\.archive)(: | )", "", inside)


def _find_suffix(content: bytes) -> str | None:
    """The ending of what may hold several slices, by its first bytes."""
    start = content[:_MAGIC_BYTES]
    if is_dicom(start):
        return ".dcm"
    if _is_nifti(start):
        return ".nii"
    if start.startswith(b"\x1f\x8b"):
        try:
            unpacked = zlib.decompressobj(wbits=zlib.MAX_WBITS | 16).decompress(content, _MAGIC_BYTES)
        except zlib.error:
            unpacked = b""
        if _is_nifti(unpacked):
            return ".nii.gz"
    return ".archive" if start.startswith(_ARCHIVE_STARTS) or start[257:262] == b"ustar" else None


def _is_nifti(start: bytes) -> bool:
    """https://nifti.nimh.nih.gov/nifti-1: the magic of one file that holds header and voxels."""
    return start[344:348] == b"n+1\0" or start[4:8] == b"n+2\0"


def _find_scan(file: Path, aside: Path) -> Scan:
    if not is_archive(file):
        raise BadImageError("the archive is damaged")
    folder = unpack(file, aside / "unpacked")
    scans = [scan for scan in find_scans(list(walk(folder))) if scan.refusal is None]
    if len(scans) != 1:
        named = f" ({', '.join(scan.path.name for scan in scans[:3])}, ...)" if scans else ""
        raise BadImageError(f"the archive holds {len(scans)} scans{named}; it must hold one: send each by itself")
    return scans[0]
