"""Folders read as splits, classes and patients: ImageFolder, Kaggle, TCIA and PACS exports, one archive a class."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

from trainable.images.folders import archive_stem, list_folder, volume_stem
from trainable.images.level_words import (
    check_are_classes,
    check_levels,
    check_no_parts,
    check_whole,
    is_container,
)
from trainable.images.masks import describe_masks, find_mask_folders, list_slices, walk_slices
from trainable.images.names import alike_key, is_split_name, map_splits, merge_forms
from trainable.images.rows import LAYOUTS, FlawedFolderError, FoundRows, Row
from trainable.images.same_names import tell_people_apart


@dataclass(frozen=True, kw_only=True)
class Branch:
    """A folder under the name the user knows it by: its own, or its archive's."""

    name: str
    folder: Path


@dataclass
class _Log:
    skip_bad: bool
    skipped: list[str] = field(default_factory=list)
    left_out: list[str] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)


def read_branches(
    root: Path, branches: Sequence[Branch], *, skip_bad: bool = False, levels_are_known: bool = False
) -> FoundRows:
    """Slices of CLASS/slice, CLASS/PATIENT/slice, or CLASS/PATIENT/... any deeper; one layout for all classes.

    Folders named train, val and test in some spelling are splits, above the classes or right below them. A folder
    `images` between is looked through, and so is COVID alone in COVID; masks are left out. With `skip_bad`, a class
    without slices is told in `skipped`. Raises ValueError for it otherwise, for any other layout, and where it is
    unclear which level is the classes, unless `levels_are_known`.
    """
    log = _Log(skip_bad=skip_bad)
    splits: Mapping[str, str] = map_splits(branch.name for branch in branches)
    splits_above = _all_or_none(branches, root)
    if splits_above:
        rows = []
        _check_apart(branches)
        for branch in branches:
            inner = _list_classes(branch, log)
            _check_levels(branch.folder, inner, levels_are_known)
            rows += _read_classes(inner, branch.name, splits[branch.name], log)
    else:
        _check_levels(root, branches, levels_are_known)
        rows = _read_classes(_leave_out_masks(branches, log), "", None, log)
        splits = map_splits({row.split_name for row in rows if row.split_name})
    _check_one_kind(root, rows)
    labels, merged = merge_forms(row.row.label for row in rows)
    check_whole(root, dict.fromkeys(labels.values()))
    log.notes += [f"the folders {' and '.join(forms)} are one class" for forms in merged]
    patients_from = _describe_patients([found.row for found in rows])
    people = tell_people_apart(
        [replace(item.row, label=labels[item.row.label], split=splits.get(item.split_name)) for item in rows]
    )
    split = "" if splits_above or not splits else "SPLIT/"
    patient = "PATIENT/" if patients_from and patients_from.startswith("the folder") else ""
    deeper = ".../" if any(item.depth > 1 for item in rows) else ""
    slices = "volume" if rows and volume_stem(rows[0].row.path) else "slice"
    return FoundRows(
        rows=people.rows,
        source=f"the folder {root}",
        layout=f"{'SPLIT/' if splits_above else ''}CLASS/{split}{patient}{deeper}{slices}",
        splits=tuple(splits.items()),
        patients_from=patients_from,
        skipped=tuple(log.skipped),
        left_out=tuple(dict.fromkeys(log.left_out)),
        notes=(*log.notes, *people.notes),
        warnings=people.warnings,
    )


@dataclass(frozen=True, kw_only=True)
class _Placed:
    """A row, the name of the split folder it lies in, and how many folders lie between class or split and file."""

    row: Row
    split_name: str
    depth: int


def _list_below(branches: Sequence[Branch]) -> dict[str, list[str]]:
    """The names of the folders in each branch."""
    return {branch.name: [folder.name for folder in list_folder(branch.folder)[0]] for branch in branches}


def _check_apart(branches: Sequence[Branch]) -> None:
    """Refuse two names for one folder, as by links: its slices would be of both."""
    first: dict[str, Branch] = {}
    for branch in branches:
        other = first.setdefault(os.path.realpath(branch.folder), branch)
        if other is not branch:
            raise ValueError(f"{other.folder} and {branch.folder} lead to one folder; remove one")


def _check_levels(where: Path, classes: Sequence[Branch], are_known: bool) -> None:
    _check_apart(classes)
    check_are_classes(where, below := _list_below(classes))
    if not are_known:
        check_levels(where, below)
        check_no_parts(where, below)


def _leave_out_masks(branches: Sequence[Branch], log: _Log) -> list[Branch]:
    masks = find_mask_folders([branch.name for branch in branches])
    log.left_out += [describe_masks(branch.folder) for branch in branches if branch.name in masks]
    return [branch for branch in branches if branch.name not in masks]


