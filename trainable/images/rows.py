"""Rows of path, label, patient and split, as a CSV or Parquet table gives them."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from trainable.images.columns import Role
from trainable.images.find_files import find_files
from trainable.images.folders import exists, list_folder, volume_stem, walk
from trainable.images.masks import list_slices, walk_slices
from trainable.images.names import SPLIT_WORDS, is_missing, map_splits, merge_forms, printable, tidy
from trainable.images.split_folders import find_split_folders
from trainable.images.table import DELIMITERS, Table, read_table_text
from trainable.images.table_checks import check_values

LAYOUTS = (
    "a data folder holds CLASS/slice or CLASS/PATIENT/slice, with train, val and test folders above or below the "
    "classes where there are any (docs/data.md shows each layout)"
)
_SAYS_SPLIT = re.compile(
    r"(is|in)?[\W_]*(train|training|val|valid|validation|test|holdout)[\W_]*(set|flag)?", re.IGNORECASE
)
_SAYS_GROUP = re.compile(
    r"(study|exam|accession|series|scan|volume|lesion|session|visit)(id|uid|no|nr|number|instanceuid)|accession|lesion|exam"
)
MANIFEST_NAMES = ("manifest.csv", "manifest.parquet")


class FlawedFolderError(ValueError):
    """Class folders that would be taken, but for one fault in them: no table stands in for them by a guess."""


def too_few_classes(data: Path, labels: Iterable[str]) -> str:
    """The line for data of fewer than two classes."""
    return f"{data} has the classes [{', '.join(sorted(labels))}]; it needs two or more; {LAYOUTS}"


@dataclass(frozen=True, kw_only=True)
class Row:
    """One slice or volume as its source gives it. `split` is "train", "val" or "test"; `name` is its path below the
    data, as the user knows it."""

    path: Path
    name: str
    label: str
    patient: str | None = None
    split: str | None = None


@dataclass(frozen=True, kw_only=True)
class FoundRows:
    """The rows of a source and how it was read.

    `columns` are pairs of what was found and the header it has, `splits` of a name and what it stands for.
    `skipped` has a sentence for each row or class that cannot be used, `left_out` for what is not meant to be used
    (files that a table does not list, masks), `notes` for what was taken as what, `warnings` for what may be wrong.
    """

    rows: tuple[Row, ...]
    source: str
    layout: str
    columns: tuple[tuple[str, str], ...] = ()
    splits: tuple[tuple[str, str], ...] = ()
    patients_from: str | None = None
    skipped: tuple[str, ...] = ()
    left_out: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()
    warnings: tuple[str, ...] = ()


def read_table(manifest: Path, *, skip_bad: bool = False, whole_folder: bool = False) -> FoundRows:
    """Slices of a table, in its order; a path that is a folder is a series, each file of it one slice. Where no column
    has paths, each patient is a folder, with all that lies below.

    With `skip_bad`, a row without label or path, of a missing file or of a path that leaves the table's folder is
    told in `skipped`. Raises ValueError for it otherwise; always for an unknown split, for several labels in one
    field, and for patients or splits that are given in some rows only. `whole_folder` says that the table stands
    for the whole folder it lies in: what it does not list there is counted.
    """
    table = read_table_text(manifest)
    files = find_files(manifest.parent, [values["path"] for _, values in table.records])
    splits = _find_splits(manifest, table)
    usable, faults = _sort_out(manifest, table, files.paths)
    if faults and not skip_bad:
        raise ValueError(f"{faults[0]}; {len(faults)} of {len(table.records)} rows cannot be used")
    check_values(manifest, table, usable)
    labels, merged_labels = merge_forms(values["label"] for _, values in usable)
    patients, merged_patients = merge_forms((v["patient"] for _, v in usable if "patient" in v), loosely=True)
    rows: list[Row] = []
    for _, values in usable:
        target = files.paths[values["path"]]
        name = target.relative_to(manifest.parent).as_posix()
        by_name = name if target.is_dir() or volume_stem(target) else None
        rows += [
            Row(
                path=path,
                name=path.relative_to(manifest.parent).as_posix(),
                label=labels[values["label"]],
                patient=patients[values["patient"]] if "patient" in values else by_name,
                split=splits[values["split"]] if "split" in values else None,
            )
            for path in _list_series(target, deep=table.columns["path"] == table.columns.get("patient"))
        ]
    rows, patients_from = _settle_patients(rows, table)
    split_folders = find_split_folders([row.name for row in rows]) if "split" not in table.columns else []
    if split_folders:
        splits = map_splits(split_folders)
        rows = [replace(row, split=splits[name]) for row, name in zip(rows, split_folders, strict=True)]
    unlisted = count_unlisted(manifest.parent, rows, whole_folder)
    return FoundRows(
        rows=tuple(rows),
        source=f"the table {manifest}"
        + (f", {DELIMITERS.get(table.delimiter, table.delimiter)}-separated" if table.delimiter else ""),
        layout="a row a slice",
        columns=tuple(table.columns.items()),
        splits=tuple(sorted((tidy(name), split) for name, split in splits.items())),
        patients_from=patients_from,
        skipped=tuple(faults),
        left_out=tuple(unlisted),
        notes=(
            *table.notes,
            *files.notes,
            *(f"the labels {', '.join(map(printable, forms))} are one class, {forms[0]}" for forms in merged_labels),
            *(
                [f"{len(merged_patients)} patients are written in several forms (as 1 and 1.0)"]
                if merged_patients
                else []
            ),
            *(["it has no column for splits: they are those that its files' folders name"] if split_folders else []),
            *_find_unread(table),
            *([f"columns not read: {_shorten(table.unread)}"] if table.unread else []),
        ),
    )


def _find_splits(manifest: Path, table: Table) -> Mapping[str, str]:
    if "split" not in table.columns:
        return {}
    values = [(number, row["split"]) for number, row in table.records if not is_missing(row["split"], none_too=True)]
    splits = map_splits(dict.fromkeys(value for _, value in values))
    for number, value in values:
        if value not in splits:
            raise ValueError(
                f"{manifest}, row {number} has the split {value!r} (column {table.columns['split']}); known are "
                f"{SPLIT_WORDS}; correct it, or rename the column if it holds no splits"
            )
    return splits


def _sort_out(
    manifest: Path, table: Table, paths: Mapping[str, Path]
) -> tuple[list[tuple[int, Mapping[Role, str]]], list[str]]:
    """The records that can be used, and the faults of the others."""
    usable, faults = [], []
    for number, values in table.records:
        if fault := _find_fault(values, manifest.parent, paths[values["path"]]):
            faults.append(f"{manifest}, row {number} {fault}")
        else:
            usable.append((number, values))
    return usable, faults


def _find_fault(values: Mapping[Role, str], root: Path, target: Path) -> str | None:
    path, label = values["path"], values["label"]
    if not path.strip():
        return "has no path"
    if not tidy(label):
        return f"has no label ({path})"
    if is_missing(label):
        return (
            f"has the label {label!r} ({path}), which stands for a missing value; fill it, leave the row out, or give "
            "the class another name"
        )
    if not target.is_relative_to(root) or (re.match(r"[A-Za-z]:[\\/]", path) and not exists(target)):
        return f"leaves the manifest's folder ({path}); paths are relative to it"
    if not exists(target):
        return f"names a missing file ({path}, looked for at {target})"
    return None


def _settle_patients(rows: list[Row], table: Table) -> tuple[list[Row], str | None]:
    """The rows with patients for all or for none, and where these come from."""
    if "patient" in table.columns:
        return rows, f"the column {table.columns['patient']}"
    if not rows or any(row.patient is None for row in rows):
        return [replace(row, patient=None) for row in rows], None
    return rows, "the volumes' names" if volume_stem(rows[0].path) else "the folders of series"


def _list_series(path: Path, *, deep: bool) -> list[Path]:
    if not path.is_dir():
        return [path]
    folders, files = ([], list(walk_slices(path, []))) if deep else list_slices(path)[:2]
    if folders or not files:
        raise ValueError(f"{path} {'holds folders' if folders else 'is empty'}; a series is a folder of slices")
    return files


def count_unlisted(root: Path, rows: Sequence[Row], whole_folder: bool) -> list[str]:
    """A sentence on the files that lie where the table's slices lie and are not in it."""
    listed = {row.path for row in rows}
    tops = [root] if whole_folder else sorted({root / Path(row.name).parts[0] for row in rows if "/" in row.name})
    paths = list_folder(root)[1] if not whole_folder and any("/" not in row.name for row in rows) else []
    paths += [path for top in tops if top.is_dir() for path in walk(top)]
    unlisted = [path for path in paths if path not in listed]
    if not unlisted:
        return []
    example = unlisted[0].relative_to(root).as_posix()
    return [
        f"{len(unlisted)} of {len(unlisted) + len(listed)} files beside the table are not in it and are left out "
        f"({example}{', ...' if len(unlisted) > 1 else ''})"
    ]


def _find_unread(table: Table) -> list[str]:
    """A sentence on columns that seem to say in which split a row is, as is_test, or what belongs together, as a study,
    where none does."""
    splits = [name for name in table.unread if _SAYS_SPLIT.fullmatch(re.sub(r"\W+", "_", name.strip()))]
    groups = [name for name in table.unread if _SAYS_GROUP.fullmatch(re.sub(r"[\W_]+", "", name.casefold()))]
    told = []
    if splits and "split" not in table.columns:
        told.append(
            f"the column {splits[0]} may say which split a row is in, and is not read: to keep those splits, write a "
            "column split with the words train, val and test"
        )
    if groups and "patient" not in table.columns:
        told.append(
            f"the column {groups[0]} may say which slices are of one patient, and is not read: to keep those in one "
            "split, call it patient"
        )
    return told


def _shorten(names: Sequence[str]) -> str:
    return ", ".join(names[:5]) + (f" and {len(names) - 5} more" if len(names) > 5 else "")
