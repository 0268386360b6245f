"""Whose scans are: by a pattern, by a table, by the headers of DICOM files, else by the folders that they lie in."""

from __future__ import annotations

import re
import unicodedata
from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cache, partial
from pathlib import Path

from trainable.images.dicom_ids import DicomIds, names_somebody, read_dicom_ids
from trainable.images.names import merge_forms
from trainable.images.patient_folders import find_patient_folder, is_named_for_person
from trainable.images.patient_tables import TableOfPatients, read_patients
from trainable.images.scans import Scan, find_place

Node = tuple[str, str]
"""What tells whose a scan is: its kind (pattern, table, header, study, folder, scan), and its value."""

_KINDS = ("table", "header", "study", "folder")  # what is told of patients of several kinds is the first
_WAYS = {"header": "DICOM PatientID", "study": "DICOM studies", "folder": "folders"}


@dataclass(frozen=True, kw_only=True)
class ScansOfPatients:
    """Patients, each by the folder that their first scan lies in, with their scans; `lines` say how they were found.

    Where several patients lie in one folder they are FOLDER#1, FOLDER#2, ...: ids of people are never shown.
    """

    patients: tuple[tuple[Path, tuple[Scan, ...]], ...]
    lines: tuple[str, ...]


@dataclass(frozen=True, kw_only=True)
class _Placed:
    """A scan, the given folder it was found in, and the patient's folder of each of its files' folders."""

    scan: Scan
    root: Path
    folders: tuple[Path, ...]
    name: Path
    patient: str
    study: str
    series: str

    @property
    def is_loose(self) -> bool:
        """Is it a volume directly in the given folder, which makes it a patient's only by more than that?"""
        return self.scan.is_volume and set(self.folders) == {self.root}


class _Groups:
    """Nodes that are one patient's."""

    def __init__(self) -> None:
        self._parent: dict[Node, Node] = {}

    def find(self, node: Node) -> Node:
        while self._parent.setdefault(node, node) != node:
            self._parent[node] = self._parent[self._parent[node]]
            node = self._parent[node]
        return node

    def join(self, one: Node, other: Node) -> None:
        self._parent[self.find(one)] = self.find(other)


def group_scans(
    scans: Iterable[tuple[Path, Scan]], *, num_workers: int = 1, patient_from: str | None = None
) -> ScansOfPatients:
    """Put scans together by patient, in the order in which they come; each comes with the folder that was given.

    As in a search, the pattern `patient_from` wins over all; scans that share a PatientID or a patient of a table
    beside them are one patient's, wherever they lie, and so are those of one DICOM study. An id that stands for nobody
    (`ANONYMOUS`) is not used. The others are whose the folder is that they lie in (see `find_patient_folder`), and of
    the one person whose scans lie there too: of two folders of one person two patients may be made, never one of two
    people. A volume directly in the given folder is a patient of its own.

    Raises ValueError for a pattern that does not match each scan's path.
    """
    placed = _place(list(scans), num_workers)
    if patient_from is not None:
        keys: list[Node] = list(_match(placed, patient_from))
        return _build(placed, keys, {"pattern": f"--patient-from {patient_from!r}"}, ())
    tables = {root: read_patients(root) for root in dict.fromkeys(item.root for item in placed)}
    notes = tuple(note for table in tables.values() for note in table.notes)
    ids = {item.patient for item in placed if item.patient}
    if len(ids) == 1 and _count_people(folder for item in placed if item.patient for folder in item.folders) > 1:
        placed = [replace(item, patient="") for item in placed]
        notes += ("the PatientID in the DICOM headers is the same in the folders of several people: it was not used",)
    groups = _Groups()
    known = _join_known(placed, tables, groups)
    _join_folders(placed, known, groups)
    nodes = [groups.find(_node(number)) for number in range(len(placed))]
    kinds = dict.fromkeys(nodes, "folder")
    for number, node in enumerate(nodes):
        kinds[node] = min(kinds[node], known.get(number, "folder"), key=_KINDS.index)
    sources = " and ".join(dict.fromkeys(table.source for table in tables.values() if table.source))
    return _build(placed, [(kinds[node], ":".join(node)) for node in nodes], {**_WAYS, "table": sources}, notes)


def _place(scans: Sequence[tuple[Path, Scan]], num_workers: int) -> list[_Placed]:
    files = [_find_file(scan) for _, scan in scans]
    ids = read_dicom_ids([file for file in files if file is not None], num_workers)
    names, _ = merge_forms({one.patient for one in ids.values()}, loosely=True)
    find_folder = cache(find_patient_folder)
    placed = []
    for (root, scan), file in zip(scans, files, strict=True):
        found = ids.get(file, DicomIds(patient="", study="", series="")) if file else None
        patient = found.patient if found else ""
        if scan.series is not None and scan.series.patient is None:
            patient = ""  # each of its slices names another
        folders = dict.fromkeys(find_folder(folder, root) for folder in _list_folders(scan))
        name = next(iter(folders))
        if len(folders) > 1 and scan.series is not None:
            name = find_place(scan.series)
        placed.append(
            _Placed(
                scan=scan,
                root=root,
                folders=tuple(folders),
                name=scan.path if scan.is_volume and name == root and len(folders) == 1 else name,
                patient=names[patient] if names_somebody(patient) else "",
                study=found.study if found else "",
                series=found.series if found else "",
            )
        )
    return placed


