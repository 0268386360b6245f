"""Places of slices: where each frame of a DICOM file lies, by its headers, in millimetres along the series' normal."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from trainable.images.dicom import START_BYTES, is_dicom
from trainable.images.dicom_headers import read_headers, read_integer, read_numbers, read_word
from trainable.images.dicom_kinds import find_reason_to_leave_out
from trainable.images.dicom_scale import find_macro, read_rescale
from trainable.images.faults import NotASliceError
from trainable.images.limits import open_file

if TYPE_CHECKING:
    import pydicom


@dataclass(frozen=True, kw_only=True)
class Place:
    """One frame of one file: `position` and `normal` float (3,) in millimetres of the patient, or None.

    `number` is its InstanceNumber, of a file of several frames the frame's; `shape` its rows and columns;
    `num_frames` are those of its file; `is_hounsfield` says that its values can be brought to Hounsfield units.
    `series` is the SeriesInstanceUID, else the folder's name as `has_series_uid` says; `instance` the SOPInstanceUID.
    """

    path: Path
    frame: int
    shape: tuple[int, int]
    num_frames: int
    series: str
    has_series_uid: bool
    study: str
    instance: str
    patient: str | None
    modality: str
    is_hounsfield: bool
    number: int | None
    position: NDArray[np.float64] | None
    normal: NDArray[np.float64] | None


def read_places(path: Path) -> list[Place]:
    """The places of a file's frames; pixels are not read.

    Raises NotASliceError for what is no slice (also for what is no DICOM file), ValueError for damage, and OSError.
    """
    with open_file(path) as file:
        if not is_dicom(file.read(START_BYTES)):
            raise NotASliceError("no DICOM file")
        file.seek(0)
        dataset = read_headers(file, with_pixels=False)
    if reason := find_reason_to_leave_out(dataset):
        raise NotASliceError(reason)
    if "Rows" not in dataset or "Columns" not in dataset:
        raise NotASliceError("a DICOM file without pixel data")
    num_frames = max(1, read_integer(dataset, "NumberOfFrames", 1))
    number = next(iter(_read_known(dataset, "InstanceNumber")), -1.0)
    patient = _read_text(dataset, "PatientID") or None
    # Without an id, the slices of a folder are one series: that is how such files are handed on.
    series = _read_text(dataset, "SeriesInstanceUID")
    study, modality = _read_text(dataset, "StudyInstanceUID"), read_word(dataset, "Modality")
    instance = _read_text(dataset, "SOPInstanceUID")
    return [
        Place(
            path=path,
            frame=frame,
            shape=(read_integer(dataset, "Rows"), read_integer(dataset, "Columns")),
            num_frames=num_frames,
            series=series or f"folder {path.parent}",
            has_series_uid=bool(series),
            study=study,
            instance=instance,
            patient=patient,
            modality=modality,
            is_hounsfield=_is_hounsfield(dataset, frame),
            number=frame if num_frames > 1 else (int(number) if number >= 0 else None),
            position=_read_position(dataset, frame, num_frames),
            normal=_read_normal(dataset, frame),
        )
        for frame in range(num_frames)
    ]


def _is_hounsfield(dataset: pydicom.Dataset, frame: int) -> bool:
    try:
        return read_rescale(dataset, frame).is_hounsfield
    except ValueError:  # the decoder's to refuse
        return False


def _read_text(dataset: pydicom.Dataset, keyword: str) -> str:
    return str(dataset.get(keyword) or "").strip().strip("\0").strip()


def _read_known(source: Any, keyword: str) -> list[float]:
    """The numbers of a header about a slice's place; none where it is damaged, for the slice itself is not."""
    try:
        return read_numbers(source, keyword)
    except ValueError:
        return []


def _read_position(dataset: pydicom.Dataset, frame: int, num_frames: int) -> NDArray[np.float64] | None:
    """The centre of the upper left pixel, from the frame's functional groups or the file's own field."""
    source: Any = find_macro(dataset, frame, "PlanePositionSequence")
    if source is None:
        source = dataset if num_frames == 1 else {}
    numbers = _read_known(source, "ImagePositionPatient")
    return np.array(numbers) if len(numbers) == 3 else None


def _read_normal(dataset: pydicom.Dataset, frame: int) -> NDArray[np.float64] | None:
    """The unit vector across the slice: along a row x down a column (PS3.3, C.7.6.2.1.1)."""
    source = find_macro(dataset, frame, "PlaneOrientationSequence") or dataset
    numbers = _read_known(source, "ImageOrientationPatient")
    if len(numbers) != 6:
        return None
    normal = np.cross(numbers[:3], numbers[3:])
    length = float(np.linalg.norm(normal))
    return normal / length if length > 1e-6 else None
