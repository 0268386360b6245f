"""A CSV or Parquet table as records of text: its delimiter, and which of its columns is which."""

from __future__ import annotations

import csv
import io
import re
import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from trainable.images.bare_table import BareTable, describe_bare, find_bare_table, place_columns
from trainable.images.columns import (
    MAX_SPLIT_WORDS,
    NEAR,
    Role,
    find_candidates,
    find_columns,
    find_split_values,
    names_enough,
)
from trainable.images.folders import exists
from trainable.images.parquet_table import check_holds_paths, list_word_columns, read_names, read_rows
from trainable.images.table_text import decode_table

TABLE_SUFFIXES = (".csv", ".tsv", ".txt", ".parquet")
_TEXT_SUFFIXES = (".csv", ".tsv", ".txt")
EXCEL_SUFFIXES = (".xlsx", ".xls", ".xlsm", ".xlsb", ".ods", ".numbers")
_KEPT = 64  # letters of a field that is not read: of a report no more is needed to see that it is no word for a split
DELIMITERS = {",": "comma", ";": "semicolon", "\t": "tab", "|": "pipe", " ": "space"}


@dataclass(frozen=True, kw_only=True)
class Table:
    """A table read as text. `columns` maps what was found to the header it was found under.

    Where no column has paths, that of patients stands for their folders. Each record is its row's number (the header is
    row 1) and the text of the columns found. `unread` are the
    other headers; `delimiter` is None for Parquet; `notes` say what was guessed.
    """

    columns: Mapping[Role, str]
    records: Sequence[tuple[int, Mapping[Role, str]]]
    unread: tuple[str, ...]
    delimiter: str | None
    notes: tuple[str, ...] = ()


def read_table_text(path: Path, needed: Sequence[Role] = ("path", "label")) -> Table:
    """Read a .csv, .tsv, .txt or .parquet file, with a header or, where its first row names a file, without.

    Raises ValueError naming the row or the column at fault, or the columns that are `needed` and not there.
    """
    if path.suffix.lower() == ".parquet":
        return _read_parquet(path, needed)
    text, notes = _read_text(path)
    delimiter, skips = _find_delimiter(path, text)
    may_be_bare = "label" in needed and not names_enough(read_header(path))
    if may_be_bare and (bare := find_bare_table(path, text, _list_delimiters(path))):
        return _read_bare(path, text, bare, notes)
    header: list[str] = []
    columns: Mapping[Role, str] = {}
    rows: list[tuple[int, list[str]]] = []
    for number, row in _parse(path, text, delimiter):
        if number <= skips or not any(cell.strip() for cell in row):
            continue
        if not header:
            header = [cell.strip() for cell in row]
            columns = find_columns(path, header, needed)
            places = {role: header.index(name) for role, name in columns.items()}
            continue
        if any(cell.strip() for cell in row[len(header) :]):
            raise ValueError(f"{path}, row {number} has more fields than the header; quote names with {delimiter!r}")
        _check_quotes(path, number, row, places, delimiter)
        rows.append((number, [cell if place in places.values() else cell[:_KEPT] for place, cell in enumerate(row)]))
    if not header:
        find_columns(path, header, needed)
    if not rows:
        raise ValueError(f"{path} has a header ({', '.join(header[:4])}) and no rows; add one for each slice")
    columns, records = _take_roles(path, header, rows, columns)
    unread = tuple(name for name in header if name and name not in columns.values())
    return Table(columns=columns, records=records, unread=unread, delimiter=delimiter, notes=notes)


def _take_roles(
    path: Path, header: Sequence[str], rows: Sequence[tuple[int, Sequence[str]]], columns: Mapping[Role, str]
) -> tuple[Mapping[Role, str], list[tuple[int, Mapping[Role, str]]]]:
    """The columns found, and that of the splits where its values alone say so; and each row's number and text there."""
    if "split" not in columns:
        unread = [place for place, name in enumerate(header) if name and name not in columns.values()]
        cells = {header[place]: [row[place] for _, row in rows if place < len(row)] for place in unread}
        if split := find_split_values(path, cells):
            columns = {**columns, "split": split}
    return columns, _take_places(rows, {role: header.index(name) for role, name in columns.items()})


def _take_places(
    rows: Sequence[tuple[int, Sequence[str]]], places: Mapping[Role, int]
) -> list[tuple[int, Mapping[Role, str]]]:
    return [
        (number, {role: row[place] if place < len(row) else "" for role, place in places.items()})
        for number, row in rows
    ]


def has_needed_columns(path: Path, *, vaguely: bool = False) -> bool:
    """Does its header name a path and a label, or, vaguely, a patient and a label? False for what cannot be read."""
    try:
        header = read_header(path)
    except (ValueError, OSError):
        return False
    if names_enough(header, vaguely=vaguely):
        return True
    if not vaguely or path.suffix.lower() not in _TEXT_SUFFIXES:
        return False
    bare = find_bare_table(path, _read_text(path)[0], _list_delimiters(path))
    return bare is not None


def has_column(path: Path, role: Role) -> bool:
    """Does its header name one for this? False for what cannot be read."""
    try:
        return bool(find_candidates(read_header(path), role))
    except (ValueError, OSError):
        return False


def refuse_excel(path: Path) -> str:
    """The line for an Excel or LibreOffice file."""
    return (
        f"{path} is a spreadsheet, which is not read; save it as CSV (in Excel: Save As, CSV UTF-8) "
        "with the columns path,label[,patient][,split] and give that file"
    )


