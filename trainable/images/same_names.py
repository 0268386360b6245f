"""Patients' folders of one name in several classes: one person, or one of each class."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Sequence
from dataclasses import dataclass, replace

from trainable.images.level_words import count_up
from trainable.images.names import merge_forms
from trainable.images.rows import Row


@dataclass(frozen=True, kw_only=True)
class People:
    """Rows whose patients are people, what was joined, and what of it is a guess."""

    rows: tuple[Row, ...]
    notes: tuple[str, ...] = ()
    warnings: tuple[str, ...] = ()


def tell_people_apart(rows: Sequence[Row]) -> People:
    """Give one person one name: names that differ in form only are one.

    Names that occur in several classes are several people where each class counts its own from 0 or 1 on, else one;
    both is a guess, and warned of. Rows without patients stay as they are.
    """
    if not rows or any(row.patient is None for row in rows):
        return People(rows=tuple(rows))
    names, merged = merge_forms({str(row.patient) for row in rows}, loosely=True)
    notes = (f"{len(merged)} patients are written in several forms (as 1 and 1.0)",) if merged else ()
    place = _find_place(rows[0])
    rows = [replace(row, patient=names[str(row.patient)]) for row in rows]
    by_class: defaultdict[str, set[str]] = defaultdict(set)
    for row in rows:
        by_class[row.label].add(str(row.patient))
    counts = Counter(name for patients in by_class.values() for name in patients)
    num_shared = sum(count > 1 for count in counts.values())
    if not num_shared:
        return People(rows=tuple(rows), notes=notes)
    fact = f"patients have the same names in several classes ({num_shared} names)"
    if all(count_up(patients) for patients in by_class.values()):
        warning = (
            f"{fact} and each class counts from the start: they are taken as different people, {counts.total()} in "
            f"all; if one name is one person, say --patient-from '^{place}([^/]+)'"
        )
        rows = [replace(row, patient=f"{row.label}/{row.patient}") for row in rows]
    else:
        warning = (
            f"{fact}: one name is taken as one person, {len(counts)} in all; if they are different people, "
            f"say --patient-from '^{place}[^/]+'"
        )
    return People(rows=tuple(rows), notes=notes, warnings=(warning,))


def _find_place(row: Row) -> str:
    """A regular expression for the folders above the patient in a row's name."""
    parts = row.name.split("/")
    first = next((place for place, part in enumerate(parts) if place and part.startswith(str(row.patient))), 1)
    return "[^/]+/" * first
