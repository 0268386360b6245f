"""The front door of the room: from a user's data to checked, split and decoded slices, and to the sealed test."""

from __future__ import annotations

import hashlib
import json
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from trainable.images.audit import Audit, audit_slices, shorten_names
from trainable.images.cache import build_cache
from trainable.images.draw_up import draw_up, stack_thumbnails
from trainable.images.faults import count_left_out
from trainable.images.find_slices import ALL_SLICES, find_slices
from trainable.images.findings import find_blank, find_blank_slices
from trainable.images.known_pairs import find_known_pairs
from trainable.images.looked_at import SeenFile, check_neighbours, look_at
from trainable.images.manifest import Manifest
from trainable.images.mapped import open_pixels
from trainable.images.names import with_printable_errors
from trainable.images.near_duplicates import SAME_SLICE
from trainable.images.patients import Patients
from trainable.images.pixel_format import GREY, PixelFormat
from trainable.images.reading import Reading
from trainable.images.scales import scale_warnings
from trainable.images.seen import shorten
from trainable.images.slice_rule import SliceRule
from trainable.images.splits import SplitRow, read_splits, write_splits

GroupedBy = Literal["patient", "runs"]

NO_PATIENTS = (
    "no patients are known: slices were grouped by neighbouring numbers in their names and by likeness, slices of one "
    "patient may lie in several splits, and the test figure may be inflated; give patients by --patient-from or a table"
)


@dataclass(frozen=True, kw_only=True)
class TrainingData:
    """What a trial trains and validates on: train and val slices, in that order. Small, but for the mapped file.

    `pixels_path` is a .npy of uint8 (N, S, S), or (N, S, S, C) of several channels, as `form` says;
    `labels` int64 (N,) index `classes`; `is_val` bool (N,); `groups` int64 (N,): slices of one patient, or of one
    cluster of near-duplicates, share a number. `slices` is the rule by which volumes became slices (`SliceRule`);
    `in_hounsfield` says that all show Hounsfield units through the windows.
    """

    name: str
    data_hash: str
    classes: tuple[str, ...]
    positive: int
    image_size: int
    pixels_path: str
    labels: NDArray[np.int64]
    is_val: NDArray[np.bool_]
    groups: NDArray[np.int64]
    form: PixelFormat = GREY
    slices: str = str(ALL_SLICES)
    in_hounsfield: bool = False

    @property
    def num_channels(self) -> int:
        return self.form.num_channels


@dataclass(frozen=True, kw_only=True)
class SealedTest:
    """The test split: pixels uint8 (M, S, S[, C]), labels and groups int64 (M,), and bool (M,) telling which
    slices were also shown in train or val before those were taken out. `hashes` are those of the files (`seen.py`)."""

    pixels: NDArray[np.uint8]
    labels: NDArray[np.int64]
    groups: NDArray[np.int64]
    has_near_duplicate: NDArray[np.bool_]
    hashes: tuple[str, ...] = ()


@dataclass(frozen=True, kw_only=True)
class PreparedData:
    """`grouped_by` says what keeps slices together; `warnings` belong on the terminal, the run and the model.

    `reading` is how the data was read, with all that was guessed.
    """

    training: TrainingData
    audit: Audit
    grouped_by: GroupedBy
    positive_was_guessed: bool
    warnings: tuple[str, ...]
    reading: Reading