def _list_folders(scan: Scan) -> Sequence[Path]:
    if scan.series is None:
        return [scan.path.parent]
    return list(dict.fromkeys(sorted(item.path.parent for item in scan.series.slices)))


def _find_file(scan: Scan) -> Path | None:
    """A file whose header says whose the scan is; None for what is no DICOM."""
    if scan.series is not None:
        return scan.series.slices[0].path
    return None if scan.is_volume else scan.path


def _match(placed: Sequence[_Placed], pattern: str) -> Iterator[Node]:
    try:
        compiled = re.compile(unicodedata.normalize("NFC", pattern))
    except re.error as error:
        raise ValueError(f"--patient-from {pattern!r} is no regular expression: {error}") from error
    for item in placed:
        path = _find_file(item.scan) or item.scan.path
        name = path.relative_to(item.root).as_posix() if path.is_relative_to(item.root) else path.name
        match = compiled.search(unicodedata.normalize("NFC", name))
        if not match or not match[min(compiled.groups, 1)]:
            raise ValueError(
                f"--patient-from {pattern!r} finds no patient in {path}; it must match every path below {item.root}, "
                f"as {name}"
            )
        yield "pattern", match[min(compiled.groups, 1)]


def _node(number: int) -> Node:
    return "scan", str(number)


def _join_known(placed: Sequence[_Placed], tables: Mapping[Path, TableOfPatients], groups: _Groups) -> dict[int, str]:
    """Join what tables and headers say; the kind by which each scan was joined, of those of which they say anything."""
    known: dict[int, str] = {}
    studies = {item.study for item in placed if item.study}
    trusted = _trust_studies(placed)
    for number, item in enumerate(placed):
        join = partial(groups.join, _node(number))
        if item.study in trusted and (not item.patient or len(studies) > 1):
            join(("study", item.study))
            known[number] = "study"
        if item.patient:
            join(("header", item.patient))
            known[number] = "header"
        files = [slice_.path for slice_ in item.scan.series.slices] if item.scan.series else [item.scan.path]
        for patient in {tables[item.root].find(path) for path in files} - {None}:
            join(("table", f"{item.root}: {patient}"))  # the 1 of another folder's table may be another person
            known[number] = "table"
    return known


def _trust_studies(placed: Sequence[_Placed]) -> set[str]:
    """The StudyInstanceUIDs that are one person's: of several series, each in one folder.

    A de-identification that gives one UID to all people's studies does so to their series as well; and folders that
    are named like several people are.
    """
    folders_of: defaultdict[str, dict[str, set[Path]]] = defaultdict(lambda: defaultdict(set))
    for item in placed:
        if item.study:
            folders_of[item.study][item.series].update(item.folders)
    return {
        study
        for study, by_series in folders_of.items()
        if len(by_series) > 1
        and all(series and len(folders) == 1 for series, folders in by_series.items())
        and _count_people(set().union(*by_series.values())) < 2
    }


def _count_people(folders: Iterable[Path]) -> int:
    return sum(map(is_named_for_person, set(folders)))


def _join_folders(placed: Sequence[_Placed], known: Mapping[int, str], groups: _Groups) -> None:
    """Join the scans of which nothing else is known by their folders, and with the one person whose folder it is."""
    owners: defaultdict[Path, set[Node]] = defaultdict(set)
    for number, item in enumerate(placed):
        if number in known:
            for folder in item.folders:
                owners[folder].add(_node(number))
    for number, item in enumerate(placed):
        if number in known or item.is_loose:
            continue
        for folder in item.folders:
            if folder != item.root or len(item.folders) == 1:
                groups.join(_node(number), ("folder", str(folder)))
    for number, item in enumerate(placed):
        if number in known:
            continue
        people = {groups.find(node) for folder in item.folders if folder != item.root for node in owners[folder]}
        if len(people) == 1:
            groups.join(_node(number), people.pop())


def _build(
    placed: Sequence[_Placed], keys: Sequence[Node], ways: Mapping[str, str], notes: Sequence[str]
) -> ScansOfPatients:
    of_key: defaultdict[Node, list[_Placed]] = defaultdict(list)
    for item, key in zip(placed, keys, strict=True):
        of_key[key].append(item)
    num_in = Counter(items[0].name for items in of_key.values())
    number: Counter[Path] = Counter()
    patients = []
    for items in of_key.values():
        name = items[0].name
        if num_in[name] > 1:
            number[name] += 1
            name = name.with_name(f"{name.name}#{number[name]}")
        patients.append((name, tuple(item.scan for item in items)))
    num_by = Counter(kind for kind, _ in of_key)
    lines = [f"{len(of_key)}, by " + " and ".join(f"{ways[kind]} ({num})" for kind, num in num_by.items())]
    wide = Counter(kind for (kind, _), items in of_key.items() if _count_folders(items) > 1)
    lines += [
        f"{num} {_PLURALS[kind]} are in several folders each: these are taken as one patient's"
        for kind, num in wide.items()
    ]
    return ScansOfPatients(patients=tuple(patients), lines=(*lines, *notes))


_PLURALS = {
    "pattern": "patients",
    "table": "patients of the table",
    "header": "PatientIDs",
    "study": "DICOM studies",
    "folder": "patients by their folders' names or their series",
}


def _count_folders(items: Sequence[_Placed]) -> int:
    return len({folder for item in items for folder in _list_folders(item.scan)})
