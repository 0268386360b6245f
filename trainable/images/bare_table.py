"""Bare tables: lists of files and labels without a header, as `train.txt` of many published sets is."""

from __future__ import annotations

import csv
import io
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from trainable.images.find_files import find_files
from trainable.images.folders import exists
from trainable.images.names import map_splits

if TYPE_CHECKING:
    from trainable.images.columns import Role


@dataclass(frozen=True, kw_only=True)
class BareTable:
    """How a table without a header is read: its delimiter, and the place of the column of paths."""

    delimiter: str
    path_place: int


def find_bare_table(path: Path, text: str, delimiters: Iterable[str]) -> BareTable | None:
    """A table whose first row already names a file that is there, under one of the delimiters; None for another."""
    first = next((line for line in io.StringIO(text) if line.strip()), "").rstrip("\r\n")
    cells = {
        delimiter: next(csv.reader([first], delimiter=delimiter, skipinitialspace=True), []) for delimiter in delimiters
    }
    several = {delimiter: row for delimiter, row in cells.items() if len(row) > 1} or cells
    named = [cell for row in several.values() for cell in row if cell.strip() and len(cell) < 1000]
    try:
        files = find_files(path.parent, named).paths
    except ValueError:  # a name that fits several files; whoever reads the table says so
        files = {}
    for delimiter, row in several.items():
        for place, cell in enumerate(row):
            found = files.get(cell)
            if found and found.is_relative_to(path.parent) and exists(found) and not found.is_dir():
                return BareTable(delimiter=delimiter, path_place=place)
    return None


def place_columns(path: Path, bare: BareTable, rows: Sequence[Sequence[str]]) -> Mapping[Role, int]:
    """Where the columns stand: the label follows the path, and a column of train, val and test is the split.

    Patients are never guessed. Raises ValueError for a list of files alone.
    """
    width = max(map(len, rows))
    columns: dict[Role, int] = {"path": bare.path_place}
    for place in range(bare.path_place + 1, width):
        values = {row[place].strip() if place < len(row) else "" for row in rows}
        if "split" not in columns and values == set(map_splits(values)):
            columns["split"] = place
        elif "label" not in columns:
            columns["label"] = place
    if "label" not in columns:
        raise ValueError(
            f"{path} has no header and lists files without labels; give it the columns path,label[,patient][,split], "
            "named in its first row"
        )
    _check_label(path, columns, rows, width)
    return columns


def _check_label(path: Path, columns: Mapping[Role, int], rows: Sequence[Sequence[str]], width: int) -> None:
    """Refuse labels of which the values of a later column follow: these may be patients, and those the labels."""
    place = columns["label"]
    for other in range(place + 1, width):
        pairs = {(row[place].strip(), row[other].strip()) for row in rows if len(row) > other}
        labels, others = ({pair[side] for pair in pairs} for side in (0, 1))
        if other not in columns.values() and 1 < len(others) < len(labels) == len(pairs):
            raise ValueError(
                f"{path} has no header, and both column {place + 1} ({len(labels)} values) and column {other + 1} "
                f"({len(others)} values, one for each of those) may be the label; name the columns in a first row: "
                "path,label[,patient][,split]"
            )


def describe_bare(columns: Mapping[Role, int]) -> str:
    """A note on what was taken as what."""
    shown = ", ".join(f"column {place + 1} is the {role}" for role, place in columns.items())
    return f"the table has no header: {shown}; where that is wrong, name the columns in a first row"
