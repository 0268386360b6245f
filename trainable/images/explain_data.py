"""A data set explained without being decoded: how it was read, and its first slices as they were understood."""

from __future__ import annotations

from pathlib import Path

from trainable.images.find_slices import ALL_SLICES, find_slices
from trainable.images.manifest import Manifest
from trainable.images.names import printable, with_printable_errors
from trainable.images.patients import Patients
from trainable.images.slice_rule import SliceRule

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
    slice_rule: SliceRule = ALL_SLICES,
    num_workers: int = 1,
) -> list[str]:
    """Lines for a terminal: the block `Read as:` and a table of the first slices.

    These are the first three and the first of each further class and split, ten at most. Patients are numbers, in
    the order in which they come. Raises as `find_slices` does; pixels are not looked at, unless `slice_rule`
    chooses by them.
    """
    found = find_slices(
        data,
        unpack_into=unpack_into,
        patient_from=patient_from,
        positive=positive,
        skip_bad_images=skip_bad_images,
        keep_bad_volumes=True,
        slice_rule=slice_rule,
        num_workers=num_workers,
    )
    return [*found.reading.lines(), "First slices:", *_tabulate(found.manifest, found.patients)]


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
