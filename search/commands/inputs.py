"""Files to classify: images, volumes and what lies below folders, as a user names them."""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import groupby
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from trainable.images.faults import show_name
from trainable.images.masks import list_slices

if TYPE_CHECKING:
    from trainable.images.scan_patients import ScansOfPatients
    from trainable.images.scans import Scan


@dataclass(frozen=True, kw_only=True)
class Per:
    """What has one row: each volume, each of its slices, or all that is one patient's, whom the pattern `patient_from`
    finds in the path of each file, else `group_scans`. Raises ValueError for a pattern without patients."""

    unit: Literal["volume", "slice", "patient"]
    patient_from: str | None = None

    def __post_init__(self) -> None:
        if self.patient_from is not None and self.unit != "patient":
            raise ValueError("--patient-from says whose each image is; take --per patient with it")


PER_VOLUME = Per(unit="volume")


def list_scans(paths: Sequence[Path], notes: list[str] | None = None) -> list[Scan]:
    """Files as they are given, each an image or a volume, and what lies below given folders, where the slices of a
    DICOM series are one volume, also in several folders that are given one after the other.

    What is left out is added to `notes`. Raises ValueError as `list_files` does.
    """
    from trainable.images.scans import find_scans, open_scan

    scans: list[Scan] = []
    for are_folders, run in groupby(paths, key=Path.is_dir):
        files = list(dict.fromkeys(file for path in run for file in list_files([path], notes)))
        scans += find_scans(files, num_workers=os.cpu_count() or 1) if are_folders else map(open_scan, files)
    return scans


def list_patients(
    paths: Sequence[Path], notes: list[str] | None = None, *, patient_from: str | None = None
) -> ScansOfPatients:
    """The same scans by patient: see `group_scans`. A file given alone lies in its folder."""
    from trainable.images.scan_patients import group_scans

    given = list(dict.fromkeys(paths))
    place_of: dict[Path, int] = {}
    for place, path in enumerate(given):
        for file in list_files([path]):
            place_of.setdefault(file, place)
    # All folders are read together: a series may lie in several of them, whatever was given between.
    scans = list_scans(sorted(given, key=lambda path: not path.is_dir()), notes)
    placed = [(place_of[scan.series.slices[0].path if scan.series else scan.path], scan) for scan in scans]
    rooted = [
        (given[place] if given[place].is_dir() else given[place].parent, scan)
        for place, scan in sorted(placed, key=lambda item: item[0])
    ]
    return group_scans(rooted, num_workers=os.cpu_count() or 1, patient_from=patient_from)


def list_files(paths: Sequence[Path], notes: list[str] | None = None) -> list[Path]:
    """Files as they are given, and all below given folders by the rules of a search: sorted, without hidden files and
    those of the system, and without masks beside images, of which a sentence each is added to `notes`.

    Links to nowhere and folders that may not be read are listed too, so that each gets its row. Raises ValueError for
    what is not there.
    """
    files: list[Path] = []
    for path in paths:
        if path.is_dir():
            files += _walk(path, (), [] if notes is None else notes)
        elif path.exists() or path.is_symlink():
            files.append(path)
        else:
            raise ValueError(f"there is no file or folder {show_name(path)}")
    if not files:
        raise ValueError(f"no file lies in {', '.join(map(show_name, paths))}")
    return files


def _walk(folder: Path, above: tuple[str, ...], notes: list[str]) -> Iterator[Path]:
    """Every file below a folder; a link back to a folder `above` is not followed again."""
    place = os.path.realpath(folder)
    if place in above:
        return
    try:
        folders, files, masks = list_slices(folder, refuse_loops=False)
    except OSError:
        yield folder  # to be read as a file, and refused with the reason
        return
    notes += masks
    yield from sorted(files)
    for inner in folders:
        yield from _walk(inner, (*above, place), notes)
