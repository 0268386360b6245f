"""The slices of a data set and whose they are, found alike by a search, an audit and an explanation of the data."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path

from trainable.images.dicom_ids import read_dicom_ids
from trainable.images.expand import expand_volumes
from trainable.images.manifest import Manifest, read_manifest
from trainable.images.members import split_member
from trainable.images.patients import Patients, find_patients
from trainable.images.reading import Reading
from trainable.images.slice_rule import SliceRule

ALL_SLICES = SliceRule()


@dataclass(frozen=True, kw_only=True)
class FoundSlices:
    """A manifest whose volumes are slices already, and the patients of its slices, in their order."""

    manifest: Manifest
    patients: Patients

    @property
    def reading(self) -> Reading:
        return self.manifest.read_as(self.patients)


def find_slices(
    data: Path,
    *,
    unpack_into: Path,
    patient_from: str | None = None,
    positive: str | None = None,
    skip_bad_images: bool = False,
    keep_bad_volumes: bool = False,
    slice_rule: SliceRule = ALL_SLICES,
    num_workers: int = 1,
) -> FoundSlices:
    """Read the manifest, the headers of volumes and of DICOM files; voxels only where `slice_rule` asks for lungs.

    Raises as `read_manifest`, `expand_volumes` and `find_patients` do.
    """
    manifest = read_manifest(
        data,
        unpack_into=unpack_into,
        patient_from=patient_from,
        positive=positive,
        skip_bad_images=skip_bad_images,
    )
    expanded = expand_volumes(
        manifest.slices,
        slice_rule,
        skip_bad_images=skip_bad_images,
        keep_bad_volumes=keep_bad_volumes,
        num_workers=num_workers,
    )
    manifest = replace(
        manifest,
        slices=expanded.rows,
        skipped=(*manifest.skipped, *expanded.skipped),
        found=replace(
            manifest.found,
            skipped=(*manifest.found.skipped, *expanded.skipped),
            notes=(*manifest.found.notes, *expanded.notes),
        ),
    )
    files = [item.path for item in manifest.slices if split_member(item.path) is None]
    patients = find_patients(manifest, manifest.slices, read_dicom_ids(files, num_workers))
    return FoundSlices(manifest=manifest, patients=patients)
