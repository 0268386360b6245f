"""Values of a table that say nothing or too much: refused by their row, before they become labels or patients."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from pathlib import Path

from trainable.images.columns import Role
from trainable.images.names import is_missing, is_nobody, is_whole_by_comma, map_splits, tidy
from trainable.images.table import Table

_ROUNDED = re.compile(r"\d([.,]\d+)?[eE]\+\d+|\d[.,]\d+[eE]\d+")


def check_values(manifest: Path, table: Table, usable: Sequence[tuple[int, Mapping[Role, str]]]) -> None:
    """Raise ValueError for patients or splits that are given in some rows only, for patients that a spreadsheet has
    rounded or whose letters are lost, and for labels that are several or words for splits; labels of `usable` rows."""
    _check_filled(manifest, table)
    _check_rounded(manifest, table)
    _check_letters(manifest, table)
    labels = [(number, values["label"]) for number, values in usable]
    _check_single_labels(manifest, labels)
    _check_no_splits(manifest, table, {label for _, label in labels})


def _check_filled(manifest: Path, table: Table) -> None:
    """Refuse patients and splits that are given in some rows only."""
    checks: Mapping[Role, Callable[[str], bool]] = {"patient": is_nobody, "split": partial(is_missing, none_too=True)}
    for role, is_empty in checks.items():
        lacking = [(number, row[role]) for number, row in table.records if role in row and is_empty(row[role])]
        if lacking:
            number, text = lacking[0]
            raise ValueError(
                f"{len(lacking)} of {len(table.records)} rows of {manifest} have no {role} (row {number} has {text!r} "
                f"in the column {table.columns[role]}); fill the column or drop it"
            )


def _check_rounded(manifest: Path, table: Table) -> None:
    """Refuse patients such as 1.23E+09: a spreadsheet rounds long numbers so, and then several people share one."""
    for number, values in table.records:
        if _ROUNDED.fullmatch(tidy(values.get("patient", ""))):
            raise ValueError(
                f"{manifest}, row {number} has a patient as a spreadsheet rounds long numbers "
                f"({table.columns['patient']} {tidy(values['patient'])}): several people may share it; write the ids "
                "as text, whole"
            )


def _check_single_labels(manifest: Path, labels: Sequence[tuple[int, str]]) -> None:
    """Refuse several labels in one field: `COVID|Effusion`, `['a', 'b']`, or `a, b` where a or b stands alone too."""
    whole = {tidy(label).casefold() for _, label in labels}
    several = []
    for number, label in labels:
        text = tidy(label)
        if is_whole_by_comma(text):
            continue
        parts = [part.strip().casefold() for part in re.split(r"[|;,/+&]|\band\b", text) if part.strip()]
        is_list = text[:1] + text[-1:] in ("[]", "{}") or "|" in text
        if is_list or (len(parts) > 1 and any(part in whole for part in parts)):
            several.append((number, text))
    if several:
        number, text = several[0]
        raise ValueError(
            f"{manifest}, row {number} has several labels in one field ({text}; {len(several)} of {len(labels)} rows "
            "do); a slice has one class here: keep one label a row, or give each combination a name of its own"
        )


def _check_letters(manifest: Path, table: Table) -> None:
    """Refuse labels and patients in which letters were lost: two names that differ there alone would become one."""
    for number, values in table.records:
        for role in ("label", "patient"):
            if "\ufffd" in values.get(role, ""):
                raise ValueError(
                    f"{manifest}, row {number} has a {role} with a letter that was lost when the table was saved "
                    f"(\ufffd in the column {table.columns[role]}); save it again from its source, as UTF-8"
                )


def _check_no_splits(manifest: Path, table: Table, labels: set[str]) -> None:
    if len(labels) > 1 and set(map_splits(labels)) == labels:
        raise ValueError(
            f"{manifest} has words for splits in its column of labels ({table.columns['label']}: "
            f"{', '.join(sorted(map(tidy, labels))[:3])}); name that column split, and the one of classes label"
        )
