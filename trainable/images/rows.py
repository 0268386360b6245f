"""Rows of path, label, patient and split, from a folder of classes or from a CSV or Parquet manifest."""

from __future__ import annotations

import csv
import os
from collections import Counter
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping

LAYOUTS = "a data folder holds CLASS/slice or CLASS/PATIENT/slice"
MANIFEST_NAMES = ("manifest.csv", "manifest.parquet")
SPLIT_NAMES = {
    **dict.fromkeys(("train", "training"), "train"),
    **dict.fromkeys(("val", "valid", "validation", "dev"), "val"),
    **dict.fromkeys(("test", "testing"), "test"),
}
_COLUMNS = ("path", "label", "patient", "split")
_EXTRA_NAMES = {"__macosx", "thumbs.db", "desktop.ini", "dicomdir", "license", "readme"}
_EXTRA_SUFFIXES = {
    ".txt",
    ".md",
    ".csv",
    ".tsv",
    ".parquet",
    ".json",
    ".xml",
    ".html",
    ".pdf",
    ".xlsx",
    ".log",
}


@dataclass(frozen=True, kw_only=True)
class Row:
    """One slice as its source tells it. `split` is "train", "val" or "test"."""

    path: Path
    label: str
    patient: str | None = None
    split: str | None = None


def list_folder(folder: Path) -> tuple[list[Path], list[Path]]:
    """The folders and the files of a folder, sorted by name, without hidden ones and well-known extras."""
    entries = sorted(
        (
            entry
            for entry in folder.iterdir()
            if not entry.name.startswith(".")
            and entry.name.lower() not in _EXTRA_NAMES
            and entry.suffix.lower() not in _EXTRA_SUFFIXES
        ),
        key=lambda entry: entry.name,
    )
    is_folder = [entry.is_dir() for entry in entries]
    return (
        [entry for entry, yes in zip(entries, is_folder, strict=True) if yes],
        [entry for entry, yes in zip(entries, is_folder, strict=True) if not yes],
    )


def read_folder(root: Path, *, skipped: list[str] | None = None) -> list[Row]:
    """Slices of `root/CLASS/slice` or `root/CLASS/PATIENT/slice`, one layout for all classes.

    A class without pictures goes into `skipped` where that is given. Raises ValueError for it otherwise,
    and for any other layout.
    """
    folders, stray = list_folder(root)
    if stray:
        raise ValueError(f"{stray[0]} lies beside the class folders ({len(stray)} in all do); {LAYOUTS}")
    if folders and all(folder.name.strip().lower() in SPLIT_NAMES for folder in folders):
        raise ValueError(
            f"the folders of {root} are named like splits ({', '.join(folder.name for folder in folders)}), "
            "not like classes; write a manifest with the columns path,label,split instead"
        )
    rows: list[Row] = []
    layouts: dict[bool, Path] = {}  # does a class have patient folders? one class of each kind
    for folder in folders:
        found = _read_class(folder)
        if not found:
            fault = f"the class folder {folder} holds no pictures"
            if skipped is None:
                raise ValueError(f"{fault}; fill it or remove it")
            skipped.append(fault)
            continue
        layouts.setdefault(found[0].patient is not None, folder)
        rows += found
    if len(layouts) > 1:
        raise ValueError(f"{layouts[True]} has a folder per patient, {layouts[False]} has none; use one layout")
    return rows


def _read_class(folder: Path) -> list[Row]:
    patients, files = list_folder(folder)
    if patients and files:
        raise ValueError(f"{folder} holds files ({files[0].name}) and folders ({patients[0].name}); {LAYOUTS}")
    label = folder.name.strip()
    rows = [Row(path=path, label=label) for path in files]
    for patient in patients:
        deeper, files = list_folder(patient)
        if deeper:
            raise ValueError(f"{deeper[0]} is a folder too deep; {LAYOUTS}; for others write a manifest")
        rows += [Row(path=path, label=label, patient=patient.name) for path in files]
    return rows