def _all_or_none(branches: Sequence[Branch], where: Path) -> bool:
    """Are all of them splits? Raises ValueError where only some are."""
    named = [branch.name for branch in branches if is_split_name(branch.name)]
    others = [branch.name for branch in branches if not is_split_name(branch.name)]
    if named and others:
        raise ValueError(
            f"of the folders of {where} some are named like splits ({', '.join(named)}) and some are not "
            f"({', '.join(others[:3])}); rename or move them so that all are splits or all are classes"
        )
    return bool(named)


def _open(folder: Path, log: _Log) -> tuple[Path, list[Path], list[Path]]:
    """A folder and what it holds, looked for inside a folder `images`, or one of its own name, that stands alone or
    beside masks."""
    folders, files, masks = list_slices(folder)
    log.left_out += masks
    if files or len(folders) != 1:
        return folder, folders, files
    has_its_name = alike_key(folders[0].name) == alike_key(folder.name) and not folder.name.isdigit()
    is_wrapper = is_container(folders[0].name) or has_its_name
    return _open(folders[0], log) if is_wrapper else (folder, folders, files)


def _check_unpacked(files: Sequence[Path]) -> None:
    if packed := [file for file in files if archive_stem(file)]:
        raise ValueError(
            f"{packed[0]} is an archive where slices or folders are looked for ({len(packed)} are there); unpack it "
            "into a folder of its name"
        )


def _list_classes(split: Branch, log: _Log) -> list[Branch]:
    _, folders, files = _open(split.folder, log)
    _check_unpacked(files)
    if files:
        raise ValueError(
            f"{split.folder} is named like a split and holds slices ({files[0]}) without class folders; put them into "
            "folders of their classes, move the folder away, or write a table with the columns path,label,split"
        )
    if not folders:
        raise ValueError(f"{split.folder} is named like a split and is empty; fill it or remove it")
    return [Branch(name=inner.name, folder=inner) for inner in folders]


def _read_classes(classes: Sequence[Branch], above: str, split: str | None, log: _Log) -> list[_Placed]:
    rows: list[_Placed] = []
    split_below: dict[bool, Path] = {}
    for branch in classes:
        found = _read_class(branch, above, log)
        if not found:
            fault = f"the class folder {branch.folder} holds no images"
            if not log.skip_bad:
                raise FlawedFolderError(f"{fault}; fill it or remove it")
            log.skipped.append(fault)
            continue
        if split is None:
            split_below.setdefault(bool(found[0].split_name), branch.folder)
        rows += found
    if len(split_below) > 1:
        raise ValueError(f"{split_below[True]} has a folder per split, {split_below[False]} has none; use one layout")
    return rows


def _read_class(branch: Branch, above: str, log: _Log) -> list[_Placed]:
    """The rows of one class; `above` is its split folder's name, "" where there is none."""
    folder, folders, files = _open(branch.folder, log)
    if not above and folders and not files:
        inner = [Branch(name=path.name, folder=path) for path in folders]
        if _all_or_none(inner, folder):
            return [row for part in inner for row in _read_patients(branch, part.folder, part.name, above, log)]
    return _read_patients(branch, branch.folder, above, above, log)


def _read_patients(branch: Branch, folder: Path, split_name: str, above: str, log: _Log) -> list[_Placed]:
    folder, patients, files = _open(folder, log)
    _check_unpacked(files)
    if patients and files:
        raise FlawedFolderError(f"{folder} holds files ({files[0].name}) and folders ({patients[0].name}); {LAYOUTS}")

    def place(path: Path, patient: str | None, depth: int) -> _Placed:
        name = "/".join([*([above] if above else []), branch.name, path.relative_to(branch.folder).as_posix()])
        row = Row(path=path, name=name, label=branch.name, patient=patient or volume_stem(path))
        return _Placed(row=row, split_name=split_name, depth=depth)

    rows = [place(path, None, 0) for path in files]
    for patient in patients:
        files = list(walk_slices(patient, log.left_out))
        rows += [place(path, patient.name, len(path.relative_to(patient).parts)) for path in files]
    return rows


def _check_one_kind(root: Path, rows: Sequence[_Placed]) -> None:
    kinds: dict[bool, Path] = {}
    for placed in rows:
        kinds.setdefault(placed.row.patient is not None, placed.row.path)
    if len(kinds) > 1:
        raise FlawedFolderError(
            f"{kinds[True]} has a folder per patient or is a volume, {kinds[False]} has none and is a slice; use one "
            f"layout for all of {root}"
        )


def _describe_patients(rows: Sequence[Row]) -> str | None:
    if not rows or rows[0].patient is None:
        return None
    return "the volumes' names" if rows[0].patient == volume_stem(rows[0].path) else "the folders below the classes"
