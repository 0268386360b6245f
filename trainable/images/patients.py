"""Whose each slice is: by names, by a table's column, by DICOM headers; joined where they agree, told where not."""

from __future__ import annotations

import re
from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from trainable.images.dicom_ids import DicomIds, names_somebody
from trainable.images.names import alike_key, merge_forms

if TYPE_CHECKING:
    from trainable.images.manifest import Manifest, Slice

_SIDE = re.compile(r"(?<![^\W\d_])(left|right|l|r|od|os|links|rechts)(?![^\W\d_])", re.IGNORECASE)
PatientsFrom = Literal["pattern", "column", "names"]


@dataclass(frozen=True, kw_only=True)
class Patients:
    """A patient for each slice, or None where some are unknown; where they come from; and what is doubtful."""

    ids: tuple[str, ...] | None
    source: str
    warnings: tuple[str, ...] = ()


def find_patients(
    manifest: Manifest,
    slices: Sequence[Slice],
    headers: Mapping[Path, DicomIds],
    volumes: Mapping[Path, str] | None = None,
) -> Patients:
    """Join what names or a table say with the PatientID of DICOM headers.

    A pattern of the user's wins over all. A table's column and PatientID are joined: slices that share either are
    one patient's. Folders give way to PatientID where there is one. An id that all files have, or one that says
    nothing (`ANONYMOUS`), is not used: folders stand in, else studies, else series, else `volumes`, which names the
    volume of each slice that is one of several. Raises ValueError where each class folder is one patient's, and
    for a set that mixes volumes with images of unknown patients.
    """
    within = [volumes.get(item.path) if volumes else None for item in slices]
    found = _find_patients(manifest, slices, headers, within)
    if found.ids is not None and manifest.patients_kind != "pattern":
        found = replace(found, warnings=(*found.warnings, *_find_sides(found.ids)))
    if found.ids is not None or not any(within):
        return found
    if None in within:
        loose = [item.name for item, volume in zip(slices, within, strict=True) if volume is None]
        raise ValueError(
            f"{len(within) - len(loose)} slices belong to volumes, and {len(loose)} images ({loose[0]}) to nobody that "
            "is known: one person may lie in several splits; give the patients of all by --patient-from or a table, or "
            "keep one kind"
        )
    note = "no patients are known: each volume counts as a patient of its own, and one person may have several of them"
    return Patients(ids=tuple(map(str, within)), source="volumes", warnings=(*found.warnings, note))


def _find_patients(
    manifest: Manifest, slices: Sequence[Slice], headers: Mapping[Path, DicomIds], within: Sequence[str | None]
) -> Patients:
    named = [item.patient for item in slices]
    _check_classes(manifest, slices, headers)
    usable, warnings = _choose_ids(slices, headers)
    if manifest.patients_kind == "pattern":
        doubts = [
            *_compare(slices, usable, "--patient-from was followed"),
            *_find_torn(named, within, "--patient-from was followed"),
        ]
        return _as_named(named, manifest.patients_from, doubts)
    if not usable:
        if None not in named:
            warnings += _find_torn(named, within, "they were taken as one patient's")
            return _as_named(_join(named, within), manifest.patients_from, warnings)
        return _by_series(slices, headers, warnings)
    header = [usable.get(item.path) for item in slices]
    if manifest.patients_kind == "column" and None not in named:
        warnings += _compare(slices, usable, "slices that share either were taken as one patient's")
        return Patients(
            ids=_join(named, header), source=f"{manifest.patients_from}, with DICOM PatientID", warnings=tuple(warnings)
        )
    warnings += _compare(slices, usable, "PatientID was followed (to follow folders, use --patient-from)")
    filled = _fill(slices, header)
    if None in filled:
        warnings.append(
            f"{filled.count(None)} of {len(slices)} slices have neither a DICOM PatientID nor a patient folder"
        )
        return Patients(ids=None, source="unknown", warnings=tuple(warnings))
    source = "DICOM PatientID" + (f", else {manifest.patients_from}" if None in header else "")
    return Patients(ids=tuple(map(str, filled)), source=source, warnings=tuple(warnings))


def _as_named(named: Sequence[str | None], source: str | None, warnings: Sequence[str]) -> Patients:
    if None in named:
        return Patients(ids=None, source="unknown", warnings=tuple(warnings))
    return Patients(ids=tuple(str(name) for name in named), source=source or "", warnings=tuple(warnings))


def _choose_ids(slices: Sequence[Slice], headers: Mapping[Path, DicomIds]) -> tuple[dict[Path, str], list[str]]:
    """PatientIDs that tell people apart, and a warning on those that do not."""
    found = {item.path: headers[item.path].patient for item in slices if item.path in headers}
    given = {path: patient for path, patient in found.items() if patient}
    names, merged = merge_forms(given.values(), loosely=True)
    empty = {patient for patient in given.values() if not names_somebody(patient)}
    usable = {path: names[patient] for path, patient in given.items() if patient not in empty}
    warnings = []
    if merged:
        warnings.append(
            f"{len(merged)} DICOM PatientIDs are written in several forms (as 7 and 007): each is one person"
        )
    of_class: defaultdict[int, set[str]] = defaultdict(set)
    for item in slices:
        if item.path in given:
            of_class[item.label].add(names[given[item.path]])
    if len(given) > len(of_class) and all(len(patients) == 1 for patients in of_class.values()):
        where = "all files" if len(set().union(*of_class.values())) == 1 else "all files of a class"
        return {}, [
            f"the PatientID in the DICOM headers is the same in {where} ({len(given)} have one): it was not used"
        ]
    if len(set(usable.values())) == len(usable) and _share_names(slices, usable, headers):
        return {}, [f"the PatientID in the DICOM headers differs in all {len(usable)} files: it was not used"]
    by_study = _unite_studies(usable, headers)
    if len(set(by_study.values())) < len(set(usable.values())):
        usable = by_study
        warnings.append("files of one DICOM study have several PatientIDs: they were taken as one patient's")
    if len(usable) < len(given):
        warnings.append(
            f"{len(given) - len(usable)} of {len(given)} DICOM files have a PatientID that stands for nobody (as "
            "ANONYMOUS), so it was not used for them"
        )
    return usable, warnings