def is_excel(path: Path) -> bool:
    """Is it a spreadsheet, by its ending or by its content?"""
    if path.suffix.lower() in EXCEL_SUFFIXES:
        return True
    if path.suffix.lower() not in _TEXT_SUFFIXES:
        return False
    with path.open("rb") as file:
        return file.read(4) in (b"PK\x03\x04", b"\xd0\xcf\x11\xe0")


def read_header(path: Path) -> list[str]:
    """The first row of a table. Raises ValueError for what cannot be read as one, and OSError."""
    if path.suffix.lower() == ".parquet":
        return read_names(path)
    text, _ = _read_text(path)
    delimiter, skips = _find_delimiter(path, text)
    for number, row in _parse(path, text, delimiter):
        if number > skips and any(cell.strip() for cell in row):
            return [cell.strip() for cell in row]
    return []


def _read_text(path: Path) -> tuple[str, tuple[str, ...]]:
    """A table's text, and a note where its encoding was guessed."""
    if is_excel(path):
        raise ValueError(refuse_excel(path))
    text, notes = decode_table(path, path.read_bytes())
    if not text.strip():
        raise ValueError(f"{path} is empty; it needs path,label[,patient][,split], named in its first row")
    return text, notes


def _list_delimiters(path: Path) -> list[str]:
    """Those that may separate a table's columns; spaces in a .txt alone: names and labels have some."""
    return [delimiter for delimiter in DELIMITERS if delimiter != " " or path.suffix.lower() == ".txt"]


def _find_delimiter(path: Path, text: str) -> tuple[str, int]:
    """The delimiter under which the header names most of what is needed, and how many rows stand before it."""
    lines = io.StringIO(text, newline="")
    first = next(lines, "")
    if stated := re.fullmatch(r'"?sep=(.)"?\s*', first):  # Excel's own note
        return stated[1], 1
    header = first if first.strip() else next((line for line in lines if line.strip()), "")

    def rank(delimiter: str) -> tuple[int, int]:
        with _long_fields():
            cells = next(csv.reader([header.rstrip("\r\n")], delimiter=delimiter), [])
        return sum(bool(find_candidates(cells, role)) for role in NEAR), len(cells)

    return max(_list_delimiters(path), key=rank), 0


@contextmanager
def _long_fields() -> Iterator[None]:
    """Fields of any length: reports stand in such tables."""
    limit = csv.field_size_limit(min(sys.maxsize, 2**31 - 1))
    try:
        yield
    finally:
        csv.field_size_limit(limit)


def _parse(path: Path, text: str, delimiter: str) -> Iterator[tuple[int, list[str]]]:
    with _long_fields():
        lines = io.StringIO(text, newline="")
        reader = csv.reader(lines, delimiter=delimiter, strict=True, skipinitialspace=delimiter == " ")
        number = 0
        while True:
            number += 1
            try:
                row = next(reader)
            except StopIteration:
                return
            except csv.Error as error:
                raise ValueError(
                    f"{path}, row {number} has a quote that opens a field and does not close it; "
                    f"remove it, or write it twice inside quotes ({error})"
                ) from error
            yield number, row


def _read_bare(path: Path, text: str, bare: BareTable, notes: Sequence[str]) -> Table:
    rows = [(number, row) for number, row in _parse(path, text, bare.delimiter) if any(cell.strip() for cell in row)]
    places = place_columns(path, bare, [row for _, row in rows])
    for number, row in rows:
        _check_quotes(path, number, row, places, bare.delimiter)
    width = max(len(row) for _, row in rows)
    return Table(
        columns={role: f"column {place + 1}" for role, place in places.items()},
        records=_take_places(rows, places),
        unread=tuple(f"column {place + 1}" for place in range(width) if place not in places.values()),
        delimiter=bare.delimiter,
        notes=(*notes, describe_bare(places)),
    )


def _check_quotes(path: Path, number: int, row: Sequence[str], places: Mapping[Role, int], delimiter: str) -> None:
    """Refuse a field over several lines that hides rows: an open quote swallows all up to the next quote."""
    for place, cell in enumerate(row):
        if "\n" not in cell and "\r" not in cell:
            continue
        swallowed = any(
            _is_path_like(path.parent, cells[places["path"]], row[places["path"]])
            for cells in csv.reader(cell.splitlines()[1:], delimiter=delimiter)
            if len(cells) > max(place, places["path"])
        )
        if swallowed or (place in places.values() and cell.strip().splitlines() != [cell.strip()]):
            raise ValueError(
                f"{path}, row {number} has a field over several lines: a quote is opened and not closed there; "
                "remove it, or write it twice inside quotes"
            )


def _is_path_like(root: Path, text: str, known: str) -> bool:
    """Is it a file's name, or does it end as a known path does?"""
    suffix = Path(text).suffix
    return bool(text) and (exists(root / text) or (suffix != "" and suffix == Path(known).suffix))


def _read_parquet(path: Path, needed: Sequence[Role]) -> Table:
    names = read_names(path)
    columns = find_columns(path, names, needed)
    if "path" in columns:
        check_holds_paths(path, columns["path"])
    words = list_word_columns(path, MAX_SPLIT_WORDS) if "split" not in columns else []
    header = list(dict.fromkeys([*columns.values(), *words]))
    columns, records = _take_roles(path, header, read_rows(path, header), columns)
    unread = tuple(name for name in names if name not in columns.values())
    return Table(columns=columns, records=records, unread=unread, delimiter=None)
