"""Names of images inside a file that holds many: FILE#NUMBER, and FILE#frameNUMBER for a frame of a DICOM file."""

from __future__ import annotations

import re
from pathlib import Path

_MEMBER = re.compile(r"(?P<file>.+\.(?:nii|nii\.gz|npz))#(?P<number>\d+)", re.IGNORECASE | re.DOTALL)
_FRAME = re.compile(r"(?P<file>.+)#frame(?P<number>\d+)", re.DOTALL)


def name_member(container: Path, number: int) -> Path:
    """The path of an image inside `container`; `number` counts from 0."""
    return container.with_name(f"{container.name}#{number}")


def name_frame(file: Path, number: int) -> Path:
    """The path of a frame of a DICOM file, whatever the file's name; `number` counts from 0, in the file's order."""
    return file.with_name(f"{file.name}#frame{number}")


def split_member(path: Path) -> tuple[Path, int] | None:
    """What `name_member` or `name_frame` joined; None for a file of its own."""
    match = _MEMBER.fullmatch(path.name) or _FRAME.fullmatch(path.name)
    return (path.with_name(match["file"]), int(match["number"])) if match else None


def holds_frames(container: Path) -> bool:
    """Whether a file that holds several images is a DICOM file, by its name."""
    return not container.name.lower().endswith((".nii", ".nii.gz", ".npz"))
