"""A drawn chest as DICOM files: a series of single slices, or one enhanced CT."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from pydicom.uid import generate_uid

from tests.trainable.images.dicom_files import ENHANCED_CT, build, item, save
from tests.trainable.images.phantoms import SPACING_MM

AXIAL = [1, 0, 0, 0, 1, 0]


def as_seen(values: NDArray[np.int16], index: int) -> NDArray[np.int32]:
    """A slice of `draw_chest` as DICOM stores it: rows from front to back, columns from the patient's right to left."""
    return values[::-1, ::-1, index].T.astype(np.int32)


def save_series(
    folder: Path, values: NDArray[np.int16], *, patient: str | None = "p", uid: str = "1.2.3", **headers: Any
) -> list[Path]:
    """A file for each slice of (X, Y, Z), feet to head; names are in another order than the slices."""
    folder.mkdir(parents=True, exist_ok=True)
    names = np.random.default_rng(0).permutation(values.shape[2])
    paths = [folder / f"IM{name:04}" for name in names]
    headers = {"StudyInstanceUID": f"{uid}.1", **headers}
    for index, path in enumerate(paths):
        dataset = build(
            as_seen(values, index) + 2000,
            RescaleSlope=1,
            RescaleIntercept=-2000,
            PatientID=patient,
            SeriesInstanceUID=uid,
            ImagePositionPatient=[0, 0, index * SPACING_MM[2]],
            ImageOrientationPatient=AXIAL,
            **headers,
        )
        path.write_bytes(save(dataset))
    return paths


def save_enhanced(
    path: Path, values: NDArray[np.int16], *, patient: str | None = "p", order: NDArray[np.int64] | None = None
) -> Path:
    """One file whose frames are the slices, in `order`, each by an intercept of its own."""
    order = np.arange(values.shape[2]) if order is None else order
    frames = [
        item(
            PlanePositionSequence=[item(ImagePositionPatient=[0, 0, float(index) * SPACING_MM[2]])],
            PixelValueTransformationSequence=[
                item(RescaleSlope=1, RescaleIntercept=-2000 - int(index), RescaleType="HU")
            ],
        )
        for index in order
    ]
    dataset = build(
        np.stack([as_seen(values, int(index)) + 2000 + int(index) for index in order]),
        SOPClassUID=ENHANCED_CT,
        PatientID=patient,
        NumberOfFrames=len(order),
        SharedFunctionalGroupsSequence=[item(PlaneOrientationSequence=[item(ImageOrientationPatient=AXIAL)])],
        PerFrameFunctionalGroupsSequence=frames,
        SeriesInstanceUID=generate_uid(entropy_srcs=[path.name]),
    )
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(save(dataset))
    return path
