"""The slices of a data set and whose they are, found alike by a search, an audit and an explanation of the data."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path

from trainable.images.expand import expand_volumes
from trainable.images.expand_series import expand_series
from trainable.images.faults import NotASliceError, count_left_out
from trainable.images.manifest import Manifest, read_manifest
from trainable.images.medmnist import is_npz
from trainable.images.members import split_member
from trainable.images.patients import Patients, find_patients
from trainable.images.reading import Reading
from trainable.images.slice_rule import SliceRule

ALL_SLICES = SliceRule()


@dataclass(frozen=True, kw_only=True)
class FoundSlices:
    """A manifest whose volumes and DICOM series are slices already, and the patients of its slices, in their order.

    `left_out` are files in order that hold no slice, such as localizers; `oddities` say what may be wrong with series.
    `volumes` has a name for the volume of each slice that is one of several.
    """

    manifest: Manifest
    patients: Patients
    left_out: tuple[NotASliceError, ...] = ()
    oddities: tuple[str, ...] = ()
    volumes: Mapping[Path, str] = field(default_factory=dict)

    @property
    def reading(self) -> Reading:
        reading = self.manifest.read_as(self.patients)
        return replace(
            reading,
            left_out=(*reading.left_out, *count_left_out(self.left_out)),
            warnings=(*reading.warnings, *self.oddities),
        )


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

    Raises as `read_manifest`, `expand_volumes`, `expand_series` and `find_patients` do.
    """
    manifest = read_manifest(
        data,
        unpack_into=unpack_into,
        patient_from=patient_from,
        positive=positive,
        skip_bad_images=skip_bad_images,
    )
    series = expand_series(
        manifest.slices,
        slice_rule,
        skip_bad_images=skip_bad_images,
        keep_bad_volumes=keep_bad_volumes,
        num_workers=num_workers,
    )
    if not series.rows:
        raise ValueError(f"{data} holds no slice: {'; '.join(count_left_out(series.left_out))}")
    expanded = expand_volumes(
        series.rows,
        slice_rule,
        skip_bad_images=skip_bad_images,
        keep_bad_volumes=keep_bad_volumes,
        num_workers=num_workers,
    )
    skipped = (*series.skipped, *expanded.skipped)
    manifest = replace(
        manifest,
        slices=expanded.rows,
        skipped=(*manifest.skipped, *skipped),
        found=replace(
            manifest.found,
            skipped=(*manifest.found.skipped, *skipped),
            notes=(*manifest.found.notes, *series.notes, *expanded.notes),
        ),
    )
    volumes = dict(series.volumes)
    for item in manifest.slices:
        if item.path not in volumes and (member := split_member(item.path)) and not is_npz(member[0]):
            volumes[item.path] = str(member[0])
    return FoundSlices(
        manifest=manifest,
        patients=find_patients(manifest, manifest.slices, series.ids, volumes),
        left_out=series.left_out,
        oddities=series.oddities,
        volumes=volumes,
    )
