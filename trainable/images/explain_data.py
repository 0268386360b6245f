"""A data set explained without being decoded: how it was read, and its first slices as they were understood."""

from __future__ import annotations

from pathlib import Path

from trainable.images.dicom_ids import read_dicom_ids
from trainable.images.manifest import Manifest, read_manifest
from trainable.images.names import printable, with_printable_errors
from trainable.images.patients import Patients, find_patients

MAX_ROWS = 10
_FIRST_ROWS = 3


@with_printable_errors
def explain_data(
    data: Path,
    *,
    unpack_into: Path,
    patient_from: str | None = None,
    positive: str | None = None,
    skip_bad_images: bool = False,
    num_workers: int = 1,
) -> list[str]:
    """Lines for a terminal: the block `Read as:` and a table of the first slices.

    These are the first three and the first of each further class and split, ten at most. Patients are numbers, in
    the order in which they come. Raises as `read_manifest` does; pixels are not looked at.
    """
    manifest = read_manifest(
        data,
        unpack_into=unpack_into,
        patient_from=patient_from,
        positive=positive,
        skip_bad_images=skip_bad_images,
    )
    headers = read_dicom_ids((item.path for item in manifest.slices), num_workers)
    patients = find_patients(manifest, manifest.slices, headers)
    return [*manifest.read_as(patients).lines(), "First slices:", *_tabulate(manifest, patients)]


def _tabulate(manifest: Manifest, patients: Patients) -> list[str]:
    numbers = {patient: number for number, patient in enumerate(dict.fromkeys(patients.ids or ()), 1)}
    shown, seen = [], set()
    for index, item in enumerate(manifest.slices):
        kind = (item.label, item.split)
        if index < _FIRST_ROWS or kind not in seen:
            shown.append(index)
        seen.add(kind)
    cells = [("slice", "class", "split", "patient")]
    for index in shown[:MAX_ROWS]:
        item = manifest.slices[index]
        patient = str(numbers[patients.ids[index]]) if patients.ids else "unknown"
        cells.append(
            (printable(item.name), printable(manifest.classes[item.label]), item.split or "to be drawn", patient)
        )
    widths = [max(len(row[column]) for row in cells) for column in range(4)]
    lines = ["  " + "  ".join(f"{cell:{width}}" for cell, width in zip(row, widths, strict=True)) for row in cells]
    return [line.rstrip() for line in lines]
