"""What images there are, whose, of which class and split: read from a folder, an archive or a manifest."""

from __future__ import annotations

import os
import re
import unicodedata
from collections import Counter, defaultdict
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from trainable.images.names import alike_key, find_same_truth, with_printable_errors
from trainable.images.patients import Patients, PatientsFrom
from trainable.images.reading import Reading
from trainable.images.rows import MANIFEST_NAMES, FoundRows, Row, too_few_classes
from trainable.images.sources import read_source

_MAX_CLASSES = 20  # beyond which labels of mostly one slice each are none
_NEGATIVE_WORDS = {
    *("normal", "normals", "healthy", "health", "negative", "neg", "control", "controls", "benign", "clear"),
    *("no", "not", "none", "without", "absent", "uninfected", "false", "0"),
    *("gesund", "kontrolle", "negativ", "kein", "keine", "ohne", "sain", "sains", "saine", "sano", "sanos", "sans"),
    *("sin", "negativo", "normale", "\u6b63\u5e38", "\u9634\u6027", "\u9670\u6027", "\u043d\u043e\u0440\u043c\u0430"),
}


@dataclass(frozen=True, kw_only=True)
class Slice:
    """One image: absolute path, index into `Manifest.classes`, patient and split where they are known.

    `name` is its path below the data, as the user knows it.
    """

    path: Path
    name: str
    label: int
    patient: str | None = None
    split: str | None = None


@dataclass(frozen=True, kw_only=True)
class Manifest:
    """A set of slices. `name` is fit for an MLflow model; `classes` are sorted; `positive` is one's index.

    Patients are known for all slices or for none, and so are splits. `skipped` has one sentence for each row
    or class folder that was left out. `found` is how the source was read; `patients_kind` says what patients are
    by: a pattern of the user's, a table's column, or the names of folders, series or volumes.
    """

    name: str
    slices: tuple[Slice, ...]
    classes: tuple[str, ...]
    positive: int
    positive_was_guessed: bool
    found: FoundRows
    patients_kind: PatientsFrom
    patients_from: str | None
    skipped: tuple[str, ...] = ()

    def read_as(self, patients: Patients) -> Reading:
        """All that was guessed, with the patients that are taken in the end."""
        counts = Counter(item.label for item in self.slices)
        how = "guessed; --positive changes it" if self.positive_was_guessed else "given"
        known = "unknown; neighbouring numbers and near-duplicates are kept together"
        if patients.ids is not None:
            known = f"{len(set(patients.ids))}, from {patients.source}"
        return Reading(
            source=self.found.source,
            layout=self.found.layout,
            columns=self.found.columns,
            splits=self.found.splits,
            classes=tuple((name, counts[number]) for number, name in enumerate(self.classes)),
            positive=f"{self.classes[self.positive]} ({how})" if len(self.classes) == 2 else "",
            patients=known,
            left_out=(*self.found.skipped, *self.found.left_out),
            notes=self.found.notes,
            warnings=(*(self.found.warnings if patients.source == self.patients_from else ()), *patients.warnings),
        )


@with_printable_errors
def read_manifest(
    data: Path,
    *,
    unpack_into: Path,
    patient_from: str | None = None,
    positive: str | None = None,
    skip_bad_images: bool = False,
) -> Manifest:
    """Read a folder of classes, a zip or tar of one, a CSV or Parquet table, or MedMNIST's .npz; no image is opened.

    A folder that holds a `manifest.csv` or `manifest.parquet` is read by it. Patients are what `patient_from`
    finds in each path below the data's folder (a regular expression: its first group, else the whole match),
    else the table's column or the folders' names. With `skip_bad_images`, rows without a label or their
    file and empty class folders are left out and told in `skipped`. Raises ValueError saying which file or
    row is at fault, and FileNotFoundError for `data` itself.
    """
    if not data.exists():
        raise FileNotFoundError(
            f"--data {data} does not exist; it takes a folder, a zip or tar, a table, or a .npz of MedMNIST"
        )
    data = Path(os.path.abspath(data))  # noqa: PTH100 -- resolve() would follow the user's links
    found = read_source(
        data, unpack_into=unpack_into, skip_bad=skip_bad_images, levels_are_known=patient_from is not None
    )
    rows: Sequence[Row] = found.rows
    _check_unique(rows)
    kind: PatientsFrom = "column" if any(role == "patient" for role, _ in found.columns) else "names"
    patients_from = found.patients_from
    if patient_from is not None:
        rows = _find_patients(rows, data, patient_from)
        kind, patients_from = "pattern", f"--patient-from {patient_from!r}"
        found = replace(found, warnings=())  # the user has said what the patients are
    classes = _find_classes(rows, data)
    numbers = {name: number for number, name in enumerate(classes)}
    return Manifest(
        name=_slug(data),
        slices=tuple(
            Slice(path=row.path, name=row.name, label=numbers[row.label], patient=row.patient, split=row.split)
            for row in rows
        ),
        classes=classes,
        positive=_choose_positive(classes, positive),
        positive_was_guessed=positive is None and len(classes) == 2,
        found=found,
        patients_kind=kind,
        patients_from=patients_from,
        skipped=found.skipped,
    )


