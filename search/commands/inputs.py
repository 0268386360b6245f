"""Files to classify: images, volumes and what lies below folders, as a user names them."""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from itertools import groupby
from pathlib import Path
from typing import TYPE_CHECKING

from trainable.images.faults import show_name
from trainable.images.folders import list_folder

if TYPE_CHECKING:
    from trainable.images.scan_patients import ScansOfPatients
    from trainable.images.scans import Scan


def list_scans(paths: Sequence[Path]) -> list[Scan]:
    """Files as they are given, each an image or a volume, and what lies below given folders, where the slices of a
    DICOM series are one volume, also in several folders that are given one after the other.

    Raises ValueError as `list_files` does.
    """
    from trainable.images.scans import find_scans, open_scan

    scans: list[Scan] = []
    for are_folders, run in groupby(paths, key=Path.is_dir):
        files = list(dict.fromkeys(file for path in run for file in list_files([path])))
        scans += find_scans(files, num_workers=os.cpu_count() or 1) if are_folders else map(open_scan, files)
    return scans


def list_patients(paths: Sequence[Path]) -> ScansOfPatients:
    """The same scans by patient: see `group_scans`. A file given alone lies in its folder."""
    from trainable.images.scan_patients import group_scans

    of_paths = [(path if path.is_dir() else path.parent, list_scans([path])) for path in paths]
    scans = [(root, scan) for root, found in of_paths for scan in found]
    return group_scans(scans, num_workers=os.cpu_count() or 1)


def list_files(paths: Sequence[Path]) -> list[Path]:
    """Files as they are given, and all below given folders by the rules of a search: sorted, without hidden files and
    those of the system.

    Links to nowhere and folders that may not be read are listed too, so that each gets its row. Raises ValueError for
    what is not there.
    """
    files: list[Path] = []
    for path in paths:
        if path.is_dir():
            files += _walk(path, ())
        elif path.exists() or path.is_symlink():
            files.append(path)
        else:
            raise ValueError(f"there is no file or folder {show_name(path)}")
    if not files:
        raise ValueError(f"no file lies in {', '.join(map(show_name, paths))}")
    return files


def _walk(folder: Path, above: tuple[str, ...]) -> Iterator[Path]:
    """Every file below a folder; a link back to a folder `above` is not followed again."""
    place = os.path.realpath(folder)
    if place in above:
        return
    try:
        folders, files = list_folder(folder, refuse_loops=False)
    except OSError:
        yield folder  # to be read as a file, and refused with the reason
        return
    yield from sorted(files)
    for inner in folders:
        yield from _walk(inner, (*above, place))
