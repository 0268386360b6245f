"""One table for each split: train.csv, val.csv and test.csv, read as one."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path

from trainable.images.names import merge_forms, tidy
from trainable.images.rows import FoundRows, Row, count_unlisted, read_table


def read_split_tables(tables: Sequence[Path], splits: Mapping[str, str], *, skip_bad: bool) -> FoundRows:
    """The rows of tables of one folder, each of the split that `splits` has for its name without ending.

    Labels and patients that differ in form only are one over all tables. Raises ValueError as `read_table` does, and
    for a column of splits, and where only some tables have patients.
    """
    parts = [read_table(table, skip_bad=skip_bad) for table in tables]
    with_patients = [any(role == "patient" for role, _ in part.columns) for part in parts]
    rows: list[Row] = []
    for table, part, has_patients in zip(tables, parts, with_patients, strict=True):
        if any(role == "split" for role, _ in part.columns):
            raise ValueError(f"{table} is named like a split and has a column for splits; drop the column")
        if has_patients < max(with_patients):
            other = tables[with_patients.index(True)]
            raise ValueError(f"{other} has a column for patients and {table} has none; give it to all, or drop it")
        rows += [replace(row, split=splits[table.stem]) for row in part.rows]
    labels, _ = merge_forms(row.label for row in rows)
    rows = [replace(row, label=labels[row.label]) for row in rows]
    merged: Sequence[tuple[str, ...]] = ()
    if max(with_patients):
        people, merged = merge_forms((str(row.patient) for row in rows), loosely=True)
        rows = [replace(row, patient=people[str(row.patient)]) for row in rows]
    told = [f"{len(merged)} patients are written in several forms (as 1 and 1.0)"] if merged else []
    return replace(
        parts[0],
        rows=tuple(rows),
        source=f"the tables {', '.join(tidy(table.name) for table in tables)} of {tables[0].parent}",
        splits=tuple((table.name, splits[table.stem]) for table in tables),
        skipped=tuple(line for part in parts for line in part.skipped),
        left_out=tuple(count_unlisted(tables[0].parent, rows, whole_folder=True)),
        notes=tuple(dict.fromkeys([*told, *(note for part in parts for note in part.notes)])),
    )
