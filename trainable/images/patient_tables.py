"""Whose files are by a table that lies beside them: its columns of paths and patients, without any label."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from trainable.images.columns import find_candidates
from trainable.images.find_files import find_files
from trainable.images.folders import list_tables
from trainable.images.names import is_nobody, merge_forms
from trainable.images.rows import MANIFEST_NAMES
from trainable.images.table import TABLE_SUFFIXES, read_header, read_table_text


@dataclass(frozen=True, kw_only=True)
class TableOfPatients:
    """The patient of each file or folder that a table names. `source` says which column of which table it is."""

    of_path: Mapping[Path, str] = field(default_factory=dict)
    source: str = ""
    notes: tuple[str, ...] = ()

    def find(self, path: Path) -> str | None:
        """The patient of a file, or of the nearest folder above it that the table names."""
        if not self.of_path:
            return None
        path = path.absolute()
        return next((self.of_path[one] for one in (path, *path.parents) if one in self.of_path), None)


def read_patients(folder: Path) -> TableOfPatients:
    """The patients of the one table in a folder that names paths and patients; a `manifest.csv` before all others.

    Nothing raises: a note says why a table that seems to name them was not read.
    """
    tables = [table for table in list_tables(folder, TABLE_SUFFIXES) if _names_patients(table)]
    chosen = [table for table in tables if table.name in MANIFEST_NAMES] or tables
    if not chosen:
        return TableOfPatients()
    if len(chosen) > 1:
        return TableOfPatients(notes=(f"{len(chosen)} tables name patients ({chosen[0].name}, ...): none was read",))
    try:
        return _read(chosen[0])
    except (ValueError, OSError) as error:
        return TableOfPatients(notes=(f"the table {chosen[0].name} was not read: {error}",))


def _names_patients(table: Path) -> bool:
    try:
        header = read_header(table)
    except (ValueError, OSError):
        return table.name in MANIFEST_NAMES  # which is told of
    return bool(find_candidates(header, "patient"))


def _read(path: Path) -> TableOfPatients:
    table = read_table_text(path, needed=("path", "patient"))
    rows = [
        (values["path"], values["patient"])
        for _, values in table.records
        if values["path"].strip() and not is_nobody(values["patient"])
    ]
    names, _ = merge_forms((patient for _, patient in rows), loosely=True)
    files = find_files(path.parent, [text for text, _ in rows])
    of_path: dict[Path, str] = {}
    for text, patient in rows:
        place = files.paths[text].absolute()
        if of_path.setdefault(place, names[patient]) != names[patient]:
            raise ValueError(f"it gives {text} to several patients")
    return TableOfPatients(
        of_path=of_path, source=f"the column {table.columns['patient']} of {path.name}", notes=table.notes
    )