def _check_unique(rows: Sequence[Row]) -> None:
    for path, count in Counter(row.path for row in rows).most_common(1):
        if count > 1:
            raise ValueError(f"{path} is listed {count} times; list each slice once")


def _find_patients(rows: Sequence[Row], data: Path, pattern: str) -> list[Row]:
    try:
        compiled = re.compile(unicodedata.normalize("NFC", pattern))
    except re.error as error:
        raise ValueError(f"--patient-from {pattern!r} is no regular expression: {error}") from error
    found, unmatched = [], []
    for row in rows:
        match = compiled.search(unicodedata.normalize("NFC", row.name))
        patient = match and match[min(compiled.groups, 1)]
        if patient:
            found.append(replace(row, patient=patient))
        else:
            unmatched.append(row)
    if unmatched:
        raise ValueError(
            f"--patient-from {pattern!r} finds no patient in {unmatched[0].path}, {len(unmatched)} of {len(rows)} "
            f"slices in all; it must match every path below {data}, as {unmatched[0].name}"
        )
    return found


def _find_classes(rows: Sequence[Row], data: Path) -> tuple[str, ...]:
    classes = tuple(sorted({row.label for row in rows}))
    if len(classes) < 2:
        raise ValueError(too_few_classes(data, classes))
    if len(classes) > _MAX_CLASSES and 2 * len(classes) > len(rows):
        raise ValueError(
            f"{data} has {len(classes)} classes ({', '.join(classes[:3])}, ...) for {len(rows)} slices: these are no "
            "classes, but patients or descriptions perhaps; give each slice one of a few labels"
        )
    alike = defaultdict(list)
    for name in classes:
        alike[alike_key(name)].append(name)
    for names in alike.values():
        if len(names) > 1:
            raise ValueError(
                f"the classes {' and '.join(names)} differ in case only, or in spaces and dashes, or in letters of two "
                "alphabets; give them one spelling"
            )
    if pair := find_same_truth(classes):
        raise ValueError(
            f"the classes {pair[0]} and {pair[1]} (of {', '.join(classes[:6])}) seem to mean the same; give them one "
            "spelling, or, where they are two, names that say so"
        )
    numbers = [name for name in classes if name.isdecimal()]
    if 1 < len(numbers) == len(classes) - len(numbers):
        raise ValueError(
            f"{data} has as many classes by number as by name ({', '.join(classes[:6])}): they seem to be the same, in "
            "two tables put together perhaps; give each class one name"
        )
    return classes


def _choose_positive(classes: tuple[str, ...], positive: str | None) -> int:
    if positive is not None:
        if positive.strip() not in classes:
            raise ValueError(f"--positive {positive!r} is no class; known are {', '.join(classes)}")
        return classes.index(positive.strip())
    if len(classes) > 2:
        return 0
    return 0 if _sounds_negative(classes[1]) and not _sounds_negative(classes[0]) else 1


def _sounds_negative(name: str) -> bool:
    """Does a word of it say so: `normal`, `CT_NonCOVID`, `no-finding`, `0`?"""
    words = [word.lower() for word in re.findall(r"[A-Z]?[a-z]+|[A-Z]+(?![a-z])|\d+|[^\W\d_a-zA-Z]+", name)]
    return any(word in _NEGATIVE_WORDS or word.startswith("non") for word in words)


def _slug(data: Path) -> str:
    name = data.name
    if data.is_file():
        name = data.parent.name if name.lower() in MANIFEST_NAMES else re.sub(r"(\.tar)?\.\w+$", "", name)
    plain = unicodedata.normalize("NFKD", name.casefold()).encode("ascii", "ignore").decode()
    return re.sub(r"[^a-z0-9]+", "-", plain).strip("-")[:60].strip("-") or "data"