def _share_names(slices: Sequence[Slice], usable: Mapping[Path, str], headers: Mapping[Path, DicomIds]) -> bool:
    """Do several files lie in one patient's folder, or belong to one series?"""
    names = Counter(item.patient for item in slices if item.path in usable and item.patient is not None)
    series = Counter(headers[path].series for path in usable if headers[path].series)
    return max(names.values(), default=0) > 1 or (max(series.values(), default=0) > 1 and len(series) > 1)


def _unite_studies(usable: Mapping[Path, str], headers: Mapping[Path, DicomIds]) -> dict[Path, str]:
    """The ids, one for all files of a study, where studies tell files apart at all."""
    studies = [headers[path].study or None for path in usable]
    if len(set(studies)) < 2:
        return dict(usable)
    return dict(zip(usable, _join(list(usable.values()), studies), strict=True))


def _check_classes(manifest: Manifest, slices: Sequence[Slice], headers: Mapping[Path, DicomIds]) -> None:
    ids = [headers[item.path].patient if item.path in headers else "" for item in slices]
    if all(patient == manifest.classes[item.label] for patient, item in zip(ids, slices, strict=True)):
        raise ValueError(
            f"the class folders ({', '.join(manifest.classes[:3])}) bear the PatientIDs of their DICOM files: they are "
            "patients, not classes; put them into a folder per class, or write a table with path,label,patient"
        )


def _compare(slices: Sequence[Slice], usable: Mapping[Path, str], done: str) -> list[str]:
    """A warning where names and PatientIDs do not split the slices alike."""
    ids_of: defaultdict[str, set[str]] = defaultdict(set)
    names_of: defaultdict[str, set[str]] = defaultdict(set)
    for item in slices:
        if item.patient is not None and item.path in usable:
            ids_of[item.patient].add(usable[item.path])
            names_of[usable[item.path]].add(item.patient)
    several_names = sum(len(names) > 1 for names in names_of.values())
    several_ids = sum(len(ids) > 1 for ids in ids_of.values())
    if not several_names and not several_ids:
        return []
    return [
        f"{len(ids_of)} patients by name and {len(names_of)} by DICOM PatientID disagree: {several_names} PatientIDs "
        f"lie under several names, {several_ids} names hold several PatientIDs; {done}"
    ]


def _find_torn(named: Sequence[str | None], within: Sequence[str | None], done: str) -> list[str]:
    """A warning where the slices of a volume are of several patients by name."""
    names_of: defaultdict[str, set[str | None]] = defaultdict(set)
    for name, volume in zip(named, within, strict=True):
        if volume is not None:
            names_of[volume].add(name)
    torn = sum(len(names) > 1 for names in names_of.values())
    return [f"{torn} of {len(names_of)} volumes have slices of several patients by name: {done}"] if torn else []


def _find_sides(ids: Sequence[str]) -> list[str]:
    """A warning where patients are alike but for a word for a side, as 1_left and 1_right of one person's eyes."""
    people = set(ids)
    beside = len(people) - len({alike_key(_SIDE.sub(" ", patient)) for patient in people})
    if not beside:
        return []
    return [
        f"{beside} patients differ from another only in a word for a side (as left, right): they were taken as people "
        "of their own; if they are not, give patients by --patient-from or a table"
    ]


def _join(named: Sequence[str | None], header: Sequence[str | None]) -> tuple[str, ...]:
    """For each slice the first name of its group: slices that share a name or an id, directly or by others."""
    parent: dict[tuple[str, str], tuple[str, str]] = {}

    def find(node: tuple[str, str]) -> tuple[str, str]:
        while parent.setdefault(node, node) != node:
            parent[node] = parent[parent[node]]
            node = parent[node]
        return node

    for name, patient in zip(named, header, strict=True):
        if patient is not None:
            parent[find(("id", patient))] = find(("name", str(name)))
    return tuple(find(("name", str(name)))[1] for name in named)


def _fill(slices: Sequence[Slice], header: Sequence[str | None]) -> list[str | None]:
    """PatientIDs; a slice without one takes that of its folder, where there is one alone, else the folder's name."""
    of_folder: defaultdict[str, Counter[str]] = defaultdict(Counter)
    for item, patient in zip(slices, header, strict=True):
        if patient is not None and item.patient is not None:
            of_folder[item.patient][patient] += 1
    filled: list[str | None] = []
    for item, patient in zip(slices, header, strict=True):
        if patient is None and item.patient is not None:
            alone = list(of_folder[item.patient])
            patient = alone[0] if len(alone) == 1 else f"folder {item.patient}"
        filled.append(patient)
    return filled


def _by_series(slices: Sequence[Slice], headers: Mapping[Path, DicomIds], warnings: Sequence[str]) -> Patients:
    """DICOM studies, else series, in the place of patients, where every slice has one and there are several."""
    for kind in ("study", "series"):
        uids = [getattr(headers.get(item.path), kind, "") for item in slices]
        if all(uids) and len(set(uids)) > 1:
            plural = {"study": "studies", "series": "series"}[kind]
            note = f"no patients are known: DICOM {plural} stand in for them, and one person may have several of them"
            return Patients(ids=tuple(uids), source=f"DICOM {plural}", warnings=(*warnings, note))
    return Patients(ids=None, source="unknown", warnings=tuple(warnings))
