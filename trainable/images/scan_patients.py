"""Whose scans are: by the PatientID of DICOM headers, else by the folders that they lie in."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

from trainable.images.dicom_ids import names_somebody, read_dicom_ids
from trainable.images.scans import Scan


@dataclass(frozen=True, kw_only=True)
class ScansOfPatients:
    """Patients, each by the folder that their first scan lies in, with their scans; `lines` say how they were found.

    Where several patients lie in one folder they are FOLDER#1, FOLDER#2, ...: ids of people are never shown.
    """

    patients: tuple[tuple[Path, tuple[Scan, ...]], ...]
    lines: tuple[str, ...]


def group_scans(scans: Iterable[tuple[Path, Scan]], *, num_workers: int = 1) -> ScansOfPatients:
    """Put scans together by patient, in the order in which they come; each comes with the folder that was given.

    Scans with one PatientID are one patient's, wherever they lie, unless it stands for nobody (`ANONYMOUS`). The others
    are whose the folder is that they lie in: of two folders of one person two patients are made, and never one of two
    people. A volume directly in the given folder is a patient of its own.
    """
    given = [(root, scan, _find_file(scan)) for root, scan in scans]
    ids = read_dicom_ids([file for _, _, file in given if file is not None], num_workers)
    groups: defaultdict[tuple[str, str], list[Scan]] = defaultdict(list)
    places: defaultdict[tuple[str, str], list[Path]] = defaultdict(list)
    for root, scan, file in given:
        place = (file or scan.path).parent
        if scan.is_volume and place == root:
            place = scan.path
        patient = ids[file].patient if file is not None and file in ids else ""
        key = ("header", patient) if names_somebody(patient) else ("folder", str(place))
        groups[key].append(scan)
        places[key].append(place)
    num_in = Counter(found[0] for found in places.values())
    number: Counter[Path] = Counter()
    patients = []
    for key, found in groups.items():
        name = places[key][0]
        if num_in[name] > 1:
            number[name] += 1
            name = name.with_name(f"{name.name}#{number[name]}")
        patients.append((name, tuple(found)))
    return ScansOfPatients(patients=tuple(patients), lines=_describe(list(groups), list(places.values())))


def _find_file(scan: Scan) -> Path | None:
    """A file whose header says whose the scan is; None for what is no DICOM."""
    if scan.series is not None:
        return scan.series.slices[0].path
    return None if scan.is_volume else scan.path


def _describe(keys: Sequence[tuple[str, str]], places: Sequence[Sequence[Path]]) -> tuple[str, ...]:
    num_by = Counter(kind for kind, _ in keys)
    ways = {"header": "DICOM PatientID", "folder": "folders"}
    lines = [f"{len(keys)}, by " + " and ".join(f"{ways[kind]} ({num})" for kind, num in num_by.items())]
    wide = sum(kind == "header" and len(set(found)) > 1 for (kind, _), found in zip(keys, places, strict=True))
    if wide:
        lines.append(f"{wide} PatientIDs are in several folders each: these are taken as one patient's")
    return tuple(lines)