def read_table(manifest: Path, *, skipped: list[str] | None = None) -> list[Row]:
    """Slices of a manifest, in its order; a path that is a folder is a series, each file of it one slice.

    A row without label or path, of a missing file or of a path that leaves the manifest's folder goes into
    `skipped` where that is given. Raises ValueError for it otherwise; always for an unknown split, and for
    patients or splits that are given in some rows only.
    """
    rows: list[Row] = []
    faults: list[str] = []
    num_empty: Counter[str] = Counter()
    num_rows = 0
    for where, values in _parse(manifest):
        num_rows += 1
        num_empty.update(column for column in ("patient", "split") if values.get(column) == "")
        split = values.get("split")
        if split and split.lower() not in SPLIT_NAMES:
            raise ValueError(f"{where} has the split {split!r}; known are {', '.join(SPLIT_NAMES)}")
        target = Path(os.path.normpath(manifest.parent / values["path"]))
        if fault := _find_fault(values, manifest.parent, target):
            faults.append(f"{where} {fault}")
            continue
        rows += [
            Row(
                path=path,
                label=values["label"],
                patient=values.get("patient") or None,
                split=SPLIT_NAMES[split.lower()] if split else None,
            )
            for path in _list_series(target)
        ]
    if faults and skipped is None:
        raise ValueError(f"{faults[0]}; {len(faults)} of {num_rows} rows cannot be used")
    if skipped is not None:
        skipped += faults
    for column, count in num_empty.items():
        raise ValueError(f"{count} of {num_rows} rows of {manifest} have no {column}; fill the column or drop it")
    return rows


def _find_fault(values: dict[str, str], root: Path, target: Path) -> str | None:
    path = values["path"]
    if not path.strip():
        return "has no path"
    if not values["label"]:
        return f"has no label ({path})"
    if not target.is_relative_to(root):
        return f"leaves the manifest's folder ({path}); paths are relative to it"
    if not target.exists():
        return f"names a missing file ({path}, looked for at {target})"
    return None


def _list_series(path: Path) -> list[Path]:
    if not path.is_dir():
        return [path]
    folders, files = list_folder(path)
    if folders or not files:
        raise ValueError(f"{path} {'holds folders' if folders else 'is empty'}; a series is a folder of slices")
    return files


def _parse(manifest: Path) -> Iterator[tuple[str, dict[str, str]]]:
    """Each row's name ("FILE, row N", the header being row 1) and the text of its known columns."""
    table: Iterable[Mapping[str | None, object]]
    if manifest.suffix.lower() == ".csv":
        try:
            with manifest.open(newline="", encoding="utf-8-sig") as file:
                reader = csv.DictReader(file)
                names, table = list(reader.fieldnames or ()), list(reader)
        except UnicodeDecodeError as error:
            raise ValueError(f"{manifest} is not UTF-8 text ({error}); save it as UTF-8") from error
    else:
        import pyarrow as pa
        import pyarrow.parquet as pq

        try:
            names = pq.read_schema(manifest).names
            wanted = [name for name in names if name.strip().lower() in _COLUMNS]
            table = pq.read_table(manifest, columns=wanted).to_pylist()
        except pa.ArrowInvalid as error:
            raise ValueError(f"{manifest} is not a Parquet file: {error}") from error
    columns = {name: name.strip().lower() for name in names if name.strip().lower() in _COLUMNS}
    if not {"path", "label"} <= set(columns.values()):
        raise ValueError(f"{manifest} has the columns {', '.join(names)}; it needs path,label[,patient][,split]")
    for number, row in enumerate(table, start=2):
        if None in row:
            raise ValueError(f"{manifest}, row {number} has more fields than the header; quote names with commas")
        values = {column: _to_text(row[name]) for name, column in columns.items()}
        yield (
            f"{manifest}, row {number}",
            {column: text if column == "path" else text.strip() for column, text in values.items()},
        )


def _to_text(value: object) -> str:
    if value is None or value != value:  # NaN
        return ""
    return str(int(value) if isinstance(value, float) and value.is_integer() else value)