@with_printable_errors
def prepare_data(
    data: Path,
    *,
    cache_dir: Path,
    splits_file: Path,
    image_size: int,
    seed: int,
    patient_from: str | None = None,
    positive: str | None = None,
    skip_bad_images: bool = False,
    num_workers: int = 1,
    form: PixelFormat = GREY,
    slice_rule: SliceRule = ALL_SLICES,
    on_reading: Callable[[Reading], None] | None = None,
) -> PreparedData:
    """Read, check, split and decode the slices of `data`; `image_size` is the side in pixels.

    `form` says what an image becomes: windows, colours, a slice with its neighbours. Of a volume, which is a patient
    unless the data say whose it is, `slice_rule` chooses the slices. `on_reading` is called with how the data was read
    before any image is decoded, so that it is seen also where a check fails later.

    Splits are written to `splits_file` once. Where it exists already its rows are taken as they are, and every
    file must still have the content it had. Raises ValueError (BadImageError for an image) or
    FileNotFoundError, naming the file: see `read_manifest`, `read_slice`, `check_splits`; also for identical
    files in two splits or classes, and for a class of blank slices. Files in order that hold no slice, such as
    localizers, are left out and counted; with `skip_bad_images` unusable ones are too.
    """
    found = find_slices(
        data,
        unpack_into=cache_dir / "unpacked",
        patient_from=patient_from,
        positive=positive,
        skip_bad_images=skip_bad_images,
        slice_rule=slice_rule,
        num_workers=num_workers,
    )
    manifest, reading = found.manifest, found.reading
    if on_reading is not None:
        on_reading(reading)
    if form.neighbours:
        check_neighbours(manifest, found.volumes)
    if splits_file.exists():
        rows = read_splits(splits_file)
        files, skipped, notes = look_at([row.path for row in rows], form, num_workers)
        _check_unchanged(rows, files)
        alike = find_known_pairs(stack_thumbnails(rows, files), cache_dir)
        patients = _list_patients([row.path for row in rows], manifest, found.patients)
    else:
        files, skipped, notes = look_at([item.path for item in manifest.slices], form, num_workers, skip_bad_images)
        slices = [item for item in manifest.slices if item.path in files]
        patients = _list_patients([item.path for item in slices], manifest, found.patients)
        alike = find_known_pairs(stack_thumbnails(slices, files), cache_dir)
        rows, remarks = draw_up(manifest, slices, files, patients, alike, seed)
        notes += remarks
        splits_file.parent.mkdir(parents=True, exist_ok=True)
        write_splits(splits_file, rows)

    facts = [files[row.path].facts for row in rows]
    warnings = [
        *reading.warnings,
        *count_left_out(found.left_out),
        *notes,
        *scale_warnings(Counter(fact.scale for fact in facts)),
        *_warn_of_blank(rows, stack_thumbnails(rows, files)),
        *([NO_PATIENTS] if patients is None else []),
    ]
    shown = [row for split in ("train", "val") for row in rows if row.split == split and row.kept]
    return PreparedData(
        training=TrainingData(
            name=manifest.name,
            data_hash=_hash_rows(rows),
            classes=manifest.classes,
            positive=manifest.positive,
            image_size=image_size,
            pixels_path=str(_decode(shown, cache_dir, image_size, num_workers, form)),
            labels=_number_labels(shown, manifest.classes),
            is_val=np.array([row.split == "val" for row in shown]),
            groups=np.array([row.group for row in shown], dtype=np.int64),
            form=form,
            slices=str(slice_rule),
            in_hounsfield=all(files[row.path].facts.scale.is_hounsfield for row in shown),
        ),
        audit=audit_slices(
            rows,
            facts,
            [pair for pair in alike if pair[2] >= SAME_SLICE],
            num_patients=None if patients is None else len(set(patients)),
            image_size=image_size,
            skipped=[*manifest.skipped, *skipped],
            warnings=warnings,
        ),
        grouped_by="runs" if patients is None else "patient",
        positive_was_guessed=manifest.positive_was_guessed,
        warnings=tuple(warnings),
        reading=reading,
    )


def open_sealed_test(
    splits_file: Path, *, cache_dir: Path, image_size: int, num_workers: int = 1, form: PixelFormat = GREY
) -> SealedTest:
    """Decode the test split that `splits_file` names, as `form` says: once per search, after everything about the
    model is fixed. Raises ValueError for a file that has changed since, and FileNotFoundError."""
    rows = read_splits(splits_file)
    classes = tuple(sorted({row.label for row in rows}))
    test = [row for row in rows if row.split == "test"]
    return SealedTest(
        pixels=np.array(open_pixels(_decode(test, cache_dir, image_size, num_workers, form))),
        labels=_number_labels(test, classes),
        groups=np.array([row.group for row in test], dtype=np.int64),
        has_near_duplicate=np.array([row.near_duplicate for row in test]),
        hashes=tuple(shorten(row.sha256) for row in test),
    )


def _warn_of_blank(rows: Sequence[SplitRow], images: NDArray[np.uint8]) -> list[str]:
    names, labels = shorten_names([row.path for row in rows]), [row.label for row in rows]
    return [finding.line() for finding in find_blank_slices(names, labels, find_blank(images))]


def _check_unchanged(rows: Sequence[SplitRow], files: Mapping[Path, SeenFile]) -> None:
    changed = [row.path for row in rows if files[row.path].facts.sha256 != row.sha256]
    if changed:
        raise ValueError(
            f"{changed[0]} has changed since the splits were drawn ({len(changed)} of {len(rows)} files have); "
            "put the old files back, or start a search under a new name"
        )


def _list_patients(paths: Sequence[Path], manifest: Manifest, found: Patients) -> list[str] | None:
    """The patients of the files; None where some are unknown."""
    if found.ids is None:
        return None
    by_path = dict(zip((item.path for item in manifest.slices), found.ids, strict=True))
    return [by_path[path] for path in paths] if all(path in by_path for path in paths) else None


def _hash_rows(rows: Sequence[SplitRow]) -> str:
    """16 hex digits that stand for the images, their classes and their splits, whatever their size or order."""
    facts = sorted((row.sha256, row.label, row.split, row.kept) for row in rows)
    return hashlib.sha256(json.dumps(facts).encode()).hexdigest()[:16]


def _decode(
    rows: Sequence[SplitRow], cache_dir: Path, image_size: int, num_workers: int, form: PixelFormat = GREY
) -> Path:
    return build_cache(
        [row.path for row in rows],
        hashes=[row.sha256 for row in rows],
        size=image_size,
        folder=cache_dir,
        num_workers=num_workers,
        form=form,
    )


def _number_labels(rows: Sequence[SplitRow], classes: Sequence[str]) -> NDArray[np.int64]:
    if unknown := {row.label for row in rows} - set(classes):
        raise ValueError(f"the splits name the class {unknown.pop()}; the data has {', '.join(classes)}")
    return np.array([classes.index(row.label) for row in rows], dtype=np.int64)
